//! The promise under `kill -9`: whatever was answered with 226 ends with its sidecars, once.

mod common;

use common::{Daemon, files_below, wait_for};
use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const KILLS: usize = 20;

/// Two clients upload pages without pause while the daemon is killed twenty times, at moments that
/// fall anywhere between receiving and settling. What curl saw acknowledged is written down; in the
/// end each of those has exactly one done job, its two whole sidecars, and nothing else lies about.
#[test]
fn twenty_kills_lose_nothing_and_double_nothing() {
    let mut daemon = Daemon::start("");
    let page = common::repository().join("tests/fixtures/receipt.png");
    let page_bytes = fs::read(&page).unwrap();
    let acknowledged = Mutex::new(Vec::<String>::new());
    let attempted = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);

    for round in 0..KILLS {
        // Each round uploads under its own daemon: the clients end when the server goes away.
        std::thread::scope(|scope| {
            stop.store(false, Ordering::SeqCst);
            let running = &daemon;
            for client in 0..2 {
                let (acknowledged, attempted, stop, page_bytes) = (&acknowledged, &attempted, &stop, &page_bytes);
                scope.spawn(move || {
                    // Bytes differ from file to file, so that nothing is answered from another's.
                    let scratch = running.folder().join(format!("client-{client}.png"));
                    while !stop.load(Ordering::SeqCst) {
                        let number = attempted.fetch_add(1, Ordering::SeqCst);
                        let name = format!("scan-{round:02}-{client}-{number:04}.png");
                        let mut bytes = page_bytes.clone();
                        bytes.extend(number.to_le_bytes());
                        fs::write(&scratch, &bytes).unwrap();
                        if running.upload(&scratch, &name).is_ok() {
                            acknowledged.lock().unwrap().push(name);
                        }
                        // Few enough that the backlog is read in reasonable time.
                        std::thread::sleep(Duration::from_millis(150));
                    }
                });
            }
            // From half way into a first upload to several pages read: the moment wanders.
            std::thread::sleep(Duration::from_millis(120 + 97 * (round as u64 * 7 % 11)));
            let pid = running.pid();
            assert!(std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success());
            stop.store(true, Ordering::SeqCst);
        });
        daemon.kill();
        daemon.run();
    }

    let jobs = daemon.settled();
    let mut jobs_of: BTreeMap<&str, Vec<&serde_json::Value>> = BTreeMap::new();
    for job in &jobs {
        jobs_of.entry(job["path"].as_str().unwrap()).or_default().push(job);
    }
    let acknowledged = acknowledged.into_inner().unwrap();
    assert!(acknowledged.len() >= KILLS, "only {} uploads were acknowledged: the test shows nothing", acknowledged.len());
    let home = daemon.home(common::ACCOUNT);
    for name in &acknowledged {
        let path = format!("/{name}");
        let of_this = jobs_of.get(path.as_str()).map(Vec::as_slice).unwrap_or_default();
        assert_eq!(of_this.len(), 1, "{name} has {} jobs", of_this.len());
        assert_eq!(of_this[0]["state"], "done", "{}", of_this[0]);
        assert!(home.join(name).is_file(), "{name} is gone");
    }
    // Whole sidecars for every job, acknowledged or not, and no other file at all.
    let mut expected = Vec::new();
    for job in &jobs {
        let name = job["path"].as_str().unwrap().trim_start_matches('/');
        expected.extend(["", ".txt", ".json"].map(|suffix| format!("{name}{suffix}")));
        let reading: serde_json::Value = serde_json::from_slice(&fs::read(home.join(format!("{name}.json"))).unwrap()).unwrap();
        assert_eq!(reading["job"], job["id"]);
        assert_eq!(reading["text"].as_str().unwrap(), fs::read_to_string(home.join(format!("{name}.txt"))).unwrap().trim_end());
    }
    expected.sort();
    // A whole file whose 226 was never sent may wait for the scan; give it the time to be taken.
    wait_for("the home to hold uploads and sidecars only", || {
        let found = files_below(&home);
        (found == expected || daemon.jobs().len() > jobs.len()).then_some(())
    });
    let staged = files_below(&daemon.folder().join("data/spool/incoming"));
    assert!(staged.is_empty(), "staging is left: {staged:?}");
    println!(
        "{} attempts, {} acknowledged, {} jobs, {KILLS} kills",
        attempted.load(Ordering::SeqCst),
        acknowledged.len(),
        jobs.len()
    );
    assert_eq!(daemon.terminate(), Some(0));
}
