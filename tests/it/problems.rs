//! What operators are told: where a configuration is wrong, what a running node does not take over, and why a request was
//! refused.

use std::fs;

use serde_json::json;
use tidegate_tests::{Api, Operation, TestNode, fixture, read_until_closed};
use tokio::io::AsyncWriteExt;

fn saying(body: &str) -> Api {
    Api::new().route("GET /a", Operation::mock(body))
}

/// Whether the output names a line of the definition at which, or shortly before which, `word` stands.
fn names_the_line_of(output: &str, definition: &str, word: &str) -> bool {
    let lines: Vec<&str> = definition.lines().collect();
    output
        .split("api.openapi.yaml:")
        .skip(1)
        .filter_map(|rest| rest.split(':').next()?.parse::<usize>().ok())
        .any(|line| {
            let near = lines.iter().skip(line - 1).take(LINES_OF_A_BINDING);
            near.into_iter().any(|text| text.contains(word))
        })
}

/// In the form that [`Api::text`] writes: its braces, and one line for each of its values.
const LINES_OF_A_BINDING: usize = 9;

#[tokio::test]
async fn what_is_wrong_with_a_binding_is_told_with_its_file_and_line() {
    let throttle = json!({ "bucket": "b", "rate": 0, "burst": 1 });
    let refused = Operation::mock("hello").step("throttle", "token-bucket", throttle);
    let ungranted = json!({ "step": "authorizer", "plugin": "missing-grant" });
    for (operation, word, cause) in [
        (refused, "token-bucket", "/rate"),
        (
            Operation::mock("hello").binding(ungranted),
            "missing-grant",
            "grant",
        ),
    ] {
        let api = saying("first").route("GET /b", operation);
        let check = TestNode::with("")
            .api(&api)
            .plugin("missing-grant", &fixture("missing-grant"))
            .check();
        check.assert_refused(&[word, cause]);
        assert!(
            names_the_line_of(&check.output, &api.text(), word),
            "{}\n{}",
            check.output,
            api.text()
        );
    }
}

#[tokio::test]
async fn an_edit_of_what_is_read_at_the_start_is_said_to_wait_for_a_restart() {
    let node = TestNode::with("").api(&saying("hello")).start().await;
    let text = fs::read_to_string(node.path("node.toml")).unwrap();
    for (edit, told) in [
        ("[limits]\nhead = '20KiB'", "[limits]"),
        ("[timeouts]\nheader = '7s'", "[timeouts]"),
        ("[log]\nlevel = 'warn'", "[log]"),
    ] {
        fs::write(node.path("node.toml"), format!("{text}\n{edit}\n")).unwrap();
        node.until_logged(&[told, "restart"]).await;
    }
}

#[tokio::test]
async fn a_payload_limit_is_taken_over_without_a_word() {
    let node = TestNode::with("").api(&saying("one")).start().await;
    let text = fs::read_to_string(node.path("node.toml")).unwrap();
    fs::write(
        node.path("node.toml"),
        format!("{text}\n[limits]\npayload = '1MiB'\n"),
    )
    .unwrap();
    node.until_logged(&["reloaded"]).await;
    assert!(!node.log().iter().any(|line| line.contains("restart")));
}

#[tokio::test]
async fn a_request_that_cannot_be_served_leaves_a_line_with_its_id_and_cause() {
    let node = TestNode::with("[limits]\nhead = '8KiB'\nbody = '1KiB'")
        .api(&saying("hello"))
        .start()
        .await;
    let target = "/_aws/execute-api/api/test/a";
    let cases = [
        ("no HTTP", "GET\r\n\r\n".to_owned(), "not HTTP"),
        (
            "two hosts",
            format!("GET {target} HTTP/1.1\r\nhost: a\r\nhost: b\r\nconnection: close\r\n\r\n"),
            "not one Host",
        ),
        (
            "a header section over the limit",
            format!(
                "GET {target} HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n",
                "x".repeat(9 << 10)
            ),
            "over the limit",
        ),
        (
            "a body over the limit",
            format!(
                "GET {target} HTTP/1.1\r\nhost: a\r\ncontent-length: 2000\r\nconnection: close\r\n\r\n"
            ),
            "larger than 1024 bytes",
        ),
    ];
    for (what, request, cause) in cases {
        let mut stream = node.raw().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = read_until_closed(&mut stream).await.to_lowercase();
        let id = answer
            .lines()
            .find_map(|line| line.strip_prefix("x-amzn-requestid: "))
            .unwrap_or_else(|| panic!("{what}: no request id: {answer}"));
        node.until_logged(&[id, cause]).await;
    }
}

#[tokio::test]
async fn a_flood_of_bad_requests_does_not_become_a_flood_of_lines() {
    let node = TestNode::with("[node]\nthreads = 1")
        .api(&saying("hello"))
        .start()
        .await;
    for _ in 0..400 {
        let mut stream = node.raw().await;
        stream.write_all(b"GET\r\n\r\n").await.unwrap();
        assert!(read_until_closed(&mut stream).await.contains(" 400 "));
    }
    let lines = node.log();
    let told = lines
        .iter()
        .filter(|line| line.contains("not HTTP"))
        .count();
    assert!((1..400).contains(&told), "{told}");
}

#[tokio::test]
async fn a_fault_policy_says_in_whose_name_a_request_ends() {
    let node = TestNode::with("")
        .api(
            &["deny", "fail", "bypass"]
                .into_iter()
                .fold(Api::new(), |api, policy| {
                    let binding =
                        json!({ "step": "authorizer", "plugin": "trap", "fault-policy": policy });
                    api.route(
                        &format!("GET /{policy}"),
                        Operation::mock("hello").binding(binding),
                    )
                }),
        )
        .plugin("trap", &fixture("trap"))
        .start()
        .await;
    for (policy, status, kind) in [
        ("deny", 500, "AuthorizerConfigurationException"),
        ("fail", 500, "InternalServerErrorException"),
        ("bypass", 200, ""),
    ] {
        let reply = node.get(&format!("/test/{policy}")).await;
        reply.assert_status(status);
        let told = reply.headers.get("x-amzn-errortype");
        assert_eq!(
            told.map_or("", |told| told.to_str().unwrap()),
            kind,
            "{policy}"
        );
    }
}
