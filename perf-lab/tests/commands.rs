//! How `hawser-lab` ends: with whoever reads it, and with the signals that ask it to.

use std::{
    io::{BufRead, BufReader, PipeWriter, Read},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use hawser_lab::gateway;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Tests that need a network say so when they cannot have it.
macro_rules! needs_lab {
    () => {
        if let Some(reason) = gateway::unavailable() {
            println!("skipped: {reason}");
            return;
        }
    };
}

/// How long gateways may take to start, and how long all may take to end.
const PATIENCE: Duration = Duration::from_secs(90);

fn lab(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hawser-lab"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// A demonstration in its first phase. It is killed with its guard, if it has not ended.
struct Demo {
    child: Child,
    lines: Option<BufReader<std::process::ChildStdout>>,
}

impl Demo {
    fn start() -> Self {
        // Long enough that it ends because it was told to.
        let mut command = lab(&["demo", "--plain", "--tunnels", "1", "--flows", "4"]);
        command.args(["--seconds", "60", "--keys", "manual", "--cap", "1M"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = child.stdout.take().map(BufReader::new);
        let mut demo = Self { child, lines };
        demo.read_until_first_phase();
        assert!(!demo.namespaces().is_empty(), "no network of its own");
        demo
    }

    fn read_until_first_phase(&mut self) {
        let mut all = String::new();
        while !all.lines().any(|line| line.starts_with("── ")) {
            let read = self.lines.as_mut().unwrap().read_line(&mut all).unwrap();
            assert!(read > 0, "it ended: {all}{}", self.complaints());
        }
    }

    /// Closes the reading end of its standard output.
    fn stop_reading(&mut self) {
        self.lines = None;
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    fn end(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn complaints(&mut self) -> String {
        let mut text = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        stderr.read_to_string(&mut text).unwrap();
        text
    }

    /// Its namespaces; their names have its process id.
    fn namespaces(&self) -> Vec<String> {
        let ours = format!("hw{}n", self.child.id());
        let all = std::fs::read_dir("/run/netns").into_iter().flatten();
        all.map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with(&ours))
            .collect()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A pipe whose reader has gone, as after `| head` has seen enough.
fn unread() -> PipeWriter {
    let (_, writer) = std::io::pipe().unwrap();
    writer
}

#[test]
fn a_demonstration_that_nobody_reads_ends_quietly() {
    needs_lab!();
    let mut demo = Demo::start();
    demo.stop_reading();
    let ended = demo.end();
    assert_eq!(demo.complaints(), "");
    // As if SIGPIPE had ended it.
    assert_eq!(ended.code(), Some(141), "{ended}");
    assert_eq!(demo.namespaces(), [""; 0]);
}

#[test]
fn an_interrupted_demonstration_says_by_which_signal() {
    needs_lab!();
    for (signal, code) in [
        (Signal::SIGINT, 130),
        (Signal::SIGTERM, 143),
        (Signal::SIGHUP, 129),
    ] {
        let mut demo = Demo::start();
        demo.signal(signal);
        let ended = demo.end();
        assert_eq!(demo.complaints(), "hawser-lab: interrupted\n");
        assert_eq!(ended.code(), Some(code), "{signal}: {ended}");
        assert_eq!(demo.namespaces(), [""; 0]);
    }
}

#[test]
fn what_is_listed_to_nobody_ends_quietly() {
    needs_lab!();
    let listed = lab(&["scenario"]).stdout(unread()).output().unwrap();
    assert_eq!(String::from_utf8(listed.stderr).unwrap(), "");
    assert_eq!(listed.status.code(), Some(141), "{}", listed.status);
    // And nobody to complain to.
    let refused = lab(&["scenario", "no-such-scenario"])
        .stdout(unread())
        .stderr(unread())
        .status()
        .unwrap();
    assert_eq!(refused.code(), Some(1), "{refused}");
}
