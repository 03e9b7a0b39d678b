//! Grey pixels, and views of them: a turned, scaled window on a page.

use crate::document::Page;

/// An 8-bit grey image, row major, 0 is black.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Luma {
    pub width: usize,
    pub height: usize,
    pub bytes: Vec<u8>,
}

impl Luma {
    /// `None` where the page's sizes contradict its bytes.
    pub fn of(page: &Page) -> Option<Luma> {
        let (width, height) = (page.width as usize, page.height as usize);
        if width.checked_mul(height)?.checked_mul(3)? != page.rgb.len() {
            return None;
        }
        let grey = |rgb: &[u8; 3]| ((u32::from(rgb[0]) * 77 + u32::from(rgb[1]) * 150 + u32::from(rgb[2]) * 29) >> 8) as u8;
        Some(Luma { width, height, bytes: page.rgb.as_chunks::<3>().0.iter().map(grey).collect() })
    }

    /// At half its sides, each pixel the mean of four.
    pub fn halved(&self) -> Luma {
        let (width, height) = ((self.width / 2).max(1), (self.height / 2).max(1));
        let mut bytes = Vec::with_capacity(width * height);
        for y in 0..height {
            let upper = &self.bytes[(2 * y).min(self.height - 1) * self.width..][..self.width];
            let lower = &self.bytes[(2 * y + 1).min(self.height - 1) * self.width..][..self.width];
            bytes.extend((0..width).map(|x| {
                let (left, right) = ((2 * x).min(self.width - 1), (2 * x + 1).min(self.width - 1));
                let sum = [upper[left], upper[right], lower[left], lower[right]].map(u32::from).iter().sum::<u32>();
                (sum / 4) as u8
            }));
        }
        Luma { width, height, bytes }
    }

    /// Linear sample; round the page there is paper. Coordinates are of pixels' middles.
    fn sample(&self, x: f32, y: f32) -> u8 {
        if x < -0.5 || y < -0.5 || x > self.width as f32 - 0.5 || y > self.height as f32 - 0.5 {
            return 255;
        }
        let x = x.clamp(0.0, (self.width - 1) as f32);
        let y = y.clamp(0.0, (self.height - 1) as f32);
        let (left, top) = (x as usize, y as usize);
        let (right, bottom) = ((left + 1).min(self.width - 1), (top + 1).min(self.height - 1));
        let (u, v) = (x - left as f32, y - top as f32);
        let at = |x: usize, y: usize| f32::from(self.bytes[y * self.width + x]);
        let upper = at(left, top) * (1.0 - u) + at(right, top) * u;
        let lower = at(left, bottom) * (1.0 - u) + at(right, bottom) * u;
        (upper * (1.0 - v) + lower * v + 0.5) as u8
    }

    /// What is seen through a window.
    pub fn through(&self, window: &Window) -> Luma {
        let mut bytes = Vec::with_capacity(window.width * window.height);
        for y in 0..window.height {
            for x in 0..window.width {
                let [px, py] = window.place(x as f32, y as f32);
                bytes.push(self.sample(px, py));
            }
        }
        Luma { width: window.width, height: window.height, bytes }
    }

    pub fn invert(&mut self) {
        self.bytes.iter_mut().for_each(|byte| *byte = !*byte);
    }

    /// Paints a rectangle (left, top, right, bottom; clipped) in one grey.
    pub fn paint(&mut self, [left, top, right, bottom]: [f32; 4], grey: u8) {
        let clip = |value: f32, size: usize| (value.max(0.0) as usize).min(size);
        let (left, right) = (clip(left, self.width), clip(right, self.width));
        for y in clip(top, self.height)..clip(bottom, self.height) {
            self.bytes[y * self.width + left.min(right)..y * self.width + right].fill(grey);
        }
    }
}

/// A window on a page: where its first pixel lies, and the steps from one pixel to the next, across and down.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Window {
    pub origin: [f32; 2],
    pub across: [f32; 2],
    pub down: [f32; 2],
    pub width: usize,
    pub height: usize,
}

impl Window {
    /// Round `center`, turned so that `along` (a unit vector) runs to the right; `length` and `thickness` in pixels of
    /// the page, `scale` pixels of the window to one of the page.
    pub fn round(center: [f32; 2], along: [f32; 2], length: f32, thickness: f32, scale: f32) -> Window {
        let size = |side: f32| ((side * scale).round() as usize).clamp(1, 8192);
        let (width, height) = (size(length), size(thickness));
        let across = along.map(|part| part / scale);
        let down = [-along[1] / scale, along[0] / scale];
        let back = [(width - 1) as f32 / 2.0, (height - 1) as f32 / 2.0];
        let origin = [0, 1].map(|axis| center[axis] - across[axis] * back[0] - down[axis] * back[1]);
        Window { origin, across, down, width, height }
    }

    /// Where a place in the window lies on the page.
    pub fn place(&self, x: f32, y: f32) -> [f32; 2] {
        [0, 1].map(|axis| self.origin[axis] + x * self.across[axis] + y * self.down[axis])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_turns_and_scales() {
        let mut page = Luma { width: 40, height: 40, bytes: vec![255; 1600] };
        page.paint([10.0, 18.0, 30.0, 22.0], 0);
        // Looked at from the side, the bar stands.
        let seen = page.through(&Window::round([19.5, 19.5], [0.0, 1.0], 10.0, 20.0, 2.0));
        assert_eq!((seen.width, seen.height), (20, 40));
        let row = |y: usize| &seen.bytes[y * 20..][..20];
        assert!(row(20)[9] < 10 && row(20)[1] > 245 && row(2)[10] < 10, "{:?}", row(20));
    }

    #[test]
    fn half_is_the_mean() {
        let page = Luma { width: 3, height: 2, bytes: vec![0, 100, 7, 200, 100, 9] };
        assert_eq!(page.halved(), Luma { width: 1, height: 1, bytes: vec![100] });
    }
}
