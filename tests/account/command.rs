//! `inkport account …` with the real binary: what is set is shown, kept by both stores, carried from one to the
//! other, and refused with a sentence where it makes no sense.

use crate::common::Daemon;
use serde_json::json;
use std::fs;

fn said(daemon: &Daemon, arguments: &[&str], code: i32) -> String {
    let output = daemon.inkport(arguments);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
    told
}

/// Every setting, what is shown of it, and what is refused in its place.
const SETTINGS: &[(&str, &str, &str, &str, &str)] = &[
    ("--email", "desk@example.org", "email", r#"["desk@example.org"]"#, "desk"),
    ("--outputs", "json", "outputs", r#"["json"]"#, "paper"),
    ("--quota", "10GiB", "quota", "10737418240", "much"),
    ("--quota-files", "1000", "quota_files", "1000", "-1"),
    ("--max-upload", "50MiB", "max_upload", "52428800", "50 lightyears"),
    ("--permissions", "upload,list", "permissions", r#"["upload","list"]"#, "fly"),
    ("--existing", "keep-both", "existing", r#""keep-both""#, "both"),
    ("--network", "10.0.0.7/8", "networks", r#"["10.0.0.0/8"]"#, "example.org"),
    ("--require-tls", "yes", "require_tls", "true", "perhaps"),
    ("--expires", "2999-12-31", "expires", r#""2999-12-31""#, "tomorrow"),
    ("--bandwidth", "1MiB", "bandwidth", "1048576", "1"),
    ("--sessions", "4", "sessions", "4", "many"),
    ("--language", "de,en", "language", r#"["de","en"]"#, "english"),
    ("--pages-per-day", "100", "pages_per_day", "100", "all"),
    ("--tier", "pro", "tier", r#""pro""#, "gold"),
    ("--charset", "sjis", "charset", r#""shift_jis""#, "ebcdic"),
    ("--role", "app", "role", r#""app""#, "king"),
    ("--tls-eof", "lenient", "tls_eof", r#""lenient""#, "never"),
    ("--client-certificate", "required", "client_certificate", r#""required""#, "nice"),
    ("--priority", "high", "priority", r#""high""#, "highest"),
    ("--arrival", "rename", "arrival", r#""rename""#, "post"),
    ("--duplicates", "reuse", "duplicates", r#""reuse""#, "twice"),
    ("--keep-originals", "after-reading", "keep_originals", r#""after-reading""#, "forever"),
    ("--keep-sidecars", "90d", "keep_sidecars", r#""90d""#, "long"),
    ("--keep-jobs", "keep", "keep_jobs", r#""keep""#, "long"),
];

fn settings_are_kept(daemon: &Daemon) {
    let all: Vec<&str> = SETTINGS.iter().flat_map(|(flag, value, ..)| [*flag, *value]).collect();
    daemon.account_add("full", "secret", &all);
    daemon.account_add("plain", "secret", &[]);
    let (full, plain) =
        (daemon.json(&["account", "show", "full", "--json"]), daemon.json(&["account", "show", "plain", "--json"]));
    let told = daemon.printed(&["account", "show", "full"]);
    for (flag, _, name, shown, bad) in SETTINGS {
        assert_eq!(full[name], serde_json::from_str::<serde_json::Value>(shown).unwrap(), "{name}");
        assert_ne!(plain[name], full[name], "{name}");
        assert!(told.lines().any(|line| line.split(' ').next() == Some(&name.replace('_', "-"))), "{name}: {told}");
        let refused = said(daemon, &["account", "set", "plain", flag, bad], 2);
        assert!(refused.contains(bad) || refused.contains("at least"), "{refused}");
    }
    assert_eq!(daemon.json(&["account", "show", "plain", "--json"]), plain, "what is refused changes nothing");
    // One by one, and back to what a new account has.
    let set: Vec<&str> = ["account", "set", "plain"].into_iter().chain(all.iter().copied()).collect();
    said(daemon, &set, 0);
    let clearable = "email,quota,quota-files,max-upload,permissions,existing,networks,require-tls,expires,bandwidth,sessions,language,pages-per-day,tier,charset,client-certificate,arrival,duplicates,keep-originals,keep-sidecars,keep-jobs";
    said(daemon, &["account", "set", "plain", "--clear", clearable, "--outputs", "txt,json", "--role", "device"], 0);
    said(daemon, &["account", "set", "plain", "--tls-eof", "strict", "--priority", "normal"], 0);
    assert_eq!(daemon.json(&["account", "show", "plain", "--json"]), plain);
    assert!(daemon.home("full").is_dir(), "homes are made with their accounts");
    said(daemon, &["account", "set", "plain"], 2);
    assert!(said(daemon, &["account", "show", "nobody"], 1).contains("nobody"));
    assert!(said(daemon, &["account", "add", "plain"], 1).contains("already"));
    assert!(said(daemon, &["account", "add", "Plain"], 2).contains("account's name"));
    said(daemon, &["account", "disable", "plain"], 0);
    assert_eq!(daemon.json(&["account", "show", "plain", "--json"])["enabled"], json!(false));
    said(daemon, &["account", "enable", "plain"], 0);
    said(daemon, &["account", "set", "plain", "--expires", "2020-01-01"], 0);
    assert!(daemon.printed(&["account", "list"]).contains("expired"));
    assert_eq!(daemon.printed(&["account", "bans"]), "nobody is locked out\n");
    assert_eq!(daemon.json(&["account", "bans", "--json"]), json!([]));
}

const TOML: &str = "[accounts]\nsource = \"toml\"\n";

#[test]
fn both_stores_keep_every_setting_and_carry_it_over() {
    let (database, file) = (Daemon::prepare(""), Daemon::prepare(TOML));
    settings_are_kept(&database);
    settings_are_kept(&file);

    // From the database into a file and back into a database: the same text, the same hashes.
    let exported = database.printed(&["account", "export"]);
    assert!(exported.contains("$argon2id$"), "{exported}");
    let path = database.folder().join("exported.toml");
    fs::write(&path, &exported).unwrap();
    let path = path.to_str().unwrap();
    for other in [Daemon::prepare(TOML), Daemon::prepare("")] {
        assert!(said(&other, &["account", "import", path], 0).starts_with("2 accounts added"));
        assert!(other.home("full").is_dir() && other.home("plain").is_dir());
        assert_eq!(other.printed(&["account", "export"]), exported);
        assert!(said(&other, &["account", "import", path], 0).contains("2 were there"));

        // All or nothing.
        said(&other, &["account", "disable", "plain"], 0);
        said(&other, &["account", "remove", "full"], 0);
        let told = said(&other, &["account", "import", path], 1);
        assert!(told.contains("\"plain\"") && told.contains("--replace"), "{told}");
        assert!(!other.printed(&["account", "export"]).contains("\"full\""));
        assert!(said(&other, &["account", "import", path, "--replace"], 0).starts_with("1 accounts added, 1 replaced"));
        assert_eq!(other.printed(&["account", "export"]), exported);
        for (broken, says) in
            [("[[account", "line 1"), ("[[account]]\nname = \"x\"\nquoter = 1\n", "quoter"), ("account = 1", "account")]
        {
            let bad = other.folder().join("bad.toml");
            fs::write(&bad, broken).unwrap();
            let told = said(&other, &["account", "import", bad.to_str().unwrap()], 1);
            assert!(told.contains("no account was imported") && told.contains(says), "{told}");
        }
        assert!(said(&other, &["account", "import", "none.toml"], 1).contains("none.toml"));
        assert_eq!(other.printed(&["account", "export"]), exported);
    }
}

#[test]
fn a_file_with_a_bad_setting_says_what_is_wrong() {
    let daemon = Daemon::prepare(TOML);
    daemon.account_add("tokyo", "secret", &["--charset", "sjis"]);
    let file = daemon.folder().join("accounts.toml");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("charset = \"shift_jis\""), "{text}");
    fs::write(&file, text.replace("shift_jis", "ebcdic")).unwrap();
    let told = said(&daemon, &["account", "list"], 1);
    assert!(told.contains("ebcdic") && told.contains("use a label like shift_jis"), "{told}");
}
