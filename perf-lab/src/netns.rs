//! Network namespaces that vanish with their owner.
//!
//! Names are `hw<pid>n<k>-<role>`: the process that made one can be read from its name, so what a
//! killed lab left behind is recognised and removed by the next one ([`remove_stale`]), and
//! nothing else is ever touched.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use nix::{
    sched::{CloneFlags, setns},
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};

use crate::{output::complain, shell};

/// Where `ip netns` keeps its names.
const NETNS_DIR: &str = "/run/netns";

/// A prefix for the names of one topology, unique on this machine.
#[must_use]
pub fn unique_prefix() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!(
        "hw{}n{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

/// Why labs cannot run here, or nothing if they can. For tests that skip loudly.
#[must_use]
pub fn unavailable() -> Option<String> {
    if !geteuid().is_root() {
        return Some("needs root for network namespaces".into());
    }
    ["ip", "ethtool", "tc", "sysctl", "setpriv"]
        .into_iter()
        .find(|tool| !shell::has(tool))
        .map(|tool| format!("needs `{tool}`, which is not installed"))
}

/// Removes the namespaces of labs whose process is gone, and the processes in them.
///
/// # Errors
/// When a namespace of ours cannot be removed.
pub fn remove_stale() -> Result<usize> {
    let mut removed = 0;
    for entry in std::fs::read_dir(NETNS_DIR).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_stale(&name) {
            remove(&name)?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Whether a name is one of ours and the process that made it is gone.
#[must_use]
pub fn is_stale(name: &str) -> bool {
    owner(name).is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())
}

/// The process that made a namespace of this name, when the name is one of ours.
fn owner(name: &str) -> Option<u32> {
    let (pid, rest) = name.strip_prefix("hw")?.split_once('n')?;
    let (index, role) = rest.split_once('-')?;
    index.parse::<u32>().ok()?;
    if role.is_empty() {
        return None;
    }
    pid.parse().ok()
}

/// Ends the processes in a namespace and removes it.
fn remove(name: &str) -> Result<()> {
    end_processes(name);
    // A process that is still exiting holds nothing that keeps the name from going away.
    shell::run(&format!("ip netns del {name}")).map(drop)
}

/// Asks the processes in the namespace to end, and makes them after a second.
fn end_processes(name: &str) {
    for (signal, rounds) in [(Signal::SIGTERM, 50), (Signal::SIGKILL, 50)] {
        for round in 0..rounds {
            let pids: Vec<i32> = shell::run(&format!("ip netns pids {name}"))
                .unwrap_or_default()
                .split_whitespace()
                .filter_map(|p| p.parse().ok())
                // A thread of ours may be inside; it leaves with its guard.
                .filter(|&p| p != std::process::id() as i32)
                .collect();
            if pids.is_empty() {
                return;
            }
            if round == 0 {
                for pid in pids {
                    let _ = kill(Pid::from_raw(pid), signal);
                }
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A network namespace; dropping it ends what runs inside and removes it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes the namespace `<prefix>-<role>` with its loopback up.
    ///
    /// # Errors
    /// Without root, or when the name is taken.
    pub fn create(prefix: &str, role: &str) -> Result<Self> {
        let name = format!("{prefix}-{role}");
        shell::run(&format!("ip netns add {name}"))?;
        let namespace = Self { name };
        namespace.ip("link set lo up")?;
        // No duplicate address detection: addresses are usable at once, and nothing but the lab's
        // own packets is on the wires. Forwarding stays off unless a topology asks for it.
        namespace.sysctl("net.ipv6.conf.all.accept_dad=0")?;
        namespace.sysctl("net.ipv6.conf.default.accept_dad=0")?;
        namespace.sysctl("net.ipv6.conf.default.dad_transmits=0")?;
        namespace.sysctl("net.ipv6.conf.default.router_solicitations=0")?;
        namespace.sysctl("net.ipv6.conf.default.accept_ra=0")?;
        Ok(namespace)
    }

    /// Its name, as `ip netns` knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its file, for `setns`.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new(NETNS_DIR).join(&self.name)
    }

    /// Runs `ip <arguments>` inside.
    ///
    /// # Errors
    /// As [`shell::run`].
    pub fn ip(&self, arguments: &str) -> Result<String> {
        shell::run(&format!("ip -n {} {arguments}", self.name))
    }

    /// Runs many `ip` commands inside, one a line, in one process.
    ///
    /// # Errors
    /// As [`shell::run`], at the first line that fails.
    pub fn ip_batch(&self, lines: &str) -> Result<()> {
        shell::feed(&["ip", "-n", &self.name, "-batch", "-"], lines).map(drop)
    }

    /// Sets a kernel parameter inside, `name=value`.
    ///
    /// # Errors
    /// As [`shell::run`].
    pub fn sysctl(&self, assignment: &str) -> Result<()> {
        self.exec(&format!("sysctl -qw {assignment}")).map(drop)
    }

    /// Runs a command line inside and returns what it printed.
    ///
    /// # Errors
    /// As [`shell::run`].
    pub fn exec(&self, line: &str) -> Result<String> {
        shell::run(&format!("ip netns exec {} {line}", self.name))
    }

    /// A command that will run inside. It ends when the thread that starts it ends, and does not
    /// get the terminal's Ctrl-C.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new("setpriv");
        command
            .args([
                "--pdeathsig",
                "TERM",
                "--",
                "ip",
                "netns",
                "exec",
                &self.name,
                program,
            ])
            .stdin(Stdio::null())
            .process_group(0);
        command
    }

    /// Runs a closure on a thread that is inside. Sockets, BPF maps and programs opened there
    /// belong to this namespace and may be handed out.
    ///
    /// # Errors
    /// When the namespace cannot be entered, and what the closure fails with.
    pub fn enter<T: Send>(&self, inside: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    self.join()?;
                    inside()
                })
                .join()
                .map_err(|_| anyhow!("a thread in namespace {} panicked", self.name))?
        })
    }

    /// Moves the calling thread inside, for good. For threads made for that.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn join(&self) -> Result<()> {
        join(&self.path())
    }
}

