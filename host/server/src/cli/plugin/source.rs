//! Where a command takes a component from: a file, a plugin's folder, or a registry.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use oci_client::Reference;

use super::credentials::Credentials;
use super::manifest::Manifest;
use super::registry::Registry;
use super::saved;
use crate::signature;

/// A component, wherever it came from.
#[derive(Debug)]
pub struct Artifact {
    pub component: Vec<u8>,
    /// As one line, unverified; absent where it was not signed.
    pub signature: Option<String>,
    /// Its file, where it has one.
    pub path: PathBuf,
    /// The plugin's name and version, where a plugin's folder or a registry says them.
    pub plugin: Option<(String, String)>,
}

/// Reads a component: `oci://HOST/NAME:TAG`, a file, a plugin's folder (what was built there), or `HOST/NAME:TAG`.
///
/// # Errors
///
/// Why it is not to be had.
pub fn read(from: &str, credentials: &Credentials) -> Result<Artifact> {
    let path = Path::new(from);
    let remote = from.starts_with(SCHEME) || (!path.exists() && names_a_registry(from));
    match remote {
        true => pull(reference(from)?, credentials),
        false => on_disk(path),
    }
}

/// Reads a component from a file, or what was built in a plugin's folder, with a warning where that is not of what the author
/// saved last.
///
/// # Errors
///
/// Why it is not to be had.
pub fn on_disk(path: &Path) -> Result<Artifact> {
    match path.is_dir() {
        true => in_folder(path),
        false => file(path),
    }
}

/// A place in a registry, with or without `oci://`.
///
/// # Errors
///
/// Where it is none.
pub fn reference(text: &str) -> Result<Reference> {
    let plain = text.strip_prefix(SCHEME).unwrap_or(text);
    if !names_a_registry(plain) {
        bail!("\"{text}\" names no registry: write HOST/NAME:TAG, as ghcr.io/acme/guard:1.0.0");
    }
    plain
        .parse()
        .with_context(|| format!("\"{text}\" names nothing in a registry: write HOST/NAME:TAG"))
}

/// As docker has it: the first part is a host where it has a dot or a port, or is `localhost`.
fn names_a_registry(text: &str) -> bool {
    text.split_once('/').is_some_and(|(host, name)| {
        !name.is_empty()
            && !host.starts_with('.')
            && (host.contains(['.', ':']) || host == "localhost")
    })
}

/// Runs what speaks to a registry to its end.
pub fn wait<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(work)
}

fn pull(reference: Reference, credentials: &Credentials) -> Result<Artifact> {
    let registry = Registry::new(reference, credentials)?;
    let mut pulled = wait(registry.pull())?;
    let mut annotation = |name: &str| pulled.annotations.remove(name);
    Ok(Artifact {
        signature: annotation(signature::ANNOTATION),
        plugin: annotation(TITLE).zip(annotation(VERSION)),
        component: pulled.component,
        path: PathBuf::new(),
    })
}

fn in_folder(folder: &Path) -> Result<Artifact> {
    let manifest = Manifest::read(folder)?;
    let component = manifest.component();
    if !component.exists() {
        bail!(
            "there is no {}: build the plugin first, `tidegate plugin build {}`",
            component.display(),
            folder.display()
        );
    }
    let built = component.metadata().and_then(|built| built.modified());
    if let Ok(built) = built
        && let Some(file) = saved::last(&manifest.folder, built)
    {
        eprintln!(
            "warning: {} is newer than what was built: build the plugin again, `tidegate plugin build {}`",
            file.display(),
            folder.display()
        );
    }
    Ok(Artifact {
        plugin: Some((manifest.name, manifest.version)),
        ..file(&component)?
    })
}

fn file(path: &Path) -> Result<Artifact> {
    let component = std::fs::read(path).with_context(|| path.display().to_string())?;
    Ok(Artifact {
        component,
        signature: signature::read_beside(path).map_err(anyhow::Error::msg)?,
        path: path.to_owned(),
        plugin: None,
    })
}

/// Annotations that registries show. Source: OCI image specification, "Pre-Defined Annotation Keys".
pub const TITLE: &str = "org.opencontainers.image.title";
pub const VERSION: &str = "org.opencontainers.image.version";
const SCHEME: &str = "oci://";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_told_from_a_path() {
        let cases = [
            ("ghcr.io/acme/guard:1.0.0", true),
            ("localhost/guard", true),
            ("127.0.0.1:5000/guard@sha256:00", true),
            ("build/guard.wasm", false),
            ("./build/guard.wasm", false),
            ("../guard.wasm", false),
            ("guard.wasm", false),
            ("/tmp/guard.wasm", false),
        ];
        for (text, expected) in cases {
            assert_eq!(names_a_registry(text), expected, "{text}");
        }
        let refused = reference("guard:1").unwrap_err().to_string();
        assert!(refused.contains("names no registry"), "{refused}");
    }
}
