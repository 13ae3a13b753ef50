//! A node as a process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::client::{Connection, Reply};
use crate::metrics::Metrics;
use crate::setup::{Check, NODE_FILE, Setup, binary};
use crate::wait::{PATIENCE, until, until_within};

/// A running node; killed when dropped.
pub struct TestNode {
    folder: TempDir,
    child: Child,
    log: Log,
    addresses: Vec<SocketAddr>,
    admin: SocketAddr,
    link: Option<SocketAddr>,
}

/// What the node wrote so far, both streams, line by line.
type Log = Arc<Mutex<Vec<String>>>;

impl TestNode {
    /// A node with `text` in its configuration.
    pub fn with(text: &str) -> Setup {
        Setup::new(text)
    }

    pub(crate) async fn spawn(folder: TempDir) -> Self {
        let mut command = Command::new(binary());
        command
            .args(["serve", "--json"])
            .arg(folder.path().join(NODE_FILE))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        // Also where the tests themselves are killed. SAFETY: one system call, which allocates nothing.
        unsafe {
            command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
        }
        let mut child = command.spawn().expect("the node starts");
        let log = Log::default();
        tokio::spawn(keep_lines(
            child.stdout.take().expect("piped"),
            Arc::clone(&log),
        ));
        tokio::spawn(keep_lines(
            child.stderr.take().expect("piped"),
            Arc::clone(&log),
        ));
        let ready = until_within(START, "the node is ready", async || {
            let ended = child.try_wait().expect("our child");
            let ready = lines(&log).iter().find_map(|line| ready_line(line));
            assert!(
                ready.is_some() || ended.is_none(),
                "the node ended: {}",
                lines(&log).join("\n")
            );
            ready
        });
        let (addresses, admin, link) = ready.await;
        Self {
            folder,
            child,
            log,
            addresses,
            admin,
            link,
        }
    }

    /// Where other nodes link to it.
    pub fn link(&self) -> SocketAddr {
        self.link.expect("the node has a link")
    }

    /// The first listener's address.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// All listeners' addresses, in the configuration's order.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// A file beside the configuration.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces `from`, which is there once, in the node's configuration.
    pub fn edit(&self, from: &str, to: &str) {
        let path = self.path(NODE_FILE);
        let text = std::fs::read_to_string(&path).expect("the configuration is there");
        assert_eq!(text.matches(from).count(), 1, "{from} in {text}");
        std::fs::write(&path, text.replace(from, to)).expect("the folder is writable");
    }

    /// A request to the API `api`; `path` starts with the stage.
    pub fn build(&self, method: &str, path: &str) -> http::request::Builder {
        self.build_for("api", method, path)
    }

    /// A request to the API of this id.
    pub fn build_for(&self, api: &str, method: &str, path: &str) -> http::request::Builder {
        let host = format!(
            "{api}.execute-api.local.localhost:{}",
            self.address().port()
        );
        Request::builder()
            .method(method)
            .uri(path)
            .header("host", host)
    }

    /// Asks the API `api` on a connection of its own.
    pub async fn get(&self, path: &str) -> Reply {
        self.ask(self.build("GET", path)).await
    }

    /// Sends JSON to the API `api` on a connection of its own.
    pub async fn post(&self, path: &str, body: impl Into<Bytes>) -> Reply {
        let request = self
            .build("POST", path)
            .header("content-type", "application/json");
        self.request(request.body(body.into()).expect("a request"))
            .await
    }

    /// Sends a request without a body on a connection of its own.
    pub async fn ask(&self, request: http::request::Builder) -> Reply {
        self.request(request.body(Bytes::new()).expect("a request"))
            .await
    }

