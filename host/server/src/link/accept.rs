//! On an origin: connections of other nodes, on every worker.

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use quinn::Endpoint;
use rustls_pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use super::h3::{Sending, length, received, split_response};
use super::host::Host;
use crate::body::Body;
use crate::drain::{Drain, Watcher};
use crate::identity::Peer;
use crate::stream::{LocalExecutor, Stream};

/// Serves HTTP/3 until the node drains and its requests are answered.
pub async fn quic(endpoint: Endpoint, host: Rc<Host>, drain: Rc<Drain>) {
    let mut watcher = drain.watch();
    let mut connections = JoinSet::new();
    loop {
        let incoming = tokio::select! {
            biased;
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            () = watcher.draining() => break,
            incoming = endpoint.accept() => incoming,
        };
        match incoming {
            None => break,
            Some(incoming) if connections.len() >= CONNECTIONS_MAX => incoming.refuse(),
            // A handshake costs a signature: where there are many, only for who receives at the address it sends from.
            Some(incoming)
                if connections.len() >= RETRY_ABOVE && !incoming.remote_address_validated() =>
            {
                if let Err(incoming) = incoming.retry() {
                    incoming.into_incoming().refuse();
                }
            }
            Some(incoming) => {
                connections.spawn_local(connection(incoming, host.clone(), drain.watch()));
            }
        }
    }
    endpoint.set_server_config(None);
    drop(watcher);
    while connections.join_next().await.is_some() {}
    endpoint.close(quinn::VarInt::from_u32(0), b"drained");
}

async fn connection(incoming: quinn::Incoming, host: Rc<Host>, mut watcher: Watcher) {
    let from = incoming.remote_address();
    let Ok(connecting) = incoming.accept() else {
        return;
    };
    let (connection, confirmed) = match connecting.into_0rtt() {
        Ok(early) => early,
        Err(connecting) => match connecting.await {
            Ok(_) | Err(_) => return, // servers always have it
        },
    };
    if connection.peer_identity().is_none() {
        // Nothing is answered to who has not said who it is. Early data comes of a session where it has.
        if tokio::time::timeout(HANDSHAKE, confirmed).await.is_err() {
            return host.turned_away(from, &"the QUIC handshake timed out");
        }
    }
    let Some(peer) = peer_of(&host, connection.peer_identity()) else {
        // Where the handshake failed, why.
        return match connection.close_reason() {
            Some(why) => host.turned_away(from, &why),
            None => host.turned_away(from, &"its certificate is no node's"),
        };
    };
    let transport = h3_quinn::Connection::new(connection);
    let made = ::h3::server::builder()
        .max_field_section_size(super::HEADER_BYTES_MAX)
        .send_grease(false)
        .build::<_, Bytes>(transport)
        .await;
    let mut made = match made {
        Ok(made) => made,
        Err(error) => return debug!(%from, %error, "link: no HTTP/3"),
    };
    let mut requests = JoinSet::new();
    let mut draining = false;
    loop {
        tokio::select! {
            biased;
            Some(_) = requests.join_next(), if !requests.is_empty() => {}
            () = watcher.draining(), if !draining => {
                draining = true;
                if made.shutdown(0).await.is_err() {
                    break;
                }
            }
            // A stream that was reset is free for another one while its request still runs.
            accepted = made.accept(), if requests.len() < STREAMS_MAX as usize => match accepted {
                Ok(Some(resolver)) => {
                    let (host, peer) = (host.clone(), peer.clone());
                    requests.spawn_local(async move {
                        if let Err(error) = request(resolver, host, peer).await {
                            debug!(error, "link: request not answered");
                        }
                    });
                }
                Ok(None) => break,
                Err(error) => {
                    debug!(%from, %error, "link: connection ended");
                    requests.abort_all();
                    break;
                }
            },
        }
        if draining && requests.is_empty() {
            break;
        }
    }
    while requests.join_next().await.is_some() {}
}

