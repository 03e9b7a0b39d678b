//! Engine threads: one thread owns one reader, tasks come in by a channel of one, answers go out by
//! a oneshot. A thread that cannot open its engine says why and tries again every few seconds, so a
//! daemon with broken models still takes uploads, which wait.
//!
//! The reader is an engine in a process of its own ([`super::wall`]), which may crash, hang or eat memory
//! without taking the daemon along; or, for tests, one in this process. Either way a reader that did
//! not survive its document costs that task and is replaced at once.

use super::read::{self, Options, Read, ReadError};
use super::wall::Launch;
use crate::ocr::{Engine, EngineError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// Opens an engine; called on the thread that will own it.
pub type EngineFactory = Arc<dyn Fn() -> Result<Box<dyn Engine>, EngineError> + Send + Sync>;

/// Where documents are read.
#[derive(Clone)]
pub enum Readers {
    /// In a process for each lane: what the daemon does.
    Walled(Launch),
    /// In this process, with no wall round it but for panics.
    Here(EngineFactory),
}

/// Reads documents, one after the other.
pub(super) trait Reader {
    fn read(&mut self, bytes: Vec<u8>, options: &Options, cancel: &Cancel) -> Result<Read, ReadError>;
    /// Whether it may read another one; if not, it is replaced.
    fn is_alive(&mut self) -> bool;
    fn name(&self) -> String;
    fn models(&self) -> Vec<String>;
}

/// One reader after the other, for who reads documents on its own thread, without a queue (`inkport read`).
/// Blocking. A reader that did not survive its document is replaced before the next one.
pub struct Session {
    lane: usize,
    readers: Readers,
    reader: Box<dyn Reader>,
}

impl Session {
    /// Opens the first; `lane` is a number for the log.
    pub fn open(lane: usize, readers: Readers) -> Result<Self, EngineError> {
        let reader = open(lane, &readers)?;
        Ok(Session { lane, readers, reader })
    }

    pub fn read(&mut self, bytes: Vec<u8>, options: &Options) -> Result<Read, ReadError> {
        if !self.reader.is_alive() {
            self.reader = open(self.lane, &self.readers).map_err(|error| ReadError::Interrupted(error.to_string()))?;
        }
        self.reader.read(bytes, options, &Cancel::default())
    }
}

/// Tells a reading that nobody wants it any more; clones are one.
#[derive(Clone, Default)]
pub struct Cancel(Arc<CancelState>);

#[derive(Default)]
struct CancelState {
    raised: AtomicBool,
    act: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Cancel {
    /// For good. Does at once what the reader asked to be done.
    pub fn raise(&self) {
        self.0.raised.store(true, Ordering::SeqCst);
        self.act();
    }

    #[must_use]
    pub fn is_raised(&self) -> bool {
        self.0.raised.load(Ordering::SeqCst)
    }

    /// What to do when it is raised; done now if it was. Must not block.
    pub(super) fn when_raised(&self, act: impl FnOnce() + Send + 'static) {
        *self.0.act.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(act));
        if self.is_raised() {
            self.act();
        }
    }

    /// Nothing is to be done any more. After the return, nothing is under way either.
    pub(super) fn forget(&self) {
        self.0.act.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn act(&self) {
        // Done under the lock: who forgets waits for it.
        let mut act = self.0.act.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(act) = act.take() {
            act();
        }
    }
}

/// What an engine thread is up to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineState {
    Opening,
    Ready {
        name: String,
        models: Vec<String>,
    },
    /// Tried again by itself; the text says why it failed.
    Failed(String),
}

/// Between two tries to open an engine that failed.
const REOPEN_AFTER: Duration = Duration::from_secs(5);
/// PDF interpreters recurse; a thread of its own may have the stack for it.
pub(super) const STACK: usize = 64 << 20;

struct Task {
    bytes: Vec<u8>,
    options: Options,
    cancel: Cancel,
    reply: oneshot::Sender<Result<Read, ReadError>>,
}

/// A handle to one engine thread. The thread ends when the handle is dropped and its task is done.
pub struct EngineThread {
    tasks: SyncSender<Task>,
    state: watch::Receiver<EngineState>,
}

impl EngineThread {
    /// Starts the thread of lane `number`; the engine opens in the background.
    pub fn start(number: usize, readers: Readers) -> std::io::Result<Self> {
        let (tasks, inbox) = sync_channel(1);
        let (report, state) = watch::channel(EngineState::Opening);
        std::thread::Builder::new()
            .name(format!("engine-{number}"))
            .stack_size(STACK)
            .spawn(move || run(number, &inbox, &readers, &report))?;
        Ok(EngineThread { tasks, state })
    }

    /// Follows what the thread is up to.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<EngineState> {
        self.state.clone()
    }

    /// Reads a document. When `cancel` is raised a process is killed; an engine in this process gives up
    /// after the page it is at. `None`: the thread is busy with an abandoned task, or gone.
    #[must_use]
    pub fn read(&self, bytes: Vec<u8>, options: Options, cancel: Cancel) -> Option<oneshot::Receiver<Result<Read, ReadError>>> {
        let (reply, answer) = oneshot::channel();
        self.tasks.try_send(Task { bytes, options, cancel, reply }).ok().map(|()| answer)
    }
}

