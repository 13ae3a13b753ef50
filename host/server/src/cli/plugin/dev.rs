//! `tidegate plugin dev`: on every save, the plugin is built and put into a running node; what it says there goes by.

use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use notify::{EventKind, RecursiveMode, Watcher};
use serde_json::{Value, json};

use super::manifest::Manifest;
use super::{build, deploy, logs, saved, source};
use crate::cli::admin::Node;

/// Goes on until Ctrl-C. What goes wrong is said, and the next save tries again.
pub fn run(folder: &Path, plugin: Option<String>, node: &Node, json: bool) -> Result<ExitCode> {
    let manifest = Manifest::read(folder)?;
    let plugin = plugin.unwrap_or_else(|| manifest.name.clone());
    let (save, saves) = mpsc::channel();
    let root = manifest.folder.clone();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let Ok(event) = event else { return };
        let changes = matches!(
            event.kind,
            EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_)
        );
        if changes && event.paths.iter().any(|path| saved::is_source(&root, path)) {
            _ = save.send(()); // nobody listens any more: the command is ending
        }
    })
    .context("watching the folder")?;
    watcher
        .watch(&manifest.folder, RecursiveMode::Recursive)
        .with_context(|| manifest.folder.display().to_string())?;
    let (tailed, of) = (node.clone(), plugin.clone());
    thread::spawn(move || tail(&tailed, &of, json));
    loop {
        let done = round(folder, &plugin, node);
        match &done {
            Ok(deployed) => tell(json, deployed, || deploy::text(&plugin, deployed)),
            Err(error) => tell(json, &json!({ "error": format!("{error:#}") }), || {
                format!("{error:#}")
            }),
        }
        let unreached = done.is_err() && !node.is_there();
        wait_for_a_save_or(&saves, || unreached && node.is_there());
    }
}

/// Builds, and hands what came of it to the node. The manifest is read again: it may be what was saved.
fn round(folder: &Path, plugin: &str, node: &Node) -> Result<Value> {
    build::build(&Manifest::read(folder)?)?;
    deploy::send(node, plugin, source::on_disk(folder)?)
}

/// What people read goes beside the log; what programs read is one object a line.
fn tell(json: bool, told: &Value, text: impl FnOnce() -> String) {
    match json {
        true => println!("{told}"),
        false => println!("── {}", text().trim_end()),
    }
}

/// Prints what the plugin says; again and again, since the node may be started again meanwhile.
fn tail(node: &Node, plugin: &str, json: bool) {
    loop {
        // That no node answers, deploying says already.
        _ = node.follow(&logs::path(Some(plugin), true, true), |line| {
            logs::print(line, json)
        });
        thread::sleep(RETRY_EVERY);
    }
}

/// Waits for a save, and until the saves have paused: editors and checkouts write many files. Or until there is another
/// reason to try again, which is asked for now and then.
fn wait_for_a_save_or(saves: &Receiver<()>, is_due: impl Fn() -> bool) {
    loop {
        match saves.recv_timeout(RETRY_EVERY) {
            Ok(()) => break,
            Err(RecvTimeoutError::Timeout) if !is_due() => {}
            // The watcher is gone only when this is.
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
        }
    }
    let until = Instant::now() + PAUSE_MAX;
    while Instant::now() < until {
        match saves.recv_timeout(PAUSE) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Longer than the gaps of one save.
const PAUSE: Duration = Duration::from_millis(100);
/// Something that writes without end is not waited for.
const PAUSE_MAX: Duration = Duration::from_secs(2);
const RETRY_EVERY: Duration = Duration::from_secs(1);
