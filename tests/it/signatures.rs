//! Signed components, and nodes that run no others.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tidegate_tests::linked::{edge_with, nodes, origin_named};
use tidegate_tests::{
    Api, Author, Load, Operation, Setup, TestNode, TestRegistry, fixture, items_function, until,
};

/// An author with the keys `ours` and `theirs`, and the stamps one and two.
struct Signer {
    author: Author,
    ours: String,
}

impl Signer {
    fn new() -> Self {
        let author = Author::default();
        let ours = author.told(&["keygen", "ours"]);
        author.told(&["keygen", "theirs"]);
        for name in ["stamp-one", "stamp-two"] {
            fs::copy(fixture(name), author.path(&format!("{name}.wasm"))).unwrap();
        }
        let ours = ours["key"].as_str().unwrap().to_owned();
        Self { author, ours }
    }

    /// Signs a component in the author's folder.
    fn sign(&self, component: &str, key: &str) -> PathBuf {
        let key = format!("{key}.key");
        self.author.told(&["sign", component, "--key", &key]);
        self.author.path(component)
    }

    fn required(&self) -> String {
        format!(
            "[plugins]\nsignatures = 'required'\ntrusted-keys = ['{}']",
            self.ours
        )
    }

    /// A node that trusts `ours` and stamps with version one.
    fn node(&self) -> Setup {
        let one = self.sign("stamp-one.wasm", "ours");
        TestNode::with(&self.required())
            .api(&stamped())
            .plugin("stamp", &one)
            .file(
                "stamp.wasm.sig",
                &fs::read(self.author.path("stamp-one.wasm.sig")).unwrap(),
            )
    }

    fn swap(&self, node: &TestNode, component: &str) -> Output {
        let admin = node.admin_address().to_string();
        self.author
            .plugin(&["swap", "stamp", component, "--admin", &admin])
    }
}

fn stamped() -> Api {
    let binding = json!({ "step": "response-transform", "plugin": "stamp" });
    Api::new().route("GET /a", Operation::mock("hello").binding(binding))
}

async fn stamp(node: &TestNode) -> String {
    node.get("/test/a").await.header("x-stamp").to_owned()
}

#[tokio::test]
async fn a_node_that_wants_signatures_starts_with_nothing_else_but_its_own_plugins() {
    let signer = Signer::new();
    signer.sign("stamp-two.wasm", "theirs");
    let signed = |name: &str| fs::read(signer.author.path(&format!("{name}.wasm.sig"))).unwrap();
    let node = signer.node().start().await;
    assert_eq!(stamp(&node).await, "one");
    let cases = [
        (
            None,
            "it is not signed, and this node runs what is signed only",
        ),
        (
            Some(signed("stamp-two")),
            "which is none of the `trusted-keys` of [plugins]",
        ),
        (
            Some(b"hello".to_vec()),
            "not written as `ed25519 KEY SIGNATURE`",
        ),
    ];
    for (signature, cause) in cases {
        let setup = || {
            let setup = TestNode::with(&signer.required())
                .api(&stamped())
                .plugin("stamp", &fixture("stamp-two"));
            match &signature {
                Some(line) => setup.file("stamp.wasm.sig", line),
                None => setup,
            }
        };
        let causes = ["plugin \"stamp\"", cause];
        setup().check().assert_refused(&causes);
        setup().refused().assert_refused(&causes);
    }
    // Ours, of another component.
    TestNode::with(&signer.required())
        .api(&stamped())
        .plugin("stamp", &fixture("stamp-two"))
        .file("stamp.wasm.sig", &signed("stamp-one"))
        .check()
        .assert_refused(&["plugin \"stamp\"", "it is not what was signed with the key"]);
    TestNode::with(&signer.required())
        .api(&Api::new().route("GET /a", Operation::function("items")))
        .function("items", items_function(), "")
        .check()
        .assert_refused(&["function \"items\"", "it is not signed"]);
}

