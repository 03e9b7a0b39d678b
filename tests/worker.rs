//! The worker with engines that misbehave: whatever they do, the job ends as the state machine says,
//! its account is told, and the next job is read.

use inkport::account::{Account, AccountName, VirtualPath};
use inkport::accounts::Accounts;
use inkport::document::{Limits, Page};
use inkport::homes::Homes;
use inkport::intake::{self, Accepted, Intake, Upload};
use inkport::job::state::{RetryPolicy, State};
use inkport::job::{Door, Job, JobId};
use inkport::ocr::{Confidence, Engine, EngineError, Line, PageText, Quad};
use inkport::queue::sqlite::{SqliteLedger, SqliteQueue};
use inkport::queue::{DeliveryRecord, JobLedger, Queue};
use inkport::spool::Spool;
use inkport::units::Timestamp;
use inkport::worker::engine::{EngineFactory, Readers};
use inkport::worker::{Parts, Settings, Worker, publish};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

const POLICY: RetryPolicy = RetryPolicy { attempts: 2, backoff: Duration::from_millis(20) };

/// What an engine does with a page, by the page's width in pixels.
const READS: u32 = 20;
const PANICS: u32 = 21;
const HANGS: u32 = 22;
const REJECTS: u32 = 23;
const FAILS_ONCE: u32 = 24;

struct Moody {
    failures: Arc<AtomicUsize>,
}

impl Engine for Moody {
    fn read(&mut self, pages: &[&Page], _: &[String]) -> Vec<Result<PageText, EngineError>> {
        pages.iter().map(|page| self.page(page)).collect()
    }
    fn name(&self) -> &'static str {
        "moody"
    }
    fn models(&self) -> Vec<String> {
        Vec::new()
    }
}

impl Moody {
    fn page(&self, page: &Page) -> Result<PageText, EngineError> {
        match page.width {
            PANICS => panic!("the engine under test panics, as it should"),
            // Longer than any test: the thread is left behind.
            HANGS => std::thread::sleep(Duration::from_secs(3600)),
            REJECTS => return Err(EngineError::Rejected("too ugly".into())),
            FAILS_ONCE if self.failures.fetch_add(1, Ordering::SeqCst) == 0 => {
                return Err(EngineError::Unavailable("not now".into()));
            }
            _ => {}
        }
        let line = Line {
            text: "read".into(),
            confidence: Confidence::new(1.0),
            quad: Quad([[0.0; 2]; 4]),
            words: Vec::new(),
            block: 0,
        };
        Ok(PageText { lines: vec![line], width: page.width, height: page.height, ..PageText::default() })
    }
}

