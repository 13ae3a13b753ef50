//! The cache by API Gateway's rules: a stage's own time, its key parameters, and who may have an entry replaced.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use serde_json::json;
use tidegate_tests::{Api, Operation, TestNode, TestOrigin, fixture, text};

/// An origin that counts, with the fields that `answer` gives a path.
async fn counting(answer: fn(&str) -> &'static [(&'static str, &'static str)]) -> TestOrigin {
    let count = Arc::new(AtomicUsize::new(0));
    TestOrigin::start(move |request: Request<Incoming>| {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        async move {
            let mut response = Response::builder();
            for (name, value) in answer(request.uri().path()) {
                response = match *name {
                    "status" => response.status(value.parse::<u16>().unwrap()),
                    name => response.header(name, *value),
                };
            }
            response.body(text(number.to_string())).unwrap()
        }
    })
    .await
}

/// A node whose stage has this cache, and an integration with these key parameters.
async fn caching(origin: &TestOrigin, stage: &str, integration: serde_json::Value) -> TestNode {
    let mut whole = json!({
        "type": "http_proxy", "httpMethod": "ANY", "uri": "http://origin/{proxy}",
        "requestParameters": { "integration.request.path.proxy": "method.request.path.proxy" },
    });
    for (key, value) in integration.as_object().into_iter().flatten() {
        whole[key] = value.clone();
    }
    let operation = Operation::empty().field("x-amazon-apigateway-integration", whole);
    let api = Api::new()
        .route("ANY /{proxy+}", operation)
        .route("GET /off", Operation::proxy("http://origin/off"));
    TestNode::with("")
        .api_with("api", &api.text(), &format!("[api.stage.test]\n{stage}"))
        .upstream("origin", origin.address())
        .start()
        .await
}

#[tokio::test]
async fn a_stage_keeps_what_gets_succeed_with_for_its_own_time() {
    let origin = counting(|path| match path {
        "/fails" => &[("status", "404"), ("cache-control", "max-age=60")],
        "/private" => &[("cache-control", "private")],
        "/session" => &[("set-cookie", "a=b")],
        "/stale" => &[("cache-control", "max-age=0"), ("expires", "0")],
        _ => &[],
    })
    .await;
    let stage = "cache = 'stage'\n[api.stage.test.route.'GET /off']\ncache = 'off'";
    let node = caching(&origin, stage, json!({})).await;
    let cases = [
        ("GET", "/test/a", true),
        ("GET", "/test/a?q=1", true),
        ("GET", "/test/stale", true),
        ("HEAD", "/test/h", false),
        ("POST", "/test/p", false),
        ("GET", "/test/fails", false),
        ("GET", "/test/private", false),
        ("GET", "/test/session", false),
        ("GET", "/test/off", false),
    ];
    for (method, path, cached) in cases {
        node.ask(node.build(method, path)).await;
        let before = origin.requests();
        node.ask(node.build(method, path)).await;
        assert_eq!(origin.requests() == before, cached, "{method} {path}");
    }
}

#[tokio::test]
async fn a_methods_own_setting_has_other_methods_cached_as_well() {
    let origin = counting(|path| match path {
        "/search/fails" => &[("status", "500")],
        _ => &[],
    })
    .await;
    let api = Api::new()
        .route(
            "POST /search/{of}",
            Operation::proxy("http://origin/search/{of}"),
        )
        .route(
            "GET /search/{of}",
            Operation::proxy("http://origin/search/{of}"),
        )
        .route("POST /orders", Operation::proxy("http://origin/orders"));
    let stage = "[api.stage.test]\ncache = 'stage'\n\
                 [api.stage.test.route.'POST /search/{of}']\ncache = { ttl = '60s' }";
    let node = TestNode::with("")
        .api_with("api", &api.text(), stage)
        .upstream("origin", origin.address())
        .start()
        .await;
    assert_eq!(node.post("/test/search/a", "query").await.text(), "1");
    let again = node.post("/test/search/a", "query").await;
    assert_eq!(again.text(), "1");
    assert!(again.header("cache-status").contains("hit"), "{again:?}");
    // Content is no part of the key, as in the service; the method is.
    assert_eq!(node.post("/test/search/a", "another").await.text(), "1");
    assert_eq!(node.get("/test/search/a").await.text(), "2");
    assert_eq!(node.post("/test/search/b", "query").await.text(), "3");
    assert_eq!(node.post("/test/search/a?q=1", "query").await.text(), "4");
    assert_eq!(node.post("/test/orders", "{}").await.text(), "5");
    assert_eq!(node.post("/test/orders", "{}").await.text(), "6");
    for count in ["7", "8"] {
        let reply = node.post("/test/search/fails", "query").await;
        assert_eq!((reply.status.as_u16(), reply.text().as_str()), (500, count));
    }
}

