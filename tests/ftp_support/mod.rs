//! A door with real rooms in a temporary folder, a raw client, and Python's ftplib.
#![allow(dead_code)] // shared by several test binaries, none of which uses all of it

pub mod dialogue;
pub mod wire;

use inkport::account::Account;
use inkport::accounts::bans::Bans;
use inkport::accounts::{Accounts, password};
use inkport::ftp::{Certificates, Ftp, PortRange, Rooms, Settings, Stats};
use inkport::homes::Homes;
use inkport::intake::{Intake, Limits};
use inkport::job::Job;
use inkport::job::state::RetryPolicy;
use inkport::queue::sqlite::{SqliteLedger, SqliteQueue};
use inkport::queue::{Filter, JobLedger};
use inkport::spool::Spool;
use std::cell::RefCell;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct House {
    pub dir: tempfile::TempDir,
    pub spool: Spool,
    pub homes: Homes,
    pub queue: SqliteQueue,
    pub address: SocketAddr,
    /// Of implicit FTPS, where the settings have it.
    pub implicit: Option<SocketAddr>,
    pub certificates: Option<Certificates>,
    pub stats: Arc<Stats>,
    ledger: SqliteLedger,
    accounts: Accounts,
    stop: RefCell<Option<oneshot::Sender<()>>>,
    stopped: RefCell<Option<JoinHandle<()>>>,
    runtime: Option<Runtime>,
}

impl House {
    pub fn open() -> Self {
        Self::open_with(Settings::default(), Duration::from_secs(60))
    }

    /// With the account "desk"; every account's password is "secret".
    pub fn open_with(settings: Settings, stall: Duration) -> Self {
        House::open_at_most(settings, stall, u64::MAX)
    }

    /// One that takes nothing while so many jobs are not finished.
    pub fn open_at_most(mut settings: Settings, stall: Duration, max_queued: u64) -> Self {
        if settings.listen == Settings::default().listen {
            settings.listen.set_port(0);
        }
        if settings.passive_ports == Settings::default().passive_ports {
            // A range for each house, below the kernel's ephemeral ports: doors of other houses, in this
            // process or another, never reach for one port at the same moment.
            static NEXT: AtomicU16 = AtomicU16::new(0);
            let slot = (NEXT.fetch_add(1, Ordering::Relaxed) + (std::process::id() % 45) as u16 * 4) % 180;
            settings.passive_ports = PortRange(11_000 + slot * 50..=11_049 + slot * 50);
        }
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("inkport.db");
        let spool = Spool::open(&dir.path().join("spool")).unwrap();
        let homes = Homes::open(&dir.path().join("homes")).unwrap();
        let queue = SqliteQueue::open(&database, RetryPolicy { attempts: 3, backoff: Duration::from_secs(10) }).unwrap();
        let ledger = SqliteLedger::open(&database).unwrap();
        let accounts = Accounts::sqlite(&database).unwrap();
        let limits = Limits { max_upload: 5_000_000, min_free_space: 0 };
        let rooms = Rooms {
            logins: password::Logins::new(accounts.clone()),
            homes: homes.clone(),
            intake: Intake::at_most(spool.clone(), homes.clone(), queue.clone(), limits, max_queued),
            ledger: ledger.clone(),
            bans: Bans::open(&database).unwrap(),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let door = runtime.block_on(Ftp::bind_with_stall(settings, rooms, stall)).unwrap();
        let (address, stats) = (door.local_addr(), door.stats());
        let (implicit, certificates) = (door.implicit_addr(), door.certificates());
        let (stop, stopping) = oneshot::channel::<()>();
        let stopped = runtime.spawn(door.run(async move { drop(stopping.await) }, PATIENCE));
        let house = House {
            dir,
            spool,
            homes,
            queue,
            address,
            implicit,
            certificates,
            stats,
            ledger,
            accounts,
            stop: RefCell::new(Some(stop)),
            stopped: RefCell::new(Some(stopped)),
            runtime: Some(runtime),
        };
        house.add(Account::new("desk".parse().unwrap()));
        house
    }

    pub fn add(&self, account: Account) {
        self.add_with_password(account, "secret");
    }

    pub fn add_with_password(&self, mut account: Account, password: &str) {
        account.password_hash = Some(password::hash(password));
        self.homes.ensure(&account.name).unwrap();
        self.accounts.add(&account).unwrap();
    }

    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    pub fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().unwrap()
    }

    /// Where a file of "desk" lies.
    pub fn home(&self, path: &str) -> PathBuf {
        self.dir.path().join("homes/desk").join(path)
    }

    /// Newest first.
    pub fn jobs(&self) -> Vec<Job> {
        let filter = Filter { limit: 1000, ..Filter::default() };
        self.ledger.list(&filter).unwrap().into_iter().map(|(job, _)| job).collect()
    }

