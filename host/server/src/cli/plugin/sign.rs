//! `tidegate plugin keygen`, `sign` and `verify`: who made a component, for nodes that ask.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use serde_json::json;
use tidegate_model::config::PublicKey;

use super::credentials::Credentials;
use super::source;
use crate::signature::{self, Signature};

/// Writes NAME.key, which signs, and NAME.pub, which nodes are told to trust.
pub fn keygen(name: &Path, json: bool) -> Result<ExitCode> {
    let named = |ending: &str| PathBuf::from(format!("{}.{ending}", name.display()));
    let (private, public) = (named("key"), named("pub"));
    for file in [&private, &public] {
        if file.exists() {
            bail!(
                "{} is there already; a key is never written over",
                file.display()
            );
        }
    }
    let failed = |_| anyhow!("no key could be made");
    let pair = Ed25519KeyPair::generate().map_err(failed)?;
    let pkcs8 = pair.to_pkcs8v1().map_err(failed)?;
    let key = public_key(&pair);
    write_new(
        &private,
        &pem("PRIVATE KEY", &STANDARD.encode(pkcs8)),
        0o600,
    )?;
    write_new(&public, &pem("PUBLIC KEY", &key.to_string()), 0o644)?;
    if json {
        println!(
            "{}",
            json!({ "private": private, "public": public, "key": key.to_string() })
        );
    } else {
        println!(
            "{} signs: keep it to yourself. A node trusts it by\n\n[plugins]\nsignatures = \"required\"\n\
             trusted-keys = [\"{key}\"]",
            private.display()
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes the signature beside a component.
pub fn sign(from: &Path, key: &Path, json: bool) -> Result<ExitCode> {
    let pair = private_key(key)?;
    let artifact = source::on_disk(from)?;
    let signature = Signature::of(&artifact.component, &pair);
    let path = signature::beside(&artifact.path);
    std::fs::write(&path, format!("{signature}\n")).with_context(|| path.display().to_string())?;
    if json {
        println!(
            "{}",
            json!({ "signature": path, "key": signature.key.to_string() })
        );
    } else {
        println!("{}: signed with the key {}", path.display(), signature.key);
    }
    Ok(ExitCode::SUCCESS)
}

/// Says whether a component is what one of the keys has signed.
pub fn verify(
    from: &str,
    keys: &[String],
    credentials: &Credentials,
    json: bool,
) -> Result<ExitCode> {
    let trusted = keys
        .iter()
        .map(|key| read_public_key(key))
        .collect::<Result<Vec<_>>>()?;
    let artifact = source::read(from, credentials)?;
    let verdict = verdict(&artifact, &trusted);
    if json {
        println!(
            "{}",
            match &verdict {
                Ok(key) => json!({ "ok": true, "key": key.to_string() }),
                Err(error) => json!({ "ok": false, "error": error }),
            }
        );
        return Ok(match verdict {
            Ok(_) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        });
    }
    let key = verdict.map_err(|error| anyhow!("{from}: {error}"))?;
    println!("{from}: signed with the key {key}");
    Ok(ExitCode::SUCCESS)
}

fn verdict(artifact: &source::Artifact, trusted: &[PublicKey]) -> Result<PublicKey, String> {
    let line = artifact.signature.as_deref().ok_or("it is not signed")?;
    let signature = Signature::parse(line)?;
    signature.verify(&artifact.component)?;
    match trusted.contains(&signature.key) {
        true => Ok(signature.key),
        false => Err(format!(
            "it is signed with the key {}, which is not the one that was asked for",
            signature.key
        )),
    }
}

fn public_key(pair: &Ed25519KeyPair) -> PublicKey {
    let mut key = [0; 32];
    key.copy_from_slice(pair.public_key().as_ref());
    PublicKey(key)
}

/// A private key in PEM: ours, or one of `openssl genpkey -algorithm ed25519`.
fn private_key(path: &Path) -> Result<Ed25519KeyPair> {
    let key = PrivatePkcs8KeyDer::from_pem_file(path)
        .map_err(|error| anyhow!("{}: no private key in PEM: {error}", path.display()))?;
    Ed25519KeyPair::from_pkcs8_maybe_unchecked(key.secret_pkcs8_der())
        .map_err(|error| anyhow!("{}: no Ed25519 private key: {error}", path.display()))
}

/// A public key, as a file or as its one line.
fn read_public_key(key: &str) -> Result<PublicKey> {
    let path = PathBuf::from(key);
    if !path.exists() {
        return PublicKey::parse(key).map_err(|problem| anyhow!("{problem}, or the file's path"));
    }
    let der = SubjectPublicKeyInfoDer::from_pem_file(&path)
        .map_err(|error| anyhow!("{}: no public key in PEM: {error}", path.display()))?;
    PublicKey::parse(&STANDARD.encode(&*der))
        .map_err(|problem| anyhow!("{}: {problem}", path.display()))
}

/// RFC 7468; both keys fit one line.
fn pem(label: &str, base64: &str) -> String {
    format!("-----BEGIN {label}-----\n{base64}\n-----END {label}-----\n")
}

fn write_new(path: &Path, text: &str, mode: u32) -> Result<()> {
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .with_context(|| path.display().to_string())?;
    file.write_all(text.as_bytes())
        .with_context(|| path.display().to_string())
}
