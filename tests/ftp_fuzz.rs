//! Hostile clients by the thousand: command lines that were mutated from the recorded dialogues, pipelined,
//! split and cut, with Telnet bytes in them; data connections that are never made, made twice, made from
//! elsewhere, cut, reset, or fed nonsense; TLS begun and not ended. Afterwards: no panic, no session and no
//! descriptor more than before, nothing staged, nothing outside the home, and a healthy upload works.
//!
//! `make fuzz` runs `for_long` for FUZZ_SECONDS (600). Each conversation has a number that it is derived
//! from: FUZZ_SEED gives the first (1 unless set), and FUZZ_ONE=NUMBER runs that one alone.

mod ftp_support;

use ftp_support::wire::{Mode, Wire, trusting};
use ftp_support::{House, certificate};
use inkport::account::Account;
use inkport::ftp::PortRange;
use inkport::units::ByteSize;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Conversations at a time.
const CLIENTS: usize = 8;

static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Descriptors and panics are counted for the whole process.
static ALONE: Mutex<()> = Mutex::new(());

/// splitmix64: small, and the same on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.roll() % end.max(1) as u64) as usize
    }

    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.roll() as u8).collect()
    }
}

/// Command lines to begin with: what the dialogues say, and every verb bare.
fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogues");
    let mut lines: Vec<Vec<u8>> = Vec::new();
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in files.iter().filter(|file| file.extension().is_some_and(|end| end == "ftp")) {
        for line in fs::read_to_string(file).unwrap().lines() {
            if let Some(command) = line.strip_prefix("C: ").or_else(|| line.strip_prefix("C- ")) {
                // The dialogues' escapes stay what they look like: more nonsense to parse.
                lines.push(command.replace("\\r\\n", "\r\n").into_bytes());
            }
        }
    }
    const VERBS: &str = "ABOR ACCT ADAT ALLO APPE AUTH CCC CDUP CLNT CONF CWD DELE ENC EPRT EPSV FEAT HASH HELP HOST LANG LIST MDTM \
         MFF MFMT MIC MKD MLSD MLST MODE NLST NOOP OPTS PASS PASV PBSZ PORT PROT PWD QUIT REIN REST RETR RMD RNFR RNTO SITE SIZE \
         SMNT STAT STOR STOU STRU SYST TYPE USER XCUP XCWD XMKD XPWD XRMD";
    lines.extend(VERBS.split_whitespace().map(|verb| verb.as_bytes().to_vec()));
    for line in [
        "STOR a/b/../c", "RNFR scan.jpg\r\nRNTO page.jpg", "RETR scan.jpg", "LIST -la", "RETR nothing.jpg.txt",
        "SITE CHMOD 777 ..",
    ] {
        lines.push(line.as_bytes().to_vec());
    }
    lines.sort();
    lines.dedup();
    lines
}

const SPECIAL: &[&[u8]] = &[b"\r", b"\n", b"\0", b"\r\n", b"\r\0", b"%s%n", b"../../", b"\\", b"\"\"", b"*", b"-la "];
const NUMBERS: &[&[u8]] = &[b"99999999999999999999", b"-1", b"0", b"65536", b"4294967296", b"1e9", b" "];

fn mutated(dice: &mut Dice, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut line = dice.pick(corpus).clone();
    for _ in 0..dice.below(4) {
        let at = dice.below(line.len() + 1);
        let mut put = |bytes: &[u8]| drop(line.splice(at..at, bytes.iter().copied()));
        match dice.below(13) {
            0 => line.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << dice.below(8)),
            1 => put(&[dice.roll() as u8]),
            2 => drop(line.drain(at.saturating_sub(1)..at)),
            3 => line.truncate(at),
            4 => put(b"\xff\xf4\xff\xf2"),
            5 => put(dice.pick::<&[u8]>(SPECIAL)),
            6 => line.make_ascii_lowercase(),
            7 => put(dice.pick::<&[u8]>(NUMBERS)),
            8 => {
                let long = *dice.pick(&[255, 256, 4095, 4096, 4097, 65_536, 300_000]);
                put(&vec![dice.roll() as u8; long]);
            }
            9 => {
                line.extend_from_slice(b"\r\n");
                line.extend_from_slice(dice.pick::<Vec<u8>>(corpus));
            }
            10 => {
                let length = dice.below(40);
                put(&dice.bytes(length));
            }
            11 => line[at..].reverse(),
            _ => line = line.repeat(1 + dice.below(5)),
        }
    }
    line.extend_from_slice(if dice.once_in(20) {
        b"\n"
    } else if dice.once_in(40) {
        b"\r"
    } else {
        b"\r\n"
    });
    line
}

