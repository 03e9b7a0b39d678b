//! What holds for every route: who may come in, TLS, proxies, other origins, limits; and the promise over a crash.

use crate::client::Client;
use crate::common::{ACCOUNT, Daemon, PASSWORD, wait_for};
use crate::{client_of, fixture, shared};
use std::fs;
use std::process::Command;

#[test]
fn a_key_is_needed_and_every_wrong_one_hears_the_same() {
    let shared = shared();
    let with = |key: Option<&str>| Client { address: shared.daemon.http, key: key.map(str::to_owned) };
    let nobody = with(None).get("/api/v1/jobs");
    assert!(nobody.header("www-authenticate").is_some());
    nobody.problem(401);
    assert!(with(Some("wrong")).get("/api/v1/jobs").problem(403).contains("not accepted"));
    let key = shared.client.key.as_deref().unwrap();
    let bearer = format!("Bearer {key}");
    with(None).get_with("/api/v1/jobs", &[("Authorization", &bearer)]).must(200);
    assert!(with(None).get("/nowhere").problem(404).contains("/api/v1/openapi.json"));
    let refused = shared.client.send("PUT", "/api/v1/ocr", &[], b"");
    assert_eq!(refused.header("allow"), Some("POST"));
    refused.problem(405);
}

/// Everything that the configuration can turn on, in one daemon.
#[test]
fn https_proxies_origins_links_and_streams_are_as_configured() {
    let mut daemon = Daemon::prepare("");
    daemon.account_add(ACCOUNT, PASSWORD, &[]);
    let folder = daemon.folder().to_owned();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let config = folder.join("inkport.toml");
    let text = fs::read_to_string(&config).unwrap().replace(
        "[http]\n",
        "[http]\nhsts = \"1h\"\nlink-lifetime = \"1s\"\nmax-streams = 1\ntrusted-proxies = [\"127.0.0.1\"]\n\
         cors-origins = [\"https://app.example.org\"]\nmax-upload = \"64KiB\"\n\
         tls = { certificate = \"cert.pem\", private-key = \"key.pem\" }\n",
    );
    fs::write(&config, text).unwrap();
    let checked = daemon.printed(&["check-config"]);
    assert!(checked.lines().any(|line| line.starts_with("http.tls") && line.contains("good")), "{checked}");
    let key = crate::key_of(&daemon, ACCOUNT);
    daemon.run();
    let port = daemon.http.port();
    let curl = |path: &str, more: &[&str]| {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--include", "--max-time", "60", "--cacert"])
            .arg(folder.join("cert.pem"))
            .args(["--header", &format!("X-API-Key: {key}")])
            .args(more)
            .arg(format!("https://localhost:{port}{path}"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().to_ascii_lowercase()
    };
    let healthy = curl("/healthz", &[]);
    assert!(healthy.contains("strict-transport-security: max-age=3600"), "{healthy}");
    assert!(healthy.contains("x-content-type-options: nosniff") && !healthy.contains("access-control-allow-origin"));

    // Another origin's page, of the list and not.
    let preflight = ["--request", "OPTIONS", "--header", "Access-Control-Request-Method: POST", "--header"];
    let allowed = curl("/api/v1/ocr", &[&preflight[..], &["Origin: https://app.example.org"]].concat());
    assert!(
        allowed.starts_with("http/1.1 204") && allowed.contains("access-control-allow-origin: https://app.example.org"),
        "{allowed}"
    );
    assert!(allowed.contains("x-api-key") && allowed.contains("vary: origin"));
    let refused = curl("/api/v1/ocr", &[&preflight[..], &["Origin: https://evil.example"]].concat());
    assert!(!refused.contains("access-control-allow-origin"), "{refused}");
    let jobs = curl("/api/v1/jobs", &["--header", "Origin: https://app.example.org"]);
    assert!(jobs.starts_with("http/1.1 200") && jobs.contains("access-control-expose-headers"), "{jobs}");
    // Behind a trusted proxy without TLS nobody is told to stay with HTTPS.
    assert!(!curl("/healthz", &["--header", "X-Forwarded-Proto: http"]).contains("strict-transport"));

    // Guesses cost the address that the proxy names, and nobody else.
    let guess = |from: &str| {
        let forwarded = format!("X-Forwarded-For: {from}");
        curl("/api/v1/jobs", &["--header", "Authorization: Bearer wrong", "--header", "X-API-Key:", "--header", &forwarded])
    };
    let mut tries = 0;
    while !guess("192.0.2.7").starts_with("http/1.1 429") {
        tries += 1;
        assert!(tries < 200, "guessing is never slowed");
    }
    assert!(guess("192.0.2.8").starts_with("http/1.1 403"));

    // A link that has expired says so.
    let file = folder.join("scan.pdf");
    fs::write(&file, fixture("digital.pdf")).unwrap();
    let form = format!("file=@{}", file.display());
    let read = curl("/api/v1/ocr", &["--form", &form]);
    let id = read.split("\"job\":\"").nth(1).unwrap()[..26].to_ascii_uppercase();
    let shown = Command::new("curl")
        .args(["--silent", "--max-time", "60", "--cacert"])
        .arg(folder.join("cert.pem"))
        .args(["--header", &format!("X-API-Key: {key}"), &format!("https://localhost:{port}/api/v1/jobs/{id}")])
        .output()
        .unwrap();
    let job: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    let link = job["sidecars"][0]["link"].as_str().unwrap().to_owned();
    let path = link[link.find("/d/").unwrap()..].to_owned();
    wait_for("the link to expire", || curl(&path, &[]).contains("\"code\":\"expired\"").then_some(()));

    // Another certificate is taken without a restart.
    let again = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    fs::write(folder.join("cert.pem"), again.cert.pem()).unwrap();
    fs::write(folder.join("key.pem"), again.signing_key.serialize_pem()).unwrap();
    assert!(Command::new("kill").args(["-HUP", &daemon.pid().to_string()]).status().unwrap().success());
    wait_for("the new certificate", || {
        let trusted = Command::new("curl")
            .args(["--silent", "--max-time", "10", "--cacert"])
            .arg(folder.join("cert.pem"))
            .arg(format!("https://localhost:{port}/healthz"))
            .output()
            .unwrap();
        trusted.status.success().then_some(())
    });

    // A second stream of one key is one too many; it is free again when the first ends.
    let mut first = Command::new("curl")
        .args(["--silent", "--no-buffer", "--max-time", "100", "--cacert"])
        .arg(folder.join("cert.pem"))
        .args(["--header", &format!("X-API-Key: {key}"), "--header", "Last-Event-ID: 0"])
        .arg(format!("https://localhost:{port}/api/v1/events"))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut byte = [0];
    std::io::Read::read_exact(first.stdout.as_mut().unwrap(), &mut byte).unwrap();
    let second = curl("/api/v1/events", &[]);
    assert!(second.starts_with("http/1.1 429") && second.contains("retry-after: ") && second.contains("max-streams"), "{second}");
    first.kill().unwrap();
    first.wait().unwrap();
}

#[test]
fn a_server_that_is_full_or_stops_says_when_to_come_again() {
    let daemon = Daemon::start("[limits]\nmin-free-space = \"900TiB\"");
    let refused = client_of(&daemon, ACCOUNT).post_form("/api/v1/ocr", &[], &[], Some(("a.pdf", &fixture("digital.pdf"))));
    assert!(refused.header("retry-after").is_some());
    assert!(refused.problem(507).contains("no room"));
    drop(daemon);
    let daemon = Daemon::start("[limits]\nmax-queued = 1\n[retry]\nattempts = 1");
    let client = client_of(&daemon, ACCOUNT);
    let post = || client.post_form("/api/v1/ocr", &[("Prefer", "respond-async")], &[], Some(("a.png", &fixture("receipt.png"))));
    post().must(202);
    let answer = post();
    // The first may have been read by now.
    if answer.status != 202 {
        assert!(answer.header("retry-after").is_some());
        assert!(answer.problem(503).contains("limits.max-queued"));
    }
}

/// Killed after the commit and before the answer: the same request finds its job.
#[test]
fn a_request_that_was_not_answered_finds_its_job() {
    if !cfg!(feature = "crash-points") {
        eprintln!("skipped: a_request_that_was_not_answered_finds_its_job needs --features crash-points");
        return;
    }
    let mut daemon = Daemon::prepare("");
    daemon.account_add(ACCOUNT, PASSWORD, &[]);
    let key = crate::key_of(&daemon, ACCOUNT);
    daemon.run_with(&[("INKPORT_CRASH_AT", "job-committed")]);
    let post = |daemon: &Daemon| {
        let client = Client { address: daemon.http, key: Some(key.clone()) };
        std::panic::catch_unwind(|| {
            client.post_form("/api/v1/ocr", &[("Idempotency-Key", "once")], &[], Some(("once.pdf", &fixture("digital.pdf"))))
        })
    };
    assert!(post(&daemon).is_err(), "it was answered");
    assert_eq!(daemon.died(), Some(6));
    daemon.run();
    let answer = post(&daemon).unwrap().must(200).json();
    let jobs = daemon.settled();
    assert_eq!(jobs.len(), 1, "{jobs:#?}");
    assert_eq!(jobs[0]["id"], answer["job"]);
    assert_eq!(jobs[0]["path"], "/once.pdf");
    let client = Client { address: daemon.http, key: Some(key.clone()) };
    let usage = client.get("/api/v1/usage").must(200).json();
    assert_eq!(usage["usage"]["requests_used"], 1, "it costs one page");
}
