//! The reading side: a few connections that never write, beside whoever does.

use super::readings;
use super::rows::{self, JOB_COLUMNS, job_from_row};
use super::sqlite::not_opened;
use super::{Counts, DeliveryRecord, Filter, JobEvent, JobLedger, QueueError, events};
use crate::account::{AccountName, VirtualPath};
use crate::database;
use crate::job::{FileIdentity, Job, JobId, SpoolKey};
use crate::units::Timestamp;
use rusqlite::{Connection, OptionalExtension, ToSql, params};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Readers at once; a fifth waits. Queries take well under a millisecond.
const CONNECTIONS: usize = 4;
/// A list never has more, whatever is asked for.
const LONGEST_LIST: usize = 10_000;

/// The reading side; clones share the connections.
#[derive(Clone)]
pub struct SqliteLedger {
    pool: Arc<Pool>,
}

struct Pool {
    path: PathBuf,
    idle: Mutex<Idle>,
    returned: Condvar,
}

struct Idle {
    connections: Vec<Connection>,
    /// In use, or about to be opened.
    lent: usize,
}

impl std::fmt::Debug for SqliteLedger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteLedger").field("path", &self.pool.path).finish_non_exhaustive()
    }
}

impl SqliteLedger {
    /// Opens the ledger of a database that is there; a daemon may be using it. Blocking.
    pub fn open(path: &Path) -> Result<Self, QueueError> {
        let first = connect(path)?;
        let idle = Idle { connections: vec![first], lent: 0 };
        Ok(SqliteLedger { pool: Arc::new(Pool { path: path.to_owned(), idle: Mutex::new(idle), returned: Condvar::new() }) })
    }

    pub(super) fn read<T>(&self, query: impl FnOnce(&Connection) -> Result<T, QueueError>) -> Result<T, QueueError> {
        let pool = &*self.pool;
        let mut idle = pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while idle.connections.is_empty() && idle.lent >= CONNECTIONS {
            idle = pool.returned.wait(idle).unwrap_or_else(PoisonError::into_inner);
        }
        let ready = idle.connections.pop();
        idle.lent += 1;
        drop(idle);
        // From here on the place comes back however this ends, a panic of the query included.
        let mut place = Place { pool, connection: ready };
        if place.connection.is_none() {
            place.connection = Some(connect(&pool.path)?);
        }
        query(place.connection.as_ref().expect("just opened"))
    }
}

struct Place<'a> {
    pool: &'a Pool,
    connection: Option<Connection>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut idle = self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.lent -= 1;
        idle.connections.extend(self.connection.take());
        drop(idle);
        self.pool.returned.notify_one();
    }
}

