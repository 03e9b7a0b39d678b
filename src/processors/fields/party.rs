//! Who issued the document: company and address. Both stand at the top, the name first; a legal form gives it away.

use super::sheet::{Cell, Sheet, Span};
use super::words::{self, has_any};
use super::{Extract, Field};
use regex::Regex;
use std::sync::LazyLock;

/// Rows of the first page in which a name is looked for.
const TOP: usize = 14;
/// Rows after the name in which an address may begin, and rows that one has.
const BEGINS: usize = 5;
const LONGEST: usize = 6;

/// Fields of which a page that a company issued has one.
const BUSINESS: &[&str] = &["total", "invoice_number", "vat_id", "iban", "phone", "email"];

/// A registration number behind a name: "(933109-X)", "Co. No. 20965-W".
static REGISTRATION: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)\s*[(\[{<]?\s*(?:co\.?\s*)?(?:reg|roc|no|company)?[\s.:]*(?:no)?[\s.:]*[0-9]{4,12}\s*[-–.]?\s*[a-z]{0,2}\s*[)\]}>]?\s*$")
        .expect("the pattern is a constant")
});
static POSTCODE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\b(?:[A-Z]{1,2}-?)?[0-9]{4,6}\b|\b[A-Z]{1,2}[0-9][0-9A-Z]? ?[0-9][A-Z]{2}\b").expect("the pattern is a constant")
});

/// Adds what is found.
pub(super) fn find(sheet: &Sheet<'_>, extract: &mut Extract) {
    let Some((row, cell, field)) = company(sheet) else { return };
    // The first line of a page that is no receipt, invoice or letter is no company's name.
    let is_business = extract.fields.keys().any(|name| BUSINESS.contains(&name.as_str()));
    if !is_business && !has_legal_form(&sheet.cells[cell].plain) {
        return;
    }
    extract.fields.insert("company".into(), field);
    if let Some(field) = address(sheet, row, cell) {
        extract.fields.insert("address".into(), field);
    }
}

/// Row and cell of the issuer's name.
fn company(sheet: &Sheet<'_>) -> Option<(usize, usize, Field)> {
    let first = sheet.rows.first()?.page;
    let mut best: Option<(f32, usize, usize)> = None;
    let tallest =
        sheet.rows.iter().take(TOP).flat_map(|row| row.cells.clone()).map(|at| sheet.cells[at].height()).fold(1.0, f32::max);
    for (index, row) in sheet.rows.iter().enumerate().take(TOP) {
        if row.page != first {
            break;
        }
        let mut stop = false;
        let before = best.map(|(_, row, _)| row);
        for cell in row.cells.clone() {
            let here = &sheet.cells[cell];
            // A recipient's name stands behind such words.
            if has_any(
                &here.plain,
                &[
                    "bill to", "sold to", "ship to", "invoice to", "deliver to", "rechnung an", "facture a", "cliente",
                    "spett.le", "factuur aan", "klant", "kunde", "client",
                ],
            ) {
                stop = true;
                break;
            }
            let Some(score) = name_score(here, index, tallest) else { continue };
            if best.is_none_or(|(most, ..)| score > most) {
                best = Some((score, index, cell));
            }
        }
        // Below the issuer's own numbers and the heading other names follow: the customer's, the goods'.
        let row_plain = sheet.row_plain(row);
        let heading = has_any(&row_plain, words::AFTER_ADDRESS) && best.map(|(_, row, _)| row) == before;
        if stop || heading && best.is_some_and(|(score, ..)| score >= 2.0) {
            break;
        }
    }
    let (score, row, cell) = best?;
    let mut span = sheet.whole(cell);
    let raw = sheet.raw(&span);
    // The name without its registration number.
    if let Some(found) = REGISTRATION.find(raw).filter(|found| found.start() >= 3) {
        span.bytes.end = span.bytes.start + found.start();
    }
    // Nor with anything else behind its legal form that is no word.
    if let Some(end) = form_end(sheet.raw(&span)) {
        span.bytes.end = span.bytes.start + end;
    }
    let mut spans = vec![span];
    // A legal form alone belongs to the line above it.
    let plain = form_key(&sheet.cells[cell].plain);
    if row > 0 && words::LEGAL_FORMS.contains(&plain.as_str()) {
        let above = sheet.rows[row - 1].cells.start;
        if sheet.cells[above].page == sheet.cells[cell].page {
            spans.insert(0, sheet.whole(above));
        }
    }
    let value = spans.iter().map(|span| sheet.raw(span)).collect::<Vec<_>>().join(" ");
    let value = value.trim().trim_end_matches([',', ';', ':', '-']).trim_end().to_owned();
    (!value.is_empty()).then(|| (row, cell, sheet.field_of(&spans, value, if score >= 6.0 { 0.9 } else { 0.6 })))
}

