//! A node's own identity: its key and its certificate, and both ends of a connection that is made with them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use arc_swap::ArcSwap;
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::client::ResolvesClientCert;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

use super::authority::{fingerprint, pem_of};
use super::{Issued, Peer, PeerError, node_file};
use crate::durable;

/// Who this node is. A clone is the same identity: what was renewed is so for all, from the next handshake on.
#[derive(Debug, Clone)]
pub struct Identity(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: PathBuf,
    authority: CertificateDer<'static>,
    current: ArcSwap<Current>,
}

#[derive(Debug)]
struct Current {
    peer: Peer,
    valid_from: SystemTime,
    valid_until: SystemTime,
    /// The node's certificate and the authority's, which nodes that join know by its digest only.
    chain: Arc<CertifiedKey>,
}

/// Whether a server takes clients without a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    Required,
    /// For nodes that are about to join; all others show one.
    Optional,
}

/// A certificate that was asked for.
pub struct Renewal {
    /// The signing request, DER: what the authority is sent.
    pub csr: Vec<u8>,
    key: KeyPair,
}

impl Identity {
    /// Reads what [`super::join`] or [`super::Authority::identify`] left; none where the node never joined.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn load(data: &Path) -> Result<Option<Self>> {
        let file = node_file(data);
        let text = match fs::read(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("{} cannot be read", file.display()));
            }
        };
        let identity = Self::read(&file, &text)
            .with_context(|| format!("{} cannot be read", file.display()))?;
        Ok(Some(identity))
    }

    /// Keeps a key and its certificate, in one file: there are never two that do not belong together.
    pub(super) fn install(
        data: &Path,
        key: &KeyPair,
        certificate: &CertificateDer<'_>,
        authority: &str,
    ) -> Result<Self> {
        let text = format!("{}{}{authority}", key.serialize_pem(), pem_of(certificate));
        let file = node_file(data);
        let identity = Self::read(&file, text.as_bytes())?;
        durable::replace_private(&file, text.as_bytes())
            .with_context(|| format!("{} cannot be written", file.display()))?;
        Ok(identity)
    }

    fn read(file: &Path, text: &[u8]) -> Result<Self> {
        let mut chain = CertificateDer::pem_slice_iter(text)
            .collect::<Result<Vec<_>, _>>()
            .context("the certificates")?;
        ensure!(
            chain.len() == 2,
            "it has not two certificates, the node's and the authority's"
        );
        let authority = chain[1].clone();
        let key = PrivateKeyDer::from_pem_slice(text).context("the key")?;
        let current = Current::new(std::mem::take(&mut chain), key)?;
        Ok(Self(Arc::new(Inner {
            file: file.to_owned(),
            authority,
            current: ArcSwap::from_pointee(current),
        })))
    }

    /// What this node's certificate says.
    pub fn peer(&self) -> Peer {
        self.0.current.load().peer.clone()
    }

    /// When the certificate in use ends.
    pub fn valid_until(&self) -> SystemTime {
        self.0.current.load().valid_until
    }

    /// SHA-256 of the authority's certificate.
    pub fn authority(&self) -> [u8; 32] {
        fingerprint(&self.0.authority)
    }

    /// A client that shows its certificate. The server is to be [`super::ORIGIN_NAME`]; TLS 1.3 only.
    ///
    /// # Errors
    /// Where the authority's certificate is none.
    pub fn client_config(&self, alpn: &[&[u8]]) -> Result<ClientConfig> {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(self.roots()?)
            .with_client_cert_resolver(Arc::new(Resolver(self.0.clone())));
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(config)
    }

    /// An origin's server, for clients with a certificate of the same authority; TLS 1.3 only.
    ///
    /// # Errors
    /// Where the authority's certificate is none.
    pub fn server_config(&self, alpn: &[&[u8]], client_auth: ClientAuth) -> Result<ServerConfig> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(self.verifier(client_auth)?)
            .with_cert_resolver(Arc::new(Resolver(self.0.clone())));
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(config)
    }

    /// Who a verified certificate is.
    ///
    /// # Errors
    /// Where it is no node's.
    pub fn peer_of(&self, certificate: &CertificateDer<'_>) -> Result<Peer, PeerError> {
        Peer::of_certificate(certificate)
    }

    /// When to ask for the next certificate: after two thirds of this one's time.
    pub fn renewal_due(&self) -> SystemTime {
        let current = self.0.current.load();
        let whole = current.valid_until.duration_since(current.valid_from);
        current.valid_from + whole.unwrap_or_default() * 2 / 3
    }

    /// A request for the next certificate, with a new key.
    ///
    /// # Errors
    /// Where there is no randomness for one.
    pub fn begin_renewal(&self) -> Result<Renewal> {
        Renewal::new(&self.peer().name)
    }

    /// Takes what the authority answered, keeps it and uses it from the next handshake on.
    ///
    /// # Errors
    /// Where it is not what was asked for, or the disk does not take it; the certificate in use stays.
    pub fn finish_renewal(&self, renewal: Renewal, answer: &[u8]) -> Result<()> {
        let certificate = certificate_of(answer)?;
        self.check(&certificate)?;
        let chain = vec![certificate.clone(), self.0.authority.clone()];
        let key =
            PrivateKeyDer::try_from(renewal.key.serialize_der()).map_err(anyhow::Error::msg)?;
        let current = Current::new(chain, key)?;
        ensure!(
            current.peer == self.peer(),
            "the certificate is another node's"
        );
        let (key, authority) = (renewal.key.serialize_pem(), pem_of(&self.0.authority));
        let text = format!("{key}{}{authority}", pem_of(&certificate));
        let file = &self.0.file;
        durable::replace_private(file, text.as_bytes())
            .with_context(|| format!("{} cannot be written", file.display()))?;
        self.0.current.store(Arc::new(current));
        Ok(())
    }

    /// Renews the certificate whenever it is due, for ever. `ask` sends a signing request (DER) to the authority and gives its
    /// answer back.
    pub async fn keep_renewed(&self, ask: impl AsyncFn(Vec<u8>) -> Result<Vec<u8>>) {
        loop {
            let now = SystemTime::now();
            let due = self.renewal_due().duration_since(now).unwrap_or_default();
            if !due.is_zero() {
                // Not all at once: the machine may sleep, or its clock be set.
                tokio::time::sleep(due.min(LOOK_EVERY)).await;
                continue;
            }
            match self.renew(&ask).await {
                Ok(()) => tracing::info!(node = self.peer().name, "certificate renewed"),
                Err(error) => {
                    let left = self.valid_until().duration_since(now).unwrap_or_default();
                    let hours_left = left.as_secs() / 3600;
                    tracing::warn!(hours_left, "certificate not renewed: {error:#}");
                }
            }
            // Also after one that was: by a clock that is wrong, the next one is due at once.
            tokio::time::sleep(RETRY_EVERY).await;
        }
    }

    async fn renew(&self, ask: &impl AsyncFn(Vec<u8>) -> Result<Vec<u8>>) -> Result<()> {
        let renewal = self.begin_renewal()?;
        let answer = ask(renewal.csr.clone()).await?;
        let identity = self.clone();
        tokio::task::spawn_blocking(move || identity.finish_renewal(renewal, &answer)).await?
    }

    /// Whether a certificate holds now, and is our authority's.
    pub(super) fn check(&self, certificate: &CertificateDer<'_>) -> Result<()> {
        let verifier = self.verifier(ClientAuth::Required)?;
        verifier
            .verify_client_cert(certificate, &[], UnixTime::now())
            .context("the certificate does not hold")?;
        Ok(())
    }

    fn verifier(&self, client_auth: ClientAuth) -> Result<Arc<dyn ClientCertVerifier>> {
        let builder = WebPkiClientVerifier::builder_with_provider(self.roots()?, provider());
        let builder = match client_auth {
            ClientAuth::Required => builder,
            ClientAuth::Optional => builder.allow_unauthenticated(),
        };
        builder.build().context("the authority's certificate")
    }

    fn roots(&self) -> Result<Arc<RootCertStore>> {
        roots(&self.0.authority)
    }
}

