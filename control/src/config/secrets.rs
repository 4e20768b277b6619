//! Secrets files: the only place where pre-shared keys are written down.
//!
//! ```toml
//! [[secret]]
//! tunnel = "aws-1/a"                  # or connection = "aws-1", for all its tunnels
//! pre_shared_key = "text"             # or pre_shared_key_hex = "hexadecimal digits"
//! ```
//!
//! An entry for a tunnel goes before one for its connection.

use std::{ops::Range, path::PathBuf};

use hawser_api::Secret;

use super::{
    diagnostic::{Diagnostics, Source},
    entries::{Entry, EntryFiles, hex_octets},
    reader::{At, Context, Table},
};

/// Octets below which a pre-shared key can be guessed; AWS's smallest.
const SHORT: usize = 8;

/// Secrets files that were read, each once.
#[derive(Default)]
pub(super) struct SecretFiles(EntryFiles<PreSharedKey>);

/// Nothing if what is written there is wrong.
struct PreSharedKey(Option<Secret>);

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
        let found = self.0.find(context, file, tunnel, &[connection], span)?;
        found.0.clone()
    }

    /// Ends reading and returns all problems.
    #[must_use]
    pub(super) fn finish(self) -> Diagnostics {
        self.0.finish()
    }
}

impl Entry for PreSharedKey {
    const FILE: &'static str = "the secrets file";
    const KEY: &'static str = "secret";
    const HEADER: &'static str = "[[secret]]";
    const HOLDS: &'static str = "secret";
    const NONE: &'static str = "add one: tunnel = \"aws-1/a\", pre_shared_key = \"…\"; \
                                `hawser help config` has an example";

    fn read(
        context: &Context<'_>,
        _: &Source,
        table: Table<'_, '_, '_>,
    ) -> Option<(At<String>, Self)> {
        let tunnel = table.string("tunnel");
        let connection = table.string("connection");
        let text = table.borrowed("pre_shared_key");
        let hex = table.borrowed("pre_shared_key_hex");
        let span = table.span();
        table.finish();
        let ((Some(name), None) | (None, Some(name))) = (tunnel, connection) else {
            context.error(
                &span,
                "a [[secret]] is for one tunnel or for one connection",
                "write either tunnel = \"aws-1/a\" or connection = \"aws-1\"",
            );
            return None;
        };
        let key = match (text, hex) {
            (Some(text), None) => checked(context, &text.span, text.value.as_bytes().to_vec()),
            (None, Some(hex)) => {
                hex_octets(context, &hex).and_then(|octets| checked(context, &hex.span, octets))
            }
            _ => {
                context.error(
                    &span,
                    "a [[secret]] has one key",
                    "write either pre_shared_key = \"text\" or pre_shared_key_hex = \"digits\"",
                );
                None
            }
        };
        Some((name, Self(key)))
    }
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