struct House {
    folder: tempfile::TempDir,
    parts: Parts,
    intake: Intake,
    account: AccountName,
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("inkport.db");
        let spool = Spool::open(&folder.path().join("spool")).unwrap();
        let homes = Homes::open(&folder.path().join("homes")).unwrap();
        let accounts = Accounts::sqlite(&database).unwrap();
        // As the daemon does.
        let (places, known) = ((spool.clone(), homes.clone()), accounts.clone());
        let hook = move |job: &Job, is_newest: bool| {
            let account = known.find(&job.account).unwrap();
            publish::without_holder(&places.0, &places.1, job, is_newest, account.as_ref(), true)
        };
        let queue = SqliteQueue::open_with(&database, POLICY, Box::new(hook)).unwrap();
        let parts = Parts { queue: queue.clone(), ledger: SqliteLedger::open(&database).unwrap(), spool, homes, accounts };
        let account: AccountName = "desk".parse().unwrap();
        parts.accounts.add(&Account { email: vec!["desk@example.org".into()], ..Account::new(account.clone()) }).unwrap();
        parts.homes.ensure(&account).unwrap();
        let limits = intake::Limits { max_upload: 1 << 20, min_free_space: 0 };
        let intake = Intake::new(parts.spool.clone(), parts.homes.clone(), queue, limits);
        House { folder, parts, intake, account }
    }

    /// A grey page of this width, accepted.
    async fn upload(&self, name: &str, width: u32) -> JobId {
        let mut bytes = format!("P5 {width} 10 255\n").into_bytes();
        bytes.resize(bytes.len() + width as usize * 10, 200);
        let staged = self.parts.spool.stage_bytes(&bytes).unwrap();
        let path = VirtualPath::new(name).unwrap();
        let room = self.intake.room(&Account::new(self.account.clone()), Some(&path)).unwrap();
        let upload = Upload { account: self.account.clone(), path, staged, door: Door::Ftp, room };
        match self.intake.accept(upload).await.unwrap() {
            Accepted::Job(id) => id,
            other => panic!("{other:?}"),
        }
    }

    /// A worker of one lane; it stops when the sender says so.
    fn work(&self, job_timeout: Duration) -> (watch::Sender<bool>, tokio::task::JoinHandle<std::io::Result<()>>) {
        let failures = Arc::new(AtomicUsize::new(0));
        let settings = Settings { lanes: 1, limits: Limits::default(), job_timeout, retry: POLICY, mail: true };
        let factory: EngineFactory = Arc::new(move || Ok(Box::new(Moody { failures: failures.clone() }) as Box<dyn Engine>));
        let (stop, stopped) = watch::channel(false);
        (
            stop,
            tokio::spawn(
                Worker::new(settings, self.parts.clone(), Readers::Here(factory)).run(stopped, Duration::from_millis(200)),
            ),
        )
    }

    async fn ended(&self, id: JobId) -> (Job, Vec<DeliveryRecord>) {
        for _ in 0..6000 {
            if let Some((job, deliveries)) = self.parts.ledger.show(id).unwrap().filter(|(job, _)| job.state.is_final()) {
                return (job, deliveries);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the job never ended: {:?}", self.parts.ledger.show(id).unwrap());
    }

    fn error(&self, name: &str) -> serde_json::Value {
        let path = self.folder.path().join("homes/desk").join(format!("{name}.error.json"));
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    fn text(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.folder.path().join("homes/desk").join(format!("{name}.txt"))).ok()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_panics_costs_the_job_its_attempts_and_nobody_else() {
    let house = House::new();
    let (bad, good) = (house.upload("bad.pgm", PANICS).await, house.upload("good.pgm", READS).await);
    let (_stop, _worker) = house.work(Duration::from_secs(60));
    let (job, deliveries) = house.ended(bad).await;
    assert!(matches!(&job.state, State::Dead { reason } if reason.contains("panicked")), "{job:?}");
    assert_eq!((job.attempt, deliveries.len()), (POLICY.attempts, 1), "its account is told once");
    let error = house.error("bad.pgm");
    assert_eq!((error["code"].as_str(), error["attempts"].as_u64()), (Some("out-of-attempts"), Some(2)));
    assert_eq!(house.ended(good).await.0.state, State::Done);
    assert_eq!(house.text("good.pgm").as_deref(), Some("read\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reading_that_hangs_is_given_up_and_another_engine_takes_over() {
    let house = House::new();
    let (bad, good) = (house.upload("bad.pgm", HANGS).await, house.upload("good.pgm", READS).await);
    let (_stop, _worker) = house.work(Duration::from_millis(300));
    let (job, _) = house.ended(bad).await;
    assert!(matches!(&job.state, State::Dead { reason } if reason.contains("job-timeout")), "{job:?}");
    assert_eq!(house.ended(good).await.0.state, State::Done);
    assert!(house.text("bad.pgm").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transient_failure_is_tried_again_and_leaves_no_trace() {
    let house = House::new();
    let id = house.upload("later.pgm", FAILS_ONCE).await;
    let (_stop, _worker) = house.work(Duration::from_secs(60));
    let (job, deliveries) = house.ended(id).await;
    assert_eq!((&job.state, job.attempt, deliveries.len()), (&State::Done, 2, 1));
    assert_eq!(house.text("later.pgm").as_deref(), Some("read\n"));
    assert!(!house.folder.path().join("homes/desk/later.pgm.error.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_engine_rejects_is_not_tried_again() {
    let house = House::new();
    let id = house.upload("ugly.pgm", REJECTS).await;
    let (_stop, _worker) = house.work(Duration::from_secs(60));
    let (job, _) = house.ended(id).await;
    assert_eq!((&job.state, job.attempt), (&State::Rejected { code: "unreadable".into() }, 1));
    assert_eq!(house.error("ugly.pgm")["code"], "unreadable");
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_stop_a_job_under_way_goes_back_unharmed() {
    let house = House::new();
    let id = house.upload("slow.pgm", HANGS).await;
    let (stop, worker) = house.work(Duration::from_secs(3600));
    while !matches!(house.parts.ledger.show(id).unwrap().unwrap().0.state, State::Running { .. }) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.send_replace(true);
    worker.await.unwrap().unwrap();
    let (job, deliveries) = house.parts.ledger.show(id).unwrap().unwrap();
    assert!(matches!(job.state, State::Queued { .. }), "{job:?}");
    assert_eq!((job.attempt, deliveries.len()), (0, 0), "an attempt that the stop cut short does not count");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_gone_gets_its_mail_but_no_files_beside_nothing() {
    let house = House::new();
    let id = house.upload("gone.pgm", READS).await;
    std::fs::remove_file(house.folder.path().join("homes/desk/gone.pgm")).unwrap();
    let (_stop, _worker) = house.work(Duration::from_secs(60));
    let (job, deliveries) = house.ended(id).await;
    assert_eq!((&job.state, deliveries.len()), (&State::Done, 1));
    assert_eq!(std::fs::read_dir(house.folder.path().join("homes/desk")).unwrap().count(), 0);
}

/// Workers that take the job and are never heard of again.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_nobody_comes_back_from_is_told_of_like_any_other() {
    let house = House::new();
    let (old, new) = (house.upload("lost.pgm", READS).await, house.upload("lost.pgm", READS).await);
    let mut now = Timestamp::from_system(SystemTime::now());
    for id in [old, new] {
        while !house.parts.ledger.show(id).unwrap().unwrap().0.state.is_final() {
            let claimed = house.parts.queue.claim(Duration::from_secs(60), now).await.unwrap();
            now = claimed.map_or(now.after(Duration::from_secs(60)), |lease| lease.until);
        }
        let (job, deliveries) = house.ended(id).await;
        assert!(matches!(&job.state, State::Dead { reason } if reason.contains("stopped answering")), "{job:?}");
        assert_eq!((job.attempt, deliveries.len()), (POLICY.attempts, 1), "its account is told once");
        let there = house.folder.path().join("homes/desk/lost.pgm.error.json").exists();
        assert_eq!(there, id == new, "only the newest upload of a name has files beside it");
    }
    let error = house.error("lost.pgm");
    assert_eq!((error["code"].as_str(), error["attempts"].as_u64()), (Some("out-of-attempts"), Some(2)));
    assert_eq!(error["job"], new.to_string());
}
