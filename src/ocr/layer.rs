//! A digital text layer as an engine's answer would be.
//!
//! Owns: which way up a page is by its own text, and in which order its runs are read. A producer mostly
//! draws a page as it is to be read, and knows what no geometry tells; some draw it in the order of their
//! templates or not in any, and then the layout decides, as it does for recognized boxes.

use super::layout::{arrange, turn_quad};
use super::rows::join;
use super::{Confidence, Line, PageText, Quad, StageTimes, Word};
use crate::document::{TextLayer, TextRun};
use std::collections::HashMap;

/// Of a page drawn in reading order at most this share of the lines stands above the one before it: heads
/// of columns, and captions.
const MAX_JUMPS: f32 = 0.15;
/// Of a page drawn in reading order at most this share of the rows is drawn in pieces: prose has a
/// formula or two, forms and invoices that are filled in later have many.
const MAX_TORN: f32 = 0.07;
/// Boxes that are arranged; the work grows with their square, and a page of prose has some hundred. More
/// are left in the order of drawing.
const MAX_ARRANGED: usize = 4000;
/// Lines further apart than this many line heights belong to different blocks.
const BLOCK_GAP: f32 = 1.0;

/// The layer's lines in reading order, on the upright page.
#[must_use]
pub fn page_text(layer: &TextLayer) -> PageText {
    let rotation = rotation(&layer.runs);
    let (across, down) = (layer.width, layer.height);
    let boxes: Vec<Line> = layer.runs.iter().map(|run| boxed(run, rotation, across as f32, down as f32)).collect();
    let (width, height) = if rotation.is_multiple_of(180) { (across, down) } else { (down, across) };
    let (lines, skew) = ordered(boxes);
    PageText { lines, width, height, rotation, skew, timing: StageTimes::default() }
}

/// The clockwise turn after which most of the text runs from left to right.
fn rotation(runs: &[TextRun]) -> u16 {
    let mut lengths = [0.0; 4];
    for run in runs {
        let quad = Quad(run.quad);
        let (from, to) = quad.midline();
        let (x, y) = (to[0] - from[0], to[1] - from[1]);
        let quarter = match (x.abs() >= y.abs(), x >= 0.0, y >= 0.0) {
            (true, true, _) => 0,
            // It runs up the page.
            (false, _, false) => 1,
            (true, false, _) => 2,
            (false, _, true) => 3,
        };
        lengths[quarter] += quad.length();
    }
    let most = (0..4u16).rev().max_by(|&a, &b| lengths[usize::from(a)].total_cmp(&lengths[usize::from(b)]));
    most.unwrap_or(0) * 90
}

/// A run as a recognized box. The document says what its text is, so nothing is doubtful in it.
fn boxed(run: &TextRun, rotation: u16, width: f32, height: f32) -> Line {
    let certain = Confidence::new(1.0);
    let place = |quad: [[f32; 2]; 4]| turn_quad(&Quad(quad), rotation, width, height);
    let words: Vec<Word> =
        run.words.iter().map(|word| Word { text: word.text.clone(), confidence: certain, quad: place(word.quad) }).collect();
    let text = words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" ");
    Line { text, confidence: certain, quad: place(run.quad), words, block: 0 }
}

/// The boxes as lines: in the order of drawing where that is one of reading.
fn ordered(boxes: Vec<Line>) -> (Vec<Line>, f32) {
    let rows = drawn_rows(&boxes);
    let (arranged, skew) = if boxes.len() > MAX_ARRANGED { (Vec::new(), 0.0) } else { arrange(boxes.clone()) };
    if boxes.len() > MAX_ARRANGED || is_drawn_in_order(&boxes, &rows, &arranged) {
        let lines = rows.into_iter().map(|row| join(boxes[row].to_vec(), 0)).collect();
        (numbered(lines), skew)
    } else {
        (arranged, skew)
    }
}

