//! What the watch remembers and does; `watch` decides when. Time is passed in.

use super::Health;
use crate::account::{AccountName, VirtualPath};
use crate::accounts::Accounts;
use crate::homes::{HomeError, Homes};
use crate::intake::{Accepted, Intake, IntakeError};
use crate::job::{Door, FileIdentity};
use crate::queue::JobLedger;
use crate::queue::sqlite::SqliteLedger;
use crate::units::Timestamp;
use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// Files that are remembered as dealt with, so that a scan of them asks nobody; about 10 MiB. For those
/// beyond, every scan asks the ledger.
const MOST_KNOWN: usize = 250_000;
/// Files that wait to be seen a second time; those beyond are found by the next scan, which comes soon.
const MOST_WAITING: usize = 10_000;
/// After an error that is not one file's fault (a full disk, a database that does not answer).
const PAUSE: Duration = Duration::from_secs(10);

type Key = (AccountName, VirtualPath);

/// Files that need no second thought until they change.
#[derive(Debug, Default)]
struct Known {
    files: HashMap<AccountName, HashSet<FileIdentity>>,
    count: usize,
}

impl Known {
    fn contains(&self, account: &AccountName, file: &FileIdentity) -> bool {
        self.files.get(account).is_some_and(|files| files.contains(file))
    }

    fn insert(&mut self, account: &AccountName, file: FileIdentity) {
        if self.count >= MOST_KNOWN {
            return;
        }
        let files = match self.files.get_mut(account) {
            Some(files) => files,
            None => self.files.entry(account.clone()).or_default(),
        };
        self.count += usize::from(files.insert(file));
    }
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    file: FileIdentity,
    /// When it was first seen like this.
    since: Instant,
}

/// The looking side: blocking, and without memory of its own.
#[derive(Debug, Clone)]
struct Eyes {
    homes: Homes,
    accounts: Accounts,
    intake: Intake,
    ledger: SqliteLedger,
}

/// What a scan came to.
struct Scanned {
    new: Vec<(Key, FileIdentity)>,
    /// What is known of the other files that are there.
    known: Known,
    /// It stopped looking at `room` new ones.
    more: bool,
}

/// A reason to stop for now; the sentence is for the log and the report.
type Trouble = String;

fn trouble(error: &dyn Error) -> Trouble {
    let mut sentence = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        sentence.push_str(": ");
        sentence.push_str(&cause.to_string());
        source = cause.source();
    }
    sentence
}

impl Eyes {
    /// Whether this file is still to be taken; what is not is remembered.
    fn is_new(&self, known: &mut Known, account: &AccountName, path: &VirtualPath, file: FileIdentity) -> Result<bool, Trouble> {
        if file.bytes == 0 || known.contains(account, &file) || !self.intake.is_document(account, path) {
            return Ok(false);
        }
        let has_job = self.ledger.known(account, &file).map_err(|error| trouble(&error))?.is_some();
        if has_job {
            known.insert(account, file);
        }
        Ok(!has_job)
    }

    fn scan(&self, known: &Known, room: usize) -> Result<Scanned, Trouble> {
        let (mut new, mut seen, mut more) = (Vec::new(), Known::default(), false);
        let mut failed = None;
        for account in self.accounts.list().map_err(|error| trouble(&error))? {
            let name = account.name;
            let walked = self.homes.walk(&name, &mut |path, file| {
                if failed.is_some() {
                    return;
                }
                if known.contains(&name, &file) {
                    return seen.insert(&name, file);
                }
                if new.len() >= room {
                    // Whether it is new, a later scan asks.
                    more = true;
                    return;
                }
                match self.is_new(&mut seen, &name, &path, file) {
                    Ok(true) => new.push(((name.clone(), path), file)),
                    Ok(false) => {}
                    Err(error) => failed = Some(error),
                }
            });
            match (failed.take(), walked) {
                (Some(error), _) => return Err(error),
                // Nobody has logged in to this account yet.
                (None, Ok(()) | Err(HomeError::Missing { .. })) => {}
                (None, Err(error)) => tracing::warn!(account.name = %name, error = trouble(&error), "a home cannot be scanned"),
            }
        }
        Ok(Scanned { new, known: seen, more })
    }

