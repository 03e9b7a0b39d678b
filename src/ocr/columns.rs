//! Columns of running text, told from the cells of a table.
//!
//! Owns: finding a gutter (a strip of white between two columns) and the stretch of the page it
//! holds for. A receipt's prices stand apart from its items as columns do, and belong to the same
//! row: so a gutter only counts where there is running text on both sides.

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
const MIN_ROWS: usize = 3;

/// Letters in the median row of running text.
const MIN_LETTERS: usize = 12;

/// How much of the column's width the median row of running text fills.
const MIN_FILL: f32 = 0.6;

/// The best split of these pieces into two columns, if there is one. Indices into `pieces`.
pub(super) fn split(pieces: &[Piece], region: &[usize]) -> Option<Split> {
    if region.len() < 2 * MIN_ROWS {
        return None;
    }
    let mut candidates: Vec<f32> = region.iter().map(|&i| pieces[i].left[0]).collect();
    candidates.sort_by(f32::total_cmp);
    candidates.dedup_by(|a, b| (*a - *b).abs() < 2.0);
    let mut by_height = region.to_vec();
    by_height.sort_by(|&a, &b| pieces[a].middle()[1].total_cmp(&pieces[b].middle()[1]));
    let mut best: Option<(usize, Split)> = None;
    for start in candidates {
        // Just left of where a right column could begin.
        let gutter = start - 1.0;
        for stretch in stretches(pieces, &by_height, gutter) {
            let size = stretch.len();
            if size < 2 * MIN_ROWS || best.as_ref().is_some_and(|(most, _)| size <= *most) {
                continue;
            }
            let (left, right): (Vec<usize>, Vec<usize>) = stretch.iter().partition(|&&i| pieces[i].middle()[0] < gutter);
            let Some((left, right, rest)) = columns(pieces, left, right) else { continue };
            let top = left.iter().chain(&right).map(|&i| pieces[i].middle()[1]).fold(f32::MAX, f32::min);
            let inside = |i: &usize| left.contains(i) || right.contains(i);
            let (above, below) = by_height.iter().copied().filter(|i| !inside(i)).partition(|&i| pieces[i].middle()[1] < top);
            let _ = rest;
            best = Some((size, Split { above, left, right, below }));
        }
    }
    best.map(|(_, split)| split)
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

/// Left and right, cut down to the heights they share, where both are running text.
#[allow(clippy::type_complexity)]
fn columns(pieces: &[Piece], left: Vec<usize>, right: Vec<usize>) -> Option<(Vec<usize>, Vec<usize>, ())> {
    if left.len() < MIN_ROWS || right.len() < MIN_ROWS {
        return None;
    }
    let extent = |side: &[usize]| {
        let top = side.iter().map(|&i| pieces[i].top()).fold(f32::MAX, f32::min);
        let bottom = side.iter().map(|&i| pieces[i].bottom()).fold(f32::MIN, f32::max);
        (top, bottom)
    };
    let ((lt, lb), (rt, rb)) = (extent(&left), extent(&right));
    let shared = lb.min(rb) - lt.max(rt);
    if shared < 0.3 * (lb - lt).max(rb - rt) {
        return None;
    }
    (running_text(pieces, &left) && running_text(pieces, &right)).then_some((left, right, ()))
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
    let mut fills: Vec<f32> = Vec::with_capacity(rows.len());
    let mut letters: Vec<usize> = Vec::with_capacity(rows.len());
    for row in &rows {
        fills.push(row.iter().map(|&i| own[i].width()).sum::<f32>() / width);
        letters.push(row.iter().map(|&i| own[i].line.text.chars().filter(|c| c.is_alphabetic()).count()).sum());
    }
    fills.sort_by(f32::total_cmp);
    letters.sort_unstable();
    fills[fills.len() / 2] >= MIN_FILL && letters[letters.len() / 2] >= MIN_LETTERS
}
