//! Which way up the text stands.
//!
//! Owns: the classifier that tells a line from one turned by 180°, and the page's verdict out of
//! the shapes of its lines and the classifier's votes on a few of them.

use std::path::Path;

use super::raster::{LINE_HEIGHT, LineImage, fill_planes};
use super::runtime::{Model, Runtime};
use super::{EngineError, Quad};

/// Tells upright lines from upside-down ones. A private trait, as the other two stages'.
pub(super) trait Orienter: Send {
    /// Per line the probability that it stands on its head.
    fn upside_down(&mut self, lines: &[LineImage]) -> Result<Vec<f32>, EngineError>;
}

/// Width of the classifier's input.
const WIDTH: usize = 192;

/// Lines per run.
const BATCH: usize = 16;

/// PaddleOCR's classifier of text line orientation.
pub(super) struct LineClassifier {
    model: Model,
}

impl LineClassifier {
    pub(super) fn open(runtime: &Runtime, model: &Path) -> Result<Self, EngineError> {
        Ok(LineClassifier { model: runtime.model(model)? })
    }
}

impl Orienter for LineClassifier {
    fn upside_down(&mut self, lines: &[LineImage]) -> Result<Vec<f32>, EngineError> {
        let mut answers = Vec::with_capacity(lines.len());
        for batch in lines.chunks(BATCH) {
            let per_line = 3 * LINE_HEIGHT * WIDTH;
            let mut planes = vec![0.0; batch.len() * per_line];
            for (line, planes) in batch.iter().zip(planes.chunks_exact_mut(per_line)) {
                let (width, rgb) = squeezed(line);
                fill_planes(&rgb, width, LINE_HEIGHT, planes, WIDTH);
            }
            answers.extend(self.model.run([batch.len(), 3, LINE_HEIGHT, WIDTH], &planes, |shape, probabilities| {
                let pairs = probabilities.as_chunks::<2>().0;
                if pairs.len() != batch.len() {
                    return Err(format!("it answers {shape:?} for {} lines", batch.len()));
                }
                Ok(pairs.iter().map(|pair| pair[1]).collect::<Vec<_>>())
            })?);
        }
        Ok(answers)
    }
}

/// The first part of a line, at most the classifier's width: letters tell the direction, and a long
/// line squeezed into 192 pixels has none left.
fn squeezed(line: &LineImage) -> (usize, Vec<u8>) {
    let width = line.width.min(WIDTH);
    (width, line.rgb.chunks_exact(3 * line.width).flat_map(|row| &row[..3 * width]).copied().collect())
}

/// Whether most of the text runs up or down the page instead of across it. Only lines clearly
/// longer than thick have a say, each with its length.
pub(super) fn runs_sideways(quads: &[Quad]) -> bool {
    let (mut across, mut along) = (0.0, 0.0);
    for quad in quads {
        let (length, thickness) = (quad.length(), quad.thickness());
        if length > 2.0 * thickness {
            across += length;
        } else if thickness > 2.0 * length {
            along += thickness;
        }
    }
    along > across
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quad(width: f32, height: f32) -> Quad {
        Quad([[0.0, 0.0], [width, 0.0], [width, height], [0.0, height]])
    }

    #[test]
    fn long_lines_decide_and_single_letters_do_not() {
        assert!(!runs_sideways(&[]));
        assert!(!runs_sideways(&[quad(300.0, 20.0), quad(20.0, 250.0), quad(10.0, 20.0), quad(10.0, 20.0)]));
        assert!(runs_sideways(&[quad(20.0, 300.0), quad(20.0, 250.0), quad(400.0, 20.0)]));
    }

    #[test]
    fn the_classifier_sees_the_beginning_of_a_line() {
        let line = LineImage { width: 300, rgb: (0..LINE_HEIGHT * 300).flat_map(|i| [(i % 300 % 256) as u8; 3]).collect() };
        let (width, rgb) = squeezed(&line);
        assert_eq!((width, rgb.len()), (WIDTH, 3 * WIDTH * LINE_HEIGHT));
        assert_eq!(&rgb[3 * WIDTH..3 * WIDTH + 3], &[0, 0, 0]);
    }
}
