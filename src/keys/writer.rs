//! The daemon's writing connection for keys, and the thread that owns it: what waits is run in one
//! transaction, each within a savepoint of its own, committed once, and only then answered. So an answer
//! means that it is on disk, and a thousand signed requests cost a few fsyncs, not a thousand.

use super::KeysError;
use rusqlite::Connection;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot};

/// What one commit may cover.
const TOGETHER: usize = 256;
/// What may wait; more callers wait for a place.
const WAITING: usize = 1024;

/// Runs in the transaction, or is told that there is none.
type Work = Box<dyn FnOnce(Option<&Connection>) -> Answer + Send>;
/// Is told whether it was committed.
type Answer = Box<dyn FnOnce(Result<(), KeysError>)>;

pub(super) struct Writer {
    commands: Option<mpsc::Sender<Work>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(connection: Connection) -> std::io::Result<Arc<Self>> {
        let (commands, mut waiting) = mpsc::channel::<Work>(WAITING);
        let thread = std::thread::Builder::new().name("keys-writer".to_owned()).spawn(move || {
            while let Some(first) = waiting.blocking_recv() {
                let mut batch = vec![first];
                while batch.len() < TOGETHER
                    && let Ok(work) = waiting.try_recv()
                {
                    batch.push(work);
                }
                run_together(&connection, batch);
            }
        })?;
        Ok(Arc::new(Writer { commands: Some(commands), thread: Some(thread) }))
    }

    /// Runs a verb in the next transaction. Once it was sent it runs, whether or not the caller waits on.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        verb: impl FnOnce(&Connection) -> Result<T, KeysError> + Send + 'static,
    ) -> Result<T, KeysError> {
        let (work, answer) = work(verb);
        let commands = self.commands.as_ref().ok_or(KeysError::Closed)?;
        commands.send(work).await.map_err(|_| KeysError::Closed)?;
        answer.await.map_err(|_| KeysError::Closed)?
    }

    /// Has a verb run some time, if there is room for it; nobody hears what came of it.
    pub(super) fn run_some_time<T: Send + 'static>(
        &self,
        verb: impl FnOnce(&Connection) -> Result<T, KeysError> + Send + 'static,
    ) -> bool {
        let verb = move |connection: &Connection| {
            verb(connection).inspect_err(|error| tracing::warn!(%error, "a note about a key could not be written"))
        };
        let (work, _) = work(verb);
        self.commands.as_ref().is_some_and(|commands| commands.try_send(work).is_ok())
    }
}

impl Drop for Writer {
    /// What was sent is done before this returns.
    fn drop(&mut self) {
        self.commands.take();
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

fn work<T: Send + 'static>(
    verb: impl FnOnce(&Connection) -> Result<T, KeysError> + Send + 'static,
) -> (Work, oneshot::Receiver<Result<T, KeysError>>) {
    let (sender, receiver) = oneshot::channel();
    let work: Work = Box::new(move |connection: Option<&Connection>| {
        let result = match connection {
            Some(connection) => within_savepoint(connection, verb),
            None => Err(KeysError::Closed),
        };
        let answer: Answer = Box::new(move |committed: Result<(), KeysError>| {
            let _ = sender.send(match (result, committed) {
                (Ok(_), Err(error)) => Err(error),
                (result, _) => result,
            });
        });
        answer
    });
    (work, receiver)
}

fn within_savepoint<T>(connection: &Connection, verb: impl FnOnce(&Connection) -> Result<T, KeysError>) -> Result<T, KeysError> {
    let statement = |sql: &str| -> Result<(), KeysError> { Ok(connection.prepare_cached(sql)?.execute([]).map(drop)?) };
    statement("SAVEPOINT verb")?;
    let result = verb(connection);
    // SQLite ends the whole transaction on some errors; then there is nothing to undo.
    if !connection.is_autocommit() {
        if result.is_err() {
            statement("ROLLBACK TO verb")?;
        }
        statement("RELEASE verb")?;
    }
    result
}

fn run_together(connection: &Connection, batch: Vec<Work>) {
    let begun = connection.execute_batch("BEGIN IMMEDIATE");
    let answers: Vec<Answer> =
        batch.into_iter().map(|work| work(if connection.is_autocommit() { None } else { Some(connection) })).collect();
    let committed = match begun {
        Ok(()) if connection.is_autocommit() => Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ABORT_ROLLBACK),
            Some("the transaction ended early".to_owned()),
        )),
        Ok(()) => connection.execute_batch("COMMIT"),
        Err(error) => Err(error),
    };
    if let Err(error) = &committed {
        tracing::error!(%error, verbs = answers.len(), "the database of keys could not commit; requests are asked to come again");
        if !connection.is_autocommit() {
            let _ = connection.execute_batch("ROLLBACK");
        }
    }
    for answer in answers {
        answer(match &committed {
            Ok(()) => Ok(()),
            Err(error) => Err(KeysError::Unavailable(again(error))),
        });
    }
}

/// The same error once more: one failed commit is the answer to many verbs.
fn again(error: &rusqlite::Error) -> rusqlite::Error {
    match error {
        rusqlite::Error::SqliteFailure(error, message) => rusqlite::Error::SqliteFailure(*error, message.clone()),
        error => rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ERROR), Some(error.to_string())),
    }
}
