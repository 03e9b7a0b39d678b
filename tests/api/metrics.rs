//! `/metrics`: every name there is, and those that the dashboard and the alert rules ask for.

use crate::common::repository;
use crate::{fixture, shared};
use inkport::meters;
use std::collections::BTreeSet;
use std::fs;

/// Names in a text, without the endings of a histogram's series.
fn names(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("inkport_") {
        let name: String = text[at..].chars().take_while(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '_').collect();
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|ending| name.strip_suffix(ending));
        found.insert(base.unwrap_or(&name).to_owned());
    }
    found
}

#[test]
fn every_metric_that_is_named_anywhere_is_told() {
    let shared = shared();
    shared.client.post_form("/api/v1/ocr", &[], &[], Some(("m.png", &fixture("receipt.png")))).must(200);
    let answer = shared.client.get("/metrics").must(200);
    assert!(answer.header("content-type").unwrap().starts_with("text/plain"));
    let text = answer.text();
    let told = names(&text);
    for (name, _) in meters::ALL {
        assert!(told.contains(name), "{name} is not told:\n{text}");
        assert!(text.contains(&format!("# HELP {name} ")) && text.contains(&format!("# TYPE {name} ")), "{name}");
    }
    for file in ["config/grafana-dashboard.json", "config/prometheus-alerts.yml"] {
        let asked = names(&fs::read_to_string(repository().join(file)).unwrap());
        assert!(!asked.is_empty());
        for name in asked {
            assert!(told.contains(&name), "{file} names {name}, which is not told");
        }
    }
    for stage in meters::Stage::ALL {
        assert!(text.contains(&format!("stage=\"{}\"", stage.name())), "{}", stage.name());
    }
    assert!(text.contains("inkport_jobs_ended_total{state=\"done\""), "{text}");
    let value = |line: &str| {
        text.lines().find(|known| known.starts_with(line)).and_then(|known| known.rsplit(' ').next()?.parse::<f64>().ok())
    };
    assert!(value("inkport_engine_batch_lines_count").unwrap() >= 1.0, "{text}");
    assert!(value("inkport_resident_bytes{process=\"daemon\"}").unwrap() > 1e6);
    assert!(value("inkport_resident_bytes{process=\"engines\"}").unwrap() > 1e6);
}

#[test]
fn a_client_makes_no_new_series() {
    let shared = shared();
    for number in 0..20 {
        shared.client.get(&format!("/made/up/{number}"));
        shared.client.get(&format!("/d/{number}"));
        shared.client.send(&format!("VERB{number}"), "/healthz", &[], b"");
    }
    let text = shared.client.get("/metrics").must(200).text();
    assert!(!text.contains("made") && !text.contains("VERB"));
    let routes: BTreeSet<&str> = text.lines().filter_map(|line| line.split("route=\"").nth(1)?.split('"').next()).collect();
    assert!(routes.contains("none") && routes.contains("/d/{token}") && routes.len() <= 20, "{routes:?}");
    assert!(
        serde_json::from_slice::<serde_json::Value>(&fs::read(repository().join("config/grafana-dashboard.json")).unwrap())
            .is_ok()
    );
}
