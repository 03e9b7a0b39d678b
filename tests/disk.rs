//! The promise on a disk that fails: power cuts that take along whatever was not fsynced, and errors in
//! answer to each single write. A small library stands between the real daemon and its disk
//! (`disk_support/shim.c`, compiled here with `cc`); what it records is replayed up to any place, and the
//! daemon is started on what a cut there leaves. Needs the cargo feature `crash-points`, with which every
//! call that changes the disk goes through libc.

mod common;
#[path = "disk_support/replay.rs"]
mod replay;

use common::{ACCOUNT, Daemon, PASSWORD, files_below, repository, wait_for};
use replay::{Disk, Step, Unsynced};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, SystemTime};

/// xorshift64*: throws that can be had again.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit
    }
}

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

/// The compiled shim; `None`, and said so, where there is no C compiler.
fn shim() -> Option<&'static Path> {
    static SHIM: OnceLock<Option<PathBuf>> = OnceLock::new();
    SHIM.get_or_init(|| {
        let (source, folder) = (repository().join("tests/disk_support/shim.c"), Path::new(env!("CARGO_TARGET_TMPDIR")));
        let made = folder.join(format!("shim-{}.so", std::process::id()));
        let compiled = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&made).arg(&source).arg("-ldl").output();
        match compiled {
            Ok(output) => {
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                fs::rename(&made, folder.join("shim.so")).unwrap();
                Some(folder.join("shim.so"))
            }
            Err(error) => {
                let _ = writeln!(std::io::stderr(), "skipped: a failing disk: no C compiler ({error})");
                None
            }
        }
    })
    .as_deref()
}

/// A PDF that is read in milliseconds, different from every other number's.
fn document(number: usize) -> Vec<u8> {
    let mut bytes = fs::read(repository().join("tests/fixtures/digital.pdf")).unwrap();
    bytes.extend(format!("\n% {number}\n").into_bytes());
    bytes
}

// -- power cuts

/// What a client sent: under which name, and how many answers it needed to be promised.
struct Sent {
    name: &'static str,
    bytes: Vec<u8>,
    /// In the record: the place where the daemon says yes.
    promised_at: usize,
}

struct Recorded {
    steps: Vec<Step>,
    sent: Vec<Sent>,
    /// Where the command that made the account had ended.
    account_at: usize,
}

const SETTINGS: &str = "[watch]\nquiet = \"100ms\"\nrescan = \"1s\"\n[retry]\nbackoff = \"100ms\"\n";
const BLIND: &str = "[watch]\nenabled = false\n";

