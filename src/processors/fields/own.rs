//! Fields of an account's own, by its patterns and keywords. They take the place of what the general rules found under the same
//! name; what they say stands on the page like anything else.

use super::dates::dates;
use super::sheet::{Sheet, Span, plain};
use super::{Extract, Field, words};
use crate::account::{OwnField, ValueKind};
use regex::Regex;

/// Own fields of an account that are looked for.
const MOST: usize = 64;

/// An account's field, ready to be looked for.
#[derive(Debug)]
pub(super) struct Rule {
    name: String,
    pattern: Option<Regex>,
    keywords: Vec<String>,
    kind: ValueKind,
}

impl Rule {
    /// Of these; one whose pattern does not compile any more is left out: it was checked where the account was read.
    pub fn all(fields: &[OwnField]) -> Vec<Rule> {
        let rule = |field: &OwnField| {
            let keywords = field.keywords.iter().map(|word| plain(word)).collect();
            Some(Rule { name: field.name.clone(), pattern: field.regex().ok()?, keywords, kind: field.kind })
        };
        fields.iter().take(MOST).filter_map(rule).collect()
    }

    fn find(&self, sheet: &Sheet<'_>) -> Option<Field> {
        for (index, row) in sheet.rows.iter().enumerate() {
            for cell in row.cells.clone() {
                let here = &sheet.cells[cell];
                if let Some(found) = self.pattern.as_ref().and_then(|pattern| pattern.captures(here.text)) {
                    let value = found.get(1).or_else(|| found.get(0))?;
                    if let Some(field) = self.value(sheet, cell, value.range()) {
                        return Some(field);
                    }
                }
                for word in &self.keywords {
                    let Some(found) = words::find(&here.plain, word) else { continue };
                    let from = here.at(found.end);
                    let behind = here.text[from..].trim_start_matches([' ', ':', '.', '#', '-', '=']);
                    let next = (cell + 1 < row.cells.end).then_some(cell + 1);
                    let below = sheet.rows.get(index + 1).filter(|below| below.page == row.page).and_then(|below| {
                        below.cells.clone().find(|at| sheet.cells[*at].left < here.right && here.left < sheet.cells[*at].right)
                    });
                    let field = if behind.is_empty() {
                        next.and_then(|at| self.value(sheet, at, 0..sheet.cells[at].text.len()))
                            .or_else(|| below.and_then(|at| self.value(sheet, at, 0..sheet.cells[at].text.len())))
                    } else {
                        self.value(sheet, cell, here.text.len() - behind.len()..here.text.len())
                    };
                    if field.is_some() {
                        return field;
                    }
                }
            }
        }
        None
    }

    /// The value in a piece of a cell, if there is one of the kind.
    fn value(&self, sheet: &Sheet<'_>, cell: usize, bytes: std::ops::Range<usize>) -> Option<Field> {
        let piece = &sheet.cells[cell].text[bytes.clone()];
        let (start, length, value) = match self.kind {
            ValueKind::Text => {
                let start = piece.len() - piece.trim_start().len();
                (start, piece.trim().len(), piece.trim().to_owned())
            }
            ValueKind::Number => {
                let word = piece.split_whitespace().find(|word| word.contains(|c: char| c.is_ascii_digit()))?;
                let start = piece.find(word)?;
                (start, word.len(), word.to_owned())
            }
            ValueKind::Amount => {
                let amount = super::numbers::amounts(piece, &|_| true).into_iter().next_back()?;
                (amount.bytes.start, amount.bytes.len(), amount.value())
            }
            ValueKind::Date => {
                let date = dates(piece, false).into_iter().next()?;
                (date.start, date.end - date.start, date.value())
            }
        };
        let span = Span { cell, bytes: bytes.start + start..bytes.start + start + length };
        (length > 0).then(|| sheet.field(&span, value, 0.95))
    }
}

/// Puts what is found in the place of what was.
pub(super) fn find(rules: &[Rule], sheet: &Sheet<'_>, extract: &mut Extract) {
    for rule in rules {
        if let Some(field) = rule.find(sheet) {
            extract.fields.insert(rule.name.clone(), field);
        }
    }
}
