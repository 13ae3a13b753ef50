//! Tokens of an identity provider that the test plays.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Response;
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};
use tidegate_tests::{Api, Operation, Reply, TestNode, TestOrigin, text};

/// An identity provider with one ES256 key (RFC 7518 section 3.4).
pub struct Provider {
    key: EcdsaKeyPair,
    origin: TestOrigin,
}

impl Provider {
    pub async fn start() -> Self {
        let document =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
                .unwrap();
        let key =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref()).unwrap();
        // An uncompressed point: 4, x, y (SEC 1 section 2.3.3).
        let (x, y) = key.public_key().as_ref()[1..].split_at(32);
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let jwk = json!({ "kty": "EC", "crv": "P-256", "kid": "one", "alg": "ES256", "x": encode(x), "y": encode(y) });
        let origin = TestOrigin::start(move |request| {
            let base = format!("http://{}", request.headers()["host"].to_str().unwrap());
            let document = match request.uri().path() {
                "/.well-known/openid-configuration" => {
                    json!({ "issuer": base, "jwks_uri": format!("{base}/keys") })
                }
                _ => json!({ "keys": [jwk] }),
            };
            async move { Response::new(text(document.to_string())) }
        })
        .await;
        Self { key, origin }
    }

    pub fn issuer(&self) -> String {
        format!("http://{}", self.origin.address())
    }

    /// A token with these claims over the valid ones.
    pub fn token(&self, claims: Value) -> String {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let mut all = json!({ "iss": self.issuer(), "aud": "shop", "sub": "ada", "exp": now + 300, "iat": now, "scope": "read write" });
        for (name, value) in claims.as_object().unwrap() {
            all[name] = value.clone();
        }
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!(
            "{}.{}",
            encode(&json!({ "alg": "ES256", "kid": "one", "typ": "JWT" })),
            encode(&all)
        );
        let signature = self
            .key
            .sign(&SystemRandom::new(), signed.as_bytes())
            .unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

async fn node(provider: &Provider, scopes: &[&str]) -> TestNode {
    let scheme = json!({
        "type": "oauth2",
        "flows": {},
        "x-amazon-apigateway-authorizer": {
            "type": "jwt",
            "identitySource": "$request.header.Authorization",
            "jwtConfiguration": { "issuer": provider.issuer(), "audience": ["shop"] },
        },
    });
    let operation =
        Operation::proxy("http://provider/keys").field("security", json!([{ "jwt": scopes }]));
    let api = Api::new()
        .field("x-tidegate-api-type", json!("http"))
        .security_scheme("jwt", scheme);
    TestNode::with("")
        .api(&api.route("GET /a", operation))
        .upstream("provider", provider.origin.address())
        .start()
        .await
}

async fn ask(node: &TestNode, token: &str) -> Reply {
    node.ask(
        node.build("GET", "/test/a")
            .header("authorization", format!("Bearer {token}")),
    )
    .await
}

#[tokio::test]
async fn a_token_of_the_issuer_for_the_audience_is_let_in() {
    let provider = Provider::start().await;
    let node = node(&provider, &[]).await;
    for claims in [json!({}), json!({ "aud": ["other", "shop"] })] {
        ask(&node, &provider.token(claims)).await.assert_status(200);
    }
}

#[tokio::test]
async fn any_other_token_is_unauthorized() {
    let provider = Provider::start().await;
    let node = node(&provider, &[]).await;
    let mut forged = provider.token(json!({}));
    forged.truncate(forged.len() - 4);
    let elsewhere = Provider::start()
        .await
        .token(json!({ "iss": provider.issuer() }));
    let unsigned = format!(
        "{}.{}.",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#),
        URL_SAFE_NO_PAD.encode("{}")
    );
    for (what, token) in [
        ("expired", provider.token(json!({ "exp": 1_000_000_000 }))),
        (
            "not yet valid",
            provider.token(json!({ "nbf": 4_000_000_000_u64 })),
        ),
        (
            "another audience",
            provider.token(json!({ "aud": "other" })),
        ),
        (
            "another issuer",
            provider.token(json!({ "iss": "http://elsewhere" })),
        ),
        ("a cut signature", forged),
        ("another provider's key", elsewhere),
        ("no signature", unsigned),
        ("no token", "hello".to_owned()),
        ("nothing", String::new()),
    ] {
        let reply = ask(&node, &token).await;
        assert_eq!(reply.status, 401, "{what}: {}", reply.text());
        reply.assert_error(401, "Unauthorized");
        assert!(
            reply.header("www-authenticate").starts_with("Bearer"),
            "{what}: {:?}",
            reply.headers
        );
    }
    node.get("/test/a").await.assert_error(401, "Unauthorized");
}

#[tokio::test]
async fn a_token_without_the_scope_is_forbidden() {
    let provider = Provider::start().await;
    let node = node(&provider, &["write", "admin"]).await;
    ask(&node, &provider.token(json!({ "scope": "read admin" })))
        .await
        .assert_status(200);
    ask(&node, &provider.token(json!({ "scope": "read" })))
        .await
        .assert_error(403, "Forbidden");
}

#[tokio::test]
async fn the_key_set_is_fetched_once_for_many_requests() {
    let provider = Provider::start().await;
    let node = node(&provider, &[]).await;
    ask(&node, &provider.token(json!({})))
        .await
        .assert_status(200);
    let before = provider.origin.requests();
    for _ in 0..10 {
        ask(&node, &provider.token(json!({})))
            .await
            .assert_status(200);
    }
    // The route itself asks the provider once for each request; each worker may discover on its own.
    assert!(
        provider.origin.requests() - before <= 10 + 2,
        "{}",
        provider.origin.requests() - before
    );
}
