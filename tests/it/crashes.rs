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
    let place = place(&author, "src/lib.rs", "panic!(");
    author.done(&["build", "guard"]);
    weighs_at_most(&author, 128);
    tells(
        &author,
        &[
            "wasm backtrace",
            "authorize",
            &place,
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
    weighs_at_most(&author, 44);
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
    let place = place(&author, "plugin.cpp", "__builtin_trap");
    author.done(&["build", "guard"]);
    weighs_at_most(&author, 68);
    let parts = ["unreachable", "authorize", &*place, "about to fail"];
    tells(&author, &parts).await;
}

#[tokio::test]
async fn zig_traps_are_told_with_the_names_and_lines_of_functions() {
    let author = Author::default();
    author.done(&["new", "--lang", "zig", "--step", "authorizer", "guard"]);
    author.edit(
        "guard/plugin.zig",
        "orelse return .{ .unauthorized = \"Token\" };",
        "orelse {\n            tidegate.log.info(\"about to fail\");\n            @trap();\n        };",
    );
    let place = place(&author, "plugin.zig", "@trap()");
    author.done(&["build", "guard"]);
    weighs_at_most(&author, 72);
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
    let place = place(&author, "plugin.go", "panic(");
    let place = place.trim_start_matches("guard/");
    author.done(&["build", "guard"]);
    tells(&author, &["panic: no token, no luck", place]).await;
}

/// Lines are kept, but not all that compilers write beside them: 100 KiB and more in each language.
#[track_caller]
fn weighs_at_most(author: &Author, kib: u64) {
    let bytes = std::fs::metadata(author.component("guard")).unwrap().len();
    assert!(bytes <= kib * 1024, "{} KiB", bytes.div_ceil(1024));
}

/// Where a text is in a file of the plugin's, as a stack says it.
fn place(author: &Author, file: &str, text: &str) -> String {
    let content = std::fs::read_to_string(author.path("guard").join(file)).unwrap();
    let line = content.lines().position(|line| line.contains(text));
    format!("guard/{file}:{}", line.unwrap() + 1)
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
