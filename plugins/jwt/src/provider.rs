//! Where the keys come from: the configuration, a key set of the provider, or its discovery document.

use std::cell::RefCell;
use std::rc::Rc;

use tidegate_plugin::configuration::Fields;
use tidegate_plugin::json::{self, Value};
use tidegate_plugin::{ConfigurationError, jwks};

use crate::keys::{Choice, Keys};
use crate::token::Token;

/// Whose keys sign the tokens.
#[derive(Debug)]
pub enum Provider {
    /// Keys of the configuration.
    Fixed(Keys),
    /// A key set that the node fetches and keeps.
    KeySet(Fetched),
    /// A discovery document that names the key set (OpenID Connect Discovery 1.0 section 4).
    Discovery {
        issuer: String,
        uri: String,
        known: RefCell<Option<Rc<Discovered>>>,
    },
}

/// A key set by its URI, and the last text of it taken apart: the node keeps the text, so that a call compares rather
/// than parses.
#[derive(Debug)]
pub struct Fetched {
    uri: String,
    parsed: RefCell<Option<(String, Rc<Keys>)>>,
}

/// A discovery document's text, and the key set that it names.
#[derive(Debug)]
pub struct Discovered {
    text: String,
    keys: Fetched,
}

impl Provider {
    /// Takes `jwks` and `jwksUri` of the configuration.
    pub fn read(fields: &mut Fields, issuer: &str) -> Result<Self, ConfigurationError> {
        let set = fields.optional("jwks");
        let uri = fields.optional("jwksUri");
        match (set, uri) {
            (Some(_), Some(uri)) => {
                Err(uri.error("stands beside jwks; one of the two has the keys"))
            }
            (Some(set), None) => {
                let keys = Keys::parse(set.as_value(), true).map_err(|reason| set.error(reason))?;
                match keys.len() {
                    0 => Err(set.error("has no key that verifies signatures")),
                    _ => Ok(Self::Fixed(keys)),
                }
            }
            (None, Some(uri)) => Ok(Self::KeySet(Fetched::new(uri.parse(read_url)?))),
            (None, None) => Ok(Self::Discovery {
                issuer: issuer.to_string(),
                uri: format!(
                    "{}/.well-known/openid-configuration",
                    issuer.trim_end_matches('/')
                ),
                known: RefCell::default(),
            }),
        }
    }

    /// Whether asking again can bring other keys.
    pub fn is_remote(&self) -> bool {
        !matches!(self, Self::Fixed(_))
    }

    /// The key that `token` is signed with; `refresh` asks the provider again.
    pub fn choose(&self, token: &Token, refresh: bool) -> Result<Choice, String> {
        Ok(match self {
            Self::Fixed(keys) => keys.choose(token),
            Self::KeySet(fetched) => fetched.keys(refresh)?.choose(token),
            Self::Discovery { issuer, uri, known } => {
                let found = discover(issuer, jwks::fetch(uri, false)?, known)?;
                found.keys.keys(refresh)?.choose(token)
            }
        })
    }
}

/// The document taken apart, as it was the last time where it is still the same.
fn discover(
    issuer: &str,
    text: String,
    known: &RefCell<Option<Rc<Discovered>>>,
) -> Result<Rc<Discovered>, String> {
    if let Some(found) = &*known.borrow()
        && found.text == text
    {
        return Ok(found.clone());
    }
    let keys = Fetched::new(key_set_uri(&text, issuer)?);
    let found = Rc::new(Discovered { text, keys });
    known.replace(Some(found.clone()));
    Ok(found)
}

impl Fetched {
    fn new(uri: String) -> Self {
        Self {
            uri,
            parsed: RefCell::default(),
        }
    }

    fn keys(&self, refresh: bool) -> Result<Rc<Keys>, String> {
        let text = jwks::fetch(&self.uri, refresh)?;
        if let Some((known, keys)) = &*self.parsed.borrow()
            && *known == text
        {
            return Ok(keys.clone());
        }
        let set =
            json::from_str(&text).map_err(|error| format!("{} is no JSON: {error}", self.uri))?;
        let keys = Keys::parse(&set, false).map_err(|reason| format!("{} {reason}", self.uri))?;
        let keys = Rc::new(keys);
        self.parsed.replace(Some((text, keys.clone())));
        Ok(keys)
    }
}

/// The key set that a discovery document names. Its issuer must be the configured one (OpenID Connect Discovery 1.0
/// section 4.3), else one provider could speak for another.
fn key_set_uri(document: &str, issuer: &str) -> Result<String, String> {
    let document: Value = json::from_str(document)
        .map_err(|error| format!("the discovery document of {issuer} is no JSON: {error}"))?;
    let text = |name: &str| document.get(name).and_then(Value::as_str);
    match text("issuer") {
        Some(said) if said == issuer => {}
        said => {
            return Err(format!(
                "the discovery document of {issuer} is of {}",
                said.unwrap_or("nobody")
            ));
        }
    }
    let uri = text("jwks_uri")
        .ok_or_else(|| format!("the discovery document of {issuer} has no jwks_uri"))?;
    read_url(uri).map_err(|reason| format!("the jwks_uri of {issuer} {reason}"))
}

/// A URL of a server.
pub fn read_url(text: &str) -> Result<String, String> {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') => Ok(text.to_string()),
        _ => Err("must be a URL: https://…".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_discovery_document_speaks_for_its_own_issuer_only() {
        let document =
            |issuer: &str| format!(r#"{{"issuer": "{issuer}", "jwks_uri": "https://idp/keys"}}"#);
        assert_eq!(
            key_set_uri(&document("https://idp"), "https://idp"),
            Ok("https://idp/keys".into())
        );
        assert!(key_set_uri(&document("https://evil"), "https://idp").is_err());
        for text in [
            "",
            "[]",
            r#"{"issuer": "https://idp"}"#,
            r#"{"issuer": "https://idp", "jwks_uri": "file:///x"}"#,
        ] {
            assert!(key_set_uri(text, "https://idp").is_err(), "{text}");
        }
    }
}
