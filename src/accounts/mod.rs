//! Accounts, kept: in the daemon's SQLite database or in a TOML file, by setting. Both hold the same
//! [`Account`]; a change holds at the next login, without a restart, because every login looks it up.
//!
//! Owns password checking too ([`password`]): argon2id off the async threads, a bounded number at a
//! time, the same time and the same answer for every cause of failure.

use crate::account::{Account, AccountName};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub mod bans;
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
    /// An import that would change accounts that are there; nothing was changed.
    #[error("{} there with other settings: {}", if .0.len() == 1 { "one account is" } else { "accounts are" }, .0.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", "))]
    Differ(Vec<AccountName>),
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

    /// Changes an account as it stands now: two who change different settings of it at once both have their way.
    pub fn update(&self, name: &AccountName, edit: impl FnOnce(&mut Account)) -> Result<(), AccountsError> {
        match self {
            Accounts::Sqlite(table) => table.update(name, edit),
            Accounts::Toml(file) => file.update(name, edit),
        }
    }

    pub fn remove(&self, name: &AccountName) -> Result<(), AccountsError> {
        match self {
            Accounts::Sqlite(table) => table.remove(name),
            Accounts::Toml(file) => file.remove(name),
        }
    }

    /// Adds all of these or none. Those that are there with the same settings stay as they are; others are
    /// replaced if `replace` says so, and else nothing is done ([`AccountsError::Differ`]). Accounts that are
    /// not named stay.
    pub fn import(&self, accounts: &[Account], replace: bool) -> Result<Imported, AccountsError> {
        match self {
            Accounts::Sqlite(table) => table.import(accounts, replace),
            Accounts::Toml(file) => file.import(accounts, replace),
        }
    }
}

/// How many accounts an import found to be what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Imported {
    pub added: usize,
    pub replaced: usize,
    pub unchanged: usize,
}

/// The accounts of a text in the form of `accounts.toml`, by name. The error is a sentence for a person.
pub fn from_toml(text: &str) -> Result<Vec<Account>, String> {
    toml::parse(text)
}

/// Accounts in the form of `accounts.toml`, hashes too.
#[must_use]
pub fn to_toml(accounts: &[Account]) -> String {
    toml::render(accounts)
}

/// What an import comes to.
#[derive(Default)]
struct Plan<'a> {
    add: Vec<&'a Account>,
    replace: Vec<&'a Account>,
    unchanged: usize,
}

impl<'a> Plan<'a> {
    /// `kept` tells what is there under a name.
    fn make<'k>(
        wanted: &'a [Account],
        replace: bool,
        kept: impl Fn(&AccountName) -> Option<&'k Account>,
    ) -> Result<Self, AccountsError> {
        let mut plan = Plan::default();
        let mut differ = Vec::new();
        for account in wanted {
            match kept(&account.name) {
                None => plan.add.push(account),
                // When it was made is the store's own business.
                Some(old) if *account == (Account { created_at: account.created_at, ..old.clone() }) => plan.unchanged += 1,
                Some(_) if replace => plan.replace.push(account),
                Some(_) => differ.push(account.name.clone()),
            }
        }
        if differ.is_empty() { Ok(plan) } else { Err(AccountsError::Differ(differ)) }
    }

    fn told(&self) -> Imported {
        Imported { added: self.add.len(), replaced: self.replace.len(), unchanged: self.unchanged }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{ClientCertificate, Existing, Fingerprint, Output, Permissions, Role, Tier, TlsEof};
    use crate::units::ByteSize;

    fn named(name: &str) -> Account {
        Account::new(name.parse().unwrap())
    }

    fn names(accounts: &Accounts) -> Vec<String> {
        accounts.list().unwrap().into_iter().map(|account| account.name.to_string()).collect()
    }

    /// One with every setting.
    fn full() -> Account {
        Account {
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
            quota_files: Some(1000),
            permissions: "upload,list".parse::<Permissions>().unwrap(),
            existing: Existing::KeepBoth,
            networks: vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::1".parse().unwrap()],
            require_tls: true,
            expires: Some("2030-12-31".parse().unwrap()),
            bandwidth: Some(ByteSize(1 << 20)),
            sessions: Some(4),
            tier: Tier::Pro,
            ..named("front-desk")
        }
    }

    /// The same promises from both stores; `again` opens the store once more, as another process would.
    fn keeps_accounts(again: impl Fn() -> Accounts) {
        let accounts = again();
        assert_eq!(names(&accounts), [""; 0]);
        let mut full = full();
        accounts.add(&full).unwrap();
        accounts.add(&named("a")).unwrap();
        assert!(matches!(accounts.add(&full), Err(AccountsError::Exists(_))));
        assert_eq!(names(&accounts), ["a", "front-desk"]);
        let other = again();
        let mut found = other.find(&full.name).unwrap().unwrap();
        found.created_at = None;
        assert_eq!(found, full);

        other.update(&full.name, |account| account.sessions = Some(5)).unwrap();
        assert_eq!(accounts.find(&full.name).unwrap().unwrap().sessions, Some(5));
        assert!(matches!(other.update(&"nobody".parse().unwrap(), |_| {}), Err(AccountsError::Missing(_))));

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

    /// What one store exports another imports, and nothing is lost; an import is whole or not at all.
    fn imports(accounts: &Accounts) {
        let nothing = Account { permissions: "".parse().unwrap(), ..named("nothing") };
        let wanted = vec![full(), nothing, named("plain")];
        let text = to_toml(&wanted);
        assert_eq!(from_toml(&text).unwrap(), wanted, "{text}");
        let told = |added, replaced, unchanged| Imported { added, replaced, unchanged };
        assert_eq!(accounts.import(&wanted, false).unwrap(), told(3, 0, 0));
        assert_eq!(to_toml(&accounts.list().unwrap()), text);
        assert_eq!(accounts.import(&wanted, false).unwrap(), told(0, 0, 3));
        let changed = vec![named("another"), Account { enabled: false, ..named("plain") }];
        let refused = accounts.import(&changed, false).unwrap_err();
        assert!(matches!(&refused, AccountsError::Differ(names) if names.len() == 1), "{refused}");
        assert!(refused.to_string().contains("\"plain\""));
        assert_eq!(to_toml(&accounts.list().unwrap()), text, "nothing was changed");
        assert_eq!(accounts.import(&changed, true).unwrap(), told(1, 1, 0));
        assert!(!accounts.find(&"plain".parse().unwrap()).unwrap().unwrap().enabled);
        assert_eq!(accounts.list().unwrap().len(), 4);
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
        imports(&Accounts::sqlite(&dir.path().join("imported.db")).unwrap());
    }

    #[test]
    fn the_file_keeps_accounts() {
        let dir = tempfile::tempdir().unwrap();
        keeps_accounts(|| Accounts::toml(&dir.path().join("accounts.toml")).unwrap());
        survives_writers_at_once(|| Accounts::toml(&dir.path().join("other.toml")).unwrap());
        let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 4, "two files, their locks, nothing staged: {names:?}");
        imports(&Accounts::toml(&dir.path().join("imported.toml")).unwrap());
    }
}
