//! What is between regions: a thread for each that takes packets from its device, and one that hands packets to it when
//! they are due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tun_rs::{InterruptEvent, SyncDevice};

use super::Path;
use super::region::NETWORK;

/// Carries packets until it is dropped.
pub(super) struct Relay {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    devices: Vec<SyncDevice>,
    /// From each region to each, `from * regions + to`.
    wires: Vec<Mutex<Wire>>,
    /// What is on its way to each region.
    queues: Vec<Queue>,
    ended: InterruptEvent,
}

/// One direction of a path.
pub(super) struct Wire {
    /// None: there is no way.
    pub path: Option<Path>,
    pub cut: bool,
    pub udp_blocked: bool,
    pub traffic: Traffic,
    random: u64,
    /// When the last byte that was let in has left.
    free_at: Instant,
}

/// What a wire did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets that were, or will be, delivered.
    pub carried: u64,
    /// Packets that were lost by chance, by a cut or to a full queue.
    pub lost: u64,
}

#[derive(Default)]
struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Default)]
struct QueueState {
    /// By time, and those of one time in their order.
    parcels: BinaryHeap<Reverse<(Instant, u64, Parcel)>>,
    taken: u64,
    ended: bool,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Parcel {
    from: usize,
    packet: Vec<u8>,
}

impl Relay {
    pub(super) fn start(devices: Vec<SyncDevice>, seed: u64) -> io::Result<Self> {
        let count = devices.len();
        let now = Instant::now();
        let wires = (0..count * count).map(|index| Mutex::new(Wire::new(seed, index, now)));
        let shared = Arc::new(Shared {
            wires: wires.collect(),
            queues: (0..count).map(|_| Queue::default()).collect(),
            ended: InterruptEvent::new()?,
            devices,
        });
        let mut threads = Vec::new();
        for region in 0..count {
            let taking = shared.clone();
            threads.push(thread::Builder::new().spawn(move || taking.take_from(region))?);
            let handing = shared.clone();
            threads.push(thread::Builder::new().spawn(move || handing.hand_to(region))?);
        }
        Ok(Self { shared, threads })
    }

    pub(super) fn wire(&self, from: usize, to: usize) -> MutexGuard<'_, Wire> {
        self.shared.wire(from, to)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        _ = self.shared.ended.trigger();
        for queue in &self.shared.queues {
            lock(&queue.state).ended = true;
            queue.changed.notify_all();
        }
        for thread in self.threads.drain(..) {
            _ = thread.join();
        }
    }
}

impl Shared {
    fn wire(&self, from: usize, to: usize) -> MutexGuard<'_, Wire> {
        lock(&self.wires[from * self.devices.len() + to])
    }

    /// Takes what a region sends, and says when it will be where it is going.
    fn take_from(&self, region: usize) {
        let mut buffer = [0; PACKET_BYTES_MAX];
        while let Ok(length) = self.devices[region].recv_intr(&mut buffer, &self.ended) {
            let packet = &buffer[..length];
            let Some(to) = destination(packet).filter(|to| *to < self.devices.len()) else {
                continue; // IPv6's neighbour discovery, and names that lead nowhere
            };
            let due = self.wire(region, to).carry(packet, Instant::now());
            if let Some(due) = due {
                self.queues[to].put(
                    due,
                    Parcel {
                        from: region,
                        packet: packet.to_vec(),
                    },
                );
            }
        }
    }

    /// Hands a region what is due.
    fn hand_to(&self, region: usize) {
        while let Some(Parcel { from, packet }) = self.queues[region].next() {
            let mut wire = self.wire(from, region);
            if wire.cut {
                wire.traffic.carried -= 1;
                wire.traffic.lost += 1;
                continue;
            }
            drop(wire);
            // It fails where the region's own queue is full: then the packet is lost, as in the world.
            _ = self.devices[region].send(&packet);
        }
    }
}

impl Wire {
    fn new(seed: u64, index: usize, now: Instant) -> Self {
        Self {
            path: None,
            cut: false,
            udp_blocked: false,
            traffic: Traffic::default(),
            random: (seed ^ index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            free_at: now,
        }
    }

    /// When a packet that enters at `now` leaves at the other end; none where it is lost.
    fn carry(&mut self, packet: &[u8], now: Instant) -> Option<Instant> {
        let due = self.due(packet, now);
        match due {
            Some(_) => self.traffic.carried += 1,
            None => self.traffic.lost += 1,
        }
        due
    }

    fn due(&mut self, packet: &[u8], now: Instant) -> Option<Instant> {
        let path = self.path?;
        let refused = self.cut || (self.udp_blocked && packet.get(9) == Some(&UDP));
        if refused || self.chance() < path.loss {
            return None;
        }
        let mut leaves = now;
        if let Some(rate) = path.bytes_per_second {
            leaves = self.free_at.max(now);
            if leaves - now > WAIT_MAX {
                return None;
            }
            leaves += Duration::from_secs_f64(packet.len() as f64 / rate as f64);
            self.free_at = leaves;
        }
        Some(leaves + path.rtt / 2)
    }

    /// 0 to 1, excluding 1. Source: Vigna, "An experimental exploration of Marsaglia's xorshift generators", xorshift64*.
    fn chance(&mut self) -> f64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let bits = self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
        bits as f64 / (1_u64 << 53) as f64
    }
}

