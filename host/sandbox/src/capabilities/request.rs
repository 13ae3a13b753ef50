//! `request` and `request-body`: the request in hand, value by value.

use crate::bindings::gateway::tidegate::gateway::{request, request_body, types};
use crate::exchange::{Exchange, field, text};
use crate::instance::StepState;

impl types::Host for StepState {}

impl request::Host for StepState {
    fn method(&mut self) -> wasmtime::Result<String> {
        Ok(self.exchange()?.method().to_owned())
    }

    fn path(&mut self) -> wasmtime::Result<String> {
        Ok(self.exchange()?.path().to_owned())
    }

    fn query_string(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(self.exchange()?.query_string().map(str::to_owned))
    }

    fn header(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        Ok(field(self.exchange()?.headers(), name.as_str()).map(Into::into))
    }

    fn headers(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(lines(self.exchange()?.headers()))
    }

    fn query_parameter(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        Ok(self.exchange()?.query_parameter(&name).map(Into::into))
    }

    fn query_parameters(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.exchange()?.query_parameters())
    }

    fn path_parameter(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        Ok(self.exchange()?.path_parameter(&name).map(Into::into))
    }

    fn path_parameters(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.exchange()?.path_parameters())
    }

    fn stage_variable(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        Ok(self.exchange()?.stage_variable(&name).map(str::to_owned))
    }

    fn context(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        Ok(self.exchange()?.context(&name).map(Into::into))
    }
}

impl request_body::Host for StepState {
    fn read(&mut self) -> wasmtime::Result<Vec<u8>> {
        Ok(self
            .exchange()?
            .body()
            .map(|body| body.to_vec())
            .unwrap_or_default())
    }
}

pub(super) fn lines(headers: &http::HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|(name, value)| {
            (
                name.as_str().to_owned(),
                text(value.as_bytes()).into_owned(),
            )
        })
        .collect()
}

impl StepState {
    /// The request that the current call is about; a trap outside a call.
    pub(super) fn exchange(&self) -> wasmtime::Result<&dyn Exchange> {
        self.exchange
            .as_deref()
            .ok_or_else(|| wasmtime::format_err!("there is no request outside a step call"))
    }
}
