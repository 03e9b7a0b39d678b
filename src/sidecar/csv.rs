//! CSV (RFC 4180) for spreadsheets: of each file its fields and items, and of an account's day a row for each
//! upload.
//!
//! Cells are hostile: a spreadsheet would run what begins like a formula. Such a cell gets an apostrophe in front,
//! also behind the signs at which a spreadsheet of another country parts cells (a quotation mark in mid-cell is none
//! to it), so that it is text wherever the cell is cut. Line ends are spaces: a record is a line.

use super::Style;
use super::reading::Reading;
use super::words::clean;
use std::io::{self, Write};

/// The first record of a file's.
pub(super) const HEADER: &str = "job,file,record,number,name,value,raw,quantity,unit_price,amount,page,confidence\r\n";
/// The first record of a day's.
pub(super) const DAY_HEADER: &str = "job,received_at,file,pages,confidence,company,address,date,due_date,invoice_number,\
    order_number,currency,subtotal,tax,total,iban,vat_id,others,codes,duplicate_of\r\n";
/// The fields that have columns of their own in a day's file, in their order.
const DAY_FIELDS: [&str; 12] = [
    "company", "address", "date", "due_date", "invoice_number", "order_number", "currency", "subtotal", "tax", "total", "iban",
    "vat_id",
];

/// What Excel tells UTF-8 by.
const BOM: &str = "\u{feff}";

/// A file's: its fields, then its items, codes and pairs.
pub(super) fn write(reading: &Reading, style: &Style, out: &mut dyn Write) -> io::Result<()> {
    start(HEADER, style, out)?;
    let mut records = writer(out);
    let (job, file) = (job(reading), cell(&reading.file.name));
    let mut record = |cells: [&str; 10]| -> io::Result<()> {
        records.write_field(&job)?;
        records.write_field(&file)?;
        Ok(records.write_record(cells)?)
    };
    for (name, field) in &reading.fields {
        let (page, confidence) = (field.page.to_string(), field.confidence.to_string());
        record(["field", "", &cell(name), &cell(&field.value), &cell(&field.raw), "", "", "", &page, &confidence])?;
    }
    let figure = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    for (number, item) in (1..).zip(&reading.items) {
        let (quantity, unit_price, amount) = (figure(item.quantity), figure(item.unit_price), figure(item.amount));
        let (number, page, value) = (format!("{number}"), item.page.to_string(), cell(&item.description));
        record(["item", &number, "", &value, &cell(&item.raw), &quantity, &unit_price, &amount, &page, ""])?;
    }
    for (number, code) in (1..).zip(&reading.codes) {
        let (number, page) = (format!("{number}"), code.page.to_string());
        record(["code", &number, &cell(&code.format), &cell(&code.text), "", "", "", "", &page, ""])?;
    }
    for (number, pair) in (1..).zip(&reading.pairs) {
        let (number, page) = (format!("{number}"), pair.page.to_string());
        record(["pair", &number, &cell(&pair.key), &cell(&pair.value), "", "", "", "", &page, ""])?;
    }
    records.flush()
}

/// How a day's file begins.
#[must_use]
pub fn day_header(style: &Style) -> String {
    format!("{}{DAY_HEADER}", if style.csv_bom { BOM } else { "" })
}

/// A document's record in its day's file.
pub fn write_day_record(reading: &Reading, out: &mut dyn Write) -> io::Result<()> {
    let mut records = writer(out);
    let field = |name: &str| reading.fields.get(name).map(|field| cell(&field.value)).unwrap_or_default();
    let others: Vec<String> = reading
        .fields
        .iter()
        .filter(|(name, _)| !DAY_FIELDS.contains(&name.as_str()))
        .map(|(name, field)| format!("{name}: {}", field.value))
        .collect();
    let codes: Vec<&str> = reading.codes.iter().map(|code| code.text.as_str()).collect();
    let mut cells = vec![
        job(reading),
        reading.received_at.map(|time| time.to_string()).unwrap_or_default(),
        cell(&reading.file.name),
        reading.pages.len().to_string(),
        reading.confidence.map(|value| value.to_string()).unwrap_or_default(),
    ];
    cells.extend(DAY_FIELDS.map(field));
    cells.push(cell(&others.join(", ")));
    cells.push(cell(&codes.join(", ")));
    cells.push(reading.duplicate_of.map(|job| job.to_string()).unwrap_or_default());
    records.write_record(cells)?;
    records.flush()
}

fn start(header: &str, style: &Style, out: &mut dyn Write) -> io::Result<()> {
    if style.csv_bom {
        out.write_all(BOM.as_bytes())?;
    }
    out.write_all(header.as_bytes())
}

fn writer(out: &mut dyn Write) -> ::csv::Writer<&mut dyn Write> {
    ::csv::WriterBuilder::new().terminator(::csv::Terminator::CRLF).from_writer(out)
}

fn job(reading: &Reading) -> String {
    reading.job.map(|job| job.to_string()).unwrap_or_default()
}

/// Text as a cell that no spreadsheet takes for a formula.
fn cell(text: &str) -> String {
    let text = clean(text);
    let is_number = |text: &str| {
        let digits = text.strip_prefix('-').unwrap_or(text);
        digits.starts_with(|c: char| c.is_ascii_digit()) && digits.chars().all(|c| c.is_ascii_digit() || c == '.')
    };
    if is_number(&text) {
        return text.into_owned();
    }
    let mut safe = String::with_capacity(text.len() + 1);
    let mut at_start = true;
    for c in text.chars() {
        let starts_formula = matches!(c, '=' | '+' | '-' | '@' | '＝' | '＋' | '－' | '＠' | '\u{2212}');
        if at_start && starts_formula {
            safe.push('\'');
        }
        at_start = matches!(c, ';' | '|') || at_start && (c.is_whitespace() || matches!(c, '"' | '\u{feff}' | '\u{200b}'));
        safe.push(c);
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula() {
        for (text, safe) in [
            ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
            ("a;=1+1", "a;'=1+1"),
            ("a; \"=1+1", "a; \"'=1+1"),
            (" \t+49 30", "  '+49 30"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("＝1", "'＝1"),
            ("-5.00", "-5.00"),
            ("-5;-2+3", "'-5;'-2+3"),
            ("2024-01-02", "2024-01-02"),
            ("a\r\n=b", "a  =b"),
            ("x|=y", "x|'=y"),
        ] {
            assert_eq!(cell(text), safe);
        }
    }

    #[test]
    fn headers_name_every_column() {
        assert_eq!(HEADER.split(',').count(), 12);
        assert_eq!(DAY_HEADER.split(',').count(), 5 + DAY_FIELDS.len() + 3);
        assert!(DAY_FIELDS.iter().all(|name| DAY_HEADER.contains(&format!(",{name},"))));
    }
}