/// In one piece or in many.
fn write(dice: &mut Dice, stream: &mut impl Write, bytes: &[u8]) -> std::io::Result<()> {
    if !dice.once_in(6) {
        return stream.write_all(bytes);
    }
    for piece in bytes.chunks(1 + dice.below(40)).take(200) {
        stream.write_all(piece)?;
        stream.flush()?;
    }
    Ok(())
}

/// What is there by now; false at the end of the connection.
fn drain(stream: &mut TcpStream, into: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return false,
            Ok(read) => {
                into.extend_from_slice(&buffer[..read]);
                let surplus = into.len().saturating_sub(8192);
                into.drain(..surplus);
            }
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => return true,
            Err(_) => return false,
        }
    }
}

/// The newest data port that the server named.
fn named_port(said: &[u8]) -> Option<u16> {
    let text = String::from_utf8_lossy(said);
    let line = text.lines().rev().find(|line| line.starts_with("227") || line.starts_with("229"))?;
    if line.starts_with("229") {
        return line.split('|').nth(3)?.parse().ok();
    }
    let inner = line.split_once('(')?.1.split(')').next()?;
    let numbers: Vec<u16> = inner.split(',').filter_map(|number| number.parse().ok()).collect();
    Some(numbers.get(4)? << 8 | numbers.get(5)?)
}

/// A data connection in some state, used or misused.
fn misuse_data(dice: &mut Dice, address: SocketAddr, control: &mut TcpStream, said: &mut Vec<u8>) -> Option<()> {
    let verb = *dice.pick(&["PASV", "EPSV", "EPSV 1"]);
    control.write_all(format!("{verb}\r\n").as_bytes()).ok()?;
    let begin = Instant::now();
    let mark = said.len().min(8192);
    while named_port(&said[mark.min(said.len())..]).is_none() && begin.elapsed() < Duration::from_millis(200) {
        if !drain(control, said) {
            return None;
        }
    }
    let port = named_port(said)?;
    let to = SocketAddr::new(address.ip(), port);
    let before = dice.once_in(4);
    let command = |dice: &mut Dice, control: &mut TcpStream| {
        let name = *dice.pick(&["scan.jpg", "page.jpg", "a.part", "in/b.jpg", "nothing/c.jpg", "x.jpg.txt"]);
        let verb = *dice.pick(&["STOR", "STOR", "STOR", "STOU", "APPE", "RETR", "LIST", "NLST", "MLSD"]);
        control.write_all(format!("{verb} {name}\r\n").as_bytes())
    };
    if before {
        command(dice, control).ok()?;
    }
    let mut data = if dice.once_in(8) { None } else { TcpStream::connect_timeout(&to, Duration::from_secs(1)).ok() };
    let second = if dice.once_in(10) { TcpStream::connect_timeout(&to, Duration::from_secs(1)).ok() } else { None };
    if !before && !dice.once_in(10) {
        command(dice, control).ok()?;
    }
    if let Some(data) = &mut data {
        let _ = data.set_read_timeout(Some(Duration::from_millis(20)));
        let _ = data.set_write_timeout(Some(Duration::from_secs(2)));
        let length = *dice.pick(&[0, 1, 100, 3000, 70_000, 300_000]);
        // Few contents, so that the spool does not fill up.
        let byte = dice.below(4) as u8;
        let _ = data.write_all(&vec![byte; length]);
        if dice.once_in(6) {
            let _ = control.write_all(
                dice.pick::<&[u8]>(&[b"ABOR\r\n", b"\xff\xf4\xff\xf2ABOR\r\n", b"STAT\r\n", b"NOOP\r\n", b"QUIT\r\n"]),
            );
        }
        if dice.once_in(3) {
            drain(data, &mut Vec::new());
        }
    }
    match dice.below(4) {
        0 => {
            if let Some(data) = data {
                ftp_support::reset(data);
            }
        }
        1 => {
            if let Some(data) = data {
                let _ = data.shutdown(std::net::Shutdown::Write);
            }
        }
        _ => drop(data),
    }
    drop(second);
    drain(control, said);
    Some(())
}

