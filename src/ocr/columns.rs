//! Columns of running text, told from the cells of a table.
//!
//! Owns: finding a gutter (a strip of white between two columns) and the stretch of the page it
//! holds for. A receipt's prices stand apart from its items as columns do, and belong to the same
//! row: so a gutter only counts where there is running text on both sides, or on one side while what
//! stands beside it (a margin of figures, addresses, a small table) goes by lines of its own.

use std::collections::HashSet;

use super::rows::{Piece, rows};

/// A stretch of a region that a gutter parts.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Split {
    pub above: Vec<usize>,
    pub left: Vec<usize>,
    pub right: Vec<usize>,
    pub below: Vec<usize>,
}

/// A column has at least this many rows.
const MIN_ROWS: usize = 4;

/// White bands in one stretch beyond which its parts are not tried one by one.
const MAX_BANDS: usize = 24;

/// Boxes in one stretch beyond which the same holds: the work grows with their product, and a page
/// of noise must not cost seconds.
const MAX_PIECES: usize = 600;

/// Gutters that are tried; a page has a handful.
const MAX_GUTTERS: usize = 64;

/// Letters in the median row of running text. Lists of names and the labels of a form have fewer.
const MIN_LETTERS: usize = 20;

/// Words in the median row of running text.
const MIN_WORDS: usize = 4;

/// Boxes whose midlines are closer than this many line heights stand level.
const LEVEL: f32 = 0.25;

/// Prose and what stands beside it are columns when no more than this share of the boxes is level.
const ASIDE: f32 = 0.6;

/// How much of the column's width the median row of running text fills.
const MIN_FILL: f32 = 0.7;

/// The best split of these pieces into two columns, if there is one. Indices into `pieces`.
pub(super) fn split(pieces: &[Piece], region: &[usize]) -> Option<Split> {
    if region.len() < 2 * MIN_ROWS {
        return None;
    }
    let mut by_height = region.to_vec();
    by_height.sort_by(|&a, &b| pieces[a].middle()[1].total_cmp(&pieces[b].middle()[1]));
    let mut best: Option<(usize, Split)> = None;
    for gutter in gutters(pieces, region) {
        for stretch in stretches(pieces, &by_height, gutter).flat_map(|stretch| parts(pieces, stretch)) {
            let size = stretch.len();
            if size < 2 * MIN_ROWS || best.as_ref().is_some_and(|(most, _)| size <= *most) {
                continue;
            }
            let (left, right): (Vec<usize>, Vec<usize>) = stretch.iter().partition(|&&i| pieces[i].middle()[0] < gutter);
            if !columns(pieces, &left, &right) {
                continue;
            }
            let top = stretch.iter().map(|&i| pieces[i].middle()[1]).fold(f32::MAX, f32::min);
            let taken: HashSet<usize> = stretch.iter().copied().collect();
            let (above, below) =
                by_height.iter().copied().filter(|i| !taken.contains(i)).partition(|&i| pieces[i].middle()[1] < top);
            best = Some((size, Split { above, left, right, below }));
        }
    }
    best.map(|(_, split)| split)
}

/// Where a right column could begin: just left of places where several lines start.
fn gutters(pieces: &[Piece], region: &[usize]) -> Vec<f32> {
    let mut heights: Vec<f32> = region.iter().map(|&i| pieces[i].height).collect();
    heights.sort_by(f32::total_cmp);
    let Some(height) = heights.get(heights.len() / 2).map(|h| h.max(1.0)) else { return Vec::new() };
    let mut starts: Vec<f32> = region.iter().map(|&i| pieces[i].left[0]).collect();
    starts.sort_by(f32::total_cmp);
    let mut gutters: Vec<f32> = Vec::new();
    for (at, &start) in starts.iter().enumerate() {
        let near = starts[at..].iter().take_while(|&&other| other - start < 3.0 * height).count();
        if near >= MIN_ROWS && gutters.len() < MAX_GUTTERS && gutters.last().is_none_or(|last| start - last > height) {
            gutters.push(start - 1.0);
        }
    }
    gutters
}

/// The longest runs of pieces, by height, that the vertical line at `gutter` does not cross.
fn stretches<'a>(pieces: &[Piece], by_height: &'a [usize], gutter: f32) -> impl Iterator<Item = &'a [usize]> {
    let crossed: Vec<usize> = by_height
        .iter()
        .enumerate()
        .filter(|(_, i)| {
            let piece = &pieces[**i];
            let slack = 0.3 * piece.height;
            piece.left[0] + slack < gutter && piece.right[0] - slack > gutter
        })
        .map(|(at, _)| at)
        .collect();
    let starts = std::iter::once(0).chain(crossed.clone().into_iter().map(|at| at + 1));
    let ends = crossed.into_iter().chain(std::iter::once(by_height.len()));
    starts.zip(ends).map(|(from, to)| &by_height[from..to])
}

