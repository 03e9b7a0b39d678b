//! Pixels on their way into a model: views of a page, line images, tensors.
//!
//! Owns: resizing, cutting a line out of a page along its quad, and the one normalisation that all
//! three models share (B G R planes, −1 to 1). It must never decide where text is.

use fast_image_resize as fir;
use fir::images::{Image, ImageRef};
use fir::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use super::geometry::Projection;
use super::{EngineError, Quad};
use crate::document::Page;

/// Height in pixels of every line image: what the recognizer and the classifier were trained on.
pub(super) const LINE_HEIGHT: usize = 48;

/// A line wider than this is squeezed. At 48 px of height it would be some 300 letters long.
const MAX_LINE_WIDTH: usize = 4096;

/// A borrowed page image, 8-bit R G B, row major.
#[derive(Debug, Clone, Copy)]
pub(super) struct Raster<'a> {
    pub width: usize,
    pub height: usize,
    pub rgb: &'a [u8],
}

impl<'a> Raster<'a> {
    /// A view of the page, refused where its sizes contradict its bytes.
    pub(super) fn of(page: &'a Page) -> Result<Self, EngineError> {
        let (width, height) = (page.width as usize, page.height as usize);
        let bytes = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(3));
        if width == 0 || height == 0 || bytes != Some(page.rgb.len()) {
            return Err(EngineError::Rejected(format!(
                "page {} says {} × {} pixels but holds {} bytes",
                page.number,
                page.width,
                page.height,
                page.rgb.len()
            )));
        }
        Ok(Raster { width, height, rgb: &page.rgb })
    }

    /// Cubic sample at pixel-edge coordinates; the border repeats outwards. On tilted receipts it
    /// keeps thin strokes and gaps that a bilinear sample smears.
    fn sample(&self, x: f32, y: f32) -> [u8; 3] {
        let (x, y) = (x - 0.5, y - 0.5);
        let (left, top) = (x.floor(), y.floor());
        let (across, down) = (cubic(x - left), cubic(y - top));
        let inside = |at: f32, step: usize, size: usize| (at as i64 + step as i64 - 1).clamp(0, size as i64 - 1) as usize;
        let columns: [usize; 4] = std::array::from_fn(|step| inside(left, step, self.width));
        let mut sum = [0.5f32; 3];
        for (step, wy) in down.iter().enumerate() {
            let row = inside(top, step, self.height) * self.width;
            for (column, wx) in columns.iter().zip(across) {
                let at = (row + column) * 3;
                for (sum, &value) in sum.iter_mut().zip(&self.rgb[at..at + 3]) {
                    *sum += wx * wy * f32::from(value);
                }
            }
        }
        sum.map(|value| value as u8)
    }
}

/// Weights of the four neighbours at a fraction `t` between the second and the third (Keys, "Cubic
/// convolution interpolation for digital image processing", 1981, a = −0.5).
fn cubic(t: f32) -> [f32; 4] {
    let (t2, t3) = (t * t, t * t * t);
    [-0.5 * t3 + t2 - 0.5 * t, 1.5 * t3 - 2.5 * t2 + 1.0, -1.5 * t3 + 2.0 * t2 + 0.5 * t, 0.5 * t3 - 0.5 * t2]
}

/// One line, cut out and scaled to [`LINE_HEIGHT`]; 8-bit R G B, row major.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LineImage {
    pub width: usize,
    pub rgb: Vec<u8>,
}

impl LineImage {
    /// The same line turned by 180°.
    pub(super) fn turned(&self) -> LineImage {
        LineImage { width: self.width, rgb: self.rgb.as_chunks::<3>().0.iter().rev().flatten().copied().collect() }
    }
}

/// The width a quad's line will have at [`LINE_HEIGHT`].
pub(super) fn line_width(quad: &Quad) -> usize {
    let ratio = quad.length() / quad.thickness().max(1.0);
    ((ratio * LINE_HEIGHT as f32).ceil() as usize).clamp(LINE_HEIGHT / 6, MAX_LINE_WIDTH)
}

/// Resizes and cuts; keeps its buffers between calls.
#[derive(Default)]
pub(super) struct Cutter {
    resizer: Resizer,
}

