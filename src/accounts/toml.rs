//! Accounts in a TOML file, one `[[account]]` table each, for those who keep their configuration in a
//! repository. Looked at before every answer and read again when it changed. An edit that cannot be
//! read keeps the last good accounts and is logged once.
//!
//! The command line writes it too: under a lock beside the file, whole, by rename. It writes what it
//! understood, so comments and the order of keys are lost then; by hand they are kept.

use super::{AccountsError, Imported, Plan};
use crate::account::{Account, AccountName};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Far above any list of accounts that is written by hand.
const LARGEST: u64 = 64 << 20;

/// The file, and what it said when it could last be read.
#[derive(Debug)]
pub struct TomlFile {
    path: PathBuf,
    read: Mutex<Read>,
}

#[derive(Debug)]
struct Read {
    /// Which version of the file was looked at last, good or bad.
    stamp: Option<Stamp>,
    /// By name.
    accounts: Vec<Account>,
}

/// Another one means: look again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    modified: (i64, i64),
    bytes: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    #[serde(default)]
    account: Vec<Account>,
}

impl TomlFile {
    pub(super) fn open(path: &Path) -> Result<Self, AccountsError> {
        let (stamp, accounts) = load(path)?;
        Ok(TomlFile { path: path.to_owned(), read: Mutex::new(Read { stamp, accounts }) })
    }

    pub(super) fn find(&self, name: &AccountName) -> Result<Option<Account>, AccountsError> {
        Ok(self.with_accounts(|accounts| at(accounts, name).map(|index| accounts[index].clone())))
    }

    pub(super) fn list(&self) -> Result<Vec<Account>, AccountsError> {
        Ok(self.with_accounts(<[Account]>::to_vec))
    }

    pub(super) fn add(&self, account: &Account) -> Result<(), AccountsError> {
        self.change(|accounts| match accounts.binary_search_by(|other| other.name.cmp(&account.name)) {
            Ok(_) => Err(AccountsError::Exists(account.name.clone())),
            Err(place) => {
                accounts.insert(place, account.clone());
                Ok(())
            }
        })
    }

    pub(super) fn set(&self, account: &Account) -> Result<(), AccountsError> {
        self.update(&account.name, |old| *old = account.clone())
    }

    pub(super) fn update(&self, name: &AccountName, edit: impl FnOnce(&mut Account)) -> Result<(), AccountsError> {
        self.change(|accounts| {
            let index = at(accounts, name).ok_or_else(|| AccountsError::Missing(name.clone()))?;
            edit(&mut accounts[index]);
            Ok(())
        })
    }

    pub(super) fn remove(&self, name: &AccountName) -> Result<(), AccountsError> {
        self.change(|accounts| {
            let before = accounts.len();
            accounts.retain(|account| account.name != *name);
            if accounts.len() < before { Ok(()) } else { Err(AccountsError::Missing(name.clone())) }
        })
    }

    pub(super) fn import(&self, wanted: &[Account], replace: bool) -> Result<Imported, AccountsError> {
        let mut told = Imported::default();
        self.change(|accounts| {
            let plan = Plan::make(wanted, replace, |name| at(accounts, name).map(|index| &accounts[index]))?;
            told = plan.told();
            let (add, replace) = (plan.add, plan.replace);
            for account in replace {
                let index = at(accounts, &account.name).expect("what is to be replaced is there");
                accounts[index] = account.clone();
            }
            accounts.extend(add.into_iter().cloned());
            accounts.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(())
        })?;
        Ok(told)
    }

    fn with_accounts<T>(&self, look: impl FnOnce(&[Account]) -> T) -> T {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = fs::metadata(&self.path).ok().map(|file| stamp_of(&file));
        if stamp != read.stamp {
            match load(&self.path) {
                Ok((Some(stamp), accounts)) => *read = Read { stamp: Some(stamp), accounts },
                Ok((None, _)) => {
                    tracing::error!(file.path = %self.path.display(), "the accounts file is gone; the last good accounts stay");
                    read.stamp = None;
                }
                Err(error) => {
                    tracing::error!(%error, "the accounts file was edited badly; the last good accounts stay");
                    read.stamp = stamp;
                }
            }
        }
        look(&read.accounts)
    }

