//! Jobs and outbox, kept. SQLite in WAL mode with `synchronous=FULL`: one writer thread owns the one
//! writing connection and commits what is waiting together (group commit), so an answer from any verb
//! means the row is on disk. Readers have connections of their own and never wait for the writer.
//!
//! Decides nothing: [`crate::job::state::apply`] and [`crate::job::delivery::apply`] do. Two traits: [`Queue`] for those who
//! carry (`intake`, `worker`, `delivery`), [`JobLedger`], read only, for those who show (`http`, `cli`).

use crate::account::{AccountName, Priority, VirtualPath};
use crate::job::delivery::{Attempt, DeliveryState};
use crate::job::{Door, FileIdentity, Job, JobId, SpoolKey};
use crate::units::Timestamp;
use rusqlite::ErrorCode;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

pub mod keeping;
pub mod sqlite;

#[cfg(test)]
mod contract;
mod events;
mod ledger;
mod orders;
mod readings;
mod requests;
mod rows;
mod turns;
mod writer;

pub use orders::{Obeyed, Order, OrderBook};

/// An upload to be read: bytes are in the spool and under `path` in the home, both durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJob {
    pub id: JobId,
    pub account: AccountName,
    pub path: VirtualPath,
    pub spool: SpoolKey,
    pub bytes: u64,
    pub identity: FileIdentity,
    pub door: Door,
    pub received_at: Timestamp,
}

/// What came with an upload by request, committed with its job.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request {
    /// Names it: sent again, it finds its job. With what it was made of, to tell another request under the same name.
    pub key: Option<(String, [u8; 32])>,
    /// Who is told of the job's end beside the account's addresses.
    pub email: Option<String>,
}

/// The job that a request made, found by the request's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requested {
    pub job: JobId,
    pub fingerprint: [u8; 32],
}

/// A job changed its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobEvent {
    /// Rises by one with each, for all accounts together.
    pub number: u64,
    pub job: JobId,
    pub account: AccountName,
    /// The new one's name.
    pub state: String,
    pub at: Timestamp,
}

/// A message to be sent when the job ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDelivery {
    /// One mail address.
    pub to: String,
    /// Sidecars to attach: file name as the recipient sees it, bytes in the spool.
    pub attachments: Vec<(String, SpoolKey)>,
}

/// What there is to do about a job that changes without a holder who could do it. Dead: its worker or the
/// daemon did not come back from it too often, or an operator cancelled it. Queued: an operator wants it tried again.
/// Told the job as it is then, and whether no newer upload has its name; answers the deliveries that are
/// committed with an end. Called inside of the transaction, perhaps again if that fails: it must not use the
/// queue, and must be able to do it twice.
pub type WithoutHolder = Box<dyn Fn(&Job, bool) -> Vec<NewDelivery> + Send>;

/// The temporary right to run a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    pub job: Job,
    /// Fencing token: a settle with an older one is refused.
    pub token: u64,
    pub until: Timestamp,
}

/// What a run came to. The deliveries become outbox rows in the same transaction, if the job ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// Can never be read.
    Rejected {
        code: String,
        message: String,
    },
    /// Transient: tried again, or dead when the attempts are used up.
    Failed {
        reason: String,
    },
    /// Given back unharmed because the daemon stops.
    Released,
}

/// A claimed outbox row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    pub id: i64,
    pub job: Job,
    pub to: String,
    pub attempts: u32,
    pub attachments: Vec<(String, SpoolKey)>,
}

/// A delivery as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryRecord {
    pub to: String,
    pub state: DeliveryState,
    pub attempts: u32,
    pub error: Option<String>,
}

/// By what the caller does next.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// Try again later: the disk is full.
    #[error("the disk that holds the queue is full")]
    NoSpace,
    /// Try again later: locked, busy, an I/O error.
    #[error("the queue's database did not answer: {0}")]
    Unavailable(#[source] rusqlite::Error),
    /// Give up this lease: it passed to another.
    #[error("the lease has passed to another worker")]
    Stale,
    /// An operator must look.
    #[error("the queue's database {path} cannot be used: {detail}")]
    Broken { path: String, detail: String },
    /// The writer has been shut down.
    #[error("the queue is closed")]
    Closed,
}

