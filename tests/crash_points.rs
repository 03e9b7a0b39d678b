//! The promise at every named place between two durable steps: the real daemon dies there, is started
//! again, and whatever it had answered with 226 ends with one job, two whole sidecars and one mail.
//! Needs the cargo feature `crash-points` (`make test` builds it); see `src/crashpoint.rs`.

mod common;

use common::smtp::Sink;
use common::{ACCOUNT, Daemon, files_below, repository, wait_for};
use inkport::crashpoint;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

const NAME: &str = "scan.pdf";
const SIGABRT: i32 = 6;
/// A crash may fall between the relay's answer and our note of it: then, and only then, mail comes twice.
const TWICE: &str = "mail-sent";
/// Only accounts that get CSV come by here.
const DAILY: &str = "day-appended";

/// How the document comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Ftp,
    Watch,
}

/// A place, at which pass of it, and by which door its document comes.
#[derive(Debug, Clone, Copy)]
struct Visit {
    place: &'static str,
    pass: u32,
    door: Door,
}

/// Every place at its first pass; where uploads and sidecars come by, also for the `.txt` and the
/// `.json`; and what is otherwise for a file that lay in the home.
fn visits() -> Vec<Visit> {
    let mut visits = Vec::new();
    for place in crashpoint::ALL.into_iter().filter(|place| !place.starts_with("retention-")) {
        let passes = match place {
            "staging-made" | "staging-written" | "staging-synced" | "spool-linked" | "spool-synced" | "home-renamed"
            | "home-synced" => 3,
            "sidecar-staged" | "sidecar-kept" | "sidecar-installed" => 2,
            _ => 1,
        };
        let door = if place == "file-copied" { Door::Watch } else { Door::Ftp };
        visits.extend((1..=passes).map(|pass| Visit { place, pass, door }));
    }
    let by_watch = ["staging-made", "staging-synced", "spool-linked", "job-inserted", "job-committed", "job-settled"];
    visits.extend(by_watch.map(|place| Visit { place, pass: 1, door: Door::Watch }));
    visits
}

#[test]
fn the_promise_holds_wherever_the_daemon_dies() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let visits = visits();
    let (next, acknowledged) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(visit) = visits.get(next.fetch_add(1, Ordering::SeqCst)) {
                    acknowledged.fetch_add(usize::from(dies_and_keeps_its_promise(&runtime, *visit)), Ordering::SeqCst);
                }
            });
        }
    });
    println!("{} deaths, {} of them after the upload was acknowledged", visits.len(), acknowledged.into_inner());
}

