//! Reading order: boxes into rows, columns and blocks.
//!
//! Owns: the page's skew, the order in which a person would read its lines, which boxes of a row
//! are one line, and block numbers. Gets recognized boxes in any order; must never change their
//! text or drop one. Called by `two_stage` once a page.

use super::columns::split;
use super::geometry::Point;
use super::rows::{Piece, join, rows};
use super::{Line, Quad};

/// Rows further apart than this many line heights belong to different blocks.
const BLOCK_GAP: f32 = 1.0;

/// Puts recognized boxes into reading order. Returns the lines and the skew in degrees, clockwise
/// positive.
pub(super) fn arrange(boxes: Vec<Line>) -> (Vec<Line>, f32) {
    let skew = skew(&boxes);
    let pieces: Vec<Piece> = boxes.into_iter().map(|line| piece(line, skew)).collect();
    let mut order: Vec<Vec<usize>> = Vec::new();
    visit(&pieces, (0..pieces.len()).collect(), &mut order);
    let mut kept: Vec<Option<Piece>> = pieces.into_iter().map(Some).collect();
    let mut lines: Vec<Line> = Vec::new();
    for (block, row) in number_blocks(&kept, &order) {
        let parts: Vec<Line> = row.iter().filter_map(|&index| kept[index].take()).map(|piece| piece.line).collect();
        lines.push(join(parts, block));
    }
    (lines, skew)
}

/// The direction most of the text runs in: the median of the lines' angles, long lines weighing more.
fn skew(boxes: &[Line]) -> f32 {
    let mut angles: Vec<(f32, f32)> = boxes
        .iter()
        .filter(|line| line.quad.length() > 3.0 * line.quad.thickness())
        .map(|line| {
            let (from, to) = line.quad.midline();
            ((to[1] - from[1]).atan2(to[0] - from[0]).to_degrees(), line.quad.length())
        })
        .filter(|(angle, _)| angle.abs() < 45.0)
        .collect();
    angles.sort_by(|a, b| a.0.total_cmp(&b.0));
    let half = angles.iter().map(|(_, weight)| weight).sum::<f32>() / 2.0;
    let mut sum = 0.0;
    for (angle, weight) in angles {
        sum += weight;
        if sum >= half {
            return angle;
        }
    }
    0.0
}

/// A box seen in the frame in which the page's text is level.
fn piece(line: Line, skew: f32) -> Piece {
    let (sin, cos) = skew.to_radians().sin_cos();
    let level = |[x, y]: Point| [x * cos + y * sin, y * cos - x * sin];
    let corners = line.quad.0.map(level);
    let [from, to] = [line.quad.midline().0, line.quad.midline().1].map(level);
    let vertical = (to[1] - from[1]).abs() > (to[0] - from[0]).abs();
    let (left, right, height) = if vertical {
        let [x0, x1] =
            [corners.iter().map(|c| c[0]).fold(f32::MAX, f32::min), corners.iter().map(|c| c[0]).fold(f32::MIN, f32::max)];
        let middle = f32::midpoint(from[1], to[1]);
        ([x0, middle], [x1, middle], (to[1] - from[1]).abs())
    } else {
        (from, to, line.quad.thickness())
    };
    Piece { line, left, right, height, vertical }
}

/// Walks a region in reading order: what is above a pair of columns, the left one, the right one,
/// what is below; where there are no columns, row by row.
fn visit(pieces: &[Piece], region: Vec<usize>, order: &mut Vec<Vec<usize>>) {
    if region.is_empty() {
        return;
    }
    let (vertical, level): (Vec<usize>, Vec<usize>) = region.into_iter().partition(|&i| pieces[i].vertical);
    order.extend(vertical.into_iter().map(|i| vec![i]));
    if let Some(split) = split(pieces, &level) {
        for part in [split.above, split.left, split.right, split.below] {
            visit(pieces, part, order);
        }
        return;
    }
    let own: Vec<Piece> = level.iter().map(|&i| pieces[i].clone()).collect();
    order.extend(rows(&own).into_iter().map(|row| row.into_iter().map(|i| level[i]).collect()));
}