/// A day in the life of a daemon, from an empty folder on: plain uploads, one that replaces another, one that is
/// completed by a rename, all read.
fn record(shim: &Path) -> Recorded {
    let mut daemon = Daemon::prepare(SETTINGS);
    let scratch = tempfile::tempdir().unwrap();
    let record = scratch.path().join("record");
    let root = daemon.folder().to_owned();
    let environment = [
        ("LD_PRELOAD", shim.to_str().unwrap()),
        ("SHIM_ROOT", root.to_str().unwrap()),
        ("SHIM_RECORD", record.to_str().unwrap()),
    ];
    let mut add = daemon.command(&["account", "add", ACCOUNT, "--password-stdin"]);
    let mut add = add.envs(environment).stdin(std::process::Stdio::piped()).spawn().unwrap();
    add.stdin.take().unwrap().write_all(PASSWORD.as_bytes()).unwrap();
    assert!(add.wait().unwrap().success());
    let account_at = replay::steps(&record).len();
    assert!(account_at > 10, "the shim sees nothing: is the feature crash-points on?");

    daemon.run_with(&environment);
    let mut sent = Vec::new();
    let mut codes = Vec::new();
    let file = scratch.path().join("page.pdf");
    for (number, name) in ["one.pdf", "two.pdf", "again.pdf", "renamed.pdf", "again.pdf", "three.pdf"].into_iter().enumerate() {
        let bytes = document(number);
        fs::write(&file, &bytes).unwrap();
        if name == "renamed.pdf" {
            let mut curl = Command::new("curl");
            curl.args(["--silent", "--show-error", "--max-time", "60", "--user", &format!("{ACCOUNT}:{PASSWORD}")]);
            curl.args(["--quote", "-RNFR r.part", "--quote", "-RNTO renamed.pdf", "--upload-file"]).arg(&file);
            assert!(curl.arg(format!("ftp://{}/r.part", daemon.ftp)).status().unwrap().success());
            codes.extend(["226", "250"]);
        } else {
            daemon.upload(&file, name).unwrap();
            codes.push("226");
        }
        sent.push((name, bytes, codes.len() - 1));
        // Some are read while others come.
        if number == 2 {
            daemon.settled();
        }
    }
    daemon.settled();
    assert_eq!(daemon.terminate(), Some(0));
    let steps = replay::steps(&record);
    let said: Vec<(usize, &str)> = steps
        .iter()
        .enumerate()
        .filter_map(|(at, step)| if let Step::Said { code } = step { Some((at, code.as_str())) } else { None })
        .collect();
    assert_eq!(said.iter().map(|(_, code)| *code).collect::<Vec<_>>(), codes, "one answer for each");
    let sent = sent.into_iter().map(|(name, bytes, answer)| Sent { name, bytes, promised_at: said[answer].0 }).collect();

    // The recorder has missed nothing: what it saw is what is there.
    let copy = scratch.path().join("copy");
    let mut disk = Disk::empty();
    steps.iter().for_each(|step| disk.step(step));
    disk.cut(Unsynced::Kept, &copy);
    let is_told = |name: &String| !name.ends_with("-shm");
    let seen: Vec<String> = files_below(&copy.join("data")).into_iter().filter(is_told).collect();
    let there: Vec<String> = files_below(&root.join("data")).into_iter().filter(is_told).collect();
    assert_eq!(seen, there);
    for name in seen {
        assert!(fs::read(copy.join("data").join(&name)).unwrap() == fs::read(root.join("data").join(&name)).unwrap(), "{name}");
    }
    Recorded { steps, sent, account_at }
}

/// A place in the record, and what is left there.
#[derive(Debug, Clone, Copy)]
struct PowerCut {
    after: usize,
    unsynced: Unsynced,
    /// Whether scans look for files that have no job.
    watch: bool,
}

impl Recorded {
    /// Right behind each answer, when everything must be safe and nothing more is; and anywhere.
    fn cuts(&self, most: usize, seed: u64) -> Vec<PowerCut> {
        let mut random = Random::new(seed);
        let mut cuts = vec![PowerCut { after: self.account_at, unsynced: Unsynced::Lost, watch: true }];
        cuts.extend(self.sent.iter().map(|sent| PowerCut { after: sent.promised_at + 1, unsynced: Unsynced::Lost, watch: true }));
        while cuts.len() < most {
            let after = self.account_at + random.below((self.steps.len() - self.account_at) as u64 + 1) as usize;
            let unsynced = if cuts.len().is_multiple_of(2) { Unsynced::Lost } else { Unsynced::Some(random.below(1 << 30)) };
            cuts.push(PowerCut { after, unsynced, watch: !cuts.len().is_multiple_of(3) });
        }
        cuts.truncate(most);
        cuts
    }
}

/// The rows know files by their numbers, which a copy cannot keep: what a disk would have kept is told to them.
fn renumber(database: &Path, made: &[(u64, u64, SystemTime)]) {
    if !database.exists() {
        return;
    }
    let connection = rusqlite::Connection::open(database).unwrap();
    // The log stays as the cut left it, for the daemon to find.
    connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    let Ok(mut statement) = connection.prepare("SELECT id, inode, modified_ns FROM jobs") else { return };
    let rows: Vec<(String, i64, i64)> =
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap().map(Result::unwrap).collect();
    for (id, inode, modified) in rows {
        let nanoseconds = |at: &SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as i64;
        if let Some((_, now, _)) = made.iter().find(|(was, _, at)| *was == inode as u64 && nanoseconds(at) == modified) {
            connection.execute("UPDATE jobs SET inode = ?2 WHERE id = ?1", rusqlite::params![id, *now as i64]).unwrap();
        }
    }
}

