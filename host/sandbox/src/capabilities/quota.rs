//! `quota`: what may be taken in a day, week or month.

use crate::account::Capability;
use crate::bindings::gateway::tidegate::gateway::quota::{Host, Taken, Terms};
use crate::instance::StepState;

impl Host for StepState {
    async fn take(
        &mut self,
        key: String,
        amount: u32,
        terms: Terms,
    ) -> wasmtime::Result<Result<Taken, String>> {
        self.calls(Capability::Quota);
        let scope = self.exchange()?.scope();
        match self.binding.services.take_quota(scope, &key, amount, terms) {
            Ok(taken) => Ok(Ok(taken)),
            Err(waiting) => Ok(waiting.await),
        }
    }
}
