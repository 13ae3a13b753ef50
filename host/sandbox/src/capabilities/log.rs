//! `log`: lines into the node's log.

use crate::account::Capability;
use crate::bindings::gateway::tidegate::gateway::log::{Host, Level};
use crate::instance::StepState;
use crate::printable::printable;

impl Host for StepState {
    fn write(&mut self, level: Level, mut message: String) {
        self.calls(Capability::Log);
        if self.log_lines == LINES_MAX {
            self.binding
                .services
                .count(&self.binding.name, "log-lines-dropped", 1);
            return;
        }
        self.log_lines += 1;
        let cut = message.floor_char_boundary(LINE_BYTES_MAX);
        message.truncate(cut);
        let message = printable(&message);
        self.recent.push(&message);
        let request_id = self
            .exchange
            .as_ref()
            .and_then(|exchange| exchange.context("requestId"));
        self.binding
            .services
            .log(&self.binding.name, request_id.as_deref(), level, &message);
    }
}

/// Lines of one call; the contract's bound.
const LINES_MAX: u32 = 64;
/// Bytes of one line; the contract's bound.
const LINE_BYTES_MAX: usize = 4096;
