//! A page's image as the document has it: the packed bytes themselves where another format can take them along
//! unchanged (JPEG, CCITT, a plain PNG), else its pixels.
//!
//! Owns: which bytes those are, how they are to be turned to stand upright, and how many of its pixels make an
//! inch. Nothing is checked here that reading the page has not checked before; only pages that were read are
//! asked for.

use super::image::png_is_complete;
use super::tiff_directory::{Directory, Tag, Tiff};
use super::{Format, Page};
use std::borrow::Cow;

/// The image of a page, in pieces from top to bottom, each as wide as the page.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture<'a> {
    pub pieces: Vec<Piece<'a>>,
    /// Pixels as stored, before it is turned.
    pub width: u32,
    pub height: u32,
    /// The orientation tag, 1 to 8, by which it is turned upright.
    pub orientation: u8,
    /// The clockwise turn in that, in degrees.
    pub rotation: u16,
    /// Stored pixels to the inch, across and down, where the document says so.
    pub dpi: Option<[f64; 2]>,
}

/// A stretch of rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece<'a> {
    pub data: Cow<'a, [u8]>,
    pub packing: Packing,
    pub rows: u32,
}

/// How a piece's bytes become pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packing {
    /// A whole JPEG.
    Jpeg {
        /// 1, 3 or 4 (CMYK).
        components: u8,
        /// Four inks as Photoshop writes them: 255 is no ink.
        inverted: bool,
        /// Three components that are red, green and blue although nothing but their names says so.
        plain_rgb: bool,
    },
    Ccitt {
        /// Negative: Group 4; 0: Group 3; positive: Group 3 with two-dimensional rows.
        k: i8,
        /// Every row begins on a byte.
        byte_aligned: bool,
        /// What the fax calls black is white.
        inverted: bool,
    },
    /// A zlib stream of rows with PNG's filters.
    Png { bits: u8, colours: Colours },
    /// 8-bit RGB as it is.
    Pixels,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Colours {
    Grey,
    Rgb,
    /// R G B of each index.
    Palette(Vec<u8>),
}

impl<'a> Picture<'a> {
    /// What the page looks like when nothing better can be had.
    pub(super) fn pixels(page: Page, dpi: Option<[f64; 2]>) -> Picture<'a> {
        let data = Cow::Owned(page.rgb.to_vec());
        let pieces = vec![Piece { data, packing: Packing::Pixels, rows: page.height }];
        // Its pixels are upright already.
        let dpi = dpi.map(|[x, y]| if page.rotation.is_multiple_of(180) { [x, y] } else { [y, x] });
        Picture { pieces, width: page.width, height: page.height, orientation: 1, rotation: page.rotation, dpi }
    }
}

/// A JPEG's or PNG's own bytes, if they can be taken along. `orientation` is its tag.
pub(super) fn packed(bytes: &[u8], format: Format, orientation: (u8, u16)) -> Option<Picture<'_>> {
    let (width, height, piece) = match format {
        Format::Jpeg => {
            let frame = Frame::of(bytes)?;
            (frame.width, frame.height, Piece { data: bytes.into(), packing: frame.packing()?, rows: frame.height })
        }
        Format::Png => {
            let (width, height, packing, data) = png(bytes)?;
            (width, height, Piece { data, packing, rows: height })
        }
        _ => return None,
    };
    let (orientation, rotation) = orientation;
    Some(Picture { pieces: vec![piece], width, height, orientation, rotation, dpi: resolution(bytes, format) })
}

/// The start-of-frame segment of a JPEG, and what else says how its samples are meant.
pub(super) struct Frame {
    pub width: u32,
    pub height: u32,
    components: u8,
    adobe: bool,
    /// The components are called R, G and B.
    named_rgb: bool,
}

