//! The proof that what was promised is there: each row has its bytes, each file its row.
//!
//! | finding | means | `--repair` |
//! |---|---|---|
//! | `database` | SQLite finds its file damaged | nothing: restore a backup |
//! | `bytes-missing`, `bytes-damaged` | a row's bytes are gone, or others | copied from the home, where the same bytes lie |
//! | `orphan` | spooled bytes that no row names: a crash before their job was committed | moved to `lost+found/` |
//! | `staged` | an upload that never became whole; the next start would remove it | moved to `lost+found/` |
//! | `sidecar-damaged` | a done job's `.json` cannot be read | nothing |
//! | `moved` (a note) | a job's file is another one that holds the same bytes, as after a restore | the row learns it |
//! | `sidecar-missing` (a note) | a done job's sidecar is not beside its file; its client may have removed it | nothing |
//!
//! Notes do not count as faults. While a daemon runs, files younger than [`UNDER_WAY`] are left out: their
//! row may be about to be committed. Nothing is ever deleted.

use super::{Quiet, UpkeepError};
use crate::account::{AccountName, Output};
use crate::database;
use crate::homes::Homes;
use crate::job::SpoolKey;
use crate::job::state::State;
use crate::queue::keeping::{Alone, Kept, is_in_use};
use crate::queue::sqlite::SqliteLedger;
use crate::spool::{self, Spool, SpoolError};
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Longer than an upload takes from its last byte to its row.
pub const UNDER_WAY: Duration = Duration::from_secs(600);

/// What is looked at.
#[derive(Debug)]
pub struct House {
    pub data_dir: PathBuf,
    pub database: PathBuf,
    pub spool: Spool,
    pub homes: Homes,
    pub outputs: HashMap<AccountName, Vec<Output>>,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub kind: &'static str,
    /// Not a fault by itself.
    pub note: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// Where.
    pub place: String,
    pub detail: String,
    /// What was done about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repaired: Option<String>,
}

/// What a check came to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Report {
    pub jobs: u64,
    pub files: u64,
    pub findings: Vec<Finding>,
}

impl Report {
    /// Faults that are still there.
    #[must_use]
    pub fn faults(&self) -> usize {
        self.findings.iter().filter(|finding| !finding.note && finding.repaired.is_none()).count()
    }
}

/// Looks at everything; mends what can be mended if `repair`, for which no daemon may run. Blocking.
pub fn check(house: &House, repair: bool) -> Result<Report, UpkeepError> {
    let _quiet = Quiet::wait(&house.database)?;
    let alone = if repair { Some(Alone::open(&house.database)?) } else { None };
    // Where it cannot be told, as if one did.
    let running = alone.is_none() && is_in_use(&house.database);
    let mut check = Check { house, alone: alone.as_ref(), running, report: Report::default(), named: HashSet::new() };
    check.database()?;
    // Files before rows: what is kept while rows are read has its row by then, or is young.
    let (mut kept, mut others) = (Vec::new(), Vec::new());
    house.spool.walk(&mut |key| kept.push(key), &mut |path| others.push(path))?;
    check.rows()?;
    check.spooled(&kept)?;
    check.unspooled(&others)?;
    Ok(check.report)
}

struct Check<'a> {
    house: &'a House,
    /// With `--repair`.
    alone: Option<&'a Alone>,
    running: bool,
    report: Report,
    /// Keys that rows name.
    named: HashSet<SpoolKey>,
}

