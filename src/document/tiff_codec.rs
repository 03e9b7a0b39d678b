//! Unpacks one strip or tile of a TIFF. Every codec writes into a buffer of the size that the
//! directory promises and stops there; what comes before an error is kept.

use super::image::decode_canvas;
use super::tiff::{Photometric, damaged};
use super::{DocumentError, Format, Limits};
use hayro_ccitt::{DecodeSettings, DecoderContext, EncodingMode};
use std::borrow::Cow;
use std::io::Read;
use zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};

/// TIFF's compression schemes that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    /// Modified Huffman: Group 3 codes without line ends, rows on byte borders.
    CcittRle,
    CcittGroup3 {
        two_dimensional: bool,
        byte_aligned: bool,
    },
    CcittGroup4,
    Lzw,
    OldJpeg,
    Jpeg,
    Deflate,
    PackBits,
}

impl Compression {
    pub fn from_tag(value: u64, t4_options: u64) -> Result<Self, DocumentError> {
        Ok(match value {
            1 => Compression::None,
            2 => Compression::CcittRle,
            3 => Compression::CcittGroup3 { two_dimensional: t4_options & 1 != 0, byte_aligned: t4_options & 4 != 0 },
            4 => Compression::CcittGroup4,
            5 => Compression::Lzw,
            6 => Compression::OldJpeg,
            7 => Compression::Jpeg,
            8 | 32946 => Compression::Deflate,
            32773 => Compression::PackBits,
            other => {
                return Err(DocumentError::Unread { what: "TIFF", detail: format!("its compression scheme is number {other}") });
            }
        })
    }
}

/// Unpacks up to `rows` rows of `row_bytes` bytes; the answer may be shorter where the data is.
pub(super) fn unpack<'a>(data: &'a [u8], compression: Compression, columns: u32, rows: u32, row_bytes: usize) -> Cow<'a, [u8]> {
    let size = row_bytes * rows as usize;
    match compression {
        Compression::None => Cow::Borrowed(&data[..data.len().min(size)]),
        Compression::CcittRle => ccitt(data, EncodingMode::Group3_1D, true, false, columns, rows, row_bytes),
        Compression::CcittGroup3 { two_dimensional, byte_aligned } => {
            let mode = if two_dimensional { EncodingMode::Group3_2D } else { EncodingMode::Group3_1D };
            ccitt(data, mode, byte_aligned, true, columns, rows, row_bytes)
        }
        Compression::CcittGroup4 => ccitt(data, EncodingMode::Group4, false, true, columns, rows, row_bytes),
        Compression::Lzw => lzw(data, size),
        Compression::Deflate => {
            let mut out = Vec::with_capacity(size);
            // An error leaves what was unpacked before it.
            let _ = flate2::read::ZlibDecoder::new(data).take(size as u64).read_to_end(&mut out);
            Cow::Owned(out)
        }
        Compression::PackBits => pack_bits(data, size),
        Compression::Jpeg | Compression::OldJpeg => Cow::Borrowed(&[]),
    }
}

/// Rows of a fax as packed bits, black as 1 as the specification has it.
struct FaxRows {
    bits: Vec<u8>,
    row_bytes: usize,
    columns: usize,
}

impl hayro_ccitt::Decoder for FaxRows {
    fn push_row(&mut self, changes: &[u32]) {
        let start = self.bits.len();
        // The row count was promised in the directory; a decoder that goes on is not followed.
        if start + self.row_bytes > self.bits.capacity() {
            return;
        }
        self.bits.resize(start + self.row_bytes, 0);
        let row = &mut self.bits[start..];
        for run in changes.chunks(2) {
            let from = (run[0] as usize).min(self.columns);
            let to = run.get(1).map_or(self.columns, |&to| to as usize).min(self.columns);
            blacken(row, from, to);
        }
    }
}

/// Sets the bits `from..to`, most significant first.
fn blacken(row: &mut [u8], from: usize, to: usize) {
    if from >= to {
        return;
    }
    let (first, last) = (from / 8, (to - 1) / 8);
    let head = 0xffu8 >> (from % 8);
    let tail = 0xffu8 << (7 - (to - 1) % 8);
    if first == last {
        row[first] |= head & tail;
    } else {
        row[first] |= head;
        row[first + 1..last].fill(0xff);
        row[last] |= tail;
    }
}

