//! The authority: the key of one origin that signs the certificates of all its nodes.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer};
use serde_json::json;
use tidegate_model::config::{is_host_and_port, is_node_name};

use super::ledger::{Ledger, seconds};
use super::{
    Identity, Issued, JoinRequest, JoinToken, LIFETIME, ORIGIN_NAME, Peer, REQUEST_BYTES_MAX, Role,
    directory, make_directory, node_file,
};
use crate::durable;

/// Signs certificates, and gives out the tokens by which nodes get their first one.
///
/// Its methods wait for the disk: call them where that holds nobody up.
pub struct Authority {
    certificate: CertificateDer<'static>,
    /// As PEM.
    text: String,
    issuer: Issuer<'static, KeyPair>,
    ledger: Mutex<Ledger>,
}

/// What a new token is to allow.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub role: Role,
    /// `None`: any.
    pub name: Option<String>,
    pub lifetime: Duration,
    /// Where the node is to ask; `host:port`.
    pub origins: Vec<String>,
}

/// Why a node does not get a certificate.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error("the request cannot be read: {0}")]
    Malformed(&'static str),
    /// Its id or its secret is none of ours.
    #[error("the join token is none of this authority's")]
    Forged,
    #[error("the join token has expired: make another one with `tidegate node token`")]
    Expired,
    #[error(
        "the join token was used before, by node \"{by}\": make another one with `tidegate node token`"
    )]
    Spent { by: String },
    #[error("the join token is for {allowed}, and this node is {asked}: `tidegate node token --role {}`", .asked.as_str())]
    Role { allowed: Role, asked: Role },
    #[error("the join token is for node \"{allowed}\", and this one is \"{asked}\"")]
    Name { allowed: String, asked: String },
    #[error("the authority cannot sign now")]
    Unavailable(#[source] anyhow::Error),
}

impl JoinError {
    /// What the answer says it is.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::Forged | Self::Role { .. } | Self::Name { .. } => StatusCode::FORBIDDEN,
            Self::Expired | Self::Spent { .. } => StatusCode::GONE,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// One word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Forged => "forged-token",
            Self::Expired => "expired-token",
            Self::Spent { .. } => "spent-token",
            Self::Role { .. } => "role-not-allowed",
            Self::Name { .. } => "name-not-allowed",
            Self::Unavailable(_) => "unavailable",
        }
    }

    /// What the node is told, in JSON.
    pub fn answer(&self) -> serde_json::Value {
        json!({ "code": self.code(), "message": self.to_string() })
    }
}

