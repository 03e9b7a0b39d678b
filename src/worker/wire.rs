//! What the daemon and its engine processes say to each other, over the child's standard input and
//! output. Both ends are the same binary, but neither trusts the other's lengths: every frame has a
//! bound, and memory is touched by what has come, not by what was announced.
//!
//! A frame is its length (8 bytes, little-endian) and that many bytes of JSON. The daemon begins with
//! [`Open`], the engine process answers [`Hello`]. Then, once per document: [`Task`] and the document's
//! bytes as they are; back comes a `Result<Read, ReadError>`. The engine process ends when its input does.

use super::read::{Options, Read, ReadError};
use crate::ocr::EngineError;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, Read as _, Write};

/// Another one is not spoken to.
pub(super) const PROTOCOL: u32 = 2;

/// Of a frame that says what is to be done.
pub(super) const LONGEST_ORDER: u64 = 1 << 20;
/// Of a document's whole reading: two thousand pages of small print are a third of it.
pub(super) const LONGEST_ANSWER: u64 = 512 << 20;

/// Reserved before it has come; untouched, it costs nothing.
const AT_ONCE: u64 = 256 << 20;

/// The first frame: how the engine process is to limit itself, and what to open.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Open {
    pub protocol: u32,
    /// Bytes of memory that it may have, all told.
    pub memory: u64,
    /// Which engine: the command line's business, not this room's.
    pub engine: serde_json::Value,
}

/// The answer to [`Open`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    pub protocol: u32,
    pub opened: Result<Engine, EngineError>,
}

/// What was opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Engine {
    pub name: String,
    pub models: Vec<String>,
}

/// A document to be read; `bytes` bytes of it follow.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Task {
    pub options: Options,
    pub bytes: u64,
}

/// What comes of a [`Task`].
pub(super) type Answer = Result<Read, ReadError>;

/// Writes one frame, in one write where it is small. `InvalidInput` if it is longer than `longest`: then
/// nothing was written.
pub(super) fn send(out: &mut impl Write, value: &impl Serialize, longest: u64) -> io::Result<()> {
    let mut frame = vec![0; 8];
    serde_json::to_writer(&mut frame, value)?;
    let length = frame.len() as u64 - 8;
    if length > longest {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("a frame of {length} bytes is longer than {longest}")));
    }
    frame[..8].copy_from_slice(&length.to_le_bytes());
    out.write_all(&frame)?;
    out.flush()
}

/// Reads one frame; `None` where the other end has ended in between two.
pub(super) fn receive<T: DeserializeOwned>(input: &mut impl io::Read, longest: u64) -> io::Result<Option<T>> {
    let mut length = [0; 8];
    match input.read(&mut length)? {
        0 => return Ok(None),
        some => input.read_exact(&mut length[some..])?,
    }
    let bytes = receive_bytes(input, u64::from_le_bytes(length), longest)?;
    Ok(Some(serde_json::from_slice(&bytes)?))
}

