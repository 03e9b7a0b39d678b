//! The door without a protocol: files that are put into a home by `cp`, `scp`, SMB or a mount.
//!
//! Scans all homes at start and every `rescan`; what the kernel reports in between (inotify, through
//! `notify`) only makes it look sooner. Events are hints, the scan is the truth: lost ones, and file
//! systems that have none, cost time and nothing else. A file counts as complete when two looks that
//! lie at least `quiet` apart see the same size and time of modification; then `intake` takes it.
//!
//! Writes nothing into homes. What came through another door is known by its identity and skipped;
//! homes of accounts that are no longer there are left alone.

use crate::accounts::Accounts;
use crate::homes::Homes;
use crate::intake::Intake;
use crate::queue::sqlite::SqliteLedger;
use crate::units::{Span, Timestamp};
use notify::event::{AccessKind, AccessMode, MetadataKind, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use patrol::Patrol;
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

mod patrol;

/// `[watch]` of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Settings {
    /// Whether files that arrive without a protocol are taken at all.
    pub enabled: bool,
    /// How long a file must stay the same before it counts as complete.
    pub quiet: Span,
    /// The time from one scan to the next.
    pub rescan: Span,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { enabled: true, quiet: Span(Duration::from_secs(2)), rescan: Span(Duration::from_secs(60)) }
    }
}

/// Hints that may wait; when there are more, a scan finds what they were about.
const HINTS: usize = 4096;
/// Hints looked after at once.
const HINTS_AT_ONCE: usize = 512;
/// Files taken before the other branches of the loop get their turn.
const TAKEN_AT_ONCE: usize = 16;

/// How the watch is doing, for `/readyz`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// When the last scan of all homes ended well.
    pub last_scan: Option<Timestamp>,
    /// Why the last scan, or the last file, could not be dealt with.
    pub error: Option<String>,
    /// Whether the kernel's events make it look sooner than the next scan.
    pub events: bool,
    /// Files seen and not yet known to be complete.
    pub waiting: usize,
}

/// Reads the [`Report`] while the watch runs.
#[derive(Debug, Clone, Default)]
pub struct Health {
    report: Arc<Mutex<Report>>,
}

impl Health {
    #[must_use]
    pub fn report(&self) -> Report {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn update(&self, change: impl FnOnce(&mut Report)) {
        change(&mut self.report.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The watch over all homes.
#[derive(Debug)]
pub struct Watch {
    settings: Settings,
    root: PathBuf,
    patrol: Patrol,
    health: Health,
}

impl Watch {
    #[must_use]
    pub fn new(settings: Settings, homes: Homes, accounts: Accounts, intake: Intake, ledger: SqliteLedger) -> Self {
        let health = Health::default();
        let root = homes.root().to_owned();
        let patrol = Patrol::new(settings.quiet.0, homes, accounts, intake, ledger, health.clone());
        Watch { settings, root, patrol, health }
    }

    /// How it is doing, now and later.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// Watches until `shutdown`. A file that is being taken then is taken to its end by `intake`.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        let mut shutdown = std::pin::pin!(shutdown);
        if !self.settings.enabled {
            shutdown.await;
            return;
        }
        let Watch { settings, root, mut patrol, health } = self;
        let (sender, mut hints) = mpsc::channel(HINTS);
        let missed = Arc::new(AtomicBool::new(false));
        // Before the first scan, so that nothing falls between the two. Kept until the end: dropped, it is silent.
        let starting = tokio::task::spawn_blocking({
            let (root, missed) = (root.clone(), Arc::clone(&missed));
            move || start_events(&root, sender, missed)
        });
        let mut events = tokio::select! {
            biased;
            () = &mut shutdown => return,
            started = starting => match started {
                Ok(Ok(watcher)) => Some(watcher),
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the kernel reports no new files; the scans find them");
                    None
                }
                Err(_) => None,
            },
        };
        health.update(|report| report.events = events.is_some());

        let mut next_scan = Instant::now();
        let mut paths = Vec::new();
        loop {
            let wake = patrol.next_due().map_or(next_scan, |due| due.min(next_scan));
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                () = tokio::time::sleep_until(wake.into()) => {}
                received = hints.recv_many(&mut paths, HINTS_AT_ONCE), if events.is_some() => if received == 0 {
                    tracing::warn!("the kernel's reports of new files have ended; the scans find them");
                    events = None;
                    health.update(|report| report.events = false);
                }
            }
            let mut look_again = missed.swap(false, Ordering::AcqRel);
            let work = async {
                if !paths.is_empty() {
                    look_again |= patrol.hinted(std::mem::take(&mut paths), Instant::now()).await;
                }
                if Instant::now() >= next_scan {
                    let more = patrol.scan(Instant::now()).await;
                    next_scan = Instant::now() + if more { settings.quiet.0 } else { settings.rescan.0 };
                }
                patrol.take_due(Instant::now(), TAKEN_AT_ONCE).await;
            };
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                () = work => {}
            }
            if look_again {
                next_scan = next_scan.min(Instant::now() + settings.quiet.0);
            }
        }
    }
}

