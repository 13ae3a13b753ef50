//! QUIC endpoints of the link.
//!
//! Each worker of an origin has a socket of its own on the link's port. Connections stay with their worker also when their
//! path changes: the first byte of a connection's identifier says whose it is, and a filter in the kernel sends packets by
//! that byte and not by the sender's address.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig, IdleTimeout,
    ServerConfig, TokioRuntime, TransportConfig, VarInt,
};
use socket2::{Domain, Protocol, Socket, Type};

/// Opens `workers` sockets on one address, the n-th for the n-th worker. Port 0 takes a free one for all.
///
/// # Errors
/// Where the address is in use, or not permitted.
pub fn bind(address: SocketAddr, workers: usize) -> io::Result<Vec<UdpSocket>> {
    let first = bind_one(address)?;
    let address = first.local_addr()?;
    let rest = (1..workers).map(|_| bind_one(address));
    let sockets: Vec<UdpSocket> = std::iter::once(Ok(first))
        .chain(rest)
        .collect::<io::Result<_>>()?;
    if let Some(shards) = shards(workers) {
        steer(&sockets[0], shards)?;
    }
    Ok(sockets)
}

fn bind_one(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// A worker's endpoint on its socket.
///
/// # Errors
/// Where TLS cannot be used for QUIC, or the socket cannot be given to the runtime.
pub fn server(
    socket: UdpSocket,
    mut tls: rustls::ServerConfig,
    worker: usize,
    workers: usize,
) -> io::Result<Endpoint> {
    tls.max_early_data_size = u32::MAX; // QUIC has limits of its own (RFC 9001 section 4.6.1)
    let crypto = QuicServerConfig::try_from(tls).map_err(io::Error::other)?;
    let mut server = ServerConfig::with_crypto(Arc::new(crypto));
    server.transport_config(Arc::new(transport()));
    server.migration(true);
    let mut endpoint = EndpointConfig::default();
    if let Some(shards) = shards(workers) {
        let shard = u8::try_from(worker).map_err(io::Error::other)?;
        endpoint.cid_generator(move || Box::new(Steered { shard, shards }));
    }
    Endpoint::new(endpoint, Some(server), socket, Arc::new(TokioRuntime))
}

/// An endpoint that only connects, to addresses of `to`'s family.
///
/// # Errors
/// Where no socket is to be had.
pub fn client(to: SocketAddr) -> io::Result<Endpoint> {
    let any = match to {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    Endpoint::client(any)
}

/// How connections to origins are made.
///
/// # Errors
/// Where TLS cannot be used for QUIC.
pub fn client_config(mut tls: rustls::ClientConfig) -> io::Result<ClientConfig> {
    tls.enable_early_data = true;
    let crypto = QuicClientConfig::try_from(tls).map_err(io::Error::other)?;
    let mut client = ClientConfig::new(Arc::new(crypto));
    client.transport_config(Arc::new(transport()));
    Ok(client)
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    let idle = IdleTimeout::try_from(IDLE_TIMEOUT).expect("milliseconds fit");
    transport
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .initial_rtt(INITIAL_RTT)
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(UNI_STREAMS_MAX))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(u64::from(CONNECTION_WINDOW))
        .datagram_receive_buffer_size(None);
    transport
}

/// Into how many shares connection identifiers are parted; `None`: one worker takes all.
fn shards(workers: usize) -> Option<u8> {
    u8::try_from(workers).ok().filter(|&workers| workers > 1)
}

/// Makes identifiers whose first byte, modulo the number of workers, names the worker.
struct Steered {
    shard: u8,
    shards: u8,
}

impl ConnectionIdGenerator for Steered {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; ID_BYTES];
        // Without random numbers there is no TLS either.
        let _ = aws_lc_rs::rand::fill(&mut id);
        id[0] = first_byte(id[0], self.shard, self.shards);
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// A byte near `random` whose remainder is `shard`.
fn first_byte(random: u8, shard: u8, shards: u8) -> u8 {
    let whole = random - random % shards;
    whole
        .checked_add(shard)
        .unwrap_or_else(|| whole - shards + shard)
}

/// Tells the kernel which of the sockets that share `socket`'s port takes a packet: the one whose place is the first byte of
/// the destination's connection identifier, modulo `shards`. The identifier follows the first byte in short headers, and
/// version and length in long ones (RFC 9000 section 17).
fn steer(socket: &UdpSocket, shards: u8) -> io::Result<()> {
    let program = [
        instruction(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, 0),
        instruction(
            libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K,
            2,
            0,
            LONG_HEADER,
        ),
        instruction(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, 1),
        instruction(libc::BPF_JMP | libc::BPF_JA, 0, 0, 1),
        instruction(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, 6),
        instruction(
            libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K,
            0,
            0,
            u32::from(shards),
        ),
        instruction(libc::BPF_RET | libc::BPF_A, 0, 0, 0),
    ];
    let filter = libc::sock_fprog {
        len: program.len() as libc::c_ushort,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel copies the program, which lives until the call returns, and reads as many bytes as it is told.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const filter).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if set == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn instruction(code: u32, if_true: u8, if_false: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16, // the constants are of 16 bits in the kernel
        jt: if_true,
        jf: if_false,
        k,
    }
}

const LONG_HEADER: u32 = 0x80;
const ID_BYTES: usize = 8;
/// An origin that was killed is noticed, and another one asked, within two seconds.
const IDLE_TIMEOUT: Duration = Duration::from_millis(1500);
/// Until it is measured. A first packet is sent again after three times as long, so an origin that is back is soon found.
const INITIAL_RTT: Duration = Duration::from_millis(100);
/// Three of them may be lost.
const KEEP_ALIVE: Duration = Duration::from_millis(400);
/// Requests of one connection at once; what is more waits.
const STREAMS_MAX: u32 = 1024;
/// HTTP/3 has three, and leave for more that are ignored.
const UNI_STREAMS_MAX: u32 = 16;
/// 2 MiB fill 100 Mbit/s at a round trip of 160 ms.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifiers_first_byte_names_its_worker() {
        for shards in [2, 3, 7, 64, 255] {
            for shard in [0, 1, shards - 1] {
                for random in 0..=255 {
                    assert_eq!(first_byte(random, shard, shards) % shards, shard);
                }
            }
        }
    }

    #[test]
    fn packets_reach_the_worker_that_their_identifier_names_from_any_address() {
        let sockets = bind("127.0.0.1:0".parse().unwrap(), 3).unwrap();
        let to = sockets[0].local_addr().unwrap();
        let patience = Some(Duration::from_secs(5));
        for socket in &sockets {
            socket.set_nonblocking(false).unwrap();
            socket.set_read_timeout(patience).unwrap();
        }
        for id in [0_u8, 1, 2, 7, 254] {
            let worker = &sockets[usize::from(id % 3)];
            for _ in 0..4 {
                let sender = UdpSocket::bind("127.0.0.1:0").unwrap(); // another port each time
                let mut got = [0; 8];
                let short = [0x40, id, 9, 9];
                sender.send_to(&short, to).unwrap();
                assert_eq!(worker.recv(&mut got).unwrap(), short.len());
                assert_eq!(got[..4], short);
                let long = [0xc0, 0, 0, 0, 1, 8, id, 9];
                sender.send_to(&long, to).unwrap();
                assert_eq!(worker.recv(&mut got).unwrap(), long.len());
                assert_eq!(got, long);
            }
        }
    }
}
