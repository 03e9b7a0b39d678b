//! A document's lines, and the rows that they stand in: what all rules look at.
//!
//! A value is always a span of one line, or of several whole ones: its raw text is a piece of the reading, never
//! put together. How much is looked at is bounded, whatever a page holds.

use super::Field;
use super::numbers::{Amount, amounts};
use crate::ocr::{Confidence, Line, PageText, Quad, Word};
use std::ops::Range;

/// Lines of a document that are looked at, and bytes of one.
const MOST_LINES: usize = 60_000;
const LONGEST_LINE: usize = 2_000;
/// A gap of this many line heights parts cells.
const CELL_GAP: f32 = 2.0;

/// A line of text with its place.
#[derive(Debug, Clone)]
pub(super) struct Cell<'a> {
    pub page: u32,
    pub text: &'a str,
    /// Without case and accents: see [`plain`]. Not of the same length.
    pub plain: String,
    pub left: f32,
    pub right: f32,
    pub top: f32,
    pub bottom: f32,
    /// For each byte of `plain`, where its character begins in `text`.
    map: Vec<u16>,
    words: &'a [Word],
    /// Of its line.
    confidence: Confidence,
    quad: Quad,
}

impl Cell<'_> {
    pub fn middle(&self) -> f32 {
        (self.top + self.bottom) / 2.0
    }

    pub fn height(&self) -> f32 {
        (self.bottom - self.top).max(1.0)
    }

    /// Where in `text` what stands at this byte of `plain` begins.
    pub fn at(&self, plain: usize) -> usize {
        self.map.get(plain).map_or(self.text.len(), |at| usize::from(*at))
    }

    /// The amounts in it.
    pub fn amounts(&self) -> Vec<Amount> {
        amounts(self.text, &|space| self.is_close(space))
    }

    /// Its words, with left, top, right and bottom.
    pub fn words(&self) -> impl Iterator<Item = (&str, [f32; 4])> {
        self.words.iter().filter_map(|word| {
            let mut bounds = None;
            grow(&mut bounds, &word.quad);
            bounds.map(|bounds| (word.text.as_str(), bounds))
        })
    }

    /// Whether the words round the space at this byte stand closer than words usually do.
    fn is_close(&self, space: usize) -> bool {
        let mut at = 0;
        for pair in self.words.windows(2) {
            at += pair[0].text.len();
            if at == space {
                let right = pair[0].quad.0.iter().map(|corner| corner[0]).fold(f32::MIN, f32::max);
                let left = pair[1].quad.0.iter().map(|corner| corner[0]).fold(f32::MAX, f32::min);
                return left - right < 0.5 * self.height();
            }
            at += 1;
        }
        true
    }
}

/// Cells side by side.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub page: u32,
    /// Left to right.
    pub cells: Range<usize>,
    pub top: f32,
    pub bottom: f32,
}

/// A piece of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span {
    pub cell: usize,
    pub bytes: Range<usize>,
}

/// A document as rules see it: cells in rows, rows top to bottom, pages in order.
#[derive(Debug, Default)]
pub(super) struct Sheet<'a> {
    pub cells: Vec<Cell<'a>>,
    pub rows: Vec<Row>,
    /// Width of each page that has lines, by its number.
    pub widths: Vec<(u32, f32)>,
}

