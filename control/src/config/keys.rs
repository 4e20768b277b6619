//! Key files: the only place where keys of manual SAs are written down.
//!
//! ```toml
//! [[key]]
//! tunnel = "aws-1/a"
//! outbound = { spi = "0x10000001", key = "hexadecimal digits" }
//! inbound = { spi = "0x20000001", key = "hexadecimal digits" }
//! ```
//!
//! The key is the key material in the order of RFC 7296, section 2.17: cipher key, then the
//! 4-octet salt (AES-GCM) or the integrity key (AES-CBC with HMAC). The peer's file has the same
//! two entries with `outbound` and `inbound` swapped.

use std::{collections::HashMap, ops::Range, path::PathBuf};

use hawser_aead::Suite;
use hawser_api::{Secret, Spi};
use zeroize::Zeroizing;

use super::{
    diagnostic::{Diagnostics, Location, Source},
    entries::{Entry, EntryFiles, hex_octets},
    model::{ManualKey, Tunnel},
    reader::{At, Context, Table},
    units::SpiText,
};

/// Key files that were read, each once.
#[derive(Default)]
pub(super) struct KeyFiles {
    files: EntryFiles<Pair>,
    diagnostics: Diagnostics,
}

/// The keys of a tunnel's two directions, as far as they are written down right.
struct Pair {
    outbound: Option<RawKey>,
    inbound: Option<RawKey>,
}

struct RawKey {
    spi: Spi,
    key: Secret,
    location: Location,
}

impl RawKey {
    fn fit(&self, suite: Suite, tunnel: &str, diagnostics: &mut Diagnostics) -> Option<ManualKey> {
        let (got, wanted) = (self.key.expose().len(), suite.key_len());
        if got != wanted {
            diagnostics.error(
                Some(self.location.clone()),
                format!(
                    "the key of `{tunnel}` has {got} octets, but {suite} takes {wanted} \
                     ({} hexadecimal digits)",
                    2 * wanted
                ),
                "give key material for this suite (cipher key, then salt or integrity key), \
                 or correct `suite` of the tunnel",
            );
            return None;
        }
        Some(ManualKey {
            spi: self.spi,
            key: self.key.clone(),
        })
    }
}

impl KeyFiles {
    /// The keys of a tunnel: outbound, inbound.
    pub(super) fn find(
        &mut self,
        context: &Context<'_>,
        file: &At<PathBuf>,
        tunnel: &str,
        span: &Range<usize>,
        suite: Suite,
    ) -> Option<(ManualKey, ManualKey)> {
        let pair = self.files.find(context, file, tunnel, &[], span)?;
        let mut fit = |key: &Option<RawKey>| {
            let key = key.as_ref()?;
            key.fit(suite, tunnel, &mut self.diagnostics)
        };
        let (outbound, inbound) = (fit(&pair.outbound), fit(&pair.inbound));
        Some((outbound?, inbound?))
    }

    /// Checks the keys against each other and returns all problems.
    #[must_use]
    pub(super) fn finish(self, tunnels: &[Tunnel]) -> Diagnostics {
        let mut inbound: HashMap<Spi, (&str, &Location)> = HashMap::new();
        let mut outbound: HashMap<_, (&str, &Location)> = HashMap::new();
        let mut keys: HashMap<&[u8], (&str, &Location)> = HashMap::new();
        let by_name: HashMap<&str, &Tunnel> =
            tunnels.iter().map(|t| (t.name.as_str(), t)).collect();
        let mut problems = self.diagnostics;
        for (name, pair) in self.files.used() {
            if let Some(key) = &pair.inbound {
                if let Some((first, at)) = inbound.get(&key.spi) {
                    spi_reused(&mut problems, key, "inbound", name, first, at);
                } else {
                    inbound.insert(key.spi, (name, &key.location));
                }
            }
            if let (Some(key), Some(tunnel)) = (&pair.outbound, by_name.get(name)) {
                let peer = (tunnel.remote.value, key.spi);
                if let Some((first, at)) = outbound.get(&peer) {
                    spi_reused(&mut problems, key, "outbound", name, first, at);
                } else {
                    outbound.insert(peer, (name, &key.location));
                }
            }
            for key in pair.outbound.iter().chain(&pair.inbound) {
                if let Some((first, at)) = keys.get(key.key.expose()) {
                    problems.error(
                        Some(key.location.clone()),
                        format!(
                            "a key of `{name}` is the same as one of `{first}` at {}:{}: with \
                             AES-GCM this gives both keys away",
                            at.file, at.line
                        ),
                        "make a key of its own for every direction of every tunnel",
                    );
                } else {
                    keys.insert(key.key.expose(), (name, &key.location));
                }
            }
        }
        problems.0.extend(self.files.finish().0);
        problems
    }
}

