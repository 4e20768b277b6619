//! Loading the lab's XDP programs (`perf-lab/program`), each with maps of its own.
//!
//! The object is built by the program's own script and committed, so that building the lab needs no
//! BPF toolchain.

use anyhow::{Context, Result};
use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{Array, HashMap, Map, MapData, PerCpuArray},
    programs::{Xdp, XdpMode},
};

static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/lab.bpf.o"));

/// Maps whose size depends on the use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MapSizes {
    /// Flows the sink counts.
    pub(crate) flows: u32,
    /// Flows the generator makes.
    pub(crate) templates: u32,
    /// Tunnel directions the policer meters.
    pub(crate) meters: u32,
}

impl Default for MapSizes {
    fn default() -> Self {
        Self {
            flows: 1,
            templates: 1,
            meters: 1,
        }
    }
}

/// One instance of the object with one program loaded.
#[derive(Debug)]
pub(crate) struct Instance {
    ebpf: Ebpf,
    program: &'static str,
}

impl Instance {
    /// Loads a program into the kernel.
    pub(crate) fn load(program: &'static str, sizes: MapSizes) -> Result<Self> {
        let mut loader = EbpfLoader::new();
        for (map, entries) in [
            ("FLOWS", sizes.flows),
            ("TEMPLATES", sizes.templates),
            ("SEQUENCES", sizes.templates),
            ("METERS", sizes.meters),
            ("LIMITS", sizes.meters),
        ] {
            loader.map_max_entries(map, entries.max(1));
        }
        let ebpf = loader
            .load(OBJECT)
            .context("loading the lab's XDP object")?;
        let mut instance = Self { ebpf, program };
        instance
            .xdp()?
            .load()
            .with_context(|| format!("the kernel refuses `{program}`"))?;
        Ok(instance)
    }

    /// The program.
    pub(crate) fn xdp(&mut self) -> Result<&mut Xdp> {
        let name = self.program;
        let program = self
            .ebpf
            .program_mut(name)
            .with_context(|| format!("no program `{name}`"))?;
        program
            .try_into()
            .with_context(|| format!("`{name}` is no XDP program"))
    }

    /// Attaches the program to an interface of the calling thread's namespace, in the driver.
    pub(crate) fn attach(&mut self, interface: &str) -> Result<()> {
        self.xdp()?
            .attach(interface, XdpMode::Driver)
            .with_context(|| format!("attaching to {interface}"))?;
        Ok(())
    }

    /// A map by its name.
    pub(crate) fn map(&mut self, name: &str) -> Result<&mut Map> {
        self.ebpf
            .map_mut(name)
            .with_context(|| format!("no map `{name}`"))
    }

    /// Takes a map out of the instance.
    pub(crate) fn take(&mut self, name: &str) -> Result<Map> {
        self.ebpf
            .take_map(name)
            .with_context(|| format!("no map `{name}`"))
    }

    /// Takes an array.
    pub(crate) fn array<V: Pod>(&mut self, name: &str) -> Result<Array<MapData, V>> {
        Ok(Array::try_from(self.take(name)?)?)
    }

    /// Takes an array with a value a processor.
    pub(crate) fn per_cpu(&mut self, name: &str) -> Result<PerCpuArray<MapData, u64>> {
        Ok(PerCpuArray::try_from(self.take(name)?)?)
    }

    /// Takes a hash map.
    pub(crate) fn hash<K: Pod, V: Pod>(&mut self, name: &str) -> Result<HashMap<MapData, K, V>> {
        Ok(HashMap::try_from(self.take(name)?)?)
    }
}