/// Whole sidecars beside a whole file; answers the job that they are of.
fn whole(home: &Path, name: &str) -> String {
    let text = fs::read_to_string(home.join(format!("{name}.txt"))).unwrap();
    assert!(text.contains("Garden Club") && text.ends_with('\n'), "{name}: half a .txt");
    let reading: serde_json::Value = serde_json::from_slice(&fs::read(home.join(format!("{name}.json"))).unwrap()).unwrap();
    assert_eq!(reading["text"].as_str().map(str::trim_end), Some(text.trim_end()), "{name}");
    reading["job"].as_str().unwrap().to_owned()
}

fn spooled(daemon: &Daemon, bytes: &[u8]) -> bool {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    fs::read(daemon.folder().join("data/spool").join(&hex[..2]).join(&hex)).is_ok_and(|found| found == bytes)
}

fn staged(daemon: &Daemon) -> usize {
    fs::read_dir(daemon.folder().join("data/spool/incoming")).unwrap().count()
}

/// Starts a daemon on what a cut leaves and has it keep its promises. Answers how many there were.
fn survives(recorded: &Recorded, cut: PowerCut) -> usize {
    let mut daemon = Daemon::prepare(if cut.watch { SETTINGS } else { BLIND });
    let mut disk = Disk::empty();
    recorded.steps[..cut.after].iter().for_each(|step| disk.step(step));
    let made = disk.cut(cut.unsynced, daemon.folder());
    if cut.watch {
        renumber(&daemon.folder().join("data/inkport.db"), &made);
    }
    daemon.run();
    let home = daemon.home(ACCOUNT);
    // It works, whatever was lost; the account was made, and that was said.
    let fresh = daemon.folder().join("fresh.pdf");
    fs::write(&fresh, document(1000)).unwrap();
    daemon.upload(&fresh, "fresh.pdf").unwrap_or_else(|error| panic!("{cut:?}: {error}"));

    let documents = || -> BTreeSet<String> { files_below(&home).into_iter().filter(|name| name.ends_with(".pdf")).collect() };
    let jobs = wait_for("every file to have its job, and every job to end", || {
        let jobs = daemon.settled();
        let known: BTreeSet<&str> = jobs.iter().map(|job| job["path"].as_str().unwrap().trim_start_matches('/')).collect();
        (!cut.watch || documents().iter().all(|name| known.contains(name.as_str()))).then_some(jobs)
    });
    let mut of: BTreeMap<&str, Vec<&serde_json::Value>> = BTreeMap::new();
    for job in &jobs {
        assert_eq!(job["state"], "done", "{cut:?}: {job}");
        of.entry(job["path"].as_str().unwrap().trim_start_matches('/')).or_default().push(job);
    }
    let promised = recorded.sent.iter().filter(|sent| sent.promised_at < cut.after).count();
    for name in ["one.pdf", "two.pdf", "again.pdf", "renamed.pdf", "three.pdf"] {
        let all: Vec<&Sent> = recorded.sent.iter().filter(|sent| sent.name == name).collect();
        let kept: Vec<&&Sent> = all.iter().filter(|sent| sent.promised_at < cut.after).collect();
        let has = of.get(name).map_or(0, Vec::len);
        assert!(has >= kept.len() && has <= all.len(), "{cut:?}: {name} has {has} jobs of {} to {}", kept.len(), all.len());
        for sent in &kept {
            assert!(spooled(&daemon, &sent.bytes), "{cut:?}: the bytes of {name} are lost");
        }
        let found = fs::read(home.join(name)).ok();
        let latest = all.iter().position(|sent| found.as_ref() == Some(&sent.bytes));
        assert!(found.is_none() || latest.is_some(), "{cut:?}: {name} is nothing that was sent");
        assert!(latest.map_or(0, |at| at + 1) >= kept.len(), "{cut:?}: {name} is gone, or an old one is back");
        if has > 0 {
            let newest = of[name].iter().map(|job| job["id"].as_str().unwrap()).max().unwrap();
            assert_eq!(whole(&home, name), newest, "{cut:?}: {name}");
        }
    }
    let known: BTreeSet<String> =
        of.keys().flat_map(|name| ["", ".txt", ".json"].map(|suffix| format!("{name}{suffix}"))).collect();
    let others: Vec<String> = files_below(&home).into_iter().filter(|name| !known.contains(name)).collect();
    // Not promised, and nobody scans: a whole file may lie there without a job; and one that waits for its rename.
    assert!(others.iter().all(|name| name == "r.part" || !cut.watch && name.ends_with(".pdf")), "{cut:?}: {others:?}");
    assert_eq!(staged(&daemon), 0, "{cut:?}: staging is left");
    assert!(!daemon.log().contains("panicked"), "{cut:?}: {}", daemon.log());
    assert_eq!(daemon.terminate(), Some(0), "{cut:?}");
    let report: serde_json::Value = serde_json::from_slice(&daemon.inkport(&["fsck", "--json"]).stdout).unwrap();
    // Bytes whose row was lost lie in the spool; and where nobody renumbered, files are other ones to fsck too.
    let harmless = |finding: &serde_json::Value| finding["kind"] == "orphan" || !cut.watch && finding["kind"] == "moved";
    assert!(report["findings"].as_array().unwrap().iter().all(harmless), "{cut:?}: {report:#}");
    promised
}

