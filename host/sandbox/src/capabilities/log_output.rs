//! `log-output`: where log records go.

use crate::bindings::gateway::tidegate::gateway::log_output::Host;
use crate::instance::StepState;

impl Host for StepState {
    fn write(&mut self, lines: Vec<String>) {
        if let Some(destination) = &self.binding.grants.log_output {
            self.binding.services.write_lines(destination, lines);
        }
    }
}