/// Whether the upload was acknowledged before the daemon died.
fn dies_and_keeps_its_promise(runtime: &tokio::runtime::Runtime, visit: Visit) -> bool {
    let Visit { place, pass, door } = visit;
    let sink = runtime.block_on(Sink::start());
    let mut daemon = Daemon::prepare(&format!(
        "[mail]\nrelay = \"{}\"\nfrom = \"Inkport <inkport@localhost>\"\n[watch]\nquiet = \"100ms\"\nrescan = \"1s\"\n",
        sink.url()
    ));
    let outputs = if place == DAILY { "txt,csv,json" } else { "txt,json" };
    daemon.account_add(ACCOUNT, common::PASSWORD, &["--email", "desk@example.org", "--outputs", outputs]);
    daemon.run_with(&[("INKPORT_CRASH_AT", &format!("{place}:{pass}"))]);
    let document = repository().join("tests/fixtures/digital.pdf");
    let home = daemon.home(ACCOUNT);
    let acknowledged = match door {
        Door::Ftp => daemon.upload(&document, NAME).is_ok(),
        Door::Watch => {
            // Made by the first login or the first command that needs it; here nobody logs in.
            fs::create_dir_all(&home).unwrap();
            fs::copy(&document, home.join(NAME)).unwrap();
            false
        }
    };
    assert_eq!(daemon.died(), Some(SIGABRT), "{visit:?}");
    assert!(daemon.log().contains(&format!("crash point {place}, pass {pass}")), "{visit:?}: it died elsewhere");
    let whole = fs::read(&document).unwrap();
    let is_there = home.join(NAME).exists();
    assert!(is_there || !acknowledged, "{visit:?}: an acknowledged upload is gone");
    nothing_is_half(&home, &whole, visit);

    daemon.run();
    if !is_there {
        assert!(daemon.jobs().is_empty(), "{visit:?}: a job without a file");
        assert_eq!(files_below(&home).len(), 0, "{visit:?}");
        // The client sends it again, as it does when nobody answered.
        daemon.upload(&document, NAME).unwrap();
    }
    let job = wait_for("the job to end and its mail to leave", || {
        let jobs = daemon.jobs();
        assert!(jobs.len() <= 1, "{visit:?}: {jobs:?}");
        let job = jobs.into_iter().next()?;
        let deliveries = job["deliveries"].as_array().unwrap();
        (job["state"] == "done" && deliveries.len() == 1 && deliveries[0]["state"] == "sent").then_some(job)
    });
    nothing_is_half(&home, &whole, visit);
    let reading: serde_json::Value = serde_json::from_slice(&fs::read(home.join(format!("{NAME}.json"))).unwrap()).unwrap();
    let mut expected = ["", ".json", ".txt"].map(|suffix| format!("{NAME}{suffix}")).to_vec();
    if place == DAILY {
        let table = format!("{}.csv", &reading["received_at"].as_str().unwrap()[..10]);
        let rows = fs::read_to_string(home.join(&table)).unwrap();
        assert_eq!((rows.lines().count(), rows.matches(NAME).count()), (2, 1), "{visit:?}: {rows}");
        expected.extend([table, format!("{NAME}.csv")]);
    }
    expected.sort();
    assert_eq!(files_below(&home), expected, "{visit:?}");
    assert_eq!(reading["job"], job["id"], "{visit:?}");
    assert_eq!(files_below(&daemon.folder().join("data/spool/incoming")), [""; 0], "{visit:?}: staging is left");

    let mails = sink.messages();
    let ids: Vec<String> = mails.iter().map(|mail| mail.header("Message-ID").unwrap()).collect();
    if place == TWICE {
        assert!(ids.len() == 2 && ids[0] == ids[1], "{visit:?}: {ids:?}");
    } else {
        assert_eq!(ids.len(), 1, "{visit:?}: {ids:?}");
    }
    assert_eq!(daemon.terminate(), Some(0), "{visit:?}");
    // Bytes whose row was never committed may lie in the spool; nothing else is out of order.
    let checked = daemon.inkport(&["fsck", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&checked.stdout).unwrap();
    let findings = report["findings"].as_array().unwrap();
    assert!(findings.iter().all(|finding| finding["kind"] == "orphan"), "{visit:?}: {report:#}");
    daemon.printed(&["fsck", "--repair"]);
    daemon.printed(&["fsck"]);
    acknowledged
}

/// A round of retention that its daemon does not survive is done again: in the end everything is gone, nothing of
/// it is taken for a new upload, and what belongs to an account that keeps it is still there.
#[test]
fn retention_is_done_again_wherever_the_daemon_dies() {
    let visits = [
        ("retention-sidecars", 1),
        ("retention-noted", 1),
        ("retention-bytes", 1),
        ("retention-file", 1),
        ("retention-noted", 2),
        ("retention-noted", 3),
    ];
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((place, pass)) = visits.get(next.fetch_add(1, Ordering::SeqCst)) {
                    forgets_and_keeps(place, *pass);
                }
            });
        }
    });
}

