//! `jwks`: key sets of identity providers, from the hosts that the grant names.

use crate::account::Capability;
use crate::bindings::gateway::tidegate::gateway::jwks::Host;
use crate::instance::StepState;

use super::host_is_granted;

impl Host for StepState {
    async fn fetch(&mut self, uri: String, refresh: bool) -> Result<String, String> {
        self.calls(Capability::Jwks);
        let parsed: http::Uri = uri
            .parse()
            .map_err(|error| format!("\"{uri}\" is not a URI: {error}"))?;
        if !host_is_granted(&self.binding.grants.jwks, &parsed) {
            return Err(format!("the host of {uri} is not among the granted ones"));
        }
        self.binding.services.fetch_keys(uri, refresh).await
    }
}
