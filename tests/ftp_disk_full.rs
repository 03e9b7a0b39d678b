//! A full disk, for real: the daemon's data folder is a tmpfs of a few megabytes. Uploads are answered
//! 452 or 451 and leave nothing, the daemon goes on, and takes uploads again when there is room, without
//! a restart. The same for a disk that becomes read-only. Mounting needs root; elsewhere the test says so and is skipped.

mod common;

use common::{Daemon, files_below, wait_for};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// A tmpfs that goes with its owner, at once for everybody else, and in truth when the daemon in it ends.
struct Disk {
    at: PathBuf,
}

impl Disk {
    fn mount(at: &Path, size: &str) -> Option<Disk> {
        fs::create_dir_all(at).unwrap();
        let ran = Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size},mode=0700"), "tmpfs"]).arg(at).output();
        match ran {
            Ok(output) if output.status.success() => Some(Disk { at: at.to_owned() }),
            Ok(output) => {
                skipped(&String::from_utf8_lossy(&output.stderr));
                None
            }
            Err(error) => {
                skipped(&error.to_string());
                None
            }
        }
    }

    fn free(&self) -> u64 {
        let stat = rustix::fs::statvfs(&self.at).unwrap();
        stat.f_bavail * stat.f_frsize
    }

    /// A file that leaves `free` bytes.
    fn fill(&self, free: u64) {
        let mut file = fs::OpenOptions::new().create(true).append(true).open(self.at.join("filler")).unwrap();
        while self.free() > free {
            let step = (self.free() - free).min(256 * 1024) as usize;
            if file.write_all(&vec![0; step]).is_err() {
                break;
            }
        }
    }

    /// As a kernel does to a disk that it no longer trusts. False where something keeps it from that.
    fn remount(&self, how: &str) -> bool {
        Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(&self.at).status().unwrap().success()
    }

    fn empty(&self) {
        let _ = fs::remove_file(self.at.join("filler"));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.at).status();
    }
}

/// Not captured, unlike what a passing test prints.
fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: a full disk: no tmpfs can be mounted ({}); run as root", why.trim());
}

