//! The loaded program with its maps and links; what is done to its address tables is in `tables`.

mod tables;

use std::{
    collections::{HashMap, HashSet},
    io,
    net::IpAddr,
    os::fd::{AsFd, AsRawFd},
    time::Duration,
};

use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{
        Array, HashMap as BpfHashMap, LpmTrie, Map, MapData, MapError, PerCpuArray, XskMap,
        lpm_trie,
    },
    programs::{TestRun as _, TestRunOptions, Xdp, XdpMode, links::FdLink},
};
use hawser_steer::{
    BLOCK_WORDS, PORT_FRONT_WORDS, PORT_WORDS, Port, Role, VERDICTS, port_entry, port_place,
};

use crate::{
    SteeringError, SteeringStats,
    error::{map_errno, program_io},
    inside::InsideV4,
};

static OBJECT: &[u8] = aya::include_bytes_aligned!("../hawser.bpf.o");

const ENOENT: i32 = 2;
const E2BIG: i32 = 7;
const EBUSY: i32 = 16;
const EEXIST: i32 = 17;
const ENODEV: i32 = 19;
const ENOSPC: i32 = 28;

/// How many entries the kernel's tables may have; fixed when the program is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Ports, default 64.
    pub ports: u32,
    /// Inside VLANs over all ports, default 1024.
    pub vlans: u32,
    /// Outside addresses of ours of each family, default 16,384: enough for 10,000 tunnels with an
    /// address each. Allocated at once, about 3 MiB together.
    pub local: u32,
    /// Inside prefixes: of IPv6, and of IPv4 those longer than /24 and the /24s around them (there
    /// is no limit to shorter ones). Default 1,048,576 + 65,536: room for a million routes and as
    /// many exceptions as there may be addresses of the host. Allocated as used.
    pub inside: u32,
    /// Sockets, default 256. Each port needs as many as it has receive queues.
    pub slots: u32,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            ports: 64,
            vlans: 1024,
            local: 16_384,
            inside: (1 << 20) + (1 << 16),
            slots: 256,
        }
    }
}

/// Entries of the tables that grow with the configuration, to be compared with [`Sizes`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// Inside VLANs over all ports.
    pub vlans: u32,
    /// Outside addresses of ours.
    pub local_v4: u32,
    /// The same of IPv6.
    pub local_v6: u32,
    /// Inside prefixes longer than /24, and the /24s around them.
    pub inside_v4: u32,
    /// Inside prefixes of IPv6.
    pub inside_v6: u32,
}

impl Sizes {
    /// Whether so many entries have room.
    ///
    /// # Errors
    /// The first table that would be too small, as [`SteeringError::Full`].
    pub fn hold(&self, entries: &Entries) -> Result<(), SteeringError> {
        // A trie that is full refuses to change an entry it has (Linux before 6.13), so one place
        // is kept free there.
        let inside = self.inside.saturating_sub(1);
        let tables = [
            ("VLANS", entries.vlans, self.vlans),
            ("LOCAL_V4", entries.local_v4, self.local),
            ("LOCAL_V6", entries.local_v6, self.local),
            ("INSIDE_V4", entries.inside_v4, inside),
            ("INSIDE_V6", entries.inside_v6, inside),
        ];
        match tables.into_iter().find(|(_, wanted, size)| wanted > size) {
            Some((map, _, entries)) => Err(SteeringError::Full { map, entries }),
            None => Ok(()),
        }
    }
}

/// An interface to attach to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortConfig {
    /// Its index in the caller's network namespace.
    pub ifindex: u32,
    /// Its MAC address; frames to any other destination are the kernel's.
    pub mac: [u8; 6],
    /// What it faces.
    pub role: Role,
    /// Receive queue `q` is served by the socket in slot `base_slot + q`.
    pub base_slot: u32,
}

impl PortConfig {
    fn record(&self) -> Port {
        Port::new(self.role, self.base_slot, self.mac)
    }
}

/// How a program was attached.
#[derive(Debug)]
pub enum Attached {
    /// In the driver.
    Native,
    /// In the kernel's generic hook, which is slower: each packet was made an `sk_buff` first.
    Generic {
        /// Why the driver did not take it.
        native: io::Error,
    },
}