/// Reads bytes whose number was announced.
pub(super) fn receive_bytes(input: &mut impl io::Read, length: u64, longest: u64) -> io::Result<Vec<u8>> {
    if length > longest {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{length} bytes were announced, {longest} are allowed")));
    }
    // As much as a document often has at once, and no more on the other end's word alone.
    let mut bytes = Vec::with_capacity(usize::try_from(length.min(AT_ONCE)).unwrap_or(0));
    input.take(length).read_to_end(&mut bytes)?;
    if (bytes.len() as u64) < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

/// JSON has no infinities; what is rendered from a reading makes zeros of them anyway.
pub(super) fn make_finite(read: &mut Read) {
    let finite = |value: &mut f32| {
        if !value.is_finite() {
            *value = 0.0;
        }
    };
    let extracts = read.parts.iter_mut().flatten().map(|part| &mut part.extract).chain([&mut read.extract]);
    let places = extracts.flat_map(|extract| extract.fields.values_mut()).filter_map(|field| field.quad.as_mut());
    for quad in places.chain(read.codes.iter_mut().map(|code| &mut code.quad)) {
        quad.0.as_flattened_mut().iter_mut().for_each(finite);
    }
    for (_, page) in &mut read.pages {
        finite(&mut page.skew);
        for line in &mut page.lines {
            line.quad.0.as_flattened_mut().iter_mut().for_each(finite);
            for word in &mut line.words {
                word.quad.0.as_flattened_mut().iter_mut().for_each(finite);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{DocumentError, Format};
    use crate::ocr::{Confidence, Line, PageText, Quad, StageTimes, Word};
    use crate::processors::{Code, Extract, Field, Item, Pair, Part};
    use crate::sidecar::{EngineInfo, PageMeta, Source, Spent, Warning};
    use std::time::Duration;

    fn there_and_back<T: Serialize + DeserializeOwned>(value: &T) -> T {
        let mut pipe = Vec::new();
        send(&mut pipe, value, LONGEST_ANSWER).unwrap();
        let mut rest = &pipe[..];
        let back = receive(&mut rest, LONGEST_ANSWER).unwrap().unwrap();
        assert!(rest.is_empty());
        back
    }

    fn extract(quad: Quad) -> Extract {
        let field = |value: &str, quad| Field {
            value: value.into(),
            raw: format!("€ {value}"),
            confidence: Confidence::new(0.3),
            page: 1,
            quad,
        };
        let fields = [("total".to_owned(), field("9.00", Some(quad))), ("tax".to_owned(), field("0.59", None))].into();
        let item = Item {
            description: "Tea".into(),
            quantity: Some(0.1),
            unit_price: None,
            amount: Some(-9.0),
            page: 1,
            raw: "-9".into(),
        };
        Extract { fields, items: vec![item], pairs: vec![Pair { key: "A:".into(), value: "b".into(), page: 1 }] }
    }

    fn read() -> Read {
        let quad = Quad([[0.1, 2.0], [1234.5677, 0.3], [f32::MIN_POSITIVE, 1e9], [-0.7, 16_777_216.0]]);
        let word = Word { text: "größe\u{0}\"".into(), confidence: Confidence::new(0.123_456_79), quad };
        let line = Line { text: "größe\u{0}\"".into(), confidence: Confidence::new(1.0), quad, words: vec![word], block: 7 };
        let timing = StageTimes { detect: Duration::from_nanos(1), recognize: Duration::from_secs(3), recognized: 4, batches: 2 };
        let text = PageText { lines: vec![line], width: 9, height: 8, rotation: 270, skew: -1.25, timing };
        let meta = PageMeta { number: 1, width: 9, height: 8, rotation: 90, truncated: true, source: Source::Layer };
        Read {
            format: Format::Webp,
            engine: EngineInfo { name: "e".into(), models: vec!["m".into()] },
            pages: vec![(meta, text)],
            warnings: vec![Warning { page: 1, code: "truncated".into(), message: "…".into() }],
            codes: vec![Code { format: "QR_CODE".into(), text: "größe\u{0}".into(), page: 1, quad }],
            extract: extract(quad),
            parts: Some(vec![Part { pages: vec![1], extract: extract(quad) }]),
            spent: Spent { decode: Duration::from_millis(5), total: Duration::from_secs(1) },
            duplicate_of: None,
        }
    }

    #[test]
    fn answers_come_over_to_the_bit() {
        let answers: [Answer; 6] = [
            Ok(read()),
            Err(ReadError::Document(DocumentError::Damaged { what: "TIFF", detail: "x".into() })),
            Err(ReadError::Document(DocumentError::TooManyPixels { page: 1, pixels: u64::MAX, limit: 2 })),
            Err(ReadError::Engine { page: 3, error: EngineError::Rejected("y".into()) }),
            Err(ReadError::Interrupted("z".into())),
            Err(ReadError::Cancelled),
        ];
        for answer in answers {
            assert_eq!(there_and_back(&answer), answer);
        }
    }

    #[test]
    fn every_format_has_its_name_again() {
        for name in ["JPEG", "PNG", "TIFF", "PDF", "BMP", "GIF", "WebP", "PNM"] {
            let error = DocumentError::Unread { what: name, detail: String::new() };
            assert_eq!(there_and_back(&error), error);
        }
    }

    #[test]
    fn what_is_no_number_becomes_one() {
        let mut strange = read();
        strange.pages[0].1.skew = f32::NAN;
        strange.pages[0].1.lines[0].words[0].quad.0[2][1] = f32::INFINITY;
        make_finite(&mut strange);
        assert_eq!(there_and_back(&strange), strange);
    }

    #[test]
    fn lengths_are_not_believed() {
        let mut lie = u64::MAX.to_le_bytes().to_vec();
        lie.extend(b"{}");
        assert_eq!(receive::<u32>(&mut &lie[..], LONGEST_ORDER).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let mut short = 1000u64.to_le_bytes().to_vec();
        short.extend(b"{}");
        assert_eq!(receive::<u32>(&mut &short[..], LONGEST_ORDER).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(receive::<u32>(&mut &short[..3], LONGEST_ORDER).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(receive::<u32>(&mut &[][..], LONGEST_ORDER).unwrap(), None);
        let mut out = Vec::new();
        assert_eq!(send(&mut out, &"x".repeat(100), 50).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert!(out.is_empty());
    }
}
