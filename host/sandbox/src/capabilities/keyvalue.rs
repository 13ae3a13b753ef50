//! `wasi:keyvalue`: the tables of the node, for functions.

use std::sync::Arc;

use aws_lc_rs::digest::SHA256;
use wasmtime::component::Resource;

use crate::account::Capability;
use crate::bindings::keyvalue::wasi::keyvalue::{atomics, batch, store};
use crate::function::FunctionState;

use super::Waiting;

/// A named set of key-value pairs. A write is durable when its future completes; an error is a sentence.
pub trait Table: Send + Sync + 'static {
    /// The value of a key.
    fn get(&self, key: String) -> Waiting<Result<Option<Vec<u8>>, String>>;
    /// The values of several keys, in their order, as of one moment.
    fn get_many(&self, keys: Vec<String>) -> Waiting<Result<Vec<Option<Vec<u8>>>, String>>;
    /// Writes (or, by `None`, removes) all pairs or none.
    fn write(&self, pairs: Vec<(String, Option<Vec<u8>>)>) -> Waiting<Result<(), String>>;
    /// Adds to a number (little-endian, 8 octets; absent is 0) and returns the sum.
    fn increment(&self, key: String, delta: u64) -> Waiting<Result<u64, String>>;
    /// Writes the value if the pair is still the one of this digest; gives whether it was.
    fn swap(
        &self,
        key: String,
        seen: Option<Digest>,
        value: Vec<u8>,
    ) -> Waiting<Result<bool, String>>;
    /// A page of keys in the order of their octets, from the `skip`th on.
    fn keys(&self, skip: u64) -> Waiting<Result<Page, String>>;
}

/// SHA-256 of a value: what tells a value that was seen from another, without keeping it.
pub type Digest = [u8; 32];

/// The digest of a value.
pub fn digest(value: &[u8]) -> Digest {
    let digest = aws_lc_rs::digest::digest(&SHA256, value);
    digest.as_ref().try_into().expect("SHA-256 has 32 octets")
}

/// A page of keys.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The keys.
    pub keys: Vec<String>,
    /// Where the next page starts.
    pub next: Option<u64>,
}

/// An open table.
pub struct Bucket(Arc<dyn Table>);

/// A pair as a function saw it.
pub struct Cas {
    table: Arc<dyn Table>,
    key: String,
    seen: Option<Digest>,
}

impl Cas {
    async fn look(table: Arc<dyn Table>, key: String) -> Result<(Self, Option<Vec<u8>>), String> {
        let value = table.get(key.clone()).await?;
        let seen = value.as_deref().map(digest);
        Ok((Self { table, key, seen }, value))
    }
}

type Answer<T> = wasmtime::Result<Result<T, store::Error>>;

impl FunctionState {
    fn bucket(&self, bucket: &Resource<Bucket>) -> wasmtime::Result<Arc<dyn Table>> {
        self.function.account.host_called(Capability::Table);
        Ok(self.table.get(bucket)?.0.clone())
    }
}

fn answer<T>(result: Result<T, String>) -> Answer<T> {
    Ok(result.map_err(store::Error::Other))
}

fn check_pair(key: &str, value: Option<&[u8]>) -> Result<(), store::Error> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(store::Error::Other(format!(
            "a key has 1 to {KEY_BYTES_MAX} bytes, not {}",
            key.len()
        )));
    }
    match value {
        Some(value) if value.len() > VALUE_BYTES_MAX => Err(store::Error::Other(format!(
            "a value has at most {VALUE_BYTES_MAX} bytes, not {}",
            value.len()
        ))),
        _ => Ok(()),
    }
}

fn check_count(count: usize) -> Result<(), store::Error> {
    if count > BATCH_MAX {
        return Err(store::Error::Other(format!(
            "a batch has at most {BATCH_MAX} keys, not {count}"
        )));
    }
    Ok(())
}

impl store::Host for FunctionState {
    async fn open(&mut self, identifier: String) -> Answer<Resource<Bucket>> {
        if !self.function.options.tables.contains(&identifier) {
            return Ok(Err(store::Error::AccessDenied));
        }
        match self.function.services.table(&identifier) {
            Some(table) => Ok(Ok(self.table.push(Bucket(table))?)),
            None => Ok(Err(store::Error::NoSuchStore)),
        }
    }
}

