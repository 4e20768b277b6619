//! The rule once more, written from the RFCs and not from the rule: it eats a frame from the front,
//! layer by layer, and only then asks whose it is.

use std::net::IpAddr;

use hawser_steer::{Action, Passed, REACH, Taken, Verdict};

use super::world::{MAC, World};

/// What is left of a frame, and how much was eaten.
struct Rest<'a> {
    bytes: &'a [u8],
    eaten: usize,
}

impl<'a> Rest<'a> {
    fn eat(&mut self, n: usize) -> Option<&'a [u8]> {
        if self.eaten > REACH || n > self.bytes.len() {
            return None;
        }
        let (head, tail) = self.bytes.split_at(n);
        self.bytes = tail;
        self.eaten += n;
        Some(head)
    }

    fn eat_u16(&mut self) -> Option<u16> {
        self.eat(2).map(|b| u16::from(b[0]) * 256 + u16::from(b[1]))
    }

    /// Skips without looking: what is skipped may be missing, and what follows is then missing too.
    fn skip(&mut self, n: usize) {
        self.bytes = self.bytes.get(n..).unwrap_or(&[]);
        self.eaten += n;
    }
}

enum Outcome {
    Verdict(Verdict),
    Truncated,
}

/// What must become of these bytes.
pub(crate) fn verdict(world: &World, frame: &[u8]) -> Verdict {
    match layers(
        world,
        &mut Rest {
            bytes: frame,
            eaten: 0,
        },
    ) {
        Outcome::Verdict(verdict) => verdict,
        Outcome::Truncated => Verdict::Pass(Passed::Malformed),
    }
}

fn pass(reason: Passed) -> Outcome {
    Outcome::Verdict(Verdict::Pass(reason))
}

fn take(reason: Taken) -> Outcome {
    Outcome::Verdict(Verdict::Take(reason))
}

fn layers(world: &World, rest: &mut Rest<'_>) -> Outcome {
    match rest.eat(6) {
        None => return Outcome::Truncated,
        Some(mac) if mac != MAC => return pass(Passed::OtherStation),
        Some(_) => {}
    }
    let Some(_source) = rest.eat(6) else {
        return Outcome::Truncated;
    };
    let Some(mut kind) = rest.eat_u16() else {
        return Outcome::Truncated;
    };
    let mut tags = Vec::new();
    while [0x8100, 0x88a8].contains(&kind) && tags.len() < 2 {
        let Some(tag) = rest.eat_u16() else {
            return Outcome::Truncated;
        };
        let Some(following) = rest.eat_u16() else {
            return Outcome::Truncated;
        };
        tags.push(tag % 4096);
        kind = following;
    }
    match kind {
        0x0800 => layer_v4(world, &tags, rest),
        0x86dd => layer_v6(world, &tags, rest),
        _ => pass(Passed::NotIp),
    }
}

fn layer_v4(world: &World, tags: &[u16], rest: &mut Rest<'_>) -> Outcome {
    let Some(header) = rest.eat(20) else {
        return Outcome::Truncated;
    };
    let (version, words) = (header[0] / 16, usize::from(header[0] % 16));
    if version != 4 {
        return pass(Passed::Malformed);
    }
    // Less than five words make no header; it is taken for one of five.
    rest.skip(words.saturating_sub(5) * 4);
    let destination = IpAddr::from([header[16], header[17], header[18], header[19]]);
    let more_fragments = header[6] & 0x20 != 0;
    let offset = u16::from(header[6] & 0x1f) * 256 + u16::from(header[7]);
    if let Some(outcome) = forwarded(world, tags, destination) {
        return outcome;
    }
    transport(header[9], more_fragments || offset > 0, rest)
}

fn layer_v6(world: &World, tags: &[u16], rest: &mut Rest<'_>) -> Outcome {
    let Some(header) = rest.eat(40) else {
        return Outcome::Truncated;
    };
    if header[0] / 16 != 6 {
        return pass(Passed::Malformed);
    }
    let destination: [u8; 16] = header[24..].try_into().expect("16 bytes");
    if let Some(outcome) = forwarded(world, tags, IpAddr::from(destination)) {
        return outcome;
    }
    let mut protocol = header[6];
    let mut extensions = 0;
    loop {
        match protocol {
            0 | 43 | 60 => {
                extensions += 1;
                let Some(head) = rest.eat(2) else {
                    return Outcome::Truncated;
                };
                // A routing header is read up to its segment count, before its length counts.
                if protocol == 43 {
                    let mut peek = Rest {
                        bytes: rest.bytes,
                        eaten: rest.eaten,
                    };
                    let Some(routing) = peek.eat(2) else {
                        return Outcome::Truncated;
                    };
                    if routing[1] > 0 {
                        return pass(Passed::Extension);
                    }
                }
                if extensions > 6 {
                    return pass(Passed::Extension);
                }
                protocol = head[0];
                rest.skip(6 + 8 * usize::from(head[1]));
            }
            44 => {
                let Some(head) = rest.eat(2) else {
                    return Outcome::Truncated;
                };
                return transport(head[0], true, rest);
            }
            other => return transport(other, false, rest),
        }
    }
}

/// The verdict for a packet that is not to be looked at further, being not for us.
fn forwarded(world: &World, tags: &[u16], destination: IpAddr) -> Option<Outcome> {
    if world.is_local(destination) {
        return (!world.is_outside()).then(|| pass(Passed::Local));
    }
    if !world.is_inside(tags) {
        return Some(pass(Passed::NoRoute));
    }
    let special = match destination {
        IpAddr::V4(v4) => {
            v4.is_multicast()
                || v4.is_broadcast()
                || v4.is_link_local()
                || v4.is_loopback()
                || v4.octets()[0] == 0
        }
        IpAddr::V6(v6) => {
            v6.is_multicast()
                || v6.is_unicast_link_local()
                || v6.is_loopback()
                || v6.is_unspecified()
        }
    };
    Some(match world.inside(destination) {
        _ if special => pass(Passed::Special),
        Some(Action::Take) => take(Taken::Inside),
        Some(Action::Pass) => pass(Passed::Exception),
        None => pass(Passed::NoRoute),
    })
}

fn transport(protocol: u8, fragment: bool, rest: &mut Rest<'_>) -> Outcome {
    match (protocol, fragment) {
        (50, true) => return take(Taken::EspFragment),
        (50, false) => return take(Taken::Esp),
        (_, true) => return pass(Passed::Fragment),
        (17, false) => {}
        _ => return pass(Passed::Local),
    }
    let mut peek = Rest {
        bytes: rest.bytes,
        eaten: rest.eaten,
    };
    peek.skip(2);
    match peek.eat_u16() {
        None => return Outcome::Truncated,
        Some(4500) => {}
        Some(_) => return pass(Passed::Local),
    }
    match peek.eat_u16() {
        None => return Outcome::Truncated,
        Some(length) if length < 16 => return pass(Passed::Keepalive),
        Some(_) => {}
    }
    peek.skip(2);
    match peek.eat(4) {
        None => Outcome::Truncated,
        Some([0, 0, 0, 0]) => pass(Passed::Ike),
        Some(_) => take(Taken::EspInUdp),
    }
}
