//! Codes and fields as a user gets them: stacks parted by separator sheets through the real daemon, each document with
//! sidecars of its own and nothing of its neighbours in them.

mod common;

use common::{ACCOUNT, Daemon, repository};
use serde_json::Value;
use std::fs;

fn reading(daemon: &Daemon, name: &str) -> Value {
    serde_json::from_slice(&fs::read(daemon.home(ACCOUNT).join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))).unwrap()
}

fn value<'v>(reading: &'v Value, field: &str) -> Option<&'v str> {
    reading["fields"].get(field).map(|field| field["value"].as_str().unwrap())
}

fn pages(reading: &Value) -> Vec<u64> {
    reading["pages"].as_array().unwrap().iter().map(|page| page["number"].as_u64().unwrap()).collect()
}

#[test]
fn separator_sheets_part_a_tiff_and_a_pdf() {
    let mut daemon = Daemon::start("");
    let codes = repository().join("tests/fixtures/codes");
    let schema = fs::read_to_string(repository().join("schema/reading-1.schema.json")).unwrap();
    let validator = jsonschema::validator_for(&serde_json::from_str(&schema).unwrap()).unwrap();
    for name in ["stack.tif", "stack.pdf"] {
        daemon.upload(&codes.join(name), name).unwrap();
    }
    let jobs = daemon.settled();
    assert!(jobs.len() == 2 && jobs.iter().all(|job| job["state"] == "done"), "sidecars are no uploads: {jobs:?}");
    for name in ["stack.tif", "stack.pdf"] {
        let stack = reading(&daemon, &format!("{name}.json"));
        assert_eq!(
            stack["parts"],
            serde_json::json!([{"number": 1, "pages": [1, 2]}, {"number": 2, "pages": [4]}, {"number": 3, "pages": [6]}]),
            "{name}"
        );
        assert_eq!(stack["fields"], serde_json::json!({}), "a stack has no fields of its own");
        assert_eq!(pages(&stack), [1, 2, 3, 4, 5, 6]);
        let parts: Vec<Value> = (1..=3).map(|number| reading(&daemon, &format!("{name}.{number}.json"))).collect();
        for (number, part) in (1..).zip(&parts) {
            assert!(validator.is_valid(part), "{name}.{number}");
            assert_eq!(part["part"], serde_json::json!({"number": number, "of": 3}));
            let text = fs::read_to_string(daemon.home(ACCOUNT).join(format!("{name}.{number}.txt"))).unwrap();
            assert_eq!(text.trim_end(), part["text"].as_str().unwrap().trim_end());
        }
        assert!(validator.is_valid(&stack));
        assert_eq!([pages(&parts[0]), pages(&parts[1]), pages(&parts[2])], [vec![1, 2], vec![4], vec![6]]);
        assert_eq!(value(&parts[0], "document_number"), Some("00017"));
        assert_eq!(value(&parts[2], "document_number"), Some("18"));
        assert_eq!((value(&parts[0], "total"), value(&parts[2], "total")), (Some("2.00"), Some("7.35")));
        // Nothing leaks: the letter between has no number and no amount.
        assert_eq!((value(&parts[1], "document_number"), value(&parts[1], "total")), (None, None));
        assert!(parts[1]["codes"].as_array().unwrap().is_empty());
        assert!(value(&parts[0], "company").is_some_and(|name| name.contains("Corner Bakery")), "{}", parts[0]["fields"]);
        assert!(value(&parts[2], "company").is_some_and(|name| name.contains("Hill Grocery")), "{}", parts[2]["fields"]);
        assert!(!daemon.home(ACCOUNT).join(format!("{name}.4.json")).exists());
    }

    // Another file of that name has other documents, or none; and an account need not have codes.
    daemon.upload(&repository().join("tests/fixtures/receipt.png"), "stack.tif").unwrap();
    let _ = daemon.settled();
    let receipt = reading(&daemon, "stack.tif.json");
    assert_eq!((receipt.get("parts"), receipt.get("part")), (None, None));
    assert_eq!((value(&receipt, "total"), value(&receipt, "company")), (Some("9.15"), Some("CORNER BAKERY")));
    assert!(!daemon.home(ACCOUNT).join("stack.tif.1.json").exists(), "the first stack's documents are history");
    daemon.printed(&["account", "set", ACCOUNT, "--pipeline", "text"]);
    daemon.upload(&codes.join("stack.tif"), "text-only.tif").unwrap();
    let _ = daemon.settled();
    let text_only = reading(&daemon, "text-only.tif.json");
    assert_eq!(
        (text_only.get("parts"), &text_only["codes"], &text_only["fields"]),
        (None, &serde_json::json!([]), &serde_json::json!({}))
    );
    assert_eq!(daemon.terminate(), Some(0));
}
