//! `log-output`: where log records go.

use crate::account::Capability;
use crate::bindings::gateway::tidegate::gateway::log_output::Host;
use crate::instance::StepState;

impl Host for StepState {
    fn write(&mut self, lines: Vec<String>) {
        self.calls(Capability::LogOutput);
        if let Some(destination) = &self.binding.grants.log_output {
            self.binding.services.write_lines(destination, lines);
        }
    }
}
