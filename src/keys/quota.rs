//! Pages charged to an account on a day in UTC: counted in the database, so exactly, over restarts, and
//! by however many keys at once.
//!
//! ```text
//! reserve ─► charge (its job has not come) ─ job's row is committed ─► charge ─ settle ─► its real pages
//!                 │ dropped, or the daemon starts again                  │ rejected, dead: no pages
//!                 ▼                                                      ▼
//!               gone                                                    kept
//! ```
//!
//! Triggers in the schema move a charge when its job's row changes, in the same transaction: no crash comes
//! between the two.

use super::KeysError;
use super::writer::Writer;
use crate::account::AccountName;
use crate::job::JobId;
use crate::units::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

const DAY: i64 = 86_400_000;
/// Days that charges are kept for.
const KEPT: i64 = 35;

/// A day in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(i64);

impl Day {
    #[must_use]
    pub fn of(now: Timestamp) -> Self {
        Day(now.0.div_euclid(DAY))
    }

    /// When the next one begins.
    #[must_use]
    pub fn end(self) -> Timestamp {
        Timestamp((self.0 + 1) * DAY)
    }
}

/// What an account has used of a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    pub pages: u64,
    /// When it is zero again.
    pub resets_at: Timestamp,
}

/// By what the door answers.
#[derive(Debug, thiserror::Error)]
pub enum QuotaError {
    #[error("{wanted} more pages would be more than the {limit} of this day, of which {used} are used")]
    Over { used: u64, wanted: u64, limit: u64, resets_at: Timestamp },
    #[error(transparent)]
    Keys(#[from] KeysError),
}

/// Charges pages; clones share the writer.
#[derive(Debug, Clone)]
pub struct Quota {
    writer: Arc<Writer>,
    /// For looking: whoever only looks does not wait for those who write.
    connection: Arc<Mutex<Connection>>,
}

impl Quota {
    pub(super) fn new(writer: Arc<Writer>, connection: Arc<Mutex<Connection>>) -> Self {
        Quota { writer, connection }
    }

    /// Charges `pages` to the account for a job that is still to come, if the day's `limit` allows it (`None`: any
    /// number). All or nothing: two who race for the last page never both get it. The answer means: on disk.
    pub async fn reserve(
        &self,
        account: &AccountName,
        job: JobId,
        pages: u64,
        limit: Option<u64>,
        now: Timestamp,
    ) -> Result<Reservation, QuotaError> {
        let (account, day) = (account.clone(), Day::of(now));
        // Before it is asked for: whatever becomes of the asker, nothing stays charged.
        let reservation = Reservation { writer: Arc::clone(&self.writer), job };
        let refused = self
            .writer
            .run(move |connection| {
                forget_old(connection, day)?;
                let used = used(connection, &account, day)?;
                if let Some(limit) = limit
                    && used.saturating_add(pages) > limit
                {
                    return Ok(Some((used, limit)));
                }
                connection
                    .prepare_cached("INSERT INTO charges (job, account, day, pages) VALUES (?1, ?2, ?3, ?4)")?
                    .execute(params![job.to_string(), account.as_str(), day.0, signed(pages)])?;
                Ok(None)
            })
            .await?;
        match refused {
            None => Ok(reservation),
            Some((used, limit)) => Err(QuotaError::Over { used, wanted: pages, limit, resets_at: day.end() }),
        }
    }

    /// A job turned out to have so many pages, more or fewer than were reserved: what was read is charged, whatever
    /// the limit. Of a job that nothing is charged for: nothing.
    pub async fn settle(&self, job: JobId, pages: u64) -> Result<(), KeysError> {
        self.writer
            .run(move |connection| {
                connection
                    .prepare_cached("UPDATE charges SET pages = ?2 WHERE job = ?1 AND pages <> ?2")?
                    .execute(params![job.to_string(), signed(pages)])?;
                Ok(())
            })
            .await
    }

    /// What the account has used of the day that `now` lies in.
    pub async fn usage(&self, account: &AccountName, now: Timestamp) -> Result<Usage, KeysError> {
        let (account, day, connection) = (account.clone(), Day::of(now), Arc::clone(&self.connection));
        let looked = tokio::task::spawn_blocking(move || {
            let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            used(&connection, &account, day)
        });
        let pages = looked.await.map_err(|_| KeysError::Closed)??;
        Ok(Usage { pages, resets_at: day.end() })
    }
}

/// Pages charged for a job that has not come yet. Dropped before it came, they are given back; after that,
/// dropping it does nothing.
#[derive(Debug)]
pub struct Reservation {
    writer: Arc<Writer>,
    job: JobId,
}

impl Reservation {
    /// The job that must come.
    #[must_use]
    pub fn job(&self) -> JobId {
        self.job
    }

    /// Runs what makes the job come to its end, whether or not the caller waits for it, and holds the pages until
    /// then: a caller that goes away in between would give back what its job still uses.
    ///
    /// # Panics
    /// As `work` does.
    pub async fn hold<T: Send + 'static>(self, work: impl Future<Output = T> + Send + 'static) -> T {
        let task = tokio::spawn(async move {
            let done = work.await;
            drop(self);
            done
        });
        match task.await {
            Ok(done) => done,
            Err(ended) => match ended.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // Only when the whole runtime goes down.
                Err(_) => std::future::pending().await,
            },
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let job = self.job;
        let give_back = move |connection: &Connection| {
            connection
                .prepare_cached("DELETE FROM charges WHERE job = ?1 AND came = 0")?
                .execute([job.to_string()])
                .map_err(KeysError::from)
        };
        if !self.writer.run_some_time(give_back) {
            let writer = Arc::clone(&self.writer);
            match tokio::runtime::Handle::try_current() {
                Ok(runtime) => drop(runtime.spawn(async move { writer.run(give_back).await })),
                Err(_) => tracing::warn!(job.id = %job, "a charge stays until the next start: its job never came"),
            }
        }
    }
}

fn used(connection: &Connection, account: &AccountName, day: Day) -> Result<u64, KeysError> {
    let pages = connection
        .prepare_cached("SELECT pages FROM charged_days WHERE account = ?1 AND day = ?2")?
        .query_row(params![account.as_str(), day.0], |row| row.get::<_, i64>(0))
        .optional()?;
    Ok(u64::try_from(pages.unwrap_or(0)).unwrap_or(0))
}

fn forget_old(connection: &Connection, today: Day) -> Result<(), KeysError> {
    for table in ["charges", "charged_days"] {
        connection.prepare_cached(&format!("DELETE FROM {table} WHERE day < ?1"))?.execute([today.0 - KEPT])?;
    }
    Ok(())
}

/// Charges whose jobs never came, of a daemon that has ended; answers how many pages.
pub(super) fn return_orphans(connection: &Connection) -> Result<u64, KeysError> {
    let pages: i64 = connection.query_row("SELECT coalesce(sum(pages), 0) FROM charges WHERE came = 0", [], |row| row.get(0))?;
    connection.execute("DELETE FROM charges WHERE came = 0", [])?;
    Ok(u64::try_from(pages).unwrap_or(0))
}

fn signed(pages: u64) -> i64 {
    i64::try_from(pages).unwrap_or(i64::MAX >> 16)
}
