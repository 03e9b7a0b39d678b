//! Keys, what was seen, and pages, in a real database.

use super::*;
use crate::account::{Account, VirtualPath};
use crate::accounts::Accounts;
use crate::job::state::RetryPolicy;
use crate::job::{Door, FileIdentity, JobId, SpoolKey};
use crate::queue::sqlite::SqliteQueue;
use crate::queue::{NewJob, Outcome, Queue as _};
use std::time::Duration;

const NOW: Timestamp = Timestamp(1_783_641_600_000);
const DAY: Duration = Duration::from_secs(86_400);

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Place { folder: tempfile::tempdir().unwrap() }
    }

    fn database(&self) -> PathBuf {
        self.folder.path().join("inkport.db")
    }

    fn keys(&self) -> Keys {
        Keys::open(&self.database(), MasterKeySource::Made(self.folder.path().join("master.key"))).unwrap()
    }
}

fn new(kind: Kind) -> NewKey {
    NewKey { account: "front-desk".parse().unwrap(), kind, label: "the till".into(), scopes: Scopes::of(&[]), expires_at: None }
}

fn later(by: Duration) -> Timestamp {
    NOW.after(by)
}

#[test]
fn a_bearer_key_lets_in_until_it_is_revoked_and_its_secret_is_not_kept() {
    let place = Place::new();
    let keys = place.keys();
    let (key, secret) = keys.add(&new(Kind::Bearer), NOW).unwrap();
    assert_eq!(keys.by_secret(secret.reveal(), NOW).unwrap().unwrap(), key);
    assert_eq!(keys.by_secret(Secret::generate().reveal(), NOW).unwrap(), None);
    assert_eq!(keys.by_secret(key.id.as_str(), NOW).unwrap(), None);
    // Another process, as the command line is.
    let others = place.keys();
    assert_eq!(others.list(None).unwrap(), vec![key.clone()]);
    assert_eq!(others.list(Some(&"back-desk".parse().unwrap())).unwrap(), vec![]);
    others.revoke(&key.id, later(DAY)).unwrap();
    assert_eq!(keys.by_secret(secret.reveal(), later(DAY)).unwrap(), None, "at the next look");
    let again = others.revoke(&key.id, later(DAY * 2)).unwrap();
    assert_eq!(again.revoked_at, Some(later(DAY)), "revoked once");
    drop((keys, others));
    for entry in std::fs::read_dir(place.folder.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        let secret = &secret.reveal().as_bytes()[4..];
        assert!(!bytes.windows(secret.len()).any(|window| window == secret));
    }
}

#[test]
fn an_expired_or_revoked_key_lets_nobody_in_and_gets_no_new_secret() {
    let keys = Place::new();
    let keys = keys.keys();
    for kind in [Kind::Bearer, Kind::Hmac] {
        let (key, secret) = keys.add(&NewKey { expires_at: Some(later(DAY)), ..new(kind) }, NOW).unwrap();
        let lets_in = |at: Timestamp| match kind {
            Kind::Bearer => keys.by_secret(secret.reveal(), at).unwrap().is_some(),
            Kind::Hmac => keys.signing(key.id.as_str(), at).unwrap().key.is_some(),
        };
        assert!(lets_in(Timestamp(later(DAY).0 - 1)) && !lets_in(later(DAY)));
        let refused = keys.rotate(&key.id, DAY, later(DAY)).unwrap_err();
        assert!(matches!(&refused, KeysError::Ended { state: "expired", .. }), "{refused}");
        keys.revoke(&key.id, NOW).unwrap();
        assert!(!lets_in(NOW));
        assert!(matches!(keys.rotate(&key.id, DAY, NOW), Err(KeysError::Ended { state: "revoked", .. })));
    }
    let nobody = KeyId::generate(NOW);
    assert!(matches!(keys.rotate(&nobody, DAY, NOW), Err(KeysError::Missing(_))));
    assert!(matches!(keys.revoke(&nobody, NOW), Err(KeysError::Missing(_))));
}

