//! Accounts' folders, `<data-dir>/homes/<account>/`: what a client sees as `/`.
//!
//! Every path is walked inside a directory handle (cap-std), so neither `..` nor a symlink reaches
//! anything outside the home. Files appear by rename of a staged, fsynced file, and the folder is
//! fsynced before the answer. Written by `intake` (uploads) and `worker::publish` (sidecars) only;
//! clients' own deletes, renames and folders come from `ftp`. What changes a home's files goes through
//! [`changes`], so that quotas need no walk.

use crate::account::{AccountName, Quota, VirtualPath};
use crate::job::FileIdentity;
use crate::sidecar::names;
use crate::spool::{self, Staged};
use cap_std::ambient_authority;
use cap_std::fs::{Dir, DirBuilder, DirBuilderExt, Metadata, MetadataExt, OpenOptions, OpenOptionsExt};
use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

mod arrivals;
mod changes;
mod usage;

pub use arrivals::Times;
pub use usage::{Held, Reservation};

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
    /// A file of that name is there, and is to stay.
    #[error("there is a file {path} already")]
    Taken { path: PathBuf },
    /// Something must be deleted first.
    #[error("the account's quota of {} is used up", told(.quota))]
    OverQuota { quota: Quota },
    #[error("{path} cannot be {doing}")]
    Io {
        path: PathBuf,
        doing: &'static str,
        #[source]
        source: io::Error,
    },
}

/// As a person says it.
fn told(quota: &Quota) -> String {
    let bytes = quota.bytes.map(|bytes| format!("{bytes} bytes"));
    let files = quota.files.map(|files| format!("{files} files"));
    bytes.into_iter().chain(files).collect::<Vec<_>>().join(" or ")
}

/// Folders below each other that are looked into, and made; a chain that is deeper is nobody's scans.
pub const DEEPEST: usize = 64;

/// The folder of all homes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Homes {
    root: Arc<Path>,
    dir: Arc<Dir>,
    usage: Arc<usage::Usage>,
}

impl Homes {
    /// Opens `<data-dir>/homes`, making it where missing.
    pub fn open(root: &Path) -> Result<Self, HomeError> {
        let named = |doing: &'static str| move |source| error(root.to_owned(), doing, source);
        if !root.is_dir() {
            use std::os::unix::fs::DirBuilderExt as _;
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(named("made"))?;
            if let Some(parent) = root.parent() {
                spool::sync_folder(parent).map_err(named("synced"))?;
            }
        }
        let dir = Dir::open_ambient_dir(root, ambient_authority()).map_err(named("opened"))?;
        Ok(Homes { root: root.into(), dir: Arc::new(dir), usage: Arc::default() })
    }

    /// The folder of all homes.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// This account's home, made (0700, fsynced) where missing.
    pub fn ensure(&self, account: &AccountName) -> Result<PathBuf, HomeError> {
        let home = self.root.join(account.as_str());
        match self.dir.create_dir_with(account.as_str(), DirBuilder::new().mode(0o700)) {
            Ok(()) => sync(&self.dir).map_err(|source| error(self.root.to_path_buf(), "synced", source))?,
            Err(taken) if taken.kind() == io::ErrorKind::AlreadyExists => {
                // Somebody's file or symlink in its place is told here, not at the first upload.
                self.dir.open_dir(account.as_str()).map_err(|source| error(home.clone(), "opened", source))?;
            }
            Err(source) => return Err(error(home, "made", source)),
        }
        Ok(home)
    }

    /// Makes the folders that hold `path` where they are missing, each fsynced into the one above it. What is
    /// there already must be folders, and inside the home.
    pub fn make_folders(&self, account: &AccountName, path: &VirtualPath) -> Result<(), HomeError> {
        let named = |doing| move |source: io::Error| error(self.shown(account, path), doing, source);
        let names: Vec<&str> = path.folder().split('/').filter(|name| !name.is_empty()).collect();
        let home = self.dir.open_dir(account.as_str()).map_err(named("opened"))?;
        // Mostly they are there.
        if names.is_empty() || home.metadata(path.folder()).is_ok_and(|found| found.is_dir()) {
            return Ok(());
        }
        if names.len() > DEEPEST {
            return Err(HomeError::NotAPlace { path: self.shown(account, path) });
        }
        for depth in 1..=names.len() {
            // From the home each time: no handle that was walked to is a way out of it.
            let (above, folder) = (names[..depth - 1].join("/"), names[..depth].join("/"));
            match home.create_dir(&folder) {
                Ok(()) => {
                    let above = if above.is_empty() { sync(&home) } else { home.open_dir(&above).and_then(|above| sync(&above)) };
                    above.map_err(named("synced"))?;
                }
                Err(taken) if taken.kind() == io::ErrorKind::AlreadyExists => {
                    if !home.metadata(&folder).map_err(named("made"))?.is_dir() {
                        return Err(HomeError::NotAPlace { path: self.shown(account, path) });
                    }
                }
                Err(source) => return Err(named("made")(source)),
            }
        }
        Ok(())
    }

