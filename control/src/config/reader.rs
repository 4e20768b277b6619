//! Reading TOML tables key by key, with every problem collected instead of the first one only.
//!
//! A derived deserialiser stops at the first error and knows nothing of remedies; here each value
//! is taken by name, which also yields the list of known keys for "did you mean".

use std::{
    cell::{Ref, RefCell},
    ops::{Range, RangeInclusive},
    str::FromStr,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    diagnostic::{Diagnostics, Source},
    words::{did_you_mean, listed},
};

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Its bytes in the file.
    pub span: Range<usize>,
}

impl<T> At<T> {
    /// Another value for the same place.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> At<U> {
        At {
            value: f(self.value),
            span: self.span,
        }
    }
}

/// A file being read and its problems so far.
pub(super) struct Context<'a> {
    source: &'a Source,
    diagnostics: RefCell<Diagnostics>,
}

impl<'a> Context<'a> {
    /// Starts reading a file.
    #[must_use]
    pub(super) fn new(source: &'a Source) -> Self {
        Self {
            source,
            diagnostics: RefCell::default(),
        }
    }

    /// Notes an error at a place.
    pub(super) fn error(
        &self,
        span: &Range<usize>,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.diagnostics
            .borrow_mut()
            .error(Some(self.source.locate(span)), reason, remedy);
    }

    /// Notes a warning at a place.
    pub(super) fn warning(
        &self,
        span: &Range<usize>,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.diagnostics
            .borrow_mut()
            .warning(Some(self.source.locate(span)), reason, remedy);
    }

    /// `file:line` of a place, for pointing at it from another one.
    #[must_use]
    pub(super) fn place(&self, span: &Range<usize>) -> String {
        let location = self.source.locate(span);
        format!("{}:{}", location.file, location.line)
    }

    /// Parses the whole file; syntax errors are noted.
    #[must_use]
    pub(super) fn document(&self) -> Spanned<DeTable<'a>> {
        let (table, errors) = DeTable::parse_recoverable(self.source.text());
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            // The parser's message, not its rendering: that one quotes the line, which may be a key.
            self.error(
                &span,
                format!("not TOML: {}", error.message().trim()),
                "see https://toml.io for the syntax; `hawser help config` has an example",
            );
        }
        table
    }

    /// The problems so far.
    pub(super) fn diagnostics(&self) -> Ref<'_, Diagnostics> {
        self.diagnostics.borrow()
    }

    /// Ends reading.
    #[must_use]
    pub(super) fn finish(self) -> Diagnostics {
        self.diagnostics.into_inner()
    }
}

/// A table being read.
pub(super) struct Table<'c, 'a, 't> {
    context: &'c Context<'a>,
    /// How the table is called in messages: `[gateway]`, `[[connection.tunnel]]`.
    what: &'static str,
    table: &'t DeTable<'a>,
    span: Range<usize>,
    known: RefCell<Vec<&'static str>>,
}

impl<'c, 'a, 't> Table<'c, 'a, 't> {
    /// Starts reading a table.
    #[must_use]
    pub(super) fn new(
        context: &'c Context<'a>,
        what: &'static str,
        table: &'t DeTable<'a>,
        span: Range<usize>,
    ) -> Self {
        Self {
            context,
            what,
            table,
            span,
            known: RefCell::default(),
        }
    }

