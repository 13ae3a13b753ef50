//! The node's own HTTP client, for plugins and functions: on a thread of its own, with the upstreams' connections, limits
//! and TLS.
//!
//! Which hosts a plugin may ask is its grant's matter. Here is what nobody may: the node's own admin address, and
//! link-local addresses, where clouds keep credentials.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, Request, Response, Uri};
use tidegate_sandbox::exchange::text;
use tidegate_sandbox::wit::{self, HttpError, OutgoingRequest};
use tokio::sync::{mpsc, oneshot};
use wasmtime_wasi_http::WasiBody;

use crate::body::Body;
use crate::upstream::{Directory, SendOptions, TargetAddress, UpstreamError, Upstreams};

/// Hands requests to the client's thread.
#[derive(Clone)]
pub struct Client {
    jobs: mpsc::Sender<Job>,
}

struct Job {
    request: Request<Body>,
    timeout: Duration,
    reply: oneshot::Sender<Result<Response<Body>, HttpError>>,
}

impl Client {
    /// Starts the thread; it ends when the last client is dropped.
    ///
    /// # Errors
    ///
    /// Where the system has no thread for it.
    pub fn start(directory: Arc<Directory>, admin: SocketAddr) -> io::Result<Self> {
        let (jobs, mut queue) = mpsc::channel::<Job>(JOBS_MAX);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        thread::Builder::new()
            .name("http-client".into())
            .spawn(move || {
                tokio::task::LocalSet::new().block_on(&runtime, async move {
                    let upstreams = Rc::new(Upstreams::new(directory));
                    while let Some(job) = queue.recv().await {
                        let upstreams = upstreams.clone();
                        tokio::task::spawn_local(async move { run(&upstreams, admin, job).await });
                    }
                });
            })?;
        Ok(Self { jobs })
    }

    /// Sends a request and collects the response.
    ///
    /// # Errors
    ///
    /// By the names of RFC 9209.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the request up.
    pub async fn send_whole(&self, request: OutgoingRequest) -> Result<wit::Response, HttpError> {
        let timeout = Duration::from_millis(request.timeout_ms.into()).min(TIMEOUT_MAX);
        let whole = async {
            let response = self.send(outgoing(request)?, timeout).await?;
            let (head, body) = response.into_parts();
            let body = body
                .collect(RESPONSE_BYTES_MAX)
                .await
                .map_err(|error| match error {
                    crate::body::BodyError::TooLarge { .. } => HttpError::ResponseTooLarge,
                    error => HttpError::ProtocolError(error.to_string()),
                })?;
            let line = |(name, value): (&HeaderName, &HeaderValue)| {
                (
                    name.as_str().to_owned(),
                    text(value.as_bytes()).into_owned(),
                )
            };
            let headers = head.headers.iter().map(line).collect();
            Ok(wit::Response {
                status: head.status.as_u16(),
                headers,
                body: body.into(),
            })
        };
        tokio::time::timeout(timeout, whole)
            .await
            .unwrap_or(Err(HttpError::Timeout))
    }

    /// Sends a request whose body streams, and returns the response when its header section is there.
    ///
    /// # Errors
    ///
    /// By the names of RFC 9209.
    pub async fn send_streaming(
        &self,
        request: Request<WasiBody>,
    ) -> Result<Response<WasiBody>, HttpError> {
        let request = request.map(Body::from_component);
        let response = self.send(request, TIMEOUT_MAX).await?;
        Ok(response.map(Body::into_component))
    }

    async fn send(
        &self,
        request: Request<Body>,
        timeout: Duration,
    ) -> Result<Response<Body>, HttpError> {
        let (reply, answered) = oneshot::channel();
        let job = Job {
            request,
            timeout,
            reply,
        };
        let busy = |_| HttpError::ConnectionRefused("the node's HTTP client is busy".to_owned());
        self.jobs.try_send(job).map_err(busy)?;
        answered.await.unwrap_or_else(|_| {
            Err(HttpError::ProtocolError(
                "the request was given up".to_owned(),
            ))
        })
    }
}

async fn run(upstreams: &Upstreams, admin: SocketAddr, job: Job) {
    let Job {
        request,
        timeout,
        mut reply,
    } = job;
    tokio::select! {
        response = send(upstreams, admin, request, timeout) => drop(reply.send(response)),
        () = reply.closed() => {} // nobody waits any more
    }
}

