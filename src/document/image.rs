//! Single images: JPEG, PNG, BMP, GIF (its first frame), WebP, PNM. Everything becomes 8-bit RGB on
//! white paper, turned upright by its orientation tag.
//!
//! A broken transfer often leaves the first half of a file. What can be decoded is kept, the rest is
//! white, and the page says that it is truncated, judged by the format's own end marker.

use super::orient::{Canvas, Orientation};
use super::{DocumentError, Format, Limits, Page};
use image::{ColorType, ImageDecoder, ImageError};
use std::io::{BufReader, Cursor, Read};

/// Bytes a pixel may cost inside a decoder: 16-bit RGBA.
const DECODER_BYTES_PER_PIXEL: u64 = 8;
/// What a decoder may use beside its pixels: tables, windows, metadata.
const DECODER_OVERHEAD: u64 = 64 << 20;
/// Fills the decoder's buffer beforehand: bytes that still hold it at the end were never decoded.
const UNDECODED: u8 = 0xa5;
/// What the JPEG decoder paints where the data ended early: the level of no signal.
const JPEG_UNDECODED: u8 = 0x80;

/// Decodes the one page of `bytes`.
pub(super) fn decode(bytes: &[u8], format: Format, limits: &Limits) -> Result<Page, DocumentError> {
    let (canvas, orientation, truncated) = decode_canvas(bytes, format, 1, limits)?;
    let upright = orientation.apply(canvas);
    Ok(Page {
        number: 1,
        width: upright.width,
        height: upright.height,
        rgb: upright.rgb,
        rotation: orientation.degrees(),
        truncated,
    })
}

/// Decodes without turning: the canvas as stored, its orientation tag, and whether the file ended early.
pub(super) fn decode_canvas(
    bytes: &[u8],
    format: Format,
    page: u32,
    limits: &Limits,
) -> Result<(Canvas, Orientation, bool), DocumentError> {
    let what = format.name();
    if format == Format::Jpeg
        && let Some(detail) = jpeg_is_foreign(bytes)
    {
        return Err(DocumentError::Unread { what, detail });
    }
    let damaged = |error: ImageError| DocumentError::Damaged { what, detail: error.to_string() };
    let mut reader = image::ImageReader::with_format(Cursor::new(bytes), decoder_format(format)?);
    let mut bounds = image::Limits::default();
    bounds.max_image_width = None;
    bounds.max_image_height = None;
    bounds.max_alloc = Some(limits.max_pixels.saturating_mul(DECODER_BYTES_PER_PIXEL).saturating_add(DECODER_OVERHEAD));
    reader.limits(bounds);
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    limits.check_pixels(page, width, height)?;
    if width == 0 || height == 0 {
        return Err(DocumentError::Damaged { what, detail: "its width or height is zero".into() });
    }
    // A broken tag is no reason not to read the page.
    let orientation = decoder.orientation().map_or(Orientation::UPRIGHT, |o| Orientation::from_tag(o.to_exif().into()));
    let color = decoder.color_type();
    let size = width as usize * height as usize * usize::from(color.bytes_per_pixel());
    let mut canvas = Canvas::white(width, height);
    let mut truncated = !is_complete(bytes, format);

    if color == ColorType::Rgb8 && format != Format::Pnm {
        let pixels = canvas.pixels();
        pixels.fill(UNDECODED);
        truncated |= salvage(decoder.read_image(pixels), pixels, what)?;
        if truncated {
            whiten_tail(pixels, format);
        }
        return Ok((canvas, orientation, truncated));
    }

    let mut raw = vec![UNDECODED; size];
    let mut result = decoder.read_image(&mut raw);
    if result.is_err() && format == Format::Pnm {
        result = read_padded(bytes, &mut raw).and(result);
    }
    // The PNG decoder brings 16-bit samples into the machine's byte order as its last step.
    let big_endian = cfg!(target_endian = "big") || (result.is_err() && format == Format::Png);
    truncated |= salvage(result, &raw, what)?;
    if truncated {
        whiten_tail(&mut raw, format);
    }
    paint(&raw, color, big_endian, canvas.pixels())
        .ok_or_else(|| DocumentError::Damaged { what, detail: format!("its pixels ({color:?}) are of an unknown kind") })?;
    Ok((canvas, orientation, truncated))
}

