//! Rekeying and deleting, one side or both at once, with messages lost, doubled and late: RFC 7296,
//! sections 2.8.1, 2.8.2 and 2.25.
//!
//! A case is a script of what the two sides begin and of which messages arrive:
//!
//! | Word | What |
//! |---|---|
//! | `ra` `rb` | A or B begins to rekey the child SA |
//! | `ia` `ib` | A or B begins to rekey the IKE SA |
//! | `da` `db` | A or B begins to delete the child SA |
//! | `xa` `xb` | A or B begins to delete the IKE SA |
//! | `>` `<` | the oldest message from A, from B, arrives |
//! | `>>` `<<` | it arrives twice |
//! | `!>` `!<` | it is lost |
//! | `~>` `~<` | it is kept back |
//! | `^>` `^<` | what was kept back arrives |
//! | `+` | 700 ms pass, so that what is not answered is sent again |
//!
//! After every word each side must send on an SA that the other receives on with the same key, the
//! SAs must be few, and nobody may stop sending. At the end what is held arrives, time passes, and
//! one IKE SA with one child must be left, both new where they were rekeyed.
//!
//! Every case runs as written and with the sides exchanged, and with several seeds, so that either
//! side has the lowest nonce. [`every_order_of_messages_ends_well`] does not trust the table: it
//! tries all orders and losses up to a depth.

use std::{collections::VecDeque, time::Duration};

use super::{
    orders::every_order,
    world::{ID, Packet, World, pair},
};
use crate::{
    RekeyReason, State,
    sa::{child::ChildStage, pending::Task},
};

const SECOND: Duration = Duration::from_secs(1);

/// What a case must not lose.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Traffic {
    /// Not a packet.
    All,
    /// Somebody deletes what is used, so sending stops for a while.
    Stops,
}

struct Case {
    name: &'static str,
    script: &'static str,
    traffic: Traffic,
}

const fn case(name: &'static str, script: &'static str) -> Case {
    Case {
        name,
        script,
        traffic: Traffic::All,
    }
}

const fn stopping(name: &'static str, script: &'static str) -> Case {
    Case {
        name,
        script,
        traffic: Traffic::Stops,
    }
}

const CHILD: &[Case] = &[
    case("one side rekeys", "ra > < > <"),
    case("the request is lost", "ra !> + > < > <"),
    case("the response is lost", "ra > !< + > < > <"),
    case("the delete is lost", "ra > < !> + > <"),
    case("the delete's response is lost", "ra > < > !< + > <"),
    case("the request comes twice", "ra >> < < > <"),
    case("the response comes twice", "ra > << > <"),
    case("the delete comes twice", "ra > < >> < <"),
    case(
        "an old request comes after the delete",
        "ra ~> + > < > < ^>",
    ),
    case("both at once", "ra rb > < > < > < > <"),
    case("both at once, one response first", "ra rb > < < > > < > <"),
    case(
        "both at once, a request is lost",
        "ra rb !> < + > > < > < > <",
    ),
    case(
        "both at once, a response is lost",
        "ra rb > < !> < > + < > < > <",
    ),
    case(
        "both at once, both requests are lost",
        "ra rb !> !< + > < > < > < > <",
    ),
    case(
        "both at once, both responses are lost",
        "ra rb > < !> !< + > < > < > <",
    ),
    case(
        "a request comes after the other's rekeying is over",
        "ra rb ~< > < > < ^< > <",
    ),
    case(
        "a request comes between the other's response and delete",
        "ra rb ~< > < ^< > > < <",
    ),
    case(
        "the winner's delete overtakes the loser's response",
        "ra rb > < ~> < + > < > ^> <",
    ),
    case(
        "both at once, everything twice",
        "ra rb >> << >> << >> << >> <<",
    ),
    case(
        "rekeyed again before the delete is answered",
        "ra > < ra > < > < > <",
    ),
    case(
        "rekeyed by the other side at once after",
        "ra > < > rb < < > < >",
    ),
    case(
        "rekeyed by the other side before the delete",
        "ra > rb < < > > < <",
    ),
    stopping("delete against rekey", "da rb > < > < > <"),
    stopping(
        "delete against rekey, the delete first",
        "da rb > > < < > <",
    ),
    stopping("delete against rekey, the rekey first", "da rb < < > > < >"),
    stopping(
        "a delete overtakes the answer that made the child",
        "ra > ~< db < > ^< + > < > <",
    ),
    case(
        "the other side rekeys what its late answer made",
        "ra > ~< rb < > ^< > < > < > <",
    ),
    stopping("both delete at once", "da db > < > <"),
    stopping(
        "both delete at once, one response is lost",
        "da db > < !> < +",
    ),
];

