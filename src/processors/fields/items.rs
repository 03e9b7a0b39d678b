//! Line items: what was bought. A row above the totals that ends in an amount; quantity and unit price are taken where their
//! product is that amount, which is the check that they are what they seem.

use super::numbers::Amount;
use super::sheet::{Row, Sheet, Span};
use super::words::{self, has_any};
use super::{Extract, Item};

/// Items of a document.
const MOST: usize = 2_000;
/// Numbers of a row that are tried with each other.
const NUMBERS: usize = 8;

/// Heads of the columns of a table of items.
const HEADS: &[&str] = &[
    "description", "desc", "item", "items", "product", "article", "qty", "quantity", "price", "unit price", "u.price", "u/price",
    "amount", "rsp", "hours", "rate", "beschreibung", "bezeichnung", "artikel", "menge", "einzelpreis", "preis", "betrag",
    "anzahl", "position", "pos", "designation", "quantite", "qte", "prix unitaire", "prix", "montant", "montant ht",
    "descripcion", "concepto", "cantidad", "cant", "precio", "importe", "descrizione", "quantita", "q.ta", "prezzo", "importo",
    "omschrijving", "aantal", "prijs", "bedrag", "stuksprijs", "descricao", "quantidade", "qtd", "preco", "valor",
];

/// Adds what is found.
pub(super) fn find(sheet: &Sheet<'_>, extract: &mut Extract) {
    let head = sheet.rows.iter().position(|row| heads(&sheet.row_plain(row)) >= 2);
    let mut items: Vec<Item> = Vec::new();
    let mut used: Option<usize> = None;
    let from = head.map_or(0, |head| head + 1);
    for (index, row) in sheet.rows.iter().enumerate().skip(from) {
        if items.len() >= MOST {
            break;
        }
        let plain = sheet.row_plain(row);
        if ends_items(&plain) {
            // A table may go on on the next page; before any item this was something else's total.
            if !items.is_empty() && sheet.rows[index..].iter().all(|later| later.page == row.page) {
                break;
            }
            continue;
        }
        let Some(found) = item(sheet, row, head.is_some()) else { continue };
        let mut description = found.description;
        let mut raw = sheet.row_text(row);
        if !is_description(&description) {
            // It stands on a line of its own: above, or below.
            let alone = |at: usize| {
                let other = sheet.rows.get(at).filter(|other| other.page == row.page && at >= from && Some(at) != used)?;
                let text = sheet.row_text(other);
                let near = (other.top - row.top).abs() < 3.0 * (row.bottom - row.top).max(1.0);
                let plain = sheet.row_plain(other);
                (near
                    && is_description(&text)
                    && numbers(sheet, other).iter().all(|(_, amount)| !amount.fraction)
                    && !ends_items(&plain)
                    && heads(&plain) < 2)
                    .then_some((text, at))
            };
            let before = index.checked_sub(1).and_then(alone);
            let Some((text, at)) = before.or_else(|| alone(index + 1)) else { continue };
            raw = if at < index { format!("{text} {raw}") } else { format!("{raw} {text}") };
            description = text;
            used = Some(at);
        }
        let Found { quantity, unit_price, amount, .. } = found;
        items.push(Item { description, quantity, unit_price, amount: Some(amount), page: row.page, raw });
    }
    extract.items = items;
}

fn heads(plain: &str) -> usize {
    HEADS.iter().filter(|head| words::find(plain, head).is_some()).count()
}

/// Whether a row is below the items.
fn ends_items(plain: &str) -> bool {
    let label =
        has_any(plain, words::GRAND_TOTAL) || has_any(plain, words::SUBTOTAL) || has_any(plain, words::TOTAL) && heads(plain) < 2;
    label && plain.chars().any(|c| c.is_ascii_digit())
        || has_any(plain, words::TAX) && plain.contains('%')
        || has_any(plain, words::CHANGE)
        || has_any(plain, words::ROUNDING)
        || has_any(plain, words::CASH) && plain.len() < 30
}

