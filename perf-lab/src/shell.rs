//! Running the tools that build topologies: `ip`, `ethtool`, `tc`, `sysctl`.
//!
//! They are found on every Linux box and their text is what an engineer would type, so a topology
//! can be repeated by hand. None of them runs in a measured path.

use std::{
    io::Write,
    os::unix::process::CommandExt,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

/// Runs a command line, split at white space, and returns what it printed.
///
/// # Errors
/// When the program cannot be started or fails; the error carries what it printed.
pub fn run(line: &str) -> Result<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    run_words(&words)
}

/// Runs a command given as words.
///
/// # Errors
/// As [`run`].
pub fn run_words(words: &[&str]) -> Result<String> {
    feed(words, "")
}

/// Runs a command with `input` on its standard input.
///
/// # Errors
/// As [`run`].
pub fn feed(words: &[&str], input: &str) -> Result<String> {
    let (program, arguments) = words.split_first().context("empty command line")?;
    let mut child = Command::new(program)
        .args(arguments)
        // Ctrl-C is for the lab. A tool that it ended half-way would be taken for one that failed, or
        // leave behind what it was to remove.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{program}`: is it installed?"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A tool that fails early closes its input; its exit status tells more than EPIPE.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child
        .wait_with_output()
        .with_context(|| format!("waiting for `{program}`"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!(
            "`{}` failed ({}): {}{}",
            words.join(" "),
            output.status,
            stderr.trim(),
            stdout
        );
    }
    Ok(stdout)
}

/// Whether a program of that name is on the path.
#[must_use]
pub fn has(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_and_failure_are_reported() {
        assert_eq!(run("echo hello  world").unwrap(), "hello world\n");
        assert_eq!(feed(&["cat"], "fed").unwrap(), "fed");
        let error = run("ls /does-not-exist").unwrap_err().to_string();
        assert!(error.contains("/does-not-exist"), "{error}");
        assert!(
            run("no-such-program-here")
                .unwrap_err()
                .to_string()
                .contains("installed")
        );
    }

    #[test]
    fn a_tool_is_out_of_reach_of_the_terminals_signals() {
        let own = nix::unistd::getpgrp().to_string();
        let tools = run_words(&["sh", "-c", "ps -o pgid= -p $$"]).unwrap();
        assert_ne!(tools.trim(), own);
    }

    #[test]
    fn programs_are_found_on_the_path() {
        assert!(has("sh"));
        assert!(!has("no-such-program-here"));
    }
}
