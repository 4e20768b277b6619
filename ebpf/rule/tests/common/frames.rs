//! Frames from descriptions, and what the description alone says of the verdict.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hawser_steer::{Action, Passed, Taken, Verdict};
use proptest::{collection::vec, option, prelude::*, sample::select};

use super::world::{MAC, V4, V6, VLAN, World};

#[derive(Clone, Debug)]
pub(crate) enum Station {
    Own,
    Broadcast,
    Other,
}

#[derive(Clone, Debug)]
pub(crate) enum Extension {
    HopByHop { words: u8 },
    Destination { words: u8 },
    Routing { words: u8, segments_left: u8 },
}

#[derive(Clone, Debug)]
pub(crate) enum Network {
    V4 {
        destination: [u8; 4],
        option_words: u8,
        fragment: u16,
    },
    V6 {
        destination: [u16; 8],
        extensions: Vec<Extension>,
        fragment: Option<u16>,
    },
    Arp,
}

#[derive(Clone, Debug)]
pub(crate) enum Transport {
    Esp,
    /// Any UDP datagram with this payload.
    Udp {
        port: u16,
        payload: Vec<u8>,
    },
    Other {
        protocol: u8,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub station: Station,
    /// Tag protocol and VLAN number with priority bits.
    pub tags: Vec<(u16, u16)>,
    pub network: Network,
    pub transport: Transport,
}

/// Something done to a finished frame.
#[derive(Clone, Debug)]
pub(crate) enum Damage {
    None,
    Truncate(prop::sample::Index),
    Flip(Vec<(prop::sample::Index, u8)>),
}

impl Frame {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = match self.station {
            Station::Own => MAC.to_vec(),
            Station::Broadcast => vec![0xff; 6],
            Station::Other => vec![2, 0x11, 0x22, 0x33, 0x44, 0x54],
        };
        out.extend([2, 0, 0, 0, 0, 9]);
        for (protocol, tag) in &self.tags {
            out.extend(protocol.to_be_bytes());
            out.extend(tag.to_be_bytes());
        }
        let (protocol, transport) = self.transport_bytes();
        match &self.network {
            Network::V4 {
                destination,
                option_words,
                fragment,
            } => {
                out.extend([8, 0]);
                let header = 20 + usize::from(*option_words) * 4;
                let total = (header + transport.len()) as u16;
                out.extend([0x45 + option_words, 0]);
                out.extend(total.to_be_bytes());
                out.extend([0, 1]);
                out.extend(fragment.to_be_bytes());
                out.extend([64, protocol, 0, 0, 198, 51, 100, 7]);
                out.extend(destination);
                out.extend(vec![1; usize::from(*option_words) * 4]);
            }
            Network::V6 {
                destination,
                extensions,
                fragment,
            } => {
                out.extend([0x86, 0xdd]);
                let mut chain = Vec::new();
                let mut kinds: Vec<u8> = extensions.iter().map(Extension::kind).collect();
                kinds.extend(fragment.map(|_| 44));
                kinds.push(protocol);
                for (extension, next) in extensions.iter().zip(&kinds[1..]) {
                    chain.extend(extension.bytes(*next));
                }
                if let Some(field) = fragment {
                    chain.extend([protocol, 0]);
                    chain.extend(field.to_be_bytes());
                    chain.extend([0, 0, 0, 1]);
                }
                out.extend([0x60, 0, 0, 0]);
                out.extend(((chain.len() + transport.len()) as u16).to_be_bytes());
                out.extend([kinds[0], 64]);
                out.extend(Ipv6Addr::new(0x2001, 0xdb8, 9, 9, 9, 9, 9, 9).octets());
                for group in destination {
                    out.extend(group.to_be_bytes());
                }
                out.extend(chain);
            }
            Network::Arp => out.extend([8, 6]),
        }
        out.extend(transport);
        // Ethernet pads; a keepalive must not be mistaken for something longer.
        if out.len() < 60 {
            out.resize(60, 0);
        }
        out
    }