const IKE: &[Case] = &[
    case("one side rekeys", "ia > < > <"),
    case("the request is lost", "ia !> + > < > <"),
    case("the response is lost", "ia > !< + > < > <"),
    case("the delete is lost", "ia > < !> + > <"),
    case("the delete's response is lost", "ia > < > !< + > <"),
    case("the request comes twice", "ia >> < < > <"),
    case("the response comes twice", "ia > << > <"),
    case(
        "an old request comes after the delete",
        "ia ~> + > < > < ^>",
    ),
    case("both at once", "ia ib > < > < > < > <"),
    case("both at once, one response first", "ia ib > < < > > < > <"),
    case(
        "both at once, a request is lost",
        "ia ib !> < + > > < > < > <",
    ),
    case(
        "both at once, a response is lost",
        "ia ib > < !> < > + < > < > <",
    ),
    case(
        "both at once, both requests are lost",
        "ia ib !> !< + > < > < > < > <",
    ),
    case(
        "both at once, both responses are lost",
        "ia ib > < !> !< + > < > < > <",
    ),
    case(
        "a request comes after the other's rekeying is over",
        "ia ib ~< > < > < ^< > <",
    ),
    case(
        "a request comes between the other's response and delete",
        "ia ib ~< > < ^< > > < <",
    ),
    case(
        "the winner's delete overtakes the loser's response",
        "ia ib > < ~> < + > < > ^> <",
    ),
    case(
        "both at once, everything twice",
        "ia ib >> << >> << >> << >> <<",
    ),
    case("the IKE SA against the child", "ia rb > < > < > < > <"),
    case(
        "the IKE SA against the child, the child first",
        "ia rb < > < > < > < >",
    ),
    case(
        "the IKE SA against the child, a request is lost",
        "ia rb !> < + > < > < > <",
    ),
    case("both kinds by one side", "ra ia > < > < > < > <"),
    case(
        "both kinds by both sides",
        "ra ia rb ib > < > < > < > < > < > <",
    ),
    case(
        "the child after the IKE SA, before the delete",
        "ia > < ra > < > < > <",
    ),
    stopping("the IKE SA against a child's delete", "ia db > < > < > <"),
    stopping("closing against rekeying", "xa ib > < > <"),
    stopping("closing against rekeying, the close first", "xa ib > > < <"),
    stopping("both close at once", "xa xb > < > <"),
];

/// The script with the sides exchanged.
fn mirrored(script: &str) -> String {
    script
        .chars()
        .map(|c| match c {
            '>' => '<',
            '<' => '>',
            'a' => 'b',
            'b' => 'a',
            other => other,
        })
        .collect()
}

struct Play {
    world: World,
    traffic: Traffic,
    kept: [VecDeque<Packet>; 2],
    label: String,
}

impl Play {
    fn new(seed: u64, traffic: Traffic, label: String) -> Self {
        let (mut a, mut b) = pair();
        for c in [&mut a, &mut b] {
            // Nothing but the script happens.
            c.dpd.delay = 3_000 * SECOND;
        }
        let mut world = World::up(seed, a, b);
        world.hold = true;
        world.lossless = traffic == Traffic::All;
        Self {
            world,
            traffic,
            kept: [VecDeque::new(), VecDeque::new()],
            label,
        }
    }

    fn word(&mut self, word: &str) {
        let side = usize::from(word.contains('<') || word.ends_with('b'));
        match word {
            "ra" | "rb" => self.rekey_child(side),
            "ia" | "ib" => self.world.call(side, |e, now| e.rekey_ike(now, ID)),
            "da" | "db" => self.close_child(side),
            "xa" | "xb" => self.close_ike(side),
            "+" => self.world.run(Duration::from_millis(700)),
            _ => self.message(word, side),
        }
        self.check();
    }

    /// Words about a message of a side that has sent none have no effect: with another seed
    /// another side deletes.
    fn message(&mut self, word: &str, side: usize) {
        if word.starts_with('^') {
            if let Some(packet) = self.kept[side].pop_front() {
                self.world.deliver(&packet);
            }
            return;
        }
        let Some(packet) = self.world.held[side].pop_front() else {
            return;
        };
        match word {
            ">" | "<" => self.world.deliver(&packet),
            ">>" | "<<" => {
                self.world.deliver(&packet);
                self.world.deliver(&packet);
            }
            "!>" | "!<" => {}
            "~>" | "~<" => self.kept[side].push_back(packet),
            other => panic!("{other:?} is no word"),
        }
    }

    fn rekey_child(&mut self, side: usize) {
        let spi = self.world.nodes[side].outbound[&(ID, 0)].spi;
        self.world.call(side, |e, now| {
            e.rekey_child(now, ID, spi, RekeyReason::Operator);
        });
    }

