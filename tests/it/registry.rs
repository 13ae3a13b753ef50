//! Components in an OCI registry: Debian's `docker-registry`, started by the test.

use std::fs;
use std::process::Output;

use serde_json::{Value, json};
use tidegate_tests::{Api, Author, Operation, TestNode, TestRegistry, fixture, until};

#[tokio::test]
async fn what_was_pushed_is_the_standard_artifact_and_comes_back_as_it_was() {
    let registry = TestRegistry::start().await;
    let author = Author::default();
    let component = fs::read(fixture("stamp-two")).unwrap();
    fs::write(author.path("stamp.wasm"), &component).unwrap();
    let reference = format!("{}/acme/stamp:2.0.0", registry.address());
    let pushed = author.told(&["push", &reference, "stamp.wasm"]);

    let manifest = registry.document(text(&pushed["digest"]));
    assert_eq!(
        manifest["mediaType"],
        "application/vnd.oci.image.manifest.v1+json"
    );
    let (config, layers) = (&manifest["config"], manifest["layers"].as_array().unwrap());
    assert_eq!(config["mediaType"], "application/vnd.wasm.config.v0+json");
    assert_eq!(layers.len(), 1, "{manifest:#}");
    assert_eq!(layers[0]["mediaType"], "application/wasm");
    let config = registry.document(text(&config["digest"]));
    assert_eq!(
        (&config["architecture"], &config["os"]),
        (&json!("wasm"), &json!("wasip2"))
    );
    assert_eq!(config["layerDigests"], json!([layers[0]["digest"]]));
    let exports = config["component"]["exports"].as_array().unwrap();
    assert!(
        exports.contains(&json!("tidegate:gateway/response-transform@0.1.0")),
        "{config:#}"
    );

    // By its tag, by its digest, and the same digest for the same component again.
    let by_digest = format!(
        "{}/acme/stamp@{}",
        registry.address(),
        text(&pushed["digest"])
    );
    for reference in [&reference, &by_digest] {
        let pulled = author.told(&["pull", reference, "-o", "back.wasm"]);
        assert_eq!(pulled["digest"], pushed["digest"]);
        assert_eq!(fs::read(author.path("back.wasm")).unwrap(), component);
    }
    let again = author.told(&["push", &format!("oci://{reference}"), "stamp.wasm"]);
    assert_eq!(again["digest"], pushed["digest"]);
}

#[tokio::test]
async fn a_plugins_folder_is_pushed_and_swapped_into_a_node_from_the_registry() {
    let registry = TestRegistry::start().await;
    let author = Author::default();
    let new = ["new", "--lang", "rust", "--step", "authorizer", "guard"];
    author.done(&new);
    let reference = format!("{}/guard:1", registry.address());
    let refused = author.plugin(&["push", &reference, "guard"]);
    assert!(says(&refused, "build the plugin first"), "{refused:?}");
    author.done(&["build", "guard"]);
    let pushed = author.told(&["push", &reference, "guard"]);
    let annotations = &registry.document(text(&pushed["digest"]))["annotations"];
    assert_eq!(annotations["org.opencontainers.image.title"], "guard");
    assert_eq!(annotations["org.opencontainers.image.version"], "0.1.0");

    let binding = json!({
        "step": "authorizer",
        "plugin": "guard",
        "configuration": { "digest": "a3ee786b5707c27d42570785081ec17f5c7db9262a01366af362a1aa61a420b9" },
        "grants": { "crypto": true },
    });
    let node = TestNode::with("")
        .api(&Api::new().route("GET /a", Operation::mock("hello").binding(binding)))
        .plugin("guard", &fixture("allow"))
        .start()
        .await;
    let admin = node.admin_address().to_string();
    author.done(&[
        "swap",
        "guard",
        &format!("oci://{reference}"),
        "--admin",
        &admin,
    ]);
    until("the pulled version serves", async || {
        (node.get("/test/a").await.status == 401).then_some(())
    })
    .await;
}

