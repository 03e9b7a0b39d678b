//! What every keeper of jobs holds, whatever it is built on: one suite over the two traits. A new
//! backend implements [`Backend`] and adds a line at the end of this file.

use super::*;
use crate::job::state::{MAX_INTERRUPTIONS, RetryPolicy, State};
use std::collections::HashSet;

const LEASE: Duration = Duration::from_secs(60);
const T0: Timestamp = Timestamp(1_800_000_000_000);
const POLICY: RetryPolicy = RetryPolicy { attempts: 2, backoff: Duration::from_secs(10) };

/// A place where a queue is kept, which outlives the queue.
trait Backend: Default {
    type Queue: Queue;
    type Ledger: JobLedger;
    /// Opens the queue; what an earlier one committed is there, and what it ran is queued again. An account's
    /// mail goes to that name at example.org.
    fn queue(&self) -> Self::Queue;
    fn ledger(&self) -> Self::Ledger;
}

fn alice() -> AccountName {
    "alice".parse().unwrap()
}

fn at(path: &str) -> VirtualPath {
    VirtualPath::new(path).unwrap()
}

/// The `number`-th job, as `intake` would hand it over.
fn job(number: u64, path: &str) -> NewJob {
    NewJob {
        id: JobId(ulid::Ulid::from_parts(1_800_000_000_000 + number, u128::from(number))),
        account: alice(),
        path: at(path),
        spool: SpoolKey([u8::try_from(number % 256).unwrap(); 32]),
        bytes: number,
        identity: FileIdentity { inode: u64::MAX - number, modified_ns: i128::from(number) * 1_000_000_007, bytes: number },
        door: Door::Ftp,
        received_at: T0,
    }
}

fn mail(to: &str) -> NewDelivery {
    NewDelivery { to: to.to_owned(), attachments: vec![("scan.jpg.txt".to_owned(), SpoolKey([9; 32]))] }
}

async fn claimed(queue: &impl Queue, now: Timestamp) -> Lease {
    queue.claim(LEASE, now).await.unwrap().expect("a job is due")
}

async fn a_reading_is_found_once_its_job_is_done<B: Backend>() {
    let backend = B::default();
    let (queue, ledger) = (backend.queue(), backend.ledger());
    let (first, second) = (job(1, "/a.jpg"), NewJob { spool: job(1, "/a.jpg").spool, ..job(2, "/b.jpg") });
    for new in [&first, &second] {
        queue.enqueue(new.clone()).await.unwrap();
    }
    let kept = |account: &str, spool, recipe: &str| ledger.reading(&account.parse().unwrap(), &spool, recipe).unwrap();
    for (new, reading) in [(&first, b"one"), (&second, b"two")] {
        let lease = claimed(&queue, T0).await;
        queue.keep_reading(new.id, "recipe".into(), b"an earlier run's".to_vec()).await.unwrap();
        queue.keep_reading(new.id, "recipe".into(), reading.to_vec()).await.unwrap();
        if new.id == first.id {
            assert_eq!(kept("alice", new.spool, "recipe"), None, "its job may still fail");
        }
        queue.settle(new.id, lease.token, Outcome::Done, Vec::new(), T0).await.unwrap();
        assert_eq!(kept("alice", new.spool, "recipe"), Some((first.id, b"one".to_vec())));
    }
    for (account, spool, recipe) in
        [("bob", first.spool, "recipe"), ("alice", SpoolKey([77; 32]), "recipe"), ("alice", first.spool, "another")]
    {
        assert_eq!(kept(account, spool, recipe), None);
    }
    queue.keep_reading(job(9, "/none").id, "recipe".into(), Vec::new()).await.unwrap();
}

