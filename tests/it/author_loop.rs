//! What an author does with a running node: deploying a new plugin, watching its log, and both on every save.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};
use tidegate_tests::{
    Api, Author, Load, Operation, TestNode, binary, check, fixture, root, until, until_within,
};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// A compiler on a busy machine takes its time.
const BUILD: Duration = Duration::from_secs(120);

fn bound(step: &str, plugin: &str) -> Api {
    let binding = json!({ "step": step, "plugin": plugin });
    Api::new().route("GET /a", Operation::mock("hello").binding(binding))
}

fn command(node: &TestNode, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(["--json", "plugin"]).args(arguments);
    command.args(["--admin", &node.admin_address().to_string()]);
    command
}

async fn plugin(node: &TestNode, arguments: &[&str]) -> Output {
    command(node, arguments).output().await.expect("it starts")
}

fn told(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A command that goes on, and the JSON lines that it has printed so far.
struct Running {
    _child: Child,
    lines: Arc<Mutex<Vec<Value>>>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        let mut output = BufReader::new(child.stdout.take().expect("piped")).lines();
        let lines: Arc<Mutex<Vec<Value>>> = Arc::default();
        let kept = lines.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = output.next_line().await {
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                kept.lock().unwrap().push(line);
            }
        });
        Self {
            _child: child,
            lines,
        }
    }

    async fn until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let lines = || self.lines.lock().unwrap().clone();
        until_within(BUILD, what, async || {
            lines().into_iter().find(|line| wanted(line))
        })
        .await
    }
}

#[tokio::test]
async fn a_plugin_that_no_file_names_is_deployed_bound_and_there_after_kill_9() {
    let node = TestNode::with("")
        .api(&Api::new().route("GET /a", Operation::mock("hello")))
        .start()
        .await;
    let stamp = fixture("stamp-one");
    let unknown = plugin(&node, &["swap", "stamp", path(&stamp)]).await;
    let said = String::from_utf8_lossy(&unknown.stderr);
    assert!(
        said.contains("there is no plugin \"stamp\"") && said.contains("deploy"),
        "{said}"
    );
    for (name, component, cause) in [
        ("Stamp", &stamp, "cannot be a plugin's name"),
        ("stamp", &fixture("useless"), "no step"),
    ] {
        let refused = plugin(&node, &["deploy", path(component), "--name", name]).await;
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && said.contains(cause), "{said}");
    }
    let deployed = told(&plugin(&node, &["deploy", path(&stamp), "--name", "stamp"]).await);
    assert_eq!(
        (&deployed["source"], &deployed["bindings"]),
        (&json!("swap"), &json!([]))
    );

    let api = bound("response-transform", "stamp");
    fs::write(node.path("api.openapi.yaml"), api.text()).unwrap();
    until("the binding serves", async || {
        (node.get("/test/a").await.header("x-stamp") == "one").then_some(())
    })
    .await;
    // `check` knows of it as well, and reads no more than that.
    let checked = check(&node.path("node.toml"));
    assert!(checked.success, "{}", checked.output);
    let node = node.kill9().await.start().await;
    assert_eq!(node.get("/test/a").await.header("x-stamp"), "one");
    // Who binds it keeps it.
    let refused = plugin(&node, &["rollback", "stamp"]).await;
    assert!(!refused.status.success(), "{refused:?}");
    assert_eq!(node.get("/test/a").await.header("x-stamp"), "one");
}

