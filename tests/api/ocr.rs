//! Documents in, text out.

use crate::common::{ACCOUNT, wait_for};
use crate::{fixture, shared};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

const PDF: &str = "digital.pdf";
const WORDS: &str = "Garden Club";

#[test]
fn a_form_is_read_and_lies_in_the_home_under_its_name() {
    let shared = shared();
    let pdf = fixture(PDF);
    let answer = shared.client.post_form("/api/v1/ocr", &[], &[("prompt", "x")], Some(("minutes.pdf", &pdf))).must(200).json();
    assert_eq!(answer["success"], true);
    assert!(answer["text"].as_str().unwrap().contains(WORDS), "{answer}");
    assert!(!answer["engine"].as_str().unwrap().is_empty() && answer["model"].is_string());
    assert!(answer["usage"]["requests_used"].as_u64().unwrap() >= 1 && answer["usage"]["tier"].is_string());
    let home = shared.daemon.home(ACCOUNT);
    for name in ["minutes.pdf", "minutes.pdf.txt", "minutes.pdf.json"] {
        assert!(home.join(name).is_file(), "{name}");
    }
    // The same name again replaces nothing.
    let again = shared.client.post_form("/api/v1/ocr", &[], &[], Some(("minutes.pdf", &pdf))).must(200).json();
    assert_ne!(again["job"], answer["job"]);
    let job = shared.client.get(&format!("/api/v1/jobs/{}", again["job"].as_str().unwrap())).must(200).json();
    let path = job["path"].as_str().unwrap();
    assert!(path.starts_with("/minutes-") && path.ends_with(".pdf"), "{path}");
}

#[test]
fn json_is_read_in_every_spelling() {
    let shared = shared();
    let encoded = STANDARD.encode(fixture(PDF));
    for image in [encoded.clone(), format!("data:application/pdf;base64,{encoded}")] {
        let answer = shared.client.post_json("/api/v1/ocr", &[], &json!({ "image": image, "prompt": "read" })).must(200).json();
        assert!(answer["text"].as_str().unwrap().contains(WORDS), "{answer}");
    }
}

#[test]
fn who_does_not_wait_is_told_where_the_job_is() {
    let shared = shared();
    let pdf = fixture(PDF);
    let answer = shared.client.post_form("/api/v1/ocr", &[("Prefer", "respond-async")], &[], Some(("later.pdf", &pdf))).must(202);
    assert_eq!(answer.header("preference-applied"), Some("respond-async"));
    let place = answer.header("location").unwrap().to_owned();
    let id = answer.json()["job"].as_str().unwrap().to_owned();
    assert_eq!(place, format!("/api/v1/jobs/{id}"));
    wait_for("the job to end", || (shared.client.get(&place).must(200).json()["state"] == "done").then_some(()));
    // A deadline that passes is the same, and loses nothing.
    let answer = shared.client.post_form("/api/v1/ocr", &[("Prefer", "wait=0")], &[], Some(("late.pdf", &pdf)));
    assert!(answer.status == 202 || answer.status == 200, "{}", answer.text());
    assert!(answer.json()["job"].is_string());
}

#[test]
fn what_is_no_document_is_refused_before_it_costs_anything() {
    let shared = shared();
    let before = shared.client.get("/api/v1/usage").must(200).json();
    let post = |bytes: &[u8]| shared.client.post_form("/api/v1/ocr", &[], &[], Some(("x.jpg", bytes)));
    assert!(post(b"just some text").problem(415).contains("send a JPEG"));
    assert_eq!(post(&fixture("text-named.jpg")).json()["code"], "unsupported-format");
    assert!(post(b"").problem(415).contains("no document"));
    let json = |body: serde_json::Value| shared.client.post_json("/api/v1/ocr", &[], &body);
    assert!(json(json!({ "image": STANDARD.encode("hello, text") })).problem(415).contains("no document"));
    assert!(json(json!({ "image": "%%%%" })).problem(422).contains("base64"));
    assert!(json(json!({ "image": "https://example.org/a.png" })).problem(422).contains("http.fetch-urls"));
    assert!(json(json!({ "picture": "x" })).problem(422).contains("image"));
    let raw = |kind: &str, body: &[u8]| shared.client.send("POST", "/api/v1/ocr", &[("Content-Type", kind)], body);
    raw("application/json", b"{").problem(400);
    raw("text/plain", b"x").problem(415);
    raw("multipart/form-data", b"x").problem(400);
    raw("multipart/form-data; boundary=b", b"--b--\r\n").problem(422);
    shared.client.send("POST", "/api/v1/ocr", &[], b"x").problem(415);
    assert_eq!(shared.client.get("/api/v1/usage").must(200).json()["usage"]["user"], before["usage"]["user"]);
    // What only shows when it is read is told with its job.
    let broken = post(&fixture(PDF)[..400]);
    broken.problem(422);
    let broken = broken.json();
    assert!(broken["code"].is_string() && broken["job"].is_string(), "{broken}");
}

#[test]
fn what_is_too_large_hears_so() {
    let shared = shared();
    let mut large = fixture(PDF);
    large.resize(17 << 20, b' ');
    let refused = shared.client.post_form("/api/v1/ocr", &[], &[], Some(("large.pdf", &large)));
    assert!(refused.problem(413).contains("bytes that are allowed"));
    let encoded = json!({ "image": STANDARD.encode(&large) });
    shared.client.post_json("/api/v1/ocr", &[], &encoded).problem(413);
    // One that asks first is told before it sends.
    let mut asking = shared.client.open(
        "POST",
        "/api/v1/ocr",
        &[("Expect", "100-continue"), ("Content-Type", "application/json")],
        Some(90 << 20),
    );
    assert_eq!(crate::client::answer(&mut asking, false).status, 413);
}

