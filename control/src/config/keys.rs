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
//!
//! A file that others than its owner may read is refused, and no diagnostic ever quotes one.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use hawser_aead::Suite;
use hawser_api::{Secret, Spi};
use zeroize::Zeroizing;

use super::{
    diagnostic::{Diagnostics, Location, Source},
    model::{ManualKey, Tunnel},
    protected::{from_hex, read_protected},
    reader::{At, Context, Table},
    units::SpiText,
};

/// Key files that were read, each once.
#[derive(Default)]
pub(super) struct KeyFiles {
    files: HashMap<PathBuf, Entries>,
    diagnostics: Diagnostics,
}

/// A file's entries by the name of their tunnel, in the order of names.
type Entries = BTreeMap<String, Entry>;

struct Entry {
    location: Location,
    outbound: Option<RawKey>,
    inbound: Option<RawKey>,
    used: bool,
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
        if !self.files.contains_key(&file.value) {
            let entries = match read_protected("key file", &file.value) {
                Ok(text) => self.read(&file.value, text),
                Err(problem) => {
                    context.error(&file.span, problem.reason, problem.remedy);
                    Entries::new()
                }
            };
            self.files.insert(file.value.clone(), entries);
        }
        let entries = self.files.get_mut(&file.value)?;
        if entries.is_empty() {
            // Unreadable or without entries: reported once, not for every tunnel.
            return None;
        }
        let Some(entry) = entries.get_mut(tunnel) else {
            context.error(
                span,
                format!("{} has no keys for `{tunnel}`", file.value.display()),
                format!("add a [[key]] with tunnel = \"{tunnel}\" there"),
            );
            return None;
        };
        entry.used = true;
        let outbound = entry
            .outbound
            .as_ref()
            .and_then(|k| k.fit(suite, tunnel, &mut self.diagnostics));
        let inbound = entry
            .inbound
            .as_ref()
            .and_then(|k| k.fit(suite, tunnel, &mut self.diagnostics));
        Some((outbound?, inbound?))
    }

    fn read(&mut self, path: &Path, text: Zeroizing<String>) -> Entries {
        let source = Arc::new(Source::secret(path, text));
        let context = Context::new(&source);
        let mut entries = Entries::new();
        {
            let document = context.document();
            let root = Table::new(&context, "the key file", document.get_ref(), 0..0);
            for table in root.tables("key", "[[key]]") {
                entries.extend(entry(&context, &source, table, &entries));
            }
            root.finish();
            if entries.is_empty() && !context.diagnostics().has_errors() {
                context.error(
                    &(0..0),
                    "the key file has no [[key]]",
                    "`hawser manual-keys` makes a key file; `hawser help config` has an example",
                );
            }
        }
        self.diagnostics.0.extend(context.finish().0);
        entries
    }

    /// Checks the keys against each other and returns all problems.
    #[must_use]
    pub(super) fn finish(mut self, tunnels: &[Tunnel]) -> Diagnostics {
        let mut inbound: HashMap<Spi, (&str, &Location)> = HashMap::new();
        let mut outbound: HashMap<_, (&str, &Location)> = HashMap::new();
        let mut keys: HashMap<&[u8], (&str, &Location)> = HashMap::new();
        let by_name: HashMap<&str, &Tunnel> =
            tunnels.iter().map(|t| (t.name.as_str(), t)).collect();
        let mut problems = Diagnostics::default();
        // A map's order differs from run to run; the report must not.
        let mut files: Vec<_> = self.files.iter().collect();
        files.sort_by(|a, b| a.0.cmp(b.0));
        for (name, entry) in files.into_iter().flat_map(|(_, e)| e) {
            let name = name.as_str();
            if !entry.used {
                problems.warning(
                    Some(entry.location.clone()),
                    format!("no tunnel uses the keys of `{name}`"),
                    "remove the entry, or name it as the tunnel is: \"connection/tunnel\"",
                );
                continue;
            }
            if let Some(key) = &entry.inbound {
                if let Some((first, at)) = inbound.get(&key.spi) {
                    spi_reused(&mut problems, key, "inbound", name, first, at);
                } else {
                    inbound.insert(key.spi, (name, &key.location));
                }
            }
            if let (Some(key), Some(tunnel)) = (&entry.outbound, by_name.get(name)) {
                let peer = (tunnel.remote.value, key.spi);
                if let Some((first, at)) = outbound.get(&peer) {
                    spi_reused(&mut problems, key, "outbound", name, first, at);
                } else {
                    outbound.insert(peer, (name, &key.location));
                }
            }
            for key in entry.outbound.iter().chain(&entry.inbound) {
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
        self.diagnostics.0.extend(problems.0);
        self.diagnostics
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

fn entry(
    context: &Context<'_>,
    source: &Source,
    table: Table<'_, '_, '_>,
    before: &Entries,
) -> Option<(String, Entry)> {
    let tunnel = table.required(table.string("tunnel"), "tunnel", "\"aws-1/a\"");
    let direction = |key, what| {
        let example = "{ spi = \"0x10000001\", key = \"…\" }";
        let inner = table.required(table.table(key, what), key, example)?;
        raw_key(context, source, inner)
    };
    let outbound = direction("outbound", "outbound = { … }");
    let inbound = direction("inbound", "inbound = { … }");
    table.finish();
    let tunnel = tunnel?;
    if let Some(first) = before.get(&tunnel.value) {
        context.error(
            &tunnel.span,
            format!(
                "keys of `{}` are there already, in line {}",
                tunnel.value, first.location.line
            ),
            "remove one of the two entries",
        );
        return None;
    }
    let location = source.locate(&tunnel.span);
    Some((
        tunnel.value,
        Entry {
            location,
            outbound,
            inbound,
            used: false,
        },
    ))
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
    let Some(octets) = from_hex(key.value) else {
        context.error(
            &key.span,
            "the key is not an even number of hexadecimal digits",
            "write two digits for every octet and nothing else (`0x` and spaces neither)",
        );
        return None;
    };
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
