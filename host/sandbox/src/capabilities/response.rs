//! `response` and `response-body`: the response in hand.

use crate::bindings::gateway::tidegate::gateway::{response, response_body};
use crate::exchange::field;
use crate::instance::StepState;

use super::request::lines;

impl response::Host for StepState {
    fn status(&mut self) -> wasmtime::Result<u16> {
        Ok(self.response()?.0.as_u16())
    }

    fn header(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        Ok(field(self.response()?.1, name.as_str()).map(Into::into))
    }

    fn headers(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(lines(self.response()?.1))
    }
}

impl response_body::Host for StepState {
    fn read(&mut self) -> wasmtime::Result<Vec<u8>> {
        Ok(self
            .exchange()?
            .response_body()
            .map(|body| body.to_vec())
            .unwrap_or_default())
    }
}

impl StepState {
    fn response(&self) -> wasmtime::Result<(http::StatusCode, &http::HeaderMap)> {
        self.exchange()?
            .response()
            .ok_or_else(|| wasmtime::format_err!("there is no response yet"))
    }
}
