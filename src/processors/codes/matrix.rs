//! Squares: QR, Data Matrix, Aztec, PDF417. A region is tried as it is, larger or smaller, with two binarizations, and
//! inverted, until something is read; what was read is painted over and the rest tried again.

use super::luma::{Luma, Window};
use super::texture::Region;
use super::{Found, contained};
use rxing::aztec::AztecReader;
use rxing::common::{GlobalHistogramBinarizer, HybridBinarizer};
use rxing::datamatrix::DataMatrixReader;
use rxing::pdf417::PDF417Reader;
use rxing::qrcode::QRCodeReader;
use rxing::qrcode::cpp_port::QrReader;
use rxing::{BarcodeFormat, Binarizer, BinaryBitmap, DecodeHints, Luma8LuminanceSource, RXingResult, Reader};
use std::collections::HashSet;

/// Paper wanted round a code, in pixels of the page.
const QUIET: f32 = 12.0;
/// Codes in a region.
const MOST: usize = 8;
/// A window's short side that is large enough for any code; smaller ones are enlarged.
const AMPLE: f32 = 320.0;

const FORMATS: [BarcodeFormat; 4] =
    [BarcodeFormat::QR_CODE, BarcodeFormat::DATA_MATRIX, BarcodeFormat::PDF_417, BarcodeFormat::AZTEC];

/// Reads matrices.
pub(super) struct Matrices {
    hints: DecodeHints,
}

/// One way to look at a window.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Look {
    scale: f32,
    /// One threshold for all instead of one for each place.
    level: bool,
    inverted: bool,
}

impl Default for Matrices {
    fn default() -> Self {
        let hints =
            DecodeHints { TryHarder: Some(true), PossibleFormats: Some(HashSet::from(FORMATS)), ..DecodeHints::default() };
        Matrices { hints }
    }
}

impl Matrices {
    /// The codes in a region. `budget` is what may be looked at, in pixels; what was is taken from it.
    pub fn read(&self, page: &Luma, region: &Region, budget: &mut f32) -> Vec<Found> {
        let (length, thickness) = (region.length + 2.0 * QUIET, region.thickness + 2.0 * QUIET);
        let mut found = Vec::new();
        // What was read is painted over in each look, so the page stays as it is.
        let mut painted: Vec<[[f32; 2]; 4]> = Vec::new();
        for look in looks(length.min(thickness)) {
            let window = Window::round(region.center, region.along, length, thickness, look.scale);
            for _ in 0..MOST {
                let cost = (window.width * window.height) as f32;
                if *budget < cost || painted.len() >= MOST {
                    return found;
                }
                *budget -= cost;
                let mut seen = page.through(&window);
                for corners in &painted {
                    seen.paint(around(corners, &window), 255);
                }
                if look.inverted {
                    seen.invert();
                }
                let Some((format, text, corners)) = self.look(seen, look.level) else { break };
                let corners = corners.map(|[x, y]| window.place(x, y));
                painted.push(corners);
                found.push(Found { format, text, corners });
            }
            // The rest of the region is tried at the scale that read something.
            if !found.is_empty() {
                break;
            }
        }
        found
    }

    fn look(&self, seen: Luma, level: bool) -> Option<(BarcodeFormat, String, [[f32; 2]; 4])> {
        let (width, height) = (u32::try_from(seen.width).ok()?, u32::try_from(seen.height).ok()?);
        let source = Luma8LuminanceSource::new(seen.bytes, width, height).ok()?;
        let read = if level {
            self.decode(&mut BinaryBitmap::new(GlobalHistogramBinarizer::new(source)))
        } else {
            self.decode(&mut BinaryBitmap::new(HybridBinarizer::new(source)))
        }?;
        let corners = corners(&read)?;
        Some((*read.getBarcodeFormat(), read.getText().to_owned(), corners))
    }

    fn decode<B: Binarizer>(&self, image: &mut BinaryBitmap<B>) -> Option<RXingResult> {
        let hints = &self.hints;
        let good = |read: &RXingResult| !read.getText().is_empty() && corners(read).is_some();
        contained(|| QrReader.decode_with_hints(image, hints).ok())
            .flatten()
            .filter(good)
            .or_else(|| contained(|| DataMatrixReader.decode_with_hints(image, hints).ok()).flatten().filter(good))
            .or_else(|| contained(|| PDF417Reader.decode_with_hints(image, hints).ok()).flatten().filter(good))
            .or_else(|| contained(|| AztecReader.decode_with_hints(image, hints).ok()).flatten().filter(good))
            .or_else(|| contained(|| QRCodeReader.decode_with_hints(image, hints).ok()).flatten().filter(good))
    }
}

/// The ways to look at a window whose short side is this long, cheap ones first.
fn looks(short: f32) -> Vec<Look> {
    let larger = (AMPLE / short).clamp(1.5, 4.0);
    let look = |scale, level, inverted| Look { scale, level, inverted };
    let mut looks = vec![look(1.0, false, false), look(1.0, true, false)];
    if short < AMPLE {
        looks.extend([look(larger, false, false), look(larger, true, false)]);
    }
    if short > 160.0 {
        looks.push(look(0.5, false, false));
    }
    looks.extend([look(1.0, true, true), look(1.0, false, true)]);
    if short < AMPLE {
        looks.push(look(larger, true, true));
    }
    looks
}

/// Four corners of what was read, in pixels of the window.
fn corners(read: &RXingResult) -> Option<[[f32; 2]; 4]> {
    let points: Vec<[f32; 2]> = read.getPoints().iter().map(|point| [point.x, point.y]).collect();
    match points[..] {
        [a, b, c, d] => Some([a, b, c, d]),
        // Bottom left, top left, top right, as the old readers have it.
        [bottom, top, right] => {
            let last = [0, 1].map(|axis| bottom[axis] + right[axis] - top[axis]);
            Some([top, right, last, bottom])
        }
        [] | [_] | [_, _] => None,
        _ => {
            let edge = |axis: usize, pick: fn(f32, f32) -> f32| points.iter().map(|point| point[axis]).reduce(pick);
            let (left, right) = (edge(0, f32::min)?, edge(0, f32::max)?);
            let (top, bottom) = (edge(1, f32::min)?, edge(1, f32::max)?);
            Some([[left, top], [right, top], [right, bottom], [left, bottom]])
        }
    }
}

/// The upright rectangle round a quad of the page, in pixels of the window.
fn around(corners: &[[f32; 2]; 4], window: &Window) -> [f32; 4] {
    // The window is not turned, so its axes are the page's.
    let place =
        |point: &[f32; 2]| [(point[0] - window.origin[0]) / window.across[0], (point[1] - window.origin[1]) / window.down[1]];
    let mut bounds = [f32::MAX, f32::MAX, f32::MIN, f32::MIN];
    for point in corners.iter().map(place) {
        bounds = [bounds[0].min(point[0]), bounds[1].min(point[1]), bounds[2].max(point[0]), bounds[3].max(point[1])];
    }
    // Finder patterns' middles are three and a half modules inside.
    let margin = 0.1 * (bounds[2] - bounds[0]).max(bounds[3] - bounds[1]) + 3.0;
    [bounds[0] - margin, bounds[1] - margin, bounds[2] + margin, bounds[3] + margin]
}
