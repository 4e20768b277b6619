//! Files with secrets: refused when others than their owner may read them, wiped after use.

use std::{
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use zeroize::Zeroizing;

/// What keeps a file from being read.
pub(super) struct Unreadable {
    /// Why.
    pub(super) reason: String,
    /// What to do about it.
    pub(super) remedy: String,
}

/// Reads a text file that only its owner (or root) may read. `what` is how messages call
/// it: "the … file".
pub(super) fn read_protected(what: &str, path: &Path) -> Result<Zeroizing<String>, Unreadable> {
    use std::io::Read;
    let shown = path.display();
    let unreadable = |error: std::io::Error| Unreadable {
        reason: format!("cannot read {what} {shown}: {error}"),
        remedy: "name an existing file; its path is relative to the configuration's folder".into(),
    };
    let mut file = std::fs::File::open(path).map_err(unreadable)?;
    // Of the opened file, not of the path: the two could differ.
    let meta = file.metadata().map_err(unreadable)?;
    let mode = meta.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(Unreadable {
            reason: format!(
                "{what} {shown} has mode {mode:04o}, so others than its owner can read it"
            ),
            remedy: format!("run: chmod 600 {shown}"),
        });
    }
    let uid = rustix::process::geteuid().as_raw();
    if meta.uid() != uid && meta.uid() != 0 {
        return Err(Unreadable {
            reason: format!("{what} {shown} belongs to user {}, not to you", meta.uid()),
            remedy: format!("run: chown {uid} {shown}"),
        });
    }
    // The buffer must not move while it grows: what it leaves behind would not be wiped.
    let size = usize::try_from(meta.len()).unwrap_or(0) + 1;
    let mut text = Zeroizing::new(String::with_capacity(size));
    file.read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}

/// Decodes hexadecimal digits.
#[must_use]
pub(super) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| char::from(c).to_digit(16).map(|d| d as u8);
    if text.is_empty() || !text.len().is_multiple_of(2) {
        return None;
    }
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_digits() {
        assert_eq!(from_hex("00fFa5"), Some(vec![0, 255, 0xa5]));
        for wrong in ["", "0", "0g", "0x00", "é0"] {
            assert_eq!(from_hex(wrong), None, "{wrong}");
        }
    }
}
