//! XDP generator and sink.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use aya::{
    maps::{Array, MapData, PerCpuArray, xdp::DevMap},
    programs::{TestRun, TestRunAttrs, TestRunOptions},
};
use hawser_lab_layout::{
    FLOW_WORDS, FLOWS_MAX, Flow, GeneratorConfig, GeneratorState, LATENCY_BUCKETS, TEMPLATE_BYTES,
    bucket_low_ns,
};
use nix::{
    errno::Errno,
    net::if_::if_nametoindex,
    sched::{CpuSet, sched_setaffinity},
    sys::{
        pthread::{Pthread, pthread_kill, pthread_self},
        signal::Signal,
    },
    unistd::Pid,
};

use super::{
    FlowReport, FlowSpec, LatencyReport, Sizes, TrafficReport,
    packet::{Sent, now},
    report::latency_histogram,
};
use crate::{
    netns::Namespace,
    output::complain,
    programs::{Instance, MapSizes},
};

/// Runs a call. The largest the kernel takes: a call has 25 ms of set-up and tear-down, in which
/// packets fall due that would then leave in one burst, so there is one call and a signal ends it.
const REPEAT: u32 = i32::MAX as u32;
/// Frames the kernel handles before it looks at its receive queues, at most 256. Large batches
/// overrun the veth ring of 256 entries; small ones cost a few per cent of the largest rate.
const BATCH: u32 = 64;
/// Largest frame of a test run: a page less head room and the kernel's own data.
pub const LARGEST_FRAME: u32 = 3400;

/// What to send.
#[derive(Clone, Debug)]
pub struct LiveLoad {
    /// The flows; their numbers follow each other.
    pub flows: Vec<FlowSpec>,
    /// Packet lengths.
    pub sizes: Sizes,
    /// Packets a second over all flows; 0 is as fast as possible.
    pub packets_per_second: u64,
    /// The core that makes the packets and, on veth, also runs the receiver's soft interrupts.
    pub core: Option<usize>,
    /// Give way to every other process: the generator takes only what time is left.
    pub background: bool,
}

/// A running generator. Dropping it stops it.
pub struct LiveGenerator {
    thread: Option<JoinHandle<Result<()>>>,
    pthread: Pthread,
    stop: Arc<AtomicBool>,
    config: GeneratorConfig,
    control: Array<MapData, [u64; 6]>,
    sequences: Array<MapData, u64>,
    state: Array<MapData, [u64; GeneratorState::WORDS]>,
    started: u64,
}

impl LiveGenerator {
    /// Loads the program and starts sending out of an interface of the namespace.
    ///
    /// # Errors
    /// When a flow cannot be made, the kernel refuses live frames, or there is no such interface.
    pub fn start(namespace: &Namespace, interface: &str, load: &LiveLoad) -> Result<Self> {
        let count = u32::try_from(load.flows.len()).unwrap_or(u32::MAX);
        ensure!(
            (1..=FLOWS_MAX).contains(&count),
            "between 1 and {FLOWS_MAX} flows, not {count}"
        );
        let first = load.flows[0].number;
        let frames = load.sizes.frames(&load.flows[0]);
        let largest = frames.iter().copied().max().unwrap_or(0);
        ensure!(
            (60..=LARGEST_FRAME).contains(&largest),
            "the generator makes frames of 60 to {LARGEST_FRAME} bytes, not {largest}"
        );
        let mut instance = namespace.enter(|| {
            let sizes = MapSizes {
                templates: count,
                ..MapSizes::default()
            };
            let mut instance = Instance::load("generator", sizes)?;
            let index =
                if_nametoindex(interface).with_context(|| format!("no interface {interface}"))?;
            DevMap::try_from(instance.map("PORTS")?)?.set(0, index, None, 0)?;
            Ok(instance)
        })?;
        let mut templates: Array<_, [u8; TEMPLATE_BYTES]> = instance.array("TEMPLATES")?;
        for (index, flow) in load.flows.iter().enumerate() {
            ensure!(
                usize::from(flow.number) == usize::from(first) + index,
                "the numbers of the flows must follow each other"
            );
            let template = flow.template()?.encode().map_err(|e| anyhow!("{e:?}"))?;
            templates.set(index as u32, template, 0)?;
        }
        let mut sizes: Array<_, u32> = instance.array("SIZES")?;
        for (index, length) in frames.iter().enumerate() {
            sizes.set(index as u32, *length, 0)?;
        }
        let started = now()?;
        let config = GeneratorConfig {
            first_flow: first.into(),
            flows: count,
            sizes: frames.len() as u32,
            packets_per_second: load.packets_per_second,
            start_ns: started,
            deadline_ns: 0,
        };
        let mut control: Array<_, [u64; 6]> = instance.array("GENERATOR")?;
        control.set(0, config.encode(), 0)?;
        let sequences = instance.array("SEQUENCES")?;
        let state = instance.array("GENERATOR_STATE")?;
        let stop = Arc::new(AtomicBool::new(false));
        let (thread, pthread) = spawn(namespace, instance, load, largest, &stop)?;
        Ok(Self {
            thread: Some(thread),
            pthread,
            stop,
            config,
            control,
            sequences,
            state,
            started,
        })
    }

