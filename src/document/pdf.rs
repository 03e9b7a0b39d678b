//! PDF: a digital page gives its text layer as it is; others are made into images one at a time. A page
//! that is one scanned image gives that image itself; a page that is mainly images is rasterised by hayro at
//! their resolution, so that reading sees every scanned pixel and not one more; the rest at 200 dpi, where
//! the recognizer's line height is met by ordinary print.
//!
//! hayro bounds its recursion (50 levels of forms and patterns, 512 of objects) but not by the stack of
//! its caller, so every call into it runs on a thread of its own with a stack that is large enough;
//! joining that thread also keeps a panic inside.

use super::orient::Canvas;
use super::pdf_survey::{Survey, survey};
use super::text_layer::{Glyph, TextLayer, assemble};
use super::{Content, DocumentError, Limits, Page, pdf_guard, pdf_image};
use hayro::hayro_interpret::InterpreterSettings;
use hayro::hayro_interpret::hayro_syntax::object::{Stream, dict::keys::CONTENTS};
use hayro::hayro_interpret::hayro_syntax::{LoadPdfError, Pdf, page::Page as PdfPage};
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
/// A page that images cover to this share is a scan, whatever text stands on it.
const SCAN_SHARE: f64 = 0.5;
/// An image that covers this share of its page is the page.
const WHOLE_PAGE: f64 = 0.97;
/// Stack for one call into hayro. Only touched pages of it are ever memory.
const STACK_BYTES: usize = 64 << 20;
/// Unpacked drawing commands that may be held for pages that were read already.
const MAX_HELD: usize = 32 << 20;
/// The end marker is looked for in this many last bytes; mail gateways and printers append junk.
const END_WINDOW: usize = 4096;

pub(super) fn damaged(detail: impl Into<String>) -> DocumentError {
    DocumentError::Damaged { what: "PDF", detail: detail.into() }
}

/// An open PDF.
pub(super) struct PdfPages {
    pub(super) bytes: Arc<Vec<u8>>,
    pub(super) pdf: Pdf,
    count: usize,
    truncated: bool,
    /// Bytes of unpacked drawing commands that `pdf` holds. It keeps them as long as it lives.
    held: usize,
}

impl PdfPages {
    pub fn open(bytes: &Arc<Vec<u8>>, limits: &Limits) -> Result<Self, DocumentError> {
        pdf_guard::check_before_parsing(bytes)?;
        on_large_stack(|| {
            let pdf = parse(bytes)?;
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
            Ok(PdfPages { bytes: Arc::clone(bytes), pdf, count, truncated, held: 0 })
        })
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// Page `index`, counted from 0, as its text layer where that is good, else as an image.
    pub fn content(&mut self, index: usize, limits: &Limits) -> Result<Content, DocumentError> {
        let truncated = self.truncated;
        self.on(index, limits, |page| match page.text_layer(truncated) {
            Some(layer) => Content::Text(layer),
            None => Content::Image(page.image(truncated)),
        })
    }

    /// Page `index`, counted from 0, as an image.
    pub fn page(&mut self, index: usize, limits: &Limits) -> Result<Page, DocumentError> {
        let truncated = self.truncated;
        self.on(index, limits, |page| page.image(truncated))
    }

    /// Does something with a page. A document whose pages have unpacked to too much is opened anew, so
    /// that a long one needs no more memory than a short one.
    fn on<T: Send>(
        &mut self,
        index: usize,
        limits: &Limits,
        work: impl FnOnce(&Viewed<'_>) -> T + Send,
    ) -> Result<T, DocumentError> {
        on_large_stack(|| {
            if self.held > MAX_HELD {
                self.pdf = parse(&self.bytes)?;
                self.held = 0;
            }
            let done = self.view(index, limits).map(|page| work(&page));
            let commands = self.pdf.pages().get(index).and_then(PdfPage::page_stream);
            self.held += commands.map_or(0, <[u8]>::len);
            done
        })
    }

    /// Looks at a page and decides how large its image is.
    fn view(&self, index: usize, limits: &Limits) -> Result<Viewed<'_>, DocumentError> {
        let page = self.pdf.pages().get(index).ok_or_else(|| damaged(format!("page {} is not there", index + 1)))?;
        let (width, height) = page.render_dimensions();
        let points = (f64::from(width), f64::from(height));
        if !(points.0.is_finite() && points.1.is_finite() && points.0 > 0.0 && points.1 > 0.0) {
            return Err(damaged(format!("page {} has no size", index + 1)));
        }
        if self.truncated && page.raw().contains_key(CONTENTS) && page.page_stream().is_none() || is_lost(page) {
            return Err(damaged(format!("what stands on page {} cannot be unpacked", index + 1)));
        }
        let surveyed = survey(page, points.0, points.1);
        let scale = choose_scale(&surveyed.survey, points.0, points.1, limits.max_pixels);
        let pixels = raster_size(points.0, points.1, scale, limits.max_pixels);
        let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
        Ok(Viewed { page, number, points, pixels, survey: surveyed.survey, glyphs: surveyed.glyphs })
    }
}

/// A page that was looked at.
struct Viewed<'a> {
    page: &'a PdfPage<'a>,
    number: u32,
    /// Width and height.
    points: (f64, f64),
    /// Whole pixels of its image.
    pixels: (f64, f64),
    survey: Survey,
    glyphs: Option<Vec<Glyph>>,
}