    /// Where the table begins.
    #[must_use]
    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Whether the key is there.
    #[must_use]
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.keys().any(|k| k.get_ref() == key)
    }

    fn get(&self, key: &'static str) -> Option<&'t Spanned<DeValue<'a>>> {
        self.known.borrow_mut().push(key);
        self.table
            .iter()
            .find(|(k, _)| k.get_ref() == key)
            .map(|(_, v)| v)
    }

    fn wrong_type(&self, key: &str, value: &Spanned<DeValue<'a>>, wanted: &str) {
        self.context.error(
            &value.span(),
            format!(
                "`{key}` in {} is {}",
                self.what,
                article(value.get_ref().type_str())
            ),
            format!("write {wanted}"),
        );
    }

    /// A string.
    pub(super) fn string(&self, key: &'static str) -> Option<At<String>> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(At {
                value: text.clone().into_owned(),
                span: value.span(),
            }),
            _ => {
                self.wrong_type(key, value, "a string in quotes");
                None
            }
        }
    }

    /// A string that is borrowed from the file where it has no escapes: for key material.
    pub(super) fn borrowed(&self, key: &'static str) -> Option<At<&'t str>> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(At {
                value: text.as_ref(),
                span: value.span(),
            }),
            _ => {
                self.wrong_type(key, value, "a string in quotes");
                None
            }
        }
    }

    /// Something with a textual form, such as an address.
    pub(super) fn parsed<T: FromStr>(&self, key: &'static str, wanted: &str) -> Option<At<T>>
    where
        T::Err: std::fmt::Display,
    {
        let text = self.string(key)?;
        self.parse_text(key, text, wanted)
    }

    fn parse_text<T: FromStr>(&self, key: &str, text: At<String>, wanted: &str) -> Option<At<T>>
    where
        T::Err: std::fmt::Display,
    {
        match text.value.parse() {
            Ok(value) => Some(At {
                value,
                span: text.span,
            }),
            Err(error) => {
                self.context.error(
                    &text.span,
                    format!("`{}` is no value for `{key}`: {error}", text.value),
                    format!("write {wanted}"),
                );
                None
            }
        }
    }

    /// One or several values with a textual form: `"a"` or `["a", "b"]`.
    pub(super) fn parsed_list<T: FromStr>(
        &self,
        key: &'static str,
        wanted: &str,
    ) -> Option<Vec<At<T>>>
    where
        T::Err: std::fmt::Display,
    {
        let value = self.get(key)?;
        let items: Vec<&Spanned<DeValue<'a>>> = match value.get_ref() {
            DeValue::Array(items) => items.iter().collect(),
            _ => vec![value],
        };
        let mut list = Vec::with_capacity(items.len());
        for item in items {
            match item.get_ref() {
                DeValue::String(text) => {
                    let text = At {
                        value: text.clone().into_owned(),
                        span: item.span(),
                    };
                    list.extend(self.parse_text(key, text, wanted));
                }
                _ => self.wrong_type(key, item, wanted),
            }
        }
        Some(list)
    }

    /// A truth value.
    pub(super) fn boolean(&self, key: &'static str) -> Option<bool> {
        let value = self.get(key)?;
        let read = value.get_ref().as_bool();
        if read.is_none() {
            self.wrong_type(key, value, "true or false");
        }
        read
    }

    fn integer_of(
        &self,
        key: &str,
        value: &Spanned<DeValue<'a>>,
        range: &RangeInclusive<u64>,
    ) -> Option<At<u64>> {
        let wanted = format!("a whole number from {} to {}", range.start(), range.end());
        let Some(integer) = value.get_ref().as_integer() else {
            self.wrong_type(key, value, &wanted);
            return None;
        };
        match u64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) if range.contains(&number) => Some(At {
                value: number,
                span: value.span(),
            }),
            _ => {
                self.context.error(
                    &value.span(),
                    format!("`{key}` in {} is out of range", self.what),
                    format!("write {wanted}"),
                );
                None
            }
        }
    }

    /// A whole number.
    pub(super) fn integer(&self, key: &'static str, range: RangeInclusive<u64>) -> Option<At<u64>> {
        let value = self.get(key)?;
        self.integer_of(key, value, &range)
    }

    /// Several whole numbers.
    pub(super) fn integers(
        &self,
        key: &'static str,
        range: RangeInclusive<u64>,
    ) -> Option<At<Vec<At<u64>>>> {
        let value = self.get(key)?;
        let Some(items) = value.get_ref().as_array() else {
            self.wrong_type(key, value, "a list of numbers such as [2, 3]");
            return None;
        };
        let list = items
            .iter()
            .filter_map(|item| self.integer_of(key, item, &range))
            .collect();
        Some(At {
            value: list,
            span: value.span(),
        })
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&self, key: &'static str, words: &[(&str, T)]) -> Option<At<T>> {
        let text = self.string(key)?;
        self.choose(key, text, words)
    }

    fn choose<T: Copy>(&self, key: &str, text: At<String>, words: &[(&str, T)]) -> Option<At<T>> {
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text.value) {
            return Some(At {
                value: *value,
                span: text.span,
            });
        }
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        self.context.error(
            &text.span,
            format!("`{}` is no value for `{key}`", text.value),
            format!(
                "{}valid are {}",
                did_you_mean(&text.value, &names),
                listed(&names)
            ),
        );
        None
    }

    /// One of a few words, or a whole number.
    pub(super) fn choice_or_integer<T: Copy>(
        &self,
        key: &'static str,
        words: &[(&str, T)],
        range: RangeInclusive<u64>,
        number: impl FnOnce(u64) -> T,
    ) -> Option<At<T>> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::Integer(_) => self.integer_of(key, value, &range).map(|n| n.map(number)),
            DeValue::String(text) => self.choose(
                key,
                At {
                    value: text.to_string(),
                    span: value.span(),
                },
                words,
            ),
            _ => {
                let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                let wanted = format!("{} or a number up to {}", listed(&names), range.end());
                self.wrong_type(key, value, &wanted);
                None
            }
        }
    }

    /// Whether the key holds a string (and not, say, a table).
    #[must_use]
    pub(super) fn is_string(&self, key: &str) -> bool {
        self.table
            .iter()
            .any(|(k, v)| k.get_ref() == key && v.get_ref().is_str())
    }

    /// Whether the key holds this very string.
    #[must_use]
    pub(super) fn is(&self, key: &str, text: &str) -> bool {
        self.table
            .iter()
            .any(|(k, v)| k.get_ref() == key && v.get_ref().as_str() == Some(text))
    }

    /// A table inside this one.
    pub(super) fn table(&self, key: &'static str, what: &'static str) -> Option<Table<'c, 'a, 't>> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::Table(table) => Some(Table::new(self.context, what, table, value.span())),
            _ => {
                self.wrong_type(key, value, &format!("a table: {what}"));
                None
            }
        }
    }

    /// The tables of an array of tables, in order.
    pub(super) fn tables(&self, key: &'static str, what: &'static str) -> Vec<Table<'c, 'a, 't>> {
        let Some(value) = self.get(key) else {
            return Vec::new();
        };
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong_type(
                key,
                value,
                &format!("{what} with double brackets, once for each"),
            );
            return Vec::new();
        };
        let mut tables = Vec::with_capacity(items.len());
        for item in items {
            match item.get_ref() {
                DeValue::Table(table) => {
                    tables.push(Table::new(self.context, what, table, item.span()));
                }
                _ => self.wrong_type(key, item, &format!("a table: {what}")),
            }
        }
        tables
    }

    /// Notes that a key is missing.
    pub(super) fn required<T>(
        &self,
        value: Option<T>,
        key: &'static str,
        example: &str,
    ) -> Option<T> {
        // A value that is there but wrong has been reported already.
        if value.is_none() && !self.has(key) {
            self.context.error(
                &self.span,
                format!("{} has no `{key}`", self.what),
                format!("add a line such as: {key} = {example}"),
            );
        }
        value
    }

    /// Ends reading: what was never asked for is unknown.
    pub(super) fn finish(self) {
        let known = self.known.borrow();
        for (key, _) in self.table {
            if !known.contains(&key.get_ref().as_ref()) {
                let hint = did_you_mean(key.get_ref(), &known);
                self.context.error(
                    &key.span(),
                    format!("unknown key `{}` in {}", key.get_ref(), self.what),
                    format!("{hint}valid are {}", listed(&known)),
                );
            }
        }
    }
}

fn article(kind: &str) -> String {
    let vowel = kind.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {kind}", if vowel { "an" } else { "a" })
}
