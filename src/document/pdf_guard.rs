//! Keeps decompression bombs away from the PDF reader, which unpacks whatever a stream holds into
//! memory. What a stream could become is first bounded by its length and its filters' highest ratio;
//! only one that could break the bound is unpacked here, counting and keeping nothing.

use super::{DocumentError, Limits};
use hayro::hayro_interpret::hayro_syntax::Filter;
use hayro::hayro_interpret::hayro_syntax::Pdf;
use hayro::hayro_interpret::hayro_syntax::object::dict::keys::{BITS_PER_COMPONENT, HEIGHT, SUBTYPE, WIDTH};
use hayro::hayro_interpret::hayro_syntax::object::{Name, Object, Stream};
use std::io::Read;

/// Bytes that a stream without pixels (drawing commands, fonts, tables of objects) may unpack to.
const MAX_UNPACKED: u64 = 128 << 20;
/// What all tables of objects together may unpack to while they are counted.
const MAX_COUNTED: u64 = 4 << 30;
/// Deflate repeats at most 258 bytes per two bits.
const DEFLATE_RATIO: u64 = 1032;
/// LZW's longest string is bounded by its 4096 codes; a code takes 9 bits at least.
const LZW_RATIO: u64 = 3641;
const RUN_LENGTH_RATIO: u64 = 64;
/// How far before `stream` its dictionary is looked for.
const DICTIONARY_WINDOW: usize = 1024;
/// How much of an image stream is searched for its own header.
const HEADER_WINDOW: u64 = 64 << 10;

fn bomb(detail: String) -> DocumentError {
    DocumentError::Bomb { what: "PDF", detail }
}

/// Before anything is parsed: object streams and cross-reference streams are unpacked while a PDF is
/// opened, so they are found by their words and counted.
pub(super) fn check_before_parsing(bytes: &[u8]) -> Result<(), DocumentError> {
    let (mut at, mut counted) = (0, 0);
    while let Some(found) = find(&bytes[at..], b"stream") {
        let word = at + found;
        at = word + 6;
        if bytes[..word].ends_with(b"end") {
            continue;
        }
        let dictionary = &bytes[word.saturating_sub(DICTIONARY_WINDOW)..word];
        if find(dictionary, b"ObjStm").is_none() && find(dictionary, b"XRef").is_none() {
            continue;
        }
        let data = &bytes[at..];
        let data = data.strip_prefix(b"\r\n").or_else(|| data.strip_prefix(b"\n")).unwrap_or(data);
        // A table that ends soon enough cannot be a bomb. The end is looked for only that far, and all
        // counting together is bounded, so that a file full of such words costs no more than its size.
        let harmless = usize::try_from(MAX_UNPACKED / DEFLATE_RATIO).unwrap_or(usize::MAX);
        if find(&data[..data.len().min(harmless)], b"endstream").is_some() || data.len() <= harmless {
            continue;
        }
        let size = count(flate2::read::ZlibDecoder::new(data), MAX_UNPACKED);
        counted += size;
        if size > MAX_UNPACKED || counted > MAX_COUNTED {
            return Err(bomb(format!("its tables of objects unpack to more than {MAX_UNPACKED} bytes")));
        }
    }
    Ok(())
}

/// After opening, before any page is drawn: every stream and every image's size.
pub(super) fn check_streams(pdf: &Pdf, limits: &Limits) -> Result<(), DocumentError> {
    for object in pdf.objects() {
        if let Object::Stream(stream) = object {
            check_stream(&stream, limits)?;
        }
    }
    Ok(())
}