async fn a_job_is_claimed_and_settled<B: Backend>() {
    let backend = B::default();
    let (queue, ledger) = (backend.queue(), backend.ledger());
    let new = job(1, "/in/scan.jpg");
    assert_eq!(queue.enqueue(new.clone()).await.unwrap(), new.id);
    let lease = claimed(&queue, T0).await;
    assert_eq!((lease.job.id, &lease.job.path, lease.job.spool, lease.job.bytes), (new.id, &new.path, new.spool, 1));
    assert_eq!((lease.job.attempt, lease.job.door, lease.until), (1, Door::Ftp, T0.after(LEASE)));
    assert_eq!(queue.claim(LEASE, T0).await.unwrap(), None, "nobody else gets it");

    let later = T0.after(Duration::from_secs(5));
    let settled = queue.settle(new.id, lease.token, Outcome::Done, Vec::new(), later).await.unwrap();
    assert_eq!((&settled.state, settled.finished_at, &settled.error), (&State::Done, Some(later), &None));
    assert_eq!(ledger.show(new.id).unwrap(), Some((settled, Vec::new())));
    assert_eq!(queue.claim(LEASE, later).await.unwrap(), None);
}

async fn concurrent_claims_never_share_a_job<B: Backend>() {
    let backend = B::default();
    let queue = backend.queue();
    for number in 0..40 {
        queue.enqueue(job(number, &format!("/{number}"))).await.unwrap();
    }
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let queue = queue.clone();
        workers.spawn(async move {
            let mut mine = Vec::new();
            while let Some(lease) = queue.claim(LEASE, T0).await.unwrap() {
                mine.push(lease.job.id);
            }
            mine
        });
    }
    let all: Vec<JobId> = workers.join_all().await.concat();
    assert_eq!((all.len(), all.iter().collect::<HashSet<_>>().len()), (40, 40));
}

async fn jobs_of_one_path_run_one_after_the_other<B: Backend>() {
    let backend = B::default();
    let queue = backend.queue();
    for (number, path) in [(1, "/same"), (2, "/same"), (3, "/other")] {
        queue.enqueue(job(number, path)).await.unwrap();
    }
    let mut foreign = job(4, "/same");
    foreign.account = "bob".parse().unwrap();
    queue.enqueue(foreign).await.unwrap();
    let first = claimed(&queue, T0).await;
    assert_eq!(first.job.bytes, 1);
    assert_eq!(claimed(&queue, T0).await.job.bytes, 4, "another account's does not wait");
    assert_eq!(claimed(&queue, T0).await.job.bytes, 3, "the second one of the path does");
    assert_eq!(queue.claim(LEASE, T0).await.unwrap(), None);
    // Not even while the first one waits for its second attempt.
    queue.settle(first.job.id, first.token, Outcome::Failed { reason: "x".into() }, vec![], T0).await.unwrap();
    assert_eq!(queue.claim(LEASE, T0).await.unwrap(), None);
    let soon = T0.after(Duration::from_secs(15));
    let again = claimed(&queue, soon).await;
    assert_eq!((again.job.bytes, again.job.attempt), (1, 2));
    queue.settle(again.job.id, again.token, Outcome::Done, vec![], soon).await.unwrap();
    assert_eq!(claimed(&queue, soon).await.job.bytes, 2);
}

/// One that sends ten thousand does not starve one that sends one, nor does a high priority a low one.
async fn accounts_take_turns<B: Backend>() {
    let backend = B::default();
    let queue = backend.queue();
    let of = |name: &str, number: u64| NewJob { account: name.parse().unwrap(), ..job(number, &format!("/{number}")) };
    for number in 0..200 {
        queue.enqueue(of("flood", number)).await.unwrap();
    }
    let served = async || claimed(&queue, T0).await.job.account.as_str().to_owned();
    for _ in 0..20 {
        assert_eq!(served().await, "flood");
    }
    // Silence saves nothing up, and waiting is for one job at most.
    for number in 200..203 {
        queue.enqueue(of("single", number)).await.unwrap();
    }
    let mut turns = Vec::new();
    for _ in 0..8 {
        turns.push(served().await);
    }
    turns[..2].sort();
    turns[2..4].sort();
    turns[4..6].sort();
    assert_eq!(turns, ["flood", "single", "flood", "single", "flood", "single", "flood", "flood"]);
    // High has four for each of normal, normal four for each of low.
    for name in ["high", "low", "normal"] {
        for number in 0..150 {
            queue.enqueue(of(name, 1000 + number + 1000 * u64::from(name.as_bytes()[0]))).await.unwrap();
        }
    }
    queue.prioritize("high".parse().unwrap(), Priority::High).await.unwrap();
    queue.prioritize("low".parse().unwrap(), Priority::Low).await.unwrap();
    let (mut high, mut normal, mut low) = (0, 0, 0);
    for _ in 0..150 {
        match served().await.as_str() {
            "high" => high += 1,
            "low" => low += 1,
            "normal" => normal += 1,
            _ => {}
        }
    }
    assert!((90..=105).contains(&high) && (20..=28).contains(&normal) && (5..=8).contains(&low), "{high} {normal} {low}");
    // The turns outlive the daemon: nobody begins before the others.
    drop(queue);
    let queue = backend.queue();
    let now = Timestamp::from_system(std::time::SystemTime::now()).max(T0);
    queue.enqueue(of("late", 900_000)).await.unwrap();
    let mut late = 0;
    for _ in 0..10 {
        late += usize::from(claimed(&queue, now).await.job.account.as_str() == "late");
    }
    assert_eq!(late, 1);
}

