//! The HTTP side in process: the real queue and accounts, a made-up state of the other rooms, a client
//! that speaks HTTP/1.1 by hand so that it can misbehave.

use base64::Engine as _;
use inkport::account::{Account, Role, VirtualPath};
use inkport::accounts::Accounts;
use inkport::accounts::password::{self, Logins};
use inkport::http::{Deps, Facts, Http, Part, Settings, StatusAccess, Vitals};
use inkport::job::delivery::Attempt;
use inkport::job::state::RetryPolicy;
use inkport::job::{Door, FileIdentity, JobId, SpoolKey};
use inkport::keys::{Keys, MasterKeySource};
use inkport::queue::sqlite::{SqliteLedger, SqliteQueue};
use inkport::queue::{NewDelivery, NewJob, Outcome, Queue};
use inkport::units::{ByteSize, Timestamp};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The rest of the daemon: all well, unless the engine is said to be gone.
struct Others {
    engine: AtomicBool,
}

impl Vitals for Others {
    fn parts(&self) -> Vec<Part> {
        let ok = self.engine.load(Ordering::Relaxed);
        let detail = if ok { "reads" } else { "did not load" };
        vec![
            Part { name: "engine", ok, detail: detail.to_owned() },
            Part { name: "watcher", ok: true, detail: "looked 3 s ago".to_owned() },
        ]
    }

    fn facts(&self) -> Facts {
        Facts {
            engine: "ppocr".into(),
            models: vec!["detector-small".into()],
            ftp_address: "127.0.0.1:2121".into(),
            ftp_sessions: 3,
            ftp_max_sessions: 512,
        }
    }
}

fn keys(database: &std::path::Path) -> Keys {
    Keys::open(database, MasterKeySource::Made(database.with_file_name("master.key"))).unwrap()
}

struct Daemon {
    address: SocketAddr,
    queue: SqliteQueue,
    others: Arc<Others>,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl Daemon {
    async fn start(status: StatusAccess) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("inkport.db");
        let policy = RetryPolicy { attempts: 3, backoff: Duration::from_secs(10) };
        let queue = SqliteQueue::open(&database, policy).unwrap();
        let accounts = Accounts::sqlite(&database).unwrap();
        for (name, role, enabled) in [("boss", Role::Admin, true), ("scanner", Role::Device, true), ("gone", Role::Admin, false)]
        {
            let mut account = Account::new(name.parse().unwrap());
            account.role = role;
            account.enabled = enabled;
            account.password_hash = Some(password::hash("s3cret: ä"));
            accounts.add(&account).unwrap();
        }
        let others = Arc::new(Others { engine: AtomicBool::new(true) });
        let deps = Deps {
            ledger: SqliteLedger::open(&database).unwrap(),
            logins: Logins::new(accounts.clone()),
            accounts,
            keys: keys(&database),
            api: None,
            vitals: Arc::clone(&others) as Arc<dyn Vitals>,
        };
        let settings = Settings { listen: ([127, 0, 0, 1], 0).into(), status, max_upload: ByteSize(1000), ..Settings::default() };
        let http = Http::bind(&settings, deps).await.unwrap();
        let address = http.local_addr();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(http.run(async move {
            let _ = stopped.await;
        }));
        Daemon { address, queue, others, stop, running, _folder: folder }
    }

    async fn add(&self, number: u64, path: &str, outcome: Option<Outcome>, to: &[&str]) -> JobId {
        let now = Timestamp::from_system(SystemTime::now());
        let id = JobId(ulid::Ulid::from_parts(number, 1));
        let job = NewJob {
            id,
            account: "front-desk".parse().unwrap(),
            path: VirtualPath::new(path).unwrap(),
            spool: SpoolKey([0; 32]),
            bytes: 123_456,
            identity: FileIdentity { inode: number, modified_ns: 0, bytes: 1 },
            door: Door::Ftp,
            received_at: now,
        };
        self.queue.enqueue(job).await.unwrap();
        if let Some(outcome) = outcome {
            let lease = self.queue.claim(Duration::from_secs(60), now).await.unwrap().unwrap();
            let to = to.iter().map(|to| NewDelivery { to: (*to).to_owned(), attachments: Vec::new() }).collect();
            self.queue.settle(id, lease.token, outcome, to, now).await.unwrap();
        }
        id
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await
    }