impl Viewed<'_> {
    /// The text layer, unless the page is mainly an image, or its text is not to be trusted.
    fn text_layer(&self, truncated: bool) -> Option<TextLayer> {
        let glyphs = self.glyphs.clone().filter(|_| self.survey.image_share < SCAN_SHARE)?;
        let (runs, tally) = assemble(glyphs, [self.pixels.0 / self.points.0, self.pixels.1 / self.points.1]);
        let good = tally.is_good(self.survey.image_share, self.survey.outlines);
        let (width, height) = (self.pixels.0 as u32, self.pixels.1 as u32);
        good.then_some(TextLayer { number: self.number, width, height, runs, pictures: self.survey.pictures(), truncated })
    }

    fn image(&self, truncated: bool) -> Page {
        let canvas = self.scan().unwrap_or_else(|| self.raster());
        Page { number: self.number, width: canvas.width, height: canvas.height, rgb: canvas.rgb, rotation: 0, truncated }
    }

    /// The scanned image that is all there is on the page, if it has about the size that is wanted.
    fn scan(&self) -> Option<Canvas> {
        if self.survey.vector || self.survey.images != 1 || self.survey.image_share < WHOLE_PAGE {
            return None;
        }
        pdf_image::sole_image(self.page, self.points, self.pixels)
    }

    fn raster(&self) -> Canvas {
        let (width, height) = self.pixels;
        // hayro cuts the fraction off, so a hair is added to land on the pixel count that was meant.
        let exact = |pixels: f64, side: f64| ((pixels + 0.01) / side) as f32;
        let pixmap = hayro::render(
            self.page,
            &RenderCache::new(),
            &InterpreterSettings::default(),
            &RenderSettings::default(),
            &PixmapSettings { x_scale: exact(width, self.points.0), y_scale: exact(height, self.points.1), bg_color: WHITE },
        );
        // On an opaque white ground premultiplied and straight colours are the same.
        let mut canvas = Canvas::white(pixmap.width().into(), pixmap.height().into());
        for (pixel, rgb) in pixmap.data_as_u8_slice().chunks_exact(4).zip(canvas.pixels().chunks_exact_mut(3)) {
            rgb.copy_from_slice(&pixel[..3]);
        }
        canvas
    }
}

/// Whether a page has drawing commands of which nothing is left when they are unpacked. Nothing packed by
/// deflate makes 11 bytes at most.
fn is_lost(page: &PdfPage<'_>) -> bool {
    let packed = page.raw().get::<Stream<'_>>(CONTENTS);
    packed.is_some_and(|stream| stream.raw_data().len() > 11) && page.page_stream().is_none_or(<[u8]>::is_empty)
}

fn parse(bytes: &Arc<Vec<u8>>) -> Result<Pdf, DocumentError> {
    Pdf::new(Arc::clone(bytes)).map_err(|error| match error {
        LoadPdfError::Decryption(_) => DocumentError::Encrypted,
        LoadPdfError::Invalid => damaged("its structure cannot be read"),
    })
}

/// Runs `work` on a thread with [`STACK_BYTES`]; a panic in it comes back as damage.
pub(super) fn on_large_stack<T: Send>(work: impl FnOnce() -> Result<T, DocumentError> + Send) -> Result<T, DocumentError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("pdf".into()).stack_size(STACK_BYTES).spawn_scoped(scope, work);
        match thread {
            Ok(handle) => handle.join().unwrap_or_else(|_| Err(damaged("the PDF reader failed on it"))),
            Err(error) => Err(damaged(format!("no thread could be started to read it: {error}"))),
        }
    })
}

/// Pixels per point for a page.
fn choose_scale(survey: &Survey, width: f64, height: f64, max_pixels: u64) -> f64 {
    let long_side = width.max(height);
    let finest = MAX_SCAN_SCALE.max(MAX_SCAN_SIDE / long_side);
    let coarsest = DEFAULT_SCALE.min(MIN_SIDE / long_side);
    let is_scan = survey.image_share >= SCAN_SHARE && survey.image_scale > 0.0;
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
        let logo = Survey { image_share: 0.1, image_scale: 8.0, vector: true, ..Survey::default() };
        assert_eq!(scale(logo, A4, 100_000_000), DEFAULT_SCALE);
    }

    #[test]
    fn scans_keep_their_own_resolution_within_bounds() {
        let scan = |image_scale| Survey { image_share: 1.0, image_scale, ..Survey::default() };
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