/// Reports paths that may have news; never waits. Blocking: it walks the folders that are there.
fn start_events(root: &Path, hints: mpsc::Sender<PathBuf>, missed: Arc<AtomicBool>) -> notify::Result<RecommendedWatcher> {
    let handler = move |event: notify::Result<notify::Event>| match event {
        Ok(event) if event.need_rescan() => missed.store(true, Ordering::Release),
        Ok(event) if is_news(&event.kind) => {
            for path in event.paths {
                if hints.try_send(path).is_err() {
                    missed.store(true, Ordering::Release);
                }
            }
        }
        Ok(_) => {}
        Err(error) => {
            tracing::debug!(%error, "the kernel's report of new files has a gap; a scan closes it");
            missed.store(true, Ordering::Release);
        }
    };
    // A symlink in a home may point at the whole machine.
    let config = notify::Config::default().with_follow_symlinks(false);
    let mut watcher = RecommendedWatcher::new(handler, config)?;
    watcher.watch(root, RecursiveMode::Recursive)?;
    Ok(watcher)
}

/// Whether a file may be new or complete after this.
fn is_news(kind: &EventKind) -> bool {
    match kind {
        EventKind::Create(_) | EventKind::Any => true,
        EventKind::Modify(ModifyKind::Metadata(kind)) => *kind == MetadataKind::WriteTime,
        EventKind::Modify(_) => true,
        EventKind::Access(kind) => *kind == AccessKind::Close(AccessMode::Write),
        EventKind::Remove(_) | EventKind::Other => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{Account, AccountName};
    use crate::intake::Limits;
    use crate::job::state::RetryPolicy;
    use crate::queue::JobLedger;
    use crate::queue::sqlite::SqliteQueue;
    use crate::spool::Spool;
    use std::fs;

    /// Long enough for a busy machine; reached only when the test fails.
    const PATIENCE: Duration = Duration::from_secs(30);

    async fn until(what: &str, holds: impl Fn() -> bool) {
        let start = Instant::now();
        while !holds() {
            assert!(start.elapsed() < PATIENCE, "{what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn files_are_found_by_scan_and_by_event_and_the_end_is_prompt() {
        let dir = tempfile::tempdir().unwrap();
        let homes = Homes::open(&dir.path().join("homes")).unwrap();
        let database = dir.path().join("inkport.db");
        let accounts = Accounts::sqlite(&database).unwrap();
        let alice: AccountName = "alice".parse().unwrap();
        accounts.add(&Account::new(alice.clone())).unwrap();
        let home = homes.ensure(&alice).unwrap();
        let queue = SqliteQueue::open(&database, RetryPolicy { attempts: 1, backoff: Duration::ZERO }).unwrap();
        let ledger = SqliteLedger::open(&database).unwrap();
        let spool = Spool::open(&dir.path().join("spool")).unwrap();
        let intake = Intake::new(spool, homes.clone(), queue, Limits { max_upload: 1 << 20, min_free_space: 0 });
        let settings = Settings {
            quiet: Span(Duration::from_millis(30)),
            // Nothing but the first scan and those that events ask for.
            rescan: Span(Duration::from_secs(3600)),
            ..Settings::default()
        };
        fs::write(home.join("before.jpg"), b"before").unwrap();
        let watch = Watch::new(settings, homes.clone(), accounts.clone(), intake, ledger.clone());
        let health = watch.health();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let running = tokio::spawn(watch.run(async move { drop(stopped.await) }));
        let jobs = || ledger.counts().unwrap().queued;
        until("the first scan finds what was there", || jobs() == 1).await;
        until("the report tells of it", || health.report().last_scan.is_some() && health.report().waiting == 0).await;

        if health.report().events {
            fs::write(home.join("after.jpg"), b"after").unwrap();
            until("an event tells of a new file", || jobs() == 2).await;
            fs::create_dir_all(home.join("in/deep")).unwrap();
            fs::write(home.join("in/deep/page.jpg"), b"deep").unwrap();
            until("and of new folders", || jobs() == 3).await;
            let bob: AccountName = "bob".parse().unwrap();
            accounts.add(&Account::new(bob.clone())).unwrap();
            fs::write(homes.ensure(&bob).unwrap().join("page.jpg"), b"bob").unwrap();
            until("and of new homes", || jobs() == 4).await;
        } else {
            println!("skipped: this machine reports no file events");
        }
        stop.send(()).unwrap();
        running.await.unwrap();
    }

    #[test]
    fn settings_have_the_documented_names() {
        let settings: Settings = toml::from_str("quiet = \"5s\"\nrescan = \"1m\"\n").unwrap();
        assert_eq!(settings, Settings { quiet: Span(Duration::from_secs(5)), ..Settings::default() });
        assert!(toml::from_str::<Settings>("quite = \"5s\"").is_err());
    }
}
