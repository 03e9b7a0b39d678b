//! A snapshot of database, spool and homes, taken while the daemon runs.
//!
//! The order makes it consistent: the database as it stands at one instant first, then the bytes of
//! every row in that copy (bytes are in the spool before their row is committed, and stay there), then
//! the homes, whose files appear whole. What comes in meanwhile may be in the homes without a row: the
//! scan takes it after a restore. `SHA256SUMS` is written last, in the form of `sha256sum --check`: where
//! it is, the backup is whole.

use super::{Quiet, UpkeepError};
use crate::database;
use crate::job::SpoolKey;
use crate::queue::sqlite::SqliteLedger;
use crate::spool::{self, Spool};
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What names the files of a backup and their hashes.
pub const SUMS: &str = "SHA256SUMS";

/// What is copied.
#[derive(Debug, Clone)]
pub struct From {
    pub database: PathBuf,
    pub spool: Spool,
    pub homes: PathBuf,
}

/// What a backup came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    pub jobs: u64,
    pub files: u64,
    pub bytes: u64,
    /// Rows whose bytes are not there or not the accepted ones: `inkport fsck` tells more.
    pub lost: Vec<SpoolKey>,
}

/// Takes a backup into `folder`, which is made where missing and must be empty. Blocking.
pub fn take(from: &From, folder: &Path) -> Result<Report, UpkeepError> {
    prepare(folder)?;
    let _quiet = Quiet::wait(&from.database)?;
    let database = folder.join("inkport.db");
    database::snapshot(&from.database, &database)?;
    let mut copy = Copy::begin(folder)?;
    copy.sum(&database, Path::new("inkport.db"))?;

    // Read from the copy: its rows are those whose bytes must come along.
    let ledger = SqliteLedger::open(&database)?;
    let mut report = Report::default();
    make_folder(&folder.join("spool"))?;
    let mut after = None;
    loop {
        let page = ledger.kept(after)?;
        let Some(last) = page.last() else { break };
        after = Some(last.job.id);
        for kept in &page {
            report.jobs += 1;
            for key in std::iter::once(&kept.job.spool).chain(kept.attachments.iter().map(|(_, key)| key)) {
                // What retention removed, and what went with a mail, nobody misses.
                let wanted = if *key == kept.job.spool { !kept.original_removed } else { kept.mail_is_open };
                if !copy.keep(&from.spool, key)? && wanted && !report.lost.contains(key) {
                    report.lost.push(*key);
                }
            }
        }
    }
    drop(ledger);
    make_folder(&folder.join("homes"))?;
    copy.homes(&from.homes)?;
    (report.files, report.bytes) = (copy.files, copy.bytes);
    copy.end()?;
    Ok(report)
}

fn prepare(folder: &Path) -> Result<(), UpkeepError> {
    match fs::read_dir(folder) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => {
                Err(UpkeepError::Folder { path: folder.to_owned(), problem: "is not empty: name a new folder for each backup" })
            }
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => make_folder(folder),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            Err(UpkeepError::Folder { path: folder.to_owned(), problem: "is not a folder" })
        }
        Err(error) => Err(UpkeepError::io(folder, "listed")(error)),
    }
}

/// It holds other people's documents and password hashes.
fn make_folder(path: &Path) -> Result<(), UpkeepError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(UpkeepError::io(path, "made"))
}

struct Copy<'a> {
    folder: &'a Path,
    sums: BufWriter<File>,
    files: u64,
    bytes: u64,
    /// Spooled files by inode: homes link to them, and so does the backup.
    spooled: HashMap<(u64, u64), PathBuf>,
    folders: Vec<PathBuf>,
}

impl<'a> Copy<'a> {
    fn begin(folder: &'a Path) -> Result<Self, UpkeepError> {
        let path = folder.join(format!("{SUMS}.part"));
        let sums =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(UpkeepError::io(&path, "made"))?;
        Ok(Copy { folder, sums: BufWriter::new(sums), files: 0, bytes: 0, spooled: HashMap::new(), folders: Vec::new() })
    }

    /// One line for a file that lies in the backup.
    fn sum(&mut self, file: &Path, name: &Path) -> Result<(), UpkeepError> {
        let source = File::open(file).map_err(UpkeepError::io(file, "read"))?;
        let bytes = source.metadata().map_err(UpkeepError::io(file, "read"))?.len();
        let key = spool::key_of(source).map_err(UpkeepError::io(file, "read"))?;
        self.line(&key, name, bytes)
    }

