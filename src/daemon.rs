//! Builds every part, starts them in order, waits, stops them in order: the only place that knows
//! every room.
//!
//! | task | waits for |
//! |---|---|
//! | ftp | connections, uploads under way |
//! | watch | file events, the rescan's time |
//! | http | requests |
//! | worker lanes | due jobs, their engine threads (each has an engine process) |
//! | outbox | due deliveries, the relay |
//! | retention | its minute |
//! | this one | SIGTERM, SIGINT, SIGHUP |
//!
//! Order of the stop: doors first (nothing new comes in; uploads under way end), then the worker (the
//! jobs under way end or go back to the queue within `shutdown-grace`), then the outbox, then HTTP,
//! which tells what is going on until the end. The queue's writer goes last, with its last user.

use crate::accounts::bans::Bans;
use crate::accounts::password::Logins;
use crate::accounts::{Accounts, AccountsError};
use crate::config::{AccountsSource, Config};
use crate::database::DatabaseError;
use crate::delivery::{Mailer, Outbox, SettingsError};
use crate::ftp::{Certificates, Ftp, FtpError, Rooms};
use crate::homes::{HomeError, Homes};
use crate::http::{ApiDeps, Facts, Http, HttpError, Measures, Part, Vitals};
use crate::intake::Intake;
use crate::keys::{Keys, KeysError};
use crate::links::{Links, LinksError};
use crate::queue::sqlite::{SqliteLedger, SqliteQueue};
use crate::queue::{QueueError, WithoutHolder};
use crate::spool::{self, Spool, SpoolError};
use crate::units::{ByteSize, Timestamp};
use crate::upkeep::retention::Retention;
use crate::watch::{self, Watch};
use crate::worker::engine::{EngineState, Readers};
use crate::worker::{EngineHealth, Parts, Settings, Worker, publish};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch as flag;