/// Neighbours in the order of drawing that stand side by side, each row as a range of boxes.
fn drawn_rows(boxes: &[Line]) -> Vec<std::ops::Range<usize>> {
    let mut rows: Vec<std::ops::Range<usize>> = Vec::new();
    for index in 0..boxes.len() {
        match rows.last_mut() {
            Some(row) if follows(&boxes[index - 1], &boxes[index]) => row.end = index + 1,
            _ => rows.push(index..index + 1),
        }
    }
    rows
}

/// Whether `next` stands to the right of `last`, on the same line.
fn follows(last: &Line, next: &Line) -> bool {
    let (from, to) = last.quad.midline();
    let length = last.quad.length().max(1.0);
    let along = [(to[0] - from[0]) / length, (to[1] - from[1]) / length];
    let (start, end) = next.quad.midline();
    let parallel = ((end[0] - start[0]) * along[0] + (end[1] - start[1]) * along[1]) / next.quad.length().max(1.0);
    let step = [start[0] - to[0], start[1] - to[1]];
    let (gap, off) = (step[0] * along[0] + step[1] * along[1], step[1] * along[0] - step[0] * along[1]);
    let smaller = last.quad.thickness().min(next.quad.thickness());
    parallel > 0.95 && gap > -0.5 * smaller && off.abs() < 0.5 * smaller
}

/// Whether a person who reads the boxes as they were drawn would seldom lose the thread.
fn is_drawn_in_order(boxes: &[Line], rows: &[std::ops::Range<usize>], arranged: &[Line]) -> bool {
    let up = rows.windows(2).filter(|pair| bottom(&boxes[pair[1].start].quad) < top(&boxes[pair[0].start].quad)).count();
    // Rows as the layout sees them, of which the order of drawing makes several lines: labels first,
    // what was filled in later.
    let mut row_of: HashMap<[u32; 2], usize> = HashMap::new();
    for (number, row) in rows.iter().enumerate() {
        for word in boxes[row.clone()].iter().flat_map(|line| &line.words) {
            row_of.insert(word.quad.0[0].map(f32::to_bits), number);
        }
    }
    let row = |word: &Word| row_of.get(&word.quad.0[0].map(f32::to_bits));
    let torn = arranged.iter().filter(|line| line.words.windows(2).any(|pair| row(&pair[0]) != row(&pair[1]))).count();
    // One jump is no disorder on the shortest page: a page number that was drawn first.
    up as f32 <= 1.0 + MAX_JUMPS * rows.len() as f32 && torn as f32 <= MAX_TORN * arranged.len() as f32
}

/// A new block begins where the reading jumps: up, far down, or sideways.
fn numbered(mut lines: Vec<Line>) -> Vec<Line> {
    let mut block = 0;
    for index in 1..lines.len() {
        let (last, line) = (&lines[index - 1].quad, &lines[index].quad);
        let gap = top(line) - bottom(last);
        let height = last.thickness().min(line.thickness());
        let apart = left(line) > right(last) || right(line) < left(last);
        if gap > BLOCK_GAP * height || gap < -height || apart {
            block += 1;
        }
        lines[index].block = block;
    }
    lines
}

fn left(quad: &Quad) -> f32 {
    quad.0.iter().map(|corner| corner[0]).fold(f32::MAX, f32::min)
}

fn right(quad: &Quad) -> f32 {
    quad.0.iter().map(|corner| corner[0]).fold(f32::MIN, f32::max)
}

fn top(quad: &Quad) -> f32 {
    quad.0.iter().map(|corner| corner[1]).fold(f32::MAX, f32::min)
}

