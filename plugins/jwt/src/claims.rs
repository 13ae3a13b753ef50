//! What a token must say, and what of it the request carries on.

use tidegate_plugin::configuration::Fields;
use tidegate_plugin::json::{Map, Value};
use tidegate_plugin::{ConfigurationError, Principal, Verdict};

use crate::Refusal;
use crate::provider::read_url;

/// What the configuration asks of a token.
#[derive(Debug)]
pub struct Expected {
    pub issuer: String,
    audience: Vec<String>,
    /// One of these must be granted; none asked for where empty.
    scopes: Vec<String>,
    /// Seconds that the provider's clock may differ from ours.
    skew: f64,
}

impl Expected {
    /// Takes `issuer`, `audience`, `scopes` and `clockSkewSeconds` of the configuration.
    pub fn read(fields: &mut Fields) -> Result<Self, ConfigurationError> {
        let issuer = fields.required("issuer")?.parse(read_url)?;
        let audience = fields.required("audience")?;
        let none = audience.error("must name at least one audience");
        let audience = audience.strings()?;
        if audience.is_empty() {
            return Err(none);
        }
        let scopes = match fields.optional("scopes") {
            Some(scopes) => scopes.strings()?,
            None => Vec::new(),
        };
        let skew = match fields.optional("clockSkewSeconds") {
            Some(skew) => skew.integer(0, SKEW_SECONDS_MAX)?,
            None => 0,
        };
        Ok(Self {
            issuer,
            audience,
            scopes,
            skew: f64::from(skew),
        })
    }

    /// Judges a token's claims at `now`, in seconds since 1970.
    ///
    /// Source: Amazon API Gateway, "Control access to HTTP APIs with JWT authorizers", in its order; RFC 7519
    /// section 4.1.
    pub fn judge(&self, claims: &Map<String, Value>, now: f64) -> Result<Verdict, Refusal> {
        if claims.get("iss").and_then(Value::as_str) != Some(&self.issuer) {
            return Err("the token is of another issuer");
        }
        // `client_id` counts only where there is no `aud`.
        let audience = claims.get("aud").or_else(|| claims.get("client_id"));
        if !texts(audience).any(|said| self.audience.iter().any(|known| known == said)) {
            return Err("the token is for another audience");
        }
        match time(claims, "exp")? {
            None => return Err("the token has no expiry"),
            Some(expiry) if now >= expiry + self.skew => return Err("the token has expired"),
            Some(_) => {}
        }
        if time(claims, "nbf")?.is_some_and(|start| now < start - self.skew) {
            return Err("the token is not valid yet");
        }
        if time(claims, "iat")?.is_some_and(|issued| now < issued - self.skew) {
            return Err("the token was issued in the future");
        }
        Ok(match self.has_scope(claims) {
            true => Verdict::Allow(principal(claims)),
            false => Verdict::Forbidden(Some("the token has none of the route's scopes".into())),
        })
    }

    fn has_scope(&self, claims: &Map<String, Value>) -> bool {
        let granted = claims.get("scope").or_else(|| claims.get("scp"));
        let mut granted = texts(granted).flat_map(str::split_ascii_whitespace);
        self.scopes.is_empty()
            || granted.any(|scope| self.scopes.iter().any(|asked| asked == scope))
    }
}

/// The texts of a claim that is one or a list of them.
fn texts(claim: Option<&Value>) -> impl Iterator<Item = &str> {
    let (one, list) = match claim {
        Some(Value::Array(list)) => (None, list.as_slice()),
        other => (other, [].as_slice()),
    };
    one.into_iter().chain(list).filter_map(Value::as_str)
}

/// A time in seconds since 1970 (RFC 7519 section 2, NumericDate).
fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<f64>, Refusal> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => value
            .as_f64()
            .map(Some)
            .ok_or("a time of the token is no number"),
    }
}

/// The caller: named by the subject, with each claim as `claims.NAME`. Lists and objects are given as JSON. A claim that
/// would pass the context's limits is left out.
fn principal(claims: &Map<String, Value>) -> Principal {
    let id = ["sub", "client_id"]
        .iter()
        .find_map(|name| claims.get(*name).and_then(Value::as_str));
    let mut octets = 0;
    let mut context = Vec::new();
    for (name, value) in claims {
        let text = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let name = format!("claims.{name}");
        let size = name.len() + text.len();
        if context.len() < CONTEXT_MAX && octets + size <= CONTEXT_OCTETS_MAX {
            octets += size;
            context.push((name, text));
        }
    }
    Principal {
        id: id.unwrap_or_default().to_string(),
        context,
        usage_identifier_key: None,
    }
}

/// Beyond five minutes a clock is wrong, not askew.
const SKEW_SECONDS_MAX: u32 = 300;

