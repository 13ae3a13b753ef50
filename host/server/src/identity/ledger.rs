//! The join tokens that are out: who may join by them, until when, and which were spent.
//!
//! `identity/tokens.json` in the data directory, replaced whole and flushed before anybody is told of a change. It has the
//! digests of secrets, never a secret. A stranger changes nothing in it: only the right secret spends a token.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::token::bytes32;
use super::{JoinError, Peer, Role};
use crate::durable;

/// The tokens that one authority gave out.
#[derive(Debug)]
pub(super) struct Ledger {
    file: PathBuf,
    tokens: Vec<Record>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    id: String,
    /// SHA-256, base64url.
    secret: String,
    role: Role,
    /// `None`: any.
    name: Option<String>,
    expires_at: u64,
    spent: Option<Spent>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spent {
    name: String,
    /// SHA-256 of the public key that it went to, base64url.
    key: String,
}

impl Ledger {
    /// Reads what is kept in `directory`.
    pub(super) fn open(directory: &Path) -> Result<Self> {
        let file = directory.join("tokens.json");
        let tokens = match fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text)
                .with_context(|| format!("{} cannot be read", file.display()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                return Err(error).with_context(|| format!("{} cannot be read", file.display()));
            }
        };
        Ok(Self { file, tokens })
    }

    /// Writes a new token down.
    ///
    /// # Errors
    /// Where too many are out, or the disk does not take it.
    pub(super) fn add(
        &mut self,
        id: &str,
        secret: &[u8; 32],
        role: Role,
        name: Option<String>,
        expires_at: u64,
        now: SystemTime,
    ) -> Result<()> {
        let now = seconds(now);
        let mut tokens = self.tokens.clone();
        tokens.retain(|token| token.expires_at.saturating_add(REMEMBERED.as_secs()) > now);
        if tokens.len() >= TOKENS_MAX {
            tokens.retain(|token| token.spent.is_none() && token.expires_at > now);
        }
        anyhow::ensure!(
            tokens.len() < TOKENS_MAX,
            "{TOKENS_MAX} join tokens are out: wait until one is used or expires"
        );
        tokens.push(Record {
            id: id.to_owned(),
            secret: digest(secret),
            role,
            name,
            expires_at,
            spent: None,
        });
        self.write(tokens)
    }

    /// Spends a token on a node's public key. A node that asks again with the same key, because the answer to it was lost,
    /// is told the same.
    ///
    /// # Errors
    /// Why it does not get in. Who does not know the secret learns nothing of the token.
    pub(super) fn spend(
        &mut self,
        id: &str,
        secret: &str,
        node: &Peer,
        public_key: &[u8],
        now: SystemTime,
    ) -> Result<(), JoinError> {
        let secret = bytes32(secret).ok_or(JoinError::Forged)?;
        let at = self
            .tokens
            .iter()
            .position(|token| token.id == id)
            .ok_or(JoinError::Forged)?;
        let token = &self.tokens[at];
        verify_slices_are_equal(digest(&secret).as_bytes(), token.secret.as_bytes())
            .map_err(|_| JoinError::Forged)?;
        let key = digest(public_key);
        if let Some(spent) = &token.spent
            && (spent.key != key || spent.name != node.name)
        {
            return Err(JoinError::Spent {
                by: spent.name.clone(),
            });
        }
        if seconds(now) >= token.expires_at {
            return Err(JoinError::Expired);
        }
        if token.role != node.role {
            return Err(JoinError::Role {
                allowed: token.role,
                asked: node.role,
            });
        }
        if let Some(name) = &token.name
            && *name != node.name
        {
            return Err(JoinError::Name {
                allowed: name.clone(),
                asked: node.name.clone(),
            });
        }
        if token.spent.is_some() {
            return Ok(());
        }
        let mut tokens = self.tokens.clone();
        tokens[at].spent = Some(Spent {
            name: node.name.clone(),
            key,
        });
        self.write(tokens).map_err(JoinError::Unavailable)
    }

    /// Makes a change, on the disk first.
    fn write(&mut self, tokens: Vec<Record>) -> Result<()> {
        durable::replace_private(&self.file, &serde_json::to_vec_pretty(&tokens)?)
            .with_context(|| self.file.display().to_string())?;
        self.tokens = tokens;
        Ok(())
    }
}

/// SHA-256, base64url.
fn digest(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    URL_SAFE_NO_PAD.encode(digest)
}

/// Seconds since 1970.
pub(super) fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// More than anyone adds nodes in a week.
const TOKENS_MAX: usize = 1000;
/// How long a token that cannot be used is remembered, so that who tries it is told why.
const REMEMBERED: Duration = Duration::from_secs(7 * 24 * 3600);
