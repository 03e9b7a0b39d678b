//! Bars: EAN, UPC, Code 128, 39 and 93, ITF, Codabar. A region is pulled straight, cut into strips, and each strip read by
//! itself: a code is what several of them agree on. Codes without a check digit need more agreement, because noise
//! makes them.

use super::luma::{Luma, Window};
use super::texture::Region;
use super::{Found, contained};
use rxing::common::BitArray;
use rxing::oned::{MultiFormatOneDReader, OneDReader};
use rxing::{BarcodeFormat, DecodeHints};
use std::collections::HashSet;

/// Paper wanted beside the bars, as a share of their length, and at least this many pixels.
const QUIET: (f32, f32) = (0.12, 24.0);
/// Columns of a strip: bars of a long code are then three pixels wide.
const COLUMNS: f32 = 1200.0;
/// A pixel of the page is never more than this many of a strip.
const FINEST: f32 = 4.0;
/// Strips of a region, and pixels of the page that one has.
const STRIPS: usize = 12;
const STRIP: f32 = 5.0;
/// Codes side by side in a region.
const BESIDE: usize = 3;
/// A symbol with less bars than this in a strip is none.
const FEWEST_EDGES: usize = 20;

pub(super) const FORMATS: [BarcodeFormat; 9] = [
    BarcodeFormat::EAN_13,
    BarcodeFormat::EAN_8,
    BarcodeFormat::UPC_A,
    BarcodeFormat::UPC_E,
    BarcodeFormat::CODE_128,
    BarcodeFormat::CODE_39,
    BarcodeFormat::CODE_93,
    BarcodeFormat::ITF,
    BarcodeFormat::CODABAR,
];

/// Reads strips.
pub(super) struct Bars {
    reader: MultiFormatOneDReader,
    hints: DecodeHints,
}

/// What one strip says.
struct Vote {
    format: BarcodeFormat,
    text: String,
    strip: usize,
    from: f32,
    to: f32,
}

impl Default for Bars {
    fn default() -> Self {
        let hints = DecodeHints {
            TryHarder: Some(true),
            PossibleFormats: Some(HashSet::from(FORMATS)),
            ReturnCodabarStartEnd: Some(false),
            ..DecodeHints::default()
        };
        Bars { reader: MultiFormatOneDReader::new(&hints), hints }
    }
}

impl Bars {
    /// The codes in a region.
    pub fn read(&mut self, page: &Luma, region: &Region) -> Vec<Found> {
        let quiet = (region.length * QUIET.0).max(QUIET.1);
        let length = region.length + 2.0 * quiet;
        let scale = (COLUMNS / length).clamp(0.5, FINEST);
        let strips = ((region.thickness / STRIP) as usize).clamp(3, STRIPS);
        // Rows are three to a strip; across, the window is finer than down.
        let rows = strips * 3;
        let mut window = Window::round(region.center, region.along, length, region.thickness, scale);
        let stretch = window.height as f32 / rows as f32;
        window.origin = [0, 1].map(|axis| window.origin[axis] + window.down[axis] * (stretch - 1.0) / 2.0);
        window.down = window.down.map(|part| part * stretch);
        window.height = rows;
        let seen = page.through(&window);
        let mut votes: Vec<Vote> = Vec::new();
        for strip in 0..strips {
            let mean = |x: usize| (0..3).map(|row| f32::from(seen.bytes[(strip * 3 + row) * seen.width + x])).sum::<f32>() / 3.0;
            let mut profile: Vec<f32> = (0..seen.width).map(mean).collect();
            for _ in 0..BESIDE {
                let Some(vote) = self.strip(&profile, strip) else { break };
                let (from, to) = (vote.from as usize, (vote.to as usize).min(profile.len() - 1));
                let paper = profile.iter().copied().fold(0.0, f32::max);
                profile[from.min(to)..=to].fill(paper);
                votes.push(vote);
            }
        }
        self.agreed(votes, strips, &window)
    }

    fn agreed(&self, votes: Vec<Vote>, strips: usize, window: &Window) -> Vec<Found> {
        let mut found: Vec<Found> = Vec::new();
        let mut rest = votes;
        while let Some(first) = rest.first() {
            let (format, text, middle) = (first.format, first.text.clone(), (first.from + first.to) / 2.0);
            let (same, others): (Vec<Vote>, Vec<Vote>) = rest
                .into_iter()
                .partition(|vote| vote.format == format && vote.text == text && vote.from <= middle && middle <= vote.to);
            rest = others;
            if same.len() < needed(format, &text, strips) {
                continue;
            }
            let count = same.len() as f32;
            let from = same.iter().map(|vote| vote.from).sum::<f32>() / count;
            let to = same.iter().map(|vote| vote.to).sum::<f32>() / count;
            let top = same.iter().map(|vote| vote.strip).min().unwrap_or(0) as f32 * 3.0;
            let bottom = same.iter().map(|vote| vote.strip).max().unwrap_or(0) as f32 * 3.0 + 2.0;
            let corners = [[from, top], [to, top], [to, bottom], [from, bottom]].map(|[x, y]| window.place(x, y));
            found.push(Found { format, text, corners });
        }
        found
    }

