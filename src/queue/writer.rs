//! The one writing connection and the thread that owns it.
//!
//! Verbs arrive over a bounded channel. The thread takes all that wait (up to [`TOGETHER`]), runs them
//! in one transaction, each within a savepoint of its own so that one failure does not sink the
//! others, commits once, and only then answers all of them: an fsync for many, and no answer before it.

use super::{NewDelivery, QueueError, WithoutHolder};
use crate::job::state::RetryPolicy;
use crate::job::{Job, JobId};
use crate::units::Timestamp;
use rusqlite::Connection;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};

/// What a verb answers.
pub(super) type Answer<T> = Result<T, QueueError>;

/// Verbs that one commit may cover.
const TOGETHER: usize = 256;
/// Verbs that may wait; more callers wait for a place.
const WAITING: usize = 1024;

/// A daemon that was killed holds its lock until its last write to the disk returns.
const LAST_BREATH: Duration = Duration::from_secs(2);

/// Runs in the transaction, or is told that there is none (its answer is the transaction's error
/// then); the closure that it returns is called with what the commit came to.
type Work = Box<dyn FnOnce(Option<&mut Store>) -> Done + Send>;
struct Done {
    /// The verb's own error is the answer, whatever the commit comes to.
    failed: bool,
    /// May return more work, when nobody heard the answer.
    answer: Box<dyn FnOnce(Answer<()>) -> Option<Work>>,
}

/// Held as long as the queue is open. A lock of its own, since SQLite's go when any handle on the file closes.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    pub(super) fn take(database: &Path) -> Answer<Self> {
        let mut path = database.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        let broken = |detail: String| QueueError::broken(&path, detail);
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| broken(format!("the lock file cannot be opened: {error}")))?;
        let begun = Instant::now();
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Lock { _file: file }),
                Err(Errno::WOULDBLOCK) if begun.elapsed() < LAST_BREATH => std::thread::sleep(Duration::from_millis(20)),
                Err(Errno::WOULDBLOCK) => {
                    let detail = "it is in use by another process: only one daemon may run on a data-dir";
                    return Err(QueueError::broken(database, detail.to_owned()));
                }
                Err(errno) => return Err(broken(format!("the lock cannot be taken: {errno}"))),
            }
        }
    }
}

impl Lock {
    /// Whether nobody holds it. It is not taken; where it cannot be looked at, somebody may.
    pub(super) fn is_free(database: &Path) -> bool {
        let mut path = database.as_os_str().to_owned();
        path.push(".lock");
        match File::open(PathBuf::from(path)) {
            Ok(file) => rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared).is_ok(),
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        }
    }
}

/// What the writer thread owns.
pub(super) struct Store {
    connection: Connection,
    policy: RetryPolicy,
    path: PathBuf,
    without_holder: WithoutHolder,
    /// Claimed by this process until then; gone with it.
    pub(super) leased_deliveries: HashMap<i64, Timestamp>,
    /// Jobs whose sidecars are being put in place by this process: one entry for each lane at most.
    pub(super) publishing: HashSet<JobId>,
    changed: bool,
}

