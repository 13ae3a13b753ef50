//! `secrets`: by name, where the grant names them.

use crate::account::Capability;
use crate::bindings::gateway::tidegate::gateway::secrets::Host;
use crate::instance::StepState;

impl Host for StepState {
    fn get(&mut self, name: String) -> Option<String> {
        self.calls(Capability::Secrets);
        if !self.binding.grants.secrets.contains(&name) {
            return None;
        }
        self.binding.services.secret(&name)
    }
}
