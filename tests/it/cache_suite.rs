//! The public suite for HTTP caches, `http-cache-tests`, against a node over real sockets.
//!
//! `cargo verify` leaves it out where there is no npm. Its totals go to target/cache-tests.json. Which tests fail, and why,
//! stands in tests/http-cache-tests/failing.txt: a test that fails and is not there fails this one, and so does one that is
//! there and passes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use tidegate_tests::linked::{edge, origin_named};
use tidegate_tests::{Api, Operation, Setup, root};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// Leads to the suite's server. The suite wants responses with cookies shared, which is for an operator to say. It counts
/// requests, so that a second attempt would be one too many.
fn setup(node: Setup, port: u16) -> Setup {
    let api = Api::new().route("ANY /{proxy+}", Operation::proxy("http://origin/{proxy}"));
    let stages = "[api.stage.test]\ncache = { mode = 'http', set-cookie = true }";
    let upstream = format!("[upstream.origin]\ntargets = ['http://127.0.0.1:{port}']\nretries = 0");
    node.api_with("api", &api.text(), stages).toml(&upstream)
}

#[tokio::test]
async fn the_public_suite_fails_only_where_failing_txt_says_why() {
    let suite = install().await;
    let (_server, port) = serve(&suite).await;
    let origin = setup(origin_named("home", ""), port).start().await;
    let node = edge("edge", &origin, &[]).await;
    let base = format!("http://{}/_aws/execute-api/api/test", node.address());
    let outcomes = run(&suite, &base).await;

    let mut totals: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let mut failing = BTreeMap::new();
    for (id, test) in outcomes.as_object().expect("outcomes by test") {
        let kind = test["kind"].as_str().expect("a kind");
        let (passed, total) = totals.entry(kind).or_default();
        let passes = matches!(test["outcome"].as_str(), Some("pass" | "yes"));
        *passed += u64::from(passes);
        *total += 1;
        if !passes && kind != "check" {
            failing.insert(
                id.as_str(),
                format!("{}: {}", test["outcome"], test["detail"]),
            );
        }
    }
    let total = |kind| {
        let (passed, total) = totals.get(kind).copied().unwrap_or_default();
        json!({ "passed": passed, "total": total })
    };
    let report = json!({ "required": total("required"), "optimal": total("optimal") });
    let file = root().join("target/cache-tests.json");
    std::fs::write(file, format!("{report}\n")).expect("target/ is writable");

    let known = include_str!("../http-cache-tests/failing.txt");
    let known: Vec<&str> = known
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with(['#', ' ']))
        .map(|line| line.trim_end_matches(':'))
        .collect();
    let new: Vec<_> = failing
        .iter()
        .filter(|(id, _)| !known.contains(id))
        .collect();
    let gone: Vec<_> = known
        .iter()
        .filter(|id| !failing.contains_key(**id))
        .collect();
    assert!(
        new.is_empty() && gone.is_empty(),
        "{report}; they fail: {new:#?}; they pass, or are none: {gone:?}"
    );
}

/// Installs the suite by its package.json; gives the folder with what runs it.
async fn install() -> PathBuf {
    let source = root().join("tests/http-cache-tests");
    let made = root().join("target/http-cache-tests");
    std::fs::create_dir_all(&made).expect("target/ is writable");
    let fresh = |name: &str| {
        let read = |folder: &Path| std::fs::read(folder.join(name)).ok();
        read(&source) == read(&made)
    };
    let installed = made.join("node_modules/http-cache-tests").is_dir() && fresh("package.json");
    std::fs::copy(source.join("run.mjs"), made.join("run.mjs")).expect("target/ is writable");
    if !installed {
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-save", "--no-audit", "--no-fund"])
            .args(["--ignore-scripts", "--prefix"])
            .arg(&made);
        std::fs::copy(source.join("package.json"), made.join("package.json"))
            .expect("target/ is writable");
        let output = npm.output().await.expect(NPM);
        if !output.status.success() {
            let _ = std::fs::remove_file(made.join("package.json"));
            panic!("npm: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
    made
}

/// Starts the suite's server on a free port.
async fn serve(suite: &Path) -> (Child, u16) {
    let mut server = Command::new("node")
        .arg("server/server.mjs")
        .current_dir(suite.join("node_modules/http-cache-tests"))
        .env("npm_config_protocol", "http")
        .env("npm_config_port", "0")
        .env("npm_config_pidfile", suite.join("server.pid"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect(NPM);
    let mut lines = BufReader::new(server.stdout.take().expect("piped")).lines();
    // Listening on http://[::]:PORT/
    let line = lines.next_line().await.expect("text").expect("a line");
    let port = line
        .trim_end_matches('/')
        .rsplit(':')
        .next()
        .and_then(|port| port.parse().ok())
        .unwrap_or_else(|| panic!("no port in {line:?}"));
    // It warns of what it is asked; a full pipe would stop it.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (server, port)
}

async fn run(suite: &Path, base: &str) -> Value {
    let output = Command::new("node")
        .arg("run.mjs")
        .arg(base)
        .current_dir(suite)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .expect(NPM);
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|error| {
        panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr))
    })
}

const NPM: &str = "needs Node.js with npm: apt-get install nodejs npm";
