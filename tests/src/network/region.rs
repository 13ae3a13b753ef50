//! A network namespace with a TUN device.

use std::fs::File;
use std::future::Future;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::process::Command;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
use tun_rs::{DeviceBuilder, SyncDevice};

/// A network of its own, of which other regions see one address.
pub struct Region {
    name: String,
    address: Ipv4Addr,
    namespace: File,
    /// Where threads are when they are in no region.
    home: Arc<File>,
}

impl Region {
    pub(super) fn make(name: &str, number: u8, home: Arc<File>) -> io::Result<(Self, SyncDevice)> {
        let address = Ipv4Addr::new(NETWORK[0], NETWORK[1], number, 1);
        // On a thread that ends: it has left its namespace for good.
        let made = std::thread::spawn(move || -> io::Result<_> {
            // SAFETY: the flag is not `FILES`; descriptors stay shared with all threads.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET)? };
            let device = DeviceBuilder::new()
                .name(DEVICE)
                .mtu(1500)
                // What waits while this process is kept from running is not lost.
                .with(|device| _ = device.tx_queue_len(10_000))
                .ipv4(address, 16, None)
                .build_sync()?;
            loopback_up()?;
            Ok((namespace_of_this_thread()?, device))
        });
        let (namespace, device) = made.join().expect("it does not panic")?;
        let region = Self {
            name: name.to_owned(),
            address,
            namespace,
            home,
        };
        Ok((region, device))
    }

    /// As it was named.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What other regions reach it by.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Runs `future` in this region: sockets that it opens and processes that it starts are there. Tasks that it spawns are
    /// not, unless they use a socket of it.
    pub fn within<F: Future>(&self, future: F) -> Within<'_, F> {
        Within {
            region: self,
            future: Box::pin(future),
        }
    }

    fn enter(&self) -> Inside<'_> {
        enter(&self.namespace).expect("the namespace was entered before");
        Inside { home: &self.home }
    }
}

/// A future in a region.
pub struct Within<'r, F> {
    region: &'r Region,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for Within<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let _inside = self.region.enter();
        self.future.as_mut().poll(context)
    }
}

/// While it is there, this thread is in a region; also a panic ends it.
struct Inside<'r> {
    home: &'r File,
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        enter(self.home).expect("the thread came from there");
    }
}

fn enter(namespace: &File) -> io::Result<()> {
    let kind = Some(LinkNameSpaceType::Network);
    Ok(move_into_link_name_space(namespace.as_fd(), kind)?)
}

pub(super) fn namespace_of_this_thread() -> io::Result<File> {
    File::open("/proc/thread-self/ns/net")
}

fn loopback_up() -> io::Result<()> {
    let status = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status()?;
    match status.success() {
        true => Ok(()),
        false => Err(io::Error::other("`ip link set lo up` failed")),
    }
}

/// 10.77.REGION.1, of which no two machines are expected to meet.
pub(super) const NETWORK: [u8; 2] = [10, 77];
const DEVICE: &str = "region0";
