//! What an operator carries from an origin to a new node: `tgjoin1_…`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use tidegate_model::config::is_host_and_port;

/// All that a new node needs to know: where origins are, which authority is theirs, and the secret that it may use once.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// `host:port`, at least one.
    pub origins: Vec<String>,
    /// SHA-256 of the authority's certificate (DER).
    pub authority: [u8; 32],
    pub id: String,
    pub(super) secret: [u8; 32],
    /// Seconds since 1970.
    pub expires_at: u64,
}

/// Why a text is no token.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TokenError {
    #[error("this is no join token: they begin with {PREFIX}")]
    Foreign,
    #[error("the join token is damaged: copy all of it")]
    Damaged,
    #[error("the join token is of another version of tidegate: this one reads {PREFIX}…")]
    Version,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    origins: Vec<String>,
    authority: String,
    id: String,
    secret: String,
    expires: u64,
}

impl JoinToken {
    /// Reads what [`Self::reveal`] wrote.
    ///
    /// # Errors
    /// Where it is something else, or not all of it.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let Some(rest) = text.strip_prefix(PREFIX) else {
            let ours = text.starts_with(FAMILY);
            return Err(if ours {
                TokenError::Version
            } else {
                TokenError::Foreign
            });
        };
        if rest.len() > TEXT_BYTES_MAX {
            return Err(TokenError::Damaged);
        }
        Self::read(rest).ok_or(TokenError::Damaged)
    }

    fn read(text: &str) -> Option<Self> {
        let json = URL_SAFE_NO_PAD.decode(text).ok()?;
        let text: Text = serde_json::from_slice(&json).ok()?;
        let names =
            !text.origins.is_empty() && text.origins.iter().all(|name| is_host_and_port(name));
        names.then_some(Self {
            origins: text.origins,
            authority: bytes32(&text.authority)?,
            id: text.id,
            secret: bytes32(&text.secret)?,
            expires_at: text.expires,
        })
    }

    /// The text that operators carry. It holds the secret.
    pub fn reveal(&self) -> String {
        let text = Text {
            origins: self.origins.clone(),
            authority: URL_SAFE_NO_PAD.encode(self.authority),
            id: self.id.clone(),
            secret: URL_SAFE_NO_PAD.encode(self.secret),
            expires: self.expires_at,
        };
        let json = serde_json::to_vec(&text).expect("strings and a number are JSON");
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(json))
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("origins", &self.origins)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// 32 bytes from base64url.
pub(super) fn bytes32(text: &str) -> Option<[u8; 32]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

const FAMILY: &str = "tgjoin";
const PREFIX: &str = "tgjoin1_";
/// Some dozens of origins' names.
const TEXT_BYTES_MAX: usize = 8 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken {
            origins: vec![
                "origin.example:7443".to_owned(),
                "[2001:db8::1]:7443".to_owned(),
            ],
            authority: [7; 32],
            id: "t1".to_owned(),
            secret: [9; 32],
            expires_at: 1_700_000_000,
        }
    }

    #[test]
    fn a_token_survives_being_carried() {
        let text = token().reveal();
        assert_eq!(JoinToken::parse(&format!(" {text}\n")), Ok(token()));
    }

    #[test]
    fn what_is_no_token_is_told_from_a_damaged_one() {
        let text = token().reveal();
        let no_origins = JoinToken {
            origins: vec![],
            ..token()
        }
        .reveal();
        let no_port = JoinToken {
            origins: vec!["a".to_owned()],
            ..token()
        }
        .reveal();
        let cases = [
            ("", TokenError::Foreign),
            ("eyJhbGciOiJIUzI1NiJ9", TokenError::Foreign),
            ("tgjoin2_e30", TokenError::Version),
            ("tgjoin1_", TokenError::Damaged),
            ("tgjoin1_e30", TokenError::Damaged),
            (&text[..text.len() - 1], TokenError::Damaged),
            (&format!("{text}A"), TokenError::Damaged),
            (&no_origins, TokenError::Damaged),
            (&no_port, TokenError::Damaged),
            (
                &format!("tgjoin1_{}", "A".repeat(1 << 20)),
                TokenError::Damaged,
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(
                JoinToken::parse(text),
                Err(expected),
                "{}",
                &text[..text.len().min(80)]
            );
        }
    }

    #[test]
    fn the_secret_is_not_shown() {
        let shown = format!("{:?}", token());
        assert!(shown.contains("t1") && !shown.contains('9'), "{shown}");
    }
}