    /// Sends a request on a connection of its own.
    pub async fn request(&self, request: Request<Bytes>) -> Reply {
        let what = format!("{} {}", request.method(), request.uri());
        match timeout(PATIENCE, async { self.connect().await.ask(request).await }).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(error)) => panic!("{what}: {error:?}\n{}", self.log().join("\n")),
            Err(_) => panic!(
                "{what}: no response within {PATIENCE:?}\n{}",
                self.log().join("\n")
            ),
        }
    }

    /// A new HTTP/1.1 connection.
    pub async fn connect(&self) -> Connection {
        Connection::http1(self.address())
            .await
            .expect("the node accepts")
    }

    /// A new HTTP/2 connection without TLS.
    pub async fn connect_h2(&self) -> Connection {
        Connection::http2(self.address())
            .await
            .expect("the node accepts")
    }

    /// A new TCP connection, for bytes that no client would send.
    pub async fn raw(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address())
            .await
            .expect("the node accepts");
        stream.set_nodelay(true).expect("a socket");
        stream
    }

    /// The admin server's address.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// Asks the admin server.
    pub async fn admin(&self, path: &str) -> Reply {
        let request = Request::builder()
            .uri(path)
            .header("host", self.admin.to_string())
            .body(Bytes::new());
        self.ask_admin(request.expect("a request")).await
    }

    /// Sends a request to the admin server.
    pub async fn ask_admin(&self, request: Request<Bytes>) -> Reply {
        let mut connection = Connection::http1(self.admin)
            .await
            .expect("the node accepts");
        connection.ask(request).await.expect("a response")
    }

    /// Swaps a version of a plugin in, without a process of the command line's.
    pub async fn swap(&self, plugin: &str, component: Vec<u8>) -> Reply {
        let request = Request::put(format!("/tidegate/v1/plugins/{plugin}"))
            .header("host", self.admin.to_string())
            .header("content-type", "application/wasm")
            .body(component.into());
        self.ask_admin(request.expect("a request")).await
    }

    /// Reads `/metrics`.
    pub async fn metrics(&self) -> Metrics {
        Metrics::parse(&self.admin("/metrics").await.text())
    }

    /// Waits until the metrics are as `condition` wants them.
    pub async fn until(&self, what: &str, condition: impl Fn(&Metrics) -> bool) {
        until(what, async || {
            condition(&self.metrics().await).then_some(())
        })
        .await;
    }

    /// Every line that the node wrote so far.
    pub fn log(&self) -> Vec<String> {
        lines(&self.log)
    }

    /// Waits for a line that holds every one of `words`; gives it.
    pub async fn until_logged(&self, words: &[&str]) -> String {
        let holds = |line: &String| words.iter().all(|word| line.contains(word));
        let found = until("a line of the log", async || {
            self.log().into_iter().find(holds)
        });
        match timeout(PATIENCE / 2, found).await {
            Ok(line) => line,
            Err(_) => panic!("no line with {words:?} in:\n{}", self.log().join("\n")),
        }
    }

    /// Resident memory in bytes. Source: proc(5), `VmRSS`.
    pub fn resident_bytes(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most resident memory that there ever was, in bytes. Source: proc(5), `VmHWM`.
    pub fn resident_bytes_max(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, field: &str) -> u64 {
        let path = format!("/proc/{}/status", self.id());
        let status = std::fs::read_to_string(path).expect("the node runs");
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kibibytes = line
            .expect("a process has memory")
            .trim()
            .trim_end_matches("kB")
            .trim();
        kibibytes.parse::<u64>().expect("a number") * 1024
    }

    /// Sends SIGTERM and does not wait.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends SIGHUP and does not wait.
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// Sends SIGKILL and does not wait.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Has it do nothing at all until [`TestNode::resume`]: as one that hangs, or cannot be reached.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.id())
            .ok()
            .and_then(Pid::from_raw)
            .expect("a process id");
        kill_process(pid, signal).expect("the node runs");
    }

    /// Waits for the node's end.
    pub async fn ended(&mut self) -> ExitStatus {
        match timeout(PATIENCE, self.child.wait()).await {
            Ok(status) => status.expect("our child"),
            Err(_) => panic!("the node did not end:\n{}", self.log().join("\n")),
        }
    }

    /// Sends SIGTERM, waits for the end, and sees that it was a clean one.
    pub async fn stop(mut self) -> Stopped {
        self.terminate();
        let status = self.ended().await;
        assert!(status.success(), "{status}:\n{}", self.log().join("\n"));
        Stopped {
            address: self.address(),
            folder: self.folder,
        }
    }

    /// Ends the node by SIGKILL.
    pub async fn kill9(mut self) -> Stopped {
        self.child.start_kill().expect("the node runs");
        self.ended().await;
        Stopped {
            address: self.address(),
            folder: self.folder,
        }
    }

    /// The process's.
    pub fn id(&self) -> u32 {
        self.child.id().expect("not waited for yet")
    }
}

/// What a node that ended left behind.
pub struct Stopped {
    folder: TempDir,
    address: SocketAddr,
}

impl Stopped {
    /// Starts a node again in the same folder.
    pub async fn start(self) -> TestNode {
        TestNode::spawn(self.folder).await
    }

    /// Starts a node again in the same folder, on the address that the first listener got from the kernel: cached responses
    /// are of one port.
    pub async fn start_again(self) -> TestNode {
        let file = self.folder.path().join(NODE_FILE);
        let text = std::fs::read_to_string(&file).expect("the configuration is there");
        let free = "[[listener]]\naddress = '127.0.0.1:0'";
        let same = format!("[[listener]]\naddress = '{}'", self.address);
        std::fs::write(&file, text.replace(free, &same)).expect("the folder is writable");
        self.start().await
    }

    /// Starts a node again that must refuse to: gives what it said.
    pub fn refused(self) -> Check {
        crate::setup::refused(self.folder.path())
    }

    /// The folder of its configuration.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

async fn keep_lines(stream: impl AsyncRead + Unpin, log: Log) {
    let mut stream = BufReader::new(stream).lines();
    while let Ok(Some(line)) = stream.next_line().await {
        log.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(line);
    }
}

fn lines(log: &Log) -> Vec<String> {
    log.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn ready_line(line: &str) -> Option<(Vec<SocketAddr>, SocketAddr, Option<SocketAddr>)> {
    let message: Value = serde_json::from_str(line).ok()?;
    let listeners = message["ready"]["listeners"].as_array()?;
    let addresses = listeners
        .iter()
        .map(|listener| listener["address"].as_str()?.parse().ok());
    Some((
        addresses.collect::<Option<_>>()?,
        message["ready"]["admin"].as_str()?.parse().ok()?,
        message["ready"]["link"]
            .as_str()
            .and_then(|link| link.parse().ok()),
    ))
}

/// A cold start compiles every component; a busy machine takes its time for a large one.
const START: Duration = Duration::from_secs(120);