    pub fn eventually(&self, what: &str, condition: impl Fn() -> bool) {
        let begin = Instant::now();
        while !condition() {
            assert!(begin.elapsed() < PATIENCE, "not in time: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn nothing_is_staged(&self) {
        let incoming = self.dir.path().join("spool/incoming");
        self.eventually("nothing is left in the spool's staging folder", || fs::read_dir(&incoming).unwrap().count() == 0);
        self.eventually("no upload runs", || self.stats.now().uploads_running == 0);
    }

    pub fn begin_stop(&self) {
        self.stop.borrow_mut().take();
    }

    pub fn wait_stopped(&self) {
        let stopped = self.stopped.borrow_mut().take().unwrap();
        self.runtime().block_on(async { tokio::time::timeout(PATIENCE, stopped).await }).unwrap().unwrap();
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.begin_stop();
        self.runtime.take().unwrap().shutdown_timeout(Duration::from_secs(5));
    }
}

/// A client that does what it is told and nothing else.
pub struct Raw {
    lines: BufReader<TcpStream>,
}

impl Raw {
    pub fn connect_silently(house: &House) -> Self {
        let stream = TcpStream::connect(house.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Raw { lines: BufReader::new(stream) }
    }

    pub fn connect(house: &House) -> Self {
        let mut raw = Self::connect_silently(house);
        assert!(raw.reply().starts_with("220"));
        raw
    }

    pub fn login(house: &House) -> Self {
        Self::login_as(house, "desk")
    }

    pub fn login_as(house: &House, name: &str) -> Self {
        let mut raw = Self::connect(house);
        raw.expect(&format!("USER {name}"), "331");
        raw.expect("PASS secret", "230");
        raw.expect("TYPE I", "200");
        raw
    }

    pub fn send(&mut self, text: &str) {
        self.lines.get_mut().write_all(text.as_bytes()).unwrap();
    }

    /// One line; empty if the connection ended.
    pub fn reply(&mut self) -> String {
        let mut line = String::new();
        match self.lines.read_line(&mut line) {
            Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => panic!("no reply: {error}"),
            _ => line.trim_end().to_owned(),
        }
    }

    pub fn command(&mut self, command: &str) -> String {
        self.send(&format!("{command}\r\n"));
        self.reply()
    }

    pub fn expect(&mut self, command: &str, code: &str) {
        let reply = self.command(command);
        assert!(reply.starts_with(code), "{command}: {reply}");
    }

    pub fn passive(&mut self) -> TcpStream {
        let reply = self.command("EPSV");
        let port = reply.split('|').nth(3).and_then(|port| port.parse().ok()).unwrap_or_else(|| panic!("{reply}"));
        let mut address = self.lines.get_ref().peer_addr().unwrap();
        address.set_port(port);
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// The last reply to an upload.
    pub fn try_put(&mut self, command: &str, bytes: &[u8]) -> String {
        let mut data = self.passive();
        let first = self.command(command);
        if !first.starts_with("150") {
            return first;
        }
        // A refused upload's connection is closed while we write.
        let _ = data.write_all(bytes);
        drop(data);
        self.reply()
    }

    pub fn try_store(&mut self, name: &str, bytes: &[u8]) -> String {
        self.try_put(&format!("STOR {name}"), bytes)
    }

    pub fn store(&mut self, name: &str, bytes: &[u8]) {
        let reply = self.try_store(name, bytes);
        assert!(reply.starts_with("226"), "STOR {name}: {reply}");
    }

    /// What came, and the last reply.
    pub fn try_fetch(&mut self, command: &str) -> (Vec<u8>, String) {
        let mut data = self.passive();
        let first = self.command(command);
        if !first.starts_with("150") {
            return (Vec::new(), first);
        }
        let mut bytes = Vec::new();
        let _ = data.read_to_end(&mut bytes);
        (bytes, self.reply())
    }

    pub fn fetch(&mut self, command: &str) -> Vec<u8> {
        let (bytes, reply) = self.try_fetch(command);
        assert!(reply.starts_with("226"), "{command}: {reply}");
        bytes
    }
}

/// Ends a connection with a reset.
pub fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Runs a script with `f`, an ftplib client that is logged in as "desk".
pub fn python(house: &House, script: &str) {
    run_python(house, "f = ftplib.FTP(timeout=30); f.connect(host, port); f.login('desk', 'secret')", script);
}

/// [`python`] over TLS, data connections too.
pub fn python_tls(house: &House, script: &str) {
    let login = "c = ssl._create_unverified_context(); f = ftplib.FTP_TLS(timeout=30, context=c); f.connect(host, port); f.login('desk', 'secret'); f.prot_p()";
    run_python(house, login, script);
}

fn run_python(house: &House, login: &str, script: &str) {
    let script =
        format!("import ftplib, io, os, ssl, sys\nhost, port = sys.argv[1], int(sys.argv[2])\n{login}\n{script}\nf.quit()");
    let ran = Command::new("python3")
        .args(["-c", &script, &house.address.ip().to_string(), &house.address.port().to_string()])
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

/// A certificate for this test alone.
pub struct Pair {
    _dir: tempfile::TempDir,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Pair {
    /// `[ftp.tls]` with this pair and `more`.
    pub fn settings(&self, more: &str) -> Settings {
        let tls = format!("certificate = {:?}\nprivate-key = {:?}\n{more}", self.certificate, self.key);
        Settings { tls: Some(toml::from_str(&tls).unwrap()), ..Settings::default() }
    }
}

/// Self-signed, for "localhost" and the loopback addresses.
pub fn certificate() -> Pair {
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    fs::write(&certificate, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    Pair { _dir: dir, certificate, key }
}
