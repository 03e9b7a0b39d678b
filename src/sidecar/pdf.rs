//! The searchable PDF: each page's image as it was received, and the text that was read from it, invisible, in
//! its place under it.
//!
//! Of images a new PDF is made: JPEG, CCITT and plain PNG data go into it byte for byte, all else without loss.
//! A PDF gets an addition behind its own bytes, of which none is changed: text for the pages that were read as
//! images. Written from front to back, a page at a time; nothing of a page is kept when the next one comes.

use super::pdf_font::Glyphs;
use super::pdf_image;
use super::pdf_objects::Objects;
use super::pdf_text::{Matrix, combine, commands};
use super::reading::{PageReading, Reading, Source};
use crate::document::{Document, DocumentError, Format, Picture, Place};
use std::fmt::Write as _;
use std::io::{self, Write};

/// What a resolution is believed in; others are made up, as cameras do.
const PLAUSIBLE_DPI: std::ops::RangeInclusive<f64> = 90.0..=2400.0;
/// Long side, in points, of a page whose resolution is not known: A4's.
const LONG_SIDE: f64 = 842.0;
/// No page is longer, readers say.
const LONGEST_SIDE: f64 = 14_400.0;
/// A page of which nothing could be read: A4.
const BLANK: [f64; 2] = [595.0, 842.0];

