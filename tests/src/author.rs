//! A plugin's author: a folder outside the repository, and the command line in it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::setup::{binary, root};

/// An empty folder to write plugins in.
pub struct Author {
    folder: TempDir,
}

impl Default for Author {
    fn default() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
        }
    }
}

impl Author {
    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `tidegate plugin …` in the folder, with what compilers made before where tests can share it.
    pub fn plugin(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(binary());
        command.args(["--json", "plugin"]).args(arguments);
        command.output().expect("the command starts")
    }

    /// The same, with something on its standard input.
    pub fn plugin_told(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = self.command(binary());
        command.args(["--json", "plugin"]).args(arguments);
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = piped.stderr(Stdio::piped()).spawn().expect("it starts");
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(input.as_bytes()).expect("it reads");
        drop(stdin);
        child.wait_with_output().expect("our child")
    }

    /// Types the commands of a README: the blocks for a shell that begin with a command of ours.
    #[track_caller]
    pub fn follow(&self, readme: &Path) {
        let text = fs::read_to_string(readme).expect("the README is there");
        let blocks = text.split("```sh\n").skip(1);
        let blocks = blocks.filter_map(|rest| rest.split("\n```").next());
        let commands: Vec<&str> = blocks
            .filter(|block| block.starts_with("tidegate "))
            .collect();
        assert!(!commands.is_empty(), "no commands in {}", readme.display());
        let folder = binary().parent().expect("a file is in a folder");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(
            [folder.to_owned()]
                .into_iter()
                .chain(std::env::split_paths(&path)),
        );
        let output = self
            .command(Path::new("bash"))
            .args(["-euo", "pipefail", "-c", &commands.join("\n")])
            .env("PATH", path.expect("no separator in a path"))
            .output()
            .expect("bash starts");
        assert!(
            output.status.success(),
            "{}: {}{}",
            readme.display(),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            // Whoever is logged in on this machine is not in the tests.
            .env("DOCKER_CONFIG", self.path("docker"))
            // What the workspace fetched is enough for its guest library, and each plugin's dependencies build once.
            .env("CARGO_NET_OFFLINE", "true")
            .env("CARGO_TARGET_DIR", root().join("target/authors"))
            .env("GOCACHE", root().join("target/authors/go"));
        command
    }

    /// The same, where it has to succeed.
    #[track_caller]
    pub fn done(&self, arguments: &[&str]) -> String {
        let output = self.plugin(arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// The same, where it tells JSON.
    #[track_caller]
    pub fn told(&self, arguments: &[&str]) -> Value {
        let text = self.done(arguments);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
    }

    /// A command that compiles a component: what it made is kept for the next test run.
    pub fn plugin_with_cache(&self, arguments: &[&str]) -> Output {
        let cache = root().join("target/test-artifacts");
        let cache = ["--cache", cache.to_str().expect("UTF-8")];
        self.plugin(&[arguments, &cache].concat())
    }

    /// The component that was built of a plugin.
    pub fn component(&self, plugin: &str) -> PathBuf {
        self.path(plugin).join(format!("build/{plugin}.wasm"))
    }

    /// Puts another text in the place of one that a file has.
    #[track_caller]
    pub fn edit(&self, file: impl AsRef<Path>, from: &str, to: &str) {
        let path = self.folder.path().join(file);
        let text = fs::read_to_string(&path).expect("the file is there");
        assert!(text.contains(from), "no {from:?} in {}", path.display());
        fs::write(path, text.replace(from, to)).expect("the folder is writable");
    }
}