impl Frame {
    pub fn of(bytes: &[u8]) -> Option<Frame> {
        let mut adobe = false;
        for (marker, body) in Segments::of(bytes) {
            match marker {
                0xee => adobe |= body.starts_with(b"Adobe"),
                0xc0..=0xc2 => {
                    let size = |at: usize| Some(u32::from(u16::from_be_bytes([*body.get(at)?, *body.get(at + 1)?])));
                    let components = *body.get(5)?;
                    let names: Vec<u8> = body.get(6..)?.iter().step_by(3).copied().take(components.into()).collect();
                    let (height, width) = (size(1)?, size(3)?);
                    return Some(Frame { width, height, components, adobe, named_rgb: names == *b"RGB" });
                }
                0xda => return None,
                _ => {}
            }
        }
        None
    }

    pub fn packing(&self) -> Option<Packing> {
        let known = matches!(self.components, 1 | 3 | 4) && self.width > 0 && self.height > 0;
        known.then_some(Packing::Jpeg {
            components: self.components,
            inverted: self.components == 4 && self.adobe,
            plain_rgb: self.named_rgb && !self.adobe,
        })
    }
}

/// The marker segments of a JPEG before its pixels, each with its body.
struct Segments<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Segments<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        Segments { bytes, at: 2 }
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match [*self.bytes.get(self.at)?, *self.bytes.get(self.at + 1)?] {
                [0xff, 0xff] => self.at += 1,
                [0xff, 0x01 | 0xd0..=0xd8] => self.at += 2,
                [0xff, marker] => {
                    let length = usize::from(u16::from_be_bytes([*self.bytes.get(self.at + 2)?, *self.bytes.get(self.at + 3)?]));
                    let body = self.bytes.get(self.at + 4..self.at + 2 + length.max(2))?;
                    self.at += 2 + length.max(2);
                    return Some((marker, body));
                }
                _ => return None,
            }
        }
    }
}

/// Chunks of a PNG, each with its kind.
fn chunks(bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = bytes.get(8..).unwrap_or_default();
    std::iter::from_fn(move || {
        let length = u32::from_be_bytes(rest.get(..4)?.try_into().ok()?) as usize;
        let (kind, body) = (rest.get(4..8)?, rest.get(8..8usize.checked_add(length)?)?);
        rest = rest.get(length + 12..).unwrap_or_default();
        Some((kind, body))
    })
}

/// A PNG whose packed rows a PDF may take as they are: whole, of at most 8 bits, neither interlaced nor see-through.
fn png(bytes: &[u8]) -> Option<(u32, u32, Packing, Cow<'_, [u8]>)> {
    if !png_is_complete(bytes).unwrap_or(false) {
        return None;
    }
    let (mut header, mut palette, mut data) = (None, Vec::new(), Vec::new());
    for (kind, body) in chunks(bytes) {
        match kind {
            b"IHDR" => header = Some(body),
            b"PLTE" => palette = body.to_vec(),
            b"tRNS" => return None,
            b"IDAT" => data.push(body),
            _ => {}
        }
    }
    let header: &[u8; 13] = header?.try_into().ok()?;
    let size = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let (bits, kind, interlaced) = (header[8], header[9], header[12]);
    let colours = match kind {
        0 => Colours::Grey,
        2 => Colours::Rgb,
        3 if palette.len() >= 3 => Colours::Palette(palette),
        _ => return None,
    };
    if bits > 8 || interlaced != 0 {
        return None;
    }
    let data = match &data[..] {
        [] => return None,
        [one] => Cow::Borrowed(*one),
        several => Cow::Owned(several.concat()),
    };
    Some((size(0), size(4), Packing::Png { bits, colours }, data))
}

/// Pixels to the inch, across and down, as a single image says it.
pub(super) fn resolution(bytes: &[u8], format: Format) -> Option<[f64; 2]> {
    match format {
        Format::Jpeg => jpeg_resolution(bytes),
        Format::Png => {
            let (_, body) = chunks(bytes).take_while(|(kind, _)| kind != b"IDAT").find(|(kind, _)| kind == b"pHYs")?;
            let per_metre = |at: usize| Some(f64::from(u32::from_be_bytes(body.get(at..at + 4)?.try_into().ok()?)));
            (body.get(8) == Some(&1)).then_some([per_metre(0)? * 0.0254, per_metre(4)? * 0.0254])
        }
        _ => None,
    }
}

