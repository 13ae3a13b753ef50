//! Lets in who has a session: asks the service that keeps them, and remembers for a minute what it said.

use tidegate_plugin::http_client::{self, OutgoingRequest};
use tidegate_plugin::json::{self, Value};
use tidegate_plugin::{
    Authorizer, Configuration, ConfigurationError, Given, Plugin, Principal, Reading, Setup,
    Verdict, metrics, secrets, shared_cache,
};

struct Session {
    service: String,
}

impl Plugin for Session {
    fn configure(configuration: Configuration) -> Result<Setup<Self>, ConfigurationError> {
        let mut fields = configuration.object()?;
        let service = fields.required("service")?.string()?;
        fields.finish()?;
        let reads = [Reading::Header("x-session".into()), Reading::Method];
        Ok(Setup::new(Self { service }).reads(reads))
    }
}

impl Authorizer for Session {
    fn authorize(&self, given: Given) -> Result<Verdict, String> {
        let Some(token) = given.get(0) else {
            return Ok(Verdict::Unauthorized(Some("Session".into())));
        };
        if given.get(1) == Some("DELETE") {
            shared_cache::delete(token); // after this request there is no such session
        }
        if let Some(id) = shared_cache::get(token) {
            metrics::count("remembered", 1);
            return Ok(allow(&id));
        }
        metrics::count("asked", 1);
        let Some(id) = self.ask(token)? else {
            return Ok(Verdict::Forbidden(Some("no such session".into())));
        };
        shared_cache::set(token, id.as_bytes(), REMEMBERED_MS);
        Ok(allow(id.as_bytes()))
    }
}

impl Session {
    /// Whose session it is.
    fn ask(&self, token: &str) -> Result<Option<String>, String> {
        let secret = secrets::get("sessions").ok_or("the node has no secret `sessions`")?;
        let answer = http_client::send(&OutgoingRequest {
            method: "POST".into(),
            uri: self.service.clone(),
            headers: vec![("authorization".into(), format!("Bearer {secret}"))],
            body: token.into(),
            timeout_ms: 2000,
        })
        .map_err(|error| error.to_string())?;
        match answer.status {
            200 => {
                let session: Value =
                    json::from_slice(&answer.body).map_err(|error| error.to_string())?;
                Ok(session["id"].as_str().map(str::to_owned))
            }
            404 => Ok(None),
            status => Err(format!("the service answered {status}")),
        }
    }
}

fn allow(id: &[u8]) -> Verdict {
    Verdict::Allow(Principal::new(String::from_utf8_lossy(id)))
}

const REMEMBERED_MS: u32 = 60_000;

tidegate_plugin::export!(Session: authorizer);
