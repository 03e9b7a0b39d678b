//! Claim, read, publish, settle.
//!
//! A *lane* is one async loop and one engine thread. The loop claims a job, hands its bytes to the
//! thread, keeps the lease alive meanwhile, publishes the sidecars and settles the job; only then
//! does it claim the next. Everything before the settle is idempotent, so a crash anywhere simply
//! runs the job again; mail is not, so it is only written down (outbox rows, committed with the
//! job's end) and sent by `delivery`.
//!
//! Waiting may be cancelled (at shutdown no new job is claimed), working may not: a job under way
//! may finish within the grace, after that it is given back to the queue unharmed. This room writes
//! into homes through [`publish`] alone, creates no job and speaks no SMTP.

pub mod engine;
pub mod publish;
pub mod read;
pub mod wall;
mod daily;
mod reuse;
mod wire;

use crate::account::{Account, AccountName, Duplicates, Priority, Step};
use crate::accounts::Accounts;
use crate::crashpoint;
use crate::document::Limits;
use crate::homes::Homes;
use crate::job::state::{RetryPolicy, State};
use crate::job::{Job, JobId};
use crate::meters::{self, Stage};
use crate::processors::{Plan, codes};
use crate::queue::sqlite::{SqliteLedger, SqliteQueue};
use crate::queue::{JobLedger, Lease, NewDelivery, Outcome, Queue, QueueError};
use crate::sidecar::Style;
use crate::spool::Spool;
use crate::units::Timestamp;
use engine::{Cancel, EngineState, EngineThread, Readers};
use publish::{Failure, How, PublishError};
use read::{Options, Read, ReadError};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::{broadcast, watch};

/// What the worker needs to know.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Lanes: jobs read at the same time.
    pub lanes: usize,
    pub limits: Limits,
    /// A job that takes longer has failed.
    pub job_timeout: Duration,
    pub retry: RetryPolicy,
    /// Whether anybody sends mail: without, no deliveries are written.
    pub mail: bool,
}

/// What the worker works with.
#[derive(Clone)]
pub struct Parts {
    pub queue: SqliteQueue,
    pub ledger: SqliteLedger,
    pub spool: Spool,
    pub homes: Homes,
    pub accounts: Accounts,
}

/// A lease lasts this long past its last extension; a job is extended three times as often.
const LEASE: Duration = Duration::from_secs(60);
/// The queue is asked this often even if nobody says that it changed: retries and leases fall due by themselves.
const POLL: Duration = Duration::from_secs(1);
/// An operator waits for an order at most this long.
const OBEY: Duration = Duration::from_millis(500);
/// Cancelled jobs that a lane may be behind with; one that missed some asks the queue.
const CANCELLED_AT_ONCE: usize = 64;
/// Between two tries to write what a full disk refused.
const FULL_DISK_AGAIN: Duration = Duration::from_secs(1);
/// How long a lane waits for an engine thread to give up after a job's timeout before it starts another.
const ABANDON_AFTER: Duration = Duration::from_secs(10);

/// What the engines are up to, for `/health` and the status page.
#[derive(Clone)]
pub struct EngineHealth {
    states: Arc<Vec<watch::Sender<EngineState>>>,
    busy: Arc<AtomicUsize>,
}

impl EngineHealth {
    /// The best that any lane can say: ready if one is.
    #[must_use]
    pub fn state(&self) -> EngineState {
        let states: Vec<EngineState> = self.states.iter().map(|s| s.borrow().clone()).collect();
        let ready = states.iter().find(|s| matches!(s, EngineState::Ready { .. }));
        ready.or_else(|| states.iter().find(|s| matches!(s, EngineState::Failed(_)))).unwrap_or(&EngineState::Opening).clone()
    }

    /// Jobs being read right now.
    #[must_use]
    pub fn busy(&self) -> usize {
        self.busy.load(Ordering::Relaxed)
    }
}

/// The worker: its lanes.
pub struct Worker {
    settings: Settings,
    parts: Parts,
    readers: Readers,
    health: EngineHealth,
    duplicates: Duplicates,
    codes: codes::Settings,
    style: Style,
}

impl Worker {
    #[must_use]
    pub fn new(settings: Settings, parts: Parts, readers: Readers) -> Self {
        let states = (0..settings.lanes.max(1)).map(|_| watch::channel(EngineState::Opening).0).collect();
        let health = EngineHealth { states: Arc::new(states), busy: Arc::default() };
        let (duplicates, codes, style) = (Duplicates::default(), codes::Settings::default(), Style::default());
        Worker { settings, parts, readers, health, duplicates, codes, style }
    }

