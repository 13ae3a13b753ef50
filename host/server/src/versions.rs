//! Versions of plugins that were handed to the running node: which there are, which is in force.
//!
//! A component is kept by its hash, as `plugins/HASH.wasm` in the data directory, its signature beside it; `plugins/versions.json` says which are
//! whose. A version is there, flushed, before anybody is told so, and the file is replaced whole: a node that is killed at
//! any moment comes back with the old list or the new one.
//!
//! A plugin without a version in force is what the configuration says: its file, or the built-in one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidegate_model::config::Node;
use tidegate_sandbox::artifact::content_hash;

use crate::durable;
use crate::memory;
use crate::signature::{self, Signature};

/// The versions that a node keeps.
pub struct Versions {
    directory: PathBuf,
    plugins: BTreeMap<String, History>,
}

/// Files that stand in for what the configuration says, by plugin.
pub type Components = BTreeMap<String, PathBuf>;

/// The versions of one plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// Hashes in the order in which they were put in force; the last one is. Empty: what the configuration says.
    pub in_force: Vec<String>,
}

impl Versions {
    /// Reads what a node keeps. Changes nothing on the disk.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn of(node: &Node) -> Result<Self> {
        Self::open(&node.data.join("plugins"))
    }

    /// Reads what is kept in `directory`, which need not be there yet.
    ///
    /// # Errors
    ///
    /// Where the list cannot be read: to serve other versions than before would be worse than not to start.
    pub fn open(directory: &Path) -> Result<Self> {
        let file = directory.join(LIST);
        let plugins = match fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text)
                .with_context(|| format!("{} cannot be read", file.display()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => {
                return Err(error).with_context(|| format!("{} cannot be read", file.display()));
            }
        };
        Ok(Self {
            directory: directory.to_owned(),
            plugins,
        })
    }

    /// The files of all versions in force.
    pub fn components(&self) -> Components {
        let file = |(plugin, history): (&String, &History)| {
            let hash = history.in_force.last()?;
            Some((plugin.clone(), self.file(hash)))
        };
        self.plugins.iter().filter_map(file).collect()
    }

    /// The file of the version that [`Self::take_back`] would put in force; none where that is what the configuration says.
    ///
    /// # Errors
    ///
    /// Where there is nothing to go back from.
    pub fn before(&self, plugin: &str) -> Result<Option<PathBuf>> {
        match self.history(plugin) {
            [] => bail!(
                "plugin \"{plugin}\" is what the configuration says: there is nothing to go back from"
            ),
            [_] => Ok(None),
            [.., before, _] => Ok(Some(self.file(before))),
        }
    }

    /// The versions of a plugin.
    pub fn history(&self, plugin: &str) -> &[String] {
        self.plugins
            .get(plugin)
            .map_or(&[], |history| &history.in_force)
    }

    /// Keeps a component and its signature, which is of it, without putting it in force; gives its hash and its file. Hashing and flushing megabytes takes a
    /// while, so it is done on the pool for such work.
    ///
    /// # Errors
    ///
    /// Where the disk does not take it.
    ///
    /// # Cancel safety
    ///
    /// The component may be kept all the same, until the next [`Self::sweep`].
    pub async fn keep(
        &self,
        component: Bytes,
        signature: Option<Signature>,
    ) -> Result<(String, PathBuf)> {
        let directory = self.directory.clone();
        let kept = memory::spawn_blocking(move || {
            let hash = content_hash(&component);
            let file = file_of(&directory, &hash);
            fs::create_dir_all(&directory).context("the directory of plugin versions")?;
            // Also where it is there: so a damaged one is mended.
            durable::replace(&file, &component).with_context(|| file.display().to_string())?;
            if let Some(signature) = signature {
                let beside = signature::beside(&file);
                durable::replace(&beside, format!("{signature}\n").as_bytes())
                    .with_context(|| beside.display().to_string())?;
            }
            Ok((hash, file))
        });
        kept.await.context("keeping the component")?
    }

    /// Puts a kept version in force.
    ///
    /// # Errors
    ///
    /// Where the list cannot be written; nothing has changed then.
    pub fn put_in_force(&mut self, plugin: &str, hash: &str) -> Result<()> {
        self.change(|plugins| {
            let history = &mut plugins.entry(plugin.to_owned()).or_default().in_force;
            if history.last().is_none_or(|last| last != hash) {
                history.push(hash.to_owned());
            }
            if history.len() > HISTORY_MAX {
                history.remove(0);
            }
        })
    }

    /// Takes the version in force back: the one before is, or what the configuration says.
    ///
    /// # Errors
    ///
    /// Where the list cannot be written; nothing has changed then.
    pub fn take_back(&mut self, plugin: &str) -> Result<()> {
        self.change(|plugins| {
            if let Some(history) = plugins.get_mut(plugin) {
                history.in_force.pop();
            }
            plugins.retain(|_, history| !history.in_force.is_empty());
        })
    }

    /// Deletes the components that no list names.
    pub fn sweep(&self) {
        let named: BTreeSet<&str> = self
            .plugins
            .values()
            .flat_map(|history| history.in_force.iter().map(String::as_str))
            .collect();
        let Ok(files) = fs::read_dir(&self.directory) else {
            return; // nothing was ever kept
        };
        for file in files.flatten() {
            let path = file.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let parts = name.and_then(|name| name.split_once('.'));
            let unnamed = parts.is_some_and(|(hash, ending)| {
                matches!(ending, "wasm" | "wasm.sig") && !named.contains(hash)
            });
            if unnamed {
                _ = fs::remove_file(path); // the next sweep tries again
            }
        }
    }

    /// Makes a change to the list, on the disk first.
    fn change(&mut self, change: impl FnOnce(&mut BTreeMap<String, History>)) -> Result<()> {
        let mut plugins = self.plugins.clone();
        change(&mut plugins);
        fs::create_dir_all(&self.directory).context("the directory of plugin versions")?;
        let file = self.directory.join(LIST);
        durable::replace(&file, &serde_json::to_vec_pretty(&plugins)?)
            .with_context(|| file.display().to_string())?;
        self.plugins = plugins;
        Ok(())
    }

    fn file(&self, hash: &str) -> PathBuf {
        file_of(&self.directory, hash)
    }
}