fn cut_the_power(most: usize, seed: u64) {
    let Some(shim) = shim() else { return };
    let recorded = record(shim);
    is_found_out(&recorded);
    let cuts = recorded.cuts(most, seed);
    let (next, kept) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(cut) = cuts.get(next.fetch_add(1, Ordering::SeqCst)) {
                    kept.fetch_add(survives(&recorded, *cut), Ordering::SeqCst);
                }
            });
        }
    });
    println!("{} power cuts in {} steps (seed {seed}), {} promises kept", cuts.len(), recorded.steps.len(), kept.into_inner());
}

#[test]
fn a_power_cut_takes_nothing_that_was_promised() {
    cut_the_power(13, 1);
}

#[test]
#[ignore = "long; `make soak` runs it"]
fn hundreds_of_power_cuts_take_nothing_that_was_promised() {
    cut_the_power(number("SOAK_CUTS", 200) as usize, number("SOAK_SEED", u64::from(std::process::id())));
}

/// The test of the test: a daemon that forgot one of its fsyncs would break the promise, and be found out.
fn is_found_out(recorded: &Recorded) {
    let inode_of = |end: &str| {
        recorded.steps.iter().find_map(|step| match step {
            Step::Make { inode, path } | Step::Folder { inode, path } if path.ends_with(end) => Some(*inode),
            _ => None,
        })
    };
    // As if it were a daemon that never fsyncs these; and what is left right behind the first answer.
    let without = |forgotten: &dyn Fn(u64) -> bool| {
        let folder = tempfile::tempdir().unwrap();
        let mut disk = Disk::empty();
        for step in &recorded.steps[..=recorded.sent[0].promised_at] {
            if !matches!(step, Step::Sync { inode, .. } if forgotten(*inode)) {
                disk.step(step);
            }
        }
        disk.cut(Unsynced::Lost, folder.path());
        folder
    };
    let page = format!("data/homes/{ACCOUNT}/one.pdf");
    let found = |folder: &tempfile::TempDir| fs::read(folder.path().join(&page)).ok();
    let jobs = |folder: &tempfile::TempDir| {
        let connection = rusqlite::Connection::open(folder.path().join("data/inkport.db")).unwrap();
        connection.query_row("SELECT count(*) FROM jobs", [], |row| row.get::<_, i64>(0)).unwrap_or(0)
    };
    let as_it_is = without(&|_| false);
    assert_eq!((found(&as_it_is), jobs(&as_it_is)), (Some(recorded.sent[0].bytes.clone()), 1));
    let home = inode_of(&format!("homes/{ACCOUNT}")).unwrap();
    assert_eq!(found(&without(&|inode| inode == home)), None, "the folder of the upload");
    let page_itself = recorded.steps.iter().find_map(|step| match step {
        Step::Make { inode, path } if path.starts_with("data/spool/incoming/") => Some(*inode),
        _ => None,
    });
    assert_eq!(found(&without(&|inode| Some(inode) == page_itself)), Some(Vec::new()), "the upload itself");
    let homes = inode_of("data/homes").unwrap();
    assert_eq!(found(&without(&|inode| inode == homes)), None, "the folder of homes");
    let logs: Vec<u64> = recorded
        .steps
        .iter()
        .filter_map(|step| if let Step::Make { inode, path } = step { path.ends_with("-wal").then_some(*inode) } else { None })
        .collect();
    assert_eq!(jobs(&without(&|inode| logs.contains(&inode))), 0, "the database's log");
}

