//! Signed requests that were seen: on disk, so that a restart forgets none, and only for as long as their
//! timestamps let them in again.

use super::sign::WINDOW;
use super::{KeyId, Keys, KeysError};
use crate::units::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};
use subtle::ConstantTimeEq as _;

/// What is known of a request's mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Nothing: it is new.
    Never,
    /// It came before, with this body.
    Before,
    /// It came before, with another body.
    WithAnotherBody,
}

impl Keys {
    /// Uses a nonce up: false if it was used before. `at` is the request's timestamp.
    pub async fn use_nonce(&self, key: &KeyId, nonce: &str, at: Timestamp, now: Timestamp) -> Result<bool, KeysError> {
        let (key, mark) = (key.clone(), format!("v2 {nonce}"));
        self.writer()
            .run(move |connection| {
                forget(connection, now)?;
                let added = connection
                    .prepare_cached(
                        "INSERT INTO signed_requests (key, mark, ends_at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
                    )?
                    .execute(params![key.as_str(), mark, end(at).0])?;
                Ok(added > 0)
            })
            .await
    }

    /// Notes a request of version 1 with its body, or tells what it came with before.
    pub async fn see_v1(
        &self,
        key: &KeyId,
        signature: &str,
        body: [u8; 32],
        at: Timestamp,
        now: Timestamp,
    ) -> Result<Seen, KeysError> {
        let (key, mark) = (key.clone(), format!("v1 {signature}"));
        self.writer()
            .run(move |connection| {
                forget(connection, now)?;
                let before: Option<Vec<u8>> = connection
                    .prepare_cached("SELECT body FROM signed_requests WHERE key = ?1 AND mark = ?2")?
                    .query_row([key.as_str(), &mark], |row| row.get(0))
                    .optional()?;
                if let Some(before) = before {
                    let same = bool::from(before.as_slice().ct_eq(&body));
                    return Ok(if same { Seen::Before } else { Seen::WithAnotherBody });
                }
                connection
                    .prepare_cached("INSERT INTO signed_requests (key, mark, body, ends_at) VALUES (?1, ?2, ?3, ?4)")?
                    .execute(params![key.as_str(), mark, &body[..], end(at).0])?;
                Ok(Seen::Never)
            })
            .await
    }
}

/// A window longer than needed, in case the clock is set back.
fn end(at: Timestamp) -> Timestamp {
    at.after(WINDOW * 2)
}

fn forget(connection: &Connection, now: Timestamp) -> Result<(), KeysError> {
    connection.prepare_cached("DELETE FROM signed_requests WHERE ends_at < ?1")?.execute([now.0])?;
    Ok(())
}
