//! `metrics`: counters of the plugin's own.

use crate::bindings::gateway::tidegate::gateway::metrics::Host;
use crate::instance::StepState;

impl Host for StepState {
    fn count(&mut self, event: String, amount: u32) {
        self.binding
            .services
            .count(&self.binding.name, &event, amount);
    }
}
