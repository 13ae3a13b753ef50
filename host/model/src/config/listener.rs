//! `[[listener]]` and `[admin]`: the sockets that a node accepts on.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use super::source::Source;
use crate::deployment::EndpointType;

/// A bound address, its protocols and its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Port 0 takes a free one.
    pub address: SocketAddr,
    /// `None`: cleartext.
    pub tls: Option<ListenerTls>,
    pub protocols: Protocols,
    /// `None`: it is public.
    pub private: Option<Private>,
}

/// What makes a listener private.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Private {
    /// `aws:SourceVpce` of what comes by it.
    pub name: String,
    /// Which APIs answer there.
    pub serves: Vec<EndpointType>,
}

/// A certificate and its key, both PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerTls {
    /// The chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// The private key: PKCS #8, PKCS #1 or SEC 1.
    pub key: PathBuf,
}

/// What a listener speaks. At least one is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protocols {
    /// HTTP/1.1 (RFC 9112).
    pub http1: bool,
    /// HTTP/2 (RFC 9113): by ALPN under TLS, by prior knowledge in cleartext.
    pub http2: bool,
}

/// The listener of the admin API, `/metrics`, `/healthz` and `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    pub address: SocketAddr,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct ListenerFile {
    /// `address:port`. Required: which interface faces the network is nothing to guess.
    address: Option<Spanned<String>>,
    /// Default none: cleartext.
    tls: Option<Spanned<ListenerTlsFile>>,
    /// Default `["http/1.1", "h2"]`: both can be told apart on one socket, so neither costs anything.
    protocols: Option<Spanned<Vec<ProtocolFile>>>,
    /// Default none. Private listeners need one: resource policies speak of it as `aws:SourceVpce`.
    name: Option<Spanned<String>>,
    /// Default false: what is not said to be private faces everybody.
    private: Option<bool>,
    /// For private listeners. Default `["PRIVATE", "REGIONAL"]`: EDGE APIs are for everybody, by way of the edges.
    serves: Option<Spanned<Vec<EndpointType>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct ListenerTlsFile {
    certificate: Option<String>,
    key: Option<String>,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
enum ProtocolFile {
    #[serde(rename = "http/1.1")]
    Http1,
    #[serde(rename = "h2")]
    Http2,
}

impl ListenerFile {
    pub(super) fn compile(file: Spanned<Self>, source: &mut Source) -> Option<Listener> {
        let span = file.span();
        let mut file = file.into_inner();
        let private = file.private(&span, source);
        let Some(address) = file.address else {
            source.missing(&span, "listener", "address");
            return None;
        };
        Some(Listener {
            address: address_of(&address, source)?,
            tls: match file.tls {
                Some(tls) => Some(ListenerTlsFile::compile(tls, source)?),
                None => None,
            },
            protocols: protocols(file.protocols, source)?,
            private,
        })
    }

    fn private(&mut self, span: &Range<usize>, source: &mut Source) -> Option<Private> {
        let (name, serves) = (self.name.take(), self.serves.take());
        if let Some(name) = name.as_ref().filter(|name| !is_name(name.get_ref())) {
            let message = "listener: `name`: use letters, digits, - and _, at most 64";
            source.problem(&name.span(), message);
        }
        if self.private != Some(true) {
            if let Some(serves) = serves {
                let message = "listener: `serves` says nothing without `private = true`";
                source.problem(&serves.span(), message);
            }
            return None;
        }
        let Some(name) = name else {
            source.missing(span, "listener: private", "name");
            return None;
        };
        Some(Private {
            name: name.into_inner(),
            serves: serves.map_or_else(
                || vec![EndpointType::Private, EndpointType::Regional],
                Spanned::into_inner,
            ),
        })
    }
}

fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=64).contains(&text.len()) && text.bytes().all(fits)
}

impl ListenerTlsFile {
    fn compile(file: Spanned<Self>, source: &mut Source) -> Option<ListenerTls> {
        let span = file.span();
        let Self { certificate, key } = file.into_inner();
        for (name, value) in [("certificate", &certificate), ("key", &key)] {
            if value.is_none() {
                source.missing(&span, "listener: tls", name);
            }
        }
        Some(ListenerTls {
            certificate: source.resolve(&certificate?),
            key: source.resolve(&key?),
        })
    }
}

fn protocols(file: Option<Spanned<Vec<ProtocolFile>>>, source: &mut Source) -> Option<Protocols> {
    let Some(file) = file else {
        return Some(Protocols {
            http1: true,
            http2: true,
        });
    };
    let has = |protocol| file.get_ref().contains(&protocol);
    let protocols = Protocols {
        http1: has(ProtocolFile::Http1),
        http2: has(ProtocolFile::Http2),
    };
    if !protocols.http1 && !protocols.http2 {
        source.problem(&file.span(), "listener: `protocols` is empty");
        return None;
    }
    Some(protocols)
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct AdminFile {
    /// Default `127.0.0.1:9080`: it can change everything, so it faces this machine only.
    address: Option<Spanned<String>>,
}

impl AdminFile {
    pub(super) fn compile(self, source: &mut Source) -> Admin {
        let address = self
            .address
            .and_then(|address| address_of(&address, source));
        Admin {
            address: address.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 9080))),
        }
    }
}

pub(super) fn address_of(text: &Spanned<String>, source: &mut Source) -> Option<SocketAddr> {
    let parsed = text.get_ref().parse();
    if parsed.is_err() {
        let message = format!("\"{}\" is not an address and port", text.get_ref());
        source.problem_with_hint(
            &text.span(),
            message,
            Some("write \"127.0.0.1:8080\" or \"[::]:8080\"".to_owned()),
        );
    }
    parsed.ok()
}