    /// What is done with bytes that were read before, for accounts that do not say it themselves.
    #[must_use]
    pub fn duplicates(self, duplicates: Duplicates) -> Self {
        Worker { duplicates, ..self }
    }

    /// What codes on pages mean.
    #[must_use]
    pub fn codes(self, codes: codes::Settings) -> Self {
        Worker { codes, ..self }
    }

    /// How sidecars are written.
    #[must_use]
    pub fn style(self, style: Style) -> Self {
        Worker { style, ..self }
    }

    #[must_use]
    pub fn health(&self) -> EngineHealth {
        self.health.clone()
    }

    /// Works until `stop` is true, then ends the jobs under way: finished, or given back after `grace`.
    pub async fn run(self, stop: watch::Receiver<bool>, grace: Duration) -> std::io::Result<()> {
        let mut lanes = tokio::task::JoinSet::new();
        let priorities = Priorities::default();
        let cancelled = broadcast::Sender::new(CANCELLED_AT_ONCE);
        for number in 0..self.settings.lanes.max(1) {
            let lane = Lane {
                number,
                settings: self.settings,
                parts: self.parts.clone(),
                readers: self.readers.clone(),
                thread: EngineThread::start(number, self.readers.clone())?,
                health: self.health.clone(),
                duplicates: self.duplicates,
                codes: self.codes.clone(),
                style: self.style,
                grace,
                cancelled: cancelled.subscribe(),
                priorities: priorities.clone(),
            };
            lanes.spawn(lane.run(stop.clone()));
        }
        let orders = tokio::spawn(obey(self.parts.queue.clone(), cancelled.clone(), stop));
        while let Some(ended) = lanes.join_next().await {
            if let Err(panic) = ended {
                tracing::error!(error = %panic, "a worker lane ended by a panic");
            }
        }
        orders.abort();
        Ok(())
    }
}

/// Has the queue carry out what an operator orders, and tells the lanes which jobs are no longer wanted.
async fn obey(queue: SqliteQueue, cancelled: broadcast::Sender<JobId>, mut stop: watch::Receiver<bool>) {
    while !*stop.borrow() {
        match queue.obey(now()).await {
            Ok(jobs) => {
                for job in jobs {
                    tracing::info!(job.id = %job, "an operator cancelled a job");
                    meters::job_ended("dead", Some("cancelled"));
                    // Nobody listens where there is no lane any more.
                    let _ = cancelled.send(job);
                }
            }
            Err(QueueError::Closed) => return,
            Err(error) => tracing::warn!(error = %error, "an operator's order could not be carried out; trying again"),
        }
        tokio::select! {
            _ = stop.wait_for(|stopped| *stopped) => {}
            () = tokio::time::sleep(OBEY) => {}
        }
    }
}

struct Lane {
    number: usize,
    settings: Settings,
    parts: Parts,
    readers: Readers,
    thread: EngineThread,
    health: EngineHealth,
    duplicates: Duplicates,
    codes: codes::Settings,
    style: Style,
    grace: Duration,
    cancelled: broadcast::Receiver<JobId>,
    priorities: Priorities,
}

