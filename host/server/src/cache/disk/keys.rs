//! What the disk tier keeps secret, all of it derived from one secret.

use std::io;
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};

use crate::durable;

/// The keys of a tier.
pub struct Keys {
    root: Prk,
    /// For places of URLs, and for the hashes of cache keys: who reads the files does not learn by them what is in there.
    pub hashes: (u64, u64),
    /// The same with the same secret: files of another one are of no use.
    pub check: [u8; 8],
}

impl Keys {
    /// Those of a secret.
    pub fn of(secret: &[u8]) -> Self {
        let root = Salt::new(HKDF_SHA256, b"tidegate response cache").extract(secret);
        let number = |name: &[u8]| u64::from_le_bytes(derived(&root, name));
        Self {
            hashes: (number(b"hash 0"), number(b"hash 1")),
            check: derived(&root, b"check"),
            root,
        }
    }

    /// Those of the secret in a file, which is made up where there is none.
    ///
    /// # Errors
    /// Where the file can be neither read nor made, or is none of ours.
    pub fn kept_in(path: &Path) -> io::Result<Self> {
        let secret: [u8; SECRET_BYTES] = durable::secret(path)?;
        Ok(Self::of(&secret))
    }

    /// The key of one segment: each has its own, so that a place in it is a nonce that never comes twice.
    pub fn of_segment(&self, salt: &[u8; 16]) -> LessSafeKey {
        let info: [&[u8]; 2] = [b"segment", salt];
        let key = self.root.expand(&info, &AES_256_GCM);
        LessSafeKey::new(UnboundKey::from(key.expect("32 bytes can be had")))
    }
}

fn derived(root: &Prk, name: &[u8]) -> [u8; 8] {
    struct Eight;
    impl KeyType for Eight {
        fn len(&self) -> usize {
            8
        }
    }
    let mut bytes = [0; 8];
    root.expand(&[name], Eight)
        .and_then(|derived| derived.fill(&mut bytes))
        .expect("8 bytes can be had");
    bytes
}

const SECRET_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_up_once_and_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let first = Keys::kept_in(&path).unwrap();
        assert_eq!(first.check, Keys::kept_in(&path).unwrap().check);
        assert_ne!(first.check, Keys::of(b"another").check);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(&path, "short").unwrap();
        assert!(Keys::kept_in(&path).is_err());
    }
}