async fn what_waits_for_its_second_attempt_holds_nobody_up<B: Backend>() {
    let backend = B::default();
    let queue = backend.queue();
    for number in 0..3 {
        queue.enqueue(job(number, &format!("/{number}"))).await.unwrap();
    }
    let failed = claimed(&queue, T0).await;
    queue.settle(failed.job.id, failed.token, Outcome::Failed { reason: "x".into() }, vec![], T0).await.unwrap();
    assert_eq!((claimed(&queue, T0).await.job.bytes, claimed(&queue, T0).await.job.bytes), (1, 2));
    assert_eq!(queue.claim(LEASE, T0).await.unwrap(), None);
    assert_eq!(queue.claim(LEASE, T0.after(POLICY.backoff * 99 / 100)).await.unwrap(), None, "not before its time");
    assert_eq!(claimed(&queue, T0.after(POLICY.backoff * 5 / 4)).await.job.bytes, 0, "nor later than its jitter");
}

async fn a_late_holder_changes_nothing<B: Backend>() {
    let backend = B::default();
    let (queue, ledger) = (backend.queue(), backend.ledger());
    queue.enqueue(job(1, "/a")).await.unwrap();
    let late = claimed(&queue, T0).await;
    let expired = T0.after(LEASE);
    assert_eq!(queue.claim(LEASE, expired).await.unwrap(), None, "it backs off first");
    let (seen, _) = ledger.show(late.job.id).unwrap().unwrap();
    assert_eq!((seen.state.name(), seen.error.as_deref()), ("queued", Some("the worker stopped answering")));
    let after_backoff = expired.after(Duration::from_secs(60));
    let holder = claimed(&queue, after_backoff).await;
    assert!(holder.token > late.token);
    for outcome in [Outcome::Done, Outcome::Released, Outcome::Failed { reason: "x".into() }] {
        let refused = queue.settle(late.job.id, late.token, outcome, vec![mail("a@b")], after_backoff).await;
        assert!(matches!(refused, Err(QueueError::Stale)));
    }
    assert!(matches!(queue.extend(late.job.id, late.token, LEASE, after_backoff).await, Err(QueueError::Stale)));
    let settled = queue.settle(holder.job.id, holder.token, Outcome::Done, vec![], after_backoff).await.unwrap();
    assert_eq!(ledger.show(settled.id).unwrap(), Some((settled, vec![])), "and no mail of the late one");
    let unknown = JobId(ulid::Ulid::nil());
    assert!(matches!(queue.settle(unknown, 1, Outcome::Done, vec![], T0).await, Err(QueueError::Stale)));
}

async fn an_extended_lease_is_kept<B: Backend>() {
    let backend = B::default();
    let queue = backend.queue();
    queue.enqueue(job(1, "/a")).await.unwrap();
    let lease = claimed(&queue, T0).await;
    let half = T0.after(LEASE / 2);
    queue.extend(lease.job.id, lease.token, LEASE, half).await.unwrap();
    assert_eq!(queue.claim(LEASE, T0.after(LEASE)).await.unwrap(), None);
    queue.settle(lease.job.id, lease.token, Outcome::Done, vec![], T0.after(LEASE)).await.unwrap();
}