/// Where a name ends that has a legal form in it and then something in brackets, or digits.
fn form_end(raw: &str) -> Option<usize> {
    let lower = raw.to_ascii_lowercase();
    let form = ["sdn bhd", "sdn. bhd.", "sdn. bhd", "sdn.bhd.", "gmbh", "ltd", "ltd.", "inc.", "llc", "bhd"];
    let end = form.iter().filter_map(|form| words::find(&lower, form)).map(|found| found.end).max()?;
    let rest = raw.get(end..)?.trim_start_matches(['.', ' ']);
    let odd = rest.starts_with(['(', '[', '<', '{']) && rest.contains(|c: char| c.is_ascii_digit())
        || rest.chars().filter(|c| c.is_alphabetic()).count() < 2;
    (odd && !rest.is_empty()).then_some(end)
}

fn form_key(plain: &str) -> String {
    plain.trim_end_matches(['.', ',', ')', '(']).to_owned()
}

/// How much a cell is like an issuer's name; `None` if not at all.
fn name_score(cell: &Cell<'_>, row: usize, tallest: f32) -> Option<f32> {
    let plain = cell.plain.as_str();
    let letters = plain.chars().filter(|c| c.is_alphabetic()).count();
    let digits = plain.chars().filter(char::is_ascii_digit).count();
    if letters < 2 || plain.len() > 90 {
        return None;
    }
    let bare = REGISTRATION.replace(plain, "").to_string();
    let form = has_legal_form(&bare);
    let trade = has_any(&bare, words::TRADES);
    if has_any(
        plain,
        &["company no", "company reg", "co no", "co. no", "co reg", "co. reg", "co.reg", "reg no", "reg. no", "roc no", "roc"],
    ) && !bare.contains("bhd")
    {
        return None;
    }
    let labelled = has_any(plain, words::NO_NAME) || plain.contains(':') && !form;
    if labelled && !form {
        return None;
    }
    let mut score = 3.0 - row as f32 * 0.45;
    score += if form { 6.0 } else { 0.0 };
    score += if trade { 2.0 } else { 0.0 };
    score += 2.0 * cell.height() / tallest;
    score -= if has_any(plain, words::PLACES) && !form { 4.0 } else { 0.0 };
    score -= if digits > letters {
        5.0
    } else if digits > 0 && !form {
        0.5
    } else {
        0.0
    };
    score -= if letters < 4 { 1.0 } else { 0.0 };
    Some(score)
}

fn has_legal_form(plain: &str) -> bool {
    let plain = plain.replace(['(', ')', ','], " ");
    let tokens: Vec<&str> = plain.split_whitespace().map(|word| word.trim_matches(['.', ';'])).collect();
    if tokens.len() < 2 {
        return false;
    }
    words::LEGAL_FORMS.iter().any(|form| {
        let parts: Vec<&str> = form.split(' ').map(|word| word.trim_matches('.')).collect();
        // Short ones only at the end: "AS" and "CO" are words too.
        if form.len() <= 3 && parts.len() == 1 {
            tokens.last() == Some(form) || tokens.iter().skip(1).any(|token| token == form) && form.len() == 3
        } else {
            tokens.windows(parts.len()).skip(1).any(|window| window == parts.as_slice())
        }
    })
}

