//! Resource policies, and the listeners that APIs of each endpoint type answer on.

use std::net::SocketAddr;

use http::Request;
use serde_json::{Value, json};
use tidegate_tests::linked::{edge_with, origin_named};
use tidegate_tests::{Api, Connection, Operation, Reply, TestNode, fixture};

fn statement(effect: &str, resource: &str, condition: Value) -> Value {
    json!({
        "Effect": effect, "Principal": "*", "Action": "execute-api:Invoke", "Resource": resource,
        "Condition": condition,
    })
}

fn policy(statements: &[Value]) -> Value {
    json!({ "Version": "2012-10-17", "Statement": statements })
}

async fn get(address: SocketAddr, api: &str, path: &str) -> Reply {
    let host = format!("{api}.execute-api.local.localhost:{}", address.port());
    let request = Request::builder().uri(path).header("host", host);
    let mut connection = Connection::http1(address).await.expect("the node accepts");
    let request = request.body(Default::default()).unwrap();
    connection.ask(request).await.expect("a response")
}

/// Sees that a reply is the service's refusal by a policy, of this resource.
#[track_caller]
fn assert_denied(reply: &Reply, resource: &str, how: &str) {
    let message = format!(
        "User: anonymous is not authorized to perform: execute-api:Invoke on resource: \
         arn:aws:execute-api:local:********0000:{resource}{how}"
    );
    assert_eq!(reply.status.as_u16(), 403, "{}", reply.text());
    assert_eq!(reply.json(), json!({ "Message": message }));
    assert_eq!(reply.header("x-amzn-errortype"), "AccessDeniedException");
}

const EXPLICIT: &str = " with an explicit deny";

#[tokio::test]
async fn a_resource_policy_lets_in_what_it_allows_and_nothing_that_it_denies() {
    let here = json!({ "IpAddress": { "aws:SourceIp": "127.0.0.0/8" } });
    let elsewhere =
        json!({ "IpAddress": { "aws:SourceIp": ["198.51.100.0/24", "2001:db8::/32"] } });
    let agent = json!({ "StringLike": { "aws:UserAgent": "bot*" } });
    let statements = [
        statement("Allow", "execute-api:/*", here.clone()),
        statement("Deny", "execute-api:/test/GET/denied/*", json!({})),
        statement("Deny", "execute-api:/*", agent),
    ];
    let api = Api::new()
        .field("x-amazon-apigateway-policy", policy(&statements))
        .route("GET /a", Operation::mock("hello"))
        .route("ANY /denied/{proxy+}", Operation::mock("hello"));
    // As text, the way the service's own exports write it.
    let only_elsewhere = policy(&[statement("Allow", "execute-api:/*", elsewhere)]).to_string();
    let closed = Api::new()
        .field("x-amazon-apigateway-policy", json!(only_elsewhere))
        .route("GET /a", Operation::mock("hello"));
    let node = TestNode::with("")
        .api(&api)
        .api_with("closed", &closed.text(), "[api.stage.test]")
        .start()
        .await;
    assert_eq!(node.get("/test/a").await.text(), "hello");
    let post = node.post("/test/denied/x", "{}").await;
    assert_eq!(post.text(), "hello", "GET alone is denied");
    let denied = node.get("/test/denied/x").await;
    assert_denied(&denied, "api/test/GET/denied/x", EXPLICIT);
    let bot = node.build("GET", "/test/a").header("user-agent", "bot/1");
    assert_denied(&node.ask(bot).await, "api/test/GET/a", EXPLICIT);
    let closed = node.ask(node.build_for("closed", "GET", "/test/a")).await;
    assert_denied(&closed, "closed/test/GET/a", "");
}

#[tokio::test]
async fn with_an_authorizer_a_policy_that_is_silent_leaves_it_to_that_one() {
    let statements = [statement("Deny", "execute-api:/test/GET/denied", json!({}))];
    let authorized = || Operation::mock("hello").step("authorizer", "authorizer", json!({}));
    let key = json!({
        "step": "authorizer", "plugin": "api-key", "configuration": {}, "grants": { "api-keys": true },
    });
    let api = Api::new()
        .field("x-amazon-apigateway-policy", policy(&statements))
        .route("GET /a", authorized())
        .route("GET /denied", authorized())
        .route("GET /key", Operation::mock("hello").binding(key))
        .route("GET /open", Operation::mock("hello"));
    let node = TestNode::with("")
        .api(&api)
        .plugin("authorizer", &fixture("authorizer"))
        .key("a-key-that-is-long-enough", &["api/test"])
        .start()
        .await;
    let ask = async |path: &str| {
        let request = node
            .build("GET", path)
            .header("authorization", "let-me-in")
            .header("x-api-key", "a-key-that-is-long-enough");
        node.ask(request).await
    };
    assert_eq!(ask("/test/a").await.text(), "hello");
    assert_denied(&ask("/test/denied").await, "api/test/GET/denied", EXPLICIT);
    // "If found, the caller is denied access immediately": without a word, as well.
    let nobody = node.get("/test/denied").await;
    assert_denied(&nobody, "api/test/GET/denied", EXPLICIT);
    assert_eq!(node.get("/test/a").await.status.as_u16(), 401);
    // A key says who is counted, not who may.
    assert_denied(&ask("/test/key").await, "api/test/GET/key", "");
    assert_denied(&ask("/test/open").await, "api/test/GET/open", "");
}

