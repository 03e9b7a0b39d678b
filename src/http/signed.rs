//! A request's body, hashed while it streams, and whether it is the one that was signed.
//!
//! [`SignedBody`] takes the body's place: who reads it to its end gets an error there if it is another one.
//! Not every reader reads to the end (a multipart form ends before its body does), so whoever would
//! commit something awaits [`Verdict::wait`] first, which reads what is left.

use super::problem::Problem;
use crate::keys::sign::hex;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::StatusCode;
use hyper::body::Frame;
use sha2::{Digest, Sha256};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

/// What may follow a form's end in its body.
const REST_AT_MOST: usize = 64 << 10;

/// A body on its way through the hash.
pub(super) struct SignedBody {
    shared: Arc<Mutex<Stream>>,
}

/// The other end of a [`SignedBody`].
#[derive(Clone)]
pub(super) struct Verdict {
    shared: Arc<Mutex<Stream>>,
}

struct Stream {
    body: Body,
    hash: Sha256,
    /// What it must be. `None`: anything.
    signed: Option<[u8; 32]>,
    end: Option<End>,
    asked: bool,
}

/// How the body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// With this hash, as signed where it was signed.
    Good([u8; 32]),
    Other,
    /// The client went away, or sent more than is read.
    Broken,
}

/// Puts the body through the hash; `signed` is the hash that it must have.
pub(super) fn watch(body: Body, signed: Option<[u8; 32]>) -> (SignedBody, Verdict) {
    let stream = Stream { body, hash: Sha256::new(), signed, end: None, asked: false };
    let shared = Arc::new(Mutex::new(stream));
    (SignedBody { shared: Arc::clone(&shared) }, Verdict { shared })
}

/// What `X-CONTENT-SHA256` says.
pub(super) fn declared(text: &str) -> Option<[u8; 32]> {
    hex(text)
}

impl Stream {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match self.end {
            None => {}
            Some(End::Good(_)) => return Poll::Ready(None),
            Some(End::Other | End::Broken) => return Poll::Ready(Some(Err(axum::Error::new(NotAsSigned)))),
        }
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.hash.update(data);
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                self.end = Some(End::Broken);
                Some(Err(error))
            }
            None => {
                let hash: [u8; 32] = std::mem::take(&mut self.hash).finalize().into();
                // Not secret: the client itself has said what it must be.
                let good = self.signed.is_none_or(|signed| signed == hash);
                self.end = Some(if good { End::Good(hash) } else { End::Other });
                if good { None } else { Some(Err(axum::Error::new(NotAsSigned))) }
            }
        })
    }
}

impl HttpBody for SignedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        lock(&self.shared).poll(context)
    }

    fn is_end_stream(&self) -> bool {
        matches!(lock(&self.shared).end, Some(End::Good(_)))
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        lock(&self.shared).body.size_hint()
    }
}

impl Verdict {
    /// Reads what is left, and answers the body's hash; the error is for the client.
    pub(super) async fn wait(&self) -> Result<[u8; 32], Problem> {
        lock(&self.shared).asked = true;
        let mut rest = 0;
        let end = loop {
            if let Some(end) = lock(&self.shared).end {
                break end;
            }
            let frame = std::future::poll_fn(|context| lock(&self.shared).poll(context)).await;
            if let Some(Ok(frame)) = frame
                && let Some(data) = frame.data_ref()
            {
                rest += data.len();
                if rest > REST_AT_MOST {
                    lock(&self.shared).end = Some(End::Broken);
                }
            }
        };
        match end {
            End::Good(hash) => Ok(hash),
            End::Other => Err(not_as_signed()),
            End::Broken => Err(Problem::new(StatusCode::BAD_REQUEST, "The body did not arrive whole; send it again.")),
        }
    }

    /// Whether anybody has asked.
    pub(super) fn was_asked(&self) -> bool {
        lock(&self.shared).asked
    }
}

fn not_as_signed() -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "The body is not the one that was signed: its SHA-256 is not what X-CONTENT-SHA256 says.")
}

/// What a reader of the body gets at its end.
#[derive(Debug, thiserror::Error)]
#[error("the body is not the one that was signed, or did not arrive whole")]
pub(super) struct NotAsSigned;

fn lock(shared: &Mutex<Stream>) -> MutexGuard<'_, Stream> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SignedBody {
    /// As a request carries it.
    pub(super) fn into_body(self) -> Body {
        Body::new(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    fn hash(text: &str) -> [u8; 32] {
        Sha256::digest(text.as_bytes()).into()
    }

    fn body(parts: &'static [&'static str]) -> Body {
        Body::from_stream(futures_util::stream::iter(
            parts.iter().map(|part| Ok::<_, std::io::Error>(Bytes::from_static(part.as_bytes()))),
        ))
    }

    #[tokio::test]
    async fn a_reader_gets_the_signed_body_whole_and_an_error_at_the_end_of_another() {
        let (signed, verdict) = watch(body(&["hello ", "world"]), Some(hash("hello world")));
        assert_eq!(signed.into_body().collect().await.unwrap().to_bytes(), "hello world");
        assert_eq!(verdict.wait().await.unwrap(), hash("hello world"));
        let (other, verdict) = watch(body(&["hello ", "worle"]), Some(hash("hello world")));
        assert!(other.into_body().collect().await.is_err());
        assert_eq!(verdict.wait().await.unwrap_err().status, StatusCode::FORBIDDEN);
        let (unsigned, verdict) = watch(body(&["a", "b"]), None);
        assert!(unsigned.into_body().collect().await.is_ok());
        assert_eq!(verdict.wait().await.unwrap(), hash("ab"));
    }

    #[tokio::test]
    async fn what_a_reader_leaves_is_read_before_the_verdict() {
        let (signed, verdict) = watch(body(&["form", "\r\n"]), Some(hash("form\r\n")));
        let mut signed = signed.into_body();
        assert_eq!(signed.frame().await.unwrap().unwrap().into_data().unwrap(), "form");
        assert!(!verdict.was_asked());
        assert!(verdict.wait().await.is_ok() && verdict.was_asked());
        // Appended after the form's end: never seen by its reader, and not signed.
        let (signed, verdict) = watch(body(&["form", "\r\n", "more"]), Some(hash("form\r\n")));
        let mut signed = signed.into_body();
        let _ = signed.frame().await;
        assert_eq!(verdict.wait().await.unwrap_err().status, StatusCode::FORBIDDEN);
        assert!(signed.frame().await.unwrap().is_err(), "and nobody reads on after that");
    }

    #[tokio::test]
    async fn an_endless_rest_is_not_read() {
        let endless =
            Body::from_stream(futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[b'x'; 4096]))));
        let (_body, verdict) = watch(endless, None);
        assert_eq!(verdict.wait().await.unwrap_err().status, StatusCode::BAD_REQUEST);
        let broken =
            Body::from_stream(futures_util::stream::iter([Ok(Bytes::from_static(b"x")), Err(std::io::Error::other("gone"))]));
        let (_body, verdict) = watch(broken, Some(hash("x")));
        assert_eq!(verdict.wait().await.unwrap_err().status, StatusCode::BAD_REQUEST);
    }
}
