//! An account's bandwidth, shared by all its transfers, each way by itself. A transfer that has had its share
//! waits before it goes on; TCP lets its client know. Nothing is held meanwhile but the connection.

use crate::account::AccountName;
use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, Sleep};

/// What an account that was silent may move at once.
const BURST: Duration = Duration::from_millis(250);
/// Portions are what moves in this time, so that transfers share evenly.
const PORTION: Duration = Duration::from_millis(100);
const SMALLEST_PORTION: usize = 1024;

/// Of all accounts that transfer something and have a limit.
#[derive(Debug, Default)]
pub(super) struct Throttles {
    open: Mutex<HashMap<AccountName, Weak<Throttle>>>,
}

/// One account's.
#[derive(Debug)]
pub(super) struct Throttle {
    /// Bytes a second; a later login brings a changed one.
    rate: AtomicU64,
    up: Mutex<Instant>,
    down: Mutex<Instant>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Way {
    Up,
    Down,
}

impl Throttles {
    /// The account's, for as long as somebody has it.
    pub fn of(&self, account: &AccountName, rate: u64) -> Arc<Throttle> {
        let mut open = super::session::lock(&self.open);
        if let Some(throttle) = open.get(account).and_then(Weak::upgrade) {
            throttle.rate.store(rate.max(1), Ordering::Relaxed);
            return throttle;
        }
        open.retain(|_, throttle| throttle.strong_count() > 0);
        // It has been silent so far.
        let now = Instant::now();
        let now = now.checked_sub(BURST).unwrap_or(now);
        let throttle = Arc::new(Throttle { rate: AtomicU64::new(rate.max(1)), up: Mutex::new(now), down: Mutex::new(now) });
        open.insert(account.clone(), Arc::downgrade(&throttle));
        throttle
    }
}

impl Throttle {
    /// How many bytes to move before the next [`take`](Self::take), of `most`.
    pub fn portion(&self, most: usize) -> usize {
        let rate = self.rate.load(Ordering::Relaxed);
        let portion = u64::try_from(u128::from(rate) * PORTION.as_millis() / 1000).unwrap_or(u64::MAX);
        usize::try_from(portion).unwrap_or(usize::MAX).max(SMALLEST_PORTION).min(most)
    }

    /// Notes bytes that were moved; answers when the next ones may be.
    pub fn take(&self, way: Way, bytes: usize) -> Instant {
        let rate = self.rate.load(Ordering::Relaxed);
        let mut next = super::session::lock(match way {
            Way::Up => &self.up,
            Way::Down => &self.down,
        });
        let now = Instant::now();
        let nanoseconds = u64::try_from(bytes as u128 * 1_000_000_000 / u128::from(rate)).unwrap_or(u64::MAX);
        *next = (*next).max(now.checked_sub(BURST).unwrap_or(now)) + Duration::from_nanos(nanoseconds);
        *next
    }
}

/// An upload's connection, at its account's pace.
pub(super) struct Paced<R> {
    input: R,
    throttle: Option<Arc<Throttle>>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl<R> Paced<R> {
    pub fn new(input: R, throttle: Option<Arc<Throttle>>) -> Self {
        Paced { input, throttle, pause: None }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Paced<R> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let Some(throttle) = &this.throttle else { return Pin::new(&mut this.input).poll_read(context, buffer) };
        if let Some(pause) = &mut this.pause {
            std::task::ready!(pause.as_mut().poll(context));
            this.pause = None;
        }
        let mut portion = ReadBuf::new(buffer.initialize_unfilled_to(throttle.portion(buffer.remaining())));
        std::task::ready!(Pin::new(&mut this.input).poll_read(context, &mut portion))?;
        let read = portion.filled().len();
        buffer.advance(read);
        if read > 0 {
            let next = throttle.take(Way::Up, read);
            if next > Instant::now() {
                this.pause = Some(Box::pin(tokio::time::sleep_until(next)));
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn transfers_share_their_accounts_pace_and_no_others() {
        let throttles = Throttles::default();
        let name = |name: &str| name.parse::<AccountName>().unwrap();
        let throttle = throttles.of(&name("slow"), 10_000);
        assert!(Arc::ptr_eq(&throttle, &throttles.of(&name("slow"), 10_000)));
        let begun = Instant::now();
        throttle.take(Way::Up, 10_000);
        let next = throttle.take(Way::Up, 10_000);
        let wait = next.saturating_duration_since(begun);
        assert!(wait > Duration::from_millis(1700), "{wait:?}");
        // The other way and another account have a pace of their own.
        assert!(throttle.take(Way::Down, 100) <= Instant::now());
        assert!(throttles.of(&name("other"), 1_000_000).take(Way::Up, 100_000) <= Instant::now());
        assert_eq!((throttle.portion(1 << 20), throttle.portion(100)), (SMALLEST_PORTION, 100));
        drop(throttle);
        throttles.of(&name("new"), 1);
        assert_eq!(throttles.open.lock().unwrap().len(), 1, "what nobody uses is forgotten");
    }

    #[tokio::test]
    async fn a_paced_upload_loses_nothing() {
        let bytes: Vec<u8> = (0..20_000u32).flat_map(u32::to_le_bytes).collect();
        let throttle = Throttles::default().of(&"slow".parse().unwrap(), 200_000);
        for throttle in [None, Some(throttle)] {
            let mut all = Vec::new();
            Paced::new(std::io::Cursor::new(bytes.clone()), throttle).read_to_end(&mut all).await.unwrap();
            assert!(all == bytes);
        }
    }
}