#[test]
fn after_a_rotation_both_secrets_hold_for_the_grace() {
    let place = Place::new();
    let keys = place.keys();
    let (key, first) = keys.add(&new(Kind::Bearer), NOW).unwrap();
    let (rotated, second) = keys.rotate(&key.id, DAY, NOW).unwrap();
    assert_eq!((rotated.id, rotated.grace_until), (key.id.clone(), Some(later(DAY))));
    let holds = |secret: &Secret, at: Timestamp| keys.by_secret(secret.reveal(), at).unwrap().is_some();
    let just_before = Timestamp(later(DAY).0 - 1);
    assert!(holds(&first, NOW) && holds(&second, NOW) && holds(&first, just_before));
    assert!(!holds(&first, later(DAY)) && holds(&second, later(DAY * 400)));
    // What leaked is ended by a rotation without grace, the one before it too.
    let (_, third) = keys.rotate(&key.id, Duration::ZERO, NOW).unwrap();
    assert!(!holds(&first, NOW) && !holds(&second, NOW) && holds(&third, NOW));

    let (key, first) = keys.add(&new(Kind::Hmac), NOW).unwrap();
    let (_, second) = keys.rotate(&key.id, DAY, NOW).unwrap();
    let secrets = |at| keys.signing(key.id.as_str(), at).unwrap().secrets;
    let bytes = |secret: &Secret| secret.reveal().as_bytes().to_vec();
    assert_eq!(secrets(NOW), [bytes(&second), bytes(&first)]);
    assert_eq!(secrets(later(DAY)), [bytes(&second)]);
}

#[test]
fn an_unknown_id_leads_to_a_secret_too_and_to_nobody() {
    let place = Place::new();
    let keys = place.keys();
    let (bearer, _) = keys.add(&new(Kind::Bearer), NOW).unwrap();
    for id in ["", "key_", KeyId::generate(NOW).as_str(), bearer.id.as_str(), "' OR 1=1"] {
        let found = keys.signing(id, NOW).unwrap();
        assert!(found.key.is_none() && found.secrets.len() == 1, "{id}");
    }
    assert!(!place.folder.path().join("master.key").exists(), "made at first need");
}

#[test]
fn keys_of_a_removed_account_are_not_its_successors() {
    let place = Place::new();
    let accounts = Accounts::sqlite(&place.database()).unwrap();
    let account = Account::new("front-desk".parse().unwrap());
    accounts.add(&account).unwrap();
    let keys = place.keys();
    let (key, secret) = keys.add(&new(Kind::Bearer), NOW).unwrap();
    accounts.set(&Account { enabled: false, ..account.clone() }).unwrap();
    assert!(keys.by_secret(secret.reveal(), NOW).unwrap().is_some(), "a change is no removal; who is disabled the door sees");
    accounts.remove(&account.name).unwrap();
    accounts.add(&account).unwrap();
    assert_eq!(keys.by_secret(secret.reveal(), NOW).unwrap(), None);
    assert_eq!(keys.list(None).unwrap()[0].state(NOW), "revoked");
    assert_eq!(keys.list(None).unwrap()[0].id, key.id);
}

