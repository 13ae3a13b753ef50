//! Which key of a key set a token is signed with (RFC 7517). The key's type, not the token, says which algorithms it is
//! for: a public RSA key never verifies an HMAC.

use tidegate_plugin::crypto::SignatureAlgorithm::{self, *};
use tidegate_plugin::json::{self, Value};

use crate::Refusal;
use crate::token::{Token, algorithm};

/// The keys of a set that verify signatures.
#[derive(Debug, Default)]
pub struct Keys(Vec<Key>);

#[derive(Debug)]
struct Key {
    id: Option<String>,
    /// Which algorithms it is for.
    algorithms: Vec<SignatureAlgorithm>,
    /// The key itself, as the node takes it.
    text: String,
}

/// The outcome of looking for a token's key.
#[derive(Debug, PartialEq)]
pub enum Choice {
    /// The key, as JSON.
    Key(String),
    /// The set does not have it; a newer set may.
    Unknown,
    /// No set can help.
    Refused(Refusal),
}

impl Keys {
    /// Reads a key set. Keys that verify no signature are passed over, as RFC 7517 section 5 asks for; so are symmetric
    /// keys unless `allow_symmetric`: what a server publishes is no secret.
    pub fn parse(set: &Value, allow_symmetric: bool) -> Result<Self, String> {
        let Some(Value::Array(keys)) = set.get("keys") else {
            return Err("is no key set: it has no list `keys`".into());
        };
        Ok(Self(
            keys.iter()
                .filter_map(|key| read(key, allow_symmetric))
                .collect(),
        ))
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The key that `token` is signed with.
    pub fn choose(&self, token: &Token) -> Choice {
        let mut fitting = self.0.iter().filter(|key| match &token.key_id {
            Some(id) => key.id.as_ref() == Some(id),
            None => key.algorithms.contains(&token.algorithm),
        });
        match (fitting.next(), fitting.next()) {
            (None, _) => Choice::Unknown,
            // Ids need not be unique across key types (RFC 7517 section 4.5).
            (Some(first), second) => {
                let key = [Some(first), second].into_iter().flatten().chain(fitting);
                let mut for_algorithm = key.filter(|key| key.algorithms.contains(&token.algorithm));
                match (for_algorithm.next(), for_algorithm.next()) {
                    (None, _) => Choice::Refused("the token's algorithm is not that of its key"),
                    (Some(key), None) => Choice::Key(key.text.clone()),
                    (Some(_), Some(_)) => {
                        Choice::Refused("the token does not say which key it is signed with")
                    }
                }
            }
        }
    }
}

/// A key that verifies signatures, and for which algorithms (RFC 7518 section 6, RFC 8037 section 2).
fn read(key: &Value, allow_symmetric: bool) -> Option<Key> {
    let text = |name: &str| key.get(name).and_then(Value::as_str);
    if text("use").is_some_and(|purpose| purpose != "sig") {
        return None;
    }
    if let Some(Value::Array(operations)) = key.get("key_ops")
        && !operations.iter().any(|operation| operation == "verify")
    {
        return None;
    }
    let mut algorithms = match (text("kty")?, text("crv")) {
        ("RSA", _) => vec![Rs256, Rs384, Rs512, Ps256, Ps384, Ps512],
        ("EC", Some("P-256")) => vec![Es256],
        ("EC", Some("P-384")) => vec![Es384],
        ("OKP", Some("Ed25519")) => vec![EdDsa],
        ("oct", _) if allow_symmetric => vec![Hs256, Hs384, Hs512],
        _ => return None,
    };
    if let Some(name) = text("alg") {
        let only = algorithm(name)?;
        algorithms.retain(|algorithm| *algorithm == only);
    }
    Some(Key {
        id: text("kid").map(String::from),
        algorithms,
        text: json::to_string(key).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::tests::encode;
    use tidegate_plugin::json::json;

    fn choose(keys: &Value, header: &str) -> Choice {
        let text = encode(header, "{}");
        Keys::parse(&json!({ "keys": keys }), true)
            .unwrap()
            .choose(&Token::parse(&text).unwrap())
    }

    fn chosen(key: &Value) -> Choice {
        Choice::Key(key.to_string())
    }

    #[test]
    fn the_key_id_chooses_the_key() {
        let (a, b) = (
            json!({"kty": "RSA", "kid": "a", "n": "1"}),
            json!({"kty": "RSA", "kid": "b", "n": "2"}),
        );
        let keys = json!([a, b]);
        assert_eq!(choose(&keys, r#"{"alg":"RS256","kid":"b"}"#), chosen(&b));
        assert_eq!(
            choose(&keys, r#"{"alg":"RS256","kid":"c"}"#),
            Choice::Unknown
        );
    }

    #[test]
    fn without_a_key_id_only_an_unambiguous_key_is_taken() {
        let (rsa, ec) = (
            json!({"kty": "RSA", "n": "1"}),
            json!({"kty": "EC", "crv": "P-256", "kid": "e"}),
        );
        assert_eq!(choose(&json!([rsa, ec]), r#"{"alg":"ES256"}"#), chosen(&ec));
        assert!(matches!(
            choose(&json!([rsa, rsa]), r#"{"alg":"RS256"}"#),
            Choice::Refused(_)
        ));
        assert_eq!(choose(&json!([ec]), r#"{"alg":"RS256"}"#), Choice::Unknown);
    }

    #[test]
    fn a_keys_type_says_which_algorithms_it_is_for() {
        let cases = [
            (
                json!({"kty": "RSA", "kid": "k"}),
                &["RS256", "RS512", "PS384"][..],
                &["HS256", "ES256", "EdDSA"][..],
            ),
            (
                json!({"kty": "RSA", "kid": "k", "alg": "RS256"}),
                &["RS256"],
                &["RS384", "PS256", "HS256"],
            ),
            (
                json!({"kty": "EC", "crv": "P-256", "kid": "k"}),
                &["ES256"],
                &["ES384", "HS256", "RS256"],
            ),
            (
                json!({"kty": "EC", "crv": "P-384", "kid": "k"}),
                &["ES384"],
                &["ES256"],
            ),
            (
                json!({"kty": "OKP", "crv": "Ed25519", "kid": "k"}),
                &["EdDSA"],
                &["HS256", "ES256"],
            ),
            (
                json!({"kty": "oct", "kid": "k"}),
                &["HS256", "HS384", "HS512"],
                &["RS256"],
            ),
        ];
        for (key, fit, unfit) in cases {
            let keys = json!([key]);
            for name in fit {
                assert_eq!(
                    choose(&keys, &format!(r#"{{"alg":"{name}","kid":"k"}}"#)),
                    chosen(&key),
                    "{name} {key}"
                );
            }
            for name in unfit {
                let choice = choose(&keys, &format!(r#"{{"alg":"{name}","kid":"k"}}"#));
                assert!(matches!(choice, Choice::Refused(_)), "{name} {key}");
            }
        }
    }

    #[test]
    fn keys_that_verify_no_signature_are_passed_over() {
        let set = json!({"keys": [
            {"kty": "RSA", "use": "enc"},
            {"kty": "RSA", "key_ops": ["sign"]},
            {"kty": "RSA", "alg": "RSA-OAEP"},
            {"kty": "EC", "crv": "secp256k1"},
            {"kty": "OKP", "crv": "X25519"},
            {"kty": "new"},
            "text",
            {"kty": "oct", "k": "c2VjcmV0"},
            {"kty": "RSA", "use": "sig", "key_ops": ["verify"]},
        ]});
        assert_eq!(Keys::parse(&set, false).unwrap().len(), 1);
        assert_eq!(Keys::parse(&set, true).unwrap().len(), 2);
    }

    #[test]
    fn one_key_id_may_name_keys_of_two_types() {
        let (rsa, ec) = (
            json!({"kty": "RSA", "kid": "k"}),
            json!({"kty": "EC", "crv": "P-256", "kid": "k"}),
        );
        assert_eq!(
            choose(&json!([rsa, ec]), r#"{"alg":"ES256","kid":"k"}"#),
            chosen(&ec)
        );
    }

    #[test]
    fn what_is_no_key_set_is_refused() {
        for set in [json!({}), json!([]), json!({"keys": {}})] {
            assert!(Keys::parse(&set, true).is_err(), "{set}");
        }
    }
}
