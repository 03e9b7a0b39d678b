//! Images by their address: off unless the operator allows it, since a request then decides where the daemon connects
//! to. What it may reach is bounded: `https` on port 443, an address that is public (looked at after the name was
//! resolved, and then connected to, so that a name cannot mean something else a moment later), redirects under the same
//! rules, bytes and time.

use crate::http::problem::Problem;
use axum::body::Bytes;
use axum::http::{StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Url;

/// For all of it, redirects included.
const WITHIN: Duration = Duration::from_secs(20);
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const REDIRECTS: usize = 3;
const LONGEST_ADDRESS: usize = 2048;

/// Fetches; clones are one.
#[derive(Clone)]
pub(super) struct Fetcher {
    tls: TlsConnector,
    may_reach: fn(SocketAddr) -> bool,
}

impl Fetcher {
    /// Trusts whom this machine trusts.
    pub(super) fn new() -> Self {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        let (taken, _) = roots.add_parsable_certificates(found.certs);
        if taken == 0 {
            tracing::warn!("this machine trusts no certificate authority: no image can be fetched by its address");
        }
        Fetcher::trusting(roots, |address| address.port() == 443 && is_public(address.ip()))
    }

    fn trusting(roots: RootCertStore, may_reach: fn(SocketAddr) -> bool) -> Self {
        let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider knows TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Fetcher { tls: TlsConnector::from(Arc::new(config)), may_reach }
    }

    /// The bytes behind an address, at most so many.
    pub(super) async fn fetch(&self, address: &str, at_most: usize) -> Result<Bytes, Problem> {
        match tokio::time::timeout(WITHIN, self.follow(address, at_most)).await {
            Ok(fetched) => fetched,
            Err(_) => Err(unfetched(format!("it did not come within {} s", WITHIN.as_secs()))),
        }
    }

    async fn follow(&self, address: &str, at_most: usize) -> Result<Bytes, Problem> {
        if address.len() > LONGEST_ADDRESS {
            return Err(unfetched("its address is too long"));
        }
        let mut url = Url::parse(address).map_err(|_| unfetched("its address is not a URL"))?;
        for _ in 0..=REDIRECTS {
            match self.get(&url, at_most).await? {
                Fetched::Bytes(bytes) => return Ok(bytes),
                Fetched::Elsewhere(next) => {
                    url = url.join(&next).map_err(|_| unfetched("it redirects to what is no URL"))?;
                }
            }
        }
        Err(unfetched(format!("it redirects more than {REDIRECTS} times")))
    }

    async fn get(&self, url: &Url, at_most: usize) -> Result<Fetched, Problem> {
        if url.scheme() != "https" {
            return Err(unfetched("only https addresses are fetched"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(unfetched("its address holds a user name or a password"));
        }
        let host = url.host_str().ok_or_else(|| unfetched("its address has no host"))?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let port = url.port_or_known_default().unwrap_or(443);
        let found = tokio::net::lookup_host((bare, port)).await.map_err(|_| unfetched("its host is not known"))?;
        let found: Vec<SocketAddr> = found.collect();
        // One private address among them, and the name is not to be trusted at all.
        if found.is_empty() || !found.iter().all(|address| (self.may_reach)(*address)) {
            return Err(unfetched("its host is not a public one, or its port is not 443"));
        }
        // To one of these and no other, whatever the name means by now.
        let connecting = tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect(&found[..])).await;
        let stream = connecting.ok().and_then(Result::ok).ok_or_else(|| unfetched("its host does not answer"))?;
        let name = ServerName::try_from(bare.to_owned()).map_err(|_| unfetched("its host has no proper name"))?;
        let stream = self.tls.connect(name, stream).await.map_err(|_| unfetched("its host's certificate is not trusted"))?;
        let broken = |_| unfetched("its host broke off");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await.map_err(broken)?;
        let driver = tokio::spawn(connection);
        let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
        let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
        let request = axum::http::Request::get(target.parse::<Uri>().map_err(|_| unfetched("its address is not a URL"))?)
            .header(header::HOST, authority)
            .header(header::USER_AGENT, concat!("inkport/", env!("CARGO_PKG_VERSION")))
            .header(header::ACCEPT, "image/*, application/pdf")
            .body(Empty::new())
            .map_err(|_| unfetched("its address is not a URL"))?;
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        if status.is_redirection() {
            driver.abort();
            let next = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            return next.map(|next| Fetched::Elsewhere(next.to_owned())).ok_or_else(|| unfetched("it redirects to nowhere"));
        }
        if status != StatusCode::OK {
            driver.abort();
            return Err(unfetched(format!("its host answers {}", status.as_u16())));
        }
        let body = Limited::new(response.into_body(), at_most).collect().await;
        driver.abort();
        match body {
            Ok(body) => Ok(Fetched::Bytes(body.to_bytes())),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("The image is larger than the {at_most} bytes that are allowed."),
            )),
            Err(_) => Err(unfetched("its host broke off")),
        }
    }
}