/// The outcome of [`Steering::test_run`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TestRun {
    /// The XDP action: 2 is pass, 4 is redirect.
    pub action: u32,
    /// Mean time of a run, with the kernel's resolution of a nanosecond.
    pub duration: Duration,
}

/// The XDP program, loaded, with its maps; attached where [`attach`](Self::attach) said.
///
/// Dropping it detaches everything.
pub struct Steering {
    ebpf: Ebpf,
    links: HashMap<u32, FdLink>,
    ports: BpfHashMap<MapData, u32, [u32; PORT_WORDS]>,
    port_front: Array<MapData, [u32; PORT_FRONT_WORDS]>,
    vlans: BpfHashMap<MapData, [u32; 2], u32>,
    local_v4: BpfHashMap<MapData, [u8; 4], u32>,
    local_v6: BpfHashMap<MapData, [u8; 16], u32>,
    local: HashSet<IpAddr>,
    local_front: Array<MapData, u64>,
    table_v4: InsideV4,
    coarse_v4: Array<MapData, [u64; BLOCK_WORDS]>,
    fine_v4: Array<MapData, [u64; BLOCK_WORDS]>,
    inside_v4: LpmTrie<MapData, [u8; 4], u32>,
    inside_v6: LpmTrie<MapData, [u8; 16], u32>,
    sockets: XskMap<MapData>,
    counters: PerCpuArray<MapData, u64>,
    sizes: Sizes,
}

impl Steering {
    /// Creates the maps and has the kernel verify the program. Attaches nothing.
    ///
    /// # Errors
    /// Privilege is missing or the kernel is too old.
    pub fn load(sizes: &Sizes) -> Result<Self, SteeringError> {
        let mut ebpf = EbpfLoader::new()
            .map_max_entries("PORTS", sizes.ports)
            .map_max_entries("VLANS", sizes.vlans)
            .map_max_entries("LOCAL_V4", sizes.local)
            .map_max_entries("LOCAL_V6", sizes.local)
            .map_max_entries("INSIDE_V4", sizes.inside)
            .map_max_entries("INSIDE_V6", sizes.inside)
            .map_max_entries("XSKS", sizes.slots)
            .load(OBJECT)
            .map_err(SteeringError::Load)?;
        program(&mut ebpf)?.load().map_err(SteeringError::Verify)?;
        Ok(Self {
            ports: take(&mut ebpf, "PORTS")?,
            port_front: take(&mut ebpf, "PORT_FRONT")?,
            vlans: take(&mut ebpf, "VLANS")?,
            local_v4: take(&mut ebpf, "LOCAL_V4")?,
            local_v6: take(&mut ebpf, "LOCAL_V6")?,
            table_v4: InsideV4::new(),
            coarse_v4: take(&mut ebpf, "COARSE_V4")?,
            fine_v4: take(&mut ebpf, "FINE_V4")?,
            inside_v4: take(&mut ebpf, "INSIDE_V4")?,
            inside_v6: take(&mut ebpf, "INSIDE_V6")?,
            sockets: take(&mut ebpf, "XSKS")?,
            counters: take(&mut ebpf, "STATS")?,
            local_front: take(&mut ebpf, "LOCAL_FRONT")?,
            ebpf,
            links: HashMap::new(),
            local: HashSet::new(),
            sizes: *sizes,
        })
    }

    /// How many entries the tables may have.
    #[must_use]
    pub fn sizes(&self) -> &Sizes {
        &self.sizes
    }

    /// Attaches the program to an interface of this thread's network namespace: in the driver, or
    /// if that refuses, in the generic hook.
    ///
    /// # Errors
    /// The interface is missing, has another XDP program or takes none at all.
    pub fn attach(&mut self, port: &PortConfig) -> Result<Attached, SteeringError> {
        let ifindex = port.ifindex;
        if self.links.contains_key(&ifindex) {
            return Err(SteeringError::AttachedAlready { ifindex });
        }
        self.put_port(port)?;
        let attached = self.link(ifindex);
        if attached.is_err() {
            // The attachment's own error says more than one from cleaning up behind it.
            let _ = self.forget_port(ifindex);
        }
        attached
    }

