//! Keys in the daemon's database. The command line writes here while the daemon reads; every verb of it is
//! one short transaction. What the daemon itself writes (when a key was used, what was seen, pages) goes
//! through the writer thread.

use super::quota::{self, Quota};
use super::seal::{MasterKey, MasterKeySource};
use super::writer::Writer;
use super::{Key, KeyId, KeysError, Kind, Scopes, Secret};
use crate::account::AccountName;
use crate::database;
use crate::units::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use subtle::ConstantTimeEq;

/// How old the noted time of a key's last use may be before it is noted anew.
const NOTED_FOR: Duration = Duration::from_secs(60);
/// Keys whose last use is remembered; beyond, all are noted anew.
const REMEMBERED: usize = 4096;
const FINDER: usize = 8;

/// A key that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKey {
    pub account: AccountName,
    pub kind: Kind,
    pub label: String,
    pub scopes: Scopes,
    pub expires_at: Option<Timestamp>,
}

/// What an id leads to, for a signature to be checked against.
pub struct Found {
    /// A signing key that lets in; `None` for every other cause.
    pub key: Option<Key>,
    /// The secrets that hold, never none: what is nobody's costs the same time.
    pub secrets: Vec<Vec<u8>>,
}

/// All keys; clones share them.
#[derive(Debug, Clone)]
pub struct Keys {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    connection: Arc<Mutex<Connection>>,
    writer: Arc<Writer>,
    source: MasterKeySource,
    master: OnceLock<MasterKey>,
    /// Of nobody: what an unknown id is checked against.
    dummy: (MasterKey, KeyId, Vec<u8>),
    noted: Mutex<HashMap<KeyId, Timestamp>>,
}

const COLUMNS: &str = "keys.id, keys.account, keys.kind, keys.label, keys.scopes, keys.created_at, keys.expires_at, \
    keys.revoked_at, keys.last_used_at, (SELECT max(ends_at) FROM key_secrets WHERE key = keys.id)";

impl Keys {
    /// The keys in the database at `path`. Blocking.
    pub fn open(path: &Path, source: MasterKeySource) -> Result<Self, KeysError> {
        let open = || database::open(path).map_err(|error| KeysError::opened(path, error));
        let (connection, writing) = (open()?, open()?);
        let broken = |error: std::io::Error| KeysError::Broken { path: path.to_owned(), detail: error.to_string() };
        let writer = Writer::start(writing).map_err(broken)?;
        let mut random = [0; 32];
        getrandom::fill(&mut random).expect("the system gives random bytes");
        let (master, id) = (MasterKey::new(&random), KeyId::generate(Timestamp(0)));
        let sealed = master.seal(&id, 1, Secret::generate().reveal().as_bytes());
        Ok(Keys {
            inner: Arc::new(Inner {
                path: path.to_owned(),
                connection: Arc::new(Mutex::new(connection)),
                writer,
                source,
                master: OnceLock::new(),
                dummy: (master, id, sealed),
                noted: Mutex::default(),
            }),
        })
    }

