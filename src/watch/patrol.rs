//! What the watch remembers and does; `watch` decides when. Time is passed in.

use super::{Health, Hint};
use crate::account::{Account, AccountName, Arrival, VirtualPath};
use crate::accounts::Accounts;
use crate::homes::{HomeError, Homes};
use crate::intake::{Accepted, Intake, IntakeError};
use crate::job::{Door, FileIdentity};
use crate::queue::JobLedger;
use crate::queue::sqlite::SqliteLedger;
use crate::units::Timestamp;
use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

/// Files that are remembered as dealt with, so that a scan of them asks nobody; about 10 MiB. For those
/// beyond, every scan asks the ledger.
const MOST_KNOWN: usize = 250_000;
/// Files that wait to be seen a second time; those beyond are found by the next scan, which comes soon.
const MOST_WAITING: usize = 10_000;
/// After an error that is not one file's fault (a full disk, a database that does not answer).
const PAUSE: Duration = Duration::from_secs(10);

/// Where a rename is waited for that nobody saw: a file system's clock ticks, and a file that is renamed in
/// the tick of its last write looks as if it never was.
const UNSEEN_RENAME: Duration = Duration::from_secs(60);
/// What a marker's name ends with.
const MARKER: &str = ".done";

type Key = (AccountName, VirtualPath);

/// Files that need no second thought until they change.
#[derive(Debug, Default)]
struct Known {
    files: HashMap<AccountName, HashSet<FileIdentity>>,
    count: usize,
}

impl Known {
    fn contains(&self, account: &AccountName, file: &FileIdentity) -> bool {
        self.files.get(account).is_some_and(|files| files.contains(file))
    }

    fn insert(&mut self, account: &AccountName, file: FileIdentity) {
        if self.count >= MOST_KNOWN {
            return;
        }
        let files = match self.files.get_mut(account) {
            Some(files) => files,
            None => self.files.entry(account.clone()).or_default(),
        };
        self.count += usize::from(files.insert(file));
    }
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    file: FileIdentity,
    /// If it is still the same then, it is whole.
    due: Instant,
}

/// How much there is to say that a file is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whole {
    /// Its writer said so.
    Said,
    /// When nothing changes for a while.
    Quiet,
    /// When nothing changes for so long that a rename must have been missed.
    Unsaid,
}

/// The looking side: blocking, and without memory of its own.
#[derive(Debug, Clone)]
struct Eyes {
    homes: Homes,
    accounts: Accounts,
    intake: Intake,
    ledger: SqliteLedger,
}

/// What a scan came to.
struct Scanned {
    new: Vec<(Key, FileIdentity, Whole)>,
    /// What is known of the other files that are there.
    known: Known,
    /// It stopped looking at `room` new ones.
    more: bool,
}

/// A reason to stop for now; the sentence is for the log and the report.
type Trouble = String;

fn trouble(error: &dyn Error) -> Trouble {
    let mut sentence = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        sentence.push_str(": ");
        sentence.push_str(&cause.to_string());
        source = cause.source();
    }
    sentence
}

impl Eyes {
    /// What says that this file is whole, if it is still to be taken; what is not is remembered.
    fn is_new(
        &self,
        known: &mut Known,
        account: &AccountName,
        arrival: Arrival,
        path: &VirtualPath,
        file: FileIdentity,
    ) -> Result<Option<Whole>, Trouble> {
        if file.bytes == 0 || known.contains(account, &file) || !self.intake.is_document(account, path) {
            return Ok(None);
        }
        let Some(whole) = self.wholeness(account, arrival, path)? else { return Ok(None) };
        let has_job = self.ledger.known(account, &file).map_err(|error| trouble(&error))?.is_some();
        if has_job {
            known.insert(account, file);
        }
        Ok((!has_job).then_some(whole))
    }

    /// `None`: not yet by any means, or itself no more than a marker.
    fn wholeness(&self, account: &AccountName, arrival: Arrival, path: &VirtualPath) -> Result<Option<Whole>, Trouble> {
        let times = |path: &VirtualPath| self.homes.times(account, path).map_err(|error| trouble(&error));
        match arrival {
            Arrival::Quiet => Ok(Some(Whole::Quiet)),
            Arrival::Rename => {
                let renamed = times(path)?.is_some_and(|times| times.changed > times.modified);
                Ok(Some(if renamed { Whole::Said } else { Whole::Unsaid }))
            }
            Arrival::Marker if path.file_name().ends_with(MARKER) => Ok(None),
            Arrival::Marker => {
                let Some(file) = times(path)? else { return Ok(None) };
                let name = path.file_name();
                let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
                for base in [name, stem] {
                    // Markers stay where they are, so one that an earlier file of the name left says nothing of this one.
                    if let Ok(marker) = VirtualPath::new(&format!("{}/{base}{MARKER}", path.folder()))
                        && times(&marker)?.is_some_and(|marker| marker.modified.max(marker.changed) >= file.modified)
                    {
                        return Ok(Some(Whole::Said));
                    }
                }
                Ok(None)
            }
        }
    }

