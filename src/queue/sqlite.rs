//! The queue in one SQLite file, the writing side: each verb of [`Queue`] is a closure that the writer
//! thread (`writer`) runs inside the next transaction.
//!
//! A daemon holds the file alone, by a lock beside it: two would hand out the same job twice. The
//! command line reads it meanwhile through [`SqliteLedger`].

use super::orders;
use super::readings;
use super::requests;
use super::rows::{self, attachments_to_json};
use super::turns;
use super::writer::{Answer, Lock, Store, Writer};
use super::{Delivery, Lease, NewDelivery, NewJob, Outcome, Queue, QueueError, Request, Requested, WithoutHolder};
use crate::account::{AccountName, Priority, VirtualPath};
use crate::crashpoint;
use crate::database::{self, DatabaseError};
use crate::job::delivery::{Attempt, DeliveryStanding, DeliveryState};
use crate::job::state::{Event, Illegal, RetryPolicy, Standing, State, apply};
use crate::job::{FileIdentity, Job, JobId};
use crate::units::Timestamp;
use rusqlite::{OptionalExtension, params};
use std::future::Future;
use std::hash::{BuildHasher, Hasher};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use super::ledger::SqliteLedger;

/// Expired leases that one claim ends.
const EXPIRED_AT_ONCE: i64 = 64;
/// A delivery that was claimed and never settled (its worker died) may be claimed again after this:
/// far above any relay's timeout, since the price of being early is a mail twice.
const DELIVERY_LEASE: Duration = Duration::from_secs(3600);

/// The writing side; clones share the writer thread. When the last clone is dropped, the thread
/// finishes what it was given and ends before the drop returns.
#[derive(Debug, Clone)]
pub struct SqliteQueue {
    writer: Arc<Writer>,
}

impl SqliteQueue {
    /// [`open_with`](Self::open_with) nothing to do about jobs that are given up.
    pub fn open(path: &Path, policy: RetryPolicy) -> Result<Self, QueueError> {
        Self::open_with(path, policy, Box::new(|_, _| Vec::new()))
    }

    /// Opens the queue for this process alone, brings its schema up to date, and gives every job that
    /// was running when the daemon last ended back to the queue. Blocking.
    pub fn open_with(path: &Path, policy: RetryPolicy, without_holder: WithoutHolder) -> Result<Self, QueueError> {
        let lock = Lock::take(path)?;
        let connection = database::open(path).map_err(|error| not_opened(path, error))?;
        let mut store = Store::new(connection, policy, path, without_holder);
        let recovered = store.alone(|store| recover(store, Timestamp::from_system(SystemTime::now())))?;
        if recovered > 0 {
            tracing::info!(jobs.recovered = recovered, "jobs that were running when the daemon last ended are queued again");
        }
        Ok(SqliteQueue { writer: Arc::new(Writer::start(store, lock)?) })
    }

    /// Runs a verb of `keeping` in the next transaction.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        verb: impl FnOnce(&mut Store) -> Answer<T> + Send + 'static,
    ) -> Result<T, QueueError> {
        self.writer.run(verb).await
    }

    /// Whether verbs are still taken: false after [`close`](Self::close), or if the writer thread died.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.writer.is_open()
    }

    /// Jobs queued or running, as of the last commit. Never waits.
    #[must_use]
    pub fn unfinished(&self) -> u64 {
        self.writer.unfinished()
    }

    /// How long the transaction under way has taken by now; zero between two. Never waits.
    #[must_use]
    pub fn at_work_for(&self) -> Duration {
        self.writer.at_work_for()
    }

    /// Finishes what was given so far; every verb after this answers [`QueueError::Closed`].
    pub async fn close(&self) {
        self.writer.close().await;
    }
}

/// Why the file could not be opened, in the queue's words.
pub(super) fn not_opened(path: &Path, error: DatabaseError) -> QueueError {
    match error {
        DatabaseError::Unusable(detail) => QueueError::Broken { path: path.display().to_string(), detail },
        DatabaseError::Sqlite(error) => QueueError::of(path, error),
    }
}

impl Queue for SqliteQueue {
    async fn enqueue(&self, job: NewJob) -> Result<JobId, QueueError> {
        self.writer.run(move |store| insert(store, &job, None)).await
    }

