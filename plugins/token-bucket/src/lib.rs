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
        let mut keys = 0;
        if let Some(list) = fields.optional("key") {
            for expression in list.list()? {
                let reading = expression.expression()?;
                let place = reads
                    .place(reading)
                    .map_err(|reason| expression.error(reason))?;
                if place < keys {
                    return Err(expression.error("is there already"));
                }
                keys += 1;
            }
        }
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
            _ => rate_limit::take(&self.key(&given), self.rate, self.burst),
        };
        Ok(match taken {
            Taken::Admitted(_) => Admission::Admit,
            Taken::Rejected(retry_ms) => Admission::Reject(retry_ms),
        })
    }
}

impl TokenBucket {
    /// The bucket's name and the values, each behind its length, so that no two lists of values make the same key.
    fn key(&self, given: &Given) -> String {
        let mut key = self.bucket.clone();
        for place in 0..self.keys {
            let value = given.get(place);
            key.push(SEPARATOR);
            match value {
                Some(value) => {
                    key.push_str(&value.len().to_string());
                    key.push(SEPARATOR);
                    key.push_str(value);
                }
                None => key.push('-'),
            }
        }
        key
    }
}

/// The unit separator of ASCII.
const SEPARATOR: char = '\u{1f}';

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
    fn different_values_never_share_a_bucket() {
        let setup = configure(
            r#"{"rate": 1, "burst": 1, "key": ["$context.identity.sourceIp", "$request.header.a"]}"#,
        )
        .unwrap();
        let key = |values: [Option<&str>; 2]| {
            let values: Vec<_> = values.iter().map(|value| value.map(String::from)).collect();
            setup.plugin().key(&values.into())
        };
        let keys = [
            key([Some("a"), Some("b")]),
            key([Some("a\u{1f}1\u{1f}b"), None]),
            key([Some("ab"), Some("")]),
            key([Some("ab"), None]),
            key([None, Some("ab")]),
        ];
        for (place, key) in keys.iter().enumerate() {
            assert!(!keys[..place].contains(key), "{key:?}");
        }
    }

    #[test]
    fn the_example_is_valid() {
        configure(include_str!("../example.json")).unwrap();
    }
}