    fn scan(&self, known: &Known, room: usize) -> Result<Scanned, Trouble> {
        let (mut new, mut seen, mut more) = (Vec::new(), Known::default(), false);
        let mut failed = None;
        for account in self.accounts.list().map_err(|error| trouble(&error))? {
            self.recount(&account);
            let (name, arrival) = (account.name, account.arrival);
            let walked = self.homes.walk(&name, &mut |path, file| {
                if failed.is_some() {
                    return;
                }
                if known.contains(&name, &file) {
                    return seen.insert(&name, file);
                }
                if new.len() >= room {
                    // Whether it is new, a later scan asks.
                    more = true;
                    return;
                }
                match self.is_new(&mut seen, &name, arrival, &path, file) {
                    Ok(Some(whole)) => new.push(((name.clone(), path), file, whole)),
                    Ok(None) => {}
                    Err(error) => failed = Some(error),
                }
            });
            match (failed.take(), walked) {
                (Some(error), _) => return Err(error),
                (None, Ok(())) => {}
                // A new account: nobody has logged in to it yet.
                (None, Err(HomeError::Missing { .. })) => {
                    if let Err(error) = self.homes.ensure(&name) {
                        tracing::warn!(account.name = %name, error = trouble(&error), "a home cannot be made");
                    }
                }
                (None, Err(error)) => tracing::warn!(account.name = %name, error = trouble(&error), "a home cannot be scanned"),
            }
        }
        Ok(Scanned { new, known: seen, more })
    }

    /// The file at this path, if it is still to be taken.
    fn look(&self, known: &mut Known, (account, path): &Key, arrival: Arrival) -> Result<Option<(FileIdentity, Whole)>, Trouble> {
        match self.homes.identity(account, path) {
            Ok(Some(file)) => Ok(self.is_new(known, account, arrival, path, file)?.map(|whole| (file, whole))),
            Ok(None) | Err(HomeError::Missing { .. }) => Ok(None),
            Err(error) => Err(trouble(&error)),
        }
    }

    /// `None` if there is no such account.
    fn account(&self, account: &AccountName) -> Result<Option<Account>, Trouble> {
        self.accounts.find(account).map_err(|error| trouble(&error))
    }

    /// Counts what others did in its home, where somebody has counted before.
    fn recount(&self, account: &Account) {
        if account.quota().is_limit()
            && let Err(error) = self.homes.recount(&account.name)
        {
            tracing::warn!(account.name = %account.name, error = trouble(&error), "a home cannot be counted");
        }
    }

    /// Whether its home holds more than it may.
    fn is_over_quota(&self, account: &Account) -> Result<bool, Trouble> {
        let quota = account.quota();
        if !quota.is_limit() {
            return Ok(false);
        }
        let held = self.homes.held(&account.name).map_err(|error| trouble(&error))?;
        Ok(quota.bytes.is_some_and(|most| held.bytes > most) || quota.files.is_some_and(|most| held.files > most))
    }

