//! What a snapshot is made of, as one document.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};
use tidegate_model::Problems;
use tidegate_model::config::{self, Node};

/// A snapshot as nodes tell it to each other. Its files are known by their SHA-256.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Of this document; another one is refused by name.
    pub format: u32,
    /// Rises with every snapshot: milliseconds since 1970 when it was published, or one more than the one before.
    pub sequence: u64,
    /// The node that published it first.
    pub origin: String,
    /// A node's configuration (TOML) whose files are named `files/HASH`, with no listener and no path of its own.
    pub configuration: String,
    /// All files that the configuration names, and those of `versions`, by hash; with their length.
    pub files: BTreeMap<String, u64>,
    /// Of them, those that edges have no use for: functions.
    pub origins_only: BTreeSet<String>,
    /// The signatures of components that have one, by the component's hash.
    #[serde(default)]
    pub signatures: BTreeMap<String, String>,
    /// Plugin versions that stand in for what the configuration says: their hashes by plugin.
    pub versions: BTreeMap<String, String>,
    /// The hashes of all components that steps are bound to, built-in ones too.
    pub components: BTreeSet<String>,
}

impl Manifest {
    /// What the snapshot is known by: changes with whatever requests are answered by, and with nothing else.
    pub fn id(&self) -> Arc<str> {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(self.configuration.as_bytes());
        for (plugin, hash) in &self.versions {
            context.update(&[0]);
            context.update(plugin.as_bytes());
            context.update(&[0]);
            context.update(hash.as_bytes());
        }
        for (hash, line) in &self.signatures {
            context.update(&[1]);
            context.update(hash.as_bytes());
            context.update(line.as_bytes());
        }
        hex(&context.finish().as_ref()[..8]).into()
    }

    /// Reads one.
    ///
    /// # Errors
    /// A sentence, where it is none, or more than a snapshot can be.
    pub fn read(text: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let no = |error: serde_json::Error| format!("it is no snapshot: {error}");
        let Format { format } = serde_json::from_slice(text).map_err(no)?;
        check_format(format)?;
        let manifest: Self = serde_json::from_slice(text).map_err(no)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Sees that it is what a snapshot can be.
    ///
    /// # Errors
    /// A sentence on what it cannot.
    pub fn check(&self) -> Result<(), String> {
        check_format(self.format)?;
        let hashes = self.files.keys().chain(self.versions.values());
        let hashes = hashes.chain(self.signatures.keys());
        if let Some(other) = hashes.chain(&self.components).find(|it| !is_hash(it)) {
            return Err(format!("{other:?} is no SHA-256"));
        }
        if self.files.len() > FILES_MAX {
            return Err(format!("it has more than {FILES_MAX} files"));
        }
        if let Some((file, bytes)) = self
            .files
            .iter()
            .find(|(_, bytes)| **bytes > FILE_BYTES_MAX)
        {
            return Err(format!(
                "{file} has {bytes} bytes; a file has at most {FILE_BYTES_MAX}"
            ));
        }
        if let Some((plugin, _)) = self
            .versions
            .iter()
            .find(|(_, hash)| !self.files.contains_key(*hash))
        {
            return Err(format!("the version of {plugin:?} is not among its files"));
        }
        Ok(())
    }

    /// The configuration of a node that serves this snapshot: `own` says what the node is, the snapshot what it serves.
    /// `directory` holds the snapshot's files.
    ///
    /// # Errors
    /// What is wrong with the snapshot's configuration.
    pub fn node(&self, own: &Node, directory: &Path) -> Result<Node, Problems> {
        let served = config::parse(&directory.join(CONFIGURATION), &self.configuration)?;
        Ok(Node {
            // Stands in the names of hosts: the home region's.
            region: served.region,
            suffix: served.suffix,
            limits: config::Limits {
                payload: served.limits.payload,
                ..own.limits.clone()
            },
            timeouts: config::Timeouts {
                integration: served.timeouts.integration,
                ..own.timeouts.clone()
            },
            upstreams: served.upstreams,
            functions: served.functions,
            plugins: served.plugins,
            apis: served.apis,
            keys: served.keys,
            // The node has some of its own: the key of its cache on disk.
            secrets: own
                .secrets
                .clone()
                .into_iter()
                .chain(served.secrets)
                .collect(),
            ..own.clone()
        })
    }
}

fn check_format(format: u32) -> Result<(), String> {
    if format == FORMAT {
        return Ok(());
    }
    Err(format!(
        "it has format {format}, this node reads format {FORMAT}: both nodes should have one version of Tidegate"
    ))
}

/// Octets in hex.
pub fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Whether it is a SHA-256 in lower case hex: what files are called.
pub fn is_hash(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|octet| matches!(octet, b'0'..=b'9' | b'a'..=b'f'))
}

/// Of manifests that this version writes and reads.
pub const FORMAT: u32 = 1;
/// What the configuration is called where its problems are told.
pub const CONFIGURATION: &str = "snapshot.toml";
/// Far above what people deploy.
const FILES_MAX: usize = 10_000;
/// As for components.
const FILE_BYTES_MAX: u64 = 256 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let hash = "a".repeat(64);
        Manifest {
            format: FORMAT,
            sequence: 7,
            origin: "fra".to_owned(),
            configuration: "[[listener]]\naddress = \"127.0.0.1:0\"".to_owned(),
            files: [(hash.clone(), 3)].into(),
            origins_only: BTreeSet::new(),
            signatures: BTreeMap::new(),
            versions: [("auth".to_owned(), hash.clone())].into(),
            components: [hash].into(),
        }
    }

    #[test]
    fn its_identifier_changes_with_what_is_served_and_not_with_when() {
        let one = manifest();
        let later = Manifest {
            sequence: 8,
            origin: "other".to_owned(),
            ..one.clone()
        };
        assert_eq!(one.id(), later.id());
        let mut other = one.clone();
        other.versions.clear();
        assert_ne!(one.id(), other.id());
        other = one.clone();
        other.configuration.push('\n');
        assert_ne!(one.id(), other.id());
    }

    #[test]
    fn what_is_no_snapshot_is_refused_and_says_why() {
        let whole = serde_json::to_value(manifest()).unwrap();
        assert_eq!(Manifest::read(whole.to_string().as_bytes()), Ok(manifest()));
        let cases = [
            ("format", serde_json::json!(2), "it has format 2"),
            ("files", serde_json::json!({}), "is not among its files"),
            ("files", serde_json::json!({"../x": 1}), "is no SHA-256"),
            ("components", serde_json::json!(["A"]), "is no SHA-256"),
            ("sequence", serde_json::json!(-1), "it is no snapshot"),
            ("surprise", serde_json::json!(1), "unknown field"),
        ];
        for (key, value, expected) in cases {
            let mut other = whole.clone();
            other[key] = value;
            let refused = Manifest::read(other.to_string().as_bytes()).unwrap_err();
            assert!(refused.contains(expected), "{key}: {refused}");
        }
        let text = whole.to_string();
        for cut in [0, 1, text.len() / 2, text.len() - 1] {
            assert!(Manifest::read(&text.as_bytes()[..cut]).is_err());
        }
    }
}