async fn attempts_end_dead_and_an_operator_may_retry<B: Backend>() {
    let backend = B::default();
    let (queue, ledger) = (backend.queue(), backend.ledger());
    for number in [1, 2] {
        queue.enqueue(job(number, &format!("/{number}"))).await.unwrap();
    }
    let mut now = T0;
    for _ in 0..4 {
        let lease = claimed(&queue, now).await;
        let reason = "x".repeat(5000);
        queue.settle(lease.job.id, lease.token, Outcome::Failed { reason }, vec![mail("a@b")], now).await.unwrap();
        now = now.after(Duration::from_secs(60));
    }
    assert_eq!(queue.claim(LEASE, now).await.unwrap(), None);
    assert_eq!(ledger.counts().unwrap(), Counts { dead: 2, ..Counts::default() });
    let (dead, deliveries) = ledger.show(job(1, "/x").id).unwrap().unwrap();
    assert!(matches!(&dead.state, State::Dead { reason } if reason.len() <= 2000), "kept short");
    assert_eq!((deliveries.len(), dead.error.unwrap().len()), (1, 2000), "mail for the end, not for the failed attempt");
    assert_eq!(queue.retry(Some(dead.id), now).await.unwrap(), 1);
    assert_eq!(queue.retry(Some(dead.id), now).await.unwrap(), 0, "it is queued already");
    assert_eq!(queue.retry(None, now).await.unwrap(), 1, "all the other dead ones");
    let lease = claimed(&queue, now).await;
    assert_eq!((lease.job.attempt, lease.job.finished_at), (1, None));
    queue
        .settle(lease.job.id, lease.token, Outcome::Rejected { code: "damaged".into(), message: "no end".into() }, vec![], now)
        .await
        .unwrap();
    let (rejected, _) = ledger.show(lease.job.id).unwrap().unwrap();
    assert_eq!((rejected.state, rejected.error.as_deref()), (State::Rejected { code: "damaged".into() }, Some("no end")));
    assert_eq!(queue.retry(Some(lease.job.id), now).await.unwrap(), 1, "a rejected one by name");
}

async fn a_released_job_is_unharmed<B: Backend>() {
    let backend = B::default();
    let queue = backend.queue();
    queue.enqueue(job(1, "/a")).await.unwrap();
    for _ in 0..5 {
        let lease = claimed(&queue, T0).await;
        assert_eq!(lease.job.attempt, 1);
        let job = queue.settle(lease.job.id, lease.token, Outcome::Released, vec![mail("a@b")], T0).await.unwrap();
        assert_eq!((job.state, job.error), (State::Queued { due: T0 }, None));
    }
    assert_eq!(queue.claim_delivery(T0).await.unwrap(), None, "its mail waits for its end");
}

async fn what_was_committed_survives_and_running_jobs_come_back<B: Backend>() {
    let backend = B::default();
    let queue = backend.queue();
    for number in 1..=3 {
        queue.enqueue(job(number, &format!("/{number}"))).await.unwrap();
    }
    let done = claimed(&queue, T0).await;
    queue.settle(done.job.id, done.token, Outcome::Done, vec![mail("a@b")], T0).await.unwrap();
    let interrupted = claimed(&queue, T0).await;
    drop(queue);

    let queue = backend.queue();
    let now = Timestamp::from_system(std::time::SystemTime::now()).max(T0);
    assert_eq!(backend.ledger().counts().unwrap(), Counts { queued: 2, done: 1, ..Counts::default() });
    let first = claimed(&queue, now).await;
    assert_eq!(first.job.bytes, 3, "the interrupted one is handed out last");
    let second = claimed(&queue, now).await;
    assert_eq!((second.job.id, second.job.attempt), (interrupted.job.id, 1), "the interruption cost no attempt");
    assert!(second.token > interrupted.token);
    let late = queue.settle(interrupted.job.id, interrupted.token, Outcome::Done, vec![], now).await;
    assert!(matches!(late, Err(QueueError::Stale)));
    assert_eq!(queue.claim_delivery(now).await.unwrap().map(|delivery| delivery.to), Some("a@b".to_owned()));
}

