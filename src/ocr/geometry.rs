//! Points, rectangles at an angle and perspective: the plane geometry between the models.
//!
//! Owns: convex hull, smallest enclosing rectangle, corner order, and the projective map between a
//! rectangle and a quad. Coordinates are pixels, x to the right, y down. It must never see pixels.

use super::Quad;

/// x, y in pixels.
pub(super) type Point = [f32; 2];

pub(super) fn sub(a: Point, b: Point) -> Point {
    [a[0] - b[0], a[1] - b[1]]
}

pub(super) fn add(a: Point, b: Point) -> Point {
    [a[0] + b[0], a[1] + b[1]]
}

pub(super) fn scale(a: Point, by: f32) -> Point {
    [a[0] * by, a[1] * by]
}

pub(super) fn distance(a: Point, b: Point) -> f32 {
    (a[0] - b[0]).hypot(a[1] - b[1])
}

fn cross(origin: Point, a: Point, b: Point) -> f32 {
    (a[0] - origin[0]) * (b[1] - origin[1]) - (a[1] - origin[1]) * (b[0] - origin[0])
}

/// A rectangle at any angle.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rectangle {
    pub center: Point,
    /// Unit vector along `length`, pointing right (or straight down when the rectangle is upright).
    pub along: Point,
    /// Extent along `along`.
    pub length: f32,
    /// Extent across it.
    pub thickness: f32,
}

impl Rectangle {
    /// Clockwise on screen from the top left of a text that runs in the direction `along`.
    pub(super) fn corners(&self) -> [Point; 4] {
        let half_along = scale(self.along, self.length / 2.0);
        let half_across = scale([-self.along[1], self.along[0]], self.thickness / 2.0);
        [
            sub(sub(self.center, half_along), half_across),
            sub(add(self.center, half_along), half_across),
            add(add(self.center, half_along), half_across),
            add(sub(self.center, half_along), half_across),
        ]
    }

    /// The same rectangle, each side moved outwards by `by`.
    pub(super) fn grown(&self, by: f32) -> Rectangle {
        Rectangle { length: self.length + 2.0 * by, thickness: self.thickness + 2.0 * by, ..*self }
    }
}

/// The convex hull, counted clockwise on screen, without collinear points (Andrew's monotone chain).
pub(super) fn convex_hull(mut points: Vec<Point>) -> Vec<Point> {
    points.sort_by(|a, b| a[0].total_cmp(&b[0]).then(a[1].total_cmp(&b[1])));
    points.dedup();
    if points.len() < 3 {
        return points;
    }
    let mut hull: Vec<Point> = Vec::with_capacity(points.len() + 1);
    let half = |hull: &mut Vec<Point>, points: &mut dyn Iterator<Item = Point>| {
        let floor = hull.len();
        for point in points {
            while hull.len() >= floor + 2 && cross(hull[hull.len() - 2], hull[hull.len() - 1], point) <= 0.0 {
                hull.pop();
            }
            hull.push(point);
        }
        hull.pop();
    };
    half(&mut hull, &mut points.iter().copied());
    half(&mut hull, &mut points.iter().rev().copied());
    hull
}

/// The smallest rectangle that encloses the points: one of its sides lies on an edge of the hull.
/// `along` is the side nearer to the horizontal. `None` for no points at all.
pub(super) fn min_area_rectangle(points: Vec<Point>) -> Option<Rectangle> {
    let hull = convex_hull(points);
    let first = *hull.first()?;
    let mut best: Option<(f32, Rectangle)> = None;
    for (index, &from) in hull.iter().enumerate() {
        let to = hull[(index + 1) % hull.len()];
        let edge = distance(from, to);
        let direction = if edge > 0.0 { scale(sub(to, from), 1.0 / edge) } else { [1.0, 0.0] };
        let (mut low, mut high) = ([f32::MAX; 2], [f32::MIN; 2]);
        for &point in &hull {
            let offset = sub(point, first);
            let at = [offset[0] * direction[0] + offset[1] * direction[1], offset[1] * direction[0] - offset[0] * direction[1]];
            for axis in 0..2 {
                low[axis] = low[axis].min(at[axis]);
                high[axis] = high[axis].max(at[axis]);
            }
        }
        let (length, thickness) = (high[0] - low[0], high[1] - low[1]);
        let area = length * thickness;
        if best.is_none_or(|(smallest, _)| area < smallest) {
            let (u, v) = (f32::midpoint(low[0], high[0]), f32::midpoint(low[1], high[1]));
            let center = [first[0] + u * direction[0] - v * direction[1], first[1] + u * direction[1] + v * direction[0]];
            best = Some((area, Rectangle { center, along: direction, length, thickness }));
        }
    }
    best.map(|(_, rectangle)| nearest_horizontal(rectangle))
}

/// Renames the sides so that `along` is within 45° of pointing right.
fn nearest_horizontal(rectangle: Rectangle) -> Rectangle {
    let Rectangle { center, mut along, mut length, mut thickness } = rectangle;
    if along[0].abs() < along[1].abs() {
        along = [-along[1], along[0]];
        std::mem::swap(&mut length, &mut thickness);
    }
    if along[0] < 0.0 {
        along = [-along[0], -along[1]];
    }
    Rectangle { center, along, length, thickness }
}

impl Quad {
    /// Mean length of the top and the bottom side.
    pub(super) fn length(&self) -> f32 {
        f32::midpoint(distance(self.0[0], self.0[1]), distance(self.0[3], self.0[2]))
    }

