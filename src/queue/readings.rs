//! Readings that are kept to answer the same bytes from: rows beside the jobs they came of, gone with them.
//! What is in one only `worker` knows.

use super::writer::{Answer, Store};
use super::{QueueError, rows};
use crate::account::AccountName;
use crate::job::{JobId, SpoolKey};
use rusqlite::{Connection, OptionalExtension, params};

/// Keeps a job's reading; one that it has already is replaced.
pub(super) fn keep(store: &mut Store, job: JobId, recipe: &str, reading: &[u8]) -> Answer<()> {
    store
        .connection()
        .prepare_cached(
            "INSERT OR REPLACE INTO readings (job, account, spool, recipe, reading)
             SELECT id, account, spool, ?2, ?3 FROM jobs WHERE id = ?1",
        )?
        .execute(params![job.to_string(), recipe, reading])?;
    Ok(())
}

/// What [`find`] asks.
pub(super) const FIND: &str = "SELECT reading.job, reading.reading FROM readings AS reading
     WHERE account = ?1 AND spool = ?2 AND recipe = ?3
       AND EXISTS (SELECT 1 FROM jobs WHERE id = reading.job AND state = 'done')
     ORDER BY reading.job LIMIT 1";

/// The first reading of these bytes that is kept, and whose job is done.
pub(super) fn find(
    connection: &Connection,
    account: &AccountName,
    spool: &SpoolKey,
    recipe: &str,
) -> Result<Option<(JobId, Vec<u8>)>, QueueError> {
    let mut statement = connection.prepare_cached(FIND)?;
    let found = statement
        .query_row(params![account.as_str(), spool.0, recipe], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?)))
        .optional()?;
    Ok(found.map(|(id, reading)| Ok::<_, rusqlite::Error>((rows::parsed(0, &id, rows::job_id)?, reading))).transpose()?)
}
