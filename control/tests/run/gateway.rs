//! A gateway in a folder of its own, with the data plane that cargo builds beside the tests.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A gateway in a folder of its own; everything that it started ends with it.
pub(crate) struct Gateway {
    folder: tempfile::TempDir,
    pub(crate) control: Option<Child>,
    pub(crate) refuse_setup: bool,
}

impl Gateway {
    /// With tunnels `lab/a` and so on, for each name.
    pub(crate) fn new(tunnels: &[&str]) -> Self {
        let gateway = Self {
            folder: tempfile::tempdir().unwrap(),
            control: None,
            refuse_setup: false,
        };
        gateway.configure(tunnels, "");
        gateway
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn configure(&self, tunnels: &[&str], more: &str) {
        let folder = self.folder.path().display();
        let mut text = format!(
            "[gateway]\nname = \"test\"\nhost_path = false\nrun_dir = \"{folder}/run\"\n\
             state_dir = \"{folder}/state\"\n\n[[interface]]\nname = \"lo\"\nrole = \"both\"\n\n\
             [[route]]\nto = [\"10.0.0.0/8\", \"10.1.0.0/16\"]\nvia = \"lab\"\n\n{more}\n\
             [[connection]]\nname = \"lab\"\nsuite = \"aes128-gcm16\"\n\
             manual = {{ key_file = \"keys.toml\" }}\n"
        );
        let mut keys = String::new();
        for tunnel in tunnels {
            let n = tunnel.bytes().map(u32::from).sum::<u32>();
            text += &format!(
                "[[connection.tunnel]]\nname = \"{tunnel}\"\nlocal = \"192.0.2.1\"\n\
                 remote = \"198.51.100.{}\"\n",
                n % 250 + 1
            );
            keys += &format!(
                "[[key]]\ntunnel = \"lab/{tunnel}\"\n\
                 outbound = {{ spi = \"{}\", key = \"{:040x}\" }}\n\
                 inbound = {{ spi = \"{}\", key = \"{:040x}\" }}\n",
                0x1000 + n,
                0x1000 + n,
                0x2000 + n,
                0x2000 + n,
            );
        }
        fs::write(self.path("hawser.toml"), text).unwrap();
        fs::write(self.path("keys.toml"), keys).unwrap();
        fs::set_permissions(self.path("keys.toml"), fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub(crate) fn hawser(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hawser"));
        command
            .args(arguments)
            .arg("-c")
            .arg(self.path("hawser.toml"));
        command.env("HAWSER_DATAPLANE", fake());
        if self.refuse_setup {
            command.env("FAKE_REFUSE_SETUP", "1");
        }
        command
    }

    /// Starts control and waits until it runs.
    pub(crate) fn start(&mut self) -> Value {
        self.start_with(&[])
    }

    fn start_with(&mut self, arguments: &[&str]) -> Value {
        let pid = self.begin(arguments);
        self.wait_for("control to run", |s| {
            s["gateway"]["pid"] == pid && s["dataplane"]["state"] == "running"
        })
    }

    /// Starts control and says its process id.
    pub(crate) fn begin(&mut self, arguments: &[&str]) -> u64 {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path("control.log"))
            .unwrap();
        let mut command = self.hawser(&[&["run", "--log", "debug"], arguments].concat());
        let child = command.stdin(Stdio::null()).stderr(log).spawn().unwrap();
        let pid = u64::from(child.id());
        self.control = Some(child);
        pid
    }

    pub(crate) fn kill_control(&mut self) {
        let mut child = self.control.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.hawser(arguments).output().unwrap()
    }

    pub(crate) fn status(&self) -> Option<Value> {
        let output = self.run(&["status", "--json"]);
        output
            .status
            .success()
            .then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    pub(crate) fn wait_for(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.status().filter(|s| fits(s)) {
                return status;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "waited in vain for {what}; status: {:?}\nlog:\n{}",
                self.status(),
                fs::read_to_string(self.path("control.log")).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the data planes were asked, without the process ids.
    pub(crate) fn asked(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("run/dataplane.sock.log")).unwrap_or_default();
        text.lines()
            .map(|l| l.split_once(' ').unwrap().1.to_owned())
            .collect()
    }

    /// What came with the last commit.
    pub(crate) fn last_commit(&self) -> Vec<String> {
        let asked = self.asked();
        let at = asked
            .iter()
            .rposition(|l| l.starts_with("commit "))
            .unwrap();
        asked[at + 1..]
            .iter()
            .take_while(|l| l.starts_with("  "))
            .map(|l| l.trim().to_owned())
            .collect()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(child) = &mut self.control {
            let _ = child.kill();
            let _ = child.wait();
        }
        // Every data plane that ever logged, if it is still the one at our socket.
        let socket = self.path("run/dataplane.sock");
        let text = fs::read_to_string(format!("{}.log", socket.display())).unwrap_or_default();
        for pid in text
            .lines()
            .filter_map(|l| l.split(' ').next()?.parse::<u32>().ok())
        {
            let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if command.contains(&*socket.to_string_lossy()) {
                kill(pid.into());
            }
        }
    }
}

pub(crate) fn kill(pid: u64) {
    let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

/// The fake data plane, which cargo builds beside the tests.
fn fake() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let fake = own
        .parent()
        .and_then(Path::parent)
        .unwrap()
        .join("examples/fake_dataplane");
    assert!(
        fake.exists(),
        "build it: cargo build -p hawser --example fake_dataplane"
    );
    fake
}