    /// Mean length of the left and the right side.
    pub(super) fn thickness(&self) -> f32 {
        f32::midpoint(distance(self.0[0], self.0[3]), distance(self.0[1], self.0[2]))
    }

    /// The middle of the left side and of the right side.
    pub(super) fn midline(&self) -> (Point, Point) {
        (scale(add(self.0[0], self.0[3]), 0.5), scale(add(self.0[1], self.0[2]), 0.5))
    }

    /// A quarter turn of the text's own direction: where the text's top left corner was, its top
    /// right corner is now, `turns` times.
    pub(super) fn relabelled(&self, turns: usize) -> Quad {
        let mut corners = self.0;
        corners.rotate_left(turns % 4);
        Quad(corners)
    }

    /// The part of this quad between two fractions of its length.
    pub(super) fn slice(&self, from: f32, to: f32) -> Quad {
        let [tl, tr, br, bl] = self.0;
        let at = |a: Point, b: Point, t: f32| add(a, scale(sub(b, a), t));
        Quad([at(tl, tr, from), at(tl, tr, to), at(bl, br, to), at(bl, br, from)])
    }
}

/// The projective map that takes the unit square's corners (0,0) (1,0) (1,1) (0,1) to a quad's
/// corners in order (Heckbert, "Fundamentals of Texture Mapping", 1989, section 2.2.3).
#[derive(Debug, Clone, Copy)]
pub(super) struct Projection([f32; 8]);

impl Projection {
    pub(super) fn of(quad: &Quad) -> Self {
        let [p0, p1, p2, p3] = quad.0;
        let sum = [p0[0] - p1[0] + p2[0] - p3[0], p0[1] - p1[1] + p2[1] - p3[1]];
        let (d1, d2) = (sub(p1, p2), sub(p3, p2));
        let determinant = d1[0] * d2[1] - d2[0] * d1[1];
        let affine = sum[0].abs() + sum[1].abs() < 1e-3 || determinant.abs() < 1e-6;
        let (g, h) = if affine {
            (0.0, 0.0)
        } else {
            ((sum[0] * d2[1] - d2[0] * sum[1]) / determinant, (d1[0] * sum[1] - sum[0] * d1[1]) / determinant)
        };
        Projection([
            p1[0] - p0[0] + g * p1[0],
            p3[0] - p0[0] + h * p3[0],
            p0[0],
            p1[1] - p0[1] + g * p1[1],
            p3[1] - p0[1] + h * p3[1],
            p0[1],
            g,
            h,
        ])
    }

    /// Where (u, v) of the unit square lands.
    pub(super) fn at(&self, u: f32, v: f32) -> Point {
        let [a, b, c, d, e, f, g, h] = self.0;
        let w = g * u + h * v + 1.0;
        [(a * u + b * v + c) / w, (d * u + e * v + f) / w]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: Point, b: Point) -> bool {
        distance(a, b) < 0.01
    }

    #[test]
    fn hull_drops_what_lies_inside_or_on_an_edge() {
        let hull = convex_hull(vec![[0.0, 0.0], [2.0, 0.0], [4.0, 0.0], [4.0, 4.0], [0.0, 4.0], [1.0, 2.0], [4.0, 0.0]]);
        assert_eq!(hull.len(), 4);
    }

    #[test]
    fn smallest_rectangle_of_a_turned_box_is_that_box() {
        let angle = 10f32.to_radians();
        let drawn = Rectangle { center: [100.0, 50.0], along: [angle.cos(), angle.sin()], length: 80.0, thickness: 12.0 };
        let found = min_area_rectangle(drawn.corners().to_vec()).expect("four points");
        assert!((found.length - 80.0).abs() < 0.01 && (found.thickness - 12.0).abs() < 0.01, "{found:?}");
        for (a, b) in found.corners().iter().zip(drawn.corners()) {
            assert!(close(*a, b), "{found:?}");
        }
    }

    #[test]
    fn corners_run_clockwise_from_the_top_left() {
        let found = min_area_rectangle(vec![[10.0, 5.0], [30.0, 5.0], [30.0, 11.0], [10.0, 11.0]]).expect("four points");
        assert!(close(found.corners()[0], [10.0, 5.0]) && close(found.corners()[2], [30.0, 11.0]));
        let grown = found.grown(2.0).corners();
        assert!(close(grown[0], [8.0, 3.0]) && close(grown[2], [32.0, 13.0]));
    }

    #[test]
    fn one_point_and_a_line_are_rectangles_without_area() {
        assert_eq!(min_area_rectangle(vec![[3.0, 4.0]]).expect("a point").length, 0.0);
        let line = min_area_rectangle(vec![[0.0, 0.0], [5.0, 0.0]]).expect("two points");
        assert!((line.length - 5.0).abs() < 0.01 && line.thickness == 0.0);
        assert!(min_area_rectangle(Vec::new()).is_none());
    }

    #[test]
    fn projection_meets_the_corners_and_keeps_straight_lines_straight() {
        let quad = Quad([[10.0, 10.0], [110.0, 20.0], [100.0, 60.0], [20.0, 70.0]]);
        let map = Projection::of(&quad);
        for (uv, corner) in [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]].iter().zip(quad.0) {
            assert!(close(map.at(uv[0], uv[1]), corner));
        }
        let (a, b, c) = (map.at(0.0, 0.5), map.at(0.4, 0.5), map.at(1.0, 0.5));
        assert!(cross(a, b, c).abs() < 0.1);
    }
}