/// Why the daemon did not start. All of it is for the operator to mend.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("the data folder {path} cannot be made; set data-dir to a place that this user may write")]
    DataDir {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("signals cannot be received")]
    Signals(#[source] std::io::Error),
    #[error("no engine thread can be started")]
    Threads(#[source] std::io::Error),
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error(transparent)]
    Homes(#[from] HomeError),
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(transparent)]
    Accounts(#[from] AccountsError),
    #[error("the list of locks cannot be kept")]
    Bans(#[from] DatabaseError),
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error(transparent)]
    Ftp(#[from] FtpError),
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error(transparent)]
    Links(#[from] LinksError),
    #[error(transparent)]
    Mail(#[from] SettingsError),
}

/// Where the doors really are.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    pub ftp: SocketAddr,
    pub http: SocketAddr,
    /// Of implicit FTPS, where it is configured.
    pub ftps: Option<SocketAddr>,
}

/// After the grace, how long a task may still take before it is left behind.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// The accounts that the configuration names.
pub fn accounts(config: &Config) -> Result<Accounts, AccountsError> {
    match config.accounts.source {
        AccountsSource::Sqlite => Accounts::sqlite(&config.database()),
        AccountsSource::Toml => Accounts::toml(&config.accounts.file),
    }
}

/// What is done about a job that changes while no worker holds it.
pub(crate) fn without_holder(spool: Spool, homes: Homes, accounts: Accounts, mail: bool) -> WithoutHolder {
    Box::new(move |job, is_newest| {
        let account = accounts.find(&job.account).unwrap_or_else(|error| {
            tracing::warn!(job.id = %job.id, account.name = %job.account, %error, "nobody can be told of the job: the account cannot be looked up");
            None
        });
        publish::without_holder(&spool, &homes, job, is_newest, account.as_ref(), mail)
    })
}

/// Runs until told to stop. `ready` is called once every door is open.
pub async fn run(config: Config, lanes: usize, readers: Readers, ready: impl FnOnce(Addresses)) -> Result<(), SetupError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(SetupError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(SetupError::Signals)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(SetupError::Signals)?;

    // Keeping rooms.
    let data = || config.data_dir.clone();
    spool::make_folders(&data()).map_err(|source| SetupError::DataDir { path: data(), source })?;
    let accounts = accounts(&config)?;
    let spool = Spool::open(&config.spool())?;
    let homes = Homes::open(&config.homes())?;
    let hook = without_holder(spool.clone(), homes.clone(), accounts.clone(), config.mail.is_some());
    // The queue holds the lock that keeps a second daemon out: only then may anything be swept.
    let queue = SqliteQueue::open_with(&config.database(), config.retry_policy(), hook)?;
    let ledger = SqliteLedger::open(&config.database())?;
    let swept = spool.sweep()?;
    if swept > 0 {
        tracing::info!(files = swept, "unfinished uploads of the last run were removed; none of them was acknowledged");
    }
    let logins = Logins::new(accounts.clone());
    let keys = Keys::open(&config.database(), config.master_key())?;
    keys.start(Timestamp::from_system(SystemTime::now()))?;
    let intake = Intake::at_most(spool.clone(), homes.clone(), queue.clone(), config.intake_limits(), config.limits.max_queued);

    // Carrying.
    let mailer = config.mail.as_ref().map(Mailer::new).transpose()?;
    let settings = Settings {
        lanes,
        limits: config.document_limits(),
        job_timeout: config.limits.job_timeout.0,
        retry: config.retry_policy(),
        mail: mailer.is_some(),
    };
    let parts = Parts {
        queue: queue.clone(),
        ledger: ledger.clone(),
        spool: spool.clone(),
        homes: homes.clone(),
        accounts: accounts.clone(),
    };
    let worker = Worker::new(settings, parts, readers)
        .duplicates(config.limits.duplicates)
        .codes(config.codes.clone())
        .style(config.sidecars);

    // Doors: every port is taken before anything runs.
    let bans = Bans::open(&config.database()).and_then(|bans| bans.clear().map(|()| bans))?;
    let rooms = Rooms { logins: logins.clone(), homes: homes.clone(), intake: intake.clone(), ledger: ledger.clone(), bans };
    let ftp = Ftp::bind(config.ftp.clone(), rooms).await?;
    let watch =
        config.watch.enabled.then(|| Watch::new(config.watch, homes.clone(), accounts.clone(), intake.clone(), ledger.clone()));
    let vitals = Health {
        engine: worker.health(),
        watch: watch.as_ref().map(Watch::health),
        watch_settings: config.watch,
        spool: spool.clone(),
        floor: config.limits.min_free_space.0,
        ftp: ftp.stats(),
        ftp_address: ftp.local_addr(),
        ftp_max_sessions: config.ftp.max_sessions,
        engine_name: String::from(config.ocr.engine),
    };
    let (close_doors, doors) = flag::channel(false);
    let api = ApiDeps {
        queue: queue.clone(),
        ledger: ledger.clone(),
        intake: intake.clone(),
        homes: homes.clone(),
        links: Links::open(&config.database())?,
        closing: doors.clone(),
    };
    let deps = crate::http::Deps {
        ledger: ledger.clone(),
        logins,
        accounts: accounts.clone(),
        keys,
        vitals: Arc::new(vitals),
        api: Some(api),
    };
    let http = Http::bind(&config.http, deps).await?;
    let addresses = Addresses { ftp: ftp.local_addr(), http: http.local_addr(), ftps: ftp.implicit_addr() };
    let certificates = (ftp.certificates(), http.certificates());

    let (ages, database) = (config.retention(), config.database());
    let retention =
        Retention::new(ages, database, queue.clone(), ledger.clone(), spool.clone(), intake.clone(), accounts.clone());

    let (stop_work, working) = flag::channel(false);
    let (stop_mail, mailing) = flag::channel(false);
    let (stop_http, showing) = flag::channel(false);
    let grace = config.shutdown_grace.0;
    let ftp = tokio::spawn(ftp.run(raised(doors.clone()), grace));
    let retention = tokio::spawn(retention.run(raised(doors.clone())));
    let watch = watch.map(|watch| tokio::spawn(watch.run(raised(doors))));
    let worker = tokio::spawn(worker.run(working, grace));
    let outbox = mailer.map(|mailer| tokio::spawn(Outbox::new(queue.clone(), spool, mailer).run(raised(mailing))));
    let http = tokio::spawn(http.run(raised(showing)));

    notify_systemd(&[sd_notify::NotifyState::Ready]);
    tracing::info!(ftp.address = %addresses.ftp, http.address = %addresses.http, "ready");
    ready(addresses);

    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            // Not waited for: a disk that hangs must not keep the daemon from stopping.
            _ = hangup.recv() => drop(tokio::task::spawn_blocking({
                let certificates = certificates.clone();
                move || reload(certificates.0.as_ref(), certificates.1.as_ref())
            })),
        }
    }

    tracing::info!("stopping: doors close, work under way ends");
    notify_systemd(&[sd_notify::NotifyState::Stopping]);
    // Uploads and jobs under way share one grace: both are told at once, HTTP stays until they are done.
    close_doors.send_replace(true);
    stop_work.send_replace(true);
    stop_mail.send_replace(true);
    let limit = grace + LAST_WAIT;
    ended("ftp", limit, ftp).await;
    if let Some(watch) = watch {
        ended("watch", LAST_WAIT, watch).await;
    }
    ended("retention", LAST_WAIT, retention).await;
    if let Some(Err(error)) = ended("worker", limit, worker).await {
        return Err(SetupError::Threads(error));
    }
    if let Some(outbox) = outbox {
        ended("outbox", LAST_WAIT, outbox).await;
    }
    stop_http.send_replace(true);
    ended("http", LAST_WAIT, http).await;
    drop((intake, queue));
    tracing::info!("stopped");
    Ok(())
}