    async fn enqueue_unless_known(&self, job: NewJob) -> Result<Result<JobId, JobId>, QueueError> {
        self.writer
            .run(move |store| match known(store, &job.account, &job.identity)? {
                Some(id) => Ok(Err(id)),
                None => insert(store, &job, None).map(Ok),
            })
            .await
    }

    async fn enqueue_requested(&self, job: NewJob, request: Request) -> Result<Result<JobId, Requested>, QueueError> {
        self.writer.run(move |store| requests::insert(store, &job, &request)).await
    }

    async fn requested(&self, account: AccountName, key: String) -> Result<Option<Requested>, QueueError> {
        self.writer.run(move |store| requests::find(store.connection(), &account, &key)).await
    }

    async fn relocate(&self, account: AccountName, from: VirtualPath, to: VirtualPath) -> Result<(), QueueError> {
        self.writer.run(move |store| relocate(store, &account, &from, &to)).await
    }

    async fn retime(&self, account: AccountName, file: FileIdentity, modified_ns: i128) -> Result<(), QueueError> {
        self.writer.run(move |store| retime(store, &account, &file, modified_ns)).await
    }

    async fn claim(&self, lease: Duration, now: Timestamp) -> Result<Option<Lease>, QueueError> {
        // Nobody waits for the answer any more: the lease goes back rather than run out.
        let undo = move |store: &mut Store, unheard: Option<Lease>| {
            if let Some(lease) = unheard {
                let _ = step(store, lease.job.id, &Event::Release { token: lease.token }, now, None);
                store.work_may_be_due();
            }
        };
        self.writer.run_or_undo(move |store| claim(store, lease, now), undo).await
    }

    async fn prioritize(&self, account: AccountName, priority: Priority) -> Result<(), QueueError> {
        self.writer.run(move |store| turns::prioritize(store, &account, priority)).await
    }

    async fn extend(&self, job: JobId, token: u64, lease: Duration, now: Timestamp) -> Result<(), QueueError> {
        self.writer.run(move |store| step(store, job, &Event::Extend { token, lease }, now, None).map(drop)).await
    }

    async fn publishing(&self, job: JobId, token: u64, begun: bool) -> Result<(), QueueError> {
        self.writer.run(move |store| publishing(store, job, token, begun)).await
    }

    async fn settle(
        &self,
        job: JobId,
        token: u64,
        outcome: Outcome,
        deliveries: Vec<NewDelivery>,
        now: Timestamp,
    ) -> Result<Job, QueueError> {
        self.writer.run(move |store| settle(store, job, token, outcome, &deliveries, now)).await
    }

    async fn retry(&self, job: Option<JobId>, now: Timestamp) -> Result<usize, QueueError> {
        self.writer.run(move |store| retry(store, job, now)).await
    }

    async fn keep_reading(&self, job: JobId, recipe: String, reading: Vec<u8>) -> Result<(), QueueError> {
        self.writer.run(move |store| readings::keep(store, job, &recipe, &reading)).await
    }

    async fn claim_delivery(&self, now: Timestamp) -> Result<Option<Delivery>, QueueError> {
        let undo = |store: &mut Store, unheard: Option<Delivery>| {
            if let Some(delivery) = unheard {
                store.leased_deliveries.remove(&delivery.id);
                store.work_may_be_due();
            }
        };
        self.writer.run_or_undo(move |store| claim_delivery(store, now), undo).await
    }

    async fn settle_delivery(&self, delivery: i64, attempt: Attempt, now: Timestamp) -> Result<DeliveryState, QueueError> {
        self.writer.run(move |store| settle_delivery(store, delivery, &attempt, now)).await
    }

    async fn obey(&self, now: Timestamp) -> Result<Vec<JobId>, QueueError> {
        self.writer.run(move |store| orders::obey(store, now)).await
    }

    fn changed(&self) -> impl Future<Output = ()> + Send + use<> {
        self.writer.changed()
    }
}

