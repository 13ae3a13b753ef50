//! Admits so many requests in a day, week or month, by a quota of the region.

use tidegate_plugin::quota::{self, Period, Taken, Terms};
use tidegate_plugin::{
    Admission, Configuration, ConfigurationError, Given, Plugin, Reads, Setup, Throttle,
};

/// The quota: which, and what it allows.
#[derive(Debug)]
pub struct Quota {
    name: String,
    terms: Terms,
    /// How many values make the key beside the quota's name.
    keys: usize,
}

impl Plugin for Quota {
    fn configure(configuration: Configuration) -> Result<Setup<Self>, ConfigurationError> {
        let mut fields = configuration.object()?;
        let name = match fields.optional("quota") {
            Some(name) => name.string()?,
            None => "stage".into(),
        };
        let limit = fields.required("limit")?.integer(0, u32::MAX)?;
        let period = fields.required("period")?.parse(period)?;
        let offset = match fields.optional("offset") {
            Some(offset) => offset.integer(0, u32::MAX)?,
            None => 0,
        };
        let mut reads = Reads::default();
        let keys = match fields.optional("key") {
            Some(list) => list.readings(&mut reads)?,
            None => 0,
        };
        fields.finish()?;
        let terms = Terms {
            limit,
            offset,
            period,
        };
        Ok(Setup::new(Self { name, terms, keys }).reads(reads))
    }
}

impl Throttle for Quota {
    fn admit(&self, given: Given) -> Result<Admission, String> {
        let taken = match self.keys {
            0 => quota::take(&self.name, 1, self.terms),
            _ => quota::take(&given.key(&self.name, self.keys), 1, self.terms),
        };
        Ok(match taken? {
            Taken::Admitted(_) => Admission::Admit,
            Taken::Exceeded(standing) => Admission::Exceeded(standing.renews_in_ms),
        })
    }
}

fn period(name: &str) -> Result<Period, String> {
    match name {
        "day" => Ok(Period::Day),
        "week" => Ok(Period::Week),
        "month" => Ok(Period::Month),
        _ => Err("must be \"day\", \"week\" or \"month\"".into()),
    }
}

tidegate_plugin::export!(Quota: throttle);

#[cfg(test)]
mod tests {
    use super::*;

    fn configure(text: &str) -> Result<Setup<Quota>, String> {
        Configuration::parse(text)
            .and_then(Quota::configure)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_wrong_configuration_is_refused_with_its_place() {
        let cases = [
            (r#"{"period": "day"}"#, "/limit: is missing"),
            (r#"{"limit": 1}"#, "/period: is missing"),
            (
                r#"{"limit": 1, "period": "year"}"#,
                "/period: must be \"day\", \"week\" or \"month\"",
            ),
            (
                r#"{"limit": -1, "period": "day"}"#,
                "/limit: must be a whole number",
            ),
            (
                r#"{"limit": 1, "period": "day", "offset": 0.5}"#,
                "/offset: must be a whole number",
            ),
            (r#"{"limit": 1, "period": "day", "key": ["x"]}"#, "/key/0: "),
            (
                r#"{"limit": 1, "period": "day", "key": ["$request.path", "$request.path"]}"#,
                "/key/1: is there already",
            ),
            (
                r#"{"limit": 1, "period": "day", "ofset": 2}"#,
                "/ofset: unknown key",
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