    fn transport_bytes(&self) -> (u8, Vec<u8>) {
        match &self.transport {
            Transport::Esp => (50, vec![0, 0, 1, 2, 0, 0, 0, 1, 9, 9, 9, 9]),
            Transport::Udp { port, payload } => {
                let mut out = vec![0x11, 0x94];
                out.extend(port.to_be_bytes());
                out.extend((8 + payload.len() as u16).to_be_bytes());
                out.extend([0, 0]);
                out.extend(payload);
                (17, out)
            }
            Transport::Other { protocol } => (*protocol, vec![0xab; 24]),
        }
    }

    /// What must become of the undamaged frame.
    pub(crate) fn expected(&self, world: &World) -> Verdict {
        use Verdict::{Pass, Take};
        if !matches!(self.station, Station::Own) {
            return Pass(Passed::OtherStation);
        }
        if self.tags.len() > 2 {
            return Pass(Passed::NotIp);
        }
        let destination = match &self.network {
            Network::V4 { destination, .. } => IpAddr::V4(Ipv4Addr::from(*destination)),
            Network::V6 { destination, .. } => IpAddr::V6(Ipv6Addr::from(*destination)),
            Network::Arp => return Pass(Passed::NotIp),
        };
        if !world.is_local(destination) {
            let numbers: Vec<u16> = self.tags.iter().map(|(_, tag)| tag & 0xfff).collect();
            if !world.is_inside(&numbers) {
                return Pass(Passed::NoRoute);
            }
            // Named one by one: the interesting addresses are few.
            let is_special = match &self.network {
                Network::V4 { destination, .. } => matches!(
                    destination,
                    [0, 0, 0, 0]
                        | [127, 0, 0, 1]
                        | [169, 254, 10, 1]
                        | [224, 0, 0, 1]
                        | [239, 1, 1, 1]
                        | [255, 255, 255, 255]
                ),
                Network::V6 { destination, .. } => {
                    matches!(
                        destination,
                        [0, 0, 0, 0, 0, 0, 0, 0 | 1] | [0xfe80 | 0xfebf | 0xff02, ..]
                    )
                }
                Network::Arp => false,
            };
            return match world.inside(destination) {
                _ if is_special => Pass(Passed::Special),
                Some(Action::Take) => Take(Taken::Inside),
                Some(Action::Pass) => Pass(Passed::Exception),
                None => Pass(Passed::NoRoute),
            };
        }
        if !world.is_outside() {
            return Pass(Passed::Local);
        }
        let is_fragment = match &self.network {
            Network::V4 { fragment, .. } => fragment & 0x3fff != 0,
            Network::V6 {
                extensions,
                fragment,
                ..
            } => {
                let has_segments = |extension: &Extension| {
                    matches!(
                        extension,
                        Extension::Routing {
                            segments_left: 1..,
                            ..
                        }
                    )
                };
                if extensions.iter().any(has_segments) || extensions.len() > 6 {
                    return Pass(Passed::Extension);
                }
                fragment.is_some()
            }
            Network::Arp => false,
        };
        match &self.transport {
            Transport::Esp if is_fragment => Take(Taken::EspFragment),
            Transport::Esp => Take(Taken::Esp),
            _ if is_fragment => Pass(Passed::Fragment),
            Transport::Udp {
                port: 4500,
                payload,
            } if payload.len() < 8 => Pass(Passed::Keepalive),
            Transport::Udp {
                port: 4500,
                payload,
            } if payload.starts_with(&[0; 4]) => Pass(Passed::Ike),
            Transport::Udp { port: 4500, .. } => Take(Taken::EspInUdp),
            _ => Pass(Passed::Local),
        }
    }
}

impl Extension {
    fn kind(&self) -> u8 {
        match self {
            Self::HopByHop { .. } => 0,
            Self::Destination { .. } => 60,
            Self::Routing { .. } => 43,
        }
    }

    fn bytes(&self, next: u8) -> Vec<u8> {
        let (words, segments_left) = match self {
            Self::HopByHop { words } | Self::Destination { words } => (*words, 0x55),
            Self::Routing {
                words,
                segments_left,
            } => (*words, *segments_left),
        };
        let mut out = vec![0; 8 + 8 * usize::from(words)];
        out[0] = next;
        out[1] = words;
        out[3] = segments_left;
        out
    }
}

