//! Gives the body in capital letters, after a prefix.

use tidegate_plugin::{
    Configuration, ConfigurationError, Edit, Given, Outcome, Plugin, RequestTransform, Setup,
    request_body,
};

struct Capitals {
    prefix: String,
}

impl Plugin for Capitals {
    fn configure(configuration: Configuration) -> Result<Setup<Self>, ConfigurationError> {
        let mut fields = configuration.object()?;
        let prefix = match fields.optional("prefix") {
            Some(prefix) => prefix.string()?,
            None => "> ".into(),
        };
        fields.finish()?;
        Ok(Setup::new(Self { prefix }))
    }
}

impl RequestTransform for Capitals {
    fn transform_request(&self, _given: Given) -> Result<Outcome, String> {
        let body = request_body::read();
        if body.is_empty() {
            return Ok(Outcome::Edits(Vec::new()));
        }
        let changed = [self.prefix.as_bytes(), &body.to_ascii_uppercase()].concat();
        Ok(Outcome::Edits(vec![
            Edit::SetBody(changed),
            Edit::SetHeader(("x-changed".into(), "yes".into())),
        ]))
    }
}

tidegate_plugin::export!(Capitals: request_transform);
