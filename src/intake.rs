//! The only way in. A door hands over an [`Upload`]: bytes staged and fsynced, a name; intake makes
//! it durable in this order, and only then answers, so that the door may say yes:
//!
//! 1. bytes kept in the spool (hard link, folder fsynced);
//! 2. renamed to its name in the home, stale sidecars of the file it replaces removed, folder fsynced;
//! 3. job row committed.
//!
//! A crash between 2 and 3 leaves a whole file without a job and without an answer: the scan at
//! start finds it. While an upload is between 2 and 3 its path is *in flight*, and `watch` leaves it
//! alone; together with the file identity in the job row this makes one upload one job, however often
//! it is seen.

use crate::account::{AccountName, VirtualPath};
use crate::homes::{HomeError, Homes};
use crate::job::{Door, JobId};
use crate::queue::QueueError;
use crate::queue::sqlite::SqliteQueue;
use crate::spool::{Spool, SpoolError, Staged, Staging};
use std::sync::Arc;

/// What may come in. From `[limits]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one upload.
    pub max_upload: u64,
    /// Below this many free bytes nothing is accepted.
    pub min_free_space: u64,
}

/// One file received whole.
#[derive(Debug)]
pub struct Upload {
    pub account: AccountName,
    pub path: VirtualPath,
    pub staged: Staged,
    pub door: Door,
}

/// What became of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// It will be read.
    Job(JobId),
    /// Kept as it is: not a document (a sidecar's or a temporary name, no bytes).
    Stored,
    /// A file that has its job already.
    Known(JobId),
    /// Seen by `watch`, but not to be taken now (in flight at another door, changed meanwhile).
    NotNow,
}

/// By what the door answers.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    #[error("less than {floor} bytes are free on the disk: nothing is accepted until there is room")]
    NoSpace { floor: u64 },
    #[error("the upload is larger than the {limit} bytes allowed by limits.max-upload")]
    TooLarge { limit: u64 },
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error(transparent)]
    Home(#[from] HomeError),
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// The only way in; cheap to clone.
#[derive(Clone)]
pub struct Intake {
    _inner: Arc<()>,
}

impl Intake {
    #[must_use]
    pub fn new(spool: Spool, homes: Homes, queue: SqliteQueue, limits: Limits) -> Self {
        let _ = (spool, homes, queue, limits);
        todo!()
    }

    #[must_use]
    pub fn limits(&self) -> Limits {
        todo!()
    }

    /// Room for a new upload: refused below `min-free-space`. Blocking (one statvfs, one open).
    pub fn begin(&self) -> Result<Staging, IntakeError> {
        todo!()
    }

    /// Makes an upload durable; see the module's order. When this is `Ok`, the door may say yes.
    pub async fn accept(&self, upload: Upload) -> Result<Accepted, IntakeError> {
        let _ = upload;
        todo!()
    }

    /// A file that already lies in the home under this name, complete as far as the caller can tell
    /// (a rename over FTP, a drop by another way). Its bytes are copied into the spool, not linked:
    /// whoever wrote it there may write into it again.
    pub async fn take(&self, account: &AccountName, path: &VirtualPath, door: Door) -> Result<Accepted, IntakeError> {
        let _ = (account, path, door);
        todo!()
    }

    /// A client renamed a file or folder. From a temporary name to a document's this completes an
    /// upload; else the jobs of `from` follow to `to`.
    pub async fn renamed(&self, account: &AccountName, from: &VirtualPath, to: &VirtualPath) -> Result<Accepted, IntakeError> {
        let _ = (account, from, to);
        todo!()
    }
}