    /// Gives what lies under the name another time of modification; answers which file it is now, `None` if it
    /// is not a regular one. A symlink is not followed.
    pub fn set_modified(
        &self,
        account: &AccountName,
        path: &VirtualPath,
        modified_ns: i128,
    ) -> Result<Option<FileIdentity>, HomeError> {
        let named = |source| error(self.shown(account, path), "changed", source);
        let folder = self.folder(account, path).map_err(named)?;
        let omitted = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        let seconds =
            i64::try_from(modified_ns.div_euclid(1_000_000_000)).map_err(|_| named(io::ErrorKind::InvalidInput.into()))?;
        let modified =
            Timespec { tv_sec: seconds, tv_nsec: i64::try_from(modified_ns.rem_euclid(1_000_000_000)).expect("below a second") };
        let times = Timestamps { last_access: omitted, last_modification: modified };
        rustix::fs::utimensat(folder.as_fd(), path.file_name(), &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| named(errno.into()))?;
        self.identity(account, path)
    }

    /// What an [`install`](Self::install) under this name would replace: `None` if nothing. Fails as the
    /// install would, where the folder is missing or the name is a folder's.
    pub fn would_replace(&self, account: &AccountName, path: &VirtualPath) -> Result<Option<FileIdentity>, HomeError> {
        let named = |source| error(self.shown(account, path), "written", source);
        match self.folder(account, path).map_err(named)?.symlink_metadata(path.file_name()) {
            Ok(found) if found.is_dir() => Err(HomeError::NotAPlace { path: self.shown(account, path) }),
            Ok(found) => Ok(Some(identity_of(&found))),
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(named(source)),
        }
    }

    /// What lies under the name: `None` if nothing, or not a regular file.
    pub fn identity(&self, account: &AccountName, path: &VirtualPath) -> Result<Option<FileIdentity>, HomeError> {
        Ok(self.metadata(account, path)?.filter(Metadata::is_file).map(|file| identity_of(&file)))
    }

    /// Whether a folder (not a symlink to one) lies under the name.
    pub fn is_folder(&self, account: &AccountName, path: &VirtualPath) -> Result<bool, HomeError> {
        Ok(self.metadata(account, path)?.is_some_and(|found| found.is_dir()))
    }

    fn metadata(&self, account: &AccountName, path: &VirtualPath) -> Result<Option<Metadata>, HomeError> {
        match self.folder(account, path).and_then(|folder| folder.symlink_metadata(path.file_name())) {
            Ok(found) => Ok(Some(found)),
            Err(source) => match error(self.shown(account, path), "looked at", source) {
                HomeError::Missing { .. } | HomeError::NotAPlace { .. } => Ok(None),
                other => Err(other),
            },
        }
    }

    /// Opens a regular file for reading, never through a symlink out of the home.
    pub fn open_file(&self, account: &AccountName, path: &VirtualPath) -> Result<File, HomeError> {
        let named = |source| error(self.shown(account, path), "opened", source);
        let mut options = OpenOptions::new();
        // A pipe that somebody put there must not hold the reader until a writer comes.
        options.read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
        let home = self.dir.open_dir(account.as_str()).map_err(named)?;
        let file = home.open_with(path.relative(), &options).map_err(named)?.into_std();
        if file.metadata().map_err(named)?.is_file() {
            Ok(file)
        } else {
            Err(HomeError::NotAPlace { path: self.shown(account, path) })
        }
    }

    /// Removes a file if it is there, and fsyncs the folder. True if it was.
    pub fn remove(&self, account: &AccountName, path: &VirtualPath) -> Result<bool, HomeError> {
        self.remove_beside(account, path, &[""]).map(|removed| removed > 0)
    }

