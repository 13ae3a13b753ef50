//! What the parsers promise for any input, one function for each fuzz target.
//!
//! Here is what builds in a minute: `tidegate-model` and the plugins' SDK. What a plugin replies, and what hyper writes by
//! itself, has its mutated samples beside the code (host/sandbox/src/standing.rs, host/server/src/listen/transport.rs).
//!
//! libFuzzer runs them through `targets/` (nightly Rust and cargo-fuzz); the test below runs them on mutated samples with
//! whatever toolchain there is.

use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use tidegate_model::canary::Split;
use tidegate_model::config::DurationText;
use tidegate_model::deployment::{Flavor, Routes, Selection};
use tidegate_model::document::Document;
use tidegate_model::headers::{Peer, remove_hop_by_hop};
use tidegate_model::{api, config, uri};
use tidegate_plugin::{Part, escape};

/// A node's configuration: parsed or refused with problems.
pub fn configuration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Err(problems) = config::parse(Path::new("node.toml"), text) {
        assert!(!problems.to_string().is_empty(), "refused without a reason");
    }
}

/// An API definition: imported or refused with problems.
pub fn definition(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let imported = Document::parse(Path::new("api.yaml"), text)
        .and_then(|document| api::openapi::import("api", &document));
    if let Err(problems) = imported {
        assert!(!problems.to_string().is_empty(), "refused without a reason");
    }
}

/// Header sections: lines `name: value`. What belongs to the connection is gone behind the filter.
pub fn headers(data: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n') {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let name = HeaderName::from_bytes(parts.next().unwrap_or_default());
        let value = HeaderValue::from_bytes(parts.next().unwrap_or_default());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    let host = headers.get(http::header::HOST).cloned();
    remove_hop_by_hop(&mut headers);
    for name in [
        http::header::CONNECTION,
        http::header::TRANSFER_ENCODING,
        http::header::UPGRADE,
    ] {
        assert!(!headers.contains_key(&name), "{name} was left");
    }
    Peer::new(IpAddr::V6(Ipv6Addr::LOCALHOST), true, 443).append_to(&mut headers, host.as_ref());
    assert!(headers.contains_key("x-forwarded-for"));
}

/// Routing: the first lines are patterns, the last one is a path. What a selection names is there.
pub fn routes(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Some((patterns, path)) = text.rsplit_once('\n') else {
        return;
    };
    for flavor in [Flavor::Rest, Flavor::Http] {
        let mut routes = Routes::new(flavor);
        let mut names = Vec::new();
        for pattern in patterns.lines().take(16) {
            if let Ok(parameters) = routes.add(Some(Method::GET), pattern, names.len()) {
                names.push(parameters);
            }
        }
        if let Selection::Matched { entry, params } = routes.select(&Method::GET, path) {
            assert_eq!(
                names[entry].len(),
                params.len(),
                "a parameter without a value"
            );
            for index in 0..params.len() {
                assert!(
                    params.get(index, path).is_some(),
                    "a parameter outside of the path"
                );
            }
        }
    }
}

/// Percent-encoding and query editing: what goes in comes out.
pub fn uri(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    assert_eq!(uri::decode_segment(&uri::encode_segment(text)), text);
    assert_eq!(uri::decode_query(&uri::encode_query(text)), text);
    let mut query = text.to_owned();
    uri::set_query_parameter(&mut query, text, "value");
    assert_eq!(uri::query_parameter(&query, text).as_deref(), Some("value"));
    uri::rename_query_parameter(&mut query, text, "other");
    uri::remove_query_parameter(&mut query, "other");
    assert_eq!(uri::query_parameter(&query, "other"), None);
}

/// The query of an admin request, `canary=…&for=…`: a split and a span of time, or a refusal that says why.
pub fn admin(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let canary = uri::query_parameter(text, "canary").unwrap_or_default();
    match Split::parse(&canary) {
        Ok(split) => {
            if let Split::Percent(share) = &split {
                assert!(*share > 0.0 && *share <= 100.0, "{share}");
            }
            let plain = match &split {
                Split::Percent(_) => true,
                Split::Header { value, .. } => value.to_str().is_ok(),
            };
            if plain {
                let again = Split::parse(&split.to_string());
                assert_eq!(again.as_ref(), Ok(&split), "shown as it is read");
            }
            let mut headers = HeaderMap::new();
            if let Split::Header { name, value } = &split {
                headers.insert(name, value.clone());
            }
            assert!(split.takes(&headers, 0), "somebody is taken: {split}");
        }
        Err(error) => assert!(!error.to_string().is_empty(), "refused without a reason"),
    }
    let span = uri::query_parameter(text, "for").unwrap_or_default();
    if let Err(problem) = DurationText::parse(&span) {
        assert!(!problem.is_empty(), "refused without a reason");
    }
}

