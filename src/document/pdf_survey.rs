//! What lies on a PDF page, found by interpreting it without painting: images and their resolution, line
//! art, and the glyphs that a person would see, with their places and meanings.
//!
//! Owns: which text is visible. Invisible text (an earlier OCR), text outside the clip or the page, text
//! in its ground's colour, text under something opaque, and the second stroke of a bold face that was
//! drawn twice are told apart here; what the rest says is put together in `text_layer`.

use super::text_layer::Glyph;
use hayro::hayro_interpret::hayro_syntax::object::dict::keys::{MASK, SMASK};
use hayro::hayro_interpret::hayro_syntax::page::Page as PdfPage;
use hayro::hayro_interpret::{
    BlendMode, ClipPath, Context, Device, DrawMode, DrawProps, Image, ImageDrawProps, InterpreterCache, InterpreterSettings,
    Paint, SoftMask, TransformExt,
    font::{Glyph as Letter, GlyphRun},
    hayro_cmap::{BfString, WritingMode},
    interpret_page,
};
use hayro::kurbo::{Affine, BezPath, PathEl, Point, Rect, Shape, Vec2};
use std::collections::HashMap;

/// Glyphs of one page that are looked at; a page with more is drawn and read instead.
const MAX_GLYPHS: usize = 100_000;
/// Opaque rectangles and images that are remembered.
const MAX_GROUNDS: usize = 4096;
/// Characters that one glyph may stand for. Ligatures stand for three at most, Arabic ones for some more.
const MAX_CHARACTERS: usize = 18;
/// Glyphs are measured in this many units to the em.
const UNITS_PER_EM: f64 = 1000.0;
/// An image smaller than this share of the page (a logo, a stamp) does not decide anything.
const SLIVER: f64 = 0.02;
/// Rectangles thinner than this many points are rules, not grounds.
const MIN_GROUND: f64 = 3.0;
/// An EAN-8 has 22 bars; a producer may draw a code's modules each on its own, or all in one path.
const FEWEST_BARS: usize = 16;
/// Less opacity than this is no ink.
const MIN_OPACITY: f32 = 0.1;
/// What is at least this opaque hides what it covers.
const OPAQUE: f32 = 0.95;
/// Text that differs from its ground by less than this in every channel cannot be seen.
const MIN_CONTRAST: u8 = 16;

/// What lies on a page, in points.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(super) struct Survey {
    /// Share of the page's area that images cover, 0 to about 1.
    pub image_share: f64,
    /// Pixels per point of the finest image that covers more than a sliver.
    pub image_scale: f64,
    /// Visible text or line art beside the images.
    pub vector: bool,
    /// Images of any size.
    pub images: usize,
    /// Small curved shapes: letters, where text was turned into outlines.
    pub outlines: usize,
    /// Filled shapes in one colour that are no larger than a code's module or bar.
    pub bars: usize,
}

impl Survey {
    /// Whether something besides text may be a code: an image, or as many filled shapes as the smallest code has bars.
    pub fn pictures(&self) -> bool {
        self.images > 0 || self.bars >= FEWEST_BARS
    }
}

/// A page's survey and the glyphs that can be seen on it, in the order in which they were drawn.
#[derive(Debug, Default)]
pub(super) struct Surveyed {
    pub survey: Survey,
    /// `None`: more than are looked at.
    pub glyphs: Option<Vec<Glyph>>,
}

/// Interprets a page of `width` by `height` points.
pub(super) fn survey<'a>(page: &PdfPage<'a>, width: f64, height: f64) -> Surveyed {
    let bounds = Rect::new(0.0, 0.0, width, height);
    let cache = InterpreterCache::new();
    let transform: Affine = page.initial_transform(true).to_kurbo();
    let mut context = Context::new(transform, bounds, &cache, page.xref(), InterpreterSettings::default());
    let mut surveyor = Surveyor::new(bounds);
    interpret_page(page, &mut context, &mut surveyor);
    let glyphs = (!surveyor.too_many).then(|| once(visible(surveyor.glyphs, &surveyor.grounds)));
    Surveyed { survey: surveyor.survey, glyphs }
}

type Rgb = [u8; 3];

/// A glyph as drawn, before it is known what lies under and over it.
struct Drawn {
    glyph: Glyph,
    /// `None` for a pattern.
    colour: Option<Rgb>,
}

/// Something opaque that text lies on or under.
struct Ground {
    area: Rect,
    /// `None` for an image.
    colour: Option<Rgb>,
    /// Glyphs drawn before it.
    before: usize,
}

struct Surveyor {
    bounds: Rect,
    survey: Survey,
    glyphs: Vec<Drawn>,
    grounds: Vec<Ground>,
    too_many: bool,
    /// What is left of the page by the clips in force.
    clips: Vec<Rect>,
    /// Opacity of the groups in force, each multiplied by those around it.
    opacity: Vec<f32>,
}

