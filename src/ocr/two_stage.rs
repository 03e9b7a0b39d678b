//! The engine made of a detector and a recognizer.
//!
//! Owns: the order of the stages for one page, which way up it is read, the batches between the
//! stages (memory follows the batch, not the page), and the way from readings to lines. The stages
//! themselves stand behind private traits, so that another detector or recognizer can take their
//! place and tests can put in fakes.

use std::path::PathBuf;
use std::time::Instant;

use super::ctc::Reading;
use super::detect::{DbDetector, Detector};
use super::layout::{arrange, turn_quad};
use super::orient::{LineClassifier, Orienter, runs_sideways};
use super::raster::{Cutter, LineImage, Raster, line_width};
use super::recognize_ctc::{CtcRecognizer, Recognizer};
use super::runtime::Runtime;
use super::{Confidence, Engine, EngineError, Line, PageText, Quad, StageTimes, Word};
use crate::document::Page;

/// Readings below this mean probability are dirt, pictures and rules, not text.
const MIN_CONFIDENCE: f32 = 0.5;

/// A line is turned on its own only when the classifier is this sure.
const SURELY_TURNED: f32 = 0.9;

/// Lines that vote on which way up the page is.
const VOTERS: usize = 12;

/// Line images held at once, in columns of pixels: some 12 MB.
const HELD_COLUMNS: usize = 80_000;

/// Where an engine's files are. The manifest tells which ones belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineFiles {
    /// ONNX Runtime's shared library.
    pub runtime: PathBuf,
    /// The model that finds lines.
    pub detector: PathBuf,
    /// The model that reads them; it carries its alphabet.
    pub recognizer: PathBuf,
    /// The model that tells upright lines from upside-down ones.
    pub orientation: PathBuf,
}

/// PP-OCR: detector, orientation classifier, CTC recognizer.
pub struct TwoStage {
    name: &'static str,
    models: Vec<String>,
    detector: Box<dyn Detector>,
    orienter: Box<dyn Orienter>,
    recognizer: Box<dyn Recognizer>,
    cutter: Cutter,
}

impl TwoStage {
    /// Loads the runtime and the models; `threads` is what each model may use, 0 for all cores.
    ///
    /// # Errors
    /// [`EngineError::Model`] naming the file that is missing, broken, or not the model it should be.
    pub fn open(files: &EngineFiles, threads: usize) -> Result<Self, EngineError> {
        let runtime = Runtime::load(&files.runtime, threads)?;
        let stem = |path: &PathBuf| path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(TwoStage {
            name: "ppocr",
            models: [&files.detector, &files.orientation, &files.recognizer].map(stem).to_vec(),
            detector: Box::new(DbDetector::open(&runtime, &files.detector)?),
            orienter: Box::new(LineClassifier::open(&runtime, &files.orientation)?),
            recognizer: Box::new(CtcRecognizer::open(&runtime, &files.recognizer)?),
            cutter: Cutter::default(),
        })
    }

    fn read_page(&mut self, page: &Page) -> Result<PageText, EngineError> {
        let (boxes, rotation, timing) = self.read_boxes(page)?;
        let (lines, skew) = arrange(boxes);
        let (width, height) = if rotation % 180 == 0 { (page.width, page.height) } else { (page.height, page.width) };
        Ok(PageText { lines, width, height, rotation, skew, timing })
    }

    /// Everything but the reading order: recognized boxes in pixels of the upright page, and the
    /// turn that made it upright.
    fn read_boxes(&mut self, page: &Page) -> Result<(Vec<Line>, u16, StageTimes), EngineError> {
        let raster = Raster::of(page)?;
        let begun = Instant::now();
        let found = self.detector.detect(&raster)?;
        let detect = begun.elapsed();
        let begun = Instant::now();
        let rotation = self.rotation(&raster, &found)?;
        let quads = found.iter().map(|quad| along_text(quad, rotation)).collect();
        let read = self.read_lines(&raster, quads)?;
        let (width, height) = (raster.width as f32, raster.height as f32);
        let boxes = read.into_iter().map(|(quad, reading)| line(&turn_quad(&quad, rotation, width, height), reading)).collect();
        Ok((boxes, rotation, StageTimes { detect, recognize: begun.elapsed() }))
    }

