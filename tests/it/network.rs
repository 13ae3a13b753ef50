//! The network of the harness itself: it is measured before anything is measured with it.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_tests::network::{Network, Path, Traffic};
use tidegate_tests::{PATIENCE, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;

/// A network, or a line that says why there is none.
fn network(names: &[&str]) -> Option<Network> {
    match Network::start(names, SEED) {
        Ok(network) => Some(network),
        Err(missing) => {
            missing.say();
            None
        }
    }
}

fn path(rtt_ms: u64) -> Path {
    Path {
        rtt: Duration::from_millis(rtt_ms),
        loss: 0.0,
        bytes_per_second: None,
    }
}

/// A socket in each of two regions, each of which sends to the other.
async fn sockets(network: &Network, a: &str, b: &str) -> (UdpSocket, UdpSocket) {
    let bind = async |name: &str| {
        let region = network.region(name);
        let bound = region.within(UdpSocket::bind((region.address(), 0)));
        bound.await.unwrap()
    };
    let (here, there) = (bind(a).await, bind(b).await);
    here.connect(there.local_addr().unwrap()).await.unwrap();
    there.connect(here.local_addr().unwrap()).await.unwrap();
    (here, there)
}

/// A TCP connection between two regions: both its ends, and how long it took to be there at the first one.
async fn connection(network: &Network, from: &str, to: &str) -> (TcpStream, TcpStream, Duration) {
    let (from, to) = (network.region(from), network.region(to));
    let listener = to
        .within(TcpListener::bind((to.address(), 0)))
        .await
        .unwrap();
    let address = listener.local_addr().unwrap();
    let began = Instant::now();
    let connected = from.within(TcpStream::connect(address)).await.unwrap();
    let took = began.elapsed();
    let (accepted, _) = listener.accept().await.unwrap();
    (connected, accepted, took)
}

/// There and back once.
async fn ping(here: &UdpSocket, there: &UdpSocket) -> io::Result<Duration> {
    let began = Instant::now();
    let mut byte = [0];
    here.send(b"?").await?;
    there.recv(&mut byte).await?;
    there.send(b"!").await?;
    here.recv(&mut byte).await?;
    Ok(began.elapsed())
}

#[tokio::test]
async fn a_round_trip_takes_what_was_asked_for() {
    let edges = [("near", 20), ("far", 80), ("farther", 150)];
    let Some(network) = network(&["origin", "near", "far", "farther"]) else {
        return;
    };
    for (edge, rtt_ms) in edges {
        network.connect("origin", edge, path(rtt_ms));
        let (here, there) = sockets(&network, edge, "origin").await;
        let (mut udp, mut tcp) = (Duration::MAX, Duration::MAX);
        for _ in 0..10 {
            udp = udp.min(ping(&here, &there).await.unwrap());
            let (_, _, took) = connection(&network, edge, "origin").await;
            tcp = tcp.min(took);
        }
        // The best of ten: the machine may be busy, and a path cannot be too fast by chance.
        let asked = Duration::from_millis(rtt_ms);
        println!("{edge}: asked {asked:?}, UDP {udp:?}, TCP {tcp:?}");
        for measured in [udp, tcp] {
            let off = measured.checked_sub(asked).expect("not faster than light");
            assert!(off < Duration::from_millis(2), "{edge}: {measured:?}");
        }
    }
}

#[tokio::test]
async fn one_datagram_of_a_hundred_is_lost_and_nothing_else() {
    let Some(network) = network(&["a", "b"]) else {
        return;
    };
    network.connect(
        "a",
        "b",
        Path {
            loss: 0.01,
            ..path(2)
        },
    );
    let (here, there) = sockets(&network, "a", "b").await;
    let before = network.traffic("a", "b");
    let (mut sent, mut arrived, mut byte) = (0, 0, [0]);
    while sent < 20_000 {
        for _ in 0..100 {
            here.send(b"?").await.unwrap();
            sent += 1;
        }
        let Traffic { carried, .. } = until("the relay has taken all", async || {
            let now = network.traffic("a", "b");
            (now.carried + now.lost - before.carried - before.lost == sent).then_some(now)
        })
        .await;
        while arrived < carried - before.carried {
            let datagram = timeout(PATIENCE, there.recv(&mut byte));
            datagram.await.expect("what is carried arrives").unwrap();
            arrived += 1;
        }
    }
    let lost = sent - arrived;
    println!("{lost} of {sent} lost");
    // Four standard deviations.
    assert!((144..=256).contains(&lost), "{lost} of {sent}");
}

#[tokio::test]
async fn a_cut_path_carries_nothing_and_a_healed_one_goes_on() {
    let Some(network) = network(&["a", "b", "c"]) else {
        return;
    };
    network.connect("a", "b", path(4));
    network.connect("a", "c", path(4));
    let (mut near, mut far, _) = connection(&network, "a", "b").await;
    let (here, there) = sockets(&network, "a", "b").await;
    let (other, third) = sockets(&network, "a", "c").await;
    ping(&here, &there).await.unwrap();

    network.cut("a", "b");
    assert!(network.is_cut("a", "b") && !network.is_cut("a", "c"));
    let lost = network.traffic("a", "b").lost;
    near.write_all(b"late").await.unwrap();
    here.send(b"?").await.unwrap();
    until("both were lost", async || {
        (network.traffic("a", "b").lost >= lost + 2).then_some(())
    })
    .await;
    ping(&other, &third).await.unwrap();
    assert!(there.try_recv(&mut [0]).is_err(), "the datagram is gone");

    network.heal("a", "b");
    let mut text = [0; 4];
    timeout(PATIENCE, far.read_exact(&mut text))
        .await
        .expect("TCP sends again")
        .unwrap();
    assert_eq!(&text, b"late");
    ping(&here, &there).await.unwrap();
}

#[tokio::test]
async fn a_cut_loses_what_is_under_way() {
    let Some(network) = network(&["a", "b"]) else {
        return;
    };
    network.connect("a", "b", path(200));
    let (here, there) = sockets(&network, "a", "b").await;
    here.send(b"?").await.unwrap();
    until("it is under way", async || {
        (network.traffic("a", "b").carried == 1).then_some(())
    })
    .await;
    network.cut("a", "b");
    until("it was lost", async || {
        (network.traffic("a", "b")
            == Traffic {
                carried: 0,
                lost: 1,
            })
        .then_some(())
    })
    .await;
    assert!(there.try_recv(&mut [0]).is_err());
}

#[tokio::test]
async fn a_path_that_blocks_udp_carries_tcp() {
    let Some(network) = network(&["a", "b"]) else {
        return;
    };
    network.connect("a", "b", path(2));
    let (here, there) = sockets(&network, "a", "b").await;
    network.block_udp("a", "b", true);
    here.send(b"?").await.unwrap();
    until("the datagram was lost", async || {
        (network.traffic("a", "b").lost == 1).then_some(())
    })
    .await;
    connection(&network, "a", "b").await;
    network.block_udp("a", "b", false);
    ping(&here, &there).await.unwrap();
}

#[tokio::test]
async fn a_narrow_path_carries_so_many_bytes_a_second() {
    let Some(network) = network(&["a", "b"]) else {
        return;
    };
    let narrow = Path {
        bytes_per_second: Some(1_000_000),
        ..path(10)
    };
    network.connect("a", "b", narrow);
    let (mut near, mut far, _) = connection(&network, "a", "b").await;
    let began = Instant::now();
    let sending = async {
        near.write_all(&vec![b'x'; 1_000_000]).await.unwrap();
        near.shutdown().await.unwrap();
    };
    let mut got = Vec::new();
    let (_, read) = tokio::join!(sending, far.read_to_end(&mut got));
    read.unwrap();
    let took = began.elapsed();
    println!("1 MB at 1 MB/s took {took:?}");
    // Headers come on top; drops are sent again.
    assert_eq!(got.len(), 1_000_000);
    assert!((1.0..4.0).contains(&took.as_secs_f64()), "{took:?}");
}

#[tokio::test]
async fn a_region_has_its_own_loopback_and_the_tests_thread_its_own_network() {
    let Some(network) = network(&["a", "b"]).map(Arc::new) else {
        return;
    };
    let a = network.region("a");
    let inside = a.within(TcpListener::bind("127.0.0.1:0")).await.unwrap();
    let address = inside.local_addr().unwrap();
    a.within(TcpStream::connect(address)).await.unwrap();
    let b = network.region("b");
    assert!(b.within(TcpStream::connect(address)).await.is_err());
    let home = std::fs::read_link(NAMESPACE).unwrap();
    let panicking = network.clone();
    let panicked = tokio::spawn(async move {
        let region = panicking.region("a");
        region
            .within(async { panic!("on purpose, in {:?}", std::fs::read_link(NAMESPACE)) })
            .await
    });
    assert!(panicked.await.is_err());
    assert_eq!(std::fs::read_link(NAMESPACE).unwrap(), home);
}

/// The one that the reading thread is in.
const NAMESPACE: &str = "/proc/thread-self/ns/net";
/// What is lost is the same in every run.
const SEED: u64 = 4;
