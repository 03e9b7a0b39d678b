//! Codes that machines read: QR, Data Matrix, PDF417, Aztec, and the bars of shops and offices.
//!
//! A page is looked at twice. First cheaply, for texture that bars or squares have and text has not ([`texture`]);
//! then only such regions are decoded, bars in strips that must agree ([`bars`]), squares in several sizes and
//! binarizations ([`matrix`]). Work is bounded by the page's pixels, not by what stands on it. The decoder is
//! rxing; its panics are contained here.

mod bars;
mod luma;
mod matrix;
mod settings;
mod texture;

pub use settings::Settings;

use super::{Finding, FromPixels};
use crate::document::Page;
use crate::ocr::{Quad, turn_quad};
use bars::Bars;
use luma::Luma;
use matrix::Matrices;
use rxing::BarcodeFormat;
use serde::{Deserialize, Serialize};
use std::panic::{AssertUnwindSafe, catch_unwind};
use texture::{Kind, Region, regions};

/// A machine-readable code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Code {
    /// `QR_CODE`, `DATA_MATRIX`, `PDF_417`, `AZTEC`, `CODE_128`, `EAN_13`, …: ZXing's names.
    pub format: String,
    pub text: String,
    /// Its number in the file.
    pub page: u32,
    /// In pixels of the upright page.
    pub quad: Quad,
}

/// Finds codes on pages.
#[derive(Default)]
pub struct Finder {
    bars: Bars,
    matrices: Matrices,
}

/// A code on the page as it came.
struct Found {
    format: BarcodeFormat,
    text: String,
    corners: [[f32; 2]; 4],
}

/// Codes of one page.
const MOST: usize = 64;
/// Pixels of a page from which it is looked at in half its size.
const LARGE: usize = 14_000_000;
/// Pixels that may be decoded for each pixel of the page, and for any page.
const BUDGET: (f32, f32) = (2.0, 2_000_000.0);
/// A page is looked at in its own size, in half and in a quarter of it: large codes have few edges for their area.
const LEVELS: usize = 3;
/// Short side of the smallest page that is looked at.
const LEAST: usize = 64;
/// A page of no more pixels may be one large code, blurred or without paper round it.
const SMALL: usize = 700_000;

impl FromPixels for Finder {
    fn look(&mut self, page: &Page, rotation: u16) -> Finding {
        let mut codes = self.find(page);
        for code in &mut codes {
            code.quad = upright(&turn_quad(&code.quad, rotation, page.width as f32, page.height as f32));
        }
        Finding::Codes(codes)
    }
}

impl Finder {
    /// The codes of a page, in reading order; quads on the page as it came.
    fn find(&mut self, page: &Page) -> Vec<Code> {
        let Some(mut luma) = Luma::of(page) else { return Vec::new() };
        let mut scale = 1.0;
        if luma.bytes.len() > LARGE {
            (luma, scale) = (luma.halved(), 2.0);
        }
        let mut codes: Vec<Code> = Vec::new();
        for level in 0..LEVELS {
            let known: Vec<Quad> = codes.iter().map(|code| Quad(code.quad.0.map(|corner| corner.map(|at| at / scale)))).collect();
            let found = self.level(&luma, &known, level == 0);
            add(&mut codes, found, page.number, scale);
            if luma.width.min(luma.height) < 2 * LEAST {
                break;
            }
            (luma, scale) = (luma.halved(), 2.0 * scale);
        }
        codes.sort_by(|a, b| a.quad.0[0][1].total_cmp(&b.quad.0[0][1]));
        codes
    }

    /// The codes of a page at one size, but for those that are known.
    fn level(&mut self, luma: &Luma, known: &[Quad], is_first: bool) -> Vec<Found> {
        let regions = regions(luma);
        let mut found: Vec<Found> = Vec::new();
        let is_known = |found: &[Found], [x, y]: [f32; 2]| {
            let corners = known.iter().map(|quad| &quad.0).chain(found.iter().map(|one| &one.corners));
            corners.map(bounds).any(|[left, top, right, bottom]| (left..=right).contains(&x) && (top..=bottom).contains(&y))
        };
        for region in regions.iter().filter(|region| region.kind == Kind::Bars) {
            if !is_known(&found, region.center) {
                found.extend(self.bars.read(luma, region));
            }
        }
        let mut budget = BUDGET.0 * luma.bytes.len() as f32 + if is_first { BUDGET.1 } else { BUDGET.1 / 4.0 };
        for region in regions.iter().filter(|region| region.kind == Kind::Matrix) {
            if !is_known(&found, region.center) {
                found.extend(self.matrices.read(luma, region, &mut budget));
            }
        }
        if is_first && found.is_empty() && luma.bytes.len() <= SMALL && !regions.is_empty() {
            found.extend(self.whole(luma, &mut budget));
        }
        found
    }

