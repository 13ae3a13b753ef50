//! Answers every request with one line: what a function costs before it does anything.

#![cfg(target_family = "wasm")]

use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

struct Hello;

wasip2::http::proxy::export!(Hello);

impl wasip2::exports::http::incoming_handler::Guest for Hello {
    fn handle(_: IncomingRequest, out: ResponseOutparam) {
        let fields = Fields::new();
        // The name and the value are valid, and fresh fields are mutable.
        let _ = fields.set("content-type", &[b"text/plain".to_vec()]);
        let response = OutgoingResponse::new(fields);
        // The first body of a response is always there.
        let Ok(body) = response.body() else { return };
        ResponseOutparam::set(out, Ok(response));
        if let Ok(stream) = body.write() {
            // Fails where the caller left; nobody is there to be told.
            let _ = stream.blocking_write_and_flush(b"Hello, world!\n");
        }
        let _ = OutgoingBody::finish(body, None);
    }
}