/// What the queue has been told of accounts; the lanes share it.
type Priorities = Arc<Mutex<HashMap<AccountName, Priority>>>;
/// Why the lane did without something that it could do without.
#[derive(Debug, thiserror::Error)]
enum LaneTrouble {
    #[error(transparent)]
    Queue(QueueError),
    #[error(transparent)]
    Panicked(#[from] tokio::task::JoinError),
}

/// How a run of a job ended, as far as the lane is concerned.
enum Ended {
    /// The engine answered.
    Read(Result<Box<Read>, ReadError>),
    /// Longer than `job-timeout`.
    Timeout,
    /// The daemon stops and the grace is over.
    Stopped,
    /// The lease was lost: whatever comes of it belongs to somebody else.
    Lost,
}

impl Lane {
    async fn run(mut self, mut stop: watch::Receiver<bool>) {
        loop {
            // Marked as seen before it is looked at: a clone's own version is as old as the thread, and a
            // wait for its change would be over at once, for ever.
            let mut engine = self.thread.state();
            engine.mark_unchanged();
            self.follow_engine();
            if *stop.borrow() {
                return;
            }
            // Subscribed before the queue is asked: what comes in between is not missed.
            let changed = self.parts.queue.changed();
            let claimed = if self.engine_ready() { self.parts.queue.claim(LEASE, now()).await } else { Ok(None) };
            match claimed {
                Ok(Some(lease)) => {
                    crashpoint::here("job-claimed");
                    self.health.busy.fetch_add(1, Ordering::Relaxed);
                    self.work(lease, &mut stop).await;
                    self.health.busy.fetch_sub(1, Ordering::Relaxed);
                    continue;
                }
                Ok(None) => {}
                Err(QueueError::Closed) => return,
                Err(error) => tracing::warn!(error = %error, "no job could be claimed; trying again"),
            }
            tokio::select! {
                () = changed => {}
                Ok(()) = engine.changed() => {}
                _ = stop.wait_for(|stopped| *stopped) => {}
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }

    fn engine_ready(&self) -> bool {
        matches!(*self.thread.state().borrow(), EngineState::Ready { .. })
    }

    /// The engine's name and models, where it is ready.
    fn ready_engine(&self) -> Option<(String, Vec<String>)> {
        match &*self.thread.state().borrow() {
            EngineState::Ready { name, models } => Some((name.clone(), models.clone())),
            EngineState::Opening | EngineState::Failed(_) => None,
        }
    }

    fn follow_engine(&self) {
        let state = self.thread.state().borrow().clone();
        self.health.states[self.number].send_if_modified(|old| {
            let changed = *old != state;
            *old = state;
            changed
        });
    }

    async fn work(&mut self, lease: Lease, stop: &mut watch::Receiver<bool>) {
        let job = &lease.job;
        let started = now();
        let waited = started.since(job.received_at);
        meters::stage(Stage::Wait, waited);
        let ended = match self.first_reading(&lease).await {
            Some(read) => Ended::Read(Ok(Box::new(read))),
            None => self.read(&lease, stop).await,
        };
        let (outcome, deliveries) = match ended {
            Ended::Read(Ok(read)) => {
                measure(&read);
                self.keep_reading(&lease, &read).await;
                let writing = std::time::Instant::now();
                match self.finish(&lease, *read, stop).await {
                    Some(end) => {
                        meters::stage(Stage::Write, writing.elapsed());
                        end
                    }
                    None => return,
                }
            }
            Ended::Read(Err(error)) => self.fail(&lease, error.into()).await,
            Ended::Timeout => {
                let limit = crate::units::Span(self.settings.job_timeout);
                self.fail(&lease, Failure::Transient(format!("reading took longer than limits.job-timeout ({limit})"))).await
            }
            Ended::Stopped => (Outcome::Released, Vec::new()),
            Ended::Lost => return,
        };
        match self.settle(&lease, outcome, deliveries).await {
            Ok(after) => {
                crashpoint::here("job-settled");
                let took = now().since(started);
                match &after.state {
                    State::Done => meters::job_ended("done", None),
                    State::Rejected { code } => meters::job_ended("rejected", Some(code)),
                    State::Dead { .. } => meters::job_ended("dead", Some("out-of-attempts")),
                    State::Queued { .. } | State::Running { .. } => {}
                }
                tracing::info!(
                    job.id = %job.id,
                    account.name = %job.account,
                    job.state = after.state.name(),
                    job.attempt = after.attempt,
                    upload.bytes = job.bytes,
                    waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX),
                    took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                    "job {}",
                    match &after.state {
                        State::Done => "done",
                        State::Rejected { .. } => "rejected: it can never be read",
                        State::Dead { .. } => "dead: out of attempts",
                        State::Queued { .. } | State::Running { .. } => "back in the queue",
                    }
                );
            }
            // The lease expires and the job runs again: nothing is lost.
            Err(error) => tracing::warn!(job.id = %job.id, error = %error, "the job's end could not be stored"),
        }
    }

    /// Stores a run's end. While the disk is full or the database does not answer, again and again until
    /// the lease runs out: after that another run will say it.
    async fn settle(&self, lease: &Lease, outcome: Outcome, deliveries: Vec<NewDelivery>) -> Result<Job, QueueError> {
        let until = tokio::time::Instant::now() + LEASE;
        loop {
            let settled = self.parts.queue.settle(lease.job.id, lease.token, outcome.clone(), deliveries.clone(), now()).await;
            match settled {
                Err(QueueError::NoSpace | QueueError::Unavailable(_)) if tokio::time::Instant::now() < until => {
                    tokio::time::sleep(FULL_DISK_AGAIN).await;
                }
                settled => return settled,
            }
        }
    }

    /// Has the engine read the job's document; keeps the lease alive meanwhile.
    async fn read(&mut self, lease: &Lease, stop: &mut watch::Receiver<bool>) -> Ended {
        let (mut orders, mut ordered) = (self.cancelled.resubscribe(), true);
        let spool = self.parts.spool.clone();
        let key = lease.job.spool;
        let bytes = match tokio::task::spawn_blocking(move || spool.read(&key)).await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(error)) => return Ended::Read(Err(ReadError::Interrupted(error.to_string()))),
            Err(panic) => return Ended::Read(Err(ReadError::Interrupted(panic.to_string()))),
        };
        let cancel = Cancel::default();
        let account = self.account(lease).await;
        self.prioritize(lease, account.as_ref()).await;
        let plan = self.plan(account.as_ref());
        let languages = account.map(|account| account.language).unwrap_or_default();
        let options = Options { limits: self.settings.limits, languages, plan };
        let Some(mut answer) = self.thread.read(bytes, options, cancel.clone()) else {
            // It hangs, and could not be replaced when that was found out: perhaps it can by now.
            tokio::time::sleep(POLL).await;
            self.replace_thread();
            return Ended::Stopped;
        };
        let deadline = tokio::time::sleep(self.settings.job_timeout);
        let mut heartbeat = tokio::time::interval(LEASE / 3);
        heartbeat.tick().await;
        let grace = self.grace;
        let stopped = async {
            let _ = stop.wait_for(|stopped| *stopped).await;
            tokio::time::sleep(grace).await;
        };
        tokio::pin!(deadline, stopped);
        let ended = loop {
            tokio::select! {
                read = &mut answer => {
                    crashpoint::here("document-read");
                    return match read {
                        Ok(read) => Ended::Read(read.map(Box::new)),
                        Err(_) => Ended::Read(Err(ReadError::Interrupted("the engine thread ended".to_owned()))),
                    };
                }
                _ = heartbeat.tick() => {
                    if let Err(QueueError::Stale) = self.parts.queue.extend(lease.job.id, lease.token, LEASE, now()).await {
                        break Ended::Lost;
                    }
                }
                order = orders.recv(), if ordered => {
                    let this = match order {
                        Ok(job) => job == lease.job.id,
                        Err(broadcast::error::RecvError::Lagged(_)) => true,
                        Err(broadcast::error::RecvError::Closed) => {
                            ordered = false;
                            false
                        }
                    };
                    if this
                        && let Err(QueueError::Stale) = self.parts.queue.extend(lease.job.id, lease.token, LEASE, now()).await
                    {
                        break Ended::Lost;
                    }
                }
                () = &mut deadline => break Ended::Timeout,
                () = &mut stopped => break Ended::Stopped,
            }
        };
        cancel.raise();
        if !matches!(ended, Ended::Stopped)
            && tokio::time::timeout(ABANDON_AFTER.min(self.settings.job_timeout), answer).await.is_err()
        {
            tracing::error!(job.id = %lease.job.id, "the engine does not come back from this document; another one takes its place");
            self.replace_thread();
        }
        ended
    }

