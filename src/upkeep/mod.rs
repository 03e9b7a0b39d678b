//! Keeping house: [`backup`] copies everything that a daemon has promised to keep, while it runs;
//! [`fsck`] proves that every row has its bytes and every file its row, and mends what it can without
//! ever deleting an original; [`retention`] removes what has been kept for long enough.
//!
//! Called by the command line, retention by `daemon`. Reads homes, spool and database as any other process would; writes only
//! into a backup's own folder, and with `--repair`, which holds the daemon's lock.

use crate::account::{Account, AccountName, Output};
use crate::accounts::AccountsError;
use crate::database::DatabaseError;
use crate::homes::HomeError;
use crate::intake::IntakeError;
use crate::queue::QueueError;
use crate::spool::SpoolError;
use rustix::fs::FlockOperation;
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

pub mod backup;
pub mod fsck;
pub mod retention;

/// Why the work ended early. What is merely wrong with the data is a finding, not an error.
#[derive(Debug, thiserror::Error)]
pub enum UpkeepError {
    /// An operator names another folder.
    #[error("{path} {problem}")]
    Folder { path: PathBuf, problem: &'static str },
    #[error("{path} cannot be {doing}")]
    Io {
        path: PathBuf,
        doing: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error(transparent)]
    Home(#[from] HomeError),
    #[error(transparent)]
    Intake(#[from] IntakeError),
    #[error(transparent)]
    Accounts(#[from] AccountsError),
    #[error("the work ended in a panic: {0}")]
    Panicked(String),
}

impl UpkeepError {
    fn io(path: &Path, doing: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| UpkeepError::Io { path: path.to_owned(), doing, source }
    }
}

/// Held by those who count on it that nothing is removed meanwhile; and alone by retention, one round long.
#[derive(Debug)]
struct Quiet {
    _file: File,
}

impl Quiet {
    fn open(database: &Path) -> Result<(File, PathBuf), UpkeepError> {
        let path = database.with_extension("db.quiet");
        let file =
            File::options().write(true).create(true).truncate(false).open(&path).map_err(UpkeepError::io(&path, "opened"))?;
        Ok((file, path))
    }

    /// Waits for a round of retention to end.
    fn wait(database: &Path) -> Result<Self, UpkeepError> {
        let (file, path) = Quiet::open(database)?;
        rustix::fs::flock(&file, FlockOperation::LockShared).map_err(|errno| UpkeepError::io(&path, "locked")(errno.into()))?;
        Ok(Quiet { _file: file })
    }

    /// `None` while somebody counts on nothing being removed.
    fn alone(database: &Path) -> Result<Option<Self>, UpkeepError> {
        let (file, path) = Quiet::open(database)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Quiet { _file: file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(UpkeepError::io(&path, "locked")(errno.into())),
        }
    }
}

/// Which sidecars each account asks for.
#[must_use]
pub fn outputs(accounts: Vec<Account>) -> HashMap<AccountName, Vec<Output>> {
    accounts.into_iter().map(|account| (account.name, account.outputs)).collect()
}