// -- power cuts on a real file system

/// An ext4 in a file, which can be cut off from its disk: what its journal and its files have not written by then
/// is lost, as in a power cut.
struct Ext4 {
    image: PathBuf,
    at: PathBuf,
}

impl Ext4 {
    fn make(image: PathBuf, at: PathBuf) -> Result<Self, String> {
        fs::create_dir_all(&at).unwrap();
        File::create(&image).and_then(|file| file.set_len(128 << 20)).unwrap();
        let ran = |program: &str, arguments: &[&str]| match Command::new(program).args(arguments).output() {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Err(format!("{program}: {error}")),
        };
        ran("mkfs.ext4", &["-q", "-F", image.to_str().unwrap()])?;
        let disk = Ext4 { image, at };
        ran("mount", &["-o", "loop", disk.image.to_str().unwrap(), disk.at.to_str().unwrap()])?;
        Ok(disk)
    }

    /// FS_IOC_SHUTDOWN without a flush of the journal: what xfstests cuts the power with.
    fn cut(&self) -> bool {
        let script =
            "import fcntl, os, struct, sys; fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587D, struct.pack('I', 2))";
        Command::new("python3").args(["-c", script]).arg(&self.at).status().unwrap().success()
    }

    /// The power is back: the journal is replayed.
    fn again(&self) {
        wait_for("the disk to be let go", || {
            Command::new("umount").arg(&self.at).output().unwrap().status.success().then_some(())
        });
        assert!(Command::new("mount").args(["-o", "loop"]).args([&self.image, &self.at]).status().unwrap().success());
    }
}

impl Drop for Ext4 {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.at).output();
    }
}

