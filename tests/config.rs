//! The configuration's promises: the shipped file is the defaults and names every key, a misspelt key
//! is answered with the right one, a bad value with file, line and key, and every key can be set by
//! environment.

use inkport::config::{Config, ConfigError, variable};
use std::path::Path;

const SHIPPED: &str = include_str!("../config/inkport.toml");

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("inkport.toml"), text, &[])
}

fn refusal(text: &str) -> String {
    parse(text).expect_err(text).to_string()
}

fn with_variables(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let variables: Vec<_> = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Config::parse(Path::new("inkport.toml"), text, &variables)
}

/// The shipped file with its optional sections and keys no longer commented out.
fn shipped_in_full() -> String {
    let mut uncommenting = false;
    let mut full = String::new();
    for line in SHIPPED.lines() {
        let bare = line.strip_prefix("# ").unwrap_or_default();
        if bare.starts_with('[') {
            uncommenting = true;
        } else if bare.is_empty() {
            uncommenting = false;
        }
        let is_key = bare.split_once(" = ").is_some_and(|(name, _)| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'));
        full.push_str(if uncommenting || is_key { bare } else { line });
        full.push('\n');
    }
    full
}

#[test]
fn the_shipped_file_is_the_defaults() {
    assert_eq!(parse(SHIPPED).unwrap(), Config::default());
    assert_eq!(parse("").unwrap(), Config::default());
}

#[test]
fn the_shipped_file_names_every_key_with_a_comment() {
    let full: toml::Table = shipped_in_full().parse().unwrap();
    for path in Config::known().keys.keys() {
        let value = path.split('.').try_fold(toml::Value::Table(full.clone()), |value, part| value.get(part).cloned());
        assert!(value.is_some(), "config/inkport.toml does not name {path}");
    }
    // And its examples of optional sections are good ones.
    let config = parse(&shipped_in_full()).unwrap();
    assert!(config.mail.is_some() && config.ftp.tls.is_some());
}

#[test]
fn what_is_written_out_reads_back() {
    for config in [Config::default(), Config::specimen()] {
        let text = toml::to_string(&config).unwrap();
        assert_eq!(parse(&text).unwrap(), config, "{text}");
    }
}

#[test]
fn an_unknown_key_is_answered_with_the_nearest_and_the_line() {
    for (text, line, nearest) in [
        ("version = 1\n\n[http]\nlistne = 'x'\n", "line 4", "http.listen"),
        ("data_dir = 'x'\n", "line 1", "data-dir"),
        ("[fpt]\nlisten = 'x'\n", "line 1", "ftp"),
        ("[ftp]\nmin-free-space = '1GB'\n", "line 2", "limits.min-free-space"),
        ("[ftp.tls]\ncertificate = 'c'\nprivate-key = 'k'\nrequires = 'all'\n", "line 4", "ftp.tls.require"),
        ("[mail]\nrealy = 'smtp://h'\n", "line 2", "mail.relay"),
    ] {
        let said = refusal(text);
        assert!(said.contains(line) && said.contains(&format!("\"{nearest}\"")), "{text:?}: {said}");
        assert!(said.starts_with("inkport.toml"), "{said}");
    }
}

#[test]
fn a_bad_value_is_told_with_its_key_and_what_is_allowed() {
    for (text, parts) in [
        ("version = 2", &["line 1", "version", "version = 1"][..]),
        ("[http]\nstatus = 'everyone'", &["line 2", "http.status", "admin", "public"]),
        ("[http]\nlisten = 'localhost'", &["line 2", "http.listen", "127.0.0.1:8080"]),
        ("[http]\npublic-url = 'ftp://x'", &["http.public-url", "https://"]),
        ("[limits]\nmax-upload = '1 lightyear'", &["line 2", "limits.max-upload", "MiB"]),
        ("[limits]\n\nmax-pages = 0", &["line 3", "limits.max-pages", "more than zero"]),
        ("[ftp]\npassive-ports = \"2100-2200\"", &["line 2", "ftp.passive-ports", "ftp.listen"]),
        ("[ocr]\nengine = 'trocr'", &["line 2", "ocr.engine", "ppocr"]),
        ("[limits]\nmax-pages = -1", &["limits.max-pages"]),
        ("shutdown-grace = 30", &["shutdown-grace", "30s"]),
        ("[retention]\noriginals = 'soon'", &["line 2", "retention.originals", "keep", "30d"]),
        ("[retention]\nsidecars = 'after-reading'", &["line 2", "retention.sidecars", "more than zero"]),
        ("[retention]\njobs = '30d'", &["line 2", "retention.jobs", "retention.originals"]),
        ("[mail]\nrelay = 'mail.example.com'", &["line 2", "mail.relay", "smtp://"]),
        ("[mail]\nfrom = 'nobody'", &["mail.from", "nobody"]),
        ("[ftp.tls]\ncertificate = 'c.pem'", &["ftp.tls", "private-key"]),
        ("ftp = 3", &["line 1", "ftp"]),
        ("[http\n", &["line 1"]),
    ] {
        let said = refusal(text);
        assert!(parts.iter().all(|part| said.contains(part)), "{text:?}: {said}");
        assert!(!said.contains('\n'), "one sentence: {said}");
    }
}

#[test]
fn every_key_can_be_set_by_environment() {
    // Each key's own specimen value is given by its variable: the file need not name it.
    let specimen = toml::Value::try_from(Config::specimen()).unwrap();
    let variables: Vec<(String, String)> = Config::known()
        .keys
        .keys()
        .map(|path| {
            let value = path.split('.').fold(&specimen, |value, part| &value[part]);
            (variable(path), value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        })
        .collect();
    assert_eq!(Config::parse(Path::new("inkport.toml"), "", &variables).unwrap(), Config::specimen());
}

#[test]
fn the_environment_beats_the_file_and_nothing_else_of_it() {
    let text = "[http]\nlisten = '127.0.0.1:1'\nstatus = 'public'\n[retry]\nattempts = 7\n";
    let config =
        with_variables(text, &[("INKPORT_HTTP__LISTEN", "127.0.0.1:2"), ("HOME", "/root"), ("INKPORT_LOG", "x")]).unwrap();
    assert_eq!(config.http.listen.port(), 2);
    assert_eq!(config.retry.attempts, 7);
    assert_eq!(config.http.status, inkport::http::StatusAccess::Public);
}

#[test]
fn a_bad_variable_is_told_by_its_name() {
    for (name, value, parts) in [
        ("INKPORT_HTTP__LISTN", "x", &["INKPORT_HTTP__LISTN", "INKPORT_HTTP__LISTEN"][..]),
        ("INKPORT_HTTP__STATUS", "everyone", &["INKPORT_HTTP__STATUS", "http.status", "public"]),
        ("INKPORT_RETRY__ATTEMPTS", "many", &["INKPORT_RETRY__ATTEMPTS", "retry.attempts", "number"]),
        ("INKPORT_RETRY__ATTEMPTS", "0", &["INKPORT_RETRY__ATTEMPTS", "retry.attempts", "more than zero"]),
        ("INKPORT_FTP__TLS__REQUIRE", "all", &["ftp.tls", "certificate"]),
        ("INKPORT_DATA_DIR", "a\nb", &["INKPORT_DATA_DIR", "control"]),
    ] {
        let said = with_variables("version = 1\n", &[(name, value)]).expect_err(name).to_string();
        assert!(parts.iter().all(|part| said.contains(part)), "{name}={value}: {said}");
    }
}

#[test]
fn a_loaded_files_paths_start_at_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    std::fs::create_dir(root.join("config")).unwrap();
    std::fs::write(root.join("config/inkport.toml"), SHIPPED).unwrap();
    let config = Config::load(Some(&root.join("config/inkport.toml"))).unwrap();
    assert_eq!(config.data_dir, root.join("data"));
    assert_eq!(config.ocr.models, root.join("models"));
    assert_eq!(config.accounts.file, root.join("config/accounts.toml"));
    let missing = Config::load(Some(&root.join("nowhere.toml"))).unwrap_err().to_string();
    assert!(missing.contains("nowhere.toml"), "{missing}");
}