    /// What is done with an account's documents.
    fn plan(&self, account: Option<&Account>) -> Plan {
        let steps = account.map_or_else(|| Step::ALL.to_vec(), |account| account.pipeline.clone());
        let own = account.map(|account| account.fields.clone()).unwrap_or_default();
        Plan { steps, codes: self.codes.clone(), own }
    }

    /// Leaves the engine thread to itself, which ends when its document does, and starts another.
    fn replace_thread(&mut self) {
        match EngineThread::start(self.number, self.readers.clone()) {
            Ok(thread) => self.thread = thread,
            Err(error) => tracing::error!(error = %error, "no new engine thread could be started"),
        }
    }

    /// Publishes a reading. While the disk is full it waits for room, the reading in hand, because that
    /// costs the job no attempt; a stop gives it back. `None`: the lease was lost over it.
    async fn finish(&self, lease: &Lease, read: Read, stop: &mut watch::Receiver<bool>) -> Option<(Outcome, Vec<NewDelivery>)> {
        let account = self.account(lease).await;
        let (id, token) = (lease.job.id, lease.token);
        loop {
            match self.parts.queue.publishing(id, token, true).await {
                Ok(()) => {
                    let (parts, job) = (self.parts.clone(), lease.job.clone());
                    let (account, read, finished_at) = (account.clone(), read.clone(), now());
                    let how = How { mail: self.settings.mail, limits: self.settings.limits, style: self.style };
                    let publishing = tokio::task::spawn_blocking(move || {
                        publish::done(&parts, &job, account.as_ref(), read, finished_at, how)
                    });
                    match publishing.await.unwrap_or_else(|panic| Err(PublishError::Panicked(panic.to_string()))) {
                        Ok(deliveries) => return Some((Outcome::Done, deliveries)),
                        Err(error) if error.is_full() => {
                            tracing::warn!(job.id = %id, error = %error, "the sidecars wait for room");
                        }
                        Err(error) => return Some(self.fail(lease, Failure::Transient(error.to_string())).await),
                    }
                }
                // The disk is full for the queue too.
                Err(error @ (QueueError::NoSpace | QueueError::Unavailable(_))) => {
                    tracing::warn!(job.id = %id, error = %error, "the sidecars wait for the queue");
                }
                Err(_) => return None,
            }
            // Who waits may be cancelled; what is there of the sidecars goes with the job then.
            if let Err(QueueError::Stale) = self.parts.queue.publishing(id, token, false).await {
                return None;
            }
            tokio::select! {
                _ = stop.wait_for(|stopped| *stopped) => return Some((Outcome::Released, Vec::new())),
                () = tokio::time::sleep(FULL_DISK_AGAIN) => {}
            }
            // A full disk may refuse this too; then the lease is only as long as it is.
            if let Err(QueueError::Stale) = self.parts.queue.extend(id, token, LEASE, now()).await {
                return None;
            }
        }
    }