/// A stretch, and every run of its parts between white bands: the items of a bill above two columns
/// of small print cross no gutter either. The longest runs first.
fn parts<'a>(pieces: &[Piece], stretch: &'a [usize]) -> Vec<&'a [usize]> {
    let mut cuts = vec![0];
    let mut bottom = f32::MIN;
    for (at, &i) in stretch.iter().enumerate() {
        if at > 0 && pieces[i].top() - bottom > 0.5 * pieces[i].height {
            cuts.push(at);
        }
        bottom = bottom.max(pieces[i].bottom());
    }
    cuts.push(stretch.len());
    if cuts.len() > MAX_BANDS || stretch.len() > MAX_PIECES {
        return vec![stretch];
    }
    let mut runs: Vec<&[usize]> =
        (0..cuts.len()).flat_map(|a| (a + 1..cuts.len()).map(move |b| (a, b))).map(|(a, b)| &stretch[cuts[a]..cuts[b]]).collect();
    runs.sort_by_key(|run| std::cmp::Reverse(run.len()));
    runs
}

/// Whether both sides of a gutter are columns: running text for much the same height, or running text and
/// something whose lines do not stand level with it.
fn columns(pieces: &[Piece], left: &[usize], right: &[usize]) -> bool {
    if left.len() < MIN_ROWS || right.len() < MIN_ROWS {
        return false;
    }
    let extent = |side: &[usize]| {
        let top = side.iter().map(|&i| pieces[i].top()).fold(f32::MAX, f32::min);
        let bottom = side.iter().map(|&i| pieces[i].bottom()).fold(f32::MIN, f32::max);
        (top, bottom)
    };
    let ((lt, lb), (rt, rb)) = (extent(left), extent(right));
    let shared = lb.min(rb) - lt.max(rt);
    if shared < 0.3 * (lb - lt).max(rb - rt) {
        return false;
    }
    let text = |side: &[usize]| running_text(pieces, side) || two_columns(pieces, side);
    let prose = (text(left), text(right));
    prose == (true, true) || prose != (false, false) && level(pieces, left, right) <= ASIDE
}

/// Share of the shorter side's boxes that stand level with a box of the other side, 0 to 1.
fn level(pieces: &[Piece], left: &[usize], right: &[usize]) -> f32 {
    let (few, many) = if left.len() < right.len() { (left, right) } else { (right, left) };
    let gutter = f32::midpoint(
        left.iter().map(|&i| pieces[i].right[0]).fold(f32::MIN, f32::max),
        right.iter().map(|&i| pieces[i].left[0]).fold(f32::MAX, f32::min),
    );
    let top = many.iter().map(|&i| pieces[i].top()).fold(f32::MAX, f32::min);
    let bottom = many.iter().map(|&i| pieces[i].bottom()).fold(f32::MIN, f32::max);
    let beside: Vec<&Piece> = few.iter().map(|&i| &pieces[i]).filter(|p| p.middle()[1] > top && p.middle()[1] < bottom).collect();
    let met = beside
        .iter()
        .filter(|piece| {
            many.iter().any(|&other| {
                let other = &pieces[other];
                let offset = (piece.midline_at(gutter) - other.midline_at(gutter)).abs();
                offset < LEVEL * piece.height.min(other.height)
            })
        })
        .count();
    met as f32 / beside.len().max(1) as f32
}

/// Whether one side is itself a pair of columns: a page may have three or four.
fn two_columns(pieces: &[Piece], side: &[usize]) -> bool {
    side.len() >= 2 * MIN_ROWS
        && gutters(pieces, side).into_iter().any(|gutter| {
            let (left, right): (Vec<usize>, Vec<usize>) = side.iter().partition(|&&i| pieces[i].middle()[0] < gutter);
            running_text(pieces, &left) && running_text(pieces, &right)
        })
}

/// Whether these pieces read as prose: enough rows, most of them long and filling the width.
fn running_text(pieces: &[Piece], side: &[usize]) -> bool {
    let own: Vec<Piece> = side.iter().map(|&i| pieces[i].clone()).collect();
    let rows = rows(&own);
    if rows.len() < MIN_ROWS {
        return false;
    }
    let left = own.iter().map(|p| p.left[0]).fold(f32::MAX, f32::min);
    let right = own.iter().map(|p| p.right[0]).fold(f32::MIN, f32::max);
    let width = (right - left).max(1.0);
    let median = |mut values: Vec<f32>| {
        values.sort_by(f32::total_cmp);
        values[(values.len() - 1) / 2]
    };
    let per_row = |of: &dyn Fn(&Piece) -> f32| median(rows.iter().map(|row| row.iter().map(|&i| of(&own[i])).sum()).collect());
    per_row(&Piece::width) >= MIN_FILL * width
        && per_row(&|piece| piece.line.text.chars().filter(|c| c.is_alphabetic()).count() as f32) >= MIN_LETTERS as f32
        && per_row(&|piece| piece.line.text.split_whitespace().count() as f32) >= MIN_WORDS as f32
}
