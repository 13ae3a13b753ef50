//! A new node's side of joining: it asks an origin that its token names for a certificate.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::authority::fingerprint;
use super::own::{Renewal, provider, roots};
use super::{Identity, JOIN_PATH, JoinRequest, JoinToken, ORIGIN_NAME, Peer, make_directory};

/// Why a node did not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinFailure {
    #[error("this node is \"{name}\" already: --force makes it join again, with another key")]
    AlreadyJoined { name: String },
    #[error(
        "a node's name and region have up to 63 letters, digits, -, _ and .: \"{name}\", \"{region}\""
    )]
    Unnameable { name: String, region: String },
    /// All origins were tried; what is said of each.
    #[error("no origin can be reached: {}", .0.join("; "))]
    Unreachable(Vec<String>),
    #[error("{address} is an origin of another authority than the token's")]
    OtherAuthority { address: String },
    #[error("{address} has a certificate that does not hold: {cause}")]
    Untrusted {
        address: String,
        cause: CertificateError,
    },
    /// The authority's own words.
    #[error("{message}")]
    Refused { code: String, message: String },
    #[error("the origin's answer")]
    Answer(#[source] anyhow::Error),
    #[error("the data directory")]
    Disk(#[source] anyhow::Error),
}

/// Joins: asks for a certificate of a new key and keeps both in the data directory.
///
/// # Errors
/// Why it did not. Nothing has changed in the data directory then.
///
/// # Cancel safety
/// The token may be spent, and the node has no certificate: it needs another token.
pub async fn join(
    token: &JoinToken,
    node: &Peer,
    data: &Path,
    force: bool,
) -> Result<Identity, JoinFailure> {
    if !force && let Some(identity) = Identity::load(data).map_err(JoinFailure::Disk)? {
        let name = identity.peer().name;
        return Err(JoinFailure::AlreadyJoined { name });
    }
    if !node.is_nameable() {
        return Err(JoinFailure::Unnameable {
            name: node.name.clone(),
            region: node.region.clone(),
        });
    }
    // Before the token is spent.
    make_directory(data).map_err(|error| JoinFailure::Disk(error.into()))?;
    let renewal = Renewal::new(&node.name).map_err(JoinFailure::Disk)?;
    let request = JoinRequest {
        token: token.id.clone(),
        secret: URL_SAFE_NO_PAD.encode(token.secret),
        csr: URL_SAFE_NO_PAD.encode(&renewal.csr),
        name: node.name.clone(),
        role: node.role,
        region: node.region.clone(),
    };
    let body = serde_json::to_vec(&request).expect("strings are JSON");
    let answer = ask_in_turn(token, &body.into()).await?;
    renewal
        .settle(data, &answer, node)
        .map_err(JoinFailure::Answer)
}

/// Asks the origins of a token one after another, twice: an answer that got lost is given again to the same key.
async fn ask_in_turn(token: &JoinToken, body: &Bytes) -> Result<Bytes, JoinFailure> {
    let mut causes: Vec<String> = Vec::new();
    for address in token.origins.iter().chain(&token.origins) {
        let asked = tokio::time::timeout(PATIENCE, ask(address, token.authority, body));
        let cause = match asked.await {
            Ok(Ok((StatusCode::OK, answer))) => return Ok(answer),
            Ok(Ok((status, answer))) => match refusal(status, &answer) {
                Ok(refused) => return Err(refused),
                Err(cause) => cause,
            },
            Ok(Err(error)) => match certificate_error(&error) {
                Some(CertificateError::UnknownIssuer) => {
                    return Err(JoinFailure::OtherAuthority {
                        address: address.clone(),
                    });
                }
                Some(cause) => {
                    return Err(JoinFailure::Untrusted {
                        address: address.clone(),
                        cause: cause.clone(),
                    });
                }
                None => format!("{error:#}"),
            },
            Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
        };
        let cause = format!("{address}: {cause}");
        if !causes.contains(&cause) {
            causes.push(cause);
        }
    }
    Err(JoinFailure::Unreachable(causes))
}

async fn ask(
    address: &str,
    authority: [u8; 32],
    body: &Bytes,
) -> anyhow::Result<(StatusCode, Bytes)> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(ORIGIN_NAME)?;
    let stream = TlsConnector::from(Arc::new(pinned(authority)?))
        .connect(name, stream)
        .await?;
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("https://{ORIGIN_NAME}{JOIN_PATH}"))
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(Full::new(body.clone()))?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect();
        let body = body
            .await
            .map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?;
        anyhow::Ok((status, body.to_bytes()))
    };
    tokio::select! {
        answer = exchange => answer,
        ended = connection => {
            ended?;
            anyhow::bail!("the origin closed the connection")
        }
    }
}

/// What an authority says no by; where the answer is none, or it is not able to answer, others may be.
fn refusal(status: StatusCode, answer: &[u8]) -> Result<JoinFailure, String> {
    #[derive(Deserialize)]
    struct Refusal {
        code: String,
        message: String,
    }
    match serde_json::from_slice(answer) {
        Ok(Refusal { code, message }) if !status.is_server_error() => {
            Ok(JoinFailure::Refused { code, message })
        }
        Ok(Refusal { message, .. }) => Err(message),
        Err(_) => Err(format!("it answered {status}")),
    }
}

/// A client without a certificate, which believes the authority that has this digest.
fn pinned(authority: [u8; 32]) -> anyhow::Result<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { authority }))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// Verifies that a server's chain ends in the authority of the token, and what any client verifies.
#[derive(Debug)]
struct Pinned {
    authority: [u8; 32],
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        server: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let authority = chain
            .iter()
            .find(|certificate| fingerprint(certificate) == self.authority)
            .ok_or(CertificateError::UnknownIssuer)?;
        let general = |error: anyhow::Error| rustls::Error::General(format!("{error:#}"));
        let roots = roots(&authority.clone().into_owned()).map_err(general)?;
        WebPkiServerVerifier::builder_with_provider(roots, provider())
            .build()
            .map_err(|error| general(error.into()))?
            .verify_server_cert(server, &[], name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn certificate_error(error: &anyhow::Error) -> Option<&CertificateError> {
    let error = error.downcast_ref::<std::io::Error>()?.get_ref()?;
    match error.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(cause) => Some(cause),
        _ => None,
    }
}

/// For one origin: name, TCP, TLS and the answer, with packets lost.
const PATIENCE: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: usize = 64 << 10;
