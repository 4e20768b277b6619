//! What becomes of a frame; every variant is a counter.

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Give it to the data plane.
    Take(Taken),
    /// Leave it to the kernel.
    Pass(Passed),
}

/// Why a frame is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Taken {
    /// ESP to a tunnel's outside address.
    Esp = 0,
    /// ESP in UDP to a tunnel's outside address.
    EspInUdp = 1,
    /// A fragment of ESP, to be counted and dropped.
    EspFragment = 2,
    /// A route sends its destination into a tunnel.
    Inside = 3,
}

/// Why a frame is the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Passed {
    /// Its destination MAC is not the port's own (broadcast and multicast included).
    OtherStation = 4,
    /// Neither IPv4 nor IPv6 behind at most two VLAN tags (ARP, LLDP, ...).
    NotIp = 5,
    /// A header is cut short or contradicts itself.
    Malformed = 6,
    /// An IPv6 extension header chain too long, or a routing header with work left.
    Extension = 7,
    /// For an outside address of ours, but not ESP (SSH, ICMP, IKE on port 500, ...), or not on an
    /// outside port.
    Local = 8,
    /// A fragment for an outside address of ours that is not ESP; it may be IKE.
    Fragment = 9,
    /// IKE on port 4500: the non-ESP marker (RFC 3948, 2.2).
    Ike = 10,
    /// Port 4500 with less than an ESP header: a keepalive (RFC 3948, 2.3).
    Keepalive = 11,
    /// A multicast, broadcast, link-local, loopback or unspecified destination.
    Special = 12,
    /// The inside table makes an exception of its destination.
    Exception = 13,
    /// No tunnel has a route to its destination, or port or VLAN are not inside.
    NoRoute = 14,
    /// Ours, but its receive queue has no socket (yet). Counted besides the frame's own verdict.
    NoSocket = 15,
    /// The interface is not one of ours.
    NoPort = 16,
}

/// Number of verdicts: entries of `STATS`.
pub const VERDICTS: u32 = 17;

impl Verdict {
    /// Position in `STATS`.
    #[must_use]
    #[inline(always)]
    pub const fn index(self) -> u32 {
        match self {
            Self::Take(taken) => taken as u32,
            Self::Pass(passed) => passed as u32,
        }
    }

    /// Whether the data plane gets the frame.
    #[must_use]
    #[inline(always)]
    pub const fn is_take(self) -> bool {
        matches!(self, Self::Take(_))
    }

    /// Every verdict, in the order of `STATS`.
    pub const ALL: [Self; VERDICTS as usize] = [
        Self::Take(Taken::Esp),
        Self::Take(Taken::EspInUdp),
        Self::Take(Taken::EspFragment),
        Self::Take(Taken::Inside),
        Self::Pass(Passed::OtherStation),
        Self::Pass(Passed::NotIp),
        Self::Pass(Passed::Malformed),
        Self::Pass(Passed::Extension),
        Self::Pass(Passed::Local),
        Self::Pass(Passed::Fragment),
        Self::Pass(Passed::Ike),
        Self::Pass(Passed::Keepalive),
        Self::Pass(Passed::Special),
        Self::Pass(Passed::Exception),
        Self::Pass(Passed::NoRoute),
        Self::Pass(Passed::NoSocket),
        Self::Pass(Passed::NoPort),
    ];

    /// Name for status and metrics, `snake_case`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Take(Taken::Esp) => "take_esp",
            Self::Take(Taken::EspInUdp) => "take_esp_in_udp",
            Self::Take(Taken::EspFragment) => "take_esp_fragment",
            Self::Take(Taken::Inside) => "take_inside",
            Self::Pass(Passed::OtherStation) => "pass_other_station",
            Self::Pass(Passed::NotIp) => "pass_not_ip",
            Self::Pass(Passed::Malformed) => "pass_malformed",
            Self::Pass(Passed::Extension) => "pass_extension",
            Self::Pass(Passed::Local) => "pass_local",
            Self::Pass(Passed::Fragment) => "pass_fragment",
            Self::Pass(Passed::Ike) => "pass_ike",
            Self::Pass(Passed::Keepalive) => "pass_keepalive",
            Self::Pass(Passed::Special) => "pass_special",
            Self::Pass(Passed::Exception) => "pass_exception",
            Self::Pass(Passed::NoRoute) => "pass_no_route",
            Self::Pass(Passed::NoSocket) => "pass_no_socket",
            Self::Pass(Passed::NoPort) => "pass_no_port",
        }
    }
}
