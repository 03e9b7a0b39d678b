//! The promise under hundreds of kill -9 at random moments, under load by every door, with mail:
//! `make soak`. Not part of `make test`, where `crash.rs` is the short form of it.
//!
//! SOAK_KILLS (200) deaths, or as many as SOAK_SECONDS (3600) allow; SOAK_SEED repeats a run's moments.

mod common;

use common::smtp::Sink;
use common::{ACCOUNT, Daemon, PASSWORD, files_below, repository, wait_for};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const FTP_CLIENTS: usize = 3;
/// As many as one list of jobs tells.
const MOST_FILES: usize = 9_000;
/// Messages that may be under way when the daemon dies: `delivery` sends four at once.
const MAILS_UNDER_WAY: usize = 4;

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

/// xorshift64*: moments that can be had again.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit
    }
}

/// What the clients share.
struct Load {
    /// Where the daemon is now; it takes another port at each start.
    ftp: Mutex<SocketAddr>,
    /// Names that were answered with 226, or lay whole in the home.
    promised: Mutex<BTreeSet<String>>,
    attempts: AtomicUsize,
    stop: AtomicBool,
    /// A PDF that is read in milliseconds, a picture that takes a second.
    documents: [(Vec<u8>, &'static str); 2],
}

impl Load {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::SeqCst) && self.attempts.load(Ordering::SeqCst) < MOST_FILES
    }

    /// Bytes that differ from every other file's, and a name for them. One in thirty is a picture.
    fn next(&self, who: &str) -> (String, Vec<u8>) {
        let number = self.attempts.fetch_add(1, Ordering::SeqCst);
        let (bytes, extension) = &self.documents[usize::from(number.is_multiple_of(30))];
        let mut bytes = bytes.clone();
        bytes.extend(format!("\n% {number}\n").into_bytes());
        (format!("{who}-{number:05}.{extension}"), bytes)
    }

