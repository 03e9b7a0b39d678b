//! A form's questions and answers. A question ends in a colon; its answer stands behind it, in the next cell of the row, or
//! under it. Words that stand further apart than words do belong to different cells.

use super::sheet::Sheet;
use super::{Extract, Pair};

/// Pairs of a document.
const MOST: usize = 2_000;
/// Letters of a question.
const LONGEST_KEY: usize = 80;

/// Words of one line without a wide gap between them.
#[derive(Debug, Clone)]
struct Chunk {
    page: u32,
    row: usize,
    text: String,
    left: f32,
    right: f32,
    top: f32,
    bottom: f32,
}

impl Chunk {
    fn height(&self) -> f32 {
        (self.bottom - self.top).max(1.0)
    }
}

/// Adds what is found.
pub(super) fn find(sheet: &Sheet<'_>, extract: &mut Extract) {
    let chunks = chunks(sheet);
    let mut taken = vec![false; chunks.len()];
    for (at, chunk) in chunks.iter().enumerate() {
        if extract.pairs.len() >= MOST {
            break;
        }
        let Some((key, rest)) = split(&chunk.text) else { continue };
        let mut lines: Vec<String> = Vec::new();
        let mut left = chunk.left;
        let mut last = chunk;
        if !rest.is_empty() {
            lines.push(rest.to_owned());
        } else if let Some(next) = beside(&chunks, at).filter(|next| split(&chunks[*next].text).is_none() && !taken[*next]) {
            taken[next] = true;
            lines.push(chunks[next].text.clone());
            left = chunks[next].left;
            last = &chunks[next];
        } else if let Some(next) = under(&chunks, at).filter(|next| split(&chunks[*next].text).is_none() && !taken[*next]) {
            taken[next] = true;
            lines.push(chunks[next].text.clone());
            left = chunks[next].left;
            last = &chunks[next];
        }
        if lines.is_empty() {
            continue;
        }
        // An answer may go on under itself.
        while lines.len() < 12 {
            let Some(more) = goes_on(&chunks, last, left, chunk.left) else { break };
            if taken[more] || split(&chunks[more].text).is_some() || next_is_key(&chunks, more) {
                break;
            }
            taken[more] = true;
            lines.push(chunks[more].text.clone());
            last = &chunks[more];
        }
        extract.pairs.push(Pair { key: key.to_owned(), value: lines.join(" "), page: chunk.page });
    }
}

/// A row's cells cut where words stand far apart, and before a second question.
fn chunks(sheet: &Sheet<'_>) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    for (row, of) in sheet.rows.iter().enumerate() {
        for cell in of.cells.clone() {
            let cell = &sheet.cells[cell];
            let mut open: Option<Chunk> = None;
            for (text, [left, top, right, bottom]) in cell.words() {
                let wide = open.as_ref().is_some_and(|chunk| {
                    let gap = left - chunk.right;
                    gap > 1.4 * cell.height() || gap > 0.7 * cell.height() && (text.ends_with(':') || chunk.text.ends_with(':'))
                });
                if wide {
                    chunks.extend(open.take());
                }
                match &mut open {
                    Some(chunk) => {
                        chunk.text.push(' ');
                        chunk.text.push_str(text);
                        chunk.right = chunk.right.max(right);
                    }
                    None => open = Some(Chunk { page: cell.page, row, text: text.to_owned(), left, right, top, bottom }),
                }
            }
            chunks.extend(open);
        }
    }
    chunks
}

/// Question with its colon, and what stands behind it.
fn split(text: &str) -> Option<(&str, &str)> {
    let at = text.char_indices().find(|(at, c)| {
        matches!(c, ':' | '：')
            && !text[at + c.len_utf8()..].starts_with(|next: char| next.is_ascii_digit() || next == '/' || next == '\\')
    })?;
    let end = at.0 + at.1.len_utf8();
    let key = text[..end].trim();
    let letters = key.chars().filter(|c| c.is_alphabetic()).count();
    (letters >= 2 && key.len() <= LONGEST_KEY).then(|| (key, text[end..].trim()))
}

/// The next chunk in the row.
fn beside(chunks: &[Chunk], at: usize) -> Option<usize> {
    let next = chunks.get(at + 1)?;
    (next.row == chunks[at].row && next.left - chunks[at].right < 20.0 * chunks[at].height()).then_some(at + 1)
}

/// The chunk that stands under this one.
fn under(chunks: &[Chunk], at: usize) -> Option<usize> {
    below(chunks, &chunks[at], at).find(|next| {
        let (one, other) = (&chunks[at], &chunks[*next]);
        other.left < one.right && one.left < other.right && (other.left - one.left).abs() < 6.0 * one.height()
    })
}

/// What goes on in the next row under an answer.
fn goes_on(chunks: &[Chunk], last: &Chunk, left: f32, key_left: f32) -> Option<usize> {
    let at = chunks.partition_point(|chunk| (chunk.page, chunk.row) <= (last.page, last.row));
    (at..chunks.len().min(at + 8)).find(|next| {
        let other = &chunks[*next];
        let close = other.page == last.page && other.row == last.row + 1 && other.top - last.bottom < 0.6 * last.height();
        close && (other.left - left).abs() < 2.0 * last.height() && (left - key_left).abs() > 1.5 * last.height()
    })
}

fn next_is_key(chunks: &[Chunk], at: usize) -> bool {
    chunks[at].text.ends_with(':')
}

/// Chunks of the next two rows.
fn below<'c>(chunks: &'c [Chunk], from: &'c Chunk, at: usize) -> impl Iterator<Item = usize> + 'c {
    (at + 1..chunks.len().min(at + 40))
        .filter(move |next| chunks[*next].row > from.row)
        .take_while(move |next| chunks[*next].page == from.page && chunks[*next].top - from.bottom < 1.2 * from.height())
}
