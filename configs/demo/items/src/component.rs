//! The function as a component: from a `wasi:http` request to the table and back.

use serde_json::{Value, json};
use wasip2::http::types::{
    Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::streams::StreamError;
use wasip2::random::random::get_random_u64;

use crate::call::{self, Call, Reply};
use crate::item::{self, Item};
use wasi::keyvalue::atomics::{self, Cas, CasError};
use wasi::keyvalue::store::{self, Bucket};

wit_bindgen::generate!({
    path: "../../../wit/deps/wasi-keyvalue",
    inline: "
        package tidegate:demo-items;
        world items {
            import wasi:keyvalue/store@0.2.0-draft;
            import wasi:keyvalue/atomics@0.2.0-draft;
            import wasi:keyvalue/batch@0.2.0-draft;
        }",
    generate_all,
});

struct Items;

wasip2::http::proxy::export!(Items);

impl wasip2::exports::http::incoming_handler::Guest for Items {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let reply = match answer(&request) {
            Ok(reply) | Err(reply) => reply,
        };
        send(reply, out);
    }
}

fn answer(request: &IncomingRequest) -> Result<Reply, Reply> {
    let call = call::parse(
        &method(request),
        &request.path_with_query().unwrap_or_default(),
    )?;
    let table = open(request)?;
    match call {
        Call::List { limit, after } => list(&table, limit, after.as_deref()),
        Call::Create => {
            let item = item::new(&body(request)?, || format!("{:016x}", get_random_u64()))?;
            let location = format!("items/{}", call::encode(&item.id));
            // Relative to the request's own URI, so it holds whatever stage or domain that goes by.
            Ok(create(&table, item)?.with("location", location))
        }
        Call::Read(id) => match table.get(&id)? {
            Some(bytes) => Ok(Reply::json(200, parse(&bytes)?)),
            None => Err(Reply::error(404, format!("no item {id:?}"))),
        },
        Call::Replace(id) => {
            let item = item::of(&body(request)?, id)?;
            let status = if table.exists(&item.id)? { 200 } else { 201 };
            write(&table, status, item)
        }
        Call::Delete(id) => {
            table.delete(&id)?;
            Ok(Reply {
                status: 204,
                header: None,
                body: None,
            })
        }
    }
}

fn list(table: &Bucket, limit: usize, after: Option<&str>) -> Result<Reply, Reply> {
    let mut keys: Vec<String> = Vec::new();
    let mut page = None;
    loop {
        let listed = table.list_keys(page)?;
        keys.extend(
            listed
                .keys
                .into_iter()
                .filter(|key| after.is_none_or(|after| key.as_str() > after)),
        );
        page = listed.cursor;
        if keys.len() > limit || page.is_none() {
            break;
        }
    }
    let has_more = keys.len() > limit;
    keys.truncate(limit);
    let mut items = Vec::with_capacity(keys.len());
    // One that was deleted since it was listed is left out.
    for (_, bytes) in wasi::keyvalue::batch::get_many(table, &keys)?
        .into_iter()
        .flatten()
    {
        items.push(parse(&bytes)?);
    }
    let mut answer = json!({ "items": items });
    if has_more && let Some(last) = keys.last() {
        answer["cursor"] = json!(last);
    }
    Ok(Reply::json(200, answer))
}

/// Writes an item where there is none of its id, whoever else tries at the same moment.
fn create(table: &Bucket, item: Item) -> Result<Reply, Reply> {
    let taken = || Reply::error(409, format!("there is an item {:?}", item.id));
    let place = Cas::new(table, &item.id)?;
    if place.current()?.is_some() {
        return Err(taken());
    }
    match atomics::swap(place, item.value.to_string().as_bytes()) {
        Ok(()) => Ok(Reply::json(201, item.value)),
        Err(CasError::CasFailed(_)) => Err(taken()),
        Err(CasError::StoreError(error)) => Err(error.into()),
    }
}

fn write(table: &Bucket, status: u16, item: Item) -> Result<Reply, Reply> {
    table.set(&item.id, item.value.to_string().as_bytes())?;
    Ok(Reply::json(status, item.value))
}

fn parse(bytes: &[u8]) -> Result<Value, Reply> {
    serde_json::from_slice(bytes)
        .map_err(|error| Reply::error(500, format!("the table holds what is no item: {error}")))
}

/// The table that the stage names.
fn open(request: &IncomingRequest) -> Result<Bucket, Reply> {
    let named = request.headers().get("tidegate-stage-variable-table");
    let name = named
        .into_iter()
        .next()
        .and_then(|value| String::from_utf8(value).ok());
    Ok(store::open(name.as_deref().unwrap_or("items"))?)
}

impl From<store::Error> for Reply {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::NoSuchStore => Self::error(500, "there is no such table"),
            store::Error::AccessDenied => {
                Self::error(500, "the function was not granted the table")
            }
            store::Error::Other(what) => Self::error(500, what),
        }
    }
}

fn method(request: &IncomingRequest) -> String {
    match request.method() {
        Method::Get => "GET".into(),
        Method::Head => "HEAD".into(),
        Method::Post => "POST".into(),
        Method::Put => "PUT".into(),
        Method::Delete => "DELETE".into(),
        Method::Connect => "CONNECT".into(),
        Method::Options => "OPTIONS".into(),
        Method::Trace => "TRACE".into(),
        Method::Patch => "PATCH".into(),
        Method::Other(name) => name,
    }
}

/// The whole body, within what a table takes.
fn body(request: &IncomingRequest) -> Result<Vec<u8>, Reply> {
    let lost = |()| Reply::error(400, "the body is gone");
    let body = request.consume().map_err(lost)?;
    let stream = body.stream().map_err(lost)?;
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(64 * 1024) {
            Ok(more) => bytes.extend(more),
            Err(StreamError::Closed) => return Ok(bytes),
            Err(StreamError::LastOperationFailed(error)) => {
                return Err(Reply::error(
                    400,
                    format!("the body broke off: {}", error.to_debug_string()),
                ));
            }
        }
        if bytes.len() > ITEM_OCTETS_MAX {
            return Err(Reply::error(
                413,
                format!("an item must be at most {ITEM_OCTETS_MAX} octets"),
            ));
        }
    }
}

fn send(reply: Reply, out: ResponseOutparam) {
    let fields = Fields::new();
    // Names and values are ours and valid, and fresh fields take them.
    if let Some((name, value)) = &reply.header {
        let _ = fields.set(name, &[value.clone().into_bytes()]);
    }
    if reply.body.is_some() {
        let _ = fields.set("content-type", &[b"application/json".to_vec()]);
    }
    let response = OutgoingResponse::new(fields);
    let _ = response.set_status_code(reply.status);
    // A response has its one body until it is asked for.
    let Ok(body) = response.body() else { return };
    ResponseOutparam::set(out, Ok(response));
    if let Some(value) = reply.body
        && let Ok(stream) = body.write()
    {
        for chunk in value.to_string().as_bytes().chunks(CHUNK_OCTETS) {
            // It fails where the caller left: nobody is there to be told.
            if stream.blocking_write_and_flush(chunk).is_err() {
                break;
            }
        }
    }
    let _ = OutgoingBody::finish(body, None);
}

/// The largest value that a table keeps.
const ITEM_OCTETS_MAX: usize = 1 << 20;

/// The most that `blocking-write-and-flush` takes.
const CHUNK_OCTETS: usize = 4096;