/// A new block begins where the reading jumps: up, far down, or sideways into another column.
fn number_blocks<'a>(pieces: &[Option<Piece>], order: &'a [Vec<usize>]) -> Vec<(u32, &'a Vec<usize>)> {
    let mut numbered = Vec::with_capacity(order.len());
    let mut block = 0;
    let mut before: Option<(f32, f32, f32, f32)> = None;
    for row in order {
        let own: Vec<&Piece> = row.iter().filter_map(|&i| pieces[i].as_ref()).collect();
        let top = own.iter().map(|p| p.top()).fold(f32::MAX, f32::min);
        let bottom = own.iter().map(|p| p.bottom()).fold(f32::MIN, f32::max);
        let left = own.iter().map(|p| p.left[0]).fold(f32::MAX, f32::min);
        let right = own.iter().map(|p| p.right[0]).fold(f32::MIN, f32::max);
        let height = own.iter().map(|p| p.height).fold(0.0, f32::max);
        if let Some((last_bottom, last_left, last_right, last_height)) = before {
            let gap = top - last_bottom;
            let apart = left > last_right || right < last_left;
            if gap > BLOCK_GAP * height.min(last_height) || gap < -height.max(last_height) || (apart && gap < 0.0) {
                block += 1;
            }
        }
        before = Some((bottom, left, right, height));
        numbered.push((block, row));
    }
    numbered
}

/// Turns a point of a `width` × `height` page along with the page, clockwise by `rotation`.
pub(super) fn turn([x, y]: Point, rotation: u16, width: f32, height: f32) -> Point {
    match rotation {
        90 => [height - y, x],
        180 => [width - x, height - y],
        270 => [y, width - x],
        _ => [x, y],
    }
}

/// [`turn`] for all four corners; the text's own top left stays first.
#[must_use]
pub fn turn_quad(quad: &Quad, rotation: u16, width: f32, height: f32) -> Quad {
    Quad(quad.0.map(|point| turn(point, rotation, width, height)))
}

#[cfg(test)]
mod tests {
    use super::super::geometry::Rectangle;
    use super::super::{Confidence, Word};
    use super::*;

    fn line(text: &str, left: f32, top: f32, width: f32) -> Line {
        tilted(text, left, top, width, 0.0)
    }

    /// A box of height 20 on a page turned clockwise by `degrees` round its corner.
    fn tilted(text: &str, left: f32, top: f32, width: f32, degrees: f32) -> Line {
        let (sin, cos) = degrees.to_radians().sin_cos();
        let (x, y) = (left + width / 2.0, top + 10.0);
        let center = [x * cos - y * sin, x * sin + y * cos];
        let quad = Quad(Rectangle { center, along: [cos, sin], length: width, thickness: 20.0 }.corners());
        let word = Word { text: text.into(), confidence: Confidence::new(0.9), quad };
        Line { text: text.into(), confidence: Confidence::new(0.9), quad, words: vec![word], block: 0 }
    }