impl Cutter {
    /// The whole page at another size.
    pub(super) fn resize(&mut self, page: &Raster<'_>, width: usize, height: usize) -> Result<Vec<u8>, EngineError> {
        self.scale(page, None, width, height)
    }

    /// The line inside `quad`, upright and [`LINE_HEIGHT`] high.
    pub(super) fn cut(&mut self, page: &Raster<'_>, quad: &Quad) -> Result<LineImage, EngineError> {
        if let Some([left, top, right, bottom]) = straight(page, quad) {
            let clipped = Quad([[left, top], [right, top], [right, bottom], [left, bottom]]);
            let width = line_width(&clipped);
            let area = [left, top, right - left, bottom - top].map(f64::from);
            return Ok(LineImage { width, rgb: self.scale(page, Some(area), width, LINE_HEIGHT)? });
        }
        // Pull the line straight at its own size (at most twice the target, which keeps a headline
        // that fills a poster bounded), then scale with a proper filter.
        let height = (quad.thickness().ceil() as usize).clamp(1, 2 * LINE_HEIGHT);
        let width = ((quad.length() * height as f32 / quad.thickness().max(1.0)).ceil() as usize).clamp(1, 2 * MAX_LINE_WIDTH);
        let projection = Projection::of(quad);
        let mut straightened = Vec::with_capacity(width * height * 3);
        for y in 0..height {
            let v = (y as f32 + 0.5) / height as f32;
            for x in 0..width {
                let [px, py] = projection.at((x as f32 + 0.5) / width as f32, v);
                straightened.extend(page.sample(px, py));
            }
        }
        let target = line_width(quad);
        let line = Raster { width, height, rgb: &straightened };
        Ok(LineImage { width: target, rgb: self.scale(&line, None, target, LINE_HEIGHT)? })
    }

    /// `area` (left, top, width, height; the whole image if `None`) scaled to `width` × `height`.
    fn scale(&mut self, image: &Raster<'_>, area: Option<[f64; 4]>, width: usize, height: usize) -> Result<Vec<u8>, EngineError> {
        let sizes =
            |value: usize| u32::try_from(value).map_err(|_| EngineError::Rejected("an image side exceeds 2^32 pixels".into()));
        let failed = |error: String| EngineError::Rejected(format!("the page cannot be resized: {error}"));
        let source = ImageRef::new(sizes(image.width)?, sizes(image.height)?, image.rgb, PixelType::U8x3)
            .map_err(|error| failed(error.to_string()))?;
        let mut target = Image::new(sizes(width)?, sizes(height)?, PixelType::U8x3);
        let mut options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).use_alpha(false);
        if let Some([left, top, width, height]) = area {
            options = options.crop(left, top, width, height);
        }
        self.resizer.resize(&source, &mut target, &options).map_err(|error| failed(error.to_string()))?;
        Ok(target.into_vec())
    }
}

/// Left, top, right, bottom of a quad that is upright to within half a pixel, clipped to the page.
fn straight(page: &Raster<'_>, quad: &Quad) -> Option<[f32; 4]> {
    let [tl, tr, br, bl] = quad.0;
    let off = [tl[1] - tr[1], bl[1] - br[1], tl[0] - bl[0], tr[0] - br[0]];
    if off.iter().any(|o| o.abs() > 0.5) || tr[0] <= tl[0] || bl[1] <= tl[1] {
        return None;
    }
    let left = tl[0].clamp(0.0, page.width as f32);
    let top = tl[1].clamp(0.0, page.height as f32);
    let right = br[0].clamp(0.0, page.width as f32);
    let bottom = br[1].clamp(0.0, page.height as f32);
    (right - left >= 1.0 && bottom - top >= 1.0).then_some([left, top, right, bottom])
}