#[tokio::test]
async fn a_version_that_no_trusted_key_signed_is_not_swapped_in_and_the_running_one_serves_on() {
    let signer = Signer::new();
    let node = signer.node().start().await;
    let load = Load::start(&node, "/test/a", 4);
    let said = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();

    let unsigned = said(&signer.swap(&node, "stamp-two.wasm"));
    assert!(
        unsigned.contains("plugin \"stamp\": it is not signed"),
        "{unsigned}"
    );
    signer.sign("stamp-two.wasm", "theirs");
    let foreign = said(&signer.swap(&node, "stamp-two.wasm"));
    assert!(foreign.contains("none of the `trusted-keys`"), "{foreign}");
    let two = signer.sign("stamp-two.wasm", "ours");
    let signed = fs::read(&two).unwrap();
    let changed = [&signed[..], &[0, 2, 1, b'x']].concat(); // a custom section more
    fs::write(&two, changed).unwrap();
    let changed = said(&signer.swap(&node, "stamp-two.wasm"));
    assert!(changed.contains("it was changed"), "{changed}");
    assert_eq!(stamp(&node).await, "one");

    fs::write(&two, signed).unwrap();
    let swapped = signer.swap(&node, "stamp-two.wasm");
    assert!(swapped.status.success(), "{}", said(&swapped));
    until("the signed version serves", async || {
        (stamp(&node).await == "two").then_some(())
    })
    .await;
    load.stop().await.assert_only(200);

    // It is verified again whenever it is loaded.
    let node = node.kill9().await.start().await;
    assert_eq!(stamp(&node).await, "two");
    let stopped = node.stop().await;
    let kept = fs::read_dir(stopped.folder().join("data/plugins"))
        .unwrap()
        .flatten();
    let signature = kept
        .map(|file| file.path())
        .find(|file| file.extension().is_some_and(|ending| ending == "sig"));
    fs::remove_file(signature.expect("the signature is kept")).unwrap();
    let refused = stopped.refused();
    refused.assert_refused(&["plugin \"stamp\"", "it is not signed"]);
}

#[tokio::test]
async fn a_reload_takes_a_changed_file_once_it_is_signed_and_not_before() {
    let signer = Signer::new();
    let node = signer.node().start().await;
    let load = Load::start(&node, "/test/a", 2);
    fs::copy(fixture("stamp-two"), node.path("stamp.wasm")).unwrap();
    node.until_logged(&["plugin \"stamp\"", "it was changed"])
        .await;
    assert_eq!(stamp(&node).await, "one");
    signer.sign("stamp-two.wasm", "ours");
    fs::copy(
        signer.author.path("stamp-two.wasm.sig"),
        node.path("stamp.wasm.sig"),
    )
    .unwrap();
    until("the signature was seen", async || {
        (stamp(&node).await == "two").then_some(())
    })
    .await;
    load.stop().await.assert_only(200);
}

#[tokio::test]
async fn a_policy_that_what_runs_does_not_meet_is_refused_at_a_reload() {
    let signer = Signer::new();
    let node = TestNode::with("[plugins]\nsignatures = 'off'")
        .api(&stamped())
        .plugin("stamp", &fixture("stamp-one"))
        .start()
        .await;
    node.edit("[plugins]\nsignatures = 'off'", &signer.required());
    node.until_logged(&["plugin \"stamp\"", "it is not signed"])
        .await;
    assert_eq!(stamp(&node).await, "one");
    let without = TestNode::with("[plugins]\nsignatures = 'required'").api(&stamped());
    without
        .check()
        .assert_refused(&["`trusted-keys` has no key"]);
    TestNode::with("[plugins]\nsignatures = 'required'\ntrusted-keys = ['MCow']")
        .check()
        .assert_refused(&["node.toml:", "\"MCow\" is no Ed25519 public key"]);
}

#[tokio::test]
async fn an_edge_takes_what_its_own_keys_signed_whatever_its_origin_runs() {
    let signer = Signer::new();
    let one = signer.sign("stamp-one.wasm", "ours");
    let signature = fs::read(signer.author.path("stamp-one.wasm.sig")).unwrap();
    let origin = origin_named("home", "")
        .api(&stamped())
        .plugin("stamp", &one)
        .file("stamp.wasm.sig", &signature)
        .start()
        .await;
    let edge = edge_with("one", &origin, &[], &signer.required()).await;
    assert_eq!(stamp(&edge).await, "one");
    let load = Load::start(&edge, "/test/a", 2);
    for (key, cause) in [
        (None, "it is not signed, and this node runs what is signed"),
        (Some("theirs"), "which is none of the `trusted-keys`"),
    ] {
        key.map(|key| signer.sign("stamp-two.wasm", key));
        let swapped = signer.swap(&origin, "stamp-two.wasm");
        assert!(swapped.status.success(), "{swapped:?}");
        let refused = edge.until_logged(&["snapshot refused", cause]).await;
        assert!(refused.contains("the last good one serves on"), "{refused}");
        assert_eq!(stamp(&origin).await, "two");
        assert_eq!(stamp(&edge).await, "one");
        until("the origin is told why", async || {
            let seen = nodes(&origin).await.remove(0);
            let problem = seen["problem"].as_str()?.to_owned();
            problem.contains(cause).then_some(())
        })
        .await;
    }
    let admin = origin.admin_address().to_string();
    let canary = ["--canary", "100%", "--admin", &admin];
    let unsigned = fixture("upper-body");
    let unsigned = ["swap", "stamp", unsigned.to_str().unwrap()];
    signer
        .author
        .done(&["rollback", "stamp", "--admin", &admin]);
    signer.author.done(&[&unsigned[..], &canary].concat());
    edge.until_logged(&["canary: ", "it is not signed", "the stable version only"])
        .await;
    assert_eq!(stamp(&edge).await, "one");
    signer
        .author
        .done(&["rollback", "stamp", "--admin", &admin]);

    signer.sign("stamp-two.wasm", "ours");
    let swapped = signer.swap(&origin, "stamp-two.wasm");
    assert!(swapped.status.success(), "{swapped:?}");
    until("the edge takes it", async || {
        (stamp(&edge).await == "two").then_some(())
    })
    .await;
    load.stop().await.assert_only(200);
}