/// Source: Amazon API Gateway, "Invalidate an API Gateway cache entry": the policy that a caller has needs to allow
/// `execute-api:InvalidateCache` on the method.
#[tokio::test]
async fn a_caller_whose_policy_allows_it_has_an_entry_replaced() {
    let origin = counting(|_| &[]).await;
    let operation = Operation::proxy("http://origin/a").step("authorizer", "giver", json!({}));
    let api = Api::new().route("GET /a", operation);
    let stage = "[api.stage.test]\n\
                 cache = { unauthorized-cache-control-header-strategy = 'FAIL_WITH_403' }";
    let node = TestNode::with("")
        .api_with("api", &api.text(), stage)
        .plugin("giver", &fixture("policy-giver"))
        .upstream("origin", origin.address())
        .start()
        .await;
    let policy = |effect: &str, action: &str, resource: &str| {
        json!({ "Version": "2012-10-17", "Statement": [
            { "Effect": effect, "Action": action, "Resource": resource },
            { "Effect": "Allow", "Action": "execute-api:Invoke", "Resource": "*" },
        ]})
        .to_string()
    };
    let arn = "arn:aws:execute-api:local:000000000000:api/test/GET";
    let invalidate = "execute-api:InvalidateCache";
    let cases = [
        (None, None),
        (
            Some(policy("Allow", invalidate, &format!("{arn}/a"))),
            Some("2"),
        ),
        (Some(policy("Allow", invalidate, &format!("{arn}/b"))), None),
        (
            Some(policy("Allow", "execute-api:*", &format!("{arn}/*"))),
            Some("3"),
        ),
        (Some(policy("Deny", invalidate, "*")), None),
        (Some("no policy".to_owned()), None),
    ];
    assert_eq!(node.get("/test/a").await.text(), "1");
    for (policy, replaced) in cases {
        let request = node
            .build("GET", "/test/a")
            .header("cache-control", "max-age=0");
        let request = policy.iter().fold(request, |request, policy| {
            request.header("x-policy", policy)
        });
        let reply = node.ask(request).await;
        match replaced {
            Some(body) => assert_eq!(reply.text(), body, "{policy:?}"),
            None => reply.assert_error(403, "Forbidden"),
        }
    }
    assert_eq!(node.get("/test/a").await.text(), "3");
}

#[tokio::test]
async fn no_time_is_no_cache() {
    let origin = counting(|_| &[]).await;
    let node = caching(&origin, "cache = { ttl = '0s' }", json!({})).await;
    assert_eq!(node.get("/test/a").await.text(), "1");
    assert_eq!(node.get("/test/a").await.text(), "2");
}

