//! `inkport cert`: what it makes is what a daemon takes and a client trusts.

mod common;

use base64::Engine as _;
use common::{ACCOUNT, Daemon, PASSWORD};
use sha2::{Digest as _, Sha256};
use std::fs;
use std::process::Command;

fn printed(folder: &std::path::Path) -> (Option<i32>, String, String) {
    let ran = Command::new(env!("CARGO_BIN_EXE_inkport"))
        .args(["cert", "--name", "localhost", "--name", "127.0.0.1", "--out"])
        .arg(folder)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (ran.status.code(), text(ran.stdout), text(ran.stderr))
}

#[test]
fn a_daemon_takes_it_and_a_client_that_was_given_it_trusts_it() {
    let folder = tempfile::tempdir().unwrap();
    let (code, told, problem) = printed(folder.path());
    assert_eq!(code, Some(0), "{problem}");
    let pem = fs::read_to_string(folder.path().join("ftp-cert.pem")).unwrap();
    let base64: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = base64::engine::general_purpose::STANDARD.decode(base64).unwrap();
    let fingerprint: Vec<String> = Sha256::digest(der).iter().map(|byte| format!("{byte:02X}")).collect();
    assert!(told.contains(&fingerprint.join(":")), "{told}");

    // The two lines, as they were printed.
    let lines: Vec<&str> =
        told.lines().filter(|line| line.starts_with("certificate = ") || line.starts_with("private-key = ")).collect();
    assert_eq!(lines.len(), 2, "{told}");
    let daemon = Daemon::start(&format!("[ftp.tls]\n{}\nrequire = \"login\"\n", lines.join("\n")));
    let page = folder.path().join("page.bin");
    fs::write(&page, "page").unwrap();
    let ran = Command::new("curl")
        .args(["--silent", "--show-error", "--ssl-reqd", "--user", &format!("{ACCOUNT}:{PASSWORD}"), "--cacert"])
        .arg(folder.path().join("ftp-cert.pem"))
        .arg("--upload-file")
        .arg(&page)
        .arg(format!("ftp://localhost:{}/page.bin", daemon.ftp.port()))
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert_eq!(fs::read(daemon.home(ACCOUNT).join("page.bin")).unwrap(), b"page");
}

#[test]
fn nothing_is_overwritten_and_wrong_names_are_wrong_usage() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(printed(folder.path()).0, Some(0));
    let key = fs::read(folder.path().join("ftp-key.pem")).unwrap();
    let (code, told, problem) = printed(folder.path());
    assert_eq!((code, told.as_str()), (Some(2), ""));
    assert!(problem.contains("ftp-cert.pem is there already"), "{problem}");
    assert_eq!(fs::read(folder.path().join("ftp-key.pem")).unwrap(), key);
    let ran = Command::new(env!("CARGO_BIN_EXE_inkport")).args(["cert", "--name", "ftp://host:21"]).output().unwrap();
    assert_eq!(ran.status.code(), Some(2));
}