    /// The whole of a small page as one region.
    fn whole(&mut self, luma: &Luma, budget: &mut f32) -> Vec<Found> {
        let (width, height) = (luma.width as f32, luma.height as f32);
        let region = |kind, along, length, thickness| Region {
            kind,
            center: [(width - 1.0) / 2.0, (height - 1.0) / 2.0],
            along,
            length,
            thickness,
            promise: 0.0,
        };
        let found = self.matrices.read(luma, &region(Kind::Matrix, [1.0, 0.0], width, height), budget);
        if !found.is_empty() {
            return found;
        }
        let found = self.bars.read(luma, &region(Kind::Bars, [1.0, 0.0], width, height));
        if found.is_empty() { self.bars.read(luma, &region(Kind::Bars, [0.0, 1.0], height, width)) } else { found }
    }
}

/// Those that are not there yet, in pixels of the page.
fn add(codes: &mut Vec<Code>, found: Vec<Found>, page: u32, scale: f32) {
    for Found { format, text, corners } in found {
        let quad = upright(&Quad(corners.map(|corner| corner.map(|value| (value + 0.5) * scale))));
        let format = format_name(format);
        let again = |code: &Code| code.format == format && code.text == text && overlap(&code.quad, &quad);
        if codes.len() < MOST && !codes.iter().any(again) {
            codes.push(Code { format: format.to_owned(), text, page, quad });
        }
    }
}

/// As ZXing writes them.
fn format_name(format: BarcodeFormat) -> &'static str {
    match format {
        BarcodeFormat::AZTEC => "AZTEC",
        BarcodeFormat::CODABAR => "CODABAR",
        BarcodeFormat::CODE_39 => "CODE_39",
        BarcodeFormat::CODE_93 => "CODE_93",
        BarcodeFormat::CODE_128 => "CODE_128",
        BarcodeFormat::DATA_MATRIX => "DATA_MATRIX",
        BarcodeFormat::EAN_8 => "EAN_8",
        BarcodeFormat::EAN_13 => "EAN_13",
        BarcodeFormat::ITF => "ITF",
        BarcodeFormat::PDF_417 => "PDF_417",
        BarcodeFormat::QR_CODE => "QR_CODE",
        BarcodeFormat::MICRO_QR_CODE => "MICRO_QR_CODE",
        BarcodeFormat::RECTANGULAR_MICRO_QR_CODE => "RECTANGULAR_MICRO_QR_CODE",
        BarcodeFormat::UPC_A => "UPC_A",
        BarcodeFormat::UPC_E => "UPC_E",
        _ => "OTHER",
    }
}

/// The same corners, clockwise, the one nearest to the top left first.
fn upright(quad: &Quad) -> Quad {
    let mut corners = quad.0;
    let area: f32 = (0..4)
        .map(|at| {
            let ([ax, ay], [bx, by]) = (corners[at], corners[(at + 1) % 4]);
            ax * by - bx * ay
        })
        .sum();
    if area < 0.0 {
        corners.reverse();
    }
    let first = (0..4).min_by(|&a, &b| (corners[a][0] + corners[a][1]).total_cmp(&(corners[b][0] + corners[b][1]))).unwrap_or(0);
    corners.rotate_left(first);
    Quad(corners)
}

fn bounds(corners: &[[f32; 2]; 4]) -> [f32; 4] {
    corners
        .iter()
        .fold([f32::MAX, f32::MAX, f32::MIN, f32::MIN], |b, p| [b[0].min(p[0]), b[1].min(p[1]), b[2].max(p[0]), b[3].max(p[1])])
}

fn overlap(a: &Quad, b: &Quad) -> bool {
    let (a, b) = (bounds(&a.0), bounds(&b.0));
    a[0] <= b[2] && b[0] <= a[2] && a[1] <= b[3] && b[1] <= a[3]
}

/// Runs the decoder so that its panic, a bug that hostile pixels may reach, is no code.
fn contained<T>(decode: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(decode)).ok()
}

#[cfg(test)]
mod tests;
