//! The author's loop in every language, in an empty folder outside the repository: a plugin is written, built, tried by its
//! cases, looked at, and put into a running node.
//!
//! `cargo verify` leaves out the tests of a language whose toolchain is missing, by the beginning of their names.

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use http::{HeaderValue, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tidegate_tests::{
    Api, Author, Operation, RawOrigin, TestNode, TestOrigin, binary, fixture, root, text, until,
};
use tokio::process::Command;

use crate::jwt::Provider;
use crate::quotas::not_at_midnight;

#[tokio::test]
async fn rust_plugins_go_from_an_empty_folder_into_a_running_node() {
    goes_round("rust", TEMPLATES).await;
}

#[tokio::test]
async fn c_plugins_go_from_an_empty_folder_into_a_running_node() {
    goes_round("c", TEMPLATES).await;
}

#[tokio::test]
async fn cpp_plugins_go_from_an_empty_folder_into_a_running_node() {
    goes_round("cpp", TEMPLATES).await;
}

#[tokio::test]
async fn zig_plugins_go_from_an_empty_folder_into_a_running_node() {
    goes_round("zig", TEMPLATES).await;
}

#[tokio::test]
async fn go_plugins_go_from_an_empty_folder_into_a_running_node() {
    goes_round("go", TEMPLATES).await;
}

#[tokio::test]
async fn javascript_plugins_go_from_an_empty_folder_into_a_running_node() {
    goes_round("javascript", TEMPLATES).await;
}

#[tokio::test]
async fn typescript_plugins_go_from_an_empty_folder_into_a_running_node() {
    goes_round("typescript", &TEMPLATES[..3]).await;
}

#[tokio::test]
async fn python_plugins_go_from_an_empty_folder_into_a_running_node() {
    goes_round("python", TEMPLATES).await;
}

#[test]
fn c_integrations_name_a_method_a_function_and_a_time() {
    plans(
        "c",
        &[
            (
                "plan->timeout_ms = timeout_ms;",
                "plan->timeout_ms = timeout_ms; plan->method = TG(\"PUT\");",
            ),
            (
                "plan->response = (tg_response){503, {fields, 1}, closed};",
                "(void)fields; plan->function = closed; plan->timeout_ms = 7;",
            ),
        ],
    );
}

#[test]
fn cpp_integrations_name_a_method_a_function_and_a_time() {
    plans(
        "cpp",
        &[
            (".uri = uri,", ".uri = uri, .method = \"PUT\","),
            (
                "tidegate::Response{503, {{\"content-type\", \"text/plain\"}}, closed_}",
                "tidegate::Invoke{.function = closed_, .timeout_ms = 7}",
            ),
        ],
    );
}

#[test]
fn zig_integrations_name_a_method_a_function_and_a_time() {
    plans(
        "zig",
        &[
            (".edits = if", ".method = \"PUT\", .edits = if"),
            (".respond = .{\n            .status = 503,", ".invoke = .{"),
            (
                ".headers = &.{.{ .name = \"content-type\", .value = \"text/plain\" }},",
                ".timeout_ms = 7,",
            ),
            (".body = closed,", ".function = closed,"),
        ],
    );
}

#[test]
fn go_integrations_name_a_method_a_function_and_a_time() {
    plans(
        "go",
        &[
            (
                "plan := tidegate.Plan{",
                "plan := tidegate.Plan{Method: \"PUT\", ",
            ),
            (
                "tidegate.Plan{Respond: &answer}, nil",
                "tidegate.Plan{Invoke: string(answer.Body), TimeoutMs: 7}, nil",
            ),
        ],
    );
}

#[test]
fn javascript_integrations_name_a_method_a_function_and_a_time() {
    plans(
        "javascript",
        &[
            ("removeHeader, respond", "invoke, removeHeader"),
            ("return forward({", "return forward({ method: \"PUT\","),
            (
                "respond({ status: 503, headers: { \"content-type\": \"text/plain\" }, body: closed })",
                "invoke(closed, { timeoutMs: 7 })",
            ),
        ],
    );
}

#[test]
fn c_transforms_rename_query_parameters() {
    renames(
        "c",
        "tg_set_header(edits, TG(\"x-changed\"), TG(\"yes\"))",
        "tg_rename_query_parameter(edits, TG(\"q\"), TG(\"query\"))",
    );
}

#[test]
fn cpp_transforms_rename_query_parameters() {
    renames(
        "cpp",
        "tidegate::SetHeader{\"x-changed\", \"yes\"}",
        "tidegate::RenameQueryParameter{\"q\", \"query\"}",
    );
}

/// The template's plugin, edited: it renames a parameter in the place of setting a header.
fn renames(language: &str, from: &str, to: &str) {
    let author = Author::default();
    author.done(&[
        "new",
        "--lang",
        language,
        "--step",
        "request-transform",
        "capitals",
    ]);
    author.edit(format!("capitals/plugin.{language}"), from, to);
    author.edit(
        "capitals/cases/first.toml",
        r#"set-header = ["x-changed", "yes"]"#,
        r#"rename-query-parameter = ["q", "query"]"#,
    );
    passes(&author, "capitals", 4);
}

/// All of the plugin's cases pass, and this is how many there are.
fn passes(author: &Author, plugin: &str, cases: u64) {
    let told = json_of(&author.plugin_with_cache(&["test", plugin]));
    let figures = (told["passed"].as_u64(), told["failed"].as_u64());
    assert_eq!(figures, (Some(cases), Some(0)), "{told:#}");
}

/// The template's plugin, edited: it forwards as PUT, and has a function answer while it is closed.
fn plans(language: &str, edits: &[(&str, &str)]) {
    let author = Author::default();
    author.done(&["new", "--lang", language, "--step", "integration", "switch"]);
    let extension = match language {
        "javascript" => "js",
        other => other,
    };
    for (from, to) in edits {
        author.edit(format!("switch/plugin.{extension}"), from, to);
    }
    let cases = "switch/cases/first.toml";
    author.edit(cases, "edits = ", "method = \"PUT\", edits = ");
    author.edit(
        cases,
        r#"respond = { status = 503, headers = { content-type = "text/plain" }, body = "Back at noon.\n" }"#,
        r#"invoke = { function = "Back at noon.\n", timeout-ms = 7, edits = [] }"#,
    );
    passes(&author, "switch", 6);
}

#[test]
fn python_exceptions_are_errors_with_their_traceback_in_the_log() {
    let author = Author::default();
    author.done(&["new", "--lang", "python", "--step", "throttle", "clients"]);
    author.edit(
        "clients/plugin.py",
        "client = request.given[\"client\"]",
        "print(\"seen\")\n        raise ValueError(\"nobody is known\")",
    );
    let told = json_of(&author.plugin_with_cache(&["test", "clients"]));
    let case = &told["cases"][0];
    let came = &case["differences"][0]["actual"];
    assert_eq!(came["error"], "ValueError: nobody is known", "{told:#}");
    assert_eq!(case["log"][0], "seen", "what is printed is logged");
    let log = case["log"][1].as_str().unwrap_or_default();
    assert!(log.contains("plugin.py\", line 23, in admit"), "{log}");
}

#[test]
fn python_answers_of_a_wrong_form_are_told() {
    let answers = [
        ("None", "authorize answered None, which is no answer"),
        ("Allow(7)", "authorize answered Allow(id=7,"),
        (
            "Allow(\"a\", {\"role\": 5})",
            "('role', 5) is no pair of texts",
        ),
        (
            "Forbidden(b\"no\")",
            "authorize answered Forbidden(reason=b'no')",
        ),
    ];
    let author = Author::default();
    author.done(&["new", "--lang", "python", "--step", "authorizer", "guard"]);
    let listed: String = answers
        .map(|(answer, _)| format!("    lambda: {answer},\n"))
        .concat();
    let source = format!(
        "from tidegate import Allow, Forbidden, Request\n\nanswers = [\n{listed}]\n\nclass Guard:\n    \
         def authorize(self, request: Request):\n        return answers[int(request.header(\"x-answer\"))]()\n\n\
         def configure(configuration: object) -> Guard:\n    return Guard()\n"
    );
    fs::write(author.path("guard/plugin.py"), source).unwrap();
    for (place, error) in wrong_answers(&author, answers.len()).iter().enumerate() {
        let (answer, expected) = answers[place];
        assert!(error.contains(expected), "{answer}: {error}");
    }
}

/// The first case that failed.
fn failed_case(told: &Value) -> &Value {
    let cases = told["cases"].as_array().into_iter().flatten();
    let mut failed = cases.filter(|case| case["passed"] == false);
    failed.next().unwrap_or_else(|| panic!("{told:#}"))
}

/// What comes of asking the authorizer `guard` for each of its wrong answers.
fn wrong_answers(author: &Author, count: usize) -> Vec<String> {
    let digest = "a".repeat(64);
    let mut cases = format!("configuration = {{ digest = \"{digest}\" }}\n\n");
    for number in 0..count {
        let request = format!("request = {{ headers = {{ x-answer = \"{number}\" }} }}");
        let expected = "expect = { unauthorized = \"nobody\" }";
        cases += &format!("[[case]]\nname = \"{number}\"\n{request}\n{expected}\n\n");
    }
    for file in fs::read_dir(author.path("guard/cases")).unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    fs::write(author.path("guard/cases/answers.toml"), cases).unwrap();
    let told = json_of(&author.plugin_with_cache(&["test", "guard"]));
    let error = |place: usize| {
        let came = &told["cases"][place]["differences"][0]["actual"];
        came["error"]
            .as_str()
            .unwrap_or_else(|| panic!("{told:#}"))
            .to_owned()
    };
    (0..count).map(error).collect()
}

#[test]
fn zig_mistakes_are_faults() {
    let author = Author::default();
    author.done(&["new", "--lang", "zig", "--step", "authorizer", "guard"]);
    author.edit(
        "guard/plugin.zig",
        "const token = tidegate.request.header(self.header) orelse return .{ .unauthorized = \"Token\" };",
        "const token = tidegate.request.header(self.header).?;",
    );
    let told = json_of(&author.plugin(&["test", "guard"]));
    let came = &failed_case(&told)["differences"][0]["actual"];
    let fault = came["fault"].as_str().unwrap_or_default();
    assert!(fault.contains("plugin.zig:"), "{told:#}");
}

#[test]
fn go_authorizers_that_decide_nothing_let_nobody_in() {
    let author = Author::default();
    author.done(&["new", "--lang", "go", "--step", "authorizer", "guard"]);
    author.edit(
        "guard/plugin.go",
        "return tidegate.Allow(\"friend\"), nil",
        "var verdict tidegate.Verdict\n\treturn verdict, nil",
    );
    let told = json_of(&author.plugin_with_cache(&["test", "guard"]));
    let came = &failed_case(&told)["differences"][0]["actual"];
    let error = came["error"].as_str().unwrap_or_default();
    assert!(error.starts_with("Authorize() decided nothing"), "{told:#}");
}

#[test]
fn javascript_answers_of_a_wrong_form_are_told() {
    let answers = [
        (
            "undefined",
            "authorize answered undefined: it has to return what allow, unauthorized, forbidden make",
        ),
        (
            "{ isAuthorized: true }",
            "authorize answered {\"isAuthorized\":true}: it has to return",
        ),
        (
            "Promise.resolve(1)",
            "authorize answered a promise (a step has to answer at once",
        ),
        (
            "setHeader(\"a\", \"b\")",
            "authorize answered {\"tag\":\"set-header\"",
        ),
        ("allow()", "the principal's id is undefined, and not a text"),
        (
            "allow(\"a\", { context: { n: {} } })",
            "the context's n is {}, and not a text",
        ),
        (
            "Date.now()",
            "a plugin has no clock; request.context(\"requestTimeEpoch\")",
        ),
        ("new Date()", "a plugin has no clock"),
    ];
    let author = Author::default();
    author.done(&[
        "new",
        "--lang",
        "javascript",
        "--step",
        "authorizer",
        "guard",
    ]);
    let listed: String = answers
        .map(|(answer, _)| format!("() => ({answer}),\n"))
        .concat();
    let source = format!(
        "import {{ allow, definePlugin, request, setHeader }} from \"tidegate\";\n
        const answers = [\n{listed}() => allow(7, {{ context: {{ n: 7, is: true, at: new Date(0).getTime() }} }})];\n
        export default definePlugin({{ authorize: () => answers[Number(request.header(\"x-answer\"))]() }});\n"
    );
    fs::write(author.path("guard/plugin.js"), source).unwrap();
    for (place, error) in wrong_answers(&author, answers.len()).iter().enumerate() {
        let (answer, expected) = answers[place];
        assert!(error.contains(expected), "{answer}: {error}");
    }
    let last = answers.len();
    let context = "{ n = \"7\", is = \"true\", at = \"0\" }";
    let case = format!(
        "\n[[case]]\nname = \"texts\"\nrequest = {{ headers = {{ x-answer = \"{last}\" }} }}\n\
         expect = {{ allow = {{ id = \"7\", context = {context} }} }}\n"
    );
    author.edit(
        "guard/cases/answers.toml",
        "\n\n[[case]]\nname = \"0\"",
        &format!("\n{case}\n[[case]]\nname = \"0\""),
    );
    let told = json_of(&author.plugin_with_cache(&["test", "guard"]));
    assert_eq!(told["cases"][0]["passed"], true, "{told:#}");
}

#[test]
fn javascript_exceptions_are_errors_with_their_lines_in_the_log() {
    says_where_it_threw("javascript", "js", 11);
}

#[test]
fn typescript_exceptions_are_errors_with_their_lines_in_the_log() {
    says_where_it_threw("typescript", "ts", 16);
}

#[test]
fn javascript_plugins_are_told_the_capability_that_they_do_not_name() {
    let author = Author::default();
    let new = ["new", "--lang", "javascript", "--step", "authorizer"];
    author.done(&[&new[..], &["guard"]].concat());
    author.edit("guard/plugin.toml", r#"["crypto"]"#, "[]");
    let output = author.plugin(&["build", "guard"]);
    let said = String::from_utf8_lossy(&output.stderr);
    let advice = "plugin.toml: add \"crypto\" to `capabilities`";
    assert!(!output.status.success() && said.contains(advice), "{said}");
}

/// The exception is thrown in a function at the end of the file, which the step calls on this line.
fn says_where_it_threw(language: &str, extension: &str, line: usize) {
    let author = Author::default();
    author.done(&["new", "--lang", language, "--step", "authorizer", "guard"]);
    let source = format!("guard/plugin.{extension}");
    author.edit(&source, "return unauthorized(\"Token\")", "return lost()");
    let text = fs::read_to_string(author.path(&source)).unwrap();
    let last = text.lines().count() + 4;
    let lost = "\n// Comments and\nconst lost = () => {\n  throw new RangeError(\"no token, no luck\");\n};\n";
    fs::write(author.path(&source), text + lost).unwrap();
    let told = json_of(&author.plugin_with_cache(&["test", "guard"]));
    let case = failed_case(&told);
    let came = &case["differences"][0]["actual"];
    assert_eq!(came["error"], "RangeError: no token, no luck", "{told:#}");
    let log = case["log"][0].as_str().unwrap_or_default();
    let (first, rest) = log.split_once('\n').unwrap_or_default();
    assert_eq!(first, "RangeError: no token, no luck");
    let places: Vec<&str> = rest.lines().take(2).map(str::trim).collect();
    let expected = [
        format!("at lost (plugin.{extension}:{last})"),
        format!("at authorize (plugin.{extension}:{line})"),
    ];
    assert_eq!(places, expected, "{log}");
}

#[tokio::test]
async fn rust_examples_know_the_nodes_keys_and_a_providers_tokens() {
    lets_visitors_in("rust").await;
}

#[tokio::test]
async fn javascript_examples_know_the_nodes_keys_and_a_providers_tokens() {
    lets_visitors_in("javascript").await;
}

#[tokio::test]
async fn typescript_examples_know_the_nodes_keys_and_a_providers_tokens() {
    lets_visitors_in("typescript").await;
}

#[tokio::test]
async fn python_examples_know_the_nodes_keys_and_a_providers_tokens() {
    lets_visitors_in("python").await;
}

#[tokio::test]
async fn c_examples_know_the_nodes_keys_and_a_providers_tokens() {
    lets_visitors_in("c").await;
}

#[tokio::test]
async fn cpp_examples_know_the_nodes_keys_and_a_providers_tokens() {
    lets_visitors_in("cpp").await;
}

#[tokio::test]
async fn zig_examples_know_the_nodes_keys_and_a_providers_tokens() {
    lets_visitors_in("zig").await;
}

#[tokio::test]
async fn go_examples_know_the_nodes_keys_and_a_providers_tokens() {
    lets_visitors_in("go").await;
}

#[tokio::test]
async fn rust_examples_ask_a_service_remember_and_count() {
    knows_sessions("rust").await;
}

#[tokio::test]
async fn c_examples_ask_a_service_remember_and_count() {
    knows_sessions("c").await;
}

#[tokio::test]
async fn cpp_examples_ask_a_service_remember_and_count() {
    knows_sessions("cpp").await;
}

#[tokio::test]
async fn zig_examples_ask_a_service_remember_and_count() {
    knows_sessions("zig").await;
}

#[tokio::test]
async fn go_examples_ask_a_service_remember_and_count() {
    knows_sessions("go").await;
}

#[tokio::test]
async fn javascript_examples_ask_a_service_remember_and_count() {
    knows_sessions("javascript").await;
}

#[tokio::test]
async fn typescript_examples_ask_a_service_remember_and_count() {
    knows_sessions("typescript").await;
}

#[tokio::test]
async fn python_examples_ask_a_service_remember_and_count() {
    knows_sessions("python").await;
}

#[tokio::test]
async fn rust_functions_answer_on_a_running_node() {
    answers("rust").await;
}

#[tokio::test]
async fn c_functions_answer_on_a_running_node() {
    answers("c").await;
}

#[tokio::test]
async fn cpp_functions_answer_on_a_running_node() {
    answers("cpp").await;
}

#[tokio::test]
async fn zig_functions_answer_on_a_running_node() {
    answers("zig").await;
}

#[tokio::test]
async fn typescript_functions_answer_on_a_running_node() {
    answers("typescript").await;
}

/// As workers do it: with promises and random numbers, which the template has no need of.
#[tokio::test]
async fn javascript_functions_answer_on_a_running_node() {
    let drawn = answers_by(&Author::default(), "javascript", |author| {
        author.edit(
            "greeter/plugin.js",
            "  fetch(request) {",
            "  async fetch(request) {\n    console.log(`asked ${await request.text()}`);",
        );
        author.edit(
            "greeter/plugin.js",
            r#"{ "content-type": "text/plain" }"#,
            r#"{ "content-type": "text/plain", "x-drawn": `${Math.random()} ${crypto.randomUUID()}` }"#,
        );
    })
    .await;
    let [(one, uuid), (other, other_uuid)] =
        [0, 1].map(|reply: usize| drawn[reply].split_once(' ').unwrap());
    assert_ne!((one, uuid), (other, other_uuid));
    assert_ne!(one, other);
    for number in [one, other] {
        assert!(
            (0.0..1.0).contains(&number.parse::<f64>().unwrap()),
            "{number}"
        );
    }
    let groups: Vec<usize> = uuid.split('-').map(str::len).collect();
    assert_eq!(groups, [8, 4, 4, 4, 12], "{uuid}");
    assert_eq!(&uuid[14..15], "4", "{uuid}");
}

#[tokio::test]
async fn go_functions_answer_on_a_running_node() {
    answers("go").await;
}

#[tokio::test]
async fn python_functions_answer_on_a_running_node() {
    let drawn = answers_by(&Author::default(), "python", |author| {
        author.edit(
            "greeter/plugin.py",
            "from urllib",
            "import random\nfrom urllib",
        );
        author.edit(
            "greeter/plugin.py",
            r#"[("content-type", "text/plain")]"#,
            r#"[("content-type", "text/plain"), ("x-drawn", str(random.random()))]"#,
        );
    })
    .await;
    assert_ne!(drawn[0], drawn[1]);
}

#[test]
fn zig_in_the_page_for_any_other_language_makes_a_plugin() {
    Author::default().follow(&root().join("sdk/README.md"));
}

#[test]
fn check_says_why_no_node_would_load_a_component() {
    let author = Author::default();
    let whole = fs::read(fixture("allow")).unwrap();
    fs::write(author.path("half.wasm"), &whole[..whole.len() / 2]).unwrap();
    fs::write(author.path("core.wasm"), b"\0asm\x01\0\0\0").unwrap();
    fs::write(author.path("text.wasm"), b"hello").unwrap();
    for name in ["useless", "old-version"] {
        fs::copy(fixture(name), author.path(&format!("{name}.wasm"))).unwrap();
    }
    for (name, cause) in [
        ("half", "damaged"),
        ("core", "core module"),
        ("text", "not WebAssembly"),
        ("useless", "step"),
        ("old-version", "tidegate:gateway"),
        ("missing", "No such file"),
    ] {
        let output = author.plugin(&["check", &format!("{name}.wasm")]);
        let told = json_of(&output);
        let error = told["error"].as_str().unwrap_or_default();
        assert!(!output.status.success() && told["ok"] == false, "{name}");
        assert!(
            error.contains(cause) && error.contains(name),
            "{name}: {error}"
        );
    }
}

#[test]
fn a_case_that_fails_shows_what_was_expected_and_what_came() {
    let author = Author::default();
    author.done(&[
        "new",
        "--lang",
        "rust",
        "--step",
        "request-transform",
        "capitals",
    ]);
    author.edit("capitals/cases/first.toml", "> HELLO", "> hello");
    let output = author.plugin_with_cache(&["test", "capitals"]);
    assert!(!output.status.success());
    let told = json_of(&output);
    assert_eq!((&told["passed"], &told["failed"]), (&json!(3), &json!(1)));
    assert_eq!(
        told["cases"][0]["differences"],
        json!([{ "pointer": "/edits/0/set-body", "expected": "> hello", "actual": "> HELLO" }])
    );
    author.edit(
        "capitals/src/lib.rs",
        "to_ascii_uppercase",
        "to_ascii_uppercas",
    );
    let output = author.plugin(&["build", "capitals"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("src/lib.rs"),
        "{said}"
    );
}

#[test]
fn new_refuses_what_cannot_be_a_plugin() {
    let author = Author::default();
    fs::create_dir(author.path("there")).unwrap();
    for (arguments, cause) in [
        (
            ["--lang", "c", "--step", "authorizer", "there"],
            "is there already",
        ),
        (
            ["--lang", "c", "--step", "authorizer", "Guard"],
            "cannot be a plugin's name",
        ),
        (
            ["--lang", "c", "--step", "authoriser", "guard"],
            "a similar value exists: 'authorizer'",
        ),
        (
            ["--lang", "cobol", "--step", "authorizer", "guard"],
            "cobol",
        ),
    ] {
        let output = author.plugin(&[&["new"], &arguments[..]].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(cause), "{said}");
        assert!(!author.path("guard").exists());
    }
}

/// Follows the README, writes the other templates, and puts the first three into running nodes.
async fn goes_round(language: &str, templates: &[(&str, &str)]) {
    let author = Author::default();
    for (step, name) in templates {
        // TypeScript has its page with JavaScript.
        let readme = root().join("sdk").join(language).join("README.md");
        match *step == "authorizer" && readme.exists() {
            true => author.follow(&readme),
            false => writes(&author, language, step, name),
        }
        is_what_it_should_be(&author, step, name);
    }
    authorizes(&author, language).await;
    guards_the_demo(&author, language).await;
    transforms(&author, language).await;
    throttles(&author, language).await;
    if author.component("submissions").exists() {
        validates(&author, language).await;
    }
    if author.component("switch").exists() {
        switches(&author, language).await;
    }
    if author.component("lifetime").exists() {
        says_lifetimes(&author, language).await;
    }
}

/// The example of the language passes its own cases, and does on a node what they say: with a key of the node's, and with
/// tokens of a provider that the test plays.
async fn lets_visitors_in(language: &str) {
    let author = Author::default();
    takes_example(
        &author,
        language,
        "visitor",
        &["crypto", "api-keys", "jwks"],
    );
    let told = json_of(&author.plugin_with_cache(&["test", "visitor"]));
    let figures = (told["passed"].as_u64(), told["failed"].as_u64());
    assert_eq!(figures, (Some(11), Some(0)), "{language}: {told:#}");

    let provider = Provider::start().await;
    let host = provider.issuer().replace("http://", "");
    let binding = json!({
        "step": "authorizer",
        "plugin": "visitor",
        "configuration": { "provider": format!("{}/keys", provider.issuer()) },
        "grants": { "crypto": true, "api-keys": true, "jwks": [host] },
    });
    let node = TestNode::with("")
        .api(&Api::new().route("GET /a", Operation::mock("hello").binding(binding)))
        .plugin("visitor", &author.component("visitor"))
        .key("a-key-of-the-shops-own", &["api/test"])
        .start()
        .await;
    let good = format!("Bearer {}", provider.token(json!({})));
    let expired = format!("Bearer {}", provider.token(json!({ "exp": 1 })));
    for (name, value, status) in [
        ("x-api-key", "a-key-of-the-shops-own", 200),
        ("x-api-key", "another", 403),
        ("authorization", &*good, 200),
        ("authorization", &*expired, 401),
        ("authorization", "Bearer a.b.c", 401),
    ] {
        let request = node.build("GET", "/test/a").header(name, value);
        let reply = node.ask(request).await;
        assert_eq!(reply.status, status, "{language}: {name}: {value}");
    }
}

/// The example that asks another server, by a secret of the node's: it passes its own cases, and on a node the server gets what
/// it should, each session is asked for once, and what was counted is in the metrics.
async fn knows_sessions(language: &str) {
    let author = Author::default();
    let capabilities = ["http-client", "secrets", "shared-cache", "metrics"];
    takes_example(&author, language, "session", &capabilities);
    let told = json_of(&author.plugin_with_cache(&["test", "session"]));
    let figures = (told["passed"].as_u64(), told["failed"].as_u64());
    assert_eq!(figures, (Some(7), Some(0)), "{language}: {told:#}");

    let service = TestOrigin::start(async |request| {
        let (head, body) = request.into_parts();
        let body = body.collect().await.expect("a whole body").to_bytes();
        let authorized = head.headers.get("authorization").map(HeaderValue::as_bytes);
        let (status, answer) = match &*body {
            _ if head.method != "POST" || authorized != Some(b"Bearer open sesame") => (400, ""),
            b"s-1" => (200, r#"{"id": "ada"}"#),
            _ => (404, ""),
        };
        let response = Response::builder().status(status).body(text(answer));
        response.expect("a response")
    })
    .await;
    let asking = |host: &str| {
        let binding = json!({
            "step": "authorizer",
            "plugin": "session",
            "configuration": { "service": format!("http://{host}/") },
            "grants": { "http-client": [host], "secrets": ["sessions"], "shared-cache": true, "metrics": true },
        });
        Operation::mock("hello").binding(binding)
    };
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = free.local_addr().unwrap().to_string();
    drop(free); // so nobody answers there
    let api = Api::new().route("GET /a", asking(&service.address().to_string()));
    let node = TestNode::with("")
        .api(&api.route("GET /unreachable", asking(&nobody)))
        .plugin("session", &author.component("session"))
        .toml("[secret.sessions]\nfile = 'secret.txt'")
        .file("secret.txt", b"open sesame")
        .start()
        .await;
    for (session, status, asked) in [
        ("s-1", 200, 1),
        ("s-1", 200, 1),
        ("s-2", 403, 2),
        ("s-2", 403, 3),
    ] {
        let request = node.build("GET", "/test/a").header("x-session", session);
        let reply = node.ask(request).await;
        let got = (reply.status.as_u16(), service.requests());
        assert_eq!(got, (status, asked), "{language}: {session}");
    }
    let metrics = node.metrics().await;
    let counted = |event| metrics.sum("tidegate_plugin_events_total", &[("event", event)]);
    assert_eq!((counted("asked"), counted("remembered")), (3.0, 1.0));

    let unreachable = node.build("GET", "/test/unreachable");
    let reply = node.ask(unreachable.header("x-session", "s-1")).await;
    assert_eq!(reply.status, 500, "{language}");
    let reason = format!("{nobody} refuses connections");
    node.until_logged(&[&reason]).await;
}

/// A plugin of the example's name, made of its files; where the language takes its whole world, with these capabilities.
fn takes_example(author: &Author, language: &str, name: &str, capabilities: &[&str]) {
    author.done(&["new", "--lang", language, "--step", "authorizer", name]);
    let (folder, extension) = match language {
        "rust" => ("rust", "rs"),
        "javascript" => ("javascript", "js"),
        "typescript" => ("javascript", "ts"),
        "python" => ("python", "py"),
        // The files of the others end in their names.
        other => (other, other),
    };
    let source = match language {
        "rust" => "src/lib.rs".to_owned(),
        _ => format!("plugin.{extension}"),
    };
    for (from, to) in [
        (format!("{folder}/example/{name}.{extension}"), &*source),
        (
            format!("example/{name}.schema.json"),
            "configuration.schema.json",
        ),
        (format!("example/{name}.cases.toml"), "cases/first.toml"),
    ] {
        let from = root().join("sdk").join(from);
        fs::copy(from, author.path(name).join(to)).unwrap();
    }
    if ["javascript", "typescript", "python"].contains(&language) {
        let manifest = format!("{name}/plugin.toml");
        author.edit(manifest, r#"["crypto"]"#, &format!("{capabilities:?}"));
    }
    if language == "rust" {
        let manifest = format!("{name}/Cargo.toml");
        author.edit(
            manifest,
            "[dependencies]",
            "[dependencies]\nbase64 = \"0.22\"",
        );
    }
}

/// The function's template passes its own cases, and answers a route of a node.
async fn answers(language: &str) {
    answers_by(&Author::default(), language, |_| {}).await;
}

/// The same, with what the author makes of it first; gives the `x-drawn` of two replies, each of an instance of its own.
async fn answers_by(author: &Author, language: &str, edit: impl Fn(&Author)) -> Vec<String> {
    author.done(&["new", "--lang", language, "--step", "function", "greeter"]);
    edit(author);
    let told = json_of(&author.plugin_with_cache(&["test", "greeter"]));
    let figures = (told["passed"].as_u64(), told["failed"].as_u64());
    assert_eq!(figures, (Some(3), Some(0)), "{language}: {told:#}");
    let node = TestNode::with("")
        .api(&Api::new().route("GET /greet", Operation::function("greeter")))
        .function(
            "greeter",
            &author.component("greeter"),
            "isolation = 'request'",
        )
        .start()
        .await;
    let mut drawn = Vec::new();
    for _ in 0..2 {
        let reply = node.get("/test/greet?name=Ann").await;
        assert_eq!(
            (reply.status.as_u16(), reply.text().as_str()),
            (200, "Hello, Ann!\n"),
            "{language}"
        );
        let header = reply.headers.get("x-drawn");
        drawn.extend(header.map(|value| value.to_str().unwrap().to_owned()));
    }
    drawn
}

/// A template passes its own cases.
fn writes(author: &Author, language: &str, step: &str, name: &str) {
    author.done(&["new", "--lang", language, "--step", step, name]);
    let told = json_of(&author.plugin_with_cache(&["test", name]));
    assert_eq!(told["passed"], cases(step), "{language}: {told:#}");
    assert_eq!(told["failed"], 0, "{language} {step}: {told:#}");
}

/// A node could load it, and it asks for what it needs.
fn is_what_it_should_be(author: &Author, step: &str, name: &str) {
    let component = author.component(name);
    let told = json_of(&author.plugin_with_cache(&["check", component.to_str().unwrap()]));
    let component = &told["component"];
    assert_eq!(told["ok"], true, "{told:#}");
    assert_eq!(component["contract"], "tidegate:gateway@0.1.0");
    assert_eq!(component["steps"], json!([step]));
    let grants = match step {
        "authorizer" => json!(["crypto"]),
        "log-sink" => json!(["log-output"]),
        "throttle" => json!(["rate-limit", "quota"]),
        _ => json!([]),
    };
    assert_eq!(component["grants"], grants, "{told:#}");
    assert_eq!(component["configuration_schema"]["type"], "object");
    assert_eq!(component["cases"], cases(step));
}

/// How many cases a step's template has.
fn cases(step: &str) -> usize {
    let file = root().join(format!("sdk/template/{step}.cases.toml"));
    let text = fs::read_to_string(file).unwrap();
    text.matches("[[case]]").count()
}

/// What a command told, or why it told nothing.
fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

/// The authorizer, swapped into a node whose route a harmless plugin guards; whom it refuses, the sink writes down.
async fn authorizes(author: &Author, language: &str) {
    let binding = json!({
        "step": "authorizer",
        "plugin": "guard",
        "configuration": { "digest": DIGEST },
        "grants": { "crypto": true },
    });
    let mut api = Api::new().route("GET /a", Operation::mock("hello").binding(binding));
    let mut setup = TestNode::with("").plugin("guard", &fixture("allow"));
    let sink = author.component("failures");
    if sink.exists() {
        let grants = json!({ "log-output": "stdout" });
        let binding = json!({ "step": "log-sink", "plugin": "failures", "grants": grants });
        api = api.field("x-tidegate-bindings", json!([binding]));
        setup = setup.plugin("failures", &sink);
    }
    let node = setup.api(&api).start().await;
    node.get("/test/a").await.assert_status(200);
    swap(author, &node, "guard").await;
    until("the new version serves", async || {
        (node.get("/test/a").await.status == 401).then_some(())
    })
    .await;
    for (token, status) in [("let-me-in", 200), ("open sesame", 403)] {
        for _ in 0..3 {
            let request = node.build("GET", "/test/a").header("x-token", token);
            let reply = node.ask(request).await;
            assert_eq!(reply.status, status, "{language}: {token}");
        }
    }
    if sink.exists() {
        assert_eq!(node.until_logged(&["403 GET"]).await, "403 GET /a");
    }
    // What an instance was handed becomes garbage, which its language collects now and then: 16 MB of it.
    let long = "x".repeat(8000);
    for turn in 0..2000 {
        let request = node.build("GET", "/test/a").header("x-token", &long);
        let reply = node.ask(request).await;
        assert_eq!(reply.status, 403, "{language}: request {turn}");
    }
}

/// What an author begins with in a typed language has no mistake that a checker finds, as strict as it can be.
#[test]
fn typescript_templates_and_examples_pass_the_compiler() {
    let author = Author::default();
    let compiler = tidegate_fixtures::typescript();
    let compiles = |plugin: &str| {
        let output = std::process::Command::new(&compiler)
            .args(["--noEmit", "--project", "."])
            .current_dir(author.path(plugin))
            .output()
            .expect("it starts");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let steps = TEMPLATES.iter().map(|(step, _)| *step).chain(["function"]);
    for step in steps {
        author.done(&["new", "--lang", "typescript", "--step", step, step]);
        assert_eq!(compiles(step), "", "{step}");
    }
    let source = author.path("authorizer/plugin.ts");
    for example in ["visitor", "session"] {
        let file = root().join(format!("sdk/javascript/example/{example}.ts"));
        fs::copy(file, &source).unwrap();
        assert_eq!(compiles("authorizer"), "", "{example}");
    }
    fs::write(&source, "import { allow } from \"tidegate\";\nallow(1);\n").unwrap();
    let mistake = compiles("authorizer");
    assert!(
        mistake.contains("plugin.ts(2,7): error TS2345"),
        "{mistake}"
    );
}

/// As the compiler of TypeScript does: mypy.
#[test]
fn python_templates_and_examples_pass_the_type_checker() {
    let folder = tempfile::tempdir().unwrap();
    let check = |files: &[PathBuf]| {
        let output = std::process::Command::new("mypy")
            .args(["--strict", "--follow-imports=silent", "--no-error-summary"])
            .args(["--scripts-are-modules", "--cache-dir"])
            .arg(folder.path().join("cache"))
            .args(files)
            .env("MYPYPATH", root().join("sdk/python/library"))
            .output()
            .expect("it starts");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    let mut checked = 0;
    for place in ["template", "example"] {
        let files = fs::read_dir(root().join("sdk/python").join(place)).unwrap();
        let files = files.flatten().map(|file| file.path());
        for file in files.filter(|file| file.extension().is_some_and(|it| it == "py")) {
            assert_eq!(check(std::slice::from_ref(&file)), "", "{}", file.display());
            checked += 1;
        }
    }
    assert_eq!(checked, 10);
    let mistake = folder.path().join("plugin.py");
    fs::write(&mistake, "from tidegate import Allow\n\nAllow(1)\n").unwrap();
    let said = check(&[mistake]);
    assert!(said.contains("[arg-type]"), "{said}");
}

/// The authorizer, swapped into the sample that `cargo demo` runs.
async fn guards_the_demo(author: &Author, language: &str) {
    let node = crate::demo::node().await;
    let allow = fixture("allow");
    let admin = node.admin_address().to_string();
    let deploy = ["deploy", allow.to_str().unwrap(), "--name", "guard"];
    author.done(&[&deploy[..], &["--admin", &admin]].concat());
    let file = node.path("items.openapi.yaml");
    let definition = fs::read_to_string(&file).unwrap();
    let binding = format!(
        "x-tidegate-bindings:\n  - step: authorizer\n    plugin: guard\n    configuration: {{ digest: {DIGEST:?} }}\n    \
         grants: {{ crypto: true }}\n"
    );
    let bound = definition.replace("\nx-tidegate-bindings:\n", &format!("\n{binding}"));
    assert_ne!(bound, definition);
    fs::write(&file, bound).unwrap();
    let list = async |token: &str| {
        let request = node.build_for("items", "GET", "/dev/items");
        let request = request
            .header("x-api-key", crate::demo::KEY)
            .header("x-token", token);
        node.ask(request).await.status.as_u16()
    };
    node.until_logged(&["reloaded"]).await;
    assert_eq!(list("open sesame").await, 200, "{language}");
    swap(author, &node, "guard").await;
    assert_eq!(list("open sesame").await, 403, "{language}");
    assert_eq!(list("let-me-in").await, 200, "{language}");
}

/// The request transformation, swapped into a node whose bodies went through unchanged before.
async fn transforms(author: &Author, language: &str) {
    let origin = TestOrigin::echo().await;
    let binding = json!({
        "step": "request-transform",
        "plugin": "capitals",
        "configuration": { "prefix": "# " },
    });
    let operation = Operation::proxy("http://origin/").binding(binding);
    let node = TestNode::with("")
        .api(&Api::new().route("POST /a", operation))
        .plugin("capitals", &fixture("upper-body"))
        .upstream("origin", origin.address())
        .start()
        .await;
    swap(author, &node, "capitals").await;
    until("the new version serves", async || {
        let reply = node.post("/test/a", "hello").await;
        (reply.json()["body"] == "# HELLO").then_some(())
    })
    .await;
    for body in ["", "a longer one"] {
        let expected = match body {
            "" => String::new(),
            body => format!("# {}", body.to_uppercase()),
        };
        let reply = node.post("/test/a", body).await;
        assert_eq!(reply.json()["body"], expected, "{language}");
    }
}

/// The throttle: one caller has used up the burst, the other the day.
async fn throttles(author: &Author, language: &str) {
    not_at_midnight().await;
    let limited = |configuration: Value| {
        Operation::mock("hello").binding(json!({
            "step": "throttle",
            "plugin": "clients",
            "configuration": configuration,
            "grants": { "rate-limit": true, "quota": true },
        }))
    };
    let slowly = limited(json!({ "rate": 0.01, "burst": 3 }));
    let daily = limited(json!({ "rate": 1000, "burst": 1000, "limit": 2 }));
    let api = Api::new().route("GET /slowly", slowly);
    let node = TestNode::with("")
        .api(&api.route("GET /daily", daily))
        .plugin("clients", &author.component("clients"))
        .start()
        .await;
    let ask = async |path: &str, client: &str| {
        let request = node.build("GET", path).header("x-client", client);
        node.ask(request).await
    };
    for (path, client, admitted, message, seconds) in [
        ("/test/slowly", "ann", 3, "Too Many Requests", 1..=100),
        ("/test/daily", "bob", 2, "Limit Exceeded", 1..=86_400),
    ] {
        for _ in 0..admitted {
            ask(path, client).await.assert_status(200);
        }
        let refused = ask(path, client).await;
        refused.assert_error(429, message);
        let retry_after: u64 = refused.header("retry-after").parse().expect("seconds");
        assert!(seconds.contains(&retry_after), "{language}: {retry_after}");
        // Not the other route's caller: bindings of one stage share their buckets.
        ask(path, &format!("not {client}")).await.assert_status(200);
    }
    let nobody = node.get("/test/slowly").await;
    nobody.assert_error(429, "Too Many Requests");
}

/// The validator, of what has all that it should, and of what lacks one thing each.
async fn validates(author: &Author, language: &str) {
    let configuration = json!({ "body-bytes-max": 8 });
    let operation = Operation::mock("hello").step("validator", "submissions", configuration);
    let node = TestNode::with("")
        .api(&Api::new().route("POST /a", operation))
        .plugin("submissions", &author.component("submissions"))
        .start()
        .await;
    let header = "idempotency-key";
    for (name, media_type, body, refusal) in [
        (header, "application/json", "12345678", None),
        (header, "application/json;charset=utf-8", "", None),
        (
            "x-key",
            "application/json",
            "1",
            Some((400, "the header idempotency-key is missing")),
        ),
        (
            header,
            "text/plain",
            "1",
            Some((415, "Unsupported Media Type")),
        ),
        (
            header,
            "application/json",
            "123456789",
            Some((400, "the body is over 8 bytes")),
        ),
    ] {
        let request = node.build("POST", "/test/a").header(name, "7");
        let request = request.header("content-type", media_type);
        let reply = node.request(request.body(body.into()).unwrap()).await;
        match refusal {
            Some((status, message)) => reply.assert_error(status, message),
            None => assert_eq!(reply.text(), "hello", "{language}: {body}"),
        }
    }
}

/// The integration: it sends requests to one server or the other, waits no longer than it says, and answers by itself.
async fn switches(author: &Author, language: &str) {
    let (origin, next, stalling) = (
        TestOrigin::echo().await,
        TestOrigin::echo().await,
        RawOrigin::stalling().await,
    );
    let bound = |configuration: Value| {
        let host = next.address().to_string();
        Operation::empty().binding(json!({
            "step": "integration",
            "plugin": "switch",
            "configuration": configuration,
            "grants": { "upstream": [host, stalling.address().to_string()] },
        }))
    };
    let open = json!({ "upstream": "origin", "preview": next.address().to_string() });
    let slow = json!({ "upstream": stalling.address().to_string(), "timeout-ms": 100 });
    let closed = json!({ "upstream": "origin", "closed": "Back at noon." });
    let api = Api::new().route("ANY /{proxy+}", bound(open));
    let api = api.route("GET /slow", bound(slow));
    let node = TestNode::with("")
        .api(&api.route("GET /closed", bound(closed)))
        .plugin("switch", &author.component("switch"))
        .upstream("origin", origin.address())
        .start()
        .await;
    for (field, server) in [("x-other", &origin), ("x-preview", &next)] {
        let request = node.build("POST", "/test/a%20b?c=d").header(field, "yes");
        let reply = node.request(request.body("content".into()).unwrap()).await;
        reply.assert_status(200);
        let seen = reply.json();
        assert_eq!(server.requests(), 1, "{language}: {field}");
        assert_eq!(seen["method"], "POST", "{language}");
        assert_eq!(seen["uri"], "/a%20b?c=d", "{language}");
        assert_eq!(seen["body"], "content", "{language}");
        assert_eq!(seen["headers"]["x-preview"], Value::Null, "{language}");
    }
    let slow = node.get("/test/slow").await;
    slow.assert_error(504, "Endpoint request timed out");
    let closed = node.get("/test/closed").await;
    assert_eq!(
        (
            closed.status.as_u16(),
            closed.header("content-type"),
            closed.text().as_str()
        ),
        (503, "text/plain", "Back at noon."),
        "{language}"
    );
}

/// The response transform: what it says of a response, by its status, and what it keeps to itself.
async fn says_lifetimes(author: &Author, language: &str) {
    let answer = |status: u16| {
        let headers = json!({ "server": "secret/1.0" });
        let answer = json!({ "statusCode": status, "headers": headers });
        Operation::empty().step("integration", "mock", answer).step(
            "response-transform",
            "lifetime",
            json!({ "max-age": 30 }),
        )
    };
    let api = Api::new().route("GET /there", answer(200));
    let node = TestNode::with("")
        .api(&api.route("GET /gone", answer(404)))
        .plugin("lifetime", &author.component("lifetime"))
        .start()
        .await;
    for (path, status, lifetime) in [
        ("/test/there", 200, "max-age=30"),
        ("/test/gone", 404, "no-store"),
    ] {
        let reply = node.get(path).await;
        reply.assert_status(status);
        assert_eq!(reply.header("cache-control"), lifetime, "{language}");
        let server = reply.headers.get("server");
        assert!(server.is_none(), "{language}: {server:?}");
    }
}

/// The plugin on the node has the name that the author gave it.
async fn swap(author: &Author, node: &TestNode, plugin: &str) {
    let output = Command::new(binary())
        .args(["plugin", "swap", plugin])
        .arg(author.component(plugin))
        .args(["--admin", &node.admin_address().to_string()])
        .output()
        .await
        .expect("the command starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
}

/// The steps that every language has a template for, and what their plugins are called here.
const TEMPLATES: &[(&str, &str)] = &[
    ("authorizer", "guard"),
    ("request-transform", "capitals"),
    ("throttle", "clients"),
    ("validator", "submissions"),
    ("integration", "switch"),
    ("response-transform", "lifetime"),
    ("log-sink", "failures"),
];

/// Of "let-me-in".
const DIGEST: &str = "a3ee786b5707c27d42570785081ec17f5c7db9262a01366af362a1aa61a420b9";
