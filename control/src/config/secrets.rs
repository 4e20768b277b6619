//! Secrets files: the only place where pre-shared keys are written down.
//!
//! ```toml
//! [[secret]]
//! tunnel = "aws-1/a"                  # or connection = "aws-1", for all its tunnels
//! pre_shared_key = "text"             # or pre_shared_key_hex = "hexadecimal digits"
//! ```
//!
//! An entry for a tunnel goes before one for its connection. A file that others than its owner
//! may read is refused, and no diagnostic ever quotes one.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use hawser_api::Secret;
use zeroize::Zeroizing;

use super::{
    diagnostic::{Diagnostics, Location, Source},
    protected::{from_hex, read_protected},
    reader::{At, Context, Table},
};

/// Octets below which a pre-shared key can be guessed; AWS's smallest.
const SHORT: usize = 8;

/// Secrets files that were read, each once.
#[derive(Default)]
pub(super) struct SecretFiles {
    files: HashMap<PathBuf, Entries>,
    diagnostics: Diagnostics,
}

/// A file's entries by the name of their tunnel or connection.
type Entries = BTreeMap<String, Entry>;

struct Entry {
    location: Location,
    key: Option<Secret>,
    used: bool,
}

impl SecretFiles {
    /// The pre-shared key of a tunnel.
    pub(super) fn find(
        &mut self,
        context: &Context<'_>,
        file: &At<PathBuf>,
        connection: &str,
        tunnel: &str,
        span: &Range<usize>,
    ) -> Option<Secret> {
        if !self.files.contains_key(&file.value) {
            let entries = match read_protected("secrets file", &file.value) {
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
        let name = [tunnel, connection]
            .into_iter()
            .find(|name| entries.contains_key(*name));
        let Some(entry) = name.and_then(|name| entries.get_mut(name)) else {
            context.error(
                span,
                format!("{} has no secret for `{tunnel}`", file.value.display()),
                format!("add a [[secret]] with tunnel = \"{tunnel}\" there"),
            );
            return None;
        };
        entry.used = true;
        entry.key.clone()
    }

    fn read(&mut self, path: &Path, text: Zeroizing<String>) -> Entries {
        let source = Arc::new(Source::secret(path, text));
        let context = Context::new(&source);
        let mut entries = Entries::new();
        {
            let document = context.document();
            let root = Table::new(&context, "the secrets file", document.get_ref(), 0..0);
            for table in root.tables("secret", "[[secret]]") {
                entries.extend(entry(&context, &source, table, &entries));
            }
            root.finish();
            if entries.is_empty() && !context.diagnostics().has_errors() {
                context.error(
                    &(0..0),
                    "the secrets file has no [[secret]]",
                    "add one: tunnel = \"aws-1/a\", pre_shared_key = \"…\"; `hawser help config` \
                     has an example",
                );
            }
        }
        self.diagnostics.0.extend(context.finish().0);
        entries
    }

    /// Ends reading: entries that nobody used are probably misspelt.
    #[must_use]
    pub(super) fn finish(mut self) -> Diagnostics {
        // A map's order differs from run to run; the report must not.
        let mut files: Vec<_> = self.files.iter().collect();
        files.sort_by(|a, b| a.0.cmp(b.0));
        for (name, entry) in files.into_iter().flat_map(|(_, e)| e) {
            if !entry.used {
                self.diagnostics.warning(
                    Some(entry.location.clone()),
                    format!("no tunnel uses the secret of `{name}`"),
                    "remove the entry, or name it as the tunnel is: \"connection/tunnel\"",
                );
            }
        }
        self.diagnostics
    }
}

fn entry(
    context: &Context<'_>,
    source: &Source,
    table: Table<'_, '_, '_>,
    before: &Entries,
) -> Option<(String, Entry)> {
    let tunnel = table.string("tunnel");
    let connection = table.string("connection");
    let text = table.borrowed("pre_shared_key");
    let hex = table.borrowed("pre_shared_key_hex");
    let span = table.span();
    table.finish();
    let name = match (tunnel, connection) {
        (Some(name), None) | (None, Some(name)) => name,
        _ => {
            context.error(
                &span,
                "a [[secret]] is for one tunnel or for one connection",
                "write either tunnel = \"aws-1/a\" or connection = \"aws-1\"",
            );
            return None;
        }
    };
    if let Some(first) = before.get(&name.value) {
        context.error(
            &name.span,
            format!(
                "a secret of `{}` is there already, in line {}",
                name.value, first.location.line
            ),
            "remove one of the two entries",
        );
        return None;
    }
    let key = match (text, hex) {
        (Some(text), None) => checked(context, &text.span, text.value.as_bytes().to_vec()),
        (None, Some(hex)) => match from_hex(hex.value) {
            Some(octets) => checked(context, &hex.span, octets),
            None => {
                context.error(
                    &hex.span,
                    "the key is not an even number of hexadecimal digits",
                    "write two digits for every octet and nothing else (`0x` and spaces neither)",
                );
                None
            }
        },
        _ => {
            context.error(
                &span,
                "a [[secret]] has one key",
                "write either pre_shared_key = \"text\" or pre_shared_key_hex = \"digits\"",
            );
            None
        }
    };
    let entry = Entry {
        location: source.locate(&name.span),
        key,
        used: false,
    };
    Some((name.value, entry))
}

fn checked(context: &Context<'_>, span: &Range<usize>, octets: Vec<u8>) -> Option<Secret> {
    if octets.is_empty() {
        context.error(span, "the pre-shared key is empty", "write the key");
        return None;
    }
    if octets.len() < SHORT {
        context.warning(
            span,
            format!("a pre-shared key of {} octets can be guessed", octets.len()),
            "use at least 20 random characters; AWS takes 8 to 64",
        );
    }
    Some(Secret::new(octets))
}