async fn a_job_that_takes_the_daemon_along_ends_dead<B: Backend>() {
    let backend = B::default();
    let new = job(1, "/bomb");
    backend.queue().enqueue(new.clone()).await.unwrap();
    let now = Timestamp::from_system(std::time::SystemTime::now()).after(LEASE).max(T0);
    for _ in 0..MAX_INTERRUPTIONS {
        claimed(&backend.queue(), now).await;
    }
    let queue = backend.queue();
    assert_eq!(queue.claim(LEASE, now).await.unwrap(), None);
    let (dead, deliveries) = backend.ledger().show(new.id).unwrap().unwrap();
    assert!(matches!(dead.state, State::Dead { .. }) && dead.error.is_some() && dead.finished_at.is_some());
    assert_eq!(deliveries.iter().map(|mail| mail.to.as_str()).collect::<Vec<_>>(), ["alice@example.org"]);
}

async fn a_job_that_its_workers_never_come_back_from_is_told_of<B: Backend>() {
    let backend = B::default();
    let (queue, ledger) = (backend.queue(), backend.ledger());
    queue.enqueue(job(1, "/hole")).await.unwrap();
    let mut now = T0;
    for attempt in 1..=POLICY.attempts {
        let lease = claimed(&queue, now).await;
        assert_eq!((lease.job.attempt, ledger.show(lease.job.id).unwrap().unwrap().1.len()), (attempt, 0));
        now = lease.until.after(Duration::from_secs(60));
        assert_eq!(queue.claim(LEASE, lease.until).await.unwrap(), None);
    }
    let (dead, deliveries) = ledger.show(job(1, "/x").id).unwrap().unwrap();
    assert!(matches!(dead.state, State::Dead { .. }) && dead.error.is_some(), "{dead:?}");
    assert_eq!((deliveries.len(), deliveries[0].to.as_str()), (1, "alice@example.org"));
    let mail = queue.claim_delivery(now).await.unwrap().expect("it is due");
    assert_eq!((mail.job.id, mail.job.state), (dead.id, dead.state));
    assert_eq!(queue.claim(LEASE, now).await.unwrap(), None, "and it is told once");
    assert_eq!(ledger.show(dead.id).unwrap().unwrap().1.len(), 1);
}

async fn one_file_is_one_job<B: Backend>() {
    let backend = B::default();
    let (queue, ledger) = (backend.queue(), backend.ledger());
    let first = job(1, "/a");
    queue.enqueue(first.clone()).await.unwrap();
    let mut again = job(2, "/renamed");
    again.identity = first.identity;
    assert_eq!(queue.enqueue_unless_known(again.clone()).await.unwrap(), Err(first.id));
    assert_eq!(ledger.known(&alice(), &first.identity).unwrap(), Some(first.id));
    // Another account's file, or other bytes in the same file, are new.
    again.account = "bob".parse().unwrap();
    assert_eq!(queue.enqueue_unless_known(again.clone()).await.unwrap(), Ok(again.id));
    let mut changed = job(3, "/a");
    changed.identity = FileIdentity { modified_ns: first.identity.modified_ns + 1, ..first.identity };
    assert_eq!(ledger.known(&alice(), &changed.identity).unwrap(), None);
    assert_eq!(queue.enqueue_unless_known(changed.clone()).await.unwrap(), Ok(changed.id));
    // Seen by many at once, still one.
    let mut sights = tokio::task::JoinSet::new();
    for number in 10..30 {
        let (queue, mut sight) = (queue.clone(), job(number, "/seen"));
        sight.identity = job(10, "/x").identity;
        sights.spawn(async move { queue.enqueue_unless_known(sight).await.unwrap().is_ok() });
    }
    assert_eq!(sights.join_all().await.into_iter().filter(|new| *new).count(), 1);
}

async fn a_file_with_another_time_is_still_one_job<B: Backend>() {
    let backend = B::default();
    let (queue, ledger) = (backend.queue(), backend.ledger());
    let first = job(1, "/a");
    let known = |modified_ns| ledger.known(&alice(), &FileIdentity { modified_ns, ..first.identity }).unwrap();
    queue.enqueue(first.clone()).await.unwrap();
    let old = first.identity.modified_ns;
    queue.retime(alice(), first.identity, 7).await.unwrap();
    assert_eq!((known(old), known(7), known(8)), (Some(first.id), Some(first.id), None), "killed before or after, it is known");
    // From the one that was not reached, were it killed in between; and from the new one.
    queue.retime(alice(), first.identity, 8).await.unwrap();
    assert_eq!((known(old), known(7), known(8)), (Some(first.id), None, Some(first.id)));
    queue.retime(alice(), FileIdentity { modified_ns: 8, ..first.identity }, 9).await.unwrap();
    assert_eq!((known(old), known(8), known(9)), (None, Some(first.id), Some(first.id)));
    let mut other = job(2, "/b");
    other.identity = FileIdentity { modified_ns: 9, bytes: first.identity.bytes + 1, ..first.identity };
    assert_eq!(queue.enqueue_unless_known(other.clone()).await.unwrap(), Ok(other.id), "another file of that time");
    queue.retime("bob".parse().unwrap(), FileIdentity { modified_ns: 9, ..first.identity }, 10).await.unwrap();
    assert_eq!(known(10), None, "another account's");
}

