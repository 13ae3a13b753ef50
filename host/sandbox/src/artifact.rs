//! Compiled components on disk, by the hash of their content.
//!
//! Loading machine code is trusting it, so every artifact carries a MAC under a key that only this node's user can read:
//! one that someone else wrote, or that a disk damaged, is compiled anew. An artifact of another engine version or CPU has
//! another name, and is never looked at.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use aws_lc_rs::{digest, hmac, rand};
use wasmtime::Engine;

/// A directory of compiled components.
#[derive(Debug)]
pub(crate) struct Artifacts {
    directory: PathBuf,
    key: hmac::Key,
    bytes_max: u64,
}

impl Artifacts {
    /// Opens the directory, making it and its key where they are missing. It holds at most `bytes_max`, or one artifact.
    ///
    /// # Errors
    ///
    /// The directory or the key cannot be read or made.
    pub(crate) fn open(directory: &Path, bytes_max: u64) -> io::Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
        let secret = read_or_make_key(&directory.join("key"))?;
        Ok(Self {
            directory: directory.to_owned(),
            key: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            bytes_max,
        })
    }

    /// The machine code of the component with this hash, unless there is none or it is not ours.
    pub(crate) fn read(&self, engine: &Engine, hash: &str) -> Option<Vec<u8>> {
        let path = self.path(engine, hash);
        let mut file = fs::File::open(&path).ok()?;
        // When it was used last: what `sweep` goes by. A disk that refuses it costs a compilation at some time.
        let _ = file.set_modified(SystemTime::now());
        let mut sealed = Vec::new();
        file.read_to_end(&mut sealed).ok()?;
        let code_length = sealed.len().checked_sub(MAC_BYTES)?;
        let mac = sealed.split_off(code_length);
        if hmac::verify(&self.key, &sealed, &mac).is_err() {
            tracing::warn!(path = %path.display(), "compiled artifact is damaged or not this node's: compiling anew");
            return None;
        }
        Some(sealed)
    }

    /// Whether there is a file of it.
    pub(crate) fn has(&self, engine: &Engine, hash: &str) -> bool {
        self.path(engine, hash).exists()
    }

    /// Keeps the machine code. A failure costs the next start its time, so it is only logged.
    pub(crate) fn write(&self, engine: &Engine, hash: &str, code: &[u8]) {
        let path = self.path(engine, hash);
        if let Err(error) = self.write_sealed(&path, code) {
            tracing::warn!(path = %path.display(), %error, "compiled artifact could not be kept");
        }
        if let Err(error) = self.sweep(&path) {
            tracing::warn!(path = %self.directory.display(), %error, "compiled artifacts could not be looked through");
        }
    }

    /// Removes what was not used for longest, until the rest is within the bound; `newest` stays in any case.
    fn sweep(&self, newest: &Path) -> io::Result<()> {
        let mut artifacts = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == ARTIFACT || extension == PART)
            {
                // Another node on the same data may have removed it since.
                let Ok(about) = fs::metadata(&path) else {
                    continue;
                };
                artifacts.push((about.modified()?, about.len(), path));
            }
        }
        let mut bytes: u64 = artifacts.iter().map(|(_, len, _)| len).sum();
        artifacts.sort();
        for (_, len, path) in artifacts {
            if bytes <= self.bytes_max {
                break;
            }
            if path != newest && fs::remove_file(&path).is_ok() {
                bytes -= len;
            }
        }
        Ok(())
    }

    fn write_sealed(&self, path: &Path, code: &[u8]) -> io::Result<()> {
        // Written beside and renamed, so that no reader sees half of it.
        let beside = path.with_extension(format!("{}.{PART}", std::process::id()));
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(code)?;
        file.write_all(hmac::sign(&self.key, code).as_ref())?;
        drop(file);
        fs::rename(&beside, path)
    }

    fn path(&self, engine: &Engine, hash: &str) -> PathBuf {
        self.directory
            .join(format!("{hash}-{}.{ARTIFACT}", compatibility(engine)))
    }
}