    fn close_child(&mut self, side: usize) {
        self.world.call(side, |e, now| {
            let sa = e.connections[&ID].current.expect("up");
            e.with_sa(now, sa, |_, sa| {
                let child = sa.children.last_mut().expect("a child");
                child.stage = ChildStage::Closing;
                let spi = child.inbound;
                sa.want(Task::CloseChild(spi));
            });
            e.settle();
        });
    }

    fn close_ike(&mut self, side: usize) {
        self.world.call(side, |e, now| {
            let sa = e.connections[&ID].current.expect("up");
            e.with_sa(now, sa, |_, sa| sa.want(Task::CloseIke));
            e.settle();
        });
    }

    fn check(&self) {
        for (i, node) in self.world.nodes.iter().enumerate() {
            let label = &self.label;
            assert!(
                node.inbound.len() <= 5,
                "{label}: inbound SAs of {i}: {:#?}",
                node.log
            );
            assert!(node.endpoint.sas.len() <= 4, "{label}: IKE SAs of {i}");
            if self.traffic == Traffic::All {
                assert_eq!(
                    node.outbound.len(),
                    1,
                    "{label}: {i} sends: {:#?}",
                    node.log
                );
                assert_eq!(node.stopped_sending, 0, "{label}: {i} always sent");
                assert!(!node.inbound.is_empty(), "{label}: {i} receives");
            }
        }
    }

    /// What is held arrives, and time passes.
    fn finish(mut self) -> World {
        self.world.release();
        for side in 0..2 {
            while let Some(packet) = self.kept[side].pop_front() {
                self.world.deliver(&packet);
            }
        }
        for _ in 0..60 {
            self.world.run(SECOND);
            self.check();
        }
        let world = self.world;
        for (i, node) in world.nodes.iter().enumerate() {
            let label = &self.label;
            let failures = &node.failures;
            assert!(failures.is_empty(), "{label}: {i}: {failures:?}");
            let about = format!("{label}: node {i}: {:#?}", node.log);
            let status = world.status(i);
            assert_eq!(status.ike, State::Established, "{about}");
            assert_eq!(status.child, State::Established, "{about}");
            assert_eq!(node.endpoint.sas.len(), 1, "one IKE SA, {about}");
            assert_eq!(node.inbound.len(), 1, "one inbound SA, {about}");
            assert_eq!(
                node.endpoint.inbound.len(),
                1,
                "no SPI is left promised, {about}"
            );
        }
        world.expect_up();
        let a = &world.nodes[0].outbound[&(ID, 0)];
        let b = &world.nodes[1].outbound[&(ID, 0)];
        assert!(world.nodes[1].inbound.contains_key(&a.spi));
        assert!(world.nodes[0].inbound.contains_key(&b.spi));
        world
    }
}

fn play(case: &Case, script: &str, seed: u64) {
    let label = format!("{} ({script}), seed {seed}", case.name);
    let mut play = Play::new(seed, case.traffic, label.clone());
    let ike = play.world.status(0).spis;
    let child = play.world.inbound_spis();
    for word in script.split(' ') {
        play.word(word);
    }
    let world = play.finish();
    let began = |letter: char| script.contains(letter);
    if began('i') || began('x') {
        assert_ne!(world.status(0).spis, ike, "{label}: the IKE SA is new");
    } else {
        assert_eq!(world.status(0).spis, ike, "{label}: the IKE SA is the same");
    }
    if began('r') || began('d') || began('x') {
        assert!(
            world.inbound_spis().is_disjoint(&child),
            "{label}: the child is new"
        );
    } else {
        assert_eq!(
            world.inbound_spis(),
            child,
            "{label}: the child is the same"
        );
    }
}

fn play_all(cases: &[Case]) {
    for case in cases {
        for seed in 1_000..1_006 {
            play(case, case.script, seed);
            play(case, &mirrored(case.script), seed);
        }
    }
}

#[test]
fn child_sas_survive_every_collision() {
    play_all(CHILD);
}

#[test]
fn ike_sas_survive_every_collision() {
    play_all(IKE);
}

/// After both sides began.
fn explore(begin: &[&str], depth: usize, losses: usize, seed: u64) -> usize {
    every_order(depth, losses, |words| {
        let label = format!("{} {}, seed {seed}", begin.join(" "), words.join(" "));
        let mut play = Play::new(seed, Traffic::All, label);
        for word in begin.iter().chain(words) {
            play.word(word);
        }
        play.finish();
    })
}

#[test]
fn every_order_of_messages_ends_well() {
    for begin in [["ra", "rb"], ["ia", "ib"], ["ia", "rb"]] {
        for seed in [2_000, 2_003] {
            // 6 deliveries: all orders, with none or one lost.
            assert_eq!(explore(&begin, 6, 1, seed), 64 + 6 * 64);
        }
    }
}
