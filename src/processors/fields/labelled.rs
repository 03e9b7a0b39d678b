//! Values that stand beside or under their label: dates, invoice and order numbers.

use super::dates::{Date, dates};
use super::sheet::{Cell, Sheet, Span};
use super::words::{self, has_any};
use super::{Extract, Field};

/// Adds what is found.
pub(super) fn find(sheet: &Sheet<'_>, extract: &mut Extract) {
    let american = extract.fields.get("currency").is_some_and(|currency| currency.value == "USD");
    let found = all_dates(sheet, american);
    if let Some((span, date, score)) = found.iter().max_by(|a, b| a.2.total_cmp(&b.2)).filter(|found| found.2 > -2.0) {
        let sure = if *score >= 3.0 { 0.95 } else { 0.75 };
        extract.fields.insert("date".into(), sheet.field(span, date.value(), sure));
    }
    if let Some((span, date)) = due_date(sheet, &found) {
        extract.fields.insert("due_date".into(), sheet.field(span, date.value(), 0.9));
    }
    if let Some(field) = number(sheet, words::INVOICE_NUMBER, words::ORDER_NUMBER) {
        extract.fields.insert("invoice_number".into(), field);
    }
    if let Some(field) = number(sheet, words::ORDER_NUMBER, &[]) {
        extract.fields.insert("order_number".into(), field);
    }
}

/// Dates with how likely each is the document's own.
fn all_dates(sheet: &Sheet<'_>, american: bool) -> Vec<(Span, Date, f32)> {
    let mut found = Vec::new();
    for (index, row) in sheet.rows.iter().enumerate() {
        for cell in row.cells.clone() {
            let here = &sheet.cells[cell];
            for date in dates(here.text, american) {
                if found.len() >= 256 {
                    return found;
                }
                let mut score = label_score(sheet, index, cell, date.start);
                let rest = &here.text[date.end..];
                // A time beside it: when something was sold.
                score += if has_time(rest) || has_time(&here.text[..date.start]) { 1.0 } else { 0.0 };
                score -= if (1990..=2060).contains(&date.year) { 0.0 } else { 4.0 };
                score -= (index as f32 / sheet.rows.len().max(1) as f32) * 0.5;
                score -= (here.page.saturating_sub(1) as f32).min(4.0) * 0.5;
                found.push((Span { cell, bytes: date.bytes() }, date, score));
            }
        }
    }
    found
}

fn has_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes
        .windows(4)
        .any(|four| four[0].is_ascii_digit() && four[1] == b':' && four[2].is_ascii_digit() && four[3].is_ascii_digit())
}

/// By the words before a value: in its cell, in the cell left of it, and at the head of its column.
fn label_score(sheet: &Sheet<'_>, row: usize, cell: usize, start: usize) -> f32 {
    let score = |plain: &str| {
        if has_any(plain, words::OTHER_DATE) {
            -4.0
        } else if has_any(plain, words::DATE) {
            4.0
        } else {
            0.0
        }
    };
    let here = &sheet.cells[cell];
    let before = super::sheet::plain(&here.text[..start]);
    // The nearest label counts: "Due: 1.1.2020 Date: 2.1.2019".
    let near = before.char_indices().rev().nth(40).map_or(before.as_str(), |(at, _)| &before[at..]);
    let own = score(near);
    if own != 0.0 {
        return own;
    }
    if near.chars().filter(|c| c.is_alphabetic()).count() > 3 {
        return 0.0;
    }
    let cells = &sheet.rows[row].cells;
    if cell > cells.start {
        let left = score(&sheet.cells[cell - 1].plain);
        if left != 0.0 && dates(sheet.cells[cell - 1].text, false).is_empty() {
            return left;
        }
    }
    above(sheet, row, here).map_or(0.0, |head| score(&head.plain))
}

/// The cell that stands over this one.
fn above<'s, 'a>(sheet: &'s Sheet<'a>, row: usize, cell: &Cell<'_>) -> Option<&'s Cell<'a>> {
    let above = &sheet.rows[row.checked_sub(1)?];
    let near = above.page == cell.page && cell.top - above.bottom < 2.0 * cell.height();
    let over = |head: &&Cell<'_>| head.left < cell.right && cell.left < head.right;
    near.then(|| sheet.cells[above.cells.clone()].iter().find(over)).flatten()
}

fn due_date<'f>(sheet: &Sheet<'_>, found: &'f [(Span, Date, f32)]) -> Option<(&'f Span, Date)> {
    found.iter().find_map(|(span, date, _)| {
        let row = sheet.rows.iter().position(|row| row.cells.contains(&span.cell))?;
        let here = &sheet.cells[span.cell];
        let before = super::sheet::plain(&here.text[..span.bytes.start]);
        let beside = span.cell > sheet.rows[row].cells.start && has_any(&sheet.cells[span.cell - 1].plain, words::DUE_DATE);
        let over = before.is_empty() && above(sheet, row, here).is_some_and(|head| has_any(&head.plain, words::DUE_DATE));
        (has_any(&before, words::DUE_DATE) || before.len() < 3 && beside || over).then_some((span, *date))
    })
}

