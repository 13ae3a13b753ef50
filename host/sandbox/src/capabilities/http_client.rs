//! `http-client`: requests to the hosts that the grant names.

use crate::account::Capability;
use crate::bindings::gateway::tidegate::gateway::http_client::{Host, HttpError, OutgoingRequest};
use crate::instance::StepState;
use crate::wit::Response;

use super::host_is_granted;

impl Host for StepState {
    async fn send(&mut self, request: OutgoingRequest) -> Result<Response, HttpError> {
        self.calls(Capability::HttpClient);
        let uri: http::Uri = request
            .uri
            .parse()
            .map_err(|_| HttpError::DestinationNotAllowed)?;
        if !host_is_granted(&self.binding.grants.http_client, &uri) {
            return Err(HttpError::DestinationNotAllowed);
        }
        self.binding.services.send(request).await
    }
}