    async fn get_as(&self, credentials: &str) -> Answer {
        let encoded = base64::engine::general_purpose::STANDARD.encode(credentials);
        self.ask(&format!("GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {encoded}\r\nConnection: close\r\n\r\n")).await
    }

    async fn ask(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        Answer { status: head[9..12].parse().unwrap(), head: head.to_ascii_lowercase(), body: body.to_owned() }
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    /// In lower case.
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    /// An error as RFC 9457 has it.
    fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert!(self.head.contains("content-type: application/problem+json"), "{self:?}");
        assert_eq!(self.json()["status"], status);
        assert!(!self.json()["title"].as_str().unwrap().is_empty());
        self.json()["detail"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn the_page_shows_jobs_and_what_went_wrong_escaped() {
    let daemon = Daemon::start(StatusAccess::Public).await;
    let empty = daemon.get("/").await;
    assert!(empty.body.contains("Nothing has come in yet") && empty.body.contains("inkport account add"), "{}", empty.body);
    assert!(empty.body.contains("127.0.0.1:2121") && empty.body.contains("http-equiv=\"refresh\""));

    let rejected = Outcome::Rejected { code: "damaged".into(), message: format!("<b>no</b> frame {}", "x".repeat(500)) };
    daemon.add(1, "/in/<script>alert(1)</script>.jpg", Some(rejected), &["anna@example.com"]).await;
    daemon.add(2, "/scan.jpg", Some(Outcome::Done), &[]).await;
    daemon.add(3, "/waits.jpg", None, &[]).await;
    let delivery = daemon.queue.claim_delivery(Timestamp(i64::MAX)).await.unwrap().unwrap();
    daemon.queue.settle_delivery(delivery.id, Attempt::Never("550 no such user".into()), Timestamp(1)).await.unwrap();
    // A snapshot is a second old at most.
    let page = loop {
        let page = daemon.get("/").await;
        if page.body.contains("waits.jpg") {
            break page;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(page.status, 200);
    assert!(!page.body.contains("<script>alert") && !page.body.contains("<b>no"), "{}", page.body);
    for shown in
        ["alert(1)", "no&#60;/b&#62; frame", "front-desk", "123 kB", "rejected", "a…@example.com", "550 no such user", "3 of 512"]
    {
        assert!(page.body.contains(shown), "{shown}: {}", page.body);
    }
    assert!(!page.body.contains("anna@example.com"), "addresses are masked: the page may be public");
    assert!(!page.body.contains(&"x".repeat(300)), "an excerpt, not the whole");
    let place = |name: &str| page.body.find(name).unwrap();
    assert!(place("waits.jpg") < place("/scan.jpg"), "newest first");
}

#[tokio::test]
async fn every_answer_has_the_headers_that_keep_a_browser_in_bounds() {
    let daemon = Daemon::start(StatusAccess::Public).await;
    for path in
        ["/", "/assets/status.css", "/assets/status.js", "/assets/icon.svg", "/healthz", "/nowhere", "/assets/../Cargo.toml"]
    {
        let answer = daemon.get(path).await;
        for header in
            ["content-security-policy: default-src 'none'", "x-content-type-options: nosniff", "referrer-policy: no-referrer"]
        {
            assert!(answer.head.contains(header), "{path}: {}", answer.head);
        }
        assert!(answer.head.contains("frame-ancestors 'none'") && !answer.head.contains("unsafe"), "{}", answer.head);
    }
    let page = daemon.get("/").await.body;
    assert!(!page.contains(" style=") && !page.contains("<style") && !page.contains(" onclick"), "the policy forbids them");
}

#[tokio::test]
async fn errors_are_problems() {
    let daemon = Daemon::start(StatusAccess::Public).await;
    assert!(daemon.get("/nowhere").await.problem(404).contains("status page"));
    daemon.get("/assets/nothing.css").await.problem(404);
    daemon.ask("DELETE / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.problem(405);
    let large = "POST /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1001\r\n\r\n";
    assert!(daemon.ask(large).await.problem(413).contains("http.max-upload"));
}

#[tokio::test]
async fn the_page_is_for_admins_and_refusals_tell_nothing() {
    let daemon = Daemon::start(StatusAccess::Admin).await;
    let unasked = daemon.get("/").await;
    assert!(unasked.problem(401).contains("role admin"));
    assert!(unasked.head.contains("www-authenticate: basic realm="), "{unasked:?}");
    assert_eq!(daemon.get_as("boss:s3cret: ä").await.status, 200);
    let mut refusals = Vec::new();
    for credentials in ["boss:wrong", "nobody:s3cret: ä", "scanner:s3cret: ä", "gone:s3cret: ä", "boss", ":"] {
        let refusal = daemon.get_as(credentials).await;
        refusal.problem(401);
        refusals.push(refusal.body);
    }
    refusals.dedup();
    assert_eq!(refusals, [unasked.body], "one answer for all causes");
    // Machines need no credentials.
    for path in ["/healthz", "/readyz", "/health"] {
        assert_eq!(daemon.get(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn health_checks_name_the_part_that_fails() {
    let daemon = Daemon::start(StatusAccess::Admin).await;
    let ready = daemon.get("/readyz").await.json();
    assert_eq!((&ready["status"], ready["failing"].as_array().unwrap().len()), (&"ready".into(), 0));
    let names: Vec<&str> = ready["parts"].as_array().unwrap().iter().map(|part| part["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["database", "engine", "watcher"]);
    let health = daemon.get("/health").await.json();
    assert_eq!(
        health,
        serde_json::json!({"status": "healthy", "service": "inkport", "version": env!("CARGO_PKG_VERSION"), "ocr_backend": "ppocr"})
    );

    daemon.others.engine.store(false, Ordering::Relaxed);
    let failing = loop {
        let answer = daemon.get("/readyz").await;
        if answer.status != 200 {
            break answer;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!((failing.status, failing.json()["failing"].clone()), (503, serde_json::json!(["engine"])));
    let health = daemon.get("/health").await;
    assert_eq!((health.status, health.json()["status"].clone()), (503, "degraded".into()));
    assert_eq!(daemon.get("/healthz").await.status, 200, "a process without its engine still lives");
}

#[tokio::test]
async fn a_client_that_says_nothing_holds_up_nobody_and_stopping_does_not_wait_for_it() {
    let daemon = Daemon::start(StatusAccess::Public).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(daemon.address).await.unwrap();
        stream.write_all(b"GET / HT").await.unwrap();
        silent.push(stream);
    }
    // One that keeps its connection open between requests.
    let mut idle = TcpStream::connect(daemon.address).await.unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    idle.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    assert_eq!(daemon.get("/healthz").await.status, 200);

    daemon.stop.send(()).unwrap();
    daemon.running.await.unwrap();
    let refused = TcpStream::connect(daemon.address).await;
    assert!(refused.is_err(), "the port is given back");
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_by_its_setting() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("inkport.db");
    let accounts = Accounts::sqlite(&database).unwrap();
    let deps = Deps {
        ledger: SqliteLedger::open(&database).unwrap(),
        logins: Logins::new(accounts.clone()),
        accounts,
        keys: keys(&database),
        api: None,
        vitals: Arc::new(Others { engine: AtomicBool::new(true) }),
    };
    let settings = Settings { listen: taken.local_addr().unwrap(), ..Settings::default() };
    let error = Http::bind(&settings, deps).await.err().unwrap().to_string();
    assert!(error.contains("http.listen") && error.contains(&settings.listen.to_string()), "{error}");
}

#[tokio::test]
async fn a_head_that_is_too_large_or_never_ends_is_cut_off() {
    let daemon = Daemon::start(StatusAccess::Public).await;
    let large = format!("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Large: {}\r\n\r\n", "x".repeat(256 << 10));
    let mut stream = TcpStream::connect(daemon.address).await.unwrap();
    // The rest of it may meet a closed connection.
    let _ = stream.write_all(large.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));

    // A slow loris: a byte now and then, for ever. It is cut off while it still writes.
    let mut stream = TcpStream::connect(daemon.address).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n").await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let dripping = tokio::spawn(async move {
        while write.write_all(b"X-A: b\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    });
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(120), read.read_to_end(&mut answer)).await;
    assert!(ended.is_ok(), "it was never cut off");
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&answer));
    dripping.abort();
}
