//! Keys as their users have them: made, rotated and revoked on the command line beside a running daemon, used by curl
//! and by the client under `examples/`.

mod common;

use common::{Daemon, repository};
use std::process::{Command, Output};

fn key(daemon: &Daemon, arguments: &[&str]) -> (String, String) {
    let key = daemon.json(&[&["key"], arguments].concat());
    let text = |name: &str| key[name].as_str().unwrap().to_owned();
    (text("id"), text("secret"))
}

fn status(daemon: &Daemon, header: &str) -> u16 {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "60", "--output", "/dev/null", "--write-out", "%{http_code}"])
        .args(["--header", header, &format!("http://{}/api/v1/usage", daemon.http)])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().parse().unwrap()
}

fn client(daemon: &Daemon, id: &str, secret: &str, arguments: &[&str]) -> Output {
    Command::new("python3")
        .arg(repository().join("examples/inkport_client.py"))
        .args(["--url", &format!("http://{}", daemon.http)])
        .args(arguments)
        .env("INKPORT_KEY_ID", id)
        .env("INKPORT_KEY_SECRET", secret)
        .output()
        .unwrap()
}

fn words(file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(repository().join(file)).unwrap();
    text.split_whitespace().map(str::to_owned).collect()
}

fn fails(daemon: &Daemon, arguments: &[&str], code: i32, says: &str) {
    let output = daemon.inkport(arguments);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
    assert!(told.contains(says), "{arguments:?}: {told}");
}

#[test]
fn a_key_is_made_used_rotated_and_revoked_beside_a_running_daemon() {
    let daemon = Daemon::start("");
    let (id, secret) = key(&daemon, &["add", "front-desk", "--kind", "bearer", "--expires", "90d", "--label", "the till"]);
    assert!(id.starts_with("key_") && secret.starts_with("ink_"), "{id} {secret}");
    assert_eq!(status(&daemon, &format!("X-API-Key: {secret}")), 200);
    assert_eq!(status(&daemon, &format!("Authorization: Bearer {secret}")), 200);
    assert_eq!(status(&daemon, &format!("X-API-Key: {id}")), 403);
    assert_eq!(status(&daemon, "Accept: */*"), 401);

    let (again, new) = key(&daemon, &["rotate", &id]);
    assert_eq!(again, id);
    for good in [&secret, &new] {
        assert_eq!(status(&daemon, &format!("X-API-Key: {good}")), 200, "both, for a day");
    }
    let listed = daemon.printed(&["key", "list", "--json"]);
    assert!(!listed.contains("ink_") && !daemon.printed(&["key", "list"]).contains("ink_"));
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let row = &listed[0];
    assert_eq!(
        (row["id"].as_str(), row["account"].as_str(), row["kind"].as_str()),
        (Some(&*id), Some("front-desk"), Some("bearer"))
    );
    assert_eq!((row["state"].as_str(), row["label"].as_str()), (Some("active"), Some("the till")));
    assert_eq!(row["scopes"], serde_json::json!(["read", "write"]));
    for time in ["created_at", "expires_at", "last_used_at", "grace_until"] {
        assert!(row[time].is_string(), "{time}: {row}");
    }
    key(&daemon, &["rotate", &id, "--grace", "0s"]);
    assert_eq!(status(&daemon, &format!("X-API-Key: {new}")), 403, "without grace the old one is gone at once");

    daemon.printed(&["key", "revoke", &id]);
    assert_eq!(daemon.json(&["key", "list", "--json", "--account", "front-desk"])[0]["state"], "revoked");
    fails(&daemon, &["key", "rotate", &id], 1, "revoked");
    fails(&daemon, &["key", "rotate", "key_1"], 2, "key list");
    fails(&daemon, &["key", "revoke", "key_01JZT0Q8000000000000000000"], 1, "there is no key");
    fails(&daemon, &["key", "add", "nobody", "--kind", "bearer"], 1, "there is no account");
    fails(&daemon, &["key", "add", "front-desk", "--kind", "magic"], 2, "bearer or hmac");
    fails(&daemon, &["key", "add", "front-desk"], 2, "--kind");
    fails(&daemon, &["key", "add", "front-desk", "--kind", "bearer", "--expires", "0s"], 1, "--expires");
    let log = daemon.log();
    assert!(!log.contains(&secret) && !log.contains(&new), "{log}");
}

#[test]
fn the_example_client_signs_as_published_and_is_let_in() {
    let vectors = repository().join("examples/vectors.json");
    let checked = Command::new("python3")
        .arg(repository().join("examples/inkport_client.py"))
        .args(["vectors", vectors.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    assert!(String::from_utf8_lossy(&checked.stdout).contains(" 0 signed otherwise"));

    let mut daemon = Daemon::start("");
    let (id, secret) = key(&daemon, &["add", "front-desk", "--kind", "hmac"]);
    let usage = client(&daemon, &id, &secret, &["usage"]);
    assert!(usage.status.success(), "{}", String::from_utf8_lossy(&usage.stderr));
    let usage: serde_json::Value = serde_json::from_slice(&usage.stdout).unwrap();
    assert_eq!(usage["usage"]["user"], "front-desk");
    let page = repository().join("tests/fixtures/bakery.png");
    let read = client(&daemon, &id, &secret, &["read", page.to_str().unwrap()]);
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    assert_eq!(String::from_utf8_lossy(&read.stdout).split_whitespace().collect::<Vec<_>>(), words("tests/fixtures/bakery.txt"));
    assert_eq!(status(&daemon, &format!("X-API-Key: {secret}")), 403, "its secret never travels");
    let wrong = client(&daemon, &id, "ink_wrong", &["usage"]);
    assert!(!wrong.status.success() && String::from_utf8_lossy(&wrong.stderr).contains("403"));

    // After a restart it still opens; without its master key the daemon does not start, and says how to go on.
    assert_eq!(daemon.terminate(), Some(0));
    daemon.run();
    assert!(client(&daemon, &id, &secret, &["usage"]).status.success());
    assert_eq!(daemon.terminate(), Some(0));
    let master = daemon.folder().join("data/master.key");
    std::fs::rename(&master, daemon.folder().join("lost")).unwrap();
    fails(&daemon, &["serve"], 2, "inkport key revoke");
    daemon.printed(&["key", "revoke", &id]);
    daemon.run();
}
