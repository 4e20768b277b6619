//! Gateway processes: starting `hawser run` in a gateway's namespace, asking it, stopping it.

mod status;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
pub use status::{Status, TunnelCounters};

use crate::{
    config::{self, Directory, KeySource, PairSpec, TunnelKeys},
    interrupt,
    netns::{self, Namespace, Process, unique_prefix},
    shell,
    topology::{Side, Topology},
};

/// How long a gateway may take until its tables are committed.
const START: Duration = Duration::from_secs(90);

/// Why gateways cannot run here, or nothing if they can: the network they need, or their programs.
#[must_use]
pub fn unavailable() -> Option<String> {
    netns::unavailable().or_else(|| programs().err().map(|reason| format!("{reason:#}")))
}

/// The folder with `hawser` and `hawser-dataplane`: `HAWSER_BIN_DIR`, or where this program is.
///
/// # Errors
/// When they are in neither place.
pub fn programs() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("HAWSER_BIN_DIR") {
        let folder = PathBuf::from(folder);
        ensure!(
            folder.join("hawser").is_file(),
            "HAWSER_BIN_DIR is {}, but there is no `hawser`",
            folder.display()
        );
        return Ok(folder);
    }
    let own = std::env::current_exe()?;
    // A test's own program is one folder further down.
    own.ancestors()
        .skip(1)
        .take(2)
        .find(|folder| folder.join("hawser").is_file() && folder.join("hawser-dataplane").is_file())
        .map(Path::to_owned)
        .context(
            "`hawser` and `hawser-dataplane` are not next to this program: build them with \
             `cargo build --release -p hawser -p hawser-dataplane`, or set HAWSER_BIN_DIR",
        )
}

/// A running gateway. Dropping it stops it and removes its files.
#[derive(Debug)]
pub struct Gateway {
    side: Side,
    namespace: String,
    process: Process,
    directory: Directory,
    program: PathBuf,
    /// From the start of the process until its tables were committed.
    pub started_in: Duration,
}

impl Gateway {
    /// Writes its files, starts it and waits until it is up.
    ///
    /// # Errors
    /// When it does not come up; the error ends with the last lines of its log.
    pub fn start(
        topology: &Topology,
        side: Side,
        spec: &PairSpec,
        keys: &[TunnelKeys],
    ) -> Result<Self> {
        let directory = Self::files(side, spec, keys)?;
        Self::start_in(topology.gateway(side), side, directory)
    }

    /// Makes its folder with its files.
    fn files(side: Side, spec: &PairSpec, keys: &[TunnelKeys]) -> Result<Directory> {
        let directory = Directory::create(&format!("{}-{}", unique_prefix(), side.letter()))?;
        Self::write_files(&directory, side, spec, keys)?;
        Ok(directory)
    }

    /// Writes the files of a gateway into a folder.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write_files(
        directory: &Directory,
        side: Side,
        spec: &PairSpec,
        keys: &[TunnelKeys],
    ) -> Result<()> {
        fs::create_dir(directory.path().join("state"))?;
        fs::create_dir(directory.path().join("run"))?;
        directory.write("keys.toml", &config::render_keys(side, keys))?;
        let text = config::render(side, spec, directory.path());
        directory.write("hawser.toml", &text)?;
        Ok(())
    }

    /// Starts it with the `hawser.toml` that is in its folder already.
    ///
    /// # Errors
    /// As [`Gateway::start`].
    pub fn start_in(namespace: &Namespace, side: Side, directory: Directory) -> Result<Self> {
        let began = Instant::now();
        let mut gateway = Self::begin(namespace, side, directory)?;
        gateway.wait_until_up(START)?;
        gateway.started_in = began.elapsed();
        Ok(gateway)
    }

    /// Starts it and does not wait: with a key exchange it is up when its peer is there.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn begin(namespace: &Namespace, side: Side, directory: Directory) -> Result<Self> {
        let program = programs()?.join("hawser");
        let process = launch(namespace, &directory, &program)?;
        Ok(Self {
            side,
            namespace: namespace.name().into(),
            process,
            directory,
            program,
            started_in: Duration::ZERO,
        })
    }

    /// Starts the control process again, after the one before has ended.
    ///
    /// # Errors
    /// As [`Gateway::start`].
    pub fn restart(&mut self, topology: &Topology) -> Result<()> {
        self.process = launch(topology.gateway(self.side), &self.directory, &self.program)?;
        self.wait_until_up(START)
    }

    /// Which one it is.
    #[must_use]
    pub fn side(&self) -> Side {
        self.side
    }

    /// Its folder, with `hawser.toml`, `keys.toml` and `log`.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The control process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// What it logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    fn last_lines(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().rev().take(12).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Waits until it says that it is up.
    ///
    /// # Errors
    /// When it ended or does not come up in time.
    pub fn wait_until_up(&mut self, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        loop {
            let status = self.status();
            if status.as_ref().is_ok_and(Status::is_up) {
                return Ok(());
            }
            if let Some(exit) = self.process.ended()? {
                bail!(
                    "gateway {} ended: {exit}\n{}",
                    self.side.letter(),
                    self.last_lines()
                );
            }
            if Instant::now() > end {
                let why = match status {
                    Ok(status) => status.0.to_string(),
                    Err(error) => format!("{error:#}"),
                };
                bail!(
                    "gateway {} is not up after {limit:?}: {why}\n{}",
                    self.side.letter(),
                    self.last_lines()
                );
            }
            interrupt::sleep(Duration::from_millis(20))?;
        }
    }

    /// Runs `hawser COMMAND -c hawser.toml MORE` in its namespace.
    ///
    /// # Errors
    /// When it fails, with what it printed.
    pub fn command(&self, command: &str, more: &[&str]) -> Result<String> {
        let program = self.program.display().to_string();
        let file = self
            .directory
            .path()
            .join("hawser.toml")
            .display()
            .to_string();
        let mut words = vec![
            "ip",
            "netns",
            "exec",
            &self.namespace,
            &program,
            command,
            "-c",
            &file,
        ];
        words.extend(more);
        shell::run_words(&words)
    }

    /// Asks for its status.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn status(&self) -> Result<Status> {
        let text = self.command("status", &["--json"])?;
        Ok(Status(
            serde_json::from_str(&text).context("`hawser status --json` printed no JSON")?,
        ))
    }

    /// Stops it in good order.
    ///
    /// # Errors
    /// When it had to be killed.
    pub fn stop(mut self) -> Result<()> {
        ensure!(
            self.process.stop(),
            "gateway {} did not end on SIGTERM\n{}",
            self.side.letter(),
            self.last_lines()
        );
        Ok(())
    }
}

