//! The only way in. A door hands over an [`Upload`]: bytes staged and fsynced, a name; intake makes
//! it durable in this order, and only then answers, so that the door may say yes:
//!
//! 1. bytes kept in the spool (hard link);
//! 2. renamed to its name in the home, stale sidecars of the file it replaces removed, folder fsynced;
//! 3. job row committed.
//!
//! A crash between 2 and 3 leaves a whole file without a job and without an answer: the scan at
//! start finds it. While an upload is between 2 and 3 its path is *in flight*, and `watch` leaves it
//! alone; together with the file identity in the job row this makes one upload one job, however often
//! it is seen. Uploads of one path go through one after the other, so the newest bytes in the home
//! belong to the newest job.
//!
//! Waiting may be cancelled, working may not: once begun, an upload goes through even if its door
//! stops listening.

use crate::account::{AccountName, Existing, VirtualPath};
use crate::crashpoint;
use crate::homes::{HomeError, Homes};
use crate::job::{Door, FileIdentity, JobId, SpoolKey};
use crate::meters;
use crate::queue::sqlite::SqliteQueue;
use crate::queue::{NewJob, Queue, QueueError, Request, Requested};
use crate::sidecar::{names, ours};
use crate::spool::{self, Spool, SpoolError, Staged, Staging};
use crate::units::{Span, Timestamp};
use slots::{Slot, Slots};
use std::future::Future;
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

mod requested;
mod room;
mod slots;

pub use room::Room;

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
    /// What the account allows it; asked for by [`Intake::room`] before its first byte came.
    pub room: Room,
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

/// What became of an upload that a request asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Submitted {
    /// It will be read.
    Job(JobId),
    /// The request came before, with its key: what that made. Nothing was added.
    Earlier(Requested),
}

/// By what the door answers.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    #[error("less than {floor} bytes are free on the disk: nothing is accepted until there is room")]
    NoSpace { floor: u64 },
    /// Full of work, for now.
    #[error("{unfinished} uploads are not read yet, as many as limits.max-queued allows: try again in {again}")]
    Full { unfinished: u64, again: Span },
    /// The disk does not keep up, for now.
    #[error("the disk has not answered for {since}: try again in {again}")]
    Slow { since: Span, again: Span },
    #[error("the upload is larger than the {limit} bytes that are allowed")]
    TooLarge { limit: u64 },
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error(transparent)]
    Home(#[from] HomeError),
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// When who is refused for want of capacity may come again: a queue is not worked off in a moment.
const AGAIN: Span = Span(Duration::from_secs(60));
/// A commit that takes longer than this means that more work would only wait for it in memory.
const SLOW_DISK: Duration = Duration::from_secs(3);

/// Suffixes of what lies beside a file that was read: the `.json` first, since its being there says
/// that all are.
const SIDECARS: [&str; 8] = [".json", ".error.json", ".txt", ".alto.xml", ".hocr", ".md", ".csv", ".pdf"];

/// So many of [`SIDECARS`] are made of every file.
const MADE_OF_ALL: usize = 3;

/// The only way in; cheap to clone.
#[derive(Clone)]
pub struct Intake {
    inner: Arc<Inner>,
}

struct Inner {
    spool: Spool,
    homes: Homes,
    queue: SqliteQueue,
    limits: Limits,
    max_queued: u64,
    /// Whether the log knows that nothing is taken for now.
    overloaded: AtomicBool,
    slots: Arc<Slots>,
    /// One at a time of the requests with one key; the path stands for the key.
    requests: Arc<Slots>,
    /// Each id is higher than the one before, also within a millisecond.
    ids: Mutex<ulid::Generator>,
}

impl std::fmt::Debug for Intake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Intake").field("homes", &self.inner.homes.root()).finish_non_exhaustive()
    }
}

impl Intake {
    #[must_use]
    pub fn new(spool: Spool, homes: Homes, queue: SqliteQueue, limits: Limits) -> Self {
        Self::at_most(spool, homes, queue, limits, u64::MAX)
    }

    /// One that takes nothing new while so many jobs or more are not finished. Uploads that are under way when
    /// that number is reached still come in: there are no more of them than sessions.
    #[must_use]
    pub fn at_most(spool: Spool, homes: Homes, queue: SqliteQueue, limits: Limits, max_queued: u64) -> Self {
        let (slots, requests) = (Arc::default(), Arc::default());
        let ids = Mutex::new(ulid::Generator::new());
        Intake {
            inner: Arc::new(Inner {
                spool,
                homes,
                queue,
                limits,
                max_queued,
                overloaded: AtomicBool::new(false),
                slots,
                requests,
                ids,
            }),
        }
    }