fn ccitt(
    data: &[u8],
    encoding: EncodingMode,
    byte_aligned: bool,
    end_of_block: bool,
    columns: u32,
    rows: u32,
    row_bytes: usize,
) -> Cow<'static, [u8]> {
    let mut fax = FaxRows { bits: Vec::with_capacity(row_bytes * rows as usize), row_bytes, columns: columns as usize };
    let mut context = DecoderContext::new(DecodeSettings {
        columns,
        rows,
        end_of_block,
        end_of_line: false,
        rows_are_byte_aligned: byte_aligned,
        encoding,
        strict: false,
    });
    // An error leaves the rows before it.
    let _ = hayro_ccitt::decode(data, &mut fax, &mut context);
    Cow::Owned(fax.bits)
}

fn lzw(data: &[u8], size: usize) -> Cow<'static, [u8]> {
    let mut out = vec![0; size];
    let mut decoder = weezl::decode::Decoder::with_tiff_size_switch(weezl::BitOrder::Msb, 8);
    let (mut read, mut written) = (0, 0);
    while written < size {
        let step = decoder.decode_bytes(&data[read..], &mut out[written..]);
        read += step.consumed_in;
        written += step.consumed_out;
        match step.status {
            Ok(weezl::LzwStatus::Ok) if step.consumed_in + step.consumed_out > 0 => {}
            _ => break,
        }
    }
    out.truncate(written);
    Cow::Owned(out)
}

fn pack_bits(data: &[u8], size: usize) -> Cow<'static, [u8]> {
    let mut out = Vec::with_capacity(size);
    let mut rest = data;
    while let [control, tail @ ..] = rest {
        let room = size - out.len();
        if room == 0 {
            break;
        }
        match control.cast_signed() {
            -128 => rest = tail,
            count @ 0.. => {
                let count = (usize::from(count.cast_unsigned()) + 1).min(tail.len());
                out.extend_from_slice(&tail[..count.min(room)]);
                rest = &tail[count..];
            }
            count => {
                let [value, after @ ..] = tail else { break };
                out.resize(out.len() + (usize::from(count.unsigned_abs()) + 1).min(room), *value);
                rest = after;
            }
        }
    }
    Cow::Owned(out)
}

/// A JPEG-compressed strip or tile as an image of its own: width, height and RGB8.
pub(super) fn jpeg(
    data: &[u8],
    tables: Option<&[u8]>,
    photometric: Photometric,
    page: u32,
    limits: &Limits,
) -> Result<(super::orient::Canvas, bool), DocumentError> {
    // Without Adobe's segment a decoder takes three components for YCbCr; TIFF says it in its own tag.
    let stream = jpeg_stream(data, tables, matches!(photometric, Photometric::Rgb));
    let (canvas, _, truncated) = decode_canvas(&stream, Format::Jpeg, page, limits)?;
    Ok((canvas, truncated))
}