impl Store {
    pub(super) fn new(connection: Connection, policy: RetryPolicy, path: &Path, without_holder: WithoutHolder) -> Self {
        connection.set_prepared_statement_cache_capacity(64);
        let (leased_deliveries, publishing) = (HashMap::new(), HashSet::new());
        Store { connection, policy, path: path.to_owned(), without_holder, leased_deliveries, publishing, changed: false }
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(super) fn policy(&self) -> RetryPolicy {
        self.policy
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn without_holder(&self, job: &Job, is_newest: bool) -> Vec<NewDelivery> {
        (self.without_holder)(job, is_newest)
    }

    /// After the commit, those who wait in `changed` are woken.
    pub(super) fn work_may_be_due(&mut self) {
        self.changed = true;
    }

    /// One verb in a transaction of its own, before the thread runs.
    pub(super) fn alone<T>(&mut self, verb: impl FnOnce(&mut Store) -> Answer<T>) -> Answer<T> {
        self.begin()?;
        let answer = verb(self);
        match &answer {
            Ok(_) => self.commit()?,
            Err(_) => self.abandon(),
        }
        answer
    }

    fn begin(&mut self) -> Answer<()> {
        // Not rusqlite's guard: it would borrow the connection from the verbs.
        self.statement("BEGIN IMMEDIATE")
    }

    fn commit(&mut self) -> Answer<()> {
        let committed = self.statement("COMMIT");
        if committed.is_err() {
            self.abandon();
        }
        committed
    }

    /// SQLite itself rolls back on some errors: then there is nothing to do.
    fn abandon(&mut self) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "a transaction of the queue cannot be rolled back");
        }
    }

    fn statement(&self, sql: &str) -> Answer<()> {
        self.connection.prepare_cached(sql)?.execute([])?;
        Ok(())
    }

    /// Runs a verb; undoes it alone if it fails.
    fn within_savepoint<T>(&mut self, verb: impl FnOnce(&mut Store) -> Answer<T>) -> Answer<T> {
        self.statement("SAVEPOINT verb")?;
        let answer = verb(self);
        if answer.is_err() && !self.connection.is_autocommit() {
            self.statement("ROLLBACK TO verb")?;
        }
        if !self.connection.is_autocommit() {
            self.statement("RELEASE verb")?;
        }
        answer
    }

    /// Runs what waits in one transaction, then answers; returns what is left to do because an answer
    /// was not heard.
    fn run_together(&mut self, batch: Vec<Work>) -> Vec<Work> {
        let leased_before = self.leased_deliveries.clone();
        self.changed = false;
        let begun = self.begin();
        // SQLite ends the whole transaction on some errors (a full disk). What would run after that,
        // outside of one, does not run.
        let done: Vec<Done> =
            batch.into_iter().map(|work| work(if self.connection.is_autocommit() { None } else { Some(self) })).collect();
        let committed = match begun {
            Ok(()) if self.connection.is_autocommit() => {
                Err(QueueError::broken(&self.path, "a transaction ended early".to_owned()))
            }
            Ok(()) => self.commit(),
            Err(error) => Err(error),
        };
        if let Err(error) = &committed {
            self.leased_deliveries = leased_before;
            self.changed = false;
            tracing::error!(%error, verbs = done.len(), "the queue could not commit; the doors answer no");
        }
        done.into_iter()
            .filter_map(|done| {
                let committed = match &committed {
                    Err(error) if !done.failed => Err(error.again()),
                    _ => Ok(()),
                };
                (done.answer)(committed)
            })
            .collect()
    }
}

/// How the thread is doing, for who asks without waiting for it.
#[derive(Debug)]
struct Load {
    /// Jobs queued or running, as of the last commit.
    unfinished: AtomicU64,
    opened: Instant,
    /// When the thread began the transaction that it is at, in milliseconds since `opened`; [`IDLE`](Self::IDLE) between.
    at_work_since: AtomicU64,
}

impl Load {
    const IDLE: u64 = u64::MAX;

    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(Self::IDLE - 1)
    }

    fn count(&self, store: &Store) {
        let counted = store
            .connection()
            .prepare_cached("SELECT sum(jobs) FROM tally WHERE state IN ('queued', 'running')")
            .and_then(|mut statement| statement.query_row([], |row| row.get::<_, i64>(0)));
        if let Ok(jobs) = counted {
            self.unfinished.store(jobs.max(0).cast_unsigned(), Ordering::Release);
        }
    }
}

