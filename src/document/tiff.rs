//! TIFF: pages decoded one at a time. Strips and tiles; 1 to 16 bits a sample; grey, RGB, palette, CMYK,
//! YCbCr and the lightness of Lab; planes together or apart; every scheme that scanners and fax servers
//! write. A strip that is damaged or missing stays white and marks the page as truncated.

use super::image::over_white;
use super::orient::{Canvas, Orientation};
use super::picture::{Frame, Packing, Picture, Piece, tagged_resolution};
use super::tiff_codec::{Compression, jpeg, jpeg_samples, jpeg_stream, undo_differencing, unpack};
use super::tiff_directory::{Directory, Tag, Tiff, Values};
use super::{DocumentError, Limits, Page};
use std::borrow::Cow;

/// Samples of one pixel, extras included; real files have up to five.
const MAX_SAMPLES: u64 = 16;
/// What a strip may unpack to, for each pixel of the limit: four samples of 16 bits.
const MAX_BYTES_PER_PIXEL: u64 = 8;

pub(super) fn damaged(detail: &str) -> DocumentError {
    DocumentError::Damaged { what: "TIFF", detail: detail.to_owned() }
}

fn unread(detail: String) -> DocumentError {
    DocumentError::Unread { what: "TIFF", detail }
}

/// The pages of a TIFF, found once when it is opened.
pub(super) struct TiffPages {
    directories: Vec<Directory>,
    whole: bool,
}

impl TiffPages {
    pub fn open(bytes: &[u8], limits: &Limits) -> Result<Self, DocumentError> {
        let (directories, whole) = Tiff::new(bytes)?.pages(limits.max_pages)?;
        if directories.is_empty() {
            return Err(if whole { DocumentError::Empty } else { damaged("it ends before its first page") });
        }
        Ok(TiffPages { directories, whole })
    }

    pub fn count(&self) -> usize {
        self.directories.len()
    }

    /// Decodes page `index`, counted from 0.
    pub fn page(&self, bytes: &[u8], index: usize, limits: &Limits) -> Result<Page, DocumentError> {
        let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
        let tiff = Tiff::new(bytes)?;
        let directory = self.directories[index];
        let image = Image::new(&tiff, directory, number, limits)?;
        let (canvas, missing) = image.decode(&tiff, directory, limits)?;
        let canvas = match image.pixel_shape(&tiff, directory) {
            Some(ratio) => canvas.squared(ratio, limits.max_pixels),
            None => canvas,
        };
        let orientation = Orientation::from_tag(tiff.number(directory, Tag::Orientation).unwrap_or(1));
        let upright = orientation.apply(canvas);
        // Where the chain of pages is cut, the last page is the one that says so.
        let cut = !self.whole && index + 1 == self.count();
        Ok(Page {
            number,
            width: upright.width,
            height: upright.height,
            rgb: upright.rgb,
            rotation: orientation.degrees(),
            truncated: missing || cut,
        })
    }
}

/// A page in more strips than this is unpacked.
const MAX_PIECES: u64 = 64;

impl TiffPages {
    /// Page `index`, counted from 0, as its strips are packed, where a PDF could take them; and its pixels to
    /// the inch.
    pub fn packed<'a>(&self, bytes: &'a [u8], index: usize, limits: &Limits) -> (Option<Picture<'a>>, Option<[f64; 2]>) {
        let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
        let Ok(tiff) = Tiff::new(bytes) else { return (None, None) };
        let directory = self.directories[index];
        let dpi = tagged_resolution(&tiff, directory);
        let Ok(image) = Image::new(&tiff, directory, number, limits) else { return (None, dpi) };
        let Some(pieces) = image.pieces(&tiff, directory) else { return (None, dpi) };
        let orientation = Orientation::from_tag(tiff.number(directory, Tag::Orientation).unwrap_or(1));
        let (tag, rotation) = (orientation.tag(), orientation.degrees());
        let (width, height) = (image.width, image.height);
        (Some(Picture { pieces, width, height, orientation: tag, rotation, dpi }), dpi)
    }
}

/// How samples become colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Photometric {
    WhiteIsZero,
    BlackIsZero,
    Rgb,
    Palette,
    Cmyk,
    YCbCr,
    /// Lab of both kinds: its lightness is what a page is read by.
    Lightness,
}

impl Photometric {
    /// Samples that make a colour; what follows them is extra.
    fn channels(self) -> usize {
        match self {
            Photometric::WhiteIsZero | Photometric::BlackIsZero | Photometric::Palette | Photometric::Lightness => 1,
            Photometric::Rgb | Photometric::YCbCr => 3,
            Photometric::Cmyk => 4,
        }
    }
}