/// The tables are a JPEG of their own without pixels: start marker, tables, end marker. Strip and tables
/// make one stream when the markers between them go.
pub(super) fn jpeg_stream(data: &[u8], tables: Option<&[u8]>, plain: bool) -> Vec<u8> {
    let body = data.strip_prefix(&[0xff, 0xd8]).unwrap_or(data);
    let tables = tables.unwrap_or_default();
    let tables = tables.strip_prefix(&[0xff, 0xd8]).unwrap_or(tables);
    let tables = tables.strip_suffix(&[0xff, 0xd9]).unwrap_or(tables);
    let mut stream = Vec::with_capacity(body.len() + tables.len() + 18);
    stream.extend_from_slice(&[0xff, 0xd8]);
    if plain {
        stream.extend_from_slice(b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00");
    }
    stream.extend_from_slice(tables);
    stream.extend_from_slice(body);
    stream
}

/// A JPEG-compressed strip or tile as the samples it holds, one or four to a pixel, in rows as wide as the
/// `chunk` is. An image decoder would take four inks the way Photoshop writes them, which is upside down here.
pub(super) fn jpeg_samples(
    data: &[u8],
    tables: Option<&[u8]>,
    channels: usize,
    (columns, rows): (u32, u32),
) -> Result<(Vec<u8>, bool), DocumentError> {
    let stream = jpeg_stream(data, tables, false);
    let wanted = if channels == 1 { ColorSpace::Luma } else { ColorSpace::CMYK };
    let options = DecoderOptions::default()
        .set_strict_mode(false)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX)
        .jpeg_set_out_colorspace(wanted);
    let mut decoder = zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(&stream), options);
    let refused = |error: zune_jpeg::errors::DecodeErrors| damaged(&error.to_string());
    decoder.decode_headers().map_err(refused)?;
    let (width, height) = decoder.dimensions().ok_or_else(|| damaged("a strip of it has no size"))?;
    // The chunk's size was checked; its image is that, but for rows that a writer added to fill a block.
    if width as u64 > u64::from(columns) + 64 || height as u64 > u64::from(rows) + 64 {
        return Err(damaged("a strip of it is larger than it should be"));
    }
    if decoder.input_colorspace() != Some(wanted) || decoder.output_buffer_size() != Some(width * height * channels) {
        return Err(damaged("a strip of it has other colours than the page"));
    }
    let mut samples = vec![0; width * height * channels];
    let broken = decoder.decode_into(&mut samples).is_err();
    let (stride, row) = (width * channels, columns as usize * channels);
    if stride != row {
        let resized = samples.chunks_exact(stride.max(1)).flat_map(|line| {
            let known = &line[..stride.min(row)];
            known.iter().copied().chain(std::iter::repeat_n(0, row - known.len()))
        });
        samples = resized.collect();
    }
    Ok((samples, broken))
}

/// Undoes horizontal differencing (predictor 2), row by row.
pub(super) fn undo_differencing(data: &mut [u8], row_bytes: usize, samples: usize, bits: u32, little_endian: bool) {
    for row in data.chunks_mut(row_bytes.max(1)) {
        match bits {
            8 => {
                for at in samples..row.len() {
                    row[at] = row[at].wrapping_add(row[at - samples]);
                }
            }
            16 => {
                let read = if little_endian { u16::from_le_bytes } else { u16::from_be_bytes };
                let write = if little_endian { u16::to_le_bytes } else { u16::to_be_bytes };
                for at in (samples * 2..row.len().saturating_sub(1)).step_by(2) {
                    let before = at - samples * 2;
                    let sum = read([row[at], row[at + 1]]).wrapping_add(read([row[before], row[before + 1]]));
                    row[at..at + 2].copy_from_slice(&write(sum));
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pack_bits_unpacks_apples_example() {
        // The example of Apple's Technical Note 1023.
        let packed = [0xfe, 0xaa, 0x02, 0x80, 0x00, 0x2a, 0xfd, 0xaa, 0x03, 0x80, 0x00, 0x2a, 0x22, 0xf7, 0xaa];
        let unpacked = [
            0xaa, 0xaa, 0xaa, 0x80, 0x00, 0x2a, 0xaa, 0xaa, 0xaa, 0xaa, 0x80, 0x00, 0x2a, 0x22, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa,
            0xaa, 0xaa, 0xaa, 0xaa, 0xaa,
        ];
        assert_eq!(&pack_bits(&packed, 24)[..], &unpacked);
        assert_eq!(pack_bits(&packed, 5).len(), 5, "never more than promised");
        assert_eq!(pack_bits(&packed[..4], 24).len(), 4, "as far as it goes");
    }

    #[test]
    fn runs_of_black_cross_byte_borders() {
        let mut row = [0u8; 3];
        blacken(&mut row, 3, 18);
        assert_eq!(row, [0b0001_1111, 0xff, 0b1100_0000]);
        let mut row = [0u8; 1];
        blacken(&mut row, 2, 4);
        assert_eq!(row, [0b0011_0000]);
    }

    #[test]
    fn differencing_is_undone_per_sample() {
        let mut row = [10, 20, 30, 1, 1, 1, 255, 0, 2];
        undo_differencing(&mut row, 9, 3, 8, true);
        assert_eq!(row, [10, 20, 30, 11, 21, 31, 10, 21, 33]);
        let mut wide = [0x00, 0xff, 0x00, 0x01];
        undo_differencing(&mut wide, 4, 1, 16, false);
        assert_eq!(wide, [0x00, 0xff, 0x01, 0x00]);
    }
}
