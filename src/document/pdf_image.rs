//! A scanned page's image as it lies in the PDF, at its own pixels: drawing it again could only blur it
//! and costs several times as much.

use super::orient::{Canvas, Orientation};
use hayro::hayro_interpret::hayro_syntax::object::dict::keys::{MASK, SMASK};
use hayro::hayro_interpret::hayro_syntax::page::Page as PdfPage;
use hayro::hayro_interpret::{
    BlendMode, ClipPath, Context, Device, DrawMode, DrawProps, Image, ImageData, ImageDrawProps, InterpreterCache,
    InterpreterSettings, SoftMask, TransformExt, font::GlyphRun, interpret_page,
};
use hayro::kurbo::{Affine, BezPath, Rect, Shape};

/// How far an image may stand over or fall short of its page, and its pixels be from square or from the
/// size that is wanted, as a share.
const TOLERANCE: f64 = 0.03;

/// The one image of a page, upright, if it lies straight on the whole page, nothing shines through or
/// cuts it, and it has about `pixels`.
pub(super) fn sole_image(page: &PdfPage<'_>, points: (f64, f64), pixels: (f64, f64)) -> Option<Canvas> {
    let bounds = Rect::new(0.0, 0.0, points.0, points.1);
    let cache = InterpreterCache::new();
    let transform: Affine = page.initial_transform(true).to_kurbo();
    let mut context = Context::new(transform, bounds, &cache, page.xref(), InterpreterSettings::default());
    let mut taker = Taker { bounds, pixels, plain: true, taken: None };
    interpret_page(page, &mut context, &mut taker);
    taker.taken.filter(|_| taker.plain)
}

struct Taker {
    bounds: Rect,
    pixels: (f64, f64),
    /// Nothing was met that changes how the image looks.
    plain: bool,
    taken: Option<Canvas>,
}

impl Taker {
    /// Whether `area` is the page's, but for a little.
    fn is_page(&self, area: Rect) -> bool {
        let (width, height) = (self.bounds.width() * TOLERANCE, self.bounds.height() * TOLERANCE);
        area.x0.abs() <= width
            && area.y0.abs() <= height
            && (area.x1 - self.bounds.x1).abs() <= width
            && (area.y1 - self.bounds.y1).abs() <= height
    }

    /// How the image must be turned, if it lies straight and is about as fine as wanted.
    fn turn(&self, transform: Affine, width: u32, height: u32) -> Option<Orientation> {
        let area = transform.transform_rect_bbox(Rect::new(0.0, 0.0, width.into(), height.into()));
        let [a, b, c, d, ..] = transform.as_coeffs();
        let size = a.hypot(b).max(c.hypot(d));
        // Less than half a pixel's shear from one end of the image to the other.
        let straight = |small: f64, pixels: u32| small.abs() * f64::from(pixels) < 0.5 * size;
        let along = straight(b, width) && straight(c, height);
        let across = straight(a, width) && straight(d, height);
        let tag = match (along, across) {
            (true, _) => match (a > 0.0, d > 0.0) {
                (true, true) => 1,
                (false, true) => 2,
                (false, false) => 3,
                (true, false) => 4,
            },
            (_, true) => match (b > 0.0, c > 0.0) {
                (true, true) => 5,
                (true, false) => 6,
                (false, false) => 7,
                (false, true) => 8,
            },
            _ => return None,
        };
        let (wide, high) = if along { (width, height) } else { (height, width) };
        let near = |pixels: u32, wanted: f64| (f64::from(pixels) / wanted - 1.0).abs() <= TOLERANCE;
        let fits = self.is_page(area) && near(wide, self.pixels.0) && near(high, self.pixels.1);
        fits.then(|| Orientation::from_tag(tag))
    }
}

impl Device<'_> for Taker {
    fn draw_image(&mut self, image: Image<'_, '_>, props: ImageDrawProps<'_>) {
        let Image::Raster(raster) = image else { return };
        let dict = raster.stream().dict();
        let masked = props.soft_mask.is_some() || dict.contains_key(SMASK) || dict.contains_key(MASK);
        let normal = matches!(props.blend_mode, BlendMode::Normal);
        let (width, height) = (raster.width(), raster.height());
        let Some(turn) = self.turn(props.transform, width, height).filter(|_| !masked && normal) else { return };
        raster.with_rgba(
            |data, alpha| {
                // Another size than declared, or only a coarser version of it: let it be drawn.
                if alpha.is_some() || (data.width(), data.height()) != (width, height) || data.scale_factors() != (1.0, 1.0) {
                    return;
                }
                let mut canvas = Canvas::white(width, height);
                match data {
                    ImageData::Rgb(rgb) if rgb.data.len() == canvas.pixels().len() => canvas.pixels().copy_from_slice(&rgb.data),
                    ImageData::Luma(luma) if luma.data.len() * 3 == canvas.pixels().len() => {
                        canvas.pixels().chunks_exact_mut(3).zip(&luma.data).for_each(|(pixel, &value)| pixel.fill(value));
                    }
                    _ => return,
                }
                self.taken = Some(turn.apply(canvas));
            },
            None,
        );
    }

    fn push_clip_path(&mut self, clip: &ClipPath) {
        // A clip that leaves all of the page does nothing; a rounded or tilted one is no such.
        let area = clip.path.bounding_box();
        let rectangle = clip.path.area().abs() >= 0.99 * area.area();
        let leaves_all = area.union(self.bounds) == area || self.is_page(area);
        self.plain &= rectangle && leaves_all;
    }

    fn push_transparency_group(&mut self, opacity: f32, mask: Option<SoftMask<'_>>, blend: BlendMode) {
        self.plain &= opacity >= 1.0 && mask.is_none() && matches!(blend, BlendMode::Normal);
    }

    fn draw_path(&mut self, _: &BezPath, _: DrawProps<'_>, _: &DrawMode) {}
    fn draw_glyph_run(&mut self, _: &GlyphRun<'_, '_>, _: DrawProps<'_>, _: &DrawMode) {}
    fn pop_clip(&mut self) {}
    fn pop_transparency_group(&mut self) {}
}
