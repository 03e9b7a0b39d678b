//! The HTTP API as its clients see it: each route, its statuses and headers; the promise over a crash; what is served
//! against what is documented. The real daemon, and a client that speaks HTTP by hand.

mod common;

#[path = "api/client.rs"]
mod client;
#[path = "api/events.rs"]
mod events;
#[path = "api/front.rs"]
mod front;
#[path = "api/jobs.rs"]
mod jobs;
#[path = "api/metrics.rs"]
mod metrics;
#[path = "api/ocr.rs"]
mod ocr;
#[path = "api/openapi.rs"]
mod openapi;

use client::Client;
use common::{ACCOUNT, Daemon, repository};
use std::fs;
use std::sync::OnceLock;

/// One daemon for all tests that do not need one of their own.
struct Shared {
    daemon: Daemon,
    client: Client,
    stranger: Client,
}

fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    SHARED.get_or_init(|| {
        let daemon = Daemon::start("[limits]\njob-timeout = \"5m\"");
        daemon.account_add("stranger", common::PASSWORD, &[]);
        let (client, stranger) = (client_of(&daemon, ACCOUNT), client_of(&daemon, "stranger"));
        Shared { daemon, client, stranger }
    })
}

/// A client with a new bearer key of this account.
fn client_of(daemon: &Daemon, account: &str) -> Client {
    Client { address: daemon.http, key: Some(key_of(daemon, account)) }
}

fn key_of(daemon: &Daemon, account: &str) -> String {
    let made = daemon.json(&["key", "add", account, "--kind", "bearer"]);
    made["secret"].as_str().unwrap().to_owned()
}

fn fixture(name: &str) -> Vec<u8> {
    fs::read(repository().join("tests/fixtures").join(name)).unwrap()
}

/// The shared daemon lives in a static, which nobody drops: it ends with this process' last test.
#[test]
fn zz_nothing_was_logged_as_an_error() {
    let log = shared().daemon.log();
    let panics = log.lines().filter(|line| line.contains("panic")).collect::<Vec<_>>();
    assert!(panics.is_empty(), "{panics:#?}");
}
