//! What a node has in common with others: who it is to them, and what they serve together.

use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;

use anyhow::{Context, Result};
use tidegate_model::config::{Node, Role};
use tidegate_sandbox::Runtime;
use tokio::sync::{Semaphore, mpsc};

use crate::identity::{Authority, ClientAuth, Identity};
use crate::link::host::Shared;
use crate::link::origins::Origins;
use crate::link::{ALPN_H2, ALPN_H3, quic};
use crate::listen::accept;
use crate::services::quota::ledger::Settle;
use crate::sync::manifest::Manifest;
use crate::sync::nodes::Nodes;
use crate::sync::publish::Publisher;
use crate::sync::purges::Purges;

/// A node among others.
pub struct Membership {
    pub identity: Identity,
    /// Signs certificates: at the first origin of a region.
    pub authority: Option<Arc<Authority>>,
    pub publisher: Arc<Publisher>,
    pub purges: Arc<Purges>,
    pub nodes: Arc<Nodes>,
    /// It serves what its origins do, and nothing of its own.
    pub follows: bool,
}

/// The sockets of the link, one of each for each worker.
pub struct LinkSockets {
    pub udp: Vec<UdpSocket>,
    pub tcp: Vec<TcpListener>,
}

impl Membership {
    /// That of a node which has a link or origins; `None` for one that is alone.
    ///
    /// # Errors
    /// Where the node has not joined, or its data directory cannot be used.
    pub fn of(node: &Node, name: &str) -> Result<Option<Self>> {
        let follows = !node.origins.is_empty();
        if !follows && node.link.is_none() {
            return Ok(None);
        }
        let directory = crate::sync::directory(&node.data);
        let publisher = Arc::new(Publisher::open(&directory)?);
        let purges = Arc::new(Purges::open(&directory.join("purges"))?);
        let (identity, authority) = if follows {
            let identity = Identity::load(&node.data)?.context(
                "this node has not joined its origins: ask one for a token (`tidegate node token`), then run `tidegate node join \
                 TOKEN CONFIG` here",
            )?;
            (identity, None)
        } else {
            let authority = Authority::open(&node.data)?;
            let identity = authority.identify(&node.data, name, &node.region)?;
            (identity, Some(Arc::new(authority)))
        };
        Ok(Some(Self {
            identity,
            authority,
            publisher,
            purges,
            nodes: Arc::default(),
            follows,
        }))
    }

    /// The snapshot that a follower served last. One that cannot be used is told of in the log: its origins have it.
    pub fn last(&self) -> Option<Manifest> {
        match self.publisher.files.current() {
            Ok(manifest) => manifest,
            Err(error) => {
                tracing::error!(
                    "the last snapshot cannot be used, waiting for an origin's: {error:#}"
                );
                None
            }
        }
    }

    /// The ways to the node's origins, where it has some.
    ///
    /// # Errors
    /// Where its certificate cannot be used.
    pub fn origins(&self, node: &Node) -> Result<Option<Arc<Origins>>> {
        if node.origins.is_empty() {
            return Ok(None);
        }
        let addresses = node.origins.iter().map(|origin| origin.address.clone());
        let addresses: Vec<String> = addresses.collect();
        let origins = Origins::new(&addresses, self.identity.clone());
        Ok(Some(Arc::new(origins.context("links to origins")?)))
    }

    /// What workers answer other nodes with.
    pub fn shared(
        &self,
        name: &str,
        runtime: Arc<Runtime>,
        ledger: mpsc::Sender<Settle>,
    ) -> Arc<Shared> {
        Arc::new(Shared {
            name: name.to_owned(),
            identity: self.identity.clone(),
            authority: self.authority.clone(),
            publisher: self.publisher.clone(),
            purges: self.purges.clone(),
            nodes: self.nodes.clone(),
            ledger,
            runtime,
            sending: Arc::new(Semaphore::new(SENDING_MAX)),
        })
    }

    /// Keeps the certificate of an origin that signs its own valid, for ever.
    pub async fn keep_own_certificate(self: Arc<Self>) {
        let Some(authority) = self.authority.clone() else {
            return; // it asks an origin
        };
        let sign = async |csr: Vec<u8>| {
            let (authority, peer) = (authority.clone(), self.identity.peer());
            let signing =
                tokio::task::spawn_blocking(move || authority.answer_renewal(&peer, &csr));
            Ok(signing.await??)
        };
        self.identity.keep_renewed(sign).await;
    }

    /// TLS for the link: over QUIC every node shows its certificate; over TCP those that join have none yet.
    ///
    /// # Errors
    /// Where the node's certificate cannot be used.
    pub fn tls(identity: &Identity) -> Result<(rustls::ServerConfig, rustls::ServerConfig)> {
        Ok((
            identity.server_config(&[ALPN_H3], ClientAuth::Required)?,
            identity.server_config(&[ALPN_H2], ClientAuth::Optional)?,
        ))
    }
}

impl LinkSockets {
    /// Opens the link's port, for UDP and TCP; none where the node takes no others.
    ///
    /// # Errors
    /// Where the address is in use, or not permitted.
    pub fn bind(node: &Node, workers: usize) -> Result<Option<Self>> {
        let Some(link) = node.link.as_ref().filter(|_| node.role != Role::Edge) else {
            return Ok(None);
        };
        let told = || format!("[link]: {} cannot be listened on", link.address);
        let mut attempts = ATTEMPTS;
        loop {
            let tcp = accept::bind(link.address, workers).with_context(told)?;
            // Port 0: the same one for both.
            let address = tcp[0].local_addr().with_context(told)?;
            match quic::bind(address, workers) {
                Ok(udp) => return Ok(Some(Self { udp, tcp })),
                Err(_) if link.address.port() == 0 && attempts > 0 => attempts -= 1,
                Err(error) => return Err(error).with_context(told),
            }
        }
    }
}

/// Files at once, of some megabytes most of them.
const SENDING_MAX: usize = 16;
/// To find a port that is free for both.
const ATTEMPTS: usize = 16;
