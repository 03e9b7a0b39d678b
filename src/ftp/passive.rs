//! Passive data ports: handed out in turn, so that two sessions never reach for the same one, and
//! with `TCP_NODELAY`, which Linux lets the accepted connection inherit (without it a TLS handshake
//! on the data connection waits for a delayed acknowledgement).

use async_trait::async_trait;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use tokio::net::TcpSocket;

/// Where the next search for a free port begins; shared by all sessions of a door.
#[derive(Debug, Clone)]
pub(super) struct PassivePorts {
    next: Arc<AtomicU16>,
}

impl PassivePorts {
    /// Begins anywhere, so that the first port cannot be foretold.
    pub fn new() -> Self {
        PassivePorts { next: Arc::new(AtomicU16::new(RandomState::new().hash_one("inkport") as u16)) }
    }

    fn free_port(&self, address: IpAddr, ports: &RangeInclusive<u16>) -> io::Result<TcpSocket> {
        let count = u32::from(ports.end() - ports.start()) + 1;
        let first = u32::from(self.next.fetch_add(1, Ordering::Relaxed));
        let mut refused = io::Error::from(io::ErrorKind::AddrInUse);
        for step in 0..count {
            let port = ports.start() + u16::try_from((first + step) % count).expect("a remainder below a count of ports");
            let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            socket.set_reuseaddr(true)?;
            match socket.bind(SocketAddr::new(address, port)) {
                Ok(()) => {
                    socket.set_nodelay(true)?;
                    return Ok(socket);
                }
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }
}

#[async_trait]
impl libunftp::options::Binder for PassivePorts {
    async fn bind(&mut self, address: IpAddr, ports: RangeInclusive<u16>) -> io::Result<TcpSocket> {
        let socket = self.free_port(address, &ports);
        if let Err(error) = &socket {
            tracing::warn!(%error, ports = %format_args!("{}-{}", ports.start(), ports.end()), "no passive port is free: widen ftp.passive-ports");
        }
        socket
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_range_is_used_up_and_no_further() {
        let home: IpAddr = [127, 0, 0, 1].into();
        // Three ports that are free now; the search must find each exactly once.
        let ports = PassivePorts::new();
        let range = 29_870..=29_872;
        let held: Vec<_> = (0..3).map(|_| ports.free_port(home, &range).unwrap().listen(1).unwrap()).collect();
        let mut numbers: Vec<u16> = held.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [29_870, 29_871, 29_872]);
        assert!(ports.free_port(home, &range).is_err());
        drop(held);
        assert!(ports.free_port(home, &range).unwrap().nodelay().unwrap());
    }
}
