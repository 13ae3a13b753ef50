//! TLS for viewers: certificates that can be swapped while connections are being made, ALPN, session tickets.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::ProducesTickets;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// A certificate chain with its private key.
#[derive(Debug, Clone)]
pub struct Identity(Arc<CertifiedKey>);

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("certificate is not PEM")]
    Certificate(#[source] rustls_pki_types::pem::Error),
    #[error("no certificate in the file")]
    Empty,
    #[error("private key is not PEM")]
    Key(#[source] rustls_pki_types::pem::Error),
    #[error("certificate and private key cannot be used")]
    Unusable(#[source] rustls::Error),
}

impl Identity {
    /// Takes the chain, the server's own certificate first, and its key, both as PEM.
    ///
    /// # Errors
    /// Where one cannot be read, or the key is not the certificate's.
    pub fn from_pem(certificates: &[u8], key: &[u8]) -> Result<Self, IdentityError> {
        let chain = CertificateDer::pem_slice_iter(certificates)
            .collect::<Result<Vec<_>, _>>()
            .map_err(IdentityError::Certificate)?;
        if chain.is_empty() {
            return Err(IdentityError::Empty);
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(IdentityError::Key)?;
        CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
            .map(|certified| Self(Arc::new(certified)))
            .map_err(IdentityError::Unusable)
    }
}

/// The TLS side of a listener, shared by all workers.
#[derive(Debug)]
pub struct Tls {
    config: ArcSwap<ServerConfig>,
    /// Kept over a swap of certificates, so that sessions are still resumed.
    tickets: Arc<dyn ProducesTickets>,
    protocols: Vec<Vec<u8>>,
}

impl Tls {
    /// TLS 1.2 and 1.3, offering HTTP/2 and HTTP/1.1 as told.
    ///
    /// # Errors
    /// Where the cryptographic library yields no ticket key.
    pub fn new(identity: &Identity, http1: bool, http2: bool) -> Result<Self, rustls::Error> {
        let mut protocols = Vec::new();
        if http2 {
            protocols.push(ALPN_H2.to_vec());
        }
        if http1 {
            protocols.push(ALPN_HTTP1.to_vec());
        }
        let tickets = aws_lc_rs::Ticketer::new()?;
        let config = server_config(identity, tickets.clone(), protocols.clone())?;
        Ok(Self {
            config: ArcSwap::from_pointee(config),
            tickets,
            protocols,
        })
    }

    /// Uses another certificate from the next handshake on.
    ///
    /// # Errors
    /// As [`Tls::new`]; the certificate in use stays.
    pub fn replace(&self, identity: &Identity) -> Result<(), rustls::Error> {
        let config = server_config(identity, self.tickets.clone(), self.protocols.clone())?;
        self.config.store(Arc::new(config));
        Ok(())
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// Where the viewer does not speak TLS, or nothing that we do.
    pub(crate) async fn accept(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        TlsAcceptor::from(self.config.load_full())
            .accept(stream)
            .await
    }
}

fn server_config(
    identity: &Identity,
    tickets: Arc<dyn ProducesTickets>,
    protocols: Vec<Vec<u8>>,
) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let resolver = rustls::sign::SingleCertAndKey::from(identity.0.clone());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = protocols;
    config.ticketer = tickets;
    Ok(config)
}

pub(crate) const ALPN_H2: &[u8] = b"h2";
const ALPN_HTTP1: &[u8] = b"http/1.1";
