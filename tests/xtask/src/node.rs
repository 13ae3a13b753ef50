//! A node as a child process: its configuration moved to other ports, its ready line awaited.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;
use toml::{Table, Value as Toml};

use crate::process::{Guard, listener_of};

/// A node that said it is ready.
pub struct Node {
    pub guard: Guard,
    /// The first listener, the one that people are told about.
    pub address: SocketAddr,
    pub admin: Option<SocketAddr>,
    /// From the start of the process to its ready line.
    pub start: Duration,
}

/// Starts `command` (a `tidegate serve --json FILE`), waits for the ready line, then hands further lines of its standard
/// output to `line`.
pub fn start(
    command: &mut Command,
    patience: Duration,
    mut line: impl FnMut(&str) + Send + 'static,
) -> anyhow::Result<Node> {
    let began = Instant::now();
    let mut guard = Guard::spawn("the node", command.stdout(Stdio::piped()))?;
    let output = guard.child().stdout.take().context("no standard output")?;
    let (sender, ready) = mpsc::channel();
    std::thread::spawn(move || {
        for text in BufReader::new(output).lines().map_while(Result::ok) {
            match ready_line(&text) {
                Some(addresses) => drop(sender.send((addresses, began.elapsed()))),
                None => line(&text),
            }
        }
    });
    match ready.recv_timeout(patience) {
        Ok(((address, admin), start)) => Ok(Node {
            guard,
            address,
            admin,
            start,
        }),
        Err(mpsc::RecvTimeoutError::Timeout) => bail!("the node was not ready within {patience:?}"),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            let status = guard.child().wait()?;
            bail!("the node ended with {status} before it was ready; its messages are above")
        }
    }
}

/// The addresses of the first listener and of the admin server, where `line` is the node's ready line.
fn ready_line(line: &str) -> Option<(SocketAddr, Option<SocketAddr>)> {
    let message: Value = serde_json::from_str(line).ok()?;
    let ready = message.get("ready")?;
    let address = ready["listeners"][0]["address"].as_str()?.parse().ok()?;
    Some((
        address,
        ready["admin"].as_str().and_then(|admin| admin.parse().ok()),
    ))
}

/// A node's configuration file, to be looked at and moved.
pub struct Configuration {
    file: PathBuf,
    pub table: Table,
}

impl Configuration {
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let text =
            fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let table = text
            .parse()
            .with_context(|| format!("{} is not TOML", file.display()))?;
        Ok(Self {
            file: file.into(),
            table,
        })
    }

    /// The text at a path of keys and indices, as in `["api", "0", "id"]`.
    pub fn text(&self, path: &[&str]) -> Option<&str> {
        let (first, rest) = path.split_first()?;
        let found = rest
            .iter()
            .try_fold(self.table.get(*first)?, |value, key| {
                match key.parse::<usize>() {
                    Ok(index) => value.as_array()?.get(index),
                    Err(_) => value.get(*key),
                }
            })?;
        found.as_str()
    }

    /// The address of the first listener and of the admin server.
    pub fn addresses(&self) -> anyhow::Result<(SocketAddr, SocketAddr)> {
        let listener = self
            .text(&["listener", "0", "address"])
            .unwrap_or("127.0.0.1:8080");
        let admin = self.text(&["admin", "address"]).unwrap_or("127.0.0.1:9080");
        Ok((listener.parse()?, admin.parse()?))
    }

    /// Writes a copy to `file` with other ports and, where given, another data directory. Its paths still name what the
    /// original's name, so live reload watches the original definitions.
    pub fn moved(
        &self,
        file: &Path,
        listener: SocketAddr,
        admin: SocketAddr,
        data: Option<&Path>,
    ) -> anyhow::Result<PathBuf> {
        let folder = fs::canonicalize(self.file.parent().unwrap_or(Path::new(".")))?;
        let mut table = self.table.clone();
        make_absolute(&mut table, &folder);
        let first = table
            .get_mut("listener")
            .and_then(|listeners| listeners.get_mut(0))
            .and_then(Toml::as_table_mut);
        first
            .context("the configuration has no [[listener]]")?
            .insert("address".into(), listener.to_string().into());
        section(&mut table, "admin").insert("address".into(), admin.to_string().into());
        let node = section(&mut table, "node");
        if let Some(data) = data {
            node.insert("data".into(), data.display().to_string().into());
        } else if !node.contains_key("data") {
            node.insert(
                "data".into(),
                folder.join(".tidegate").display().to_string().into(),
            );
        }
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(file, table.to_string())?;
        Ok(file.into())
    }
}

