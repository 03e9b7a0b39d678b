//! Keys of the HTTP side, and what they may cost: kept in the daemon's database.
//!
//! Owns: secrets (how they look, how they are kept), who they belong to and until when, the signatures
//! that requests carry and which of them were seen before, the rates of requests, and the pages charged to
//! an account in a day. Every request looks its key up anew, so that a revocation holds at the next one.
//! Knows nothing of HTTP but the names that a signature covers: the doors call it.

use crate::account::AccountName;
use crate::database::DatabaseError;
use crate::units::Timestamp;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::{fmt, str::FromStr};

mod quota;
pub mod rates;
mod seal;
mod secret;
mod seen;
pub mod sign;
mod store;
mod writer;

#[cfg(test)]
#[path = "tests.rs"]
mod in_the_database;
#[cfg(test)]
mod vectors;

pub use quota::{Day, Quota, QuotaError, Reservation, Usage};
pub use seal::{MasterKey, MasterKeySource};
pub use secret::Secret;
pub use seen::Seen;
pub use store::{Found, Keys, NewKey};

/// `key_` and a ULID.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct KeyId(String);

impl KeyId {
    const PREFIX: &str = "key_";

    fn generate(now: Timestamp) -> Self {
        let mut random = [0; 16];
        getrandom::fill(&mut random).expect("the system gives random bytes");
        let ulid = ulid::Ulid::from_parts(u64::try_from(now.0).unwrap_or(0), u128::from_le_bytes(random));
        KeyId(format!("{}{ulid}", Self::PREFIX))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyId {
    type Err = KeysError;

    fn from_str(text: &str) -> Result<Self, KeysError> {
        let ulid = text.strip_prefix(Self::PREFIX).and_then(|rest| ulid::Ulid::from_string(rest).ok());
        match ulid {
            // One spelling for each: letters of either case are the same to a ULID.
            Some(ulid) if format!("{}{ulid}", Self::PREFIX) == text => Ok(KeyId(text.to_owned())),
            _ => Err(KeysError::NoId(text.chars().take(64).collect())),
        }
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a key shows itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Its secret goes with every request.
    Bearer,
    /// Its secret signs every request and never travels.
    Hmac,
}

impl Kind {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Bearer => "bearer",
            Kind::Hmac => "hmac",
        }
    }
}

impl FromStr for Kind {
    type Err = KeysError;

    fn from_str(text: &str) -> Result<Self, KeysError> {
        match text {
            "bearer" => Ok(Kind::Bearer),
            "hmac" => Ok(Kind::Hmac),
            _ => Err(KeysError::NoKind(text.to_owned())),
        }
    }
}

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// See and fetch its account's jobs.
    Read,
    /// Hand in documents.
    Write,
    /// Everything, where its account has role admin.
    Admin,
}

impl Scope {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Write => "write",
            Scope::Admin => "admin",
        }
    }
}

impl FromStr for Scope {
    type Err = KeysError;

    fn from_str(text: &str) -> Result<Self, KeysError> {
        match text {
            "read" => Ok(Scope::Read),
            "write" => Ok(Scope::Write),
            "admin" => Ok(Scope::Admin),
            _ => Err(KeysError::NoScope(text.to_owned())),
        }
    }
}

/// A set of [`Scope`]s; in text joined by commas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Scopes(Vec<Scope>);

impl Scopes {
    /// Each once, in order; read and write where none is given.
    #[must_use]
    pub fn of(scopes: &[Scope]) -> Self {
        let mut scopes = if scopes.is_empty() { vec![Scope::Read, Scope::Write] } else { scopes.to_vec() };
        scopes.sort_unstable();
        scopes.dedup();
        Scopes(scopes)
    }

    /// Whether this is among them, or all are meant.
    #[must_use]
    pub fn allow(&self, scope: Scope) -> bool {
        self.0.contains(&scope) || self.0.contains(&Scope::Admin)
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.iter().map(|scope| scope.name()).collect();
        f.write_str(&names.join(","))
    }
}

impl FromStr for Scopes {
    type Err = KeysError;