#[test]
fn nothing_is_sealed_under_another_master_key_than_the_daemons() {
    let place = Place::new();
    let daemons = place.folder.path().join("credential");
    std::fs::write(&daemons, "11".repeat(32)).unwrap();
    std::fs::set_permissions(&daemons, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let daemon = Keys::open(&place.database(), MasterKeySource::File(daemons.clone())).unwrap();
    daemon.start(NOW).unwrap();
    // The command line without the credential.
    let refused = place.keys().add(&new(Kind::Hmac), NOW).unwrap_err();
    assert!(matches!(&refused, KeysError::OtherMaster(told) if told.contains("http.master-key-file")), "{refused}");
    assert!(!place.folder.path().join("master.key").exists(), "and none is made that nobody needs");
    assert_eq!(place.keys().list(None).unwrap(), vec![]);
    place.keys().add(&new(Kind::Bearer), NOW).unwrap();
    // With it.
    let (key, secret) =
        Keys::open(&place.database(), MasterKeySource::File(daemons)).unwrap().add(&new(Kind::Hmac), NOW).unwrap();
    assert_eq!(daemon.signing(key.id.as_str(), NOW).unwrap().secrets, [secret.reveal().as_bytes()]);
    drop(daemon);
    // A daemon that has lost it does not start, until the keys that need it are revoked.
    let refused = place.keys().start(NOW).unwrap_err().to_string();
    assert!(refused.contains("it is gone") && refused.contains("key revoke"), "{refused}");
    let other = place.folder.path().join("other");
    std::fs::write(&other, "22".repeat(32)).unwrap();
    std::fs::set_permissions(&other, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let started = |path: &Path| Keys::open(&place.database(), MasterKeySource::File(path.to_owned())).unwrap().start(NOW);
    assert!(matches!(started(&other), Err(KeysError::OtherMaster(_))));
    place.keys().revoke(&key.id, NOW).unwrap();
    started(&other).unwrap();
    Keys::open(&place.database(), MasterKeySource::File(other)).unwrap().add(&new(Kind::Hmac), NOW).unwrap();
}

#[tokio::test]
async fn a_nonce_is_used_once_also_over_a_restart_and_forgotten_after_its_time() {
    let place = Place::new();
    let (one, two) = (KeyId::generate(NOW), KeyId::generate(NOW));
    let nonce = "0123456789abcdef";
    let keys = place.keys();
    assert!(keys.use_nonce(&one, nonce, NOW, NOW).await.unwrap());
    assert!(!keys.use_nonce(&one, nonce, later(sign::WINDOW), NOW).await.unwrap(), "whatever its timestamp");
    assert!(keys.use_nonce(&two, nonce, NOW, NOW).await.unwrap(), "of each key");
    drop(keys);
    let keys = place.keys();
    assert!(!keys.use_nonce(&one, nonce, NOW, later(sign::WINDOW)).await.unwrap());
    let tries = (0..32).map(|_| keys.use_nonce(&one, "fedcba9876543210", NOW, NOW));
    let first = futures_util::future::join_all(tries).await.into_iter().filter(|tried| *tried.as_ref().unwrap()).count();
    assert_eq!(first, 1, "of all at once");
    let count =
        || -> i64 { database_of(&place).query_row("SELECT count(*) FROM signed_requests", [], |row| row.get(0)).unwrap() };
    assert_eq!(count(), 3);
    keys.use_nonce(&two, "another-one-later", later(DAY), later(DAY)).await.unwrap();
    assert_eq!(count(), 1, "what is too old to come again is not kept");
}

#[tokio::test]
async fn a_signature_of_version_1_goes_with_one_body() {
    let place = Place::new();
    let key = KeyId::generate(NOW);
    let keys = place.keys();
    let see = async |keys: &Keys, body: u8| keys.see_v1(&key, "signature", [body; 32], NOW, NOW).await.unwrap();
    assert_eq!(see(&keys, 1).await, Seen::Never);
    assert_eq!(see(&keys, 1).await, Seen::Before);
    drop(keys);
    let keys = place.keys();
    assert_eq!(see(&keys, 2).await, Seen::WithAnotherBody);
    assert_eq!(see(&keys, 1).await, Seen::Before);
}

fn database_of(place: &Place) -> rusqlite::Connection {
    crate::database::open(&place.database()).unwrap()
}

fn job(number: u64) -> JobId {
    JobId(ulid::Ulid::from_parts(number, 1))
}

fn new_job(number: u64) -> NewJob {
    NewJob {
        id: job(number),
        account: "front-desk".parse().unwrap(),
        path: VirtualPath::new(&format!("{number}.jpg")).unwrap(),
        spool: SpoolKey([0; 32]),
        bytes: 1,
        identity: FileIdentity { inode: number, modified_ns: 0, bytes: 1 },
        door: Door::Ftp,
        received_at: NOW,
    }
}

#[tokio::test]
async fn however_many_race_for_the_last_page_one_gets_it() {
    let place = Place::new();
    let account: AccountName = "front-desk".parse().unwrap();
    // Two stores, as two processes would have.
    let (one, two) = (place.keys().quota(), place.keys().quota());
    let racers = (0..64).map(|number| {
        let (quota, account) = (if number % 2 == 0 { one.clone() } else { two.clone() }, account.clone());
        tokio::spawn(async move { quota.reserve(&account, job(number), 1, Some(10), NOW).await })
    });
    let mut held = Vec::new();
    for racer in racers.collect::<Vec<_>>() {
        match racer.await.unwrap() {
            Ok(reservation) => held.push(reservation),
            Err(QuotaError::Over { used, limit: 10, resets_at, .. }) => {
                assert_eq!((used, resets_at), (10, Day::of(NOW).end()));
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(held.len(), 10);
    assert_eq!(one.usage(&account, NOW).await.unwrap().pages, 10);
    // All or nothing, another day and another account of their own.
    drop(held);
    for quota in [&one, &two] {
        quota.settle(job(999), 0).await.unwrap();
    }
    assert!(matches!(one.reserve(&account, job(100), 11, Some(10), NOW).await, Err(QuotaError::Over { used: 0, .. })));
    let tomorrow = Day::of(NOW).end();
    let _today = one.reserve(&account, job(101), 10, Some(10), Timestamp(tomorrow.0 - 1)).await.unwrap();
    let _tomorrow = two.reserve(&account, job(102), 10, Some(10), tomorrow).await.unwrap();
    let _other = two.reserve(&"back-desk".parse().unwrap(), job(103), 10, Some(10), NOW).await.unwrap();
    assert!(matches!(two.reserve(&account, job(104), 1, Some(10), tomorrow).await, Err(QuotaError::Over { .. })));
    let _unbounded = two.reserve(&account, job(105), 1000, None, tomorrow).await.unwrap();
}

#[tokio::test]
async fn pages_are_charged_to_jobs_that_come_and_can_be_read() {
    let place = Place::new();
    let account: AccountName = "front-desk".parse().unwrap();
    let policy = RetryPolicy { attempts: 1, backoff: Duration::from_secs(1) };
    let queue = SqliteQueue::open(&place.database(), policy).unwrap();
    let keys = place.keys();
    let quota = keys.quota();
    let used = async || quota.usage(&account, NOW).await.unwrap().pages;

    // Its door went away before the job came.
    let reservation = quota.reserve(&account, job(1), 5, None, NOW).await.unwrap();
    assert_eq!(used().await, 5);
    drop(reservation);
    quota.settle(job(1), 0).await.unwrap();
    assert_eq!(used().await, 0);

    // The caller goes away while its job is on its way: the job comes, and is charged.
    let reservation = quota.reserve(&account, job(2), 2, None, NOW).await.unwrap();
    let (go, wait) = tokio::sync::oneshot::channel::<()>();
    let (queue_2, done) = (queue.clone(), std::sync::Arc::new(tokio::sync::Notify::new()));
    let told = std::sync::Arc::clone(&done);
    let holding = tokio::spawn(reservation.hold(async move {
        let _ = wait.await;
        queue_2.enqueue(new_job(2)).await.unwrap();
        told.notify_one();
    }));
    tokio::task::yield_now().await;
    holding.abort();
    let _ = holding.await;
    assert_eq!(used().await, 2);
    // Its task may have been cancelled before it began, which is the caller's doing too.
    if go.send(()).is_ok() {
        tokio::time::timeout(Duration::from_secs(60), done.notified()).await.unwrap();
        assert_eq!(used().await, 2);
    }

    // It had more pages than was thought; and one that cannot be read costs nothing.
    let reservation = quota.reserve(&account, job(3), 1, Some(100), NOW).await.unwrap();
    reservation
        .hold({
            let queue = queue.clone();
            async move { queue.enqueue(new_job(3)).await.unwrap() }
        })
        .await;
    let before = used().await;
    quota.settle(job(3), 7).await.unwrap();
    assert_eq!(used().await, before + 6);
    quota.settle(job(999), 7).await.unwrap();
    for outcome in [Outcome::Done, Outcome::Rejected { code: "damaged".into(), message: "damaged".into() }] {
        let lease = queue.claim(Duration::from_secs(60), NOW).await.unwrap().unwrap();
        queue.settle(lease.job.id, lease.token, outcome, Vec::new(), NOW).await.unwrap();
    }
    assert_eq!(used().await, 2, "the second was rejected");

    // A daemon that was killed between the two: the page is given back at the next start, the others stay.
    std::mem::forget(quota.reserve(&account, job(5), 9, None, NOW).await.unwrap());
    assert_eq!(used().await, 11);
    drop(keys);
    let keys = place.keys();
    keys.start(NOW).unwrap();
    assert_eq!(keys.quota().usage(&account, NOW).await.unwrap().pages, 2);
}

#[tokio::test]
async fn the_last_use_is_noted_once_a_minute() {
    let place = Place::new();
    let keys = place.keys();
    let (key, _) = keys.add(&new(Kind::Bearer), NOW).unwrap();
    for seconds in [0, 10, 59] {
        keys.note_use(&key.id, later(Duration::from_secs(seconds)));
    }
    // What was sent before is done before this.
    keys.quota().settle(job(1), 0).await.unwrap();
    assert_eq!(keys.list(None).unwrap()[0].last_used_at, Some(NOW));
    keys.note_use(&key.id, later(Duration::from_secs(61)));
    keys.quota().settle(job(1), 0).await.unwrap();
    assert_eq!(keys.find(&key.id).unwrap().unwrap().last_used_at, Some(later(Duration::from_secs(61))));
}
