//! `hawser run` from outside: real processes, with a data plane that carries no packets.
//!
//! No root is needed: the only interface is the loopback.

mod gateway;

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    time::{Duration, Instant},
};

use gateway::{Gateway, PATIENCE, kill};
use serde_json::Value;

fn pid_of(status: &Value) -> u64 {
    status["dataplane"]["pid"].as_u64().unwrap()
}

fn names(status: &Value) -> Vec<(&str, u64)> {
    let tunnels = status["tunnels"].as_array().unwrap();
    tunnels
        .iter()
        .map(|t| (t["name"].as_str().unwrap(), t["id"].as_u64().unwrap()))
        .collect()
}

#[test]
fn everything_is_installed_in_one_transaction() {
    let mut gateway = Gateway::new(&["a", "b"]);
    let status = gateway.start();
    assert_eq!(names(&status), [("lab/a", 0), ("lab/b", 1)]);
    assert_eq!(status["dataplane"]["taken_over"], false);
    let asked = gateway.asked();
    assert_eq!(
        asked[..3],
        ["hello", "setup 1 workers lo:1x65536", "commit 1"]
    );
    let first: Vec<&str> = asked[3..]
        .iter()
        .take_while(|l| l.starts_with("  "))
        .map(|l| l.trim())
        .collect();
    assert_eq!(first[0], "replace all");
    for wanted in [
        "put tunnel 0 lab/a",
        "put tunnel 1 lab/b",
        "put group 0 of 1+1",
        "put attachment",
    ] {
        assert!(first.contains(&wanted), "{wanted} is missing in {first:?}");
    }
    // Both ways of both tunnels; `a` is 97.
    for wanted in ["put outbound 0 0x00001061", "put inbound 0 0x00002061"] {
        assert!(first.contains(&wanted), "{wanted} is missing in {first:?}");
    }
    let counted = gateway.wait_for("counters of all pages", |s| {
        s["tunnels"][1]["traffic"]["sent"] == 1001
    });
    assert_eq!(counted["tunnels"][0]["traffic"]["sent"], 1000);
}

#[test]
fn a_dead_data_plane_is_replaced_with_all_its_tables() {
    let mut gateway = Gateway::new(&["a", "b"]);
    let first = pid_of(&gateway.start());
    kill(first);
    let status = gateway.wait_for("another data plane", |s| {
        s["dataplane"]["state"] == "running" && pid_of(s) != first
    });
    assert_eq!(status["dataplane"]["restarts"], 1);
    let why = status["dataplane"]["last_restart"].as_str().unwrap();
    assert_eq!(why, format!("process {first} killed by signal 9"));
    let commit = gateway.last_commit();
    assert_eq!(commit[0], "replace all");
    assert!(
        commit.contains(&"put tunnel 1 lab/b".to_owned()),
        "{commit:?}"
    );
}

#[test]
fn a_killed_control_is_followed_by_one_that_takes_over() {
    let mut gateway = Gateway::new(&["a", "b"]);
    let first = pid_of(&gateway.start());
    gateway.kill_control();
    // While nobody was there, the first tunnel went: the other one keeps its number.
    gateway.configure(&["b"], "");
    let status = gateway.start();
    assert_eq!(pid_of(&status), first);
    assert_eq!(status["dataplane"]["taken_over"], true);
    assert_eq!(names(&status), [("lab/b", 1)]);
    assert_eq!(gateway.last_commit()[0], "replace all");
    let setups = gateway
        .asked()
        .iter()
        .filter(|l| l.starts_with("setup"))
        .count();
    assert_eq!(setups, 1);
    // One that is not our child is watched as well.
    kill(first);
    let status = gateway.wait_for("another data plane", |s| {
        s["dataplane"]["state"] == "running" && pid_of(s) != first
    });
    assert_eq!(status["dataplane"]["taken_over"], false);
}

#[test]
fn a_data_plane_with_another_set_up_is_not_taken_over() {
    let mut gateway = Gateway::new(&["a"]);
    let first = pid_of(&gateway.start());
    gateway.kill_control();
    gateway.configure(&["a"], "[dataplane]\nring_size = 512\n");
    let status = gateway.start();
    assert_ne!(pid_of(&status), first);
    assert!(gateway.asked().contains(&"shutdown".to_owned()));
}

