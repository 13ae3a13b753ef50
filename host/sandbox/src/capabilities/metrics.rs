//! `metrics`: counters of the plugin's own.

use crate::account::Capability;
use crate::bindings::gateway::tidegate::gateway::metrics::Host;
use crate::instance::StepState;

impl Host for StepState {
    fn count(&mut self, event: String, amount: u32) {
        self.calls(Capability::Metrics);
        self.binding
            .services
            .count(&self.binding.name, &event, amount);
    }
}
