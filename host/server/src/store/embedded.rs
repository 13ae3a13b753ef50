//! The embedded store: one transactional file in the data directory.
//!
//! Writes that arrive together share a transaction, so that many writers wait for one disk flush (group commit). A write
//! is acknowledged after the flush: what was acknowledged survives `kill -9` and a loss of power.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use arc_swap::ArcSwap;
use redb::{
    Database, ReadableDatabase, ReadableTable, TableDefinition, TableError, WriteTransaction,
};
use tidegate_sandbox::capabilities::Waiting;
use tidegate_sandbox::capabilities::keyvalue::{Digest, Page, Table, digest};
use tokio::sync::oneshot;

use super::Tables;

/// The file, and the thread that writes to it.
pub struct Embedded {
    database: Arc<Database>,
    writer: Option<SyncSender<Write>>,
    thread: Option<JoinHandle<()>>,
    /// The tables that the configuration names.
    names: ArcSwap<BTreeSet<String>>,
}

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file is in use by another node, damaged, or not permitted.
    #[error("{path} cannot be opened")]
    Database {
        /// The file.
        path: std::path::PathBuf,
        /// What redb said.
        #[source]
        source: Box<redb::DatabaseError>,
    },
    /// No thread or no directory.
    #[error("the store does not start")]
    System(#[source] std::io::Error),
}

enum Operation {
    /// Writes (or, by `None`, removes) all pairs.
    Pairs(Vec<(String, Option<Vec<u8>>)>),
    /// Adds to a number.
    Increment { key: String, delta: u64 },
    /// Writes the value if the pair is still the one of this digest; answers 1 if so, else 0.
    Swap {
        key: String,
        seen: Option<Digest>,
        value: Vec<u8>,
    },
}

struct Write {
    table: String,
    operation: Operation,
    reply: oneshot::Sender<Result<u64, String>>,
}

type Definition<'a> = TableDefinition<'a, &'static str, &'static [u8]>;

impl Embedded {
    /// Opens `tables.redb` in `directory`, making both where they are missing.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn open(directory: &Path) -> Result<Self, OpenError> {
        std::fs::create_dir_all(directory).map_err(OpenError::System)?;
        let path = directory.join("tables.redb");
        let open = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create(&path);
        let database = Arc::new(open.map_err(|source| OpenError::Database {
            path,
            source: Box::new(source),
        })?);
        let (writer, writes) = sync_channel(WRITES_MAX);
        let written = database.clone();
        let thread = thread::Builder::new().name("store".into());
        let thread = thread
            .spawn(move || write_all(&written, &writes))
            .map_err(OpenError::System)?;
        Ok(Self {
            database,
            writer: Some(writer),
            thread: Some(thread),
            names: ArcSwap::default(),
        })
    }

    /// The table of quotas, which is the node's own: no function can name it.
    ///
    /// # Errors
    /// Where the store has stopped.
    pub fn quotas(&self) -> Result<Arc<dyn Table>, String> {
        let table = self.open_table(QUOTAS);
        table.ok_or_else(|| "the store has stopped".to_owned())
    }

    fn open_table(&self, name: &str) -> Option<Arc<dyn Table>> {
        Some(Arc::new(EmbeddedTable {
            database: self.database.clone(),
            writer: self.writer.clone()?,
            name: name.into(),
        }))
    }

    /// Says which tables there are.
    pub fn declare(&self, names: BTreeSet<String>) {
        self.names.store(Arc::new(names));
    }
}

impl Tables for Embedded {
    fn table(&self, name: &str) -> Option<Arc<dyn Table>> {
        let declared = self.names.load().contains(name) && name != QUOTAS;
        declared.then(|| self.open_table(name)).flatten()
    }
}

impl Drop for Embedded {
    /// Waits until what was submitted is written and the file is free; open tables have to be dropped before.
    fn drop(&mut self) {
        self.writer = None;
        if let Some(thread) = self.thread.take() {
            _ = thread.join(); // a panic there has been printed
        }
    }
}

struct EmbeddedTable {
    database: Arc<Database>,
    writer: SyncSender<Write>,
    name: Arc<str>,
}