pub(super) fn insert(store: &mut Store, job: &NewJob, email: Option<&str>) -> Answer<JobId> {
    let standing = Standing::new(job.received_at);
    store
        .connection()
        .prepare_cached(
            "INSERT INTO jobs (id, account, path, spool, bytes, door, received_at, inode, modified_ns, file_bytes,
                 state, due, attempt, interruptions, claims, email)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
        )?
        .execute(params![
            job.id.to_string(),
            job.account.as_str(),
            job.path.as_str(),
            job.spool.0,
            rows::signed(job.bytes),
            rows::door_name(job.door),
            job.received_at.0,
            rows::signed(job.identity.inode),
            rows::nanoseconds(job.identity.modified_ns),
            rows::signed(job.identity.bytes),
            standing.state.name(),
            job.received_at.0,
            standing.attempt,
            standing.interruptions,
            rows::signed(standing.claims),
            email,
        ])?;
    crashpoint::here("job-inserted");
    store.work_may_be_due();
    Ok(job.id)
}

fn known(store: &mut Store, account: &AccountName, identity: &FileIdentity) -> Answer<Option<JobId>> {
    rows::known(store.connection(), account, identity)
}

fn relocate(store: &mut Store, account: &AccountName, from: &VirtualPath, to: &VirtualPath) -> Answer<()> {
    // `0` is the character after `/`: what lies between is below the folder, and the index finds it.
    store
        .connection()
        .prepare_cached(
            "UPDATE jobs SET path = ?3 || substr(path, length(?2) + 1)
             WHERE account = ?1 AND (path = ?2 OR (path > ?2 || '/' AND path < ?2 || '0'))",
        )?
        .execute(params![account.as_str(), from.as_str(), to.as_str()])?;
    // A job that waited for an older one of its old path may wait no longer.
    store.work_may_be_due();
    Ok(())
}

fn retime(store: &mut Store, account: &AccountName, file: &FileIdentity, modified_ns: i128) -> Answer<()> {
    store
        .connection()
        .prepare_cached(
            "UPDATE jobs SET modified_ns = ?5, was_modified_ns = ?3
             WHERE account = ?1 AND inode = ?2 AND ?3 IN (modified_ns, was_modified_ns) AND file_bytes = ?4",
        )?
        .execute(params![
            account.as_str(),
            rows::signed(file.inode),
            rows::nanoseconds(file.modified_ns),
            rows::signed(file.bytes),
            rows::nanoseconds(modified_ns),
        ])?;
    Ok(())
}

fn claim(store: &mut Store, lease: Duration, now: Timestamp) -> Answer<Option<Lease>> {
    for id in ids(
        store,
        "SELECT id FROM jobs INDEXED BY jobs_running
         WHERE state = 'running' AND lease_until <= ?1 ORDER BY lease_until LIMIT ?2",
        params![now.0, EXPIRED_AT_ONCE],
    )? {
        let job = step(store, id, &Event::Expire, now, None)?;
        if job.state.is_final() {
            tell(store, &job, now)?;
        }
        tracing::warn!(job.id = %id, job.state = job.state.name(), "a worker held this job longer than its lease and lost it");
        store.work_may_be_due();
    }
    let Some(id) = turns::next(store, now)? else { return Ok(None) };
    let job = step(store, id, &Event::Claim { lease }, now, None)?;
    let State::Running { token, lease_until } = job.state else {
        return Err(QueueError::broken(store.path(), format!("job {id} was claimed but is not running")));
    };
    crashpoint::here("job-leased");
    Ok(Some(Lease { job, token, until: lease_until }))
}

/// Kept in memory: a daemon that dies over it has the job queued again, and then a cancel finds nobody at work.
fn publishing(store: &mut Store, id: JobId, token: u64, begun: bool) -> Answer<()> {
    match rows::job(store.connection(), &id.to_string())? {
        Some((_, Standing { state: State::Running { token: holder, .. }, .. })) if holder == token => {}
        _ => return Err(QueueError::Stale),
    }
    if begun {
        store.publishing.insert(id);
    } else {
        store.publishing.remove(&id);
    }
    Ok(())
}

fn settle(store: &mut Store, id: JobId, token: u64, outcome: Outcome, deliveries: &[NewDelivery], now: Timestamp) -> Answer<Job> {
    let (event, error) = match outcome {
        Outcome::Done => (Event::Done { token }, Some(None)),
        Outcome::Rejected { code, message } => (Event::Reject { token, code }, Some(Some(message))),
        Outcome::Failed { reason } => {
            let reason = rows::cut(reason);
            (Event::Fail { token, reason: reason.clone(), jitter: jitter() }, Some(Some(reason)))
        }
        Outcome::Released => (Event::Release { token }, None),
    };
    let job = step(store, id, &event, now, error)?;
    crashpoint::here("job-ended");
    if job.state.is_final() {
        schedule(store, id, deliveries, now)?;
        crashpoint::here("outbox-written");
    }
    store.work_may_be_due();
    Ok(job)
}

