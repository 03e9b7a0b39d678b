//! The door without a protocol: files that are put into a home by `cp`, `scp`, SMB or a mount.
//!
//! Scans all homes at start and every `rescan`; what the kernel reports in between ([`events`]) only makes it
//! look sooner. Events are hints, the scan is the truth: lost ones, folders beyond the kernel's limit of
//! watches, and file systems that have none cost time and nothing else. What tells that a file is whole is
//! its account's [`Arrival`](crate::account::Arrival): it stayed the same for `quiet`, it was renamed, or a marker lies beside it;
//! then `intake` takes it. That the watch still sees is shown by a file of its own ([`canary`]).
//!
//! Writes nothing into homes. What came through another door is known by its identity and skipped;
//! homes of accounts that are no longer there are left alone.

use crate::accounts::Accounts;
use crate::homes::Homes;
use crate::intake::Intake;
use crate::queue::sqlite::SqliteLedger;
use crate::units::{Span, Timestamp};
use events::{Events, Hint, Signals};
use patrol::Patrol;
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::mpsc;

mod canary;
mod events;
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
    /// Whether the scans alone look, without the kernel's events.
    pub poll: Poll,
    /// The time from one change of its own file to the next, which it must see.
    pub canary: Span,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            enabled: true,
            quiet: Span(Duration::from_secs(2)),
            rescan: Span(Duration::from_secs(60)),
            poll: Poll::default(),
            canary: Span(Duration::from_secs(30)),
        }
    }
}

impl Settings {
    /// A watch that has not seen its own file change for this long is blind.
    #[must_use]
    pub fn blind_after(&self) -> Duration {
        self.canary.0 * 3 + Duration::from_secs(15)
    }
}

/// Whether the scans alone look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Poll {
    /// Where the homes lie on a network's file system.
    #[default]
    Auto,
    Always,
    Never,
}

impl Serialize for Poll {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Poll::Auto => serializer.serialize_str("auto"),
            Poll::Always => serializer.serialize_bool(true),
            Poll::Never => serializer.serialize_bool(false),
        }
    }
}

