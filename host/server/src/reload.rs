//! Live reload: a saved file becomes what the node serves.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tidegate_model::config::Node;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::signature;

/// Tells when one of the node's files was saved.
pub struct Files {
    watcher: RecommendedWatcher,
    events: mpsc::UnboundedReceiver<PathBuf>,
    files: BTreeSet<PathBuf>,
    folders: BTreeSet<PathBuf>,
    /// A change was seen; it is told when nothing more has come until then.
    quiet_at: Option<Instant>,
}

impl Files {
    /// Starts to watch; nothing is watched yet.
    ///
    /// # Errors
    ///
    /// Where the system has no means for it.
    pub fn new() -> notify::Result<Self> {
        // Unbounded, but each event is a change that a person or a build made to a few files, and they are drained at once.
        let (sender, events) = mpsc::unbounded_channel();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return };
            if matches!(
                event.kind,
                EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_)
            ) {
                for path in event.paths {
                    _ = sender.send(path);
                }
            }
        })?;
        Ok(Self {
            watcher,
            events,
            files: BTreeSet::new(),
            folders: BTreeSet::new(),
            quiet_at: None,
        })
    }

    /// Watches the files that this configuration names. Their folders are watched, since editors replace files.
    pub fn watch(&mut self, path: &Path, node: &Node) {
        self.files = files_of(path, node)
            .iter()
            .map(|file| canonical(file))
            .collect();
        let folders: BTreeSet<PathBuf> = self
            .files
            .iter()
            .filter_map(|file| file.parent())
            .map(Path::to_owned)
            .collect();
        for gone in self.folders.difference(&folders) {
            _ = self.watcher.unwatch(gone); // it may be gone from the disk as well
        }
        for new in folders.difference(&self.folders) {
            if let Err(error) = self.watcher.watch(new, RecursiveMode::NonRecursive) {
                tracing::warn!(folder = %new.display(), %error, "changes of files here will not be noticed");
            }
        }
        self.folders = folders;
    }

    /// Waits until a watched file has changed, and until the changes have paused: a build writes many times.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost: the next call goes on where a dropped one was.
    pub async fn changed(&mut self) {
        loop {
            let event = match self.quiet_at {
                None => self.events.recv().await,
                Some(quiet_at) => match tokio::time::timeout_at(quiet_at, self.events.recv()).await
                {
                    Ok(event) => event,
                    Err(_) => {
                        self.quiet_at = None;
                        return;
                    }
                },
            };
            match event {
                Some(path) if self.quiet_at.is_some() || self.files.contains(&canonical(&path)) => {
                    self.quiet_at = Some(Instant::now() + PAUSE);
                }
                Some(_) => {}
                None => std::future::pending().await,
            }
        }
    }
}

fn files_of(path: &Path, node: &Node) -> Vec<PathBuf> {
    let mut files = vec![path.to_owned()];
    files.extend(node.apis.iter().map(|api| api.definition.clone()));
    let plugins = node.plugins.values().map(|plugin| &plugin.component);
    let functions = node.functions.values().map(|function| &function.component);
    for component in plugins.chain(functions) {
        files.push(component.clone());
        files.push(signature::beside(component));
    }
    files
}

/// The folder's real path, and the file's name: the file may just be missing.
fn canonical(file: &Path) -> PathBuf {
    let folder = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    match (folder.canonicalize(), file.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => file.to_owned(),
    }
}

/// Longer than the gaps of one save, shorter than a person's patience.
const PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_is_told_to_whoever_asks_again_and_again() {
        let folder = std::env::temp_dir().join(format!("tidegate-reload-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.canonicalize().unwrap().join("node.toml");
        let mut files = Files::new().unwrap();
        files.files = BTreeSet::from([file.clone()]);
        files
            .watcher
            .watch(&folder, RecursiveMode::NonRecursive)
            .unwrap();
        std::fs::write(&file, "[node]").unwrap();
        // Each call is given up sooner than the pause is over.
        let told = async {
            while tokio::time::timeout(PAUSE / 4, files.changed())
                .await
                .is_err()
            {}
        };
        let patience = Duration::from_secs(30);
        tokio::time::timeout(patience, told)
            .await
            .expect("it is told");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