impl Authority {
    /// Takes the authority that is kept in a data directory, or makes one where the node belongs to none.
    ///
    /// # Errors
    /// Where it cannot be read or written, and where the node joined another origin: that one signs.
    pub fn open(data: &Path) -> Result<Self> {
        let file = directory(data).join("authority.pem");
        let named = || format!("{} cannot be read", file.display());
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if Self::is_elsewhere(data) {
                    bail!(
                        "this node joined another origin, which signs and gives out tokens: ask that one"
                    );
                }
                make_directory(data).with_context(|| directory(data).display().to_string())?;
                let made = make(SystemTime::now())?;
                durable::replace_private(&file, made.as_bytes())
                    .with_context(|| format!("{} cannot be written", file.display()))?;
                made
            }
            Err(error) => return Err(error).with_context(named),
        };
        let (certificate, key) = read(&text).with_context(named)?;
        Ok(Self {
            text: pem_of(&certificate),
            issuer: Issuer::from_ca_cert_der(&certificate, key).with_context(named)?,
            certificate,
            ledger: Mutex::new(Ledger::open(&directory(data))?),
        })
    }

    /// Whether the node of a data directory joined another origin, so that it signs nothing itself.
    pub fn is_elsewhere(data: &Path) -> bool {
        !directory(data).join("authority.pem").exists() && node_file(data).exists()
    }

    /// SHA-256 of the authority's certificate.
    pub fn fingerprint(&self) -> [u8; 32] {
        fingerprint(&self.certificate)
    }

    /// Gives the authority's own node a new certificate. Its key is new each time.
    ///
    /// # Errors
    /// Where the name cannot stand in a certificate, or the disk does not take it.
    pub fn identify(&self, data: &Path, name: &str, region: &str) -> Result<Identity> {
        let peer = Peer {
            name: name.to_owned(),
            role: Role::Origin,
            region: region.to_owned(),
        };
        ensure!(peer.is_nameable(), "{UNNAMEABLE}");
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("no key")?;
        let certificate = self.sign(&peer, &key, SystemTime::now())?;
        make_directory(data).with_context(|| directory(data).display().to_string())?;
        Identity::install(data, &key, &certificate, &self.text)
    }

    /// Makes a token.
    ///
    /// # Errors
    /// Where what is wanted cannot be, too many are out, or the disk does not take it.
    pub fn mint(&self, wanted: Wanted) -> Result<JoinToken> {
        self.mint_at(wanted, SystemTime::now())
    }

    pub(super) fn mint_at(&self, wanted: Wanted, now: SystemTime) -> Result<JoinToken> {
        let Wanted {
            role,
            name,
            lifetime,
            origins,
        } = wanted;
        ensure!(
            (LIFETIME_LEAST..=LIFETIME_MOST).contains(&lifetime),
            "a join token lives for 1s to 168h"
        );
        ensure!(
            (1..=ORIGINS_MAX).contains(&origins.len()),
            "a join token names 1 to {ORIGINS_MAX} origins: say how the node reaches this one, by `names` in [link] or \
             --origin HOST:PORT"
        );
        if let Some(origin) = origins.iter().find(|name| !is_host_and_port(name)) {
            bail!("origin \"{origin}\" is not a host and a port");
        }
        if let Some(name) = name.as_ref().filter(|name| !is_node_name(name)) {
            bail!("\"{name}\" is no node's name: use up to 63 letters, digits, -, _ and .");
        }
        let (mut id, mut secret) = ([0; 9], [0; 32]);
        rand::fill(&mut id).context("no random numbers")?;
        rand::fill(&mut secret).context("no random numbers")?;
        let token = JoinToken {
            origins,
            authority: self.fingerprint(),
            id: URL_SAFE_NO_PAD.encode(id),
            secret,
            expires_at: seconds(now + lifetime),
        };
        self.ledger()
            .add(&token.id, &secret, role, name, token.expires_at, now)?;
        Ok(token)
    }

    /// Answers a join request: spends its token and signs its certificate. What is given back is JSON.
    ///
    /// # Errors
    /// Why the node does not get in.
    pub fn answer_join(&self, body: &[u8]) -> Result<Vec<u8>, JoinError> {
        self.answer_join_at(body, SystemTime::now())
    }

    pub(super) fn answer_join_at(
        &self,
        body: &[u8],
        now: SystemTime,
    ) -> Result<Vec<u8>, JoinError> {
        if body.len() > REQUEST_BYTES_MAX {
            return Err(JoinError::Malformed("it is too long"));
        }
        let request: JoinRequest = serde_json::from_slice(body)
            .map_err(|_| JoinError::Malformed("it is no join request"))?;
        let peer = Peer {
            name: request.name,
            role: request.role,
            region: request.region,
        };
        if !peer.is_nameable() {
            return Err(JoinError::Malformed(UNNAMEABLE));
        }
        let csr = URL_SAFE_NO_PAD
            .decode(&request.csr)
            .map_err(|_| JoinError::Malformed(NO_CSR))?;
        let key = requested_key(csr)?;
        self.ledger()
            .spend(&request.token, &request.secret, &peer, key.der_bytes(), now)?;
        let answer = self.issue(&peer, &key, now)?;
        tracing::info!(
            node = peer.name,
            role = peer.role.as_str(),
            region = peer.region,
            "a node joined"
        );
        Ok(answer)
    }

    /// Signs the next certificate of a node that has one; `csr` is DER. What is given back is JSON.
    ///
    /// # Errors
    /// Where it cannot be read or signed.
    pub fn answer_renewal(&self, peer: &Peer, csr: &[u8]) -> Result<Vec<u8>, JoinError> {
        self.answer_renewal_at(peer, csr, SystemTime::now())
    }

    pub(super) fn answer_renewal_at(
        &self,
        peer: &Peer,
        csr: &[u8],
        now: SystemTime,
    ) -> Result<Vec<u8>, JoinError> {
        if csr.len() > REQUEST_BYTES_MAX {
            return Err(JoinError::Malformed("it is too long"));
        }
        self.issue(peer, &requested_key(csr.to_vec())?, now)
    }

    fn issue(
        &self,
        peer: &Peer,
        key: &impl PublicKeyData,
        now: SystemTime,
    ) -> Result<Vec<u8>, JoinError> {
        let certificate = self.sign(peer, key, now).map_err(JoinError::Unavailable)?;
        let issued = Issued {
            certificate: pem_of(&certificate),
            authority: self.text.clone(),
        };
        serde_json::to_vec(&issued).map_err(|error| JoinError::Unavailable(error.into()))
    }

    /// A certificate by which a node can be told from all others; only an origin's can be a server's.
    fn sign(
        &self,
        peer: &Peer,
        key: &impl PublicKeyData,
        now: SystemTime,
    ) -> Result<CertificateDer<'static>> {
        let mut params = validity(now, LIFETIME)?;
        params
            .distinguished_name
            .push(DnType::CommonName, peer.name.as_str());
        params.subject_alt_names = vec![SanType::URI(peer.uri().try_into()?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        if peer.role == Role::Origin {
            params
                .subject_alt_names
                .push(SanType::DnsName(ORIGIN_NAME.try_into()?));
            params
                .extended_key_usages
                .push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        let certificate = params
            .signed_by(key, &self.issuer)
            .context("no signature")?;
        Ok(certificate.into())
    }

    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The key that a certificate is asked for, whose holder signed the request. Nothing else of a request is believed.
fn requested_key(csr: Vec<u8>) -> Result<rcgen::PublicKey, JoinError> {
    let request =
        CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr))
            .map_err(|_| JoinError::Malformed(NO_CSR))?;
    if *request.public_key.algorithm() != PKCS_ECDSA_P256_SHA256 {
        return Err(JoinError::Malformed("keys are ECDSA ones on P-256"));
    }
    Ok(request.public_key)
}

