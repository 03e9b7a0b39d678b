//! From a probability map to rectangles: the detector's second half.
//!
//! Owns: threshold, connected regions, their smallest rectangle, its mean probability, and the
//! growth back to full letter height (a DB detector is trained on shrunken lines). Works on runs of
//! set pixels, so memory follows the number of runs and not of contour points.

use super::geometry::{Point, Rectangle, min_area_rectangle};

/// Constants of the DB post-processing; RapidOCR ships the same for these weights.
#[derive(Debug, Clone, Copy)]
pub(super) struct MaskRules {
    /// A pixel belongs to a line from this probability on.
    pub pixel: f32,
    /// A region is a line from this mean probability on.
    pub region: f32,
    /// Growth: area × this / perimeter on every side.
    pub unclip: f32,
    /// Regions thinner than this many map pixels are dirt.
    pub min_side: f32,
    /// No page has more lines than this; a map of noise could have any number.
    pub max_regions: usize,
}

impl Default for MaskRules {
    fn default() -> Self {
        MaskRules { pixel: 0.3, region: 0.5, unclip: 1.6, min_side: 3.0, max_regions: 4000 }
    }
}

/// A text line in map coordinates: pixel edges, so that (0,0) is the map's outer corner.
#[derive(Debug, Clone, Copy)]
pub(super) struct Region {
    pub rectangle: Rectangle,
    /// Mean probability inside, before growth.
    pub probability: f32,
}

/// Set pixels `start..end` of one row.
#[derive(Debug, Clone, Copy)]
struct Run {
    row: u32,
    start: u32,
    end: u32,
}

/// Finds the lines in a probability map of `width` × `height`, row major.
pub(super) fn regions(map: &[f32], width: usize, height: usize, rules: &MaskRules) -> Vec<Region> {
    debug_assert_eq!(map.len(), width * height);
    let (runs, labels) = label(map, width, height, rules.pixel);
    let mut groups: Vec<Vec<Point>> = Vec::new();
    let mut group_of = vec![usize::MAX; runs.len()];
    for (index, run) in runs.iter().enumerate() {
        let root = labels[index] as usize;
        if group_of[root] == usize::MAX {
            group_of[root] = groups.len();
            groups.push(Vec::new());
        }
        let (top, bottom) = (run.row as f32, run.row as f32 + 1.0);
        let (left, right) = (run.start as f32, run.end as f32);
        groups[group_of[root]].extend([[left, top], [right, top], [left, bottom], [right, bottom]]);
    }
    let mut found: Vec<Region> = groups
        .into_iter()
        .filter_map(min_area_rectangle)
        .filter(|rectangle| rectangle.length.min(rectangle.thickness) > rules.min_side)
        .filter_map(|rectangle| {
            let probability = mean_inside(map, width, height, &rectangle);
            (probability >= rules.region).then(|| {
                let by = rectangle.length * rectangle.thickness * rules.unclip / (2.0 * (rectangle.length + rectangle.thickness));
                Region { rectangle: rectangle.grown(by), probability }
            })
        })
        .collect();
    if found.len() > rules.max_regions {
        found.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        found.truncate(rules.max_regions);
    }
    found
}

/// Runs of set pixels and, for each, the index of its region's first run (8-connected).
fn label(map: &[f32], width: usize, height: usize, threshold: f32) -> (Vec<Run>, Vec<u32>) {
    let mut runs: Vec<Run> = Vec::new();
    let mut parent: Vec<u32> = Vec::new();
    let mut above = 0..0;
    for row in 0..height {
        let begin = runs.len();
        let pixels = &map[row * width..(row + 1) * width];
        let mut at = 0;
        while at < width {
            let Some(skip) = pixels[at..].iter().position(|&p| p > threshold) else { break };
            let start = at + skip;
            let length = pixels[start..].iter().position(|&p| p <= threshold).unwrap_or(width - start);
            at = start + length;
            // A single unset pixel within a row is a gap between letters of one line; between rows
            // it is what keeps two lines apart.
            if runs.len() > begin
                && let Some(last) = runs.last_mut()
                && last.end as usize + 1 == start
            {
                last.end = at as u32;
                continue;
            }
            parent.push(runs.len() as u32);
            runs.push(Run { row: row as u32, start: start as u32, end: at as u32 });
        }
        let mut upper = above.start;
        for lower in begin..runs.len() {
            while upper < above.end && runs[upper].end < runs[lower].start {
                upper += 1;
            }
            let mut touching = upper;
            while touching < above.end && runs[touching].start <= runs[lower].end {
                unite(&mut parent, touching as u32, lower as u32);
                touching += 1;
            }
        }
        above = begin..runs.len();
    }
    let labels = (0..runs.len() as u32).map(|index| find(&mut parent, index)).collect();
    (runs, labels)
}