fn connect(path: &Path) -> Result<Connection, QueueError> {
    let connection = database::open_to_read(path).map_err(|error| not_opened(path, error))?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

impl JobLedger for SqliteLedger {
    fn counts(&self) -> Result<Counts, QueueError> {
        self.read(|connection| {
            let mut counts = Counts::default();
            let mut statement = connection.prepare_cached("SELECT state, jobs FROM tally")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let jobs = row.get::<_, i64>(1)?.cast_unsigned();
                match row.get::<_, String>(0)?.as_str() {
                    "queued" => counts.queued = jobs,
                    "running" => counts.running = jobs,
                    "done" => counts.done = jobs,
                    "rejected" => counts.rejected = jobs,
                    _ => counts.dead = jobs,
                }
            }
            Ok(counts)
        })
    }

    fn list(&self, filter: &Filter) -> Result<Vec<(Job, Vec<DeliveryRecord>)>, QueueError> {
        self.read(|connection| {
            let account = filter.account.as_ref().map(AccountName::as_str);
            let mut parameters: Vec<&dyn ToSql> = Vec::new();
            parameters.extend(filter.state.as_ref().map(|state| state as &dyn ToSql));
            parameters.extend(account.as_ref().map(|account| account as &dyn ToSql));
            let before = filter.before.map(|id| id.to_string());
            parameters.extend(before.as_ref().map(|id| id as &dyn ToSql));
            let mut statement = connection.prepare_cached(&list_query(filter))?;
            let jobs = statement.query_map(&*parameters, |row| job_from_row(row).map(|(job, _)| job))?;
            jobs.map(|job| with_deliveries(connection, job?)).collect()
        })
    }

    fn show(&self, id: JobId) -> Result<Option<(Job, Vec<DeliveryRecord>)>, QueueError> {
        self.read(|connection| {
            rows::job(connection, &id.to_string())?.map(|(job, _)| with_deliveries(connection, job)).transpose()
        })
    }

    fn newest(&self, account: &AccountName, path: &VirtualPath) -> Result<Option<Job>, QueueError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(&format!(
                "SELECT {JOB_COLUMNS} FROM jobs WHERE account = ?1 AND path = ?2 ORDER BY id DESC LIMIT 1"
            ))?;
            let job = statement.query_row(params![account.as_str(), path.as_str()], job_from_row).optional()?;
            Ok(job.map(|(job, _)| job))
        })
    }

    fn known(&self, account: &AccountName, identity: &FileIdentity) -> Result<Option<JobId>, QueueError> {
        self.read(|connection| rows::known(connection, account, identity))
    }

    fn reading(&self, account: &AccountName, spool: &SpoolKey, recipe: &str) -> Result<Option<(JobId, Vec<u8>)>, QueueError> {
        self.read(|connection| readings::find(connection, account, spool, recipe))
    }

    fn troubled(&self, limit: usize) -> Result<Vec<(Job, DeliveryRecord)>, QueueError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT job, recipient, state, attempts, error FROM deliveries
                 WHERE state IN ('deferred', 'bounced') ORDER BY id DESC LIMIT ?1",
            )?;
            let limit = i64::try_from(limit.min(LONGEST_LIST)).expect("a list is never that long");
            let found = statement
                .query_map([limit], |row| Ok((row.get::<_, String>(0)?, rows::delivery_from_row(row, 1)?)))?
                .collect::<Result<Vec<_>, _>>()?;
            let with_job =
                |(id, delivery): (String, DeliveryRecord)| Ok(rows::job(connection, &id)?.map(|(job, _)| (job, delivery)));
            found.into_iter().filter_map(|found| with_job(found).transpose()).collect()
        })
    }

    fn events(&self, after: u64, account: Option<&AccountName>, limit: usize) -> Result<Vec<JobEvent>, QueueError> {
        self.read(|connection| events::after(connection, after, account, limit))
    }

    fn events_kept(&self) -> Result<(u64, u64), QueueError> {
        self.read(events::kept)
    }

    fn oldest_queued(&self) -> Result<Option<Timestamp>, QueueError> {
        self.read(|connection| {
            // Ids sort by acceptance, so the first queued one was received first.
            let mut statement =
                connection.prepare_cached("SELECT received_at FROM jobs WHERE state = 'queued' ORDER BY id LIMIT 1")?;
            Ok(statement.query_row([], |row| row.get(0)).optional()?.map(Timestamp))
        })
    }
}

/// What [`JobLedger::list`] asks; its parameters are the state, the account and the job before, where the filter has them.
pub(super) fn list_query(filter: &Filter) -> String {
    let mut query = format!("SELECT {JOB_COLUMNS} FROM jobs WHERE 1");
    for (column, _) in [("state", filter.state.is_some()), ("account", filter.account.is_some())].iter().filter(|(_, set)| *set) {
        query.push_str(&format!(" AND {column} = ?"));
    }
    if filter.before.is_some() {
        query.push_str(" AND id < ?");
    }
    query.push_str(&format!(" ORDER BY id DESC LIMIT {}", filter.limit.min(LONGEST_LIST)));
    query
}

fn with_deliveries(connection: &Connection, job: Job) -> Result<(Job, Vec<DeliveryRecord>), QueueError> {
    let deliveries = rows::deliveries(connection, &job.id.to_string())?;
    Ok((job, deliveries))
}