/// Resolves when the flag is raised (or its owner is gone).
async fn raised(mut raised: flag::Receiver<bool>) {
    let _ = raised.wait_for(|raised| *raised).await;
}

async fn ended<T>(name: &str, limit: Duration, task: tokio::task::JoinHandle<T>) -> Option<T> {
    let abort = task.abort_handle();
    match tokio::time::timeout(limit, task).await {
        Ok(Ok(value)) => Some(value),
        Ok(Err(panic)) => {
            tracing::error!(task = name, error = %panic, "a task ended by a panic");
            None
        }
        Err(_) => {
            tracing::warn!(task = name, "a task did not end in time and is left behind");
            abort.abort();
            None
        }
    }
}

/// SIGHUP: what can be read again without a restart, and what cannot, said honestly. Blocking.
fn reload(ftp: Option<&Certificates>, http: Option<&crate::http::Certificates>) {
    const REST: &str = "a changed configuration is taken at the next start; accounts are always current";
    if ftp.is_none() && http.is_none() {
        tracing::warn!("SIGHUP: there is no ftp.tls, so there was nothing to read again, nor an http.tls; {REST}");
    }
    if let Some(ftp) = ftp {
        reloaded("ftp.tls", "FTP sessions", ftp.reload());
    }
    if let Some(http) = http {
        reloaded("http.tls", "HTTPS connections", http.reload());
    }
    fn reloaded<E: std::error::Error>(section: &str, holds_for: &str, result: Result<(), E>) {
        match result {
            Ok(()) => {
                tracing::info!("SIGHUP: the files that {section} names were read again and hold for new {holds_for}; {REST}");
            }
            Err(error) => {
                let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
                tracing::error!(
                    "SIGHUP: the files that {section} names cannot be used, the old ones stay: {error}{cause}; {REST}"
                );
            }
        }
    }
}

fn notify_systemd(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(error = %error, "systemd could not be told");
    }
}

/// Bytes of memory that this process has, and those that it started; zeros where /proc does not tell.
fn resident() -> (u64, u64) {
    let of = |pid: &str| -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
    };
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let children = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    let engines = children.map(|pids| pids.split_whitespace().map(of).sum::<u64>()).sum();
    (of("self"), engines)
}

/// How the daemon is, for `http`.
struct Health {
    engine: EngineHealth,
    watch: Option<watch::Health>,
    watch_settings: watch::Settings,
    spool: Spool,
    floor: u64,
    ftp: Arc<crate::ftp::Stats>,
    ftp_address: SocketAddr,
    ftp_max_sessions: usize,
    engine_name: String,
}