impl Surveyor {
    fn new(bounds: Rect) -> Self {
        let survey = Survey::default();
        Surveyor { bounds, survey, glyphs: vec![], grounds: vec![], too_many: false, clips: vec![], opacity: vec![] }
    }

    fn clip(&self) -> Rect {
        self.clips.last().copied().unwrap_or(self.bounds)
    }

    /// The colour and opacity of a paint as it will be seen.
    fn ink(&self, paint: &Paint<'_>) -> (Option<Rgb>, f32) {
        let group = self.opacity.last().copied().unwrap_or(1.0);
        match paint {
            Paint::Color(colour) => {
                let [r, g, b, alpha] = colour.to_rgba().to_rgba8();
                (Some([r, g, b]), f32::from(alpha) / 255.0 * group)
            }
            Paint::Pattern(_) => (None, group),
        }
    }

    fn ground(&mut self, area: Rect, colour: Option<Rgb>) {
        let area = area.intersect(self.clip());
        if area.width().min(area.height()) >= MIN_GROUND && self.grounds.len() < MAX_GROUNDS {
            self.grounds.push(Ground { area, colour, before: self.glyphs.len() });
        }
    }
}

impl Device<'_> for Surveyor {
    fn draw_path(&mut self, path: &BezPath, props: DrawProps<'_>, mode: &DrawMode) {
        let bounding_box = path.bounding_box();
        let whole = props.transform.transform_rect_bbox(bounding_box);
        let covers = whole.intersect(self.bounds);
        let filled = matches!(mode, DrawMode::Fill(_) | DrawMode::FillAndStroke(..));
        // White or page-sized rectangles are paper behind a scan, not line art.
        let background = covers.area() >= 0.9 * self.bounds.area() && filled;
        self.survey.vector |= !background && covers.width() + covers.height() > 0.0;
        if !filled {
            return;
        }
        let curved = path.elements().iter().any(|element| matches!(element, PathEl::QuadTo(..) | PathEl::CurveTo(..)));
        self.survey.bars +=
            if curved || covers.width().min(covers.height()) > 200.0 { 0 } else { path.elements().len().div_ceil(5) };
        self.survey.outlines += usize::from(curved && (2.0..40.0).contains(&covers.height()) && covers.width() < 60.0);
        let (colour, opacity) = self.ink(&props.paint);
        let plain = matches!(props.blend_mode, BlendMode::Normal) && props.soft_mask.is_none();
        // A rectangle: as large as the box around it, which no ring or frame is.
        let rectangle = path.area().abs() >= 0.97 * bounding_box.area();
        if plain && opacity >= OPAQUE && rectangle && whole.is_finite() {
            self.ground(whole, colour);
        }
    }

    fn draw_glyph_run(&mut self, run: &GlyphRun<'_, '_>, props: DrawProps<'_>, mode: &DrawMode) {
        // Invisible text is the text layer of a scan: an earlier OCR.
        if matches!(mode, DrawMode::Invisible) {
            return;
        }
        self.survey.vector = true;
        let (colour, opacity) = self.ink(&props.paint);
        let clip = self.clip();
        if opacity < MIN_OPACITY {
            return;
        }
        for glyph in place(run, props.transform) {
            if !clip.contains(glyph.middle()) {
                continue;
            }
            if self.glyphs.len() == MAX_GLYPHS {
                self.too_many = true;
                return;
            }
            self.glyphs.push(Drawn { glyph, colour });
        }
    }

    fn draw_image(&mut self, image: Image<'_, '_>, props: ImageDrawProps<'_>) {
        let pixels = Rect::new(0.0, 0.0, f64::from(image.width()), f64::from(image.height()));
        let area = props.transform.transform_rect_bbox(pixels);
        let share = area.intersect(self.bounds).area() / self.bounds.area();
        if !share.is_finite() {
            return;
        }
        self.survey.images += 1;
        if share > SLIVER {
            let [a, b, c, d, ..] = props.transform.as_coeffs();
            let point_per_pixel = a.hypot(b).min(c.hypot(d));
            self.survey.image_share += share;
            if point_per_pixel > 0.0 {
                self.survey.image_scale = self.survey.image_scale.max(1.0 / point_per_pixel);
            }
        }
        let Image::Raster(raster) = image else { return };
        let dict = raster.stream().dict();
        let masked = props.soft_mask.is_some() || dict.contains_key(SMASK) || dict.contains_key(MASK);
        let opacity = self.opacity.last().copied().unwrap_or(1.0);
        if !masked && opacity >= OPAQUE && matches!(props.blend_mode, BlendMode::Normal) {
            self.ground(area, None);
        }
    }

    fn push_clip_path(&mut self, clip: &ClipPath) {
        let area = clip.path.bounding_box().intersect(self.clip());
        self.clips.push(area);
    }

    fn pop_clip(&mut self) {
        self.clips.pop();
    }

    fn push_transparency_group(&mut self, opacity: f32, _: Option<SoftMask<'_>>, _: BlendMode) {
        let around = self.opacity.last().copied().unwrap_or(1.0);
        self.opacity.push(around * opacity);
    }

    fn pop_transparency_group(&mut self) {
        self.opacity.pop();
    }
}