async fn jobs_follow_their_files<B: Backend>() {
    let backend = B::default();
    let (queue, ledger) = (backend.queue(), backend.ledger());
    for (number, path) in [(1, "/in/a.jpg"), (2, "/in/sub/b.jpg"), (3, "/in.jpg"), (4, "/inn/c.jpg"), (5, "/räk/ä.jpg")] {
        queue.enqueue(job(number, path)).await.unwrap();
    }
    let path = |number| ledger.show(job(number, "/x").id).unwrap().unwrap().0.path.as_str().to_owned();
    queue.relocate(alice(), at("/in/a.jpg"), at("/in/A.jpg")).await.unwrap();
    assert_eq!((path(1), path(2)), ("/in/A.jpg".to_owned(), "/in/sub/b.jpg".to_owned()));
    queue.relocate(alice(), at("/in"), at("/out/ö")).await.unwrap();
    queue.relocate(alice(), at("/räk"), at("/r")).await.unwrap();
    let paths: Vec<String> = (1..=5).map(path).collect();
    assert_eq!(paths, ["/out/ö/A.jpg", "/out/ö/sub/b.jpg", "/in.jpg", "/inn/c.jpg", "/r/ä.jpg"]);
    queue.relocate("bob".parse().unwrap(), at("/inn"), at("/x")).await.unwrap();
    assert_eq!(path(4), "/inn/c.jpg", "another account's folder of that name");
    assert_eq!(ledger.newest(&alice(), &at("/r/ä.jpg")).unwrap().map(|job| job.bytes), Some(5));
}

async fn deliveries_are_committed_with_the_end_and_end_themselves<B: Backend>() {
    let backend = B::default();
    let (queue, ledger) = (backend.queue(), backend.ledger());
    queue.enqueue(job(1, "/scan.jpg")).await.unwrap();
    let lease = claimed(&queue, T0).await;
    let to = |name: &str| mail(&format!("{name}@example.org"));
    let deliveries = vec![to("one"), to("two"), to("three")];
    queue.settle(lease.job.id, lease.token, Outcome::Done, deliveries, T0).await.unwrap();

    let first = queue.claim_delivery(T0).await.unwrap().unwrap();
    let second = queue.claim_delivery(T0).await.unwrap().unwrap();
    let third = queue.claim_delivery(T0).await.unwrap().unwrap();
    assert_eq!(queue.claim_delivery(T0).await.unwrap(), None, "each is leased once");
    assert_eq!([&first.to, &second.to, &third.to], ["one@example.org", "two@example.org", "three@example.org"]);
    assert_eq!((first.attempts, &first.job.path, &first.attachments), (0, &at("/scan.jpg"), &to("one").attachments));
    assert_eq!(first.job.state, State::Done);

    assert_eq!(queue.settle_delivery(first.id, Attempt::Sent, T0).await.unwrap(), DeliveryState::Sent);
    assert_eq!(queue.settle_delivery(second.id, Attempt::Never("550".into()), T0).await.unwrap(), DeliveryState::Bounced);
    assert_eq!(queue.settle_delivery(third.id, Attempt::Later("451".into()), T0).await.unwrap(), DeliveryState::Deferred);
    assert!(matches!(queue.settle_delivery(first.id, Attempt::Sent, T0).await, Err(QueueError::Stale)));
    assert_eq!(queue.claim_delivery(T0).await.unwrap(), None, "the deferred one is not due");
    let again = queue.claim_delivery(T0.after(Duration::from_secs(30))).await.unwrap().unwrap();
    assert_eq!((again.id, again.attempts), (third.id, 1));
    let shown = ledger.show(lease.job.id).unwrap().unwrap().1;
    let states: Vec<_> = shown.iter().map(|record| (record.state.name(), record.attempts, record.error.as_deref())).collect();
    assert_eq!(states, [("sent", 1, None), ("bounced", 1, Some("550")), ("deferred", 1, Some("451"))]);

    let troubled: Vec<_> = ledger.troubled(10).unwrap().into_iter().map(|(job, record)| (job.id, record.to)).collect();
    assert_eq!(troubled, [(lease.job.id, third.to.clone()), (lease.job.id, second.to.clone())]);
    assert_eq!(ledger.troubled(1).unwrap().len(), 1);

    // A restart forgets leases: what was not settled is due again.
    drop(queue);
    let queue = backend.queue();
    assert_eq!(queue.claim_delivery(T0.after(LEASE)).await.unwrap().map(|delivery| delivery.id), Some(third.id));
}