/// What a definition writes for templates and log formats: read or refused, and values stay in their place.
pub fn template(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    for refused in [
        tidegate_plugin::parse_template(text).err(),
        tidegate_plugin::parse_expression(text).err(),
    ]
    .into_iter()
    .flatten()
    {
        assert!(!refused.is_empty(), "refused without a reason");
    }
    if !text.contains("${")
        && let Ok(parts) = tidegate_plugin::parse_template(text)
    {
        let literal: String = parts
            .into_iter()
            .map(|part| match part {
                Part::Literal(text) => text,
                other => panic!("a value of nothing: {other:?}"),
            })
            .collect();
        assert_eq!(literal, text, "text without a variable stands as it is");
    }
    let mut json = String::from("\"");
    escape::push_json(text, &mut json);
    json.push('"');
    let read = tidegate_plugin::json::from_str::<String>(&json);
    assert_eq!(read.as_deref().ok(), Some(text), "one JSON string: {json}");
    let mut segment = String::new();
    escape::push_percent(text, "", &mut segment);
    assert_eq!(uri::decode_segment(&segment), text);
    assert!(!segment.contains(['/', '?', '#', ' ']), "{segment}");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Deterministic, so that a failure can be run again: xorshift (Marsaglia, 2003).
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % bound.max(1) as u64) as usize
        }
    }

    fn mutated(sample: &[u8], random: &mut Random) -> Vec<u8> {
        let mut data = sample.to_vec();
        for _ in 0..=random.below(4) {
            let at = random.below(data.len());
            match random.below(5) {
                0 if !data.is_empty() => {
                    data[at] = b"\0\n\r\t {}[]%+&=:/\"'~#\xff\xc3\xa9"[random.below(22)]
                }
                1 => data.insert(at, b"\n {}[]%+&=:/\"'~#$-,.09az"[random.below(24)]),
                2 if !data.is_empty() => drop(data.remove(at)),
                3 => data.truncate(at),
                _ => {
                    let end = at + random.below(data.len() - at);
                    let piece = data[at..end].to_vec();
                    data.splice(at..at, piece);
                }
            }
        }
        data
    }

    fn survives(target: fn(&[u8]), samples: &[&str], rounds: usize) {
        let mut random = Random(0x9E37_79B9_7F4A_7C15);
        for sample in samples {
            target(sample.as_bytes());
            for _ in 0..rounds {
                target(&mutated(sample.as_bytes(), &mut random));
            }
        }
    }

    #[test]
    fn configurations_are_parsed_or_refused() {
        survives(
            configuration,
            &[
                "[node]\nname = 'a'\nthreads = 2\n[[listener]]\naddress = '127.0.0.1:0'\nprotocols = ['h2']\n[limits]\nbody = '1MiB'\n[timeouts]\ndrain = '1s'\n[upstream.a]\ntargets = ['http://[::1]:1']\nhealth = { path = '/h', status = '200-399' }\n[[api]]\nid = 'a'\ndefinition = 'a.yaml'\n[api.stage.b]\nthrottle = { rate = 1, burst = 2 }\n[[key]]\nname = 'k'\nvalue = '01234567890123456789'\nstages = ['a/b']\n",
            ],
            4000,
        );
    }

    #[test]
    fn definitions_are_imported_or_refused() {
        let rest = "openapi: 3.0.3\ninfo: { title: t, version: '1' }\nsecurity: [{ k: [] }]\ncomponents:\n  securitySchemes:\n    k: { type: apiKey, in: header, name: x-api-key }\n  schemas:\n    A: { $ref: '#/components/schemas/A' }\npaths:\n  /a/{b}:\n    parameters: [{ name: b, in: path, required: true, schema: { type: string } }]\n    post:\n      requestBody: { content: { application/json: { schema: { $ref: '#/components/schemas/A' } } } }\n      responses: { '200': { description: ok } }\n      x-amazon-apigateway-integration: { type: http_proxy, httpMethod: GET, uri: 'http://u/{b}' }\n      x-tidegate-bindings: [{ step: throttle, plugin: token-bucket, configuration: { rate: 1 } }]\n";
        let swagger = "{\"swagger\":\"2.0\",\"info\":{\"title\":\"t\",\"version\":\"1\"},\"paths\":{\"/{p+}\":{\"x-amazon-apigateway-any-method\":{\"x-amazon-apigateway-integration\":{\"type\":\"mock\",\"requestTemplates\":{\"application/json\":\"{}\"},\"payloadFormatVersion\":\"1.0\"}}}}}";
        let deep = "[".repeat(100_000);
        let nested = format!("a: {}", "{a: ".repeat(20_000));
        let anchors = "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: [*c, *c, *d]\n";
        survives(definition, &[rest, swagger, anchors], 2000);
        survives(definition, &[&deep, &nested], 0);
    }

    #[test]
    fn header_sections_lose_what_belongs_to_the_connection() {
        survives(
            headers,
            &[
                "host: a\nconnection: close, x-a, \"q\",, te\nx-a: 1\nte: trailers\nupgrade: h2c\nforwarded: for=a;by=\"[::1]\"\nx-forwarded-for: a, b\n",
            ],
            20_000,
        );
    }

    #[test]
    fn routes_select_what_they_have() {
        let many = format!(
            "{}\n{}",
            "/{a}/{b}/{c+}\n/{a}/b/{c}\n/a/{b}/{c}",
            "/a/b".repeat(500)
        );
        survives(
            routes,
            &[
                "/\n/a\n/a/{b}\n/a/{b}/c\n/{p+}\n/a/%2f//é/",
                "/a/{b+}\n/{a}/{b}\n/a//b/",
                &many,
            ],
            10_000,
        );
    }

    #[test]
    fn queries_and_segments_come_out_as_they_went_in() {
        survives(
            uri,
            &["a=1&b=%20&c=+&&=d&é=%C3%A9", "/a/%2F/é/%zz/%"],
            20_000,
        );
    }

    #[test]
    fn what_the_admin_address_is_asked_is_read_or_refused() {
        survives(
            admin,
            &[
                "canary=10%25&for=60s",
                "canary=x-canary:%20yes&for=1h",
                "canary=0.5%&for=1d",
                "canary=1e400%&for=99999999999999999999h",
                "canary=NaN%25&canary=:&for=-1s",
            ],
            20_000,
        );
    }

    #[test]
    fn templates_are_read_or_refused_and_values_stay_in_their_place() {
        survives(
            template,
            &[
                "${request.header.x-a}-${context.requestId}/$${no}/é",
                "$request.querystring.Key",
                "${${}}$",
                "a\"b\\c\n\u{7f}\u{2028}${stageVariables.tenant",
            ],
            20_000,
        );
    }
}
