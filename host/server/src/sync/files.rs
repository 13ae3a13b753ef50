//! The snapshot on the disk: its files by their hash, and its manifest under a MAC of the node's own.
//!
//! Files are written beside and renamed, so one that is there is whole; the manifest is replaced last. A node that is killed
//! at any moment comes back with the old snapshot or the new one.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use aws_lc_rs::{digest, hmac};
use bytes::Bytes;

use super::manifest::{Manifest, hex, is_hash};
use crate::durable;
use crate::signature;

/// The snapshot that a node keeps.
pub struct Files {
    directory: PathBuf,
    key: hmac::Key,
}

impl Files {
    /// Opens the directory, and makes it where it is missing.
    ///
    /// # Errors
    /// Where it cannot be read or made.
    pub fn open(directory: &Path) -> Result<Self> {
        let files = directory.join(FILES);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&files)
            .with_context(|| format!("{} cannot be made", files.display()))?;
        let path = directory.join(KEY);
        let secret: [u8; KEY_BYTES] =
            durable::secret(&path).with_context(|| path.display().to_string())?;
        Ok(Self {
            directory: directory.to_owned(),
            key: hmac::Key::new(hmac::HMAC_SHA256, &secret),
        })
    }

    /// Where the snapshot is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where a file is, or would be.
    pub fn path(&self, hash: &str) -> PathBuf {
        self.directory.join(FILES).join(hash)
    }

    /// Whether a file is there, by its length: its content is looked at when it is used.
    pub fn has(&self, hash: &str, bytes: u64) -> bool {
        fs::metadata(self.path(hash)).is_ok_and(|file| file.len() == bytes)
    }

    /// Removes those of a snapshot's files whose content is another one than their name says.
    pub fn forget_damaged(&self, manifest: &Manifest) {
        for hash in manifest.files.keys() {
            let content = fs::read(self.path(hash));
            if content.is_ok_and(|content| sha256(&content) != *hash) {
                tracing::warn!(file = hash, "damaged on the disk: it is fetched again");
                _ = fs::remove_file(self.path(hash));
            }
        }
    }

    /// A file's content.
    ///
    /// # Errors
    /// Where it is not there, or is not what its name says.
    pub fn read(&self, hash: &str) -> Result<Bytes> {
        let path = self.path(hash);
        let content =
            fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        if sha256(&content) != hash {
            bail!(
                "{} is damaged: its content has another hash than its name",
                path.display()
            );
        }
        Ok(content.into())
    }

    /// Keeps a file; gives its hash.
    ///
    /// # Errors
    /// Where the disk does not take it.
    pub fn keep(&self, content: &[u8]) -> Result<String> {
        let hash = sha256(content);
        if !self.has(&hash, content.len() as u64) {
            let path = self.path(&hash);
            durable::replace_private(&path, content)
                .with_context(|| format!("{} cannot be written", path.display()))?;
        }
        Ok(hash)
    }

    /// Keeps a file that came from another node.
    ///
    /// # Errors
    /// Where it is not what was asked for, or the disk does not take it.
    pub fn keep_fetched(&self, hash: &str, content: &[u8]) -> Result<()> {
        let got = sha256(content);
        if got != hash {
            bail!(
                "file {hash} was tampered with or damaged on its way: what came has the hash {got}"
            );
        }
        self.keep(content).map(drop)
    }

    /// Keeps a component's signature beside it.
    ///
    /// # Errors
    /// Where the disk does not take it.
    pub fn keep_signature(&self, hash: &str, line: &str) -> Result<()> {
        let path = signature::beside(&self.path(hash));
        durable::replace_private(&path, line.as_bytes())
            .with_context(|| format!("{} cannot be written", path.display()))
    }

    /// The snapshot that was put in force last; none where there is none.
    ///
    /// # Errors
    /// Where it was tampered with, is damaged, or is another version's.
    pub fn current(&self) -> Result<Option<Manifest>> {
        let path = self.directory.join(CURRENT);
        let mut sealed = match fs::read(&path) {
            Ok(sealed) => sealed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("{} cannot be read", path.display()));
            }
        };
        let told = || format!("{} is not used", path.display());
        let at = sealed.len().checked_sub(MAC_BYTES);
        let mac = at.map(|at| sealed.split_off(at)).unwrap_or_default();
        if hmac::verify(&self.key, &sealed, &mac).is_err() {
            return Err(anyhow::anyhow!("it was tampered with, or is damaged")).with_context(told);
        }
        let manifest = Manifest::read(&sealed)
            .map_err(anyhow::Error::msg)
            .with_context(told)?;
        Ok(Some(manifest))
    }

    /// Puts a snapshot in force, and removes the files of those before.
    ///
    /// # Errors
    /// Where the disk does not take it; the one before is in force then.
    pub fn put_in_force(&self, manifest: &Manifest) -> Result<()> {
        let path = self.directory.join(CURRENT);
        let mut sealed = serde_json::to_vec(manifest)?;
        let mac = hmac::sign(&self.key, &sealed);
        sealed.extend_from_slice(mac.as_ref());
        durable::replace_private(&path, &sealed)
            .with_context(|| format!("{} cannot be written", path.display()))?;
        self.sweep(manifest);
        Ok(())
    }

    fn sweep(&self, manifest: &Manifest) {
        let named: BTreeSet<&str> = manifest.files.keys().map(String::as_str).collect();
        let Ok(files) = fs::read_dir(self.directory.join(FILES)) else {
            return;
        };
        for file in files.flatten() {
            let name = file.file_name();
            let name = name
                .to_str()
                .map(|name| name.strip_suffix(".sig").unwrap_or(name));
            if name.is_none_or(|name| !is_hash(name) || !named.contains(name)) {
                _ = fs::remove_file(file.path()); // the next one tries again
            }
        }
    }
}