fn check_stream(stream: &Stream<'_>, limits: &Limits) -> Result<(), DocumentError> {
    let dict = stream.dict();
    let number = |key: &[u8]| dict.get::<i64>(key).and_then(|v| u64::try_from(v).ok());
    let is_image = dict.get::<Name<'_>>(SUBTYPE).is_some_and(|name| name.as_ref() == b"Image");
    let filters = stream.filters();
    let packing = filters.iter().take_while(|f| !is_image_filter(**f)).copied().collect::<Vec<_>>();
    let image_filter = filters.iter().copied().find(|f| is_image_filter(*f));
    let data = stream.raw_data();

    if is_image || image_filter.is_some() {
        let declared = (number(WIDTH).unwrap_or(0), number(HEIGHT).unwrap_or(0));
        let own = image_filter.and_then(|filter| {
            let mut head = Vec::new();
            // A stream that does not unpack has no header to look at.
            let _ = unpacked(&data, &packing)?.take(HEADER_WINDOW).read_to_end(&mut head);
            own_size(&head, filter)
        });
        for (width, height) in [Some(declared), own].into_iter().flatten() {
            let pixels = width.saturating_mul(height);
            if pixels > limits.max_pixels {
                let limit = limits.max_pixels;
                return Err(bomb(format!(
                    "an image in it has {pixels} pixels, more than the {limit} allowed by limits.max-pixels"
                )));
            }
        }
    }

    let limit = if is_image && image_filter.is_none() {
        // Up to four inks of 16 bits, as declared and checked above.
        let bits = number(BITS_PER_COMPONENT).unwrap_or(8).clamp(1, 16);
        MAX_UNPACKED.max(limits.max_pixels.saturating_mul(4 * bits) / 8)
    } else {
        MAX_UNPACKED.max(limits.max_pixels)
    };
    let bound = packing.iter().fold(data.len() as u64, |bytes, filter| bytes.saturating_mul(ratio(*filter)));
    if bound <= limit {
        return Ok(());
    }
    let size = match unpacked(&data, &packing) {
        Some(reader) => count(reader, limit),
        None => bound,
    };
    if size > limit { Err(bomb(format!("a stream in it unpacks to more than {limit} bytes"))) } else { Ok(()) }
}

fn is_image_filter(filter: Filter) -> bool {
    matches!(filter, Filter::CcittFaxDecode | Filter::Jbig2Decode | Filter::DctDecode | Filter::JpxDecode)
}

fn ratio(filter: Filter) -> u64 {
    match filter {
        Filter::FlateDecode => DEFLATE_RATIO,
        Filter::LzwDecode => LZW_RATIO,
        Filter::RunLengthDecode => RUN_LENGTH_RATIO,
        _ => 1,
    }
}

/// A reader of the unpacked bytes; `None` where a filter is not one that real chains begin with.
fn unpacked<'d>(data: &'d [u8], filters: &[Filter]) -> Option<Box<dyn Read + 'd>> {
    let mut reader: Box<dyn Read + 'd> = Box::new(data);
    for filter in filters {
        reader = match filter {
            Filter::FlateDecode => Box::new(flate2::read::ZlibDecoder::new(reader)),
            Filter::LzwDecode => Box::new(LzwCounter::new(reader)),
            Filter::Crypt => reader,
            _ => return None,
        };
    }
    Some(reader)
}

/// Unpacks LZW as a PDF writes it.
struct LzwCounter<R> {
    source: R,
    decoder: weezl::decode::Decoder,
    input: Vec<u8>,
    at: usize,
}

impl<R: Read> LzwCounter<R> {
    fn new(source: R) -> Self {
        let decoder = weezl::decode::Decoder::with_tiff_size_switch(weezl::BitOrder::Msb, 8);
        LzwCounter { source, decoder, input: Vec::new(), at: 0 }
    }
}

impl<R: Read> Read for LzwCounter<R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        loop {
            if self.at == self.input.len() {
                self.input.resize(8192, 0);
                let read = self.source.read(&mut self.input)?;
                self.input.truncate(read);
                self.at = 0;
                if read == 0 {
                    return Ok(0);
                }
            }
            let step = self.decoder.decode_bytes(&self.input[self.at..], out);
            self.at += step.consumed_in;
            if step.consumed_out > 0 || step.status.is_err() || step.consumed_in == 0 {
                return Ok(step.consumed_out);
            }
        }
    }
}

/// How many bytes a reader gives, at most one buffer more than `limit`. An error ends the count: the
/// PDF reader gets no further either.
fn count(mut reader: impl Read, limit: u64) -> u64 {
    let mut buffer = vec![0; 64 << 10];
    let mut total = 0;
    while total <= limit {
        match reader.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(read) => total += read as u64,
        }
    }
    total
}

/// The size that an encoded image claims for itself, whatever its dictionary says.
fn own_size(head: &[u8], filter: Filter) -> Option<(u64, u64)> {
    match filter {
        Filter::DctDecode => jpeg_size(head),
        Filter::JpxDecode => jpeg2000_size(head),
        Filter::Jbig2Decode => jbig2_size(head),
        _ => None,
    }
}

