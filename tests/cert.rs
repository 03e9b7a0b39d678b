//! `inkport cert`: what it makes is what a daemon takes and a client trusts, and what a running one takes
//! again at SIGHUP.

mod common;

use base64::Engine as _;
use common::{ACCOUNT, Daemon, PASSWORD, wait_for};
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

/// The fingerprint of what the daemon shows, explicit and implicit.
fn shown(daemon: &Daemon) -> String {
    let script = "import ftplib, hashlib, socket, ssl, sys\n\
        host, explicit, implicit = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])\n\
        c = ssl._create_unverified_context()\n\
        f = ftplib.FTP_TLS(context=c); f.connect(host, explicit); f.auth()\n\
        s = c.wrap_socket(socket.create_connection((host, implicit)))\n\
        assert s.recv(3) == b'220'\n\
        one, two = [hashlib.sha256(sock.getpeercert(True)).hexdigest() for sock in (f.sock, s)]\n\
        assert one == two, (one, two)\nprint(one)";
    let ran = Command::new("python3")
        .args(["-c", script, &daemon.ftp.ip().to_string(), &daemon.ftp.port().to_string()])
        .arg(daemon.ftps.unwrap().port().to_string())
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap().trim().to_owned()
}

fn hang_up(daemon: &Daemon, logged: &str) {
    let before = daemon.log().matches(logged).count();
    assert!(Command::new("kill").arg("-HUP").arg(daemon.pid().to_string()).status().unwrap().success());
    wait_for("the log to tell of SIGHUP", || (daemon.log().matches(logged).count() > before).then_some(()));
}

#[test]
fn a_renewed_certificate_is_taken_at_sighup_and_a_wrong_one_is_not() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for folder in [&first, &second] {
        let (code, _, problem) = printed(folder.path());
        assert_eq!(code, Some(0), "{problem}");
    }
    let at = |name: &str| first.path().join(name);
    let daemon = Daemon::start(&format!(
        "[ftp.tls]\ncertificate = {:?}\nprivate-key = {:?}\nimplicit-listen = \"127.0.0.1:0\"\n",
        at("ftp-cert.pem"),
        at("ftp-key.pem")
    ));
    let old = shown(&daemon);
    fs::copy(second.path().join("ftp-cert.pem"), at("ftp-cert.pem")).unwrap();
    hang_up(&daemon, "the old ones stay");
    assert_eq!(shown(&daemon), old);
    let log = daemon.log();
    let told: Vec<&str> = log.lines().filter(|line| line.contains("SIGHUP")).collect();
    assert!(told.len() == 1 && told[0].contains("ERROR") && told[0].contains("ftp-key.pem"), "{told:?}");
    fs::copy(second.path().join("ftp-key.pem"), at("ftp-key.pem")).unwrap();
    hang_up(&daemon, "were read again");
    assert_ne!(shown(&daemon), old);
}

#[test]
fn sighup_without_tls_changes_nothing_and_says_so() {
    let mut daemon = Daemon::start("");
    hang_up(&daemon, "there was nothing to read again");
    assert_eq!(daemon.ftps, None);
    assert_eq!(daemon.terminate(), Some(0));
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

#[test]
fn an_accounts_tls_settings_are_set_shown_and_cleared() {
    let daemon = Daemon::prepare("");
    let fingerprint = ["AB"; 32].join(":");
    daemon.account_add(ACCOUNT, PASSWORD, &["--tls-eof", "lenient", "--client-certificate", "required"]);
    let shown = || daemon.json(&["account", "show", ACCOUNT, "--json"]);
    assert_eq!((&shown()["tls_eof"], &shown()["client_certificate"]), (&"lenient".into(), &"required".into()));
    daemon.printed(&["account", "set", ACCOUNT, "--certificate-fingerprint", &fingerprint.replace(':', "").to_lowercase()]);
    assert_eq!(shown()["certificate_fingerprints"], serde_json::json!([fingerprint]));
    let doubts = daemon.printed(&["check-config"]);
    assert!(doubts.contains("set ftp.tls.client-ca"), "{doubts}");
    daemon.printed(&["account", "set", ACCOUNT, "--tls-eof", "strict", "--clear", "client-certificate,certificate-fingerprints"]);
    assert_eq!((&shown()["tls_eof"], &shown()["client_certificate"]), (&"strict".into(), &serde_json::Value::Null));
    assert_eq!(shown()["certificate_fingerprints"], serde_json::json!([]));
    for wrong in [["--tls-eof", "never"], ["--client-certificate", "maybe"], ["--certificate-fingerprint", "AB:CD"]] {
        let ran = daemon.inkport(&["account", "set", ACCOUNT, wrong[0], wrong[1]]);
        assert_eq!(ran.status.code(), Some(2), "{wrong:?}");
    }
}
