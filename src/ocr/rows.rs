//! Boxes that stand side by side become rows.
//!
//! Owns: which detected boxes are one row of a region, and how a row becomes one [`Line`]. Works in
//! the page's deskewed frame, and lets rows bend: a box looks for its neighbour along its own slope.

use super::geometry::{Point, distance};
use super::{Confidence, Line, Quad};

/// A recognized box with its place in the deskewed frame.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub line: Line,
    /// Middle of the left and of the right side, deskewed.
    pub left: Point,
    pub right: Point,
    /// Height of the text.
    pub height: f32,
    /// The text runs up or down the page.
    pub vertical: bool,
}

impl Piece {
    pub(super) fn top(&self) -> f32 {
        self.left[1].min(self.right[1]) - self.height / 2.0
    }

    pub(super) fn bottom(&self) -> f32 {
        self.left[1].max(self.right[1]) + self.height / 2.0
    }

    pub(super) fn middle(&self) -> Point {
        [f32::midpoint(self.left[0], self.right[0]), f32::midpoint(self.left[1], self.right[1])]
    }

    pub(super) fn width(&self) -> f32 {
        self.right[0] - self.left[0]
    }

    /// Height of the midline where it is drawn on to `x`. Boxes too short to have a slope of their
    /// own, and steps far beyond a box's own length, count as level.
    pub(super) fn midline_at(&self, x: f32) -> f32 {
        let width = self.width();
        if width < 4.0 * self.height {
            return self.middle()[1];
        }
        let slope = (self.right[1] - self.left[1]) / width;
        let reach = (x - self.middle()[0]).clamp(-width, width);
        self.middle()[1] + slope * reach
    }
}

/// Groups the pieces into rows, top to bottom, each left to right. Indices into `pieces`.
pub(super) fn rows(pieces: &[Piece]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..pieces.len()).collect();
    order.sort_by(|&a, &b| pieces[a].middle()[1].total_cmp(&pieces[b].middle()[1]));
    let mut rows: Vec<Vec<usize>> = Vec::new();
    // Only rows that could still reach this far down are looked at: a row is about as high as its
    // letters, so a few rows back are enough even on a page that bends.
    for index in order {
        let home = rows
            .iter()
            .enumerate()
            .rev()
            .take(12)
            .filter_map(|(at, row)| fit(pieces, row, index).map(|offset| (at, offset)))
            .min_by(|a, b| a.1.total_cmp(&b.1));
        match home {
            Some((at, _)) => rows[at].push(index),
            None => rows.push(vec![index]),
        }
    }
    for row in &mut rows {
        row.sort_by(|&a, &b| pieces[a].left[0].total_cmp(&pieces[b].left[0]));
    }
    let height = |row: &Vec<usize>| row.iter().map(|&i| pieces[i].middle()[1]).sum::<f32>() / row.len() as f32;
    rows.sort_by(|a, b| height(a).total_cmp(&height(b)));
    rows
}

/// How well a piece fits a row: the vertical offset from its nearest member over the smaller
/// height; `None` when it does not belong.
fn fit(pieces: &[Piece], row: &[usize], index: usize) -> Option<f32> {
    let piece = &pieces[index];
    let mut nearest: Option<(f32, f32)> = None;
    for &other in row {
        let other = &pieces[other];
        let gap = (piece.left[0] - other.right[0]).max(other.left[0] - piece.right[0]);
        let smaller = piece.height.min(other.height);
        // Side by side, not one above the other: they may touch or overlap by some letters only.
        if gap < -0.5 * piece.width().min(other.width()).min(4.0 * smaller) {
            return None;
        }
        let x = if piece.left[0] > other.left[0] {
            f32::midpoint(other.right[0], piece.left[0])
        } else {
            f32::midpoint(piece.right[0], other.left[0])
        };
        let offset = (piece.midline_at(x) - other.midline_at(x)).abs() / smaller.max(1.0);
        if nearest.is_none_or(|(closest, _)| gap < closest) {
            nearest = Some((gap, offset));
        }
    }
    nearest.map(|(_, offset)| offset).filter(|&offset| offset < 0.5)
}

/// One line out of a row's pieces, left to right: words keep their quads, the line's quad encloses
/// all of them along the row's own slope.
pub(super) fn join(parts: Vec<Line>, block: u32) -> Line {
    // A line is right when all of its parts are.
    let confidence = parts.iter().map(|line| line.confidence.get()).product();
    let text = parts.iter().map(|line| line.text.as_str()).collect::<Vec<_>>().join(" ");
    let quad = enclosing(&parts.iter().map(|line| line.quad).collect::<Vec<_>>());
    Line {
        text,
        confidence: Confidence::new(confidence),
        quad,
        words: parts.into_iter().flat_map(|line| line.words).collect(),
        block,
    }
}

/// The smallest quad around all of them whose sides run along the line from the first one's start
/// to the last one's end.
fn enclosing(quads: &[Quad]) -> Quad {
    if let [only] = quads {
        return *only;
    }
    let (Some(first), Some(last)) = (quads.first(), quads.last()) else { return Quad([[0.0; 2]; 4]) };
    let (from, to) = (first.midline().0, last.midline().1);
    let length = distance(from, to).max(1.0);
    let along = [(to[0] - from[0]) / length, (to[1] - from[1]) / length];
    let (mut low, mut high) = ([f32::MAX; 2], [f32::MIN; 2]);
    for corner in quads.iter().flat_map(|quad| quad.0) {
        let offset = [corner[0] - from[0], corner[1] - from[1]];
        let at = [offset[0] * along[0] + offset[1] * along[1], offset[1] * along[0] - offset[0] * along[1]];
        for axis in 0..2 {
            low[axis] = low[axis].min(at[axis]);
            high[axis] = high[axis].max(at[axis]);
        }
    }
    let back = |u: f32, v: f32| [from[0] + u * along[0] - v * along[1], from[1] + u * along[1] + v * along[0]];
    Quad([back(low[0], low[1]), back(high[0], low[1]), back(high[0], high[1]), back(low[0], high[1])])
}
