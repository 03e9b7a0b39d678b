//! PDF: pages rasterised one at a time by hayro. A page that is one scanned image is rasterised at
//! that image's own resolution, so that reading sees every scanned pixel and not one more; other pages
//! at 200 dpi, where the recognizer's line height is met by ordinary print.
//!
//! hayro bounds its recursion (50 levels of forms and patterns, 512 of objects) but not by the stack of
//! its caller, so every call into it runs on a thread of its own with a stack that is large enough;
//! joining that thread also keeps a panic inside.

use super::orient::Canvas;
use super::{DocumentError, Limits, Page, pdf_guard};
use hayro::hayro_interpret::hayro_syntax::{LoadPdfError, Pdf, page::Page as PdfPage};
use hayro::hayro_interpret::{
    BlendMode, ClipPath, Context, Device, DrawMode, DrawProps, Image, ImageDrawProps, InterpreterCache, InterpreterSettings,
    SoftMask, TransformExt, font::GlyphRun, interpret_page,
};
use hayro::kurbo::{Affine, BezPath, Rect, Shape};
use hayro::vello_cpu::color::palette::css::WHITE;
use hayro::{PixmapSettings, RenderCache, RenderSettings};
use std::sync::Arc;

/// Pixels per point at 200 dpi.
const DEFAULT_SCALE: f64 = 200.0 / 72.0;
/// Pixels per point at 300 dpi: finer scans hold no more for reading.
const MAX_SCAN_SCALE: f64 = 300.0 / 72.0;
/// Long side of an A4 page at 300 dpi. A small page (a receipt) may be as fine as this in all.
const MAX_SCAN_SIDE: f64 = 3508.0;
/// A coarser page is enlarged to this long side, but not beyond the default scale.
const MIN_SIDE: f64 = 1000.0;
/// A raster is never larger than this, whatever size the page claims: A3 at 400 dpi.
const MAX_RASTER_PIXELS: f64 = 31_000_000.0;
/// The rasteriser counts in 16 bits.
const MAX_SIDE: f64 = 65_000.0;
/// Stack for one call into hayro. Only touched pages of it are ever memory.
const STACK_BYTES: usize = 64 << 20;
/// The end marker is looked for in this many last bytes; mail gateways and printers append junk.
const END_WINDOW: usize = 4096;

fn damaged(detail: impl Into<String>) -> DocumentError {
    DocumentError::Damaged { what: "PDF", detail: detail.into() }
}

/// An open PDF.
pub(super) struct PdfPages {
    pdf: Pdf,
    count: usize,
    truncated: bool,
}