fn file_of(directory: &Path, hash: &str) -> PathBuf {
    directory.join(format!("{hash}.wasm"))
}

const LIST: &str = "versions.json";
/// Versions of one plugin that can be gone back to.
const HISTORY_MAX: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str) -> PathBuf {
        let directory =
            std::env::temp_dir().join(format!("tidegate-versions-{name}-{}", std::process::id()));
        _ = fs::remove_dir_all(&directory);
        directory
    }

    #[tokio::test]
    async fn what_was_put_in_force_is_after_a_restart_and_can_be_taken_back() {
        let directory = directory("restart");
        let mut versions = Versions::open(&directory).unwrap();
        let in_force = |versions: &Versions| {
            let file = versions.components().remove("a")?;
            Some(fs::read_to_string(file).unwrap())
        };
        assert_eq!(in_force(&versions), None);
        for component in ["one", "two"] {
            let (hash, _) = versions.keep(component.into(), None).await.unwrap();
            versions.put_in_force("a", &hash).unwrap();
        }
        let mut versions = Versions::open(&directory).unwrap();
        assert_eq!(in_force(&versions).as_deref(), Some("two"));
        versions.take_back("a").unwrap();
        assert_eq!(in_force(&versions).as_deref(), Some("one"));
        versions.take_back("a").unwrap();
        assert_eq!(in_force(&versions), None);
        let refused = versions.before("a").unwrap_err().to_string();
        assert!(refused.contains("nothing to go back from"), "{refused}");
        fs::remove_dir_all(directory).unwrap();
    }

    #[tokio::test]
    async fn the_disk_holds_what_can_be_gone_back_to_and_no_more() {
        let directory = directory("sweep");
        let mut versions = Versions::open(&directory).unwrap();
        let mut last = String::new();
        for number in 0..HISTORY_MAX + 5 {
            (last, _) = versions
                .keep(number.to_string().into(), None)
                .await
                .unwrap();
            versions.put_in_force("a", &last).unwrap();
        }
        versions.sweep();
        let components = fs::read_dir(&directory).unwrap().flatten().filter(|file| {
            file.path()
                .extension()
                .is_some_and(|ending| ending == "wasm")
        });
        assert_eq!(components.count(), HISTORY_MAX);
        assert_eq!(versions.history("a").last(), Some(&last));
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_list_that_cannot_be_read_is_named() {
        let directory = directory("damaged");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(LIST), "{\"a\": ").unwrap();
        let refused = format!("{:#}", Versions::open(&directory).err().unwrap());
        assert!(refused.contains(LIST), "{refused}");
        fs::remove_dir_all(directory).unwrap();
    }
}