    fn from_str(text: &str) -> Result<Self, KeysError> {
        let scopes: Vec<Scope> = text.split(',').map(str::parse).collect::<Result<_, _>>()?;
        Ok(Scopes::of(&scopes))
    }
}

/// A key as it is shown: all but its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    pub id: KeyId,
    pub account: AccountName,
    pub kind: Kind,
    pub label: String,
    pub scopes: Scopes,
    pub created_at: Timestamp,
    /// `None`: never.
    pub expires_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
    /// To a minute or so.
    pub last_used_at: Option<Timestamp>,
    /// Until when the secret before the current one holds too.
    pub grace_until: Option<Timestamp>,
}

impl Key {
    /// Whether it lets anybody in at this time.
    #[must_use]
    pub fn is_good(&self, now: Timestamp) -> bool {
        self.state(now) == "active"
    }

    /// `active`, `expired` or `revoked`.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> &'static str {
        match (self.revoked_at, self.expires_at) {
            (Some(_), _) => "revoked",
            (None, Some(at)) if at <= now => "expired",
            (None, _) => "active",
        }
    }
}

/// By what the caller does next.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error("\"{0}\" is not a key's id: `inkport key list` tells them")]
    NoId(String),
    #[error("\"{0}\" is not a kind of key: use bearer or hmac")]
    NoKind(String),
    #[error("\"{0}\" is not a scope: use read, write or admin")]
    NoScope(String),
    #[error("there is no key {0}: `inkport key list` tells their ids")]
    Missing(KeyId),
    #[error("the key {id} is {state}, so it gets no new secret: make another with `inkport key add`")]
    Ended { id: KeyId, state: &'static str },
    /// What is sealed cannot be opened, or would be sealed for nobody.
    #[error("{0}")]
    OtherMaster(String),
    #[error("the master key in {path} cannot be used: {detail}")]
    Master { path: PathBuf, detail: String },
    /// Try again later: the disk is full, the database is locked.
    #[error("the database of keys did not answer: {0}")]
    Unavailable(#[source] rusqlite::Error),
    /// An operator must look.
    #[error("the database of keys, {path}, cannot be used: {detail}")]
    Broken { path: PathBuf, detail: String },
    /// The daemon stops.
    #[error("the keys' writer has ended")]
    Closed,
}

impl KeysError {
    fn opened(path: &Path, error: DatabaseError) -> Self {
        match error {
            DatabaseError::Unusable(detail) => KeysError::Broken { path: path.to_owned(), detail },
            DatabaseError::Sqlite(error) => KeysError::Broken { path: path.to_owned(), detail: error.to_string() },
        }
    }
}

impl From<rusqlite::Error> for KeysError {
    fn from(error: rusqlite::Error) -> Self {
        KeysError::Unavailable(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_one_spelling() {
        let id = KeyId::generate(Timestamp(1_783_641_600_123));
        assert_eq!(id.to_string().parse::<KeyId>().unwrap(), id);
        for bad in [id.as_str().to_ascii_lowercase(), id.as_str()[4..].to_owned(), format!("{id} "), String::new(), "key_".into()]
        {
            assert!(bad.parse::<KeyId>().is_err(), "{bad}");
        }
        assert_ne!(KeyId::generate(Timestamp(0)), KeyId::generate(Timestamp(0)));
    }

    #[test]
    fn scopes_are_sets_and_admin_is_all_of_them() {
        let scopes: Scopes = "write,read,write".parse().unwrap();
        assert_eq!(scopes.to_string(), "read,write");
        assert_eq!(Scopes::of(&[]), scopes);
        assert!(scopes.allow(Scope::Read) && scopes.allow(Scope::Write) && !scopes.allow(Scope::Admin));
        let upload: Scopes = "write".parse().unwrap();
        assert!(!upload.allow(Scope::Read), "a scanner's key need not fetch");
        assert!("admin".parse::<Scopes>().unwrap().allow(Scope::Read));
        assert!("read,,write".parse::<Scopes>().is_err() && "".parse::<Scopes>().is_err());
    }
}
