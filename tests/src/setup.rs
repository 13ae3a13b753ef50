//! From what a test needs to a node's folder: configuration, definitions, components.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::node::TestNode;
use crate::openapi::Api;

/// A node that is not started yet.
pub struct Setup {
    folder: TempDir,
    text: String,
    shares_artifacts: bool,
}

impl Setup {
    /// A node with `text` in its configuration; listener, admin and log settings are added where it has none.
    pub(crate) fn new(text: &str) -> Self {
        let mut whole = String::new();
        let sections = [
            (
                "[node]",
                "[node]\nname = 'test'\nregion = 'local'\nsuffix = 'localhost'\nthreads = 2\ndata = 'data'\n",
            ),
            ("[[listener]]", "[[listener]]\naddress = '127.0.0.1:0'\n"),
            ("[admin]", "[admin]\naddress = '127.0.0.1:0'\n"),
        ];
        for (heading, default) in sections {
            if !text.contains(heading) {
                whole.push_str(default);
            }
        }
        whole.push_str(text);
        whole.push('\n');
        Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
            text: whole,
            shares_artifacts: true,
        }
    }

    /// A node that has compiled nothing yet, and shares with no other what it compiles.
    pub fn with_artifacts_of_its_own(mut self) -> Self {
        self.shares_artifacts = false;
        self
    }

    /// Writes the configuration now, for commands that read it before the node does.
    pub fn written_down(self) -> Self {
        fs::write(self.folder.path().join(NODE_FILE), &self.text).expect("the folder is writable");
        self
    }

    /// The folder that the configuration will be in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Adds the API `api` with the stage `test`.
    pub fn api(self, api: &Api) -> Self {
        self.api_with("api", &api.text(), "[api.stage.test]")
    }

    /// Adds an API; `stages` are its `[api.stage.*]` tables. The definition is written to `{id}.openapi.yaml`.
    pub fn api_with(self, id: &str, definition: &str, stages: &str) -> Self {
        let file = format!("{id}.openapi.yaml");
        let setup = self.file(&file, definition.as_bytes());
        setup.toml(&format!(
            "[[api]]\nid = '{id}'\ndefinition = '{file}'\n{stages}"
        ))
    }

    /// Adds an upstream with one target.
    pub fn upstream(self, name: &str, target: SocketAddr) -> Self {
        self.toml(&format!("[upstream.{name}]\ntargets = ['http://{target}']"))
    }

    /// Adds a plugin; the component is copied to `{name}.wasm`.
    pub fn plugin(self, name: &str, component: &Path) -> Self {
        self.component("plugin", name, component, "")
    }

    /// Adds a function with further settings; the component is copied to `{name}.wasm`.
    pub fn function(self, name: &str, component: &Path, settings: &str) -> Self {
        self.component("function", name, component, settings)
    }

    fn component(self, kind: &str, name: &str, component: &Path, settings: &str) -> Self {
        let bytes =
            fs::read(component).unwrap_or_else(|error| panic!("{}: {error}", component.display()));
        let setup = self.file(&format!("{name}.wasm"), &bytes);
        setup.toml(&format!(
            "[{kind}.{name}]\ncomponent = '{name}.wasm'\n{settings}"
        ))
    }

    /// Adds a key for the stages.
    pub fn key(self, value: &str, stages: &[&str]) -> Self {
        self.toml(&format!(
            "[[key]]\nname = 'key-{}'\nvalue = '{value}'\nstages = {stages:?}",
            value.len()
        ))
    }

    /// Writes a file beside the configuration.
    pub fn file(self, name: &str, content: &[u8]) -> Self {
        fs::write(self.folder.path().join(name), content).expect("the folder is writable");
        self
    }

    /// Appends to the configuration.
    pub fn toml(mut self, text: &str) -> Self {
        self.text.push_str(text);
        self.text.push('\n');
        self
    }

    /// Starts the node and waits for its ready line.
    pub async fn start(self) -> TestNode {
        TestNode::spawn(self.written()).await
    }

    /// Starts a node that must refuse to: gives what it said.
    pub fn refused(self) -> Check {
        refused(self.written().path())
    }

    /// Runs `tidegate check` on the configuration.
    pub fn check(self) -> Check {
        let folder = self.written();
        check(&folder.path().join(NODE_FILE))
    }

    fn written(self) -> TempDir {
        // What one node compiled, the next one need not: artifacts are found by content.
        if self.shares_artifacts {
            let data = self.folder.path().join("data");
            let artifacts = root().join("target/test-artifacts");
            fs::create_dir_all(&data).expect("the folder is writable");
            fs::create_dir_all(&artifacts).expect("target/ is writable");
            std::os::unix::fs::symlink(artifacts, data.join("artifacts"))
                .expect("the folder is empty");
        }
        fs::write(self.folder.path().join(NODE_FILE), &self.text).expect("the folder is writable");
        self.folder
    }
}

