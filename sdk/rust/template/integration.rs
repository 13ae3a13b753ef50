//! Sends requests to one of two upstreams, or answers all of them while both are closed.

use tidegate_plugin::{
    Configuration, ConfigurationError, Edit, Forward, Given, Integration, Plan, Plugin, Reading,
    Response, Setup,
};

struct Switch {
    upstream: String,
    preview: Option<String>,
    timeout_ms: Option<u32>,
    closed: Option<String>,
}

impl Plugin for Switch {
    fn configure(configuration: Configuration) -> Result<Setup<Self>, ConfigurationError> {
        let mut fields = configuration.object()?;
        let upstream = fields.required("upstream")?.string()?;
        let preview = match fields.optional("preview") {
            Some(preview) => Some(preview.string()?),
            None => None,
        };
        let timeout_ms = match fields.optional("timeout-ms") {
            Some(timeout) => Some(timeout.integer(1, u32::MAX)?),
            None => None,
        };
        let closed = match fields.optional("closed") {
            Some(closed) => Some(closed.string()?),
            None => None,
        };
        fields.finish()?;
        let plugin = Self {
            upstream,
            preview,
            timeout_ms,
            closed,
        };
        // The host hands them over with each call, which costs half of what asking for them does.
        let preview = Reading::Header("x-preview".into());
        Ok(Setup::new(plugin).reads([Reading::Path, Reading::QueryString, preview]))
    }
}

impl Integration for Switch {
    fn integrate(&self, given: Given) -> Result<Plan, String> {
        if let Some(closed) = &self.closed {
            return Ok(Plan::Respond(Response {
                status: 503,
                headers: vec![("content-type".into(), "text/plain".into())],
                body: closed.clone().into_bytes(),
            }));
        }
        let (upstream, edits) = match (&self.preview, given.get(2)) {
            (Some(preview), Some(_)) => (preview, vec![Edit::RemoveHeader("x-preview".into())]),
            _ => (&self.upstream, Vec::new()),
        };
        let mut uri = format!("http://{upstream}{}", given.get(0).unwrap_or_default());
        if let Some(query) = given.get(1) {
            uri = format!("{uri}?{query}");
        }
        Ok(Plan::Forward(Forward {
            uri,
            method: None, // the request's
            edits,
            timeout_ms: self.timeout_ms,
        }))
    }
}

tidegate_plugin::export!(Switch: integration);