/// A public listener, and two private ones.
const LISTENERS: &str = "[[listener]]\naddress = '127.0.0.1:0'\n\
    [[listener]]\naddress = '127.0.0.1:0'\nprivate = true\nname = 'internal'\n\
    [[listener]]\naddress = '127.0.0.1:0'\nprivate = true\nname = 'other'\nserves = ['PRIVATE']\n";

/// The policy of an API that is called on the listener `internal` only.
fn internal_only() -> Value {
    let internal = json!({ "StringEquals": { "aws:SourceVpce": "internal" } });
    policy(&[statement("Allow", "execute-api:/*", internal)])
}

/// It is as regional as a REGIONAL one, also where an edge has private listeners.
#[tokio::test]
async fn a_private_api_answers_at_its_origin_and_on_no_edge() {
    let api = Api::new()
        .field("x-amazon-apigateway-policy", internal_only())
        .route("GET /a", Operation::mock("private"));
    let stage = "endpoint = 'PRIVATE'\n[api.stage.test]";
    let origin = origin_named("home", LISTENERS)
        .api_with("private", &api.text(), stage)
        .start()
        .await;
    let edge = edge_with("one", &origin, &[], LISTENERS).await;
    let [_, internal, _] = origin.addresses() else {
        panic!("three listeners")
    };
    let reply = get(*internal, "private", "/test/a").await;
    assert_eq!(reply.text(), "private");
    for address in edge.addresses() {
        let reply = get(*address, "private", "/test/a").await;
        assert_eq!(reply.status, 404, "{address}: {}", reply.text());
    }
}

#[tokio::test]
async fn an_api_answers_where_its_endpoint_type_says() {
    let private = Api::new()
        .field("x-amazon-apigateway-policy", internal_only())
        .route("GET /a", Operation::mock("private"));
    let plain = |body: &str| Api::new().route("GET /a", Operation::mock(body)).text();
    let stage = |endpoint: &str| format!("endpoint = '{endpoint}'\n[api.stage.test]");
    let node = TestNode::with(LISTENERS)
        .api_with("private", &private.text(), &stage("PRIVATE"))
        .api_with("regional", &plain("regional"), &stage("REGIONAL"))
        .api_with("edge", &plain("edge"), &stage("EDGE"))
        .start()
        .await;
    let [public, internal, other] = node.addresses() else {
        panic!("three listeners")
    };
    let cases = [
        (public, "private", None),
        (public, "regional", Some("regional")),
        (public, "edge", Some("edge")),
        (internal, "private", Some("private")),
        (internal, "regional", Some("regional")),
        (internal, "edge", None),
        (other, "regional", None),
    ];
    for (address, api, answer) in cases {
        let reply = get(*address, api, "/test/a").await;
        match answer {
            Some(answer) => assert_eq!(reply.text(), answer, "{address} {api}"),
            None => reply.assert_error(403, "Forbidden"),
        }
        // By path, whatever the host.
        let path = format!("/_aws/execute-api/{api}/test/a");
        let by_path = get(*address, "none", &path).await;
        assert_eq!(by_path.status, reply.status, "{address} {api}");
    }
    // It answers there, but its policy speaks of the other listener.
    let reply = get(*other, "private", "/test/a").await;
    assert_denied(&reply, "private/test/GET/a", "");
}

#[test]
fn what_could_be_invoked_by_nobody_or_by_everybody_is_refused() {
    let api = Api::new().route("GET /a", Operation::mock("hello"));
    let private = "endpoint = 'PRIVATE'\n[api.stage.test]";
    TestNode::with("")
        .api_with("api", &api.text(), private)
        .check()
        .assert_refused(&["a PRIVATE API needs a resource policy"]);
    let http = api.clone().field("x-tidegate-api-type", json!("http"));
    TestNode::with("")
        .api_with("api", &http.text(), private)
        .check()
        .assert_refused(&["an HTTP API cannot be PRIVATE"]);
    let typo = statement(
        "Allow",
        "execute-api:/*",
        json!({ "IpAdress": { "aws:SourceIp": "::/0" } }),
    );
    let typo = api.field("x-amazon-apigateway-policy", policy(&[typo]));
    TestNode::with("")
        .api_with("api", &typo.text(), "[api.stage.test]")
        .check()
        .assert_refused(&["x-amazon-apigateway-policy: statement 1", "IpAdress"]);
}