#[tokio::test]
async fn credentials_come_from_dockers_file_or_from_standard_input_and_wrong_ones_are_said_to_be() {
    let registry = TestRegistry::with_password().await;
    let author = Author::default();
    fs::copy(fixture("allow"), author.path("allow.wasm")).unwrap();
    let reference = format!("{}/allow:1", registry.address());
    let push = ["push", reference.as_str(), "allow.wasm"];
    let refused = author.plugin(&push);
    assert!(says(&refused, "who gives no credentials"), "{refused:?}");
    assert!(says(&refused, "docker login"), "{refused:?}");

    let with_user = ["--username", TestRegistry::USER, "--password-stdin"];
    let arguments = [&push[..], &with_user].concat();
    let refused = author.plugin_told(&arguments, "wrong\n");
    assert!(says(&refused, "refuses these credentials"), "{refused:?}");
    assert!(!says(&refused, "wrong"), "{refused:?}");
    let pushed = author.plugin_told(&arguments, &format!("{}\n", TestRegistry::PASSWORD));
    assert!(pushed.status.success(), "{pushed:?}");

    // Of "ann:let-me-push".
    let login = json!({ "auths": { registry.address(): { "auth": "YW5uOmxldC1tZS1wdXNo" } } });
    fs::create_dir(author.path("docker")).unwrap();
    fs::write(author.path("docker/config.json"), login.to_string()).unwrap();
    author.done(&["pull", &reference, "-o", "back.wasm"]);
    assert_eq!(
        fs::read(author.path("back.wasm")).unwrap(),
        fs::read(fixture("allow")).unwrap()
    );
}

#[tokio::test]
async fn what_cannot_be_pushed_or_pulled_is_said_by_name_and_leaves_the_file_as_it_was() {
    let registry = TestRegistry::start().await;
    let author = Author::default();
    fs::copy(fixture("allow"), author.path("allow.wasm")).unwrap();
    fs::write(author.path("core.wasm"), b"\0asm\x01\0\0\0").unwrap();
    fs::write(author.path("kept.wasm"), "kept").unwrap();
    let reference = |name: &str| format!("{}/{name}", registry.address());
    let there = reference("allow:1");
    let pushed = author.told(&["push", &there, "allow.wasm"]);
    let by_digest = reference(&format!("allow@{}", text(&pushed["digest"])));
    let absent = reference("allow:2");
    for (arguments, cause) in [
        (["push", &absent, "core.wasm"], "core module"),
        (["push", &absent, "none.wasm"], "none.wasm"),
        (["push", "allow:1", "allow.wasm"], "names no registry"),
        (["push", &by_digest, "allow.wasm"], "push to a tag"),
        (
            ["push", "127.0.0.1:1/a:1", "allow.wasm"],
            "no registry answers at 127.0.0.1:1",
        ),
        (["pull", &absent, "-okept.wasm"], "there is no "),
        (
            ["pull", &reference("none:1"), "-okept.wasm"],
            "there is no ",
        ),
        (
            ["pull", "127.0.0.1:1/a:1", "-okept.wasm"],
            "no registry answers at 127.0.0.1:1",
        ),
    ] {
        let refused = author.plugin(&arguments);
        assert!(says(&refused, cause), "{arguments:?}: {refused:?}");
    }
    // What is there under the digest is something else by now.
    let manifest = registry.document(text(&pushed["digest"]));
    let blob = registry.blob(text(&manifest["layers"][0]["digest"]));
    let mut changed = fs::read(&blob).unwrap();
    *changed.last_mut().unwrap() ^= 1;
    fs::write(&blob, changed).unwrap();
    let refused = author.plugin(&["pull", &there, "-o", "kept.wasm"]);
    assert!(says(&refused, "igest"), "{refused:?}");
    assert_eq!(fs::read(author.path("kept.wasm")).unwrap(), b"kept");
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Whether a command failed and said this.
fn says(output: &Output, cause: &str) -> bool {
    !output.status.success() && String::from_utf8_lossy(&output.stderr).contains(cause)
}
