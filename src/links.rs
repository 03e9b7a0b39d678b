//! Signed links: who holds one may fetch one sidecar of one job, until it expires or is revoked.
//!
//! A link's token says all of it, signed (HMAC-SHA256) with a secret that lies in the daemon's database; only what
//! is revoked is written down, and only until it would have expired. Every check looks there, so a revocation holds
//! at the next request. A token is `base64url(payload).base64url(signature)`; the payload is a version, a job, an
//! expiry, a random mark and the sidecar's suffix.

use crate::database::{self, DatabaseError};
use crate::job::JobId;
use crate::units::Timestamp;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use rusqlite::{Connection, OptionalExtension, params};
use sha2::Sha256;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

const VERSION: u8 = 1;
/// version, job, expiry, mark
const FIXED: usize = 1 + 16 + 8 + 8;
const LONGEST_SUFFIX: usize = 32;
/// Of a token in text.
const LONGEST: usize = 160;

/// Why links cannot be made or checked: the database does not answer.
#[derive(Debug, thiserror::Error)]
pub enum LinksError {
    #[error("the database of links does not answer: {0}")]
    Database(#[from] DatabaseError),
    #[error("\"{0}\" is no link: give a link as it was sent, its token, or a job's id")]
    NoLink(String),
}

impl From<rusqlite::Error> for LinksError {
    fn from(error: rusqlite::Error) -> Self {
        LinksError::Database(error.into())
    }
}

/// What a good link is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub job: JobId,
    /// Without the dot: `txt`, `error.json`.
    pub suffix: String,
    pub expires_at: Timestamp,
    mark: [u8; 8],
}

impl Grant {
    /// What a revocation of this link is written down under.
    fn name(&self) -> String {
        self.mark.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Why a link is not good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// None of ours, or cut short.
    Wrong,
    Expired,
    Revoked,
}

/// Makes and checks links; clones share a connection. Blocking.
#[derive(Clone)]
pub struct Links {
    connection: Arc<Mutex<Connection>>,
}

impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Links").finish_non_exhaustive()
    }
}

impl Links {
    /// Opens the links of the database at `path`, with a new secret where it has none yet.
    pub fn open(path: &Path) -> Result<Self, LinksError> {
        let connection = database::open(path)?;
        let secret = fresh::<32>();
        connection.execute("INSERT INTO link_secret (one, secret) VALUES (1, ?1) ON CONFLICT DO NOTHING", [&secret[..]])?;
        Ok(Links { connection: Arc::new(Mutex::new(connection)) })
    }

    /// A token for a job's sidecar (suffix without the dot).
    pub fn mint(&self, job: JobId, suffix: &str, expires_at: Timestamp) -> Result<String, LinksError> {
        let secret = self.secret()?;
        Ok(write(&secret, &Grant { job, suffix: suffix.to_owned(), expires_at, mark: fresh() }))
    }

    /// Tokens for several sidecars of a job.
    pub fn mint_all(&self, job: JobId, suffixes: &[&str], expires_at: Timestamp) -> Result<Vec<String>, LinksError> {
        let secret = self.secret()?;
        let token = |suffix: &&str| write(&secret, &Grant { job, suffix: (*suffix).to_owned(), expires_at, mark: fresh() });
        Ok(suffixes.iter().map(token).collect())
    }

    /// What the token is for, or why it is for nothing.
    pub fn check(&self, token: &str, now: Timestamp) -> Result<Result<Grant, Refused>, LinksError> {
        let Some(grant) = read(&self.secret()?, token) else { return Ok(Err(Refused::Wrong)) };
        if now >= grant.expires_at {
            return Ok(Err(Refused::Expired));
        }
        let revoked = self.with(|connection| {
            let mut statement = connection.prepare_cached("SELECT 1 FROM links_revoked WHERE link IN (?1, ?2)")?;
            statement.exists(params![grant.name(), grant.job.to_string()])
        })?;
        Ok(if revoked { Err(Refused::Revoked) } else { Ok(grant) })
    }

    /// Ends a link: its token, an address that ends with it, or a job's id for all links of that job that were made
    /// until now or will be. Answers what it was.
    pub fn revoke(&self, what: &str, now: Timestamp) -> Result<String, LinksError> {
        let (name, expires_at) = match ulid::Ulid::from_string(what) {
            Ok(job) => (job.to_string(), Timestamp(i64::MAX)),
            Err(_) => {
                let token = what.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
                let grant =
                    read(&self.secret()?, token).ok_or_else(|| LinksError::NoLink(what.chars().take(LONGEST).collect()))?;
                (grant.name(), grant.expires_at)
            }
        };
        self.with(|connection| {
            connection.execute("DELETE FROM links_revoked WHERE expires_at <= ?1", [now.0])?;
            connection.execute(
                "INSERT INTO links_revoked (link, revoked_at, expires_at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
                params![name, now.0, expires_at.0],
            )
        })?;
        Ok(name)
    }

    /// Ends every link there is: they are signed with another secret from now on.
    pub fn revoke_all(&self) -> Result<(), LinksError> {
        self.with(|connection| {
            connection.execute("UPDATE link_secret SET secret = ?1", [&fresh::<32>()[..]])?;
            connection.execute("DELETE FROM links_revoked", [])
        })?;
        Ok(())
    }

