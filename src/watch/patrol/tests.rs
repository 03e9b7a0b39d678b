//! The patrol with real files and a clock that the test turns.

use super::*;
use crate::account::Account;
use crate::intake::{Limits, Upload};
use crate::job::state::RetryPolicy;
use crate::queue::sqlite::SqliteQueue;
use crate::spool::Spool;
use std::fs;
use std::io::Write;
use std::path::PathBuf;

fn hint_at(path: PathBuf) -> Hint {
    Hint { path, renamed: false }
}

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
    let (account, path): (AccountName, _) = ("alice".parse().unwrap(), VirtualPath::new("/ftp.jpg").unwrap());
    let room = house.intake.room(&Account::new(account.clone()), Some(&path)).unwrap();
    let upload = Upload { account, path, staged: staging.finish().unwrap(), door: Door::Ftp, room };
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
    assert!(!house.patrol.hinted(paths.into_iter().map(hint_at).collect(), house.at(0)).await);
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
        assert!(!house.patrol.hinted(vec![hint_at(house.home("cp.jpg"))], house.at(3)).await);
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
    let hint = |path: PathBuf| vec![hint_at(path.clone()), hint_at(path)];
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

impl House {
    fn arrives_by(&self, arrival: Arrival) {
        let account = Account { arrival, ..Account::new("alice".parse().unwrap()) };
        self.patrol.eyes.accounts.set(&account).unwrap();
    }
}

#[tokio::test]
async fn a_renamed_file_is_taken_at_once_and_one_that_was_not_is_given_time() {
    let mut house = house();
    house.arrives_by(Arrival::Rename);
    fs::write(house.home("a.jpg.part"), b"a").unwrap();
    fs::write(house.home("strange.writing"), b"half").unwrap();
    house.scan(0).await;
    house.take_due(10).await;
    assert_eq!((house.jobs(), house.patrol.waiting.len()), (0, 1), "one waits to be renamed");
    std::thread::sleep(Duration::from_millis(20));
    fs::rename(house.home("a.jpg.part"), house.home("a.jpg")).unwrap();
    house.scan(10).await;
    house.take_due(10).await;
    assert_eq!(house.jobs(), 1);
    // In the same tick of the clock, so that only the event tells of it.
    fs::write(house.home("b.part"), b"bb").unwrap();
    fs::rename(house.home("b.part"), house.home("b.jpg")).unwrap();
    let hint = Hint { path: house.home("b.jpg"), renamed: true };
    assert!(!house.patrol.hinted(vec![hint], house.at(11)).await);
    house.take_due(11).await;
    assert_eq!(house.jobs(), 2);
    // A rename that nobody saw costs time, not the file.
    house.take_due(59).await;
    assert_eq!(house.jobs(), 2);
    house.take_due(60).await;
    assert_eq!(house.jobs(), 3);
    assert!(house.patrol.waiting.is_empty());
}

#[tokio::test]
async fn a_marked_file_is_taken_at_once_and_no_other_ever() {
    let mut house = house();
    house.arrives_by(Arrival::Marker);
    for name in ["a.pdf", "b.pdf", "b.jpg", "c.pdf"] {
        fs::write(house.home(name), name).unwrap();
    }
    house.scan(0).await;
    house.take_due(1000).await;
    assert_eq!((house.jobs(), house.patrol.waiting.len()), (0, 0));
    std::thread::sleep(Duration::from_millis(20));
    fs::write(house.home("a.pdf.done"), b"").unwrap();
    assert!(!house.patrol.hinted(vec![hint_at(house.home("a.pdf.done"))], house.at(1001)).await);
    house.take_due(1001).await;
    assert_eq!(house.jobs(), 1);
    // For all of its name, and by a scan; a marker is no document, whatever it holds.
    fs::write(house.home("b.done"), b"ready").unwrap();
    house.scan(1002).await;
    house.take_due(1002).await;
    assert_eq!(house.jobs(), 3);
    assert!(house.home("b.done").exists());
    // The marker that the last file of this name left says nothing of the next.
    std::thread::sleep(Duration::from_millis(20));
    fs::write(house.home("a.pdf"), b"half of the next").unwrap();
    assert!(!house.patrol.hinted(vec![hint_at(house.home("a.pdf"))], house.at(1003)).await);
    house.scan(1003).await;
    house.take_due(2000).await;
    assert_eq!(house.jobs(), 3);
    fs::write(house.home("a.pdf.done"), b"").unwrap();
    house.scan(2001).await;
    house.take_due(2001).await;
    assert_eq!((house.jobs(), house.patrol.waiting.len()), (4, 0));
}