    #[must_use]
    pub fn limits(&self) -> Limits {
        self.inner.limits
    }

    /// Room for a new upload: refused below `min-free-space`, and while the queue is full or the disk too slow. Blocking (one statvfs, one open).
    pub fn begin(&self) -> Result<Staging, IntakeError> {
        self.inner.begin()
    }

    /// Refused where so many bytes more would take the disk below `min-free-space`, and where no upload is taken
    /// at all for now. Blocking.
    pub fn has_room_for(&self, bytes: u64) -> Result<(), IntakeError> {
        self.inner.check_capacity()?;
        self.inner.check_space(bytes)
    }

    /// Whether a file of this name would be read: not a temporary name and not a sidecar's. Blocking
    /// (it may look for the file that a sidecar belongs to).
    #[must_use]
    pub fn is_document(&self, account: &AccountName, path: &VirtualPath) -> bool {
        self.inner.is_document(account, path)
    }

    /// Makes an upload durable; see the module's order. When this is `Ok`, the door may say yes.
    ///
    /// When the job cannot be committed, a new file is taken out of the home again, so that nothing
    /// lies there that was refused. One that replaced an older file stays (the older one is gone), and
    /// the next scan takes it.
    pub async fn accept(&self, upload: Upload) -> Result<Accepted, IntakeError> {
        let inner = Arc::clone(&self.inner);
        to_its_end(async move { inner.accept(upload).await }).await
    }

    /// What an earlier request of this account with this key made.
    pub async fn earlier(&self, account: &AccountName, key: &str) -> Result<Option<Requested>, IntakeError> {
        Ok(self.inner.queue.requested(account.clone(), key.to_owned()).await?)
    }

    /// The id of a job to come, for [`submit`](Self::submit).
    #[must_use]
    pub fn next_id(&self) -> JobId {
        self.inner.next_id()
    }

    /// Like [`accept`](Self::accept), for uploads by request: what lies in the home stays, so the file gets the name of
    /// `upload` or, where that is taken or no document's, one like it; and a request that names itself by a key
    /// makes one job, however often and however close together it comes. The file must have bytes; its job gets `id`.
    pub async fn submit(&self, id: JobId, upload: Upload, request: Request) -> Result<Submitted, IntakeError> {
        let inner = Arc::clone(&self.inner);
        to_its_end(async move { inner.submit(id, upload, request).await }).await
    }

    /// A file that already lies in the home under this name, complete as far as the caller can tell
    /// (a rename over FTP, a drop by another way). Its bytes are copied into the spool, not linked:
    /// whoever wrote it there may write into it again.
    pub async fn take(&self, account: &AccountName, path: &VirtualPath, door: Door) -> Result<Accepted, IntakeError> {
        let (inner, account, path) = (Arc::clone(&self.inner), account.clone(), path.clone());
        to_its_end(async move { inner.take(account, path, door).await }).await
    }

    /// A client renamed a file or folder; it lies under its new name already. From a name that is not a
    /// document's (a temporary one) to one that is, this completes an upload and answers as
    /// [`take`](Self::take) does; else the jobs of `from` follow to `to`, and the answer is `Stored`.
    /// Either way the rename itself is durable after.
    pub async fn renamed(&self, account: &AccountName, from: &VirtualPath, to: &VirtualPath) -> Result<Accepted, IntakeError> {
        let (inner, account, from, to) = (Arc::clone(&self.inner), account.clone(), from.clone(), to.clone());
        to_its_end(async move { inner.renamed(account, from, to).await }).await
    }

    /// Retention: removes the file under this name if it is still one that `is_ours` knows; a client's newer one
    /// is not. False if something else lies there. Whatever comes in under the name waits meanwhile.
    pub async fn remove_original(
        &self,
        account: &AccountName,
        path: &VirtualPath,
        is_ours: impl Fn(&FileIdentity) -> bool + Send + 'static,
    ) -> Result<bool, IntakeError> {
        let (inner, account, path) = (Arc::clone(&self.inner), account.clone(), path.clone());
        let slot = inner.slots.enter(&account, &path).await;
        blocking(move || {
            let removed = match inner.homes.identity(&account, &path)? {
                Some(found) if is_ours(&found) => inner.homes.remove(&account, &path)?,
                Some(_) => false,
                None => true,
            };
            drop(slot);
            Ok(removed)
        })
        .await
    }

