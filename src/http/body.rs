//! Bodies while they come in. A client that stops sending is not waited for; and where an answer is given before the
//! body was read (it is too large, nobody may send it), the rest of it is read for a moment, because a client that is
//! cut off while it sends may never see why.

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use std::future::Future as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// For the next bytes of a body.
const STALL: Duration = Duration::from_secs(15);
/// A body must come at least this fast on average, after a first stretch of patience: bytes a second.
const SLOWEST: u64 = 1024;
const PATIENCE: Duration = Duration::from_secs(60);
/// What is read of a body that nobody wants.
const UNWANTED_BYTES: u64 = 8 << 20;
const UNWANTED_FOR: Duration = Duration::from_secs(2);

/// Why a body broke off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BodyError {
    #[error("the body stopped coming, or came too slowly")]
    TooSlow,
}

struct Shared {
    body: Mutex<Body>,
    ended: AtomicBool,
    begun: AtomicBool,
    bytes: AtomicU64,
}

/// A body that is read through, by its handler or after it.
struct Watched {
    shared: Arc<Shared>,
    since: Instant,
    stall: Pin<Box<Sleep>>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let shared = Arc::clone(&self.shared);
        shared.begun.store(true, Ordering::Relaxed);
        let polled = Pin::new(&mut *shared.body.lock().unwrap_or_else(PoisonError::into_inner)).poll_frame(context);
        match polled {
            Poll::Ready(frame) => {
                let read = match &frame {
                    Some(Ok(frame)) => frame.data_ref().map_or(0, |data| data.len() as u64),
                    _ => {
                        shared.ended.store(true, Ordering::Relaxed);
                        0
                    }
                };
                let bytes = shared.bytes.fetch_add(read, Ordering::Relaxed) + read;
                let spent = self.since.elapsed();
                if matches!(frame, Some(Ok(_))) && spent > PATIENCE && bytes < SLOWEST * (spent - PATIENCE).as_secs() {
                    return Poll::Ready(Some(Err(axum::Error::new(BodyError::TooSlow))));
                }
                self.stall.as_mut().reset(Instant::now() + STALL);
                Poll::Ready(frame)
            }
            Poll::Pending => {
                ready!(self.stall.as_mut().poll(context));
                Poll::Ready(Some(Err(axum::Error::new(BodyError::TooSlow))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.shared.body.lock().unwrap_or_else(PoisonError::into_inner).is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.shared.body.lock().unwrap_or_else(PoisonError::into_inner).size_hint()
    }
}

/// Watches over a request's body, before and after its answer.
pub(super) async fn watch(request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let waits = request.headers().get(header::EXPECT).is_some();
    let (parts, body) = request.into_parts();
    let shared = Arc::new(Shared {
        body: Mutex::new(body),
        ended: AtomicBool::new(false),
        begun: AtomicBool::new(false),
        bytes: AtomicU64::new(0),
    });
    let watched = || Watched { shared: Arc::clone(&shared), since: Instant::now(), stall: Box::pin(tokio::time::sleep(STALL)) };
    let mut response = next.run(Request::from_parts(parts, Body::new(watched()))).await;
    let unread = !shared.ended.load(Ordering::Relaxed);
    // One that waits for our 100 has sent nothing, and asking it would only have it send.
    let sending = !waits || shared.begun.load(Ordering::Relaxed);
    if unread && sending && !response.status().is_success() {
        drain(watched()).await;
    }
    if unread && !shared.ended.load(Ordering::Relaxed) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn drain(mut body: Watched) {
    let mut read = 0;
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            read += frame.data_ref().map_or(0, |data| data.len() as u64);
            if read > UNWANTED_BYTES {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(UNWANTED_FOR, reading).await;
}
