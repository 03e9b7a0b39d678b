//! Accounts, kept: in the daemon's SQLite database or in a TOML file, by setting. Both hold the same
//! [`Account`]; a change holds at the next login, without a restart, because every login looks it up.
//!
//! Owns password checking too ([`password`]): argon2id off the async threads, a bounded number at a
//! time, the same time and the same answer for every cause of failure.

use crate::account::{Account, AccountName};
use std::path::{Path, PathBuf};

pub mod password;

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
    Sqlite(PathBuf),
    /// In a TOML file, re-read when it changes; a broken edit keeps the last good accounts.
    Toml(PathBuf),
}

impl Accounts {
    /// The accounts in the database at `path`, its table made where missing.
    pub fn sqlite(path: &Path) -> Result<Self, AccountsError> {
        let _ = path;
        todo!()
    }

    /// The accounts in the TOML file at `path`.
    pub fn toml(path: &Path) -> Result<Self, AccountsError> {
        let _ = path;
        todo!()
    }

    pub fn find(&self, name: &AccountName) -> Result<Option<Account>, AccountsError> {
        let _ = name;
        todo!()
    }

    /// By name.
    pub fn list(&self) -> Result<Vec<Account>, AccountsError> {
        todo!()
    }

    pub fn add(&self, account: &Account) -> Result<(), AccountsError> {
        let _ = account;
        todo!()
    }

    /// Replaces the account of the same name.
    pub fn set(&self, account: &Account) -> Result<(), AccountsError> {
        let _ = account;
        todo!()
    }

    pub fn remove(&self, name: &AccountName) -> Result<(), AccountsError> {
        let _ = name;
        todo!()
    }
}
