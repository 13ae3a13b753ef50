//! A function: a standard `wasi:http` component that greets.

use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

struct Greeter;

wasip2::http::proxy::export!(Greeter);

impl wasip2::exports::http::incoming_handler::Guest for Greeter {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (status, text) = answer(&target);
        let headers = Fields::new();
        _ = headers.set("content-type", &[b"text/plain".to_vec()]);
        let response = OutgoingResponse::new(headers);
        _ = response.set_status_code(status);
        let body = response.body().expect("taken once");
        ResponseOutparam::set(out, Ok(response));
        if let Ok(stream) = body.write() {
            _ = stream.blocking_write_and_flush(text.as_bytes());
        }
        _ = OutgoingBody::finish(body, None);
    }
}

fn answer(target: &str) -> (u16, String) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if path != "/greet" {
        return (404, format!("there is no {path}\n"));
    }
    let name = query.split('&').find_map(|pair| pair.strip_prefix("name="));
    (200, format!("Hello, {}!\n", name.unwrap_or("world")))
}
