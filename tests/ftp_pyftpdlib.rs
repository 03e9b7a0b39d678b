//! pyftpdlib's own functional tests, at reply codes: what a much used server is held to by its author, said
//! by Python's ftplib. `scripts/test-deps` fetches them; `tests/pyftpdlib.py` runs them against our door.
//!
//! What fails is listed in `tests/pyftpdlib-expected.toml` with its reason: another failure fails here, and so
//! does a listed test that passes. `make pyftpdlib-expected` writes the list anew.

mod ftp_support;

use ftp_support::{House, certificate};
use inkport::account::Account;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

type Reasons = BTreeMap<String, String>;

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Expected {
    left_out: Reasons,
    plain: Reasons,
    tls: Reasons,
}

#[derive(Deserialize)]
struct Told {
    test: String,
    outcome: String,
    why: String,
}

fn here(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn list() -> PathBuf {
    here("tests/pyftpdlib-expected.toml")
}

/// Runs one file of tests; `None` where they are not there.
fn run(file: &str) -> Option<Vec<Told>> {
    let source = here("target/test-clients/pyftpdlib-2.2.0");
    if !source.join("tests").is_dir() {
        let _ = writeln!(std::io::stderr(), "skipped: pyftpdlib's tests are not here: `make setup-tests` fetches them");
        return None;
    }
    let expected: Expected = toml::from_str(&fs::read_to_string(list()).unwrap()).unwrap();
    let left_out: Vec<&str> = expected.left_out.keys().map(String::as_str).collect();
    let pair = certificate();
    let mut settings = pair.settings("require = \"no\"");
    settings.listen = "[::]:0".parse().unwrap();
    let house = House::open_with(settings, Duration::from_secs(60));
    house.add(Account::new("user".parse().unwrap()));
    // Whom ftplib logs in as when it is told nobody.
    house.add_with_password(Account::new("anonymous".parse().unwrap()), "anonymous@");
    let home = house.dir.path().join("homes/user");
    let ran = Command::new("python3")
        .arg(here("tests/pyftpdlib.py"))
        .arg(source)
        .args([file, "127.0.0.1", &house.address.port().to_string(), "user", "secret"])
        .arg(home)
        .env("PYFTPDLIB_LEFT_OUT", left_out.join(","))
        // The place where modules of the fetched clients lie: asyncore, for a Python that has none.
        .env("PYTHONPATH", here("target/test-clients/python"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success(), "{}\n{}", said, String::from_utf8_lossy(&ran.stderr));
    let mut told: Vec<Told> =
        said.lines().filter(|line| line.starts_with('{')).map(|line| serde_json::from_str(line).unwrap()).collect();
    told.sort_by(|one, other| one.test.cmp(&other.test));
    Some(told)
}

fn holds(file: &str, listed: impl Fn(&mut Expected) -> &mut Reasons) {
    let Some(told) = run(file) else { return };
    assert!(told.len() > 80, "only {} tests were found", told.len());
    let passed = told.iter().filter(|test| test.outcome == "passed").count();
    let skipped = told.iter().filter(|test| test.outcome == "skipped").count();
    let _ = writeln!(std::io::stderr(), "pyftpdlib, {file}: {passed} of {} pass, {skipped} skip themselves", told.len());
    let mut expected: Expected = toml::from_str(&fs::read_to_string(list()).unwrap()).unwrap();
    let reasons = listed(&mut expected).clone();
    if std::env::var_os("PYFTPDLIB_REFRESH").is_some() {
        let failing = told.iter().filter(|test| test.outcome == "failed");
        let fresh = failing.map(|test| {
            let said = format!("not judged yet: {}", test.why.replace('\n', " "));
            (test.test.clone(), reasons.get(&test.test).cloned().unwrap_or(said))
        });
        let fresh: Reasons = fresh.collect();
        rewrite(|expected| *listed(expected) = fresh.clone());
        return;
    }
    let mut wrong = String::new();
    for test in &told {
        match (test.outcome.as_str(), reasons.get(&test.test)) {
            ("failed", None) => drop(writeln!(wrong, "{} fails: {}", test.test, test.why)),
            ("passed", Some(reason)) => drop(writeln!(wrong, "{} passes, and is listed: {reason}", test.test)),
            _ => {}
        }
    }
    for listed in reasons.keys().filter(|listed| told.iter().all(|test| test.test != **listed)) {
        let _ = writeln!(wrong, "{listed} is listed, and there is no such test");
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// The list, changed; its comments stay. One test at a time.
fn rewrite(change: impl Fn(&mut Expected)) {
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _turn = TURN.lock().unwrap();
    let text = fs::read_to_string(list()).unwrap();
    let mut expected: Expected = toml::from_str(&text).unwrap();
    change(&mut expected);
    let head = &text[..text.find("\n[plain]\n").expect("the list has [plain] after its comments")];
    let mut fresh = format!("{head}\n[plain]\n");
    let line = |(test, reason): (&String, &String)| {
        format!("{} = {}\n", toml::Value::from(test.as_str()), toml::Value::from(reason.as_str()))
    };
    expected.plain.iter().for_each(|entry| fresh.push_str(&line(entry)));
    fresh.push_str("\n[tls]\n");
    expected.tls.iter().for_each(|entry| fresh.push_str(&line(entry)));
    fs::write(list(), fresh).unwrap();
}

#[test]
fn over_plain_connections() {
    holds("plain", |expected| &mut expected.plain);
}

#[test]
fn over_tls() {
    holds("tls", |expected| &mut expected.tls);
}