#[tokio::test]
async fn deploy_and_swap_warn_of_what_was_saved_after_the_last_build() {
    let author = Author::default();
    let new = ["new", "--lang", "c", "--step", "response-transform"];
    author.done(&[&new[..], &["stamp"]].concat());
    let component = author.component("stamp");
    fs::copy(fixture("stamp-one"), &component).unwrap();
    let touch = |file: &Path, at| {
        let file = File::options().append(true).open(file).unwrap();
        file.set_modified(at).unwrap();
    };
    let now = SystemTime::now();
    let node = TestNode::with("")
        .api(&bound("response-transform", "stamp"))
        .plugin("stamp", &fixture("stamp-two"))
        .start()
        .await;
    let folder = author.path("stamp");
    let warning = format!(
        "warning: plugin.c is newer than what was built: build the plugin again, `tidegate plugin build {}`\n",
        folder.display()
    );
    for command in [&["deploy"][..], &["swap", "stamp"]] {
        for (saved, expected) in [(now, &*warning), (now - BUILD, "")] {
            touch(&component, now - BUILD / 2);
            for file in [
                "plugin.toml",
                "cases/first.toml",
                "configuration.schema.json",
            ] {
                touch(&folder.join(file), now - BUILD);
            }
            touch(&folder.join("plugin.c"), saved);
            let output = plugin(&node, &[command, &[path(&folder)]].concat()).await;
            assert_eq!(String::from_utf8_lossy(&output.stderr), expected);
            assert_eq!(told(&output)["source"], "swap", "{command:?}");
            assert_eq!(node.get("/test/a").await.header("x-stamp"), "one");
        }
    }
}

#[tokio::test]
async fn what_deploy_has_said_is_served_by_every_worker_at_once() {
    let node = TestNode::with("")
        .api(&bound("response-transform", "stamp"))
        .plugin("stamp", &fixture("stamp-one"))
        .start()
        .await;
    let load = Load::start(&node, "/test/a", 8);
    for (expected, component) in [("two", "stamp-two"), ("one", "stamp-one")]
        .iter()
        .cycle()
        .take(10)
    {
        told(
            &plugin(
                &node,
                &["deploy", path(&fixture(component)), "--name", "stamp"],
            )
            .await,
        );
        for _ in 0..8 {
            assert_eq!(node.get("/test/a").await.header("x-stamp"), *expected);
        }
    }
    load.stop().await.assert_only(200);
}

#[tokio::test]
async fn the_log_of_a_plugin_has_its_lines_and_faults_with_request_and_binding_as_they_come() {
    let node = TestNode::with("")
        .api(
            &Api::new()
                .route(
                    "GET /a",
                    Operation::mock("a").binding(json!({ "step": "authorizer", "plugin": "trap" })),
                )
                .route(
                    "GET /b",
                    Operation::mock("b")
                        .binding(json!({ "step": "authorizer", "plugin": "useful" })),
                ),
        )
        .plugin("trap", &fixture("trap"))
        .plugin("useful", &fixture("allow"))
        .start()
        .await;
    let following = Running::start(&mut command(&node, &["logs", "trap", "--follow"]));
    let reply = node.get("/test/a").await;
    reply.assert_error(500, "Internal server error");
    let fault = following
        .until("the fault", |line| line["level"] == "fault")
        .await;
    assert_eq!(fault["binding"], "api/test GET /a: authorizer trap");
    assert_eq!(fault["request_id"], reply.header("x-amzn-requestid"));
    assert!(
        fault["message"].as_str().unwrap().contains("unreachable"),
        "{fault:#}"
    );
    let printed = following
        .until("what it printed", |line| {
            line["message"]
                .as_str()
                .is_some_and(|message| message.contains("the fixture panics"))
        })
        .await;
    assert_eq!(printed["level"], "warn");

    // The same later, for who did not look on; nothing of others.
    let lines = |output: Output| String::from_utf8(output.stdout).unwrap();
    let later = lines(plugin(&node, &["logs", "trap"]).await);
    assert!(
        later.contains("the fixture panics") && later.contains("\"fault\""),
        "{later}"
    );
    assert_eq!(lines(plugin(&node, &["logs", "useful"]).await), "");
    let request = http::Request::builder()
        .uri("/tidegate/v1/logs")
        .header("host", "attacker.example:9080");
    node.ask_admin(request.body(bytes::Bytes::new()).unwrap())
        .await
        .assert_status(403);
}

