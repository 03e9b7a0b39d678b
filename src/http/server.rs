//! The accept loop: bounded in connections (in all and for each address), in the time a client may take to say what
//! it wants, and in the time of a TLS handshake, which axum's own loop is not.

use super::client::Peer;
use super::tls::Certificates;
use crate::meters;
use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::collections::HashMap;
use std::future::Future;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

/// Connections at one time; more wait in the kernel's backlog. Each costs a task and some buffers.
const CONNECTIONS: usize = 1024;
/// Of these, from one address: a proxy has many clients, but never all places.
const CONNECTIONS_EACH: usize = 768;
/// For a TLS handshake.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// For a request's head to arrive, from the connection's start or the last answer's end.
const HEAD_WITHIN: Duration = Duration::from_secs(15);
/// A head with its longest header; hyper's buffer starts at 8 KiB and must not grow to its default 400 KiB.
const HEAD_AT_MOST: usize = 32 << 10;
/// For requests under way when the daemon stops.
const DRAIN_WITHIN: Duration = Duration::from_secs(10);
/// For an answer to leave, or a head to arrive in full, on a connection without a request under way.
const IDLE_DRAIN_WITHIN: Duration = Duration::from_millis(500);
/// Out of file descriptors, say: trying again at once would only spin.
const AFTER_ACCEPT_ERROR: Duration = Duration::from_millis(200);

pub(super) async fn serve(
    listener: TcpListener,
    certificates: Option<Certificates>,
    router: Router,
    shutdown: impl Future<Output = ()> + Send,
) {
    let mut shutdown = std::pin::pin!(shutdown);
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let each = Each::default();
    let (stop, stopping) = watch::channel(());
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            let place = Arc::clone(&room).acquire_owned().await.expect("the semaphore is never closed");
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = &mut shutdown => break,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, from)) => {
                // One more than it may have: closed without a word, which costs the least.
                let Some(seat) = each.sit(from.ip(), place) else { continue };
                let peer = Peer { address: from.ip(), secure: certificates.is_some() };
                let (router, stopping, certificates) = (router.clone(), stopping.clone(), certificates.clone());
                connections.spawn(async move {
                    accepted_connection(stream, peer, certificates, router, stopping).await;
                    drop(seat);
                });
            }
            Err(error) => {
                tracing::warn!(error = %error, "an HTTP connection could not be accepted");
                tokio::time::sleep(AFTER_ACCEPT_ERROR).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    // The receivers see the sender gone.
    drop(stop);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_WITHIN, drained).await.is_err() {
        tracing::warn!("HTTP requests under way were cut off: the daemon stops");
    }
}

/// How many connections each address has.
#[derive(Clone, Default)]
struct Each(Arc<Mutex<HashMap<IpAddr, usize>>>);

struct Seat {
    each: Each,
    address: IpAddr,
    _place: OwnedSemaphorePermit,
}

impl Each {
    fn sit(&self, address: IpAddr, place: OwnedSemaphorePermit) -> Option<Seat> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(address).or_default();
        if *count >= CONNECTIONS_EACH {
            return None;
        }
        *count += 1;
        metrics::gauge!(meters::HTTP_CONNECTIONS).increment(1.0);
        Some(Seat { each: self.clone(), address, _place: place })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.each.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.address);
            }
        }
        metrics::gauge!(meters::HTTP_CONNECTIONS).decrement(1.0);
    }
}

async fn accepted_connection(
    stream: TcpStream,
    peer: Peer,
    certificates: Option<Certificates>,
    router: Router,
    mut stopping: watch::Receiver<()>,
) {
    // Answers are small: waiting to fill a packet only delays them.
    let _ = stream.set_nodelay(true);
    let Some(certificates) = certificates else { return connection(stream, peer, router, stopping).await };
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(HANDSHAKE_WITHIN, certificates.acceptor().accept(stream)) => shaken,
        _ = stopping.changed() => return,
    };
    match shaken {
        Ok(Ok(stream)) => connection(stream, peer, router, stopping).await,
        Ok(Err(error)) => tracing::debug!(error = %error, "an HTTPS handshake failed"),
        Err(_) => tracing::debug!("an HTTPS handshake took too long"),
    }
}

async fn connection<S>(stream: S, peer: Peer, router: Router, mut stopping: watch::Receiver<()>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_buf_size(HEAD_AT_MOST);
    let requests = AtomicUsize::new(0);
    let router = TowerToHyperService::new(router);
    let service = service_fn(|mut request: hyper::Request<hyper::body::Incoming>| {
        requests.fetch_add(1, Ordering::Relaxed);
        request.extensions_mut().insert(peer);
        let answer = router.call(request);
        async {
            let answer = answer.await;
            requests.fetch_sub(1, Ordering::Relaxed);
            answer
        }
    });
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service).with_upgrades());
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = stopping.changed() => {
            connection.as_mut().graceful_shutdown();
            // hyper waits for a request that has begun; one whose head never ends is not waited for.
            loop {
                match tokio::time::timeout(IDLE_DRAIN_WITHIN, connection.as_mut()).await {
                    Ok(ended) => break ended,
                    Err(_) if requests.load(Ordering::Relaxed) == 0 => return,
                    Err(_) => {}
                }
            }
        }
    };
    if let Err(error) = ended {
        // A client's doing, and none of ours to mend.
        tracing::debug!(error = %error, "an HTTP connection ended early");
    }
}
