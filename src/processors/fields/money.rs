//! What is to be paid, and what it is made of: total, subtotal, taxes, currency, how it was paid.
//!
//! Each row with amounts is labelled by its words; among the rows that can be the total the label decides, and the
//! arithmetic of the others (net and tax, cash and change, rounding) decides between equal labels.

use super::numbers::{Amount, currency_of};
use super::sheet::{Sheet, Span};
use super::words::{self, has_any};
use super::{Extract, Field};

/// What a row's words say of its amounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Label {
    Grand,
    Total,
    Subtotal,
    Tax,
    Rounding,
    Cash,
    Change,
    Card,
    Other,
}

/// An amount with its row's label.
#[derive(Debug, Clone)]
struct Labelled {
    row: usize,
    label: Label,
    /// Of amounts in the row.
    last: bool,
    /// Below the head of a table of taxes.
    in_summary: bool,
    /// Words that make it a total of something else.
    doubtful: bool,
    span: Span,
    amount: Amount,
}

/// Adds what is found.
pub(super) fn find(sheet: &Sheet<'_>, extract: &mut Extract) {
    let rows = labelled(sheet);
    if let Some((total, sure)) = total(&rows) {
        extract.fields.insert("total".into(), sheet.field(&total.span, total.amount.value(), sure));
        parts(sheet, &rows, total, extract);
    }
    if let Some(field) = currency(sheet, &rows) {
        extract.fields.insert("currency".into(), field);
    }
    if let Some(field) = payment(sheet, &rows) {
        extract.fields.insert("payment_method".into(), field);
    }
}

/// Every amount with a fraction or a currency, with its row's label.
fn labelled(sheet: &Sheet<'_>) -> Vec<Labelled> {
    let mut found: Vec<Labelled> = Vec::new();
    let mut in_summary = false;
    let mut page = 0;
    for (index, row) in sheet.rows.iter().enumerate() {
        if row.page != page {
            (page, in_summary) = (row.page, false);
        }
        let plain = sheet.row_plain(row);
        in_summary |= has_any(&plain, words::TAX_SUMMARY) && !has_any(&plain, words::INVOICE_NUMBER);
        let mut amounts = Vec::new();
        for cell in row.cells.clone() {
            for amount in sheet.cells[cell].amounts() {
                if !amount.percent && (amount.fraction || amount.currency.is_some()) {
                    amounts.push((Span { cell, bytes: amount.bytes.clone() }, amount));
                }
            }
        }
        let mut label = label_of(&plain);
        let mut doubtful = has_any(&plain, words::NOT_TOTAL);
        // A label of its own stands above its amount, or a line's breadth beside it.
        if label == Label::Other && !plain.chars().any(char::is_alphabetic) && index > 0 {
            let above = &sheet.rows[index - 1];
            let near = above.page == row.page && row.top - above.bottom < 0.8 * (above.bottom - above.top);
            let above_plain = sheet.row_plain(above);
            let bare = above.cells.clone().all(|cell| sheet.cells[cell].amounts().iter().all(|amount| !amount.fraction));
            if near && bare && above_plain.len() < 40 {
                label = label_of(&above_plain);
                doubtful = has_any(&above_plain, words::NOT_TOTAL);
            }
        }
        let count = amounts.len();
        for (at, (span, amount)) in amounts.into_iter().enumerate() {
            let column = if count > 1 { column_label(sheet, index, &span) } else { None };
            let label = column.unwrap_or(label);
            let last = column.is_some() || at + 1 == count;
            found.push(Labelled { row: index, label, last, in_summary, doubtful, span, amount });
        }
    }
    found
}

/// The label at the head of an amount's column: the row above has labels only, one over each amount.
fn column_label(sheet: &Sheet<'_>, row: usize, span: &Span) -> Option<Label> {
    let above = &sheet.rows[row.checked_sub(1)?];
    let own = &sheet.rows[row];
    if above.page != own.page || above.cells.len() < 2 || sheet.row_plain(own).chars().filter(|c| c.is_alphabetic()).count() > 6 {
        return None;
    }
    let cell = &sheet.cells[span.cell];
    let middle = (cell.left + cell.right) / 2.0;
    let head = above.cells.clone().map(|at| &sheet.cells[at]).find(|head| {
        let margin = cell.height();
        head.left - margin <= middle && middle <= head.right + margin
    })?;
    Some(label_of(&head.plain)).filter(|label| matches!(label, Label::Grand | Label::Total | Label::Subtotal | Label::Tax))
}