    /// Before the doors open: pages charged to jobs that never came are given back, and signing keys that this
    /// daemon could not check are an error. Only for the process that holds the queue. Blocking.
    pub fn start(&self, now: Timestamp) -> Result<(), KeysError> {
        let mut connection = self.connection();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let returned = quota::return_orphans(&transaction)?;
        if returned > 0 {
            tracing::info!(
                pages.returned = returned,
                "pages were given back that were charged to uploads which never became jobs"
            );
        }
        let recorded = recorded(&transaction)?;
        let sealed: i64 = transaction.query_row(
            "SELECT count(*) FROM keys WHERE kind = 'hmac' AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?1)",
            [now.0],
            |row| row.get(0),
        )?;
        let named = matches!(self.inner.source, MasterKeySource::File(_));
        if named || sealed > 0 {
            if sealed > 0
                && let MasterKeySource::Made(path) = &self.inner.source
                && !path.exists()
            {
                let detail = format!("it is gone, and {sealed} signing keys need it: {REMEDY}");
                return Err(KeysError::Master { path: path.clone(), detail });
            }
            let ours = self.master()?.fingerprint();
            if recorded.as_deref().is_some_and(|recorded| recorded != ours) && sealed > 0 {
                return Err(KeysError::OtherMaster(format!(
                    "{sealed} signing keys are sealed under another master key: {REMEDY}"
                )));
            }
            record(&transaction, ours)?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// Makes a key; its secret is told this once. Blocking.
    pub fn add(&self, new: &NewKey, now: Timestamp) -> Result<(Key, Secret), KeysError> {
        let id = KeyId::generate(now);
        let secret = Secret::generate();
        let mut connection = self.connection();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute(
            "INSERT INTO keys (id, account, kind, label, scopes, created_at, expires_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                id.as_str(),
                new.account.as_str(),
                new.kind.name(),
                new.label,
                new.scopes.to_string(),
                now.0,
                new.expires_at.map(|at| at.0)
            ],
        )?;
        self.keep_secret(&transaction, &id, new.kind, 1, &secret)?;
        let key = one(&transaction, &id)?.ok_or_else(|| KeysError::Missing(id))?;
        transaction.commit()?;
        Ok((key, secret))
    }

    /// All of them, or one account's; in the order in which they were made. Blocking.
    pub fn list(&self, account: Option<&AccountName>) -> Result<Vec<Key>, KeysError> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM keys WHERE ?1 IS NULL OR account = ?1 ORDER BY keys.created_at, keys.id"
        ))?;
        let keys = statement.query_map([account.map(AccountName::as_str)], key_from_row)?.collect::<Result<Vec<_>, _>>()?;
        Ok(keys)
    }

    /// One of them. Blocking.
    pub fn find(&self, id: &KeyId) -> Result<Option<Key>, KeysError> {
        one(&self.connection(), id)
    }

    /// A new secret; the ones before hold for `grace` longer, at most. Blocking.
    pub fn rotate(&self, id: &KeyId, grace: Duration, now: Timestamp) -> Result<(Key, Secret), KeysError> {
        let secret = Secret::generate();
        let mut connection = self.connection();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let key = one(&transaction, id)?.ok_or_else(|| KeysError::Missing(id.clone()))?;
        if !key.is_good(now) {
            return Err(KeysError::Ended { id: id.clone(), state: key.state(now) });
        }
        let ends = now.after(grace).0;
        transaction.execute("DELETE FROM key_secrets WHERE key = ?1 AND ends_at <= ?2", params![id.as_str(), now.0])?;
        transaction.execute(
            "UPDATE key_secrets SET ends_at = min(coalesce(ends_at, ?2), ?2) WHERE key = ?1",
            params![id.as_str(), ends],
        )?;
        let generation: i64 = transaction.query_row(
            "SELECT coalesce(max(generation), 0) + 1 FROM key_secrets WHERE key = ?1",
            [id.as_str()],
            |row| row.get(0),
        )?;
        self.keep_secret(&transaction, id, key.kind, generation, &secret)?;
        let key = one(&transaction, id)?.ok_or_else(|| KeysError::Missing(id.clone()))?;
        transaction.commit()?;
        Ok((key, secret))
    }

    /// Lets nobody in with it any more, from the next request on. Again: no error. Blocking.
    pub fn revoke(&self, id: &KeyId, now: Timestamp) -> Result<Key, KeysError> {
        let connection = self.connection();
        connection
            .execute("UPDATE keys SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL", params![id.as_str(), now.0])?;
        one(&connection, id)?.ok_or_else(|| KeysError::Missing(id.clone()))
    }

    /// The key that has this secret and lets in; `None` for every other cause. Blocking, two look-ups.
    pub fn by_secret(&self, text: &str, now: Timestamp) -> Result<Option<Key>, KeysError> {
        let Some(secret) = Secret::parse(text) else { return Ok(None) };
        let hash = secret.hash();
        let connection = self.connection();
        let mut statement = connection.prepare_cached(&format!(
            "SELECT {COLUMNS}, key_secrets.hash, key_secrets.ends_at FROM key_secrets JOIN keys ON keys.id = key_secrets.key
             WHERE key_secrets.finder = ?1"
        ))?;
        let found = statement
            .query_map([&hash[..FINDER]], |row| {
                Ok((key_from_row(row)?, row.get::<_, Vec<u8>>(10)?, row.get::<_, Option<i64>>(11)?))
            })?
            .collect::<Result<Vec<_>, _>>()?;
        let holds = |(key, kept, ends): &(Key, Vec<u8>, Option<i64>)| {
            bool::from(kept.as_slice().ct_eq(&hash)) && ends.is_none_or(|ends| ends > now.0) && key.is_good(now)
        };
        Ok(found.into_iter().find(holds).map(|(key, ..)| key))
    }

    /// The signing key of this id, and what to check a signature against. Blocking.
    pub fn signing(&self, id: &str, now: Timestamp) -> Result<Found, KeysError> {
        let connection = self.connection();
        let id: Option<KeyId> = id.parse().ok();
        let asked = id.as_ref().map_or("", KeyId::as_str);
        let key = connection
            .prepare_cached(&format!("SELECT {COLUMNS} FROM keys WHERE id = ?1 AND kind = 'hmac'"))?
            .query_row([asked], key_from_row)
            .optional()?
            .filter(|key| key.is_good(now));
        let rows = connection
            .prepare_cached(
                "SELECT generation, sealed FROM key_secrets WHERE key = ?1 AND sealed IS NOT NULL AND (ends_at IS NULL OR ends_at > ?2)
                 ORDER BY generation DESC",
            )?
            .query_map(params![asked, now.0], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?)))?
            .collect::<Result<Vec<_>, _>>()?;
        drop(connection);
        let mut secrets = Vec::with_capacity(rows.len().max(1));
        if let Some(key) = &key {
            let master = self.master()?;
            for (generation, sealed) in &rows {
                let opened = master.open_sealed(&key.id, *generation, sealed);
                secrets.push(opened.ok_or_else(|| {
                    KeysError::OtherMaster(format!("the secret of {} is sealed under another master key: {REMEDY}", key.id))
                })?);
            }
        }
        if secrets.is_empty() {
            let (master, id, sealed) = &self.inner.dummy;
            secrets.extend(master.open_sealed(id, 1, sealed));
        }
        Ok(Found { key, secrets })
    }

    /// Notes that a key was used: at once in memory, once a minute on disk.
    pub fn note_use(&self, id: &KeyId, now: Timestamp) {
        {
            let mut noted = self.inner.noted.lock().unwrap_or_else(PoisonError::into_inner);
            if noted.get(id).is_some_and(|at| *at <= now && now.since(*at) < NOTED_FOR) {
                return;
            }
            if noted.len() >= REMEMBERED {
                noted.clear();
            }
            noted.insert(id.clone(), now);
        }
        let key = id.clone();
        let sent = self.inner.writer.run_some_time(move |connection| {
            Ok(connection
                .prepare_cached("UPDATE keys SET last_used_at = ?2 WHERE id = ?1 AND coalesce(last_used_at, 0) < ?2")?
                .execute(params![key.as_str(), now.0])?)
        });
        if !sent {
            self.inner.noted.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        }
    }

    /// Pages charged to accounts.
    #[must_use]
    pub fn quota(&self) -> Quota {
        Quota::new(Arc::clone(&self.inner.writer), Arc::clone(&self.inner.connection))
    }

    pub(super) fn writer(&self) -> &Writer {
        &self.inner.writer
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.inner.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn master(&self) -> Result<&MasterKey, KeysError> {
        if let Some(master) = self.inner.master.get() {
            return Ok(master);
        }
        let master = MasterKey::open(&self.inner.source)?;
        Ok(self.inner.master.get_or_init(|| master))
    }

    fn keep_secret(
        &self,
        transaction: &Connection,
        id: &KeyId,
        kind: Kind,
        generation: i64,
        secret: &Secret,
    ) -> Result<(), KeysError> {
        match kind {
            Kind::Bearer => {
                let hash = secret.hash();
                transaction.execute(
                    "INSERT INTO key_secrets (key, generation, finder, hash) VALUES (?1, ?2, ?3, ?4)",
                    params![id.as_str(), generation, &hash[..FINDER], &hash[..]],
                )?;
            }
            Kind::Hmac => {
                let master = self.sealing_master(transaction)?;
                transaction.execute(
                    "INSERT INTO key_secrets (key, generation, master, sealed) VALUES (?1, ?2, ?3, ?4)",
                    params![
                        id.as_str(),
                        generation,
                        &master.fingerprint()[..],
                        master.seal(id, generation, secret.reveal().as_bytes())
                    ],
                )?;
            }
        }
        Ok(())
    }

    /// The master key, if it is the daemon's too.
    fn sealing_master(&self, transaction: &Connection) -> Result<&MasterKey, KeysError> {
        const OTHERS: &str = "the daemon has another master key than this configuration names, so it could not read what is sealed here: \
            run this with the daemon's http.master-key-file, or with its credential";
        let recorded = recorded(transaction)?;
        if recorded.is_some()
            && let MasterKeySource::Made(path) = &self.inner.source
            && !path.exists()
        {
            return Err(KeysError::OtherMaster(OTHERS.to_owned()));
        }
        let master = self.master()?;
        if recorded.is_some_and(|recorded| recorded != master.fingerprint()) {
            return Err(KeysError::OtherMaster(OTHERS.to_owned()));
        }
        record(transaction, master.fingerprint())?;
        Ok(master)
    }

    /// Where they are kept.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.path
    }
}