/// What a component's own bytes say is what the commands say of it.
#[test]
fn inspect_and_check_show_what_goes_in_and_out_of_a_component() {
    let author = Author::default();
    let plugin = fixture("capable");
    let function = fixture("function-echo-p3");
    let told = author.told(&["inspect", path(&plugin)]);
    let bytes = fs::read(&plugin).unwrap();
    let sha256 = digest(&SHA256, &bytes);
    let sha256: String = sha256
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        (&told["kind"], &told["contract"], &told["steps"]),
        (
            &json!("plugin"),
            &json!("tidegate:gateway@0.1.0"),
            &json!(["response-transform"])
        )
    );
    assert_eq!(
        told["grants"],
        json!(["shared-cache", "secrets", "metrics"])
    );
    assert_eq!(
        told["exports"],
        json!([
            "tidegate:gateway/plugin@0.1.0",
            "tidegate:gateway/response-transform@0.1.0"
        ])
    );
    let imports: Vec<&str> = told["imports"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let ours: Vec<&str> = imports
        .iter()
        .copied()
        .filter(|name| name.starts_with("tidegate:"))
        .collect();
    let capabilities = ["types", "shared-cache", "secrets", "metrics"];
    assert_eq!(
        ours,
        capabilities.map(|name| format!("tidegate:gateway/{name}@0.1.0"))
    );
    assert!(
        imports
            .iter()
            .any(|name| name.starts_with("wasi:cli/stdout@0.2")),
        "{told:#}"
    );
    assert_eq!(
        (&told["bytes"], &told["sha256"]),
        (&json!(bytes.len()), &json!(sha256))
    );
    assert!(told["code_bytes"].as_u64().unwrap() > 0, "{told:#}");
    assert_eq!(
        (&told["waits"], &told["cases"]),
        (&json!(false), &Value::Null)
    );
    // A node would take it; that is all that `check` adds.
    let checked = author.told(&["check", path(&plugin)]);
    assert_eq!(checked, json!({ "ok": true, "component": told }));

    let told = author.told(&["inspect", path(&function)]);
    assert_eq!(
        (&told["kind"], &told["exports"]),
        (&json!("function"), &json!(["wasi:http/handler@0.3.0"]))
    );

    // For people: a line for each, the size rounded up.
    let said = |command: &str, component: &Path| {
        let arguments = ["plugin", command, path(component)];
        let output = std::process::Command::new(binary())
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let size = format!("  size           {} KiB\n", bytes.len().div_ceil(1024));
    for command in ["inspect", "check"] {
        let text = said(command, &plugin);
        for line in [
            "a plugin for tidegate:gateway@0.1.0: response-transform; it needs the grants shared-cache, secrets, metrics\n",
            &size,
            "  exports        tidegate:gateway/response-transform@0.1.0\n",
            "  imports        tidegate:gateway/secrets@0.1.0\n",
        ] {
            assert!(text.contains(line), "{command}: no {line:?} in {text}");
        }
        assert_eq!(text.contains(&sha256), command == "inspect", "{text}");
        let text = said(command, &function);
        assert!(
            text.contains("a function (wasi:http); it needs no grant\n"),
            "{text}"
        );
    }
}

/// The authorizer of the template, on a node.
async fn guarded(author: &Author) -> TestNode {
    author.done(&["new", "--lang", "rust", "--step", "authorizer", "guard"]);
    author.done(&["build", "guard"]);
    let binding = json!({
        "step": "authorizer",
        "plugin": "guard",
        // Of "let-me-in".
        "configuration": { "digest": "a3ee786b5707c27d42570785081ec17f5c7db9262a01366af362a1aa61a420b9" },
        "grants": { "crypto": true },
    });
    let tenant = json!({
        "step": "request-transform",
        "plugin": "header-transform",
        "configuration": { "request": { "headers": { "set": { "x-a": "b" } } } },
    });
    let operation = Operation::mock("hello").binding(binding).binding(tenant);
    TestNode::with("")
        .api(&Api::new().route("GET /a/{name}", operation))
        .plugin("guard", &author.component("guard"))
        .start()
        .await
}

#[tokio::test]
async fn requests_that_pass_a_node_become_cases_which_fail_once_the_plugin_answers_otherwise() {
    let author = Author::default();
    let node = guarded(&author).await;
    let file = author.path("guard/cases/recorded.toml");
    let mut recording = command(&node, &["record", "guard", "-n", "9", "-o", path(&file)])
        .kill_on_drop(true)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // In turn, until the command has what it wants.
    let mut ended = None;
    until("nine are recorded", async || {
        for token in [Some("let-me-in"), Some("open sesame"), None] {
            let request = node.build("GET", "/test/a/b%20c?q=2&p=%C3%A9&q=1");
            let request = request.header("authorization", "Bearer of-ann");
            node.ask(match token {
                Some(token) => request.header("x-token", token),
                None => request,
            })
            .await;
        }
        ended = recording.try_wait().unwrap();
        ended.map(drop)
    })
    .await;
    assert!(ended.unwrap().success());
    let recorded = recording.wait_with_output().await.unwrap();
    assert_eq!(told(&recorded)["recorded"], 9);

    let text = fs::read_to_string(&file).unwrap();
    let cases: toml::Table = text.parse().unwrap();
    let cases = cases["case"].as_array().unwrap();
    assert_eq!(cases.len(), 9, "{text}");
    for word in ["allow", "forbidden", "unauthorized"] {
        let count = cases
            .iter()
            .filter(|case| case["expect"].get(word).is_some());
        assert_eq!(count.count(), 3, "{word}: {text}");
    }
    let request = &cases[0]["request"];
    assert_eq!(request["path"].as_str(), Some("/a/b%20c"));
    assert_eq!(request["query-string"].as_str(), Some("q=2&p=%C3%A9&q=1"));
    assert_eq!(request["path-parameters"]["name"].as_str(), Some("b c"));
    assert_eq!(
        request["context"]["routeKey"].as_str(),
        Some("GET /a/{name}")
    );
    let shown = request["headers"]["authorization"].as_str();
    assert_eq!((shown, text.contains("of-ann")), (Some("redacted"), false));

    // They hold, beside those that were written.
    let tested = || told(&author.plugin_with_cache(&["test", "guard"]));
    let held = tested();
    assert_eq!(
        (&held["passed"], &held["failed"]),
        (&json!(13), &json!(0)),
        "{held:#}"
    );
    author.edit("guard/src/lib.rs", "friend", "foe");
    let broken = tested();
    let text = broken.to_string();
    // The three that were let in, and the one that was written of it.
    assert_eq!(
        (&broken["passed"], &broken["failed"]),
        (&json!(9), &json!(4)),
        "{broken:#}"
    );
    for words in [
        "recorded.toml",
        "GET /a/b%20c",
        "/allow/id",
        "friend",
        "foe",
    ] {
        assert!(text.contains(words), "no {words:?} in {text}");
    }
}

#[tokio::test]
async fn what_cannot_be_recorded_is_refused_or_left_out() {
    let operation = Operation::mock("hello")
        .binding(json!({ "step": "request-transform", "plugin": "shout" }))
        .binding(json!({
            "step": "response-transform",
            "plugin": "header-transform",
            "configuration": { "response": { "headers": { "set": { "x-a": "b" } } } },
        }));
    let node = TestNode::with("")
        .api(&Api::new().route("POST /a", operation))
        .plugin("shout", &fixture("upper-body"))
        .start()
        .await;
    for (name, cause) in [
        ("nobody", "nothing is bound to a plugin"),
        ("header-transform", "its decisions stand for all of them"),
    ] {
        let refused = plugin(&node, &["record", name]).await;
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && said.contains(cause), "{said}");
    }
    let page = http::Request::builder()
        .uri("/tidegate/v1/recordings?plugin=shout")
        .header("host", "attacker.example:9080");
    node.ask_admin(page.body(bytes::Bytes::new()).unwrap())
        .await
        .assert_status(403);

    // A body that is no text stands in no file of cases.
    let recording = Running::start(&mut command(&node, &["record", "shout", "-n", "500"]));
    until("something is recorded", async || {
        node.post("/test/a", &b"\xff\xfe"[..])
            .await
            .assert_status(200);
        node.post("/test/a", "hello").await.assert_status(200);
        let lines = recording.lines.lock().unwrap();
        (lines.len() > 2).then_some(())
    })
    .await;
    let lines = recording.lines.lock().unwrap();
    for case in &*lines {
        assert_eq!(case["request"]["body"], "hello", "{case:#}");
        assert_eq!(
            case["expect"],
            json!({ "edits": [{ "set-body": "HELLO" }] })
        );
    }
}