/// A sample beyond the colour that covers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Alpha {
    None,
    /// Colours were multiplied with it already.
    Associated,
    Straight,
}

/// One page's layout, read from its directory and checked against the limits.
struct Image {
    number: u32,
    width: u32,
    height: u32,
    bits: u32,
    samples: usize,
    photometric: Photometric,
    alpha: Alpha,
    compression: Compression,
    reverse_bits: bool,
    planar: bool,
    differencing: bool,
    /// Width and height of a strip or tile.
    chunk: (u32, u32),
    /// 256 entries or fewer, R G B.
    palette: Vec<[u8; 3]>,
}

impl Image {
    fn new(tiff: &Tiff, directory: Directory, number: u32, limits: &Limits) -> Result<Self, DocumentError> {
        let tag = |tag| tiff.number(directory, tag);
        let size = |name: Tag| tag(name).and_then(|v| u32::try_from(v).ok()).filter(|&v| v > 0);
        let (Some(width), Some(height)) = (size(Tag::ImageWidth), size(Tag::ImageLength)) else {
            return Err(damaged(&format!("page {number} has no width or no height")));
        };
        limits.check_pixels(number, width, height)?;

        let samples = tag(Tag::SamplesPerPixel).unwrap_or(1);
        let bits = tag(Tag::BitsPerSample).unwrap_or(1);
        let float = tag(Tag::SampleFormat).is_some_and(|format| format == 3);
        if !(1..=MAX_SAMPLES).contains(&samples) || !matches!(bits, 1..=8 | 10 | 12 | 14 | 16) || float {
            return Err(unread(format!("page {number} has {samples} samples of {bits} bits")));
        }
        let samples = samples as usize;
        let compression = Compression::from_tag(tag(Tag::Compression).unwrap_or(1), tag(Tag::T4Options).unwrap_or(0))?;
        let photometric = match tag(Tag::Photometric) {
            Some(0) => Photometric::WhiteIsZero,
            Some(1 | 4) => Photometric::BlackIsZero,
            Some(2) => Photometric::Rgb,
            Some(3) => Photometric::Palette,
            Some(5) => Photometric::Cmyk,
            Some(6) => Photometric::YCbCr,
            Some(8..=10) => Photometric::Lightness,
            // Required, and yet left out by some fax programs, which mean white paper.
            None if samples >= 3 => Photometric::Rgb,
            None if bits == 1 => Photometric::WhiteIsZero,
            None => Photometric::BlackIsZero,
            Some(other) => return Err(unread(format!("page {number} has the colour model {other}"))),
        };
        let subsampled = photometric == Photometric::YCbCr
            && !matches!(compression, Compression::Jpeg | Compression::OldJpeg)
            && (0..2).any(|i| tiff.values(directory, Tag::YCbCrSubSampling).and_then(|v| tiff.get(v, i)).unwrap_or(2) != 1);
        if samples < photometric.channels() || subsampled {
            return Err(unread(format!("page {number} has colours that are subsampled, or too few of them")));
        }
        let alpha = match tag(Tag::ExtraSamples) {
            Some(1) if samples > photometric.channels() => Alpha::Associated,
            Some(2) if samples > photometric.channels() => Alpha::Straight,
            _ => Alpha::None,
        };
        let chunk = match (size(Tag::TileWidth), size(Tag::TileLength)) {
            (Some(tile_width), Some(tile_height)) => (tile_width, tile_height),
            _ => (width, size(Tag::RowsPerStrip).unwrap_or(height).min(height)),
        };
        // Tiles overlap the page's right and lower edge, so they are allowed what a page is.
        limits.check_pixels(number, chunk.0, chunk.1)?;
        let unpacked = u64::from(chunk.0) * u64::from(chunk.1) * samples as u64 * bits / 8;
        if unpacked > limits.max_pixels.saturating_mul(MAX_BYTES_PER_PIXEL) {
            return Err(damaged(&format!("page {number} needs {unpacked} bytes at once, more than limits.max-pixels allows")));
        }
        Ok(Image {
            number,
            width,
            height,
            bits: bits as u32,
            samples,
            photometric,
            alpha,
            compression,
            reverse_bits: tag(Tag::FillOrder) == Some(2) && !matches!(compression, Compression::Jpeg | Compression::OldJpeg),
            planar: tag(Tag::PlanarConfiguration) == Some(2) && samples > 1,
            differencing: tag(Tag::Predictor) == Some(2) && matches!(compression, Compression::Lzw | Compression::Deflate),
            chunk,
            palette: if photometric == Photometric::Palette { palette(tiff, directory, bits as u32) } else { Vec::new() },
        })
    }

