//! The document: served, checked in and printed it is the same; and what is served is as it says.

use crate::common::repository;
use crate::shared;
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const CHECKED_IN: &str = "schema/openapi.json";

#[test]
fn the_document_is_the_codes() {
    let checked_in = fs::read_to_string(repository().join(CHECKED_IN)).unwrap_or_default();
    let document = inkport::http::api::document();
    assert!(checked_in == document, "{CHECKED_IN} is of another version of the code: `inkport openapi > {CHECKED_IN}`");
    let shared = shared();
    let served = shared.client.get("/api/v1/openapi.json").must(200);
    assert_eq!(served.header("content-type"), Some("application/json"));
    assert_eq!(served.text(), document);
    assert_eq!(shared.daemon.printed(&["openapi"]), document);
    let json = served.json();
    assert_eq!(json["openapi"], "3.1.0");
    for path in ["/api/v1/ocr", "/api/v1/ocr/batch", "/api/v1/jobs/{id}/sidecars/{suffix}", "/d/{token}", "/api/v1/events"] {
        assert!(json["paths"].get(path).is_some(), "{path}");
    }
}

/// Schemathesis makes requests of the document, good and bad, and holds the answers against it.
#[test]
fn schemathesis_finds_nothing() {
    let program = repository().join("target/test-clients/schemathesis/bin/schemathesis");
    if !program.is_file() {
        eprintln!("skipped: schemathesis is not here; scripts/test-deps fetches it");
        return;
    }
    let shared = shared();
    let log = shared.daemon.folder().join("schemathesis.log");
    let output = fs::File::create(&log).unwrap();
    let mut child = Command::new(program)
        // Streams of events never end. That a document is read which is made up cannot be promised: 415 and 422 are right.
        // That no credentials are refused, other tests show: here guessing ends in 429, as it should.
        .args([
            "run", "--exclude-path-regex", "^/api/v1/(events|ws)$", "--exclude-checks", "positive_data_acceptance,ignored_auth",
        ])
        .args(["--phases", "examples,coverage,fuzzing", "--max-examples", "15", "--seed", "7", "--max-time", "35"])
        .args(["--request-timeout", "60", "--suppress-health-check", "all", "--no-color"])
        .args([&format!("http://{}/api/v1/openapi.json", shared.daemon.http)])
        .args(["--header", &format!("X-API-Key: {}", shared.client.key.as_deref().unwrap())])
        .current_dir(shared.daemon.folder())
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .spawn()
        .unwrap();
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if began.elapsed() > Duration::from_secs(300) {
            child.kill().unwrap();
            let _ = child.wait();
            panic!("schemathesis does not come to an end:\n{}", fs::read_to_string(&log).unwrap());
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    assert!(status.success(), "{}", fs::read_to_string(&log).unwrap());
}