async fn the_ledger_lists_counts_and_finds<B: Backend>() {
    let backend = B::default();
    let (queue, ledger) = (backend.queue(), backend.ledger());
    assert_eq!((ledger.counts().unwrap(), ledger.oldest_queued().unwrap()), (Counts::default(), None));
    for number in 1..=5 {
        let mut new = job(number, &format!("/{}", number % 2));
        new.received_at = Timestamp(T0.0 + i64::try_from(number).unwrap());
        if number == 5 {
            new.account = "bob".parse().unwrap();
        }
        queue.enqueue(new).await.unwrap();
    }
    let lease = claimed(&queue, T0.after(LEASE)).await;
    assert_eq!(ledger.counts().unwrap(), Counts { queued: 4, running: 1, ..Counts::default() });
    assert_eq!(ledger.oldest_queued().unwrap(), Some(Timestamp(T0.0 + 2)));
    let listed = |state: Option<&str>, account: Option<&str>, limit| {
        let filter =
            Filter { state: state.map(str::to_owned), account: account.map(|name| name.parse().unwrap()), before: None, limit };
        ledger.list(&filter).unwrap().into_iter().map(|(job, _)| job.bytes).collect::<Vec<_>>()
    };
    assert_eq!(listed(None, None, 10), [5, 4, 3, 2, 1], "newest first");
    assert_eq!(listed(None, None, 2), [5, 4]);
    assert_eq!(listed(Some("queued"), None, 2), [5, 4]);
    assert_eq!(listed(Some("running"), None, 10), [lease.job.bytes]);
    assert_eq!(listed(Some("queued"), Some("alice"), 10), [4, 3, 2]);
    assert_eq!(listed(None, Some("bob"), 10), [5]);
    assert_eq!(listed(None, Some("nobody"), 10), [0; 0]);
    assert_eq!(ledger.newest(&alice(), &at("/1")).unwrap().map(|job| job.bytes), Some(3));
    assert_eq!(ledger.newest(&alice(), &at("/none")).unwrap(), None);
    assert_eq!(ledger.show(JobId(ulid::Ulid::nil())).unwrap(), None);
}

async fn no_change_is_missed_after_the_subscription<B: Backend>() {
    let backend = B::default();
    let queue = backend.queue();
    let changed = queue.changed();
    queue.enqueue(job(1, "/a")).await.unwrap();
    changed.await;
    let changed = queue.changed();
    let lease = claimed(&queue, T0).await;
    queue.settle(lease.job.id, lease.token, Outcome::Done, vec![mail("a@b")], T0).await.unwrap();
    changed.await;
}

mod orders;
mod plans;

macro_rules! holds_for {
    ($backend:ty: $($name:ident)*) => {$(
        #[tokio::test]
        async fn $name() {
            super::$name::<$backend>().await;
        }
    )*};
}

mod sqlite {
    use super::*;
    use crate::queue::keeping::Part;
    use crate::queue::sqlite::{SqliteLedger, SqliteQueue};

    pub(super) struct InAFile(tempfile::TempDir);

    impl Default for InAFile {
        fn default() -> Self {
            InAFile(tempfile::tempdir().unwrap())
        }
    }

    impl InAFile {
        pub(in crate::queue::contract) fn path(&self) -> std::path::PathBuf {
            self.0.path().join("inkport.db")
        }
    }