/// Where a run's glyphs stand on the page, and what they say.
fn place(run: &GlyphRun<'_, '_>, transform: Affine) -> Vec<Glyph> {
    let vertical = run.writing_mode() == WritingMode::Vertical;
    let placed: Vec<(Affine, f64)> =
        run.glyphs().iter().map(|glyph| (transform * glyph.transform(), f64::from(advance(glyph).unwrap_or(0.0)))).collect();
    let stretched = is_stretched(&placed);
    let mut glyphs: Vec<Glyph> = Vec::with_capacity(placed.len());
    let mut type3 = false;
    for (glyph, &(place, advance)) in run.glyphs().iter().zip(&placed) {
        type3 |= matches!(**glyph, Letter::Type3(_));
        let origin = place * Point::ORIGIN;
        let up = place * Point::new(0.0, UNITS_PER_EM) - origin;
        let unit = place * Point::new(1.0, 0.0) - origin;
        let unit = if stretched { unit * (up.hypot() / UNITS_PER_EM / unit.hypot()) } else { unit };
        let along = unit * advance;
        let (origin, along, up) = if vertical {
            // The columns of vertical text stand on their middle. What is "up" for a line that runs down
            // the page is to its right.
            let wide = unit * UNITS_PER_EM;
            (origin + along * 0.5 + up * 0.88 - wide * 0.3, -up, wide)
        } else {
            (origin, along, up)
        };
        let sound = [origin.x, origin.y, along.x, along.y, up.x, up.y].iter().all(|value| value.is_finite());
        if sound && up.hypot() > 0.0 {
            glyphs.push(Glyph { text: meaning(glyph), origin, along, up });
        }
    }
    if type3 {
        set_size_by_width(&mut glyphs);
    }
    glyphs
}

/// The advance in thousandths of an em, by the document's own widths.
fn advance(glyph: &Letter<'_>) -> Option<f32> {
    match glyph {
        Letter::Outline(outline) => outline.advance_width(),
        Letter::Type3(type3) => type3.advance_width(),
    }
}

/// What a glyph stands for; `None` where the document does not say.
fn meaning(glyph: &Letter<'_>) -> Option<String> {
    Some(match glyph.as_unicode()? {
        BfString::Char(c) => c.to_string(),
        BfString::String(text) => text.chars().take(MAX_CHARACTERS).collect(),
    })
}

/// Glyphs of a font that is not in the file are stretched to the widths that the file gives. Those widths
/// are then to be measured by the font's size, not by the stretched glyph: tried on the next glyph's place.
fn is_stretched(placed: &[(Affine, f64)]) -> bool {
    let (mut as_is, mut by_size) = (0.0, 0.0);
    for pair in placed.windows(2) {
        let ([(place, advance), (next, _)], [a, b, c, d, ..]) = ([pair[0], pair[1]], pair[0].0.as_coeffs());
        let step = (next * Point::ORIGIN - place * Point::ORIGIN).hypot();
        as_is += (step - advance * a.hypot(b)).abs();
        by_size += (step - advance * c.hypot(d)).abs();
    }
    by_size < 0.9 * as_is
}

/// A font whose glyphs are drawings has any size that its producer liked; a letter is about half as wide
/// as its font is high.
fn set_size_by_width(glyphs: &mut [Glyph]) {
    let widths: Vec<f64> = glyphs.iter().map(|glyph| glyph.along.hypot()).filter(|&width| width > 0.0).collect();
    let mean = widths.iter().sum::<f64>() / widths.len().max(1) as f64;
    for glyph in glyphs {
        let size = glyph.up.hypot();
        if mean > 0.0 && !(0.7 * mean..6.0 * mean).contains(&size) {
            glyph.up *= 2.0 * mean / size;
        }
    }
}

