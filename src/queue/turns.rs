//! Whose job is next. Accounts take turns, so that one with ten thousand queued jobs does not starve another
//! that sends one; within an account the least interrupted and then the longest due comes first.
//!
//! Start-time fair queueing (Goyal, Vin, Cheng 1996) with one job as the unit: every account has the number
//! of its next turn, the lowest with a job due is served and moves on by its step. A turn is never earlier than
//! the one last served, so an account that was silent has saved nothing up. A high priority has a small step:
//! it comes more often, and nobody is ever left out.

use super::rows;
use super::writer::{Answer, Store};
use crate::account::{AccountName, Priority};
use crate::job::JobId;
use crate::units::Timestamp;
use rusqlite::{OptionalExtension, params};

/// Between two turns of an account: high has four for each of normal, normal four for each of low.
fn step(priority: Priority) -> i64 {
    match priority {
        Priority::High => 1,
        Priority::Normal => 4,
        Priority::Low => 16,
    }
}

/// Due jobs of one account that a claim looks at: most wait for an older one of the same path only where a
/// device sends everything under one name, and then their turn comes when that one has ended.
const LOOKED_AT: u32 = 256;

/// By turn; those who have nothing queued are not in the index.
pub(super) const WAITING: &str =
    "SELECT account, turn, step FROM turns INDEXED BY turns_waiting WHERE queued > 0 ORDER BY turn, account";

/// An account's next job among those interrupted so often.
pub(super) const NEXT: &str = "SELECT id FROM (SELECT id, account, path FROM jobs INDEXED BY jobs_line
         WHERE state = 'queued' AND account = ?1 AND interruptions = ?2 AND due <= ?3 ORDER BY due, id LIMIT ?4) AS job
     WHERE NOT EXISTS (SELECT 1 FROM jobs AS older INDEXED BY jobs_unfinished
                       WHERE older.account = job.account AND older.path = job.path AND older.id < job.id
                         AND older.state IN ('queued', 'running'))
     LIMIT 1";

/// How often an account's jobs were interrupted, from less to more.
pub(super) const MORE_INTERRUPTED: &str =
    "SELECT min(interruptions) FROM jobs INDEXED BY jobs_line WHERE state = 'queued' AND account = ?1 AND interruptions > ?2";

/// The job whose turn it is, which its account has then had.
pub(super) fn next(store: &Store, now: Timestamp) -> Answer<Option<JobId>> {
    let connection = store.connection();
    let mut waiting = connection.prepare_cached(WAITING)?;
    let mut accounts = waiting.query([])?;
    while let Some(row) = accounts.next()? {
        let (account, turn, step): (String, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let Some(id) = of_account(store, &account, now)? else { continue };
        let last: i64 =
            connection.prepare_cached("SELECT coalesce(max(served), 0) FROM turns")?.query_row([], |row| row.get(0))?;
        let served = turn.max(last);
        connection.prepare_cached("UPDATE turns SET served = ?2, turn = ?3 WHERE account = ?1")?.execute(params![
            account,
            served,
            served.saturating_add(step)
        ])?;
        return Ok(Some(id));
    }
    Ok(None)
}

fn of_account(store: &Store, account: &str, now: Timestamp) -> Answer<Option<JobId>> {
    let mut interruptions = -1;
    loop {
        let more: Option<i64> =
            store.connection().prepare_cached(MORE_INTERRUPTED)?.query_row(params![account, interruptions], |row| row.get(0))?;
        let Some(more) = more else { return Ok(None) };
        interruptions = more;
        let id = store
            .connection()
            .prepare_cached(NEXT)?
            .query_row(params![account, interruptions, now.0, LOOKED_AT], |row| {
                rows::parsed(0, &row.get::<_, String>(0)?, rows::job_id)
            })
            .optional()?;
        if id.is_some() {
            return Ok(id);
        }
    }
}

/// From its next turn on.
pub(super) fn prioritize(store: &Store, account: &AccountName, priority: Priority) -> Answer<()> {
    store
        .connection()
        .prepare_cached("UPDATE turns SET step = ?2 WHERE account = ?1")?
        .execute(params![account.as_str(), step(priority)])?;
    Ok(())
}
