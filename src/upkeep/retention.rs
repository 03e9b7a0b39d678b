//! Removes what has been kept for long enough: originals, sidecars, rows, each by its age since the
//! job's end, for all accounts or for one. "Keep the text, not the image" is an age of nothing for originals.
//!
//! Nothing goes before its job has ended and every mail about it has left or bounced. A file that its
//! client has changed meanwhile is not ours to remove. Without an age at all, originals of jobs that could
//! not be read stay: somebody must look at them. Files go first, then the note in the row, so that a crash
//! in between is a round that is done again. Bytes in the spool go only where no other job, no open mail
//! and nobody who is just being taken in wants them.

use super::{Quiet, UpkeepError};
use crate::account::{Account, AccountName};
use crate::accounts::Accounts;
use crate::crashpoint;
use crate::intake::Intake;
use crate::job::SpoolKey;
use crate::queue::keeping::{Kept, Part};
use crate::queue::sqlite::{SqliteLedger, SqliteQueue};
use crate::sidecar::names;
use crate::spool::Spool;
use crate::units::{self, Timestamp};
use std::collections::HashMap;
use std::future::Future;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// How long what belongs to an ended job is kept; `None` is for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ages {
    pub originals: Option<Duration>,
    pub sidecars: Option<Duration>,
    pub jobs: Option<Duration>,
}

impl Ages {
    /// What the account says itself, else what is said for all.
    #[must_use]
    pub fn of(self, account: &Account) -> Self {
        let or = |own: Option<units::Retention>, all| own.map_or(all, units::Retention::age);
        Ages {
            originals: or(account.keep_originals, self.originals),
            sidecars: or(account.keep_sidecars, self.sidecars),
            jobs: or(account.keep_jobs, self.jobs),
        }
    }
}

/// Bytes that somebody kept within this time are left: far longer than an upload or a mail takes from the
/// spool to its row.
const MARGIN: Duration = Duration::from_secs(600);
/// From one round to the next.
const ROUND: Duration = Duration::from_secs(60);
/// In a test that has no minute.
const HURRIED_ROUND: Duration = Duration::from_millis(300);
/// A sidecar is written before its job's end; clocks and file systems are not that exact.
const AFTER_THE_END: Duration = Duration::from_secs(2);

/// What a round removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Removed {
    pub originals: usize,
    pub sidecars: usize,
    pub jobs: usize,
}

/// The rounds.
#[derive(Debug)]
pub struct Retention {
    ages: Ages,
    margin: Duration,
    database: PathBuf,
    queue: SqliteQueue,
    ledger: SqliteLedger,
    spool: Spool,
    intake: Intake,
    accounts: Accounts,
}

impl Retention {
    /// `ages` is for accounts that do not say it themselves, and for those that are gone.
    #[must_use]
    pub fn new(
        ages: Ages,
        database: PathBuf,
        queue: SqliteQueue,
        ledger: SqliteLedger,
        spool: Spool,
        intake: Intake,
        accounts: Accounts,
    ) -> Self {
        let margin = if crashpoint::hurry() { Duration::ZERO } else { MARGIN };
        Retention { ages, margin, database, queue, ledger, spool, intake, accounts }
    }