/// Starts the node of a folder, which must refuse to: gives what it said.
pub(crate) fn refused(folder: &Path) -> Check {
    let mut command = Command::new("timeout");
    // A node that starts after all would serve for ever.
    command
        .arg("60")
        .arg(binary())
        .args(["serve", "--json"])
        .arg(folder.join(NODE_FILE));
    let check = Check::run(&mut command);
    assert!(!check.success, "the node served: {}", check.output);
    check
}

/// What a command that ends by itself said.
#[derive(Debug)]
pub struct Check {
    pub success: bool,
    /// Standard output, then standard error.
    pub output: String,
}

impl Check {
    fn run(command: &mut Command) -> Self {
        let output = command
            .stdin(Stdio::null())
            .output()
            .expect("the command starts");
        let text = [output.stdout, output.stderr].concat();
        Self {
            success: output.status.success(),
            output: String::from_utf8_lossy(&text).into_owned(),
        }
    }

    /// Whether the command failed and named each of `causes`.
    #[track_caller]
    pub fn assert_refused(&self, causes: &[&str]) {
        assert!(!self.success, "accepted: {}", self.output);
        for cause in causes {
            assert!(
                self.output.contains(cause),
                "does not name {cause:?}: {}",
                self.output
            );
        }
        assert!(!self.output.contains("panicked"), "{}", self.output);
    }
}

/// Runs `tidegate check` on a file.
pub fn check(file: &Path) -> Check {
    Check::run(Command::new(binary()).arg("check").arg(file))
}

/// The node's binary: what `TIDEGATE_BINARY` names, or built now in the dev profile.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(given) = std::env::var_os("TIDEGATE_BINARY") {
            return given.into();
        }
        let mut command = Command::new(env!("CARGO"));
        command
            .args([
                "build",
                "--quiet",
                "--package",
                "tidegate",
                "--bin",
                "tidegate",
            ])
            .current_dir(root());
        assert!(
            command.status().expect("cargo starts").success(),
            "the node does not build"
        );
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| root().join("target"), PathBuf::from);
        target.join("debug/tidegate")
    })
}

/// The demo's function, built.
pub fn items_function() -> &'static Path {
    static COMPONENT: OnceLock<PathBuf> = OnceLock::new();
    COMPONENT.get_or_init(|| {
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| root().join("target"), PathBuf::from);
        let mut command = Command::new(env!("CARGO"));
        command.args([
            "build",
            "--quiet",
            "--package",
            "tidegate-demo-items",
            "--target",
            "wasm32-wasip2",
        ]);
        command.args(["--profile", "component"]).current_dir(root());
        assert!(
            command.status().expect("cargo starts").success(),
            "the demo's function does not build"
        );
        target.join("wasm32-wasip2/component/tidegate_demo_items.wasm")
    })
}

/// A guest of tests/fixtures by its name, built from Rust.
pub fn fixture(name: &str) -> PathBuf {
    tidegate_fixtures::build_rust(name)
}

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ is in the repository")
}

/// The configuration's name in its folder.
pub(crate) const NODE_FILE: &str = "node.toml";
