//! The files that a key exchange names: certificates and private keys, each read once.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use hawser_api::Secret;

use crate::config::{
    protected::read_protected,
    reader::{At, Context},
    secrets::SecretFiles,
};

/// Certificate files that were read, each once.
#[derive(Default)]
pub(in crate::config::parse) struct IkeFiles {
    pub(in crate::config::parse) secrets: SecretFiles,
    contents: HashMap<PathBuf, Option<Vec<u8>>>,
    keys: HashMap<PathBuf, Option<Secret>>,
}

impl IkeFiles {
    pub(super) fn read(
        &mut self,
        context: &Context<'_>,
        base: &Path,
        name: &At<String>,
    ) -> Option<Vec<u8>> {
        let path = base.join(&name.value);
        if let Some(known) = self.contents.get(&path) {
            return known.clone();
        }
        let contents = match std::fs::read(&path) {
            Ok(contents) => Some(contents),
            Err(error) => {
                context.error(
                    &name.span,
                    format!("cannot read {}: {error}", path.display()),
                    "name an existing file; its path is relative to the configuration's folder",
                );
                None
            }
        };
        self.contents.insert(path, contents.clone());
        contents
    }

    pub(super) fn key(
        &mut self,
        context: &Context<'_>,
        base: &Path,
        name: &At<String>,
    ) -> Option<Secret> {
        let path = base.join(&name.value);
        if let Some(known) = self.keys.get(&path) {
            return known.clone();
        }
        let key = match read_protected("the private key", &path) {
            Ok(text) => Some(Secret::new(text.as_bytes().to_vec())),
            Err(problem) => {
                context.error(&name.span, problem.reason, problem.remedy);
                None
            }
        };
        self.keys.insert(path, key.clone());
        key
    }
}
