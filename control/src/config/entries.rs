//! Protected files whose entries belong to tunnels: read once each, entries found by name, and those
//! that nothing used reported.
//!
//! A file that others than its owner may read is refused, and no diagnostic ever quotes one.

use std::{
    collections::{BTreeMap, HashMap},
    iter, mem,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use zeroize::Zeroizing;

use super::{
    diagnostic::{Diagnostics, Location, Source},
    protected::{from_hex, read_protected},
    reader::{At, Context, Table},
};

/// What stands in such a file once for each name.
pub(super) trait Entry: Sized {
    /// How the file is called in messages: "the … file".
    const FILE: &'static str;
    /// The key of the array of tables: `secret` of `[[secret]]`.
    const KEY: &'static str;
    /// The array of tables as it is written.
    const HEADER: &'static str;
    /// What an entry holds: "no … for `aws-1/a`".
    const HOLDS: &'static str;
    /// What to do when the file has no entry.
    const NONE: &'static str;

    /// Reads an entry and its name; problems are noted.
    fn read(
        context: &Context<'_>,
        source: &Source,
        table: Table<'_, '_, '_>,
    ) -> Option<(At<String>, Self)>;
}

/// The files of one kind that were read.
pub(super) struct EntryFiles<E> {
    files: HashMap<PathBuf, Entries<E>>,
    diagnostics: Diagnostics,
}

/// A file's entries by their name, in the order of names.
type Entries<E> = BTreeMap<String, Found<E>>;

struct Found<E> {
    location: Location,
    entry: E,
    used: bool,
}

impl<E> Default for EntryFiles<E> {
    fn default() -> Self {
        Self {
            files: HashMap::new(),
            diagnostics: Diagnostics::default(),
        }
    }
}

impl<E: Entry> EntryFiles<E> {
    /// The entry of a tunnel: its own, or else one of the `others` that it may use.
    ///
    /// `span` is where the configuration wants it; that there is none is noted there.
    pub(super) fn find(
        &mut self,
        context: &Context<'_>,
        file: &At<PathBuf>,
        tunnel: &str,
        others: &[&str],
        span: &Range<usize>,
    ) -> Option<&E> {
        if !self.files.contains_key(&file.value) {
            let entries = match read_protected(E::FILE, &file.value) {
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
        let mut names = iter::once(tunnel).chain(others.iter().copied());
        let name = names.find(|name| entries.contains_key(*name));
        let Some(found) = name.and_then(|name| entries.get_mut(name)) else {
            context.error(
                span,
                format!(
                    "{} has no {} for `{tunnel}`",
                    file.value.display(),
                    E::HOLDS
                ),
                format!("add a {} with tunnel = \"{tunnel}\" there", E::HEADER),
            );
            return None;
        };
        found.used = true;
        Some(&found.entry)
    }

    fn read(&mut self, path: &Path, text: Zeroizing<String>) -> Entries<E> {
        let source = Arc::new(Source::secret(path, text));
        let context = Context::new(&source);
        let mut entries = Entries::new();
        {
            let document = context.document();
            let root = Table::new(&context, E::FILE, document.get_ref(), 0..0);
            for table in root.tables(E::KEY, E::HEADER) {
                if let Some((name, entry)) = E::read(&context, &source, table) {
                    add(&context, &source, &mut entries, name, entry);
                }
            }
            root.finish();
            if entries.is_empty() && !context.diagnostics().has_errors() {
                let reason = format!("{} has no {}", E::FILE, E::HEADER);
                context.error(&(0..0), reason, E::NONE);
            }
        }
        self.diagnostics.0.extend(context.finish().0);
        entries
    }

    /// Name and value of the entries that were used, always in the same order.
    pub(super) fn used(&self) -> impl Iterator<Item = (&str, &E)> {
        self.entries()
            .filter(|(_, found)| found.used)
            .map(|(name, found)| (name, &found.entry))
    }

    /// Ends reading: entries that nobody used are probably misspelt.
    #[must_use]
    pub(super) fn finish(mut self) -> Diagnostics {
        let mut diagnostics = mem::take(&mut self.diagnostics);
        for (name, found) in self.entries().filter(|(_, found)| !found.used) {
            diagnostics.warning(
                Some(found.location.clone()),
                format!("no tunnel uses the {} of `{name}`", E::HOLDS),
                "remove the entry, or name it as the tunnel is: \"connection/tunnel\"",
            );
        }
        diagnostics
    }

    /// By file and name: a map's order differs from run to run, and the report must not.
    fn entries(&self) -> impl Iterator<Item = (&str, &Found<E>)> {
        let mut files: Vec<_> = self.files.iter().collect();
        files.sort_by_key(|(path, _)| *path);
        let entries = files.into_iter().flat_map(|(_, entries)| entries);
        entries.map(|(name, found)| (name.as_str(), found))
    }
}

fn add<E: Entry>(
    context: &Context<'_>,
    source: &Source,
    entries: &mut Entries<E>,
    name: At<String>,
    entry: E,
) {
    if let Some(first) = entries.get(&name.value) {
        context.error(
            &name.span,
            format!(
                "line {} has the {} of `{}` already",
                first.location.line,
                E::HOLDS,
                name.value
            ),
            "remove one of the two entries",
        );
        return;
    }
    let found = Found {
        location: source.locate(&name.span),
        entry,
        used: false,
    };
    entries.insert(name.value, found);
}

/// The octets of a key in hexadecimal digits.
pub(super) fn hex_octets(context: &Context<'_>, digits: &At<&str>) -> Option<Vec<u8>> {
    let octets = from_hex(digits.value);
    if octets.is_none() {
        context.error(
            &digits.span,
            "the key is not an even number of hexadecimal digits",
            "write two digits for every octet and nothing else (`0x` and spaces neither)",
        );
    }
    octets
}