/// The lines under the name that are like an address.
fn address(sheet: &Sheet<'_>, row: usize, name: usize) -> Option<Field> {
    let page = sheet.rows[row].page;
    let width = sheet.width(page);
    let named = &sheet.cells[name];
    let mut spans: Vec<Span> = Vec::new();
    let mut last_bottom = sheet.rows[row].bottom;
    let mut begun = None;
    for (index, next) in sheet.rows.iter().enumerate().skip(row + 1).take(BEGINS + LONGEST) {
        if next.page != page || spans.len() >= LONGEST {
            break;
        }
        // The issuer's column: what stands far off beside it is something else's.
        let in_column =
            |cell: &Cell<'_>| cell.left < named.right.max(named.left + 0.3 * width) && cell.right > named.left - 0.3 * width;
        let Some(cell) = next.cells.clone().find(|at| in_column(&sheet.cells[*at])) else { continue };
        let here = &sheet.cells[cell];
        let gap = here.top - last_bottom;
        let plain = here.plain.as_str();
        if begun.is_some() && gap > 1.6 * here.height() {
            break;
        }
        let letters = plain.chars().filter(|c| c.is_alphabetic()).count();
        let phone = letters == 0 && plain.chars().filter(char::is_ascii_digit).count() >= 7;
        let label = plain.contains(':') && !has_any(plain, words::PLACES);
        let stops = has_any(plain, words::AFTER_ADDRESS)
            || plain.contains('@')
            || phone
            || label
            || here.amounts().iter().any(|amount| amount.fraction);
        let is_registration = REGISTRATION.find(plain).is_some_and(|found| found.start() == 0)
            || plain.starts_with('(')
                && plain.chars().filter(char::is_ascii_digit).count() >= 4
                && !has_any(plain, words::PLACES);
        if stops {
            // "NO.5, JALAN X TEL: 123": the address ends inside the line.
            if begun.is_some() || index > row + BEGINS {
                break;
            }
            continue;
        }
        if begun.is_none() {
            let digits = plain.chars().any(|c| c.is_ascii_digit());
            let like = has_any(plain, words::PLACES) && (digits || plain.contains(','))
                || digits && (plain.contains(',') || POSTCODE.is_match(here.text))
                || ends_like_street(plain);
            if is_registration || !like {
                if index > row + BEGINS {
                    break;
                }
                continue;
            }
            begun = Some(index);
        } else if is_registration || is_headline(plain) {
            break;
        }
        let mut span = sheet.whole(cell);
        // "Address: 1 Mill Lane"
        if let Some(at) = sheet.raw(&span).find(':').filter(|at| {
            has_any(here.plain.get(..*at).unwrap_or_default(), &["add", "address", "adresse", "direccion", "indirizzo", "adres"])
        }) {
            let rest = &sheet.raw(&span)[at + 1..];
            span.bytes.start = span.bytes.end - rest.trim_start().len();
        }
        if span.bytes.is_empty() {
            continue;
        }
        spans.push(span);
        last_bottom = here.bottom;
    }
    if spans.is_empty() {
        return None;
    }
    let value = spans.iter().map(|span| sheet.raw(span)).collect::<Vec<_>>().join(" ");
    Some(sheet.field_of(&spans, value, 0.75))
}

/// A line of a heading, or of stars.
fn is_headline(plain: &str) -> bool {
    let letters = plain.chars().filter(|c| c.is_alphanumeric()).count();
    letters < 3 || letters * 2 < plain.chars().filter(|c| !c.is_whitespace()).count()
}

fn ends_like_street(plain: &str) -> bool {
    let mut words = plain.split_whitespace().rev();
    let last = words.next().unwrap_or_default();
    let number = last.chars().any(|c| c.is_ascii_digit()) && last.len() <= 5;
    let street = words.next().unwrap_or_default();
    let first = plain.split_whitespace().next().unwrap_or_default();
    number
        && ["strasse", "str.", "str", "weg", "platz", "allee", "gasse", "straat", "laan"].iter().any(|end| street.ends_with(end))
        || first.chars().any(|c| c.is_ascii_digit())
            && plain.split_whitespace().count() >= 2
            && plain.chars().filter(|c| c.is_alphabetic()).count() > 4
}
