//! The canvas that decoders paint on, and the orientation tag (EXIF and TIFF share its eight values)
//! that turns it upright.

use std::sync::Arc;

/// An RGB8 image in the making. White until painted, so that what a broken file lacks reads as blank paper.
pub(super) struct Canvas {
    pub width: u32,
    pub height: u32,
    pub rgb: Arc<[u8]>,
}

impl Canvas {
    /// A white canvas. The caller has checked `width * height` against the limits.
    pub fn white(width: u32, height: u32) -> Self {
        Canvas { width, height, rgb: std::iter::repeat_n(255, width as usize * height as usize * 3).collect() }
    }

    /// The pixels, to paint on.
    pub fn pixels(&mut self) -> &mut [u8] {
        Arc::get_mut(&mut self.rgb).expect("a canvas is not shared while it is painted")
    }

    /// Row `y`, `width * 3` bytes.
    pub fn row(&mut self, y: u32) -> &mut [u8] {
        let stride = self.width as usize * 3;
        let start = y as usize * stride;
        &mut self.pixels()[start..start + stride]
    }
}

impl Canvas {
    /// Enlarged to square pixels, from ones that are `ratio` times higher than wide. As it is where that
    /// would have more than `max_pixels`.
    pub fn squared(self, ratio: f64, max_pixels: u64) -> Canvas {
        let stretched = |side: u32, by: f64| ((f64::from(side) * by).round() as u32).max(side);
        let (width, height) = (stretched(self.width, 1.0 / ratio), stretched(self.height, ratio));
        if u64::from(width) * u64::from(height) > max_pixels {
            return self;
        }
        let across: Vec<Between> = Between::all(self.width, width).collect();
        let mut canvas = Canvas::white(width, height);
        let stride = self.width as usize * 3;
        for (y, down) in (0..height).zip(Between::all(self.height, height)) {
            let [upper, lower] = [down.first, down.second].map(|row| &self.rgb[row * stride..][..stride]);
            let out = canvas.row(y).chunks_exact_mut(3);
            for (pixel, along) in out.zip(&across) {
                for (channel, out) in pixel.iter_mut().enumerate() {
                    let at = |row: &[u8]| along.mix(row[along.first * 3 + channel], row[along.second * 3 + channel]);
                    *out = down.mix(at(upper), at(lower));
                }
            }
        }
        canvas
    }
}

/// A place between two neighbours.
struct Between {
    first: usize,
    second: usize,
    /// How much of the second, in 256ths.
    share: u32,
}

impl Between {
    /// The places in `from` pixels of the middles of `to` pixels.
    fn all(from: u32, to: u32) -> impl Iterator<Item = Between> {
        let last = f64::from(from.max(1) - 1);
        (0..to).map(move |index| {
            let place = ((f64::from(index) + 0.5) * f64::from(from) / f64::from(to) - 0.5).clamp(0.0, last);
            let first = place.floor();
            Between { first: first as usize, second: place.ceil() as usize, share: ((place - first) * 256.0) as u32 }
        })
    }

    fn mix(&self, first: u8, second: u8) -> u8 {
        let sum = u32::from(first) * (256 - self.share) + u32::from(second) * self.share;
        u8::try_from(sum / 256).expect("a mean of two bytes is a byte")
    }
}

/// The orientation tag: how the stored pixels must be turned to stand upright.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Orientation(u8);

impl Orientation {
    pub const UPRIGHT: Orientation = Orientation(1);

    /// Values outside 1..=8 occur in the wild and mean nothing.
    pub fn from_tag(value: u64) -> Self {
        match u8::try_from(value) {
            Ok(value @ 1..=8) => Orientation(value),
            _ => Orientation::UPRIGHT,
        }
    }

    /// 1 to 8.
    pub fn tag(self) -> u8 {
        self.0
    }

    /// The clockwise turn in it, in degrees; mirroring is not a turn.
    pub fn degrees(self) -> u16 {
        match self.0 {
            3 | 4 => 180,
            6 | 7 => 90,
            5 | 8 => 270,
            _ => 0,
        }
    }

    /// Turns a canvas upright.
    pub fn apply(self, canvas: Canvas) -> Canvas {
        let (w, h) = (canvas.width as usize, canvas.height as usize);
        // Source pixel (x, y) goes to `origin + x * step_x + y * step_y`, in pixels of the target.
        let (w_, h_) = (w.cast_signed(), h.cast_signed());
        let (origin, step_x, step_y) = match self.0 {
            2 => (w_ - 1, -1, w_),
            3 => (w_ * h_ - 1, -1, -w_),
            4 => (w_ * (h_ - 1), 1, -w_),
            5 => (0, h_, 1),
            6 => (h_ - 1, h_, -1),
            7 => (w_ * h_ - 1, -h_, -1),
            8 => (h_ * (w_ - 1), -h_, 1),
            _ => return canvas,
        };
        let (width, height) = if self.0 >= 5 { (canvas.height, canvas.width) } else { (canvas.width, canvas.height) };
        let mut target = Canvas::white(width, height);
        let pixels = target.pixels();
        // Square blocks keep both the rows read and the columns written in the cache.
        const BLOCK: usize = 64;
        for (block_y, block_x) in (0..h).step_by(BLOCK).flat_map(|y| (0..w).step_by(BLOCK).map(move |x| (y, x))) {
            for y in block_y..(block_y + BLOCK).min(h) {
                for x in block_x..(block_x + BLOCK).min(w) {
                    let from = (y * w + x) * 3;
                    let to = (origin + x.cast_signed() * step_x + y.cast_signed() * step_y).cast_unsigned() * 3;
                    pixels[to..to + 3].copy_from_slice(&canvas.rgb[from..from + 3]);
                }
            }
        }
        target
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `1 2 3 / 4 5 6` as stored; each tag's upright form after the EXIF standard.
    #[test]
    fn every_tag_turns_as_the_standard_says() {
        let expected: [(u64, u32, &[u8]); 8] = [
            (1, 3, &[1, 2, 3, 4, 5, 6]),
            (2, 3, &[3, 2, 1, 6, 5, 4]),
            (3, 3, &[6, 5, 4, 3, 2, 1]),
            (4, 3, &[4, 5, 6, 1, 2, 3]),
            (5, 2, &[1, 4, 2, 5, 3, 6]),
            (6, 2, &[4, 1, 5, 2, 6, 3]),
            (7, 2, &[6, 3, 5, 2, 4, 1]),
            (8, 2, &[3, 6, 2, 5, 1, 4]),
        ];
        for (tag, width, values) in expected {
            let stored = Canvas { width: 3, height: 2, rgb: (1..=6u8).flat_map(|v| [v; 3]).collect() };
            let upright = Orientation::from_tag(tag).apply(stored);
            assert_eq!(upright.width, width, "tag {tag}");
            assert_eq!(upright.rgb.iter().step_by(3).copied().collect::<Vec<_>>(), values, "tag {tag}");
        }
        assert_eq!(Orientation::from_tag(0), Orientation::UPRIGHT);
        assert_eq!(Orientation::from_tag(99), Orientation::UPRIGHT);
        assert_eq!(Orientation::from_tag(6).degrees(), 90);
    }
}
