//! An origin's part: what it serves becomes a [`Manifest`], and whoever asks is told of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use arc_swap::ArcSwapOption;
use tidegate_model::config::Node;
use tokio::sync::watch;
use toml::{Table, Value};

use super::files::Files;
use super::manifest::{FORMAT, Manifest};
use super::trial::Trial;
use crate::signature;
use crate::versions::Components;

/// What this node tells other nodes to serve.
pub struct Publisher {
    pub files: Files,
    current: ArcSwapOption<Published>,
    trial: ArcSwapOption<Trial>,
    changed: watch::Sender<()>,
}

/// A snapshot that is published.
#[derive(Debug)]
pub struct Published {
    pub id: Arc<str>,
    pub manifest: Manifest,
}

impl Publisher {
    /// Nothing is published yet; `directory` keeps what was.
    ///
    /// # Errors
    /// Where the directory cannot be used.
    pub fn open(directory: &Path) -> Result<Self> {
        Ok(Self {
            files: Files::open(directory)?,
            current: ArcSwapOption::empty(),
            trial: ArcSwapOption::empty(),
            changed: watch::channel(()).0,
        })
    }

    /// What is published now.
    pub fn current(&self) -> Option<Arc<Published>> {
        self.current.load_full()
    }

    /// The canary beside it, where one runs.
    pub fn trial(&self) -> Option<Arc<Trial>> {
        self.trial.load_full()
    }

    /// Whether something is so of what nodes are told to serve: the snapshot, or what is on trial.
    pub fn tells(&self, is_so: impl Fn(&Manifest) -> bool) -> bool {
        let current = self.current();
        current.is_some_and(|current| is_so(&current.manifest))
            || self.trial().is_some_and(|trial| is_so(&trial.manifest))
    }

    /// Tells of a canary from now on, or of none.
    pub fn tell_of(&self, trial: Option<Arc<Trial>>) {
        if self.trial.swap(trial.clone()) != trial {
            self.changed.send_replace(());
        }
    }

    /// Learns of the next publication.
    pub fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Publishes; on the disk first.
    ///
    /// # Errors
    /// Where the disk does not take it; what was published stays.
    pub fn publish(&self, manifest: Manifest) -> Result<Arc<Published>> {
        self.files.put_in_force(&manifest)?;
        let published = Arc::new(Published {
            id: manifest.id(),
            manifest,
        });
        self.current.store(Some(published.clone()));
        self.changed.send_replace(());
        Ok(published)
    }
}

/// What a node's configuration says of the snapshot, with its files kept in `files`.
///
/// # Errors
/// Where a file that it names cannot be read or kept.
pub fn assemble<'f>(
    files: &'f Files,
    path: &Path,
    node: &Node,
    versions: &Components,
) -> Result<Draft<'f>> {
    let mut draft = Draft {
        files,
        folder: path.parent().unwrap_or(Path::new(".")).to_owned(),
        kept: BTreeMap::new(),
        origins_only: BTreeSet::new(),
        signatures: BTreeMap::new(),
        configuration: String::new(),
        versions: BTreeMap::new(),
    };
    let mut table: Table = node.text.parse().context("the configuration is no TOML")?;
    draft.rewrite(&mut table, node)?;
    draft.configuration = toml::to_string(&table)?;
    for (plugin, file) in versions {
        let hash = draft.keep(file)?;
        draft.keep_signature(&hash, file)?;
        draft.versions.insert(plugin.clone(), hash);
    }
    Ok(draft)
}

/// A snapshot before it is numbered.
pub struct Draft<'f> {
    files: &'f Files,
    folder: PathBuf,
    kept: BTreeMap<String, u64>,
    origins_only: BTreeSet<String>,
    signatures: BTreeMap<String, String>,
    configuration: String,
    versions: BTreeMap<String, String>,
}