/// Why there is no PDF.
#[derive(Debug, thiserror::Error)]
pub enum PdfError {
    /// There can be none of this document; the sentence says why.
    #[error("no searchable PDF can be made: {0}")]
    Impossible(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<DocumentError> for PdfError {
    fn from(error: DocumentError) -> Self {
        PdfError::Impossible(error.to_string())
    }
}

/// Writes the searchable PDF of a document and its reading. After an error what was written is nothing.
pub fn write_pdf(reading: &Reading, document: &mut Document, out: &mut dyn Write) -> Result<(), PdfError> {
    if reading.pages.iter().any(|page| page.number == 0 || page.number > document.page_count()) {
        return Err(PdfError::Impossible("its pages are not those that were read".into()));
    }
    if document.format() == Format::Pdf { add(reading, document, out) } else { make(reading, document, out) }
}

/// How a file says whose it is, in a comment before its end.
fn mark(reading: &Reading) -> String {
    reading.job.map(|job| format!("%inkport job {job}\n")).unwrap_or_default()
}

fn make(reading: &Reading, document: &mut Document, out: &mut dyn Write) -> Result<(), PdfError> {
    let mut objects = Objects::new(out, 0, 1);
    objects.write_all(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")?;
    let (catalog, tree, font, info) = (objects.reserve(), objects.reserve(), objects.reserve(), objects.reserve());
    let mut glyphs = Glyphs::default();
    let mut kids = String::new();
    for page in &reading.pages {
        let (number, index) = (objects.reserve(), page.number - 1);
        if page.width == 0 || page.height == 0 {
            let [width, height] = BLANK;
            let body = format!("<< /Type /Page /Parent {tree} 0 R /MediaBox [0 0 {width} {height}] /Resources << >> >>");
            objects.object(number, &body)?;
        } else {
            // Of a file that ends early a reader's own idea of its pixels may be another.
            let as_it_is = !reading.truncated || document.format() == Format::Jpeg;
            let picture = if as_it_is { document.picture(index)? } else { document.pixels(index)? };
            write_page(page, &picture, (number, tree, font), &mut glyphs, &mut objects)?;
        }
        write!(kids, " {number} 0 R").expect("a string takes everything");
    }
    if glyphs.is_empty() {
        objects.object(font, "null")?;
    } else {
        glyphs.write(font, &mut objects)?;
    }
    objects.object(tree, &format!("<< /Type /Pages /Count {} /Kids [{kids} ] >>", reading.pages.len()))?;
    objects.object(catalog, &format!("<< /Type /Catalog /Pages {tree} 0 R >>"))?;
    let title: String = reading.file.name.encode_utf16().map(|unit| format!("{unit:04x}")).collect();
    objects.object(info, &format!("<< /Title <feff{title}> /Producer (Inkport {}) >>", env!("CARGO_PKG_VERSION")))?;
    Ok(objects.table(&format!("/Root {catalog} 0 R /Info {info} 0 R"), None, &mark(reading))?)
}

fn write_page(
    page: &PageReading,
    picture: &Picture<'_>,
    (number, tree, font): (u32, u32, u32),
    glyphs: &mut Glyphs,
    objects: &mut Objects<'_>,
) -> io::Result<()> {
    let place = upright(picture.orientation, (page.rotation + 360 - picture.rotation) % 360);
    let [width, height] = size_of(page, picture, &place);
    let mut names = String::new();
    let on_paper: Matrix = [width, 0.0, 0.0, -height, 0.0, height];
    let place = combine(&place, &on_paper);
    let to_points = [width / f64::from(page.width), 0.0, 0.0, -height / f64::from(page.height), 0.0, height];
    let mut drawn = commands(page, &to_points, "F", glyphs);
    let mut top = 0;
    for (index, piece) in picture.pieces.iter().enumerate() {
        let image = pdf_image::write(piece, picture.width, objects)?;
        write!(names, " /I{index} {image} 0 R").expect("a string takes everything");
        // An image fills the square from its lower left corner, upwards; the page's is counted downwards.
        let all = f64::from(picture.height);
        let (from, to) = (f64::from(top) / all, f64::from(top + piece.rows) / all);
        let [a, b, c, d, e, f] = combine(&[1.0, 0.0, 0.0, from - to, 0.0, to], &place);
        writeln!(drawn, "q {a:.5} {b:.5} {c:.5} {d:.5} {e:.5} {f:.5} cm /I{index} Do Q").expect("a string takes everything");
        top += piece.rows;
    }
    let contents = objects.reserve();
    objects.deflated(contents, "", |out| out.write_all(drawn.as_bytes()))?;
    objects.object(
        number,
        &format!(
            "<< /Type /Page /Parent {tree} 0 R /MediaBox [0 0 {width:.3} {height:.3}] /Contents {contents} 0 R \
             /Resources << /XObject <<{names} >> /Font << /F {font} 0 R >> >> >>"
        ),
    )
}

/// From the image as stored to the upright page, both with sides of 1 and y downwards: what the tag says, then a
/// clockwise turn.
fn upright(orientation: u8, turn: u16) -> Matrix {
    let by_tag: Matrix = match orientation {
        2 => [-1.0, 0.0, 0.0, 1.0, 1.0, 0.0],
        3 => [-1.0, 0.0, 0.0, -1.0, 1.0, 1.0],
        4 => [1.0, 0.0, 0.0, -1.0, 0.0, 1.0],
        5 => [0.0, 1.0, 1.0, 0.0, 0.0, 0.0],
        6 => [0.0, 1.0, -1.0, 0.0, 1.0, 0.0],
        7 => [0.0, -1.0, -1.0, 0.0, 1.0, 1.0],
        8 => [0.0, -1.0, 1.0, 0.0, 0.0, 1.0],
        _ => [1.0, 0.0, 0.0, 1.0, 0.0, 0.0],
    };
    combine(&by_tag, &turned(turn))
}

/// A clockwise turn of the square with sides of 1 and y downwards.
fn turned(turn: u16) -> Matrix {
    match turn {
        90 => [0.0, 1.0, -1.0, 0.0, 1.0, 0.0],
        180 => [-1.0, 0.0, 0.0, -1.0, 1.0, 1.0],
        270 => [0.0, -1.0, 1.0, 0.0, 0.0, 1.0],
        _ => [1.0, 0.0, 0.0, 1.0, 0.0, 0.0],
    }
}

/// Width and height of the page in points.
fn size_of(page: &PageReading, picture: &Picture<'_>, place: &Matrix) -> [f64; 2] {
    let pixels = [f64::from(page.width), f64::from(page.height)];
    let known = picture.dpi.filter(|dpi| dpi.iter().all(|dpi| PLAUSIBLE_DPI.contains(dpi)));
    let size = match known {
        Some([across, down]) => {
            let stored = [f64::from(picture.width) * 72.0 / across, f64::from(picture.height) * 72.0 / down];
            if place[0] == 0.0 { [stored[1], stored[0]] } else { stored }
        }
        None => pixels.map(|side| side * LONG_SIDE / pixels[0].max(pixels[1])),
    };
    let longest = size[0].max(size[1]);
    let by = if longest > LONGEST_SIDE { LONGEST_SIDE / longest } else { 1.0 };
    size.map(|side| (side * by).max(3.0))
}

fn add(reading: &Reading, document: &mut Document, out: &mut dyn Write) -> Result<(), PdfError> {
    if reading.pages.len() != document.page_count() as usize {
        return Err(PdfError::Impossible("its pages are some of a larger PDF's, of which nothing can be taken away".into()));
    }
    let base = document.base()?;
    out.write_all(document.bytes())?;
    let mut at = document.bytes().len() as u64;
    if document.bytes().last() != Some(&b'\n') {
        out.write_all(b"\n")?;
        at += 1;
    }
    let mut objects = Objects::new(out, at, base.free);
    let mut glyphs = Glyphs::default();
    let font = objects.reserve();
    for page in &reading.pages {
        let index = page.number - 1;
        // What the page tells by itself it tells already.
        if page.source == Source::Layer || page.lines.is_empty() || page.width == 0 || page.height == 0 {
            continue;
        }
        let place = document.place(index)?;
        let name = free_name(&place);
        let drawn = commands(page, &to_user(page, &place), &name, &mut glyphs);
        if drawn.is_empty() {
            continue;
        }
        let text = objects.reserve();
        objects.deflated(text, "", |out| out.write_all(drawn.as_bytes()))?;
        // Before all else on the page: under it, and in a state that nothing has changed yet.
        let Place { entries, contents, resources, fonts, object, .. } = place;
        objects.object_again(
            object,
            &format!(
                "<< {entries}/Contents [{text} 0 R{contents}]\n/Resources << {resources}/Font << {fonts}/{name} {font} 0 R >> >> >>"
            ),
        )?;
    }
    if glyphs.is_empty() {
        // Nothing to add: the document as it is.
        return Ok(objects.write_all(mark(reading).as_bytes())?);
    }
    glyphs.write(font, &mut objects)?;
    let mark = mark(reading);
    if base.is_stream {
        objects.table_stream(&base.trailer, base.previous, &mark)?;
    } else {
        objects.table(&base.trailer, Some(base.previous), &mark)?;
    }
    Ok(())
}

/// A name that no font of the page has.
fn free_name(place: &Place) -> String {
    let mut name = "Inkport".to_owned();
    while place.fonts.contains(&format!("/{name} ")) {
        name.push('X');
    }
    name
}

/// From pixels of the upright page to the page's own coordinates: back by the turn that made it upright, and to
/// where it is shown.
fn to_user(page: &PageReading, place: &Place) -> Matrix {
    let shares = [1.0 / f64::from(page.width), 0.0, 0.0, 1.0 / f64::from(page.height), 0.0, 0.0];
    let back = turned((360 - page.rotation % 360) % 360);
    combine(&combine(&shares, &back), &place.from_shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(matrix: &Matrix, x: f64, y: f64) -> [f64; 2] {
        let [.., e, f] = combine(&[0.0, 0.0, 0.0, 0.0, x, y], matrix);
        [e, f]
    }

    /// Where the stored image's upper left quarter goes, by EXIF's table.
    #[test]
    fn images_stand_upright() {
        let (x, y) = (0.25, 0.125);
        for (tag, place) in [
            (1, [x, y]),
            (2, [1.0 - x, y]),
            (3, [1.0 - x, 1.0 - y]),
            (4, [x, 1.0 - y]),
            (5, [y, x]),
            (6, [1.0 - y, x]),
            (7, [1.0 - y, 1.0 - x]),
            (8, [y, 1.0 - x]),
        ] {
            assert_eq!(moved(&upright(tag, 0), x, y), place, "{tag}");
        }
        for (turn, same) in [(90, 6), (180, 3), (270, 8)] {
            assert_eq!(upright(1, turn), upright(same, 0));
            assert_eq!(moved(&combine(&turned(turn), &turned(360 - turn)), x, y), [x, y]);
        }
    }
}