    fn link(&mut self, ifindex: u32) -> Result<Attached, SteeringError> {
        let native = match self.link_in(ifindex, XdpMode::Driver)? {
            Ok(()) => return Ok(Attached::Native),
            Err(error) => error,
        };
        match native.raw_os_error() {
            Some(EBUSY | EEXIST) => return Err(SteeringError::Busy { ifindex }),
            Some(ENODEV) => return Err(SteeringError::NoInterface { ifindex }),
            _ => {}
        }
        match self.link_in(ifindex, XdpMode::Skb)? {
            Ok(()) => Ok(Attached::Generic { native }),
            Err(generic) => Err(SteeringError::Attach {
                ifindex,
                native,
                generic,
            }),
        }
    }

    fn link_in(
        &mut self,
        ifindex: u32,
        mode: XdpMode,
    ) -> Result<Result<(), io::Error>, SteeringError> {
        let program = program(&mut self.ebpf)?;
        let id = match program.attach_to_if_index(ifindex, mode) {
            Ok(id) => id,
            Err(error) => return Ok(Err(program_io(error))),
        };
        let link = program.take_link(id).map_err(SteeringError::Verify)?;
        // Without BPF links aya attaches by netlink, which would outlive this process.
        let link = FdLink::try_from(link).map_err(|_| SteeringError::NoLinks)?;
        self.links.insert(ifindex, link);
        Ok(Ok(()))
    }

    /// Detaches the program from an interface and forgets its VLANs.
    ///
    /// # Errors
    /// The interface is not attached, or a table cannot be changed.
    pub fn detach(&mut self, ifindex: u32) -> Result<(), SteeringError> {
        let link = self
            .links
            .remove(&ifindex)
            .ok_or(SteeringError::NotAttached { ifindex })?;
        // Closing the link detaches.
        drop(link);
        let vlans: Vec<[u32; 2]> = self
            .vlans
            .keys()
            .filter(|key| key.as_ref().map_or(true, |key| key[0] == ifindex))
            .collect::<Result<_, _>>()
            .map_err(SteeringError::map("VLANS"))?;
        for key in vlans {
            self.vlans
                .remove(&key)
                .map_err(SteeringError::map("VLANS"))?;
        }
        self.forget_port(ifindex)
    }

    fn forget_port(&mut self, ifindex: u32) -> Result<(), SteeringError> {
        let place = port_place(ifindex);
        let [owner, ..] = self
            .port_front
            .get(&place, 0)
            .map_err(SteeringError::map("PORT_FRONT"))?;
        if owner == ifindex {
            self.port_front
                .set(place, [0; PORT_FRONT_WORDS], 0)
                .map_err(SteeringError::map("PORT_FRONT"))?;
        }
        absent_is_fine(self.ports.remove(&ifindex), "PORTS")
    }

    /// Writes a port's record: a new MAC address, role or slot of an attached interface, or (for
    /// test runs) an interface that is not attached.
    ///
    /// # Errors
    /// The slot is out of range or the table is full.
    pub fn put_port(&mut self, port: &PortConfig) -> Result<(), SteeringError> {
        self.check_slot(port.base_slot)?;
        let record = port.record();
        let result = self.ports.insert(port.ifindex, record.encode(), 0);
        self.fitted(result, "PORTS", self.sizes.ports)?;
        // Whoever comes first has the place; the other is found in the map.
        let place = port_place(port.ifindex);
        let [owner, ..] = self
            .port_front
            .get(&place, 0)
            .map_err(SteeringError::map("PORT_FRONT"))?;
        if owner == 0 || owner == port.ifindex {
            self.port_front
                .set(place, port_entry(port.ifindex, &record), 0)
                .map_err(SteeringError::map("PORT_FRONT"))?;
        }
        Ok(())
    }

    /// Says whether inside traffic tagged with this VLAN number is ours on a port.
    ///
    /// # Errors
    /// The number is out of range or the table is full.
    pub fn set_inside_vlan(
        &mut self,
        ifindex: u32,
        number: u16,
        is_ours: bool,
    ) -> Result<(), SteeringError> {
        if !(1..=4094).contains(&number) {
            return Err(SteeringError::Vlan(number));
        }
        let key = [ifindex, u32::from(number)];
        if is_ours {
            let result = self.vlans.insert(key, 1, 0);
            self.fitted(result, "VLANS", self.sizes.vlans)
        } else {
            absent_is_fine(self.vlans.remove(&key), "VLANS")
        }
    }