impl PdfPages {
    pub fn open(bytes: &Arc<Vec<u8>>, limits: &Limits) -> Result<Self, DocumentError> {
        pdf_guard::check_before_parsing(bytes)?;
        on_large_stack(|| {
            let pdf = Pdf::new(Arc::clone(bytes)).map_err(|error| match error {
                LoadPdfError::Decryption(_) => DocumentError::Encrypted,
                LoadPdfError::Invalid => damaged("its structure cannot be read"),
            })?;
            let count = pdf.pages().len();
            if count == 0 {
                return Err(DocumentError::Empty);
            }
            if count > limits.max_pages as usize {
                let pages = u32::try_from(count).unwrap_or(u32::MAX);
                return Err(DocumentError::TooManyPages { pages, limit: limits.max_pages });
            }
            pdf_guard::check_streams(&pdf, limits)?;
            let tail = &bytes[bytes.len().saturating_sub(END_WINDOW)..];
            let truncated = !tail.windows(5).any(|window| window == b"%%EOF");
            Ok(PdfPages { pdf, count, truncated })
        })
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// Rasterises page `index`, counted from 0.
    pub fn page(&self, index: usize, limits: &Limits) -> Result<Page, DocumentError> {
        on_large_stack(|| {
            let page = self.pdf.pages().get(index).ok_or_else(|| damaged(format!("page {} is not there", index + 1)))?;
            let (width_pt, height_pt) = page.render_dimensions();
            let (width_pt, height_pt) = (f64::from(width_pt), f64::from(height_pt));
            if !(width_pt.is_finite() && height_pt.is_finite() && width_pt > 0.0 && height_pt > 0.0) {
                return Err(damaged(format!("page {} has no size", index + 1)));
            }
            let survey = survey(page, width_pt, height_pt);
            let scale = choose_scale(&survey, width_pt, height_pt, limits.max_pixels);
            let (width, height) = raster_size(width_pt, height_pt, scale, limits.max_pixels);
            // hayro cuts the fraction off, so a hair is added to land on the pixel count that was meant.
            let exact = |pixels: f64, side: f64| ((pixels + 0.01) / side) as f32;
            let pixmap = hayro::render(
                page,
                &RenderCache::new(),
                &InterpreterSettings::default(),
                &RenderSettings::default(),
                &PixmapSettings { x_scale: exact(width, width_pt), y_scale: exact(height, height_pt), bg_color: WHITE },
            );
            // On an opaque white ground premultiplied and straight colours are the same.
            let mut canvas = Canvas::white(pixmap.width().into(), pixmap.height().into());
            for (pixel, rgb) in pixmap.data_as_u8_slice().chunks_exact(4).zip(canvas.pixels().chunks_exact_mut(3)) {
                rgb.copy_from_slice(&pixel[..3]);
            }
            Ok(Page {
                number: u32::try_from(index + 1).unwrap_or(u32::MAX),
                width: canvas.width,
                height: canvas.height,
                rgb: canvas.rgb,
                rotation: 0,
                truncated: self.truncated,
            })
        })
    }
}

/// Runs `work` on a thread with [`STACK_BYTES`]; a panic in it comes back as damage.
fn on_large_stack<T: Send>(work: impl FnOnce() -> Result<T, DocumentError> + Send) -> Result<T, DocumentError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("pdf".into()).stack_size(STACK_BYTES).spawn_scoped(scope, work);
        match thread {
            Ok(handle) => handle.join().unwrap_or_else(|_| Err(damaged("the PDF reader failed on it"))),
            Err(error) => Err(damaged(format!("no thread could be started to read it: {error}"))),
        }
    })
}

/// What lies on a page, in points.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Survey {
    /// Share of the page's area that images cover, 0 to about 1.
    image_share: f64,
    /// Pixels per point of the finest image that covers more than a sliver.
    image_scale: f64,
    /// Visible text or line art beside the images.
    vector: bool,
}

/// Pixels per point for a page.
fn choose_scale(survey: &Survey, width: f64, height: f64, max_pixels: u64) -> f64 {
    let long_side = width.max(height);
    let finest = MAX_SCAN_SCALE.max(MAX_SCAN_SIDE / long_side);
    let coarsest = DEFAULT_SCALE.min(MIN_SIDE / long_side);
    let is_scan = survey.image_share >= 0.5 && survey.image_scale > 0.0;
    let wanted = match (is_scan, survey.vector) {
        (true, false) => survey.image_scale.clamp(coarsest.min(finest), finest),
        (true, true) => survey.image_scale.min(finest).max(DEFAULT_SCALE),
        (false, _) => DEFAULT_SCALE,
    };
    let budget = (max_pixels as f64).min(MAX_RASTER_PIXELS);
    // A little less, because both sides are rounded to whole pixels.
    let affordable = (budget / (width * height)).sqrt() * 0.999;
    wanted.min(affordable).min(MAX_SIDE / long_side)
}

/// Whole pixels of a page at `scale`.
fn raster_size(width: f64, height: f64, scale: f64, max_pixels: u64) -> (f64, f64) {
    let whole = |side: f64| (side * scale).round().clamp(1.0, MAX_SIDE);
    let (width, height) = (whole(width), whole(height));
    // A page as thin as a hair: its short side was rounded up to a pixel, so the long one gives way.
    let longest = |other: f64| (max_pixels as f64 / other).floor().max(1.0);
    if width < height { (width, height.min(longest(width))) } else { (width.min(longest(height)), height) }
}

/// Interprets a page without painting it.
fn survey<'a>(page: &PdfPage<'a>, width: f64, height: f64) -> Survey {
    let bounds = Rect::new(0.0, 0.0, width, height);
    let cache = InterpreterCache::new();
    let transform: Affine = page.initial_transform(true).to_kurbo();
    let mut context = Context::new(transform, bounds, &cache, page.xref(), InterpreterSettings::default());
    let mut surveyor = Surveyor { bounds, survey: Survey::default() };
    interpret_page(page, &mut context, &mut surveyor);
    surveyor.survey
}