fn be(bytes: &[u8], at: usize, size: usize) -> Option<u64> {
    Some(bytes.get(at..at.checked_add(size)?)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

/// The start-of-frame segment.
fn jpeg_size(head: &[u8]) -> Option<(u64, u64)> {
    let mut at = 2;
    loop {
        if *head.get(at)? != 0xff {
            at += 1;
            continue;
        }
        match *head.get(at + 1)? {
            0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => return Some((be(head, at + 7, 2)?, be(head, at + 5, 2)?)),
            0xff => at += 1,
            0x00 | 0x01 | 0xd0..=0xd9 => at += 2,
            _ => at += 2 + usize::try_from(be(head, at + 2, 2)?).ok()?.max(2),
        }
    }
}

/// The size marker: the reference grid's far corner less its near one.
fn jpeg2000_size(head: &[u8]) -> Option<(u64, u64)> {
    let at = find(head, &[0xff, 0x4f, 0xff, 0x51])? + 4;
    let field = |index: usize| be(head, at + 4 + 4 * index, 4);
    Some((field(0)?.saturating_sub(field(2)?), field(1)?.saturating_sub(field(3)?)))
}

/// The page information segment, which stands first or after dictionaries. A height that is not known
/// in advance grows with the data and is left to the dictionary.
fn jbig2_size(head: &[u8]) -> Option<(u64, u64)> {
    let mut at = 0;
    loop {
        let number = be(head, at, 4)?;
        let flags = be(head, at + 4, 1)?;
        let referred = be(head, at + 5, 1)? >> 5;
        let (referred, count_bytes) = if referred == 7 {
            let long = be(head, at + 5, 4)? & 0x1fff_ffff;
            (long, 4 + (long + 8) / 8)
        } else {
            (referred, 1)
        };
        let reference = if number <= 256 {
            1
        } else if number <= 65_536 {
            2
        } else {
            4
        };
        let association = if flags & 0x40 != 0 { 4 } else { 1 };
        let header = 5 + count_bytes.checked_add(referred.checked_mul(reference)?)?.checked_add(association)?;
        let length_at = at.checked_add(usize::try_from(header).ok()?)?;
        let length = be(head, length_at, 4)?;
        if flags & 0x3f == 48 {
            let height = be(head, length_at + 8, 4)?;
            return Some((be(head, length_at + 4, 4)?, if height == 0xffff_ffff { 0 } else { height }));
        }
        at = length_at.checked_add(4)?.checked_add(usize::try_from(length).ok()?)?;
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let first = needle[0];
    let mut at = 0;
    while let Some(found) = haystack.get(at..)?.iter().position(|&byte| byte == first) {
        at += found;
        if haystack[at..].starts_with(needle) {
            return Some(at);
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn deflated(size: usize) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        let zeros = vec![0; 1 << 20];
        for _ in 0..size >> 20 {
            encoder.write_all(&zeros).unwrap();
        }
        encoder.finish().unwrap()
    }

    #[test]
    fn a_bomb_among_the_object_streams_is_found_before_parsing() {
        let mut bytes = b"%PDF-1.5\n1 0 obj <</Type/ObjStm/Filter/FlateDecode>> stream\n".to_vec();
        bytes.extend(deflated(200 << 20));
        bytes.extend(b"\nendstream endobj");
        assert!(matches!(check_before_parsing(&bytes), Err(DocumentError::Bomb { .. })));
        let mut bytes = b"%PDF-1.5\n1 0 obj <</Type/ObjStm/Filter/FlateDecode>> stream\n".to_vec();
        bytes.extend(deflated(2 << 20));
        bytes.extend(b"\nendstream endobj");
        assert_eq!(check_before_parsing(&bytes), Ok(()));
    }

    #[test]
    fn encoded_images_tell_their_own_size() {
        let jpeg = b"\xff\xd8\xff\xe0\x00\x04ab\xff\xc0\x00\x11\x08\x12\x34\x56\x78";
        assert_eq!(jpeg_size(jpeg), Some((0x5678, 0x1234)));
        let mut jpx = b"\x00\x00junk\xff\x4f\xff\x51\x00\x2f\x00\x00".to_vec();
        for field in [1000u32, 600, 10, 20] {
            jpx.extend(field.to_be_bytes());
        }
        assert_eq!(jpeg2000_size(&jpx), Some((990, 580)));
        let mut jbig2 = vec![0, 0, 0, 0, 48, 0, 1, 0, 0, 0, 19];
        jbig2.extend(2480u32.to_be_bytes());
        jbig2.extend(3508u32.to_be_bytes());
        assert_eq!(jbig2_size(&jbig2), Some((2480, 3508)));
        assert_eq!(jbig2_size(&[0; 3]), None);
    }

    #[test]
    fn counting_stops_at_the_limit() {
        let packed = deflated(8 << 20);
        assert_eq!(count(flate2::read::ZlibDecoder::new(&packed[..]), 1 << 30), 8 << 20);
        assert!(count(flate2::read::ZlibDecoder::new(&packed[..]), 1 << 20) <= (1 << 20) + (64 << 10) + 1);
    }
}
