//! `[plugins]`: whose components a node runs.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use toml::Spanned;

use super::source::Source;

/// Which plugins and functions are let in, beside the plugins that come with the node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Signatures {
    /// Whatever the configuration names, and what is swapped in.
    #[default]
    Off,
    /// What one of these keys has signed.
    Required(Vec<PublicKey>),
}

/// An Ed25519 public key (RFC 8032).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// Reads a key as it stands between the lines of a PEM file: a `SubjectPublicKeyInfo` in base64.
    ///
    /// # Errors
    ///
    /// A sentence on what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "\"{text}\" is no Ed25519 public key: write the one line of NAME.pub that `tidegate plugin keygen NAME` makes, \
                 without those that begin with -----"
            )
        };
        let der = STANDARD.decode(text).map_err(|_| wrong())?;
        let key = der.strip_prefix(&SPKI).ok_or_else(wrong)?;
        Ok(Self(key.try_into().map_err(|_| wrong())?))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode([&SPKI[..], &self.0].concat()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct PluginsFile {
    /// Default `"off"`: who can write the node's files, or reach its admin address, decides what it runs.
    signatures: Option<Spanned<Policy>>,
    /// Default none.
    trusted_keys: Option<Vec<Spanned<String>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Policy {
    Off,
    Required,
}

impl PluginsFile {
    pub(super) fn compile(self, source: &mut Source) -> Signatures {
        let mut keys = Vec::new();
        for written in self.trusted_keys.unwrap_or_default() {
            match PublicKey::parse(written.get_ref()) {
                Ok(key) => keys.push(key),
                Err(problem) => {
                    source.problem(
                        &written.span(),
                        format!("plugins: `trusted-keys`: {problem}"),
                    );
                }
            }
        }
        let Some(policy) = self.signatures else {
            return Signatures::Off;
        };
        if *policy.get_ref() == Policy::Off {
            return Signatures::Off;
        }
        if keys.is_empty() {
            source.problem(
                &policy.span(),
                "plugins: signatures are required, and `trusted-keys` has no key that could make one",
            );
        }
        Signatures::Required(keys)
    }
}

/// What stands before the 32 bytes of the key. Source: RFC 8410 section 4.
const SPKI: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 8410 section 10.1.
    const KEY: &str = "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=";

    #[test]
    fn a_key_is_read_as_it_is_written_and_nothing_else_is() {
        assert_eq!(PublicKey::parse(KEY).unwrap().to_string(), KEY);
        for wrong in [
            "",
            "-----BEGIN PUBLIC KEY-----",
            &KEY[..56],
            &KEY[16..],
            "ed25519",
        ] {
            let problem = PublicKey::parse(wrong).unwrap_err();
            assert!(
                problem.contains("no Ed25519 public key"),
                "{wrong}: {problem}"
            );
        }
    }
}
