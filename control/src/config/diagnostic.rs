//! What is wrong with a configuration: where, why, and what to do about it.
//!
//! Every problem of a file is collected and reported at once, so that a person fixes a file in
//! one round. A diagnostic never carries text out of a key file.

use std::{fmt, ops::Range, path::Path};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// It works, but probably not as meant.
    Warning,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// The file as it was named.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// How many characters of the line are meant.
    pub length: usize,
    /// The line itself; absent for key files.
    pub text: Option<String>,
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Where.
    pub location: Option<Location>,
    /// What is wrong.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        writeln!(f, "{severity}: {}", self.reason)?;
        let mut indent = String::from("  ");
        if let Some(Location {
            file,
            line,
            column,
            length,
            text,
        }) = &self.location
        {
            let number = line.to_string();
            indent = " ".repeat(number.len() + 1);
            writeln!(f, "{}--> {file}:{line}:{column}", " ".repeat(number.len()))?;
            if let Some(text) = text {
                writeln!(f, "{indent}|")?;
                writeln!(f, "{number} | {text}")?;
                let pad: String = text
                    .chars()
                    .take(column - 1)
                    .map(|c| if c == '\t' { '\t' } else { ' ' })
                    .collect();
                writeln!(f, "{indent}| {pad}{}", "^".repeat((*length).max(1)))?;
            }
        }
        write!(f, "{indent}= remedy: {}", self.remedy)
    }
}

/// A file's name and text.
pub struct Source {
    file: String,
    text: Zeroizing<String>,
    secret: bool,
    /// Where lines begin, so that thousands of places are found quickly.
    lines: Vec<usize>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({})", self.file)
    }
}

impl Source {
    /// A file whose lines may be shown.
    #[must_use]
    pub fn new(path: &Path, text: String) -> Self {
        Self::of(path, Zeroizing::new(text), false)
    }

    /// A file whose lines must never be shown; the text is wiped when dropped.
    #[must_use]
    pub fn secret(path: &Path, text: Zeroizing<String>) -> Self {
        Self::of(path, text, true)
    }

    fn of(path: &Path, text: Zeroizing<String>, secret: bool) -> Self {
        let newlines = text.bytes().enumerate().filter(|(_, b)| *b == b'\n');
        let lines = std::iter::once(0)
            .chain(newlines.map(|(i, _)| i + 1))
            .collect();
        Self {
            file: path.display().to_string(),
            text,
            secret,
            lines,
        }
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The file as it was named.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Where a range of bytes is.
    #[must_use]
    pub fn locate(&self, span: &Range<usize>) -> Location {
        let text: &str = &self.text;
        let mut start = span.start.min(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let line = self.lines.partition_point(|begin| *begin <= start).max(1);
        let line_start = self.lines[line - 1];
        let line_text = text[line_start..].lines().next().unwrap_or_default();
        let column = text[line_start..start].chars().count() + 1;
        let left = line_text.chars().count().saturating_sub(column - 1);
        let wanted = text
            .get(start..span.end.min(text.len()))
            .map_or(1, |t| t.chars().count());
        Location {
            file: self.file.clone(),
            line,
            column,
            length: wanted.min(left).max(1),
            text: (!self.secret).then(|| line_text.to_owned()),
        }
    }
}

/// All problems of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl Diagnostics {
    /// Adds an error.
    pub fn error(
        &mut self,
        location: Option<Location>,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.0.push(Diagnostic {
            severity: Severity::Error,
            location,
            reason: reason.into(),
            remedy: remedy.into(),
        });
    }

    /// Adds a warning.
    pub fn warning(
        &mut self,
        location: Option<Location>,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.0.push(Diagnostic {
            severity: Severity::Warning,
            location,
            reason: reason.into(),
            remedy: remedy.into(),
        });
    }

    /// Whether the configuration must be refused.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|d| d.severity == Severity::Error)
    }

    /// How many of this severity.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.0.iter().filter(|d| d.severity == severity).count()
    }

    /// Sorts by file and place, so that the report reads like the file.
    pub fn sort(&mut self) {
        self.0.sort_by(|a, b| {
            let key = |d: &Diagnostic| {
                d.location
                    .as_ref()
                    .map(|l| (l.file.clone(), l.line, l.column))
            };
            key(a).cmp(&key(b)).then(a.severity.cmp(&b.severity))
        });
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for diagnostic in &self.0 {
            writeln!(f, "{diagnostic}\n")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_the_line_and_marks_the_place() {
        let source = Source::new(Path::new("a.toml"), "x = 1\nremot = \"é\" # z\n".into());
        let mut all = Diagnostics::default();
        all.error(
            Some(source.locate(&(6..11))),
            "unknown key `remot`",
            "did you mean `remote`?",
        );
        assert_eq!(
            all.0[0].to_string(),
            "error: unknown key `remot`\n --> a.toml:2:1\n  |\n2 | remot = \"é\" # z\n  | ^^^^^\n  = remedy: did you mean `remote`?"
        );
        assert_eq!(source.locate(&(14..18)).length, 3);
    }

    #[test]
    fn a_key_file_is_not_shown() {
        let source = Source::secret(
            Path::new("k"),
            Zeroizing::new("key = \"00112233\"\n".to_owned()),
        );
        let shown = source.locate(&(6..16));
        assert_eq!((shown.line, shown.column, &shown.text), (1, 7, &None));
        assert!(!format!("{source:?}").contains("0011"));
    }

    #[test]
    fn a_span_past_the_end_is_clamped() {
        let source = Source::new(Path::new("a"), "ab".into());
        assert_eq!(source.locate(&(5..9)).column, 3);
    }
}
