//! `[[key]]` and `[secret.*]`: API keys, and values that plugins may be granted.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use toml::Spanned;

use super::source::Source;
use crate::problem::Place;

/// An API key. Its value is not kept.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Safe to log.
    pub id: String,
    pub name: String,
    /// SHA-256 of what callers send.
    pub digest: [u8; 32],
    pub enabled: bool,
    /// Where it may be used.
    pub stages: Vec<StageName>,
    pub place: Place,
}

/// A stage of an API, written `items/dev`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageName {
    pub api: String,
    pub stage: String,
}

/// A named secret: where its value is. The node reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    pub name: String,
    pub source: SecretSource,
    pub place: Place,
}

/// Where a secret's value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// A file, less one line end at its end.
    File(PathBuf),
    /// An environment variable of the node.
    Environment(String),
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("enabled", &self.enabled)
            .field("stages", &self.stages)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct KeyFile {
    /// Required.
    name: Option<Spanned<String>>,
    /// Default: `name`. Shown in logs as `$context.identity.apiKeyId`.
    id: Option<String>,
    /// This, `value-file` or `digest` is required: 20 to 128 visible ASCII characters.
    value: Option<Spanned<String>>,
    /// A file that holds the value, less one line end at its end.
    value_file: Option<Spanned<String>>,
    /// SHA-256 of the value in hex, for who keeps the value elsewhere.
    digest: Option<Spanned<String>>,
    /// Default true.
    enabled: Option<bool>,
    /// `api/stage` each. Required: a key for nothing is a mistake.
    stages: Option<Vec<Spanned<String>>>,
}

impl KeyFile {
    /// `served`: all stages of the node, as `api/stage`.
    pub(super) fn compile(
        file: Spanned<Self>,
        served: &[String],
        source: &mut Source,
    ) -> Option<ApiKey> {
        let span = file.span();
        let file = file.into_inner();
        let Some(name) = file.name else {
            source.missing(&span, "key", "name");
            return None;
        };
        let name = name.into_inner();
        let owner = format!("key \"{name}\"");
        if file.stages.is_none() {
            source.missing(&span, &owner, "stages");
        }
        let mut stages = Vec::new();
        for written in file.stages.iter().flatten() {
            stages.extend(stage_of(&owner, written, served, source));
        }
        let digest = match (file.value, file.value_file, file.digest) {
            (Some(value), None, None) => digest_of(&owner, &value, source)?,
            (None, Some(path), None) => {
                let value = value_in(&owner, path, source)?;
                digest_of(&owner, &value, source)?
            }
            (None, None, Some(digest)) => digest_in(&owner, &digest, source)?,
            (None, None, None) => {
                source.missing(&span, &owner, "value");
                return None;
            }
            (_, Some(second), _) | (_, _, Some(second)) => {
                source.problem(
                    &second.span(),
                    format!("{owner}: has more than one of `value`, `value-file` and `digest`"),
                );
                return None;
            }
        };
        Some(ApiKey {
            id: file.id.unwrap_or_else(|| name.clone()),
            name,
            digest,
            enabled: file.enabled.unwrap_or(true),
            stages,
            place: source.place(&span),
        })
    }
}

fn digest_of(owner: &str, value: &Spanned<String>, source: &mut Source) -> Option<[u8; 32]> {
    let text = value.get_ref();
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) || !(20..=128).contains(&text.len()) {
        source.problem(
            &value.span(),
            format!("{owner}: its value is not 20 to 128 visible ASCII characters"),
        );
        return None;
    }
    Some(Sha256::digest(text).into())
}

fn digest_in(owner: &str, written: &Spanned<String>, source: &mut Source) -> Option<[u8; 32]> {
    let text = written.get_ref();
    let octet = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    let octets: Option<Vec<u8>> = (0..text.len()).step_by(2).map(octet).collect();
    let digest = octets.and_then(|octets| octets.try_into().ok());
    if digest.is_none() {
        let message = format!("{owner}: its `digest` is not the 64 hex digits of a SHA-256");
        let hint = "printf %s \"$VALUE\" | sha256sum".to_owned();
        source.problem_with_hint(&written.span(), message, Some(hint));
    }
    digest
}

fn stage_of(
    owner: &str,
    written: &Spanned<String>,
    served: &[String],
    source: &mut Source,
) -> Option<StageName> {
    let text = written.get_ref();
    if !served.contains(text) {
        let hint = crate::problem::did_you_mean(text, served.iter().map(String::as_str));
        source.problem_with_hint(
            &written.span(),
            format!("{owner}: no stage \"{text}\""),
            hint,
        );
        return None;
    }
    let (api, stage) = text.split_once('/')?;
    Some(StageName {
        api: api.to_owned(),
        stage: stage.to_owned(),
    })
}

fn value_in(owner: &str, path: Spanned<String>, source: &mut Source) -> Option<Spanned<String>> {
    let span = path.span();
    let file = source.resolve(path.get_ref());
    match std::fs::read_to_string(&file) {
        Ok(text) => {
            let line = text.strip_suffix('\n').unwrap_or(&text);
            Some(Spanned::new(
                span,
                line.strip_suffix('\r').unwrap_or(line).to_owned(),
            ))
        }
        Err(error) => {
            source.problem(
                &span,
                format!("{owner}: {} cannot be read: {error}", file.display()),
            );
            None
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct SecretFile {
    /// This or `env` is required.
    file: Option<String>,
    env: Option<String>,
}

impl SecretFile {
    pub(super) fn compile(
        name: &str,
        written: Spanned<Self>,
        source: &mut Source,
    ) -> Option<Secret> {
        let span = written.span();
        let Self { file, env } = written.into_inner();
        let found = match (file, env) {
            (Some(file), None) => SecretSource::File(source.resolve(&file)),
            (None, Some(variable)) => SecretSource::Environment(variable),
            _ => {
                source.problem(
                    &span,
                    format!("secret \"{name}\": needs either `file` or `env`"),
                );
                return None;
            }
        };
        Some(Secret {
            name: name.to_owned(),
            source: found,
            place: source.place(&span),
        })
    }
}
