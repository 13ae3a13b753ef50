//! `tidegate plugin push` and `pull`: components to and from OCI registries.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use serde_json::json;
use tidegate_sandbox::Inspection;

use super::credentials::Credentials;
use super::registry::Registry;
use super::source::{self, TITLE, VERSION};
use crate::signature::{self, Signature};

/// Puts a component, or the one that was built in a plugin's folder, into a registry.
pub fn push(
    reference: &str,
    from: &Path,
    credentials: &Credentials,
    json: bool,
) -> Result<ExitCode> {
    let reference = source::reference(reference)?;
    let artifact = source::on_disk(from)?;
    let inspection =
        Inspection::of(&artifact.component).with_context(|| from.display().to_string())?;
    let bytes = artifact.component.len();
    let mut annotations = BTreeMap::new();
    if let Some((name, version)) = artifact.plugin {
        annotations.insert(TITLE.to_owned(), name);
        annotations.insert(VERSION.to_owned(), version);
    }
    if let Some(line) = artifact.signature {
        let signature = Signature::parse(&line)
            .and_then(|signature| signature.verify(&artifact.component).map(|()| signature))
            .map_err(|problem| anyhow!("{}: {problem}", artifact.path.display()))?;
        annotations.insert(signature::ANNOTATION.to_owned(), signature.to_string());
    }
    let registry = Registry::new(reference.clone(), credentials)?;
    let digest = source::wait(registry.push(artifact.component, &inspection, annotations))?;
    if json {
        println!(
            "{}",
            json!({ "reference": reference.to_string(), "digest": digest, "bytes": bytes })
        );
    } else {
        println!("{reference}: {} KiB", bytes.div_ceil(1024));
        println!("{digest}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Gets a component from a registry into a file.
pub fn pull(
    reference: &str,
    output: Option<PathBuf>,
    credentials: &Credentials,
    json: bool,
) -> Result<ExitCode> {
    let reference = source::reference(reference)?;
    let output = match output {
        Some(output) => output,
        None => {
            let name = reference.repository().rsplit('/').next();
            format!("{}.wasm", name.unwrap_or("component")).into()
        }
    };
    let registry = Registry::new(reference, credentials)?;
    let pulled = source::wait(registry.pull())?;
    Inspection::of(&pulled.component).context("what is there is no component")?;
    // A rename: a node that watches the file never sees half of it.
    let draft = output.with_extension("wasm.draft");
    std::fs::write(&draft, &pulled.component).with_context(|| draft.display().to_string())?;
    std::fs::rename(&draft, &output).with_context(|| output.display().to_string())?;
    let signature = pulled.annotations.get(signature::ANNOTATION);
    keep_signature(&output, signature.map(String::as_str))?;
    let bytes = pulled.component.len();
    if json {
        println!(
            "{}",
            json!({ "component": output, "digest": pulled.digest, "bytes": bytes, "signed": signature.is_some() })
        );
    } else {
        println!("{}: {} KiB", output.display(), bytes.div_ceil(1024));
        println!("{}", pulled.digest);
    }
    Ok(ExitCode::SUCCESS)
}

/// Puts a signature beside a component; takes away what lies there of another one.
fn keep_signature(component: &Path, line: Option<&str>) -> Result<()> {
    let path = signature::beside(component);
    match line {
        Some(line) => std::fs::write(&path, format!("{line}\n")),
        None if path.exists() => std::fs::remove_file(&path),
        None => Ok(()),
    }
    .with_context(|| path.display().to_string())
}
