//! A page's image as objects of a PDF: packed bytes as they are, pixels by deflate, in as few colours as they
//! have.

use super::pdf_objects::Objects;
use crate::document::{Colours, Packing, Piece};
use std::fmt::Write as _;
use std::io::{self, Write};

/// Writes a piece as an image of its own; answers its number.
pub(super) fn write(piece: &Piece<'_>, width: u32, objects: &mut Objects<'_>) -> io::Result<u32> {
    let number = objects.reserve();
    let rows = piece.rows;
    let image = |colours: &str, bits: u8| {
        format!("/Type /XObject /Subtype /Image /Width {width} /Height {rows} /ColorSpace {colours} /BitsPerComponent {bits}")
    };
    match &piece.packing {
        Packing::Jpeg { components, inverted, plain_rgb } => {
            let mut entries = image(device(*components), 8);
            entries.push_str(" /Filter /DCTDecode");
            if *inverted {
                entries.push_str(" /Decode [1 0 1 0 1 0 1 0]");
            }
            if *plain_rgb {
                entries.push_str(" /DecodeParms << /ColorTransform 0 >>");
            }
            objects.stream(number, &entries, &piece.data)?;
        }
        Packing::Ccitt { k, byte_aligned, inverted } => {
            let mut entries = image("/DeviceGray", 1);
            write!(
                entries,
                " /Filter /CCITTFaxDecode /DecodeParms << /K {k} /Columns {width} /Rows {rows} /EndOfBlock false \
                 /EncodedByteAlign {byte_aligned} /BlackIs1 {inverted} >>"
            )
            .expect("a string takes everything");
            objects.stream(number, &entries, &piece.data)?;
        }
        Packing::Png { bits, colours } => {
            let (space, channels) = match colours {
                Colours::Grey => ("/DeviceGray".to_owned(), 1),
                Colours::Rgb => ("/DeviceRGB".to_owned(), 3),
                Colours::Palette(colours) => {
                    let digits = colours.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
                    (format!("[/Indexed /DeviceRGB {} <{digits}>]", (colours.len() / 3).saturating_sub(1)), 1)
                }
            };
            let parameters = predictor(channels, *bits, width);
            objects.stream(number, &format!("{} /Filter /FlateDecode {parameters}", image(&space, *bits)), &piece.data)?;
        }
        Packing::Pixels => match kind(&piece.data) {
            Kind::Line => {
                objects.deflated(number, &image("/DeviceGray", 1), |out| {
                    let mut row = vec![0u8; width.div_ceil(8) as usize];
                    for pixels in piece.data.chunks_exact(width as usize * 3) {
                        row.fill(0);
                        for (x, pixel) in pixels.chunks_exact(3).enumerate() {
                            row[x / 8] |= (pixel[0] & 0x80) >> (x % 8);
                        }
                        out.write_all(&row)?;
                    }
                    Ok(())
                })?;
            }
            Kind::Grey => {
                let entries = format!("{} {}", image("/DeviceGray", 8), predictor(1, 8, width));
                objects.deflated(number, &entries, |out| filtered(&piece.data, width, 1, out))?;
            }
            Kind::Colour => {
                let entries = format!("{} {}", image("/DeviceRGB", 8), predictor(3, 8, width));
                objects.deflated(number, &entries, |out| filtered(&piece.data, width, 3, out))?;
            }
        },
    }
    Ok(number)
}

fn device(components: u8) -> &'static str {
    match components {
        1 => "/DeviceGray",
        4 => "/DeviceCMYK",
        _ => "/DeviceRGB",
    }
}

/// PNG's row filters, as PDF names them.
fn predictor(channels: u8, bits: u8, width: u32) -> String {
    format!("/DecodeParms << /Predictor 15 /Colors {channels} /BitsPerComponent {bits} /Columns {width} >>")
}

enum Kind {
    /// Black and white.
    Line,
    Grey,
    Colour,
}

fn kind(rgb: &[u8]) -> Kind {
    let mut line = true;
    for pixel in rgb.chunks_exact(3) {
        if pixel[0] != pixel[1] || pixel[1] != pixel[2] {
            return Kind::Colour;
        }
        line &= matches!(pixel[0], 0 | 255);
    }
    if line { Kind::Line } else { Kind::Grey }
}

/// Rows as differences to the pixel before or to the row above, whichever seems smaller.
fn filtered(rgb: &[u8], width: u32, channels: usize, out: &mut dyn Write) -> io::Result<()> {
    let stride = width as usize * channels;
    let (mut above, mut row) = (vec![0u8; stride], vec![0u8; stride]);
    let mut packed = vec![0u8; stride + 1];
    for pixels in rgb.chunks_exact(width as usize * 3) {
        if channels == 3 {
            row.copy_from_slice(pixels);
        } else {
            row.iter_mut().zip(pixels.iter().step_by(3)).for_each(|(value, first)| *value = *first);
        }
        let size = |a: u8, b: u8| u64::from(a.wrapping_sub(b).cast_signed().unsigned_abs());
        // A sample of the row tells well enough.
        let places = || (channels..stride).step_by(7);
        let before: u64 = places().map(|at| size(row[at], row[at - channels])).sum();
        let up: u64 = places().map(|at| size(row[at], above[at])).sum();
        if before < up {
            packed[0] = 1;
            packed[1..=channels].copy_from_slice(&row[..channels]);
            for at in channels..stride {
                packed[at + 1] = row[at].wrapping_sub(row[at - channels]);
            }
        } else {
            packed[0] = 2;
            for ((packed, value), above) in packed[1..].iter_mut().zip(&row).zip(&above) {
                *packed = value.wrapping_sub(*above);
            }
        }
        out.write_all(&packed)?;
        std::mem::swap(&mut above, &mut row);
    }
    Ok(())
}