/// The thread's other end.
pub(super) struct Writer {
    commands: Mutex<Option<mpsc::Sender<Work>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    changes: Arc<watch::Sender<u64>>,
    load: Arc<Load>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl Writer {
    pub(super) fn start(mut store: Store, lock: Lock) -> Answer<Self> {
        let (commands, mut waiting) = mpsc::channel::<Work>(WAITING);
        let changes = Arc::new(watch::Sender::new(0_u64));
        let announce = Arc::clone(&changes);
        let load =
            Arc::new(Load { unfinished: AtomicU64::new(0), opened: Instant::now(), at_work_since: AtomicU64::new(Load::IDLE) });
        load.count(&store);
        let told = Arc::clone(&load);
        let path = store.path.clone();
        let thread = std::thread::Builder::new()
            .name("queue-writer".to_owned())
            .spawn(move || {
                let mut left: Vec<Work> = Vec::new();
                loop {
                    let mut batch = std::mem::take(&mut left);
                    if batch.is_empty() {
                        match waiting.blocking_recv() {
                            Some(work) => batch.push(work),
                            None => break,
                        }
                    }
                    while batch.len() < TOGETHER
                        && let Ok(work) = waiting.try_recv()
                    {
                        batch.push(work);
                    }
                    told.at_work_since.store(told.now(), Ordering::Release);
                    left = store.run_together(batch);
                    told.count(&store);
                    told.at_work_since.store(Load::IDLE, Ordering::Release);
                    if store.changed {
                        announce.send_modify(|version| *version = version.wrapping_add(1));
                    }
                }
                drop(store);
                drop(lock);
            })
            .map_err(|error| QueueError::broken(&path, format!("its writer thread cannot be started: {error}")))?;
        Ok(Writer { commands: Mutex::new(Some(commands)), thread: Mutex::new(Some(thread)), changes, load })
    }

    /// Runs a verb in the next transaction. Once it was sent it runs, whether or not the caller waits on.
    pub(super) async fn run<T: Send + 'static>(&self, verb: impl FnOnce(&mut Store) -> Answer<T> + Send + 'static) -> Answer<T> {
        self.run_or_undo(verb, |_, _| {}).await
    }

    /// Like [`run`](Self::run); `undo` is run with an answer that nobody waited for any more.
    pub(super) async fn run_or_undo<T: Send + 'static>(
        &self,
        verb: impl FnOnce(&mut Store) -> Answer<T> + Send + 'static,
        undo: impl FnOnce(&mut Store, T) + Send + 'static,
    ) -> Answer<T> {
        let commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or(QueueError::Closed)?;
        let (sender, receiver) = oneshot::channel();
        let work: Work = Box::new(move |store| {
            let (answer, failed) = match store {
                Some(store) => {
                    let answer = store.within_savepoint(verb);
                    let failed = answer.is_err();
                    (answer, failed)
                }
                None => (Err(QueueError::Closed), false),
            };
            let answer = Box::new(move |committed: Answer<()>| match sender.send(committed.and(answer)) {
                Err(Ok(unheard)) => Some(Box::new(move |store: Option<&mut Store>| {
                    if let Some(store) = store {
                        undo(store, unheard);
                    }
                    Done { failed: false, answer: Box::new(|_| None) }
                }) as Work),
                _ => None,
            });
            Done { failed, answer }
        });
        commands.send(work).await.map_err(|_| QueueError::Closed)?;
        drop(commands);
        receiver.await.map_err(|_| QueueError::Closed)?
    }

    /// Sees every change from the call on, whenever it is awaited.
    pub(super) fn changed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut receiver = self.changes.subscribe();
        // The sender outlives the receiver's use in practice; were it gone, a caller must not spin.
        async move {
            if receiver.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Jobs queued or running, as of the last commit.
    pub(super) fn unfinished(&self) -> u64 {
        self.load.unfinished.load(Ordering::Acquire)
    }

    /// How long the transaction under way has taken by now.
    pub(super) fn at_work_for(&self) -> Duration {
        match self.load.at_work_since.load(Ordering::Acquire) {
            Load::IDLE => Duration::ZERO,
            since => Duration::from_millis(self.load.now().saturating_sub(since)),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(|thread| !thread.is_finished())
    }

    pub(super) async fn close(&self) {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).take();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.commands.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = thread.join();
        }
    }
}
