//! The whole way in, on real folders and a real database.

use super::*;
use crate::account::Account;
use crate::job::state::RetryPolicy;
use crate::queue::JobLedger;
use crate::queue::sqlite::SqliteLedger;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

struct House {
    dir: tempfile::TempDir,
    intake: Intake,
    queue: SqliteQueue,
    ledger: SqliteLedger,
    alice: AccountName,
}

fn house() -> House {
    let dir = tempfile::tempdir().unwrap();
    let homes = Homes::open(&dir.path().join("homes")).unwrap();
    let alice: AccountName = "alice".parse().unwrap();
    homes.ensure(&alice).unwrap();
    let database = dir.path().join("inkport.db");
    let queue = SqliteQueue::open(&database, RetryPolicy { attempts: 3, backoff: Duration::from_secs(10) }).unwrap();
    let ledger = SqliteLedger::open(&database).unwrap();
    let spool = Spool::open(&dir.path().join("spool")).unwrap();
    let intake = Intake::new(spool, homes, queue.clone(), Limits { max_upload: 1 << 20, min_free_space: 0 });
    House { dir, intake, queue, ledger, alice }
}

impl House {
    fn upload(&self, path: &str, bytes: &[u8]) -> Upload {
        let mut staging = self.intake.begin().unwrap();
        staging.write_all(bytes).unwrap();
        let staged = staging.finish().unwrap();
        let room = self.intake.room(&Account::new(self.alice.clone()), Some(&at(path))).unwrap();
        Upload { account: self.alice.clone(), path: at(path), staged, door: Door::Ftp, room }
    }

    async fn accept(&self, path: &str, bytes: &[u8]) -> Result<Accepted, IntakeError> {
        self.intake.accept(self.upload(path, bytes)).await
    }

    async fn take(&self, path: &str) -> Accepted {
        self.intake.take(&self.alice, &at(path), Door::Watch).await.unwrap()
    }

    fn home(&self, path: &str) -> PathBuf {
        self.dir.path().join("homes/alice").join(path)
    }

    fn jobs(&self) -> u64 {
        self.ledger.counts().unwrap().queued
    }

    fn newest(&self, path: &str) -> crate::job::Job {
        self.ledger.newest(&self.alice, &at(path)).unwrap().expect("a job")
    }

    fn spooled(&self) -> usize {
        let folders = fs::read_dir(self.dir.path().join("spool")).unwrap().map(|folder| folder.unwrap().path());
        folders.map(|folder| fs::read_dir(folder).unwrap().count()).sum()
    }
}

fn at(path: &str) -> VirtualPath {
    VirtualPath::new(path).unwrap()
}

#[tokio::test]
async fn an_accepted_upload_is_in_spool_home_and_queue() {
    let house = house();
    let Accepted::Job(id) = house.accept("/scan.jpg", b"page").await.unwrap() else { panic!("no job") };
    let job = house.newest("/scan.jpg");
    assert_eq!((job.id, job.bytes, job.door), (id, 4, Door::Ftp));
    assert_eq!(house.intake.inner.spool.read(&job.spool).unwrap(), b"page");
    assert_eq!(fs::read(house.home("scan.jpg")).unwrap(), b"page");
    assert_eq!(house.take("/scan.jpg").await, Accepted::Known(id), "seen again, still one job");
    assert_eq!((house.jobs(), house.spooled()), (1, 1));
}

#[tokio::test]
async fn what_is_no_document_is_only_stored() {
    let house = house();
    house.accept("/letter", b"x").await.unwrap();
    fs::create_dir(house.home(".cache")).unwrap();
    for path in ["/scan.part", "/.hidden.jpg", "/.cache/a.jpg", "/scan.jpg.txt", "/letter.txt", "/a.LCK"] {
        assert_eq!(house.accept(path, b"y").await.unwrap(), Accepted::Stored, "{path}");
        assert_eq!(house.take(path).await, Accepted::Stored, "{path}");
        assert_eq!(fs::read(house.home(&path[1..])).unwrap(), b"y");
    }
    assert_eq!(house.accept("/empty.jpg", b"").await.unwrap(), Accepted::Stored);
    assert_eq!(house.take("/empty.jpg").await, Accepted::Stored);
    assert_eq!((house.jobs(), house.spooled()), (1, 1));
}