    /// Looks where something happened.
    fn look_around(&self, mut known: Known, hints: Vec<Hint>) -> Looked {
        let mut looked = Looked::default();
        let mut keys: HashMap<Key, bool> = HashMap::new();
        for Hint { path, renamed } in hints {
            match key_of(self.homes.root(), &path) {
                Some(Ok(key)) => *keys.entry(key).or_default() |= renamed,
                // A home of its own: new, or renamed.
                Some(Err(_account)) => looked.scan_wanted = true,
                None => {}
            }
        }
        let mut arrivals: HashMap<AccountName, Option<Arrival>> = HashMap::new();
        for (key, renamed) in keys {
            if self.homes.is_folder(&key.0, &key.1).unwrap_or(false) {
                looked.scan_wanted = true;
                continue;
            }
            let found = match arrivals.get(&key.0) {
                Some(arrival) => Ok(*arrival),
                None => self.account(&key.0).map(|account| {
                    if let Some(account) = &account {
                        self.recount(account);
                    }
                    let arrival = account.map(|account| account.arrival);
                    arrivals.insert(key.0.clone(), arrival);
                    arrival
                }),
            };
            let arrival = match found {
                Ok(Some(arrival)) => arrival,
                Ok(None) => continue,
                Err(error) => {
                    looked.failed = Some(error);
                    continue;
                }
            };
            let of_marker = key.1.file_name().strip_suffix(MARKER).filter(|_| arrival == Arrival::Marker);
            let about = match of_marker {
                Some(stem) => match self.homes.called(&key.0, &key.1, stem) {
                    Ok(paths) => paths.into_iter().map(|path| (key.0.clone(), path)).collect(),
                    Err(error) => {
                        looked.failed = Some(trouble(&error));
                        continue;
                    }
                },
                None => vec![key],
            };
            for key in about {
                match self.look(&mut known, &key, arrival) {
                    Ok(Some((file, whole))) => {
                        let said = renamed && arrival == Arrival::Rename;
                        looked.new.push((key, file, if said { Whole::Said } else { whole }));
                    }
                    Ok(None) => {}
                    Err(error) => looked.failed = Some(error),
                }
            }
        }
        looked.known = known;
        looked
    }
}

/// What hints came to.
#[derive(Default)]
struct Looked {
    new: Vec<(Key, FileIdentity, Whole)>,
    known: Known,
    /// Only a scan can tell what happened.
    scan_wanted: bool,
    failed: Option<Trouble>,
}

/// Goes round the homes.
#[derive(Debug)]
pub(super) struct Patrol {
    quiet: Duration,
    eyes: Eyes,
    known: Known,
    waiting: HashMap<Key, Waiting>,
    /// Accounts whose homes hold too much, as the log knows.
    over: HashSet<AccountName>,
    /// Nothing is taken before.
    paused_until: Option<Instant>,
    health: Health,
}

impl Patrol {
    pub(super) fn new(
        quiet: Duration,
        homes: Homes,
        accounts: Accounts,
        intake: Intake,
        ledger: SqliteLedger,
        health: Health,
    ) -> Self {
        let eyes = Eyes { homes, accounts, intake, ledger };
        Patrol { quiet, eyes, known: Known::default(), waiting: HashMap::new(), over: HashSet::new(), paused_until: None, health }
    }

