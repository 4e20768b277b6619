//! Ctrl-C, SIGTERM and a closed terminal: a flag that every loop of the lab looks at, so that guards run.
//!
//! A handler that cleaned up by itself could meet a half-built topology; with a flag there is one
//! way out, the ordinary one.

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

static REQUESTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(|| Arc::new(AtomicBool::new(false)));

/// The number of the signal that raised the flag, else 0.
static SIGNAL: LazyLock<Arc<AtomicUsize>> = LazyLock::new(|| Arc::new(AtomicUsize::new(0)));

/// Lets SIGINT, SIGTERM and SIGHUP raise the flag. A second signal ends the process at once; what
/// it leaves behind is removed when the lab starts next.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn install() -> Result<()> {
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        let code = EXIT_CODE + signal;
        signal_hook::flag::register_conditional_shutdown(signal, code, Arc::clone(&REQUESTED))?;
        // Before the flag: who sees that one finds this.
        signal_hook::flag::register_usize(signal, Arc::clone(&SIGNAL), signal.try_into()?)?;
        signal_hook::flag::register(signal, Arc::clone(&REQUESTED))?;
    }
    Ok(())
}

/// What a shell adds to the number of the signal that ended a program.
const EXIT_CODE: i32 = 128;

/// The exit code of a program that a signal asked to stop: 130 for SIGINT, 143 for SIGTERM, 129 for SIGHUP.
#[must_use]
pub fn exit_code() -> Option<u8> {
    match i32::try_from(SIGNAL.load(Ordering::Relaxed)) {
        Ok(0) | Err(_) => None,
        Ok(signal) => u8::try_from(EXIT_CODE + signal).ok(),
    }
}

/// Whether the user asked to stop.
#[must_use]
pub fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

/// Fails when the user asked to stop.
///
/// # Errors
/// `interrupted`, so that `?` leads out through all guards.
pub fn check() -> Result<()> {
    if requested() {
        bail!("interrupted");
    }
    Ok(())
}

/// Sleeps, but not through an interrupt.
///
/// # Errors
/// As [`check`].
pub fn sleep(time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    loop {
        check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(Duration::from_millis(50)));
    }
}

/// Waits until `done` holds, looking every 20 ms. `Ok(false)` when it did not within `limit`.
///
/// # Errors
/// As [`check`], and what `done` fails with.
pub fn wait_for(limit: Duration, mut done: impl FnMut() -> Result<bool>) -> Result<bool> {
    let end = Instant::now() + limit;
    while !done()? {
        if Instant::now() >= end {
            return Ok(false);
        }
        sleep(Duration::from_millis(20))?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_ends_with_the_condition_or_the_limit() {
        let mut looks = 0;
        let done = wait_for(Duration::from_secs(5), || {
            looks += 1;
            Ok(looks == 3)
        });
        assert!(done.unwrap());
        assert!(!wait_for(Duration::from_millis(30), || Ok(false)).unwrap());
    }
}