impl Health {
    fn engine_part(&self) -> Part {
        let (ok, detail) = match self.engine.state() {
            EngineState::Ready { .. } => (true, "ready".to_owned()),
            EngineState::Opening => (false, "opening its models".to_owned()),
            EngineState::Failed(_) => (false, "cannot be opened; the log says why; uploads are kept and wait".to_owned()),
        };
        Part { name: "engine", ok, detail }
    }

    fn disk_part(&self) -> Part {
        match self.spool.free_space() {
            Ok(free) if free >= self.floor => Part { name: "disk", ok: true, detail: format!("{} MiB free", free >> 20) },
            Ok(free) => {
                let floor = ByteSize(self.floor);
                let detail = format!("{} MiB free, less than limits.min-free-space ({floor}): nothing is accepted", free >> 20);
                Part { name: "disk", ok: false, detail }
            }
            Err(_) => Part { name: "disk", ok: false, detail: "does not answer".to_owned() },
        }
    }

    fn watch_part(&self, health: &watch::Health) -> Part {
        let now = Timestamp::from_system(SystemTime::now());
        let (report, settings) = (health.report(), self.watch_settings);
        let age = |at: Option<Timestamp>| at.or(report.since).map_or(Duration::ZERO, |at| now.since(at));
        let (scanned, seen) = (age(report.last_scan), age(report.last_seen));
        let way = match (report.events, report.limited) {
            (true, false) => "sees changes as they happen",
            (true, true) => "sees changes in some folders as they happen, the kernel has no watches for the others",
            (false, _) => "finds changes by scans alone",
        };
        let saw = match report.last_seen {
            Some(_) => format!("saw its own file change {} s ago", seen.as_secs()),
            None => format!("has not seen its own file change in {} s", seen.as_secs()),
        };
        let scan = match report.last_scan {
            Some(_) => format!("last scan {} s ago", scanned.as_secs()),
            None => "first scan under way".to_owned(),
        };
        // Two rescans late, and then some for large homes: something hangs.
        let late = report.last_scan.is_some() && scanned > settings.rescan.0 * 3 + Duration::from_secs(60);
        let blind = seen > settings.blind_after();
        let verdict = match (blind, late) {
            (true, _) => "blind: ",
            (false, true) => "late: ",
            (false, false) => "",
        };
        Part { name: "watcher", ok: !blind && !late, detail: format!("{verdict}{way}; {saw}; {scan}") }
    }
}

impl Vitals for Health {
    fn parts(&self) -> Vec<Part> {
        let mut parts = vec![self.engine_part(), self.disk_part()];
        parts.extend(self.watch.as_ref().map(|health| self.watch_part(health)));
        parts
    }

    fn measures(&self) -> Measures {
        let ftp = self.ftp.now();
        let now = Timestamp::from_system(SystemTime::now());
        let report = self.watch.as_ref().map(watch::Health::report);
        let seen = report.and_then(|report| report.last_seen.or(report.since));
        let (resident, resident_engines) = resident();
        Measures {
            ftp_refused: ftp.sessions_refused,
            ftp_broken: ftp.uploads_broken,
            ftp_logins_failed: ftp.logins_failed,
            ftp_bytes: ftp.bytes_total,
            engines_busy: self.engine.busy() as u64,
            watcher_age: seen.map_or(Duration::ZERO, |at| now.since(at)),
            disk_free: self.spool.free_space().unwrap_or(0),
            disk_floor: self.floor,
            resident,
            resident_engines,
        }
    }

    fn facts(&self) -> Facts {
        let models = match self.engine.state() {
            EngineState::Ready { models, .. } => models,
            EngineState::Opening | EngineState::Failed(_) => Vec::new(),
        };
        Facts {
            engine: self.engine_name.clone(),
            models,
            ftp_address: self.ftp_address.to_string(),
            ftp_sessions: self.ftp.now().sessions_open,
            ftp_max_sessions: self.ftp_max_sessions,
        }
    }
}