/// A new authority: its key and its certificate, as PEM.
fn make(now: SystemTime) -> Result<String> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("no key")?;
    let mut params = validity(now, AUTHORITY_LIFETIME)?;
    // Two authorities with one name would be taken for one with a bad signature.
    let number = params.serial_number.as_ref().map(ToString::to_string);
    let name = format!("Tidegate authority {}", number.unwrap_or_default());
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key).context("no certificate")?;
    Ok(format!(
        "{}{}",
        key.serialize_pem(),
        pem_of(certificate.der())
    ))
}

fn read(text: &str) -> Result<(CertificateDer<'static>, KeyPair)> {
    let certificate = CertificateDer::from_pem_slice(text.as_bytes()).context("no certificate")?;
    let key = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes()).context("no key")?;
    let key = KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ECDSA_P256_SHA256)
        .context("no key on P-256")?;
    Ok((certificate, key))
}

/// A certificate's time and number, with room for clocks that are behind.
fn validity(now: SystemTime, lifetime: Duration) -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = (now + lifetime).into();
    params.distinguished_name = DistinguishedName::new();
    let mut serial = [0; 16];
    rand::fill(&mut serial).context("no random numbers")?;
    serial[0] &= 0x7f; // a positive number (RFC 5280 §4.1.2.2)
    params.serial_number = Some(serial.to_vec().into());
    Ok(params)
}

/// SHA-256 of a certificate.
pub(super) fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, certificate).as_ref());
    bytes
}

pub(super) fn pem_of(certificate: &CertificateDer<'_>) -> String {
    let lines = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new("CERTIFICATE", certificate.to_vec()), lines)
}

const UNNAMEABLE: &str = "a node's name and region have up to 63 letters, digits, -, _ and .";
const NO_CSR: &str = "it has no signing request";
/// Certificates hold for nodes whose clock is behind by so much.
const CLOCK_SKEW: Duration = Duration::from_secs(3600);
/// Ten years: an authority is not renewed, nodes join another one.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
const LIFETIME_LEAST: Duration = Duration::from_secs(1);
/// A secret that lies about for longer is forgotten.
const LIFETIME_MOST: Duration = Duration::from_secs(7 * 24 * 3600);
/// A node tries them one after another.
const ORIGINS_MAX: usize = 8;
