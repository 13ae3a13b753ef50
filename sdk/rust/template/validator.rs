//! Demands a header, and a body of one media type that is not too long.

use tidegate_plugin::{
    Configuration, ConfigurationError, Given, Plugin, Reading, Setup, Validator, Validity,
    request_body,
};

struct Submission {
    header: String,
    media_type: String,
    body_bytes_max: u32,
}

impl Plugin for Submission {
    fn configure(configuration: Configuration) -> Result<Setup<Self>, ConfigurationError> {
        let mut fields = configuration.object()?;
        let header = match fields.optional("header") {
            Some(header) => header.field_name()?,
            None => "idempotency-key".into(),
        };
        let media_type = match fields.optional("media-type") {
            Some(media_type) => media_type.string()?,
            None => "application/json".into(),
        };
        let body_bytes_max = match fields.optional("body-bytes-max") {
            Some(most) => most.integer(0, u32::MAX)?,
            None => 1024,
        };
        fields.finish()?;
        // The host hands them over with each call, which costs half of what asking for them does.
        let reads = [&header, "content-type"].map(|name| Reading::Header(name.into()));
        let plugin = Self {
            header,
            media_type,
            body_bytes_max,
        };
        Ok(Setup::new(plugin).reads(reads))
    }
}

impl Validator for Submission {
    fn validate(&self, given: Given) -> Result<Validity, String> {
        if given.get(0).is_none() {
            let message = format!("the header {} is missing", self.header);
            return Ok(Validity::InvalidParameters(message));
        }
        let content_type = given.get(1).unwrap_or_default();
        let (media_type, _) = content_type.split_once(';').unwrap_or((content_type, ""));
        if !media_type.trim().eq_ignore_ascii_case(&self.media_type) {
            return Ok(Validity::UnsupportedMediaType);
        }
        if request_body::read().len() > self.body_bytes_max as usize {
            let message = format!("the body is over {} bytes", self.body_bytes_max);
            return Ok(Validity::InvalidBody(message));
        }
        Ok(Validity::Valid)
    }
}

tidegate_plugin::export!(Submission: validator);