const REMEDY: &str = "bring the old one back, or revoke them with `inkport key revoke` and make others";

fn recorded(connection: &Connection) -> rusqlite::Result<Option<Vec<u8>>> {
    connection.query_row("SELECT fingerprint FROM master_key", [], |row| row.get(0)).optional()
}

fn record(connection: &Connection, fingerprint: &[u8]) -> rusqlite::Result<()> {
    connection
        .execute(
            "INSERT INTO master_key (one, fingerprint) VALUES (1, ?1) ON CONFLICT (one) DO UPDATE SET fingerprint = ?1
             WHERE fingerprint <> ?1",
            [fingerprint],
        )
        .map(drop)
}

fn one(connection: &Connection, id: &KeyId) -> Result<Option<Key>, KeysError> {
    let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM keys WHERE id = ?1"))?;
    Ok(statement.query_row([id.as_str()], key_from_row).optional()?)
}

fn key_from_row(row: &Row<'_>) -> rusqlite::Result<Key> {
    fn parsed<T: std::str::FromStr>(row: &Row<'_>, at: usize) -> rusqlite::Result<T>
    where
        T::Err: std::error::Error + Send + Sync + 'static,
    {
        row.get::<_, String>(at)?
            .parse()
            .map_err(|error: T::Err| rusqlite::Error::FromSqlConversionFailure(at, rusqlite::types::Type::Text, error.into()))
    }
    let time = |at: usize| row.get::<_, Option<i64>>(at).map(|at| at.map(Timestamp));
    Ok(Key {
        id: parsed(row, 0)?,
        account: parsed(row, 1)?,
        kind: parsed(row, 2)?,
        label: row.get(3)?,
        scopes: parsed(row, 4)?,
        created_at: Timestamp(row.get(5)?),
        expires_at: time(6)?,
        revoked_at: time(7)?,
        last_used_at: time(8)?,
        grace_until: time(9)?,
    })
}
