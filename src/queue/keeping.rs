//! Rows as those see them who keep house (`upkeep`): every job with the file it was made of and the
//! spooled bytes that its mail needs. Pages of rows, so that a million need no more memory than a thousand.

use super::rows::{self, JOB_COLUMNS, job_from_row};
use super::sqlite::{SqliteLedger, SqliteQueue};
use super::writer::Lock;
use super::{QueueError, sqlite};
use crate::account::AccountName;
use crate::database;
use crate::job::{FileIdentity, Job, JobId, SpoolKey};
use crate::units::Timestamp;
use rusqlite::{Connection, ToSql, params};
use std::path::Path;

/// Rows of a page.
const PAGE: i64 = 1000;

/// A job and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub job: Job,
    /// The file it was made of, as it was last known.
    pub identity: FileIdentity,
    /// A second time of modification that the file may have.
    was_modified_ns: Option<i128>,
    /// What the mails about it attach: file name as the recipient sees it, bytes in the spool.
    pub attachments: Vec<(String, SpoolKey)>,
    /// A mail about it may still be sent.
    pub mail_is_open: bool,
    /// No newer job has its account and path.
    pub is_newest: bool,
    /// Retention has removed its bytes.
    pub original_removed: bool,
    pub sidecars_removed: bool,
}

impl Kept {
    /// Whether this file is the one it was made of.
    #[must_use]
    pub fn is_of(&self, file: &FileIdentity) -> bool {
        *file == self.identity
            || self.was_modified_ns.is_some_and(|modified_ns| *file == FileIdentity { modified_ns, ..self.identity })
    }
}

/// What retention may remove of a job that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Original,
    Sidecars,
    /// The row itself, of which the original is removed already.
    Row,
}

/// From one account to the next, by the index: not by a look at a million jobs.
pub(super) const ACCOUNTS: &str = "WITH RECURSIVE known (account) AS (
         SELECT min(account) FROM jobs
         UNION ALL SELECT (SELECT min(account) FROM jobs WHERE account > known.account) FROM known WHERE account IS NOT NULL)
     SELECT account FROM known WHERE account IS NOT NULL";

/// Which rows' parts may go: before ?1, after (?2, ?3), done ones only if ?4, of account ?5. Each part has an index that
/// its condition finds.
pub(super) fn old(part: Part) -> String {
    let part = match part {
        Part::Original => "original_removed_at IS NULL",
        Part::Sidecars => "sidecars_removed_at IS NULL",
        Part::Row => "original_removed_at IS NOT NULL",
    };
    format!(
        "account = ?5 AND finished_at IS NOT NULL AND {part} AND finished_at <= ?1
           AND (finished_at, id) > (?2, ?3) AND (state = 'done' OR NOT ?4) AND NOT {OPEN_MAIL} ORDER BY finished_at, id"
    )
}

const OPEN_MAIL: &str = "EXISTS (SELECT 1 FROM deliveries WHERE job = jobs.id AND deliveries.state IN ('scheduled', 'deferred'))";

fn page(connection: &Connection, condition: &str, parameters: &[&dyn ToSql]) -> Result<Vec<Kept>, QueueError> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {JOB_COLUMNS}, inode, modified_ns, file_bytes, was_modified_ns,
             NOT EXISTS (SELECT 1 FROM jobs AS newer
                         WHERE newer.account = jobs.account AND newer.path = jobs.path AND newer.id > jobs.id),
             {OPEN_MAIL}, original_removed_at IS NOT NULL, sidecars_removed_at IS NOT NULL
         FROM jobs WHERE {condition} LIMIT {PAGE}"
    ))?;
    let mut attachments = connection.prepare_cached("SELECT DISTINCT attachments FROM deliveries WHERE job = ?1")?;
    let rows = statement.query_map(parameters, |row| {
        Ok(Kept {
            job: job_from_row(row)?.0,
            identity: FileIdentity {
                inode: row.get::<_, i64>(18)?.cast_unsigned(),
                modified_ns: row.get::<_, i64>(19)?.into(),
                bytes: row.get::<_, i64>(20)?.cast_unsigned(),
            },
            was_modified_ns: row.get::<_, Option<i64>>(21)?.map(i128::from),
            attachments: Vec::new(),
            is_newest: row.get(22)?,
            mail_is_open: row.get(23)?,
            original_removed: row.get(24)?,
            sidecars_removed: row.get(25)?,
        })
    })?;
    rows.map(|row| {
        let mut kept = row?;
        let lists = attachments.query_map([kept.job.id.to_string()], |row| {
            rows::parsed(0, &row.get::<_, String>(0)?, rows::attachments_from_json)
        })?;
        kept.attachments = lists.collect::<Result<Vec<_>, _>>()?.concat();
        Ok(kept)
    })
    .collect()
}

impl SqliteLedger {
    /// The jobs that follow `after`, by id, a page of them; empty at the end.
    pub fn kept(&self, after: Option<JobId>) -> Result<Vec<Kept>, QueueError> {
        let after = after.map(|id| id.to_string()).unwrap_or_default();
        self.read(|connection| page(connection, "id > ?1 ORDER BY id", &[&after]))
    }

