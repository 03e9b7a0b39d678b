//! Rows as those see them who keep house (`upkeep`): every job with the file it was made of and the
//! spooled bytes that its mail needs. Pages of rows, so that a million need no more memory than a thousand.

use super::rows::{self, JOB_COLUMNS, job_from_row};
use super::sqlite::SqliteLedger;
use super::writer::Lock;
use super::{QueueError, sqlite};
use crate::database;
use crate::job::{FileIdentity, Job, JobId, SpoolKey};
use rusqlite::params;
use std::path::Path;

/// Rows of a page.
const PAGE: i64 = 1000;

/// A job and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub job: Job,
    /// The file it was made of, as it was last known.
    pub identity: FileIdentity,
    /// What the mails about it attach: file name as the recipient sees it, bytes in the spool.
    pub attachments: Vec<(String, SpoolKey)>,
    /// No newer job has its account and path.
    pub is_newest: bool,
}

impl SqliteLedger {
    /// The jobs that follow `after`, by id, a page of them; empty at the end.
    pub fn kept(&self, after: Option<JobId>) -> Result<Vec<Kept>, QueueError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(&format!(
                "SELECT {JOB_COLUMNS}, inode, modified_ns, file_bytes,
                     NOT EXISTS (SELECT 1 FROM jobs AS newer
                                 WHERE newer.account = jobs.account AND newer.path = jobs.path AND newer.id > jobs.id)
                 FROM jobs WHERE id > ?1 ORDER BY id LIMIT ?2"
            ))?;
            let mut attachments = connection.prepare_cached("SELECT DISTINCT attachments FROM deliveries WHERE job = ?1")?;
            let after = after.map(|id| id.to_string()).unwrap_or_default();
            let rows = statement.query_map(params![after, PAGE], |row| {
                let identity = FileIdentity {
                    inode: row.get::<_, i64>(17)?.cast_unsigned(),
                    modified_ns: row.get::<_, i64>(18)?.into(),
                    bytes: row.get::<_, i64>(19)?.cast_unsigned(),
                };
                Ok((job_from_row(row)?.0, identity, row.get::<_, bool>(20)?))
            })?;
            rows.map(|row| {
                let (job, identity, is_newest) = row?;
                let lists = attachments.query_map([job.id.to_string()], |row| {
                    rows::parsed(0, &row.get::<_, String>(0)?, rows::attachments_from_json)
                })?;
                let attachments = lists.collect::<Result<Vec<_>, _>>()?.concat();
                Ok(Kept { job, identity, attachments, is_newest })
            })
            .collect()
        })
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