#[test]
fn reload_sends_the_difference_only_and_says_what_changed() {
    let mut gateway = Gateway::new(&["a", "b"]);
    gateway.start();
    gateway.configure(&["b", "c"], "");
    let output = gateway.run(&["reload", "--json"]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let reloaded = &answer["reloaded"];
    assert_eq!(reloaded["tunnels_added"], serde_json::json!(["lab/c"]));
    assert_eq!(reloaded["tunnels_removed"], serde_json::json!(["lab/a"]));
    assert_eq!(reloaded["tunnels_changed"], serde_json::json!([]));
    assert_eq!(reloaded["routes_changed"], 0);
    let commit = gateway.last_commit();
    assert_eq!(
        commit,
        [
            "put tunnel 2 lab/c",
            "put inbound 2 0x00002063",
            "put outbound 2 0x00001063",
            "put group 0 of 1+1",
            "remove tunnel 0"
        ]
    );
    // The number that became free is given away only now.
    gateway.configure(&["b", "c", "d"], "");
    assert!(gateway.run(&["reload"]).status.success());
    let status = gateway.wait_for("the new tunnel", |s| {
        s["tunnels"].as_array().unwrap().len() == 3
    });
    assert_eq!(names(&status), [("lab/b", 1), ("lab/c", 2), ("lab/d", 0)]);
    assert_eq!(status["gateway"]["reloads"], 2);
    let unchanged = gateway.run(&["reload"]);
    let said = String::from_utf8_lossy(&unchanged.stdout).into_owned();
    assert!(said.ends_with("\nnothing changed\n"), "{said}");
    // One address, however many tunnels use it.
    assert_eq!(
        said.matches("192.0.2.1 is no address of this host").count(),
        1
    );
}

#[test]
fn a_route_over_fewer_tunnels_keeps_its_group() {
    let mut gateway = Gateway::new(&["a", "b", "c"]);
    gateway.start();
    let text = fs::read_to_string(gateway.path("hawser.toml")).unwrap();
    let fewer = text.replace("via = \"lab\"", "via = [\"lab/a\", \"lab/c\"]");
    assert_ne!(text, fewer);
    fs::write(gateway.path("hawser.toml"), fewer).unwrap();
    assert!(gateway.run(&["reload"]).status.success());
    // The data plane then moves the flows of the tunnel that left, and no others.
    assert_eq!(gateway.last_commit(), ["put group 0 of 1+1"]);
    fs::write(gateway.path("hawser.toml"), text).unwrap();
    assert!(gateway.run(&["reload"]).status.success());
    assert_eq!(gateway.last_commit(), ["put group 0 of 1+1+1"]);
}

#[test]
fn a_refused_reload_changes_nothing() {
    let mut gateway = Gateway::new(&["a"]);
    let before = gateway.start();
    let commits = || {
        gateway
            .asked()
            .iter()
            .filter(|l| l.starts_with("commit "))
            .count()
    };
    let at_start = commits();

    // Wrong by itself: code 2, with the place.
    gateway.configure(&["a", "a"], "");
    let output = gateway.run(&["reload"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("tunnel `lab/a` is there already"), "{said}");
    assert!(said.contains("the configuration before goes on"), "{said}");

    // Needs a restart: code 2 until it is asked for.
    gateway.configure(&["a"], "[dataplane]\nring_size = 512\n");
    let output = gateway.run(&["reload"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        said.contains("would have to be restarted: ring_size changed"),
        "{said}"
    );

    assert_eq!(commits(), at_start);
    let status = gateway.status().unwrap();
    assert_eq!(status["dataplane"]["pid"], before["dataplane"]["pid"]);
    assert_eq!(names(&status), [("lab/a", 0)]);

    let output = gateway.run(&["reload", "--restart-dataplane"]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    let status = gateway.status().unwrap();
    assert_ne!(status["dataplane"]["pid"], before["dataplane"]["pid"]);
    assert_eq!(
        status["dataplane"]["last_restart"],
        "reload: ring_size changed"
    );
}

#[test]
fn what_the_data_plane_refuses_is_taken_back() {
    let mut gateway = Gateway::new(&["a"]);
    gateway.start();
    gateway.configure(&["a", "refused"], "");
    let output = gateway.run(&["reload"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("tunnel lab/refused is not wanted; rename it"),
        "{said}"
    );
    let status = gateway.status().unwrap();
    assert_eq!(names(&status), [("lab/a", 0)]);
    // And the next one goes through.
    gateway.configure(&["a", "fine"], "");
    assert!(gateway.run(&["reload"]).status.success());
    assert_eq!(
        names(&gateway.status().unwrap()),
        [("lab/a", 0), ("lab/fine", 1)]
    );
}

#[test]
fn a_refused_first_table_is_a_problem_and_tried_again() {
    let mut gateway = Gateway::new(&["a", "refused"]);
    gateway.begin(&[]);
    let status = gateway.wait_for("the refusal", |s| s["dataplane"]["state"] == "refused");
    let problem = status["gateway"]["problem"].as_str().unwrap();
    assert!(
        problem.contains("no packet is forwarded") && problem.contains("rename it"),
        "{problem}"
    );
    for tunnel in status["tunnels"].as_array().unwrap() {
        assert_eq!(tunnel["state"], "down");
    }
    let refusals = || {
        let asked = gateway.asked();
        asked.iter().filter(|l| *l == "commit refused").count()
    };
    let begun = Instant::now();
    while refusals() < 3 {
        assert!(begun.elapsed() < PATIENCE, "not tried again");
        std::thread::sleep(Duration::from_millis(20));
    }
    // Longer and longer: 250 and 500 ms before the third.
    assert!(begun.elapsed() < Duration::from_secs(5) && refusals() < 10);
    // Nothing changes but the data plane's mind.
    fs::write(gateway.path("run/dataplane.sock.tolerant"), "").unwrap();
    let status = gateway.wait_for("the tables", |s| s["dataplane"]["state"] == "running");
    assert_eq!(status["gateway"]["problem"], Value::Null);
    assert_eq!(names(&status), [("lab/a", 0), ("lab/refused", 1)]);
}

#[test]
fn the_end_takes_the_data_plane_along_unless_told_otherwise() {
    let mut gateway = Gateway::new(&["a"]);
    gateway.start();
    assert!(gateway.run(&["stop", "--keep-dataplane"]).status.success());
    assert!(gateway.control.take().unwrap().wait().unwrap().success());
    assert!(!gateway.asked().contains(&"shutdown".to_owned()));
    let status = gateway.start();
    assert_eq!(status["dataplane"]["taken_over"], true);
    // The signal does the same as the command.
    let mut control = gateway.control.take().unwrap();
    let pid = rustix::process::Pid::from_child(&control);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let ended = control.wait().unwrap();
    assert_eq!((ended.code(), ended.signal()), (Some(0), None));
    assert_eq!(gateway.asked().last().unwrap(), "shutdown");
    assert_eq!(gateway.run(&["status"]).status.code(), Some(3));
}

#[test]
fn sighup_reloads() {
    let mut gateway = Gateway::new(&["a"]);
    gateway.start();
    gateway.configure(&["a", "b"], "");
    let pid = rustix::process::Pid::from_child(gateway.control.as_ref().unwrap());
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    gateway.wait_for("the new tunnel", |s| {
        s["tunnels"].as_array().unwrap().len() == 2
    });
}

#[test]
fn a_refused_set_up_ends_the_first_start_and_is_tried_again_later_on() {
    let mut gateway = Gateway::new(&["a"]);
    gateway.refuse_setup = true;
    let output = gateway.run(&["run"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("no sockets today; try tomorrow"), "{said}");

    // A program that is not there: the same, by its name.
    let output = gateway
        .hawser(&["run"])
        .env("HAWSER_DATAPLANE", "/nonexistent")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nonexistent"));
}

#[test]
fn only_one_control_a_run_folder() {
    let mut gateway = Gateway::new(&["a"]);
    gateway.start();
    let output = gateway.run(&["run"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("another `hawser run` uses"), "{said}");
    assert!(gateway.status().is_some());
}

#[test]
fn events_are_told() {
    let mut gateway = Gateway::new(&["a"]);
    gateway.start();
    let event = hawser_api::Event::SequenceSoftLimit {
        tunnel: hawser_api::TunnelId(0),
        spi: hawser_api::Spi(0x1061),
    };
    let new = gateway.path("run/event.new");
    fs::write(&new, serde_json::to_vec(&event).unwrap()).unwrap();
    fs::rename(new, gateway.path("run/dataplane.sock.event")).unwrap();
    let status = gateway.wait_for("the warning", |s| !s["tunnels"][0]["warning"].is_null());
    let warning = status["tunnels"][0]["warning"].as_str().unwrap();
    assert!(warning.contains("SA 0x00001061"), "{warning}");
}

#[test]
fn watching_ends_with_the_reader() {
    let mut gateway = Gateway::new(&["a"]);
    gateway.start();
    let (reader, writer) = std::io::pipe().unwrap();
    let mut watch = gateway.hawser(&["status", "--watch", "--json"]);
    let mut watch = watch.stdout(writer).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(reader).read_line(&mut line).unwrap();
    let seen: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(names(&seen), [("lab/a", 0)]);
    let begun = Instant::now();
    let ended = loop {
        if let Some(status) = watch.try_wait().unwrap() {
            break status;
        }
        if begun.elapsed() > PATIENCE {
            watch.kill().unwrap();
            watch.wait().unwrap();
            panic!("it goes on for nobody");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(ended.code(), Some(0));
}

#[test]
fn no_key_is_ever_shown() {
    let mut gateway = Gateway::new(&["a"]);
    gateway.start();
    let status = gateway.run(&["status", "--json"]);
    let shown = [
        fs::read_to_string(gateway.path("control.log")).unwrap(),
        String::from_utf8(status.stdout).unwrap(),
        String::from_utf8(gateway.run(&["check"]).stdout).unwrap(),
    ]
    .concat();
    assert!(!shown.contains(&format!("{:040x}", 0x1061)), "{shown}");
    let socket = fs::metadata(gateway.path("run/control.sock")).unwrap();
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
    let folder = fs::metadata(gateway.path("run")).unwrap();
    assert_eq!(folder.permissions().mode() & 0o777, 0o700);
}
