//! More than can be worked off: the door says so, with a time to come back, and memory stays what it is.

mod common;
mod ftp_support;

use common::{ACCOUNT, Daemon, PASSWORD};
use ftp_support::{House, Raw};
use inkport::ftp::Settings;
use inkport::queue::{Outcome, Queue};
use inkport::units::Timestamp;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

const STALL: Duration = Duration::from_secs(30);

fn settings() -> Settings {
    Settings { listen: ([127, 0, 0, 1], 0).into(), ..Settings::default() }
}

#[test]
fn a_full_queue_is_450_and_passes() {
    let house = House::open_at_most(settings(), STALL, 2);
    let mut client = Raw::login(&house);
    client.store("4.part", b"four");
    client.store("1.jpg", b"one");
    client.store("2.jpg", b"two");
    let refused = client.try_store("3.jpg", b"three");
    assert!(
        refused.starts_with("450 ") && refused.contains("2 uploads are not read yet") && refused.contains("again in 1m"),
        "{refused}"
    );
    assert!(!house.home("3.jpg").exists());
    // A rename that would make an upload, likewise; the file stays where it is.
    client.expect("RNFR 4.part", "350");
    let renamed = client.command("RNTO 4.jpg");
    assert!(renamed.starts_with("45"), "{renamed}");
    house.runtime().block_on(async {
        let now = Timestamp::from_system(SystemTime::now());
        let lease = house.queue.claim(Duration::from_secs(60), now).await.unwrap().unwrap();
        house.queue.settle(lease.job.id, lease.token, Outcome::Done, Vec::new(), now).await.unwrap();
    });
    client.store("3.jpg", b"three");
    house.nothing_is_staged();
}

#[test]
fn a_disk_that_hangs_is_450_and_passes() {
    let house = House::open_at_most(settings(), STALL, u64::MAX);
    let (mut first, mut second) = (Raw::login(&house), Raw::login(&house));
    // Nobody else can commit while this lasts; the queue's own patience is five seconds.
    let other = inkport::database::open(&house.dir.path().join("inkport.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(move || first.try_store("waits.jpg", b"x"));
        std::thread::sleep(Duration::from_millis(3500));
        let refused = second.try_store("refused.jpg", b"x");
        assert!(refused.starts_with("450 ") && refused.contains("the disk has not answered"), "{refused}");
        other.execute_batch("ROLLBACK").unwrap();
        let waited = waiting.join().unwrap();
        assert!(waited.starts_with("226"), "{waited}");
    });
    Raw::login(&house).store("taken.jpg", b"x");
    house.nothing_is_staged();
}

/// Uploads in one session until the end; answers of STOR by their first digit are counted.
fn flood(daemon: &Daemon, number: usize, until: Instant, taken: &AtomicU64, refused: &AtomicU64) {
    let mut control = TcpStream::connect(daemon.ftp).unwrap();
    let mut replies = BufReader::new(control.try_clone().unwrap());
    let mut reply = || {
        let mut line = String::new();
        replies.read_line(&mut line).unwrap();
        line
    };
    reply();
    for command in [format!("USER {ACCOUNT}"), format!("PASS {PASSWORD}"), "TYPE I".to_owned()] {
        control.write_all(format!("{command}\r\n").as_bytes()).unwrap();
        reply();
    }
    let page = vec![0x55; 20_000];
    let mut count = 0;
    while Instant::now() < until {
        control.write_all(b"EPSV\r\n").unwrap();
        let answer = reply();
        // No port may be free for a moment; that is a refusal too.
        let Some(port) = answer.split('|').nth(3).and_then(|port| port.parse::<u16>().ok()) else {
            assert!(answer.starts_with('4'), "{answer}");
            refused.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        let mut data = TcpStream::connect((daemon.ftp.ip(), port)).unwrap();
        // A few names, so that the folder stays small and newer uploads replace older ones.
        control.write_all(format!("STOR {number}-{}.bin\r\n", count % 20).as_bytes()).unwrap();
        count += 1;
        if !reply().starts_with('1') {
            refused.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let mut bytes = page.clone();
        bytes[..8].copy_from_slice(&(count as u64 | (number as u64) << 32).to_le_bytes());
        let _ = data.write_all(&bytes);
        drop(data);
        let counter = if reply().starts_with("226") { taken } else { refused };
        counter.fetch_add(1, Ordering::Relaxed);
    }
    let _ = control.write_all(b"QUIT\r\n");
    let _ = control.read(&mut [0; 64]);
}

#[test]
#[ignore = "two minutes; make soak-load"]
fn memory_is_flat_under_full_load() {
    let seconds: u64 = std::env::var("LOAD_SECONDS").map_or(120, |text| text.parse().unwrap());
    let mut daemon = Daemon::start("[limits]\nmax-queued = 500");
    let memory = || {
        let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    };
    let (taken, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    let started = Instant::now();
    let until = started + Duration::from_secs(seconds);
    let mut samples = Vec::new();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (daemon, taken, refused) = (&daemon, &taken, &refused);
            scope.spawn(move || flood(daemon, number, until, taken, refused));
        }
        while Instant::now() < until {
            std::thread::sleep(Duration::from_secs(seconds.div_ceil(12)));
            let (taken, refused) = (taken.load(Ordering::Relaxed), refused.load(Ordering::Relaxed));
            samples.push(memory());
            println!("{:>4} s: {:>4} MiB, {taken} taken, {refused} refused", started.elapsed().as_secs(), memory());
        }
    });
    let (early, late) = (samples[samples.len() / 4], *samples.last().unwrap());
    assert!(taken.load(Ordering::Relaxed) > 100);
    assert!(late <= early + early / 10 + 16, "{early} MiB after a quarter, {late} MiB at the end: {samples:?}");
    assert_eq!(daemon.terminate(), Some(0));
}
