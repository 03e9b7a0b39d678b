//! Invisible text under a page's image: each word where it stands, as long and as high as its quad, so that what
//! is found is found in its place.
//!
//! Readers of PDFs tell words apart by the room between them as often as by spaces. Words whose quads touch are
//! drawn a little shorter, so that they stay two.

use super::pdf_font::{ADVANCE, DESCENT, Glyphs};
use super::reading::{LineReading, PageReading, Quad};
use super::words::words;
use std::fmt::Write;

/// Between two words at least, in line heights. Poppler sees a tenth.
const GAP: f64 = 0.2;
/// A word is never drawn shorter than this share of its height, nor lower than a pixel.
const SHORTEST: f64 = 0.1;
const LOWEST: f64 = 1.0;
/// Of its length a word keeps at least this when room is made after it.
const LEAST: f64 = 0.3;

/// Maps a point as `[a b c d e f]` of PDF does.
pub(super) type Matrix = [f64; 6];

/// `first`, then `then`.
pub(super) fn combine(first: &Matrix, then: &Matrix) -> Matrix {
    let [a, b, c, d, e, f] = *first;
    let origin = at(then, [e, f]);
    let [x, y] = [along(then, [a, b]), along(then, [c, d])];
    [x[0], x[1], y[0], y[1], origin[0], origin[1]]
}

fn at(matrix: &Matrix, point: [f64; 2]) -> [f64; 2] {
    let [x, y] = along(matrix, point);
    [x + matrix[4], y + matrix[5]]
}

fn along(matrix: &Matrix, [x, y]: [f64; 2]) -> [f64; 2] {
    [matrix[0] * x + matrix[2] * y, matrix[1] * x + matrix[3] * y]
}

/// The drawing commands of a page's text in the font `name`; empty where there is none. `matrix`: from pixels of
/// the upright page to the coordinates of the PDF's.
pub(super) fn commands(page: &PageReading, matrix: &Matrix, name: &str, glyphs: &mut Glyphs) -> String {
    let mut out = String::new();
    for line in &page.lines {
        draw(line, page, matrix, glyphs, &mut out);
    }
    if out.is_empty() { out } else { format!("q\nBT\n3 Tr /{name} 1 Tf\n{out}ET\nQ\n") }
}

/// A word along its line, in pixels.
struct Placed<'a> {
    text: std::borrow::Cow<'a, str>,
    from: f64,
    to: f64,
    /// Where it began before room was made.
    read_from: f64,
    /// Of its lower edge, off the line's.
    up: f64,
    height: f64,
}

fn draw(line: &LineReading, page: &PageReading, matrix: &Matrix, glyphs: &mut Glyphs, out: &mut String) {
    let found = words(line);
    let Some(first) = found.first() else { return };
    let quad = on_page(&line.quad, page);
    let whole = Sides::of(&quad);
    // A line that says nothing of its direction has words that do.
    let sides = if length(whole.right) < LOWEST { Sides::of(&on_page(&first.quad, page)) } else { whole };
    let right = unit(sides.right);
    let up = [right[1], -right[0]];
    let origin = quad[3];
    let mut placed: Vec<Placed<'_>> = Vec::with_capacity(found.len());
    for word in found {
        let quad = on_page(&word.quad, page);
        let sides = Sides::of(&quad);
        let step = [quad[3][0] - origin[0], quad[3][1] - origin[1]];
        let height = dot(sides.up, up).abs().max(LOWEST);
        let from = dot(step, right);
        let to = (from + dot(sides.right, right)).max(from + SHORTEST * height);
        placed.push(Placed { text: word.text, from, to, read_from: from, up: dot(step, up), height });
    }
    part(&mut placed);
    let last = placed.len() - 1;
    for (index, word) in placed.iter().enumerate() {
        let characters = in_order_of_sight(&word.text);
        let advance = (word.to - word.from) / (ADVANCE * characters.len() as f64);
        let baseline = word.up + DESCENT * word.height;
        let start = [0, 1].map(|axis| origin[axis] + right[axis] * word.from + up[axis] * baseline);
        let [a, b] = along(matrix, right.map(|value| value * advance));
        let [c, d] = along(matrix, up.map(|value| value * word.height));
        let [e, f] = at(matrix, start);
        write!(out, "{a:.4} {b:.4} {c:.4} {d:.4} {e:.3} {f:.3} Tm <").expect("a string takes everything");
        let space = if index < last { Some(' ') } else { None };
        glyphs.encode(characters.into_iter().chain(space), out);
        out.push_str("> Tj\n");
    }
}

/// Makes room between words that follow each other.
fn part(placed: &mut [Placed<'_>]) {
    for index in 1..placed.len() {
        let (before, rest) = placed.split_at_mut(index);
        let (last, next) = (&mut before[index - 1], &mut rest[0]);
        let gap = GAP * last.height.max(next.height);
        // Text that runs the other way: room is made on the other side.
        if next.read_from < last.read_from - LOWEST {
            if last.from - next.to < gap {
                next.to = (last.from - gap).max(next.from + (next.to - next.from) * LEAST);
            }
            continue;
        }
        if next.from - last.to < gap {
            last.to = (next.from - gap).max(last.from + (last.to - last.from) * LEAST);
        }
        if next.from - last.to < gap {
            next.from = last.to + gap;
            next.to = next.to.max(next.from + SHORTEST * next.height);
        }
    }
}

/// Characters from left to right as they stand: readers turn words of right-to-left scripts round.
fn in_order_of_sight(text: &str) -> Vec<char> {
    let from_right = |c: char| matches!(c, '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{feff}' | '\u{10800}'..='\u{10fff}' | '\u{1e800}'..='\u{1efff}');
    let mut characters: Vec<char> = text.chars().collect();
    if characters.iter().any(|&c| from_right(c)) {
        characters.reverse();
    }
    characters
}

/// What of the quad lies on the page: readers leave out what does not.
fn on_page(quad: &Quad, page: &PageReading) -> Quad {
    quad.map(|[x, y]| [x.clamp(0.0, f64::from(page.width)), y.clamp(0.0, f64::from(page.height))])
}

/// The middle of the two long sides, from left to right, and of the two short ones, from below.
struct Sides {
    right: [f64; 2],
    up: [f64; 2],
}

impl Sides {
    fn of(quad: &Quad) -> Sides {
        let [top_left, top_right, bottom_right, bottom_left] = *quad;
        let mean = |from: [[f64; 2]; 2], to: [[f64; 2]; 2]| {
            [0, 1].map(|axis| (to[0][axis] - from[0][axis] + to[1][axis] - from[1][axis]) / 2.0)
        };
        Sides {
            right: mean([top_left, bottom_left], [top_right, bottom_right]),
            up: mean([bottom_left, bottom_right], [top_left, top_right]),
        }
    }
}

fn dot(a: [f64; 2], b: [f64; 2]) -> f64 {
    a[0] * b[0] + a[1] * b[1]
}

fn length(vector: [f64; 2]) -> f64 {
    vector[0].hypot(vector[1])
}

fn unit(vector: [f64; 2]) -> [f64; 2] {
    let length = length(vector);
    if length > 1e-6 { vector.map(|value| value / length) } else { [1.0, 0.0] }
}