    fn secret(&self) -> Result<Vec<u8>, LinksError> {
        self.with(|connection| {
            let mut statement = connection.prepare_cached("SELECT secret FROM link_secret")?;
            Ok(statement.query_row([], |row| row.get(0)).optional()?.unwrap_or_default())
        })
    }

    fn with<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, LinksError> {
        Ok(work(&self.connection.lock().unwrap_or_else(PoisonError::into_inner))?)
    }
}

fn fresh<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system gives random bytes");
    bytes
}

fn signing(secret: &[u8], payload: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("a key of any length will do");
    mac.update(b"inkport/link/1\0");
    mac.update(payload);
    mac
}

fn write(secret: &[u8], grant: &Grant) -> String {
    let mut payload = Vec::with_capacity(FIXED + LONGEST_SUFFIX);
    payload.push(VERSION);
    payload.extend(grant.job.0.to_bytes());
    payload.extend(grant.expires_at.0.to_be_bytes());
    payload.extend(grant.mark);
    payload.extend(grant.suffix.as_bytes());
    let signature = signing(secret, &payload).finalize().into_bytes();
    format!("{}.{}", URL_SAFE_NO_PAD.encode(&payload), URL_SAFE_NO_PAD.encode(signature))
}

fn read(secret: &[u8], token: &str) -> Option<Grant> {
    if secret.is_empty() || token.len() > LONGEST {
        return None;
    }
    let (payload, signature) = token.split_once('.')?;
    let (payload, signature) = (URL_SAFE_NO_PAD.decode(payload).ok()?, URL_SAFE_NO_PAD.decode(signature).ok()?);
    // In constant time.
    signing(secret, &payload).verify_slice(&signature).ok()?;
    let (fixed, suffix) = payload.split_at_checked(FIXED)?;
    if fixed[0] != VERSION {
        return None;
    }
    Some(Grant {
        job: JobId(ulid::Ulid::from_bytes(fixed[1..17].try_into().ok()?)),
        expires_at: Timestamp(i64::from_be_bytes(fixed[17..25].try_into().ok()?)),
        mark: fixed[25..33].try_into().ok()?,
        suffix: String::from_utf8(suffix.to_vec()).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Timestamp = Timestamp(1_000);
    const LATER: Timestamp = Timestamp(2_000);

    fn links() -> (tempfile::TempDir, Links) {
        let folder = tempfile::tempdir().unwrap();
        let links = Links::open(&folder.path().join("inkport.db")).unwrap();
        (folder, links)
    }

    #[test]
    fn a_link_is_good_until_it_expires_and_nowhere_else() {
        let (folder, links) = links();
        let job = JobId(ulid::Ulid::from_parts(7, 7));
        let token = links.mint(job, "error.json", LATER).unwrap();
        // Another process, or the next run, knows it too.
        let again = Links::open(&folder.path().join("inkport.db")).unwrap();
        let grant = again.check(&token, SOON).unwrap().unwrap();
        assert_eq!((grant.job, grant.suffix.as_str(), grant.expires_at), (job, "error.json", LATER));
        assert_eq!(links.check(&token, LATER).unwrap(), Err(Refused::Expired));
        let elsewhere = self::links();
        assert_eq!(elsewhere.1.check(&token, SOON).unwrap(), Err(Refused::Wrong));
    }

    #[test]
    fn no_change_of_a_token_is_taken() {
        let (_folder, links) = links();
        let token = links.mint(JobId(ulid::Ulid::from_parts(7, 7)), "txt", LATER).unwrap();
        for at in 0..token.len() {
            for other in ["A", "B", "-", ".", ""] {
                let changed = format!("{}{other}{}", &token[..at], &token[at + 1..]);
                if changed != token {
                    assert_eq!(links.check(&changed, SOON).unwrap(), Err(Refused::Wrong), "{changed}");
                }
            }
        }
        for bad in ["", ".", "a.b", &"x".repeat(5000), &format!("{token}=")] {
            assert_eq!(links.check(bad, SOON).unwrap(), Err(Refused::Wrong));
        }
    }

    #[test]
    fn a_link_a_job_or_all_can_be_revoked() {
        let (folder, links) = links();
        let (one, two) = (JobId(ulid::Ulid::from_parts(7, 7)), JobId(ulid::Ulid::from_parts(8, 8)));
        let tokens: Vec<String> = [one, one, two].into_iter().map(|job| links.mint(job, "txt", LATER).unwrap()).collect();
        let good = || tokens.iter().map(|token| links.check(token, SOON).unwrap().is_ok()).collect::<Vec<_>>();
        assert_eq!(good(), [true, true, true]);
        let operator = Links::open(&folder.path().join("inkport.db")).unwrap();
        operator.revoke(&format!("http://x:1/d/{}", tokens[0]), SOON).unwrap();
        assert_eq!(good(), [false, true, true]);
        assert_eq!(links.check(&tokens[0], SOON).unwrap(), Err(Refused::Revoked));
        operator.revoke(&one.to_string(), SOON).unwrap();
        assert_eq!(good(), [false, false, true]);
        assert!(matches!(operator.revoke("http://x/d/none", SOON), Err(LinksError::NoLink(_))));
        operator.revoke_all().unwrap();
        assert_eq!(good(), [false, false, false]);
    }
}