/// Engine, settings and CPU as one word.
pub(crate) fn compatibility(engine: &Engine) -> String {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// SHA-256 in hex: what a component is known by.
pub fn content_hash(bytes: &[u8]) -> String {
    digest::digest(&digest::SHA256, bytes)
        .as_ref()
        .iter()
        .map(|octet| format!("{octet:02x}"))
        .collect()
}

fn read_or_make_key(path: &Path) -> io::Result<Vec<u8>> {
    let there = match fs::File::open(path) {
        Ok(mut file) => {
            let mut secret = Vec::new();
            Read::by_ref(&mut file)
                .take(KEY_BYTES as u64 + 1)
                .read_to_end(&mut secret)?;
            if secret.len() == KEY_BYTES && is_ours_alone(&file.metadata()?) {
                return Ok(secret);
            }
            tracing::warn!(
                path = %path.display(),
                "the key of the compiled artifacts may be known to others: all are compiled anew"
            );
            true
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(error),
    };
    let mut secret = vec![0; KEY_BYTES];
    let mut number = [0; 8];
    for random in [&mut secret[..], &mut number] {
        rand::fill(random).map_err(|_| io::Error::other("no random numbers"))?;
    }
    let draft = format!("key-{:016x}.{PART}", u64::from_ne_bytes(number));
    let draft = path.with_file_name(draft);
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?;
    file.write_all(&secret)?;
    // A link, where there was none: of nodes that begin with one folder at once, one makes the key.
    match fs::hard_link(&draft, path) {
        Ok(()) => fs::remove_file(&draft)?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && !there => {
            fs::remove_file(&draft)?;
            return read_or_make_key(path);
        }
        Err(_) => fs::rename(&draft, path)?,
    }
    Ok(secret)
}

/// Whether nobody else can have read or written a file.
fn is_ours_alone(metadata: &fs::Metadata) -> bool {
    // SAFETY: it has no requirement, and does not fail.
    let user = unsafe { libc::geteuid() };
    metadata.is_file() && metadata.uid() == user && metadata.mode() & 0o077 == 0
}

const ARTIFACT: &str = "cwasm";
/// What is being written, or was when a node was killed.
const PART: &str = "part";
const KEY_BYTES: usize = 32;
const MAC_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artifact_that_was_tampered_with_is_not_used() {
        let directory =
            std::env::temp_dir().join(format!("tidegate-artifacts-{}", std::process::id()));
        let engine = Engine::default();
        let artifacts = Artifacts::open(&directory, 1 << 20).expect("opens");
        artifacts.write(&engine, "abc", b"machine code");
        assert_eq!(
            artifacts.read(&engine, "abc").as_deref(),
            Some(&b"machine code"[..])
        );

        let path = artifacts.path(&engine, "abc");
        let mut bytes = fs::read(&path).expect("there");
        bytes[0] ^= 1;
        fs::write(&path, bytes).expect("writable");
        assert_eq!(artifacts.read(&engine, "abc"), None);
        assert_eq!(artifacts.read(&engine, "absent"), None);
        fs::remove_dir_all(directory).expect("ours");
    }

    #[test]
    fn a_key_that_others_could_read_is_made_anew() {
        use std::os::unix::fs::PermissionsExt;

        let directory =
            std::env::temp_dir().join(format!("tidegate-artifacts-key-{}", std::process::id()));
        let engine = Engine::default();
        let open = || Artifacts::open(&directory, 1 << 20).expect("opens");
        open().write(&engine, "abc", b"machine code");
        assert!(open().read(&engine, "abc").is_some());
        let key = directory.join("key");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("ours");
        assert_eq!(open().read(&engine, "abc"), None);
        assert_eq!(fs::metadata(&key).expect("made").mode() & 0o777, 0o600);
        fs::write(&key, b"short").expect("ours");
        open().write(&engine, "abc", b"machine code");
        assert!(open().read(&engine, "abc").is_some());
        fs::remove_dir_all(directory).expect("ours");
    }

    #[test]
    fn nodes_that_begin_with_one_folder_at_once_have_one_key() {
        let directory =
            std::env::temp_dir().join(format!("tidegate-artifacts-keys-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("ours");
        let key = directory.join("key");
        let keys: Vec<_> = std::thread::scope(|scope| {
            let read = || scope.spawn(|| read_or_make_key(&key).expect("made"));
            let threads: Vec<_> = (0..8).map(|_| read()).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("no panic"))
                .collect()
        });
        assert!(keys.iter().all(|other| *other == keys[0]));
        assert_eq!(fs::read_dir(&directory).expect("ours").count(), 1);
        fs::remove_dir_all(directory).expect("ours");
    }

    #[test]
    fn what_was_not_used_for_longest_makes_room() {
        let directory =
            std::env::temp_dir().join(format!("tidegate-artifacts-bound-{}", std::process::id()));
        let engine = Engine::default();
        let artifacts = Artifacts::open(&directory, 3 * (100 + MAC_BYTES as u64)).expect("opens");
        let age = |hash: &str, seconds: u64| {
            let file = fs::File::open(artifacts.path(&engine, hash)).expect("there");
            let when = SystemTime::now() - std::time::Duration::from_secs(seconds);
            file.set_modified(when).expect("ours");
        };
        for (hash, seconds) in [("a", 30), ("b", 20), ("c", 10)] {
            artifacts.write(&engine, hash, &[0; 100]);
            age(hash, seconds);
        }
        assert!(artifacts.read(&engine, "a").is_some(), "used again");
        artifacts.write(&engine, "d", &[0; 100]);
        let kept = ["a", "b", "c", "d"].map(|hash| artifacts.path(&engine, hash).exists());
        assert_eq!(kept, [true, false, true, true]);

        artifacts.write(&engine, "large", &[0; 1000]);
        let kept = ["a", "c", "d", "large"].map(|hash| artifacts.path(&engine, hash).exists());
        assert_eq!(kept, [false, false, false, true], "one is always kept");
        assert!(directory.join("key").exists());
        fs::remove_dir_all(directory).expect("ours");
    }
}