impl QueueError {
    fn broken(path: &Path, detail: String) -> Self {
        QueueError::Broken { path: path.display().to_string(), detail }
    }

    /// SQLite's error by what the caller does next.
    fn of(path: &Path, error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => QueueError::NoSpace,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::CannotOpen | ErrorCode::ReadOnly) => {
                QueueError::broken(path, error.to_string())
            }
            _ => QueueError::Unavailable(error),
        }
    }

    /// The same error once more: one failed commit is the answer to many verbs.
    fn again(&self) -> Self {
        match self {
            QueueError::NoSpace => QueueError::NoSpace,
            QueueError::Unavailable(rusqlite::Error::SqliteFailure(error, message)) => {
                QueueError::Unavailable(rusqlite::Error::SqliteFailure(*error, message.clone()))
            }
            QueueError::Unavailable(error) => QueueError::Unavailable(rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ERROR),
                Some(error.to_string()),
            )),
            QueueError::Stale => QueueError::Stale,
            QueueError::Broken { path, detail } => QueueError::Broken { path: path.clone(), detail: detail.clone() },
            QueueError::Closed => QueueError::Closed,
        }
    }
}

impl From<rusqlite::Error> for QueueError {
    fn from(error: rusqlite::Error) -> Self {
        QueueError::of(Path::new("inkport.db"), error)
    }
}

/// The verbs of those who carry. Every answer means: committed and fsynced.
pub trait Queue: Clone + Send + Sync + 'static {
    /// Adds a job.
    fn enqueue(&self, job: NewJob) -> impl Future<Output = Result<JobId, QueueError>> + Send;
    /// Adds a job unless this account already has one for a file of the same identity (whatever its
    /// path): then that job's id in `Err` of the inner result. For doors that see a file more than once.
    fn enqueue_unless_known(&self, job: NewJob) -> impl Future<Output = Result<Result<JobId, JobId>, QueueError>> + Send;
    /// Adds a job that a request asked for, with what is known of the request; or, if the account has had one with its
    /// key, answers that one.
    fn enqueue_requested(
        &self,
        job: NewJob,
        request: Request,
    ) -> impl Future<Output = Result<Result<JobId, Requested>, QueueError>> + Send;
    /// What an earlier request of this account with this key made.
    fn requested(&self, account: AccountName, key: String) -> impl Future<Output = Result<Option<Requested>, QueueError>> + Send;
    /// Follows a rename of an upload inside a home: jobs of `from` (or below it, were it a folder) now belong to `to`.
    fn relocate(
        &self,
        account: AccountName,
        from: VirtualPath,
        to: VirtualPath,
    ) -> impl Future<Output = Result<(), QueueError>> + Send;
    /// A file of this identity gets another time of modification: its jobs know it by both from now on. Called
    /// before the time is changed, so that the file never has one that its jobs do not know.
    fn retime(
        &self,
        account: AccountName,
        file: FileIdentity,
        modified_ns: i128,
    ) -> impl Future<Output = Result<(), QueueError>> + Send;
    /// The next due job, now leased; `None` if there is none. Accounts take turns, by their priority; jobs of one
    /// account and path run one after the other, oldest first.
    fn claim(&self, lease: Duration, now: Timestamp) -> impl Future<Output = Result<Option<Lease>, QueueError>> + Send;
    /// How often an account that has jobs gets a turn; normal until it is said.
    fn prioritize(&self, account: AccountName, priority: Priority) -> impl Future<Output = Result<(), QueueError>> + Send;
    /// A longer lease for a job still at work.
    fn extend(
        &self,
        job: JobId,
        token: u64,
        lease: Duration,
        now: Timestamp,
    ) -> impl Future<Output = Result<(), QueueError>> + Send;
    /// The holder begins to write what others see (or, not `begun`, waits with that for a while): from then on
    /// until it settles, an operator's cancel comes too late.
    fn publishing(&self, job: JobId, token: u64, begun: bool) -> impl Future<Output = Result<(), QueueError>> + Send;
    /// Ends a run. `deliveries` are written if the job ends with it (done, rejected, dead). Answers the job as it stands after.
    fn settle(
        &self,
        job: JobId,
        token: u64,
        outcome: Outcome,
        deliveries: Vec<NewDelivery>,
        now: Timestamp,
    ) -> impl Future<Output = Result<Job, QueueError>> + Send;
    /// An operator wants rejected or dead jobs tried again: one, or all dead ones. Answers how many.
    fn retry(&self, job: Option<JobId>, now: Timestamp) -> impl Future<Output = Result<usize, QueueError>> + Send;
    /// Carries out the operator's orders that wait. Answers the jobs that were cancelled: who is at work on one stops.
    fn obey(&self, now: Timestamp) -> impl Future<Output = Result<Vec<JobId>, QueueError>> + Send;
    /// Keeps a job's reading, in the worker's own form, for the same bytes to be answered from; see [`JobLedger::reading`].
    fn keep_reading(&self, job: JobId, recipe: String, reading: Vec<u8>) -> impl Future<Output = Result<(), QueueError>> + Send;
    /// The next due delivery, leased in memory for this process; `None` if there is none.
    fn claim_delivery(&self, now: Timestamp) -> impl Future<Output = Result<Option<Delivery>, QueueError>> + Send;
    /// Ends an attempt to deliver.
    fn settle_delivery(
        &self,
        delivery: i64,
        attempt: Attempt,
        now: Timestamp,
    ) -> impl Future<Output = Result<DeliveryState, QueueError>> + Send;
    /// Resolves at the next change that may make work due (a job or a delivery added or given back).
    /// The call subscribes: every change after it counts, even one before the first poll. So call,
    /// then query, then await what the call returned, with a poll as fallback for what becomes due
    /// by time alone.
    fn changed(&self) -> impl Future<Output = ()> + Send + use<Self>;
}

