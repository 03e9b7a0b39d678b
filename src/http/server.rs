//! The accept loop: bounded in connections and in the time a client may take to say what it wants,
//! which axum's own loop is not.

use super::caller::ClientAddress;
use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// Connections at one time; more wait in the kernel's backlog. Each costs a task and some buffers.
const CONNECTIONS: usize = 256;
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

pub(super) async fn serve(listener: TcpListener, router: Router, shutdown: impl Future<Output = ()> + Send) {
    let mut shutdown = std::pin::pin!(shutdown);
    let room = Arc::new(Semaphore::new(CONNECTIONS));
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
            Ok((stream, peer)) => {
                let connection = connection(stream, ClientAddress(peer.ip()), router.clone(), stopping.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(place);
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

async fn connection(stream: TcpStream, peer: ClientAddress, router: Router, mut stopping: watch::Receiver<()>) {
    // Answers are small: waiting to fill a packet only delays them.
    let _ = stream.set_nodelay(true);
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_buf_size(HEAD_AT_MOST);
    let requests = AtomicUsize::new(0);
    let router = TowerToHyperService::new(router);
    let service = service_fn(|mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(peer);
        requests.fetch_add(1, Ordering::Relaxed);
        let answer = router.call(request);
        async {
            let answer = answer.await;
            requests.fetch_sub(1, Ordering::Relaxed);
            answer
        }
    });
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
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