impl Queue {
    fn put(&self, due: Instant, parcel: Parcel) {
        let mut state = lock(&self.state);
        state.taken += 1;
        let number = state.taken;
        state.parcels.push(Reverse((due, number, parcel)));
        drop(state);
        self.changed.notify_one();
    }

    /// Waits for the next one that is due; none at the end.
    fn next(&self) -> Option<Parcel> {
        let mut state = lock(&self.state);
        loop {
            if state.ended {
                return None;
            }
            let now = Instant::now();
            let wait = match state.parcels.peek() {
                Some(Reverse((due, ..))) if *due <= now => {
                    return state.parcels.pop().map(|Reverse((.., parcel))| parcel);
                }
                Some(Reverse((due, ..))) => *due - now,
                None => Duration::from_secs(3600),
            };
            let waited = self.changed.wait_timeout(state, wait);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// The region that an IPv4 packet is for.
fn destination(packet: &[u8]) -> Option<usize> {
    let address: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
    let ours = packet[0] >> 4 == 4 && address[..2] == NETWORK;
    ours.then_some(usize::from(address[2]))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const PACKET_BYTES_MAX: usize = 2048;
/// Protocol number (IANA).
const UDP: u8 = 17;
/// What waits for a narrow path.
const WAIT_MAX: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(path: Option<Path>) -> (Wire, Instant) {
        let now = Instant::now();
        let mut wire = Wire::new(1, 0, now);
        wire.path = path;
        (wire, now)
    }

    const FAR: Path = Path {
        rtt: Duration::from_millis(150),
        loss: 0.0,
        bytes_per_second: None,
    };

    #[test]
    fn a_packet_takes_half_of_a_round_trip() {
        let (mut wire, now) = wire(Some(FAR));
        let due = wire.carry(&[0; 100], now);
        assert_eq!(due, Some(now + Duration::from_millis(75)));
    }

    #[test]
    fn no_path_and_a_cut_one_carry_nothing() {
        let (mut none, now) = wire(None);
        assert_eq!(none.carry(&[0; 100], now), None);
        let (mut cut, now) = wire(Some(FAR));
        cut.cut = true;
        assert_eq!(cut.carry(&[0; 100], now), None);
        assert_eq!(
            cut.traffic,
            Traffic {
                carried: 0,
                lost: 1
            }
        );
        cut.cut = false;
        assert!(cut.carry(&[0; 100], now).is_some());
    }

    #[test]
    fn a_narrow_path_makes_packets_wait_and_drops_what_would_wait_too_long() {
        let narrow = Path {
            rtt: Duration::ZERO,
            bytes_per_second: Some(10_000),
            ..FAR
        };
        let (mut wire, now) = wire(Some(narrow));
        let waits = (0..4).map(|_| wire.carry(&[0; 1000], now).map(|due| due - now));
        let waits: Vec<_> = waits
            .map(|wait| wait.map(|wait| wait.as_millis()))
            .collect();
        assert_eq!(waits, [Some(100), Some(200), Some(300), None]);
        let later = now + Duration::from_secs(1);
        assert_eq!(
            wire.carry(&[0; 1000], later),
            Some(later + Duration::from_millis(100))
        );
    }

    #[test]
    fn one_packet_of_a_hundred_is_lost_and_the_same_ones_each_time() {
        let lossy = Path { loss: 0.01, ..FAR };
        let fates = || {
            let (mut wire, now) = wire(Some(lossy));
            let fates = (0..100_000).map(|_| wire.carry(&[0; 100], now).is_some());
            fates.collect::<Vec<_>>()
        };
        let first = fates();
        let lost = first.iter().filter(|arrives| !**arrives).count();
        assert!((900..1100).contains(&lost), "{lost}");
        assert_eq!(first, fates());
    }

    #[test]
    fn only_packets_to_regions_are_carried() {
        let mut packet = [0; 20];
        packet[0] = 0x45;
        packet[16..].copy_from_slice(&[10, 77, 3, 1]);
        assert_eq!(destination(&packet), Some(3));
        packet[17] = 78;
        assert_eq!(destination(&packet), None);
        packet[0] = 0x60;
        packet[17] = 77;
        assert_eq!(destination(&packet), None);
        assert_eq!(destination(&packet[..19]), None);
        assert_eq!(destination(&[]), None);
    }
}