    /// The file at this path, if it is still to be taken.
    fn look(&self, known: &mut Known, (account, path): &Key) -> Result<Option<FileIdentity>, Trouble> {
        match self.homes.identity(account, path) {
            Ok(Some(file)) => Ok(self.is_new(known, account, path, file)?.then_some(file)),
            Ok(None) | Err(HomeError::Missing { .. }) => Ok(None),
            Err(error) => Err(trouble(&error)),
        }
    }
}

/// Goes round the homes.
#[derive(Debug)]
pub(super) struct Patrol {
    quiet: Duration,
    eyes: Eyes,
    known: Known,
    waiting: HashMap<Key, Waiting>,
    /// Nothing is taken before.
    paused_until: Option<Instant>,
    health: Health,
}

impl Patrol {
    pub(super) fn new(
        quiet: Duration,
        homes: Homes,
        accounts: Accounts,
        intake: Intake,
        ledger: SqliteLedger,
        health: Health,
    ) -> Self {
        let eyes = Eyes { homes, accounts, intake, ledger };
        Patrol { quiet, eyes, known: Known::default(), waiting: HashMap::new(), paused_until: None, health }
    }

    /// When [`take_due`](Self::take_due) has something to do; `None` while nothing waits.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let due = self.waiting.values().map(|waiting| waiting.since).min()? + self.quiet;
        Some(self.paused_until.map_or(due, |pause| due.max(pause)))
    }

    /// Looks at every file of every home. True if there may be more new ones than can wait.
    pub(super) async fn scan(&mut self, now: Instant) -> bool {
        let (eyes, known) = (self.eyes.clone(), std::mem::take(&mut self.known));
        let room = MOST_WAITING.saturating_sub(self.waiting.len());
        let scanned = tokio::task::spawn_blocking(move || match eyes.scan(&known, room) {
            Ok(found) => Ok(found),
            Err(error) => Err((known, error)),
        })
        .await;
        match scanned {
            Ok(Ok(Scanned { new, known, more })) => {
                self.known = known;
                for (key, file) in new {
                    self.wait(key, file, now);
                }
                let waiting = self.waiting.len();
                self.health.update(|report| {
                    report.last_scan = Some(Timestamp::from_system(SystemTime::now()));
                    report.waiting = waiting;
                    report.error = None;
                });
                more
            }
            Ok(Err((known, error))) => {
                self.known = known;
                self.stumble(error, now);
                false
            }
            Err(ended) => {
                self.stumble(trouble(&ended), now);
                false
            }
        }
    }

    /// Looks where something may have happened. True if only a scan can tell what.
    pub(super) async fn hinted(&mut self, paths: Vec<PathBuf>, now: Instant) -> bool {
        let (eyes, mut known) = (self.eyes.clone(), std::mem::take(&mut self.known));
        let looked = tokio::task::spawn_blocking(move || {
            let (mut new, mut scan_wanted, mut failed) = (Vec::new(), false, None);
            let mut keys = HashSet::new();
            for path in paths {
                match key_of(eyes.homes.root(), &path) {
                    Some(Ok(key)) => drop(keys.insert(key)),
                    // A home of its own: new, or renamed.
                    Some(Err(_account)) => scan_wanted = true,
                    None => {}
                }
            }
            for key in keys {
                if eyes.homes.is_folder(&key.0, &key.1).unwrap_or(false) {
                    scan_wanted = true;
                    continue;
                }
                match eyes.look(&mut known, &key) {
                    Ok(Some(file)) => match eyes.accounts.find(&key.0) {
                        Ok(Some(_)) => new.push((key, file)),
                        Ok(None) => {}
                        Err(error) => failed = Some(trouble(&error)),
                    },
                    Ok(None) => {}
                    Err(error) => failed = Some(error),
                }
            }
            (new, known, scan_wanted, failed)
        })
        .await;
        match looked {
            Ok((new, known, mut scan_wanted, failed)) => {
                self.known = known;
                for (key, file) in new {
                    scan_wanted |= !self.wait(key, file, now);
                }
                if let Some(error) = failed {
                    self.stumble(error, now);
                    scan_wanted = true;
                }
                scan_wanted
            }
            Err(ended) => {
                self.stumble(trouble(&ended), now);
                true
            }
        }
    }

    /// Takes up to `most` files that have not changed for long enough.
    pub(super) async fn take_due(&mut self, now: Instant, most: usize) {
        if self.paused_until.is_some_and(|pause| now < pause) {
            return;
        }
        self.paused_until = None;
        let due = self.waiting.iter().filter(|(_, waiting)| waiting.since + self.quiet <= now);
        let due: Vec<(Key, FileIdentity)> = due.take(most).map(|(key, waiting)| (key.clone(), waiting.file)).collect();
        for (key, before) in due {
            if let Err(error) = self.take(key, before, now).await {
                self.stumble(error, now);
                break;
            }
        }
        let waiting = self.waiting.len();
        self.health.update(|report| report.waiting = waiting);
    }

    async fn take(&mut self, key: Key, before: FileIdentity, now: Instant) -> Result<(), Trouble> {
        let (eyes, mut known, looked_at) = (self.eyes.clone(), std::mem::take(&mut self.known), key.clone());
        let (file, known) = tokio::task::spawn_blocking(move || (eyes.look(&mut known, &looked_at), known))
            .await
            .map_err(|ended| trouble(&ended))?;
        self.known = known;
        match file? {
            None => {
                self.waiting.remove(&key);
            }
            Some(file) if file != before => {
                self.waiting.insert(key, Waiting { file, since: now });
            }
            Some(file) => match self.eyes.intake.take(&key.0, &key.1, Door::Watch).await {
                Ok(Accepted::Job(_) | Accepted::Known(_)) => {
                    self.known.insert(&key.0, file);
                    self.waiting.remove(&key);
                }
                Ok(Accepted::Stored) => {
                    self.waiting.remove(&key);
                }
                Ok(Accepted::NotNow) => {
                    self.waiting.insert(key, Waiting { file, since: now });
                }
                Err(error @ IntakeError::TooLarge { .. }) => {
                    tracing::warn!(account.name = %key.0, upload.bytes = file.bytes, %error, "a file is left where it lies");
                    self.known.insert(&key.0, file);
                    self.waiting.remove(&key);
                }
                Err(error) => {
                    // Behind the others, should it be this file's own fault after all.
                    self.waiting.insert(key, Waiting { file, since: now });
                    return Err(trouble(&error));
                }
            },
        }
        Ok(())
    }

    /// False if there is no room for it.
    fn wait(&mut self, key: Key, file: FileIdentity, now: Instant) -> bool {
        match self.waiting.get(&key) {
            Some(waiting) if waiting.file == file => {}
            None if self.waiting.len() >= MOST_WAITING => return false,
            _ => drop(self.waiting.insert(key, Waiting { file, since: now })),
        }
        true
    }

    fn stumble(&mut self, error: Trouble, now: Instant) {
        tracing::warn!(error, "the watch over the homes has to wait");
        self.paused_until = Some(now + PAUSE);
        self.health.update(|report| report.error = Some(error));
    }
}

