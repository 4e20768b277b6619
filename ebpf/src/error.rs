//! What can go wrong, who is to blame and what to do about it.

use std::io;

use aya::{EbpfError, maps::MapError, programs::ProgramError};

/// Why steering could not be set up or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SteeringError {
    /// The kernel refused the maps or the object.
    #[error(
        "cannot create the eBPF maps: {0}; loading needs CAP_BPF and CAP_NET_ADMIN (run as root)"
    )]
    Load(#[source] EbpfError),
    /// The kernel refused the program.
    #[error(
        "the kernel refused the XDP program: {0}; it needs Linux 5.18 or later, CAP_BPF and \
         CAP_NET_ADMIN"
    )]
    Verify(#[source] ProgramError),
    /// The embedded object lacks a map or program: a build error of ours.
    #[error("the embedded eBPF object has no usable {0}: rebuild it with ebpf/build.sh")]
    Object(&'static str),
    /// Another program is attached.
    #[error(
        "interface {ifindex} already has an XDP program; remove it with `ip link set dev ... xdp \
         off`, or stop the program that attached it"
    )]
    Busy {
        /// The interface.
        ifindex: u32,
    },
    /// This process attached the interface before.
    #[error("interface {ifindex} is attached already")]
    AttachedAlready {
        /// The interface.
        ifindex: u32,
    },
    /// There is no such interface in this network namespace.
    #[error("there is no interface {ifindex} in this network namespace")]
    NoInterface {
        /// The interface.
        ifindex: u32,
    },
    /// The interface is not attached.
    #[error("interface {ifindex} is not attached")]
    NotAttached {
        /// The interface.
        ifindex: u32,
    },
    /// Neither native nor generic XDP.
    #[error(
        "interface {ifindex} takes XDP neither in native mode ({native}) nor in generic mode \
         ({generic}); on veth the peer may have more transmit queues than this end has receive \
         queues, on others the MTU may be too large"
    )]
    Attach {
        /// The interface.
        ifindex: u32,
        /// Why native mode failed.
        native: io::Error,
        /// Why generic mode failed.
        generic: io::Error,
    },
    /// The kernel cannot tie an XDP program to a process.
    #[error("this kernel has no BPF links for XDP; Linux 5.9 or later is needed")]
    NoLinks,
    /// A map is full.
    #[error("the {map} table is full ({entries} entries); raise its size")]
    Full {
        /// The map.
        map: &'static str,
        /// How many entries it has.
        entries: u32,
    },
    /// There is no such socket slot.
    #[error("socket slot {slot} is beyond the {slots} slots there are")]
    Slot {
        /// The slot asked for.
        slot: u32,
        /// How many there are.
        slots: u32,
    },
    /// A VLAN number is 0 or above 4094.
    #[error("{0} is no VLAN number; they go from 1 to 4094")]
    Vlan(u16),
    /// Any other refusal of a map operation.
    #[error("cannot change or read the {map} table: {source}")]
    Map {
        /// The map.
        map: &'static str,
        /// What the kernel said.
        source: MapError,
    },
    /// A test run failed.
    #[error("the test run failed: {0}")]
    TestRun(#[source] ProgramError),
}

impl SteeringError {
    pub(crate) fn map(map: &'static str) -> impl Fn(MapError) -> Self {
        move |source| Self::Map { map, source }
    }
}

/// The error number behind a failed map operation.
pub(crate) fn map_errno(error: &MapError) -> Option<i32> {
    match error {
        MapError::SyscallError(error) => error.io_error.raw_os_error(),
        _ => None,
    }
}

/// The system's answer behind a failed program operation.
pub(crate) fn program_io(error: ProgramError) -> io::Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(this) = cause {
        if let Some(code) = this
            .downcast_ref::<io::Error>()
            .and_then(io::Error::raw_os_error)
        {
            return io::Error::from_raw_os_error(code);
        }
        cause = this.source();
    }
    io::Error::other(error)
}
