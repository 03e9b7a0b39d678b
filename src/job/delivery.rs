//! The delivery's state machine: one message to one recipient.
//!
//! ```text
//! Scheduled ──sent──► Sent
//!    │  ▲
//!    │  └─ due again ─ Deferred ◄── defer (4xx, lost connection), before the deadline
//!    └── bounce (5xx), or the deadline passed ──► Bounced
//! ```
//!
//! It is a machine of its own, fed by outbox rows that are committed with the job's end, because a
//! mail cannot be taken back: whatever happens here never touches the document.

use crate::units::Timestamp;
use std::time::Duration;

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryState {
    /// Not tried yet.
    Scheduled,
    Sent,
    /// Tried in vain; tried again when due.
    Deferred,
    /// Given up.
    Bounced,
}

impl DeliveryState {
    /// As the command line and the database say it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            DeliveryState::Scheduled => "scheduled",
            DeliveryState::Sent => "sent",
            DeliveryState::Deferred => "deferred",
            DeliveryState::Bounced => "bounced",
        }
    }

    /// The inverse of [`name`](Self::name).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Scheduled, Self::Sent, Self::Deferred, Self::Bounced].into_iter().find(|state| state.name() == name)
    }
}

/// What an attempt to send came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    Sent,
    /// The relay said "later", or the connection was lost.
    Later(String),
    /// The relay said "never".
    Never(String),
}

/// A delivery's state and the counts that its next state depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryStanding {
    pub state: DeliveryState,
    pub attempts: u32,
    pub scheduled_at: Timestamp,
    /// When it may be tried (again).
    pub due: Timestamp,
    pub error: Option<String>,
}

/// Given up after this: what Postfix calls `maximal_queue_lifetime`, and its default.
pub const LIFETIME: Duration = Duration::from_secs(5 * 86_400);
/// Postfix's `minimal_backoff_time` and `maximal_backoff_time`.
const SHORTEST_WAIT: Duration = Duration::from_secs(300);
const LONGEST_WAIT: Duration = Duration::from_secs(4000);
/// The first retry comes sooner than Postfix's: most lost connections are a relay that restarts.
const FIRST_WAIT: Duration = Duration::from_secs(30);

/// The standing after an attempt; `None` if the delivery had already ended.
#[must_use]
pub fn apply(standing: &DeliveryStanding, attempt: &Attempt, now: Timestamp) -> Option<DeliveryStanding> {
    if matches!(standing.state, DeliveryState::Sent | DeliveryState::Bounced) {
        return None;
    }
    let mut next = DeliveryStanding { attempts: standing.attempts + 1, ..standing.clone() };
    match attempt {
        Attempt::Sent => {
            next.state = DeliveryState::Sent;
            next.error = None;
        }
        Attempt::Never(reason) => {
            next.state = DeliveryState::Bounced;
            next.error = Some(reason.clone());
        }
        Attempt::Later(reason) if now.since(standing.scheduled_at) >= LIFETIME => {
            next.state = DeliveryState::Bounced;
            next.error = Some(format!("given up after 5 days: {reason}"));
        }
        Attempt::Later(reason) => {
            next.state = DeliveryState::Deferred;
            next.error = Some(reason.clone());
            next.due = now.after(wait(next.attempts));
        }
    }
    Some(next)
}

/// How long to wait after the `attempts`-th failure.
fn wait(attempts: u32) -> Duration {
    if attempts <= 1 {
        return FIRST_WAIT;
    }
    let doubled = SHORTEST_WAIT.saturating_mul(1u32.checked_shl(attempts - 2).unwrap_or(u32::MAX));
    doubled.min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Timestamp = Timestamp(0);

    fn scheduled() -> DeliveryStanding {
        DeliveryStanding { state: DeliveryState::Scheduled, attempts: 0, scheduled_at: T0, due: T0, error: None }
    }

    #[test]
    fn later_waits_longer_each_time_and_bounces_after_five_days() {
        let mut standing = scheduled();
        let mut now = T0;
        let mut waits = Vec::new();
        while standing.state != DeliveryState::Bounced {
            standing = apply(&standing, &Attempt::Later("451".into()), now).unwrap();
            waits.push(standing.due.since(now).as_secs());
            now = standing.due.max(now.after(Duration::from_secs(1)));
            assert!(waits.len() < 1000, "never gives up");
        }
        assert_eq!(waits[..7], [30, 300, 600, 1200, 2400, 4000, 4000]);
        assert!(now.since(T0) >= LIFETIME);
        assert_eq!(standing.error.as_deref(), Some("given up after 5 days: 451"));
    }

    #[test]
    fn never_bounces_at_once_and_ended_ones_stay() {
        let bounced = apply(&scheduled(), &Attempt::Never("550".into()), T0).unwrap();
        assert_eq!((bounced.state, bounced.attempts), (DeliveryState::Bounced, 1));
        assert_eq!(apply(&bounced, &Attempt::Sent, T0), None);
        let sent = apply(&scheduled(), &Attempt::Sent, T0).unwrap();
        assert_eq!((sent.state, sent.error.clone()), (DeliveryState::Sent, None));
        assert_eq!(apply(&sent, &Attempt::Later("x".into()), T0), None);
    }
}
