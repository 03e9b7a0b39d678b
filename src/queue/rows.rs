//! How jobs and deliveries are written in SQLite's columns, and read back. Used by the writing and the
//! reading side alike; decides nothing.

use super::{DeliveryRecord, QueueError};
use crate::account::{AccountName, VirtualPath};
use crate::job::delivery::DeliveryState;
use crate::job::state::{Standing, State};
use crate::job::{Door, FileIdentity, Job, JobId, SpoolKey};
use crate::units::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};

/// Sentences are kept up to this many bytes.
const LONGEST_SENTENCE: usize = 2000;

/// What [`job_from_row`] reads, in its order.
pub(super) const JOB_COLUMNS: &str = "id, account, path, spool, bytes, door, received_at, state, due, token, lease_until, cause,
    attempt, interruptions, claims, finished_at, error, email";

/// SQLite's integers are signed; the bits are kept.
pub(super) fn signed(number: u64) -> i64 {
    number.cast_signed()
}

/// Fits until the year 2262; a file that claims to be from later is told apart by its other numbers.
pub(super) fn nanoseconds(time: i128) -> i64 {
    i64::try_from(time).unwrap_or(if time < 0 { i64::MIN } else { i64::MAX })
}

/// A sentence that is not longer than is kept.
pub(super) fn cut(mut sentence: String) -> String {
    if sentence.len() > LONGEST_SENTENCE {
        let mut end = LONGEST_SENTENCE - '…'.len_utf8();
        while !sentence.is_char_boundary(end) {
            end -= 1;
        }
        sentence.truncate(end);
        sentence.push('…');
    }
    sentence
}

pub(super) fn door_name(door: Door) -> &'static str {
    match door {
        Door::Ftp => "ftp",
        Door::Watch => "watch",
        Door::Http => "http",
    }
}

fn door(name: &str) -> Option<Door> {
    [Door::Ftp, Door::Watch, Door::Http].into_iter().find(|door| door_name(*door) == name)
}

pub(super) fn job_id(text: &str) -> Option<JobId> {
    ulid::Ulid::from_string(text).ok().map(JobId)
}

/// A column's text as what it means, or an error that names the column.
pub(super) fn parsed<T>(column: usize, text: &str, parse: impl FnOnce(&str) -> Option<T>) -> rusqlite::Result<T> {
    parse(text)
        .ok_or_else(|| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, format!("unexpected \"{text}\"").into()))
}

/// A job from the columns of [`JOB_COLUMNS`].
pub(super) fn job_from_row(row: &Row<'_>) -> rusqlite::Result<(Job, Standing)> {
    let text = |column: usize| row.get::<_, String>(column);
    let state = match text(7)?.as_str() {
        "queued" => State::Queued { due: Timestamp(row.get(8)?) },
        "running" => State::Running { token: row.get::<_, i64>(9)?.cast_unsigned(), lease_until: Timestamp(row.get(10)?) },
        "done" => State::Done,
        "rejected" => State::Rejected { code: text(11)? },
        "dead" => State::Dead { reason: text(11)? },
        other => return parsed(7, other, |_| None),
    };
    let attempt = row.get(12)?;
    let job = Job {
        id: parsed(0, &text(0)?, job_id)?,
        account: parsed(1, &text(1)?, |name| name.parse().ok())?,
        path: parsed(2, &text(2)?, |path| VirtualPath::new(path).ok())?,
        spool: SpoolKey(row.get(3)?),
        bytes: row.get::<_, i64>(4)?.cast_unsigned(),
        door: parsed(5, &text(5)?, door)?,
        received_at: Timestamp(row.get(6)?),
        state: state.clone(),
        attempt,
        finished_at: row.get::<_, Option<i64>>(15)?.map(Timestamp),
        error: row.get(16)?,
        email: row.get(17)?,
    };
    Ok((job, Standing { state, attempt, interruptions: row.get(13)?, claims: row.get::<_, i64>(14)?.cast_unsigned() }))
}

pub(super) fn job(connection: &Connection, id: &str) -> Result<Option<(Job, Standing)>, QueueError> {
    let mut statement = connection.prepare_cached(&format!("SELECT {JOB_COLUMNS} FROM jobs WHERE id = ?1"))?;
    Ok(statement.query_row([id], job_from_row).optional()?)
}

/// The newest job of this account for a file of this identity.
pub(super) fn known(
    connection: &Connection,
    account: &AccountName,
    identity: &FileIdentity,
) -> Result<Option<JobId>, QueueError> {
    let mut statement = connection.prepare_cached(
        "SELECT max(id) FROM jobs WHERE account = ?1 AND inode = ?2 AND ?3 IN (modified_ns, was_modified_ns) AND file_bytes = ?4",
    )?;
    let id: Option<String> = statement.query_row(
        params![account.as_str(), signed(identity.inode), nanoseconds(identity.modified_ns), signed(identity.bytes)],
        |row| row.get(0),
    )?;
    Ok(id.map(|id| parsed(0, &id, job_id)).transpose()?)
}

/// A job's deliveries, oldest first.
pub(super) fn deliveries(connection: &Connection, job: &str) -> Result<Vec<DeliveryRecord>, QueueError> {
    let mut statement =
        connection.prepare_cached("SELECT recipient, state, attempts, error FROM deliveries WHERE job = ?1 ORDER BY id")?;
    let records = statement.query_map([job], |row| delivery_from_row(row, 0))?;
    Ok(records.collect::<Result<_, _>>()?)
}

/// A delivery from the columns recipient, state, attempts, error, which begin at `first`.
pub(super) fn delivery_from_row(row: &Row<'_>, first: usize) -> rusqlite::Result<DeliveryRecord> {
    Ok(DeliveryRecord {
        to: row.get(first)?,
        state: parsed(first + 1, &row.get::<_, String>(first + 1)?, DeliveryState::from_name)?,
        attempts: row.get(first + 2)?,
        error: row.get(first + 3)?,
    })
}

/// `[["scan.jpg.txt", "<sha256 in hex>"], …]`.
pub(super) fn attachments_to_json(attachments: &[(String, SpoolKey)]) -> String {
    let pairs: Vec<(&str, String)> = attachments.iter().map(|(name, key)| (name.as_str(), key.to_string())).collect();
    serde_json::to_string(&pairs).expect("strings are JSON")
}

pub(super) fn attachments_from_json(text: &str) -> Option<Vec<(String, SpoolKey)>> {
    let pairs: Vec<(String, String)> = serde_json::from_str(text).ok()?;
    pairs.into_iter().map(|(name, key)| Some((name, SpoolKey::from_hex(&key)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attachments_survive_the_database() {
        let attachments = vec![("räkning \"1\".txt".to_owned(), SpoolKey([0xa5; 32])), ("b.json".to_owned(), SpoolKey([0; 32]))];
        assert_eq!(attachments_from_json(&attachments_to_json(&attachments)), Some(attachments));
        assert_eq!(attachments_from_json(r#"[["a", "zz"]]"#), None);
    }

    #[test]
    fn long_sentences_are_cut_between_characters() {
        assert_eq!(cut("short".to_owned()), "short");
        let long = cut("é".repeat(5000));
        assert!(long.len() <= LONGEST_SENTENCE && long.len() > LONGEST_SENTENCE - 5 && long.ends_with('…'));
    }

    #[test]
    fn identities_keep_their_bits() {
        assert_eq!(signed(u64::MAX).cast_unsigned(), u64::MAX);
        assert_eq!((nanoseconds(i128::MAX), nanoseconds(-5)), (i64::MAX, -5));
    }
}
