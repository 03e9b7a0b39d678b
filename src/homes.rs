//! Accounts' folders, `<data-dir>/homes/<account>/`: what a client sees as `/`.
//!
//! Every path is walked inside a directory handle (cap-std), so neither `..` nor a symlink reaches
//! anything outside the home. Files appear by rename of a staged, fsynced file, and the folder is
//! fsynced before the answer. Written by `intake` (uploads) and `worker::publish` (sidecars) only;
//! clients' own deletes, renames and folders go through `ftp`.

use crate::account::{AccountName, VirtualPath};
use crate::job::FileIdentity;
use crate::spool::Staged;
use std::io;
use std::path::{Path, PathBuf};

/// By what the caller does next.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Try again when there is room.
    #[error("the disk that holds {path} is full")]
    NoSpace { path: PathBuf },
    /// The folder, or the file, is not there.
    #[error("{path} is not there")]
    Missing { path: PathBuf },
    /// The name is taken by a folder, or part of the path is a file, or it leaves the home.
    #[error("{path} cannot hold a file")]
    NotAPlace { path: PathBuf },
    #[error("{path} cannot be {doing}")]
    Io {
        path: PathBuf,
        doing: &'static str,
        #[source]
        source: io::Error,
    },
}

/// The folder of all homes.
#[derive(Debug, Clone)]
pub struct Homes {
    root: PathBuf,
}

impl Homes {
    /// Opens `<data-dir>/homes`, making it where missing.
    pub fn open(root: &Path) -> Result<Self, HomeError> {
        let _ = root;
        todo!()
    }

    /// The folder of all homes.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// This account's home, made (0700, fsynced) where missing.
    pub fn ensure(&self, account: &AccountName) -> Result<PathBuf, HomeError> {
        let _ = account;
        todo!()
    }

    /// Puts a staged file under its name: replaces a file of that name atomically, fsyncs the folder.
    /// The folder must exist. Never follows a symlink at the name itself: it is replaced.
    pub fn install(&self, account: &AccountName, path: &VirtualPath, staged: Staged) -> Result<(), HomeError> {
        let _ = (account, path, staged);
        todo!()
    }

    /// What lies under the name: `None` if nothing, or not a regular file.
    pub fn identity(&self, account: &AccountName, path: &VirtualPath) -> Result<Option<FileIdentity>, HomeError> {
        let _ = (account, path);
        todo!()
    }

    /// Opens a regular file for reading, never through a symlink out of the home.
    pub fn open_file(&self, account: &AccountName, path: &VirtualPath) -> Result<std::fs::File, HomeError> {
        let _ = (account, path);
        todo!()
    }

    /// Removes a file if it is there, and fsyncs the folder. True if it was.
    pub fn remove(&self, account: &AccountName, path: &VirtualPath) -> Result<bool, HomeError> {
        let _ = (account, path);
        todo!()
    }

    /// Every regular file of a home, folders first found first walked, symlinks not followed, hidden
    /// names skipped, at most 64 folders deep. A file that vanishes meanwhile is skipped.
    pub fn walk(&self, account: &AccountName, found: &mut dyn FnMut(VirtualPath, FileIdentity)) -> Result<(), HomeError> {
        let _ = (account, found);
        todo!()
    }
}