/// Writes `rgb` (`width` × `height`) as B, G, R planes of −1..1 into the left of planes that are
/// `stride` wide; what lies to the right is left alone.
///
/// The models were trained on images as OpenCV loads them, blue first, with mean and deviation 0.5.
pub(super) fn fill_planes(rgb: &[u8], width: usize, height: usize, planes: &mut [f32], stride: usize) {
    debug_assert!(planes.len() == 3 * stride * height && rgb.len() == 3 * width * height && width <= stride);
    for (channel, plane) in planes.chunks_exact_mut(stride * height).enumerate() {
        for (source, target) in rgb.chunks_exact(3 * width).zip(plane.chunks_exact_mut(stride)) {
            for (pixel, value) in source.as_chunks::<3>().0.iter().zip(target) {
                *value = f32::from(pixel[2 - channel]) / 127.5 - 1.0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::geometry::Rectangle;
    use super::*;

    /// White paper with a black bar: `bar` says for a point whether it is ink.
    fn draw(width: usize, height: usize, ink: impl Fn(f32, f32) -> bool) -> Vec<u8> {
        let mut rgb = vec![255; width * height * 3];
        for y in 0..height {
            for x in 0..width {
                if ink(x as f32 + 0.5, y as f32 + 0.5) {
                    rgb[(y * width + x) * 3..][..3].fill(0);
                }
            }
        }
        rgb
    }

    fn dark(line: &LineImage, x: usize, y: usize) -> bool {
        line.rgb[(y * line.width + x) * 3] < 128
    }

    #[test]
    fn a_turned_patch_comes_out_straight() {
        // The left half of a bar tilted by 20° is ink.
        let angle = 20f32.to_radians();
        let patch = Rectangle { center: [100.0, 100.0], along: [angle.cos(), angle.sin()], length: 120.0, thickness: 24.0 };
        let rgb = draw(200, 200, |x, y| {
            let (dx, dy) = (x - 100.0, y - 100.0);
            let (u, v) = (dx * angle.cos() + dy * angle.sin(), dy * angle.cos() - dx * angle.sin());
            (-60.0..0.0).contains(&u) && v.abs() < 12.0
        });
        let page = Raster { width: 200, height: 200, rgb: &rgb };
        let line = Cutter::default().cut(&page, &Quad(patch.corners())).expect("a line");
        assert!(line.width.abs_diff(240) <= 1, "{}", line.width);
        for y in [6, 24, 41] {
            assert!(dark(&line, 20, y) && dark(&line, 110, y), "row {y}");
            assert!(!dark(&line, 130, y) && !dark(&line, 230, y), "row {y}");
        }
        let turned = line.turned();
        assert!(!dark(&turned, 20, 24) && dark(&turned, 220, 24));
    }

    #[test]
    fn relabelled_corners_turn_the_text() {
        // A column of ink at the left edge; read sideways its start is the page's bottom.
        let rgb = draw(60, 200, |_, y| y > 150.0);
        let page = Raster { width: 60, height: 200, rgb: &rgb };
        let upright = Quad([[10.0, 0.0], [40.0, 0.0], [40.0, 200.0], [10.0, 200.0]]);
        let line = Cutter::default().cut(&page, &upright.relabelled(3)).expect("a line");
        assert_eq!(line.width, 320);
        assert!(dark(&line, 20, 24) && !dark(&line, 200, 24));
    }

    #[test]
    fn a_quad_that_leaves_the_page_is_clipped() {
        let rgb = draw(100, 40, |_, _| false);
        let page = Raster { width: 100, height: 40, rgb: &rgb };
        let line =
            Cutter::default().cut(&page, &Quad([[-5.0, 10.0], [105.0, 10.0], [105.0, 30.0], [-5.0, 30.0]])).expect("a line");
        assert_eq!(line.width, 240);
    }

    #[test]
    fn planes_are_blue_first_and_centred() {
        let mut planes = vec![0.0; 3 * 2];
        fill_planes(&[255, 0, 51], 1, 1, &mut planes, 2);
        assert_eq!(planes, [51.0 / 127.5 - 1.0, 0.0, -1.0, 0.0, 1.0, 0.0]);
    }

    #[test]
    fn a_page_that_lies_about_its_size_is_rejected() {
        let page = Page { number: 3, width: 10, height: 10, rgb: vec![0; 10].into(), rotation: 0, truncated: false };
        assert!(matches!(Raster::of(&page), Err(EngineError::Rejected(text)) if text.contains("page 3")));
    }
}
