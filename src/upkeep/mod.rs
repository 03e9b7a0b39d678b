//! Keeping house: [`backup`] copies everything that a daemon has promised to keep, while it runs;
//! [`fsck`] proves that every row has its bytes and every file its row, and mends what it can without
//! ever deleting an original.
//!
//! Called by the command line. Reads homes, spool and database as any other process would; writes only
//! into a backup's own folder, and with `--repair`, which holds the daemon's lock.

use crate::account::{Account, AccountName, Output};
use crate::database::DatabaseError;
use crate::homes::HomeError;
use crate::queue::QueueError;
use crate::spool::SpoolError;
use std::collections::HashMap;
use std::path::PathBuf;

pub mod backup;
pub mod fsck;

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
}

impl UpkeepError {
    fn io(path: &std::path::Path, doing: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| UpkeepError::Io { path: path.to_owned(), doing, source }
    }
}

/// Which sidecars each account asks for.
#[must_use]
pub fn outputs(accounts: Vec<Account>) -> HashMap<AccountName, Vec<Output>> {
    accounts.into_iter().map(|account| (account.name, account.outputs)).collect()
}