/// Moves the calling thread into the namespace of that file, for good.
///
/// # Errors
/// When it cannot be entered.
pub fn join(path: &Path) -> Result<()> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    setns(file, CloneFlags::CLONE_NEWNET)
        .with_context(|| format!("entering the namespace {}", path.display()))
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.name) {
            complain(format_args!(
                "cannot remove namespace {}: {error:#}",
                self.name
            ));
        }
    }
}

/// A process that is ended with its guard: SIGTERM, then SIGKILL after `GRACE`.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
}

/// How long a process may take to end in good order.
const GRACE: Duration = Duration::from_secs(3);

impl Process {
    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: &str, command: &mut Command) -> Result<Self> {
        let child = command
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        Ok(Self {
            child,
            name: name.into(),
        })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status, once it has ended.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn ended(&mut self) -> Result<Option<std::process::ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.pid() as i32), signal)
            .with_context(|| format!("sending {signal} to {}", self.name))
    }

    /// The child, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Ends it; the answer is whether it ended by itself within the time of grace.
    pub fn stop(&mut self) -> bool {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return true;
        }
        let _ = self.signal(Signal::SIGTERM);
        let end = std::time::Instant::now() + GRACE;
        while std::time::Instant::now() < end {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return true;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        false
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_names_have_an_owner() {
        assert_eq!(owner("hw12n0-siteA"), Some(12));
        assert_eq!(
            owner(&format!("{}-x", unique_prefix())),
            Some(std::process::id())
        );
        for name in [
            "hwn0-x",
            "hw12-x",
            "hw12n-x",
            "hw12n0-",
            "hw12n0",
            "home",
            "hw1x2n0-a",
        ] {
            assert_eq!(owner(name), None, "{name}");
        }
    }

    #[test]
    fn prefixes_differ() {
        assert_ne!(unique_prefix(), unique_prefix());
    }
}
