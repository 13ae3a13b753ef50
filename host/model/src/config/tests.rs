use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::*;
use crate::deployment::EndpointType;

fn parse_text(text: &str) -> Result<Node, Problems> {
    parse(Path::new("etc/node.toml"), text)
}

#[test]
fn what_is_left_out_has_its_default() {
    let node = parse_text("[[listener]]\naddress = '127.0.0.1:8080'").unwrap();
    assert_eq!(node.name, None);
    assert_eq!(
        (node.region.as_str(), node.suffix.as_str()),
        ("local", "localhost")
    );
    assert_eq!(node.data, Path::new("etc/.tidegate"));
    assert_eq!(node.admin.address.to_string(), "127.0.0.1:9080");
    assert_eq!(
        node.listeners[0].protocols,
        Protocols {
            http1: true,
            http2: true
        }
    );
    assert_eq!(
        (node.limits.head, node.limits.body),
        (ByteSize::kib(16), ByteSize::mib(10))
    );
    assert_eq!(node.timeouts.integration, Duration::from_secs(29));
    assert_eq!(node.timeouts.drain, Duration::from_secs(30));
}

#[test]
fn full_toml_writes_the_defaults_that_it_claims() {
    let text = include_str!("../../../../configs/full.toml");
    let full = parse_text(text).unwrap();
    let least = parse_text("[[listener]]\naddress = '127.0.0.1:8080'").unwrap();
    assert_eq!(full.limits, least.limits);
    assert_eq!(full.timeouts, least.timeouts);
    assert_eq!(full.log, least.log);
    assert_eq!(full.admin, least.admin);
    assert_eq!(full.listeners, least.listeners);
    assert_eq!(
        (full.data, full.region, full.suffix),
        (least.data, least.region, least.suffix)
    );
    let table = "[upstream.orders]\ntargets = ['http://127.0.0.1:9001', 'http://127.0.0.1:9002']\nhealth = { path = '/health' }\n\
                 ejection = {}\n[function.items]\ncomponent = 'items.wasm'";
    let least = parse_text(&format!(
        "[[listener]]\naddress = '127.0.0.1:8080'\n{table}"
    ))
    .unwrap();
    let place = full.upstreams["orders"].place.clone();
    assert_eq!(
        full.upstreams["orders"],
        Upstream {
            place,
            ..least.upstreams["orders"].clone()
        }
    );
    let (full, plain) = (&full.functions["items"], &least.functions["items"]);
    assert_eq!(
        (full.deadline, full.memory, full.instances, full.isolation),
        (
            plain.deadline,
            plain.memory,
            plain.instances,
            plain.isolation
        )
    );
}

#[test]
fn paths_are_relative_to_the_file() {
    let text = "[node]\ndata = '/var/lib/tidegate'\n[[listener]]\naddress = '[::1]:443'\n\
                tls = { certificate = 'a.pem', key = '../b.pem' }";
    let node = parse_text(text).unwrap();
    let tls = node.listeners[0].tls.clone().unwrap();
    assert_eq!(node.data, Path::new("/var/lib/tidegate"));
    assert_eq!(
        (tls.certificate.as_path(), tls.key.as_path()),
        (Path::new("etc/a.pem"), Path::new("etc/../b.pem"))
    );
}

#[test]
fn a_private_listener_has_a_name_of_its_own() {
    let listener = |more: &str| format!("[[listener]]\naddress = '127.0.0.1:0'\n{more}\n");
    let private = |text: &str| parse_text(text).map(|node| node.listeners[0].private.clone());
    let expected = Private {
        name: "internal".to_owned(),
        serves: vec![EndpointType::Private, EndpointType::Regional],
    };
    let named = listener("private = true\nname = 'internal'");
    assert_eq!(private(&named).unwrap(), Some(expected.clone()));
    let only = listener("private = true\nname = 'internal'\nserves = ['PRIVATE']");
    let only_private = Private {
        serves: vec![EndpointType::Private],
        ..expected
    };
    assert_eq!(private(&only).unwrap(), Some(only_private));
    assert_eq!(private(&listener("name = 'front'")).unwrap(), None);
    let cases = [
        (
            listener("private = true"),
            "n.toml:1: listener: private: `name` is missing",
        ),
        (
            listener("serves = ['PRIVATE']"),
            "`serves` says nothing without `private = true`",
        ),
        (
            listener("private = true\nname = 'a b'"),
            "use letters, digits",
        ),
        (
            format!("{named}{named}"),
            "n.toml:5: listener \"internal\" is there twice",
        ),
    ];
    for (text, expected) in cases {
        let problems = parse(Path::new("n.toml"), &text).unwrap_err().to_string();
        assert!(problems.contains(expected), "{text}: {problems}");
    }
}

