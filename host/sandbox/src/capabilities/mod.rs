//! What a plugin may ask the host for: one file a capability, each the host's side of a WIT interface.
//!
//! What is native for speed or safety is decided here; what needs a socket, a file or the node's state is asked of
//! [`Services`], which the embedder implements.

mod api_keys;
mod crypto;
mod http_client;
mod jwks;
pub mod keyvalue;
mod log;
mod log_output;
mod metrics;
mod quota;
mod rate_limit;
mod request;
mod response;
mod secrets;
pub(crate) mod shared_cache;

use std::pin::Pin;
use std::sync::Arc;

use http::{Request, Response};
use wasmtime_wasi_http::WasiBody;

use crate::fault::Fault;
use crate::wit::{ApiKey, HttpError, Level, OutgoingRequest, QuotaTaken, QuotaTerms, Taken};

/// A future of the embedder's. It runs on the worker thread of the call that waits for it; dropping it abandons the work.
pub type Waiting<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What capabilities need from outside the sandbox. One for a node; methods that do not return [`Waiting`] must not block.
pub trait Services: Send + Sync + 'static {
    /// A line for the node's log.
    fn log(&self, binding: &str, request_id: Option<&str>, level: Level, message: &str);

    /// A call ended in a fault; what it means for the request is said elsewhere.
    fn fault(&self, _binding: &str, _request_id: Option<&str>, _fault: &Fault) {}

    /// Takes a token from the bucket `key` of `scope` (API and stage). `rate` is above 0 and finite.
    fn take_token(&self, scope: &str, key: &str, rate: f64, burst: u32) -> Taken;

    /// Takes `amount` from the quota `key` of `scope` (API and stage): at once, or where it cannot, after some waiting.
    fn take_quota(
        &self,
        scope: &str,
        key: &str,
        amount: u32,
        terms: QuotaTerms,
    ) -> Result<QuotaTaken, Waiting<Result<QuotaTaken, String>>>;

    /// The enabled API key of this value that may be used in `scope`.
    fn find_api_key(&self, scope: &str, value: &str) -> Option<ApiKey>;

    /// A secret of the node.
    fn secret(&self, name: &str) -> Option<String>;

    /// Adds to a counter of the binding's own.
    fn count(&self, binding: &str, event: &str, amount: u32);

    /// Writes log lines to a destination by its name. Must not block: what does not fit is counted as lost.
    fn write_lines(&self, destination: &str, lines: Vec<String>);

    /// The JSON document at `uri`, from a cache where it is fresh. The host of `uri` has been found in the grant.
    fn fetch_keys(&self, uri: String, refresh: bool) -> Waiting<Result<String, String>>;

    /// Sends a request and collects the response. The host of its URI has been found in the grant; the embedder refuses
    /// its own admin address and link-local ones.
    fn send(&self, request: OutgoingRequest) -> Waiting<Result<crate::wit::Response, HttpError>>;

    /// As `send`, streaming both ways: a function's outgoing request.
    fn send_streaming(
        &self,
        request: Request<WasiBody>,
    ) -> Waiting<Result<Response<WasiBody>, HttpError>>;

    /// Opens a table; `None` where the node has none of that name.
    fn table(&self, name: &str) -> Option<Arc<dyn keyvalue::Table>>;
}

/// Whether a URI's host (`host` or `host:port`) is in a grant's list.
pub(crate) fn host_is_granted(granted: &[String], uri: &http::Uri) -> bool {
    let Some(authority) = uri.authority() else {
        return false;
    };
    granted.iter().any(|allowed| {
        allowed == "*"
            || allowed.eq_ignore_ascii_case(authority.as_str())
            || allowed.eq_ignore_ascii_case(authority.host())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_names_a_host_or_a_host_and_its_port() {
        let granted = ["keys.example".to_owned(), "other.example:8443".to_owned()];
        let cases = [
            ("https://keys.example/jwks", true),
            ("https://KEYS.example:444/jwks", true),
            ("https://other.example:8443/", true),
            ("https://other.example/", false),
            ("https://keys.example.evil/", false),
            ("https://evil@169.254.169.254/", false),
            ("/relative", false),
        ];
        for (uri, expected) in cases {
            assert_eq!(
                host_is_granted(&granted, &uri.parse().expect("a URI")),
                expected,
                "{uri}"
            );
        }
    }
}
