//! Files that arrive without FTP, against the real kernel and real folders: what is put there is found,
//! whatever happens to the folders and to the kernel's events.

mod common;

use common::{ACCOUNT, Daemon, wait_for};
use inkport::account::{Account, AccountName, Arrival};
use inkport::accounts::Accounts;
use inkport::homes::Homes;
use inkport::intake::{Intake, Limits};
use inkport::job::state::RetryPolicy;
use inkport::queue::JobLedger;
use inkport::queue::sqlite::{SqliteLedger, SqliteQueue};
use inkport::spool::Spool;
use inkport::units::Span;
use inkport::watch::{Health, Poll, Settings, Watch};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// A watch that runs over homes of its own.
struct House {
    dir: tempfile::TempDir,
    ledger: SqliteLedger,
    health: Health,
    _runtime: tokio::runtime::Runtime,
}

/// Quick, and with no scan but the first and those that something asks for.
fn events_only() -> Settings {
    let quiet = Span(Duration::from_millis(50));
    Settings { quiet, rescan: Span(Duration::from_secs(3600)), canary: Span(Duration::from_millis(500)), ..Settings::default() }
}

impl House {
    /// `before` makes what is in the account's home when the watch begins.
    fn open(settings: Settings, arrival: Arrival, before: impl FnOnce(&PathBuf)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let homes = Homes::open(&dir.path().join("homes")).unwrap();
        let database = dir.path().join("inkport.db");
        let accounts = Accounts::sqlite(&database).unwrap();
        let name: AccountName = "alice".parse().unwrap();
        accounts.add(&Account { arrival, ..Account::new(name.clone()) }).unwrap();
        before(&homes.ensure(&name).unwrap());
        let queue = SqliteQueue::open(&database, RetryPolicy { attempts: 1, backoff: Duration::ZERO }).unwrap();
        let ledger = SqliteLedger::open(&database).unwrap();
        let spool = Spool::open(&dir.path().join("spool")).unwrap();
        let intake = Intake::new(spool, homes.clone(), queue, Limits { max_upload: 1 << 20, min_free_space: 0 });
        let watch = Watch::new(settings, homes, accounts, intake, ledger.clone());
        let health = watch.health();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.spawn(watch.run(std::future::pending()));
        let house = House { dir, ledger, health, _runtime: runtime };
        wait_for("the first scan", || house.health.report().last_scan);
        house
    }

    fn home(&self, path: &str) -> PathBuf {
        self.dir.path().join("homes/alice").join(path)
    }

    fn jobs(&self) -> u64 {
        self.ledger.counts().unwrap().queued
    }

    fn wait_for_jobs(&self, number: u64, what: &str) {
        wait_for(what, || (self.jobs() >= number).then_some(()));
        assert_eq!(self.jobs(), number, "{what}");
    }
}

#[test]
fn folders_and_homes_that_are_deleted_and_made_again_are_still_watched() {
    let house = House::open(events_only(), Arrival::Quiet, |_| {});
    assert!(house.health.report().events);
    let mut jobs = 0;
    for round in 0..3 {
        for folder in ["in", "in/deep", ""] {
            fs::create_dir_all(house.home(folder)).unwrap();
            fs::write(house.home(folder).join("page.jpg"), format!("{round} {folder}")).unwrap();
            jobs += 1;
            house.wait_for_jobs(jobs, "a file in a folder");
        }
        fs::remove_dir_all(house.home("in")).unwrap();
        // And at once, so that the kernel may give the new folder the number of the old.
        fs::create_dir_all(house.home("in/deep")).unwrap();
        fs::write(house.home("in/deep/again.jpg"), format!("again {round}")).unwrap();
        jobs += 1;
        house.wait_for_jobs(jobs, "a file in a folder made again");
        fs::remove_dir_all(house.home("")).unwrap();
    }
    fs::create_dir(house.home("")).unwrap();
    fs::create_dir(house.home("old")).unwrap();
    fs::rename(house.home("old"), house.home("new")).unwrap();
    fs::write(house.home("new/page.jpg"), "renamed").unwrap();
    house.wait_for_jobs(jobs + 1, "a file in a renamed folder");
}

#[test]
fn more_folders_than_8192_are_watched() {
    const FOLDERS: usize = 9000;
    let limit: usize = fs::read_to_string("/proc/sys/fs/inotify/max_user_watches").unwrap().trim().parse().unwrap();
    if limit < FOLDERS + 1000 {
        eprintln!("skipped: this machine allows {limit} watches");
        return;
    }
    let house = House::open(events_only(), Arrival::Quiet, |home| {
        for number in 0..FOLDERS {
            fs::create_dir_all(home.join(format!("{}/{number}", number / 100))).unwrap();
        }
    });
    let report = house.health.report();
    assert!(report.events && !report.limited, "{report:?}");
    for (jobs, number) in [(1, 0), (2, 8191), (3, 8192), (4, FOLDERS - 1)] {
        fs::write(house.home(&format!("{}/{number}/page.jpg", number / 100)), number.to_string()).unwrap();
        house.wait_for_jobs(jobs, "a file in a folder");
    }
}