impl EmbeddedTable {
    /// Reads on the blocking pool, since a page may have to come from the disk.
    fn read<T: Send + 'static>(
        &self,
        absent: T,
        read: impl FnOnce(
            &redb::ReadOnlyTable<&'static str, &'static [u8]>,
        ) -> Result<T, redb::StorageError>
        + Send
        + 'static,
    ) -> Waiting<Result<T, String>> {
        let (database, name) = (self.database.clone(), self.name.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let transaction = database.begin_read().map_err(|error| error.to_string())?;
            match transaction.open_table(Definition::new(&name)) {
                Ok(table) => read(&table).map_err(|error| error.to_string()),
                Err(TableError::TableDoesNotExist(_)) => Ok(absent), // nothing was written yet
                Err(error) => Err(error.to_string()),
            }
        });
        Box::pin(async { reading.await.unwrap_or_else(|error| Err(error.to_string())) })
    }

    fn submit(&self, operation: Operation) -> Waiting<Result<u64, String>> {
        let (reply, written) = oneshot::channel();
        let write = Write {
            table: self.name.as_ref().to_owned(),
            operation,
            reply,
        };
        let submitted = self.writer.try_send(write);
        Box::pin(async move {
            submitted.map_err(|_| "the store has too many writes waiting".to_owned())?;
            written
                .await
                .unwrap_or_else(|_| Err("the store has stopped".to_owned()))
        })
    }
}

impl Table for EmbeddedTable {
    fn get(&self, key: String) -> Waiting<Result<Option<Vec<u8>>, String>> {
        self.read(None, move |table| {
            Ok(table.get(key.as_str())?.map(|value| value.value().to_vec()))
        })
    }

    fn get_many(&self, keys: Vec<String>) -> Waiting<Result<Vec<Option<Vec<u8>>>, String>> {
        self.read(vec![None; keys.len()], move |table| {
            let value =
                |key: &String| Ok(table.get(key.as_str())?.map(|value| value.value().to_vec()));
            keys.iter().map(value).collect()
        })
    }

    fn write(&self, pairs: Vec<(String, Option<Vec<u8>>)>) -> Waiting<Result<(), String>> {
        let written = self.submit(Operation::Pairs(pairs));
        Box::pin(async { written.await.map(drop) })
    }

    fn increment(&self, key: String, delta: u64) -> Waiting<Result<u64, String>> {
        self.submit(Operation::Increment { key, delta })
    }

    fn swap(
        &self,
        key: String,
        seen: Option<Digest>,
        value: Vec<u8>,
    ) -> Waiting<Result<bool, String>> {
        let swapped = self.submit(Operation::Swap { key, seen, value });
        Box::pin(async { swapped.await.map(|swapped| swapped == 1) })
    }

    fn keys(&self, skip: u64) -> Waiting<Result<Page, String>> {
        self.read(Page::default(), move |table| {
            let mut entries = table
                .iter()?
                .skip(usize::try_from(skip).unwrap_or(usize::MAX));
            let mut keys = Vec::new();
            for entry in entries.by_ref().take(PAGE) {
                keys.push(entry?.0.value().to_owned());
            }
            let next = entries.next().is_some().then(|| skip + PAGE as u64);
            Ok(Page { keys, next })
        })
    }
}

/// Takes what waits, writes it in one transaction, and tells everyone after the flush.
fn write_all(database: &Database, writes: &Receiver<Write>) {
    while let Ok(first) = writes.recv() {
        let mut batch = vec![first];
        batch.extend(writes.try_iter().take(BATCH - 1));
        match commit(database, &batch) {
            Ok(answers) => answer(batch, answers.into_iter()),
            Err(error) => {
                tracing::error!(%error, "store: a transaction failed");
                let problem = error.to_string();
                answer(batch, std::iter::repeat(Err(problem)));
            }
        }
    }
}

fn answer(batch: Vec<Write>, answers: impl Iterator<Item = Result<u64, String>>) {
    for (write, answer) in batch.into_iter().zip(answers) {
        _ = write.reply.send(answer); // who asked may have left
    }
}

fn commit(database: &Database, batch: &[Write]) -> Result<Vec<Result<u64, String>>, redb::Error> {
    let transaction = database.begin_write()?;
    let answers = batch
        .iter()
        .map(|write| apply(&transaction, write))
        .collect::<Result<_, _>>()?;
    transaction.commit()?;
    Ok(answers)
}