impl Damage {
    pub(crate) fn apply(&self, mut frame: Vec<u8>) -> Vec<u8> {
        match self {
            Self::None => {}
            Self::Truncate(at) => frame.truncate(at.index(frame.len() + 1)),
            Self::Flip(flips) => {
                for (at, mask) in flips {
                    let at = at.index(frame.len());
                    frame[at] ^= mask;
                }
            }
        }
        frame
    }
}

fn extension() -> impl Strategy<Value = Extension> {
    prop_oneof![
        (0..3_u8).prop_map(|words| Extension::HopByHop { words }),
        (0..6_u8).prop_map(|words| Extension::Destination { words }),
        (0..3_u8, prop_oneof![4 => Just(0), 1 => 1..4_u8]).prop_map(|(words, segments_left)| {
            Extension::Routing {
                words,
                segments_left,
            }
        }),
    ]
}

fn network() -> impl Strategy<Value = Network> {
    let fragment4 = prop_oneof![
        4 => Just(0_u16), 2 => Just(0x4000), 1 => Just(0x2000), 1 => Just(0x0001), 1 => Just(0x8000),
        1 => any::<u16>(),
    ];
    let fragment6 = option::weighted(0.2, prop_oneof![Just(0), Just(1), Just(8), any::<u16>()]);
    // The first two addresses of each list are our own.
    let v4 = prop_oneof![select(&V4[..2]), select(&V4[..])];
    let v6 = prop_oneof![select(&V6[..2]), select(&V6[..])];
    prop_oneof![
        6 => (v4, prop_oneof![3 => Just(0), 1 => 0..=10_u8], fragment4).prop_map(
            |(destination, option_words, fragment)| {
                Network::V4 { destination, option_words, fragment }
            }
        ),
        6 => (v6, prop_oneof![2 => Just(vec![]), 2 => vec(extension(), 0..8)], fragment6).prop_map(
            |(destination, extensions, fragment)| {
                Network::V6 { destination, extensions, fragment }
            }
        ),
        1 => Just(Network::Arp),
    ]
}

fn transport() -> impl Strategy<Value = Transport> {
    let port = prop_oneof![6 => Just(4500), 1 => Just(500), 1 => any::<u16>()];
    let payload = prop_oneof![
        Just(vec![0xff]),
        vec(any::<u8>(), 0..20),
        vec(any::<u8>(), 8..20),
        vec(any::<u8>(), 4..20).prop_map(|mut bytes| {
            bytes[..4].fill(0);
            bytes
        }),
    ];
    prop_oneof![
        2 => Just(Transport::Esp),
        4 => (port, payload).prop_map(|(port, payload)| Transport::Udp { port, payload }),
        1 => select(vec![1_u8, 6, 51, 58, 59, 89, 135])
            .prop_map(|protocol| Transport::Other { protocol }),
    ]
}

/// Frames as they may be built.
pub(crate) fn frame() -> impl Strategy<Value = Frame> {
    let station = prop_oneof![
        12 => Just(Station::Own), 1 => Just(Station::Broadcast), 1 => Just(Station::Other)
    ];
    let number = prop_oneof![
        Just(VLAN),
        Just(VLAN | 0xe000),
        Just(0xe000),
        Just(101),
        0..4096_u16
    ];
    let tag = (select(vec![0x8100_u16, 0x88a8]), number);
    let tags = prop_oneof![3 => Just(vec![]), 2 => vec(tag, 0..4)];
    (station, tags, network(), transport()).prop_map(|(station, tags, network, transport)| Frame {
        station,
        tags,
        network,
        transport,
    })
}

/// What may happen to a frame.
pub(crate) fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        2 => Just(Damage::None),
        2 => any::<prop::sample::Index>().prop_map(Damage::Truncate),
        2 => vec((any::<prop::sample::Index>(), any::<u8>()), 1..4).prop_map(Damage::Flip),
    ]
}