/// Two ports that nobody listens on.
pub fn free_addresses() -> anyhow::Result<(SocketAddr, SocketAddr)> {
    let listeners = [
        TcpListener::bind("127.0.0.1:0")?,
        TcpListener::bind("127.0.0.1:0")?,
    ];
    Ok((listeners[0].local_addr()?, listeners[1].local_addr()?))
}

/// Says who holds `address`, where it cannot be bound, and which option helps.
pub fn ensure_free(address: SocketAddr, option: &str) -> anyhow::Result<()> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            let holder = listener_of(address.port()).unwrap_or_else(|| "another process".into());
            bail!("{address} is taken by {holder}: stop it, or choose another port with {option} N")
        }
        Err(error) => Err(error).with_context(|| format!("cannot listen on {address}")),
    }
}

fn section<'a>(table: &'a mut Table, name: &str) -> &'a mut Table {
    let value = table
        .entry(name)
        .or_insert_with(|| Toml::Table(Table::new()));
    if !value.is_table() {
        *value = Toml::Table(Table::new());
    }
    value.as_table_mut().expect("made a table above")
}

/// Makes every path absolute: the keys of the configuration that hold one.
fn make_absolute(table: &mut Table, folder: &Path) {
    for (key, value) in table.iter_mut() {
        match value {
            Toml::String(path) if PATH_KEYS.contains(&key.as_str()) => {
                *path = folder.join(&*path).display().to_string()
            }
            Toml::Table(inner) => make_absolute(inner, folder),
            Toml::Array(items) => items
                .iter_mut()
                .filter_map(Toml::as_table_mut)
                .for_each(|item| make_absolute(item, folder)),
            _ => {}
        }
    }
}

const PATH_KEYS: [&str; 8] = [
    "component",
    "definition",
    "data",
    "file",
    "value-file",
    "certificate",
    "ca",
    "key",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_gives_the_addresses_and_other_lines_do_not() {
        let line = r#"{"ready":{"listeners":[{"address":"127.0.0.1:41233","tls":false}],"admin":"127.0.0.1:33111"}}"#;
        let (address, admin) = ready_line(line).unwrap();
        assert_eq!((address.port(), admin.unwrap().port()), (41233, 33111));
        assert!(ready_line(r#"{"level":"info","message":"ready"}"#).is_none());
        assert!(ready_line("ready").is_none());
    }

    #[test]
    fn a_moved_configuration_names_the_same_files_from_another_place() {
        let folder = std::env::temp_dir().join(format!("xtask-moved-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("node.toml");
        fs::write(
            &file,
            "[[listener]]\naddress = '127.0.0.1:8080'\n[[api]]\nid = 'a'\ndefinition = 'a.yaml'\n",
        )
        .unwrap();
        let configuration = Configuration::read(&file).unwrap();
        assert_eq!(configuration.text(&["api", "0", "id"]), Some("a"));

        let (listener, admin) = (
            "127.0.0.1:1".parse().unwrap(),
            "127.0.0.1:2".parse().unwrap(),
        );
        let moved = configuration
            .moved(&folder.join("elsewhere/node.toml"), listener, admin, None)
            .unwrap();
        let moved = Configuration::read(&moved).unwrap();
        assert_eq!(moved.addresses().unwrap(), (listener, admin));
        let folder = fs::canonicalize(folder).unwrap();
        assert_eq!(
            moved.text(&["api", "0", "definition"]),
            folder.join("a.yaml").to_str()
        );
        assert_eq!(
            moved.text(&["node", "data"]),
            folder.join(".tidegate").to_str()
        );
        fs::remove_dir_all(folder).unwrap();
    }
}