#[test]
fn one_bad_image_of_a_batch_fails_alone() {
    let shared = shared();
    let good = STANDARD.encode(fixture(PDF));
    let batch = json!({ "images": [good, "%%%", good, STANDARD.encode("text")] });
    let answer = shared.client.post_json("/api/v1/ocr/batch", &[], &batch).must(200).json();
    assert_eq!((answer["total"].as_u64(), answer["successful"].as_u64()), (Some(4), Some(2)), "{answer}");
    let results = answer["results"].as_array().unwrap();
    let text = results[0]["text"].as_str().unwrap();
    assert!(text.contains(WORDS) && results[0]["length"] == text.chars().count());
    assert!(results[1]["error"].as_str().unwrap().contains("base64") && results[1]["success"] == false);
    assert_eq!(results[2]["success"], true);
    assert!(results[3]["error"].as_str().unwrap().contains("no document"));
    let none: Vec<String> = Vec::new();
    shared.client.post_json("/api/v1/ocr/batch", &[], &json!({ "images": none })).problem(422);
    shared.client.post_json("/api/v1/ocr/batch", &[], &json!({ "images": vec!["x"; 11] })).problem(422);
    shared.client.post_form("/api/v1/ocr/batch", &[], &[], None).problem(415);
}

#[test]
fn a_request_that_names_itself_is_one_job() {
    let shared = shared();
    let pdf = fixture(PDF);
    let post = |key: &str, bytes: &[u8]| {
        let headers = [("Idempotency-Key", key), ("Prefer", "respond-async")];
        shared.client.post_form("/api/v1/ocr", &headers, &[], Some(("named.pdf", bytes)))
    };
    let first = post("alpha", &pdf).must(202).json();
    assert_eq!(post("\"alpha\"", &pdf).must(202).json()["job"], first["job"], "quoted it is the same key");
    assert_ne!(post("beta", &pdf).must(202).json()["job"], first["job"]);
    let other = [&pdf[..], b"\n"].concat();
    let refused = post("alpha", &other);
    assert!(refused.problem(422).contains("Idempotency-Key"));
    assert_eq!(refused.json()["job"], first["job"]);
    post(&"x".repeat(300), &pdf).problem(400);
    // Another account's keys are its own.
    let stranger = shared.stranger.post_form(
        "/api/v1/ocr",
        &[("Idempotency-Key", "alpha"), ("Prefer", "respond-async")],
        &[],
        Some(("named.pdf", &pdf)),
    );
    assert_ne!(stranger.must(202).json()["job"], first["job"]);
    // Close together they are one job too.
    let jobs: Vec<String> = std::thread::scope(|scope| {
        let all: Vec<_> =
            (0..6).map(|_| scope.spawn(|| post("gamma", &pdf).must(202).json()["job"].as_str().unwrap().to_owned())).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(jobs.iter().all(|job| *job == jobs[0]), "{jobs:?}");
}

#[test]
fn the_prediction_route_speaks_its_clients_language() {
    let shared = shared();
    let pdf = fixture(PDF);
    let path = "/prediction/ftp_upload_and_predict/";
    let answer = shared.client.post_form(path, &[], &[("email", "desk@example.org")], Some(("note.pdf", &pdf))).must(200).json();
    assert!(answer["prediction"].as_str().unwrap().contains(WORDS), "{answer}");
    assert!(answer["filename"].as_str().unwrap().starts_with("note") && answer["timestamp"].as_str().unwrap().ends_with('Z'));
    // This daemon sends no mail.
    assert_eq!(answer["email_sent"], false);
    let keys: Vec<&String> = answer.as_object().unwrap().keys().collect();
    assert_eq!(keys.len(), 4, "{keys:?}");
    let by_query = format!("{path}?email=nobody@example.com");
    assert_eq!(shared.client.post_form(&by_query, &[], &[], Some(("n.pdf", &pdf))).must(200).json()["email_sent"], false);
    shared.client.post_form(path, &[], &[("email", "a@b")], None).problem(422);
    shared.client.post_json(path, &[], &json!({})).problem(415);
}

#[test]
fn mail_goes_to_the_address_of_the_request_if_it_is_one_of_the_accounts() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let sink = runtime.block_on(crate::common::smtp::Sink::start());
    let daemon = crate::common::Daemon::start(&format!("[mail]\nrelay = \"{}\"\nfrom = \"a@localhost\"", sink.url()));
    let client = crate::client_of(&daemon, ACCOUNT);
    let post = |email: &str| {
        let path = format!("/prediction/ftp_upload_and_predict/?email={email}");
        client.post_form(&path, &[], &[], Some(("note.pdf", &fixture(PDF)))).must(200).json()["email_sent"].clone()
    };
    assert_eq!(post("Desk@example.org"), true);
    assert_eq!(post("other@example.org"), false);
    for job in daemon.settled() {
        let to: Vec<&str> = job["deliveries"].as_array().unwrap().iter().map(|one| one["to"].as_str().unwrap()).collect();
        assert_eq!(to, ["desk@example.org"], "once, and to nobody else");
    }
}
