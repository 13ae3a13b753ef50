//! Requests at times of their own, and how long each took.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::timeout;

use crate::node::TestNode;
use crate::wait::PATIENCE;

/// So many requests a second, whether or not those before were answered: how long each took counts from when it was due, so
/// that one that holds up others is seen in all of them.
///
/// On threads of its own, one for each connection: a runtime's timers have a grain of a millisecond.
pub struct Pace {
    latencies: UnboundedReceiver<io::Result<Duration>>,
    stopping: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Pace {
    /// Sends `GET path` to the API `api`, `per_second` times a second.
    pub fn start(node: &TestNode, path: &str, per_second: u32) -> Self {
        let request = node.build("GET", path).body(()).expect("a request");
        let host = request.headers()["host"].to_str().expect("text");
        let bytes = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n");
        let (sender, latencies) = mpsc::unbounded_channel();
        let stopping = Arc::new(AtomicBool::new(false));
        let between = Duration::from_secs(1) / per_second;
        let began = Instant::now();
        let threads = (0..CONNECTIONS).map(|place| {
            let (address, bytes, sender) = (node.address(), bytes.clone(), sender.clone());
            let stopping = stopping.clone();
            let first = began + between * place;
            thread::spawn(move || {
                let sent = send(
                    address,
                    bytes.as_bytes(),
                    first,
                    between * CONNECTIONS,
                    &stopping,
                    &sender,
                );
                if let Err(error) = sent {
                    _ = sender.send(Err(error));
                }
            })
        });
        Self {
            threads: threads.collect(),
            latencies,
            stopping,
        }
    }

    /// The latencies of the next `count` requests to be answered, the shortest first.
    pub async fn next(&mut self, count: usize) -> Vec<Duration> {
        while let Ok(latency) = self.latencies.try_recv() {
            latency.expect("answered with 200");
        }
        let mut latencies = Vec::with_capacity(count);
        while latencies.len() < count {
            let next = timeout(PATIENCE, self.latencies.recv()).await;
            let latency = next.expect("answers in time").expect("it goes on");
            latencies.push(latency.expect("answered with 200"));
        }
        latencies.sort_unstable();
        latencies
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            _ = thread.join(); // one that panicked has been heard of
        }
    }
}

fn send(
    address: SocketAddr,
    request: &[u8],
    mut due: Instant,
    every: Duration,
    stopping: &AtomicBool,
    latencies: &UnboundedSender<io::Result<Duration>>,
) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut answers = BufReader::new(stream.try_clone()?);
    while !stopping.load(Ordering::Relaxed) {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        stream.write_all(request)?;
        read_answer(&mut answers)?;
        if latencies.send(Ok(due.elapsed())).is_err() {
            break;
        }
        due += every;
    }
    Ok(())
}

/// Reads a response with status 200 and a length.
fn read_answer(stream: &mut impl BufRead) -> io::Result<()> {
    let mut line = String::new();
    let mut body = 0;
    stream.read_line(&mut line)?;
    if !line.starts_with("HTTP/1.1 200 ") {
        return Err(io::Error::other(format!("answered with {line:?}")));
    }
    while line != "\r\n" {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(length) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            body = length.trim().parse().map_err(io::Error::other)?;
        }
    }
    io::copy(&mut stream.take(body), &mut io::sink())?;
    Ok(())
}

const CONNECTIONS: u32 = 8;
