//! Accepted bytes, immutable, named by their sha256; and before that the staging folder, where an
//! upload grows out of everybody's sight.
//!
//! Layout: `spool/incoming/<ulid>` while it grows, `spool/<first two hex digits>/<sha256>` once
//! accepted. Both lie on the homes' file system where they can, so that moving is a rename and
//! keeping is a hard link; nothing is copied. A crash leaves files in `incoming/` only: they were
//! never acknowledged and are swept at the next start. What a failing disk would not let go is tried again
//! with the next upload.
//!
//! A kept file shares its inode with the file in the home. Clients that come through our doors only
//! ever replace files; a local program that writes *into* one spoils the kept bytes, which
//! [`Spool::read`] notices, since it checks them against their name.

use crate::crashpoint;
use crate::job::{FileIdentity, SpoolKey};
use hidden::{Hidden, Leftovers};
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

mod hidden;

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

impl SpoolError {
    fn io(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| {
            if is_full(&source) {
                SpoolError::NoSpace { path: path.to_owned() }
            } else {
                SpoolError::Io { path: path.to_owned(), doing, source }
            }
        }
    }
}

/// The disk or the writer's share of it is used up.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Fsyncs a folder: what was made, linked, renamed or removed in it survives a power cut.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes a folder and those above it where they are missing, each fsynced into the one above: after a power cut
/// they are there, and what is fsynced into them is too.
pub fn make_folders(path: &Path) -> io::Result<()> {
    let mut missing = Vec::new();
    let mut at = path;
    while !at.is_dir() {
        missing.push(at);
        match at.parent() {
            Some(parent) if parent != Path::new("") => at = parent,
            _ => break,
        }
    }
    for folder in missing.into_iter().rev() {
        match fs::create_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        sync_folder(folder.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new(".")))?;
    }
    Ok(())
}

/// Which file this is.
pub(crate) fn identity_of(file: &fs::Metadata) -> FileIdentity {
    identity_from(file.ino(), file.mtime(), file.mtime_nsec(), file.len())
}

/// Which file it is that has these numbers; seconds and nanoseconds are the time of modification.
pub(crate) fn identity_from(inode: u64, seconds: i64, nanoseconds: i64, bytes: u64) -> FileIdentity {
    FileIdentity { inode, modified_ns: i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds), bytes }
}

/// What is written and copied at once.
pub(crate) const CHUNK: usize = 256 * 1024;

/// The spool folder. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Spool {
    root: Arc<Path>,
    /// Held while bytes are linked, and while old ones are looked at and removed.
    gate: Arc<Mutex<()>>,
    leftovers: Leftovers,
}

/// An upload that is still growing: a hidden file, its hash computed as it is written. Dropped
/// unfinished, it leaves nothing behind. Writing blocks.
#[derive(Debug)]
pub struct Staging {
    file: File,
    hidden: Hidden,
    hash: Sha256,
    bytes: u64,
}

/// A whole upload, fsynced, still hidden. Dropped before it is installed, it leaves nothing behind.
#[derive(Debug)]
pub struct Staged {
    hidden: Hidden,
    key: SpoolKey,
    identity: FileIdentity,
}

impl Spool {
    /// Opens `<data-dir>/spool`, making it and its folders where missing.
    pub fn open(root: &Path) -> Result<Self, SpoolError> {
        if make_folder(root)?
            && let Some(parent) = root.parent()
        {
            sync_folder(parent).map_err(SpoolError::io(parent, "synced"))?;
        }
        let mut made = make_folder(&root.join("incoming"))?;
        for first in 0..=255u8 {
            made |= make_folder(&root.join(format!("{first:02x}")))?;
        }
        if made {
            sync_folder(root).map_err(SpoolError::io(root, "synced"))?;
        }
        Ok(Spool { root: root.into(), gate: Arc::default(), leftovers: Leftovers::default() })
    }

    fn incoming(&self) -> PathBuf {
        self.root.join("incoming")
    }

    /// Removes what a crash left in `incoming/`; answers how many files. Only at start, before the doors open.
    pub fn sweep(&self) -> Result<usize, SpoolError> {
        let incoming = self.incoming();
        let mut swept = 0;
        for entry in fs::read_dir(&incoming).map_err(SpoolError::io(&incoming, "listed"))? {
            let path = entry.map_err(SpoolError::io(&incoming, "listed"))?.path();
            fs::remove_file(&path).map_err(SpoolError::io(&path, "removed"))?;
            swept += 1;
        }
        Ok(swept)
    }

