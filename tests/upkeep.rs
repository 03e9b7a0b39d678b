//! Backup and fsck: the real binary, beside a running daemon and without one.

mod common;

use common::{ACCOUNT, Daemon, files_below, repository, wait_for};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

fn document() -> Vec<u8> {
    fs::read(repository().join("tests/fixtures/digital.pdf")).unwrap()
}

/// Uploads bytes that differ from every other upload's.
fn upload(daemon: &Daemon, number: usize) -> String {
    let (name, scratch) = (format!("scan-{number:04}.pdf"), daemon.folder().join(format!("scratch-{number}")));
    let mut bytes = document();
    bytes.extend(format!("% {number}\n").into_bytes());
    fs::write(&scratch, bytes).unwrap();
    daemon.upload(&scratch, &name).unwrap();
    fs::remove_file(scratch).unwrap();
    name
}

fn fsck(daemon: &Daemon, more: &[&str]) -> (i32, Value) {
    let output = daemon.inkport(&[&["fsck", "--json"], more].concat());
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), report)
}

fn kinds(report: &Value) -> Vec<&str> {
    let mut kinds: Vec<&str> = report["findings"].as_array().unwrap().iter().map(|f| f["kind"].as_str().unwrap()).collect();
    kinds.sort_unstable();
    kinds
}

fn copy_folder(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-r").arg(from).arg(to).status().unwrap().success());
}

#[test]
fn a_backup_under_load_restores_every_job_with_its_bytes() {
    let mut daemon = Daemon::start("[watch]\nquiet = \"200ms\"\nrescan = \"1s\"\n");
    for number in 0..5 {
        upload(&daemon, number);
    }
    let folder = daemon.folder().join("backup");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 100;
            while !stop.load(Ordering::SeqCst) {
                upload(&daemon, number);
                number += 1;
            }
        });
        wait_for("some load", || (daemon.jobs().len() > 10).then_some(()));
        let told = daemon.inkport(&["backup", folder.to_str().unwrap(), "--json"]);
        stop.store(true, Ordering::SeqCst);
        assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
        let report: Value = serde_json::from_slice(&told.stdout).unwrap();
        assert!(report["jobs"].as_u64().unwrap() > 10 && report["lost"].as_array().unwrap().is_empty(), "{report}");
    });
    let sums = Command::new("sha256sum").args(["--check", "--quiet", "SHA256SUMS"]).current_dir(&folder).output().unwrap();
    assert!(sums.status.success(), "{}", String::from_utf8_lossy(&sums.stdout));
    let listed = fs::read_to_string(folder.join("SHA256SUMS")).unwrap().lines().count();
    assert_eq!(listed + 1, files_below(&folder).len(), "every file is listed");
    // Never over another one.
    let again = daemon.inkport(&["backup", folder.to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&again.stderr).contains("not empty"));
    daemon.settled();
    let before = daemon.jobs();
    daemon.kill();

    // The disaster, and what the README says to do then.
    let data = daemon.folder().join("data");
    fs::rename(&data, daemon.folder().join("lost")).unwrap();
    copy_folder(&folder, &data);
    let restored = daemon.jobs();
    assert!(restored.len() > 10 && restored.iter().all(|job| before.iter().any(|b| b["id"] == job["id"])));
    let (code, report) = fsck(&daemon, &["--repair"]);
    assert_eq!(code, 0, "{report:#}");
    assert!(kinds(&report).contains(&"moved"), "copied files are told to their rows: {report:#}");

    daemon.run();
    let unknown = files_below(&folder.join("homes")).iter().filter(|name| name.ends_with(".pdf")).count() - restored.len();
    let jobs = wait_for("every restored job to end, and newer files to be taken", || {
        let jobs = daemon.jobs();
        (jobs.len() >= restored.len() + unknown && jobs.iter().all(|job| job["state"] == "done")).then_some(jobs)
    });
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(daemon.jobs().len(), jobs.len(), "no file is read twice");
    for job in &restored {
        let path = job["path"].as_str().unwrap().trim_start_matches('/').to_owned();
        assert!(jobs.iter().any(|now| now["id"] == job["id"] && now["state"] == "done"), "{job}");
        for suffix in ["", ".txt", ".json"] {
            assert!(daemon.home(ACCOUNT).join(format!("{path}{suffix}")).is_file(), "{path}{suffix}");
        }
    }
    assert_eq!(fsck(&daemon, &[]).0, 0);
}

#[test]
fn fsck_finds_what_is_wrong_and_repair_deletes_nothing() {
    let mut daemon = Daemon::start("");
    let names: Vec<String> = (0..4).map(|number| upload(&daemon, number)).collect();
    daemon.settled();
    let (code, report) = fsck(&daemon, &[]);
    assert_eq!((code, report["jobs"].as_u64(), kinds(&report).len()), (0, Some(4), 0), "{report:#}");
    // Repair beside a daemon is refused.
    let refused = daemon.inkport(&["fsck", "--repair"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("stopped"), "{}", String::from_utf8_lossy(&refused.stderr));
    daemon.kill();

    let (home, spool) = (daemon.home(ACCOUNT), daemon.folder().join("data/spool"));
    let spooled = |name: &str| {
        let sum = Command::new("sha256sum").arg(home.join(name)).output().unwrap();
        let hex = String::from_utf8(sum.stdout).unwrap()[..64].to_owned();
        spool.join(&hex[..2]).join(hex)
    };
    let (missing, damaged, gone) = (spooled(&names[0]), spooled(&names[1]), spooled(&names[2]));
    fs::remove_file(&missing).unwrap();
    // Other bytes under its name, the home's own stay as they were.
    fs::remove_file(&damaged).unwrap();
    fs::write(&damaged, b"spoiled").unwrap();
    fs::remove_file(&gone).unwrap();
    fs::remove_file(home.join(&names[2])).unwrap();
    fs::write(spool.join("incoming/half"), b"half").unwrap();
    let orphan = spool.join("ba/ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    fs::write(&orphan, b"abc").unwrap();
    fs::write(home.join(format!("{}.json", names[3])), b"{\"half").unwrap();

    let (code, report) = fsck(&daemon, &[]);
    assert_eq!(code, 1);
    let expected = ["bytes-damaged", "bytes-missing", "bytes-missing", "orphan", "sidecar-damaged", "staged"];
    assert_eq!(kinds(&report), expected, "{report:#}");
    assert!(orphan.exists(), "without --repair nothing is touched");
    let text = daemon.inkport(&["fsck"]);
    assert!(String::from_utf8_lossy(&text.stdout).contains("6 faults"), "{}", String::from_utf8_lossy(&text.stdout));

    let (code, report) = fsck(&daemon, &["--repair"]);
    assert_eq!((code, kinds(&report).len()), (1, 6), "two cannot be mended: {report:#}");
    assert_eq!(fs::read(&missing).unwrap(), fs::read(home.join(&names[0])).unwrap());
    let mut aside: Vec<Vec<u8>> = files_below(&daemon.folder().join("data/lost+found"))
        .iter()
        .map(|name| fs::read(daemon.folder().join("data/lost+found").join(name)).unwrap())
        .collect();
    aside.sort();
    assert_eq!(aside, [&b"abc"[..], b"half", b"spoiled"], "moved, not deleted");
    let (code, report) = fsck(&daemon, &[]);
    assert_eq!((code, kinds(&report)), (1, vec!["bytes-missing", "sidecar-damaged"]), "{report:#}");
}
