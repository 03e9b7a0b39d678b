//! What the watch asks of homes beside the walk: what tells that a file is whole, and whether the folder of
//! all homes is still the one that was opened.

use super::{HomeError, Homes, error};
use crate::account::{AccountName, VirtualPath};
use cap_std::fs::MetadataExt;
use std::io;

/// When a file was last written and when anything about it last changed: its name, its mode, its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Seconds and nanoseconds since 1970, as are all here.
    pub modified: (i64, i64),
    pub changed: (i64, i64),
}

impl Homes {
    /// The times of what lies under the name: `None` if nothing, or no regular file.
    pub fn times(&self, account: &AccountName, path: &VirtualPath) -> Result<Option<Times>, HomeError> {
        let found = self.metadata(account, path)?.filter(cap_std::fs::Metadata::is_file);
        Ok(found.map(|file| Times { modified: (file.mtime(), file.mtime_nsec()), changed: (file.ctime(), file.ctime_nsec()) }))
    }

    /// The files beside `path` that are called `stem`, or `stem` with one extension.
    pub fn called(&self, account: &AccountName, path: &VirtualPath, stem: &str) -> Result<Vec<VirtualPath>, HomeError> {
        let named = |source| error(self.shown(account, path), "looked at", source);
        let entries = match self.folder(account, path).and_then(|folder| folder.entries()) {
            Ok(entries) => entries,
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(named(source)),
        };
        let is_called = |name: &str| {
            name.strip_prefix(stem)
                .is_some_and(|rest| rest.is_empty() || rest.strip_prefix('.').is_some_and(|extension| !extension.contains('.')))
        };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| is_called(name));
        Ok(names.filter_map(|name| VirtualPath::new(&format!("{}/{name}", path.folder())).ok()).collect())
    }

    /// Whether the file of this name in the folder of all homes holds these bytes, seen by the handle that
    /// everything here goes through.
    #[must_use]
    pub fn holds(&self, name: &str, bytes: &[u8]) -> bool {
        self.dir.read(name).is_ok_and(|found| found == bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_marker_finds_its_files_and_a_rename_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let homes = Homes::open(&dir.path().join("homes")).unwrap();
        let alice: AccountName = "alice".parse().unwrap();
        let home = homes.ensure(&alice).unwrap();
        fs::create_dir(home.join("in")).unwrap();
        for name in ["in/scan.pdf", "in/scan.jpg", "in/scan.pdf.txt", "in/scan2.pdf", "in/scan", "scan.pdf"] {
            fs::write(home.join(name), b"x").unwrap();
        }
        let at = |path: &str| VirtualPath::new(path).unwrap();
        let called = |stem| {
            let mut found = homes.called(&alice, &at("/in/scan.done"), stem).unwrap();
            found.sort();
            found.iter().map(|path| path.as_str().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(called("scan"), ["/in/scan", "/in/scan.jpg", "/in/scan.pdf"]);
        assert_eq!(called("scan.pdf"), ["/in/scan.pdf", "/in/scan.pdf.txt"]);
        assert_eq!(homes.called(&alice, &at("/gone/scan.done"), "scan").unwrap(), []);

        assert_eq!(homes.times(&alice, &at("/gone")).unwrap(), None);
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::rename(home.join("scan.pdf"), home.join("final.pdf")).unwrap();
        let times = homes.times(&alice, &at("/final.pdf")).unwrap().unwrap();
        assert!(times.changed > times.modified, "{times:?}");

        fs::write(homes.root().join(".canary"), b"1").unwrap();
        assert!(homes.holds(".canary", b"1") && !homes.holds(".canary", b"2") && !homes.holds(".none", b"1"));
    }
}
