//! A criterion measurement whose iterations are packets: ns, cycles and Gbps are read off directly.

use std::time::{Duration, Instant};

use criterion::{
    Criterion, Throughput,
    measurement::{Measurement, ValueFormatter},
};
use hawser_bench::processor;

/// Wall-clock time of a packet.
pub(crate) struct PerPacket {
    format: Format,
}

struct Format {
    tsc_ghz: Option<f64>,
}

impl Default for PerPacket {
    fn default() -> Self {
        Self {
            format: Format {
                tsc_ghz: processor::tsc_ghz(),
            },
        }
    }
}

impl Measurement for PerPacket {
    type Intermediate = Instant;
    type Value = Duration;

    fn start(&self) -> Instant {
        Instant::now()
    }

    fn end(&self, begun: Instant) -> Duration {
        begun.elapsed()
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        value.as_nanos() as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        &self.format
    }
}

impl ValueFormatter for Format {
    fn format_value(&self, ns: f64) -> String {
        match self.tsc_ghz {
            Some(ghz) => format!("{ns:.1} ns ({:.0} cycles)", ns * ghz),
            None => format!("{ns:.1} ns"),
        }
    }

    fn scale_values(&self, _typical: f64, _values: &mut [f64]) -> &'static str {
        "ns"
    }

    /// Bytes a packet to gigabits a second and core, packets to millions a second.
    fn scale_throughputs(
        &self,
        _typical: f64,
        throughput: &Throughput,
        values: &mut [f64],
    ) -> &'static str {
        let (a_packet, unit) = match *throughput {
            Throughput::Bytes(bytes) | Throughput::BytesDecimal(bytes) => {
                (bytes as f64 * 8.0, "Gbps")
            }
            Throughput::Elements(packets) => (packets as f64 * 1000.0, "Mpps"),
        };
        for value in values {
            *value = a_packet / *value;
        }
        unit
    }

    fn scale_for_machines(&self, _values: &mut [f64]) -> &'static str {
        "ns"
    }
}

/// Criterion as all these benchmarks run: each for `measured`, after a second to get warm.
pub(crate) fn settings(measured: Duration) -> Criterion<PerPacket> {
    Criterion::default()
        .with_measurement(PerPacket::default())
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(measured)
}

/// The time that `iterations` packets take, when `run` runs some number of them at a time and says
/// how long that took.
///
/// # Panics
/// When a run fails: a benchmark of failures measures nothing.
pub(crate) fn time(
    iterations: u64,
    mut run: impl FnMut() -> anyhow::Result<(Duration, usize)>,
) -> Duration {
    let (mut spent, mut count) = (Duration::ZERO, 0_u64);
    while count < iterations {
        match run() {
            Ok((time, packets)) => {
                spent += time;
                count += packets as u64;
            }
            Err(error) => panic!("{error:#}"),
        }
    }
    // Runs are of whole batches, so there were a few more.
    spent.mul_f64(iterations as f64 / count as f64)
}
