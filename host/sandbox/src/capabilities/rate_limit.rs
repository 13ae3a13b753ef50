//! `rate-limit`: atomic token buckets.

use crate::account::Capability;
use crate::bindings::gateway::tidegate::gateway::rate_limit::{Host, Taken};
use crate::instance::StepState;

impl Host for StepState {
    fn take(&mut self, key: String, rate: f64, burst: u32) -> wasmtime::Result<Taken> {
        self.calls(Capability::RateLimit);
        if !(rate.is_finite() && rate > 0.0) {
            wasmtime::bail!("the rate of a token bucket is {rate}; it must be finite and above 0");
        }
        let scope = self.exchange()?.scope();
        Ok(self.binding.services.take_token(scope, &key, rate, burst))
    }
}