/// Applies one write; the inner error refuses this write only.
fn apply(
    transaction: &WriteTransaction,
    write: &Write,
) -> Result<Result<u64, String>, redb::Error> {
    let mut table = transaction.open_table(Definition::new(&write.table))?;
    match &write.operation {
        Operation::Pairs(pairs) => {
            for (key, value) in pairs {
                match value {
                    Some(value) => drop(table.insert(key.as_str(), value.as_slice())?),
                    None => drop(table.remove(key.as_str())?),
                }
            }
            Ok(Ok(0))
        }
        Operation::Increment { key, delta } => {
            let before = match table.get(key.as_str())? {
                None => Some(0),
                Some(value) => value.value().try_into().ok().map(u64::from_le_bytes),
            };
            let Some(sum) = before.and_then(|before| before.checked_add(*delta)) else {
                return Ok(Err(format!(
                    "the value of \"{key}\" is no number that {delta} can be added to"
                )));
            };
            table.insert(key.as_str(), sum.to_le_bytes().as_slice())?;
            Ok(Ok(sum))
        }
        Operation::Swap { key, seen, value } => {
            let now = table.get(key.as_str())?.map(|now| digest(now.value()));
            if now != *seen {
                return Ok(Ok(0));
            }
            table.insert(key.as_str(), value.as_slice())?;
            Ok(Ok(1))
        }
    }
}

const QUOTAS: &str = "tidegate:quotas";
/// Pages kept in memory.
const CACHE_BYTES: usize = 16 << 20;
/// Writes that wait for the disk; more are refused.
const WRITES_MAX: usize = 4096;
/// Writes of one transaction.
const BATCH: usize = 512;
/// The contract's page of keys.
const PAGE: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    fn open(directory: &Path) -> Embedded {
        let store = Embedded::open(directory).expect("opens");
        store.declare(BTreeSet::from(["items".to_owned()]));
        store
    }

    #[tokio::test]
    async fn what_was_written_is_there_after_it_was_opened_again() {
        let directory = std::env::temp_dir().join(format!("tidegate-store-{}", std::process::id()));
        {
            let store = open(&directory);
            assert!(store.table("other").is_none());
            let items = store.table("items").expect("declared");
            assert_eq!(items.get("a".into()).await, Ok(None));
            items
                .write(vec![
                    ("a".into(), Some(b"1".to_vec())),
                    ("b".into(), Some(b"2".to_vec())),
                ])
                .await
                .expect("written");
            items
                .write(vec![("a".into(), None)])
                .await
                .expect("removed");
            assert_eq!(items.increment("n".into(), 2).await, Ok(2));
            assert_eq!(items.increment("n".into(), 40).await, Ok(42));
            let swap = async |seen: Option<&[u8]>, value: &[u8]| {
                let seen = seen.map(digest);
                items.swap("s".into(), seen, value.to_vec()).await
            };
            assert_eq!(swap(Some(b"1"), b"x").await, Ok(false), "it is not there");
            assert_eq!(swap(None, b"1").await, Ok(true));
            assert_eq!(swap(None, b"x").await, Ok(false), "it is there");
            assert_eq!(swap(Some(b"1"), b"2").await, Ok(true));
            assert_eq!(swap(Some(b"1"), b"x").await, Ok(false), "it changed");
            assert_eq!(items.get("s".into()).await, Ok(Some(b"2".to_vec())));
            assert!(
                items.increment("b".into(), 1).await.is_err(),
                "not a number"
            );
        }
        let store = open(&directory);
        let items = store.table("items").expect("declared");
        assert_eq!(
            items.get_many(vec!["a".into(), "b".into()]).await,
            Ok(vec![None, Some(b"2".to_vec())])
        );
        assert_eq!(
            items.keys(0).await,
            Ok(Page {
                keys: vec!["b".into(), "n".into(), "s".into()],
                next: None
            })
        );
        std::fs::remove_dir_all(directory).expect("ours");
    }

    #[tokio::test]
    async fn keys_come_in_pages() {
        let directory = std::env::temp_dir().join(format!("tidegate-pages-{}", std::process::id()));
        let store = open(&directory);
        let items = store.table("items").expect("declared");
        let pairs = (0..1500)
            .map(|number| (format!("{number:04}"), Some(vec![])))
            .collect();
        items.write(pairs).await.expect("written");
        let first = items.keys(0).await.expect("read");
        assert_eq!((first.keys.len(), first.next), (1000, Some(1000)));
        let second = items.keys(1000).await.expect("read");
        assert_eq!((second.keys.len(), second.next), (500, None));
        assert_eq!(second.keys[0], "1000");
        std::fs::remove_dir_all(directory).expect("ours");
    }
}