/// Whose file this path is; `Err` if it is a home itself, `None` if no account can have it.
fn key_of(root: &Path, path: &Path) -> Option<Result<Key, AccountName>> {
    let inside = path.strip_prefix(root).ok()?.to_str()?;
    let (account, path) = inside.split_once('/').unwrap_or((inside, ""));
    let account: AccountName = account.parse().ok()?;
    Some(match VirtualPath::new(path) {
        Ok(path) => Ok((account, path)),
        Err(_) => Err(account),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Account;
    use crate::intake::{Limits, Upload};
    use crate::job::state::RetryPolicy;
    use crate::queue::sqlite::SqliteQueue;
    use crate::spool::Spool;
    use std::fs;
    use std::io::Write;

    const QUIET: Duration = Duration::from_secs(2);

    struct House {
        dir: tempfile::TempDir,
        intake: Intake,
        patrol: Patrol,
        health: Health,
        start: Instant,
    }

    fn house() -> House {
        let dir = tempfile::tempdir().unwrap();
        let homes = Homes::open(&dir.path().join("homes")).unwrap();
        let database = dir.path().join("inkport.db");
        let accounts = Accounts::sqlite(&database).unwrap();
        accounts.add(&Account::new("alice".parse().unwrap())).unwrap();
        homes.ensure(&"alice".parse().unwrap()).unwrap();
        let queue = SqliteQueue::open(&database, RetryPolicy { attempts: 1, backoff: Duration::ZERO }).unwrap();
        let ledger = SqliteLedger::open(&database).unwrap();
        let spool = Spool::open(&dir.path().join("spool")).unwrap();
        let intake = Intake::new(spool, homes.clone(), queue, Limits { max_upload: 1000, min_free_space: 0 });
        let health = Health::default();
        let patrol = Patrol::new(QUIET, homes, accounts, intake.clone(), ledger, health.clone());
        House { dir, intake, patrol, health, start: Instant::now() }
    }

    impl House {
        fn home(&self, path: &str) -> PathBuf {
            self.dir.path().join("homes/alice").join(path)
        }

        fn jobs(&self) -> u64 {
            self.patrol.eyes.ledger.counts().unwrap().queued
        }

        /// Seconds after the start.
        fn at(&self, seconds: u64) -> Instant {
            self.start + Duration::from_secs(seconds)
        }

        async fn scan(&mut self, seconds: u64) {
            assert!(!self.patrol.scan(self.at(seconds)).await);
        }

        async fn take_due(&mut self, seconds: u64) {
            self.patrol.take_due(self.at(seconds), 100).await;
        }
    }

    #[tokio::test]
    async fn a_growing_file_is_one_job_once_it_is_quiet() {
        let mut house = house();
        let mut file = fs::File::create(house.home("scan.jpg")).unwrap();
        for second in 0..6 {
            file.write_all(b"more").unwrap();
            house.scan(second).await;
            house.take_due(second).await;
        }
        assert_eq!((house.jobs(), house.patrol.waiting.len()), (0, 1));
        assert_eq!(house.patrol.next_due(), Some(house.at(7)));
        house.take_due(6).await;
        assert_eq!(house.jobs(), 0, "not quiet for long enough");
        house.take_due(7).await;
        assert_eq!((house.jobs(), house.patrol.next_due()), (1, None));
        for second in [8, 10, 12] {
            house.scan(second).await;
            house.take_due(second).await;
        }
        assert_eq!((house.jobs(), house.patrol.known.count), (1, 1));
        // It grew without being looked at in between: seen at the second look.
        file.write_all(b"late").unwrap();
        house.scan(20).await;
        file.write_all(b"later").unwrap();
        house.take_due(22).await;
        assert_eq!(house.jobs(), 1);
        house.take_due(24).await;
        assert_eq!(house.jobs(), 2);
    }

    #[tokio::test]
    async fn what_came_by_another_door_or_is_no_document_is_left_alone() {
        let mut house = house();
        let mut staging = house.intake.begin().unwrap();
        staging.write_all(b"page").unwrap();
        let (account, path) = ("alice".parse().unwrap(), VirtualPath::new("/ftp.jpg").unwrap());
        let upload = Upload { account, path, staged: staging.finish().unwrap(), door: Door::Ftp };
        house.intake.accept(upload).await.unwrap();
        for name in ["ftp.jpg.txt", ".hidden.jpg", "x.part", "~.tmp"] {
            fs::write(house.home(name), b"x").unwrap();
        }
        fs::write(house.home("empty.jpg"), b"").unwrap();
        fs::create_dir_all(house.dir.path().join("homes/removed")).unwrap();
        fs::write(house.dir.path().join("homes/removed/scan.jpg"), b"x").unwrap();
        house.scan(0).await;
        assert!(house.patrol.waiting.is_empty());
        let paths = [house.home("ftp.jpg"), house.home("x.part"), house.dir.path().join("homes/removed/scan.jpg")];
        assert!(!house.patrol.hinted(paths.into(), house.at(0)).await);
        assert!(house.patrol.waiting.is_empty());
        assert_eq!((house.jobs(), house.health.report().last_scan.is_some()), (1, true));
    }

    #[tokio::test]
    async fn a_client_that_sets_a_time_has_sent_nothing_new() {
        let mut house = house();
        fs::write(house.home("cp.jpg"), b"page").unwrap();
        house.scan(0).await;
        house.take_due(2).await;
        assert_eq!(house.jobs(), 1);
        let (account, path) = ("alice".parse().unwrap(), VirtualPath::new("/cp.jpg").unwrap());
        for seconds in [1, 2] {
            let then = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            house.intake.set_modified(&account, &path, then).await.unwrap();
            assert!(!house.patrol.hinted(vec![house.home("cp.jpg")], house.at(3)).await);
            house.scan(3 + seconds).await;
            house.take_due(10 + seconds).await;
            assert_eq!((house.jobs(), house.patrol.waiting.len()), (1, 0));
        }
        // Nor to one that remembers nothing, as after a restart.
        house.patrol.known = Known::default();
        house.scan(20).await;
        assert!(house.patrol.waiting.is_empty());
    }

    #[tokio::test]
    async fn hints_find_files_and_ask_for_a_scan_where_they_cannot() {
        let mut house = house();
        fs::create_dir(house.home("in")).unwrap();
        fs::write(house.home("in/a.jpg"), b"a").unwrap();
        let hint = |path: PathBuf| vec![path.clone(), path];
        assert!(!house.patrol.hinted(hint(house.home("in/a.jpg")), house.at(0)).await);
        assert_eq!(house.patrol.waiting.len(), 1);
        assert!(house.patrol.hinted(hint(house.home("in")), house.at(0)).await, "a folder");
        assert!(house.patrol.hinted(hint(house.home("").components().collect()), house.at(0)).await, "a home");
        assert!(!house.patrol.hinted(hint(house.home("gone.jpg")), house.at(0)).await);
        assert!(!house.patrol.hinted(hint("/elsewhere".into()), house.at(0)).await);
        house.take_due(2).await;
        assert_eq!(house.jobs(), 1);
    }

    #[tokio::test]
    async fn trouble_pauses_and_a_file_too_large_does_not() {
        let mut house = house();
        fs::write(house.home("large.jpg"), vec![0; 1001]).unwrap();
        fs::write(house.home("small.jpg"), b"x").unwrap();
        house.scan(0).await;
        house.take_due(2).await;
        house.scan(3).await;
        assert_eq!((house.jobs(), house.patrol.waiting.len()), (1, 0), "the large one is not looked at again");

        fs::write(house.home("next.jpg"), b"next").unwrap();
        house.scan(4).await;
        let spool = house.dir.path().join("spool/incoming");
        fs::remove_dir(&spool).unwrap();
        house.take_due(6).await;
        assert!(house.health.report().error.unwrap().contains("incoming"));
        assert_eq!(house.patrol.next_due(), Some(house.at(16)));
        fs::create_dir(&spool).unwrap();
        house.take_due(10).await;
        assert_eq!(house.jobs(), 1, "paused");
        house.take_due(16).await;
        assert_eq!(house.jobs(), 2);
        house.scan(17).await;
        assert_eq!(house.health.report().error, None);
    }

    #[tokio::test]
    async fn more_files_than_can_wait_are_taken_in_turns() {
        let mut house = house();
        for number in 0..3 {
            fs::write(house.home(&format!("{number}.jpg")), [number]).unwrap();
        }
        let (known, eyes) = (Known::default(), house.patrol.eyes.clone());
        let scanned = eyes.scan(&known, 2).unwrap();
        assert_eq!((scanned.new.len(), scanned.more), (2, true));
        house.scan(0).await;
        house.patrol.take_due(house.at(2), 2).await;
        assert_eq!((house.jobs(), house.patrol.waiting.len()), (2, 1));
        house.patrol.take_due(house.at(2), 2).await;
        assert_eq!(house.jobs(), 3);
    }
}