/// The glyphs that are neither covered nor of their ground's colour.
fn visible(drawn: Vec<Drawn>, grounds: &[Ground]) -> Vec<Glyph> {
    const PAPER: Rgb = [255; 3];
    let seen = |index: usize, Drawn { glyph, colour }: Drawn| {
        let middle = glyph.middle();
        let around = grounds.iter().rev().find(|ground| ground.area.contains(middle));
        if around.is_some_and(|ground| ground.before > index) {
            return None;
        }
        let Some(colour) = colour else { return Some(glyph) };
        let hidden = match around.map_or(Some(PAPER), |ground| ground.colour) {
            Some(ground) => (0..3).all(|channel| colour[channel].abs_diff(ground[channel]) < MIN_CONTRAST),
            None => false,
        };
        (!hidden).then_some(glyph)
    };
    drawn.into_iter().enumerate().filter_map(|(index, drawn)| seen(index, drawn)).collect()
}

/// Leaves out a glyph that stands where the same one stands already: bold by drawing twice, shadows, text
/// that is filled and then stroked.
fn once(glyphs: Vec<Glyph>) -> Vec<Glyph> {
    /// In ems.
    const SAME_PLACE: f64 = 0.1;
    let mut places: HashMap<(String, i64, i64, i64), Vec2> = HashMap::new();
    let mut kept = Vec::with_capacity(glyphs.len());
    for glyph in glyphs {
        let Some(text) = glyph.text.clone() else {
            kept.push(glyph);
            continue;
        };
        let size = glyph.up.hypot();
        let cell = size * SAME_PLACE;
        let (x, y) = ((glyph.origin.x / cell).floor() as i64, (glyph.origin.y / cell).floor() as i64);
        // Bold faces drawn twice are of one size; a hundredth of it is forgiven.
        let key = |x: i64, y: i64| (text.clone(), (size * 10.0).round() as i64, x, y);
        let near = (-1..=1).flat_map(|dx| (-1..=1).map(move |dy| (dx, dy))).any(|(dx, dy)| {
            let other = places.get(&key(x.saturating_add(dx), y.saturating_add(dy)));
            other.is_some_and(|place| (*place - glyph.origin.to_vec2()).hypot() <= cell)
        });
        if !near {
            places.insert(key(x, y), glyph.origin.to_vec2());
            kept.push(glyph);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn glyph(text: &str, x: f64, y: f64) -> Glyph {
        Glyph { text: Some(text.into()), origin: Point::new(x, y), along: Vec2::new(6.0, 0.0), up: Vec2::new(0.0, -12.0) }
    }

    fn drawn(text: &str, x: f64, colour: Rgb) -> Drawn {
        Drawn { glyph: glyph(text, x, 100.0), colour: Some(colour) }
    }

    fn texts(glyphs: &[Glyph]) -> String {
        glyphs.iter().filter_map(|glyph| glyph.text.clone()).collect()
    }

    #[test]
    fn text_that_nobody_sees_is_left_out() {
        let black = [0; 3];
        let letters = vec![
            drawn("a", 10.0, black),
            drawn("w", 30.0, [255; 3]),
            drawn("i", 110.0, [250; 3]),
            drawn("b", 210.0, black),
            drawn("c", 310.0, [255; 3]),
        ];
        let ground = |from: f64, to: f64, colour, before| Ground { area: Rect::new(from, 50.0, to, 150.0), colour, before };
        let grounds = [
            // White on a dark bar can be seen; a bar drawn later hides; over an image nothing is known.
            ground(100.0, 150.0, Some([20, 30, 90]), 0),
            ground(200.0, 250.0, Some([0; 3]), 5),
            ground(300.0, 350.0, None, 0),
        ];
        assert_eq!(texts(&visible(letters, &grounds)), "aic");
    }

    #[test]
    fn a_letter_drawn_twice_is_one_letter() {
        let letters = vec![glyph("l", 10.0, 100.0), glyph("l", 12.7, 100.0), glyph("l", 10.4, 100.0), glyph("l", 10.0, 100.3)];
        assert_eq!(texts(&once(letters)), "ll");
    }

    #[test]
    fn widths_of_a_stretched_font_count_by_its_size() {
        let at = |x: f64, stretch: f64| Affine::new([0.012 * stretch, 0.0, 0.0, -0.012, x, 100.0]);
        assert!(!is_stretched(&[(at(0.0, 1.0), 500.0), (at(6.0, 1.0), 500.0)]));
        assert!(is_stretched(&[(at(0.0, 0.8), 500.0), (at(6.0, 1.3), 500.0), (at(12.0, 1.0), 500.0)]));
        assert!(!is_stretched(&[(at(0.0, 0.8), 500.0), (at(4.8, 0.8), 500.0)]), "a condensed text matrix is none");
    }

    #[test]
    fn drawn_letters_without_a_size_get_one_from_their_width() {
        let mut letters = [glyph("a", 0.0, 0.0), glyph("b", 6.0, 0.0)];
        letters.iter_mut().for_each(|letter| letter.up = Vec2::new(0.0, -0.24));
        set_size_by_width(&mut letters);
        assert!((letters[0].up - Vec2::new(0.0, -12.0)).hypot() < 1e-6);
    }
}
