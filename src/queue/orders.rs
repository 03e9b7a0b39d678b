//! What an operator wants done to jobs. The command line writes an order into the database; the process that
//! holds the queue carries it out through the state machine, in the transaction that answers it. So there is
//! one writer of states, and an order outlives a daemon that is killed over it.

use super::QueueError;
use super::rows;
use super::sqlite::{ids, move_on, not_opened, tell};
use super::writer::{Answer, Lock, Store};
use crate::database;
use crate::job::JobId;
use crate::job::state::{Event, Illegal, State};
use crate::units::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// A rejected or dead job is tried again, with fresh attempts.
    Retry(JobId),
    /// Every dead one is.
    RetryDead,
    /// A queued or running job ends dead.
    Cancel(JobId),
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obeyed {
    /// So many jobs.
    Done(u32),
    /// A sentence that says why not.
    Refused(String),
}

/// Orders that one transaction carries out.
const AT_ONCE: i64 = 16;
/// Jobs that one transaction may queue again.
const JOBS_AT_ONCE: u32 = 1000;
/// An answer that nobody read is forgotten after this.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(86_400);

/// The command line's end.
pub struct OrderBook {
    path: PathBuf,
    connection: Connection,
}

impl OrderBook {
    /// Beside a running daemon, or without one. Blocking, like all of it.
    pub fn open(path: &Path) -> Result<Self, QueueError> {
        let connection = database::open(path).map_err(|error| not_opened(path, error))?;
        Ok(OrderBook { path: path.to_owned(), connection })
    }

    /// Writes an order; answers its number.
    pub fn place(&self, order: Order, now: Timestamp) -> Result<i64, QueueError> {
        let (verb, job) = match order {
            Order::Retry(job) => ("retry", Some(job.to_string())),
            Order::RetryDead => ("retry", None),
            Order::Cancel(job) => ("cancel", Some(job.to_string())),
        };
        self.connection.execute("INSERT INTO orders (verb, job, ordered_at) VALUES (?1, ?2, ?3)", params![verb, job, now.0])?;
        Ok(self.connection.last_insert_rowid())
    }

    /// The answer to an order, once; `None` if it has not been carried out.
    pub fn answer(&self, order: i64) -> Result<Option<Obeyed>, QueueError> {
        let answered: Option<(u32, Option<String>)> = self
            .connection
            .query_row("SELECT jobs, refusal FROM orders WHERE id = ?1 AND carried_out = 1", [order], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        let Some((jobs, refusal)) = answered else { return Ok(None) };
        self.connection.execute("DELETE FROM orders WHERE id = ?1", [order])?;
        Ok(Some(refusal.map_or(Obeyed::Done(jobs), Obeyed::Refused)))
    }

    /// Whether no process holds the queue, so that nobody will carry anything out.
    #[must_use]
    pub fn nobody_obeys(&self) -> bool {
        Lock::is_free(&self.path)
    }
}

/// Carries out what waits. Answers the jobs that were cancelled, since somebody may be at work on them.
pub(super) fn obey(store: &mut Store, now: Timestamp) -> Answer<Vec<JobId>> {
    let orders: Vec<(i64, String, Option<String>, i64)> = store
        .connection()
        .prepare_cached(
            "SELECT id, verb, job, ordered_at FROM orders INDEXED BY orders_open WHERE carried_out = 0 ORDER BY id LIMIT ?1",
        )?
        .query_map([AT_ONCE], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?
        .collect::<Result<_, _>>()?;
    let mut cancelled = Vec::new();
    for (order, verb, job, ordered_at) in orders {
        let obeyed = match (verb.as_str(), job.as_deref()) {
            ("retry", None) => Obeyed::Done(retry_dead(store, Timestamp(ordered_at), now)?),
            (verb, Some(text)) => match rows::job_id(text) {
                Some(id) => one(store, if verb == "cancel" { &Event::Cancel } else { &Event::Retry }, id, now, &mut cancelled)?,
                None => Obeyed::Refused(format!("\"{text}\" is no job's id")),
            },
            (verb, None) => Obeyed::Refused(format!("{verb} wants a job")),
        };
        let (jobs, refusal) = match obeyed {
            Obeyed::Done(jobs) => (jobs, None),
            Obeyed::Refused(why) => (0, Some(why)),
        };
        // More may be left of one that fills a transaction.
        let all = jobs < JOBS_AT_ONCE;
        store
            .connection()
            .prepare_cached("UPDATE orders SET jobs = jobs + ?2, refusal = ?3, carried_out = ?4 WHERE id = ?1")?
            .execute(params![order, jobs, refusal, all])?;
    }
    store
        .connection()
        .prepare_cached("DELETE FROM orders WHERE carried_out = 1 AND ordered_at < ?1")?
        .execute([now.0.saturating_sub(i64::try_from(FORGOTTEN_AFTER.as_millis()).expect("a day fits"))])?;
    Ok(cancelled)
}

/// The dead of when it was ordered: who dies again meanwhile stays dead.
fn retry_dead(store: &mut Store, ordered_at: Timestamp, now: Timestamp) -> Answer<u32> {
    let dead = ids(
        store,
        "SELECT id FROM jobs INDEXED BY jobs_state WHERE state = 'dead' AND finished_at <= ?1 LIMIT ?2",
        params![ordered_at.0, JOBS_AT_ONCE],
    )?;
    for id in &dead {
        if let Ok(job) = move_on(store, *id, &Event::Retry, now, None)? {
            tell(store, &job, now)?;
        }
    }
    store.work_may_be_due();
    Ok(u32::try_from(dead.len()).expect("limited by a u32"))
}

fn one(store: &mut Store, event: &Event, id: JobId, now: Timestamp, cancelled: &mut Vec<JobId>) -> Answer<Obeyed> {
    if rows::job(store.connection(), &id.to_string())?.is_none() {
        return Ok(Obeyed::Refused(format!("there is no job {id}: `inkport jobs list` tells the ids")));
    }
    if matches!(event, Event::Cancel) && store.publishing.contains(&id) {
        return Ok(Obeyed::Refused(format!("job {id} was read and is just being finished: it is too late to cancel it")));
    }
    match move_on(store, id, event, now, None)? {
        Ok(job) => {
            // Told of before the commit: were it lost, the order is still there and is carried out again.
            tell(store, &job, now)?;
            if matches!(job.state, State::Dead { .. }) {
                cancelled.push(id);
            }
            store.work_may_be_due();
            Ok(Obeyed::Done(1))
        }
        Err(Illegal::Transition { from, event }) => {
            let only = if event == "cancelled" { "only queued and running ones can" } else { "only rejected and dead ones can" };
            Ok(Obeyed::Refused(format!("job {id} is {from} and cannot be {event}: {only}")))
        }
        Err(refused @ Illegal::Stale) => Ok(Obeyed::Refused(refused.to_string())),
    }
}