#[tokio::test]
async fn only_key_parameters_make_a_difference() {
    let origin = counting(|_| &[]).await;
    let parameters = json!({ "cacheKeyParameters": [
        "method.request.path.proxy", "method.request.querystring.q", "method.request.header.x-tenant",
    ]});
    let node = caching(&origin, "cache = 'stage'", parameters).await;
    let get = async |path: &str, tenant: Option<&str>| {
        let request = tenant
            .iter()
            .fold(node.build("GET", path), |request, tenant| {
                request.header("x-tenant", *tenant)
            });
        node.ask(request).await.text()
    };
    assert_eq!(get("/test/a?q=1&other=1", None).await, "1");
    let cases = [
        ("/test/a?q=1&other=2", None, true),
        ("/test/a?other=3&q=1", None, true),
        ("/test/a?q=2", None, false),
        ("/test/a", None, false),
        ("/test/b?q=1", None, false),
        ("/test/a?q=1", Some("acme"), false),
        ("/test/a?q=1", Some("acme"), false),
    ];
    for (path, tenant, same) in cases {
        assert_eq!(get(path, tenant).await == "1", same, "{path} {tenant:?}");
    }
    let acme = get("/test/a?q=1", Some("acme")).await;
    assert_eq!(get("/test/a?q=1", Some("acme")).await, acme);
}

#[tokio::test]
async fn a_namespace_lets_resources_share_entries() {
    let origin = counting(|_| &[]).await;
    let shared = json!({
        "cacheNamespace": "shared", "cacheKeyParameters": ["method.request.querystring.q"],
    });
    let node = caching(&origin, "cache = 'stage'", shared).await;
    assert_eq!(node.get("/test/a?q=1").await.text(), "1");
    assert_eq!(node.get("/test/b?q=1").await.text(), "1");
    assert_eq!(node.get("/test/b?q=2").await.text(), "2");
}

#[tokio::test]
async fn who_may_not_have_an_entry_replaced_is_told_as_the_stage_says() {
    const WARNING: &str =
        "199 Cache-control headers were ignored because the caller was unauthorized.";
    let cases = [
        ("FAIL_WITH_403", 403, "", ""),
        ("SUCCEED_WITH_RESPONSE_HEADER", 200, "1", WARNING),
        ("SUCCEED_WITHOUT_RESPONSE_HEADER", 200, "1", ""),
    ];
    for (strategy, status, body, warning) in cases {
        let origin = counting(|_| &[]).await;
        let stage =
            format!("cache = {{ unauthorized-cache-control-header-strategy = '{strategy}' }}");
        let node = caching(&origin, &stage, json!({})).await;
        assert_eq!(node.get("/test/a").await.text(), "1");
        let request = node
            .build("GET", "/test/a")
            .header("cache-control", "max-age=0");
        let reply = node.ask(request).await;
        match status {
            403 => reply.assert_error(403, "Forbidden"),
            _ => assert_eq!(reply.text(), body, "{strategy}"),
        }
        assert_eq!(reply.header("warning"), warning, "{strategy}");
        assert_eq!(origin.requests(), 1, "{strategy}");
        assert_eq!(
            node.get("/test/a").await.header("warning"),
            "",
            "{strategy}"
        );
    }
}

#[tokio::test]
async fn where_no_authorization_is_required_anybody_has_an_entry_replaced() {
    let origin = counting(|_| &[]).await;
    let stage = "cache = { require-authorization-for-cache-control = false }";
    let node = caching(&origin, stage, json!({})).await;
    assert_eq!(node.get("/test/a").await.text(), "1");
    let request = node
        .build("GET", "/test/a")
        .header("cache-control", "max-age=0");
    assert_eq!(node.ask(request).await.text(), "2");
    assert_eq!(node.get("/test/a").await.text(), "2");
    let request = node
        .build("GET", "/test/a")
        .body(Bytes::from("content"))
        .unwrap();
    assert_eq!(
        node.request(request).await.text(),
        "3",
        "content that may matter"
    );
}

#[tokio::test]
async fn a_key_parameter_that_there_is_not_fails_the_deployment() {
    let operation = Operation::empty().field(
        "x-amazon-apigateway-integration",
        json!({
            "type": "http_proxy", "httpMethod": "GET", "uri": "http://127.0.0.1:9/",
            "cacheKeyParameters": ["method.request.body.q"],
        }),
    );
    let api = Api::new().route("GET /a", operation);
    TestNode::with("")
        .api_with("api", &api.text(), "[api.stage.test]\ncache = 'stage'")
        .check()
        .assert_refused(&["GET /a", "cacheKeyParameters", "method.request.body.q"]);
}