fn find(parent: &mut [u32], mut index: u32) -> u32 {
    while parent[index as usize] != index {
        parent[index as usize] = parent[parent[index as usize] as usize];
        index = parent[index as usize];
    }
    index
}

fn unite(parent: &mut [u32], a: u32, b: u32) {
    let (a, b) = (find(parent, a), find(parent, b));
    parent[a.max(b) as usize] = a.min(b);
}

/// Mean of the map over the pixels whose centres lie in the rectangle.
fn mean_inside(map: &[f32], width: usize, height: usize, rectangle: &Rectangle) -> f32 {
    let corners = rectangle.corners();
    let top = corners.iter().map(|c| c[1]).fold(f32::MAX, f32::min).max(0.0) as usize;
    let bottom = (corners.iter().map(|c| c[1]).fold(0.0, f32::max).ceil() as usize).min(height);
    let (mut sum, mut count) = (0.0f64, 0usize);
    for row in top..bottom {
        let y = row as f32 + 0.5;
        let (mut left, mut right) = (f32::MAX, f32::MIN);
        for side in 0..4 {
            let (a, b) = (corners[side], corners[(side + 1) % 4]);
            if (a[1] <= y) != (b[1] <= y) {
                let x = a[0] + (y - a[1]) / (b[1] - a[1]) * (b[0] - a[0]);
                left = left.min(x);
                right = right.max(x);
            }
        }
        let from = (left - 0.5).ceil().clamp(0.0, width as f32) as usize;
        let to = (right - 0.5).ceil().clamp(0.0, width as f32) as usize;
        if from < to {
            sum += map[row * width + from..row * width + to].iter().map(|&p| f64::from(p)).sum::<f64>();
            count += to - from;
        }
    }
    if count == 0 { 0.0 } else { (sum / count as f64) as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(width: usize, height: usize, boxes: &[(usize, usize, usize, usize)]) -> Vec<f32> {
        let mut map = vec![0.0; width * height];
        for &(left, top, right, bottom) in boxes {
            for row in top..bottom {
                map[row * width + left..row * width + right].fill(0.9);
            }
        }
        map
    }

    #[test]
    fn each_drawn_box_is_found_and_grown() {
        let map = draw(200, 100, &[(10, 10, 110, 20), (10, 40, 60, 50), (120, 40, 180, 50)]);
        let found = regions(&map, 200, 100, &MaskRules::default());
        assert_eq!(found.len(), 3);
        let first = found.iter().find(|r| r.rectangle.center[1] < 20.0).expect("the upper box");
        let by = 100.0 * 10.0 * 1.6 / 220.0;
        assert!((first.rectangle.length - (100.0 + 2.0 * by)).abs() < 0.01);
        assert!((first.rectangle.thickness - (10.0 + 2.0 * by)).abs() < 0.01);
        assert!((first.rectangle.center[0] - 60.0).abs() < 0.01 && (first.rectangle.center[1] - 15.0).abs() < 0.01);
        assert!((first.probability - 0.9).abs() < 0.001);
    }

    #[test]
    fn dirt_and_doubt_are_dropped() {
        let mut map = draw(100, 50, &[(5, 5, 7, 40)]);
        for row in 20..30 {
            map[row * 100 + 30..row * 100 + 90].fill(0.4);
        }
        assert!(regions(&map, 100, 50, &MaskRules::default()).is_empty());
    }

    #[test]
    fn a_shape_that_joins_late_is_one_region() {
        // A U: two uprights that meet in the last rows only.
        let map = draw(40, 40, &[(5, 5, 10, 35), (25, 5, 30, 35), (5, 35, 30, 39)]);
        let found = regions(&map, 40, 40, &MaskRules { region: 0.1, ..MaskRules::default() });
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn touching_at_a_corner_is_touching() {
        let map = draw(40, 40, &[(5, 5, 15, 15), (15, 15, 25, 25)]);
        assert_eq!(regions(&map, 40, 40, &MaskRules { region: 0.1, ..MaskRules::default() }).len(), 1);
    }

    #[test]
    fn noise_has_a_limit() {
        let mut map = vec![0.0; 100 * 100];
        for y in (0..96).step_by(6) {
            for x in (0..96).step_by(6) {
                for row in y..y + 4 {
                    map[row * 100 + x..row * 100 + x + 4].fill(0.8);
                }
            }
        }
        assert_eq!(regions(&map, 100, 100, &MaskRules { max_regions: 7, ..MaskRules::default() }).len(), 7);
    }
}
