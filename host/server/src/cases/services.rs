//! What a plugin reaches outside while its cases run: what the case says, and nothing else. For buckets and quotas time stands
//! still, so that a case comes out the same at any hour and on any machine.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use http::{Request, Response};
use tidegate_model::bucket::{self, Rate};
use tidegate_sandbox::capabilities::keyvalue::Table;
use tidegate_sandbox::capabilities::{Services, Waiting};
use tidegate_sandbox::wit::{
    self, ApiKey, HttpError, Level, OutgoingRequest, QuotaStanding, QuotaTaken, QuotaTerms, Taken,
};
use wasmtime_wasi_http::WasiBody;

use super::case::Surroundings;
use crate::services::quota::{self, Taking};

/// The services of one case.
pub struct CaseServices {
    surroundings: Surroundings,
    /// When each bucket will be full, in nanoseconds.
    buckets: Mutex<BTreeMap<String, u64>>,
    /// What was taken of each quota.
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
            buckets: Mutex::default(),
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
        let Some(rate) = Rate::new(rate, burst) else {
            return Taken::Rejected(u32::MAX);
        };
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(bucket) = value_at(&mut buckets, format!("{scope} {key}")) else {
            return Taken::Rejected(u32::MAX);
        };
        match rate.take(*bucket, 0) {
            bucket::Taken::Admitted { full_at, left } => {
                *bucket = full_at;
                Taken::Admitted(left)
            }
            bucket::Taken::Rejected { retry_after } => {
                let milliseconds = retry_after.as_nanos().div_ceil(1_000_000);
                Taken::Rejected(u32::try_from(milliseconds).unwrap_or(u32::MAX))
            }
        }
    }

    fn take_quota(&self, scope: &str, key: &str, amount: u32, terms: QuotaTerms) -> Taking {
        let terms = quota::terms_of(terms);
        let name = format!("{scope} {} {key}", terms.period.as_str());
        let mut quotas = self.quotas.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(used) = value_at(&mut quotas, name) else {
            return Err(Box::pin(async { Err(NO_ROOM.to_owned()) }));
        };
        let left = terms
            .limit
            .saturating_sub(terms.offset)
            .saturating_sub(*used);
        let renews_in = terms.period.at(NOW).ends - NOW;
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

/// The value of this name, made where it is not there yet; none where there is no room for it.
fn value_at<T: Default>(values: &mut BTreeMap<String, T>, name: String) -> Option<&mut T> {
    let room = values.len() < NAMES_MAX && name.len() <= NAME_BYTES_MAX;
    (room || values.contains_key(&name)).then(|| values.entry(name).or_default())
}

/// Buckets, and quotas.
const NAMES_MAX: usize = 10_000;
const NAME_BYTES_MAX: usize = 4096;
const NO_ROOM: &str = "a case has no room for this quota";
/// In milliseconds since 1970: 2023 began, on a Sunday, so days, weeks and months do.
const NOW: u64 = 1_672_531_200_000;
/// What a plugin says beyond it is not kept.
const TOLD_BYTES_MAX: usize = 1 << 20;
/// That a line takes beside its text.
const LINE_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use wit::QuotaPeriod::{Day, Month, Week};

    #[test]
    fn a_bucket_does_not_fill_and_periods_have_just_begun() {
        let services = CaseServices::new(Surroundings::default());
        let token = || match services.take_token("case/test", "ann", 4.0, 2) {
            Taken::Admitted(left) => Ok(left),
            Taken::Rejected(retry_ms) => Err(retry_ms),
        };
        assert_eq!(
            [token(), token(), token(), token()],
            [Ok(1), Ok(0), Err(250), Err(250)]
        );

        for (period, days) in [(Day, 1), (Week, 7), (Month, 31)] {
            let terms = QuotaTerms {
                limit: 3,
                offset: 1,
                period,
            };
            let take = |amount| match services.take_quota("case/test", "ann", amount, terms) {
                Ok(QuotaTaken::Admitted(standing)) => Ok((standing.left, standing.renews_in_ms)),
                Ok(QuotaTaken::Exceeded(standing)) => Err((standing.left, standing.renews_in_ms)),
                Err(_) => panic!("a case waits for nothing"),
            };
            let ends = days * 86_400_000;
            let taken = [take(1), take(2), take(1), take(0), take(1)];
            let (one, none) = ((1, ends), (0, ends));
            assert_eq!(
                taken,
                [Ok(one), Err(one), Ok(none), Ok(none), Err(none)],
                "{days}"
            );
        }
    }
}
