//! A daemon that has nothing to do does nothing: its lanes, doors and outbox wait, they do not ask again
//! and again. And a file whose time a client sets is nothing to do.

mod common;

use common::{ACCOUNT, Daemon, PASSWORD, repository, wait_for};
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

/// What is measured at once, and how often: a daemon that spins does so in every one of these.
const SPAN: Duration = Duration::from_secs(2);
const SPANS: usize = 30;

/// CPU time that the process has used, in seconds.
fn used(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name in parentheses may hold anything; utime and stime are the 14th and 15th field (proc(5)).
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: f64 = fields[11..13].iter().map(|field| field.parse::<f64>().unwrap()).sum();
    // USER_HZ, which Linux shows as 100 on every machine that this is built for.
    ticks / 100.0
}

#[test]
fn an_idle_daemon_uses_no_cpu() {
    let daemon = Daemon::start("[watch]\nquiet = \"1s\"\nrescan = \"5s\"\n");
    // Every part has worked once, lanes included.
    daemon.upload(&repository().join("tests/fixtures/receipt.png"), "receipt.png").unwrap();
    assert_eq!(daemon.settled().len(), 1);
    // A bound on work, not on time: a busy machine only gives it less. What still goes on from the start
    // ends within a few spans; a lane that spins never does.
    let mut shares = Vec::new();
    for _ in 0..SPANS {
        let (before, begun) = (used(daemon.pid()), Instant::now());
        std::thread::sleep(SPAN);
        let share = (used(daemon.pid()) - before) / begun.elapsed().as_secs_f64();
        if share < 0.25 {
            return;
        }
        shares.push(share);
    }
    panic!("idle, it used these shares of a core: {shares:.2?}");
}

#[test]
fn setting_a_files_time_makes_no_second_job() {
    let mut daemon = Daemon::start("[watch]\nquiet = \"200ms\"\nrescan = \"1s\"\n");
    daemon.upload(&repository().join("tests/fixtures/receipt.png"), "receipt.png").unwrap();
    assert_eq!(daemon.settled().len(), 1);
    for (number, command) in
        ["MFMT 20200102030405 receipt.png", "SITE UTIME 20210102030405 receipt.png", "MDTM 20220102030405 receipt.png"]
            .iter()
            .enumerate()
    {
        let ran = Command::new("curl")
            .args(["--silent", "--show-error", "--user", &format!("{ACCOUNT}:{PASSWORD}"), "--quote", command])
            .arg(format!("ftp://{}/", daemon.ftp))
            .output()
            .unwrap();
        assert!(ran.status.success(), "{command}: {}", String::from_utf8_lossy(&ran.stderr));
        let modified = fs::metadata(daemon.home(ACCOUNT).join("receipt.png")).unwrap().modified().unwrap();
        assert_eq!(
            modified.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() / 31_536_000,
            50 + number as u64,
            "{command}"
        );
    }
    // A file that came after the times were set is found by the same scans that would have found the other.
    let marker = daemon.home(ACCOUNT).join("marker.png");
    let found = |daemon: &Daemon, jobs: usize| wait_for("the scans to come by", || (daemon.jobs().len() >= jobs).then_some(()));
    fs::copy(repository().join("tests/fixtures/receipt.png"), &marker).unwrap();
    found(&daemon, 2);
    // Nor after a restart, when nothing is remembered but what the database says.
    daemon.kill();
    daemon.run();
    fs::copy(repository().join("tests/fixtures/receipt.png"), daemon.home(ACCOUNT).join("marker-2.png")).unwrap();
    found(&daemon, 3);
    let mut paths: Vec<String> = daemon.settled().iter().map(|job| job["path"].as_str().unwrap().to_owned()).collect();
    paths.sort();
    assert_eq!(paths, ["/marker-2.png", "/marker.png", "/receipt.png"]);
}