#[tokio::test]
async fn a_signature_goes_with_its_component_through_a_registry() {
    let signer = Signer::new();
    let registry = TestRegistry::start().await;
    let reference = format!("oci://{}/stamp:2", registry.address());
    let author = &signer.author;
    author.told(&["push", &reference, "stamp-two.wasm"]);
    let unsigned = verify(author, &reference, "ours.pub");
    assert_eq!(unsigned["error"], "it is not signed");
    signer.sign("stamp-two.wasm", "ours");
    author.told(&["push", &reference, "stamp-two.wasm"]);
    assert_eq!(verify(author, &reference, "ours.pub")["ok"], true);
    assert_eq!(verify(author, &reference, &signer.ours)["ok"], true);
    assert_eq!(verify(author, &reference, "theirs.pub")["ok"], false);
    let pulled = author.told(&["pull", &reference, "-o", "back.wasm"]);
    assert_eq!(pulled["signed"], true);
    assert_eq!(verify(author, "back.wasm", "ours.pub")["ok"], true);

    let node = signer.node().start().await;
    let swapped = signer.swap(&node, &reference);
    assert!(swapped.status.success(), "{swapped:?}");
    until("the pulled version serves", async || {
        (stamp(&node).await == "two").then_some(())
    })
    .await;
}

#[test]
fn openssl_verifies_our_signatures_and_its_keys_sign_for_us() {
    let signer = Signer::new();
    signer.sign("stamp-one.wasm", "ours");
    let line = fs::read_to_string(signer.author.path("stamp-one.wasm.sig")).unwrap();
    let signature = line.split_whitespace().nth(2).unwrap();
    let script = format!(
        "echo {signature} | base64 -d > raw\n\
         openssl pkeyutl -verify -rawin -pubin -inkey ours.pub -in stamp-one.wasm -sigfile raw\n\
         openssl genpkey -algorithm ed25519 -out ssl.pem\nopenssl pkey -in ssl.pem -pubout -out ssl.pub"
    );
    let ran = Command::new("sh")
        .args(["-euc", &script])
        .current_dir(signer.author.path(""))
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let author = &signer.author;
    author.told(&["sign", "stamp-two.wasm", "--key", "ssl.pem"]);
    assert_eq!(verify(author, "stamp-two.wasm", "ssl.pub")["ok"], true);
}

#[test]
fn a_key_is_for_its_owner_only_and_never_written_over() {
    let signer = Signer::new();
    let mode = |name: &str| {
        let metadata = fs::metadata(signer.author.path(name)).unwrap();
        metadata.permissions().mode() & 0o777
    };
    assert_eq!((mode("ours.key"), mode("ours.pub") & 0o400), (0o600, 0o400));
    let before = fs::read(signer.author.path("ours.key")).unwrap();
    let refused = signer.author.plugin(&["keygen", "ours"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && said.contains("never written over"),
        "{said}"
    );
    assert_eq!(fs::read(signer.author.path("ours.key")).unwrap(), before);
    let refused = signer
        .author
        .plugin(&["sign", "stamp-one.wasm", "--key", "ours.pub"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("no private key in PEM"), "{said}");
}

/// What `verify` tells, whether it succeeds or not.
fn verify(author: &Author, from: &str, key: &str) -> Value {
    let output = author.plugin(&["verify", from, "--key", key]);
    let told: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(told["ok"] == true, output.status.success());
    told
}