    /// Retention: removes what lies beside this name and was not changed after `written_before`: what was, is its
    /// client's by now. Answers how many.
    pub async fn remove_sidecars(
        &self,
        account: &AccountName,
        path: &VirtualPath,
        written_before: Timestamp,
    ) -> Result<usize, IntakeError> {
        let (inner, account, path) = (Arc::clone(&self.inner), account.clone(), path.clone());
        let slot = inner.slots.enter(&account, &path).await;
        blocking(move || {
            let limit = i128::from(written_before.0) * 1_000_000;
            let mut old = Vec::new();
            for suffix in SIDECARS {
                // A `.pdf` or `.md` beside a file may be a document of its own.
                if !inner.ours(&account, &path, &[suffix]).is_empty()
                    && names::is_sidecar(path.beside(suffix).file_name(), &|_| true)
                    && inner.homes.identity(&account, &path.beside(suffix))?.is_some_and(|found| found.modified_ns <= limit)
                {
                    old.push(suffix);
                }
            }
            let mut removed = inner.homes.remove_beside(&account, &path, &old)?;
            // A stack's documents have sidecars of their own.
            if names::is_sidecar(path.beside(".1.json").file_name(), &|_| true) {
                removed += inner.homes.remove_parts(&account, &path, 1, &|found| found.modified_ns <= limit)?;
            }
            drop(slot);
            Ok(removed)
        })
        .await
    }

    /// A client gives a file (or folder) another time of modification. Its jobs know it by the new one too
    /// before it has it: whenever the daemon is killed, no scan takes it for a new upload.
    pub async fn set_modified(&self, account: &AccountName, path: &VirtualPath, modified: SystemTime) -> Result<(), IntakeError> {
        let (inner, account, path) = (Arc::clone(&self.inner), account.clone(), path.clone());
        to_its_end(async move { inner.set_modified(account, path, modified).await }).await
    }
}

/// Nanoseconds since 1970, before it negative.
fn nanoseconds(time: SystemTime) -> i128 {
    let size = |span: std::time::Duration| i128::try_from(span.as_nanos()).unwrap_or(i128::MAX);
    time.duration_since(SystemTime::UNIX_EPOCH).map_or_else(|before| -size(before.duration()), size)
}

/// Runs to its end whether or not the caller waits for it.
async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, IntakeError>> + Send + 'static,
) -> Result<T, IntakeError> {
    joined(tokio::spawn(work).await)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, IntakeError> + Send + 'static) -> Result<T, IntakeError> {
    joined(tokio::task::spawn_blocking(work).await)
}

fn joined<T>(result: Result<Result<T, IntakeError>, tokio::task::JoinError>) -> Result<T, IntakeError> {
    match result {
        Ok(result) => result,
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only when the whole runtime goes down.
            Err(_) => Err(QueueError::Closed.into()),
        },
    }
}

/// An upload is durable, with its job.
fn taken(door: Door, bytes: u64, began: Instant) {
    let door = match door {
        Door::Ftp => "ftp",
        Door::Watch => "watch",
        Door::Http => "http",
    };
    meters::upload(door, bytes);
    meters::stage(meters::Stage::Fsync, began.elapsed());
}

/// An upload in its place, which a job is still to be made of.
struct Placed {
    job: NewJob,
    /// There was another file under the name.
    replaced: bool,
}

/// What a look at a file in a home came to.
enum Looked {
    Spooled { key: SpoolKey, identity: FileIdentity },
    Otherwise(Accepted),
}

impl Inner {
    fn begin(&self) -> Result<Staging, IntakeError> {
        self.check_capacity()?;
        self.check_space(0)?;
        Ok(self.spool.stage()?)
    }