/// Starts `hawser run`, its output at the end of the folder's `log`.
fn launch(namespace: &Namespace, directory: &Directory, program: &Path) -> Result<Process> {
    let log = File::options()
        .create(true)
        .append(true)
        .open(directory.path().join("log"))?;
    let mut command = namespace.command(&program.display().to_string());
    command
        .arg("run")
        .arg("-c")
        .arg(directory.path().join("hawser.toml"))
        .stdout(log.try_clone()?)
        .stderr(log);
    Process::start("hawser run", &mut command)
}

/// Both gateways with what they share.
#[derive(Debug)]
pub struct Pair {
    /// Gateway A.
    pub a: Gateway,
    /// Gateway B.
    pub b: Gateway,
    /// The keys, for scenarios that make packets of their own.
    pub keys: Vec<TunnelKeys>,
    /// What they were configured from.
    pub spec: PairSpec,
}

impl Pair {
    /// Draws keys and starts both.
    ///
    /// # Errors
    /// As [`Gateway::start`].
    pub fn start(topology: &Topology, spec: PairSpec) -> Result<Self> {
        let keys = config::draw_keys(&spec)?;
        if let KeySource::Ike(_) = &spec.keys {
            return Self::start_exchange(topology, spec);
        }
        let a = Gateway::start(topology, Side::A, &spec, &keys)?;
        let b = Gateway::start(topology, Side::B, &spec, &keys)?;
        Ok(Self { a, b, keys, spec })
    }

    /// Each is up when the other one is.
    fn start_exchange(topology: &Topology, spec: PairSpec) -> Result<Self> {
        let began = Instant::now();
        let mut pair = Self::begin(topology, spec)?;
        for side in [Side::B, Side::A] {
            let gateway = pair.gateway(side);
            gateway.wait_until_up(START)?;
            gateway.started_in = began.elapsed();
        }
        Ok(pair)
    }

    /// Starts both with a key exchange and does not wait for the tunnels.
    ///
    /// # Errors
    /// When a program cannot be started.
    pub fn begin(topology: &Topology, spec: PairSpec) -> Result<Self> {
        let secret = config::draw_secret()?;
        let begin = |side| {
            let directory = Gateway::files(side, &spec, &[])?;
            directory.write("secrets.toml", &secret)?;
            Gateway::begin(topology.gateway(side), side, directory)
        };
        let (b, a) = (begin(Side::B)?, begin(Side::A)?);
        Ok(Self {
            a,
            b,
            keys: Vec::new(),
            spec,
        })
    }

    /// One of the two.
    pub fn gateway(&mut self, side: Side) -> &mut Gateway {
        match side {
            Side::A => &mut self.a,
            Side::B => &mut self.b,
        }
    }

    /// Stops both in good order.
    ///
    /// # Errors
    /// When one had to be killed.
    pub fn stop(self) -> Result<()> {
        self.a.stop()?;
        self.b.stop()
    }
}