struct Surveyor {
    bounds: Rect,
    survey: Survey,
}

/// An image smaller than this share of the page (a logo, a stamp) does not decide the resolution.
const SLIVER: f64 = 0.02;

impl Device<'_> for Surveyor {
    fn draw_path(&mut self, path: &BezPath, props: DrawProps<'_>, mode: &DrawMode) {
        // White or page-sized rectangles are paper behind a scan, not line art.
        let covers = (props.transform.transform_rect_bbox(path.bounding_box())).intersect(self.bounds);
        let background = covers.area() >= 0.9 * self.bounds.area() && matches!(mode, DrawMode::Fill(_));
        self.survey.vector |= !background && covers.width() + covers.height() > 0.0;
    }

    fn draw_glyph_run(&mut self, _: &GlyphRun<'_, '_>, _: DrawProps<'_>, mode: &DrawMode) {
        // Invisible text is the text layer of a scan.
        self.survey.vector |= !matches!(mode, DrawMode::Invisible);
    }

    fn draw_image(&mut self, image: Image<'_, '_>, props: ImageDrawProps<'_>) {
        let pixels = Rect::new(0.0, 0.0, f64::from(image.width()), f64::from(image.height()));
        let share = props.transform.transform_rect_bbox(pixels).intersect(self.bounds).area() / self.bounds.area();
        if share.is_finite() && share > SLIVER {
            let [a, b, c, d, ..] = props.transform.as_coeffs();
            let point_per_pixel = a.hypot(b).min(c.hypot(d));
            self.survey.image_share += share;
            if point_per_pixel > 0.0 {
                self.survey.image_scale = self.survey.image_scale.max(1.0 / point_per_pixel);
            }
        }
    }

    fn push_clip_path(&mut self, _: &ClipPath) {}
    fn push_transparency_group(&mut self, _: f32, _: Option<SoftMask<'_>>, _: BlendMode) {}
    fn pop_clip(&mut self) {}
    fn pop_transparency_group(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    const A4: (f64, f64) = (595.0, 842.0);

    fn scale(survey: Survey, (width, height): (f64, f64), max_pixels: u64) -> f64 {
        choose_scale(&survey, width, height, max_pixels)
    }

    #[test]
    fn digital_pages_take_the_default_resolution() {
        assert_eq!(scale(Survey { vector: true, ..Survey::default() }, A4, 100_000_000), DEFAULT_SCALE);
        let logo = Survey { image_share: 0.1, image_scale: 8.0, vector: true };
        assert_eq!(scale(logo, A4, 100_000_000), DEFAULT_SCALE);
    }

    #[test]
    fn scans_keep_their_own_resolution_within_bounds() {
        let scan = |image_scale| Survey { image_share: 1.0, image_scale, vector: false };
        assert_eq!(scale(scan(150.0 / 72.0), A4, 100_000_000), 150.0 / 72.0);
        assert!((scale(scan(600.0 / 72.0), A4, 100_000_000) - MAX_SCAN_SCALE).abs() < 0.01);
        // A page whose points are the scan's pixels.
        assert_eq!(scale(scan(1.0), (2480.0, 3508.0), 100_000_000), 1.0);
        // A thumbnail of a page is enlarged a little, and a till receipt may be finer than 300 dpi.
        assert!(scale(scan(0.2), A4, 100_000_000) * A4.1 >= MIN_SIDE - 1.0);
        assert_eq!(scale(scan(6.0), (160.0, 400.0), 100_000_000), 6.0);
    }

    #[test]
    fn a_raster_never_breaks_the_limit() {
        for (size, max_pixels) in [((14_400.0, 14_400.0), 100_000_000), (A4, 1_000_000), ((1.0, 14_400.0), 10_000)] {
            let scale = scale(Survey::default(), size, max_pixels);
            let (width, height) = raster_size(size.0, size.1, scale, max_pixels);
            let pixels = width * height;
            assert!(pixels <= max_pixels as f64, "{size:?}: {pixels}");
        }
    }

    #[test]
    fn a_panic_stays_inside() {
        let result: Result<(), _> = on_large_stack(|| panic!("a decoder's bug"));
        assert!(matches!(result, Err(DocumentError::Damaged { what: "PDF", .. })));
    }
}