    /// One writer at a time, on the newest content; a file that cannot be read is not overwritten.
    fn change(&self, edit: impl FnOnce(&mut Vec<Account>) -> Result<(), AccountsError>) -> Result<(), AccountsError> {
        let io = |source| AccountsError::Io { path: self.path.clone(), source };
        let lock_path = beside(&self.path, "", ".lock");
        let lock = File::options().write(true).create(true).truncate(false).mode(0o600).open(&lock_path).map_err(io)?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).map_err(|errno| io(errno.into()))?;
        let (_, mut accounts) = load(&self.path)?;
        edit(&mut accounts)?;
        self.replace(render(&accounts).as_bytes()).map_err(io)
    }

    fn replace(&self, text: &[u8]) -> io::Result<()> {
        // The file itself, where the name is a link to it.
        let target = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let staged = beside(&target, ".", &format!(".{}", ulid::Ulid::generate()));
        let written = (|| {
            let mut file = File::options().write(true).create_new(true).mode(0o600).open(&staged)?;
            if let Ok(old) = fs::metadata(&target) {
                file.set_permissions(fs::Permissions::from_mode(old.mode() & 0o7777))?;
                // An administrator's edit must not take the file away from the daemon's own user.
                let _ = std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()));
            }
            file.write_all(text)?;
            file.sync_all()?;
            fs::rename(&staged, &target)?;
            File::open(folder_of(&target))?.sync_all()
        })();
        if written.is_err() {
            let _ = fs::remove_file(&staged);
        }
        written
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The name with something before and after it, in the same folder.
fn beside(path: &Path, before: &str, after: &str) -> PathBuf {
    let mut name = std::ffi::OsString::from(before);
    name.push(path.file_name().unwrap_or_default());
    name.push(after);
    path.with_file_name(name)
}

fn stamp_of(file: &fs::Metadata) -> Stamp {
    Stamp { inode: file.ino(), modified: (file.mtime(), file.mtime_nsec()), bytes: file.len() }
}

/// The accounts by name, and which version of the file said so: none of either if there is no file.
fn load(path: &Path) -> Result<(Option<Stamp>, Vec<Account>), AccountsError> {
    let io = |source| AccountsError::Io { path: path.to_owned(), source };
    let broken = |detail: String| AccountsError::Broken { path: path.to_owned(), detail };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((None, Vec::new())),
        Err(error) => return Err(io(error)),
    };
    let stamp = stamp_of(&file.metadata().map_err(io)?);
    if stamp.bytes > LARGEST {
        return Err(broken(format!("it is larger than {LARGEST} bytes")));
    }
    let mut text = String::new();
    io::Read::read_to_string(&mut file, &mut text).map_err(io)?;
    Ok((Some(stamp), parse(&text).map_err(broken)?))
}

/// By name.
pub(super) fn parse(text: &str) -> Result<Vec<Account>, String> {
    let Spec { account: mut accounts } = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
    accounts.sort_by(|a, b| a.name.cmp(&b.name));
    match accounts.windows(2).find(|pair| pair[0].name == pair[1].name) {
        Some(twice) => Err(format!("there are two accounts \"{}\"", twice[0].name)),
        None => Ok(accounts),
    }
}

pub(super) fn render(accounts: &[Account]) -> String {
    toml::to_string(&Spec { account: accounts.to_vec() }).expect("an account is a table of texts, numbers and lists of texts")
}

/// Where it is among accounts by name.
fn at(accounts: &[Account], name: &AccountName) -> Option<usize> {
    accounts.binary_search_by(|account| account.name.cmp(name)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("accounts.toml");
        fs::write(&path, text).unwrap();
        (dir, path)
    }

    fn names(file: &TomlFile) -> Vec<String> {
        file.list().unwrap().into_iter().map(|account| account.name.to_string()).collect()
    }

    #[test]
    fn an_edit_holds_and_a_broken_one_keeps_the_last_good() {
        let (_dir, path) = file("[[account]]\nname = \"one\"\n");
        let accounts = TomlFile::open(&path).unwrap();
        assert_eq!(names(&accounts), ["one"]);
        fs::write(&path, "[[account]]\nname = \"one\"\n[[account]]\nname = \"two\"\n").unwrap();
        assert_eq!(names(&accounts), ["one", "two"]);
        for broken in ["[[account", "[[account]]\nname = \"x\"\ncolour = \"red\"\n", "[[account]]\nname = \"A\"\n"] {
            fs::write(&path, broken).unwrap();
            assert_eq!(names(&accounts), ["one", "two"], "{broken}");
            assert!(matches!(accounts.add(&Account::new("three".parse().unwrap())), Err(AccountsError::Broken { .. })));
            assert_eq!(fs::read_to_string(&path).unwrap(), broken, "and nobody overwrites the admin's work");
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(names(&accounts), ["one", "two"]);
        fs::write(&path, "").unwrap();
        assert_eq!(names(&accounts), [""; 0]);
    }

    #[test]
    fn a_file_that_is_broken_from_the_start_is_refused() {
        for broken in ["account = 5", "[[account]]\nname = \"a\"\n[[account]]\nname = \"a\"\n"] {
            let (_dir, path) = file(broken);
            assert!(matches!(TomlFile::open(&path), Err(AccountsError::Broken { .. })), "{broken}");
        }
    }

    #[test]
    fn writing_keeps_the_files_mode_and_follows_a_link() {
        let (dir, path) = file("# by hand\n[[account]]\nname = \"one\"\nquota = \"1GiB\"\n");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let link = dir.path().join("link.toml");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let accounts = TomlFile::open(&link).unwrap();
        accounts.add(&Account::new("two".parse().unwrap())).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(names(&TomlFile::open(&path).unwrap()), ["one", "two"]);
        assert!(fs::read_to_string(&path).unwrap().contains("quota = \"1GiB\""));
    }
}
