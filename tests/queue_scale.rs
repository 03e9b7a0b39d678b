//! One node with a million finished and a hundred thousand waiting jobs over fifty accounts: what a claim, a
//! start, the status page and a list cost then. `make bench-queue` runs it and prints the figures.

mod common;

use common::{Daemon, PASSWORD};
use inkport::account::{Account, AccountName, VirtualPath};
use inkport::homes::Homes;
use inkport::intake::{Accepted, Intake, Limits, Upload};
use inkport::job::Door;
use inkport::job::state::RetryPolicy;
use inkport::queue::sqlite::{SqliteLedger, SqliteQueue};
use inkport::queue::{JobLedger, Lease, Outcome, Queue};
use inkport::spool::Spool;
use inkport::units::Timestamp;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

const FINISHED: u64 = 1_000_000;
const QUEUED: u64 = 100_000;
const LEASE: Duration = Duration::from_secs(600);

/// Fills a database that an empty daemon has made. Every finished job has a mail that was sent; of those that
/// wait, all are due at `due`.
fn fill(database: &Path, due: i64) {
    let connection = inkport::database::open(database).unwrap();
    let started = Instant::now();
    connection.execute_batch("PRAGMA synchronous = OFF; PRAGMA cache_size = -200000; BEGIN").unwrap();
    let ended = [("done", FINISHED - 2000), ("rejected", 1000), ("dead", 1000)];
    let mut first = 0;
    for (state, number) in ended {
        let cause = if state == "done" { "NULL" } else { "'cause'" };
        insert(&connection, first, number, &format!("'{state}', NULL, NULL, NULL, {cause}, 1, 0, 1, 1700000000000, NULL"));
        first += number;
    }
    insert(&connection, FINISHED, QUEUED, &format!("'queued', {due}, NULL, NULL, NULL, 1, 0, 1, NULL, NULL"));
    connection
        .execute_batch(
            "INSERT INTO deliveries (job, recipient, attachments, state, attempts, scheduled_at, due)
                 SELECT id, 'desk@example.org', '[]', 'sent', 1, received_at, received_at FROM jobs WHERE state <> 'queued';
             COMMIT; PRAGMA wal_checkpoint(TRUNCATE)",
        )
        .unwrap();
    println!("filled in {:.0?}: {} MiB", started.elapsed(), database.metadata().unwrap().len() >> 20);
}

fn insert(connection: &rusqlite::Connection, first: u64, number: u64, state: &str) {
    let last = first + number - 1;
    connection
        .execute_batch(&format!(
            "WITH RECURSIVE n (i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i < {last})
             INSERT INTO jobs (id, account, path, spool, bytes, door, received_at, inode, modified_ns, file_bytes,
                 state, due, token, lease_until, cause, attempt, interruptions, claims, finished_at, error)
             SELECT printf('01HF7YAT00%016d', i), printf('account-%02d', i % 50), printf('/in/scan-%07d.jpg', i), randomblob(32), 100000,
                 'ftp', 1700000000000 + i, i, i * 1000, 100000, {state} FROM n"
        ))
        .unwrap();
}

fn now() -> Timestamp {
    Timestamp::from_system(SystemTime::now())
}

