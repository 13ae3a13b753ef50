//! What is behind a function that stands around an integration: the next such function, or the integration.
//!
//! The embedder has one end of a channel, the instance the other for as long as its call lasts. A request goes there by
//! `wasi:http/handler`, which components of 0.3 made as `middleware` import; or, for those that import no more than a
//! client, by its authority: the one that the function was asked by, or [`NEXT`].

use std::time::Duration;

use http::uri::Authority;
use http::{Request, Response, Uri};
use tokio::sync::{mpsc, oneshot};
use wasmtime::component::{Accessor, Linker, Resource};
use wasmtime_wasi_http::p3::bindings::http::client::HostWithStore;
use wasmtime_wasi_http::p3::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::p3::{Request as GuestRequest, Response as GuestResponse};
use wasmtime_wasi_http::{Error, WasiBody, WasiHttp, WasiHttpView};

use crate::function::{FunctionState, outgoing_error};
use crate::wit::HttpError;

/// The authority of what is next, whatever the function was asked by. No name of the Internet ends so (RFC 9476 reserves
/// `alt` for what is no name of DNS).
pub const NEXT: &str = "next.tidegate.alt";

/// A request to what is next.
pub struct Ask {
    /// Its URI's scheme and authority say nothing.
    pub request: Request<WasiBody>,
    /// Where the response goes; closed when nobody waits for it any more.
    pub answer: oneshot::Sender<Result<Response<WasiBody>, HttpError>>,
}

/// An instance's way to what is next, during one call.
pub(crate) struct Next {
    asked_by: Option<Authority>,
    asks: mpsc::Sender<Ask>,
}

impl Next {
    /// For a call with a request to `uri`.
    pub(crate) fn new(uri: &Uri, asks: mpsc::Sender<Ask>) -> Self {
        Self {
            asked_by: uri.authority().cloned(),
            asks,
        }
    }

    /// Whether a request to `uri` is for it.
    pub(crate) fn is_asked(&self, uri: &Uri) -> bool {
        uri.authority().is_some_and(|authority| {
            authority.as_str().eq_ignore_ascii_case(NEXT)
                || self.asked_by.as_ref() == Some(authority)
        })
    }

    /// Asks it, and waits for the response's header section for `timeout`, where the function names one; what is next has
    /// times of its own.
    pub(crate) fn ask(
        &self,
        request: Request<WasiBody>,
        timeout: Option<Duration>,
    ) -> impl Future<Output = wasmtime_wasi_http::Result<Response<WasiBody>>> + Send + use<> {
        let asks = self.asks.clone();
        let answered = async move {
            let (answer, answered) = oneshot::channel();
            let asked = asks.send(Ask { request, answer }).await;
            asked.map_err(|_| Error::ConnectionTerminated)?;
            drop(asks); // open for as long as the call, not for as long as this answer
            match answered.await {
                Ok(response) => response.map_err(outgoing_error),
                Err(_) => Err(Error::ConnectionTerminated),
            }
        };
        async move {
            match timeout {
                None => answered.await,
                Some(timeout) => tokio::time::timeout(timeout, answered)
                    .await
                    .unwrap_or(Err(Error::HttpResponseTimeout)),
            }
        }
    }
}

/// Adds `wasi:http/handler` as an import: to call it is to send to [`NEXT`].
pub(crate) fn add_to_linker(linker: &mut Linker<FunctionState>) -> wasmtime::Result<()> {
    linker
        .instance("wasi:http/handler@0.3.0")?
        .func_wrap_concurrent("handle", |accessor, (request,)| {
            Box::pin(async move { Ok((handle(accessor, request).await?,)) })
        })
}

async fn handle(
    accessor: &Accessor<FunctionState>,
    request: Resource<GuestRequest>,
) -> wasmtime::Result<Result<Resource<GuestResponse>, ErrorCode>> {
    accessor.with(|mut store| -> wasmtime::Result<()> {
        let request = store.get().table.get_mut(&request)?;
        request.authority = Some(Authority::from_static(NEXT));
        Ok(())
    })?;
    let client = accessor.with_getter::<WasiHttp>(FunctionState::http);
    match <WasiHttp as HostWithStore<FunctionState>>::send(&client, request).await {
        Ok(response) => Ok(Ok(response)),
        Err(error) => Ok(Err(error.downcast()?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_next_is_asked_by_its_name_or_by_the_authority_that_the_function_was_asked_by() {
        let (asks, _asked) = mpsc::channel(1);
        let next = Next::new(&Uri::from_static("http://Api.example:8080/a"), asks);
        let cases = [
            ("http://api.example:8080/b", true),
            ("https://API.EXAMPLE:8080/", true),
            ("http://next.tidegate.alt/", true),
            ("http://api.example/", false),
            ("http://api.example:8081/", false),
            ("http://next.tidegate.alt.example/", false),
            ("http://other.example:8080/", false),
        ];
        for (uri, expected) in cases {
            assert_eq!(next.is_asked(&Uri::from_static(uri)), expected, "{uri}");
        }
    }

    #[tokio::test]
    async fn who_asks_after_the_call_is_told_that_nobody_is_there() {
        let (asks, asked) = mpsc::channel(1);
        let next = Next::new(&Uri::from_static("http://a/"), asks);
        drop(asked);
        let request = Request::new(WasiBody::default());
        let answer = next.ask(request, None).await;
        assert!(matches!(answer, Err(Error::ConnectionTerminated)));
    }
}
