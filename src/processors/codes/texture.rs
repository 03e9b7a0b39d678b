//! Where on a page a code may be, by a cheap look: blocks of 8 × 8 pixels and their gradients.
//!
//! Bars have strong gradients that run one way (structure tensor: coherent); a matrix of squares has strong ones
//! both ways, over an area without the gaps of text lines, and about as much ink as paper. Text is neither. What
//! is found here is only worth trying: too much costs time, nothing else.

use super::luma::Luma;

/// Side of a block in pixels.
const BLOCK: usize = 8;
/// Mean squared gradient from which a block is busy: an edge of 40 grey levels in it.
const BUSY: f32 = 250.0;
/// From here on gradients run one way.
const COHERENT: f32 = 0.7;
/// Bars whose directions differ by less belong together: 18°.
const SAME_WAY: f32 = 0.95;
/// Regions of each kind that are tried.
const MOST: usize = 24;

/// What a region may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Bars,
    Matrix,
}

/// A turned rectangle on the page.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Region {
    pub kind: Kind,
    pub center: [f32; 2],
    /// Unit vector: across the bars; to the right for a matrix.
    pub along: [f32; 2],
    pub length: f32,
    pub thickness: f32,
    /// The likelier, the larger.
    pub promise: f32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Block {
    xx: f32,
    yy: f32,
    xy: f32,
    lowest: u8,
    highest: u8,
    mean: f32,
}

/// Blocks of a page, and what they are with their neighbours.
struct Blocks {
    across: usize,
    down: usize,
    energy: Vec<f32>,
    coherence: Vec<f32>,
    /// Unit vectors of the gradients' direction, with the angle doubled: both ways are the same.
    way: Vec<[f32; 2]>,
    /// Share of ink between the darkest and the lightest of the neighbourhood.
    ink: Vec<f32>,
}

/// The regions that are worth trying, the most promising of each kind first.
pub(super) fn regions(page: &Luma) -> Vec<Region> {
    if page.width < 2 * BLOCK || page.height < 2 * BLOCK {
        return Vec::new();
    }
    let blocks = Blocks::of(page);
    let mut regions = blocks.bars();
    regions.extend(blocks.matrices());
    regions
}

impl Blocks {
    fn of(page: &Luma) -> Blocks {
        let (across, down) = (page.width / BLOCK, page.height / BLOCK);
        let mut raw = vec![Block::default(); across * down];
        for (by, row) in raw.chunks_exact_mut(across).enumerate() {
            for (bx, block) in row.iter_mut().enumerate() {
                *block = Block::at(page, bx * BLOCK, by * BLOCK);
            }
        }
        let (mut energy, mut coherence, mut way, mut ink) = (vec![], vec![], vec![], vec![]);
        for by in 0..down {
            for bx in 0..across {
                let mut sum = Block { lowest: 255, ..Block::default() };
                let mut count = 0.0;
                for y in by.saturating_sub(1)..(by + 2).min(down) {
                    for near in &raw[y * across + bx.saturating_sub(1)..y * across + (bx + 2).min(across)] {
                        sum.xx += near.xx;
                        sum.yy += near.yy;
                        sum.xy += near.xy;
                        sum.mean += near.mean;
                        sum.lowest = sum.lowest.min(near.lowest);
                        sum.highest = sum.highest.max(near.highest);
                        count += 1.0;
                    }
                }
                let own = &raw[by * across + bx];
                energy.push(own.xx + own.yy);
                let (difference, both) = (sum.xx - sum.yy, 2.0 * sum.xy);
                let strength = difference.hypot(both);
                coherence.push(strength / (sum.xx + sum.yy).max(1.0));
                way.push([difference / strength.max(1.0), both / strength.max(1.0)]);
                let span = f32::from(sum.highest) - f32::from(sum.lowest);
                ink.push((f32::from(sum.highest) - sum.mean / count) / span.max(1.0));
            }
        }
        Blocks { across, down, energy, coherence, way, ink }
    }

    fn bars(&self) -> Vec<Region> {
        let is_bar = |at: usize| self.energy[at] >= BUSY && self.coherence[at] >= COHERENT;
        let same_way = |a: usize, b: usize| self.way[a][0] * self.way[b][0] + self.way[a][1] * self.way[b][1] > SAME_WAY - 0.15;
        let mut regions: Vec<Region> = self.components(&is_bar, &same_way).iter().filter_map(|found| self.bar(found)).collect();
        regions.sort_by(|a, b| b.promise.total_cmp(&a.promise));
        regions.truncate(MOST);
        regions
    }

    fn bar(&self, blocks: &[usize]) -> Option<Region> {
        if blocks.len() < 3 {
            return None;
        }
        let sum = blocks.iter().fold([0.0, 0.0], |sum, &at| [sum[0] + self.way[at][0], sum[1] + self.way[at][1]]);
        let angle = f32::atan2(sum[1], sum[0]) / 2.0;
        let along = [angle.cos(), angle.sin()];
        let region = self.round(blocks, along, Kind::Bars);
        // A rule or an edge is long the other way.
        let filled = blocks.len() as f32 * (BLOCK * BLOCK) as f32 / (region.length * region.thickness);
        (region.length >= 5.0 * BLOCK as f32 && filled > 0.3)
            .then_some(Region { promise: blocks.len() as f32 * filled, ..region })
    }

