//! `api-keys`: the node's API keys.

use crate::account::Capability;
use crate::bindings::gateway::tidegate::gateway::api_keys::{ApiKey, Host};
use crate::instance::StepState;

impl Host for StepState {
    fn find(&mut self, value: String) -> Option<ApiKey> {
        self.calls(Capability::ApiKeys);
        let exchange = self.exchange.as_ref()?;
        self.binding.services.find_api_key(exchange.scope(), &value)
    }
}