/// In a namespace that has 40 watches in all.
#[test]
fn folders_beyond_the_kernels_limit_are_polled() {
    const WITHIN: &str = "INKPORT_TEST_FEW_WATCHES";
    if std::env::var_os(WITHIN).is_none() {
        let setup = "echo 40 > /proc/sys/user/max_inotify_watches && exec \"$@\"";
        let myself = std::env::current_exe().unwrap();
        let unshared = |run: &[&str]| {
            let mut command = Command::new("unshare");
            command.args(["--user", "--map-root-user", "bash", "-c", setup, "bash"]).args(run).env(WITHIN, "1");
            command.output()
        };
        if !unshared(&["true"]).is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: this machine makes no user namespaces");
            return;
        }
        let name = "folders_beyond_the_kernels_limit_are_polled";
        let output = unshared(&[myself.to_str().unwrap(), "--exact", name, "--nocapture"]).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr));
        return;
    }
    let settings = Settings { rescan: Span(Duration::from_millis(500)), ..events_only() };
    let house = House::open(settings, Arrival::Quiet, |home| {
        for number in 0..100 {
            fs::create_dir(home.join(number.to_string())).unwrap();
        }
    });
    let report = house.health.report();
    assert!(report.events && report.limited, "{report:?}");
    for number in 0..100 {
        fs::write(house.home(&format!("{number}/page.jpg")), number.to_string()).unwrap();
    }
    house.wait_for_jobs(100, "a file in every folder, watched or not");
    // With fewer folders there are watches enough, which the next scan finds.
    for number in 0..90 {
        fs::remove_dir_all(house.home(&number.to_string())).unwrap();
    }
    wait_for("all folders to be watched", || (!house.health.report().limited).then_some(()));
}

#[test]
fn polling_alone_finds_everything() {
    let settings = Settings { poll: Poll::Always, rescan: Span(Duration::from_millis(200)), ..events_only() };
    let house = House::open(settings, Arrival::Quiet, |_| {});
    fs::create_dir_all(house.home("in/deep")).unwrap();
    fs::write(house.home("in/deep/page.jpg"), "x").unwrap();
    house.wait_for_jobs(1, "a file");
    let report = wait_for("the canary to be seen", || Some(house.health.report()).filter(|report| report.last_seen.is_some()));
    assert!(!report.events, "{report:?}");
}

#[test]
fn a_burst_that_no_queue_holds_hides_nothing() {
    let house = House::open(events_only(), Arrival::Quiet, |home| fs::create_dir(home.join("in")).unwrap());
    // Each is four events and more; the kernel holds 16,384 as it comes, we hold 4,096.
    for number in 0..12_000 {
        let name = if number % 600 == 0 { format!("in/{number}.jpg") } else { format!("in/{number}.part") };
        fs::write(house.home(&name), number.to_string()).unwrap();
    }
    house.wait_for_jobs(20, "every document in the burst");
}

#[test]
fn renamed_and_marked_files_do_not_wait() {
    // Nothing is quiet for so long.
    let settings = Settings { quiet: Span(Duration::from_secs(3600)), ..events_only() };
    let house = House::open(settings, Arrival::Rename, |_| {});
    let started = Instant::now();
    fs::write(house.home("a.part"), "a").unwrap();
    fs::rename(house.home("a.part"), house.home("a.jpg")).unwrap();
    fs::write(house.home(".hidden"), "b").unwrap();
    fs::rename(house.home(".hidden"), house.home("b.jpg")).unwrap();
    house.wait_for_jobs(2, "renamed files");
    println!("two renamed files were jobs after {:?}", started.elapsed());

    let house = House::open(settings, Arrival::Marker, |_| {});
    fs::write(house.home("a.jpg"), "a").unwrap();
    fs::write(house.home("b.jpg"), "b").unwrap();
    fs::write(house.home("unmarked.jpg"), "c").unwrap();
    fs::write(house.home("a.jpg.done"), "").unwrap();
    fs::write(house.home("b.done"), "").unwrap();
    house.wait_for_jobs(2, "marked files");
}

#[test]
fn readiness_tells_how_long_the_watch_has_been_blind() {
    let mut daemon = Daemon::start("[watch]\ncanary = \"1s\"");
    let watcher = |body: &str| -> serde_json::Value {
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        body["parts"].as_array().unwrap().iter().find(|part| part["name"] == "watcher").unwrap().clone()
    };
    let seen = wait_for("the watch to see its own file", || {
        let (_, body) = daemon.get("/readyz", None);
        Some(watcher(&body)).filter(|part| part["detail"].as_str().unwrap().contains("saw its own file change"))
    });
    assert_eq!(seen["ok"], true, "{seen}");
    assert!(!daemon.home(ACCOUNT).join(".inkport-canary").exists(), "it lies in no home");
    assert!(daemon.folder().join("data/homes/.inkport-canary").exists());

    // Another folder under the same name: what is put there reaches nobody.
    let homes = daemon.folder().join("data/homes");
    fs::rename(&homes, daemon.folder().join("data/elsewhere")).unwrap();
    fs::create_dir(&homes).unwrap();
    let blind = wait_for("readiness to say so", || {
        let (code, body) = daemon.get("/readyz", None);
        (code == 503 && !watcher(&body)["ok"].as_bool().unwrap()).then(|| watcher(&body))
    });
    assert!(blind["detail"].as_str().unwrap().starts_with("blind: "), "{blind}");
    assert!(daemon.log().contains("was replaced while the daemon runs"), "{}", daemon.log());
    fs::remove_dir_all(&homes).unwrap();
    fs::rename(daemon.folder().join("data/elsewhere"), &homes).unwrap();
    wait_for("sight to come back", || {
        let (_, body) = daemon.get("/readyz", None);
        watcher(&body)["ok"].as_bool().unwrap().then_some(())
    });
    assert_eq!(daemon.terminate(), Some(0));
}