/// The orientation tag of a single image; `None` where its header cannot be read.
pub(super) fn orientation(bytes: &[u8], format: Format) -> Option<Orientation> {
    let reader = image::ImageReader::with_format(Cursor::new(bytes), decoder_format(format).ok()?);
    let mut decoder = reader.into_decoder().ok()?;
    Some(decoder.orientation().map_or(Orientation::UPRIGHT, |o| Orientation::from_tag(o.to_exif().into())))
}

/// Reads a bitmap whose end is missing, with filler in its place: its decoder gives all or nothing.
fn read_padded(bytes: &[u8], raw: &mut [u8]) -> Result<(), ImageError> {
    let padded = Cursor::new(bytes).chain(std::io::repeat(UNDECODED));
    image::codecs::pnm::PnmDecoder::new(BufReader::new(padded))?.read_image(raw)
}

/// A decoder's failure is forgiven when it comes after some pixels: true then, the page is truncated.
fn salvage(result: Result<(), ImageError>, pixels: &[u8], what: &'static str) -> Result<bool, DocumentError> {
    match result {
        Ok(()) => Ok(false),
        Err(_) if pixels.iter().any(|&byte| byte != UNDECODED) => Ok(true),
        Err(error) => Err(DocumentError::Damaged { what, detail: error.to_string() }),
    }
}

/// Turns the undecoded ends of a buffer white. Bitmaps are stored from the bottom up, so both ends count.
fn whiten_tail(pixels: &mut [u8], format: Format) {
    let filler = |byte: u8| byte == UNDECODED || (format == Format::Jpeg && byte == JPEG_UNDECODED);
    let decoded_to = pixels.iter().rposition(|&byte| !filler(byte)).map_or(0, |last| last + 1);
    pixels[decoded_to..].fill(255);
    let decoded_from = pixels.iter().position(|&byte| byte != UNDECODED).unwrap_or(decoded_to);
    pixels[..decoded_from].fill(255);
}

/// Converts a decoder's samples to RGB8 over white. `None` for a layout that no enabled decoder returns.
fn paint(raw: &[u8], color: ColorType, big_endian: bool, rgb: &mut [u8]) -> Option<()> {
    let (channels, wide) = match color {
        ColorType::L8 => (1, false),
        ColorType::La8 => (2, false),
        ColorType::Rgb8 => (3, false),
        ColorType::Rgba8 => (4, false),
        ColorType::L16 => (1, true),
        ColorType::La16 => (2, true),
        ColorType::Rgb16 => (3, true),
        ColorType::Rgba16 => (4, true),
        _ => return None,
    };
    let width = if wide { 2 } else { 1 };
    // Of a 16-bit sample the high byte is enough for reading.
    let high = usize::from(wide && !big_endian);
    for (pixel, out) in raw.chunks_exact(channels * width).zip(rgb.chunks_exact_mut(3)) {
        let sample = |channel: usize| pixel[channel * width + high];
        match channels {
            1 => out.fill(sample(0)),
            2 => out.fill(over_white(sample(0), sample(1))),
            3 => out.copy_from_slice(&[sample(0), sample(1), sample(2)]),
            _ => (0..3).for_each(|channel| out[channel] = over_white(sample(channel), sample(3))),
        }
    }
    Some(())
}

/// A sample with straight alpha, laid on white paper.
pub(super) fn over_white(sample: u8, alpha: u8) -> u8 {
    let (sample, alpha) = (u32::from(sample), u32::from(alpha));
    u8::try_from((sample * alpha + 255 * (255 - alpha) + 127) / 255).expect("a mean of two bytes is a byte")
}

/// Whether the format's own end marker is there. Formats without one count as complete: their decoders
/// fail by themselves when data is missing.
fn is_complete(bytes: &[u8], format: Format) -> bool {
    match format {
        Format::Jpeg => jpeg_is_complete(bytes).unwrap_or(false),
        Format::Png => png_is_complete(bytes).unwrap_or(false),
        _ => true,
    }
}

