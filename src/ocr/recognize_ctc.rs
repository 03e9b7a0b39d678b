//! What the lines say: PP-OCR's recognizer.
//!
//! Owns: batches of line images of like width, the run of the model. What its output means is
//! `ctc`'s.

use std::path::Path;

use super::EngineError;
use super::ctc::{Alphabet, Reading, decode};
use super::language::Letters;
use super::raster::{LINE_HEIGHT, LineImage, fill_planes};
use super::runtime::{Model, Runtime};

/// Reads line images. A private trait, so that `two_stage` can be tested without a model and a
/// recognizer of another kind can take this one's place.
pub(super) trait Recognizer: Send {
    /// One reading per line, in order, of the letters that may be there.
    fn recognize(&mut self, lines: &[LineImage], letters: &Letters) -> Result<Vec<Reading>, EngineError>;

    /// Batches that it has run so far.
    fn batches(&self) -> u32 {
        0
    }
}

/// Pixels that one step of the output covers.
const STEP: usize = 8;

/// Batch widths are multiples of this, so that lines of nearly one width share a batch. More padding
/// than that was seen to cost both time and spaces between words.
const BUCKET: usize = 32;

/// A batch holds no more than this many columns of pixels; its output (18,710 numbers for every
/// 8 columns) would otherwise outgrow everything else.
const BATCH_COLUMNS: usize = 2560;

/// PP-OCR's recognizer.
pub(super) struct CtcRecognizer {
    model: Model,
    alphabet: Alphabet,
    batches: u32,
}

impl CtcRecognizer {
    /// Loads the model and its alphabet, and holds the two against each other.
    pub(super) fn open(runtime: &Runtime, model: &Path) -> Result<Self, EngineError> {
        let loaded = runtime.model(model)?;
        let characters = loaded
            .metadata("character")
            .ok_or_else(|| EngineError::Model(format!("{} carries no list of characters", model.display())))?;
        let mut recognizer = CtcRecognizer { model: loaded, alphabet: Alphabet::parse(&characters)?, batches: 0 };
        recognizer.recognize(&[LineImage { width: BUCKET, rgb: vec![255; BUCKET * LINE_HEIGHT * 3] }], &Letters::default())?;
        Ok(recognizer)
    }

    fn run(&mut self, lines: &[&LineImage], width: usize, letters: &Letters) -> Result<Vec<Reading>, EngineError> {
        let per_line = 3 * LINE_HEIGHT * width;
        // Zero is the grey between black and white: what the network was trained to see as padding.
        let mut planes = vec![0.0; lines.len() * per_line];
        for (line, planes) in lines.iter().zip(planes.chunks_exact_mut(per_line)) {
            fill_planes(&line.rgb, line.width, LINE_HEIGHT, planes, width);
        }
        let alphabet = &self.alphabet;
        self.model.run([lines.len(), 3, LINE_HEIGHT, width], &planes, |shape, probabilities| {
            if shape.len() != 3 || shape[0] != lines.len() as i64 || shape[2] != alphabet.classes() as i64 {
                let (lines, classes) = (lines.len(), alphabet.classes());
                return Err(format!("it answers {shape:?} for {lines} lines and an alphabet of {classes}"));
            }
            let each = probabilities.len() / lines.len();
            Ok(lines
                .iter()
                .zip(probabilities.chunks_exact(each.max(1)))
                .map(|(line, probabilities)| decode(probabilities, alphabet, letters, line.width as f32 / STEP as f32))
                .collect())
        })
    }
}

impl Recognizer for CtcRecognizer {
    fn recognize(&mut self, lines: &[LineImage], letters: &Letters) -> Result<Vec<Reading>, EngineError> {
        let mut readings = vec![Reading::default(); lines.len()];
        for (width, batch) in batches(&lines.iter().map(|line| line.width).collect::<Vec<_>>()) {
            self.batches = self.batches.wrapping_add(1);
            let images: Vec<&LineImage> = batch.iter().map(|&index| &lines[index]).collect();
            for (index, reading) in batch.iter().zip(self.run(&images, width, letters)?) {
                readings[*index] = reading;
            }
        }
        Ok(readings)
    }

    fn batches(&self) -> u32 {
        self.batches
    }
}

/// Which lines share a batch, and its width. Sorted by width, so that little is padded.
fn batches(widths: &[usize]) -> Vec<(usize, Vec<usize>)> {
    let mut order: Vec<usize> = (0..widths.len()).collect();
    order.sort_by_key(|&index| widths[index]);
    let mut batches: Vec<(usize, Vec<usize>)> = Vec::new();
    for index in order {
        let width = widths[index].div_ceil(BUCKET) * BUCKET;
        match batches.last_mut() {
            // Widths rise, so a batch whose first line fits its bucket has no narrower one.
            Some((shared, batch)) if *shared == width && (batch.len() + 1) * width <= BATCH_COLUMNS => batch.push(index),
            _ => batches.push((width, vec![index])),
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_hold_every_line_once_and_pad_less_than_a_bucket() {
        let widths = [300, 20, 310, 1500, 90, 305, 4000, 20];
        let batches = batches(&widths);
        let mut seen: Vec<usize> = batches.iter().flat_map(|(_, batch)| batch.iter().copied()).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..widths.len()).collect::<Vec<_>>());
        for (width, batch) in &batches {
            assert!(batch.len() == 1 || batch.len() * width <= BATCH_COLUMNS);
            for &index in batch {
                assert!(*width >= widths[index] && *width < widths[index] + BUCKET);
            }
        }
        assert!(batches.len() < widths.len());
    }
}