impl store::HostBucket for FunctionState {
    async fn get(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<Option<Vec<u8>>> {
        answer(self.bucket(&bucket)?.get(key).await)
    }

    async fn set(&mut self, bucket: Resource<Bucket>, key: String, value: Vec<u8>) -> Answer<()> {
        if let Err(error) = check_pair(&key, Some(&value)) {
            return Ok(Err(error));
        }
        answer(self.bucket(&bucket)?.write(vec![(key, Some(value))]).await)
    }

    async fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<()> {
        answer(self.bucket(&bucket)?.write(vec![(key, None)]).await)
    }

    async fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<bool> {
        answer(
            self.bucket(&bucket)?
                .get(key)
                .await
                .map(|value| value.is_some()),
        )
    }

    async fn list_keys(
        &mut self,
        bucket: Resource<Bucket>,
        cursor: Option<u64>,
    ) -> Answer<store::KeyResponse> {
        let page = self.bucket(&bucket)?.keys(cursor.unwrap_or(0)).await;
        answer(page.map(|page| store::KeyResponse {
            keys: page.keys,
            cursor: page.next,
        }))
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

impl atomics::Host for FunctionState {
    async fn increment(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
        delta: u64,
    ) -> Answer<u64> {
        if let Err(error) = check_pair(&key, None) {
            return Ok(Err(error));
        }
        answer(self.bucket(&bucket)?.increment(key, delta).await)
    }

    async fn swap(
        &mut self,
        cas: Resource<Cas>,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), atomics::CasError>> {
        let Cas { table, key, seen } = self.table.delete(cas)?;
        let failed = |error| Ok(Err(atomics::CasError::StoreError(error)));
        if let Err(error) = check_pair(&key, Some(&value)) {
            return failed(error);
        }
        match table.swap(key.clone(), seen, value).await {
            Ok(true) => Ok(Ok(())),
            Ok(false) => match Cas::look(table, key).await {
                Ok((cas, _)) => Ok(Err(atomics::CasError::CasFailed(self.table.push(cas)?))),
                Err(problem) => failed(store::Error::Other(problem)),
            },
            Err(problem) => failed(store::Error::Other(problem)),
        }
    }
}

impl atomics::HostCas for FunctionState {
    async fn new(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<Resource<Cas>> {
        if let Err(error) = check_pair(&key, None) {
            return Ok(Err(error));
        }
        match Cas::look(self.bucket(&bucket)?, key).await {
            Ok((cas, _)) => Ok(Ok(self.table.push(cas)?)),
            Err(problem) => Ok(Err(store::Error::Other(problem))),
        }
    }

    async fn current(&mut self, cas: Resource<Cas>) -> Answer<Option<Vec<u8>>> {
        let Cas { table, key, .. } = self.table.get(&cas)?;
        match Cas::look(table.clone(), key.clone()).await {
            Ok((fresh, value)) => {
                *self.table.get_mut(&cas)? = fresh;
                Ok(Ok(value))
            }
            Err(problem) => Ok(Err(store::Error::Other(problem))),
        }
    }

    async fn drop(&mut self, cas: Resource<Cas>) -> wasmtime::Result<()> {
        self.table.delete(cas)?;
        Ok(())
    }
}

impl batch::Host for FunctionState {
    async fn get_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> Answer<Vec<Option<(String, Vec<u8>)>>> {
        if let Err(error) = check_count(keys.len()) {
            return Ok(Err(error));
        }
        let values = self.bucket(&bucket)?.get_many(keys.clone()).await;
        let pair = |(key, value): (String, Option<Vec<u8>>)| value.map(|value| (key, value));
        answer(values.map(|values| keys.into_iter().zip(values).map(pair).collect()))
    }

    async fn set_many(
        &mut self,
        bucket: Resource<Bucket>,
        pairs: Vec<(String, Vec<u8>)>,
    ) -> Answer<()> {
        let checked = check_count(pairs.len()).and_then(|()| {
            pairs
                .iter()
                .try_for_each(|(key, value)| check_pair(key, Some(value)))
        });
        if let Err(error) = checked {
            return Ok(Err(error));
        }
        let pairs = pairs
            .into_iter()
            .map(|(key, value)| (key, Some(value)))
            .collect();
        answer(self.bucket(&bucket)?.write(pairs).await)
    }

    async fn delete_many(&mut self, bucket: Resource<Bucket>, keys: Vec<String>) -> Answer<()> {
        if let Err(error) = check_count(keys.len()) {
            return Ok(Err(error));
        }
        answer(
            self.bucket(&bucket)?
                .write(keys.into_iter().map(|key| (key, None)).collect())
                .await,
        )
    }
}

/// The contract's bounds.
const KEY_BYTES_MAX: usize = 1024;
const VALUE_BYTES_MAX: usize = 1 << 20;
const BATCH_MAX: usize = 1000;