/// The last reply's code to an upload of so many bytes.
fn upload(daemon: &Daemon, name: &str, bytes: usize) -> String {
    let script = r#"
import ftplib, io, sys
host, port, name, size = sys.argv[1].rsplit(":", 1)[0], int(sys.argv[1].rsplit(":", 1)[1]), sys.argv[2], int(sys.argv[3])
f = ftplib.FTP(timeout=60); f.connect(host, port); f.login("front-desk", "correct horse battery")
f.voidcmd("TYPE I")
try:
    s = f.transfercmd("STOR " + name)
    try:
        s.sendall(b"P4\n8 1\n" + b"\xaa" * (size - 7))
    except OSError:
        pass  # refused in mid-file
    s.close()
    print(f.voidresp()[:3])
except ftplib.Error as error:
    print(str(error)[:3])
assert f.sendcmd("NOOP").startswith("200"), "the session goes on"
"#;
    let ran = Command::new("python3").args(["-c", script, &daemon.ftp.to_string(), name, &bytes.to_string()]).output().unwrap();
    assert!(ran.status.success(), "{name}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap().trim().to_owned()
}

fn refused(code: &str) -> bool {
    code == "452" || code == "451"
}

fn staged(daemon: &Daemon) -> usize {
    fs::read_dir(daemon.folder().join("data/spool/incoming")).unwrap().count()
}

/// How long room took to be noticed.
fn until_taken(daemon: &Daemon, name: &str) -> Duration {
    let begin = Instant::now();
    wait_for("an upload to be taken again", || (upload(daemon, name, 1000) == "226").then_some(()));
    begin.elapsed()
}

#[test]
fn a_full_disk_refuses_and_room_is_noticed() {
    let mut daemon = Daemon::prepare("[limits]\nmin-free-space = \"1MiB\"\n");
    let Some(disk) = Disk::mount(&daemon.folder().join("data"), "24m") else { return };
    daemon.account_add(common::ACCOUNT, common::PASSWORD, &[]);
    daemon.run();
    assert_eq!(upload(&daemon, "before.pbm", 1000), "226");
    let home = daemon.home(common::ACCOUNT);

    // Below the floor: refused before a byte is taken.
    disk.fill(512 * 1024);
    assert_eq!(upload(&daemon, "floor.pbm", 1000), "452");
    // No room at all.
    disk.fill(0);
    assert_eq!(disk.free(), 0);
    for round in 0..5 {
        let code = upload(&daemon, &format!("full-{round}.pbm"), 1000);
        assert!(refused(code.as_str()), "{code}");
    }
    assert_eq!(daemon.get("/healthz", None).0 / 100, 2, "the daemon lives");
    disk.empty();
    println!("room was noticed after {:?}", until_taken(&daemon, "after.pbm"));

    // Room enough to begin, not to end: the disk fills up under the upload.
    disk.fill(3 * 1024 * 1024);
    for round in 0..3 {
        let code = upload(&daemon, &format!("large-{round}.pbm"), 8 * 1024 * 1024);
        assert!(refused(code.as_str()), "{code}");
        wait_for("nothing to be staged", || (staged(&daemon) == 0).then_some(()));
    }
    // The room that the broken uploads took is free again.
    assert_eq!(upload(&daemon, "small.pbm", 1000), "226");
    disk.empty();
    assert_eq!(upload(&daemon, "large.pbm", 8 * 1024 * 1024), "226");

    let jobs = daemon.settled();
    let pages: Vec<String> = files_below(&home).into_iter().filter(|name| name.ends_with(".pbm")).collect();
    assert_eq!(pages, ["after.pbm", "before.pbm", "large.pbm", "small.pbm"]);
    assert_eq!(jobs.len(), 4, "one for each that was acknowledged: {jobs:?}");
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
    assert_eq!(daemon.terminate(), Some(0));
}

#[test]
fn a_disk_that_fills_between_upload_and_reading_loses_nothing() {
    let mut daemon = Daemon::prepare("[limits]\nmin-free-space = \"64KiB\"\n[retry]\nattempts = 1\n");
    let Some(disk) = Disk::mount(&daemon.folder().join("data"), "16m") else { return };
    daemon.account_add(common::ACCOUNT, common::PASSWORD, &[]);
    daemon.run();
    // The worker has hardly begun when the disk is full. One attempt is all there is: a full disk must not
    // cost it.
    assert_eq!(upload(&daemon, "page.pbm", 1000), "226");
    disk.fill(0);
    for _ in 0..3 {
        let code = upload(&daemon, "refused.pbm", 1000);
        assert!(refused(code.as_str()), "{code}");
    }
    // Full for long enough that whatever gives up on a full disk has given up.
    std::thread::sleep(Duration::from_secs(4));
    disk.empty();
    let begin = Instant::now();
    until_taken(&daemon, "after.pbm");
    let jobs = daemon.settled();
    println!("work resumed {:?} after there was room", begin.elapsed());
    assert_eq!(jobs.len(), 2);
    assert!(jobs.iter().all(|job| job["state"] == "done" && job["attempt"] == 1), "{jobs:?}");
    assert_eq!(daemon.terminate(), Some(0));
}

/// A file system with an open file for writing is not made read-only by a plain remount: so a bind mount of
/// the data folder is what becomes read-only, where the kernel allows that; the daemon works below it.
#[test]
fn a_disk_that_becomes_read_only_refuses_and_loses_nothing() {
    let mut daemon = Daemon::prepare("[limits]\nmin-free-space = \"64KiB\"\n[retry]\nattempts = 5\nbackoff = \"1s\"\n");
    let Some(disk) = Disk::mount(&daemon.folder().join("data"), "32m") else { return };
    daemon.account_add(common::ACCOUNT, common::PASSWORD, &[]);
    for folder in ["homes", "spool"] {
        let path = disk.at.join(folder);
        fs::create_dir_all(&path).unwrap();
        assert!(Command::new("mount").arg("--bind").args([&path, &path]).status().unwrap().success());
    }
    let parts = ["homes", "spool"].map(|folder| Disk { at: disk.at.join(folder) });
    daemon.run();
    assert_eq!(upload(&daemon, "before.pbm", 1000), "226");
    daemon.settled();

    for part in &parts {
        assert!(part.remount("bind,ro"), "{}", part.at.display());
        for round in 0..3 {
            let code = upload(&daemon, &format!("refused-{round}.pbm"), 1000);
            assert!(code.starts_with("45"), "{code}");
        }
        assert_eq!(daemon.get("/healthz", None).0 / 100, 2, "the daemon lives");
        assert!(part.remount("bind,rw"));
        until_taken(&daemon, &format!("after-{}.pbm", part.at.file_name().unwrap().to_str().unwrap()));
    }
    // Between upload and sidecars: tried again until it can be written.
    assert_eq!(upload(&daemon, "page.pbm", 1000), "226");
    assert!(parts[0].remount("bind,ro"));
    std::thread::sleep(Duration::from_secs(2));
    assert!(parts[0].remount("bind,rw"));

    let jobs = daemon.settled();
    assert!(jobs.len() == 4 && jobs.iter().all(|job| job["state"] == "done"), "{jobs:?}");
    let pages: Vec<String> =
        files_below(&daemon.home(common::ACCOUNT)).into_iter().filter(|name| name.ends_with(".pbm")).collect();
    assert_eq!(pages, ["after-homes.pbm", "after-spool.pbm", "before.pbm", "page.pbm"]);
    assert_eq!(staged(&daemon), 0);
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
    assert_eq!(daemon.terminate(), Some(0));
}