    fn check_capacity(&self) -> Result<(), IntakeError> {
        let (unfinished, since) = (self.queue.unfinished(), self.queue.at_work_for());
        let refusal = if unfinished >= self.max_queued {
            Err(IntakeError::Full { unfinished, again: AGAIN })
        } else if since > SLOW_DISK {
            Err(IntakeError::Slow { since: Span(Duration::from_secs(since.as_secs())), again: AGAIN })
        } else {
            Ok(())
        };
        // Once, and not for each of a thousand refusals.
        match (&refusal, self.overloaded.swap(refusal.is_err(), Ordering::AcqRel)) {
            (Err(error), false) => tracing::warn!(%error, "no uploads are taken for now"),
            (Ok(()), true) => tracing::info!("uploads are taken again"),
            _ => {}
        }
        refusal
    }

    fn check_space(&self, bytes: u64) -> Result<(), IntakeError> {
        let floor = self.limits.min_free_space;
        if self.spool.free_space()? < floor.saturating_add(bytes) { Err(IntakeError::NoSpace { floor }) } else { Ok(()) }
    }

    fn check_size(&self, bytes: u64) -> Result<(), IntakeError> {
        let limit = self.limits.max_upload;
        if bytes > limit { Err(IntakeError::TooLarge { limit }) } else { Ok(()) }
    }

    fn is_document(&self, account: &AccountName, path: &VirtualPath) -> bool {
        let in_a_hidden_folder = path.folder().split('/').any(|part| part.starts_with('.'));
        let is_beside = |base: &str| {
            VirtualPath::new(&format!("{}/{base}", path.folder()))
                .is_ok_and(|base| self.homes.identity(account, &base).is_ok_and(|found| found.is_some()))
        };
        !in_a_hidden_folder && !names::is_temporary(path.file_name()) && !names::is_sidecar(path.file_name(), &is_beside)
    }

    async fn accept(self: Arc<Self>, mut upload: Upload) -> Result<Accepted, IntakeError> {
        let began = Instant::now();
        upload.room.grow_to(upload.staged.bytes())?;
        let (account, door) = (upload.account.clone(), upload.door);
        let mut slot = self.slots.enter(&account, &upload.path).await;
        // Only while a name is looked for: who looks for another of this one waits.
        let _namesakes = match self.place_beside(&upload).await? {
            Some((free, its)) => {
                upload.path = free;
                Some(std::mem::replace(&mut slot, its))
            }
            None => None,
        };
        let path = upload.path.clone();
        let inner = Arc::clone(&self);
        let (placed, slot) = blocking(move || Ok((inner.place(upload)?, slot))).await?;
        let Some(Placed { job, replaced }) = placed else { return Ok(Accepted::Stored) };
        let (id, bytes) = (job.id, job.bytes);
        match self.queue.enqueue(job).await {
            Ok(id) => {
                crashpoint::here("job-committed");
                taken(door, bytes, began);
                tracing::info!(job.id = %id, account.name = %account, upload.bytes = bytes, upload.door = ?door, "an upload was accepted");
                Ok(Accepted::Job(id))
            }
            Err(error) => {
                tracing::error!(job.id = %id, account.name = %account, %error, upload.replaced = replaced, "an upload has no job and is refused");
                if !replaced {
                    let inner = Arc::clone(&self);
                    let _ = blocking(move || {
                        let removed = inner.homes.remove(&account, &path);
                        drop(slot);
                        if let Err(error) = removed {
                            tracing::error!(account.name = %account, %error, "a refused upload cannot be removed; the next scan takes it");
                        }
                        Ok(())
                    })
                    .await;
                }
                Err(error.into())
            }
        }
    }

    /// Another name for an upload that is to be kept beside its namesake, and its slot.
    async fn place_beside(self: &Arc<Self>, upload: &Upload) -> Result<Option<(VirtualPath, Slot)>, IntakeError> {
        if upload.room.existing != Existing::KeepBoth {
            return Ok(None);
        }
        loop {
            let (inner, account, path) = (Arc::clone(self), upload.account.clone(), upload.path.clone());
            let find = move || match inner.homes.identity(&account, &path)? {
                Some(file) if file.bytes == 0 => Ok(path),
                _ => Ok(inner.homes.free_path(&account, &path)?),
            };
            let free = blocking(find).await?;
            if free == upload.path {
                return Ok(None);
            }
            // Somebody may be about to upload to this very name: then the next one is looked for.
            let slot = self.slots.enter(&upload.account, &free).await;
            let (inner, account, wanted) = (Arc::clone(self), upload.account.clone(), free.clone());
            if blocking(move || Ok(inner.homes.would_replace(&account, &wanted)?.is_none())).await? {
                return Ok(Some((free, slot)));
            }
        }
    }

