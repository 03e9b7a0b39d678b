//! Golden readings: small pages of our own (`fixtures/readings`, made by `fixtures/make_readings.py`), each asking
//! one thing of the reader. Real models, real binary; a stage that comes to read worse is named by the page
//! that it fails.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A page's text and its `.json`, by its name.
fn read_all(format: &str, out: &Path) -> BTreeMap<String, (String, Value)> {
    fs::write(out.join("inkport.toml"), format!("version = 1\ndata-dir = \"data\"\n[ocr]\nmodels = \"{ROOT}/models\"\n"))
        .unwrap();
    let pages: Vec<PathBuf> = fs::read_dir(Path::new(ROOT).join("tests/fixtures/readings"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == format))
        .collect();
    assert!(pages.len() >= 15, "{pages:?}");
    let ran = Command::new(env!("CARGO_BIN_EXE_inkport"))
        .args(["--config", out.join("inkport.toml").to_str().unwrap(), "read", "--format", "text,json", "--out"])
        .arg(out)
        .args(&pages)
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let name = |page: &PathBuf| page.file_stem().unwrap().to_str().unwrap().to_owned();
    let side = |name: &str, suffix: &str| fs::read_to_string(out.join(format!("{name}.{format}.{suffix}"))).unwrap();
    let read = |name: String| (side(&name, "txt"), serde_json::from_str(&side(&name, "json")).unwrap());
    pages.iter().map(name).map(|name| (name.clone(), read(name))).collect()
}

/// The middle of a quad.
fn middle(quad: &Value) -> (f64, f64) {
    let corner = |i: usize, axis: usize| quad[i][axis].as_f64().unwrap();
    let mean = |axis| (0..4).map(|i| corner(i, axis)).sum::<f64>() / 4.0;
    (mean(0), mean(1))
}

/// Whether a point lies inside a clockwise quad, give or take three pixels.
fn is_inside(quad: &Value, (x, y): (f64, f64)) -> bool {
    (0..4).all(|i| {
        let (from, to) = (&quad[i], &quad[(i + 1) % 4]);
        let [x0, y0, x1, y1] = [&from[0], &from[1], &to[0], &to[1]].map(|value| value.as_f64().unwrap());
        let cross = (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0);
        cross >= -3.0 * (x1 - x0).hypot(y1 - y0)
    })
}

/// Words make up their line's text, stand in it from left to right, and are believed as far as the line is.
fn check_words(name: &str, line: &Value) {
    let words = line["words"].as_array().unwrap();
    let text: Vec<&str> = words.iter().map(|word| word["text"].as_str().unwrap()).collect();
    assert_eq!(text.join(" "), line["text"].as_str().unwrap(), "{name}");
    let middles: Vec<(f64, f64)> = words.iter().map(|word| middle(&word["quad"])).collect();
    assert!(middles.is_sorted_by(|a, b| a.0 < b.0), "{name}: {line}");
    assert!(middles.iter().all(|&at| is_inside(&line["quad"], at)), "{name}: {line}");
    let confidence = |value: &Value| value["confidence"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&confidence(line)), "{name}: {line}");
    assert!(words.iter().all(|word| confidence(word) >= confidence(line) - 1e-3), "no word is less sure than all: {line}");
}

/// ONNX Runtime reports to its maker unless it is kept from it, and first writes who it is into the user's cache.
#[test]
fn the_runtime_reports_to_nobody() {
    let (out, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = out.path().join("inkport.toml");
    fs::write(&config, format!("version = 1\ndata-dir = \"data\"\n[ocr]\nmodels = \"{ROOT}/models\"\n")).unwrap();
    let ran = Command::new(env!("CARGO_BIN_EXE_inkport"))
        .args(["--config", config.to_str().unwrap(), "models", "verify"])
        // As a user starts it; and the runtime does not report from what it takes for a test.
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home.path())
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let left: Vec<_> = fs::read_dir(home.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn our_own_pages_are_read_to_the_letter() {
    let out = tempfile::tempdir().unwrap();
    for (name, (text, reading)) in read_all("png", out.path()) {
        let expected = fs::read_to_string(format!("{ROOT}/tests/fixtures/readings/{name}.txt")).unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(lines, expected.lines().collect::<Vec<_>>(), "{name}");
        let page = &reading["pages"][0];
        let turn = name.strip_prefix("turned-").map_or(0, |turn| turn.parse().unwrap());
        assert_eq!(page["rotation"], turn, "{name}");
        let skew: f64 = name.strip_prefix("skew").map_or(0.0, |skew| skew.parse().unwrap());
        assert!((page["skew"].as_f64().unwrap() - skew).abs() < 0.5, "{name}: {}", page["skew"]);
        for line in page["lines"].as_array().unwrap() {
            check_words(&name, line);
        }
    }
}