/// `principal.context` of the WIT.
const CONTEXT_MAX: usize = 64;
const CONTEXT_OCTETS_MAX: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_plugin::Configuration;
    use tidegate_plugin::json::json;

    const NOW: f64 = 1_000_000.0;

    fn expected(more: &str) -> Expected {
        let text = format!(r#"{{"issuer": "https://idp", "audience": ["api", "web"]{more}}}"#);
        Expected::read(&mut Configuration::parse(&text).unwrap().object().unwrap()).unwrap()
    }

    fn judge(expected: &Expected, change: Value) -> Result<Verdict, Refusal> {
        let mut claims = json!({"iss": "https://idp", "aud": "api", "exp": NOW + 60.0, "sub": "s"});
        for (name, value) in change.as_object().unwrap() {
            match value {
                Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
                value => claims[name] = value.clone(),
            }
        }
        expected.judge(claims.as_object().unwrap(), NOW)
    }

    #[test]
    fn each_claim_is_judged() {
        let cases = [
            (json!({}), None),
            (
                json!({"iss": "https://idp/"}),
                Some("the token is of another issuer"),
            ),
            (json!({"iss": null}), Some("the token is of another issuer")),
            (json!({"aud": ["x", "web"]}), None),
            (
                json!({"aud": ["x"]}),
                Some("the token is for another audience"),
            ),
            (
                json!({"aud": null}),
                Some("the token is for another audience"),
            ),
            (json!({"aud": null, "client_id": "web"}), None),
            (
                json!({"aud": "x", "client_id": "web"}),
                Some("the token is for another audience"),
            ),
            (json!({"exp": null}), Some("the token has no expiry")),
            (json!({"exp": NOW}), Some("the token has expired")),
            (json!({"exp": NOW + 0.5}), None),
            (
                json!({"exp": "2000000"}),
                Some("a time of the token is no number"),
            ),
            (json!({"nbf": NOW}), None),
            (
                json!({"nbf": NOW + 1.0}),
                Some("the token is not valid yet"),
            ),
            (
                json!({"iat": NOW + 1.0}),
                Some("the token was issued in the future"),
            ),
        ];
        for (change, refusal) in cases {
            assert_eq!(
                judge(&expected(""), change.clone()).err(),
                refusal,
                "{change}"
            );
        }
    }

    #[test]
    fn the_skew_widens_every_time() {
        let skewed = expected(r#", "clockSkewSeconds": 10"#);
        for name in ["nbf", "iat"] {
            assert!(
                judge(&skewed, json!({ name: NOW + 10.0 })).is_ok(),
                "{name}"
            );
            assert!(
                judge(&skewed, json!({ name: NOW + 11.0 })).is_err(),
                "{name}"
            );
        }
        assert!(judge(&skewed, json!({"exp": NOW - 9.0})).is_ok());
        assert!(judge(&skewed, json!({"exp": NOW - 10.0})).is_err());
    }

    #[test]
    fn one_of_the_scopes_must_be_granted() {
        let scoped = expected(r#", "scopes": ["read", "write"]"#);
        let cases = [
            (json!({"scope": "openid write"}), true),
            (json!({"scp": ["read"]}), true),
            (json!({"scp": "read mail"}), true),
            (json!({"scope": "writer"}), false),
            (json!({}), false),
        ];
        for (change, is_allowed) in cases {
            let verdict = judge(&scoped, change.clone()).unwrap();
            assert_eq!(matches!(verdict, Verdict::Allow(_)), is_allowed, "{change}");
            assert_eq!(
                matches!(verdict, Verdict::Forbidden(_)),
                !is_allowed,
                "{change}"
            );
        }
    }

    #[test]
    fn the_claims_go_along_as_context() {
        let Ok(Verdict::Allow(principal)) =
            judge(&expected(""), json!({"groups": ["a", "b"], "admin": true}))
        else {
            panic!("not allowed");
        };
        assert_eq!(principal.id, "s");
        for (name, text) in [
            ("claims.sub", "s"),
            ("claims.groups", r#"["a","b"]"#),
            ("claims.admin", "true"),
        ] {
            assert!(
                principal.context.contains(&(name.into(), text.into())),
                "{name}"
            );
        }
    }

    #[test]
    fn claims_beyond_the_limits_are_left_out() {
        let Ok(Verdict::Allow(principal)) = judge(
            &expected(""),
            json!({"big": "x".repeat(CONTEXT_OCTETS_MAX)}),
        ) else {
            panic!("not allowed");
        };
        assert!(
            principal
                .context
                .iter()
                .all(|(name, _)| name != "claims.big")
        );
        assert!(
            principal
                .context
                .iter()
                .any(|(name, _)| name == "claims.sub")
        );
    }
}