#[tokio::test]
async fn rust_plugins_are_built_and_served_on_every_save() {
    let author = Author::default();
    author.done(&[
        "new",
        "--lang",
        "rust",
        "--step",
        "response-transform",
        "lifetime",
    ]);
    let node = TestNode::with("")
        .api(&Api::new().route("GET /a", Operation::mock("hello")))
        .start()
        .await;
    let mut dev = command(&node, &["dev", "lifetime"]);
    dev.current_dir(author.path(""))
        .env("CARGO_NET_OFFLINE", "true")
        .env("CARGO_TARGET_DIR", root().join("target/authors"));
    let dev = Running::start(&mut dev);
    let first = dev
        .until("the first version is deployed", |line| {
            line["plugin"] == "lifetime"
        })
        .await;
    assert_eq!(first["cases_passed"], 4, "{first:#}");

    // Bound from now on: what is saved answers requests, and what it says goes by.
    let binding = json!({
        "step": "response-transform", "plugin": "lifetime", "configuration": { "max-age": 7 },
    });
    let api = Api::new().route("GET /a", Operation::mock("hello").binding(binding));
    fs::write(node.path("api.openapi.yaml"), api.text()).unwrap();
    let lives = async |expected: &str| {
        until_within(BUILD, "the newest version answers", async || {
            let reply = node.get("/test/a").await;
            (reply.header("cache-control") == expected).then_some(())
        })
        .await;
    };
    lives("max-age=7").await;
    author.edit(
        "lifetime/src/lib.rs",
        "format!(\"max-age={}\", self.max_age)",
        "{\nprintln!(\"it keeps for longer\");\nformat!(\"max-age={}\", self.max_age + u32::from(self.max_age == 7))\n}",
    );
    lives("max-age=8").await;
    let line = dev
        .until("what it says goes by", |line| {
            let message = line["message"].as_str();
            message.is_some_and(|message| message.contains("it keeps for longer"))
        })
        .await;
    let at = "api/test GET /a: response-transform lifetime";
    assert_eq!(line["binding"], at, "{line:#}");

    author.edit("lifetime/src/lib.rs", "impl ", "impl impl ");
    dev.until("a mistake is said", |line| {
        line["error"]
            .as_str()
            .is_some_and(|error| error.contains("cargo build"))
    })
    .await;
    author.edit("lifetime/src/lib.rs", "impl impl ", "impl ");
    fs::write(author.path("lifetime/src/more.rs"), "").unwrap();
    author.edit("lifetime/cases/first.toml", "[[case]]", "\n[[case]]");
    dev.until("it serves again", |line| {
        line["plugin"] == "lifetime" && line["took_ms"] != first["took_ms"]
    })
    .await;
    lives("max-age=8").await;
    // A case that fails is said as well, and what serves, serves on.
    let cases = fs::read_to_string(author.path("lifetime/cases/first.toml")).unwrap();
    let wrong = format!("{cases}\n[[case]]\nname = \"wrong\"\nexpect = {{ forbidden = {{}} }}\n");
    fs::write(author.path("lifetime/cases/first.toml"), wrong).unwrap();
    dev.until("the case is said to fail", |line| {
        line["error"]
            .as_str()
            .is_some_and(|error| error.contains("its case \"wrong\""))
    })
    .await;
    lives("max-age=8").await;
}
