//! The daemon writes them all, the `.json` last; a file of the account's own stays; a day's table has a row for each
//! upload.

use crate::common::{ACCOUNT, Daemon, PASSWORD, files_below, wait_for};
use crate::made::fixture;
use crate::tools::{check_pdf, has, has_readers, text_of, words};
use serde_json::Value;
use std::collections::HashSet;
use std::fs;

const ALL: [&str; 7] = [".alto.xml", ".csv", ".hocr", ".json", ".md", ".pdf", ".txt"];

fn reading(daemon: &Daemon, name: &str) -> Value {
    let file = daemon.home(ACCOUNT).join(format!("{name}.json"));
    wait_for("the reading", || fs::read(&file).ok().map(|bytes| serde_json::from_slice(&bytes).unwrap()))
}

fn upload_bytes(daemon: &Daemon, bytes: &[u8], name: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    daemon.upload(file.path(), name).unwrap();
}

fn codes(reading: &Value) -> Vec<&str> {
    let warnings = reading["warnings"].as_array().map_or(&[][..], Vec::as_slice);
    warnings.iter().map(|warning| warning["code"].as_str().unwrap()).collect()
}

#[test]
fn every_format_is_written_and_nothing_of_the_accounts_own_is_lost() {
    let mut daemon = Daemon::prepare("[watch]\nquiet = \"100ms\"\nrescan = \"1s\"\n");
    daemon.account_add(ACCOUNT, PASSWORD, &["--outputs", "json,txt,hocr,alto,markdown,csv,pdf"]);
    daemon.run();
    let home = daemon.home(ACCOUNT);

    daemon.upload(&fixture("receipt.png"), "scan.png").unwrap();
    let first = reading(&daemon, "scan.png");
    // The .json is there, so all are.
    for suffix in ALL {
        assert!(home.join(format!("scan.png{suffix}")).is_file(), "{suffix}");
    }
    let text: Vec<String> = first["text"].as_str().unwrap().split_whitespace().map(str::to_owned).collect();
    assert!(text.len() > 20 && codes(&first).is_empty(), "{first:#}");
    let file = |suffix: &str| home.join(format!("scan.png{suffix}"));
    if has_readers() {
        for (kind, suffix) in [("hocr", ".hocr"), ("alto", ".alto.xml"), ("markdown", ".md")] {
            assert_eq!(words(kind, &file(suffix)).concat(), text, "{kind}");
        }
    }
    if has("qpdf") && has("pdftotext") {
        check_pdf(&file(".pdf"));
        assert_eq!(text_of(&file(".pdf")).concat(), text);
    }

    // The account's own files under sidecars' names, before there is such an upload.
    let own = b"%PDF-1.7 the account's own";
    upload_bytes(&daemon, own, "letter.jpg.pdf");
    upload_bytes(&daemon, b"my;own;table\n", "letter.jpg.csv");
    daemon.upload(&fixture("letter-exif6.jpg"), "letter.jpg").unwrap();
    let second = reading(&daemon, "letter.jpg");
    assert_eq!(codes(&second).into_iter().collect::<HashSet<_>>(), HashSet::from(["name-taken"]));
    assert_eq!(codes(&second).len(), 2);
    // Sent again: what we wrote is written again, what we did not stays.
    fs::remove_file(home.join("letter.jpg.json")).unwrap();
    daemon.upload(&fixture("letter-exif6.jpg"), "letter.jpg").unwrap();
    let third = reading(&daemon, "letter.jpg");
    assert_ne!(second["job"], third["job"]);
    assert_eq!(fs::read(home.join("letter.jpg.pdf")).unwrap(), own);
    assert_eq!(fs::read(home.join("letter.jpg.csv")).unwrap(), b"my;own;table\n");
    let hocr = fs::read_to_string(home.join("letter.jpg.hocr")).unwrap();
    assert!(hocr.contains(third["job"].as_str().unwrap()));

    // To a protected PDF nothing can be added; it is read all the same.
    daemon.upload(&fixture("formats/owner-password.pdf"), "locked.pdf").unwrap();
    assert_eq!(codes(&reading(&daemon, "locked.pdf")), ["no-pdf"]);
    assert!(!home.join("locked.pdf.pdf").exists() && home.join("locked.pdf.md").is_file());

    // A row for each, and none of what we wrote came back as an upload.
    let day = first["received_at"].as_str().unwrap()[..10].to_owned();
    let rows = |day: &str| fs::read_to_string(home.join(format!("{day}.csv"))).unwrap_or_default();
    let last = reading(&daemon, "locked.pdf")["received_at"].as_str().unwrap()[..10].to_owned();
    let days: HashSet<&str> = HashSet::from([&*day, &*last]);
    let table: String = days.iter().map(|day| rows(day)).collect();
    for job in [&first, &second, &third] {
        assert_eq!(table.matches(job["job"].as_str().unwrap()).count(), 1, "{table}");
    }
    let jobs = daemon.jobs();
    let paths: HashSet<&str> = jobs.iter().map(|job| job["path"].as_str().unwrap()).collect();
    assert!(paths.is_subset(&HashSet::from(["/scan.png", "/letter.jpg", "/locked.pdf"])), "{paths:?}");
    assert!(files_below(&home).iter().all(|name| !name.ends_with(".pdf.pdf.json") && !name.ends_with(".csv.json")));

    assert_eq!(daemon.terminate(), Some(0));
    let checked = daemon.printed(&["fsck", "--json"]);
    let report: Value = serde_json::from_str(&checked).unwrap();
    let missing: Vec<&Value> = report["findings"].as_array().unwrap().iter().filter(|finding| finding["note"] == true).collect();
    // A note: the protected one has no PDF.
    assert!(missing.len() == 1 && missing[0]["place"].as_str().unwrap().ends_with("locked.pdf.pdf"), "{report:#}");
}
