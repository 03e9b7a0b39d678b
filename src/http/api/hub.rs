//! Changes of jobs, from the queue to whoever waits for one or follows them. One task reads them from the database, in
//! their order, whenever the queue says that something changed; everybody else gets them from here. Who is too slow
//! for the channel reads what was missed from the database: nothing is lost, and nothing piles up.

use super::EVENTS_AT_ONCE;
use crate::account::AccountName;
use crate::job::{Job, JobId};
use crate::queue::sqlite::{SqliteLedger, SqliteQueue};
use crate::queue::{JobEvent, JobLedger as _, Queue as _, QueueError};
use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, watch};

/// Changes that a follower may be behind with before it has to read them from the database.
const CHANNEL: usize = 1024;
/// While somebody follows: a claim is announced by nobody.
const POLL: Duration = Duration::from_millis(500);
/// While nobody does.
const POLL_IDLE: Duration = Duration::from_secs(60);
/// Who waits for one job looks again this often, whatever it was told.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// After an error of the database.
const AGAIN: Duration = Duration::from_secs(1);

/// Where changes come by; clones are one.
#[derive(Clone)]
pub(super) struct Hub {
    changes: broadcast::Sender<Arc<JobEvent>>,
    /// True once nothing more comes.
    closed: watch::Sender<bool>,
}

impl Hub {
    pub(super) fn new() -> Self {
        Hub { changes: broadcast::Sender::new(CHANNEL), closed: watch::Sender::new(false) }
    }

    /// Reads changes until `stop`; `ended` is told of each job that has come to its end.
    pub(super) async fn run<F: Future<Output = ()> + Send>(
        &self,
        queue: &SqliteQueue,
        ledger: &SqliteLedger,
        stop: impl Future<Output = ()> + Send,
        ended: impl Fn(JobId) -> F + Send + Sync,
    ) {
        let mut stop = std::pin::pin!(stop);
        let mut last = None;
        loop {
            let changed = queue.changed();
            let wait = match self.forward(ledger, &mut last, &ended).await {
                Ok(true) => continue,
                Ok(false) if self.changes.receiver_count() > 0 => POLL,
                Ok(false) => POLL_IDLE,
                Err(error) => {
                    tracing::warn!(%error, "changes of jobs cannot be read; trying again");
                    AGAIN
                }
            };
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep(wait) => {}
                () = &mut stop => break,
            }
        }
        self.closed.send_replace(true);
    }

    /// True if there may be more.
    async fn forward<F: Future<Output = ()> + Send>(
        &self,
        ledger: &SqliteLedger,
        last: &mut Option<u64>,
        ended: &(impl Fn(JobId) -> F + Send + Sync),
    ) -> Result<bool, QueueError> {
        let since = match *last {
            Some(number) => number,
            None => {
                let ledger = ledger.clone();
                let (_, newest) = blocking(move || ledger.events_kept()).await?;
                *last.insert(newest)
            }
        };
        let reader = ledger.clone();
        let events = blocking(move || reader.events(since, None, EVENTS_AT_ONCE)).await?;
        let more = events.len() == EVENTS_AT_ONCE;
        for event in events {
            *last = Some(event.number);
            let is_done = event.state == "done";
            let job = event.job;
            // Nobody listens: that is no error.
            let _ = self.changes.send(Arc::new(event));
            if is_done {
                ended(job).await;
            }
        }
        Ok(more)
    }

    /// Resolves when the job has ended, or when nothing more can be waited for.
    pub(super) async fn end_of(&self, ledger: &SqliteLedger, id: JobId) -> Option<Job> {
        let mut changes = self.changes.subscribe();
        let mut closed = self.closed.subscribe();
        loop {
            let reader = ledger.clone();
            match blocking(move || reader.show(id)).await {
                Ok(Some((job, _))) if job.state.is_final() => return Some(job),
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(error) => tracing::warn!(job.id = %id, %error, "whether a job has ended cannot be looked up; trying again"),
            }
            let news = async {
                loop {
                    match changes.recv().await {
                        Ok(event) if event.job == id => return,
                        Ok(_) => {}
                        Err(broadcast::error::RecvError::Lagged(_)) => return,
                        Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
                    }
                }
            };
            tokio::select! {
                () = news => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
                _ = closed.wait_for(|closed| *closed) => return None,
            }
        }
    }

    /// An account's changes from the one after `since` on; from now on, where that is `None`.
    pub(super) async fn follow(
        &self,
        ledger: &SqliteLedger,
        account: &AccountName,
        since: Option<u64>,
    ) -> Result<Follower, QueueError> {
        let changes = self.changes.subscribe();
        let reader = ledger.clone();
        let (oldest, newest) = blocking(move || reader.events_kept()).await?;
        // One from the future was never told by us.
        let since = since.filter(|since| *since <= newest);
        let missed = since.is_some_and(|since| since + 1 < oldest);
        Ok(Follower {
            ledger: ledger.clone(),
            account: account.clone(),
            last: since.unwrap_or(newest),
            behind: since.is_some(),
            missed,
            waiting: VecDeque::new(),
            changes,
            closed: self.closed.subscribe(),
        })
    }
}

/// Who follows an account's jobs.
pub(super) struct Follower {
    ledger: SqliteLedger,
    account: AccountName,
    /// The last change that was given out, or passed over as another account's.
    last: u64,
    /// There may be some in the database that did not come by the channel.
    behind: bool,
    /// Some that were asked for are not kept any more.
    missed: bool,
    waiting: VecDeque<JobEvent>,
    changes: broadcast::Receiver<Arc<JobEvent>>,
    closed: watch::Receiver<bool>,
}

impl Follower {
    /// Whether changes that were asked for are not to be had any more; told once.
    pub(super) fn has_missed(&mut self) -> bool {
        std::mem::take(&mut self.missed)
    }

    /// The next change; `None` when the daemon stops. May be dropped and called again.
    pub(super) async fn next(&mut self) -> Option<JobEvent> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                self.last = event.number;
                return Some(event);
            }
            if self.behind {
                let (ledger, account, last) = (self.ledger.clone(), self.account.clone(), self.last);
                match blocking(move || ledger.events(last, Some(&account), EVENTS_AT_ONCE)).await {
                    Ok(events) => {
                        self.behind = events.len() == EVENTS_AT_ONCE;
                        self.waiting.extend(events);
                        continue;
                    }
                    Err(error) => {
                        tracing::warn!(%error, "changes of jobs cannot be read; trying again");
                        tokio::time::sleep(AGAIN).await;
                        continue;
                    }
                }
            }
            tokio::select! {
                change = self.changes.recv() => match change {
                    Ok(event) if event.account == self.account && event.number > self.last => {
                        self.waiting.push_back(JobEvent::clone(&event));
                    }
                    Ok(_) => {}
                    Err(broadcast::error::RecvError::Lagged(_)) => self.behind = true,
                    Err(broadcast::error::RecvError::Closed) => return None,
                },
                _ = self.closed.wait_for(|closed| *closed) => return None,
            }
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, QueueError> + Send + 'static) -> Result<T, QueueError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(QueueError::Closed),
        },
    }
}
