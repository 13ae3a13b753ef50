//! Components in OCI registries, as the standard artifact: one layer `application/wasm`, and a config that says what it is.
//! `wkg`, `oras` and every registry understand it.
//!
//! Source: CNCF TAG Runtime, Wasm OCI Artifact layout; OCI distribution specification 1.1.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use http::HeaderValue;
use http::uri::Authority;
use oci_client::client::{ClientConfig, ClientProtocol, Config, ImageLayer};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::manifest::{OCI_IMAGE_MEDIA_TYPE, OciImageManifest, OciManifest};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};
use serde_json::json;
use tidegate_sandbox::Inspection;
use tidegate_sandbox::artifact::content_hash;

use super::credentials::Credentials;
use crate::deploy::COMPONENT_BYTES_MAX;

/// One artifact's place in a registry.
pub struct Registry {
    client: Client,
    auth: RegistryAuth,
    reference: Reference,
}

/// What an artifact holds.
pub struct Pulled {
    pub component: Vec<u8>,
    pub annotations: BTreeMap<String, String>,
    /// Of the manifest: what `NAME@sha256:…` names.
    pub digest: String,
}

impl Registry {
    /// Gets ready to speak to a registry: in the clear on this machine, by TLS elsewhere.
    ///
    /// # Errors
    ///
    /// Where credentials are there and cannot be used.
    pub fn new(reference: Reference, credentials: &Credentials) -> Result<Self> {
        // The client takes the process' provider, and there is none before somebody says so; a second one changes nothing.
        _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let auth = credentials.of(reference.resolve_registry())?;
        let client = Client::new(ClientConfig {
            protocol: match is_loopback(reference.resolve_registry()) {
                true => ClientProtocol::Http,
                false => ClientProtocol::Https,
            },
            connect_timeout: Some(CONNECT_TIMEOUT),
            read_timeout: Some(READ_TIMEOUT),
            user_agent: concat!("tidegate/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        });
        Ok(Self {
            client,
            auth,
            reference,
        })
    }

    /// Puts a component there; gives the manifest's digest, which is the same for the same component and annotations.
    ///
    /// # Errors
    ///
    /// What the registry says.
    pub async fn push(
        &self,
        component: Vec<u8>,
        inspection: &Inspection,
        annotations: BTreeMap<String, String>,
    ) -> Result<String> {
        ensure!(
            self.reference.digest().is_none(),
            "{} names a digest, which only what is there already has: push to a tag",
            self.reference
        );
        let layer = ImageLayer::new(component, LAYER.to_owned(), None);
        let config = Config::new(config(&layer, inspection)?, CONFIG.to_owned(), None);
        let mut manifest =
            OciImageManifest::build(std::slice::from_ref(&layer), &config, Some(annotations));
        manifest.media_type = Some(OCI_IMAGE_MEDIA_TYPE.to_owned());
        let text = Bytes::from(serde_json::to_vec(&manifest)?);
        let digest = format!("sha256:{}", content_hash(&text));
        self.upload(layer.data, config.data, &manifest, text)
            .await
            .map_err(|error| self.explained(error))?;
        Ok(digest)
    }

    async fn upload(
        &self,
        component: Bytes,
        config: Bytes,
        manifest: &OciImageManifest,
        text: Bytes,
    ) -> oci_client::errors::Result<()> {
        let (client, reference) = (&self.client, &self.reference);
        client
            .auth(reference, &self.auth, RegistryOperation::Push)
            .await?;
        let layer = &manifest.layers[0].digest;
        if !client.blob_exists(reference, layer).await.unwrap_or(false) {
            let mut progress = Progress::new("pushed", component.len() as u64);
            let pieces = pieces(component).map(move |piece| {
                progress.add(piece.len());
                Ok(piece)
            });
            client
                .push_blob_stream(reference, pieces, layer, None)
                .await?;
        }
        client
            .push_blob(reference, config, &manifest.config.digest)
            .await?;
        let content_type = HeaderValue::from_static(OCI_IMAGE_MEDIA_TYPE);
        client
            .push_manifest_raw(reference, text, content_type)
            .await?;
        Ok(())
    }

    /// Gets a component; its content has the digest that the manifest says, and the manifest the one that the reference
    /// says, where it says one.
    ///
    /// # Errors
    ///
    /// What the registry says; what is there and is no component, by name.
    pub async fn pull(&self) -> Result<Pulled> {
        let (manifest, digest) = self
            .client
            .pull_manifest(&self.reference, &self.auth)
            .await
            .map_err(|error| self.explained(error))?;
        let OciManifest::Image(manifest) = manifest else {
            bail!(
                "{} is an index of several images, no WebAssembly artifact",
                self.reference
            );
        };
        let [layer] = manifest.layers.as_slice() else {
            bail!(
                "{} has {} layers; a WebAssembly artifact has one",
                self.reference,
                manifest.layers.len()
            );
        };
        ensure!(
            manifest.config.media_type == CONFIG && layer.media_type == LAYER,
            "{} is no WebAssembly artifact: it is {} in {}, where {LAYER} in {CONFIG} is expected",
            self.reference,
            layer.media_type,
            manifest.config.media_type
        );
        let size = u64::try_from(layer.size).unwrap_or(u64::MAX);
        ensure!(
            size <= COMPONENT_BYTES_MAX,
            "{} has {size} bytes; a component has at most {COMPONENT_BYTES_MAX}",
            self.reference
        );
        let mut pieces = self
            .client
            .pull_blob_stream(&self.reference, layer)
            .await
            .map_err(|error| self.explained(error))?;
        let mut progress = Progress::new("pulled", size);
        let mut component = Vec::new();
        while let Some(piece) = pieces
            .try_next()
            .await
            .with_context(|| self.reference.to_string())?
        {
            progress.add(piece.len());
            ensure!(
                (component.len() + piece.len()) as u64 <= size,
                "{}: more comes than the {size} bytes that its manifest says",
                self.reference
            );
            component.extend_from_slice(&piece);
        }
        Ok(Pulled {
            component,
            annotations: manifest.annotations.unwrap_or_default(),
            digest,
        })
    }

    /// What a registry's refusal means for who asked.
    fn explained(&self, error: OciDistributionError) -> anyhow::Error {
        let (registry, reference) = (self.reference.resolve_registry(), &self.reference);
        let unknown = |code: &OciErrorCode| {
            matches!(
                code,
                OciErrorCode::ManifestUnknown | OciErrorCode::NameUnknown | OciErrorCode::NotFound
            )
        };
        let refused =
            |code: &OciErrorCode| matches!(code, OciErrorCode::Unauthorized | OciErrorCode::Denied);
        let has = |matches: &dyn Fn(&OciErrorCode) -> bool| match &error {
            OciDistributionError::RegistryError { envelope, .. } => {
                envelope.errors.iter().any(|error| matches(&error.code))
            }
            _ => false,
        };
        if has(&unknown) || matches!(error, OciDistributionError::ImageManifestNotFoundError(_)) {
            return anyhow::anyhow!("there is no {reference}");
        }
        let unauthorized = matches!(
            error,
            OciDistributionError::UnauthorizedError { .. }
                | OciDistributionError::AuthenticationFailure(_)
                | OciDistributionError::ServerError {
                    code: 401 | 403,
                    ..
                }
        );
        if has(&refused) || unauthorized {
            return anyhow::anyhow!(
                "{registry} refuses {}: `docker login {registry}`, or --username and --password-stdin",
                match self.auth {
                    RegistryAuth::Anonymous => "to serve who gives no credentials",
                    _ => "these credentials",
                }
            );
        }
        match error {
            OciDistributionError::RequestError(error) if error.is_connect() => {
                anyhow::Error::new(error).context(format!("no registry answers at {registry}"))
            }
            error => anyhow::Error::new(error).context(reference.to_string()),
        }
    }
}

/// The artifact's config. Its time is always the same: so one component has one digest, whoever pushes it when.
fn config(layer: &ImageLayer, inspection: &Inspection) -> Result<Vec<u8>> {
    Ok(serde_json::to_vec(&json!({
        "created": "1970-01-01T00:00:00Z",
        "author": null,
        "architecture": "wasm",
        "os": "wasip2",
        "layerDigests": [layer.sha256_digest()],
        "component": {
            "exports": inspection.exports,
            "imports": inspection.imports,
            "target": null,
        },
    }))?)
}

/// Whether a registry is on this machine: nobody else reads what goes there in the clear.
fn is_loopback(registry: &str) -> bool {
    let Ok(authority) = registry.parse::<Authority>() else {
        return false;
    };
    let host = authority.host();
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

fn pieces(whole: Bytes) -> impl stream::Stream<Item = Bytes> + Send + 'static {
    let starts = (0..whole.len()).step_by(PIECE_BYTES);
    stream::iter(starts.map(move |start| {
        let end = (start + PIECE_BYTES).min(whole.len());
        whole.slice(start..end)
    }))
}

/// How far a transfer is, on a terminal; nothing elsewhere.
struct Progress {
    verb: &'static str,
    done: u64,
    whole: u64,
    shown: bool,
}

impl Progress {
    fn new(verb: &'static str, whole: u64) -> Self {
        Self {
            verb,
            done: 0,
            whole,
            shown: std::io::stderr().is_terminal(),
        }
    }

    fn add(&mut self, bytes: usize) {
        self.done += bytes as u64;
        if self.shown {
            let (done, whole) = (self.done.div_ceil(1024), self.whole.div_ceil(1024));
            eprint!("\r\x1b[2K{} {done} of {whole} KiB", self.verb);
            _ = std::io::stderr().flush(); // it is for the eye only
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            eprint!("\r\x1b[2K");
        }
    }
}

const LAYER: &str = "application/wasm";
const CONFIG: &str = "application/vnd.wasm.config.v0+json";
/// Small enough to see it move, large enough to cost nothing.
const PIECE_BYTES: usize = 256 << 10;
/// A name, TCP and TLS, with retransmissions.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two pieces: registries that verify an upload take their time.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_spoken_to_in_the_clear() {
        let cases = [
            ("localhost", true),
            ("localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("127.8.9.1", true),
            ("localhost.example:5000", false),
            ("ghcr.io", false),
            ("10.0.0.1:5000", false),
        ];
        for (registry, expected) in cases {
            assert_eq!(is_loopback(registry), expected, "{registry}");
        }
    }

    #[tokio::test]
    async fn pieces_are_the_whole() {
        for length in [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES] {
            let whole: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let pieces: Vec<Bytes> = pieces(whole.clone().into()).collect().await;
            assert!(pieces.iter().all(|piece| !piece.is_empty()));
            assert_eq!(pieces.concat(), whole);
        }
    }
}
