//! The job's state machine.
//!
//! ```text
//!            claim                      done
//! Queued ───────────► Running ─────────────────────► Done
//!   ▲                  │ │ │      reject
//!   │  fail, attempts  │ │ └───────────────────────► Rejected{code}   can never be read
//!   │  left; release;  │ │      fail, none left
//!   │  lease expired;  │ └─────────────────────────► Dead{reason}     waits for an operator
//!   └──────────────────┘        cancel (Queued too)
//!
//! Rejected, Dead ── retry ──► Queued, with fresh attempts
//! ```
//!
//! Every claim hands out a new fencing token, and an event that carries another token than the
//! running claim's is [`Illegal::Stale`]: a worker that comes back after its lease expired can
//! change nothing. Stages inside Running (decode, read, write) are not states: all of them are
//! idempotent, so a crash simply runs the job again.
//!
//! A *failed* attempt counts towards `attempts`. An *interrupted* one (the daemon was killed) does
//! not, because that is rarely the document's fault; interruptions have a bound of their own, far
//! higher, so that a file which takes the whole daemon along cannot do so for ever, and the queue
//! hands out the least interrupted jobs first.

use crate::units::Timestamp;
use std::time::Duration;

/// Where a job stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Waits until `due`.
    Queued {
        due: Timestamp,
    },
    /// Belongs to the holder of `token` until `lease_until`.
    Running {
        token: u64,
        lease_until: Timestamp,
    },
    Done,
    /// Can never be read: `code` says why.
    Rejected {
        code: String,
    },
    /// Out of attempts.
    Dead {
        reason: String,
    },
}

impl State {
    /// As the command line and the database say it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            State::Queued { .. } => "queued",
            State::Running { .. } => "running",
            State::Done => "done",
            State::Rejected { .. } => "rejected",
            State::Dead { .. } => "dead",
        }
    }

    /// Nothing more will happen by itself.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, State::Done | State::Rejected { .. } | State::Dead { .. })
    }
}

/// A job's state and the counts that its next state depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub state: State,
    /// Counted attempts so far, the running one included.
    pub attempt: u32,
    /// Runs that the daemon's own end cut short.
    pub interruptions: u32,
    /// Claims so far; the next claim's token is one more.
    pub claims: u64,
}

impl Standing {
    /// A job just accepted: due at once.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Standing { state: State::Queued { due: now }, attempt: 0, interruptions: 0, claims: 0 }
    }
}

/// What happens to a job.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A worker takes it until `now + lease`.
    Claim {
        lease: Duration,
    },
    /// The holder is still at work.
    Extend {
        token: u64,
        lease: Duration,
    },
    Done {
        token: u64,
    },
    Reject {
        token: u64,
        code: String,
    },
    /// A transient failure. `jitter` in 0..=1 spreads the retries.
    Fail {
        token: u64,
        reason: String,
        jitter: f32,
    },
    /// The holder gives it back unharmed (the daemon stops).
    Release {
        token: u64,
    },
    /// The daemon starts, and this job was running when it last ended.
    Recover,
    /// Time passes: ends a lease that has expired.
    Expire,
    /// An operator wants a dead or rejected job tried again.
    Retry,
    /// An operator wants it ended, running or not.
    Cancel,
}

/// When a failed job is tried again. From `[retry]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    pub attempts: u32,
    /// Before the second attempt; doubles with each further one, up to an hour.
    pub backoff: Duration,
}

/// Runs cut short by the daemon's own end before a job is given up: far above what an admin's
/// restarts or a power cut in a bad week add up to, far below for ever.
pub const MAX_INTERRUPTIONS: u32 = 50;

const LONGEST_BACKOFF: Duration = Duration::from_secs(3600);

/// The reason of a job that an operator ended.
pub const CANCELLED: &str = "an operator cancelled it";

/// Why an event was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Illegal {
    /// The lease is somebody else's by now.
    #[error("the lease has passed to another worker")]
    Stale,
    #[error("a {from} job cannot be {event}")]
    Transition { from: &'static str, event: &'static str },
}