impl Renewal {
    pub(super) fn new(name: &str) -> Result<Self> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("no key")?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        let csr = params
            .serialize_request(&key)
            .context("no signing request")?;
        Ok(Self {
            csr: csr.der().to_vec(),
            key,
        })
    }

    /// Makes the first identity of a node, from what the authority answered to its join request.
    pub(super) fn settle(self, data: &Path, answer: &[u8], wanted: &Peer) -> Result<Identity> {
        let issued: Issued =
            serde_json::from_slice(answer).context("the answer is no certificate")?;
        let certificate = certificate_of(answer)?;
        let text = format!(
            "{}{}{}",
            self.key.serialize_pem(),
            pem_of(&certificate),
            issued.authority
        );
        let draft = Identity::read(&node_file(data), text.as_bytes())?;
        draft.check(&certificate)?;
        ensure!(draft.peer() == *wanted, "the certificate is another node's");
        Identity::install(data, &self.key, &certificate, &issued.authority)
    }
}

impl Current {
    fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self> {
        let own = &chain[0];
        let (_, parsed) = x509_parser::parse_x509_certificate(own).context("the certificate")?;
        let at = |seconds: i64| UNIX_EPOCH + Duration::from_secs(seconds.try_into().unwrap_or(0));
        let validity = parsed.validity();
        let (from, until) = (
            validity.not_before.timestamp(),
            validity.not_after.timestamp(),
        );
        Ok(Self {
            peer: Peer::of_certificate(own)?,
            valid_from: at(from),
            valid_until: at(until),
            chain: Arc::new(
                CertifiedKey::from_der(chain, key, &provider())
                    .context("key and certificate do not belong together")?,
            ),
        })
    }
}

/// Shows the certificate that is in use when a handshake begins.
#[derive(Debug)]
struct Resolver(Arc<Inner>);

impl ResolvesClientCert for Resolver {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.current.load().chain.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.current.load().chain.clone())
    }
}

/// The trust in one authority, and in nobody else.
pub(super) fn roots(authority: &CertificateDer<'static>) -> Result<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    roots
        .add(authority.clone())
        .context("the authority's certificate")?;
    Ok(Arc::new(roots))
}

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn certificate_of(answer: &[u8]) -> Result<CertificateDer<'static>> {
    let issued: Issued = serde_json::from_slice(answer).context("the answer is no certificate")?;
    CertificateDer::from_pem_slice(issued.certificate.as_bytes())
        .context("the answer is no certificate")
}

/// A renewal that is an hour late is early enough.
const LOOK_EVERY: Duration = Duration::from_secs(3600);
/// There are ten days for it.
const RETRY_EVERY: Duration = Duration::from_secs(300);