/// Walks the segments to the end-of-image marker. A thumbnail's own marker lies inside a segment and
/// is stepped over; bytes after the marker do not matter.
fn jpeg_is_complete(bytes: &[u8]) -> Option<bool> {
    let mut at = 2;
    loop {
        while *bytes.get(at)? != 0xff {
            at += 1;
        }
        let marker = *bytes.get(at + 1)?;
        match marker {
            0xd9 => return Some(true),
            // Fill bytes, stuffed zeros and restart markers inside entropy-coded data; markers without a length.
            0xff => at += 1,
            0x00 | 0x01 | 0xd0..=0xd8 => at += 2,
            _ => {
                let length = usize::from(u16::from_be_bytes([*bytes.get(at + 2)?, *bytes.get(at + 3)?]));
                at += 2 + length.max(2);
            }
        }
    }
}

/// Why no decoder at hand reads this JPEG, by its start-of-frame segment.
fn jpeg_is_foreign(bytes: &[u8]) -> Option<String> {
    let mut at = 2;
    loop {
        match [*bytes.get(at)?, *bytes.get(at + 1)?] {
            [0xff, 0xff] => at += 1,
            [0xff, 0x01 | 0xd0..=0xd8] => at += 2,
            [0xff, marker @ (0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf)] => {
                let bits = *bytes.get(at + 4)?;
                return match marker {
                    0xc3 | 0xc7 | 0xcb | 0xcf => Some("it is packed without loss".into()),
                    0xc5 | 0xc6 => Some("it is one picture in several resolutions".into()),
                    0xc9..=0xcf => Some("it is packed by arithmetic coding".into()),
                    _ => (bits != 8).then(|| format!("it has {bits} bits a sample")),
                };
            }
            [0xff, _] => at += 2 + usize::from(u16::from_be_bytes([*bytes.get(at + 2)?, *bytes.get(at + 3)?])).max(2),
            _ => return None,
        }
    }
}

/// Walks the chunks to `IEND`.
pub(super) fn png_is_complete(bytes: &[u8]) -> Option<bool> {
    let mut at = 8;
    loop {
        let length = u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize;
        if bytes.get(at + 4..at + 8)? == b"IEND" {
            return Some(true);
        }
        at = at.checked_add(length)?.checked_add(12)?;
    }
}