/// The best number labelled by one of `labels`; those of `others` are something else's.
fn number(sheet: &Sheet<'_>, labels: &[&str], others: &[&str]) -> Option<Field> {
    let mut best: Option<(f32, Span)> = None;
    for (index, row) in sheet.rows.iter().enumerate().take(2_000) {
        for cell in row.cells.clone() {
            let here = &sheet.cells[cell];
            for label in labels {
                let Some(found) = words::find(&here.plain, label) else { continue };
                // The longest of labels that begin here says what it is.
                if others.iter().any(|other| {
                    words::find(&here.plain, other).is_some_and(|place| place.start <= found.start && place.end >= found.end)
                }) {
                    continue;
                }
                let explicit = label.contains("n") && is_explicit(label);
                let Some((span, beside)) = value_of(sheet, index, cell, here.at(found.end), explicit) else { continue };
                let mut score = label.len() as f32 * 0.2 + if explicit { 3.0 } else { 0.0 } + if beside { 1.0 } else { 0.0 };
                score -= index as f32 * 0.01
                    + if has_any(&here.plain[..found.start], &["original", "customer", "tax reg", "gst"]) { 3.0 } else { 0.0 };
                if best.as_ref().is_none_or(|(most, _)| score > *most) {
                    best = Some((score, span));
                }
            }
        }
    }
    let (score, span) = best?;
    Some(sheet.field(&span, sheet.raw(&span), if score >= 4.0 { 0.9 } else { 0.6 }))
}

/// Whether a label says that a number follows.
fn is_explicit(label: &str) -> bool {
    ["number", "no", "nr", "#", "id", " n", "num", "nummer", "numero", "n°", "nº"].iter().any(|sign| label.ends_with(sign))
        || label.starts_with("n")
}

/// The number behind a label that ends at byte `end`, in the next cell, or under it; and whether it is beside.
fn value_of(sheet: &Sheet<'_>, row: usize, cell: usize, end: usize, explicit: bool) -> Option<(Span, bool)> {
    let here = &sheet.cells[cell];
    let (skipped, said) = behind_label(&here.text[end..]);
    let explicit = explicit || said;
    if let Some(token) = token(&here.text[end + skipped..], explicit) {
        return Some((Span { cell, bytes: end + skipped + token.start..end + skipped + token.end }, true));
    }
    let rest = &here.text[end + skipped..];
    if rest.chars().any(char::is_alphanumeric) {
        return None;
    }
    let cells = &sheet.rows[row].cells;
    if cell + 1 < cells.end {
        let next = &sheet.cells[cell + 1];
        let (skipped, _) = behind_label(next.text);
        if next.left - here.right < 25.0 * here.height()
            && let Some(token) = token(&next.text[skipped..], explicit)
        {
            return Some((Span { cell: cell + 1, bytes: skipped + token.start..skipped + token.end }, true));
        }
    }
    if !explicit {
        return None;
    }
    let below =
        sheet.rows.get(row + 1).filter(|below| below.page == here.page && below.top - here.bottom < 2.0 * here.height())?;
    for cell in below.cells.clone() {
        let under = &sheet.cells[cell];
        if under.left < here.right && here.left < under.right {
            let token = token(under.text, true)?;
            return Some((Span { cell, bytes: token }, false));
        }
    }
    None
}

/// How much of the text behind a label still belongs to it: "no.", "#", ":", …, and whether that says that a number follows.
fn behind_label(text: &str) -> (usize, bool) {
    static MORE: std::sync::LazyLock<regex::Regex> = std::sync::LazyLock::new(|| {
        regex::Regex::new(r"(?i)^[\s.:#=\-]*(?:(?:number|nummer|numero|número|num|no|nr|nº|n°|n|id|ref|#)\b?[\s.:#°º=\-\[\(]*)?[\s.:#°º=\-\[\(]*").expect("the pattern is a constant")
    });
    let found = MORE.find(text).map_or(0, |found| found.end());
    (found, text[..found].chars().any(|c| c.is_alphabetic() || c == '#' || c == ':'))
}

/// The first word, if it is like a number: it has digits, and is no date and no amount.
fn token(text: &str, explicit: bool) -> Option<std::ops::Range<usize>> {
    let start = text.len() - text.trim_start().len();
    let rest = &text[start..];
    let length = rest.find(|c: char| !(c.is_alphanumeric() || "-/_.".contains(c))).unwrap_or(rest.len());
    let mut word = rest[..length].trim_end_matches(['.', '-', '/', '_']);
    // "V042- 513777": a reader's space behind a hyphen.
    if rest[word.len()..].starts_with("- ") && word.chars().any(|c| c.is_ascii_digit()) {
        let more = &rest[word.len() + 2..];
        let length = more.find(|c: char| !c.is_ascii_digit()).unwrap_or(more.len());
        if length >= 3 {
            word = &rest[..word.len() + 2 + length];
        }
    }
    let digits = word.chars().filter(char::is_ascii_digit).count();
    let least = if explicit { 1 } else { 3 };
    let plausible = digits >= least && (2..=40).contains(&word.len()) && word.len() - digits <= 12.max(digits * 2);
    let is_date = dates(word, false).iter().any(|date| date.end - date.start >= word.len());
    let is_amount =
        super::numbers::amounts(word, &|_| true).iter().any(|amount| amount.fraction && amount.bytes.len() == word.len());
    (plausible && !is_date && !is_amount).then(|| start..start + word.len())
}
