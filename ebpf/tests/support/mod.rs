//! What the tests that need root share.

/// Whether to skip, said aloud.
pub(crate) fn skip_without_root(test: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("skipped: {test} loads an XDP program, which needs root");
    }
    !is_root
}