/// A greeted connection; sessions whose clients are gone may still hold every place for a while.
fn greeted(address: SocketAddr) -> Option<(TcpStream, Vec<u8>)> {
    let begin = Instant::now();
    loop {
        let mut control = TcpStream::connect_timeout(&address, Duration::from_secs(5)).ok()?;
        let _ = control.set_read_timeout(Some(Duration::from_millis(3)));
        let _ = control.set_write_timeout(Some(Duration::from_secs(2)));
        let _ = control.set_nodelay(true);
        let mut said = Vec::new();
        while said.is_empty() && drain(&mut control, &mut said) {
            assert!(begin.elapsed() < Duration::from_secs(60), "nobody is greeted any more");
        }
        if !said.starts_with(b"421") {
            return Some((control, said));
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "places are never free again: {}", String::from_utf8_lossy(&said));
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// One client from its connection to its end; derived from its number alone.
fn converse(number: u64, address: SocketAddr, corpus: &[Vec<u8>]) -> Option<()> {
    let mut dice = Dice(number.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let dice = &mut dice;
    let (mut control, mut said) = greeted(address)?;
    if dice.once_in(12) {
        // TLS, or something like it.
        control.write_all(b"AUTH TLS\r\n").ok()?;
        if dice.once_in(2) {
            let _ = control.write_all(&[0x16, 3, 1, 2, 0]);
            let length = dice.below(600);
            let _ = control.write_all(&dice.bytes(length));
        }
    }
    if !dice.once_in(5) {
        let name = *dice.pick(&["desk", "desk", "desk", "small"]);
        let password = if dice.once_in(60) { "wrong" } else { "secret" };
        write(dice, &mut control, format!("USER {name}\r\nPASS {password}\r\nTYPE I\r\n").as_bytes()).ok()?;
    }
    for _ in 0..dice.below(30) {
        if dice.once_in(4) {
            misuse_data(dice, address, &mut control, &mut said)?;
            continue;
        }
        let mut lines = Vec::new();
        for _ in 0..if dice.once_in(5) { 1 + dice.below(20) } else { 1 } {
            lines.extend(mutated(dice, corpus));
        }
        write(dice, &mut control, &lines).ok()?;
        if !dice.once_in(5) && !drain(&mut control, &mut said) {
            return None;
        }
    }
    match dice.below(4) {
        0 => {
            let _ = control.write_all(b"QUIT\r\n");
            drain(&mut control, &mut said);
        }
        1 => ftp_support::reset(control),
        2 => {
            let _ = control.shutdown(std::net::Shutdown::Write);
            drain(&mut control, &mut said);
        }
        _ => {}
    }
    Some(())
}

/// What they lead to. Not what is opened once when it is first needed, and kept: the ledger's bounded
/// connections to its database, and cap-std's way into /proc for changing permissions.
fn descriptors() -> Vec<String> {
    let opened = fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let mut opened: Vec<String> = opened
        .map(|path| path.display().to_string())
        .filter(|path| !path.contains("inkport.db") && !path.starts_with("/proc"))
        .collect();
    opened.sort();
    opened
}

/// Resident memory of this process, in MiB: server and clients.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// To standard error past the test's capture, so that `make fuzz` shows it while it runs.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "fuzz: {text}");
}

fn healthy(house: &House, tls: bool) {
    let mut wire = if tls { Wire::login_tls(house) } else { Wire::login(house) };
    let page = vec![7; 100_000];
    for mode in [Mode::Epsv, Mode::Pasv, Mode::Port] {
        let reply = wire.put(mode, b"STOR healthy.jpg", &page).unwrap();
        assert!(reply.starts_with(b"226"), "{mode:?}: {}", String::from_utf8_lossy(&reply));
        assert_eq!(wire.get(mode, b"RETR healthy.jpg").unwrap().0, page);
    }
    wire.expect("DELE healthy.jpg", "250");
    wire.expect("QUIT", "221");
}

/// Everything below a folder, but for what the house itself keeps there.
fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Conversations until `enough`; answers how many.
fn fuzz(enough: impl Fn(u64) -> bool + Sync) -> u64 {
    let _alone = ALONE.lock().unwrap();
    let first: u64 = std::env::var("FUZZ_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let one: Option<u64> = std::env::var("FUZZ_ONE").ok().and_then(|number| number.parse().ok());
    std::panic::set_hook(Box::new(|panic| {
        PANICS.lock().unwrap().push(panic.to_string());
        eprintln!("{panic}");
    }));
    let pair = certificate();
    let mut settings = pair.settings("require = \"no\"");
    settings.max_sessions_per_ip = 128;
    settings.make_folders = true;
    settings.passive_ports = PortRange(3000..=9999);
    let house = House::open_with(settings, Duration::from_secs(2));
    let mut small = Account::new("small".parse().unwrap());
    small.quota = Some(ByteSize(200_000));
    small.max_upload = Some(ByteSize(50_000));
    small.charset = Some("shift_jis".parse().unwrap());
    house.add(small);
    let outside = house.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("sentinel"), "untouched").unwrap();
    drop(trusting());
    // What is opened once and kept (ledger, runtime) is opened by these.
    for tls in [false, true, false] {
        healthy(&house, tls);
    }
    house.eventually("the healthy sessions end", || house.stats.now().sessions_open == 0);
    let (before, around) = (descriptors(), names_in(house.dir.path()));
    let (begun, memory) = (Instant::now(), resident());
    let reported = AtomicU64::new(0);
    let corpus = corpus();
    let next = AtomicU64::new(first);
    std::thread::scope(|scope| {
        for _ in 0..if one.is_some() { 1 } else { CLIENTS } {
            scope.spawn(|| {
                loop {
                    let number = one.unwrap_or_else(|| next.fetch_add(1, Ordering::Relaxed));
                    let panics = PANICS.lock().unwrap().len();
                    let _ = converse(number, house.address, &corpus);
                    if PANICS.lock().unwrap().len() > panics {
                        eprintln!("a panic in or about conversation {number}: FUZZ_ONE={number}");
                    }
                    let minutes = begun.elapsed().as_secs() / 60;
                    if reported.fetch_max(minutes, Ordering::Relaxed) < minutes {
                        let stats = house.stats.now();
                        say(&format!(
                            "{minutes} min: {} conversations, {} sessions open, {} descriptors, {} MiB",
                            next.load(Ordering::Relaxed) - first,
                            stats.sessions_open,
                            descriptors().len(),
                            resident()
                        ));
                    }
                    if one.is_some() || enough(next.load(Ordering::Relaxed) - first) {
                        return;
                    }
                }
            });
        }
    });
    let done = next.load(Ordering::Relaxed) - first;
    house.eventually("every session ends", || house.stats.now().sessions_open == 0);
    house.nothing_is_staged();
    for tls in [false, true] {
        healthy(&house, tls);
    }
    house.eventually("the healthy sessions end", || house.stats.now().sessions_open == 0);
    let begin = Instant::now();
    while descriptors().len() > before.len() && begin.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(50));
    }
    let after = descriptors();
    assert!(after.len() <= before.len(), "descriptors before: {before:#?}\nand after: {after:#?}");
    assert_eq!(fs::read_to_string(outside.join("sentinel")).unwrap(), "untouched");
    assert_eq!(names_in(&outside), ["sentinel"]);
    assert_eq!(names_in(house.dir.path()), around, "nothing is made outside the homes");
    assert_eq!(names_in(&house.dir.path().join("homes")), ["desk", "small"]);
    for job in house.jobs() {
        assert_eq!(fs::metadata(house.spool.path(&job.spool)).unwrap().len(), job.bytes, "an acknowledged upload has its bytes");
    }
    let panics = std::mem::take(&mut *PANICS.lock().unwrap());
    assert!(panics.is_empty(), "{} panics, the first: {}", panics.len(), panics[0]);
    let stats = house.stats.now();
    say(&format!(
        "{done} conversations from {first} on in {} s, no panic; {} sessions open; {} uploads taken, {} broken, {} sessions turned \
         away; descriptors {} before, {} after; memory {memory} MiB before, {} MiB after",
        begun.elapsed().as_secs(),
        stats.sessions_open,
        stats.uploads_total,
        stats.uploads_broken,
        stats.sessions_refused,
        before.len(),
        after.len(),
        resident()
    ));
    done
}

/// So that the fuzzer itself does not rot; always the same conversations.
#[test]
fn a_little() {
    fuzz(|done| done >= 200);
}

#[test]
#[ignore = "runs for FUZZ_SECONDS: make fuzz"]
fn for_long() {
    let seconds = std::env::var("FUZZ_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(600);
    let begin = Instant::now();
    fuzz(|_| begin.elapsed() >= Duration::from_secs(seconds));
}
