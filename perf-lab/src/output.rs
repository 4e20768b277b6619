//! What the lab says, to readers that may go away (`hawser-lab demo | head`).
//!
//! `println!` would panic. Here a line that nobody takes is an error like any other, so that `?`
//! leads out through all guards, and `main` tells it from a failure: there is nothing to say and
//! nobody to say it to.

use std::{
    fmt::{self, Display},
    io::{self, ErrorKind, Write},
};

use anyhow::{Context, Result};

/// Nobody reads standard output any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReaderGone;

impl Display for ReaderGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nobody reads standard output any more")
    }
}

impl std::error::Error for ReaderGone {}

/// Prints a line to standard output.
///
/// # Errors
/// [`ReaderGone`]; and when it cannot be written for another reason.
pub fn say(text: impl Display) -> Result<()> {
    match writeln!(io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(ReaderGone.into()),
        written => written.context("writing to standard output"),
    }
}

/// Prints a line to standard error. If that cannot be written, there is nowhere left to say so.
pub fn complain(text: impl Display) {
    let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
}
