//! Accounts, kept: in the daemon's SQLite database or in a TOML file, by setting. Both hold the same
//! [`Account`]; a change holds at the next login, without a restart, because every login looks it up.
//!
//! Owns password checking too ([`password`]): argon2id off the async threads, a bounded number at a
//! time, the same time and the same answer for every cause of failure.

use crate::account::{Account, AccountName};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub mod password;
mod sqlite;
mod toml;

/// By what the caller does next.
#[derive(Debug, thiserror::Error)]
pub enum AccountsError {
    #[error("there is no account \"{0}\"")]
    Missing(AccountName),
    #[error("there is an account \"{0}\" already")]
    Exists(AccountName),
    /// A broken TOML file, a foreign database.
    #[error("the accounts in {path} cannot be used: {detail}")]
    Broken { path: PathBuf, detail: String },
    #[error("the accounts in {path} cannot be read or written")]
    Io {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// Where accounts are kept. Blocking and cheap; `Clone` shares the store.
#[derive(Debug, Clone)]
pub enum Accounts {
    /// In `<data-dir>/inkport.db`, beside the queue.
    Sqlite(Arc<sqlite::Table>),
    /// In a TOML file, re-read when it changes; a broken edit keeps the last good accounts.
    Toml(Arc<toml::TomlFile>),
}

impl Accounts {
    /// The accounts in the database at `path`, its table made where missing.
    pub fn sqlite(path: &Path) -> Result<Self, AccountsError> {
        sqlite::Table::open(path).map(Arc::new).map(Accounts::Sqlite)
    }

    /// The accounts in the TOML file at `path`: none, if it is not there yet.
    pub fn toml(path: &Path) -> Result<Self, AccountsError> {
        toml::TomlFile::open(path).map(Arc::new).map(Accounts::Toml)
    }

    pub fn find(&self, name: &AccountName) -> Result<Option<Account>, AccountsError> {
        match self {
            Accounts::Sqlite(table) => table.find(name),
            Accounts::Toml(file) => file.find(name),
        }
    }

    /// By name.
    pub fn list(&self) -> Result<Vec<Account>, AccountsError> {
        match self {
            Accounts::Sqlite(table) => table.list(),
            Accounts::Toml(file) => file.list(),
        }
    }

    pub fn add(&self, account: &Account) -> Result<(), AccountsError> {
        match self {
            Accounts::Sqlite(table) => table.add(account),
            Accounts::Toml(file) => file.add(account),
        }
    }

    /// Replaces the account of the same name.
    pub fn set(&self, account: &Account) -> Result<(), AccountsError> {
        match self {
            Accounts::Sqlite(table) => table.set(account),
            Accounts::Toml(file) => file.set(account),
        }
    }

    pub fn remove(&self, name: &AccountName) -> Result<(), AccountsError> {
        match self {
            Accounts::Sqlite(table) => table.remove(name),
            Accounts::Toml(file) => file.remove(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{ClientCertificate, Fingerprint, Output, Role, TlsEof};
    use crate::units::ByteSize;

    fn named(name: &str) -> Account {
        Account::new(name.parse().unwrap())
    }

    fn names(accounts: &Accounts) -> Vec<String> {
        accounts.list().unwrap().into_iter().map(|account| account.name.to_string()).collect()
    }

    /// The same promises from both stores; `again` opens the store once more, as another process would.
    fn keeps_accounts(again: impl Fn() -> Accounts) {
        let accounts = again();
        assert_eq!(names(&accounts), [""; 0]);
        let mut full = Account {
            password_hash: Some("$argon2id$v=19$x".to_owned()),
            role: Role::Admin,
            email: vec!["scans@example.org".to_owned()],
            outputs: vec![Output::Json],
            quota: Some(ByteSize(1 << 30)),
            max_upload: Some(ByteSize(17)),
            language: vec!["de".to_owned()],
            pages_per_day: Some(9),
            charset: Some("shift_jis".parse().unwrap()),
            tls_eof: TlsEof::Lenient,
            client_certificate: Some(ClientCertificate::Sufficient),
            certificate_fingerprints: vec![Fingerprint([7; 32])],
            arrival: crate::account::Arrival::Marker,
            duplicates: Some(crate::account::Duplicates::Reuse),
            keep_originals: Some("after-reading".parse().unwrap()),
            keep_sidecars: Some("90d".parse().unwrap()),
            keep_jobs: Some("keep".parse().unwrap()),
            ..named("front-desk")
        };
        accounts.add(&full).unwrap();
        accounts.add(&named("a")).unwrap();
        assert!(matches!(accounts.add(&full), Err(AccountsError::Exists(_))));
        assert_eq!(names(&accounts), ["a", "front-desk"]);
        let other = again();
        let mut found = other.find(&full.name).unwrap().unwrap();
        found.created_at = None;
        assert_eq!(found, full);

        // What another process changes holds at the next look.
        full.enabled = false;
        other.set(&full).unwrap();
        assert!(!accounts.find(&full.name).unwrap().unwrap().enabled);
        other.remove(&full.name).unwrap();
        assert_eq!(accounts.find(&full.name).unwrap(), None);
        assert!(matches!(accounts.remove(&full.name), Err(AccountsError::Missing(_))));
        assert!(matches!(accounts.set(&full), Err(AccountsError::Missing(_))));
        assert_eq!(names(&accounts), ["a"]);
    }

    fn survives_writers_at_once(again: impl Fn() -> Accounts + Sync) {
        std::thread::scope(|scope| {
            for number in 0..4 {
                let again = &again;
                scope.spawn(move || {
                    let accounts = again();
                    for round in 0..5 {
                        accounts.add(&named(&format!("w{number}-{round}"))).unwrap();
                    }
                });
            }
        });
        assert_eq!(again().list().unwrap().len(), 20);
    }

    #[test]
    fn the_database_keeps_accounts() {
        let dir = tempfile::tempdir().unwrap();
        keeps_accounts(|| Accounts::sqlite(&dir.path().join("inkport.db")).unwrap());
        survives_writers_at_once(|| Accounts::sqlite(&dir.path().join("other.db")).unwrap());
    }

    #[test]
    fn the_file_keeps_accounts() {
        let dir = tempfile::tempdir().unwrap();
        keeps_accounts(|| Accounts::toml(&dir.path().join("accounts.toml")).unwrap());
        survives_writers_at_once(|| Accounts::toml(&dir.path().join("other.toml")).unwrap());
        let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 4, "two files, their locks, nothing staged: {names:?}");
    }
}