/// The half and the 99th of a hundred.
fn percentiles(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

fn told(what: &str, times: Vec<Duration>, goal: Option<Duration>) -> bool {
    let number = times.len();
    let (half, most) = percentiles(times);
    let verdict = match goal {
        Some(goal) if most <= goal => format!("goal {goal:?}: held"),
        Some(goal) => format!("goal {goal:?}: MISSED"),
        None => String::new(),
    };
    println!("{what:<44} p50 {half:>10.2?}  p99 {most:>10.2?}  of {number:<5} {verdict}");
    goal.is_none_or(|goal| most <= goal)
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let started = Instant::now();
    let answer = work();
    (answer, started.elapsed())
}

async fn claims(queue: &SqliteQueue, number: usize) -> (Vec<Duration>, Vec<Lease>) {
    let (mut times, mut leases) = (Vec::new(), Vec::new());
    for _ in 0..number {
        let started = Instant::now();
        let lease = queue.claim(LEASE, now()).await.unwrap().expect("many are due");
        times.push(started.elapsed());
        leases.push(lease);
    }
    (times, leases)
}

/// What the disk alone takes to make a page durable: no commit is quicker.
fn fsyncs(folder: &Path) -> Vec<Duration> {
    use std::io::Write;
    let mut file = std::fs::File::create(folder.join("fsync")).unwrap();
    let write = |_| {
        let started = Instant::now();
        file.write_all(&[0; 4096]).unwrap();
        file.sync_data().unwrap();
        started.elapsed()
    };
    (0..300).map(write).collect()
}

/// From the last byte of an upload (staged, nothing durable yet) to its job in a worker's hands, one at a time.
async fn upload_to_claim(folder: &Path, queue: &SqliteQueue) -> Vec<Duration> {
    let spool = Spool::open(&folder.join("data/spool")).unwrap();
    let homes = Homes::open(&folder.join("data/homes")).unwrap();
    let account: AccountName = "account-00".parse().unwrap();
    homes.ensure(&account).unwrap();
    let intake = Intake::new(spool.clone(), homes, queue.clone(), Limits { max_upload: 1 << 20, min_free_space: 0 });
    let (send, mut claimed) = tokio::sync::mpsc::channel(1);
    let waiting = queue.clone();
    // As a lane does it.
    let lane = tokio::spawn(async move {
        loop {
            let changed = waiting.changed();
            match waiting.claim(LEASE, now()).await.unwrap() {
                Some(lease) => {
                    let at = Instant::now();
                    waiting.settle(lease.job.id, lease.token, Outcome::Done, Vec::new(), now()).await.unwrap();
                    send.send((lease.job.id, at)).await.unwrap();
                }
                None => changed.await,
            }
        }
    });
    let mut times = Vec::new();
    for number in 0..300 {
        let staged = spool.stage_bytes(format!("page {number}").repeat(1000).as_bytes()).unwrap();
        let path = VirtualPath::new(&format!("/idle-{number}.jpg")).unwrap();
        let started = Instant::now();
        let room = intake.room(&Account::new(account.clone()), Some(&path)).unwrap();
        let upload = Upload { account: account.clone(), path, staged, door: Door::Ftp, room };
        let Accepted::Job(id) = intake.accept(upload).await.unwrap() else { panic!("it is a document") };
        let (claimed, at) = claimed.recv().await.unwrap();
        assert_eq!(claimed, id);
        times.push(at.duration_since(started));
    }
    lane.abort();
    times
}

#[test]
#[ignore = "fills a database for a minute; make bench-queue"]
fn a_million_finished_and_a_hundred_thousand_queued_jobs() {
    let mut daemon = Daemon::prepare("");
    daemon.account_add("admin", PASSWORD, &["--role", "admin"]);
    for number in 0..50 {
        daemon.account_add(&format!("account-{number:02}"), PASSWORD, &[]);
    }
    let database = daemon.folder().join("data/inkport.db");
    let millis = Duration::from_millis;
    let mut held = true;
    // In an hour: the daemon must not begin to work on documents that are not there.
    fill(&database, now().after(Duration::from_secs(3600)).0);
    let runtime = tokio::runtime::Runtime::new().unwrap();

    let mut starts = Vec::new();
    for round in 0..3 {
        let ((), started) = timed(|| daemon.run());
        starts.push(started);
        // What the engine's libraries do while they start is not to be interrupted by an exit.
        common::wait_for("the engine", || (daemon.get("/readyz", None).0 == 200).then_some(()));
        if round < 2 {
            assert_eq!(daemon.terminate(), Some(0));
        }
    }
    held &= told("the daemon is ready", starts, Some(Duration::from_secs(2)));
    let mut pages = Vec::new();
    for _ in 0..10 {
        // A page is shared for a second.
        std::thread::sleep(millis(1100));
        let ((status, _), took) = timed(|| daemon.get("/", Some(("admin", PASSWORD))));
        assert_eq!(status, 200);
        pages.push(took);
    }
    told("the status page, by curl, its password hashed", pages, None);
    let ledger = SqliteLedger::open(&database).unwrap();
    let look = || {
        let filter = inkport::queue::Filter { limit: 50, ..Default::default() };
        drop((
            ledger.counts().unwrap(),
            ledger.list(&filter).unwrap(),
            ledger.troubled(20).unwrap(),
            ledger.oldest_queued().unwrap(),
        ));
    };
    held &= told("what the status page asks", (0..50).map(|_| timed(look).1).collect(), Some(millis(100)));
    let metrics = (0..10).map(|_| timed(|| daemon.get("/readyz", None)).1).collect();
    told("/readyz, by curl", metrics, None);
    for arguments in [
        &["jobs", "list"][..],
        &["jobs", "list", "--limit", "1000"],
        &["jobs", "list", "--state", "dead"],
        &["jobs", "list", "--account", "account-07"],
        &["jobs", "list", "--account", "account-07", "--state", "dead"],
        &["jobs", "list", "--account", "nobody", "--state", "queued"],
    ] {
        let times = (0..5).map(|_| timed(|| daemon.printed(arguments)).1).collect();
        told(&arguments.join(" "), times, None);
    }
    assert_eq!(daemon.terminate(), Some(0));

    let policy = RetryPolicy { attempts: 3, backoff: Duration::from_secs(10) };
    let (queue, opened) = timed(|| SqliteQueue::open(&database, policy).unwrap());
    told("the queue opens", vec![opened], None);
    runtime.block_on(async {
        let none = {
            let mut times = Vec::new();
            for _ in 0..100 {
                let started = Instant::now();
                assert_eq!(queue.claim(LEASE, now()).await.unwrap(), None);
                times.push(started.elapsed());
            }
            // The first opens the database's pages.
            times.split_off(5)
        };
        held &= told("a claim that finds 100,000 jobs not due", none, Some(millis(2)));
        held &= told("upload's end to claimed, else idle", upload_to_claim(daemon.folder(), &queue).await, Some(millis(50)));
    });
    drop(queue);
    let connection = inkport::database::open(&database).unwrap();
    connection.execute("UPDATE jobs SET due = 1 WHERE state = 'queued'", []).unwrap();
    drop(connection);
    let queue = SqliteQueue::open(&database, policy).unwrap();
    runtime.block_on(async {
        // The pages that the change of all rows left in memory are written by the first commits.
        let (times, _) = claims(&queue, 100).await;
        told("the first claims after 100,000 changes", times, None);
        let disk = fsyncs(daemon.folder());
        let slowest = percentiles(disk.clone()).1;
        told("a page written and fsynced, nothing else", disk, None);
        let (times, leases) = claims(&queue, 2000).await;
        held &= told("a claim, committed (goal: 2 ms and an fsync)", times, Some(millis(2) + slowest));
        let mut settles = Vec::new();
        for lease in leases {
            let started = Instant::now();
            queue.settle(lease.job.id, lease.token, Outcome::Done, Vec::new(), now()).await.unwrap();
            settles.push(started.elapsed());
        }
        told("a settle, committed", settles, None);
        queue.close().await;
    });
    assert!(held, "a goal was missed");
}

#[test]
fn percentiles_are_of_the_sorted_times() {
    let times = (0..200).rev().map(Duration::from_millis).collect();
    assert_eq!(percentiles(times), (Duration::from_millis(100), Duration::from_millis(198)));
}
