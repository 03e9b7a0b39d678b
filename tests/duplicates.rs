//! The same bytes twice, over real FTP: read again or answered from the first reading, as the account has
//! it; both ways every file gets its sidecars and its mail.

mod common;

use common::smtp::Sink;
use common::{ACCOUNT, Daemon, repository, wait_for};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;

fn reading(daemon: &Daemon, name: &str) -> Value {
    serde_json::from_slice(&fs::read(daemon.home(ACCOUNT).join(format!("{name}.json"))).unwrap()).unwrap()
}

fn text(daemon: &Daemon, name: &str) -> String {
    fs::read_to_string(daemon.home(ACCOUNT).join(format!("{name}.txt"))).unwrap()
}

/// Every job by its file's name; all must be done.
fn done(daemon: &Daemon) -> BTreeMap<String, String> {
    let jobs = daemon.settled();
    assert!(jobs.iter().all(|job| job["state"] == "done"), "{jobs:?}");
    jobs.iter().map(|job| (job["path"].as_str().unwrap()[1..].to_owned(), job["id"].as_str().unwrap().to_owned())).collect()
}

#[test]
fn the_same_bytes_are_answered_from_the_first_reading_where_that_is_wanted() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let sink = runtime.block_on(Sink::start());
    let mail = format!("[mail]\nrelay = \"{}\"\nfrom = \"Inkport <inkport@localhost>\"", sink.url());
    let mut daemon = Daemon::start(&format!("[limits]\nduplicates = \"reuse\"\n{mail}"));
    let page = repository().join("tests/fixtures/receipt.png");
    daemon.upload(&page, "first.png").unwrap();
    done(&daemon);
    daemon.upload(&page, "second.png").unwrap();
    let jobs = done(&daemon);
    let (first, second) = (reading(&daemon, "first.png"), reading(&daemon, "second.png"));
    assert_eq!(first.get("duplicate_of"), None);
    assert_eq!(second["duplicate_of"], jobs["first.png"].as_str());
    assert_eq!((second["job"].as_str().unwrap(), second["file"]["name"].as_str().unwrap()), (&*jobs["second.png"], "second.png"));
    assert_eq!((&second["pages"], &second["text"], &second["engine"]), (&first["pages"], &first["text"], &first["engine"]));
    assert!(text(&daemon, "first.png").contains("CORNER BAKERY"));
    assert_eq!(text(&daemon, "second.png"), text(&daemon, "first.png"));
    let schema = fs::read_to_string(repository().join("schema/reading-1.schema.json")).unwrap();
    let validator = jsonschema::validator_for(&serde_json::from_str(&schema).unwrap()).unwrap();
    assert!(validator.is_valid(&second), "{second}");

    // After a restart, and of a file that is itself a duplicate: the first is the first.
    assert_eq!(daemon.terminate(), Some(0));
    daemon.run();
    daemon.upload(&page, "third.png").unwrap();
    let jobs = done(&daemon);
    assert_eq!(reading(&daemon, "third.png")["duplicate_of"], jobs["first.png"].as_str());
    let mails = wait_for("a mail about each", || Some(sink.messages()).filter(|mails| mails.len() >= 3));
    for name in ["first.png", "second.png", "third.png"] {
        let about = mails.iter().filter(|mail| mail.header("Subject").is_some_and(|subject| subject.contains(name)));
        assert_eq!(about.count(), 1, "{name}");
    }

    // Other languages make another reading; then the account has its own mind.
    daemon.printed(&["account", "set", ACCOUNT, "--language", "en"]);
    daemon.upload(&page, "english.png").unwrap();
    done(&daemon);
    assert_eq!(reading(&daemon, "english.png").get("duplicate_of"), None);
    daemon.printed(&["account", "set", ACCOUNT, "--duplicates", "read"]);
    daemon.upload(&page, "again.png").unwrap();
    done(&daemon);
    assert_eq!(reading(&daemon, "again.png").get("duplicate_of"), None);
    assert_eq!(daemon.terminate(), Some(0));
}

#[test]
fn duplicates_at_once_are_all_read_or_answered() {
    let mut daemon = Daemon::start("[limits]\nduplicates = \"reuse\"");
    let page = repository().join("tests/fixtures/receipt.png");
    // None waits for the first to be done, and a kill between makes no difference.
    for number in 0..6 {
        daemon.upload(&page, &format!("{number}.png")).unwrap();
    }
    daemon.kill();
    daemon.run();
    for number in 6..8 {
        daemon.upload(&page, &format!("{number}.png")).unwrap();
    }
    let jobs = done(&daemon);
    assert_eq!(jobs.len(), 8);
    let first = text(&daemon, "0.png");
    for name in jobs.keys() {
        assert_eq!(text(&daemon, name), first, "{name}");
        if let Some(of) = reading(&daemon, name).get("duplicate_of") {
            assert!(jobs.values().any(|id| id == of) && of != jobs[name].as_str(), "{name}: {of}");
        }
    }
    assert_eq!(daemon.terminate(), Some(0));
}

#[test]
fn the_same_bytes_are_read_again_unless_told_otherwise() {
    let mut daemon = Daemon::start("");
    let page = repository().join("tests/fixtures/receipt.png");
    for name in ["first.png", "second.png"] {
        daemon.upload(&page, name).unwrap();
        done(&daemon);
        assert_eq!(reading(&daemon, name).get("duplicate_of"), None);
    }
    assert_eq!(text(&daemon, "second.png"), text(&daemon, "first.png"));
    assert_eq!(daemon.terminate(), Some(0));
}
