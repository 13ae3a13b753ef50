//! Debian's `docker-registry` on this machine.

use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::wait::PATIENCE;

/// A running registry, empty at the start; killed when dropped.
pub struct TestRegistry {
    folder: TempDir,
    address: String,
    _child: Child,
}

impl TestRegistry {
    /// Starts one that serves everybody.
    pub async fn start() -> Self {
        Self::with("").await
    }

    /// Starts one that serves [`Self::USER`] with [`Self::PASSWORD`] only.
    pub async fn with_password() -> Self {
        Self::with("auth: { htpasswd: { realm: test, path: PASSWORDS } }\n").await
    }

    pub const USER: &str = "ann";
    pub const PASSWORD: &str = "let-me-push";

    async fn with(auth: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = |name: &str| folder.path().join(name);
        let passwords = file("passwords");
        std::fs::write(&passwords, format!("{}:{HASH}\n", Self::USER)).expect("writable");
        let auth = auth.replace("PASSWORDS", &passwords.display().to_string());
        let settings = format!(
            "version: 0.1\nlog: {{ level: info, accesslog: {{ disabled: true }} }}\n\
             storage: {{ filesystem: {{ rootdirectory: {} }} }}\nhttp: {{ addr: '127.0.0.1:0' }}\n{auth}",
            file("data").display()
        );
        std::fs::write(file("registry.yml"), settings).expect("writable");
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(file("registry.yml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("docker-registry starts; to get it: apt-get install docker-registry");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let listening = async {
            loop {
                let line = lines.next_line().await.expect("text");
                let line = line.expect("the registry ended before it listened");
                if let Some((_, rest)) = line.split_once("listening on ") {
                    return rest.split('"').next().unwrap_or_default().to_owned();
                }
            }
        };
        let address = timeout(PATIENCE, listening).await.expect("it listens");
        // Read on, so that it never waits for us.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self {
            folder,
            address,
            _child: child,
        }
    }

    /// `HOST:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The file that holds a blob, for who breaks it.
    pub fn blob(&self, digest: &str) -> PathBuf {
        let hash = digest.strip_prefix("sha256:").expect("a digest");
        self.folder.path().join(format!(
            "data/docker/registry/v2/blobs/sha256/{}/{hash}/data",
            &hash[..2]
        ))
    }

    /// A document that the registry keeps by its digest.
    pub fn document(&self, digest: &str) -> Value {
        let text = std::fs::read(self.blob(digest)).expect("the registry has it");
        serde_json::from_slice(&text).expect("JSON")
    }
}

/// bcrypt of the password, with the least cost.
const HASH: &str = "$2y$05$abcdefghijklmnopqrstuuDCOyDNlCkTxAYmncphlemP3YSRvUTnW";