fn bottom(quad: &Quad) -> f32 {
    quad.0.iter().map(|corner| corner[1]).fold(f32::MIN, f32::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::TextWord;

    fn run(text: &str, left: f32, top: f32, width: f32) -> TextRun {
        let quad = [[left, top], [left + width, top], [left + width, top + 20.0], [left, top + 20.0]];
        let count = text.split(' ').count() as f32;
        let word = |(index, text): (usize, &str)| {
            let (from, to) = (left + width * index as f32 / count, left + width * (index as f32 + 0.9) / count);
            TextWord { text: text.into(), quad: [[from, top], [to, top], [to, top + 20.0], [from, top + 20.0]] }
        };
        TextRun { words: text.split(' ').enumerate().map(word).collect(), quad }
    }

    fn read(runs: Vec<TextRun>) -> PageText {
        page_text(&TextLayer { number: 1, width: 800, height: 1000, runs, pictures: false, truncated: false })
    }

    fn texts(text: &PageText) -> Vec<&str> {
        text.lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn a_page_is_read_as_it_was_drawn() {
        let mut runs = vec![run("page 7", 700.0, 950.0, 60.0)];
        for column in [40.0, 420.0] {
            runs.extend((0..8).map(|row| {
                run(&format!("running text at {column} of a column row {row}"), column, 60.0 + 30.0 * row as f32, 330.0)
            }));
        }
        let text = read(runs);
        assert_eq!(texts(&text)[..2], ["page 7", "running text at 40 of a column row 0"]);
        assert_eq!(texts(&text)[9], "running text at 420 of a column row 0");
        assert!(text.lines[0].block < text.lines[1].block && text.lines[1].block == text.lines[8].block);
        assert!(text.lines[8].block < text.lines[9].block);
        assert_eq!(text.lines[3].confidence.get(), 1.0);
    }

    #[test]
    fn cells_drawn_one_after_the_other_are_a_row() {
        let text = read(vec![
            run("Bread", 40.0, 60.0, 80.0),
            run("4.20", 600.0, 60.0, 50.0),
            run("Butter", 40.0, 90.0, 80.0),
            run("1.15", 600.0, 91.0, 50.0),
        ]);
        assert_eq!(texts(&text), ["Bread 4.20", "Butter 1.15"]);
        assert_eq!(text.lines[1].words.len(), 2);
    }

    #[test]
    fn what_was_filled_in_later_goes_to_its_label() {
        let rows = 0..8;
        let mut runs: Vec<_> =
            rows.clone().map(|row| run(&format!("label {row}"), 40.0, 60.0 + 40.0 * row as f32, 90.0)).collect();
        runs.extend(rows.map(|row| run(&format!("value {row}"), 300.0, 60.0 + 40.0 * row as f32, 90.0)));
        let text = read(runs);
        assert_eq!(texts(&text)[..2], ["label 0 value 0", "label 1 value 1"]);
    }

    #[test]
    fn a_page_drawn_from_its_foot_is_read_from_its_head() {
        let runs = (0..9).rev().map(|row| run(&format!("line number {row}"), 40.0, 60.0 + 30.0 * row as f32, 330.0)).collect();
        assert_eq!(texts(&read(runs))[..2], ["line number 0", "line number 1"]);
    }

    #[test]
    fn a_sideways_page_is_turned_by_its_text() {
        // Text that runs up the page, as on a table printed across.
        let up = |text: &str, left: f32| TextRun {
            words: vec![TextWord {
                text: text.into(),
                quad: [[left, 600.0], [left, 300.0], [left + 20.0, 300.0], [left + 20.0, 600.0]],
            }],
            quad: [[left, 600.0], [left, 300.0], [left + 20.0, 300.0], [left + 20.0, 600.0]],
        };
        let text = read(vec![up("first", 100.0), up("second", 130.0)]);
        assert_eq!((text.rotation, text.width, text.height), (90, 1000, 800));
        assert_eq!(texts(&text), ["first", "second"]);
        assert_eq!(text.lines[0].quad.0[0], [400.0, 100.0]);
    }

    #[test]
    fn an_empty_layer_is_an_empty_page() {
        let text = read(vec![]);
        assert_eq!((text.lines.len(), text.rotation, text.width), (0, 0, 800));
    }
}