/// SHA-256 in hex.
pub fn sha256(content: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, content).as_ref())
}

const FILES: &str = "files";
const CURRENT: &str = "current.json.mac";
const KEY: &str = "key";
const KEY_BYTES: usize = 32;
const MAC_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::sync::manifest::FORMAT;

    fn manifest(files: &Files, contents: &[&str]) -> Manifest {
        let kept = contents.iter().map(|content| {
            let hash = files.keep(content.as_bytes()).unwrap();
            (hash, content.len() as u64)
        });
        Manifest {
            format: FORMAT,
            sequence: 1,
            origin: "fra".to_owned(),
            configuration: contents.join(","),
            files: kept.collect(),
            origins_only: BTreeSet::new(),
            signatures: BTreeMap::new(),
            versions: BTreeMap::new(),
            components: BTreeSet::new(),
        }
    }

    #[test]
    fn the_last_snapshot_is_there_after_a_restart_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::open(folder.path()).unwrap();
        assert!(files.current().unwrap().is_none());
        for contents in [["one", "both"], ["two", "both"]] {
            files.put_in_force(&manifest(&files, &contents)).unwrap();
        }
        let files = Files::open(folder.path()).unwrap();
        let current = files.current().unwrap().unwrap();
        assert_eq!(current.configuration, "two,both");
        for content in ["two", "both"] {
            assert_eq!(files.read(&sha256(content.as_bytes())).unwrap(), content);
        }
        assert!(!files.has(&sha256(b"one"), 3));
    }

    #[test]
    fn what_was_tampered_with_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::open(folder.path()).unwrap();
        let manifest = manifest(&files, &["one"]);
        files.put_in_force(&manifest).unwrap();
        let path = folder.path().join(CURRENT);
        let whole = fs::read(&path).unwrap();
        for at in [0, whole.len() / 2, whole.len() - 1] {
            let mut other = whole.clone();
            other[at] ^= 1;
            fs::write(&path, other).unwrap();
            let refused = format!("{:#}", files.current().unwrap_err());
            assert!(refused.contains("tampered"), "{refused}");
        }
        fs::write(&path, &whole[..10]).unwrap();
        assert!(files.current().is_err());

        let hash = sha256(b"one");
        fs::write(files.path(&hash), "eno").unwrap();
        assert!(format!("{:#}", files.read(&hash).unwrap_err()).contains("damaged"));
        let refused = files.keep_fetched(&hash, b"other").unwrap_err().to_string();
        assert!(refused.contains("tampered"), "{refused}");
    }
}
