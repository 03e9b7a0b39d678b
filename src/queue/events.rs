//! What happened to jobs, as the database's triggers wrote it down: read by those who follow.

use super::rows;
use super::{JobEvent, QueueError};
use crate::account::AccountName;
use crate::units::Timestamp;
use rusqlite::{Connection, Row, ToSql};

pub(super) fn after(
    connection: &Connection,
    after: u64,
    account: Option<&AccountName>,
    limit: usize,
) -> Result<Vec<JobEvent>, QueueError> {
    let (after, limit) = (rows::signed(after), i64::try_from(limit).unwrap_or(i64::MAX));
    let name = account.map(AccountName::as_str);
    let only = if name.is_some() { "AND account = ?3" } else { "" };
    let mut parameters: Vec<&dyn ToSql> = vec![&after, &limit];
    parameters.extend(name.as_ref().map(|name| name as &dyn ToSql));
    let mut statement = connection.prepare_cached(&format!(
        "SELECT number, job, account, state, at FROM job_events WHERE number > ?1 {only} ORDER BY number LIMIT ?2"
    ))?;
    let events = statement.query_map(&*parameters, event)?;
    Ok(events.collect::<Result<_, _>>()?)
}

fn event(row: &Row<'_>) -> rusqlite::Result<JobEvent> {
    Ok(JobEvent {
        number: row.get::<_, i64>(0)?.cast_unsigned(),
        job: rows::parsed(1, &row.get::<_, String>(1)?, rows::job_id)?,
        account: rows::parsed(2, &row.get::<_, String>(2)?, |name| name.parse().ok())?,
        state: row.get(3)?,
        at: Timestamp(row.get(4)?),
    })
}

pub(super) fn kept(connection: &Connection) -> Result<(u64, u64), QueueError> {
    let number = |sql: &str| -> rusqlite::Result<u64> {
        let found: Option<i64> = connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
        Ok(found.unwrap_or(0).cast_unsigned())
    };
    Ok((number("SELECT min(number) FROM job_events")?, number("SELECT max(number) FROM job_events")?))
}