fn decoder_format(format: Format) -> Result<image::ImageFormat, DocumentError> {
    Ok(match format {
        Format::Jpeg => image::ImageFormat::Jpeg,
        Format::Png => image::ImageFormat::Png,
        Format::Bmp => image::ImageFormat::Bmp,
        Format::Gif => image::ImageFormat::Gif,
        Format::Webp => image::ImageFormat::WebP,
        Format::Pnm => image::ImageFormat::Pnm,
        Format::Tiff | Format::Pdf => return Err(DocumentError::Unsupported),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ExtendedColorType, ImageEncoder};

    fn encode_png(pixels: &[u8], width: u32, height: u32, color: ExtendedColorType) -> Vec<u8> {
        let mut bytes = Vec::new();
        image::codecs::png::PngEncoder::new(&mut bytes).write_image(pixels, width, height, color).unwrap();
        bytes
    }

    #[test]
    fn alpha_lies_on_white_paper() {
        let bytes = encode_png(&[0, 0, 0, 0, 10, 20, 30, 255, 0, 0, 0, 128], 3, 1, ExtendedColorType::Rgba8);
        let page = decode(&bytes, Format::Png, &Limits::default()).unwrap();
        assert_eq!(&page.rgb[..], &[255, 255, 255, 10, 20, 30, 127, 127, 127]);
    }

    #[test]
    fn sixteen_bits_become_eight() {
        let samples: Vec<u8> = [0x1234u16, 0xfeff].iter().flat_map(|v| v.to_ne_bytes()).collect();
        let bytes = encode_png(&samples, 2, 1, ExtendedColorType::L16);
        let page = decode(&bytes, Format::Png, &Limits::default()).unwrap();
        assert_eq!(&page.rgb[..], &[0x12, 0x12, 0x12, 0xfe, 0xfe, 0xfe]);
    }

    #[test]
    fn pixels_are_counted_in_the_header() {
        let bytes = encode_png(&[0; 100], 10, 10, ExtendedColorType::L8);
        let limits = Limits { max_pixels: 99, ..Limits::default() };
        assert_eq!(
            decode(&bytes, Format::Png, &limits).unwrap_err(),
            DocumentError::TooManyPixels { page: 1, pixels: 100, limit: 99 }
        );
    }

    /// Noise, so that the compressed data is long enough to be cut in its middle.
    fn noise(len: usize) -> Vec<u8> {
        let mut state = 1u32;
        (0..len)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8 & 0x7f
            })
            .collect()
    }

    #[test]
    fn half_a_png_gives_its_upper_half_on_white() {
        let (width, height) = (64, 400);
        let pixels = noise(width * height);
        let bytes = encode_png(&pixels, width as u32, height as u32, ExtendedColorType::L8);
        let whole = decode(&bytes, Format::Png, &Limits::default()).unwrap();
        assert!(!whole.truncated);
        let half = decode(&bytes[..bytes.len() / 2], Format::Png, &Limits::default()).unwrap();
        assert!(half.truncated);
        assert_eq!(half.rgb[..width * 3], whole.rgb[..width * 3]);
        assert!(half.rgb[half.rgb.len() - width * 3 * 20..].iter().all(|&byte| byte == 255));
    }

    #[test]
    fn half_a_jpeg_gives_its_upper_half_on_white() {
        let (width, height) = (64u16, 400u16);
        let pixels = noise(usize::from(width) * usize::from(height) * 3);
        let mut bytes = Vec::new();
        image::codecs::jpeg::JpegEncoder::new(&mut bytes)
            .encode(&pixels, width.into(), height.into(), ExtendedColorType::Rgb8)
            .unwrap();
        assert!(!decode(&bytes, Format::Jpeg, &Limits::default()).unwrap().truncated);
        let half = decode(&bytes[..bytes.len() / 2], Format::Jpeg, &Limits::default()).unwrap();
        assert!(half.truncated);
        assert!(half.rgb[..usize::from(width) * 3].iter().any(|&byte| byte != 255));
        assert!(half.rgb[half.rgb.len() - 64 * 3 * 20..].iter().all(|&byte| byte == 255));
        // Only the end marker is missing: nothing is lost, but the file did end early.
        assert!(decode(&bytes[..bytes.len() - 2], Format::Jpeg, &Limits::default()).unwrap().truncated);
    }

    #[test]
    fn half_a_bitmap_gives_its_upper_half_on_white() {
        let mut bytes = b"P6 16 16 255\n".to_vec();
        bytes.resize(bytes.len() + 16 * 3 * 8, 40);
        let half = decode(&bytes, Format::Pnm, &Limits::default()).unwrap();
        assert!(half.truncated);
        assert_eq!(half.rgb.iter().filter(|&&byte| byte == 40).count(), 16 * 3 * 8);
        assert!(half.rgb[16 * 3 * 8..].iter().all(|&byte| byte == 255));
        assert!(decode(b"P6 16 16 255\n", Format::Pnm, &Limits::default()).is_err(), "nothing is there");
    }

    #[test]
    fn a_header_without_pixels_is_damaged() {
        let bytes = encode_png(&noise(10_000), 100, 100, ExtendedColorType::L8);
        let error = decode(&bytes[..40], Format::Png, &Limits::default()).unwrap_err();
        assert!(matches!(error, DocumentError::Damaged { what: "PNG", .. }), "{error}");
        let error = decode(b"\xff\xd8\xff\xe0 no jpeg", Format::Jpeg, &Limits::default()).unwrap_err();
        assert!(matches!(error, DocumentError::Damaged { what: "JPEG", .. }), "{error}");
    }
}
