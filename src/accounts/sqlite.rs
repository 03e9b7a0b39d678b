//! Accounts in the daemon's database. Command line processes write here while the daemon reads: every
//! verb is one statement or one short transaction, and waits up to five seconds for another's.

use super::{AccountsError, Imported, Plan};
use crate::account::{Account, AccountName};
use crate::database::{self, DatabaseError};
use crate::units::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// The table `accounts`, and one connection for it.
#[derive(Debug)]
pub struct Table {
    path: PathBuf,
    connection: Mutex<Connection>,
}

impl Table {
    pub(super) fn open(path: &Path) -> Result<Self, AccountsError> {
        let connection = database::open(path).map_err(|error| AccountsError::Broken {
            path: path.to_owned(),
            detail: match error {
                DatabaseError::Unusable(detail) => detail,
                DatabaseError::Sqlite(error) => error.to_string(),
            },
        })?;
        Ok(Table { path: path.to_owned(), connection: Mutex::new(connection) })
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, error: rusqlite::Error) -> AccountsError {
        match error {
            rusqlite::Error::FromSqlConversionFailure(..) => {
                AccountsError::Broken { path: self.path.clone(), detail: error.to_string() }
            }
            error => AccountsError::Io { path: self.path.clone(), source: std::io::Error::other(error) },
        }
    }

    pub(super) fn find(&self, name: &AccountName) -> Result<Option<Account>, AccountsError> {
        self.connection()
            .prepare_cached("SELECT account, created_at FROM accounts WHERE name = ?1")
            .and_then(|mut statement| statement.query_row([name.as_str()], account_from_row).optional())
            .map_err(|error| self.error(error))
    }

    pub(super) fn list(&self) -> Result<Vec<Account>, AccountsError> {
        self.connection()
            .prepare_cached("SELECT account, created_at FROM accounts ORDER BY name")
            .and_then(|mut statement| statement.query_map([], account_from_row)?.collect())
            .map_err(|error| self.error(error))
    }

    pub(super) fn add(&self, account: &Account) -> Result<(), AccountsError> {
        let now = Timestamp::from_system(SystemTime::now());
        let added = self.change(
            "INSERT INTO accounts (name, account, created_at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
            params![account.name.as_str(), to_json(account), now.0],
        )?;
        if added { Ok(()) } else { Err(AccountsError::Exists(account.name.clone())) }
    }

    pub(super) fn set(&self, account: &Account) -> Result<(), AccountsError> {
        let set =
            self.change("UPDATE accounts SET account = ?2 WHERE name = ?1", params![account.name.as_str(), to_json(account)])?;
        if set { Ok(()) } else { Err(AccountsError::Missing(account.name.clone())) }
    }

    pub(super) fn update(&self, name: &AccountName, edit: impl FnOnce(&mut Account)) -> Result<(), AccountsError> {
        let mut connection = self.connection();
        let failed = |error| self.error(error);
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let found = transaction
            .query_row("SELECT account, created_at FROM accounts WHERE name = ?1", [name.as_str()], account_from_row)
            .optional()
            .map_err(failed)?;
        let mut account = found.ok_or_else(|| AccountsError::Missing(name.clone()))?;
        edit(&mut account);
        transaction
            .execute("UPDATE accounts SET account = ?2 WHERE name = ?1", params![name.as_str(), to_json(&account)])
            .and_then(|_| transaction.commit())
            .map_err(failed)
    }

    pub(super) fn remove(&self, name: &AccountName) -> Result<(), AccountsError> {
        let removed = self.change("DELETE FROM accounts WHERE name = ?1", params![name.as_str()])?;
        if removed { Ok(()) } else { Err(AccountsError::Missing(name.clone())) }
    }

    pub(super) fn import(&self, wanted: &[Account], replace: bool) -> Result<Imported, AccountsError> {
        let mut connection = self.connection();
        let failed = |error| self.error(error);
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let kept: HashMap<AccountName, Account> = transaction
            .prepare("SELECT account, created_at FROM accounts")
            .and_then(|mut statement| statement.query_map([], account_from_row)?.collect::<Result<Vec<_>, _>>())
            .map_err(failed)?
            .into_iter()
            .map(|account| (account.name.clone(), account))
            .collect();
        let plan = Plan::make(wanted, replace, |name| kept.get(name))?;
        let now = Timestamp::from_system(SystemTime::now());
        {
            let mut put = transaction
                .prepare("INSERT INTO accounts (name, account, created_at) VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET account = excluded.account")
                .map_err(failed)?;
            for account in plan.add.iter().chain(&plan.replace) {
                put.execute(params![account.name.as_str(), to_json(account), now.0]).map_err(failed)?;
            }
        }
        transaction.commit().map_err(failed)?;
        Ok(plan.told())
    }

    /// Whether a row was changed. A single statement is a transaction, and begins as a writing one.
    fn change(&self, statement: &str, parameters: impl rusqlite::Params) -> Result<bool, AccountsError> {
        self.connection().execute(statement, parameters).map(|rows| rows > 0).map_err(|error| self.error(error))
    }
}

fn to_json(account: &Account) -> String {
    serde_json::to_string(account).expect("an account has only text keys")
}

fn account_from_row(row: &Row<'_>) -> rusqlite::Result<Account> {
    let mut account: Account = serde_json::from_str(&row.get::<_, String>(0)?)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, error.into()))?;
    account.created_at = Some(Timestamp(row.get(1)?));
    Ok(account)
}