    /// Gives the frames of a receive queue to an AF_XDP socket: of the port whose slots begin at
    /// `base_slot`, the queue `slot - base_slot`. The kernel empties the slot when the socket is
    /// closed.
    ///
    /// # Errors
    /// The slot is out of range, or the file is no AF_XDP socket with a receive ring.
    pub fn register_socket(&mut self, slot: u32, socket: impl AsFd) -> Result<(), SteeringError> {
        self.check_slot(slot)?;
        let fd = socket.as_fd().as_raw_fd();
        self.sockets
            .set(slot, fd, 0)
            .map_err(SteeringError::map("XSKS"))
    }

    /// Empties a slot: frames of its queue go to the kernel.
    ///
    /// # Errors
    /// The slot is out of range.
    pub fn unregister_socket(&mut self, slot: u32) -> Result<(), SteeringError> {
        self.check_slot(slot)?;
        absent_is_fine(self.sockets.unset(slot), "XSKS")
    }

    /// The program's counters.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn stats(&self) -> Result<SteeringStats, SteeringError> {
        let mut sums = [0_u64; VERDICTS as usize];
        for (index, sum) in (0..).zip(&mut sums) {
            let values = self
                .counters
                .get(&index, 0)
                .map_err(SteeringError::map("STATS"))?;
            *sum = values.iter().sum();
        }
        Ok(SteeringStats::from_counters(sums))
    }

    /// Runs the program on a frame without any interface: for tests and measurements. The frame
    /// arrives at queue 0 of the namespace's loopback interface, whose index is 1.
    ///
    /// # Errors
    /// The kernel refused, for one because the frame is shorter than an Ethernet header.
    pub fn test_run(&mut self, frame: &[u8], repeat: u32) -> Result<TestRun, SteeringError> {
        let options = TestRunOptions {
            data_in: Some(frame),
            repeat,
            ..TestRunOptions::default()
        };
        let result = program(&mut self.ebpf)?
            .test_run(options)
            .map_err(SteeringError::TestRun)?;
        Ok(TestRun {
            action: result.return_value,
            duration: result.duration,
        })
    }

    fn check_slot(&self, slot: u32) -> Result<(), SteeringError> {
        let slots = self.sizes.slots;
        if slot < slots {
            Ok(())
        } else {
            Err(SteeringError::Slot { slot, slots })
        }
    }

    /// Tells a full table from other errors.
    fn fitted(
        &self,
        result: Result<(), MapError>,
        map: &'static str,
        entries: u32,
    ) -> Result<(), SteeringError> {
        result.map_err(|error| match map_errno(&error) {
            Some(E2BIG | ENOSPC) => SteeringError::Full { map, entries },
            _ => SteeringError::Map { map, source: error },
        })
    }
}

impl std::fmt::Debug for Steering {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Steering")
            .field("ports", &self.links.keys())
            .field("local", &self.local)
            .field("inside_v4", &self.table_v4.len())
            .field("sizes", &self.sizes)
            .finish_non_exhaustive()
    }
}

fn program(ebpf: &mut Ebpf) -> Result<&mut Xdp, SteeringError> {
    ebpf.program_mut("hawser")
        .and_then(|program| program.try_into().ok())
        .ok_or(SteeringError::Object("program"))
}

fn take<M: TryFrom<Map>>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, SteeringError> {
    ebpf.take_map(name)
        .and_then(|map| M::try_from(map).ok())
        .ok_or(SteeringError::Object(name))
}

fn trie_key<A: Pod>(length: u8, address: A) -> lpm_trie::Key<A> {
    lpm_trie::Key::new(u32::from(length), address)
}

fn absent_is_fine(result: Result<(), MapError>, map: &'static str) -> Result<(), SteeringError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(error) if map_errno(&error) == Some(ENOENT) => Ok(()),
        other => other.map_err(SteeringError::map(map)),
    }
}