/// The next standing, or why there is none.
pub fn apply(standing: &Standing, event: &Event, policy: RetryPolicy, now: Timestamp) -> Result<Standing, Illegal> {
    let mut next = standing.clone();
    match (&standing.state, event) {
        (State::Queued { due }, Event::Claim { lease }) if *due <= now => {
            next.claims += 1;
            next.attempt += 1;
            next.state = State::Running { token: next.claims, lease_until: now.after(*lease) };
        }
        (State::Running { token, .. }, Event::Extend { token: theirs, lease }) => {
            holds(*token, *theirs)?;
            next.state = State::Running { token: *token, lease_until: now.after(*lease) };
        }
        (State::Running { token, .. }, Event::Done { token: theirs }) => {
            holds(*token, *theirs)?;
            next.state = State::Done;
        }
        (State::Running { token, .. }, Event::Reject { token: theirs, code }) => {
            holds(*token, *theirs)?;
            next.state = State::Rejected { code: code.clone() };
        }
        (State::Running { token, .. }, Event::Fail { token: theirs, reason, jitter }) => {
            holds(*token, *theirs)?;
            next.state = after_failure(next.attempt, reason, policy, now, *jitter);
        }
        (State::Running { token, .. }, Event::Release { token: theirs }) => {
            holds(*token, *theirs)?;
            next.attempt = next.attempt.saturating_sub(1);
            next.state = State::Queued { due: now };
        }
        (State::Running { .. }, Event::Recover) => {
            next.attempt = next.attempt.saturating_sub(1);
            next.interruptions += 1;
            next.state = if next.interruptions >= MAX_INTERRUPTIONS {
                State::Dead { reason: format!("the daemon ended {MAX_INTERRUPTIONS} times while this was being read") }
            } else {
                State::Queued { due: now }
            };
        }
        (State::Running { lease_until, .. }, Event::Expire) if *lease_until <= now => {
            next.state = after_failure(next.attempt, "the worker stopped answering", policy, now, 0.0);
        }
        (State::Queued { .. } | State::Running { .. }, Event::Cancel) => {
            next.state = State::Dead { reason: CANCELLED.to_owned() };
        }
        (State::Dead { .. } | State::Rejected { .. }, Event::Retry) => {
            next.attempt = 0;
            next.interruptions = 0;
            next.state = State::Queued { due: now };
        }
        // A worker that comes late finds its job ended or waiting again: its lease is over.
        (_, Event::Extend { .. } | Event::Done { .. } | Event::Reject { .. } | Event::Fail { .. } | Event::Release { .. }) => {
            return Err(Illegal::Stale);
        }
        (from, Event::Claim { .. }) => return Err(Illegal::Transition { from: from.name(), event: "claimed" }),
        (from, Event::Recover) => return Err(Illegal::Transition { from: from.name(), event: "recovered" }),
        (from, Event::Expire) => return Err(Illegal::Transition { from: from.name(), event: "expired" }),
        (from, Event::Retry) => return Err(Illegal::Transition { from: from.name(), event: "retried" }),
        (from, Event::Cancel) => return Err(Illegal::Transition { from: from.name(), event: "cancelled" }),
    }
    Ok(next)
}

fn holds(running: u64, theirs: u64) -> Result<(), Illegal> {
    if running == theirs { Ok(()) } else { Err(Illegal::Stale) }
}

fn after_failure(attempt: u32, reason: &str, policy: RetryPolicy, now: Timestamp, jitter: f32) -> State {
    if attempt >= policy.attempts {
        State::Dead { reason: reason.to_owned() }
    } else {
        State::Queued { due: now.after(backoff(policy.backoff, attempt, jitter)) }
    }
}