impl Draft<'_> {
    /// The snapshot, numbered after the one before.
    pub fn finish(self, origin: &str, before: Option<&Manifest>, now_ms: u64) -> Manifest {
        let mut manifest = Manifest {
            format: FORMAT,
            sequence: now_ms,
            origin: origin.to_owned(),
            configuration: self.configuration,
            files: self.kept,
            origins_only: self.origins_only,
            signatures: self.signatures,
            versions: self.versions,
            components: BTreeSet::new(),
        };
        if let Some(before) = before {
            manifest.sequence = match before.id() == manifest.id() {
                true => before.sequence,
                false => now_ms.max(before.sequence + 1),
            };
        }
        manifest
    }

    /// Leaves what nodes serve by, with files by their hash.
    fn rewrite(&mut self, table: &mut Table, node: &Node) -> Result<()> {
        table.retain(|key, _| SERVED.contains(&key));
        keep_keys(table, "node", &["region", "suffix"]);
        keep_keys(table, "limits", &["payload"]);
        keep_keys(table, "timeouts", &["integration"]);
        let anywhere = Table::from_iter([("address".to_owned(), "127.0.0.1:0".into())]);
        table.insert("listener".to_owned(), Value::Array(vec![anywhere.into()]));
        for api in tables_of(table, "api") {
            self.replace(api, "definition")?;
        }
        for plugin in named_tables_of(table, "plugin") {
            let written = plugin.get("component").and_then(Value::as_str);
            let file = written.map(|written| self.folder.join(written));
            if let (Some(hash), Some(file)) = (self.replace(plugin, "component")?, file) {
                self.keep_signature(&hash, &file)?;
            }
        }
        for function in named_tables_of(table, "function") {
            let hash = self.replace(function, "component")?;
            self.origins_only.extend(hash);
        }
        for upstream in named_tables_of(table, "upstream") {
            if let Some(Value::Table(tls)) = upstream.get_mut("tls") {
                let hash = self.replace(tls, "ca")?;
                self.origins_only.extend(hash);
            }
        }
        for (key, known) in tables_of(table, "key").into_iter().zip(&node.keys) {
            key.remove("value");
            key.remove("value-file");
            let digest = super::manifest::hex(&known.digest);
            key.insert("digest".to_owned(), digest.into());
        }
        if !node.secrets.is_empty() {
            let mut secrets = Table::new();
            for (name, secret) in &node.secrets {
                let value = crate::node::secret_value(name, &secret.source)?;
                let hash = self.keep_content(value.as_bytes())?;
                let file = Table::from_iter([("file".to_owned(), path_of(&hash).into())]);
                secrets.insert(name.clone(), file.into());
            }
            table.insert("secret".to_owned(), secrets.into());
        }
        Ok(())
    }

    /// Keeps the file that a key names, and names its copy.
    fn replace(&mut self, table: &mut Table, key: &str) -> Result<Option<String>> {
        let Some(Value::String(file)) = table.get(key) else {
            return Ok(None);
        };
        let hash = self.keep(&self.folder.join(file))?;
        table.insert(key.to_owned(), path_of(&hash).into());
        Ok(Some(hash))
    }

    /// Notes the signature that lies beside a component, where one does; the copy has it beside as well.
    fn keep_signature(&mut self, hash: &str, file: &Path) -> Result<()> {
        let beside = signature::beside(file);
        match std::fs::read_to_string(&beside) {
            Ok(line) => {
                self.files.keep_signature(hash, &line)?;
                self.signatures.insert(hash.to_owned(), line);
                Ok(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => {
                Err(error).with_context(|| format!("{} cannot be read", beside.display()))
            }
        }
    }

    fn keep(&mut self, file: &Path) -> Result<String> {
        let content =
            std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
        self.keep_content(&content)
    }

    fn keep_content(&mut self, content: &[u8]) -> Result<String> {
        let hash = self.files.keep(content)?;
        self.kept.insert(hash.clone(), content.len() as u64);
        Ok(hash)
    }
}

fn path_of(hash: &str) -> String {
    format!("files/{hash}")
}

fn keep_keys(table: &mut Table, name: &str, keys: &[&str]) {
    if let Some(Value::Table(inner)) = table.get_mut(name) {
        inner.retain(|key, _| keys.contains(&key));
    }
}

/// `[[name]]`.
fn tables_of<'t>(table: &'t mut Table, name: &str) -> Vec<&'t mut Table> {
    match table.get_mut(name) {
        Some(Value::Array(items)) => items.iter_mut().filter_map(Value::as_table_mut).collect(),
        _ => Vec::new(),
    }
}

/// `[name.*]`.
fn named_tables_of<'t>(table: &'t mut Table, name: &str) -> Vec<&'t mut Table> {
    match table.get_mut(name) {
        Some(Value::Table(inner)) => inner
            .iter_mut()
            .filter_map(|(_, value)| value.as_table_mut())
            .collect(),
        _ => Vec::new(),
    }
}

/// Tables of a configuration that say what is served; the others say what the node is.
const SERVED: [&str; 9] = [
    "node", "limits", "timeouts", "upstream", "function", "plugin", "api", "key", "secret",
];