    impl Backend for InAFile {
        type Queue = SqliteQueue;
        type Ledger = SqliteLedger;
        fn queue(&self) -> SqliteQueue {
            let hook = |job: &Job, is_newest: bool| {
                assert!(is_newest && matches!(job.state, State::Dead { .. } | State::Queued { .. }) && job.error.is_some());
                vec![mail(&format!("{}@example.org", job.account))]
            };
            SqliteQueue::open_with(&self.path(), POLICY, Box::new(hook)).unwrap()
        }
        fn ledger(&self) -> SqliteLedger {
            SqliteLedger::open(&self.path()).unwrap()
        }
    }

    holds_for! { InAFile:
        a_job_is_claimed_and_settled
        a_reading_is_found_once_its_job_is_done
        concurrent_claims_never_share_a_job
        jobs_of_one_path_run_one_after_the_other
        accounts_take_turns
        what_waits_for_its_second_attempt_holds_nobody_up
        a_late_holder_changes_nothing
        an_extended_lease_is_kept
        attempts_end_dead_and_an_operator_may_retry
        a_released_job_is_unharmed
        what_was_committed_survives_and_running_jobs_come_back
        a_job_that_takes_the_daemon_along_ends_dead
        a_job_that_its_workers_never_come_back_from_is_told_of
        one_file_is_one_job
        a_file_with_another_time_is_still_one_job
        jobs_follow_their_files
        deliveries_are_committed_with_the_end_and_end_themselves
        the_ledger_lists_counts_and_finds
        no_change_is_missed_after_the_subscription
    }

    #[test]
    fn two_daemons_on_one_file_are_refused() {
        let house = InAFile::default();
        let queue = house.queue();
        let second = SqliteQueue::open(&house.path(), POLICY).unwrap_err();
        assert!(matches!(&second, QueueError::Broken { detail, .. } if detail.contains("in use by another process")), "{second}");
        drop(queue);
        drop(house.queue());
    }

    #[tokio::test]
    async fn a_closed_queue_says_so() {
        let house = InAFile::default();
        let queue = house.queue();
        let clone = queue.clone();
        queue.close().await;
        assert!(!clone.is_open());
        assert!(matches!(clone.enqueue(job(1, "/a")).await, Err(QueueError::Closed)));
        drop(house.queue());
    }

    #[tokio::test]
    async fn a_claim_that_nobody_waits_for_goes_back() {
        let house = InAFile::default();
        let queue = house.queue();
        queue.enqueue(job(1, "/a")).await.unwrap();
        let mut claim = Box::pin(queue.claim(LEASE, T0));
        // The first poll hands the verb to the writer; then its caller loses patience.
        std::future::poll_fn(|context| {
            let _ = claim.as_mut().poll(context);
            std::task::Poll::Ready(())
        })
        .await;
        drop(claim);
        // The answer may have been under way already; then the lease runs out instead.
        let changed = queue.changed();
        if queue.claim(LEASE, T0).await.unwrap().is_none() {
            tokio::time::timeout(Duration::from_secs(5), changed).await.ok();
            let now = T0.after(LEASE).after(Duration::from_secs(60));
            assert!(
                queue.claim(LEASE, now).await.unwrap().is_some() || queue.claim(LEASE, now.after(LEASE)).await.unwrap().is_some()
            );
        }
    }

    #[tokio::test]
    async fn a_reading_goes_with_the_sidecars_that_retention_removes() {
        let house = InAFile::default();
        let (queue, ledger) = (house.queue(), house.ledger());
        let new = job(1, "/a.jpg");
        queue.enqueue(new.clone()).await.unwrap();
        let lease = claimed(&queue, T0).await;
        queue.keep_reading(new.id, "recipe".into(), b"text".to_vec()).await.unwrap();
        queue.settle(new.id, lease.token, Outcome::Done, Vec::new(), T0).await.unwrap();
        let kept = || ledger.reading(&alice(), &new.spool, "recipe").unwrap();
        queue.removed(Part::Original, vec![new.id], T0).await.unwrap();
        assert!(kept().is_some(), "the image went, the text is kept");
        queue.removed(Part::Sidecars, vec![new.id], T0).await.unwrap();
        assert_eq!(kept(), None);
    }
}
