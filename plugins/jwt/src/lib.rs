//! Admits callers that show a JSON Web Token of an identity provider, as the JWT authorizer of API Gateway's HTTP APIs
//! does.
//!
//! The way of a request: `token` takes the token apart, `keys` chooses the key, the node verifies the signature, and
//! `claims` judges what the token says.

mod claims;
mod keys;
mod provider;
mod token;

use std::time::{SystemTime, UNIX_EPOCH};

use tidegate_plugin::{
    Authorizer, Configuration, ConfigurationError, Given, Plugin, Reading, Setup, Verdict, crypto,
};

use claims::Expected;
use keys::Choice;
use provider::Provider;
use token::Token;

/// The authorizer: what a token must say, and who signs it.
#[derive(Debug)]
pub struct Jwt {
    expected: Expected,
    provider: Provider,
}

impl Plugin for Jwt {
    fn configure(configuration: Configuration) -> Result<Setup<Self>, ConfigurationError> {
        let mut fields = configuration.object()?;
        let source = match fields.optional("identitySource") {
            Some(source) => source.expression()?,
            None => Reading::Header("authorization".into()),
        };
        let expected = Expected::read(&mut fields)?;
        let provider = Provider::read(&mut fields, &expected.issuer)?;
        fields.finish()?;
        Ok(Setup::new(Self { expected, provider }).reads([source]))
    }
}

impl Authorizer for Jwt {
    fn authorize(&self, given: Given) -> Result<Verdict, String> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_err(|_| "the clock is before 1970")?;
        match given.get(0).and_then(credentials) {
            None => Ok(Verdict::Unauthorized(Some("Bearer".into()))),
            Some(text) => match self.judge(text, now.as_secs_f64())? {
                Ok(verdict) => Ok(verdict),
                Err(refusal) => Ok(Verdict::Unauthorized(Some(challenge(refusal)))),
            },
        }
    }
}

/// Why a token is not accepted: the challenge's `error_description`.
type Refusal = &'static str;

impl Jwt {
    /// The outer error: no decision could be made. The inner one: the token is not good.
    fn judge(&self, text: &str, now: f64) -> Result<Result<Verdict, Refusal>, String> {
        let token = match Token::parse(text) {
            Ok(token) => token,
            Err(refusal) => return Ok(Err(refusal)),
        };
        match self.is_signed(&token)? {
            Err(refusal) => Ok(Err(refusal)),
            Ok(()) => Ok(self.expected.judge(&token.claims, now)),
        }
    }

    fn is_signed(&self, token: &Token) -> Result<Result<(), Refusal>, String> {
        let mut choice = self.provider.choose(token, false)?;
        if matches!(choice, Choice::Unknown) && self.provider.is_remote() {
            // The provider may have rolled its keys over; the node asks at most once in 30 seconds.
            choice = self.provider.choose(token, true)?;
        }
        let key = match choice {
            Choice::Key(key) => key,
            Choice::Unknown => return Ok(Err("the token is signed with an unknown key")),
            Choice::Refused(refusal) => return Ok(Err(refusal)),
        };
        let signed = crypto::verify(
            token.algorithm,
            &key,
            token.signed.as_bytes(),
            &token.signature,
        )?;
        Ok(if signed {
            Ok(())
        } else {
            Err("the signature is wrong")
        })
    }
}

/// The token in the identity source, with or without its scheme (RFC 6750 section 2.1); `None` where there is none.
fn credentials(text: &str) -> Option<&str> {
    let text = text.trim();
    let token = match text.split_at_checked(7) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer ") => token.trim_start(),
        _ if text.eq_ignore_ascii_case("bearer") => "",
        _ => text,
    };
    (!token.is_empty()).then_some(token)
}

/// The answer to a token that is not good (RFC 6750 section 3).
fn challenge(refusal: Refusal) -> String {
    format!("Bearer error=\"invalid_token\", error_description=\"{refusal}\"")
}

tidegate_plugin::export!(Jwt: authorizer);

#[cfg(test)]
mod tests {
    use super::*;

    fn configure(text: &str) -> Result<Setup<Jwt>, String> {
        Configuration::parse(text)
            .and_then(Jwt::configure)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_scheme_is_optional_and_its_case_does_not_matter() {
        let cases = [
            ("Bearer a.b.c", Some("a.b.c")),
            ("bearer   a.b.c ", Some("a.b.c")),
            ("a.b.c", Some("a.b.c")),
            ("Bearer", None),
            ("Bearer ", None),
            ("", None),
            ("  ", None),
        ];
        for (text, token) in cases {
            assert_eq!(credentials(text), token, "{text:?}");
        }
    }

    #[test]
    fn a_request_without_a_token_gets_a_bare_challenge() {
        let setup = configure(include_str!("../example.json")).unwrap();
        let verdict = setup.plugin().authorize(vec![None].into());
        assert_eq!(verdict, Ok(Verdict::Unauthorized(Some("Bearer".into()))));
    }

    #[test]
    fn a_token_that_is_none_gets_a_challenge_with_the_reason() {
        let setup = configure(include_str!("../example.json")).unwrap();
        let verdict = setup
            .plugin()
            .authorize(vec![Some("Bearer x".into())].into());
        let expected =
            "Bearer error=\"invalid_token\", error_description=\"the token is malformed\"";
        assert_eq!(verdict, Ok(Verdict::Unauthorized(Some(expected.into()))));
    }

    #[test]
    fn a_wrong_configuration_is_refused_with_its_place() {
        let cases = [
            (r#"{"audience": ["a"]}"#, "/issuer: is missing"),
            (
                r#"{"issuer": "idp", "audience": ["a"]}"#,
                "/issuer: must be a URL",
            ),
            (
                r#"{"issuer": "https://i", "audience": []}"#,
                "/audience: must name",
            ),
            (r#"{"issuer": "https://i"}"#, "/audience: is missing"),
            (
                r#"{"issuer": "https://i", "audience": ["a"], "clockSkewSeconds": 301}"#,
                "/clockSkewSeconds: ",
            ),
            (
                r#"{"issuer": "https://i", "audience": ["a"], "jwksUri": "x"}"#,
                "/jwksUri: must be a URL",
            ),
            (
                r#"{"issuer": "https://i", "audience": ["a"], "jwks": {}}"#,
                "/jwks: ",
            ),
            (
                r#"{"issuer": "https://i", "audience": ["a"], "jwks": {"keys": []}, "jwksUri": "https://i/k"}"#,
                "/jwksUri: stands beside jwks",
            ),
            (
                r#"{"issuer": "https://i", "audience": ["a"], "scope": []}"#,
                "/scope: unknown key",
            ),
        ];
        for (text, start) in cases {
            let error = configure(text).unwrap_err();
            assert!(error.starts_with(start), "{text}: {error}");
        }
    }
}