fn spi_reused(
    problems: &mut Diagnostics,
    key: &RawKey,
    direction: &str,
    name: &str,
    first: &str,
    at: &Location,
) {
    problems.error(
        Some(key.location.clone()),
        format!(
            "{direction} SPI {} of `{name}` is used by `{first}` already, at {}:{}",
            key.spi, at.file, at.line
        ),
        if direction == "inbound" {
            "give every inbound SA of this gateway an SPI of its own"
        } else {
            "give every SA towards one peer an SPI of its own"
        },
    );
}

impl Entry for Pair {
    const FILE: &'static str = "the key file";
    const KEY: &'static str = "key";
    const HEADER: &'static str = "[[key]]";
    const HOLDS: &'static str = "keys";
    const NONE: &'static str =
        "`hawser manual-keys` makes a key file; `hawser help config` has an example";

    fn read(
        context: &Context<'_>,
        source: &Source,
        table: Table<'_, '_, '_>,
    ) -> Option<(At<String>, Self)> {
        let tunnel = table.required(table.string("tunnel"), "tunnel", "\"aws-1/a\"");
        let direction = |key, what| {
            let example = "{ spi = \"0x10000001\", key = \"…\" }";
            let inner = table.required(table.table(key, what), key, example)?;
            raw_key(context, source, inner)
        };
        let outbound = direction("outbound", "outbound = { … }");
        let inbound = direction("inbound", "inbound = { … }");
        table.finish();
        Some((tunnel?, Self { outbound, inbound }))
    }
}

fn raw_key(context: &Context<'_>, source: &Source, table: Table<'_, '_, '_>) -> Option<RawKey> {
    let spi = table.required(
        table.parsed::<SpiText>("spi", "an SPI in quotes such as \"0x10000001\""),
        "spi",
        "\"0x10000001\"",
    );
    let key = table.required(table.borrowed("key"), "key", "\"hexadecimal digits\"");
    table.finish();
    let key = key?;
    let octets = hex_octets(context, &key)?;
    let location = source.locate(&key.span);
    Some(RawKey {
        spi: spi?.value.0,
        key: Secret::new(octets),
        location,
    })
}

/// One direction of a tunnel for [`render`].
pub struct NewKey {
    /// The SPI.
    pub spi: Spi,
    /// Key material.
    pub key: Zeroizing<Vec<u8>>,
}

/// The text of a key file: for each tunnel its name, the outbound and the inbound key.
#[must_use]
pub fn render<'k>(
    entries: impl Iterator<Item = (&'k str, &'k NewKey, &'k NewKey)>,
) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::new());
    text.push_str("# Keys of manual SAs. Whoever reads them reads the traffic.\n");
    for (tunnel, outbound, inbound) in entries {
        text.push_str("\n[[key]]\ntunnel = \"");
        text.push_str(tunnel);
        text.push_str("\"\n");
        for (direction, key) in [("outbound", outbound), ("inbound", inbound)] {
            text.push_str(&format!("{direction} = {{ spi = \"{}\", key = \"", key.spi));
            for octet in key.key.iter() {
                for digit in [octet >> 4, octet & 15] {
                    text.push(char::from_digit(digit.into(), 16).unwrap_or('0'));
                }
            }
            text.push_str("\" }\n");
        }
    }
    text
}
