//! Lets in who has an API key of the node, or a token that the identity provider has signed (RFC 7519, ES256).
//!
//! Base64 comes from a crate: `cargo add base64`.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tidegate_plugin::crypto::{self, SignatureAlgorithm};
use tidegate_plugin::json::{self, Value};
use tidegate_plugin::{
    Authorizer, Configuration, ConfigurationError, Given, Plugin, Principal, Reading, Setup,
    Verdict, api_keys, jwks,
};

struct Visitor {
    provider: String,
}

impl Plugin for Visitor {
    fn configure(configuration: Configuration) -> Result<Setup<Self>, ConfigurationError> {
        let mut fields = configuration.object()?;
        let provider = fields.required("provider")?.string()?;
        fields.finish()?;
        Ok(Setup::new(Self { provider }).reads([
            Reading::Header("x-api-key".into()),
            Reading::Header("authorization".into()),
            Reading::Context("requestTimeEpoch".into()),
        ]))
    }
}

impl Authorizer for Visitor {
    fn authorize(&self, given: Given) -> Result<Verdict, String> {
        if let Some(value) = given.get(0) {
            return Ok(by_key(value));
        }
        let token = given.get(1).and_then(|field| field.strip_prefix("Bearer "));
        let subject = match token.and_then(Token::parse) {
            Some(token) => self.subject(&token, milliseconds(given.get(2)))?,
            None => None,
        };
        Ok(match subject {
            Some(subject) => Verdict::Allow(Principal::new(subject)),
            None => Verdict::Unauthorized(Some("Bearer".into())),
        })
    }
}

impl Visitor {
    /// Whom the token is about, where it is good.
    fn subject(&self, token: &Token, now: u64) -> Result<Option<String>, String> {
        let id = token.header["kid"].as_str().unwrap_or_default();
        let Some(key) = self.find_key(id)? else {
            return Ok(None);
        };
        let algorithm = SignatureAlgorithm::Es256;
        let signed = crypto::verify(algorithm, &key, token.message, &token.signature);
        let expires = token.claims["exp"].as_u64().unwrap_or_default();
        // An unfit key signs nothing.
        let good = signed.unwrap_or(false) && expires > now / 1000;
        let subject = token.claims["sub"].as_str().filter(|_| good);
        Ok(subject.map(str::to_owned))
    }

    /// The provider's key of this id; one that is new may not be in the set that the node keeps.
    fn find_key(&self, id: &str) -> Result<Option<String>, String> {
        for refresh in [false, true] {
            let set = jwks::fetch(&self.provider, refresh)?;
            let set: Value = json::from_str(&set).map_err(|error| error.to_string())?;
            let mut keys = set["keys"].as_array().into_iter().flatten();
            if let Some(key) = keys.find(|key| key["kid"] == id) {
                return Ok(Some(key.to_string()));
            }
        }
        Ok(None)
    }
}

fn by_key(value: &str) -> Verdict {
    match api_keys::find(value) {
        Some(key) => Verdict::Allow(Principal {
            usage_identifier_key: Some(key.id),
            ..Principal::new(key.name)
        }),
        None => Verdict::Forbidden(Some("unknown API key".into())),
    }
}

fn milliseconds(digits: Option<&str>) -> u64 {
    digits
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(u64::MAX)
}

struct Token<'a> {
    header: Value,
    claims: Value,
    signature: Vec<u8>,
    /// What the signature is over.
    message: &'a [u8],
}

impl<'a> Token<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (message, signature) = text.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        Some(Self {
            header: json::from_slice(&decode(header)?).ok()?,
            claims: json::from_slice(&decode(claims)?).ok()?,
            signature: decode(signature)?,
            message: message.as_bytes(),
        })
    }
}

fn decode(part: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}

tidegate_plugin::export!(Visitor: authorizer);
