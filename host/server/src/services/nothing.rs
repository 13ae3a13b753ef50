//! Services of a node that does not run: for checking what would.

use std::sync::Arc;

use http::{Request, Response};
use tidegate_sandbox::capabilities::keyvalue::Table;
use tidegate_sandbox::capabilities::{Services, Waiting};
use tidegate_sandbox::wit::{self, ApiKey, HttpError, Level, OutgoingRequest, QuotaTerms, Taken};
use wasmtime_wasi_http::WasiBody;

use super::quota::Taking;

/// Has nothing, reaches nothing, admits nothing; what plugins log goes to standard error.
pub struct NoServices;

impl Services for NoServices {
    fn log(&self, binding: &str, _: Option<&str>, _: Level, message: &str) {
        eprintln!("{binding}: {message}");
    }

    fn take_token(&self, _: &str, _: &str, _: f64, _: u32) -> Taken {
        Taken::Rejected(u32::MAX)
    }

    fn take_quota(&self, _: &str, _: &str, _: u32, _: QuotaTerms) -> Taking {
        Err(Box::pin(async {
            Err("nothing is counted while a configuration is checked".to_owned())
        }))
    }

    fn find_api_key(&self, _: &str, _: &str) -> Option<ApiKey> {
        None
    }

    fn secret(&self, _: &str) -> Option<String> {
        None
    }

    fn count(&self, _: &str, _: &str, _: u32) {}

    fn write_lines(&self, _: &str, _: Vec<String>) {}

    fn fetch_keys(&self, uri: String, _: bool) -> Waiting<Result<String, String>> {
        Box::pin(async move {
            Err(format!(
                "{uri} is not asked while a configuration is checked"
            ))
        })
    }

    fn send(&self, _: OutgoingRequest) -> Waiting<Result<wit::Response, HttpError>> {
        Box::pin(async { Err(HttpError::DestinationNotAllowed) })
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
