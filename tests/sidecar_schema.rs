//! The promise to everybody who parses our sidecars: what is rendered fits the shipped JSON Schemas,
//! and the schemas are strict enough to refuse what does not.

use inkport::account::{AccountName, Output};
use inkport::document::Format;
use inkport::job::{JobId, SpoolKey};
use inkport::ocr::{Confidence, Line, PageText, Quad, StageTimes, Word};
use inkport::sidecar::{
    Code, EngineInfo, ErrorReport, Facts, Field, Item, PageMeta, Pair, Reading, Source, Spent, Warning, render, render_error,
};
use inkport::units::Timestamp;
use serde_json::{Value, json};
use std::time::Duration;

fn validator(file: &str) -> jsonschema::Validator {
    let path = format!("{}/schema/{file}", env!("CARGO_MANIFEST_DIR"));
    let schema: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert!(jsonschema::meta::is_valid(&schema), "{file} is itself a schema");
    jsonschema::draft202012::new(&schema).unwrap()
}

#[track_caller]
fn assert_valid(validator: &jsonschema::Validator, document: &Value) {
    let errors: Vec<_> = validator.iter_errors(document).map(|e| format!("{} at {}", e, e.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?}");
}

fn job() -> JobId {
    JobId("01J9Z3K4M5N6P7Q8R9S0T1V2W3".parse().unwrap())
}

fn reading(origin: Option<(JobId, &AccountName)>, truncated: bool) -> Reading {
    let quad = Quad([[10.0, 10.0], [90.25, 10.0], [90.25, 30.0], [10.0, 30.0]]);
    let word = |text: &str| Word { text: text.into(), confidence: Confidence::new(0.991_23), quad };
    let line = Line {
        text: "Total 9.00".into(),
        confidence: Confidence::new(0.98),
        quad,
        words: vec![word("Total"), word("9.00")],
        block: 0,
    };
    let timing =
        StageTimes { detect: Duration::from_millis(120), recognize: Duration::from_millis(340), ..StageTimes::default() };
    let text = PageText { lines: vec![line], width: 100, height: 200, rotation: 90, skew: -1.25, timing };
    let meta = |number, truncated| PageMeta { number, width: 100, height: 200, rotation: 0, truncated, source: Source::Layer };
    let (job, account) = origin.unzip();
    let facts = Facts {
        job,
        account,
        name: "scan.jpg",
        bytes: 1234,
        sha256: SpoolKey([7; 32]),
        received_at: job.map(|_| Timestamp(1_783_641_600_123)),
        finished_at: Timestamp(1_783_641_601_000),
    };
    let engine = EngineInfo { name: "ppocr".into(), models: vec!["detector".into(), "recognizer".into()] };
    // The second page is blank: the engine says nothing of it, not even its size.
    let pages = vec![(meta(1, false), text), (meta(2, truncated), PageText::default())];
    let spent = Spent { decode: Duration::from_millis(12), total: Duration::from_millis(500) };
    let mut reading = Reading::new(&facts, Format::Jpeg, engine, pages, spent);
    let quad = [[1.0, 2.0], [3.0, 2.0], [3.0, 4.0], [1.0, 4.0]];
    reading.codes.push(Code { format: "QR_CODE".into(), text: "https://example.org".into(), page: 1, quad });
    let field = Field { value: "9.00".into(), raw: "Total 9.00".into(), confidence: 0.9, page: 1, quad: Some(quad) };
    reading.fields.insert("total".into(), field);
    let item = Item {
        description: "Tea".into(),
        quantity: Some(1.0),
        unit_price: None,
        amount: Some(9.0),
        page: 1,
        raw: "Tea 9.00".into(),
    };
    reading.items.push(item);
    reading.pairs.push(Pair { key: "SUBJECT:".into(), value: "tea".into(), page: 2 });
    reading
}

fn rendered(reading: &Reading) -> Value {
    serde_json::from_slice(&render(reading, Output::Json)).unwrap()
}

#[test]
fn readings_fit_their_schema() {
    let validator = validator("reading-1.schema.json");
    let account = "front-desk".parse().unwrap();
    let with_job = rendered(&reading(Some((job(), &account)), false));
    assert_valid(&validator, &with_job);
    assert_eq!(with_job["job"], "01J9Z3K4M5N6P7Q8R9S0T1V2W3");
    assert_eq!(with_job["account"], "front-desk");
    assert_eq!(with_job["received_at"], "2026-07-10T00:00:00.123Z");
    assert_eq!(with_job["pages"][1]["lines"], json!([]));
    assert_eq!(with_job["pages"][1]["width"], 100);
    assert_eq!(with_job.get("truncated"), None);
    assert!(with_job["pages"][0]["lines"][0].get("block").is_none());

    let alone = rendered(&reading(None, true));
    assert_valid(&validator, &alone);
    assert_eq!(alone["job"], Value::Null);
    assert_eq!(alone["truncated"], true);
    assert_eq!(alone["text"], "Total 9.00\n\u{c}");
    assert_eq!((&alone["pages"][0]["source"], alone.get("warnings")), (&json!("layer"), None));
}

#[test]
fn a_page_that_cannot_be_decoded_is_named() {
    let mut reading = reading(None, false);
    reading.warnings.push(Warning {
        page: 3,
        code: "damaged".into(),
        message: "the TIFF is damaged: nothing of page 3 is left".into(),
    });
    let mut document = rendered(&reading);
    assert_eq!(document["warnings"][0]["code"], "damaged");
    document["pages"][1]["width"] = json!(0);
    assert_valid(&validator("reading-1.schema.json"), &document);
}

#[test]
fn what_is_no_reading_is_refused() {
    let validator = validator("reading-1.schema.json");
    let good = rendered(&reading(None, false));
    type Breakage = (&'static str, fn(&mut Value));
    let breakages: [Breakage; 12] = [
        ("another version", |v| v["schema"] = json!("inkport/reading/2")),
        ("no text", |v| drop(v.as_object_mut().unwrap().remove("text"))),
        ("no fields", |v| drop(v.as_object_mut().unwrap().remove("fields"))),
        ("a short hash", |v| v["file"]["sha256"] = json!("abc")),
        ("a negative size", |v| v["file"]["bytes"] = json!(-1)),
        ("a confidence in percent", |v| v["pages"][0]["lines"][0]["confidence"] = json!(98.0)),
        ("a slanted page", |v| v["pages"][0]["rotation"] = json!(45)),
        ("a triangle", |v| drop(v["pages"][0]["lines"][0]["quad"].as_array_mut().unwrap().pop())),
        ("a word without a place", |v| v["pages"][0]["lines"][0]["words"][0]["quad"] = Value::Null),
        ("a local time", |v| v["finished_at"] = json!("2026-07-10 00:00:00")),
        ("no pages", |v| v["pages"] = json!([])),
        ("page zero", |v| v["pages"][0]["number"] = json!(0)),
    ];
    for (name, damage) in breakages {
        let mut document = good.clone();
        damage(&mut document);
        assert!(!validator.is_valid(&document), "{name} was let through");
    }
}

#[test]
fn failures_fit_their_schema() {
    let validator = validator("error-1.schema.json");
    let message = "this is not a document that Inkport reads";
    let report = ErrorReport { job: job(), code: "unsupported-format", message, attempts: 1 };
    let document: Value = serde_json::from_slice(&render_error(&report)).unwrap();
    assert_valid(&validator, &document);
    assert_eq!(
        document,
        json!({
            "schema": "inkport/error/1", "job": "01J9Z3K4M5N6P7Q8R9S0T1V2W3", "code": "unsupported-format",
            "message": "this is not a document that Inkport reads", "attempts": 1
        })
    );
    for (member, value) in [("code", json!("Not A Code")), ("attempts", json!(-1)), ("job", Value::Null), ("message", json!(""))]
    {
        let mut document = document.clone();
        document[member] = value;
        assert!(!validator.is_valid(&document), "{member}");
    }
}
