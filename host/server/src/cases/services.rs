//! What a plugin reaches outside while its cases run: what the case says, and nothing else.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use http::{Request, Response};
use tidegate_sandbox::capabilities::keyvalue::Table;
use tidegate_sandbox::capabilities::{Services, Waiting};
use tidegate_sandbox::wit::{
    self, ApiKey, HttpError, Level, OutgoingRequest, QuotaStanding, QuotaTaken, QuotaTerms, Taken,
};
use wasmtime_wasi_http::WasiBody;

use super::case::Surroundings;
use crate::services::quota::{self, Taking};
use crate::services::rate_limit::Buckets;

/// The services of one case.
pub struct CaseServices {
    surroundings: Surroundings,
    buckets: Buckets,
    /// What was taken of each quota: a case is over before a period is.
    quotas: Mutex<BTreeMap<String, u32>>,
    told: Mutex<Told>,
}

/// What the plugin said.
#[derive(Debug, Default)]
pub struct Told {
    /// Lines of its log.
    pub log: Vec<String>,
    /// Lines that it wrote to its destination.
    pub lines: Vec<String>,
    /// Its counters.
    pub counted: BTreeMap<String, u64>,
    bytes: usize,
}

impl Told {
    /// Whether there is room for so much more: a component may say what it likes, as often as it likes.
    fn takes(&mut self, text: &str) -> bool {
        self.bytes = self.bytes.saturating_add(text.len() + LINE_BYTES);
        self.bytes <= TOLD_BYTES_MAX
    }
}

impl CaseServices {
    pub fn new(surroundings: Surroundings) -> Self {
        Self {
            surroundings,
            buckets: Buckets::default(),
            quotas: Mutex::default(),
            told: Mutex::default(),
        }
    }

    /// The names of the case's secrets.
    pub fn secret_names(&self) -> Vec<String> {
        self.surroundings.secrets.keys().cloned().collect()
    }

    /// What was said since the last time.
    pub fn told(&self) -> Told {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reply(&self, uri: &str) -> Result<wit::Response, HttpError> {
        let reply = self
            .surroundings
            .replies
            .iter()
            .find(|reply| reply.uri == uri);
        match reply {
            Some(reply) => Ok(wit::Response {
                status: reply.status,
                headers: reply.headers.clone().into_iter().collect(),
                body: reply.body.clone().into_bytes(),
            }),
            None => Err(HttpError::ConnectionRefused(format!(
                "the case has no reply for {uri}"
            ))),
        }
    }
}

impl Services for CaseServices {
    fn log(&self, _: &str, _: Option<&str>, _: Level, message: &str) {
        let mut told = self.lock();
        if told.takes(message) {
            told.log.push(message.to_owned());
        }
    }

    fn take_token(&self, scope: &str, key: &str, rate: f64, burst: u32) -> Taken {
        self.buckets.take(scope, key, rate, burst)
    }

    fn take_quota(&self, scope: &str, key: &str, amount: u32, terms: QuotaTerms) -> Taking {
        let terms = quota::terms_of(terms);
        let name = format!("{scope} {} {key}", terms.period.as_str());
        let mut quotas = self.quotas.lock().unwrap_or_else(PoisonError::into_inner);
        let used = quotas.entry(name).or_default();
        let left = terms
            .limit
            .saturating_sub(terms.offset)
            .saturating_sub(*used);
        let now = quota::now();
        let renews_in = terms.period.at(now).ends - now;
        let standing = |left| QuotaStanding {
            left,
            renews_in_ms: u32::try_from(renews_in).unwrap_or(u32::MAX),
        };
        Ok(match left.checked_sub(amount) {
            Some(left) => {
                *used += amount;
                QuotaTaken::Admitted(standing(left))
            }
            None => QuotaTaken::Exceeded(standing(left)),
        })
    }

    fn find_api_key(&self, _: &str, value: &str) -> Option<ApiKey> {
        let name = self.surroundings.api_keys.get(value)?;
        Some(ApiKey {
            id: name.clone(),
            name: name.clone(),
        })
    }

    fn secret(&self, name: &str) -> Option<String> {
        self.surroundings.secrets.get(name).cloned()
    }

    fn count(&self, _: &str, event: &str, amount: u32) {
        let mut told = self.lock();
        if let Some(count) = told.counted.get_mut(event) {
            *count = count.saturating_add(u64::from(amount));
        } else if told.takes(event) {
            told.counted.insert(event.to_owned(), u64::from(amount));
        }
    }

    fn write_lines(&self, _: &str, lines: Vec<String>) {
        let mut told = self.lock();
        for line in lines {
            if told.takes(&line) {
                told.lines.push(line);
            }
        }
    }

    fn fetch_keys(&self, uri: String, _: bool) -> Waiting<Result<String, String>> {
        let reply = self.reply(&uri);
        Box::pin(async move {
            match reply {
                Ok(reply) => String::from_utf8(reply.body).map_err(|error| error.to_string()),
                Err(error) => Err(format!("{error:?}")),
            }
        })
    }

    fn send(&self, request: OutgoingRequest) -> Waiting<Result<wit::Response, HttpError>> {
        let reply = self.reply(&request.uri);
        Box::pin(async move { reply })
    }

    fn send_streaming(
        &self,
        _: Request<WasiBody>,
    ) -> Waiting<Result<Response<WasiBody>, HttpError>> {
        Box::pin(async { Err(HttpError::DestinationNotAllowed) })
    }

    fn table(&self, _: &str) -> Option<Arc<dyn Table>> {
        None
    }
}

/// What a plugin says beyond it is not kept.
const TOLD_BYTES_MAX: usize = 1 << 20;
/// That a line takes beside its text.
const LINE_BYTES: usize = 32;