    /// Blocking: spool, home, stale sidecars. `None`: it is no document, and is only kept in the home.
    fn place(&self, upload: Upload) -> Result<Option<Placed>, IntakeError> {
        let Upload { account, path, staged, door, room } = upload;
        let Room { reservation, existing, .. } = room;
        if !self.is_document(&account, &path) {
            self.homes.install_upload(&account, &path, staged, reservation, true)?;
            return Ok(None);
        }
        // Before the spool: what is refused must not stay there.
        let found = self.homes.would_replace(&account, &path)?;
        let replaced = found.is_some();
        // A probe that a device left is nobody's document.
        let replace = existing == Existing::Replace || found.is_some_and(|file| file.bytes == 0);
        if replaced && !replace {
            return Err(HomeError::Taken { path: self.homes.root().join(account.as_str()).join(path.relative()) }.into());
        }
        if let Some(reservation) = &reservation {
            self.homes.check_room(&account, &path, reservation, staged.bytes())?;
        }
        let key = if staged.bytes() > 0 { Some(self.spool.link(&staged)?) } else { None };
        let identity = self.homes.install_upload(&account, &path, staged, reservation, replace)?;
        // After the home's folder was fsynced this is mostly done: one journal for both.
        key.as_ref().map(|key| self.spool.sync(key)).transpose()?;
        // What a reader would take for this file's. Of a new file only what is made of every file: the
        // others may be somebody's own.
        let stale = if replaced { &SIDECARS[..] } else { &SIDECARS[..MADE_OF_ALL] };
        if let Err(error) = self.homes.remove_beside(&account, &path, &self.ours(&account, &path, stale)) {
            tracing::warn!(account.name = %account, %error, "a stale sidecar stays until the new one replaces it");
        }
        crashpoint::here("stale-removed");
        Ok(key.map(|key| Placed { job: self.new_job(account, path, key, identity, door), replaced }))
    }

