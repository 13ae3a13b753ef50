//! Connecting to a target: name resolution, TCP, TLS.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use super::{Protocol, Target, UpstreamError};
use crate::listen::tls::ALPN_H2;
use crate::stream::Stream;

/// One worker's names and addresses.
#[derive(Debug, Default)]
pub(super) struct Resolver {
    known: RefCell<HashMap<(Box<str>, u16), Resolved>>,
}

#[derive(Debug, Clone)]
struct Resolved {
    addresses: Rc<[SocketAddr]>,
    until: Instant,
}

impl Resolver {
    /// The addresses of a host, asked for again after [`RESOLVED_FOR`].
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Rc<[SocketAddr]>> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(Rc::new([SocketAddr::new(ip, port)]));
        }
        let key = (Box::from(host), port);
        if let Some(resolved) = self.known.borrow().get(&key)
            && resolved.until > Instant::now()
        {
            return Ok(resolved.addresses.clone());
        }
        let addresses: Rc<[SocketAddr]> = tokio::net::lookup_host((host, port)).await?.collect();
        if addresses.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "the name has no address",
            ));
        }
        let mut known = self.known.borrow_mut();
        let now = Instant::now();
        if known.len() >= RESOLVED_MAX {
            known.retain(|_, resolved| resolved.until > now);
        }
        if known.len() < RESOLVED_MAX {
            known.insert(
                key,
                Resolved {
                    addresses: addresses.clone(),
                    until: now + RESOLVED_FOR,
                },
            );
        }
        Ok(addresses)
    }

    /// Asks again next time: the address did not answer.
    fn forget(&self, host: &str, port: u16) {
        self.known.borrow_mut().remove(&(Box::from(host), port));
    }
}

/// Opens a connection to a target, ready for HTTP.
///
/// # Errors
/// The name does not resolve, no address answers until `deadline`, or TLS fails.
pub(super) async fn connect(
    resolver: &Resolver,
    target: &Target,
    tls: Option<&Arc<ClientConfig>>,
    protocol: Protocol,
    deadline: Instant,
) -> Result<Stream, UpstreamError> {
    let address = &target.address;
    let addresses = match timeout_at(deadline, resolver.resolve(&address.host, address.port)).await
    {
        Ok(Ok(addresses)) => addresses,
        Ok(Err(source)) => {
            return Err(UpstreamError::DnsError {
                host: address.host.clone(),
                source,
            });
        }
        Err(_) => {
            return Err(UpstreamError::DnsTimeout {
                host: address.host.clone(),
            });
        }
    };
    let tcp = match connect_any(&addresses, deadline).await {
        Ok(tcp) => tcp,
        Err(error) => {
            resolver.forget(&address.host, address.port);
            return Err(connect_error(&error, target));
        }
    };
    let (Some(tls), Some(name)) = (tls, &target.server_name) else {
        return Ok(Stream::Plain(tcp));
    };
    secure(tcp, tls, name.clone(), protocol, deadline, target).await
}

/// Tries one address after the other; each but the last gets an equal part of the time that is left.
async fn connect_any(addresses: &[SocketAddr], deadline: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::TimedOut);
    for (tried, &address) in addresses.iter().enumerate() {
        let now = Instant::now();
        let left = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        let until = now + deadline.saturating_duration_since(now) / left;
        match timeout_at(until, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Nagle would hold a request's body back until its header section is acknowledged, ~40 ms.
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

async fn secure(
    tcp: TcpStream,
    tls: &Arc<ClientConfig>,
    name: ServerName<'static>,
    protocol: Protocol,
    deadline: Instant,
    target: &Target,
) -> Result<Stream, UpstreamError> {
    let stream =
        match timeout_at(deadline, TlsConnector::from(tls.clone()).connect(name, tcp)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(source)) => return Err(tls_error(source, target)),
            Err(_) => {
                return Err(UpstreamError::ConnectionTimeout {
                    target: target.authority(),
                });
            }
        };
    let agreed = stream.get_ref().1.alpn_protocol();
    if protocol == Protocol::Http2 && agreed != Some(ALPN_H2) {
        return Err(UpstreamError::HttpProtocolError {
            target: target.authority(),
            source: None,
        });
    }
    Ok(Stream::Tls(Box::new(stream.into())))
}

fn connect_error(error: &io::Error, target: &Target) -> UpstreamError {
    let target = target.authority();
    match error.kind() {
        io::ErrorKind::ConnectionRefused => UpstreamError::ConnectionRefused { target },
        io::ErrorKind::TimedOut => UpstreamError::ConnectionTimeout { target },
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            UpstreamError::DestinationIpUnroutable { target }
        }
        _ => UpstreamError::ConnectionTerminated {
            target,
            source: None,
        },
    }
}

fn tls_error(source: io::Error, target: &Target) -> UpstreamError {
    let target = target.authority();
    let cause = source
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::InvalidCertificate(_)) => {
            UpstreamError::TlsCertificateError { target, source }
        }
        _ => UpstreamError::TlsProtocolError { target, source },
    }
}

/// How long an answer of DNS is used. getaddrinfo does not tell the record's TTL; a move within half a minute is what
/// operators of services with short TTLs count on.
const RESOLVED_FOR: Duration = Duration::from_secs(30);
const RESOLVED_MAX: usize = 1024;