impl Check<'_> {
    fn fault(&mut self, kind: &'static str, kept: Option<&Kept>, place: &Path, detail: String, repaired: Option<String>) {
        self.add(kind, false, kept, place, detail, repaired);
    }

    fn add(
        &mut self,
        kind: &'static str,
        note: bool,
        kept: Option<&Kept>,
        place: &Path,
        detail: String,
        repaired: Option<String>,
    ) {
        let job = kept.map(|kept| kept.job.id.to_string());
        self.report.findings.push(Finding { kind, note, job, place: place.display().to_string(), detail, repaired });
    }

    fn database(&mut self) -> Result<(), UpkeepError> {
        for line in database::faults(&self.house.database)? {
            self.fault("database", None, &self.house.database, line, None);
        }
        Ok(())
    }

    fn rows(&mut self) -> Result<(), UpkeepError> {
        let ledger = SqliteLedger::open(&self.house.database)?;
        // Many jobs may share bytes.
        let mut good = HashSet::new();
        let mut after = None;
        loop {
            let page = ledger.kept(after)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.job.id);
            for kept in &page {
                self.report.jobs += 1;
                self.named.insert(kept.job.spool);
                self.named.extend(kept.attachments.iter().map(|(_, key)| *key));
                if !kept.original_removed && good.insert(kept.job.spool) {
                    self.bytes(kept)?;
                }
                if kept.is_newest {
                    self.home(kept)?;
                }
            }
        }
    }

    fn bytes(&mut self, kept: &Kept) -> Result<(), UpkeepError> {
        let key = &kept.job.spool;
        let what = match self.house.spool.verify(key) {
            Ok(()) => return Ok(()),
            Err(SpoolError::Lost { what, .. }) => what,
            Err(error) => return Err(error.into()),
        };
        let kind = if what == "damaged" { "bytes-damaged" } else { "bytes-missing" };
        let mut repaired = None;
        if self.alone.is_some()
            && let Ok(mut file) = self.house.homes.open_file(&kept.job.account, &kept.job.path)
        {
            let mut staging = self.house.spool.stage()?;
            let copied = spool::copy_all(&mut file, &mut staging);
            let staged = staging.finish()?;
            if copied.is_ok() && staged.key() == *key {
                // Spoiled bytes are somebody's all the same: aside, not away.
                let path = self.house.spool.path(key);
                if path.exists() {
                    self.aside(&path)?;
                }
                self.house.spool.keep(&staged)?;
                repaired = Some("copied from the file in the home".to_owned());
            }
        }
        let place = self.house.spool.path(key);
        self.fault(kind, Some(kept), &place, format!("the bytes of {} are {what}", kept.job.path), repaired);
        Ok(())
    }

    /// The file in the home and what lies beside it.
    fn home(&mut self, kept: &Kept) -> Result<(), UpkeepError> {
        let (job, homes) = (&kept.job, &self.house.homes);
        let Some(found) = homes.identity(&job.account, &job.path)? else { return Ok(()) };
        let place = homes.root().join(job.account.as_str()).join(job.path.relative());
        if !kept.is_of(&found) {
            if found.bytes != job.bytes || !self.same_bytes(kept)? {
                // The client's own newer file: a scan takes it.
                return Ok(());
            }
            let repaired = match self.alone {
                Some(alone) => {
                    alone.reidentify(job.id, &found)?;
                    Some("the row knows the file now".to_owned())
                }
                None => None,
            };
            let detail = "the same bytes in another file than the job's: a scan would read it again".to_owned();
            self.add("moved", true, Some(kept), &place, detail, repaired);
        }
        if job.state != State::Done || kept.sidecars_removed {
            return Ok(());
        }
        for output in self.house.outputs.get(&job.account).map_or(&[][..], Vec::as_slice) {
            let beside = job.path.beside(output.suffix());
            let place = homes.root().join(job.account.as_str()).join(beside.relative());
            match homes.open_file(&job.account, &beside) {
                Err(_) => {
                    self.add("sidecar-missing", true, Some(kept), &place, "not beside its file".to_owned(), None);
                }
                Ok(file) if *output == Output::Json => {
                    let read: Result<serde::de::IgnoredAny, _> = serde_json::from_reader(std::io::BufReader::new(file));
                    if let Err(error) = read {
                        self.fault("sidecar-damaged", Some(kept), &place, error.to_string(), None);
                    }
                }
                Ok(_) => {}
            }
        }
        Ok(())
    }

    fn same_bytes(&self, kept: &Kept) -> Result<bool, UpkeepError> {
        let Ok(file) = self.house.homes.open_file(&kept.job.account, &kept.job.path) else { return Ok(false) };
        Ok(spool::key_of(file).is_ok_and(|key| key == kept.job.spool))
    }

    fn spooled(&mut self, kept: &[SpoolKey]) -> Result<(), UpkeepError> {
        for key in kept {
            self.report.files += 1;
            if !self.named.contains(key) {
                let path = self.house.spool.path(key);
                self.stray("orphan", &path, "no row names these bytes")?;
            }
        }
        Ok(())
    }

    fn unspooled(&mut self, others: &[PathBuf]) -> Result<(), UpkeepError> {
        for path in others {
            self.report.files += 1;
            self.stray("staged", path, "an upload that never became whole")?;
        }
        Ok(())
    }

    fn stray(&mut self, kind: &'static str, path: &Path, detail: &str) -> Result<(), UpkeepError> {
        // Gone by now: it was an upload under way.
        let Ok(found) = fs::metadata(path) else { return Ok(()) };
        if self.running && is_young(&found) {
            return Ok(());
        }
        let repaired = if self.alone.is_some() { Some(format!("moved to {}", self.aside(path)?.display())) } else { None };
        self.fault(kind, None, path, detail.to_owned(), repaired);
        Ok(())
    }

    /// Out of the way, under a name that nobody has.
    fn aside(&self, path: &Path) -> Result<PathBuf, UpkeepError> {
        let folder = self.house.data_dir.join("lost+found");
        fs::create_dir_all(&folder).map_err(UpkeepError::io(&folder, "made"))?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let target = folder.join(format!("{name}.{}", ulid::Ulid::generate()));
        fs::rename(path, &target).map_err(UpkeepError::io(path, "moved"))?;
        spool::sync_folder(&folder).map_err(UpkeepError::io(&folder, "synced"))?;
        Ok(target)
    }
}

/// Its inode changed (it was written, linked or renamed) a short while ago.
fn is_young(found: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    now.saturating_sub(found.ctime().cast_unsigned()) < UNDER_WAY.as_secs()
}