    /// A new hidden file to write an upload into.
    pub fn stage(&self) -> Result<Staging, SpoolError> {
        self.leftovers.clear();
        let path = self.incoming().join(ulid::Ulid::generate().to_string());
        // The file keeps its mode when it is renamed into the home; nobody else enters `incoming`.
        let file =
            OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path).map_err(SpoolError::io(&path, "made"))?;
        crashpoint::here("staging-made");
        Ok(Staging { file, hidden: Hidden::new(path, &self.leftovers), hash: Sha256::new(), bytes: 0 })
    }

    /// Stages bytes that are in memory.
    pub fn stage_bytes(&self, bytes: &[u8]) -> Result<Staged, SpoolError> {
        let mut staging = self.stage()?;
        let path = staging.hidden.path.clone();
        staging.write_all(bytes).map_err(SpoolError::io(&path, "written"))?;
        staging.finish()
    }

    /// Stages what `fill` writes, a piece at a time; its error is told as one of writing.
    pub fn stage_with(&self, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<Staged, SpoolError> {
        let mut staging = self.stage()?;
        let path = staging.hidden.path.clone();
        let mut out = io::BufWriter::with_capacity(CHUNK, &mut staging);
        fill(&mut out).and_then(|()| out.flush()).map_err(SpoolError::io(&path, "written"))?;
        drop(out);
        staging.finish()
    }

    /// Keeps a staged upload's bytes under their key: a hard link, folder fsynced. Twice is once.
    pub fn keep(&self, staged: &Staged) -> Result<SpoolKey, SpoolError> {
        let key = self.link(staged)?;
        self.sync(&key)?;
        Ok(key)
    }

    /// [`keep`](Self::keep) without the fsync: whoever calls it has more to do on this file system before
    /// one [`sync`](Self::sync), which a journal then answers for all of it.
    pub fn link(&self, staged: &Staged) -> Result<SpoolKey, SpoolError> {
        let key = staged.key;
        let target = self.path(&key);
        let linked = {
            let _gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
            fs::hard_link(staged.path(), &target)
        };
        match linked {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if !holds(&target, &key, staged.bytes())? {
                    tracing::warn!(spool.key = %key, "spooled bytes were spoiled; the same bytes came again and replace them");
                    self.replace(staged, &target)?;
                } else {
                    self.renew(staged, &target)?;
                }
            }
            Err(error) if is_full(&error) => return Err(SpoolError::NoSpace { path: target }),
            // Not every file system has hard links.
            Err(_) => self.replace(staged, &target)?,
        }
        crashpoint::here("spool-linked");
        Ok(key)
    }

    /// Fsyncs the folder of a key's bytes. Also for bytes that were there already: whoever linked them
    /// may not have come to this line yet.
    pub fn sync(&self, key: &SpoolKey) -> Result<(), SpoolError> {
        let path = self.path(key);
        let folder = path.parent().expect("a spooled file lies in a folder");
        sync_folder(folder).map_err(SpoolError::io(folder, "synced"))?;
        crashpoint::here("spool-synced");
        Ok(())
    }

    /// Bytes that were there already are put there anew, so that [`remove`](Self::remove) sees how young the
    /// wish to keep them is, whoever it was about to remove them for.
    fn renew(&self, staged: &Staged, target: &Path) -> Result<(), SpoolError> {
        let link = self.incoming().join(ulid::Ulid::generate().to_string());
        let _gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        fs::hard_link(staged.path(), &link).map_err(SpoolError::io(&link, "made"))?;
        let hidden = Hidden::new(link, &self.leftovers);
        // Of the same file it does nothing; then the link goes with its owner.
        fs::rename(&hidden.path, target).map_err(SpoolError::io(target, "written"))
    }

    /// Removes the bytes of `key`, unless somebody kept them within the last `margin`: that somebody's row may
    /// still be about to be committed. The caller knows that no row wants them. True if they are gone.
    pub fn remove(&self, key: &SpoolKey, margin: Duration) -> Result<bool, SpoolError> {
        let path = self.path(key);
        let _gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        let found = match fs::metadata(&path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            Err(error) => return Err(SpoolError::io(&path, "read")(error)),
        };
        // The time of the inode's last change: linking is one.
        let changed = Duration::new(found.ctime().try_into().unwrap_or(0), found.ctime_nsec().try_into().unwrap_or(0));
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        if now.saturating_sub(changed) < margin {
            return Ok(false);
        }
        fs::remove_file(&path).map_err(SpoolError::io(&path, "removed"))?;
        Ok(true)
    }

    /// Puts a copy of the staged bytes at `target`, whole or not at all.
    fn replace(&self, staged: &Staged, target: &Path) -> Result<(), SpoolError> {
        let copy = {
            let mut source = File::open(staged.path()).map_err(SpoolError::io(staged.path(), "read"))?;
            let mut copy = self.stage()?;
            copy_all(&mut source, &mut copy).map_err(SpoolError::io(target, "written"))?;
            copy.finish()?
        };
        fs::rename(copy.path(), target).map_err(SpoolError::io(target, "written"))?;
        copy.installed();
        Ok(())
    }

    /// Where the bytes of `key` lie.
    #[must_use]
    pub fn path(&self, key: &SpoolKey) -> PathBuf {
        self.root.join(format!("{:02x}", key.0[0])).join(key.to_string())
    }

    /// Every kept file by its key, and every other file, which nobody has kept: staged ones, and what does not
    /// belong into the spool.
    pub fn walk(&self, kept: &mut dyn FnMut(SpoolKey), others: &mut dyn FnMut(PathBuf)) -> Result<(), SpoolError> {
        let listed = |path: &Path| -> Result<Vec<PathBuf>, SpoolError> {
            let entries = fs::read_dir(path).map_err(SpoolError::io(path, "listed"))?;
            entries.map(|entry| Ok(entry.map_err(SpoolError::io(path, "listed"))?.path())).collect()
        };
        for folder in listed(&self.root)? {
            if !folder.is_dir() {
                others(folder);
                continue;
            }
            for path in listed(&folder)? {
                let key = path.file_name().and_then(|name| name.to_str()).and_then(SpoolKey::from_hex);
                match key.filter(|key| self.path(key) == path) {
                    Some(key) => kept(key),
                    None => others(path),
                }
            }
        }
        Ok(())
    }

    /// Whether the bytes of `key` are there and the accepted ones; reads them, in bounded memory.
    pub fn verify(&self, key: &SpoolKey) -> Result<(), SpoolError> {
        let path = self.path(key);
        let bytes = match fs::metadata(&path) {
            Ok(found) => found.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(SpoolError::Lost { key: *key, what: "not there" });
            }
            Err(error) => return Err(SpoolError::io(&path, "read")(error)),
        };
        if holds(&path, key, bytes)? { Ok(()) } else { Err(SpoolError::Lost { key: *key, what: "damaged" }) }
    }

    /// All bytes of `key`, checked against the key while they are read.
    pub fn read(&self, key: &SpoolKey) -> Result<Vec<u8>, SpoolError> {
        let path = self.path(key);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(SpoolError::Lost { key: *key, what: "not there" });
            }
            Err(error) => return Err(SpoolError::io(&path, "read")(error)),
        };
        if Sha256::digest(&bytes)[..] == key.0 { Ok(bytes) } else { Err(SpoolError::Lost { key: *key, what: "damaged" }) }
    }

    /// Bytes that an unprivileged writer may still use on the spool's file system.
    pub fn free_space(&self) -> Result<u64, SpoolError> {
        let stat = rustix::fs::statvfs(&*self.root).map_err(|errno| SpoolError::io(&self.root, "measured")(errno.into()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// True if it was missing. Only the daemon's own user may look inside.
fn make_folder(path: &Path) -> Result<bool, SpoolError> {
    if path.is_dir() {
        return Ok(false);
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(SpoolError::io(path, "made"))?;
    Ok(true)
}

/// Whether the file holds the bytes of this key.
fn holds(path: &Path, key: &SpoolKey, bytes: u64) -> Result<bool, SpoolError> {
    let file = File::open(path).map_err(SpoolError::io(path, "read"))?;
    if file.metadata().map_err(SpoolError::io(path, "read"))?.len() != bytes {
        return Ok(false);
    }
    Ok(key_of(file).map_err(SpoolError::io(path, "read"))? == *key)
}

/// The key of what can be read, in bounded memory.
pub(crate) fn key_of(mut source: impl Read) -> io::Result<SpoolKey> {
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        match source.read(&mut chunk) {
            Ok(0) => return Ok(SpoolKey(hash.finalize().into())),
            Ok(read) => hash.update(&chunk[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Like [`io::copy`], in larger chunks.
pub(crate) fn copy_all(source: &mut dyn Read, target: &mut dyn Write) -> io::Result<u64> {
    let mut chunk = vec![0; CHUNK];
    let mut copied = 0;
    loop {
        match source.read(&mut chunk) {
            Ok(0) => return Ok(copied),
            Ok(read) => {
                target.write_all(&chunk[..read])?;
                copied += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

impl Staging {
    /// Bytes written so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Fsyncs the file and ends the hash.
    pub fn finish(self) -> Result<Staged, SpoolError> {
        let path = &self.hidden.path;
        crashpoint::here("staging-written");
        // Not `sync_data`: the time of modification is part of the file's identity.
        self.file.sync_all().map_err(SpoolError::io(path, "synced"))?;
        let identity = identity_of(&self.file.metadata().map_err(SpoolError::io(path, "read"))?);
        crashpoint::here("staging-synced");
        Ok(Staged { hidden: self.hidden, key: SpoolKey(self.hash.finalize().into()), identity })
    }
}

impl Write for Staging {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.file.write(buffer)?;
        self.hash.update(&buffer[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Staged {
    /// The sha256 of the bytes.
    #[must_use]
    pub fn key(&self) -> SpoolKey {
        self.key
    }

    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.identity.bytes
    }

    /// Stays the same when the file is renamed into a home.
    #[must_use]
    pub fn identity(&self) -> FileIdentity {
        self.identity
    }

    /// The hidden file, for `homes` to rename.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.hidden.path
    }

    /// The hidden file has been renamed away: nothing is left to clean up.
    pub fn installed(mut self) {
        self.hidden.is_gone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spool() -> (tempfile::TempDir, Spool) {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(&dir.path().join("data/spool")).unwrap();
        (dir, spool)
    }

    fn staged(spool: &Spool, bytes: &[u8]) -> Staged {
        let mut staging = spool.stage().unwrap();
        staging.write_all(bytes).unwrap();
        assert_eq!(staging.bytes(), bytes.len() as u64);
        staging.finish().unwrap()
    }

    fn incoming(spool: &Spool) -> usize {
        fs::read_dir(spool.incoming()).unwrap().count()
    }

    #[test]
    fn kept_bytes_are_named_by_their_hash_and_read_back() {
        let (_dir, spool) = spool();
        let staged = staged(&spool, b"abc");
        // FIPS 180-2, appendix B.1.
        assert_eq!(staged.key().to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let key = spool.keep(&staged).unwrap();
        assert_eq!(fs::metadata(spool.path(&key)).unwrap().ino(), staged.identity().inode, "a link, not a copy");
        drop(staged);
        assert_eq!((spool.read(&key).unwrap(), incoming(&spool)), (b"abc".to_vec(), 0));
    }

    #[test]
    fn what_is_dropped_before_it_is_installed_leaves_nothing() {
        let (_dir, spool) = spool();
        let mut staging = spool.stage().unwrap();
        staging.write_all(b"half").unwrap();
        assert_eq!(incoming(&spool), 1);
        drop(staging);
        assert_eq!(incoming(&spool), 0);
        drop(staged(&spool, b"whole"));
        assert_eq!(incoming(&spool), 0);
    }

    #[test]
    fn an_installed_file_is_left_alone() {
        let (dir, spool) = spool();
        let staged = staged(&spool, b"x");
        let (home, identity) = (dir.path().join("x"), staged.identity());
        fs::rename(staged.path(), &home).unwrap();
        staged.installed();
        assert_eq!(identity_of(&fs::metadata(&home).unwrap()), identity, "the same file under another name");
    }

    #[test]
    fn the_sweep_removes_what_a_crash_left() {
        let (_dir, spool) = spool();
        fs::write(spool.incoming().join("01J"), b"half").unwrap();
        assert_eq!((spool.sweep().unwrap(), spool.sweep().unwrap(), incoming(&spool)), (1, 0, 0));
    }

    #[test]
    fn keeping_twice_is_once_and_heals_spoiled_bytes() {
        let (_dir, spool) = spool();
        let key = spool.keep(&staged(&spool, b"same")).unwrap();
        assert_eq!(spool.keep(&staged(&spool, b"same")).unwrap(), key);
        for spoiled in [&b"longer than it was"[..], b"SAME"] {
            fs::write(spool.path(&key), spoiled).unwrap();
            assert!(matches!(spool.read(&key), Err(SpoolError::Lost { what: "damaged", .. })));
            spool.keep(&staged(&spool, b"same")).unwrap();
            assert_eq!(spool.read(&key).unwrap(), b"same");
        }
        assert_eq!(incoming(&spool), 0);
    }

    #[test]
    fn missing_bytes_are_lost_and_space_is_told() {
        let (_dir, spool) = spool();
        assert!(matches!(spool.read(&SpoolKey([7; 32])), Err(SpoolError::Lost { what: "not there", .. })));
        assert!(spool.free_space().unwrap() > 0);
    }

    #[test]
    fn a_full_disk_is_told_apart() {
        let path = Path::new("/spool/x");
        let full = SpoolError::io(path, "written")(io::Error::from(rustix::io::Errno::NOSPC));
        let quota = SpoolError::io(path, "written")(io::Error::from(rustix::io::Errno::DQUOT));
        assert!(matches!((full, quota), (SpoolError::NoSpace { .. }, SpoolError::NoSpace { .. })));
    }
}