    fn matrices(&self) -> Vec<Region> {
        let is_dense = |at: usize| self.energy[at] >= BUSY && self.solid(at);
        let any = |_: usize, _: usize| true;
        let mut regions: Vec<Region> = self.components(&is_dense, &any).iter().filter_map(|found| self.matrix(found)).collect();
        regions.sort_by(|a, b| b.promise.total_cmp(&a.promise));
        regions.truncate(MOST);
        regions
    }

    /// Whether nearly all round a block is busy too: text has gaps between its lines.
    fn solid(&self, at: usize) -> bool {
        let (bx, by) = (at % self.across, at / self.across);
        let (mut busy, mut all) = (0, 0);
        for y in by.saturating_sub(1)..(by + 2).min(self.down) {
            for x in bx.saturating_sub(1)..(bx + 2).min(self.across) {
                all += 1;
                busy += usize::from(self.energy[y * self.across + x] >= BUSY);
            }
        }
        // A corner of a region has four of nine.
        busy * 9 >= all * 4
    }

    fn matrix(&self, blocks: &[usize]) -> Option<Region> {
        if blocks.len() < 4 {
            return None;
        }
        let region = self.round(blocks, [1.0, 0.0], Kind::Matrix);
        let (long, short) = (region.length.max(region.thickness), region.length.min(region.thickness));
        if short < 2.0 * BLOCK as f32 || long > 12.0 * short {
            return None;
        }
        let ink = blocks.iter().map(|&at| self.ink[at]).sum::<f32>() / blocks.len() as f32;
        let filled = blocks.len() as f32 * (BLOCK * BLOCK) as f32 / (region.length * region.thickness);
        let promise = filled * (1.0 - 2.0 * (ink - 0.5).abs()) * (short / long).sqrt();
        (0.28..=0.72).contains(&ink).then_some(())?;
        (filled >= 0.4).then_some(Region { promise, ..region })
    }

    /// The rectangle round these blocks.
    fn round(&self, blocks: &[usize], along: [f32; 2], kind: Kind) -> Region {
        let (mut low, mut high) = ([f32::MAX; 2], [f32::MIN; 2]);
        for &at in blocks {
            let middle = [at % self.across, at / self.across].map(|step| (step as f32 + 0.5) * BLOCK as f32);
            let place = [middle[0] * along[0] + middle[1] * along[1], middle[1] * along[0] - middle[0] * along[1]];
            for axis in [0, 1] {
                low[axis] = low[axis].min(place[axis]);
                high[axis] = high[axis].max(place[axis]);
            }
        }
        let middle = [0, 1].map(|axis| (low[axis] + high[axis]) / 2.0);
        let center = [middle[0] * along[0] - middle[1] * along[1], middle[0] * along[1] + middle[1] * along[0]];
        let size = |axis: usize| high[axis] - low[axis] + BLOCK as f32;
        Region { kind, center, along, length: size(0), thickness: size(1), promise: 0.0 }
    }

    /// Blocks that hang together, at most two apart.
    fn components(&self, wanted: &dyn Fn(usize) -> bool, together: &dyn Fn(usize, usize) -> bool) -> Vec<Vec<usize>> {
        const REACH: usize = 2;
        let mut free: Vec<bool> = (0..self.energy.len()).map(wanted).collect();
        let mut components = Vec::new();
        for start in 0..free.len() {
            if !std::mem::take(&mut free[start]) {
                continue;
            }
            let (mut found, mut next) = (vec![start], 0);
            while let Some(&at) = found.get(next) {
                next += 1;
                let (bx, by) = (at % self.across, at / self.across);
                for y in by.saturating_sub(REACH)..(by + REACH + 1).min(self.down) {
                    for x in bx.saturating_sub(REACH)..(bx + REACH + 1).min(self.across) {
                        let near = y * self.across + x;
                        if free[near] && together(at, near) {
                            free[near] = false;
                            found.push(near);
                        }
                    }
                }
            }
            components.push(found);
        }
        components
    }
}

impl Block {
    /// Of the pixels from this one on; every second row is looked at.
    fn at(page: &Luma, left: usize, top: usize) -> Block {
        let (mut xx, mut yy, mut xy, mut sum) = (0i32, 0i32, 0i32, 0i32);
        let (mut lowest, mut highest) = (255u8, 0u8);
        let mut count = 0;
        for y in (top..top + BLOCK).step_by(2) {
            let row = &page.bytes[y * page.width..][..page.width];
            let above = &page.bytes[y.saturating_sub(1) * page.width..][..page.width];
            let below = &page.bytes[(y + 1).min(page.height - 1) * page.width..][..page.width];
            let (from, to) = (left.max(1), (left + BLOCK).min(page.width - 1));
            for x in from..to {
                let gx = (i32::from(row[x + 1]) - i32::from(row[x - 1])) / 2;
                let gy = (i32::from(below[x]) - i32::from(above[x])) / 2;
                xx += gx * gx;
                yy += gy * gy;
                xy += gx * gy;
                sum += i32::from(row[x]);
                lowest = lowest.min(row[x]);
                highest = highest.max(row[x]);
                count += 1;
            }
        }
        let mean = |sum: i32| sum as f32 / count.max(1) as f32;
        Block { xx: mean(xx), yy: mean(yy), xy: mean(xy), lowest, highest, mean: mean(sum) }
    }
}