    /// The strips as they are packed, if they are a fax or JPEG that a PDF could hold.
    fn pieces<'a>(&self, tiff: &Tiff<'a>, directory: Directory) -> Option<Vec<Piece<'a>>> {
        let strips = u64::from(self.height.div_ceil(self.chunk.1));
        if self.planar || tiff.values(directory, Tag::TileOffsets).is_some() || strips > MAX_PIECES {
            return None;
        }
        let ccitt = |k, byte_aligned| {
            let inverted = match self.photometric {
                Photometric::WhiteIsZero => false,
                Photometric::BlackIsZero => true,
                _ => return None,
            };
            (self.bits == 1 && self.samples == 1).then_some(Packing::Ccitt { k, byte_aligned, inverted })
        };
        let packing = match self.compression {
            Compression::CcittRle => ccitt(0, true)?,
            // Rows that end on a byte do so by zeros before their end mark, which every decoder skips.
            Compression::CcittGroup3 { two_dimensional, .. } => ccitt(i8::from(two_dimensional), false)?,
            Compression::CcittGroup4 => ccitt(-1, false)?,
            Compression::Jpeg if !matches!(self.photometric, Photometric::WhiteIsZero | Photometric::Lightness) => {
                Packing::Pixels
            }
            _ => return None,
        };
        let offsets = tiff.values(directory, Tag::StripOffsets)?;
        let counts = tiff.values(directory, Tag::StripByteCounts)?;
        let tables = tiff.blob(directory, Tag::JpegTables);
        let mut pieces = Vec::new();
        for index in 0..strips {
            let count = tiff.get(counts, index).filter(|&count| count > 0)?;
            let data = tiff.slice(tiff.get(offsets, index)?, count);
            if (data.len() as u64) < count {
                return None;
            }
            let top = u32::try_from(index).ok()? * self.chunk.1;
            let rows = self.chunk.1.min(self.height - top);
            let piece = if packing == Packing::Pixels {
                let stream = jpeg_stream(data, tables, self.photometric == Photometric::Rgb);
                let frame = Frame::of(&stream).filter(|frame| (frame.width, frame.height) == (self.width, rows))?;
                Piece { packing: frame.packing()?, data: Cow::Owned(stream), rows }
            } else if self.reverse_bits {
                let data = data.iter().map(|byte| byte.reverse_bits()).collect();
                Piece { packing: packing.clone(), data: Cow::Owned(data), rows }
            } else {
                Piece { packing: packing.clone(), data: Cow::Borrowed(data), rows }
            };
            pieces.push(piece);
        }
        Some(pieces)
    }

    /// How many times higher than wide a pixel is, for fax pages: coarse ones have half as many rows to the
    /// inch as columns. Of other pages the resolution is too often made up.
    fn pixel_shape(&self, tiff: &Tiff, directory: Directory) -> Option<f64> {
        let across = tiff.fraction(directory, Tag::XResolution)?;
        let ratio = across / tiff.fraction(directory, Tag::YResolution)?;
        let known = (1.2..=4.5).contains(&ratio) || (1.2..=4.5).contains(&(1.0 / ratio));
        (self.bits == 1 && self.samples == 1 && known).then_some(ratio)
    }

    /// Paints every strip or tile. The second value: something was missing.
    fn decode(&self, tiff: &Tiff, directory: Directory, limits: &Limits) -> Result<(Canvas, bool), DocumentError> {
        let mut canvas = Canvas::white(self.width, self.height);
        let tiled = tiff.values(directory, Tag::TileOffsets);
        let offsets = tiled.or_else(|| tiff.values(directory, Tag::StripOffsets));
        let counts = tiff.values(directory, if tiled.is_some() { Tag::TileByteCounts } else { Tag::StripByteCounts });
        let across = self.width.div_ceil(self.chunk.0);
        let down = self.height.div_ceil(self.chunk.1);
        let chunks = u64::from(across) * u64::from(down);
        let data = |index: u64| -> &[u8] {
            let Some(offset) = offsets.and_then(|v| tiff.get(v, index)) else { return &[] };
            // Without a count a strip ends where the next one begins; the codec stops when its rows are full.
            let count = counts.and_then(|v| tiff.get(v, index)).filter(|&count| count > 0);
            let next = || offsets.and_then(|v| tiff.get(v, index + 1)?.checked_sub(offset));
            tiff.slice(offset, count.or_else(next).unwrap_or(u64::MAX))
        };

        let tables = tiff.blob(directory, Tag::JpegTables);
        let old_jpeg = (self.compression == Compression::OldJpeg)
            .then(|| {
                let offset = tiff.number(directory, Tag::JpegInterchangeFormat)?;
                Some(tiff.slice(offset, tiff.number(directory, Tag::JpegInterchangeFormatLength).unwrap_or(u64::MAX)))
            })
            .flatten();
        if let Some(stream) = old_jpeg {
            let (picture, truncated) = jpeg(stream, None, self.photometric, self.number, limits)?;
            self.paste(&picture, &mut canvas, 0, 0);
            return Ok((canvas, truncated));
        }

        // Colours that the file's end took away were read as black.
        let colours = |values: Values| tiff.get(values, values.count.saturating_sub(1)).is_none();
        let lost = self.photometric == Photometric::Palette && tiff.values(directory, Tag::ColorMap).is_none_or(colours);
        let (mut painted, mut missing) = (0u64, lost);
        for index in 0..chunks {
            let (left, top) =
                ((index % u64::from(across)) as u32 * self.chunk.0, (index / u64::from(across)) as u32 * self.chunk.1);
            let rows = self.chunk.1.min(self.height - top);
            let is_jpeg = matches!(self.compression, Compression::Jpeg | Compression::OldJpeg);
            let planes = if self.planar { self.samples } else { 1 };
            let done = if is_jpeg && (self.planar || self.photometric == Photometric::Cmyk) {
                let channels = if self.planar { 1 } else { self.samples };
                let decode = |plane: usize| jpeg_samples(data(index + plane as u64 * chunks), tables, channels, self.chunk);
                match (0..planes).map(decode).collect::<Result<Vec<_>, _>>() {
                    Ok(planes) => {
                        missing |= planes.iter().any(|(_, truncated)| *truncated);
                        let planes: Vec<_> = planes.into_iter().map(|(samples, _)| Cow::Owned(samples)).collect();
                        self.paint(tiff, &planes, &mut canvas, left, top, rows)
                    }
                    Err(_) => 0,
                }
            } else if is_jpeg {
                match jpeg(data(index), tables, self.photometric, self.number, limits) {
                    Ok((picture, truncated)) => {
                        missing |= truncated;
                        self.paste(&picture, &mut canvas, left, top);
                        rows
                    }
                    Err(error @ DocumentError::TooManyPixels { .. }) => return Err(error),
                    Err(_) => 0,
                }
            } else {
                let planes: Vec<_> = (0..planes).map(|plane| self.plane(tiff, data(index + plane as u64 * chunks))).collect();
                self.paint(tiff, &planes, &mut canvas, left, top, rows)
            };
            painted += u64::from(done);
            missing |= done < rows;
        }
        if painted == 0 {
            return Err(damaged(&format!("nothing of page {} can be decoded", self.number)));
        }
        Ok((canvas, missing))
    }

    fn row_bytes(&self) -> usize {
        let samples = if self.planar { 1 } else { self.samples };
        (self.chunk.0 as usize * samples * self.bits as usize).div_ceil(8)
    }

    /// One plane of one strip or tile, unpacked.
    fn plane<'a>(&self, tiff: &Tiff, data: &'a [u8]) -> Cow<'a, [u8]> {
        let (columns, rows, row_bytes) = (self.chunk.0, self.chunk.1, self.row_bytes());
        let mut unpacked = if self.reverse_bits {
            let reversed: Vec<u8> = data.iter().map(|byte| byte.reverse_bits()).collect();
            Cow::Owned(unpack(&reversed, self.compression, columns, rows, row_bytes).into_owned())
        } else {
            unpack(data, self.compression, columns, rows, row_bytes)
        };
        if self.differencing {
            let samples = if self.planar { 1 } else { self.samples };
            undo_differencing(unpacked.to_mut(), row_bytes, samples, self.bits, tiff.little_endian);
        }
        unpacked
    }

    /// Paints a chunk's rows as far as all its planes go; returns how many rows that were.
    fn paint(&self, tiff: &Tiff, planes: &[Cow<[u8]>], canvas: &mut Canvas, left: u32, top: u32, rows: u32) -> u32 {
        let row_bytes = self.row_bytes();
        let columns = self.chunk.0.min(self.width - left) as usize;
        let whole = planes.iter().map(|plane| plane.len() / row_bytes).min().unwrap_or(0);
        let rows = rows.min(u32::try_from(whole).unwrap_or(u32::MAX));
        let mut samples = vec![0u8; columns * self.samples];
        for row in 0..rows {
            let start = row as usize * row_bytes;
            for (plane, data) in planes.iter().enumerate() {
                let packed = &data[start..start + row_bytes];
                if self.planar {
                    self.widen(packed, tiff.little_endian, samples[plane..].iter_mut().step_by(self.samples));
                } else {
                    self.widen(packed, tiff.little_endian, samples.iter_mut());
                }
            }
            let from = left as usize * 3;
            let out = &mut canvas.row(top + row)[from..from + columns * 3];
            for (pixel, rgb) in samples.chunks_exact(self.samples).zip(out.chunks_exact_mut(3)) {
                rgb.copy_from_slice(&self.colour(pixel));
            }
        }
        rows
    }

    /// Unpacks samples to 8 bits each; palette indices keep their value.
    fn widen<'s>(&self, packed: &[u8], little_endian: bool, out: impl Iterator<Item = &'s mut u8>) {
        let high = usize::from(little_endian);
        match self.bits {
            8 => out.zip(packed).for_each(|(out, byte)| *out = *byte),
            16 => out.zip(packed.chunks_exact(2)).for_each(|(out, pair)| *out = pair[high]),
            bits => {
                let (bits, mask) = (bits as usize, (1u32 << bits) - 1);
                for (index, out) in out.enumerate() {
                    let (byte, shift) = (index * bits / 8, index * bits % 8);
                    let at = |offset: usize| u32::from(packed.get(byte + offset).copied().unwrap_or(0));
                    let window = at(0) << 16 | at(1) << 8 | at(2);
                    let value = window >> (24 - shift - bits) & mask;
                    let scaled = if self.photometric == Photometric::Palette { value } else { value * 255 / mask };
                    *out = u8::try_from(scaled).unwrap_or(255);
                }
            }
        }
    }

    fn colour(&self, pixel: &[u8]) -> [u8; 3] {
        let rgb = match self.photometric {
            Photometric::WhiteIsZero => [255 - pixel[0]; 3],
            Photometric::BlackIsZero | Photometric::Lightness => [pixel[0]; 3],
            Photometric::Rgb => [pixel[0], pixel[1], pixel[2]],
            Photometric::Palette => self.palette.get(usize::from(pixel[0])).copied().unwrap_or([255; 3]),
            Photometric::Cmyk => {
                let light = u32::from(255 - pixel[3]);
                [0, 1, 2].map(|ink| (u32::from(255 - pixel[ink]) * light / 255) as u8)
            }
            Photometric::YCbCr => {
                // ITU-R BT.601, full range.
                let (y, cb, cr) = (f32::from(pixel[0]), f32::from(pixel[1]) - 128.0, f32::from(pixel[2]) - 128.0);
                [y + 1.402 * cr, y - 0.344_136 * cb - 0.714_136 * cr, y + 1.772 * cb].map(|v| v.round() as u8)
            }
        };
        match (self.alpha, pixel.get(self.photometric.channels())) {
            (Alpha::Associated, Some(alpha)) => rgb.map(|value| value.saturating_add(255 - alpha)),
            (Alpha::Straight, Some(&alpha)) => rgb.map(|value| over_white(value, alpha)),
            _ => rgb,
        }
    }

    /// Lays a decoded JPEG onto the page, cut at the page's edges.
    fn paste(&self, picture: &Canvas, canvas: &mut Canvas, left: u32, top: u32) {
        let columns = picture.width.min(self.width - left) as usize * 3;
        let stride = picture.width as usize * 3;
        let invert = self.photometric == Photometric::WhiteIsZero;
        for row in 0..picture.height.min(self.height - top) {
            let source = &picture.rgb[row as usize * stride..][..columns];
            let target = &mut canvas.row(top + row)[left as usize * 3..][..columns];
            target.copy_from_slice(source);
            if invert {
                target.iter_mut().for_each(|value| *value = 255 - *value);
            }
        }
    }
}

/// The colour map: all reds, then all greens, then all blues, 16 bits each; some writers use 8.
fn palette(tiff: &Tiff, directory: Directory, bits: u32) -> Vec<[u8; 3]> {
    let Some(values) = tiff.values(directory, Tag::ColorMap) else { return Vec::new() };
    let entries = (1u64 << bits.min(8)).min(values.count / 3);
    let get = |index: u64| tiff.get(values, index).unwrap_or(0);
    let stride = values.count / 3;
    let wide = (0..values.count.min(3 << 16)).any(|index| get(index) > 255);
    let narrow = |value: u64| (if wide { value >> 8 } else { value }).min(255) as u8;
    (0..entries).map(|entry| [0, 1, 2].map(|channel| narrow(get(channel * stride + entry)))).collect()
}