    /// Changes the rate of a running generator.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn set_rate(&mut self, packets_per_second: u64) -> Result<()> {
        self.config.packets_per_second = packets_per_second;
        Ok(self.control.set(0, self.config.encode(), 0)?)
    }

    /// Packets sent so far.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn sent_packets(&self) -> Result<u64> {
        Ok(GeneratorState::decode(&self.state.get(&0, 0)?).sent_packets)
    }

    /// Stops sending and says what was sent.
    ///
    /// # Errors
    /// When the test run failed or packets could not be made.
    pub fn finish(mut self) -> Result<Sent> {
        let ended = now()?;
        self.end()?;
        let state = GeneratorState::decode(&self.state.get(&0, 0)?);
        ensure!(
            state.refused == 0,
            "the generator could not make {} packets",
            state.refused
        );
        let mut sent = Sent {
            seconds: (ended - self.started) as f64 / 1e9,
            ..Sent::default()
        };
        for index in 0..self.config.flows {
            let packets = self.sequences.get(&index, 0)?;
            sent.packets
                .insert((self.config.first_flow + index) as u16, packets);
        }
        Ok(sent)
    }

    fn end(&mut self) -> Result<()> {
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        self.config.deadline_ns = 1;
        self.control.set(0, self.config.encode(), 0)?;
        self.stop.store(true, Ordering::Release);
        while !thread.is_finished() {
            let _ = pthread_kill(self.pthread, Signal::SIGUSR1);
            thread::sleep(Duration::from_millis(5));
        }
        thread
            .join()
            .map_err(|_| anyhow!("the generator panicked"))?
    }
}

impl Drop for LiveGenerator {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            complain(format_args!("the generator failed: {error:#}"));
        }
    }
}

/// The thread that runs the program until told to stop.
fn spawn(
    namespace: &Namespace,
    mut instance: Instance,
    load: &LiveLoad,
    largest: u32,
    stop: &Arc<AtomicBool>,
) -> Result<(JoinHandle<Result<()>>, Pthread)> {
    // A handler that does nothing, so that the signal interrupts the call and not the process.
    signal_hook::flag::register(
        signal_hook::consts::SIGUSR1,
        Arc::new(AtomicBool::new(false)),
    )?;
    let (path, core, background) = (namespace.path(), load.core, load.background);
    let stopped = Arc::clone(stop);
    let (report, ready) = std::sync::mpsc::channel();
    let thread = thread::Builder::new()
        .name("generator".into())
        .spawn(move || {
            report.send(pthread_self()).ok();
            crate::netns::join(&path)?;
            if let Some(core) = core {
                pin(core)?;
            }
            if background {
                rustix::process::nice(19).context("lowering the generator's priority")?;
            }
            let program = instance.xdp()?;
            let data = vec![0; largest as usize];
            while !stopped.load(Ordering::Acquire) {
                let options = TestRunOptions {
                    data_in: Some(&data),
                    repeat: REPEAT,
                    attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
                    ..TestRunOptions::default()
                };
                if let Err(error) = program.test_run(options) {
                    let interrupted = std::error::Error::source(&error)
                        .and_then(|e| e.downcast_ref::<std::io::Error>())
                        .is_some_and(|e| e.raw_os_error() == Some(Errno::EINTR as i32));
                    if !interrupted {
                        return Err(error).context("running the generator on live frames");
                    }
                }
            }
            Ok(())
        })?;
    let pthread = ready
        .recv()
        .context("the generator's thread did not start")?;
    Ok((thread, pthread))
}