fn label_of(plain: &str) -> Label {
    let includes = has_any(plain, &["incl", "inclusive", "including", "inclusief", "inkl", "ttc", "with gst", "incl."]);
    let subtotal = has_any(plain, words::SUBTOTAL);
    let tax = has_any(plain, words::TAX);
    if has_any(plain, words::CHANGE) && !has_any(plain, &["total", "grand total"]) {
        return Label::Change;
    }
    if has_any(plain, words::ROUNDING) && !has_any(plain, words::TOTAL) {
        return Label::Rounding;
    }
    if has_any(plain, words::GRAND_TOTAL)
        && (!subtotal || includes)
        && (!tax || includes)
        && !has_any(plain, &["subtotal", "sub total", "sub-total"])
    {
        return Label::Grand;
    }
    if subtotal {
        return Label::Subtotal;
    }
    if tax && !includes {
        return Label::Tax;
    }
    if has_any(plain, words::TOTAL) {
        return if includes { Label::Grand } else { Label::Total };
    }
    if has_any(plain, words::CARD) {
        return Label::Card;
    }
    if has_any(plain, words::CASH) {
        return Label::Cash;
    }
    if tax { Label::Tax } else { Label::Other }
}

/// The amount to be paid, and how sure that is.
fn total(rows: &[Labelled]) -> Option<(&Labelled, f32)> {
    let of = |label: Label| rows.iter().filter(move |row| row.label == label && row.last);
    let paid: Vec<i64> = of(Label::Cash)
        .flat_map(|cash| of(Label::Change).map(move |change| cash.amount.cents.abs() - change.amount.cents.abs()))
        .filter(|paid| *paid > 0)
        .take(64)
        .collect();
    let by_card: Vec<i64> = of(Label::Card).map(|row| row.amount.cents.abs()).take(16).collect();
    let taxes: Vec<i64> = of(Label::Tax).map(|row| row.amount.cents).take(16).collect();
    let nets: Vec<i64> = of(Label::Subtotal).map(|row| row.amount.cents).take(16).collect();
    let roundings: Vec<i64> =
        of(Label::Rounding).map(|row| row.amount.cents.abs()).filter(|cents| (1..10).contains(cents)).take(8).collect();
    let totals: Vec<i64> = of(Label::Total).chain(of(Label::Grand)).map(|row| row.amount.cents).take(64).collect();
    let score = |row: &Labelled| -> f32 {
        let cents = row.amount.cents;
        let mut score = match row.label {
            Label::Grand => 8.0,
            Label::Total => 6.5,
            Label::Subtotal => 3.0,
            Label::Card => 4.0,
            Label::Cash => 2.0,
            Label::Tax | Label::Rounding | Label::Change => -4.0,
            Label::Other => 0.0,
        };
        score -= if row.last { 0.0 } else { 3.0 };
        score -= if row.in_summary { 4.0 } else { 0.0 };
        score -= if row.doubtful { 3.0 } else { 0.0 };
        score -= if cents <= 0 { 6.0 } else { 0.0 };
        score -= if row.amount.fraction { 0.0 } else { 1.5 };
        score += if paid.contains(&cents) { 3.0 } else { 0.0 };
        score += if by_card.contains(&cents) && row.label != Label::Card { 2.5 } else { 0.0 };
        score += if nets.iter().any(|net| taxes.iter().any(|tax| net + tax == cents && *tax != 0)) { 1.0 } else { 0.0 };
        // It is another total, rounded.
        score += if roundings
            .iter()
            .any(|by| totals.iter().any(|other| *other != cents && (other - cents).abs() == *by && cents % 5 == 0))
        {
            2.0
        } else {
            0.0
        };
        score
    };
    let best = rows
        .iter()
        .map(|row| (row, score(row)))
        .max_by(|(a, x), (b, y)| x.total_cmp(y).then(a.amount.cents.cmp(&b.amount.cents)).then(b.row.cmp(&a.row)));
    let (row, score) = best?;
    if score >= 3.0 {
        return Some((row, (0.6 + score / 30.0).min(0.98)));
    }
    // Nobody says which one: the largest, if it is in the last half, is mostly right on a receipt.
    let largest = rows.iter().filter(|row| row.amount.fraction && row.label != Label::Cash).max_by_key(|row| row.amount.cents)?;
    (largest.amount.cents > 0).then_some((largest, 0.3))
}