#[tokio::test]
async fn a_new_version_takes_the_old_ones_sidecars_away() {
    let house = house();
    house.accept("/scan.jpg", b"old").await.unwrap();
    for sidecar in ["scan.jpg.json", "scan.jpg.txt", "scan.jpg.error.json", "other.jpg.txt"] {
        fs::write(house.home(sidecar), b"of the old one").unwrap();
    }
    fs::write(house.home("scan.jpg.pdf"), b"%PDF-1.7 ...\n%inkport job 01J\nstartxref\n9\n%%EOF\n").unwrap();
    // Not one that we wrote.
    fs::write(house.home("scan.jpg.csv"), b"the;account's;own\n").unwrap();
    house.accept("/scan.jpg", b"new").await.unwrap();
    let mut left: Vec<_> =
        fs::read_dir(house.home("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!((left, house.jobs()), (["other.jpg.txt", "scan.jpg", "scan.jpg.csv"].map(str::to_owned).to_vec(), 2));
}

#[tokio::test]
async fn what_is_refused_leaves_nothing() {
    let house = house();
    let missing = house.accept("/nowhere/scan.jpg", b"x").await;
    assert!(matches!(missing, Err(IntakeError::Home(HomeError::Missing { .. }))));
    let large = house.accept("/large.jpg", &vec![0; (1 << 20) + 1]).await;
    assert!(matches!(large, Err(IntakeError::TooLarge { limit: 1_048_576 })));
    std::os::unix::fs::symlink("..", house.home("up")).unwrap();
    let outside = house.accept("/up/bob.jpg", b"x").await;
    assert!(matches!(outside, Err(IntakeError::Home(HomeError::NotAPlace { .. }))));
    assert_eq!((house.jobs(), house.spooled()), (0, 0));
    assert_eq!(fs::read_dir(house.home("")).unwrap().count(), 1);
}

#[tokio::test]
async fn below_the_floor_nothing_begins() {
    let house = house();
    let inner = &house.intake.inner;
    let limits = Limits { max_upload: 1, min_free_space: u64::MAX };
    let full = Intake::new(inner.spool.clone(), inner.homes.clone(), house.queue.clone(), limits);
    assert!(matches!(full.begin(), Err(IntakeError::NoSpace { floor: u64::MAX })));
    fs::write(house.home("a.jpg"), b"x").unwrap();
    assert!(matches!(full.take(&house.alice, &at("/a.jpg"), Door::Watch).await, Err(IntakeError::NoSpace { .. })));
}

#[tokio::test]
async fn without_a_job_a_new_file_does_not_stay() {
    let house = house();
    house.accept("/old.jpg", b"old").await.unwrap();
    house.queue.close().await;
    assert!(matches!(house.accept("/new.jpg", b"new").await, Err(IntakeError::Queue(QueueError::Closed))));
    assert!(house.accept("/old.jpg", b"newer").await.is_err());
    assert!(!house.home("new.jpg").exists());
    assert_eq!(fs::read(house.home("old.jpg")).unwrap(), b"newer", "the older bytes are gone, so the newer stay for the scan");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_at_once_the_newest_job_has_the_bytes_in_the_home() {
    let house = house();
    let mut uploads = tokio::task::JoinSet::new();
    for number in 0..16u8 {
        let (intake, upload) = (house.intake.clone(), house.upload("/same.jpg", &[number; 9]));
        uploads.spawn(async move { intake.accept(upload).await.unwrap() });
    }
    let accepted = uploads.join_all().await;
    assert!(accepted.iter().all(|accepted| matches!(accepted, Accepted::Job(_))));
    assert_eq!(house.jobs(), 16);
    let newest = house.newest("/same.jpg");
    assert_eq!(house.intake.inner.spool.read(&newest.spool).unwrap(), fs::read(house.home("same.jpg")).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_upload_that_is_seen_meanwhile_is_one_job() {
    let house = house();
    for number in 0..20 {
        let path = format!("/{number}.jpg");
        let (intake, upload) = (house.intake.clone(), house.upload(&path, path.as_bytes()));
        let accept = tokio::spawn(async move { intake.accept(upload).await.unwrap() });
        while !accept.is_finished() {
            let seen = house.take(&path).await;
            assert!(matches!(seen, Accepted::NotNow | Accepted::Known(_)), "{seen:?}");
        }
        assert!(matches!(accept.await.unwrap(), Accepted::Job(_)));
    }
    assert_eq!(house.jobs(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_door_that_stops_listening_stops_nothing() {
    let house = house();
    let mut accept = Box::pin(house.accept("/scan.jpg", b"page"));
    std::future::poll_fn(|context| {
        let _ = accept.as_mut().poll(context);
        std::task::Poll::Ready(())
    })
    .await;
    drop(accept);
    // The path is free again when the work is done.
    drop(house.intake.inner.slots.enter(&house.alice, &at("/scan.jpg")).await);
    for _ in 0..1000 {
        if house.jobs() == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!((house.jobs(), fs::read(house.home("scan.jpg")).unwrap()), (1, b"page".to_vec()));
}

#[tokio::test]
async fn a_rename_to_a_documents_name_completes_an_upload() {
    let house = house();
    house.accept("/scan.jpg.part", b"page").await.unwrap();
    fs::rename(house.home("scan.jpg.part"), house.home("scan.jpg")).unwrap();
    let renamed = |from: &str, to: &str| {
        let (intake, alice, from, to) = (house.intake.clone(), house.alice.clone(), at(from), at(to));
        async move { intake.renamed(&alice, &from, &to).await.unwrap() }
    };
    let Accepted::Job(id) = renamed("/scan.jpg.part", "/scan.jpg").await else { panic!("no job") };
    assert_eq!((house.newest("/scan.jpg").id, house.jobs()), (id, 1));
    // Its copy is its own: what is written into the home's file later is not in the spool.
    fs::write(house.home("scan.jpg"), b"PAGE").unwrap();
    assert_eq!(house.intake.inner.spool.read(&house.newest("/scan.jpg").spool).unwrap(), b"page");

    // A document's rename, and a folder's, takes the job along.
    fs::create_dir(house.home("in")).unwrap();
    fs::rename(house.home("scan.jpg"), house.home("in/page.jpg")).unwrap();
    assert_eq!(renamed("/scan.jpg", "/in/page.jpg").await, Accepted::Stored);
    fs::rename(house.home("in"), house.home("out")).unwrap();
    assert_eq!(renamed("/in", "/out").await, Accepted::Stored);
    assert_eq!((house.newest("/out/page.jpg").id, house.jobs()), (id, 1));

    // Over a file that was there: new bytes, a new job.
    house.accept("/out/next.tmp", b"next").await.unwrap();
    fs::rename(house.home("out/next.tmp"), house.home("out/page.jpg")).unwrap();
    assert!(matches!(renamed("/out/next.tmp", "/out/page.jpg").await, Accepted::Job(_)));
    assert_eq!((house.newest("/out/page.jpg").bytes, house.jobs()), (4, 2));
}

#[tokio::test]
async fn a_drop_is_taken_once_and_again_when_it_changes() {
    let house = house();
    assert_eq!(house.take("/gone.jpg").await, Accepted::NotNow);
    fs::write(house.home("drop.jpg"), b"one").unwrap();
    let Accepted::Job(first) = house.take("/drop.jpg").await else { panic!("no job") };
    assert_eq!(house.take("/drop.jpg").await, Accepted::Known(first));
    fs::write(house.home("drop.jpg"), b"another").unwrap();
    assert!(matches!(house.take("/drop.jpg").await, Accepted::Job(second) if second > first));
    fs::write(house.home("large.jpg"), vec![0; (1 << 20) + 1]).unwrap();
    let large = house.intake.take(&house.alice, &at("/large.jpg"), Door::Watch).await;
    assert!(matches!(large, Err(IntakeError::TooLarge { .. })));
    assert_eq!(house.spooled(), 2, "and nothing staged is left");
}

/// Whenever the daemon is killed while a client changes a file's time, the file is known after.
#[tokio::test]
async fn a_file_with_another_time_is_no_new_upload() {
    let house = house();
    let Accepted::Job(id) = house.accept("/scan.jpg", b"page").await.unwrap() else { panic!("no job") };
    let then = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::new(seconds, 0);
    let modified = || fs::metadata(house.home("scan.jpg")).unwrap().modified().unwrap();
    let path = at("/scan.jpg");
    let set = |seconds| house.intake.set_modified(&house.alice, &path, then(seconds));
    set(1_577_934_245).await.unwrap();
    assert_eq!(modified(), then(1_577_934_245));
    assert_eq!(house.take("/scan.jpg").await, Accepted::Known(id));
    // Its job is done, and the time changes again.
    let lease = house.queue.claim(Duration::from_secs(60), now()).await.unwrap().unwrap();
    house.queue.settle(id, lease.token, crate::queue::Outcome::Done, vec![], now()).await.unwrap();
    set(5).await.unwrap();
    assert_eq!((modified(), house.take("/scan.jpg").await), (then(5), Accepted::Known(id)));

    // Killed after the row was told, before the file has its time: what `set_modified` does first, alone.
    let file = house.intake.inner.homes.identity(&house.alice, &at("/scan.jpg")).unwrap().unwrap();
    house.queue.retime(house.alice.clone(), file, 7_000_000_000).await.unwrap();
    assert_eq!(house.take("/scan.jpg").await, Accepted::Known(id), "as it still is");
    fs::File::open(house.home("scan.jpg")).unwrap().set_modified(then(7)).unwrap();
    assert_eq!(house.take("/scan.jpg").await, Accepted::Known(id), "as it was to be");

    // Other bytes are another upload, whatever time they have.
    fs::write(house.home("scan.jpg"), b"other").unwrap();
    fs::File::open(house.home("scan.jpg")).unwrap().set_modified(then(7)).unwrap();
    assert!(matches!(house.take("/scan.jpg").await, Accepted::Job(other) if other != id));
    assert!(house.intake.set_modified(&house.alice, &at("/missing.jpg"), then(1)).await.is_err());
}

fn now() -> Timestamp {
    Timestamp::from_system(SystemTime::now())
}