    /// What a row of pixels says.
    fn strip(&mut self, profile: &[f32], strip: usize) -> Option<Vote> {
        let width = profile.len();
        for bits in [midway(profile), sharpened(profile), level(profile)] {
            if bits.windows(2).filter(|pair| pair[0] != pair[1]).count() < FEWEST_EDGES {
                continue;
            }
            for inverted in [false, true] {
                for backwards in [false, true] {
                    let mut row = BitArray::with_size(width);
                    for (x, &ink) in bits.iter().enumerate() {
                        if ink != inverted {
                            row.set(if backwards { width - 1 - x } else { x });
                        }
                    }
                    let (reader, hints) = (&mut self.reader, &self.hints);
                    let Some(Ok(read)) = contained(|| reader.decode_row(0, &row, hints)) else { continue };
                    let places = read.getPoints().iter().map(|point| if backwards { width as f32 - point.x } else { point.x });
                    let (from, to) = places.fold((f32::MAX, 0.0f32), |(from, to), x| (from.min(x), to.max(x)));
                    let text = read.getText();
                    if from < to && !text.trim().is_empty() && is_bars(*read.getBarcodeFormat()) {
                        return Some(Vote {
                            format: *read.getBarcodeFormat(),
                            text: text.to_owned(),
                            strip,
                            from: from.max(0.0),
                            to,
                        });
                    }
                }
            }
        }
        None
    }
}

fn is_bars(format: BarcodeFormat) -> bool {
    FORMATS.contains(&format)
}

/// How many strips must agree, by how often noise makes such a code.
fn needed(format: BarcodeFormat, text: &str, strips: usize) -> usize {
    let weak = match format {
        BarcodeFormat::CODE_128 | BarcodeFormat::EAN_13 | BarcodeFormat::UPC_A | BarcodeFormat::CODE_93 => false,
        BarcodeFormat::CODE_39 => text.len() < 5,
        _ => true,
    };
    if weak { 3.max(strips / 3) } else { 2 }
}

/// Ink is what is darker than the middle between the lightest and the darkest nearby.
fn midway(profile: &[f32]) -> Vec<bool> {
    const CELL: usize = 16;
    let cells: Vec<(f32, f32)> = profile
        .chunks(CELL)
        .map(|cell| cell.iter().fold((f32::MAX, f32::MIN), |(low, high), &value| (low.min(value), high.max(value))))
        .collect();
    let span = profile.iter().fold((f32::MAX, f32::MIN), |(low, high), &value| (low.min(value), high.max(value)));
    let least = (span.1 - span.0) * 0.25;
    let near = |at: usize| {
        cells[at.saturating_sub(2)..(at + 3).min(cells.len())]
            .iter()
            .fold((f32::MAX, f32::MIN), |(low, high), cell| (low.min(cell.0), high.max(cell.1)))
    };
    let middles: Vec<f32> = (0..cells.len())
        .map(|at| {
            let (low, high) = near(at);
            // Where there is no edge, it is paper or ink as the whole row says.
            if high - low < least { (span.0 + span.1) / 2.0 } else { (low + high) / 2.0 }
        })
        .collect();
    profile.iter().enumerate().map(|(x, &value)| value < middles[x / CELL]).collect()
}

/// As `level`, with the edges made steeper: thin bars in a blur come out.
fn sharpened(profile: &[f32]) -> Vec<bool> {
    const REACH: usize = 3;
    let at = |x: usize| profile[x.min(profile.len() - 1)];
    let sharp: Vec<f32> =
        (0..profile.len()).map(|x| (3.0 * at(x) - at(x.saturating_sub(REACH)) - at(x + REACH)).clamp(-255.0, 510.0)).collect();
    level(&sharp)
}

/// Ink is what is darker than one level, halfway between the row's dark and light.
fn level(profile: &[f32]) -> Vec<bool> {
    let mut sorted = profile.to_vec();
    sorted.sort_by(f32::total_cmp);
    let at = |share: f32| sorted[((sorted.len() - 1) as f32 * share) as usize];
    let middle = (at(0.08) + at(0.92)) / 2.0;
    profile.iter().map(|&value| value < middle).collect()
}
