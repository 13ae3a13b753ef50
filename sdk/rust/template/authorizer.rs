//! Lets in who sends a token whose digest is the configuration's.

use tidegate_plugin::crypto::{self, DigestAlgorithm};
use tidegate_plugin::{
    Authorizer, Configuration, ConfigurationError, Given, Plugin, Principal, Reading, Setup,
    Verdict,
};

struct Token {
    digest: String,
}

impl Plugin for Token {
    fn configure(configuration: Configuration) -> Result<Setup<Self>, ConfigurationError> {
        let mut fields = configuration.object()?;
        let header = match fields.optional("header") {
            Some(header) => header.field_name()?,
            None => "x-token".into(),
        };
        let digest = fields.required("digest")?.string()?;
        fields.finish()?;
        // The host hands the header over with each call, which costs half of what asking for it does.
        Ok(Setup::new(Self { digest }).reads([Reading::Header(header)]))
    }
}

impl Authorizer for Token {
    fn authorize(&self, given: Given) -> Result<Verdict, String> {
        let Some(token) = given.get(0) else {
            return Ok(Verdict::Unauthorized(Some("Token".into())));
        };
        let digest = hex(&crypto::digest(DigestAlgorithm::Sha256, token.as_bytes()));
        if crypto::equal(digest.as_bytes(), self.digest.as_bytes()) {
            Ok(Verdict::Allow(Principal::new("friend")))
        } else {
            Ok(Verdict::Forbidden(Some("another token".into())))
        }
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

tidegate_plugin::export!(Token: authorizer);