async fn request(
    resolver: ::h3::server::RequestResolver<h3_quinn::Connection, Bytes>,
    host: Rc<Host>,
    peer: Peer,
) -> Result<(), String> {
    let (head, stream) = resolver
        .resolve_request()
        .await
        .map_err(|error| error.to_string())?;
    let (mut sending, receiving) = stream.split();
    let left = length(head.headers());
    let request = head.map(|()| received(receiving, left, None));
    let response = host.answer(Some(&peer), request).await;
    let (head, body) = split_response(response);
    let sent = sending.send_response(head).await;
    sent.map_err(|error| error.to_string())?;
    let sent = Sending::new(sending).body(body).await;
    sent.map_err(|error| format!("{error:?}"))
}

/// Serves HTTP/2 until the node drains and its requests are answered. Nodes without a certificate may join.
///
/// # Errors
/// Where the socket cannot be given to the runtime.
pub async fn tcp(
    socket: std::net::TcpListener,
    tls: Arc<rustls::ServerConfig>,
    host: Rc<Host>,
    drain: Rc<Drain>,
) -> std::io::Result<()> {
    let listener = TcpListener::from_std(socket)?;
    let acceptor = TlsAcceptor::from(tls);
    let mut watcher = drain.watch();
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            () = watcher.draining() => break,
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => accepted,
        };
        match accepted {
            Ok((stream, from)) => {
                let (acceptor, host, watcher) = (acceptor.clone(), host.clone(), drain.watch());
                connections.spawn_local(async move {
                    let shaken = tokio::time::timeout(HANDSHAKE, handshake(acceptor, stream));
                    match shaken.await {
                        Ok(Ok((stream, certificate))) => {
                            let peer = certificate.and_then(|it| host.peer_of(&it));
                            let known = peer.is_some();
                            let serving = serve_http2(stream, peer, host, watcher);
                            match known {
                                true => serving.await,
                                false => _ = tokio::time::timeout(JOIN_TIME, serving).await,
                            }
                        }
                        // A probe that looks whether the port is open.
                        Ok(Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                            debug!(%from, "link: closed before a handshake");
                        }
                        Ok(Err(error)) => host.turned_away(from, &error),
                        Err(_) => host.turned_away(from, &"the TLS handshake timed out"),
                    }
                });
            }
            Err(error) => {
                debug!(%error, "link: a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(watcher);
    while connections.join_next().await.is_some() {}
    Ok(())
}

async fn handshake(
    acceptor: TlsAcceptor,
    stream: TcpStream,
) -> std::io::Result<(Stream, Option<CertificateDer<'static>>)> {
    stream.set_nodelay(true)?;
    let stream = acceptor.accept(stream).await?;
    let certificates = stream.get_ref().1.peer_certificates();
    let certificate = certificates.and_then(|chain| Some(chain.first()?.clone().into_owned()));
    Ok((Stream::Tls(Box::new(stream.into())), certificate))
}

async fn serve_http2(stream: Stream, peer: Option<Peer>, host: Rc<Host>, mut watcher: Watcher) {
    let streams_max = if peer.is_some() { STREAMS_MAX } else { 1 };
    let mut builder = http2::Builder::new(LocalExecutor);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(streams_max)
        .max_header_list_size(u32::try_from(super::HEADER_BYTES_MAX).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    let peer = Rc::new(peer);
    let answering = service_fn(move |request: Request<Incoming>| {
        let (host, peer) = (host.clone(), peer.clone());
        async move {
            let response = host.answer((*peer).as_ref(), request.map(Body::from)).await;
            Ok::<Response<Body>, Infallible>(response)
        }
    });
    let mut served = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), answering));
    let ended = tokio::select! {
        ended = &mut served => ended,
        () = watcher.draining() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "link: connection ended");
    }
}

fn peer_of(host: &Host, identity: Option<Box<dyn std::any::Any>>) -> Option<Peer> {
    let chain = identity?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    host.peer_of(chain.first()?)
}

/// Of one worker; a node has one for each of its threads.
const CONNECTIONS_MAX: usize = 4096;
const RETRY_ABOVE: usize = 256;
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Who is not known may join, and is to leave.
const JOIN_TIME: Duration = Duration::from_secs(30);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const STREAMS_MAX: u32 = 1024;
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
const PING_INTERVAL: Duration = Duration::from_secs(2);
const PING_TIMEOUT: Duration = Duration::from_secs(4);