    /// Every account that has jobs, whether or not there is such an account any more.
    pub fn accounts(&self) -> Result<Vec<AccountName>, QueueError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(ACCOUNTS)?;
            let names = statement.query_map([], |row| rows::parsed(0, &row.get::<_, String>(0)?, |name| name.parse().ok()))?;
            Ok(names.collect::<Result<_, _>>()?)
        })
    }

    /// The account's jobs that ended before `before`, of which `part` is still there and all mail has left or
    /// bounced; those that follow `after`, by their end. `only_done`: not those that were rejected or died.
    pub fn ended(
        &self,
        account: &AccountName,
        part: Part,
        before: Timestamp,
        only_done: bool,
        after: Option<&Kept>,
    ) -> Result<Vec<Kept>, QueueError> {
        let (at, id) = after.map_or((i64::MIN, String::new()), |kept| {
            (kept.job.finished_at.map_or(i64::MIN, |at| at.0), kept.job.id.to_string())
        });
        self.read(|connection| page(connection, &old(part), &[&before.0, &at, &id, &only_done, &account.as_str()]))
    }

    /// Whether bytes in the spool are wanted by a job other than `but`, or by a mail that may still be sent.
    pub fn wants(&self, key: &SpoolKey, but: Option<JobId>) -> Result<bool, QueueError> {
        let but = but.map(|id| id.to_string()).unwrap_or_default();
        self.read(|connection| {
            let of_a_job: bool = connection
                .prepare_cached(
                    "SELECT EXISTS (SELECT 1 FROM jobs WHERE spool = ?1 AND original_removed_at IS NULL AND id <> ?2)",
                )?
                .query_row(params![key.0, but], |row| row.get(0))?;
            let of_a_mail: bool = connection
                .prepare_cached(
                    "SELECT EXISTS (SELECT 1 FROM deliveries
                                    WHERE state IN ('scheduled', 'deferred') AND instr(attachments, ?1) > 0)",
                )?
                .query_row([key.to_string()], |row| row.get(0))?;
            Ok(of_a_job || of_a_mail)
        })
    }
}

impl SqliteQueue {
    /// Retention has removed this part of these jobs; of [`Part::Row`], it is to be removed now, deliveries and
    /// all. Jobs that an operator has had tried again meanwhile are left as they are.
    pub async fn removed(&self, part: Part, jobs: Vec<JobId>, now: Timestamp) -> Result<(), QueueError> {
        self.run(move |store| {
            let statement = match part {
                Part::Original => "UPDATE jobs SET original_removed_at = ?2 WHERE id = ?1 AND finished_at IS NOT NULL",
                Part::Sidecars => "UPDATE jobs SET sidecars_removed_at = ?2 WHERE id = ?1 AND finished_at IS NOT NULL",
                Part::Row => "DELETE FROM jobs WHERE id = ?1 AND finished_at < ?2",
            };
            let mut statement = store.connection().prepare_cached(statement)?;
            for id in jobs {
                statement.execute(params![id.to_string(), now.0])?;
                if part == Part::Sidecars {
                    // What was kept to answer the same bytes from is the same text. With the row it goes by itself.
                    store.connection().prepare_cached("DELETE FROM readings WHERE job = ?1")?.execute([id.to_string()])?;
                }
            }
            Ok(())
        })
        .await
    }

    /// Gives some of the database's free pages back to the disk.
    pub async fn shrink(&self) -> Result<(), QueueError> {
        self.run(|store| Ok(store.connection().execute_batch(&format!("PRAGMA incremental_vacuum({PAGE})"))?)).await
    }
}

/// Whether a daemon runs on this database just now. Blocking, for two seconds at most.
#[must_use]
pub fn is_in_use(path: &Path) -> bool {
    Lock::take(path).is_err()
}

/// The database while no daemon runs on it. None can start as long as this lives.
#[derive(Debug)]
pub struct Alone {
    connection: rusqlite::Connection,
    _lock: Lock,
}

impl Alone {
    /// Fails if a daemon is running. Blocking, for two seconds at most.
    pub fn open(path: &Path) -> Result<Self, QueueError> {
        let lock = Lock::take(path)?;
        let connection = database::open(path).map_err(|error| sqlite::not_opened(path, error))?;
        Ok(Alone { connection, _lock: lock })
    }

    /// A job's file is another one by now that holds the same bytes: after a restore, say. Scans know it then.
    pub fn reidentify(&self, job: JobId, file: &FileIdentity) -> Result<(), QueueError> {
        self.connection.execute(
            "UPDATE jobs SET inode = ?2, modified_ns = ?3, was_modified_ns = NULL, file_bytes = ?4 WHERE id = ?1",
            params![job.to_string(), rows::signed(file.inode), rows::nanoseconds(file.modified_ns), rows::signed(file.bytes)],
        )?;
        Ok(())
    }
}