    /// Those of `suffixes` under which no file of the account's own lies. What is made of every file has its names to
    /// itself.
    fn ours<'s>(&self, account: &AccountName, path: &VirtualPath, suffixes: &[&'s str]) -> Vec<&'s str> {
        let is_ours = |suffix: &str| match self.homes.open_file(account, &path.beside(suffix)) {
            Ok(mut file) => ours::is_ours(suffix, &mut file).unwrap_or(false),
            // Nothing to be lost: it is not there, or will not be removed either.
            Err(_) => true,
        };
        suffixes.iter().copied().filter(|suffix| SIDECARS[..MADE_OF_ALL].contains(suffix) || is_ours(suffix)).collect()
    }

    async fn take(self: Arc<Self>, account: AccountName, path: VirtualPath, door: Door) -> Result<Accepted, IntakeError> {
        let slot = match door {
            // The scan comes by again; a client waits for its answer.
            Door::Watch => match self.slots.try_enter(&account, &path) {
                Some(slot) => slot,
                None => return Ok(Accepted::NotNow),
            },
            Door::Ftp | Door::Http => self.slots.enter(&account, &path).await,
        };
        self.take_in(account, path, door, slot).await
    }

    async fn take_in(
        self: Arc<Self>,
        account: AccountName,
        path: VirtualPath,
        door: Door,
        slot: Slot,
    ) -> Result<Accepted, IntakeError> {
        let began = Instant::now();
        let inner = Arc::clone(&self);
        let (job, slot) = blocking(move || {
            Ok(match inner.look(&account, &path)? {
                Looked::Spooled { key, identity } => (Ok(inner.new_job(account, path, key, identity, door)), slot),
                Looked::Otherwise(accepted) => (Err(accepted), slot),
            })
        })
        .await?;
        let job = match job {
            Ok(job) => job,
            Err(accepted) => return Ok(accepted),
        };
        let (account, bytes) = (job.account.clone(), job.bytes);
        let accepted = match self.queue.enqueue_unless_known(job).await? {
            Ok(id) => {
                crashpoint::here("job-committed");
                taken(door, bytes, began);
                tracing::info!(job.id = %id, account.name = %account, upload.bytes = bytes, upload.door = ?door, "a file was taken");
                Accepted::Job(id)
            }
            Err(id) => Accepted::Known(id),
        };
        drop(slot);
        Ok(accepted)
    }

    /// Blocking: a copy of the file in the spool, if it is a document and did not change meanwhile.
    fn look(&self, account: &AccountName, path: &VirtualPath) -> Result<Looked, IntakeError> {
        if !self.is_document(account, path) {
            return Ok(Looked::Otherwise(Accepted::Stored));
        }
        let not_now = Ok(Looked::Otherwise(Accepted::NotNow));
        let Some(identity) = self.homes.identity(account, path)? else { return not_now };
        if identity.bytes == 0 {
            return Ok(Looked::Otherwise(Accepted::Stored));
        }
        self.check_size(identity.bytes)?;
        let mut file = match self.homes.open_file(account, path) {
            Ok(file) => file,
            Err(HomeError::Missing { .. } | HomeError::NotAPlace { .. }) => return not_now,
            Err(error) => return Err(error.into()),
        };
        let mut staging = self.begin()?;
        // One byte more would be seen as a change; without end it may not grow.
        let copied = spool::copy_all(&mut Read::by_ref(&mut file).take(identity.bytes + 1), &mut staging);
        let after = file.metadata().map(|file| spool::identity_of(&file));
        if let Err(source) = copied {
            let path = self.homes.root().join(account.as_str()).join(path.relative());
            return Err(if spool::is_full(&source) {
                SpoolError::NoSpace { path }.into()
            } else {
                SpoolError::Io { path, doing: "copied", source }.into()
            });
        }
        let unchanged = after.is_ok_and(|after| after == identity) && self.homes.identity(account, path)? == Some(identity);
        if !unchanged || staging.bytes() != identity.bytes {
            return not_now;
        }
        let key = self.spool.keep(&staging.finish()?)?;
        crashpoint::here("file-copied");
        Ok(Looked::Spooled { key, identity })
    }

    async fn renamed(self: Arc<Self>, account: AccountName, from: VirtualPath, to: VirtualPath) -> Result<Accepted, IntakeError> {
        let slot = self.slots.enter(&account, &to).await;
        let (inner, whose, old, new) = (Arc::clone(&self), account.clone(), from.clone(), to.clone());
        let completes = blocking(move || {
            inner.homes.sync_around(&whose, &new)?;
            if old.folder() != new.folder() {
                match inner.homes.sync_around(&whose, &old) {
                    // The folder it came from may be gone by now.
                    Ok(()) | Err(HomeError::Missing { .. } | HomeError::NotAPlace { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            let is_file = inner.homes.identity(&whose, &new)?.is_some();
            Ok(is_file && !inner.is_document(&whose, &old) && inner.is_document(&whose, &new))
        })
        .await?;
        if completes {
            return self.take_in(account, to, Door::Ftp, slot).await;
        }
        self.queue.relocate(account, from, to).await?;
        Ok(Accepted::Stored)
    }

    async fn set_modified(
        self: Arc<Self>,
        account: AccountName,
        path: VirtualPath,
        modified: SystemTime,
    ) -> Result<(), IntakeError> {
        let _slot = self.slots.enter(&account, &path).await;
        let modified_ns = nanoseconds(modified);
        let (inner, whose, which) = (Arc::clone(&self), account.clone(), path.clone());
        let before = blocking(move || Ok(inner.homes.identity(&whose, &which)?)).await?;
        if let Some(file) = before {
            self.queue.retime(account.clone(), file, modified_ns).await?;
        }
        let (inner, whose) = (Arc::clone(&self), account.clone());
        let after = blocking(move || Ok(inner.homes.set_modified(&whose, &path, modified_ns)?)).await?;
        // A file system that keeps seconds only, or not that year, has made another time of it.
        if let (Some(before), Some(after)) = (before, after)
            && after.modified_ns != modified_ns
        {
            self.queue.retime(account, FileIdentity { modified_ns, ..before }, after.modified_ns).await?;
        }
        Ok(())
    }

    fn next_id(&self) -> JobId {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        JobId(ids.generate().unwrap_or_else(ulid::Overflow::commit_overflow_increment))
    }

    fn new_job(&self, account: AccountName, path: VirtualPath, spool: SpoolKey, identity: FileIdentity, door: Door) -> NewJob {
        let received_at = Timestamp::from_system(SystemTime::now());
        NewJob { id: self.next_id(), account, path, spool, bytes: identity.bytes, identity, door, received_at }
    }
}

#[cfg(test)]
mod tests;