impl<'de> Deserialize<'de> for Poll {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Said {
            Yes(bool),
            Word(String),
        }
        // By environment all of it is text.
        match Said::deserialize(deserializer) {
            Ok(Said::Yes(true)) => Ok(Poll::Always),
            Ok(Said::Yes(false)) => Ok(Poll::Never),
            Ok(Said::Word(word)) if word == "auto" => Ok(Poll::Auto),
            Ok(Said::Word(word)) if word == "true" => Ok(Poll::Always),
            Ok(Said::Word(word)) if word == "false" => Ok(Poll::Never),
            _ => Err(serde::de::Error::custom("this is neither true nor false nor \"auto\"")),
        }
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
    /// When it began.
    pub since: Option<Timestamp>,
    /// When the last scan of all homes ended well.
    pub last_scan: Option<Timestamp>,
    /// When it last saw its own file change.
    pub last_seen: Option<Timestamp>,
    /// Why the last scan, or the last file, could not be dealt with.
    pub error: Option<String>,
    /// Whether the kernel's events make it look sooner than the next scan.
    pub events: bool,
    /// Whether the kernel has too few watches, so that some folders wait for the scans.
    pub limited: bool,
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

fn now() -> Timestamp {
    Timestamp::from_system(SystemTime::now())
}

/// The watch over all homes.
#[derive(Debug)]
pub struct Watch {
    settings: Settings,
    homes: Homes,
    patrol: Patrol,
    health: Health,
}

impl Watch {
    #[must_use]
    pub fn new(settings: Settings, homes: Homes, accounts: Accounts, intake: Intake, ledger: SqliteLedger) -> Self {
        let health = Health::default();
        let patrol = Patrol::new(settings.quiet.0, homes.clone(), accounts, intake, ledger, health.clone());
        Watch { settings, homes, patrol, health }
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
        let Watch { settings, homes, mut patrol, health } = self;
        health.update(|report| report.since = Some(now()));
        let (sender, mut hints) = mpsc::channel(HINTS);
        // Before the first scan, so that nothing falls between the two.
        let mut lookout = tokio::select! {
            biased;
            () = &mut shutdown => return,
            lookout = Lookout::open(settings, homes, sender, health.clone()) => lookout,
        };
        let mut next_scan = Instant::now();
        let mut next_touch = Instant::now();
        let mut paths = Vec::new();
        loop {
            let wake = patrol.next_due().map_or(next_scan, |due| due.min(next_scan)).min(next_touch);
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                () = tokio::time::sleep_until(wake.into()) => {}
                // Never closed: the lookout has a sender too.
                _ = hints.recv_many(&mut paths, HINTS_AT_ONCE) => {}
            }
            let mut look_again = lookout.missed();
            let work = async {
                if !paths.is_empty() {
                    look_again |= patrol.hinted(std::mem::take(&mut paths), Instant::now()).await;
                }
                if Instant::now() >= next_touch {
                    look_again |= lookout.touch().await;
                    next_touch = Instant::now() + settings.canary.0;
                }
                if Instant::now() >= next_scan {
                    lookout.watch_the_rest().await;
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

/// The kernel's events, and what keeps them honest.
struct Lookout {
    homes: Homes,
    polls: bool,
    hints: mpsc::Sender<Hint>,
    signals: Arc<Signals>,
    events: Option<Events>,
    /// How often the canary was changed, and whether the last change is still to be seen.
    touched: u64,
    unseen: bool,
    told_limit: bool,
    health: Health,
}

impl Lookout {
    async fn open(settings: Settings, homes: Homes, hints: mpsc::Sender<Hint>, health: Health) -> Self {
        let polls = match settings.poll {
            Poll::Always => true,
            Poll::Never => false,
            Poll::Auto => {
                let root = homes.root().to_owned();
                let remote = tokio::task::spawn_blocking(move || events::is_remote(&root)).await.unwrap_or(false);
                if remote {
                    let every = settings.rescan;
                    tracing::info!("the homes lie on a network's file system: the scans alone find new files, every {every}");
                }
                remote
            }
        };
        let mut lookout = Lookout {
            homes,
            polls,
            hints,
            signals: Arc::new(Signals { health: health.clone(), ..Signals::default() }),
            events: None,
            touched: SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs()),
            unseen: false,
            told_limit: false,
            health,
        };
        lookout.start().await;
        lookout
    }

    /// Asks the kernel for events, anew if it was asked before.
    async fn start(&mut self) {
        if self.polls {
            return;
        }
        self.events = None;
        let (root, hints, signals) = (self.homes.root().to_owned(), self.hints.clone(), Arc::clone(&self.signals));
        match tokio::task::spawn_blocking(move || Events::start(&root, hints, signals)).await {
            Ok(Ok(events)) => self.events = Some(events),
            Ok(Err(error)) => tracing::warn!(%error, "the kernel reports no new files; the scans find them"),
            Err(panic) => {
                tracing::error!(error = %panic, "asking the kernel for new files ended in a panic; the scans find them")
            }
        }
        let events = self.events.is_some();
        self.health.update(|report| report.events = events);
        self.tell_limit();
    }

    /// Whether something happened of which there is no hint.
    fn missed(&mut self) -> bool {
        if self.signals.canary.swap(false, Ordering::AcqRel) {
            self.unseen = false;
        }
        let missed = self.signals.missed.swap(false, Ordering::AcqRel);
        if missed {
            self.tell_limit();
        }
        missed
    }

    /// Says once that the kernel has too few watches.
    fn tell_limit(&mut self) {
        let limited = self.signals.limited.load(Ordering::Acquire);
        self.health.update(|report| report.limited = limited);
        if limited && !self.told_limit {
            self.told_limit = true;
            tracing::warn!(
                "the kernel has no more watches for folders (fs.inotify.max_user_watches): new files in the others are found by \
                 the scans only; raise it, as in `sysctl fs.inotify.max_user_watches=524288`, if that is too late"
            );
        }
    }

    /// Where the kernel had too few watches: it may have more by now.
    async fn watch_the_rest(&mut self) {
        if !self.signals.limited.load(Ordering::Acquire) {
            return;
        }
        let Some(mut events) = self.events.take() else { return };
        match tokio::task::spawn_blocking(move || (events.watch_all(), events)).await {
            Ok((watched, events)) => {
                if let Err(error) = watched {
                    tracing::debug!(%error, "not all folders can be watched");
                }
                self.events = Some(events);
            }
            Err(panic) => {
                tracing::error!(error = %panic, "asking the kernel for new files ended in a panic; the scans find them")
            }
        }
        self.tell_limit();
    }

    /// Changes the canary. Where the last change was not seen, the events are begun anew; true if so, since
    /// what happened meanwhile was not seen either.
    async fn touch(&mut self) -> bool {
        // It may have been seen with nothing else to wake the loop.
        self.missed();
        let was_blind = self.events.is_some() && self.unseen;
        if was_blind {
            tracing::warn!("the watch did not see its own file change: the kernel is asked for events anew");
            self.start().await;
        } else if self.events.is_none() && !self.polls {
            self.start().await;
        }
        self.touched += 1;
        self.unseen = self.events.is_some();
        let (homes, sequence) = (self.homes.clone(), self.touched);
        let touched = tokio::task::spawn_blocking(move || canary::touch(&homes, sequence)).await;
        let problem = match touched {
            Ok(Ok(true)) => {
                self.signals.replaced.store(false, Ordering::Release);
                if self.events.is_none() {
                    self.signals.saw_canary();
                }
                None
            }
            Ok(Ok(false)) => {
                self.signals.replaced.store(true, Ordering::Release);
                Some("the folder of all homes was replaced while the daemon runs: restart it".to_owned())
            }
            Ok(Err(error)) => Some(format!("the watch cannot change its own file: {error}")),
            Err(panic) => Some(panic.to_string()),
        };
        if let Some(problem) = problem {
            tracing::warn!("{problem}");
            self.health.update(|report| report.error = Some(problem));
        }
        was_blind
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
        for (text, poll) in [("true", Poll::Always), ("false", Poll::Never), ("\"auto\"", Poll::Auto), ("\"true\"", Poll::Always)]
        {
            let settings: Settings = toml::from_str(&format!("poll = {text}")).unwrap();
            assert_eq!(settings.poll, poll);
            assert!(toml::to_string(&settings).unwrap().contains(&format!("poll = {}", text.replace("\"true\"", "true"))));
        }
        assert!(toml::from_str::<Settings>("poll = \"often\"").is_err());
        assert!(toml::from_str::<Settings>("quite = \"5s\"").is_err());
    }
}