fn is_description(text: &str) -> bool {
    text.chars().filter(|c| c.is_alphabetic()).count() >= 3
}

struct Found {
    description: String,
    quantity: Option<f64>,
    unit_price: Option<f64>,
    amount: f64,
}

/// Numbers of a row, left to right.
fn numbers(sheet: &Sheet<'_>, row: &Row) -> Vec<(Span, Amount)> {
    let of = |cell: usize| {
        sheet.cells[cell].amounts().into_iter().map(move |amount| (Span { cell, bytes: amount.bytes.clone() }, amount))
    };
    row.cells.clone().flat_map(of).take(64).collect()
}

fn item(sheet: &Sheet<'_>, row: &Row, in_table: bool) -> Option<Found> {
    let numbers: Vec<(Span, Amount)> = numbers(sheet, row).into_iter().filter(|(_, amount)| !amount.percent).collect();
    let (at, (span, amount)) = numbers.iter().enumerate().rev().find(|(_, (_, amount))| amount.fraction)?;
    // Nothing but a tax code or a currency stands behind it.
    let last = &sheet.cells[span.cell];
    let behind = last.text[span.bytes.end..].chars().filter(|c| c.is_alphanumeric()).count();
    let beyond: usize =
        (span.cell + 1..row.cells.end).map(|cell| sheet.cells[cell].text.chars().filter(|c| c.is_alphanumeric()).count()).sum();
    if behind + beyond > 5 || at + 1 < numbers.len() && numbers[at + 1..].iter().any(|(_, other)| other.fraction) {
        return None;
    }
    let before = &numbers[at.saturating_sub(NUMBERS)..at];
    let mut product = None;
    for (one, (_, quantity)) in before.iter().enumerate() {
        for (two, (_, price)) in before.iter().enumerate() {
            if one == two || !price.fraction || quantity.cents <= 0 || price.cents == 0 {
                continue;
            }
            let exact = i128::from(quantity.cents) * i128::from(price.cents);
            if (exact - i128::from(amount.cents) * 100).abs() <= 60 && product.is_none() {
                product = Some((one.min(two), quantity, price));
            }
        }
    }
    let first = match &product {
        Some((first, ..)) => &before[*first].0,
        None if in_table && before.iter().any(|(_, other)| other.fraction) => return None,
        None => span,
    };
    let mut description: Vec<&str> = sheet.cells[row.cells.start..first.cell].iter().map(|cell| cell.text.trim()).collect();
    description.push(sheet.cells[first.cell].text[..first.bytes.start].trim());
    let mut description = description.join(" ").trim().to_owned();
    let mut quantity = product.as_ref().map(|(_, quantity, _)| hundredths(quantity.cents));
    if product.is_none()
        && let Some((count, rest)) = leading_count(&description)
    {
        (quantity, description) = (Some(count), rest);
    }
    // What stands between description and numbers: "X", "@", a currency.
    let trimmed = description.trim_end_matches(['@', '$', '€', '£', ':', '-', 'x', 'X', ' ']).len();
    if is_description(&description[..trimmed]) && description[trimmed..].contains([' ', '@', '$', '€', '£']) {
        description.truncate(trimmed);
    }
    let unit_price = product.map(|(_, _, price)| hundredths(price.cents));
    Some(Found { description, quantity, unit_price, amount: hundredths(amount.cents) })
}

/// "2 Coffee": how many there are of it.
fn leading_count(description: &str) -> Option<(f64, String)> {
    let (count, rest) = description.split_once(' ')?;
    let count = count.trim_end_matches(['x', 'X']);
    let number: f64 = count.parse().ok().filter(|_| count.len() <= 3 && count.bytes().all(|b| b.is_ascii_digit()))?;
    (number > 0.0 && is_description(rest)).then(|| (number, rest.trim_start_matches(['x', 'X', ' ']).to_owned()))
}

fn hundredths(cents: i64) -> f64 {
    cents as f64 / 100.0
}