/// Pins the calling thread to a core.
///
/// # Errors
/// When there is no such core.
pub fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("pinning to core {core}"))
}

/// An attached sink. Dropping it detaches it.
pub struct LiveSink {
    /// Owns the attachment.
    _instance: Instance,
    flows: Array<MapData, [u64; FLOW_WORDS]>,
    latency: PerCpuArray<MapData, u64>,
    stats: PerCpuArray<MapData, u64>,
    capacity: u32,
}

impl LiveSink {
    /// Attaches it to an interface of the namespace, for flows 0 to `capacity - 1`.
    ///
    /// # Errors
    /// When the kernel refuses, or another program is attached.
    pub fn attach(namespace: &Namespace, interface: &str, capacity: u32) -> Result<Self> {
        let mut instance = namespace.enter(|| {
            let sizes = MapSizes {
                flows: capacity,
                ..MapSizes::default()
            };
            let mut instance = Instance::load("sink", sizes)?;
            instance.attach(interface)?;
            Ok(instance)
        })?;
        Ok(Self {
            flows: instance.array("FLOWS")?,
            latency: instance.per_cpu("LATENCY")?,
            stats: instance.per_cpu("SINK_STATS")?,
            _instance: instance,
            capacity,
        })
    }

    /// Test packets and their bytes so far, over flows `from` to `from + count - 1`.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn received(&self, from: u32, count: u32) -> Result<(u64, u64)> {
        let mut total = (0, 0);
        for flow in from..(from + count).min(self.capacity) {
            let flow = Flow::decode(&self.flows.get(&flow, 0)?);
            total.0 += flow.distinct();
            total.1 += flow.bytes;
        }
        Ok(total)
    }

    /// All test packets so far, cheaper than [`received`](Self::received).
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn packets(&self) -> Result<u64> {
        Ok(self.stats.get(&0, 0)?.iter().sum())
    }

    /// Forgets latencies so far.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn reset_latency(&mut self) -> Result<()> {
        let processors = aya::util::nr_cpus().map_err(|(path, e)| anyhow!("{path}: {e}"))?;
        for bucket in 0..LATENCY_BUCKETS {
            let zeros = aya::maps::PerCpuValues::try_from(vec![0_u64; processors])?;
            self.latency.set(bucket, zeros, 0)?;
        }
        Ok(())
    }

    /// Compares what arrived with what was sent. Call it when nothing is under way any more.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn report(&self, sent: &Sent) -> Result<TrafficReport> {
        let mut flows = Vec::with_capacity(sent.packets.len());
        for (&number, &sent) in &sent.packets {
            ensure!(
                u32::from(number) < self.capacity,
                "flow {number} is beyond the sink's"
            );
            let flow = Flow::decode(&self.flows.get(&number.into(), 0)?);
            flows.push(FlowReport {
                flow: number,
                sent,
                received: flow.received,
                received_bytes: flow.bytes,
                lost: flow.lost_of(sent),
                duplicates: flow.duplicates,
                reordered: flow.reordered,
            });
        }
        let mut histogram = latency_histogram();
        for bucket in 0..LATENCY_BUCKETS {
            let packets: u64 = self.latency.get(&bucket, 0)?.iter().sum();
            if packets > 0 {
                // The middle of the bucket: at most 6 % off.
                let low = bucket_low_ns(bucket);
                let middle = low + bucket_low_ns(bucket + 1).saturating_sub(low) / 2;
                histogram.saturating_record_n(middle.max(1), packets);
            }
        }
        Ok(TrafficReport {
            seconds: sent.seconds,
            flows,
            latency: LatencyReport::of(&histogram),
        })
    }
}
