//! CSV, read back by Python's csv and by LibreOffice.

use crate::made::{JOB, lines, of_text, written};
use crate::tools::{found, printed};
use inkport::account::Output;
use inkport::sidecar::{Code, Field, Item, Pair, Reading, Style, day_header, write, write_day_record};
use std::path::Path;
use std::process::Command;

fn made() -> Reading {
    let mut reading = of_text(vec![lines(&["a"], 30.0, [1000.0, 1400.0], 0.0)]);
    let field = |value: &str, raw: &str| Field { value: value.into(), raw: raw.into(), confidence: 0.9, page: 1, quad: None };
    for (name, value, raw) in [
        ("company", "=cmd|' /C calc'!A0", "=cmd|' /C calc'!A0"),
        ("address", "1, \"High\" Street\nTown; =1+1", "1, \"High\" Street"),
        ("total", "9.00", "Total 9.00 €"),
        ("phone", "+49 30 1234", "+49 30 1234"),
    ] {
        reading.fields.insert(name.into(), field(value, raw));
    }
    reading.items = vec![item("Größe, \"5\"", -2.5), item("@SUM(A1:A9)", 3.0)];
    let quad = [[0.0; 2]; 4];
    reading.codes = vec![Code { format: "QR_CODE".into(), text: "-1+1\u{0}\r\nx".into(), page: 1, quad }];
    reading.pairs = vec![Pair { key: "SUBJECT:".into(), value: "\t=2".into(), page: 1 }];
    reading
}

fn item(description: &str, amount: f64) -> Item {
    Item {
        description: description.into(),
        quantity: Some(1.0),
        unit_price: None,
        amount: Some(amount),
        page: 1,
        raw: description.into(),
    }
}

fn rows(file: &Path) -> Vec<Vec<String>> {
    serde_json::from_value(found("csv", file)).unwrap()
}

/// No cell begins like a formula but plain numbers, and none of the parts does into which a `;` would cut it.
fn assert_tame(rows: &[Vec<String>]) {
    for cell in rows.iter().flatten() {
        for part in cell.split([';', '\t', '\n']) {
            let text = part.trim_matches(|c: char| c.is_whitespace() || c == '"');
            assert!(!text.starts_with(['=', '+', '-', '@']) || text.parse::<f64>().is_ok(), "{cell}");
        }
    }
}

#[test]
fn pythons_csv_reads_fields_then_items() {
    let folder = tempfile::tempdir().unwrap();
    let file = written(&made(), Output::Csv, None, folder.path());
    let bytes = std::fs::read(&file).unwrap();
    assert!(bytes.starts_with(b"job,file,record,") && bytes.ends_with(b"\r\n"));
    let rows = rows(&file);
    assert!(rows.iter().all(|row| row.len() == rows[0].len()), "{rows:?}");
    let records: Vec<&str> = rows[1..].iter().map(|row| row[2].as_str()).collect();
    assert_eq!(records, ["field", "field", "field", "field", "item", "item", "code", "pair"]);
    assert!(rows[1..].iter().all(|row| row[0] == JOB && row[1] == "scan.png"));
    let address = &rows[1];
    assert_eq!((&*address[4], &*address[5]), ("address", "1, \"High\" Street Town; '=1+1"));
    assert_eq!((&*rows[5][5], &*rows[5][9]), ("Größe, \"5\"", "-2.5"));
    assert_eq!(rows[7][5], "'-1+1\u{fffd}  x");
    assert_tame(&rows);
}

#[test]
fn a_mark_for_excel_is_a_setting() {
    let mut bytes = Vec::new();
    let style = Style { csv_bom: true, ..Style::default() };
    write(&made(), Output::Csv, &style, &mut bytes).unwrap();
    assert!(bytes.starts_with(b"\xef\xbb\xbfjob,"));
    assert!(day_header(&style).starts_with('\u{feff}') && day_header(&Style::default()).starts_with("job,"));
}

#[test]
fn a_days_record_is_one_line_with_a_cell_for_each_column() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = day_header(&Style::default()).into_bytes();
    for _ in 0..2 {
        write_day_record(&made(), &mut bytes).unwrap();
    }
    assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 3);
    let file = folder.path().join("2026-11-29.csv");
    std::fs::write(&file, bytes).unwrap();
    let rows = rows(&file);
    assert!(rows.len() == 3 && rows.iter().all(|row| row.len() == rows[0].len()), "{rows:?}");
    let cell = |name: &str| rows[1][rows[0].iter().position(|column| column == name).unwrap()].as_str();
    assert_eq!((cell("job"), cell("total"), cell("pages"), cell("others")), (JOB, "9.00", "1", "phone: +49 30 1234"));
    assert_tame(&rows);
}

#[test]
fn libreoffice_opens_it_without_a_formula() {
    let office = ["soffice", "libreoffice"].into_iter().find(|name| {
        Command::new("sh").args(["-c", &format!("command -v {name}")]).output().is_ok_and(|found| found.status.success())
    });
    let Some(office) = office else {
        println!("skipped: LibreOffice is not installed");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let file = written(&made(), Output::Csv, None, folder.path());
    // As a user opens it, by commas, and as one whose spreadsheet parts cells by semicolons.
    for (separator, what) in [("44", "commas"), ("59", "semicolons")] {
        let out = folder.path().join(what);
        let mut command = Command::new(office);
        command
            .arg(format!("-env:UserInstallation=file://{}/profile", folder.path().display()))
            .args(["--headless", "--convert-to", "fods"])
            .arg(format!("--infilter=CSV:{separator},34,76,1,,0,false,true,false,false"))
            .arg("--outdir")
            .arg(&out)
            .arg(&file);
        printed(&mut command);
        let sheet = std::fs::read_to_string(out.join("out.fods")).unwrap();
        assert!(!sheet.contains("table:formula="), "{what}: a cell became a formula");
        assert!(sheet.contains("Größe"), "{what}");
    }
}
