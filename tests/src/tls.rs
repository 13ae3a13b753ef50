//! Certificates made for one test.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// A certificate authority of the test's own.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// Makes a new authority.
    #[allow(clippy::new_without_default)] // Two authorities differ: there is no default one.
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self {
            issuer: CertifiedIssuer::self_signed(params, key).expect("an authority"),
        }
    }

    /// The authority's certificate.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Issues a certificate for `names` into `folder`; gives the paths of the certificate and of its key.
    pub fn issue(&self, names: &[&str], folder: &Path) -> (PathBuf, PathBuf) {
        let (certificate, key) = self.issue_pem(names);
        let paths = (folder.join("cert.pem"), folder.join("key.pem"));
        std::fs::write(&paths.0, certificate).expect("the folder is writable");
        std::fs::write(&paths.1, key).expect("the folder is writable");
        paths
    }

    /// Issues a certificate for `names`; gives both as PEM.
    pub fn issue_pem(&self, names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(names).expect("valid names");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    /// What an origin needs to serve TLS as `names`.
    pub fn server(&self, names: &[&str], protocols: &[&str]) -> Arc<ServerConfig> {
        let (certificate, key) = self.issue_pem(names);
        let certificate =
            CertificateDer::from_pem_slice(certificate.as_bytes()).expect("made by rcgen");
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("made by rcgen");
        let builder =
            ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.expect("TLS 1.2 and 1.3").with_no_client_auth();
        let mut config = builder
            .with_single_cert(vec![certificate], key)
            .expect("the key fits");
        config.alpn_protocols = protocols
            .iter()
            .map(|protocol| protocol.as_bytes().to_vec())
            .collect();
        Arc::new(config)
    }

    /// What a client needs that trusts this authority only.
    pub fn client(&self, protocols: &[&str]) -> Arc<ClientConfig> {
        Arc::new(trusting(self.pem().as_bytes(), protocols))
    }
}

/// What a client needs that trusts the authority of that PEM only, and shows no certificate.
pub fn trusting(authority: &[u8], protocols: &[&str]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_slice(authority).expect("a certificate");
    roots.add(certificate).expect("an authority's");
    let builder =
        ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let mut config = builder
        .expect("TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols
        .iter()
        .map(|protocol| protocol.as_bytes().to_vec())
        .collect();
    config
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