/// A job that ended, or was queued once more, without a holder is told of like any other.
pub(super) fn tell(store: &mut Store, job: &Job, now: Timestamp) -> Answer<()> {
    if !matches!(job.state, State::Dead { .. } | State::Queued { .. }) {
        return Ok(());
    }
    let is_newest: bool = store
        .connection()
        .prepare_cached("SELECT NOT EXISTS (SELECT 1 FROM jobs WHERE account = ?1 AND path = ?2 AND id > ?3)")?
        .query_row(params![job.account.as_str(), job.path.as_str(), job.id.to_string()], |row| row.get(0))?;
    let deliveries = store.without_holder(job, is_newest);
    if job.state.is_final() { schedule(store, job.id, &deliveries, now) } else { Ok(()) }
}

/// The mail about a job's end, in the transaction of that end.
fn schedule(store: &mut Store, id: JobId, deliveries: &[NewDelivery], now: Timestamp) -> Answer<()> {
    if !deliveries.is_empty() {
        let mut statement = store.connection().prepare_cached(
            "INSERT INTO deliveries (job, recipient, attachments, state, attempts, scheduled_at, due)
             VALUES (?1, ?2, ?3, ?4, 0, ?5, ?5)",
        )?;
        for delivery in deliveries {
            statement.execute(params![
                id.to_string(),
                delivery.to,
                attachments_to_json(&delivery.attachments),
                DeliveryState::Scheduled.name(),
                now.0
            ])?;
        }
    }
    Ok(())
}

fn retry(store: &mut Store, job: Option<JobId>, now: Timestamp) -> Answer<usize> {
    let wanted = match job {
        Some(id) => vec![id],
        None => ids(store, "SELECT id FROM jobs WHERE state = 'dead'", params![])?,
    };
    let mut retried = 0;
    for id in wanted {
        match move_on(store, id, &Event::Retry, now, None)? {
            Ok(job) => {
                tell(store, &job, now)?;
                retried += 1;
            }
            Err(refused) => tracing::debug!(job.id = %id, %refused, "not tried again"),
        }
    }
    store.work_may_be_due();
    Ok(retried)
}

fn recover(store: &mut Store, now: Timestamp) -> Answer<usize> {
    let running = ids(store, "SELECT id FROM jobs WHERE state = 'running'", params![])?;
    for id in &running {
        let job = step(store, *id, &Event::Recover, now, None)?;
        if let State::Dead { reason } = &job.state {
            tell(store, &job, now)?;
            tracing::error!(job.id = %id, job.reason = reason, "a job is given up: the daemon never survives it");
        }
    }
    Ok(running.len())
}