fn open(number: usize, readers: &Readers) -> Result<Box<dyn Reader>, EngineError> {
    match readers {
        Readers::Walled(launch) => launch.start(number).map(|process| Box::new(process) as Box<dyn Reader>),
        Readers::Here(factory) => factory().map(|engine| Box::new(Here { engine, alive: true }) as Box<dyn Reader>),
    }
}

fn run(number: usize, inbox: &Receiver<Task>, readers: &Readers, report: &watch::Sender<EngineState>) {
    let mut waiting = None;
    loop {
        match open(number, readers) {
            Ok(mut reader) => {
                report.send_replace(EngineState::Ready { name: reader.name(), models: reader.models() });
                match serve(inbox, reader.as_mut(), waiting.take()) {
                    Served::All => return,
                    Served::Dead(task) => waiting = task.map(|task| *task),
                }
                report.send_replace(EngineState::Opening);
            }
            Err(error) => {
                tracing::error!(lane = number, error = %error, "the engine cannot be opened; uploads are kept and wait");
                report.send_replace(EngineState::Failed(error.to_string()));
                let task = match waiting.take() {
                    Some(task) => Ok(task),
                    None => inbox.recv_timeout(REOPEN_AFTER),
                };
                match task {
                    Ok(task) => {
                        let _ = task.reply.send(Err(ReadError::Interrupted(error.to_string())));
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        }
    }
}

enum Served {
    /// The handle is gone.
    All,
    /// The reader is; with the task that it died before, if it died idle.
    Dead(Option<Box<Task>>),
}

fn serve(inbox: &Receiver<Task>, reader: &mut dyn Reader, first: Option<Task>) -> Served {
    let mut next = first.map_or_else(|| inbox.recv().ok(), Some);
    while let Some(task) = next {
        if !reader.is_alive() {
            return Served::Dead(Some(Box::new(task)));
        }
        let Task { bytes, options, cancel, reply } = task;
        let answer = reader.read(bytes, &options, &cancel);
        // The receiver is gone if the job was given up meanwhile.
        let _ = reply.send(answer);
        if !reader.is_alive() {
            return match inbox.try_recv() {
                Ok(task) => Served::Dead(Some(Box::new(task))),
                Err(TryRecvError::Empty) => Served::Dead(None),
                Err(TryRecvError::Disconnected) => Served::All,
            };
        }
        next = inbox.recv().ok();
    }
    Served::All
}

/// An engine in this process.
struct Here {
    engine: Box<dyn Engine>,
    alive: bool,
}

impl Reader for Here {
    fn read(&mut self, bytes: Vec<u8>, options: &Options, cancel: &Cancel) -> Result<Read, ReadError> {
        let outcome =
            catch_unwind(AssertUnwindSafe(|| read::document(bytes, options, self.engine.as_mut(), &|| cancel.is_raised())));
        self.alive = outcome.is_ok();
        outcome.unwrap_or_else(|_| Err(ReadError::Interrupted("the engine panicked; the log says where".to_owned())))
    }

    fn is_alive(&mut self) -> bool {
        self.alive
    }

    fn name(&self) -> String {
        self.engine.name().to_owned()
    }

    fn models(&self) -> Vec<String> {
        self.engine.models()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn a_cancel_acts_once_whenever_it_is_raised_and_not_when_forgotten() {
        let acted = Arc::new(AtomicUsize::new(0));
        let act = || {
            let acted = acted.clone();
            move || {
                acted.fetch_add(1, Ordering::SeqCst);
            }
        };
        let before = Cancel::default();
        before.raise();
        before.when_raised(act());
        assert_eq!(acted.load(Ordering::SeqCst), 1);
        let after = Cancel::default();
        after.when_raised(act());
        after.clone().raise();
        after.raise();
        assert_eq!(acted.load(Ordering::SeqCst), 2);
        let forgotten = Cancel::default();
        forgotten.when_raised(act());
        forgotten.forget();
        forgotten.raise();
        assert_eq!((acted.load(Ordering::SeqCst), forgotten.is_raised()), (2, true));
    }
}
