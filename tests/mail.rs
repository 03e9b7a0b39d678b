//! From an outbox row to a relay and back: the real queue, the real spool, a relay of our own.

use inkport::account::VirtualPath;
use inkport::delivery::{ATTACH_AT_MOST, Mailer, Outbox, Settings};
use inkport::job::delivery::DeliveryState;
use inkport::job::state::RetryPolicy;
use inkport::job::{Door, FileIdentity, JobId, SpoolKey};
use inkport::queue::sqlite::{SqliteLedger, SqliteQueue};
use inkport::queue::{DeliveryRecord, JobLedger, NewDelivery, NewJob, Outcome, Queue};
use inkport::spool::Spool;
use inkport::units::Timestamp;
use smtp::{Received, Refusal, Sink};
use std::io::Write as _;
use std::time::{Duration, SystemTime};
use tokio::sync::oneshot;

#[path = "common/smtp.rs"]
mod smtp;

/// A queue, a spool and an outbox that sends to a sink.
struct Bench {
    /// Holds the database and the spool until the test ends.
    _folder: tempfile::TempDir,
    queue: SqliteQueue,
    ledger: SqliteLedger,
    spool: Spool,
    sink: Sink,
    jobs: u64,
}

impl Bench {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("inkport.db");
        let policy = RetryPolicy { attempts: 3, backoff: Duration::from_secs(10) };
        let queue = SqliteQueue::open(&database, policy).unwrap();
        let ledger = SqliteLedger::open(&database).unwrap();
        let spool = Spool::open(&folder.path().join("spool")).unwrap();
        Bench { _folder: folder, queue, ledger, spool, sink: Sink::start().await, jobs: 0 }
    }

    /// Bytes in the spool.
    fn kept(&self, bytes: &[u8]) -> SpoolKey {
        let mut staging = self.spool.stage().unwrap();
        staging.write_all(bytes).unwrap();
        self.spool.keep(&staging.finish().unwrap()).unwrap()
    }

    /// A job of this name that ended like this, with mail to these.
    async fn ended(&mut self, name: &str, outcome: Outcome, to: &[&str], attachments: Vec<(String, SpoolKey)>) -> JobId {
        self.jobs += 1;
        let now = now();
        let id = JobId(ulid::Ulid::from_parts(now.0.cast_unsigned() + self.jobs, u128::from(self.jobs)));
        let job = NewJob {
            id,
            account: "front-desk".parse().unwrap(),
            path: VirtualPath::new(name).unwrap(),
            spool: SpoolKey([0; 32]),
            bytes: 1,
            identity: FileIdentity { inode: self.jobs, modified_ns: 0, bytes: 1 },
            door: Door::Ftp,
            received_at: now,
        };
        self.queue.enqueue(job).await.unwrap();
        let lease = self.queue.claim(Duration::from_secs(60), now.after(Duration::from_secs(1))).await.unwrap().unwrap();
        assert_eq!(lease.job.id, id);
        let deliveries = to.iter().map(|to| NewDelivery { to: (*to).to_owned(), attachments: attachments.clone() }).collect();
        self.queue.settle(id, lease.token, outcome, deliveries, now).await.unwrap();
        id
    }

    /// Runs the outbox until `enough` says so of this job's deliveries.
    async fn send_until(&self, job: JobId, enough: impl Fn(&[DeliveryRecord]) -> bool) -> Vec<DeliveryRecord> {
        let settings = Settings { relay: self.sink.url().parse().unwrap(), ..Settings::default() };
        let outbox = Outbox::new(self.queue.clone(), self.spool.clone(), Mailer::new(&settings).unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(outbox.run(async move {
            let _ = stopped.await;
        }));
        let records = loop {
            let records = self.ledger.show(job).unwrap().unwrap().1;
            if enough(&records) {
                break records;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        stop.send(()).unwrap();
        running.await.unwrap();
        records
    }
}

fn now() -> Timestamp {
    Timestamp::from_system(SystemTime::now())
}

fn tried(records: &[DeliveryRecord]) -> bool {
    records.iter().all(|record| record.state != DeliveryState::Scheduled)
}

/// The parts of a multipart message, the nested ones too, as their heads and raw bodies.
fn parts(message: &Received) -> Vec<(String, String)> {
    let boundaries: Vec<&str> = message
        .data
        .match_indices("boundary=\"")
        .map(|(at, tag)| message.data[at + tag.len()..].split('"').next().unwrap())
        .collect();
    let mut pieces = vec![message.data.clone()];
    for boundary in boundaries {
        pieces = pieces
            .iter()
            .flat_map(|piece| piece.split(&format!("--{boundary}")).map(str::to_owned).collect::<Vec<_>>())
            .collect();
    }
    let split = |piece: &String| piece.trim_start().split_once("\r\n\r\n").map(|(head, body)| (head.to_owned(), body.to_owned()));
    // What follows a closing boundary is nobody's part.
    pieces.iter().filter(|piece| !piece.starts_with("--")).filter_map(split).collect()
}

fn unquoted(text: &str) -> String {
    let joined = text.replace("=\r\n", "");
    let bytes = joined.as_bytes();
    let mut plain = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let code =
            (bytes[at] == b'=').then(|| joined.get(at + 1..at + 3)).flatten().and_then(|hex| u8::from_str_radix(hex, 16).ok());
        plain.push(code.unwrap_or(bytes[at]));
        at += if code.is_some() { 3 } else { 1 };
    }
    String::from_utf8(plain).unwrap()
}

#[tokio::test]
async fn a_finished_job_is_one_message_to_each_address_with_its_sidecars() {
    let mut bench = Bench::new().await;
    let text = "Gesamt 9,00 €\nzweite Zeile\n";
    let attachments =
        vec![("scan.jpg.txt".to_owned(), bench.kept(text.as_bytes())), ("scan.jpg.json".to_owned(), bench.kept(b"{}"))];
    let job = bench.ended("in/scan.jpg", Outcome::Done, &["anna@example.com", "bert@example.com"], attachments).await;
    let records = bench.send_until(job, tried).await;
    assert!(records.iter().all(|record| record.state == DeliveryState::Sent && record.error.is_none()), "{records:?}");

    let mut messages = bench.sink.messages();
    messages.sort_by(|a, b| a.to.cmp(&b.to));
    assert_eq!(messages.iter().map(|m| m.to.clone()).collect::<Vec<_>>(), [["anna@example.com"], ["bert@example.com"]]);
    let message = &messages[0];
    assert_eq!(message.from, "inkport@localhost");
    assert_eq!(message.header("Subject").as_deref(), Some("scan.jpg: done"));
    assert_eq!(message.header("Auto-Submitted").as_deref(), Some("auto-generated"));
    let ids: Vec<_> = messages.iter().map(|m| m.header("Message-ID").unwrap()).collect();
    assert!(ids[0] != ids[1] && ids.iter().all(|id| id.starts_with(&format!("<{job}."))), "{ids:?}");
    let parts = parts(message);
    let of = |kind: &str| parts.iter().find(|(head, _)| head.contains(kind)).unwrap_or_else(|| panic!("{kind}: {parts:#?}"));
    assert!(unquoted(&of("text/plain").1).contains("/in/scan.jpg"));
    assert!(unquoted(&of("text/html").1).contains("<td>/in/scan.jpg</td>"));
    let attached = &of("filename=\"scan.jpg.txt\"").1.replace("\r\n", "");
    use base64::Engine as _;
    assert_eq!(base64::engine::general_purpose::STANDARD.decode(attached).unwrap(), text.as_bytes(), "bytes as they are");
    assert!(of("filename=\"scan.jpg.json\"").0.contains("application/json"));
}

#[tokio::test]
async fn a_bad_end_says_why() {
    let mut bench = Bench::new().await;
    let rejected = Outcome::Rejected { code: "damaged".into(), message: "the JPEG is <damaged>: no frame".into() };
    let job = bench.ended("scan.jpg", rejected, &["anna@example.com"], Vec::new()).await;
    bench.send_until(job, tried).await;
    let message = &bench.sink.messages()[0];
    assert_eq!(message.header("Subject").as_deref(), Some("scan.jpg: rejected"));
    let parts = parts(message);
    let body = |kind: &str| unquoted(&parts.iter().find(|(head, _)| head.contains(kind)).unwrap().1);
    assert!(body("text/plain").contains("the JPEG is <damaged>: no frame"));
    assert!(body("text/html").contains("damaged") && !body("text/html").contains("<damaged>"));
}

#[tokio::test]
async fn hostile_file_names_break_neither_headers_nor_html() {
    let mut bench = Bench::new().await;
    for name in [
        "x\r\nBcc: evil@example.com\r\nX-Evil: yes\r\n\r\nbody.jpg",
        "<img src=x onerror=alert(1)>.jpg",
        "a\"b\\c';--.jpg",
        "Rechnung Müller – 你好 🙂.jpg",
        "=?utf-8?q?tricked?=.jpg",
        "\u{202e}gpj.exe",
        &"ä".repeat(120),
    ] {
        let attachments = vec![(format!("{name}.txt"), bench.kept(b"text"))];
        let job = bench.ended(name, Outcome::Done, &["anna@example.com"], attachments).await;
        let records = bench.send_until(job, tried).await;
        assert_eq!(records[0].state, DeliveryState::Sent, "{name:?}: {records:?}");
        let message = bench.sink.messages().pop().unwrap();
        assert_eq!(message.to, ["anna@example.com"], "{name:?}");
        let heads = parts(&message).into_iter().map(|(head, _)| head).collect::<Vec<_>>().join("\r\n");
        let known = ["from", "to", "subject", "date", "message-id", "auto-submitted", "mime-version"];
        for line in heads.split("\r\n").filter(|line| !line.starts_with([' ', '\t'])) {
            let header = line.split(':').next().unwrap().to_ascii_lowercase();
            assert!(known.contains(&header.as_str()) || header.starts_with("content-"), "{name:?}: {line}");
            assert!(line.is_ascii(), "{name:?}: {line}");
        }
        let html = parts(&message).into_iter().find(|(head, _)| head.contains("text/html")).unwrap().1;
        assert!(!unquoted(&html).contains("<img"), "{name:?}");
    }
}

#[tokio::test]
async fn a_4xx_and_a_lost_connection_wait_and_a_5xx_ends() {
    let mut bench = Bench::new().await;
    for (refusal, state, said) in [
        (Refusal::Message("451 try again"), DeliveryState::Deferred, "451"),
        (Refusal::Recipient("450 greylisted"), DeliveryState::Deferred, "450"),
        (Refusal::Hangup, DeliveryState::Deferred, ""),
        (Refusal::Message("535 login first"), DeliveryState::Deferred, "535"),
        (Refusal::Recipient("550 no such user here"), DeliveryState::Bounced, "no such user here"),
        (Refusal::Message("554 spam"), DeliveryState::Bounced, "554"),
    ] {
        bench.sink.refuse([refusal.clone()]);
        let job = bench.ended("scan.jpg", Outcome::Done, &["anna@example.com"], Vec::new()).await;
        let records = bench.send_until(job, tried).await;
        assert_eq!((records[0].state, records[0].attempts), (state, 1), "{refusal:?}: {records:?}");
        let error = records[0].error.clone().unwrap();
        assert!(error.contains(said) && !error.is_empty() && !error.contains('\n'), "{refusal:?}: {error}");
        let job = bench.ledger.show(job).unwrap().unwrap().0;
        assert_eq!((job.state.name(), job.error), ("done", None), "mail trouble never touches the document");
    }
    assert!(bench.sink.messages().is_empty());
}

#[tokio::test]
async fn a_relay_that_is_not_there_waits_and_a_bad_address_ends_without_it() {
    let mut bench = Bench::new().await;
    let job = bench.ended("scan.jpg", Outcome::Done, &["not an address"], Vec::new()).await;
    let records = bench.send_until(job, tried).await;
    assert_eq!(records[0].state, DeliveryState::Bounced, "{records:?}");
    assert_eq!(bench.sink.tries(), 0);

    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = Settings { relay: format!("smtp://{gone}").parse().unwrap(), ..Settings::default() };
    let job = bench.ended("scan.jpg", Outcome::Done, &["anna@example.com"], Vec::new()).await;
    let outbox = Outbox::new(bench.queue.clone(), bench.spool.clone(), Mailer::new(&settings).unwrap());
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(outbox.run(async move {
        let _ = stopped.await;
    }));
    let record = loop {
        let record = bench.ledger.show(job).unwrap().unwrap().1.remove(0);
        if record.state != DeliveryState::Scheduled {
            break record;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    stop.send(()).unwrap();
    running.await.unwrap();
    assert_eq!(record.state, DeliveryState::Deferred, "{record:?}");
}

#[tokio::test]
async fn sidecars_too_large_or_gone_are_told_instead_of_attached() {
    let mut bench = Bench::new().await;
    let large = bench.kept(&vec![b'x'; usize::try_from(ATTACH_AT_MOST).unwrap() + 1]);
    let gone = SpoolKey([7; 32]);
    for (key, sentence) in [(large, "too large for a mail"), (gone, "could not be attached")] {
        let job = bench.ended("scan.jpg", Outcome::Done, &["anna@example.com"], vec![("scan.jpg.txt".into(), key)]).await;
        bench.send_until(job, tried).await;
        let message = bench.sink.messages().pop().unwrap();
        assert!(!message.data.contains("attachment"), "{sentence}");
        let plain = parts(&message).into_iter().find(|(head, _)| head.contains("text/plain")).unwrap().1;
        assert!(unquoted(&plain).contains(sentence), "{plain}");
    }
}

#[test]
fn a_password_file_that_cannot_work_is_refused_at_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    let refused = |relay: &str| {
        let settings = Settings { relay: relay.parse().unwrap(), password_file: Some(file.clone()), ..Settings::default() };
        Mailer::new(&settings).err().map(|error| error.to_string())
    };
    assert!(refused("smtp://anna@127.0.0.1").unwrap().contains("password"), "no such file");
    let without = Settings { relay: "smtp://anna@127.0.0.1".parse().unwrap(), ..Settings::default() };
    assert!(Mailer::new(&without).err().unwrap().to_string().contains("mail.password-file"));
    std::fs::write(&file, "\n").unwrap();
    assert!(refused("smtp://anna@127.0.0.1").unwrap().contains("empty"));
    std::fs::write(&file, "s3cret\n").unwrap();
    assert!(refused("smtp://127.0.0.1").unwrap().contains("names no user"));
    for relay in
        ["smtp://anna@127.0.0.1", "smtp://anna@127.0.0.1?tls=none", "smtps://anna@mail.example.com", "smtp://h:25?tls=required"]
    {
        if relay.contains('@') {
            assert_eq!(refused(relay), None, "{relay}");
        }
    }
}