fn claim_delivery(store: &mut Store, now: Timestamp) -> Answer<Option<Delivery>> {
    store.leased_deliveries.retain(|_, until| *until > now);
    let due: Vec<i64> = store
        .connection()
        .prepare_cached(
            "SELECT id FROM deliveries WHERE state IN ('scheduled', 'deferred') AND due <= ?1 ORDER BY due, id LIMIT ?2",
        )?
        .query_map(params![now.0, rows::signed(store.leased_deliveries.len() as u64 + 1)], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let Some(id) = due.into_iter().find(|id| !store.leased_deliveries.contains_key(id)) else { return Ok(None) };
    let (job, to, attempts, attachments): (String, String, u32, String) = store
        .connection()
        .prepare_cached("SELECT job, recipient, attempts, attachments FROM deliveries WHERE id = ?1")?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
    let broken = |what: &str| QueueError::broken(store.path(), format!("delivery {id} has {what}"));
    let attachments = rows::attachments_from_json(&attachments).ok_or_else(|| broken("unreadable attachments"))?;
    let job = rows::job(store.connection(), &job)?.ok_or_else(|| broken("no job"))?.0;
    store.leased_deliveries.insert(id, now.after(DELIVERY_LEASE));
    Ok(Some(Delivery { id, job, to, attempts, attachments }))
}

fn settle_delivery(store: &mut Store, id: i64, attempt: &Attempt, now: Timestamp) -> Answer<DeliveryState> {
    let standing = store
        .connection()
        .prepare_cached("SELECT state, attempts, scheduled_at, due, error FROM deliveries WHERE id = ?1")?
        .query_row([id], |row| {
            Ok(DeliveryStanding {
                state: rows::parsed(0, &row.get::<_, String>(0)?, DeliveryState::from_name)?,
                attempts: row.get(1)?,
                scheduled_at: Timestamp(row.get(2)?),
                due: Timestamp(row.get(3)?),
                error: row.get(4)?,
            })
        })
        .optional()?
        .ok_or(QueueError::Stale)?;
    let next = crate::job::delivery::apply(&standing, attempt, now).ok_or(QueueError::Stale)?;
    store
        .connection()
        .prepare_cached("UPDATE deliveries SET state = ?2, attempts = ?3, due = ?4, error = ?5 WHERE id = ?1")?
        .execute(params![id, next.state.name(), next.attempts, next.due.0, next.error.map(rows::cut)])?;
    store.leased_deliveries.remove(&id);
    store.work_may_be_due();
    Ok(next.state)
}

pub(super) fn ids(store: &Store, query: &str, parameters: impl rusqlite::Params) -> Answer<Vec<JobId>> {
    let mut statement = store.connection().prepare_cached(query)?;
    let ids = statement.query_map(parameters, |row| rows::parsed(0, &row.get::<_, String>(0)?, rows::job_id))?;
    Ok(ids.collect::<Result<_, _>>()?)
}

/// Like [`move_on`], for holders: whatever the machine refuses means that the lease is over.
fn step(store: &mut Store, id: JobId, event: &Event, now: Timestamp, error: Option<Option<String>>) -> Answer<Job> {
    move_on(store, id, event, now, error)?.map_err(|refused| {
        tracing::debug!(job.id = %id, %refused, "a settle came late");
        QueueError::Stale
    })
}

/// Stores what the state machine answers to `event`. `error` is the job's new sentence: `None` leaves
/// the one it has, `Some(None)` clears it.
pub(super) fn move_on(
    store: &mut Store,
    id: JobId,
    event: &Event,
    now: Timestamp,
    error: Option<Option<String>>,
) -> Answer<Result<Job, Illegal>> {
    let Some((mut job, standing)) = rows::job(store.connection(), &id.to_string())? else { return Ok(Err(Illegal::Stale)) };
    let next = match apply(&standing, event, store.policy(), now) {
        Ok(next) => next,
        Err(refused) => return Ok(Err(refused)),
    };
    if !matches!(event, Event::Extend { .. }) {
        store.publishing.remove(&id);
    }
    job.finished_at = next.state.is_final().then_some(now);
    job.error = match (error, event, &next.state) {
        (Some(error), ..) => error.map(rows::cut),
        (None, Event::Recover | Event::Expire | Event::Cancel, State::Dead { reason }) => Some(rows::cut(reason.clone())),
        (None, Event::Expire, _) => Some("the worker stopped answering".to_owned()),
        (None, ..) => job.error,
    };
    let (due, token, lease_until, cause) = match &next.state {
        State::Queued { due } => (Some(due.0), None, None, None),
        State::Running { token, lease_until } => (None, Some(rows::signed(*token)), Some(lease_until.0), None),
        State::Done => (None, None, None, None),
        State::Rejected { code: cause } | State::Dead { reason: cause } => (None, None, None, Some(cause.as_str())),
    };
    store
        .connection()
        .prepare_cached(
            "UPDATE jobs SET state = ?2, due = ?3, token = ?4, lease_until = ?5, cause = ?6, attempt = ?7,
                 interruptions = ?8, claims = ?9, finished_at = ?10, error = ?11 WHERE id = ?1",
        )?
        .execute(params![
            id.to_string(),
            next.state.name(),
            due,
            token,
            lease_until,
            cause,
            next.attempt,
            next.interruptions,
            rows::signed(next.claims),
            job.finished_at.map(|at| at.0),
            job.error,
        ])?;
    job.state = next.state;
    job.attempt = next.attempt;
    Ok(Ok(job))
}

/// 0..=1, to spread retries: any number does that differs between jobs and processes.
fn jitter() -> f32 {
    let random = std::hash::RandomState::new().build_hasher().finish();
    f32::from(u16::try_from(random >> 48).expect("16 bits")) / f32::from(u16::MAX)
}
