//! Signatures of components: Ed25519 (RFC 8032) over all their bytes, detached, in one line of text.
//!
//! The line is `ed25519 KEY SIGNATURE`, both in base64, KEY as it stands in a PEM file. It lies beside a component as
//! `guard.wasm.sig`, in a registry as the manifest's annotation, and comes with a swap in a header field. OpenSSL makes and
//! verifies the same signatures.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tidegate_model::config::{PublicKey, Signatures};

/// Who signed, and the signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    pub key: PublicKey,
    bytes: [u8; 64],
}

impl Signature {
    /// Signs a component.
    pub fn of(component: &[u8], pair: &Ed25519KeyPair) -> Self {
        let (mut key, mut bytes) = ([0; 32], [0; 64]);
        key.copy_from_slice(pair.public_key().as_ref());
        bytes.copy_from_slice(pair.sign(component).as_ref());
        Self {
            key: PublicKey(key),
            bytes,
        }
    }

    /// Reads the line.
    ///
    /// # Errors
    ///
    /// A sentence on what is wrong.
    pub fn parse(line: &str) -> Result<Self, String> {
        let mut words = line.split_ascii_whitespace();
        let (Some("ed25519"), Some(key), Some(signature), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err("its signature is not written as `ed25519 KEY SIGNATURE`".to_owned());
        };
        let bytes = STANDARD
            .decode(signature)
            .ok()
            .and_then(|bytes| bytes.try_into().ok());
        Ok(Self {
            key: PublicKey::parse(key).map_err(|problem| format!("its signature: {problem}"))?,
            bytes: bytes.ok_or("its signature has no 64 bytes of base64")?,
        })
    }

    /// Sees that it is of this component.
    ///
    /// # Errors
    ///
    /// A sentence, where it is not.
    pub fn verify(&self, component: &[u8]) -> Result<(), String> {
        UnparsedPublicKey::new(&ED25519, self.key.0)
            .verify(component, &self.bytes)
            .map_err(|_| {
                format!(
                    "it is not what was signed with the key {}: it was changed, or the signature is another component's",
                    self.key
                )
            })
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ed25519 {} {}", self.key, STANDARD.encode(self.bytes))
    }
}

/// Whether a node with this policy runs a component.
///
/// # Errors
///
/// A sentence on why it does not.
pub fn check(policy: &Signatures, component: &[u8], signature: Option<&str>) -> Result<(), String> {
    let Signatures::Required(trusted) = policy else {
        return Ok(());
    };
    let line = signature.ok_or(
        "it is not signed, and this node runs what is signed only (`signatures` of [plugins])",
    )?;
    let signature = Signature::parse(line)?;
    if !trusted.contains(&signature.key) {
        return Err(format!(
            "it is signed with the key {}, which is none of the `trusted-keys` of [plugins]",
            signature.key
        ));
    }
    signature.verify(component)
}

/// Where the signature of a component lies: `guard.wasm.sig`.
pub fn beside(component: &Path) -> PathBuf {
    let mut path = component.as_os_str().to_owned();
    path.push(".sig");
    path.into()
}

/// Reads the signature that lies beside a component, where there is one.
///
/// # Errors
///
/// A sentence, where it is there and cannot be read.
pub fn read_beside(component: &Path) -> Result<Option<String>, String> {
    let path = beside(component);
    let said = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    let file = match std::fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(said(error)),
    };
    let mut line = String::new();
    file.take(LINE_BYTES_MAX)
        .read_to_string(&mut line)
        .map_err(said)?;
    Ok(Some(line))
}

/// The header field that a signature comes in with its component.
pub const HEADER: &str = "tidegate-signature";
/// The annotation of a manifest that holds the signature of its layer.
pub const ANNOTATION: &str = "dev.tidegate.signature";
/// Far more than the 157 of a signature.
const LINE_BYTES_MAX: u64 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_runs_where_it_is_what_a_trusted_key_signed() {
        let (ours, others) = (pair(), pair());
        let signed = Signature::of(b"component", &ours);
        let line = signed.to_string();
        assert_eq!(Signature::parse(&format!("{line}\n")), Ok(signed.clone()));
        let required = Signatures::Required(vec![signed.key]);
        assert_eq!(check(&required, b"component", Some(&line)), Ok(()));
        assert_eq!(check(&Signatures::Off, b"component", None), Ok(()));

        let foreign = Signature::of(b"component", &others).to_string();
        // The trusted key's name before a signature that it did not make.
        let stolen = format!(
            "ed25519 {} {}",
            signed.key,
            foreign.rsplit(' ').next().unwrap()
        );
        let cases: [(&[u8], Option<&str>, &str); 6] = [
            (b"component", None, "is not signed"),
            (b"changed", Some(&line), "it was changed"),
            (b"component", Some(&foreign), "none of the `trusted-keys`"),
            (b"component", Some(&stolen), "it was changed"),
            (b"component", Some(&line[..100]), "64 bytes"),
            (b"component", Some(""), "not written as"),
        ];
        for (component, line, cause) in cases {
            let refused = check(&required, component, line).unwrap_err();
            assert!(refused.contains(cause), "{line:?}: {refused}");
        }
    }

    fn pair() -> Ed25519KeyPair {
        Ed25519KeyPair::generate().unwrap()
    }
}
