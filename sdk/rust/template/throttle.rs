//! Admits so many requests of each caller: some a second and, where configured, some a day.

use tidegate_plugin::quota::{self, Period, Terms};
use tidegate_plugin::{
    Admission, Configuration, ConfigurationError, Given, Plugin, Reading, Setup, Throttle,
    rate_limit,
};

struct Clients {
    anonymous: bool,
    rate: f64,
    burst: u32,
    limit: Option<u32>,
}

impl Plugin for Clients {
    fn configure(configuration: Configuration) -> Result<Setup<Self>, ConfigurationError> {
        let mut fields = configuration.object()?;
        let header = match fields.optional("header") {
            Some(header) => header.field_name()?,
            None => "x-client".into(),
        };
        let anonymous = match fields.optional("anonymous") {
            Some(anonymous) => anonymous.boolean()?,
            None => false,
        };
        let rate = fields.required("rate")?.number()?;
        let burst = fields.required("burst")?.integer(1, u32::MAX)?;
        let limit = match fields.optional("limit") {
            Some(limit) => Some(limit.integer(1, u32::MAX)?),
            None => None,
        };
        fields.finish()?;
        let plugin = Self {
            anonymous,
            rate,
            burst,
            limit,
        };
        // The host hands the header over with each call, which costs half of what asking for it does.
        Ok(Setup::new(plugin).reads([Reading::Header(header)]))
    }
}

impl Throttle for Clients {
    fn admit(&self, given: Given) -> Result<Admission, String> {
        let name = match given.get(0) {
            Some(name) => name,
            None if self.anonymous => "",
            None => return Ok(Admission::Reject(1000)), // a name is missing, not time
        };
        let key = format!("client {name}");
        if let rate_limit::Taken::Rejected(retry_ms) = rate_limit::take(&key, self.rate, self.burst)
        {
            return Ok(Admission::Reject(retry_ms));
        }
        let Some(limit) = self.limit else {
            return Ok(Admission::Admit);
        };
        let daily = Terms {
            limit,
            offset: 0,
            period: Period::Day,
        };
        Ok(match quota::take(&key, 1, daily)? {
            quota::Taken::Admitted(_) => Admission::Admit,
            quota::Taken::Exceeded(standing) => Admission::Exceeded(standing.renews_in_ms),
        })
    }
}

tidegate_plugin::export!(Clients: throttle);