/// Subtotal and taxes that go with the total.
fn parts(sheet: &Sheet<'_>, rows: &[Labelled], total: &Labelled, extract: &mut Extract) {
    let cents = total.amount.cents;
    let nets: Vec<&Labelled> =
        rows.iter().filter(|row| row.label == Label::Subtotal && row.last && row.amount.fraction).take(64).collect();
    let taxes: Vec<&Labelled> =
        rows.iter().filter(|row| row.label == Label::Tax && row.amount.fraction && row.amount.cents < cents).take(64).collect();
    let sums = |net: &Labelled, tax: &Labelled| (net.amount.cents + tax.amount.cents - cents).abs() <= 5;
    let both = nets
        .iter()
        .flat_map(|net| taxes.iter().map(move |tax| (*net, *tax)))
        .find(|(net, tax)| sums(net, tax) && tax.amount.cents > 0);
    let (net, tax, sure) = match both {
        Some((net, tax)) => (Some(net), Some(tax), 0.95),
        None => (
            nets.first().copied(),
            taxes.iter().find(|tax| tax.last && !tax.in_summary).or(taxes.iter().find(|tax| tax.last)).copied(),
            0.6,
        ),
    };
    if let Some(net) = net {
        extract.fields.insert("subtotal".into(), sheet.field(&net.span, net.amount.value(), sure));
    }
    let Some(tax) = tax else { return };
    extract.fields.insert("tax".into(), sheet.field(&tax.span, tax.amount.value(), sure));
    let mut number = 0;
    for other in rows.iter().filter(|row| row.label == Label::Tax).take(64) {
        let row = &sheet.rows[other.row];
        let rate = row.cells.clone().find_map(|cell| {
            let amount =
                sheet.cells[cell].amounts().into_iter().find(|amount| amount.percent && (1..=5000).contains(&amount.cents))?;
            Some((Span { cell, bytes: amount.bytes.clone() }, amount))
        });
        let Some((span, rate)) = rate else { continue };
        let value = rate.value();
        let value = value.trim_end_matches('0').trim_end_matches('.').to_owned();
        let known = extract.fields.iter().any(|(name, field)| name.starts_with("tax_rate") && field.value == value);
        if known || number == 4 {
            continue;
        }
        number += 1;
        let suffix = if number == 1 { String::new() } else { format!("_{number}") };
        extract.fields.insert(format!("tax_rate{suffix}"), sheet.field(&span, value, 0.9));
        if number > 1 && other.row != tax.row {
            extract.fields.insert(format!("tax{suffix}"), sheet.field(&other.span, other.amount.value(), 0.7));
        }
    }
}

/// The currency by the signs and codes beside amounts, or of a column's head.
fn currency(sheet: &Sheet<'_>, rows: &[Labelled]) -> Option<Field> {
    const ALONE: [(&str, &str); 8] = [
        ("eur", "EUR"),
        ("€", "EUR"),
        ("(rm)", "MYR"),
        ("rm", "MYR"),
        ("usd", "USD"),
        ("gbp", "GBP"),
        ("chf", "CHF"),
        ("sgd", "SGD"),
    ];
    let by_amounts = currency_of(rows.iter().map(|row| &row.amount));
    let code = by_amounts.or_else(|| {
        let alone = |plain: &str| ALONE.iter().find(|(word, _)| super::words::find(plain, word).is_some()).map(|(_, code)| *code);
        sheet.cells.iter().find_map(|cell| alone(&cell.plain))
    })?;
    // Where it stands.
    for (index, cell) in sheet.cells.iter().enumerate() {
        for (word, _) in super::numbers::CURRENCIES.iter().filter(|(_, named)| *named == code) {
            if let Some(found) = super::words::find(&cell.plain, word) {
                let (start, end) = (cell.at(found.start), cell.at(found.end));
                return Some(sheet.field(&Span { cell: index, bytes: start..end }, code, 0.95));
            }
        }
    }
    None
}

/// How it was paid, by the words beside an amount.
fn payment(sheet: &Sheet<'_>, rows: &[Labelled]) -> Option<Field> {
    let paid = rows.iter().filter(|row| row.amount.cents != 0 && matches!(row.label, Label::Card | Label::Cash));
    for row in paid {
        let (words, value) = if row.label == Label::Card { (words::CARD, "card") } else { (words::CASH, "cash") };
        for cell in sheet.rows[row.row].cells.clone() {
            let found = words
                .iter()
                .filter_map(|word| super::words::find(&sheet.cells[cell].plain, word))
                .max_by_key(|found| found.len());
            if let Some(found) = found {
                let at = &sheet.cells[cell];
                return Some(sheet.field(&Span { cell, bytes: at.at(found.start)..at.at(found.end) }, value, 0.8));
            }
        }
    }
    None
}