enum Fetched {
    Bytes(Bytes),
    Elsewhere(String),
}

fn unfetched(why: impl std::fmt::Display) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, format!("The image could not be fetched: {why}."))
}

/// Whether an address belongs to the public internet: not this machine, its networks, or anything reserved.
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            let reserved = a == 0
                || (a == 100 && (64..128).contains(&b))
                || (a == 192 && b == 0 && c == 0)
                || (a == 192 && b == 88 && c == 99)
                || (a == 198 && (18..20).contains(&b))
                || a >= 224;
            !(reserved || v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_documentation())
        }
        IpAddr::V6(v6) => {
            let [a, b, ..] = v6.segments();
            // Global unicast, without what is for documents or wraps an IPv4 address.
            (a & 0xe000) == 0x2000 && !(a == 0x2001 && (b < 0x0200 || b == 0x0db8)) && a != 0x2002 && a != 0x3fff
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[test]
    fn only_the_public_internet_is_public() {
        for private in [
            "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "192.0.0.8",
            "198.18.0.1", "224.0.0.1", "255.255.255.255", "203.0.113.9", "::1", "::", "fe80::1", "fd00::1", "ff02::1",
            "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2001:db8::1", "2002:7f00:1::", "2001::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
        for public in ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "2001:4860:4860::8888"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }

    /// A host that answers each connection with the next of these.
    async fn host(answers: Vec<String>) -> (SocketAddr, RootCertStore) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            for answer in answers {
                let Ok((stream, _)) = listener.accept().await else { return };
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut buffer = [0; 4096];
                let _ = stream.read(&mut buffer).await;
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        (address, roots)
    }

    fn told(problem: Problem) -> String {
        problem.detail.into_owned()
    }

    #[tokio::test]
    async fn what_is_allowed_is_fetched_and_redirects_are_judged_alike() {
        let ok = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_owned();
        let moved = |to: &str| format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
        let answers = vec![moved("/b"), ok.clone(), ok.clone(), moved("http://localhost/"), moved("https://10.0.0.1/x"), ok];
        let (address, roots) = host(answers).await;
        let port = address.port();
        let url = format!("https://localhost:{port}/a?x=1");
        let fetcher = Fetcher::trusting(roots.clone(), |address| address.ip().is_loopback());
        assert_eq!(fetcher.fetch(&url, 5).await.unwrap(), "hello");
        assert_eq!(fetcher.fetch(&url, 4).await.unwrap_err().status, StatusCode::PAYLOAD_TOO_LARGE);
        assert!(told(fetcher.fetch(&url, 5).await.unwrap_err()).contains("only https"));
        assert!(told(fetcher.fetch(&url, 5).await.unwrap_err()).contains("not a public one"));
        // The rules that are in force: this machine is never reached.
        let strict = Fetcher::trusting(roots, |address| address.port() == 443 && is_public(address.ip()));
        assert!(told(strict.fetch(&url, 5).await.unwrap_err()).contains("not a public one"));
        for bad in ["http://example.org/", "https://", "ftp://x/", "https://user:pw@localhost/", "https://127.0.0.1/"] {
            assert_eq!(strict.fetch(bad, 5).await.unwrap_err().status, StatusCode::UNPROCESSABLE_ENTITY, "{bad}");
        }
        // A host that nobody vouches for.
        let (other, _) = host(vec![String::new()]).await;
        let refused = fetcher.fetch(&format!("https://localhost:{}/", other.port()), 5).await.unwrap_err();
        assert!(told(refused).contains("not trusted"));
    }
}
