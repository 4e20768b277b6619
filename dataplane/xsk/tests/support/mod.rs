//! A network of one veth pair in a namespace of its own, and an XDP program that redirects each
//! receive queue to its AF_XDP socket, assembled by hand so that tests need no BPF tool chain.
#![allow(dead_code)]

use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::process::Command;
use std::time::Duration;

use hawser_xsk::Interface;

/// Two ends of a veth pair, `a` and `b`, both in the network namespace of the calling thread.
pub(crate) struct Pair {
    pub(crate) a: Interface,
    pub(crate) b: Interface,
}

/// Moves the calling thread to a fresh network namespace, which ends with the thread, and makes a
/// veth pair there. None, having said why, where that is not possible.
pub(crate) fn pair(queues: u32, mtu: u32) -> Option<Pair> {
    if !enter_namespace() {
        return None;
    }
    Some(add_pair(queues, mtu))
}

/// A fresh network namespace for this thread.
pub(crate) fn enter_namespace() -> bool {
    // SAFETY: no memory is involved; only the calling thread changes its namespace.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        skip(&format!(
            "a network namespace needs root: {}",
            io::Error::last_os_error()
        ));
        return false;
    }
    if let Err(error) = Command::new("ip").arg("-V").output() {
        skip(&format!("`ip` of iproute2 is needed: {error}"));
        return false;
    }
    // Otherwise neighbour discovery mixes with the test's packets.
    for name in ["all", "default"] {
        let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1");
    }
    true
}

/// Past the test harness, which would keep the output of a test that passes to itself.
fn skip(reason: &str) {
    let test = std::thread::current().name().unwrap_or("test").to_owned();
    let _ = writeln!(io::stderr(), "{test} skipped: {reason}");
}

/// A veth pair `a`, `b`, both ends up.
pub(crate) fn add_pair(queues: u32, mtu: u32) -> Pair {
    ip(&format!(
        "link add name a numtxqueues {queues} numrxqueues {queues} mtu {mtu} type veth \
         peer name b numtxqueues {queues} numrxqueues {queues} mtu {mtu}"
    ));
    ip("link set dev a up");
    ip("link set dev b up");
    Pair {
        a: Interface::named("a").unwrap(),
        b: Interface::named("b").unwrap(),
    }
}

/// Runs `ip` in the thread's namespace.
pub(crate) fn ip(arguments: &str) {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "ip {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The redirecting program on one interface; gone when dropped.
pub(crate) struct Redirect {
    map: OwnedFd,
    _program: OwnedFd,
    _link: OwnedFd,
}

impl Redirect {
    /// Attaches it. `fragments` for packets of several buffers.
    pub(crate) fn attach(interface: Interface, fragments: bool) -> Redirect {
        let map = bpf(
            BPF_MAP_CREATE,
            &MapCreate {
                kind: BPF_MAP_TYPE_XSKMAP,
                key_size: 4,
                value_size: 4,
                entries: 64,
                flags: 0,
            },
        )
        .expect("XSKMAP");
        let instructions = [
            // r2 = context->rx_queue_index
            instruction(0x61, 2, 1, 16, 0),
            // r1 = the map, as a wide load of a pseudo map descriptor
            instruction(0x18, 1, 1, 0, map.as_raw_fd()),
            instruction(0, 0, 0, 0, 0),
            // r3 = XDP_PASS, the verdict without a socket
            instruction(0xb7, 3, 0, 0, 2),
            // return bpf_redirect_map(r1, r2, r3)
            instruction(0x85, 0, 0, 0, 51),
            instruction(0x95, 0, 0, 0, 0),
        ];
        let mut log = vec![0u8; 4096];
        let program = bpf(
            BPF_PROG_LOAD,
            &ProgLoad {
                kind: BPF_PROG_TYPE_XDP,
                instruction_count: instructions.len() as u32,
                instructions: instructions.as_ptr() as u64,
                license: c"MIT".as_ptr() as u64,
                log_level: 1,
                log_size: log.len() as u32,
                log: log.as_mut_ptr() as u64,
                kernel_version: 0,
                flags: if fragments { BPF_F_XDP_HAS_FRAGS } else { 0 },
                name: [0; 16],
                interface: 0,
                attach_type: BPF_XDP,
            },
        );
        let program = program
            .unwrap_or_else(|error| panic!("program: {error}: {}", String::from_utf8_lossy(&log)));
        let link = bpf(
            BPF_LINK_CREATE,
            &LinkCreate {
                program: program.as_raw_fd() as u32,
                interface: interface.index(),
                attach_type: BPF_XDP,
                flags: XDP_FLAGS_DRV_MODE,
            },
        )
        .expect("attach in native mode");
        Redirect {
            map,
            _program: program,
            _link: link,
        }
    }

    /// From now on packets of that receive queue go to the socket.
    pub(crate) fn insert(&self, queue: u32, socket: BorrowedFd<'_>) {
        let value = socket.as_raw_fd();
        let attribute = MapElement {
            map: self.map.as_raw_fd() as u32,
            padding: 0,
            key: (&raw const queue) as u64,
            value: (&raw const value) as u64,
            flags: 0,
        };
        // SAFETY: the map's key and value are four bytes each and live through the call.
        let result = unsafe { bpf_call(BPF_MAP_UPDATE_ELEM, &attribute) };
        assert_eq!(result, 0, "XSKMAP entry: {}", io::Error::last_os_error());
    }
}

// linux/bpf.h and linux/if_link.h
const BPF_MAP_CREATE: i32 = 0;
const BPF_MAP_UPDATE_ELEM: i32 = 2;
const BPF_PROG_LOAD: i32 = 5;
const BPF_LINK_CREATE: i32 = 28;
const BPF_MAP_TYPE_XSKMAP: u32 = 17;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

#[repr(C)]
struct MapCreate {
    kind: u32,
    key_size: u32,
    value_size: u32,
    entries: u32,
    flags: u32,
}

#[repr(C)]
struct MapElement {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct ProgLoad {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
}

#[repr(C)]
struct LinkCreate {
    program: u32,
    interface: u32,
    attach_type: u32,
    flags: u32,
}

/// `struct bpf_insn`.
fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> u64 {
    u64::from(code)
        | u64::from(from << 4 | to) << 8
        | u64::from(offset as u16) << 16
        | u64::from(immediate as u32) << 32
}

/// A `bpf` call that makes a descriptor.
fn bpf<T>(command: i32, attribute: &T) -> io::Result<OwnedFd> {
    // SAFETY: all addresses in our attributes are of values that live through the call.
    let fd = unsafe { bpf_call(command, attribute) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a fresh descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// # Safety
/// The addresses in the attribute must be valid for what the command does with them.
unsafe fn bpf_call<T>(command: i32, attribute: &T) -> i64 {
    // SAFETY: the attribute is passed with its size; the rest is the caller's promise.
    unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            attribute as *const T,
            size_of::<T>(),
        )
    }
}

/// Keeps the calling thread on one core.
pub(crate) fn pin(cpu: usize) {
    // SAFETY: a plain bit set, for which zeroes are a value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `CPU_SET` checks the number against the set's size.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the set is passed with its size; 0 is the calling thread.
    let result = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) };
    assert_eq!(result, 0, "core {cpu}: {}", io::Error::last_os_error());
}

/// Time that the calling thread has run, to which other programs on the machine do not add.
pub(crate) fn thread_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel fills the structure.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(result, 0, "the clock of a thread");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
