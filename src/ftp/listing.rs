//! An account's home as FTP shows it: entries, listings, and which of them are there.
//!
//! Everything goes through a directory handle, so no path and no symlink leads out. A listing is
//! taken while our own workers rename files in it: an entry that vanishes meanwhile is left out, and
//! is no reason to fail. Hidden names are never listed.

use super::blocking;
use crate::account::VirtualPath;
use crate::homes::DEEPEST;
use cap_std::ambient_authority;
use cap_std::fs::{Dir, MetadataExt, PermissionsExt};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;
use unftp_core::storage::{Fileinfo, Metadata, Permissions};
use unftp_sbe_fs::Filesystem;

/// The open home of a logged-in account.
#[derive(Debug)]
pub(super) struct Home {
    dir: Arc<Dir>,
    /// libunftp's own backend, jailed at the same folder, for what needs nothing of ours.
    pub files: Filesystem,
}

/// What FTP tells of a file. Owners are not told: they are ours, not the client's.
#[derive(Debug)]
pub struct Entry {
    inner: cap_std::fs::Metadata,
}

impl Home {
    /// Blocking.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Home { dir: Arc::new(Dir::open_ambient_dir(path, ambient_authority())?), files: Filesystem::new(path)? })
    }

    /// Of the name itself, were it a symlink. `path` is relative to the home, `.` for the home.
    pub async fn entry(&self, path: &str) -> io::Result<Entry> {
        let (dir, path) = (Arc::clone(&self.dir), path.to_owned());
        blocking(move || Ok(Entry { inner: dir.symlink_metadata(path)? })).await
    }

    /// What the daemon needs to read a document, or to work in a folder, cannot be taken away.
    pub async fn set_mode(&self, path: &str, mode: u32) -> io::Result<()> {
        let (dir, path) = (Arc::clone(&self.dir), path.to_owned());
        blocking(move || {
            let needed = if dir.metadata(&path)?.is_dir() { 0o700 } else { 0o400 };
            dir.set_permissions(path, cap_std::fs::Permissions::from_mode((mode & 0o777) | needed))
        })
        .await
    }

    /// Fails unless `path` is a folder inside the home.
    pub async fn must_be_folder(&self, path: &str) -> io::Result<()> {
        let (dir, path) = (Arc::clone(&self.dir), path.to_owned());
        blocking(move || if dir.metadata(path)?.is_dir() { Ok(()) } else { Err(io::ErrorKind::NotADirectory.into()) }).await
    }

    /// The entries of a folder by name, or the one entry of a file.
    pub async fn list(&self, path: &str) -> io::Result<Vec<Fileinfo<PathBuf, Entry>>> {
        let (dir, path) = (Arc::clone(&self.dir), path.to_owned());
        blocking(move || list(&dir, &path)).await
    }

    /// Fails unless a file could be put under this name: its folder is there (or could be made, if
    /// `make_folders`), and no folder has the name. Blocking. Whether it really can is found out when it is
    /// put there.
    pub fn must_have_room_for(&self, path: &VirtualPath, make_folders: bool) -> io::Result<()> {
        let mut folder = path.folder();
        while !folder.is_empty() {
            match self.dir.metadata(folder) {
                Ok(found) if found.is_dir() => break,
                Ok(_) => return Err(io::ErrorKind::NotADirectory.into()),
                Err(error) if make_folders && error.kind() == io::ErrorKind::NotFound => {
                    folder = folder.rsplit_once('/').map_or("", |(above, _)| above);
                }
                Err(error) => return Err(error),
            }
        }
        if folder != path.folder() {
            return if path.folder().split('/').count() > DEEPEST { Err(io::ErrorKind::InvalidFilename.into()) } else { Ok(()) };
        }
        match self.dir.symlink_metadata(path.relative()) {
            Ok(found) if found.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Entry {
    /// The same for every name of a file, and for no other file (RFC 3659).
    pub fn unique(&self) -> String {
        format!("{:x}g{:x}", self.inner.dev(), self.inner.ino())
    }
}

fn list(dir: &Dir, path: &str) -> io::Result<Vec<Fileinfo<PathBuf, Entry>>> {
    let entries = match dir.read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            let inner = dir.symlink_metadata(path)?;
            let name = Path::new(path).file_name().unwrap_or_default();
            return Ok(vec![Fileinfo { path: name.into(), metadata: Entry { inner } }]);
        }
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        match entry.metadata() {
            Ok(inner) => found.push(Fileinfo { path: PathBuf::from(name), metadata: Entry { inner } }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    found.sort_unstable_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

impl Metadata for Entry {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn is_dir(&self) -> bool {
        self.inner.is_dir()
    }

    fn is_file(&self) -> bool {
        self.inner.is_file()
    }

    fn is_symlink(&self) -> bool {
        self.inner.is_symlink()
    }

    fn modified(&self) -> unftp_core::storage::Result<SystemTime> {
        Ok(self.inner.modified()?.into_std())
    }

    fn gid(&self) -> u32 {
        0
    }

    fn uid(&self) -> u32 {
        0
    }

    fn permissions(&self) -> Permissions {
        Permissions(self.inner.permissions().mode())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn home() -> (tempfile::TempDir, Home) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("b.jpg"), "12345").unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(folder.path().join(".hidden"), "").unwrap();
        symlink("/etc", folder.path().join("out")).unwrap();
        let home = Home::open(folder.path()).unwrap();
        (folder, home)
    }

    fn names(found: &[Fileinfo<PathBuf, Entry>]) -> Vec<&str> {
        found.iter().map(|info| info.path.to_str().unwrap()).collect()
    }

    #[tokio::test]
    async fn listings_are_sorted_and_hide_what_is_hidden() {
        let (_folder, home) = home();
        let found = home.list(".").await.unwrap();
        assert_eq!(names(&found), ["a", "b.jpg", "out"]);
        assert!(found[0].metadata.is_dir() && found[2].metadata.is_symlink());
        assert!(!found[2].to_string().contains("/etc"), "where a symlink leads is nobody's business");
        assert_eq!(home.list("b.jpg").await.unwrap()[0].metadata.len(), 5);
        assert!(home.list("nothing").await.is_err());
    }

    #[tokio::test]
    async fn nothing_outside_is_a_folder() {
        let (_folder, home) = home();
        home.must_be_folder("a").await.unwrap();
        for path in ["out", "../", "b.jpg", "missing", "/etc"] {
            assert!(home.must_be_folder(path).await.is_err(), "{path}");
            assert!(path == "b.jpg" || home.list(path).await.is_err(), "{path}");
        }
    }

    #[tokio::test]
    async fn a_listing_survives_files_that_come_and_go() {
        let (folder, home) = home();
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let churn = std::thread::spawn({
            let (root, stop) = (folder.path().to_owned(), Arc::clone(&stop));
            move || {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    for number in 0..20 {
                        fs::write(root.join(format!("{number}.new")), "").unwrap();
                        fs::rename(root.join(format!("{number}.new")), root.join(format!("{number}.txt"))).unwrap();
                        fs::remove_file(root.join(format!("{number}.txt"))).unwrap();
                    }
                }
            }
        });
        for _ in 0..200 {
            let found = home.list(".").await.unwrap();
            assert!(names(&found).contains(&"b.jpg"));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        churn.join().unwrap();
    }

    #[test]
    fn places_are_looked_at_before_an_upload() {
        let (_folder, home) = home();
        let room = |path: &str| home.must_have_room_for(&VirtualPath::new(path).unwrap(), false).map_err(|error| error.kind());
        for path in ["/new.jpg", "/b.jpg", "/a/new.jpg", "/out"] {
            assert_eq!(room(path), Ok(()), "{path}");
        }
        assert_eq!(room("/a"), Err(io::ErrorKind::IsADirectory));
        assert_eq!(room("/missing/new.jpg"), Err(io::ErrorKind::NotFound));
        assert_eq!(room(&format!("/{}", "x".repeat(256))), Err(io::ErrorKind::InvalidFilename));
        for path in ["/out/new.jpg", "/b.jpg/new.jpg"] {
            assert!(room(path).is_err(), "{path}");
        }
        let room = |path: &str| home.must_have_room_for(&VirtualPath::new(path).unwrap(), true).map_err(|error| error.kind());
        for path in ["/missing/new.jpg", "/a/b/c/new.jpg", "/b.jpg"] {
            assert_eq!(room(path), Ok(()), "{path}");
        }
        assert_eq!(room("/a"), Err(io::ErrorKind::IsADirectory));
        assert_eq!(room(&format!("{}/new.jpg", "/d".repeat(DEEPEST + 1))), Err(io::ErrorKind::InvalidFilename));
        for path in ["/out/x/new.jpg", "/b.jpg/x/new.jpg"] {
            assert!(room(path).is_err(), "{path}");
        }
    }
}