/// How many jobs stand where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Counts {
    pub queued: u64,
    pub running: u64,
    pub done: u64,
    pub rejected: u64,
    pub dead: u64,
}

/// Which jobs to list, newest first.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// A state's name.
    pub state: Option<String>,
    pub account: Option<AccountName>,
    /// Only what is older than this job.
    pub before: Option<JobId>,
    pub limit: usize,
}

/// What may be seen of the queue. Blocking, and cheap: async callers use a blocking thread.
pub trait JobLedger: Clone + Send + Sync + 'static {
    fn counts(&self) -> Result<Counts, QueueError>;
    fn list(&self, filter: &Filter) -> Result<Vec<(Job, Vec<DeliveryRecord>)>, QueueError>;
    fn show(&self, id: JobId) -> Result<Option<(Job, Vec<DeliveryRecord>)>, QueueError>;
    /// The newest job of this account for exactly this path.
    fn newest(&self, account: &AccountName, path: &VirtualPath) -> Result<Option<Job>, QueueError>;
    /// A job of this account for a file of this identity, whatever its path.
    fn known(&self, account: &AccountName, identity: &FileIdentity) -> Result<Option<JobId>, QueueError>;
    /// The first reading of these bytes by this recipe that was kept for the account and whose job is done, with that job.
    fn reading(&self, account: &AccountName, spool: &SpoolKey, recipe: &str) -> Result<Option<(JobId, Vec<u8>)>, QueueError>;
    /// Deliveries that the relay refused for good or has not taken yet, the latest job's first.
    fn troubled(&self, limit: usize) -> Result<Vec<(Job, DeliveryRecord)>, QueueError>;
    /// Changes of jobs after the one of this number, oldest first. Some ten thousand are kept.
    fn events(&self, after: u64, account: Option<&AccountName>, limit: usize) -> Result<Vec<JobEvent>, QueueError>;
    /// The numbers of the oldest change that is kept and of the newest; zeros where there is none.
    fn events_kept(&self) -> Result<(u64, u64), QueueError>;
    /// The oldest queued job's time of receipt.
    fn oldest_queued(&self) -> Result<Option<Timestamp>, QueueError>;
}