    /// The clockwise turn that makes the page upright.
    fn rotation(&mut self, raster: &Raster<'_>, found: &[Quad]) -> Result<u16, EngineError> {
        let sideways = runs_sideways(found);
        // Of a sideways page, suppose that its top is on the left.
        let supposed = if sideways { 90 } else { 0 };
        let mut voters: Vec<Quad> = found.iter().map(|quad| along_text(quad, supposed)).collect();
        voters.retain(|quad| quad.length() > 2.0 * quad.thickness());
        voters.sort_by(|a, b| b.length().total_cmp(&a.length()));
        voters.truncate(VOTERS);
        let images = voters.iter().map(|quad| self.cutter.cut(raster, quad)).collect::<Result<Vec<_>, _>>()?;
        let votes = self.orienter.upside_down(&images)?;
        let against = votes.iter().sum::<f32>();
        if votes.is_empty() || against <= 0.3 * votes.len() as f32 {
            return Ok(supposed);
        }
        // The classifier has doubts: let the recognizer read some of them both ways.
        let some: Vec<LineImage> = images.into_iter().take(VOTERS / 2).collect();
        let turned: Vec<LineImage> = some.iter().map(LineImage::turned).collect();
        let trust = |readings: Vec<Reading>| -> f32 {
            readings.iter().map(|r| r.confidence * r.text.chars().count().min(20) as f32).sum()
        };
        let as_is = trust(self.recognizer.recognize(&some)?);
        let upside_down = trust(self.recognizer.recognize(&turned)?);
        Ok(if upside_down > as_is { supposed + 180 } else { supposed })
    }

    /// Reads the quads' lines. Returns those that hold text, in no order, each with its quad
    /// beginning at the text's own top left.
    fn read_lines(&mut self, raster: &Raster<'_>, mut quads: Vec<Quad>) -> Result<Vec<(Quad, Reading)>, EngineError> {
        quads.sort_by_cached_key(line_width);
        let mut read = Vec::with_capacity(quads.len());
        let mut rest = quads.as_slice();
        while !rest.is_empty() {
            let mut columns = 0;
            let take = rest.iter().take_while(|quad| {
                columns += line_width(quad);
                columns <= HELD_COLUMNS
            });
            let (now, later) = rest.split_at(take.count().max(1));
            rest = later;
            let mut held = now.to_vec();
            let mut images = now.iter().map(|quad| self.cutter.cut(raster, quad)).collect::<Result<Vec<_>, _>>()?;
            self.turn_vertical(&mut held, &mut images)?;
            let readings = self.recognizer.recognize(&images)?;
            read.extend(
                held.into_iter()
                    .zip(readings)
                    .filter(|(_, reading)| !reading.text.is_empty() && reading.confidence >= MIN_CONFIDENCE),
            );
        }
        Ok(read)
    }

    /// Lines that run up or down an upright page may run either way: the classifier decides each.
    fn turn_vertical(&mut self, quads: &mut [Quad], images: &mut [LineImage]) -> Result<(), EngineError> {
        let vertical: Vec<usize> = (0..quads.len()).filter(|&i| is_vertical(&quads[i])).collect();
        let seen: Vec<LineImage> = vertical.iter().map(|&i| images[i].clone()).collect();
        for (index, turned) in vertical.into_iter().zip(self.orienter.upside_down(&seen)?) {
            if turned > SURELY_TURNED {
                quads[index] = quads[index].relabelled(2);
                images[index] = images[index].turned();
            }
        }
        Ok(())
    }
}

impl Engine for TwoStage {
    fn read(&mut self, pages: &[&Page]) -> Vec<Result<PageText, EngineError>> {
        pages.iter().map(|page| self.read_page(page)).collect()
    }

    fn name(&self) -> &'static str {
        self.name
    }

    fn models(&self) -> Vec<String> {
        self.models.clone()
    }
}

/// Whether the text of this quad runs up or down the page it is given on.
fn is_vertical(quad: &Quad) -> bool {
    let (from, to) = quad.midline();
    (to[1] - from[1]).abs() > (to[0] - from[0]).abs()
}

/// A detected quad, its corners renamed so that they begin at the top left of the text, if the page
/// is made upright by `rotation`. A box much higher than wide on the upright page is taken for a
/// line that runs down it.
fn along_text(quad: &Quad, rotation: u16) -> Quad {
    let turns = usize::from(rotation / 90);
    // Corner 0 is top left on the page as it came; after a turn by 90° corner 3 is.
    let upright = quad.relabelled(4 - turns);
    if upright.thickness() >= 1.5 * upright.length() { upright.relabelled(3) } else { upright }
}

fn line(quad: &Quad, reading: Reading) -> Line {
    let words = reading
        .words
        .into_iter()
        .map(|span| Word { text: span.text, confidence: Confidence::new(span.confidence), quad: quad.slice(span.from, span.to) })
        .collect();
    Line { text: reading.text, confidence: Confidence::new(reading.confidence), quad: *quad, words, block: 0 }
}
