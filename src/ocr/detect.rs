//! Where the lines are: PP-OCR's detector, a network with differentiable binarization (DB).
//!
//! Owns: the size the page is looked at, the run of the model, and the way back to page pixels.
//! What the probability map means is `mask`'s.

use std::path::Path;

use super::mask::{MaskRules, regions};
use super::raster::{Cutter, Raster, fill_planes};
use super::runtime::{Model, Runtime};
use super::{EngineError, Quad};

/// Finds lines. A private trait, so that `two_stage` can be tested without a model.
pub(super) trait Detector: Send {
    /// Quads in page pixels, clockwise from the corner that is top left on the page; no order.
    fn detect(&mut self, page: &Raster<'_>) -> Result<Vec<Quad>, EngineError>;
}

/// The network's strides halve the image five times.
const MULTIPLE: usize = 32;

/// How large a page is looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct DetectorSize {
    /// The longer side is scaled down to this many pixels. Bounds memory, too.
    pub longest: usize,
    /// The shorter side is scaled up to this many: the letters of a small picture are too small.
    pub shortest: usize,
}

impl Default for DetectorSize {
    fn default() -> Self {
        DetectorSize { longest: 2000, shortest: 736 }
    }
}

impl DetectorSize {
    /// Width and height to look at for a page of this size: multiples of 32, at least one.
    fn fit(self, width: usize, height: usize) -> (usize, usize) {
        let (long, short) = (width.max(height) as f32, width.min(height) as f32);
        let down = (self.longest as f32 / long).min(1.0);
        let up = (self.shortest as f32 / (short * down)).max(1.0);
        // A strip of one line, ten times as wide as high, must not grow beyond the longest side.
        let scale = (down * up).min(self.longest as f32 / long);
        let most = (self.longest / MULTIPLE).max(1);
        let round = |side: usize| ((side as f32 * scale / MULTIPLE as f32).round() as usize).clamp(1, most) * MULTIPLE;
        (round(width), round(height))
    }
}

/// PP-OCR's detector.
pub(super) struct DbDetector {
    model: Model,
    cutter: Cutter,
    size: DetectorSize,
    rules: MaskRules,
}

impl DbDetector {
    pub(super) fn open(runtime: &Runtime, model: &Path) -> Result<Self, EngineError> {
        Ok(DbDetector {
            model: runtime.model(model)?,
            cutter: Cutter::default(),
            size: DetectorSize::default(),
            rules: MaskRules::default(),
        })
    }
}

impl Detector for DbDetector {
    fn detect(&mut self, page: &Raster<'_>) -> Result<Vec<Quad>, EngineError> {
        let (width, height) = self.size.fit(page.width, page.height);
        let rgb = self.cutter.resize(page, width, height)?;
        let mut planes = vec![0.0; 3 * width * height];
        fill_planes(&rgb, width, height, &mut planes, width);
        drop(rgb);
        let (sx, sy) = (page.width as f32 / width as f32, page.height as f32 / height as f32);
        let found = self.model.run([1, 3, height, width], &planes, |shape, map| {
            if map.len() == width * height {
                Ok(regions(map, width, height, &self.rules))
            } else {
                Err(format!("it answers {shape:?} for an image of {width} × {height}"))
            }
        })?;
        Ok(found.iter().map(|region| Quad(region.rectangle.corners().map(|[x, y]| [x * sx, y * sy]))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_fitted_between_the_two_sides() {
        let size = DetectorSize { longest: 2000, shortest: 736 };
        assert_eq!(size.fit(1654, 2339), (1408, 1984));
        assert_eq!(size.fit(460, 949), (736, 1504));
        assert_eq!(size.fit(1000, 1000), (992, 992));
        assert_eq!(size.fit(4000, 100), (1984, 64));
        assert_eq!(size.fit(1, 1), (736, 736));
        assert_eq!(size.fit(100_000, 1), (1984, 32));
    }
}