/// Two clients send without pause while the disk is cut off again and again.
fn cut_ext4_off(cuts: usize, seed: u64) {
    let mut daemon = Daemon::prepare(&format!("{SETTINGS}[limits]\nmin-free-space = \"1MiB\"\n"));
    let disk = match Ext4::make(daemon.folder().join("image"), daemon.folder().join("data")) {
        Ok(disk) => disk,
        Err(why) => {
            let _ = writeln!(std::io::stderr(), "skipped: power cuts on ext4: none can be mounted ({why}); run as root");
            return;
        }
    };
    daemon.account_add(ACCOUNT, PASSWORD, &[]);
    let mut random = Random::new(seed);
    let (promised, next) = (Mutex::new(BTreeSet::new()), AtomicUsize::new(0));
    for _ in 0..cuts {
        daemon.run();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (daemon, stop, promised, next) = (&daemon, &stop, &promised, &next);
            for client in 0..2 {
                scope.spawn(move || {
                    let scratch = daemon.folder().join(format!("client-{client}"));
                    while !stop.load(Ordering::SeqCst) {
                        let number = next.fetch_add(1, Ordering::SeqCst);
                        let name = format!("page-{number}.pdf");
                        fs::write(&scratch, document(number)).unwrap();
                        if daemon.upload(&scratch, &name).is_ok() {
                            promised.lock().unwrap().insert(name);
                        }
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(200 + random.below(1500)));
            assert!(disk.cut());
            // Clients of a daemon whose disk is gone, and then of none.
            std::thread::sleep(Duration::from_millis(random.below(300)));
            let killed = Command::new("kill").args(["-KILL", &daemon.pid().to_string()]).status();
            stop.store(true, Ordering::SeqCst);
            assert!(killed.unwrap().success());
        });
        daemon.kill();
        disk.again();
    }
    daemon.run();
    let promised = promised.into_inner().unwrap();
    let jobs = wait_for("every file in the home to have a job", || {
        let jobs = daemon.settled();
        let files = files_below(&daemon.home(ACCOUNT)).into_iter().filter(|name| name.ends_with(".pdf")).count();
        (files <= jobs.len()).then_some(jobs)
    });
    is_honest(&daemon, &promised, &jobs);
    assert_eq!(staged(&daemon), 0);
    println!(
        "{cuts} power cuts on ext4 (seed {seed}), {} uploads, {} promised, {} jobs",
        next.into_inner(),
        promised.len(),
        jobs.len()
    );
    assert_eq!(daemon.terminate(), Some(0));
    let report: serde_json::Value = serde_json::from_slice(&daemon.inkport(&["fsck", "--json"]).stdout).unwrap();
    assert!(report["findings"].as_array().unwrap().iter().all(|finding| finding["kind"] == "orphan"), "{report:#}");
}

#[test]
fn power_cuts_on_ext4_take_nothing_that_was_promised() {
    cut_ext4_off(4, 7);
}

#[test]
#[ignore = "long; `make soak` runs it"]
fn many_power_cuts_on_ext4_take_nothing_that_was_promised() {
    cut_ext4_off(number("SOAK_EXT4_CUTS", 60) as usize, number("SOAK_SEED", u64::from(std::process::id())));
}

// -- errors

/// The page by which the shim is told what to refuse.
struct Orders {
    page: File,
}

const ENOSPC: i32 = 28;
const EIO: i32 = 5;
const EROFS: i32 = 30;

impl Orders {
    fn new(path: &Path) -> Self {
        fs::write(path, [0; 20]).unwrap();
        Orders { page: File::options().read(true).write(true).open(path).unwrap() }
    }

    /// Lets `skip` calls pass from now on and answers `error` to `fail` of those that follow.
    fn refuse(&self, skip: i32, fail: i32, error: i32) {
        let set = |at: u64, value: i32| self.page.write_all_at(&value.to_ne_bytes(), at).unwrap();
        // While it is being changed, it is off.
        set(4, 0);
        set(16, 0);
        set(0, skip);
        set(8, error);
        set(4, fail);
    }

    /// Calls that were refused since.
    fn refused(&self) -> i32 {
        let mut bytes = [0; 4];
        self.page.read_exact_at(&mut bytes, 16).unwrap();
        i32::from_ne_bytes(bytes)
    }
}

/// A running daemon whose disk does as it is told.
fn on_a_bad_disk(shim: &Path, extra: &str) -> (Daemon, Orders, PathBuf) {
    let mut daemon = Daemon::prepare(extra);
    daemon.account_add(ACCOUNT, PASSWORD, &[]);
    // Beside the data, not in it.
    let (orders, record) = (daemon.folder().join("orders"), daemon.folder().join("record"));
    let page = Orders::new(&orders);
    fs::create_dir_all(daemon.folder().join("data")).unwrap();
    let root = daemon.folder().join("data");
    daemon.run_with(&[
        ("LD_PRELOAD", shim.to_str().unwrap()),
        ("SHIM_ROOT", root.to_str().unwrap()),
        ("SHIM_RECORD", record.to_str().unwrap()),
        ("SHIM_CONTROL", orders.to_str().unwrap()),
    ]);
    wait_for("the engine to be open", || (daemon.get("/readyz", None).0 == 200).then_some(()));
    (daemon, page, record)
}

/// What became of an upload on a bad disk is what was said: promised ones are read, refused ones are not there, or
/// whole, and then taken by a scan like any file.
fn is_honest(daemon: &Daemon, promised: &BTreeSet<String>, jobs: &[serde_json::Value]) {
    let home = daemon.home(ACCOUNT);
    let mut of: BTreeMap<&str, usize> = BTreeMap::new();
    for job in jobs {
        assert_eq!(job["state"], "done", "{job}");
        let name = job["path"].as_str().unwrap().trim_start_matches('/');
        *of.entry(name).or_default() += 1;
        assert_eq!(whole(&home, name), job["id"].as_str().unwrap(), "{name}");
    }
    for name in promised {
        assert_eq!(of.get(name.as_str()), Some(&1), "{name} was promised");
    }
    assert!(of.values().all(|jobs| *jobs == 1), "{of:?}");
    let expected: BTreeSet<String> =
        of.keys().flat_map(|name| ["", ".txt", ".json"].map(|suffix| format!("{name}{suffix}"))).collect();
    assert_eq!(files_below(&home).into_iter().collect::<BTreeSet<_>>(), expected);
    for name in of.keys() {
        let number = name.trim_end_matches(".pdf").rsplit('-').next().unwrap().parse().unwrap();
        assert!(fs::read(home.join(name)).unwrap() == document(number), "{name} is not what was sent");
    }
}

/// One upload after the other, and in each another single write refused: the first, the second, … until an upload
/// is over before its turn comes. `every`: not all of them.
fn each_write_fails(name: &str, error: i32, first: i32, every: i32) {
    let Some(shim) = shim() else { return };
    let (mut daemon, orders, record) = on_a_bad_disk(shim, &format!("{SETTINGS}[limits]\nmin-free-space = \"1MiB\"\n"));
    let mut promised = BTreeSet::new();
    let scratch = daemon.folder().join("scratch.pdf");
    let mut skip = first;
    loop {
        let this = format!("{name}-{skip}.pdf");
        fs::write(&scratch, document(skip as usize)).unwrap();
        orders.refuse(skip, 1, error);
        if daemon.upload(&scratch, &this).is_ok() {
            promised.insert(this.clone());
            daemon.settled();
        }
        if orders.refused() == 0 {
            break;
        }
        skip += every;
        assert!(skip < 1000, "an upload has no end");
    }
    orders.refuse(0, 0, error);
    // The disk is well again: an upload later nothing is left behind.
    fs::write(&scratch, document(2000)).unwrap();
    daemon.upload(&scratch, &format!("{name}-2000.pdf")).unwrap();
    promised.insert(format!("{name}-2000.pdf"));
    wait_for("refused uploads to be gone from the staging", || (staged(&daemon) == 0).then_some(()));
    let jobs = wait_for("every file in the home to have a job", || {
        let jobs = daemon.settled();
        let files = files_below(&daemon.home(ACCOUNT)).into_iter().filter(|name| name.ends_with(".pdf")).count();
        (files <= jobs.len()).then_some(jobs)
    });
    is_honest(&daemon, &promised, &jobs);
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
    let places: BTreeSet<String> = replay::steps(&record)
        .into_iter()
        .filter_map(
            |step| if let Step::Refused { kind, path } = step { Some(format!("{kind} {}", kind_of(&path))) } else { None },
        )
        .collect();
    println!(
        "errno {error}: {} writes refused in {} kinds of place, {} uploads promised: {places:?}",
        skip / every,
        places.len(),
        promised.len()
    );
    assert!(every > 1 || places.len() > 10, "{places:?}");
    assert_eq!(daemon.terminate(), Some(0));
    let report: serde_json::Value = serde_json::from_slice(&daemon.inkport(&["fsck", "--json"]).stdout).unwrap();
    assert!(report["findings"].as_array().unwrap().iter().all(|finding| finding["kind"] == "orphan"), "{report:#}");
}

/// Which folder, which kind of file.
fn kind_of(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').collect();
    let extension = |name: &str| name.split_once('.').map_or(String::new(), |(_, rest)| format!("*.{rest}"));
    match parts.as_slice() {
        ["spool", "incoming", ..] => "spool/incoming/*".to_owned(),
        ["spool", _, file] => format!("spool/xx/{}", if file.is_empty() || *file == "." { "." } else { "*" }),
        ["spool", _] => "spool/xx".to_owned(),
        ["homes", _, file] => format!("home/{}", extension(file)),
        other => other.join("/"),
    }
}

#[test]
fn each_write_that_answers_eio_refuses_or_is_tried_again() {
    each_write_fails("eio", EIO, 0, if cfg!(debug_assertions) { 2 } else { 1 });
}

#[test]
fn each_write_that_finds_no_space_or_a_read_only_disk_refuses_or_is_tried_again() {
    each_write_fails("enospc", ENOSPC, 1, 5);
    each_write_fails("erofs", EROFS, 3, 5);
}

#[test]
#[ignore = "long; `make soak` runs it"]
fn each_write_fails_in_each_way() {
    for (name, error) in [("eio", EIO), ("enospc", ENOSPC), ("erofs", EROFS)] {
        each_write_fails(name, error, 0, 1);
    }
}

/// Not one write but all of them, for a while, in the middle of uploads and readings.
#[test]
fn a_disk_that_refuses_everything_for_a_while_loses_nothing() {
    let Some(shim) = shim() else { return };
    let (mut daemon, orders, _) = on_a_bad_disk(shim, &format!("{SETTINGS}attempts = 20\n[limits]\nmin-free-space = \"1MiB\"\n"));
    let mut promised = BTreeSet::new();
    let scratch = daemon.folder().join("scratch.pdf");
    let mut number = 0;
    let mut send = |daemon: &Daemon, promised: &mut BTreeSet<String>| {
        number += 1;
        let name = format!("page-{number}.pdf");
        fs::write(&scratch, document(number)).unwrap();
        let sent = daemon.upload(&scratch, &name).is_ok();
        if sent {
            promised.insert(name);
        }
        sent
    };
    for (round, error) in [EIO, ENOSPC, EROFS, EIO, EIO, EIO].into_iter().enumerate() {
        assert!(send(&daemon, &mut promised), "the disk is well: {}", daemon.log());
        // From another place each time: in the middle of an upload, or of its reading.
        orders.refuse(7 * round as i32, i32::MAX, error);
        for _ in 0..3 {
            send(&daemon, &mut promised);
        }
        std::thread::sleep(Duration::from_millis(1200));
        assert_eq!(daemon.get("/healthz", None).0 / 100, 2, "the daemon lives");
        assert!(orders.refused() > 0);
        orders.refuse(0, 0, error);
        wait_for("uploads to be taken again", || send(&daemon, &mut promised).then_some(()));
        wait_for("what the disk held on to be gone from the staging", || {
            send(&daemon, &mut promised);
            daemon.settled();
            (staged(&daemon) == 0).then_some(())
        });
    }
    let jobs = wait_for("every file in the home to have a job", || {
        let jobs = daemon.settled();
        let files = files_below(&daemon.home(ACCOUNT)).into_iter().filter(|name| name.ends_with(".pdf")).count();
        (files <= jobs.len()).then_some(jobs)
    });
    is_honest(&daemon, &promised, &jobs);
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
    assert_eq!(daemon.terminate(), Some(0));
}