    fn line(&mut self, hash: &SpoolKey, name: &Path, bytes: u64) -> Result<(), UpkeepError> {
        self.files += 1;
        self.bytes += bytes;
        let name = name.to_string_lossy();
        // As sha256sum writes names that would break its lines.
        let escaped = name.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r");
        let mark = if escaped == name { "" } else { "\\" };
        writeln!(self.sums, "{mark}{hash}  {escaped}").map_err(UpkeepError::io(self.folder, "written"))
    }

    /// The bytes of a key: a link where the backup lies on the same file system, else a copy. False if
    /// they are not there, or are other bytes.
    fn keep(&mut self, spool: &Spool, key: &SpoolKey) -> Result<bool, UpkeepError> {
        let (source, hex) = (spool.path(key), key.to_string());
        let name = Path::new("spool").join(&hex[..2]).join(&hex);
        let target = self.folder.join(&name);
        if target.exists() {
            return Ok(true);
        }
        match spool.verify(key) {
            Ok(()) => {}
            Err(spool::SpoolError::Lost { .. }) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        self.folder_of(&target)?;
        if fs::hard_link(&source, &target).is_err() {
            self.copy(&mut File::open(&source).map_err(UpkeepError::io(&source, "read"))?, &target)?;
        }
        let found = fs::metadata(&source).map_err(UpkeepError::io(&source, "read"))?;
        self.spooled.insert((found.dev(), found.ino()), target);
        self.line(key, &name, found.len())?;
        Ok(true)
    }

    /// Every regular file of every home; hidden ones are staging or nobody's.
    fn homes(&mut self, homes: &Path) -> Result<(), UpkeepError> {
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            let Ok(entries) = fs::read_dir(homes.join(&folder)) else { continue };
            for entry in entries.flatten() {
                if entry.file_name().as_encoded_bytes().starts_with(b".") {
                    continue;
                }
                let inside = folder.join(entry.file_name());
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => {
                        let target = self.folder.join("homes").join(&inside);
                        make_folder(&target)?;
                        self.folders.push(target);
                        folders.push(inside);
                    }
                    Ok(kind) if kind.is_file() => self.home_file(homes, &inside)?,
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn home_file(&mut self, homes: &Path, inside: &Path) -> Result<(), UpkeepError> {
        let source = homes.join(inside);
        // Whoever removed it meanwhile does not want it in the backup either.
        let Ok(mut file) = File::open(&source) else { return Ok(()) };
        let found = file.metadata().map_err(UpkeepError::io(&source, "read"))?;
        let name = Path::new("homes").join(inside);
        let target = self.folder.join(&name);
        let linked = self.spooled.get(&(found.dev(), found.ino())).is_some_and(|spooled| fs::hard_link(spooled, &target).is_ok());
        if !linked {
            self.copy(&mut file, &target)?;
        }
        self.sum(&target, &name)
    }

    fn copy(&mut self, source: &mut File, target: &Path) -> Result<(), UpkeepError> {
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(target).map_err(UpkeepError::io(target, "made"))?;
        spool::copy_all(source, &mut file).map_err(UpkeepError::io(target, "written"))?;
        if let Ok(modified) = source.metadata().and_then(|found| found.modified()) {
            file.set_modified(modified).map_err(UpkeepError::io(target, "written"))?;
        }
        file.sync_all().map_err(UpkeepError::io(target, "synced"))
    }

    fn folder_of(&mut self, target: &Path) -> Result<(), UpkeepError> {
        let folder = target.parent().expect("a file lies in a folder");
        if !folder.is_dir() {
            make_folder(folder)?;
            self.folders.push(folder.to_owned());
        }
        Ok(())
    }

    /// Everything on disk, then the list under its name.
    fn end(mut self) -> Result<(), UpkeepError> {
        let (part, path) = (self.folder.join(format!("{SUMS}.part")), self.folder.join(SUMS));
        self.sums.flush().map_err(UpkeepError::io(&part, "written"))?;
        self.sums.get_ref().sync_all().map_err(UpkeepError::io(&part, "synced"))?;
        let top = [self.folder.join("spool"), self.folder.join("homes")];
        for folder in self.folders.iter().rev().chain(&top) {
            spool::sync_folder(folder).map_err(UpkeepError::io(folder, "synced"))?;
        }
        fs::rename(&part, &path).map_err(UpkeepError::io(&path, "written"))?;
        spool::sync_folder(self.folder).map_err(UpkeepError::io(self.folder, "synced"))
    }
}
