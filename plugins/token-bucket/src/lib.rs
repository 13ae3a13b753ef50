//! Admits requests at a rate, with bursts, by a token bucket of the node.

use tidegate_plugin::rate_limit::{self, Taken};
use tidegate_plugin::{
    Admission, Configuration, ConfigurationError, Given, Plugin, Reads, Setup, Throttle,
};

/// The throttle: which bucket, and how it fills.
#[derive(Debug)]
pub struct TokenBucket {
    bucket: String,
    /// Tokens a second.
    rate: f64,
    /// Tokens at the most.
    burst: u32,
    /// How many values make the key beside the bucket's name.
    keys: usize,
}

impl Plugin for TokenBucket {
    fn configure(configuration: Configuration) -> Result<Setup<Self>, ConfigurationError> {
        let mut fields = configuration.object()?;
        let bucket = match fields.optional("bucket") {
            Some(bucket) => bucket.string()?,
            None => "stage".into(),
        };
        let rate_field = fields.required("rate")?;
        let rate = rate_field.number()?;
        if !(rate > 0.0 && rate.is_finite()) {
            return Err(rate_field.error("must be above 0"));
        }
        let burst = fields.required("burst")?.integer(1, u32::MAX)?;
        let mut reads = Reads::default();
        let keys = match fields.optional("key") {
            Some(list) => list.readings(&mut reads)?,
            None => 0,
        };
        fields.finish()?;
        let plugin = Self {
            bucket,
            rate,
            burst,
            keys,
        };
        Ok(Setup::new(plugin).reads(reads))
    }
}

impl Throttle for TokenBucket {
    fn admit(&self, given: Given) -> Result<Admission, String> {
        let taken = match self.keys {
            0 => rate_limit::take(&self.bucket, self.rate, self.burst),
            _ => rate_limit::take(&given.key(&self.bucket, self.keys), self.rate, self.burst),
        };
        Ok(match taken {
            Taken::Admitted(_) => Admission::Admit,
            Taken::Rejected(retry_ms) => Admission::Reject(retry_ms),
        })
    }
}

tidegate_plugin::export!(TokenBucket: throttle);

#[cfg(test)]
mod tests {
    use super::*;

    fn configure(text: &str) -> Result<Setup<TokenBucket>, String> {
        Configuration::parse(text)
            .and_then(TokenBucket::configure)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_wrong_configuration_is_refused_with_its_place() {
        let cases = [
            (r#"{"burst": 1}"#, "/rate: is missing"),
            (r#"{"rate": 0, "burst": 1}"#, "/rate: must be above 0"),
            (r#"{"rate": -1, "burst": 1}"#, "/rate: must be above 0"),
            (r#"{"rate": 1}"#, "/burst: is missing"),
            (
                r#"{"rate": 1, "burst": 0}"#,
                "/burst: must be a whole number",
            ),
            (
                r#"{"rate": 1, "burst": 1.5}"#,
                "/burst: must be a whole number",
            ),
            (r#"{"rate": 1, "burst": 1, "key": ["x"]}"#, "/key/0: "),
            (
                r#"{"rate": 1, "burst": 1, "key": ["$request.path", "$request.path"]}"#,
                "/key/1: is there already",
            ),
            (
                r#"{"rate": 1, "burst": 1, "brust": 2}"#,
                "/brust: unknown key",
            ),
        ];
        for (text, start) in cases {
            let error = configure(text).unwrap_err();
            assert!(error.starts_with(start), "{text}: {error}");
        }
    }

    #[test]
    fn the_example_is_valid() {
        configure(include_str!("../example.json")).unwrap();
    }
}
