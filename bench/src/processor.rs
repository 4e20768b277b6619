//! What the processor says of itself.

use std::fs;

/// Its name.
#[must_use]
pub fn name() -> Option<String> {
    field("model name")
}

/// Frequency of the time stamp counter, which on today's processors is the nominal one; `None`
/// where the kernel does not say it.
#[must_use]
pub fn tsc_ghz() -> Option<f64> {
    Some(field("cpu MHz")?.parse::<f64>().ok()? / 1000.0)
}

fn field(name: &str) -> Option<String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = cpuinfo.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_string())
}
