//! `inkport account …` with the real binary: what is set is shown, kept by both stores, and refused with a
//! sentence where it makes no sense.

mod common;

use common::Daemon;
use std::fs;

fn said(daemon: &Daemon, arguments: &[&str], code: i32) -> String {
    let output = daemon.inkport(arguments);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
    told
}

fn a_charset_is_kept(daemon: &Daemon) {
    daemon.account_add("tokyo", "secret", &["--charset", "sjis"]);
    daemon.account_add("plain", "secret", &[]);
    assert_eq!(daemon.json(&["account", "show", "tokyo", "--json"])["charset"], "shift_jis");
    assert!(
        daemon
            .printed(&["account", "show", "tokyo"])
            .lines()
            .any(|line| line.starts_with("charset ") && line.ends_with(" shift_jis"))
    );
    assert_eq!(daemon.json(&["account", "show", "plain", "--json"])["charset"], serde_json::Value::Null);
    said(daemon, &["account", "set", "plain", "--charset", "CP1251"], 0);
    let listed = daemon.json(&["account", "list", "--json"]);
    let charsets: Vec<_> =
        listed.as_array().unwrap().iter().map(|account| account["charset"].as_str().unwrap_or("none")).collect();
    assert_eq!(charsets, ["windows-1251", "shift_jis"]);
    said(daemon, &["account", "set", "plain", "--clear", "charset"], 0);
    assert_eq!(daemon.json(&["account", "show", "plain", "--json"])["charset"], serde_json::Value::Null);
    for label in ["ebcdic", "utf-16le"] {
        let told = said(daemon, &["account", "set", "tokyo", "--charset", label], 2);
        assert!(told.contains(label) && told.contains("use a label like shift_jis"), "{told}");
    }
}

#[test]
fn a_charset_in_the_database() {
    a_charset_is_kept(&Daemon::prepare(""));
}

#[test]
fn a_charset_in_a_file() {
    let daemon = Daemon::prepare("[accounts]\nsource = \"toml\"\n");
    a_charset_is_kept(&daemon);
    let file = daemon.folder().join("accounts.toml");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("charset = \"shift_jis\""), "{text}");
    fs::write(&file, text.replace("shift_jis", "ebcdic")).unwrap();
    let told = said(&daemon, &["account", "list"], 1);
    assert!(told.contains("ebcdic") && told.contains("use a label like shift_jis"), "{told}");
}
