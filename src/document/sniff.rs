//! What a file is, by its first bytes. A name proves nothing: scanners write JPEGs called `.pdf`, and
//! a text file renamed to `.jpg` stays text.

use super::Format;

/// How far into the file a PDF's header may stand; readers have always allowed leading junk.
const PDF_HEADER_WINDOW: usize = 1024;

/// The format of `bytes`, or `None` for anything that Inkport does not read.
#[must_use]
pub fn sniff(bytes: &[u8]) -> Option<Format> {
    match bytes {
        [0xff, 0xd8, 0xff, ..] => Some(Format::Jpeg),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some(Format::Png),
        // Classic and big TIFF, both byte orders.
        [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => Some(Format::Tiff),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(Format::Gif),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Format::Webp),
        // Two letters are too few to tell a bitmap from a sentence: the size of the second header must be a known one.
        [b'B', b'M', ..] if matches!(bytes.get(14..18), Some([12 | 16 | 40 | 52 | 56 | 64 | 108 | 124, 0, 0, 0])) => {
            Some(Format::Bmp)
        }
        [b'P', b'1'..=b'6', space, next, ..]
            if space.is_ascii_whitespace() && (next.is_ascii_digit() || next.is_ascii_whitespace() || *next == b'#') =>
        {
            Some(Format::Pnm)
        }
        [b'P', b'7', b'\n', ..] => Some(Format::Pnm),
        _ => {
            let head = &bytes[..bytes.len().min(PDF_HEADER_WINDOW)];
            head.windows(5).any(|window| window == b"%PDF-").then_some(Format::Pdf)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_content() {
        for (bytes, format) in [
            (&b"\xff\xd8\xff\xe0"[..], Format::Jpeg),
            (b"\x89PNG\r\n\x1a\n", Format::Png),
            (b"II*\0", Format::Tiff),
            (b"MM\0+", Format::Tiff),
            (b"junk before %PDF-1.4", Format::Pdf),
            (b"BM\0\0\0\0\0\0\0\0\0\0\0\0\x28\0\0\0", Format::Bmp),
            (b"GIF89a", Format::Gif),
            (b"RIFF\0\0\0\0WEBP", Format::Webp),
            (b"P4\n8 8\n", Format::Pnm),
            (b"P6 # by hand\n", Format::Pnm),
        ] {
            assert_eq!(sniff(bytes), Some(format), "{bytes:?}");
        }
        for bytes in [&b""[..], b"BMW is a car maker in Munich", b"Plain text", b"P1x", b"II", b"RIFF\0\0\0\0WAVE", b"\xff\xd8"] {
            assert_eq!(sniff(bytes), None, "{bytes:?}");
        }
    }
}