    /// A failed run: final if the document can never be read or this was the last attempt, and then
    /// `error.json` lies beside it and mail is due.
    async fn fail(&self, lease: &Lease, failure: Failure) -> (Outcome, Vec<NewDelivery>) {
        let last = matches!(failure, Failure::Never { .. }) || lease.job.attempt >= self.settings.retry.attempts;
        let mut deliveries = Vec::new();
        if last {
            let account = self.account(lease).await;
            let (parts, job, mail, told) = (self.parts.clone(), lease.job.clone(), self.settings.mail, failure.clone());
            let telling = tokio::task::spawn_blocking(move || publish::failed(&parts, &job, account.as_ref(), &told, mail));
            deliveries = telling.await.unwrap_or_default();
        }
        (failure.into_outcome(), deliveries)
    }

    /// Tells the queue what it does not know of an account: how often its turn comes.
    async fn prioritize(&self, lease: &Lease, account: Option<&Account>) {
        let (name, priority) = (&lease.job.account, account.map(|account| account.priority).unwrap_or_default());
        let known = |priorities: &Priorities| priorities.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied();
        if known(&self.priorities) == Some(priority) {
            return;
        }
        match self.parts.queue.prioritize(name.clone(), priority).await {
            Ok(()) => drop(self.priorities.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), priority)),
            Err(error) => tracing::warn!(account.name = %name, error = %error, "the account's priority could not be stored"),
        }
    }

    async fn account(&self, lease: &Lease) -> Option<Account> {
        let (accounts, name) = (self.parts.accounts.clone(), lease.job.account.clone());
        let found = tokio::task::spawn_blocking(move || accounts.find(&name)).await;
        found.ok().and_then(|found| {
            found.unwrap_or_else(|error| {
                tracing::warn!(account.name = %lease.job.account, error = %error, "the account cannot be looked up; its defaults are used");
                None
            })
        })
    }
}

fn now() -> Timestamp {
    Timestamp::from_system(SystemTime::now())
}

/// Where the time of a reading went; one that was taken over took none.
fn measure(read: &Read) {
    if read.duplicate_of.is_some() {
        return;
    }
    meters::stage(Stage::Decode, read.spent.decode);
    meters::stage(Stage::Detect, read.pages.iter().map(|(_, text)| text.timing.detect).sum());
    meters::stage(Stage::Recognise, read.pages.iter().map(|(_, text)| text.timing.recognize).sum());
    for (_, text) in &read.pages {
        meters::batches(text.timing.recognized, text.timing.batches);
    }
}

/// Jobs that stand under a newer upload of the same name write no sidecars: the newer one will.
fn superseded(ledger: &impl JobLedger, job: &crate::job::Job) -> Result<bool, QueueError> {
    Ok(ledger.newest(&job.account, &job.path)?.is_some_and(|newest| newest.id != job.id))
}