    fn upload_for_ever(&self, client: usize, scratch: &Path) {
        while self.goes_on() {
            let (name, bytes) = self.next(&format!("ftp{client}"));
            fs::write(scratch, bytes).unwrap();
            let address = *self.ftp.lock().unwrap();
            let mut curl = Command::new("curl");
            curl.args(["--silent", "--max-time", "60", "--user", &format!("{ACCOUNT}:{PASSWORD}"), "--upload-file"]).arg(scratch);
            if client == 0 {
                // As devices do that rename when they are done; the rename is the completion.
                let temporary = format!("{name}.part");
                curl.args(["--quote", &format!("-RNFR {temporary}"), "--quote", &format!("-RNTO {name}")]);
                curl.arg(format!("ftp://{address}/{temporary}"));
            } else {
                curl.arg(format!("ftp://{address}/{name}"));
            }
            if curl.status().unwrap().success() {
                self.promised.lock().unwrap().insert(name);
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// As Samba or scp would: into the home, half of them under a temporary name first.
    fn drop_for_ever(&self, home: &Path) {
        while self.goes_on() {
            let (name, bytes) = self.next("drop");
            if bytes.len() % 2 == 0 {
                let hidden = home.join(format!(".{name}.part"));
                fs::write(&hidden, bytes).unwrap();
                fs::rename(hidden, home.join(&name)).unwrap();
            } else {
                fs::write(home.join(&name), bytes).unwrap();
            }
            self.promised.lock().unwrap().insert(name);
            std::thread::sleep(Duration::from_millis(400));
        }
    }
}

#[test]
#[ignore = "long; `make soak` runs it"]
fn hundreds_of_kills_lose_nothing_and_double_nothing() {
    let (kills, seconds) = (number("SOAK_KILLS", 200), number("SOAK_SECONDS", 3600));
    let seed = number("SOAK_SEED", u64::from(std::process::id()) | 1);
    println!("SOAK_SEED={seed}: {kills} kills, {seconds} s at most");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let sink = runtime.block_on(Sink::start());
    let mut daemon = Daemon::start(&format!(
        "[mail]\nrelay = \"{}\"\nfrom = \"Inkport <inkport@localhost>\"\n[watch]\nquiet = \"300ms\"\nrescan = \"2s\"\n",
        sink.url()
    ));
    let home = daemon.home(ACCOUNT);
    fs::create_dir_all(&home).unwrap();
    let fixture = |name: &str| fs::read(repository().join("tests/fixtures").join(name)).unwrap();
    let load = Load {
        ftp: Mutex::new(daemon.ftp),
        promised: Mutex::default(),
        attempts: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
        documents: [(fixture("digital.pdf"), "pdf"), (fixture("receipt.png"), "png")],
    };
    let (begun, mut killed, mut random, mut longest_start) = (Instant::now(), 0, Random(seed), Duration::ZERO);
    let scratch = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        let (load, home) = (&load, &home);
        for client in 0..FTP_CLIENTS {
            let scratch = scratch.path().join(client.to_string());
            scope.spawn(move || load.upload_for_ever(client, &scratch));
        }
        scope.spawn(move || load.drop_for_ever(home));
        // A panic in here must end the clients too, or the scope waits for ever.
        let _stop = StopAtLast(&load.stop);
        while killed < kills && begun.elapsed().as_secs() < seconds {
            // From in the middle of the recovery to several files read.
            let longest = if random.below(4) == 0 { 200 } else { 2500 };
            std::thread::sleep(Duration::from_millis(20 + random.below(longest)));
            daemon.kill();
            killed += 1;
            let starting = Instant::now();
            daemon.run();
            longest_start = longest_start.max(starting.elapsed());
            *load.ftp.lock().unwrap() = daemon.ftp;
            if killed % 10 == 0 {
                println!(
                    "{killed} of {kills} kills in {} s: {} files sent, {} promised, {} mails, start took {:?} at most",
                    begun.elapsed().as_secs(),
                    load.attempts.load(Ordering::SeqCst),
                    load.promised.lock().unwrap().len(),
                    sink.messages().len(),
                    longest_start,
                );
            }
        }
    });

    let settling = Instant::now();
    let promised = load.promised.into_inner().unwrap();
    let jobs = wait_for("every file to have its job, every job its end, every mail to be sent", || {
        let jobs = daemon.jobs();
        let ended = |job: &serde_json::Value| {
            let deliveries = job["deliveries"].as_array().unwrap();
            ["done", "rejected", "dead"].contains(&job["state"].as_str().unwrap())
                && deliveries.iter().all(|d| d["state"] == "sent")
        };
        // What lies in the home without a job, a scan finds.
        let documents = files_below(&home).iter().filter(|name| is_document(name)).count();
        if jobs.iter().all(ended) && documents == jobs.len() {
            return Some(jobs);
        }
        std::thread::sleep(Duration::from_millis(500));
        None
    });
    let mut jobs_of: BTreeMap<&str, usize> = BTreeMap::new();
    for job in &jobs {
        assert_eq!(job["state"], "done", "{job}");
        *jobs_of.entry(job["path"].as_str().unwrap().trim_start_matches('/')).or_default() += 1;
    }
    let lost: Vec<&String> = promised.iter().filter(|name| !jobs_of.contains_key(name.as_str())).collect();
    let doubled: Vec<(&&str, &usize)> = jobs_of.iter().filter(|(_, jobs)| **jobs != 1).collect();
    assert!(lost.is_empty() && doubled.is_empty(), "lost: {lost:?}; doubled: {doubled:?}");
    for job in &jobs {
        let name = job["path"].as_str().unwrap().trim_start_matches('/');
        let reading: serde_json::Value = serde_json::from_slice(&fs::read(home.join(format!("{name}.json"))).unwrap()).unwrap();
        assert_eq!(reading["job"], job["id"]);
        let text = fs::read_to_string(home.join(format!("{name}.txt"))).unwrap();
        assert_eq!(reading["text"].as_str().unwrap().trim_end(), text.trim_end(), "{name}");
    }
    // Documents, two sidecars each, and what a client that was cut off could not rename.
    let others: Vec<String> = files_below(&home).into_iter().filter(|name| !name.ends_with(".part")).collect();
    assert_eq!(others.len(), 3 * jobs.len());
    assert_eq!(files_below(&daemon.folder().join("data/spool/incoming")), [""; 0]);

    let mut mails: BTreeMap<String, usize> = BTreeMap::new();
    for mail in sink.messages() {
        *mails.entry(mail.header("Message-ID").unwrap()).or_default() += 1;
    }
    assert_eq!(mails.len(), jobs.len(), "one message for each job");
    let repeated: usize = mails.values().map(|times| times - 1).sum();
    assert!(repeated <= usize::try_from(killed).unwrap() * MAILS_UNDER_WAY, "{repeated} mails came again");
    println!(
        "{killed} kills in {} s: {} files sent, {} promised, {} jobs, all done, none lost, none doubled; \
         {} mails, {repeated} of them again with the same Message-ID; start took {longest_start:?} at most, the rest {} s",
        (settling - begun).as_secs(),
        load.attempts.into_inner(),
        promised.len(),
        jobs.len(),
        mails.len() + repeated,
        settling.elapsed().as_secs(),
    );
    assert_eq!(daemon.terminate(), Some(0));
    // Bytes whose row was never committed, and nothing else.
    let checked = daemon.inkport(&["fsck", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&checked.stdout).unwrap();
    let findings = report["findings"].as_array().unwrap();
    assert!(findings.iter().all(|finding| finding["kind"] == "orphan"), "{report:#}");
    println!("fsck: {} jobs, {} files, {} orphans", report["jobs"], report["files"], findings.len());
}

fn is_document(name: &str) -> bool {
    (name.ends_with(".pdf") || name.ends_with(".png")) && !name.starts_with('.')
}

struct StopAtLast<'a>(&'a AtomicBool);

impl Drop for StopAtLast<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
