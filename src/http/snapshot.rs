//! What is shown, taken once a second at most and shared: a wall of open status pages and eager
//! probes cost the database the same as one.

use crate::job::Job;
use crate::queue::{Counts, DeliveryRecord, Filter, JobLedger};
use crate::units::Timestamp;
use serde::Serialize;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::Mutex;

const FRESH_FOR: Duration = Duration::from_secs(1);

/// Jobs on the page.
pub(super) const RECENT: usize = 50;
/// Deliveries in trouble on the page.
const TROUBLED: usize = 20;
/// Bounced mail is shown for a week after its job: `jobs show` tells it for ever.
const TROUBLE_IS_NEWS: Duration = Duration::from_secs(7 * 86_400);

/// One part of the daemon and whether it is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Part {
    /// `engine`, `watcher`, `disk`: as `/readyz` names it.
    pub name: &'static str,
    pub ok: bool,
    /// One sentence; shown to everybody, so without paths or names.
    pub detail: String,
}

/// What the page tells beside the jobs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// `ppocr`
    pub engine: String,
    pub models: Vec<String>,
    /// Where scanners upload to.
    pub ftp_address: String,
    pub ftp_sessions: usize,
    pub ftp_max_sessions: usize,
}

/// Numbers for `/metrics`, of this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Measures {
    pub ftp_refused: u64,
    pub ftp_broken: u64,
    pub ftp_logins_failed: u64,
    /// Bytes of uploads that were taken.
    pub ftp_bytes: u64,
    pub engines_busy: u64,
    /// Since the watcher last saw its own file change.
    pub watcher_age: Duration,
    pub disk_free: u64,
    pub disk_floor: u64,
    /// Bytes of memory, of this process and of those that read.
    pub resident: u64,
    pub resident_engines: u64,
}

/// How the rest of the daemon is. Asked from a blocking thread, once a second at most; should answer
/// at once.
pub trait Vitals: Send + Sync + 'static {
    /// Everything readiness depends on but the database, which this room asks itself. The part that
    /// reads pages is called `engine`.
    fn parts(&self) -> Vec<Part>;
    fn facts(&self) -> Facts;
    fn measures(&self) -> Measures {
        Measures::default()
    }
}

/// Jobs and deliveries at one instant.
#[derive(Debug, Clone, Default)]
pub(super) struct Board {
    pub counts: Counts,
    pub recent: Vec<(Job, Vec<DeliveryRecord>)>,
    pub troubled: Vec<(Job, DeliveryRecord)>,
    pub oldest_queued: Option<Timestamp>,
}

/// Everything at one instant.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    pub taken_at: Timestamp,
    /// `None` where the database did not answer.
    pub board: Option<Board>,
    /// The database first.
    pub parts: Vec<Part>,
    pub facts: Facts,
    pub measures: Measures,
}

impl Snapshot {
    pub(super) fn ready(&self) -> bool {
        self.parts.iter().all(|part| part.ok)
    }

    /// Whether the part of this name is there; one that nobody reports is not.
    pub(super) fn has(&self, name: &str) -> bool {
        self.parts.iter().any(|part| part.name == name && part.ok)
    }
}

/// Takes snapshots.
pub(super) struct Camera<L> {
    ledger: L,
    vitals: Arc<dyn Vitals>,
    last: Mutex<Option<(Instant, Arc<Snapshot>)>>,
}

impl<L: JobLedger> Camera<L> {
    pub(super) fn new(ledger: L, vitals: Arc<dyn Vitals>) -> Self {
        Camera { ledger, vitals, last: Mutex::new(None) }
    }

    /// The latest snapshot, a second old at most. The lock is held while one is taken, so that many
    /// askers wait for one; `None` if taking it panicked.
    pub(super) async fn look(&self) -> Option<Arc<Snapshot>> {
        let mut last = self.last.lock().await;
        if let Some((taken, snapshot)) = &*last
            && taken.elapsed() < FRESH_FOR
        {
            return Some(Arc::clone(snapshot));
        }
        let (ledger, vitals) = (self.ledger.clone(), Arc::clone(&self.vitals));
        let taken = tokio::task::spawn_blocking(move || take(&ledger, &*vitals)).await;
        let snapshot = match taken {
            Ok(snapshot) => Arc::new(snapshot),
            Err(error) => {
                tracing::error!(error = %error, "looking at the daemon's state ended in a panic");
                return None;
            }
        };
        *last = Some((Instant::now(), Arc::clone(&snapshot)));
        Some(snapshot)
    }
}

fn take<L: JobLedger>(ledger: &L, vitals: &dyn Vitals) -> Snapshot {
    let taken_at = Timestamp::from_system(SystemTime::now());
    let is_news = |(job, _): &(Job, DeliveryRecord)| taken_at.since(job.finished_at.unwrap_or(job.received_at)) < TROUBLE_IS_NEWS;
    let board = (|| {
        Ok::<Board, crate::queue::QueueError>(Board {
            counts: ledger.counts()?,
            recent: ledger.list(&Filter { limit: RECENT, ..Filter::default() })?,
            troubled: ledger.troubled(TROUBLED)?.into_iter().filter(is_news).collect(),
            oldest_queued: ledger.oldest_queued()?,
        })
    })();
    let database = match &board {
        Ok(board) => {
            let waiting = board.counts.queued + board.counts.running;
            Part { name: "database", ok: true, detail: format!("answers; {waiting} jobs not finished") }
        }
        Err(error) => {
            tracing::warn!(error = %error, "the database does not answer the status page");
            Part { name: "database", ok: false, detail: "does not answer; the log says why".to_owned() }
        }
    };
    let parts = std::iter::once(database).chain(vitals.parts()).collect();
    Snapshot { taken_at, board: board.ok(), parts, facts: vitals.facts(), measures: vitals.measures() }
}
