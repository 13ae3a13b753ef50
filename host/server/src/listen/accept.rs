//! Accepting: one listening socket per worker thread, a bound on connections, and an orderly end.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use socket2::{Domain, Protocol as IpProtocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tracing::{debug, error, warn};

use super::tls::{ALPN_H2, Tls};
use super::{Connection, Protocol, Service, Settings, http};
use crate::drain::Drain;
use crate::stream::Stream;

/// Opens `workers` sockets on one address, between which the kernel spreads connections (SO_REUSEPORT). Port 0 picks a
/// free one for all of them.
///
/// # Errors
/// Where the address is in use, also by another node, or not permitted.
pub fn bind(address: SocketAddr, workers: usize) -> io::Result<Vec<std::net::TcpListener>> {
    // The kernel would let another node have a share of the connections, the admin's too.
    drop(bind_one(address, false)?);
    let first = bind_one(address, true)?;
    let address = first.local_addr()?;
    let rest = (1..workers).map(|_| bind_one(address, true));
    std::iter::once(Ok(first)).chain(rest).collect()
}

/// Serves one worker's socket of a listener until the node drains and its connections are done, or the future is dropped,
/// which cuts them off.
///
/// # Errors
/// Where the socket cannot be given to the runtime.
pub async fn run<S: Service>(
    socket: std::net::TcpListener,
    settings: Rc<Settings>,
    tls: Option<Arc<Tls>>,
    service: Rc<S>,
    drain: Rc<Drain>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(socket)?;
    let acceptor = Acceptor {
        settings,
        tls,
        service,
        drain,
    };
    let mut watcher = acceptor.drain.watch();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(ended) = connections.join_next(), if !connections.is_empty() => report(ended),
            () = watcher.draining() => break,
            accepted = listener.accept(), if connections.len() < acceptor.settings.connections_max => match accepted {
                Ok((stream, peer)) => acceptor.spawn(&mut connections, stream, peer),
                Err(error) => pause(&error).await,
            },
        }
    }
    // The kernel has shaken hands with those in its queue: closing the socket now would reset them.
    while let Some((stream, peer)) = accept_waiting(&listener).await {
        acceptor.spawn(&mut connections, stream, peer);
    }
    drop(listener);
    drop(watcher);
    while let Some(ended) = connections.join_next().await {
        report(ended);
    }
    Ok(())
}

fn bind_one(address: SocketAddr, shared: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(IpProtocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

struct Acceptor<S> {
    settings: Rc<Settings>,
    tls: Option<Arc<Tls>>,
    service: Rc<S>,
    drain: Rc<Drain>,
}

impl<S: Service> Acceptor<S> {
    fn spawn(&self, connections: &mut JoinSet<()>, stream: TcpStream, peer: SocketAddr) {
        // Nagle would hold the last part of a response for the viewer's delayed acknowledgement, ~40 ms.
        let prepared = stream.set_nodelay(true).and_then(|()| stream.local_addr());
        let local = match prepared {
            Ok(local) => local,
            Err(error) => return debug!(%peer, %error, "connection gone before it was served"),
        };
        let connection = Connection {
            peer,
            local,
            tls: self.tls.is_some(),
            protocol: Protocol::Http1,
            server_name: None,
            private: self.settings.private.clone(),
        };
        let settings = self.settings.clone();
        let service = self.service.clone();
        let watcher = self.drain.watch();
        match self.tls.clone() {
            None => {
                connections.spawn_local(http::serve(
                    Stream::Plain(stream),
                    connection,
                    None,
                    settings,
                    service,
                    watcher,
                ));
            }
            Some(tls) => {
                connections.spawn_local(async move {
                    let accepted =
                        tokio::time::timeout(settings.tls_handshake_timeout, tls.accept(stream))
                            .await;
                    let stream = match accepted {
                        Ok(Ok(stream)) => stream,
                        Ok(Err(error)) => return debug!(%peer, %error, "TLS handshake failed"),
                        Err(_) => return debug!(%peer, "TLS handshake timed out"),
                    };
                    let (_, session) = stream.get_ref();
                    let protocol = match session.alpn_protocol() {
                        Some(ALPN_H2) => Some(Protocol::Http2),
                        Some(_) => Some(Protocol::Http1),
                        None => None,
                    };
                    let server_name = session.server_name().map(str::to_ascii_lowercase);
                    let connection = Connection {
                        server_name,
                        ..connection
                    };
                    let stream = Stream::Tls(Box::new(stream.into()));
                    http::serve(stream, connection, protocol, settings, service, watcher).await;
                });
            }
        }
    }
}

/// The next connection of the kernel's queue, if there is one now.
async fn accept_waiting(listener: &TcpListener) -> Option<(TcpStream, SocketAddr)> {
    let mut accept = pin!(listener.accept());
    poll_fn(|cx| match accept.as_mut().poll(cx) {
        Poll::Ready(accepted) => Poll::Ready(accepted.ok()),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// A connection that was gone before we took it is not a reason to wait; being out of descriptors or memory is, since
/// accept would fail again at once, and what frees them is time.
async fn pause(error: &io::Error) {
    let transient = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    );
    if !transient {
        error!(%error, "cannot accept connections");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        warn!(%error, "a connection's task panicked");
    }
}

/// Connections that the kernel holds for us; it lowers this to net.core.somaxconn.
const BACKLOG: i32 = 4096;
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