fn jpeg_resolution(bytes: &[u8]) -> Option<[f64; 2]> {
    let mut found = None;
    for (marker, body) in Segments::of(bytes).take_while(|(marker, _)| *marker != 0xda) {
        if marker == 0xe0 && body.starts_with(b"JFIF\0") {
            let density = |at: usize| Some(f64::from(u16::from_be_bytes([*body.get(at)?, *body.get(at + 1)?])));
            let unit = match body.get(7) {
                Some(1) => 1.0,
                Some(2) => 2.54,
                _ => continue,
            };
            return Some([density(8)? * unit, density(10)? * unit]);
        }
        if marker == 0xe1
            && let Some(exif) = body.strip_prefix(b"Exif\0\0")
        {
            found = found.or_else(|| {
                let tiff = Tiff::new(exif).ok()?;
                let (directories, _) = tiff.pages(u32::MAX).ok()?;
                tagged_resolution(&tiff, *directories.first()?)
            });
        }
    }
    found
}

/// What a directory's tags say. TIFF and EXIF share them.
pub(super) fn tagged_resolution(tiff: &Tiff<'_>, directory: Directory) -> Option<[f64; 2]> {
    let unit = match tiff.number(directory, Tag::ResolutionUnit) {
        None | Some(2) => 1.0,
        Some(3) => 2.54,
        _ => return None,
    };
    Some([tiff.fraction(directory, Tag::XResolution)? * unit, tiff.fraction(directory, Tag::YResolution)? * unit])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{Document, Limits};

    fn picture(name: &str) -> (Vec<Piece<'static>>, u8, Option<[f64; 2]>) {
        let path = format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
        let document = Document::open(std::fs::read(path).unwrap(), &Limits::default()).unwrap();
        let Picture { pieces, orientation, dpi, .. } = document.picture(0).unwrap();
        let owned = |piece: Piece<'_>| Piece { data: Cow::Owned(piece.data.into_owned()), ..piece };
        (pieces.into_iter().map(owned).collect(), orientation, dpi)
    }

    #[test]
    fn packed_bytes_are_taken_along() {
        let jpeg = |components, inverted, plain_rgb| Packing::Jpeg { components, inverted, plain_rgb };
        for (name, packing) in [
            ("letter-exif6.jpg", jpeg(1, false, false)),
            ("formats/rgb-exif6.jpg", jpeg(3, false, false)),
            ("formats/grey.jpg", jpeg(1, false, false)),
            ("formats/rgb-cmyk-adobe.jpg", jpeg(4, true, false)),
            ("formats/rgb-ycck.jpg", jpeg(4, true, false)),
            ("formats/bw-g4.tif", Packing::Ccitt { k: -1, byte_aligned: false, inverted: true }),
            ("formats/bw-g4-lsb.tif", Packing::Ccitt { k: -1, byte_aligned: false, inverted: true }),
            ("formats/bw.png", Packing::Png { bits: 1, colours: Colours::Grey }),
            ("formats/grey.png", Packing::Png { bits: 8, colours: Colours::Grey }),
        ] {
            let (pieces, ..) = picture(name);
            assert!(pieces.iter().all(|piece| piece.packing == packing), "{name}: {:?}", pieces[0].packing);
        }
        let (pieces, orientation, _) = picture("letter-exif6.jpg");
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/letter-exif6.jpg");
        assert!(*pieces[0].data == std::fs::read(path).unwrap()[..] && orientation == 6);
    }

    #[test]
    fn the_rest_is_pixels() {
        for name in [
            "formats/rgb-16.png", "formats/rgb-alpha.png", "formats/rgb-interlaced.png", "formats/rgb.gif",
            "formats/rgb-planes.tif",
        ] {
            let (pieces, orientation, _) = picture(name);
            assert!(pieces.len() == 1 && pieces[0].packing == Packing::Pixels && orientation == 1, "{name}");
        }
    }
}
