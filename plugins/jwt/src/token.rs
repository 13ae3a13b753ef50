//! A token taken apart: a JWS in compact serialization (RFC 7515 section 7.1) whose payload is a JSON object of claims
//! (RFC 7519).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tidegate_plugin::crypto::SignatureAlgorithm;
use tidegate_plugin::json::{self, Map, Value};

use crate::Refusal;

/// A token whose signature is not yet verified.
#[derive(Debug)]
pub struct Token<'a> {
    pub algorithm: SignatureAlgorithm,
    /// The `kid` of its header.
    pub key_id: Option<String>,
    /// What the signature is over: header and payload as they came.
    pub signed: &'a str,
    pub signature: Vec<u8>,
    pub claims: Map<String, Value>,
}

impl<'a> Token<'a> {
    /// Takes a token apart.
    pub fn parse(text: &'a str) -> Result<Self, Refusal> {
        if text.len() > OCTETS_MAX {
            return Err("the token is too long");
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(MALFORMED)?;
        let (header, payload) = signed.split_once('.').ok_or(MALFORMED)?;
        let header = object(header)?;
        // RFC 7515 section 4.1.11: extensions that must be understood and are not.
        if header.contains_key("crit") {
            return Err("the token needs an extension that is not known here");
        }
        let name = header.get("alg").and_then(Value::as_str).ok_or(MALFORMED)?;
        let algorithm = algorithm(name).ok_or("the token's algorithm is not accepted")?;
        let key_id = match header.get("kid") {
            None => None,
            Some(Value::String(id)) => Some(id.clone()),
            Some(_) => return Err(MALFORMED),
        };
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| MALFORMED)?;
        let claims = object(payload)?;
        Ok(Self {
            algorithm,
            key_id,
            signed,
            signature,
            claims,
        })
    }
}

fn object(part: &str) -> Result<Map<String, Value>, Refusal> {
    let text = URL_SAFE_NO_PAD.decode(part).map_err(|_| MALFORMED)?;
    json::from_slice(&text).map_err(|_| MALFORMED)
}

/// The algorithm of a JOSE name (RFC 7518 section 3.1, RFC 8037). `none` is none of them.
pub fn algorithm(name: &str) -> Option<SignatureAlgorithm> {
    Some(match name {
        "HS256" => SignatureAlgorithm::Hs256,
        "HS384" => SignatureAlgorithm::Hs384,
        "HS512" => SignatureAlgorithm::Hs512,
        "RS256" => SignatureAlgorithm::Rs256,
        "RS384" => SignatureAlgorithm::Rs384,
        "RS512" => SignatureAlgorithm::Rs512,
        "PS256" => SignatureAlgorithm::Ps256,
        "PS384" => SignatureAlgorithm::Ps384,
        "PS512" => SignatureAlgorithm::Ps512,
        "ES256" => SignatureAlgorithm::Es256,
        "ES384" => SignatureAlgorithm::Es384,
        "EdDSA" => SignatureAlgorithm::EdDsa,
        _ => return None,
    })
}

/// Longer than any header section that the node lets in by default.
const OCTETS_MAX: usize = 64 * 1024;

const MALFORMED: Refusal = "the token is malformed";

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A token of this header and payload, with a signature that nobody made.
    pub(crate) fn encode(header: &str, payload: &str) -> String {
        format!(
            "{}.{}.{}",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(payload),
            URL_SAFE_NO_PAD.encode("s")
        )
    }

    #[test]
    fn a_token_is_taken_apart() {
        let text = encode(
            r#"{"alg":"RS256","kid":"k","typ":"at+jwt"}"#,
            r#"{"sub":"s"}"#,
        );
        let token = Token::parse(&text).unwrap();
        assert_eq!(token.algorithm, SignatureAlgorithm::Rs256);
        assert_eq!(token.key_id.as_deref(), Some("k"));
        assert_eq!(token.signature, b"s");
        assert_eq!(
            text,
            format!("{}.{}", token.signed, URL_SAFE_NO_PAD.encode("s"))
        );
        assert_eq!(token.claims["sub"], "s");
    }

    #[test]
    fn no_token_without_a_signature_algorithm_is_accepted() {
        for name in ["none", "None", "NONE", "", "HS1", "rs256", "RSA-OAEP"] {
            let text = encode(&format!(r#"{{"alg":"{name}"}}"#), "{}");
            assert_eq!(
                Token::parse(&text).unwrap_err(),
                "the token's algorithm is not accepted",
                "{name}"
            );
        }
    }

    #[test]
    fn what_is_no_token_is_malformed() {
        let good = encode(r#"{"alg":"RS256"}"#, "{}");
        let cases = [
            String::new(),
            "a.b".into(),
            "..".into(),
            format!("{good}=="),
            format!("{good}.more"),
            good.replace('.', "+"),
            encode("{}", "{}"),
            encode(r#"{"alg":1}"#, "{}"),
            encode(r#"{"alg":"RS256","kid":1}"#, "{}"),
            encode(r#"{"alg":"RS256"}"#, "[]"),
            encode(r#"{"alg":"RS256"}"#, "{"),
        ];
        for text in cases {
            assert_eq!(Token::parse(&text).unwrap_err(), MALFORMED, "{text}");
        }
    }

    #[test]
    fn a_critical_extension_is_refused() {
        let text = encode(r#"{"alg":"RS256","crit":["exp"],"exp":1}"#, "{}");
        assert!(Token::parse(&text).is_err());
    }

    #[test]
    fn an_endless_token_is_refused_before_it_is_read() {
        assert_eq!(
            Token::parse(&"a".repeat(OCTETS_MAX + 1)).unwrap_err(),
            "the token is too long"
        );
    }
}