async fn send(
    upstreams: &Upstreams,
    admin: SocketAddr,
    mut request: Request<Body>,
    timeout: Duration,
) -> Result<Response<Body>, HttpError> {
    let address = TargetAddress::of(request.uri()).ok_or(HttpError::DestinationNotAllowed)?;
    check_address(&address, admin).await?;
    let handle = upstreams
        .resolve(&address)
        .map_err(|error| HttpError::ProtocolError(error.to_string()))?;
    let path = request
        .uri()
        .path_and_query()
        .cloned()
        .unwrap_or_else(|| PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from(path);
    tidegate_model::headers::remove_hop_by_hop(request.headers_mut());
    let options = SendOptions {
        first_byte_timeout: Some(timeout),
        ..SendOptions::default()
    };
    handle
        .send(request, options)
        .await
        .map_err(|error| named(&error))
}

/// Refuses what nobody may ask. A name is looked up for it; all its addresses have to be allowed.
async fn check_address(address: &TargetAddress, admin: SocketAddr) -> Result<(), HttpError> {
    let found = tokio::net::lookup_host((address.host.as_str(), address.port));
    let addresses = found
        .await
        .map_err(|error| HttpError::DnsError(error.to_string()))?;
    for found in addresses {
        if is_forbidden(found, admin) {
            return Err(HttpError::DestinationNotAllowed);
        }
    }
    Ok(())
}

fn is_forbidden(address: SocketAddr, admin: SocketAddr) -> bool {
    let ip = address.ip().to_canonical();
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let reaches_admin = address.port() == admin.port()
        && (ip == admin.ip()
            || ip.is_loopback()
            || ip.is_unspecified()
            || admin.ip().is_unspecified());
    link_local || reaches_admin
}

fn outgoing(request: OutgoingRequest) -> Result<Request<Body>, HttpError> {
    let wrong = |what: &str| HttpError::ProtocolError(what.to_owned());
    let body = match request.body {
        body if body.is_empty() => Body::Empty,
        body => Body::Full(body.into()),
    };
    let mut built = Request::new(body);
    *built.method_mut() =
        Method::from_bytes(request.method.as_bytes()).map_err(|_| wrong("not a method"))?;
    *built.uri_mut() = request.uri.parse().map_err(|_| wrong("not a URI"))?;
    for (name, value) in request.headers {
        let name = HeaderName::try_from(name).map_err(|_| wrong("not a header name"))?;
        let value = HeaderValue::try_from(value).map_err(|_| wrong("not a header value"))?;
        if !tidegate_model::headers::is_connection_field(&name) {
            built.headers_mut().append(name, value);
        }
    }
    Ok(built)
}

/// What a component is told of an upstream's error.
pub fn named(error: &UpstreamError) -> HttpError {
    match error {
        UpstreamError::DnsError { .. } | UpstreamError::DnsTimeout { .. } => {
            HttpError::DnsError(error.to_string())
        }
        UpstreamError::HttpResponseTimeout { .. } | UpstreamError::ConnectionTimeout { .. } => {
            HttpError::Timeout
        }
        UpstreamError::ConnectionRefused { .. }
        | UpstreamError::DestinationIpUnroutable { .. }
        | UpstreamError::ConnectionLimitReached { .. }
        | UpstreamError::DestinationUnavailable { .. } => {
            HttpError::ConnectionRefused(error.to_string())
        }
        _ => HttpError::ProtocolError(error.to_string()),
    }
}

/// Requests that wait for the client's thread.
const JOBS_MAX: usize = 1024;
/// No plugin waits longer than API Gateway does.
const TIMEOUT_MAX: Duration = Duration::from_secs(29);
/// The contract's bound.
const RESPONSE_BYTES_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_credentials_of_the_cloud_nor_the_admin_address_can_be_asked() {
        let admin: SocketAddr = "127.0.0.1:9080".parse().expect("an address");
        let cases = [
            ("169.254.169.254:80", true),
            ("[fe80::1]:80", true),
            ("[::ffff:169.254.169.254]:80", true),
            ("127.0.0.1:9080", true),
            ("[::1]:9080", true),
            ("127.0.0.1:9081", false),
            ("192.0.2.1:9080", false),
        ];
        for (address, expected) in cases {
            assert_eq!(
                is_forbidden(address.parse().expect("an address"), admin),
                expected,
                "{address}"
            );
        }
    }
}