    /// Removes the files whose names are this one's with one of `suffixes` added, in their order, and
    /// fsyncs the folder once. Answers how many were there.
    pub fn remove_beside(&self, account: &AccountName, path: &VirtualPath, suffixes: &[&str]) -> Result<usize, HomeError> {
        let folder = match self.folder(account, path) {
            Ok(folder) => folder,
            Err(source) => {
                return match error(self.shown(account, path), "removed", source) {
                    HomeError::Missing { .. } => Ok(0),
                    other => Err(other),
                };
            }
        };
        let mut removed = 0;
        for suffix in suffixes {
            let name = format!("{}{suffix}", path.file_name());
            match self.unlink(account, &folder, &name) {
                Ok(()) => removed += 1,
                Err(source) => match error(self.shown(account, &path.beside(suffix)), "removed", source) {
                    HomeError::Missing { .. } => {}
                    // A name too long to exist, with the suffix.
                    HomeError::NotAPlace { .. } if !suffix.is_empty() => {}
                    other => return Err(other),
                },
            }
        }
        if removed > 0 {
            sync(&folder).map_err(|source| error(self.shown(account, path), "synced", source))?;
        }
        Ok(removed)
    }

    /// Removes the sidecars of a stack's documents from number `first` on that `is_old` says may go. Answers how many.
    pub fn remove_parts(
        &self,
        account: &AccountName,
        path: &VirtualPath,
        first: u32,
        is_old: &dyn Fn(&FileIdentity) -> bool,
    ) -> Result<usize, HomeError> {
        let (mut removed, mut missing) = (0, 0);
        for number in first..=u32::MAX {
            let mut old = Vec::new();
            let mut any = false;
            for suffix in names::part_suffixes(number) {
                let found = self.identity(account, &path.beside(&suffix))?;
                any |= found.is_some();
                old.extend(found.filter(is_old).map(|_| suffix));
            }
            let old: Vec<&str> = old.iter().map(String::as_str).collect();
            removed += self.remove_beside(account, path, &old)?;
            missing = if any { 0 } else { missing + 1 };
            if missing == names::PART_GAP {
                break;
            }
        }
        Ok(removed)
    }

    /// Fsyncs the folder that holds `path`: a rename there that somebody else made is durable then.
    pub fn sync_around(&self, account: &AccountName, path: &VirtualPath) -> Result<(), HomeError> {
        let named = |source| error(self.shown(account, path), "synced", source);
        sync(&self.folder(account, path).map_err(named)?).map_err(named)
    }

    /// Every regular file of a home, folders first found first walked, symlinks not followed, hidden
    /// names skipped, at most 64 folders deep. A file that vanishes meanwhile is skipped. Names that
    /// are not UTF-8 are passed over too: no door could name them.
    pub fn walk(&self, account: &AccountName, found: &mut dyn FnMut(VirtualPath, FileIdentity)) -> Result<(), HomeError> {
        let home = match self.dir.open_dir(account.as_str()) {
            Ok(home) => home,
            Err(source) => return Err(error(self.root.join(account.as_str()), "opened", source)),
        };
        let mut folders = VecDeque::from([(String::new(), 0)]);
        while let Some((folder, depth)) = folders.pop_front() {
            let entries = if folder.is_empty() { home.entries() } else { home.read_dir(&folder) };
            // One folder that is gone by now, or closed to us, does not hide the others.
            let Ok(entries) = entries else { continue };
            for entry in entries.flatten() {
                let name = match entry.file_name().into_string() {
                    Ok(name) if name.starts_with('.') => continue,
                    Ok(name) => name,
                    Err(name) => {
                        tracing::debug!(account.name = %account, file.name = ?name, "a name that is not UTF-8 is passed over");
                        continue;
                    }
                };
                let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
                let Ok(metadata) = entry.metadata() else { continue };
                if metadata.is_dir() && depth < DEEPEST {
                    folders.push_back((path, depth + 1));
                } else if metadata.is_file()
                    && let Ok(path) = VirtualPath::new(&path)
                {
                    found(path, identity_of(&metadata));
                }
            }
        }
        Ok(())
    }

    /// The folder that holds `path`, reached without leaving the home.
    fn folder(&self, account: &AccountName, path: &VirtualPath) -> io::Result<Dir> {
        let home = self.dir.open_dir(account.as_str())?;
        if path.folder().is_empty() { Ok(home) } else { home.open_dir(path.folder()) }
    }

