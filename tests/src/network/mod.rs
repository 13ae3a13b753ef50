//! Regions on one machine: network namespaces, and a relay between them that is far, loses packets, and can be cut.
//!
//! Each [`Region`] is a namespace with a TUN device; `relay` carries IPv4 packets between the devices, since kernels of
//! small machines have no `netem`. [`Region::within`] makes sockets and processes there. Nothing of it has a name on the
//! machine: a namespace ends with its last process and socket, a device with its last descriptor, also after a panic or a
//! kill.
//!
//! It does not model: jitter, reordering, IPv6, packets beyond 1500 bytes.

mod region;
mod relay;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

pub use region::{Region, Within};
pub use relay::Traffic;

use relay::Relay;

/// Namespaces and the paths between them.
pub struct Network {
    regions: Vec<Region>,
    relay: Relay,
}

/// A path between two regions, the same in both directions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Path {
    /// There and back.
    pub rtt: Duration,
    /// The share of packets that is lost, of each direction.
    pub loss: f64,
    /// Of each direction; none: no limit. What waits for longer than 200 ms is dropped, as routers do.
    pub bytes_per_second: Option<u64>,
}

/// What the machine lacks.
#[derive(Debug)]
pub struct Missing(String);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "regions need network namespaces, /dev/net/tun and iproute2's `ip`, as root or in `unshare -Urn`: {}",
            self.0
        )
    }
}

impl std::error::Error for Missing {}

impl Missing {
    /// Says so beside the runner's output.
    pub fn say(&self) {
        crate::say_skipped(self);
    }
}

impl Network {
    /// Makes regions without paths. What is lost is the same in every run with the same seed and the same packets.
    ///
    /// # Errors
    /// What the machine lacks.
    pub fn start(names: &[&str], seed: u64) -> Result<Self, Missing> {
        let build = || -> io::Result<Self> {
            let home = Arc::new(region::namespace_of_this_thread()?);
            let mut regions = Vec::new();
            let mut devices = Vec::new();
            for (index, name) in names.iter().enumerate() {
                let number = u8::try_from(index).map_err(io::Error::other)?;
                let (region, device) = Region::make(name, number, home.clone())?;
                regions.push(region);
                devices.push(device);
            }
            let relay = Relay::start(devices, seed)?;
            Ok(Self { regions, relay })
        };
        build().map_err(|error| Missing(error.to_string()))
    }

    /// A region by its name.
    pub fn region(&self, name: &str) -> &Region {
        &self.regions[self.index(name)]
    }

    /// All of them, in the order in which they were named.
    pub fn all(&self) -> &[Region] {
        &self.regions
    }

    /// Lays a path, or makes it another one.
    pub fn connect(&self, a: &str, b: &str, path: Path) {
        self.both(a, b, |wire| wire.path = Some(path));
    }

    /// Loses everything between two regions from now on, also what is under way.
    pub fn cut(&self, a: &str, b: &str) {
        self.both(a, b, |wire| wire.cut = true);
    }

    /// Ends a [`Self::cut`].
    pub fn heal(&self, a: &str, b: &str) {
        self.both(a, b, |wire| wire.cut = false);
    }

    /// Whether a path is cut.
    pub fn is_cut(&self, a: &str, b: &str) -> bool {
        self.relay.wire(self.index(a), self.index(b)).cut
    }

    /// Loses UDP between two regions, as some firewalls do, or lets it through.
    pub fn block_udp(&self, a: &str, b: &str, block: bool) {
        self.both(a, b, |wire| wire.udp_blocked = block);
    }

    /// What went from one region to another so far, one way.
    pub fn traffic(&self, from: &str, to: &str) -> Traffic {
        self.relay.wire(self.index(from), self.index(to)).traffic
    }

    fn both(&self, a: &str, b: &str, change: impl Fn(&mut relay::Wire)) {
        let (a, b) = (self.index(a), self.index(b));
        change(&mut self.relay.wire(a, b));
        change(&mut self.relay.wire(b, a));
    }

    #[track_caller]
    fn index(&self, name: &str) -> usize {
        let found = self.regions.iter().position(|region| region.name() == name);
        found.unwrap_or_else(|| panic!("no region {name}"))
    }
}
