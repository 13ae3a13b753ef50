//! Says how long a response may be kept, and not what made it.

use tidegate_plugin::{
    Configuration, ConfigurationError, Edit, Given, Plugin, ResponseTransform, Setup, response,
};

struct Lifetime {
    max_age: u32,
}

impl Plugin for Lifetime {
    fn configure(configuration: Configuration) -> Result<Setup<Self>, ConfigurationError> {
        let mut fields = configuration.object()?;
        let max_age = match fields.optional("max-age") {
            Some(max_age) => max_age.integer(0, u32::MAX)?,
            None => 60,
        };
        fields.finish()?;
        Ok(Setup::new(Self { max_age }))
    }
}

impl ResponseTransform for Lifetime {
    fn transform_response(&self, _given: Given) -> Result<Vec<Edit>, String> {
        let value = match response::status() {
            status if status < 400 => format!("max-age={}", self.max_age),
            _ => "no-store".into(),
        };
        Ok(vec![
            Edit::SetHeader(("cache-control".into(), value)),
            Edit::RemoveHeader("server".into()),
        ])
    }
}

tidegate_plugin::export!(Lifetime: response_transform);