    /// A round a minute until `shutdown`.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => return,
                () = tokio::time::sleep(if crashpoint::hurry() { HURRIED_ROUND } else { ROUND }) => {}
            }
            tokio::select! {
                // Whatever is half done, the next round does.
                () = &mut shutdown => return,
                round = self.round(Timestamp::from_system(SystemTime::now())) => match round {
                    Ok(removed) if removed == Removed::default() => {}
                    Ok(Removed { originals, sidecars, jobs }) => {
                        tracing::info!(originals, sidecars, jobs, "retention removed what was old enough");
                    }
                    Err(error) => tracing::warn!(%error, "retention has to wait"),
                },
            }
        }
    }

    /// Removes what is old enough at `now`. Does nothing while a backup or a check is under way.
    pub async fn round(&self, now: Timestamp) -> Result<Removed, UpkeepError> {
        let database = self.database.clone();
        let Some(_quiet) = self.blocking(move |_| Quiet::alone(&database)).await? else { return Ok(Removed::default()) };
        let mut removed = Removed::default();
        for (account, ages) in self.of_each_account().await? {
            // A sidecar whose name is one only beside its file must go before that file does.
            if let Some(age) = ages.sidecars {
                removed.sidecars += self.walk(&account, Part::Sidecars, age, now).await?;
            }
            if let Some(age) = ages.originals {
                removed.originals += self.walk(&account, Part::Original, age, now).await?;
            }
            if let Some(age) = ages.jobs {
                removed.jobs += self.walk(&account, Part::Row, age, now).await?;
            }
        }
        if removed.jobs > 0 {
            self.queue.shrink().await?;
        }
        Ok(removed)
    }

    /// Of whom anything may go.
    async fn of_each_account(&self) -> Result<Vec<(AccountName, Ages)>, UpkeepError> {
        let (all, accounts) = (self.ages, self.accounts.clone());
        self.blocking(move |(ledger, _)| {
            let own: HashMap<AccountName, Ages> = accounts
                .list()?
                .into_iter()
                .map(|account| (account.name.clone(), all.of(&account)))
                .filter(|(_, ages)| *ages != all)
                .collect();
            if own.is_empty() && all == Ages::default() {
                return Ok(Vec::new());
            }
            let known = ledger.accounts()?.into_iter();
            Ok(known
                .map(|account| {
                    let ages = own.get(&account).copied().unwrap_or(all);
                    (account, ages)
                })
                .collect())
        })
        .await
    }

    async fn walk(&self, account: &AccountName, part: Part, age: Duration, now: Timestamp) -> Result<usize, UpkeepError> {
        let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        let (before, only_done) = (Timestamp(now.0.saturating_sub(age)), age == 0);
        let (mut after, mut count) = (None, 0);
        loop {
            let (from, account) = (after.clone(), account.clone());
            let page = self.blocking(move |this| Ok(this.0.ended(&account, part, before, only_done, from.as_ref())?)).await?;
            let Some(last) = page.last() else { return Ok(count) };
            after = Some(last.clone());
            let mut gone = Vec::new();
            for kept in &page {
                let done = match part {
                    Part::Original => self.original(kept).await?,
                    Part::Sidecars => self.sidecars(kept).await?,
                    Part::Row => self.row(kept).await?,
                };
                if done {
                    gone.push(kept.job.id);
                }
            }
            count += gone.len();
            self.queue.removed(part, gone, now).await?;
            crashpoint::here("retention-noted");
        }
    }

    /// False if not yet.
    async fn original(&self, kept: &Kept) -> Result<bool, UpkeepError> {
        let job = &kept.job;
        // `letter.txt` is a sidecar only as long as `letter` lies beside it.
        if !names::has_document_extension(job.path.file_name()) && !kept.sidecars_removed {
            return Ok(false);
        }
        // The spool's first: its age is read off the inode, which the home's name shares.
        if !self.bytes(job.spool, Some(job.id)).await? {
            return Ok(false);
        }
        crashpoint::here("retention-bytes");
        let known = kept.clone();
        self.intake.remove_original(&job.account, &job.path, move |found| known.is_of(found)).await?;
        crashpoint::here("retention-file");
        Ok(true)
    }

    async fn sidecars(&self, kept: &Kept) -> Result<bool, UpkeepError> {
        let job = &kept.job;
        if kept.is_newest {
            let ended = job.finished_at.unwrap_or(job.received_at).after(AFTER_THE_END);
            self.intake.remove_sidecars(&job.account, &job.path, ended).await?;
            crashpoint::here("retention-sidecars");
        }
        self.attachments(kept).await
    }

    async fn row(&self, kept: &Kept) -> Result<bool, UpkeepError> {
        self.attachments(kept).await
    }

    /// What went with its mails.
    async fn attachments(&self, kept: &Kept) -> Result<bool, UpkeepError> {
        let mut gone = true;
        for (_, key) in &kept.attachments {
            gone &= self.bytes(*key, None).await?;
        }
        Ok(gone)
    }

    /// Removes bytes from the spool that nobody else wants. False if they are too young to tell.
    async fn bytes(&self, key: SpoolKey, of: Option<crate::job::JobId>) -> Result<bool, UpkeepError> {
        let margin = self.margin;
        self.blocking(move |(ledger, spool)| {
            if ledger.wants(&key, of)? {
                return Ok(true);
            }
            Ok(spool.remove(&key, margin)?)
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&(SqliteLedger, Spool)) -> Result<T, UpkeepError> + Send + 'static,
    ) -> Result<T, UpkeepError> {
        let rooms = (self.ledger.clone(), self.spool.clone());
        tokio::task::spawn_blocking(move || work(&rooms))
            .await
            .unwrap_or_else(|panic| Err(UpkeepError::Panicked(panic.to_string())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{Account, VirtualPath};
    use crate::homes::Homes;
    use crate::intake::{Accepted, Limits, Upload};
    use crate::job::delivery::Attempt;
    use crate::job::state::RetryPolicy;
    use crate::job::{Door, JobId};
    use crate::queue::{JobLedger as _, NewDelivery, Outcome, Queue as _};
    use std::fs;
    use std::io::Write as _;

    const DAY: Duration = Duration::from_secs(86_400);

    struct House {
        dir: tempfile::TempDir,
        retention: Retention,
        end: Timestamp,
        account: &'static str,
    }

    fn house(ages: Ages) -> House {
        let dir = tempfile::tempdir().unwrap();
        let homes = Homes::open(&dir.path().join("homes")).unwrap();
        homes.ensure(&"alice".parse().unwrap()).unwrap();
        let database = dir.path().join("inkport.db");
        let queue = SqliteQueue::open(&database, RetryPolicy { attempts: 1, backoff: Duration::ZERO }).unwrap();
        let ledger = SqliteLedger::open(&database).unwrap();
        let spool = Spool::open(&dir.path().join("spool")).unwrap();
        let intake = Intake::new(spool.clone(), homes, queue.clone(), Limits { max_upload: 1000, min_free_space: 0 });
        let accounts = Accounts::sqlite(&database).unwrap();
        let retention =
            Retention { margin: Duration::ZERO, ..Retention::new(ages, database, queue, ledger, spool, intake, accounts) };
        // Later than anything that a test receives.
        let end = Timestamp::from_system(SystemTime::now()).after(Duration::from_secs(60));
        House { dir, retention, end, account: "alice" }
    }

    impl House {
        async fn upload(&self, name: &str, bytes: &[u8]) -> JobId {
            let mut staging = self.retention.intake.begin().unwrap();
            staging.write_all(bytes).unwrap();
            let path = VirtualPath::new(name).unwrap();
            let account = Account::new(self.account.parse().unwrap());
            let room = self.retention.intake.room(&account, Some(&path)).unwrap();
            let upload = Upload { account: account.name, path, staged: staging.finish().unwrap(), door: Door::Ftp, room };
            match self.retention.intake.accept(upload).await.unwrap() {
                Accepted::Job(id) => id,
                other => panic!("{other:?}"),
            }
        }

        /// A job that ends like this, its `.txt` beside it, with a mail that attaches it where `mail`.
        async fn ended(&self, name: &str, bytes: &[u8], outcome: Outcome, mail: bool) -> JobId {
            let id = self.upload(name, bytes).await;
            fs::write(self.file(&format!("{name}.txt")), "text\n").unwrap();
            let staged = self.retention.spool.stage_bytes(format!("text of {name}\n").as_bytes()).unwrap();
            let key = self.retention.spool.keep(&staged).unwrap();
            let delivery = NewDelivery { to: "a@example.com".into(), attachments: vec![("t.txt".into(), key)] };
            let lease = self.retention.queue.claim(DAY, self.end).await.unwrap().unwrap();
            assert_eq!(lease.job.id, id);
            let deliveries = if mail { vec![delivery] } else { Vec::new() };
            self.retention.queue.settle(id, lease.token, outcome, deliveries, self.end).await.unwrap();
            id
        }

        fn file(&self, name: &str) -> PathBuf {
            self.dir.path().join("homes").join(self.account).join(name)
        }

        fn there(&self, names: &[&str]) -> Vec<bool> {
            names.iter().map(|name| self.file(name).exists()).collect()
        }

        fn spooled(&self) -> usize {
            let mut kept = 0;
            self.retention.spool.walk(&mut |_| kept += 1, &mut |_| {}).unwrap();
            kept
        }

        async fn round(&self, after: Duration) -> (usize, usize, usize) {
            let Removed { originals, sidecars, jobs } = self.retention.round(self.end.after(after)).await.unwrap();
            (originals, sidecars, jobs)
        }
    }

    #[tokio::test]
    async fn the_text_is_kept_and_the_image_is_not() {
        let house = house(Ages { originals: Some(Duration::ZERO), ..Ages::default() });
        house.ended("a.jpg", b"one", Outcome::Done, false).await;
        let rejected = Outcome::Rejected { code: "damaged".into(), message: "it is".into() };
        house.ended("bad.jpg", b"two", rejected, false).await;
        house.ended("letter", b"three", Outcome::Done, false).await;
        let waiting = house.upload("waiting.jpg", b"four").await;
        assert_eq!(house.round(Duration::ZERO).await, (1, 0, 0));
        assert_eq!(house.there(&["a.jpg", "a.jpg.txt", "bad.jpg", "letter", "waiting.jpg"]), [false, true, true, true, true]);
        // Done once, and the row tells what it told.
        assert_eq!(house.round(DAY * 1000).await, (0, 0, 0));
        assert_eq!(house.retention.ledger.counts().unwrap().done, 2);
        assert!(house.retention.ledger.show(waiting).unwrap().is_some());
    }

    /// One keeps the text and not the image, one keeps everything, one is gone, one has nothing of its own.
    #[tokio::test]
    async fn accounts_have_ages_of_their_own() {
        let mut house = house(Ages { originals: Some(DAY * 2), sidecars: None, jobs: Some(DAY * 3) });
        let accounts = house.retention.accounts.clone();
        let add = |name: &str, set: &dyn Fn(&mut Account)| {
            let mut account = Account::new(name.parse().unwrap());
            set(&mut account);
            accounts.add(&account).unwrap();
        };
        let age = |age: Duration| Some(units::Retention::For(age));
        add("alice", &|_| {});
        add("text", &|account| account.keep_originals = age(Duration::ZERO));
        add("short", &|account| (account.keep_sidecars, account.keep_jobs) = (age(DAY), age(DAY)));
        add("all", &|account| {
            (account.keep_originals, account.keep_jobs) = (Some(units::Retention::Keep), Some(units::Retention::Keep))
        });
        let names = ["alice", "text", "short", "all", "gone"];
        for name in names {
            house.account = name;
            fs::create_dir_all(house.dir.path().join("homes").join(name)).unwrap();
            house.ended("a.jpg", name.as_bytes(), Outcome::Done, false).await;
        }
        let there = |house: &mut House| {
            names.map(|name| {
                house.account = name;
                let found = house.there(&["a.jpg", "a.jpg.txt"]);
                (found[0], found[1])
            })
        };
        let jobs = |house: &House| house.retention.ledger.counts().unwrap().done;
        assert_eq!(house.round(Duration::ZERO).await, (1, 0, 0));
        assert_eq!(there(&mut house), [(true, true), (false, true), (true, true), (true, true), (true, true)]);
        assert_eq!(house.round(DAY).await, (0, 1, 0), "its row waits for its original");
        assert_eq!(there(&mut house)[2], (true, false));
        assert_eq!(house.round(DAY * 2).await, (3, 0, 1));
        assert_eq!(house.round(DAY * 3).await, (0, 0, 3));
        assert_eq!(there(&mut house), [(false, true), (false, true), (false, false), (true, true), (false, true)]);
        assert_eq!((house.round(DAY * 1000).await, jobs(&house)), ((0, 0, 0), 1));
    }

    #[tokio::test]
    async fn nothing_goes_before_its_mail_has_left() {
        let house = house(Ages { originals: Some(DAY), sidecars: Some(DAY * 2), ..Ages::default() });
        house.ended("a.jpg", b"one", Outcome::Done, true).await;
        assert_eq!(house.round(DAY * 9).await, (0, 0, 0));
        let delivery = house.retention.queue.claim_delivery(house.end).await.unwrap().unwrap();
        house.retention.queue.settle_delivery(delivery.id, Attempt::Sent, house.end).await.unwrap();
        assert_eq!(house.round(DAY - Duration::from_secs(1)).await, (0, 0, 0));
        assert_eq!(house.round(DAY).await, (1, 0, 0));
        let spooled = house.spooled();
        assert_eq!(house.round(DAY * 2).await, (0, 1, 0));
        assert_eq!((house.there(&["a.jpg.txt"]), spooled - house.spooled()), (vec![false], 1), "the attachment went too");
    }

    #[tokio::test]
    async fn what_the_client_changed_is_not_ours() {
        let house = house(Ages { originals: Some(DAY), sidecars: Some(DAY), ..Ages::default() });
        house.ended("a.jpg", b"one", Outcome::Done, false).await;
        let newer = fs::File::create(house.file("a.jpg.txt")).unwrap();
        newer.set_modified(SystemTime::now() + DAY).unwrap();
        fs::write(house.dir.path().join("new"), b"the client's own").unwrap();
        fs::rename(house.dir.path().join("new"), house.file("a.jpg")).unwrap();
        house.ended("b.jpg", b"two", Outcome::Done, false).await;
        house.upload("b.jpg", b"the next page").await;
        fs::write(house.file("b.jpg.txt"), "the next page's\n").unwrap();
        house.round(DAY * 2).await;
        assert_eq!(house.there(&["a.jpg", "a.jpg.txt", "b.jpg", "b.jpg.txt"]), [true; 4]);
    }

    #[tokio::test]
    async fn bytes_that_another_job_wants_stay() {
        let house = house(Ages { originals: Some(DAY), ..Ages::default() });
        house.ended("a.jpg", b"same", Outcome::Done, false).await;
        let waiting = house.upload("b.jpg", b"same").await;
        assert_eq!(house.round(DAY).await, (1, 0, 0));
        let job = house.retention.ledger.show(waiting).unwrap().unwrap().0;
        assert_eq!(house.retention.spool.read(&job.spool).unwrap(), b"same");
        assert_eq!(house.there(&["a.jpg", "b.jpg"]), [false, true]);
    }

    #[tokio::test]
    async fn bytes_that_were_just_kept_stay_for_a_while() {
        let mut house = house(Ages { originals: Some(DAY), ..Ages::default() });
        house.retention.margin = MARGIN;
        house.ended("a.jpg", b"one", Outcome::Done, false).await;
        assert_eq!(house.round(DAY).await, (0, 0, 0), "by the spool's clock it was kept this very second");
        assert_eq!(house.there(&["a.jpg"]), [true]);
    }

    #[tokio::test]
    async fn rows_go_last_and_the_database_shrinks() {
        let house = house(Ages { originals: Some(DAY), sidecars: None, jobs: Some(DAY * 2) });
        for number in 0..300 {
            house.ended(&format!("{number}.jpg"), number.to_string().as_bytes(), Outcome::Done, false).await;
        }
        assert_eq!(house.round(DAY).await, (300, 0, 0));
        let pages = || {
            let connection = rusqlite::Connection::open(house.dir.path().join("inkport.db")).unwrap();
            connection.pragma_query_value(None, "page_count", |row| row.get::<_, i64>(0)).unwrap()
        };
        let before = pages();
        assert_eq!(house.round(DAY * 2).await, (0, 0, 300));
        assert!(pages() < before, "{before} pages are {} now", pages());
        assert_eq!(house.retention.ledger.counts().unwrap().done, 0);
        assert!(house.there(&["7.jpg", "7.jpg.txt"]) == [false, true], "sidecars are kept");
    }

    #[tokio::test]
    async fn a_backup_holds_it_up() {
        let house = house(Ages { originals: Some(DAY), ..Ages::default() });
        house.ended("a.jpg", b"one", Outcome::Done, false).await;
        let quiet = Quiet::wait(&house.retention.database).unwrap();
        assert_eq!(house.round(DAY).await, (0, 0, 0));
        drop(quiet);
        assert_eq!(house.round(DAY).await, (1, 0, 0));
    }
}