fn forgets_and_keeps(place: &str, pass: u32) {
    const HURRY: (&str, &str) = ("INKPORT_HURRY", "1");
    let mut daemon = Daemon::prepare(
        "[watch]\nquiet = \"100ms\"\nrescan = \"1s\"\n[retention]\noriginals = \"1s\"\nsidecars = \"1s\"\njobs = \"1s\"\n",
    );
    daemon.account_add(ACCOUNT, common::PASSWORD, &[]);
    daemon.account_add(
        "archive",
        common::PASSWORD,
        &["--keep-originals", "keep", "--keep-sidecars", "keep", "--keep-jobs", "keep"],
    );
    daemon.run_with(&[HURRY, ("INKPORT_CRASH_AT", &format!("{place}:{pass}"))]);
    let document = repository().join("tests/fixtures/digital.pdf");
    let upload = |account: &str| {
        let url = format!("ftp://{}/{NAME}", daemon.ftp);
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--max-time", "60", "--user", &format!("{account}:{}", common::PASSWORD), "--upload-file"]);
        assert!(curl.arg(&document).arg(url).status().unwrap().success());
    };
    upload("archive");
    upload(ACCOUNT);
    assert_eq!(daemon.died(), Some(SIGABRT), "{place}:{pass}");
    assert!(daemon.log().contains(&format!("crash point {place}, pass {pass}")), "it died elsewhere");
    daemon.run_with(&[HURRY]);
    let home = daemon.home(ACCOUNT);
    wait_for("everything to be gone", || {
        let jobs = daemon.jobs();
        (jobs.iter().all(|job| job["account"] == "archive" && job["state"] == "done") && files_below(&home).is_empty())
            .then_some(())
    });
    // Two rescans later nothing has come back.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    let jobs = daemon.jobs();
    assert!(jobs.len() == 1 && jobs[0]["account"] == "archive", "{place}:{pass}: {jobs:?}");
    assert_eq!(files_below(&daemon.home("archive")), [NAME.to_owned(), format!("{NAME}.json"), format!("{NAME}.txt")]);
    assert_eq!(daemon.terminate(), Some(0));
    daemon.printed(&["fsck"]);
}

/// A daemon that dies with sidecars in place but no end written down, and a job that is cancelled before the next one
/// starts: dead, and no reading beside it.
#[test]
fn a_cancelled_job_leaves_no_sidecars_wherever_its_daemon_died() {
    for (place, pass) in [("sidecar-installed", 1), ("sidecars-published", 1), ("outbox-written", 1)] {
        let mut daemon = Daemon::start("");
        daemon.kill();
        daemon.run_with(&[("INKPORT_CRASH_AT", &format!("{place}:{pass}"))]);
        daemon.upload(&repository().join("tests/fixtures/digital.pdf"), NAME).unwrap();
        assert_eq!(daemon.died(), Some(SIGABRT), "{place}");
        let id = daemon.jobs()[0]["id"].as_str().unwrap().to_owned();
        daemon.printed(&["jobs", "cancel", &id]);
        daemon.run();
        let jobs = daemon.settled();
        assert_eq!((jobs.len(), jobs[0]["state"].as_str()), (1, Some("dead")), "{place}");
        assert_eq!(files_below(&daemon.home(ACCOUNT)), [NAME.to_owned(), format!("{NAME}.error.json")], "{place}");
        // Told to stop while the models are being opened: that is no failure.
        assert_eq!(daemon.terminate(), Some(0), "{place}");
    }
}

/// What can be seen is whole; and where the `.json` is, the `.txt` is.
fn nothing_is_half(home: &Path, document: &[u8], visit: Visit) {
    let found = |suffix: &str| fs::read(home.join(format!("{NAME}{suffix}"))).ok();
    if let Some(bytes) = found("") {
        assert!(bytes == document, "{visit:?}: half an upload is to be seen");
    }
    let (txt, json) = (found(".txt"), found(".json"));
    if let Some(txt) = &txt {
        let text = std::str::from_utf8(txt).unwrap();
        assert!(text.contains("Garden Club") && text.ends_with('\n'), "{visit:?}: half a .txt");
    }
    if let Some(json) = json {
        let reading: serde_json::Value = serde_json::from_slice(&json).unwrap_or_else(|_| panic!("{visit:?}: half a .json"));
        assert_eq!(
            reading["text"].as_str().map(str::trim_end),
            txt.as_deref().map(|t| std::str::from_utf8(t).unwrap().trim_end())
        );
    }
}