/// `base` doubled once per failed attempt after the first, at most an hour, plus up to a quarter by `jitter`.
#[must_use]
pub fn backoff(base: Duration, failed: u32, jitter: f32) -> Duration {
    let doubled = base.saturating_mul(1u32.checked_shl(failed.saturating_sub(1)).unwrap_or(u32::MAX));
    let capped = doubled.min(LONGEST_BACKOFF.max(base));
    capped + capped.mul_f32(0.25 * if jitter.is_nan() { 0.0 } else { jitter.clamp(0.0, 1.0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RetryPolicy = RetryPolicy { attempts: 3, backoff: Duration::from_secs(10) };
    const LEASE: Duration = Duration::from_secs(60);
    const T0: Timestamp = Timestamp(1_000_000);

    fn claimed() -> Standing {
        apply(&Standing::new(T0), &Event::Claim { lease: LEASE }, POLICY, T0).unwrap()
    }

    #[test]
    fn a_claim_hands_out_a_new_token_each_time() {
        let first = claimed();
        assert_eq!(first.state, State::Running { token: 1, lease_until: T0.after(LEASE) });
        let released = apply(&first, &Event::Release { token: 1 }, POLICY, T0).unwrap();
        assert_eq!((released.attempt, &released.state), (0, &State::Queued { due: T0 }));
        let second = apply(&released, &Event::Claim { lease: LEASE }, POLICY, T0).unwrap();
        assert_eq!(second.claims, 2);
        assert_eq!(apply(&second, &Event::Done { token: 1 }, POLICY, T0), Err(Illegal::Stale));
        assert_eq!(apply(&second, &Event::Done { token: 2 }, POLICY, T0).unwrap().state, State::Done);
    }

    #[test]
    fn a_job_is_not_claimed_before_it_is_due_nor_twice() {
        let later = Standing { state: State::Queued { due: Timestamp(T0.0 + 1) }, ..Standing::new(T0) };
        assert!(apply(&later, &Event::Claim { lease: LEASE }, POLICY, T0).is_err());
        assert!(apply(&claimed(), &Event::Claim { lease: LEASE }, POLICY, T0).is_err());
    }

    #[test]
    fn failures_back_off_and_end_dead() {
        let mut standing = Standing::new(T0);
        let mut now = T0;
        for (attempt, wait) in [(1, Some(10)), (2, Some(20)), (3, None)] {
            standing = apply(&standing, &Event::Claim { lease: LEASE }, POLICY, now).unwrap();
            assert_eq!(standing.attempt, attempt);
            let token = standing.claims;
            standing = apply(&standing, &Event::Fail { token, reason: "no memory".into(), jitter: 0.0 }, POLICY, now).unwrap();
            match wait {
                Some(seconds) => {
                    assert_eq!(standing.state, State::Queued { due: now.after(Duration::from_secs(seconds)) });
                    now = now.after(Duration::from_secs(seconds));
                }
                None => assert_eq!(standing.state, State::Dead { reason: "no memory".into() }),
            }
        }
        assert_eq!(apply(&standing, &Event::Retry, POLICY, now).unwrap(), Standing { claims: 3, ..Standing::new(now) });
    }

    #[test]
    fn an_expired_lease_counts_and_fences_its_holder() {
        let running = claimed();
        assert!(apply(&running, &Event::Expire, POLICY, T0).is_err(), "not yet");
        let expired = apply(&running, &Event::Expire, POLICY, T0.after(LEASE)).unwrap();
        assert_eq!(expired.attempt, 1);
        assert!(matches!(expired.state, State::Queued { .. }));
        assert_eq!(apply(&expired, &Event::Done { token: 1 }, POLICY, T0), Err(Illegal::Stale));
    }

    #[test]
    fn an_extended_lease_lasts_from_the_extension() {
        let later = T0.after(Duration::from_secs(50));
        let extended = apply(&claimed(), &Event::Extend { token: 1, lease: LEASE }, POLICY, later).unwrap();
        assert_eq!(extended.state, State::Running { token: 1, lease_until: later.after(LEASE) });
    }

    #[test]
    fn an_interruption_costs_no_attempt_but_has_its_own_bound() {
        let mut standing = Standing::new(T0);
        for round in 1..=MAX_INTERRUPTIONS {
            standing = apply(&standing, &Event::Claim { lease: LEASE }, POLICY, T0).unwrap();
            standing = apply(&standing, &Event::Recover, POLICY, T0).unwrap();
            assert_eq!((standing.attempt, standing.interruptions), (0, round));
        }
        assert!(matches!(standing.state, State::Dead { .. }));
    }

    #[test]
    fn an_operator_ends_what_has_not_ended_and_tries_what_failed_again() {
        for standing in [Standing::new(T0), claimed()] {
            let cancelled = apply(&standing, &Event::Cancel, POLICY, T0).unwrap();
            assert_eq!(cancelled.state, State::Dead { reason: CANCELLED.into() });
            assert_eq!(apply(&cancelled, &Event::Done { token: 1 }, POLICY, T0), Err(Illegal::Stale), "its worker comes late");
            assert_eq!(apply(&cancelled, &Event::Retry, POLICY, T0).unwrap().attempt, 0);
            let again = apply(&cancelled, &Event::Cancel, POLICY, T0);
            assert_eq!(again.unwrap_err().to_string(), "a dead job cannot be cancelled");
            assert!(apply(&standing, &Event::Retry, POLICY, T0).is_err());
        }
    }

    #[test]
    fn final_states_stay() {
        for state in [State::Done, State::Rejected { code: "damaged".into() }, State::Dead { reason: "x".into() }] {
            let standing = Standing { state, ..Standing::new(T0) };
            assert!(standing.state.is_final());
            for event in [Event::Claim { lease: LEASE }, Event::Done { token: 0 }, Event::Recover, Event::Expire] {
                assert!(apply(&standing, &event, POLICY, T0).is_err(), "{event:?} on {standing:?}");
            }
        }
        assert!(apply(&Standing { state: State::Done, ..Standing::new(T0) }, &Event::Retry, POLICY, T0).is_err());
    }

    #[test]
    fn backoff_doubles_is_capped_and_jitters_upwards() {
        let base = Duration::from_secs(10);
        assert_eq!(backoff(base, 1, 0.0), base);
        assert_eq!(backoff(base, 4, 0.0), Duration::from_secs(80));
        assert_eq!(backoff(base, 40, 0.0), LONGEST_BACKOFF);
        assert_eq!(backoff(base, 1, 1.0), Duration::from_millis(12_500));
    }
}
