//! Who is at the other end: the connection's peer or, where that is a proxy that `http.trusted-proxies` names, whom
//! the proxy says it speaks for. What a client that is no such proxy writes into `X-Forwarded-For` is ignored.

use super::caller::ClientAddress;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::Response;
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

/// Entries of `X-Forwarded-For` that are looked at, from the nearest on.
const LONGEST_CHAIN: usize = 32;

/// The connection itself, as the accept loop saw it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    pub address: IpAddr,
    /// It is TLS of our own.
    pub secure: bool,
}

/// Whom a request comes from; in every request's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    pub address: IpAddr,
    /// It reached us, or the proxy before us, over TLS.
    pub secure: bool,
}

/// Networks or single addresses: `10.0.0.0/8`, `127.0.0.1`, `::1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(IpNet);

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let net = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        net.map(Network).ok_or_else(|| format!("\"{text}\" is not a network: write an address, or 10.0.0.0/8"))
    }
}

impl Network {
    fn contains(self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// An IPv4 client of an IPv6 socket is an IPv4 client.
fn plain(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// From the nearest hop outwards, the first that is no trusted proxy; what stands further left anybody may have
/// written.
fn resolve(peer: Peer, headers: &HeaderMap, trusted: &[Network]) -> Client {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut client = Client { address: plain(peer.address), secure: peer.secure };
    if !is_trusted(client.address) {
        return client;
    }
    let last = |name: &str| headers.get_all(name).iter().next_back().and_then(|value| value.to_str().ok());
    if let Some(scheme) = last("x-forwarded-proto") {
        client.secure = scheme.rsplit(',').next().is_some_and(|scheme| scheme.trim().eq_ignore_ascii_case("https"));
    }
    let lines = headers.get_all("x-forwarded-for").iter().rev();
    let hops = lines.flat_map(|line| line.to_str().unwrap_or("?").rsplit(',').map(str::trim).collect::<Vec<_>>());
    for hop in hops.take(LONGEST_CHAIN) {
        // With a port as some write it, and IPv6 in brackets.
        let bare = hop.strip_prefix('[').and_then(|rest| rest.split(']').next()).unwrap_or(hop);
        let address = bare.parse::<IpAddr>().ok().or_else(|| hop.parse::<std::net::SocketAddr>().ok().map(|with| with.ip()));
        let Some(address) = address.map(plain) else { break };
        client.address = address;
        if !is_trusted(address) {
            break;
        }
    }
    client
}

/// Puts the [`Client`] into the request's extensions.
pub(super) async fn identify(State(trusted): State<Arc<[Network]>>, mut request: Request, next: Next) -> Response {
    let nobody = Peer { address: IpAddr::from([0, 0, 0, 0]), secure: false };
    let peer = request.extensions().get::<Peer>().copied().unwrap_or(nobody);
    let client = resolve(peer, request.headers(), &trusted);
    request.extensions_mut().insert(client);
    request.extensions_mut().insert(ClientAddress(client.address));
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(peer: &str, forwarded: &[&str], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        let trusted: Vec<Network> = trusted.iter().map(|text| text.parse().unwrap()).collect();
        let peer = Peer { address: peer.parse().unwrap(), secure: false };
        resolve(peer, &headers, &trusted).address.to_string()
    }

    #[test]
    fn only_a_trusted_proxy_speaks_for_others() {
        let (proxy, inner) = ("127.0.0.1", "10.0.0.0/8");
        assert_eq!(seen("192.0.2.9", &["198.51.100.1"], &[proxy]), "192.0.2.9");
        assert_eq!(seen("127.0.0.1", &["198.51.100.1"], &[proxy]), "198.51.100.1");
        assert_eq!(seen("::ffff:127.0.0.1", &["198.51.100.1"], &[proxy]), "198.51.100.1");
        // What the client itself wrote stands further left.
        assert_eq!(seen("127.0.0.1", &["1.2.3.4, 198.51.100.1, 10.1.1.1"], &[proxy, inner]), "198.51.100.1");
        assert_eq!(seen("127.0.0.1", &["1.2.3.4", "198.51.100.1", "10.1.1.1"], &[proxy, inner]), "198.51.100.1");
        assert_eq!(seen("127.0.0.1", &["198.51.100.1", "nonsense"], &[proxy]), "127.0.0.1");
        assert_eq!(seen("127.0.0.1", &["[2001:db8::1]:99"], &[proxy]), "2001:db8::1");
        assert_eq!(seen("127.0.0.1", &["198.51.100.1:99"], &[proxy]), "198.51.100.1");
        assert_eq!(seen("127.0.0.1", &[], &[proxy]), "127.0.0.1");
        assert!("10.0.0.0/99".parse::<Network>().is_err() && "::1".parse::<Network>().is_ok());
    }

    #[test]
    fn https_is_what_the_proxy_says() {
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-proto", "https".parse().unwrap());
        let peer = Peer { address: [127, 0, 0, 1].into(), secure: false };
        assert!(resolve(peer, &headers, &["127.0.0.1".parse().unwrap()]).secure);
        assert!(!resolve(peer, &headers, &[]).secure);
    }
}