    fn shown(&self, account: &AccountName, path: &VirtualPath) -> PathBuf {
        self.root.join(account.as_str()).join(path.relative())
    }
}

/// For a home on another file system than the spool: the same whole or not at all, by a hidden copy.
fn copy_in(folder: &Dir, name: &str, staged: &Staged) -> io::Result<FileIdentity> {
    let hidden = format!(".inkport-{}", ulid::Ulid::generate());
    let copied = (|| {
        let mut source = File::open(staged.path())?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o644);
        let mut target = folder.open_with(&hidden, &options)?.into_std();
        spool::copy_all(&mut source, &mut target)?;
        target.sync_all()?;
        let identity = spool::identity_of(&target.metadata()?);
        rustix::fs::renameat(folder.as_fd(), &hidden, folder.as_fd(), name)?;
        Ok(identity)
    })();
    if copied.is_err() {
        let _ = folder.remove_file(&hidden);
    }
    copied
}

fn sync(folder: &Dir) -> io::Result<()> {
    // cap-std's handles are for walking only (O_PATH), which fsync refuses.
    let open = rustix::fs::openat(folder.as_fd(), ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(rustix::fs::fsync(open)?)
}

fn identity_of(file: &Metadata) -> FileIdentity {
    spool::identity_from(file.ino(), file.mtime(), file.mtime_nsec(), file.len())
}

fn error(path: PathBuf, doing: &'static str, source: io::Error) -> HomeError {
    use io::ErrorKind as Kind;
    match source.kind() {
        _ if spool::is_full(&source) => HomeError::NoSpace { path },
        Kind::NotFound => HomeError::Missing { path },
        Kind::IsADirectory | Kind::NotADirectory | Kind::InvalidFilename | Kind::InvalidInput => HomeError::NotAPlace { path },
        // cap-std's own word for a path that leads out; the kernel's refusals have a number.
        Kind::PermissionDenied if source.raw_os_error().is_none() => HomeError::NotAPlace { path },
        _ if Errno::from_io_error(&source) == Some(Errno::LOOP) => HomeError::NotAPlace { path },
        _ => HomeError::Io { path, doing, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::Spool;
    use rustix::fs::CWD;
    use std::io::{Read, Write};
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};

    struct House {
        dir: tempfile::TempDir,
        spool: Spool,
        homes: Homes,
        alice: AccountName,
    }

    fn house() -> House {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(&dir.path().join("spool")).unwrap();
        let homes = Homes::open(&dir.path().join("homes")).unwrap();
        let alice: AccountName = "alice".parse().unwrap();
        homes.ensure(&alice).unwrap();
        House { dir, spool, homes, alice }
    }

    impl House {
        fn staged(&self, bytes: &[u8]) -> Staged {
            let mut staging = self.spool.stage().unwrap();
            staging.write_all(bytes).unwrap();
            staging.finish().unwrap()
        }

        fn install(&self, path: &str, bytes: &[u8]) -> Result<FileIdentity, HomeError> {
            self.homes.install(&self.alice, &at(path), self.staged(bytes))
        }

        fn read(&self, path: &str) -> Result<Vec<u8>, HomeError> {
            let mut bytes = Vec::new();
            self.homes.open_file(&self.alice, &at(path))?.read_to_end(&mut bytes).unwrap();
            Ok(bytes)
        }

        fn home(&self) -> PathBuf {
            self.homes.root().join("alice")
        }

        fn walk(&self) -> Vec<String> {
            let mut paths = Vec::new();
            self.homes.walk(&self.alice, &mut |path, _| paths.push(path.as_str().to_owned())).unwrap();
            paths.sort();
            paths
        }
    }

    fn at(path: &str) -> VirtualPath {
        VirtualPath::new(path).unwrap()
    }

    #[test]
    fn homes_are_private_and_made_once() {
        let house = house();
        assert_eq!(house.homes.ensure(&house.alice).unwrap(), house.home());
        assert_eq!(house.home().metadata().unwrap().permissions().mode() & 0o777, 0o700);
        std::fs::write(house.homes.root().join("bob"), b"").unwrap();
        assert!(matches!(house.homes.ensure(&"bob".parse().unwrap()), Err(HomeError::NotAPlace { .. })));
    }

    #[test]
    fn a_file_appears_whole_and_keeps_its_identity() {
        let house = house();
        let staged = house.staged(b"new");
        let identity = staged.identity();
        assert_eq!(house.homes.install(&house.alice, &at("/scan.jpg"), staged).unwrap(), identity);
        assert_eq!(house.homes.identity(&house.alice, &at("/scan.jpg")).unwrap(), Some(identity));
        assert_eq!(house.home().join("scan.jpg").metadata().unwrap().mode() & 0o700, 0o600);
        assert_eq!(house.read("/scan.jpg").unwrap(), b"new");
    }

    #[test]
    fn a_replaced_file_stays_readable_until_the_rename() {
        let house = house();
        house.install("/scan.jpg", b"old").unwrap();
        let mut open = house.homes.open_file(&house.alice, &at("/scan.jpg")).unwrap();
        let staged = house.staged(b"new");
        assert_eq!(house.read("/scan.jpg").unwrap(), b"old");
        house.homes.install(&house.alice, &at("/scan.jpg"), staged).unwrap();
        assert_eq!(house.read("/scan.jpg").unwrap(), b"new");
        let mut old = Vec::new();
        open.read_to_end(&mut old).unwrap();
        assert_eq!(old, b"old", "a reader goes on with the file it opened");
    }

    #[test]
    fn symlinks_lead_nowhere_outside() {
        let house = house();
        let outside = house.dir.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("secret"), b"secret").unwrap();
        symlink(&outside, house.home().join("link")).unwrap();
        symlink("../..", house.home().join("up")).unwrap();
        symlink(outside.join("secret"), house.home().join("file")).unwrap();
        for path in ["/link/x", "/up/x", "/up/outside/x"] {
            let refused = house.install(path, b"x").unwrap_err();
            assert!(matches!(refused, HomeError::NotAPlace { .. }), "{path}: {refused:?}");
        }
        for path in ["/link/secret", "/up/outside/secret", "/file"] {
            assert!(matches!(house.read(path), Err(HomeError::NotAPlace { .. })), "{path}");
            assert_eq!(house.homes.identity(&house.alice, &at(path)).unwrap(), None, "{path}");
        }
        assert!(house.homes.remove(&house.alice, &at("/link/secret")).is_err());
        assert_eq!(house.walk(), [""; 0]);
        house.install("/file", b"mine").unwrap();
        assert_eq!(
            (std::fs::read(outside.join("secret")).unwrap(), house.read("/file").unwrap()),
            (b"secret".into(), b"mine".into())
        );
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_hold_a_file_is_told_apart_and_leaves_no_staged_file() {
        let house = house();
        std::fs::create_dir(house.home().join("folder")).unwrap();
        house.install("/file", b"x").unwrap();
        for path in ["/missing/x", "/folder", "/file/x", &"x".repeat(300)] {
            assert!(house.homes.would_replace(&house.alice, &at(path)).is_err(), "{path}");
        }
        assert!(house.homes.would_replace(&house.alice, &at("/file")).unwrap().is_some());
        assert!(house.homes.would_replace(&house.alice, &at("/folder/x")).unwrap().is_none());
        assert!(matches!(house.install("/missing/x", b"x"), Err(HomeError::Missing { .. })));
        assert!(matches!(house.install("/folder", b"x"), Err(HomeError::NotAPlace { .. })));
        assert!(matches!(house.install("/file/x", b"x"), Err(HomeError::NotAPlace { .. })));
        assert!(matches!(house.install(&"x".repeat(300), b"x"), Err(HomeError::NotAPlace { .. })));
        assert!(matches!(
            house.homes.install(&"nobody".parse().unwrap(), &at("/x"), house.staged(b"x")),
            Err(HomeError::Missing { .. })
        ));
        assert_eq!(std::fs::read_dir(house.dir.path().join("spool/incoming")).unwrap().count(), 0);
    }

    #[test]
    fn folders_are_made_inside_and_nowhere_else() {
        let house = house();
        let make = |path: &str| house.homes.make_folders(&house.alice, &at(path));
        make("/x").unwrap();
        make("/a/b/c/x").unwrap();
        make("/a/b/d/x").unwrap();
        house.install("/a/b/c/x", b"x").unwrap();
        assert!(matches!(make("/a/b/c/x/y"), Err(HomeError::NotAPlace { .. })), "a file stands in the way");
        std::fs::create_dir(house.dir.path().join("outside")).unwrap();
        symlink(house.dir.path().join("outside"), house.home().join("link")).unwrap();
        symlink("nowhere", house.home().join("loose")).unwrap();
        for path in ["/link/a/x", "/link/x", "/loose/x"] {
            assert!(make(path).is_err() && house.install(path, b"x").is_err(), "{path}");
        }
        assert_eq!(std::fs::read_dir(house.dir.path().join("outside")).unwrap().count(), 0);
        make(&format!("{}/x", "/d".repeat(DEEPEST))).unwrap();
        assert!(matches!(make(&format!("{}/x", "/e".repeat(DEEPEST + 1))), Err(HomeError::NotAPlace { .. })));
        assert!(!house.home().join("e").exists());
    }

    #[test]
    fn times_are_set_but_not_through_symlinks() {
        let house = house();
        let before = house.install("/a.jpg", b"x").unwrap();
        let later = 1_577_934_245_000_000_007;
        let after = house.homes.set_modified(&house.alice, &at("/a.jpg"), later).unwrap().unwrap();
        assert_eq!(after, FileIdentity { modified_ns: later, ..before });
        assert_eq!(house.homes.set_modified(&house.alice, &at("/a.jpg"), -5).unwrap().unwrap().modified_ns, -5);
        let outside = house.dir.path().join("outside");
        std::fs::write(&outside, b"x").unwrap();
        let untouched = outside.metadata().unwrap().modified().unwrap();
        symlink(&outside, house.home().join("link")).unwrap();
        assert_eq!(house.homes.set_modified(&house.alice, &at("/link"), later).unwrap(), None);
        assert_eq!(outside.metadata().unwrap().modified().unwrap(), untouched);
        assert!(matches!(house.homes.set_modified(&house.alice, &at("/b.jpg"), later), Err(HomeError::Missing { .. })));
    }

    #[test]
    fn a_pipe_is_not_waited_for() {
        let house = house();
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(CWD, house.home().join("pipe"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(matches!(house.read("/pipe"), Err(HomeError::NotAPlace { .. })));
        assert_eq!(house.walk(), [""; 0]);
    }

    #[test]
    fn removing_tells_whether_it_was_there() {
        let house = house();
        house.install("/a.jpg", b"x").unwrap();
        house.install("/a.jpg.txt", b"x").unwrap();
        assert_eq!(house.homes.remove_beside(&house.alice, &at("/a.jpg"), &[".json", ".txt"]).unwrap(), 1);
        assert!(house.homes.remove(&house.alice, &at("/a.jpg")).unwrap());
        assert!(!house.homes.remove(&house.alice, &at("/a.jpg")).unwrap());
        assert!(!house.homes.remove(&house.alice, &at("/no/a.jpg")).unwrap());
    }

    #[test]
    fn the_walk_sees_files_but_nothing_hidden() {
        let house = house();
        std::fs::create_dir_all(house.home().join("a/b")).unwrap();
        std::fs::create_dir(house.home().join(".trash")).unwrap();
        for path in ["/1", "/a/2", "/a/b/3", "/.hidden", "/.trash/4", "/a/.5"] {
            house.install(path, b"x").unwrap();
        }
        symlink(house.home().join("a"), house.home().join("again")).unwrap();
        assert_eq!(house.walk(), ["/1", "/a/2", "/a/b/3"]);
        assert!(house.homes.is_folder(&house.alice, &at("/a/b")).unwrap());
        assert!(!house.homes.is_folder(&house.alice, &at("/again")).unwrap());
    }

    #[test]
    fn a_home_on_another_file_system_gets_a_whole_copy() {
        let house = house();
        let staged = house.staged(b"copied");
        let folder = house.homes.folder(&house.alice, &at("/x")).unwrap();
        let identity = copy_in(&folder, "x", &staged).unwrap();
        assert_eq!(house.homes.identity(&house.alice, &at("/x")).unwrap(), Some(identity));
        assert_eq!((house.read("/x").unwrap(), house.walk()), (b"copied".to_vec(), vec!["/x".to_owned()]));
        std::fs::create_dir(house.home().join("taken")).unwrap();
        assert!(copy_in(&folder, "taken", &staged).is_err());
        assert_eq!(std::fs::read_dir(house.home()).unwrap().count(), 2, "no hidden copy is left");
    }
}
