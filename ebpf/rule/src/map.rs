//! Keys and values of the maps: plain integers, so that no side needs `unsafe` to read them.
//!
//! | map | key | value |
//! |---|---|---|
//! | `PORTS` (hash) | ifindex `u32` | `[u32; 4]`, [`Port::encode`] |
//! | `PORT_FRONT` (array) | [`port_place`](crate::port_place) | `[u32; 5]`, [`port_entry`](crate::port_entry) |
//! | `VLANS` (hash) | ifindex, VLAN number: `[u32; 2]` | `u32`, always 1: inside traffic is ours |
//! | `LOCAL_V4`, `LOCAL_V6` (hash) | address, `[u8; 4]`, `[u8; 16]`, network order | `u32`, always 1 |
//! | `LOCAL_FRONT` (array) | [`local_place`](crate::local_place) | `u64`, [`local_entry_with`](crate::local_entry_with) |
//! | `COARSE_V4`, `FINE_V4` (array) | first octet, first two octets: `u32` | `[u64; 8]`, [`Block`](crate::Block) |
//! | `INSIDE_V4`, `INSIDE_V6` (LPM trie) | prefix length, address in network order | `u32`, [`Action`] |
//! | `XSKS` (XSKMAP) | [`Port::base_slot`] + receive queue | socket |
//! | `STATS` (per-CPU array) | [`Verdict::index`](crate::Verdict::index) | `u64` packets |

/// Words in an encoded [`Port`].
pub const PORT_WORDS: usize = 4;

/// What a port faces with its untagged frames. Any port may have inside VLANs besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The peers: ESP arrives here, tagged or not.
    Outside,
    /// The site: traffic to be sent into tunnels arrives here.
    Inside,
    /// Both on one interface.
    Both,
    /// Nothing but its inside VLANs.
    Trunk,
}

impl Role {
    const OUTSIDE: u32 = 1;
    const INSIDE: u32 = 2;

    const fn bits(self) -> u32 {
        match self {
            Self::Outside => Self::OUTSIDE,
            Self::Inside => Self::INSIDE,
            Self::Both => Self::OUTSIDE | Self::INSIDE,
            Self::Trunk => 0,
        }
    }
}

/// A port as the rule sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    role: u32,
    base_slot: u32,
    mac: [u16; 3],
}

impl Port {
    /// A port with its own MAC address; its receive queue `q` uses slot `base_slot + q`.
    #[must_use]
    pub const fn new(role: Role, base_slot: u32, mac: [u8; 6]) -> Self {
        Self {
            role: role.bits(),
            base_slot,
            mac: [
                u16::from_be_bytes([mac[0], mac[1]]),
                u16::from_be_bytes([mac[2], mac[3]]),
                u16::from_be_bytes([mac[4], mac[5]]),
            ],
        }
    }

    /// The value of `PORTS`.
    #[must_use]
    pub const fn encode(&self) -> [u32; PORT_WORDS] {
        [
            self.role,
            self.base_slot,
            (self.mac[0] as u32) << 16 | self.mac[1] as u32,
            self.mac[2] as u32,
        ]
    }

    /// The reverse of [`encode`](Self::encode).
    #[must_use]
    #[inline(always)]
    pub const fn decode(words: &[u32; PORT_WORDS]) -> Self {
        Self {
            role: words[0],
            base_slot: words[1],
            mac: [(words[2] >> 16) as u16, words[2] as u16, words[3] as u16],
        }
    }

    /// Slot of receive queue 0 in `XSKS`.
    #[must_use]
    #[inline(always)]
    pub const fn base_slot(&self) -> u32 {
        self.base_slot
    }

    /// Whether ESP is taken here.
    #[must_use]
    #[inline(always)]
    pub const fn is_outside(&self) -> bool {
        self.role & Role::OUTSIDE != 0
    }

    /// Whether untagged traffic for tunnels is taken here.
    #[must_use]
    #[inline(always)]
    pub const fn is_inside(&self) -> bool {
        self.role & Role::INSIDE != 0
    }

    /// Whether a frame with this destination (three 16-bit words) is addressed to the port.
    #[must_use]
    #[inline(always)]
    pub(crate) const fn is_station(&self, mac: [u16; 3]) -> bool {
        (self.mac[0] ^ mac[0]) | (self.mac[1] ^ mac[1]) | (self.mac[2] ^ mac[2]) == 0
    }
}

/// What the inside table says of a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Action {
    /// Exception inside a larger prefix: leave it to the kernel.
    Pass = 0,
    /// A route sends it into a tunnel.
    Take = 1,
}

impl Action {
    /// The value of `INSIDE_V4` and `INSIDE_V6`.
    #[must_use]
    pub const fn encode(self) -> u32 {
        self as u32
    }

    /// The reverse of [`encode`](Self::encode); unknown values pass.
    #[must_use]
    #[inline(always)]
    pub const fn decode(value: u32) -> Self {
        if value == Self::Take as u32 {
            Self::Take
        } else {
            Self::Pass
        }
    }
}
