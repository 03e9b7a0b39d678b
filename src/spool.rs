//! Accepted bytes, immutable, named by their sha256; and before that the staging folder, where an
//! upload grows out of everybody's sight.
//!
//! Layout: `spool/incoming/<ulid>` while it grows, `spool/<first two hex digits>/<sha256>` once
//! accepted. Both lie on the homes' file system where they can, so that moving is a rename and
//! keeping is a hard link; nothing is copied. A crash leaves files in `incoming/` only: they were
//! never acknowledged and are swept at the next start.

use crate::job::{FileIdentity, SpoolKey};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// By what the caller does next.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// Try again when there is room.
    #[error("the disk that holds {path} is full")]
    NoSpace { path: PathBuf },
    #[error("{path} cannot be {doing}")]
    Io {
        path: PathBuf,
        doing: &'static str,
        #[source]
        source: io::Error,
    },
    /// The bytes under this key are not there or not the accepted ones.
    #[error("the spooled bytes {key} are {what}")]
    Lost { key: SpoolKey, what: &'static str },
}

/// The spool folder.
#[derive(Debug, Clone)]
pub struct Spool {
    root: PathBuf,
}

/// An upload that is still growing: a hidden file, its hash computed as it is written. Dropped
/// unfinished, it leaves nothing behind.
#[derive(Debug)]
pub struct Staging {
    _private: (),
}

/// A whole upload, fsynced, still hidden. Dropped before it is installed, it leaves nothing behind.
#[derive(Debug)]
pub struct Staged {
    _private: (),
}

impl Spool {
    /// Opens `<data-dir>/spool`, making it and its folders where missing.
    pub fn open(root: &Path) -> Result<Self, SpoolError> {
        let _ = root;
        todo!()
    }

    /// Removes what a crash left in `incoming/`; answers how many files. Only at start, before the doors open.
    pub fn sweep(&self) -> Result<usize, SpoolError> {
        todo!()
    }

    /// A new hidden file to write an upload into.
    pub fn stage(&self) -> Result<Staging, SpoolError> {
        todo!()
    }

    /// Keeps a staged upload's bytes under their key: a hard link, folder fsynced. Twice is once.
    pub fn keep(&self, staged: &Staged) -> Result<SpoolKey, SpoolError> {
        let _ = staged;
        todo!()
    }

    /// Where the bytes of `key` lie.
    #[must_use]
    pub fn path(&self, key: &SpoolKey) -> PathBuf {
        let _ = (key, &self.root);
        todo!()
    }

    /// All bytes of `key`, checked against the key while they are read.
    pub fn read(&self, key: &SpoolKey) -> Result<Vec<u8>, SpoolError> {
        let _ = key;
        todo!()
    }

    /// Bytes that an unprivileged writer may still use on the spool's file system.
    pub fn free_space(&self) -> Result<u64, SpoolError> {
        todo!()
    }
}

impl Staging {
    /// Bytes written so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        todo!()
    }

    /// Fsyncs the file and ends the hash.
    pub fn finish(self) -> Result<Staged, SpoolError> {
        todo!()
    }
}

impl Write for Staging {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let _ = buffer;
        todo!()
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Staged {
    #[must_use]
    pub fn key(&self) -> SpoolKey {
        todo!()
    }

    #[must_use]
    pub fn bytes(&self) -> u64 {
        todo!()
    }

    /// Stays the same when the file is renamed into a home.
    #[must_use]
    pub fn identity(&self) -> FileIdentity {
        todo!()
    }

    /// The hidden file, for `homes` to rename.
    #[must_use]
    pub fn path(&self) -> &Path {
        todo!()
    }

    /// The hidden file has been renamed away: nothing is left to clean up.
    pub fn installed(self) {
        todo!()
    }
}

#[allow(dead_code)]
fn _file(_: File) {}