#[test]
fn every_problem_is_reported_with_its_line_and_a_hint() {
    let text = r#"
[node]
regin = "x"
threads = 0
suffix = ".bad"
[[listener]]
adress = "127.0.0.1:8080"
[[listener]]
address = "8080"
protocols = []
[[listener]]
address = "127.0.0.1:8080"
tls = { certificate = "a" }
protocols = ["h3"]
[limits]
head = "1KB"
body = -1
streams = "many"
[timeouts]
header = "10"
keep-alive = "0s"
[log]
format = "jsn"
[upstream.a]
targets = ["http://a", "ftp://b", "https://c", "http://a"]
retries = 100
health = { interval = "1s", status = "200-" }
[upstream.b]
target = ["http://a"]
[upstream.c]
targets = "http://a"
[function.f]
isolation = "fresh"
memory = "1GiBs"
instances = 0
[[api]]
id = "Items"
definition = "a.yaml"
[api.stage."a b"]
variables = { "a-b" = "x", c = 1 }
throttle = { rate = 0 }
[[api]]
id = "x"
definition = "a.yaml"
stage.dev.throttle.burst = 1
[[key]]
name = "k"
value = "short"
stages = ["x/dex"]
[[key]]
name = "k"
value = "0123456789012345678901"
value-file = "k"
stages = ["x/dev"]
[secret.s]
[upstreams.d]
"#;
    insta::assert_snapshot!(parse_text(text).unwrap_err().to_string());
}

#[test]
fn a_file_that_is_not_toml_says_where() {
    let problems = parse_text("[node]\nname = \"a\nregion = 'b'\n[x").unwrap_err();
    insta::assert_snapshot!(problems.to_string());
}

#[test]
fn a_file_that_is_not_there_says_so() {
    let problems = load(Path::new("no/such.toml")).unwrap_err().to_string();
    assert!(
        problems.starts_with("no/such.toml: cannot be read: "),
        "{problems}"
    );
}

#[test]
fn the_value_of_a_key_is_not_shown() {
    let text = "[[listener]]\naddress = '127.0.0.1:0'\n[[api]]\nid = 'x'\ndefinition = 'a'\nstage.dev = {}\n\
                [[key]]\nname = 'k'\nvalue = 'secret-0123456789-abc'\nstages = ['x/dev']";
    let node = parse_text(text).unwrap();
    let digest = "digest = 'd9f8bd3fd9f97ff0c3fc1ce51eeb8da0a8c3f3ef7c1ffd5e1a6b2e2f0f9d4f11'";
    let by_digest = text.replace("value = 'secret-0123456789-abc'", digest);
    let hex: String = parse_text(&by_digest).unwrap().keys[0]
        .digest
        .iter()
        .map(|octet| format!("{octet:02x}"))
        .collect();
    assert_eq!(format!("digest = '{hex}'"), digest);
    assert_eq!(
        node.keys[0].digest,
        <[u8; 32]>::from(Sha256::digest("secret-0123456789-abc"))
    );
    assert!(!format!("{node:?}").contains("secret-0123456789-abc"));
}

proptest! {
    #[test]
    fn a_damaged_configuration_is_read_or_refused(at in 0usize..9000, piece in "[ -~\n]{0,8}") {
        let whole = include_str!("../../../../configs/full.toml");
        let at = at % whole.len();
        let end = (at + piece.len()).min(whole.len());
        if let (Some(before), Some(after)) = (whole.get(..at), whole.get(end..)) {
            let _ = parse_text(&format!("{before}{piece}{after}"));
        }
    }
}
