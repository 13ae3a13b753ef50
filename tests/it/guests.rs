//! The contract in other languages: an authorizer and a body transformation in Rust, C and JavaScript.
//!
//! `cargo verify` leaves out the tests of a language whose toolchain is missing, by the beginning of their names.

use std::path::Path;

use serde_json::json;
use tidegate_tests::{Api, Operation, TestNode, TestOrigin};

#[tokio::test]
async fn rust_guests_authorize_and_transform() {
    authorizes(&tidegate_fixtures::build_rust("authorizer")).await;
    transforms(&tidegate_fixtures::build_rust("body-transform")).await;
}

#[tokio::test]
async fn c_guests_authorize_and_transform() {
    authorizes(&tidegate_fixtures::build_c("authorizer")).await;
    transforms(&tidegate_fixtures::build_c("body-transform")).await;
}

#[tokio::test]
async fn javascript_guests_authorize_and_transform() {
    authorizes(&tidegate_fixtures::build_javascript("authorizer")).await;
    transforms(&tidegate_fixtures::build_javascript("body-transform")).await;
}

/// The authorizer lets in who sends `authorization: let-me-in`.
async fn authorizes(component: &Path) {
    let binding = json!({ "step": "authorizer", "plugin": "guest" });
    let api = Api::new().route("GET /a", Operation::mock("hello").binding(binding));
    let node = TestNode::with("")
        .api(&api)
        .plugin("guest", component)
        .start()
        .await;
    for _ in 0..3 {
        let reply = node
            .ask(
                node.build("GET", "/test/a")
                    .header("authorization", "let-me-in"),
            )
            .await;
        assert_eq!(
            (reply.status.as_u16(), reply.text().as_str()),
            (200, "hello")
        );
        node.ask(
            node.build("GET", "/test/a")
                .header("authorization", "wrong"),
        )
        .await
        .assert_error(403, "Forbidden");
        node.get("/test/a").await.assert_error(401, "Unauthorized");
    }
}

/// The transformation gives the request's body in capital letters.
async fn transforms(component: &Path) {
    let origin = TestOrigin::echo().await;
    let binding = json!({ "step": "request-transform", "plugin": "guest" });
    let api = Api::new().route(
        "POST /a",
        Operation::proxy("http://origin/").binding(binding),
    );
    let node = TestNode::with("")
        .api(&api)
        .plugin("guest", component)
        .upstream("origin", origin.address())
        .start()
        .await;
    for body in ["hello", "", "a longer one"] {
        let reply = node.post("/test/a", body).await;
        reply.assert_status(200);
        assert_eq!(reply.json()["body"], body.to_uppercase());
    }
}