impl<'a> Sheet<'a> {
    pub fn of(pages: &[(u32, &'a PageText)]) -> Sheet<'a> {
        let mut sheet = Sheet::default();
        for &(number, page) in pages {
            let room = MOST_LINES.saturating_sub(sheet.cells.len());
            let mut cells: Vec<Cell<'a>> = page.lines.iter().take(room).flat_map(|line| cells_of(number, line)).collect();
            let width = if page.width > 0 { page.width as f32 } else { cells.iter().map(|c| c.right).fold(1.0, f32::max) };
            sheet.widths.push((number, width));
            cells.sort_by(|a, b| a.middle().total_cmp(&b.middle()));
            // Rows grow from the top; a cell joins the last one if its middle is inside it.
            let mut rows: Vec<Vec<Cell<'a>>> = Vec::new();
            for cell in cells {
                let joins = rows.last().is_some_and(|row| {
                    let first = &row[0];
                    let middle = row.iter().map(Cell::middle).sum::<f32>() / row.len() as f32;
                    (cell.middle() - middle).abs() < 0.45 * cell.height().min(first.height())
                        && row.iter().all(|other| other.right.min(cell.right) - other.left.max(cell.left) < 0.5 * cell.height())
                });
                match rows.last_mut() {
                    Some(row) if joins => row.push(cell),
                    _ => rows.push(vec![cell]),
                }
            }
            for mut row in rows {
                row.sort_by(|a, b| a.left.total_cmp(&b.left));
                let from = sheet.cells.len();
                let edge = |of: fn(&Cell<'a>) -> f32, pick: fn(f32, f32) -> f32| row.iter().map(of).reduce(pick).unwrap_or(0.0);
                let (top, bottom) = (edge(|cell| cell.top, f32::min), edge(|cell| cell.bottom, f32::max));
                sheet.cells.extend(row);
                sheet.rows.push(Row { page: number, cells: from..sheet.cells.len(), top, bottom });
            }
        }
        sheet
    }

    /// The raw text of a span.
    pub fn raw(&self, span: &Span) -> &'a str {
        &self.cells[span.cell].text[span.bytes.clone()]
    }

    /// A span as a field's value; `sure` is how sure the rule is of what the value means.
    pub fn field(&self, span: &Span, value: impl Into<String>, sure: f32) -> Field {
        self.field_of(std::slice::from_ref(span), value, sure)
    }

    /// Spans of one page, in order, as a field's value. Their raw texts stand under each other.
    pub fn field_of(&self, spans: &[Span], value: impl Into<String>, sure: f32) -> Field {
        let raw: Vec<&str> = spans.iter().map(|span| self.raw(span)).collect();
        let mut bounds: Option<[f32; 4]> = None;
        let mut lowest = 1.0f32;
        let mut only = None;
        for span in spans {
            let cell = &self.cells[span.cell];
            let mut at = 0;
            for word in cell.words {
                let place = at..at + word.text.len();
                at = place.end + 1;
                if place.start < span.bytes.end && span.bytes.start < place.end {
                    lowest = lowest.min(word.confidence.get());
                    only = if bounds.is_none() { Some(word.quad) } else { None };
                    grow(&mut bounds, &word.quad);
                }
            }
            if bounds.is_none() {
                lowest = lowest.min(cell.confidence.get());
                only = Some(cell.quad);
                grow(&mut bounds, &cell.quad);
            }
        }
        let around = bounds.map(|[left, top, right, bottom]| Quad([[left, top], [right, top], [right, bottom], [left, bottom]]));
        let page = spans.first().map_or(1, |span| self.cells[span.cell].page);
        Field {
            value: value.into(),
            raw: raw.join("\n"),
            confidence: Confidence::new(lowest * sure),
            page,
            quad: only.or(around),
        }
    }

    /// The whole of a cell, without white space round it.
    pub fn whole(&self, cell: usize) -> Span {
        let text = self.cells[cell].text;
        let start = text.len() - text.trim_start().len();
        Span { cell, bytes: start..start + text.trim().len() }
    }

    /// The row's text, its cells with spaces between them.
    pub fn row_text(&self, row: &Row) -> String {
        self.cells[row.cells.clone()].iter().map(|cell| cell.text).collect::<Vec<_>>().join(" ")
    }

    /// The same without case and accents.
    pub fn row_plain(&self, row: &Row) -> String {
        self.cells[row.cells.clone()].iter().map(|cell| cell.plain.as_str()).collect::<Vec<_>>().join(" ")
    }

    pub fn width(&self, page: u32) -> f32 {
        self.widths.iter().find(|(number, _)| *number == page).map_or(1.0, |(_, width)| *width)
    }
}

/// A line's cells: words that stand much further apart than words do are of different ones.
fn cells_of(page: u32, line: &Line) -> Vec<Cell<'_>> {
    let joined = line.words.iter().map(|word| word.text.len() + 1).sum::<usize>();
    if line.words.is_empty() || joined != line.text.len() + 1 {
        return cell(page, line, 0..0, 0..line.text.len()).into_iter().collect();
    }
    let edge = |quad: &Quad, axis: usize, pick: fn(f32, f32) -> f32| {
        quad.0.iter().map(|corner| corner[axis]).reduce(pick).unwrap_or(0.0)
    };
    let height = edge(&line.quad, 1, f32::max) - edge(&line.quad, 1, f32::min);
    let (mut cells, mut first, mut start, mut end) = (Vec::new(), 0, 0, 0);
    for (at, word) in line.words.iter().enumerate() {
        end += word.text.len();
        let apart = line
            .words
            .get(at + 1)
            .is_none_or(|next| edge(&next.quad, 0, f32::min) - edge(&word.quad, 0, f32::max) > CELL_GAP * height);
        if apart {
            cells.extend(cell(page, line, first..at + 1, start..end));
            (first, start) = (at + 1, end + 1);
        }
        end += 1;
    }
    cells
}

fn cell(page: u32, line: &Line, words: Range<usize>, bytes: Range<usize>) -> Option<Cell<'_>> {
    let mut text = line.text.get(bytes)?;
    if text.len() > LONGEST_LINE {
        text = &text[..text.floor_char_boundary(LONGEST_LINE)];
    }
    if text.trim().is_empty() {
        return None;
    }
    let words = &line.words[words];
    let mut bounds = None;
    if words.len() == line.words.len() || words.is_empty() {
        grow(&mut bounds, &line.quad);
    }
    words.iter().for_each(|word| grow(&mut bounds, &word.quad));
    let [left, top, right, bottom] = bounds?;
    let quad = Quad([[left, top], [right, top], [right, bottom], [left, bottom]]);
    let (plain, map) = mapped(text);
    Some(Cell { page, text, plain, left, right, top, bottom, map, words, confidence: line.confidence, quad })
}

fn grow(bounds: &mut Option<[f32; 4]>, quad: &Quad) {
    for [x, y] in quad.0 {
        let (x, y) = (if x.is_finite() { x } else { 0.0 }, if y.is_finite() { y } else { 0.0 });
        let [left, top, right, bottom] = bounds.unwrap_or([x, y, x, y]);
        *bounds = Some([left.min(x), top.min(y), right.max(x), bottom.max(y)]);
    }
}

/// Small letters without accents, runs of white space as one space: what keywords are compared in.
pub(super) fn plain(text: &str) -> String {
    mapped(text).0
}

/// The same, and for each of its bytes where its character begins in `text`.
fn mapped(text: &str) -> (String, Vec<u16>) {
    let mut plain = String::with_capacity(text.len());
    let mut map = Vec::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        match c {
            'ä' | 'Ä' | 'á' | 'Á' | 'à' | 'À' | 'â' | 'Â' | 'ã' | 'Ã' | 'å' | 'Å' => plain.push('a'),
            'ö' | 'Ö' | 'ó' | 'Ó' | 'ò' | 'Ò' | 'ô' | 'Ô' | 'õ' | 'Õ' | 'ø' | 'Ø' => plain.push('o'),
            'ü' | 'Ü' | 'ú' | 'Ú' | 'ù' | 'Ù' | 'û' | 'Û' => plain.push('u'),
            'é' | 'É' | 'è' | 'È' | 'ê' | 'Ê' | 'ë' | 'Ë' => plain.push('e'),
            'í' | 'Í' | 'ì' | 'Ì' | 'î' | 'Î' | 'ï' | 'Ï' => plain.push('i'),
            'ç' | 'Ç' => plain.push('c'),
            'ñ' | 'Ñ' => plain.push('n'),
            'ß' => plain.push_str("ss"),
            c if c.is_whitespace() => {
                if !plain.is_empty() && !plain.ends_with(' ') {
                    plain.push(' ');
                }
            }
            c => plain.extend(c.to_lowercase()),
        }
        map.resize(plain.len(), u16::try_from(at).unwrap_or(u16::MAX));
    }
    plain.truncate(plain.trim_end().len());
    (plain, map)
}