    /// When [`take_due`](Self::take_due) has something to do; `None` while nothing waits.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let due = self.waiting.values().map(|waiting| waiting.due).min()?;
        Some(self.paused_until.map_or(due, |pause| due.max(pause)))
    }

    /// Looks at every file of every home. True if there may be more new ones than can wait.
    pub(super) async fn scan(&mut self, now: Instant) -> bool {
        let (eyes, known) = (self.eyes.clone(), std::mem::take(&mut self.known));
        let room = MOST_WAITING.saturating_sub(self.waiting.len());
        let scanned = tokio::task::spawn_blocking(move || match eyes.scan(&known, room) {
            Ok(found) => Ok(found),
            Err(error) => Err((known, error)),
        })
        .await;
        match scanned {
            Ok(Ok(Scanned { new, known, more })) => {
                self.known = known;
                for (key, file, whole) in new {
                    self.wait(key, file, whole, now);
                }
                let waiting = self.waiting.len();
                self.health.update(|report| {
                    report.last_scan = Some(Timestamp::from_system(SystemTime::now()));
                    report.waiting = waiting;
                    report.error = None;
                });
                more
            }
            Ok(Err((known, error))) => {
                self.known = known;
                self.stumble(error, now);
                false
            }
            Err(ended) => {
                self.stumble(trouble(&ended), now);
                false
            }
        }
    }

    /// Looks where something may have happened. True if only a scan can tell what.
    pub(super) async fn hinted(&mut self, hints: Vec<Hint>, now: Instant) -> bool {
        let (eyes, known) = (self.eyes.clone(), std::mem::take(&mut self.known));
        match tokio::task::spawn_blocking(move || eyes.look_around(known, hints)).await {
            Ok(Looked { new, known, mut scan_wanted, failed }) => {
                self.known = known;
                for (key, file, whole) in new {
                    scan_wanted |= !self.wait(key, file, whole, now);
                }
                if let Some(error) = failed {
                    self.stumble(error, now);
                    scan_wanted = true;
                }
                scan_wanted
            }
            Err(ended) => {
                self.stumble(trouble(&ended), now);
                true
            }
        }
    }

    /// Takes up to `most` files that have not changed for long enough.
    pub(super) async fn take_due(&mut self, now: Instant, most: usize) {
        if self.paused_until.is_some_and(|pause| now < pause) {
            return;
        }
        self.paused_until = None;
        let due = self.waiting.iter().filter(|(_, waiting)| waiting.due <= now);
        let due: Vec<(Key, FileIdentity)> = due.take(most).map(|(key, waiting)| (key.clone(), waiting.file)).collect();
        for (key, before) in due {
            if let Err(error) = self.take(key, before, now).await {
                self.stumble(error, now);
                break;
            }
        }
        let waiting = self.waiting.len();
        self.health.update(|report| report.waiting = waiting);
    }

    async fn take(&mut self, key: Key, before: FileIdentity, now: Instant) -> Result<(), Trouble> {
        let (eyes, mut known, looked_at) = (self.eyes.clone(), std::mem::take(&mut self.known), key.clone());
        let looking = move || {
            let found = match eyes.account(&looked_at.0) {
                Ok(Some(account)) => eyes.is_over_quota(&account).and_then(|over| {
                    Ok(eyes.look(&mut known, &looked_at, account.arrival)?.map(|(file, whole)| (file, whole, over)))
                }),
                Ok(None) => Ok(None),
                Err(error) => Err(error),
            };
            (found, known)
        };
        let (found, known) = tokio::task::spawn_blocking(looking).await.map_err(|ended| trouble(&ended))?;
        self.known = known;
        if let Ok(Some((_, _, over))) = &found {
            let changed = if *over { self.over.insert(key.0.clone()) } else { self.over.remove(&key.0) };
            if *over && changed {
                tracing::warn!(account.name = %key.0, "the account's home holds more than its quota: what arrives there otherwise than by a door waits until there is room");
            }
        }
        let again = now + self.quiet;
        match found? {
            None => {
                self.waiting.remove(&key);
            }
            // A later scan looks again.
            Some((_, _, true)) => {
                self.waiting.remove(&key);
            }
            Some((file, whole, _)) if file != before => {
                self.waiting.insert(key, Waiting { file, due: now + self.patience(whole) });
            }
            Some((file, ..)) => match self.eyes.intake.take(&key.0, &key.1, Door::Watch).await {
                Ok(Accepted::Job(_) | Accepted::Known(_)) => {
                    self.known.insert(&key.0, file);
                    self.waiting.remove(&key);
                }
                Ok(Accepted::Stored) => {
                    self.waiting.remove(&key);
                }
                Ok(Accepted::NotNow) => {
                    self.waiting.insert(key, Waiting { file, due: again });
                }
                Err(error @ IntakeError::TooLarge { .. }) => {
                    tracing::warn!(account.name = %key.0, upload.bytes = file.bytes, %error, "a file is left where it lies");
                    self.known.insert(&key.0, file);
                    self.waiting.remove(&key);
                }
                Err(error) => {
                    // Behind the others, should it be this file's own fault after all.
                    self.waiting.insert(key, Waiting { file, due: again });
                    return Err(trouble(&error));
                }
            },
        }
        Ok(())
    }

    /// How long a file of which this is known must stay as it is.
    fn patience(&self, whole: Whole) -> Duration {
        match whole {
            Whole::Said => Duration::ZERO,
            Whole::Quiet => self.quiet,
            Whole::Unsaid => self.quiet.max(UNSEEN_RENAME),
        }
    }

    /// False if there is no room for it.
    fn wait(&mut self, key: Key, file: FileIdentity, whole: Whole, now: Instant) -> bool {
        let due = now + self.patience(whole);
        let room = self.waiting.len() < MOST_WAITING;
        match self.waiting.get_mut(&key) {
            Some(waiting) if waiting.file == file => waiting.due = waiting.due.min(due),
            None if !room => return false,
            _ => drop(self.waiting.insert(key, Waiting { file, due })),
        }
        true
    }

    fn stumble(&mut self, error: Trouble, now: Instant) {
        tracing::warn!(error, "the watch over the homes has to wait");
        self.paused_until = Some(now + PAUSE);
        self.health.update(|report| report.error = Some(error));
    }
}

/// Whose file this path is; `Err` if it is a home itself, `None` if no account can have it.
fn key_of(root: &Path, path: &Path) -> Option<Result<Key, AccountName>> {
    let inside = path.strip_prefix(root).ok()?.to_str()?;
    let (account, path) = inside.split_once('/').unwrap_or((inside, ""));
    let account: AccountName = account.parse().ok()?;
    Some(match VirtualPath::new(path) {
        Ok(path) => Ok((account, path)),
        Err(_) => Err(account),
    })
}

#[cfg(test)]
mod tests;
