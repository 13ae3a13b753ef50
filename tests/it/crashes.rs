//! What the log says of a plugin that crashed: the request, the binding, the cause, where it was, and what it said last.

use serde_json::json;
use tidegate_tests::{Api, Author, Operation, PATIENCE, TestNode, until};
use tokio::time::timeout;

#[tokio::test]
async fn rust_panics_are_told_with_their_message_stack_and_lines() {
    let author = Author::default();
    author.done(&["new", "--lang", "rust", "--step", "authorizer", "guard"]);
    author.edit(
        "guard/src/lib.rs",
        "return Ok(Verdict::Unauthorized(Some(\"Token\".into())));",
        "tidegate_plugin::log::write(tidegate_plugin::log::Level::Info, \"about to fail\");\n\
         panic!(\"no token, no luck\");",
    );
    author.edit(
        "guard/Cargo.toml",
        "strip = \"debuginfo\"",
        "strip = false\ndebug = \"line-tables-only\"",
    );
    author.done(&["build", "guard"]);
    tells(
        &author,
        &[
            "wasm backtrace",
            "authorize",
            "guard/src/lib.rs:",
            "its last lines:",
            "about to fail",
            "no token, no luck",
        ],
    )
    .await;
}

#[tokio::test]
async fn c_traps_are_told_with_the_names_and_lines_of_functions() {
    let author = Author::default();
    author.done(&["new", "--lang", "c", "--step", "authorizer", "guard"]);
    author.edit(
        "guard/plugin.c",
        "*verdict = tg_unauthorized(TG(\"Token\"));",
        "tg_log(TG_INFO, TG(\"about to fail\"));\n        __builtin_trap();",
    );
    author.done(&["build", "guard"]);
    let parts = [
        "unreachable",
        "tg_authorize",
        "guard/plugin.c:19:9",
        "about to fail",
    ];
    tells(&author, &parts).await;
}

#[tokio::test]
async fn cpp_traps_are_told_with_the_names_and_lines_of_functions() {
    let author = Author::default();
    author.done(&["new", "--lang", "cpp", "--step", "authorizer", "guard"]);
    author.edit(
        "guard/plugin.cpp",
        "if (!token) return tidegate::Unauthorized{\"Token\"};",
        "if (!token) {\n            tidegate::log::info(\"about to fail\");\n            __builtin_trap();\n        }",
    );
    let text = std::fs::read_to_string(author.path("guard/plugin.cpp")).unwrap();
    let line = text
        .lines()
        .position(|line| line.contains("__builtin_trap"));
    let place = format!("guard/plugin.cpp:{}:", line.unwrap() + 1);
    author.done(&["build", "guard"]);
    let parts = ["unreachable", "authorize", &*place, "about to fail"];
    tells(&author, &parts).await;
}

#[tokio::test]
async fn go_panics_are_told_with_their_message_and_lines() {
    let author = Author::default();
    author.done(&["new", "--lang", "go", "--step", "authorizer", "guard"]);
    author.edit(
        "guard/plugin.go",
        "return tidegate.Unauthorized(\"Token\"), nil",
        "panic(\"no token, no luck\")",
    );
    let text = std::fs::read_to_string(author.path("guard/plugin.go")).unwrap();
    let line = text.lines().position(|line| line.contains("panic("));
    let place = format!("plugin.go:{}", line.unwrap() + 1);
    author.done(&["build", "guard"]);
    tells(&author, &["panic: no token, no luck", &place]).await;
}

/// Asks a route that the author's plugin guards, and waits for `parts` in the log, below the line with the request's id.
async fn tells(author: &Author, parts: &[&str]) {
    let binding = json!({
        "step": "authorizer",
        "plugin": "guard",
        "configuration": { "digest": "0".repeat(64) },
        "grants": { "crypto": true },
    });
    let node = TestNode::with("")
        .api(&Api::new().route("GET /a", Operation::mock("hello").binding(binding)))
        .plugin("guard", &author.component("guard"))
        .start()
        .await;
    let reply = node.get("/test/a").await;
    reply.assert_error(500, "Internal server error");
    let id = reply.header("x-amzn-requestid");
    let report = ["request failed", id, "authorizer", "guard"];
    node.until_logged(&report).await;
    let below = || {
        let lines = node.log();
        let first = lines
            .iter()
            .position(|line| report.iter().all(|part| line.contains(part)));
        lines[first.unwrap_or_default()..].join("\n")
    };
    // The lines of one report come one after the other.
    let whole = until("the whole report", async || {
        let text = below();
        parts.iter().all(|part| text.contains(part)).then_some(())
    });
    if timeout(PATIENCE / 2, whole).await.is_err() {
        panic!("not all of {parts:?} in:\n{}", below());
    }
}
