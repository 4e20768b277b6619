//! What the commands say, to readers that may go away (`hawser status | head`).
//!
//! A reader that has seen enough changes nothing: the command ends with the exit code that it would
//! have had, and says nothing about it. `println!` and `eprintln!` would panic instead.

use std::{
    fmt::Display,
    io::{self, ErrorKind, Write},
};

use super::FAILED;

/// Prints to standard output as it is, without a line's end of its own. Output that cannot be
/// written although somebody reads (a full disk) ends the program as failed.
pub(super) fn print(text: &str) {
    let _ = print_to_reader(text);
}

/// The same for commands that go on printing. Says whether somebody still reads.
pub(super) fn print_to_reader(text: &str) -> bool {
    let mut out = io::stdout().lock();
    // Flushed, because what is in the buffer at the end of the program is lost without a word.
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => true,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => false,
        Err(error) => {
            complain(format_args!(
                "hawser: cannot write to standard output: {error}"
            ));
            std::process::exit(FAILED.into());
        }
    }
}

/// Prints a line to standard error. If that cannot be written, there is nowhere left to say so.
pub(super) fn complain(text: impl Display) {
    // In one piece: standard error has no buffer, and others may write to the same terminal.
    let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
}
