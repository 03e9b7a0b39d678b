//! Engine threads: one thread owns one engine, tasks come in by a channel of one, answers go out by
//! a oneshot. A thread that cannot open its engine says why and tries again every few seconds, so a
//! daemon with broken models still takes uploads, which wait. A panic inside a decoder or a model
//! costs that task and a fresh engine, not the daemon.

use super::read::{self, Options, Read, ReadError};
use crate::ocr::{Engine, EngineError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// Opens an engine; called on the thread that will own it.
pub type EngineFactory = Arc<dyn Fn() -> Result<Box<dyn Engine>, EngineError> + Send + Sync>;

/// What an engine thread is up to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineState {
    Opening,
    Ready {
        name: &'static str,
        models: Vec<String>,
    },
    /// Tried again by itself; the text says why it failed.
    Failed(String),
}

/// Between two tries to open an engine that failed.
const REOPEN_AFTER: Duration = Duration::from_secs(5);
/// PDF interpreters recurse; a thread of its own may have the stack for it.
const STACK: usize = 64 << 20;

struct Task {
    bytes: Vec<u8>,
    options: Options,
    cancelled: Arc<AtomicBool>,
    reply: oneshot::Sender<Result<Read, ReadError>>,
}

/// A handle to one engine thread. The thread ends when the handle is dropped and its task is done.
pub struct EngineThread {
    tasks: SyncSender<Task>,
    state: watch::Receiver<EngineState>,
}

impl EngineThread {
    /// Starts a thread; the engine opens in the background.
    pub fn start(number: usize, factory: EngineFactory) -> std::io::Result<Self> {
        let (tasks, inbox) = sync_channel(1);
        let (report, state) = watch::channel(EngineState::Opening);
        std::thread::Builder::new()
            .name(format!("engine-{number}"))
            .stack_size(STACK)
            .spawn(move || run(&inbox, &factory, &report))?;
        Ok(EngineThread { tasks, state })
    }

    /// Follows what the thread is up to.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<EngineState> {
        self.state.clone()
    }

    /// Reads a document. When `cancelled` becomes true the thread gives up after the page it is at.
    /// `None`: the thread is busy with an abandoned task, or gone.
    #[must_use]
    pub fn read(
        &self,
        bytes: Vec<u8>,
        options: Options,
        cancelled: Arc<AtomicBool>,
    ) -> Option<oneshot::Receiver<Result<Read, ReadError>>> {
        let (reply, answer) = oneshot::channel();
        self.tasks.try_send(Task { bytes, options, cancelled, reply }).ok().map(|()| answer)
    }
}

fn run(inbox: &Receiver<Task>, factory: &EngineFactory, report: &watch::Sender<EngineState>) {
    loop {
        match factory() {
            Ok(engine) => {
                report.send_replace(EngineState::Ready { name: engine.name(), models: engine.models() });
                if serve(inbox, engine).is_none() {
                    return;
                }
                report.send_replace(EngineState::Opening);
            }
            Err(error) => {
                tracing::error!(error = %error, "the engine cannot be opened; uploads are kept and wait");
                report.send_replace(EngineState::Failed(error.to_string()));
                match inbox.recv_timeout(REOPEN_AFTER) {
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

/// Works until the handle is gone (`None`) or the engine panicked (`Some`).
fn serve(inbox: &Receiver<Task>, mut engine: Box<dyn Engine>) -> Option<()> {
    while let Ok(Task { bytes, options, cancelled, reply }) = inbox.recv() {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            read::document(bytes, &options, engine.as_mut(), &|| cancelled.load(Ordering::Relaxed))
        }));
        let panicked = outcome.is_err();
        let answer =
            outcome.unwrap_or_else(|_| Err(ReadError::Interrupted("the engine panicked; the log says where".to_owned())));
        // The receiver is gone if the job was given up meanwhile.
        let _ = reply.send(answer);
        if panicked {
            return Some(());
        }
    }
    None
}
