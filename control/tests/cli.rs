//! The command line's small commands, as processes.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

fn hawser(arguments: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hawser"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

const CONFIG: &str = r#"
[[interface]]
name = "eth0"
role = "both"
[[connection]]
name = "lab"
suite = "aes256-cbc-sha2-512"
manual = { key_file = "keys.toml" }
[[connection.tunnel]]
name = "a"
local = "192.0.2.1"
remote = "192.0.2.2"
[[connection.tunnel]]
name = "b"
local = "192.0.2.1"
remote = "192.0.2.3"
[[route]]
to = "10.0.0.0/8"
via = "lab"
"#;

#[test]
fn made_keys_are_taken_at_both_ends_and_match() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::create_dir(path.join("b")).unwrap();
    fs::write(path.join("hawser.toml"), CONFIG).unwrap();
    fs::write(path.join("b/hawser.toml"), CONFIG).unwrap();
    let make = [
        "manual-keys",
        "-t",
        "lab/a",
        "-t",
        "lab/b",
        "--suite",
        "aes256-cbc-sha2-512",
        "--out-a",
        "keys.toml",
        "--out-b",
        "b/keys.toml",
    ];
    let made = hawser(&make, path);
    assert!(made.status.success(), "{}", stderr(&made));
    for file in ["keys.toml", "b/keys.toml"] {
        let mode = fs::metadata(path.join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    for file in ["hawser.toml", "b/hawser.toml"] {
        let checked = hawser(&["check", "--offline", "-c", file], path);
        assert!(checked.status.success(), "{}", stdout(&checked));
    }
    let load = |file| hawser::config::load(&path.join(file)).0.unwrap();
    let (a, b) = (load("hawser.toml"), load("b/hawser.toml"));
    for (a, b) in a.tunnels.iter().zip(&b.tunnels) {
        let (a, b) = (a.manual().unwrap(), b.manual().unwrap());
        assert_eq!((&a.outbound, &a.inbound), (&b.inbound, &b.outbound));
        assert_ne!(a.outbound.key, a.inbound.key);
    }
    // Keys in use are not overwritten by accident.
    let again = hawser(&make, path);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("add --force"), "{}", stderr(&again));
    assert!(
        hawser(&[&make[..], &["--force"]].concat(), path)
            .status
            .success()
    );
}

#[test]
fn check_answers_by_exit_code_and_in_json() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::write(path.join("hawser.toml"), CONFIG).unwrap();
    let refused = hawser(&["check", "--offline", "--json", "-c", "hawser.toml"], path);
    assert_eq!(refused.status.code(), Some(2));
    let report: serde_json::Value = serde_json::from_slice(&refused.stdout).unwrap();
    assert_eq!(
        (&report["usable"], &report["errors"]),
        (&false.into(), &1.into())
    );
    let found = &report["diagnostics"][0];
    assert_eq!(found["severity"], "error");
    assert_eq!(found["location"]["line"], 8);
    assert_eq!(
        found["location"]["text"],
        "manual = { key_file = \"keys.toml\" }"
    );
    assert!(
        found["reason"]
            .as_str()
            .unwrap()
            .starts_with("cannot read the key file keys.toml")
    );

    let missing = hawser(&["check", "-c", "nothing.toml"], path);
    assert_eq!(missing.status.code(), Some(2));
    assert!(
        stdout(&missing).contains("cannot read nothing.toml"),
        "{}",
        stdout(&missing)
    );
}

#[test]
fn check_compares_with_the_host_unless_told_not_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let config = CONFIG
        .replace("eth0", "no-such-nic0")
        .replace("aes256-cbc-sha2-512", "aes128-gcm16");
    fs::write(path.join("hawser.toml"), config).unwrap();
    let make = [
        "manual-keys",
        "-t",
        "lab/a",
        "-t",
        "lab/b",
        "--suite",
        "aes128-gcm16",
        "--out-a",
        "keys.toml",
        "--out-b",
        "other.toml",
    ];
    assert!(hawser(&make, path).status.success());
    assert!(
        hawser(&["check", "--offline", "-c", "hawser.toml"], path)
            .status
            .success()
    );
    let here = hawser(&["check", "-c", "hawser.toml"], path);
    assert_eq!(here.status.code(), Some(2));
    let said = stdout(&here);
    assert!(
        said.contains("there is no interface `no-such-nic0` on this host"),
        "{said}"
    );
    assert!(said.contains("`lo`"), "{said}");
}

#[test]
fn every_drop_reason_is_explained() {
    let here = Path::new(".");
    let all = stdout(&hawser(&["explain"], here));
    for reason in hawser_api::DropReason::ALL {
        assert!(all.contains(reason.name()), "{all}");
    }
    let one = hawser(&["explain", "replay-old"], here);
    assert_eq!(
        stdout(&one),
        "replay_old: Sequence number left of the replay window.\n"
    );
    let wrong = hawser(&["explain", "replay_odl"], here);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(
        stderr(&wrong).contains("did you mean `replay_old`?"),
        "{}",
        stderr(&wrong)
    );
}

#[test]
fn help_knows_the_configuration_and_every_command() {
    let here = Path::new(".");
    assert!(stdout(&hawser(&["help", "config"], here)).contains("[[connection.tunnel]]"));
    let overview = stdout(&hawser(&["help"], here));
    for command in [
        "run",
        "check",
        "status",
        "reload",
        "stop",
        "explain",
        "manual-keys",
    ] {
        assert!(
            overview.contains(&format!("\n  {command} ")),
            "{command}: {overview}"
        );
        let help = hawser(&["help", command], here);
        assert!(help.status.success());
        assert!(
            stdout(&help).contains(&format!("hawser {command}")),
            "{}",
            stdout(&help)
        );
    }
    assert_eq!(hawser(&["help", "nothing"], here).status.code(), Some(2));
}

#[test]
fn without_a_running_control_the_exit_code_is_three() {
    let folder = tempfile::tempdir().unwrap();
    for command in ["status", "reload", "stop"] {
        let output = hawser(&[command, "--run-dir", "nowhere"], folder.path());
        assert_eq!(output.status.code(), Some(3));
        assert!(stderr(&output).contains("no `hawser run` answers at nowhere/control.sock"));
    }
}

/// A pipe whose reader has gone, as after `| head` has seen enough.
fn unread() -> std::io::PipeWriter {
    let (_, writer) = std::io::pipe().unwrap();
    writer
}

#[test]
fn a_reader_that_goes_changes_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::write(path.join("hawser.toml"), CONFIG).unwrap();
    let keys = ["manual-keys", "-t", "lab/a", "-t", "lab/b"];
    let keys = [&keys[..], &["--out-a", "keys.toml", "--out-b", "b.toml"]].concat();
    // Without its key file the configuration is refused, and `run` says so on standard error.
    for (arguments, code) in [
        (&["explain"][..], 0),
        (&["explain", "no_such_reason"], 2),
        (&["help", "config"], 0),
        (&["check", "--offline", "-c", "hawser.toml"], 2),
        (&["run", "-c", "hawser.toml"], 2),
        (&["status", "--run-dir", "nowhere"], 3),
        (&keys, 0),
    ] {
        let status = Command::new(env!("CARGO_BIN_EXE_hawser"))
            .args(arguments)
            .current_dir(path)
            .stdout(unread())
            .stderr(unread())
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(code), "{arguments:?}: {status}");
    }
    assert!(path.join("b.toml").exists());
}

#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_hawser"))
        .arg("explain")
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("standard output"), "{said}");
}