    fn texts(lines: &[Line]) -> Vec<&str> {
        lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn a_receipt_row_keeps_item_and_price_together() {
        let (lines, _) = arrange(vec![
            line("9.00", 400.0, 102.0, 50.0),
            line("Total", 20.0, 130.0, 60.0),
            line("Bread", 20.0, 100.0, 80.0),
            line("12.50", 400.0, 131.0, 50.0),
            line("Market", 150.0, 60.0, 120.0),
        ]);
        assert_eq!(texts(&lines), ["Market", "Bread 9.00", "Total 12.50"]);
        assert_eq!(lines[1].words.len(), 2);
        let [tl, tr, br, bl] = lines[1].quad.0;
        assert!(tl[0] <= 20.1 && tr[0] >= 449.9 && tl[1] <= 102.0 && bl[1] >= 119.9 && br[1] >= 119.9, "{:?}", lines[1].quad);
    }

    #[test]
    fn a_skewed_receipt_still_has_its_rows() {
        let mut boxes = Vec::new();
        for row in 0..8 {
            let top = 100.0 + 26.0 * row as f32;
            boxes.push(tilted(&format!("item {row}"), 20.0, top, 160.0, 6.0));
            boxes.push(tilted(&format!("{row}.00"), 500.0, top, 60.0, 6.0));
        }
        boxes.reverse();
        let (lines, skew) = arrange(boxes);
        assert!((skew - 6.0).abs() < 0.2, "{skew}");
        let expected: Vec<String> = (0..8).map(|row| format!("item {row} {row}.00")).collect();
        assert_eq!(texts(&lines), expected);
    }

    #[test]
    fn two_columns_are_read_one_after_the_other() {
        let mut boxes = vec![line("A headline across both of the columns", 20.0, 20.0, 620.0)];
        for row in 0..6 {
            let top = 80.0 + 24.0 * row as f32;
            boxes.push(line(&format!("left column running text {row}"), 20.0, top, 290.0));
            boxes.push(line(&format!("right column running text {row}"), 350.0, top + 5.0, 290.0));
        }
        boxes.push(line("A footer that runs across the page as well", 20.0, 300.0, 620.0));
        boxes.reverse();
        let (lines, _) = arrange(boxes);
        let texts = texts(&lines);
        assert_eq!(texts[0], "A headline across both of the columns");
        assert!(texts[1..7].iter().all(|t| t.starts_with("left")), "{texts:?}");
        assert!(texts[7..13].iter().all(|t| t.starts_with("right")), "{texts:?}");
        assert!(texts[13].starts_with("A footer"));
        assert!(lines[1].block != lines[7].block && lines[1].block == lines[6].block);
    }

    /// Six rows of prose, and beside them rows `pitch` apart.
    fn prose_and(beside: &[&str], pitch: f32) -> Vec<Line> {
        let prose =
            (0..6).map(|row| line(&format!("running text as long as its column {row}"), 20.0, 80.0 + 24.0 * row as f32, 400.0));
        let beside = beside.iter().enumerate().map(|(row, text)| line(text, 480.0, 80.0 + pitch * row as f32, 100.0));
        prose.chain(beside).collect()
    }

    #[test]
    fn a_margin_with_lines_of_its_own_is_read_after_the_prose() {
        let (lines, _) = arrange(prose_and(&["Price 46.64", "Range 18.41", "Cap 9,803", "Value 9,074"], 33.0));
        let texts = texts(&lines);
        assert!(texts[..6].iter().all(|t| t.starts_with("running")), "{texts:?}");
        assert_eq!(texts[6..], ["Price 46.64", "Range 18.41", "Cap 9,803", "Value 9,074"]);
    }

    #[test]
    fn amounts_level_with_the_prose_that_they_belong_to_stay_in_its_rows() {
        let (lines, _) = arrange(prose_and(&["1.00", "2.00", "3.00", "4.00", "5.00", "6.00"], 24.0));
        assert_eq!(lines.len(), 6);
        assert!(lines[2].text.ends_with("column 2 3.00"), "{:?}", texts(&lines));
    }

    #[test]
    fn blocks_end_where_the_white_is_wide() {
        let (lines, _) =
            arrange(vec![line("one", 20.0, 20.0, 200.0), line("two", 20.0, 46.0, 200.0), line("three", 20.0, 140.0, 200.0)]);
        assert_eq!(lines.iter().map(|l| l.block).collect::<Vec<_>>(), [0, 0, 1]);
    }

    #[test]
    fn turning_a_page_takes_its_corners_along() {
        assert_eq!(turn([0.0, 0.0], 90, 200.0, 100.0), [100.0, 0.0]);
        assert_eq!(turn([0.0, 0.0], 180, 200.0, 100.0), [200.0, 100.0]);
        assert_eq!(turn([200.0, 0.0], 270, 200.0, 100.0), [0.0, 0.0]);
    }
}
