//! What lies between two nodes and is neither's: a path for datagrams that changes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Passes datagrams on, late if need be, and can come from other ports from one moment to the next, as a router that was
/// restarted does.
pub struct Router {
    pub address: SocketAddr,
    leads_to: watch::Sender<SocketAddr>,
    passes: watch::Sender<Passes>,
}

/// What a router lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passes {
    Everything,
    /// To the far end; nothing comes back.
    OneWay,
    Nothing,
}

impl Router {
    /// Leads to `to`.
    pub async fn start(to: SocketAddr) -> Self {
        Self::start_late(to, Duration::ZERO).await
    }

    /// Leads to `to`, where everything arrives `late`.
    pub async fn start_late(to: SocketAddr, late: Duration) -> Self {
        let near = Arc::new(UdpSocket::bind("127.0.0.1:0").await.expect("a port"));
        let address = near.local_addr().expect("bound");
        let (leads_to, to) = watch::channel(to);
        let passes = watch::Sender::new(Passes::Everything);
        tokio::spawn(pass_on(near, to, late, passes.subscribe()));
        Self {
            address,
            leads_to,
            passes,
        }
    }

    /// Comes from other ports from now on.
    pub fn restart(&self) {
        self.leads_to.send_modify(|_| {});
    }

    /// Leads to somewhere else from now on.
    pub fn lead_to(&self, to: SocketAddr) {
        self.leads_to.send_replace(to);
    }

    /// Lets that through from now on.
    pub fn let_pass(&self, passes: Passes) {
        self.passes.send_replace(passes);
    }
}

async fn pass_on(
    near: Arc<UdpSocket>,
    mut leads_to: watch::Receiver<SocketAddr>,
    late: Duration,
    passes: watch::Receiver<Passes>,
) {
    let mut ways: HashMap<SocketAddr, mpsc::UnboundedSender<(Instant, Vec<u8>)>> = HashMap::new();
    let mut tasks = tokio::task::JoinSet::new();
    let mut datagram = [0; 2048];
    loop {
        let (length, from) = tokio::select! {
            changed = leads_to.changed() => {
                if changed.is_err() {
                    return;
                }
                ways.clear();
                tasks.abort_all();
                continue;
            }
            got = near.recv_from(&mut datagram) => match got {
                Ok(got) => got,
                Err(_) => return,
            },
        };
        if *passes.borrow() == Passes::Nothing {
            continue;
        }
        let way = match ways.entry(from) {
            Entry::Occupied(way) => way.into_mut(),
            Entry::Vacant(way) => {
                let far = Arc::new(UdpSocket::bind("127.0.0.1:0").await.expect("a port"));
                let to = *leads_to.borrow();
                far.connect(to).await.expect("an address");
                let (sender, mut waiting) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
                let forth = far.clone();
                tasks.spawn(async move {
                    while let Some((due, datagram)) = waiting.recv().await {
                        tokio::time::sleep_until(due).await;
                        _ = forth.send(&datagram).await;
                    }
                });
                let (near, passes) = (near.clone(), passes.clone());
                tasks.spawn(async move {
                    let mut datagram = [0; 2048];
                    while let Ok(length) = far.recv(&mut datagram).await {
                        if *passes.borrow() == Passes::Everything {
                            _ = near.send_to(&datagram[..length], from).await;
                        }
                    }
                });
                way.insert(sender)
            }
        };
        _ = way.send((Instant::now() + late, datagram[..length].to_vec()));
    }
}
