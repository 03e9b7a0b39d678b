//! Readings made for a document, with words where we want them.

use inkport::account::Output;
use inkport::document::{Document, Limits, Page};
use inkport::job::SpoolKey;
use inkport::ocr::{Confidence, Line, PageText, Quad, Word};
use inkport::sidecar::{EngineInfo, Facts, PageMeta, Reading, Source, Spent, Style, write, write_pdf};
use inkport::units::Timestamp;
use std::path::{Path, PathBuf};

pub const JOB: &str = "01J00000000000000000000000";

pub fn fixture(name: &str) -> PathBuf {
    crate::common::repository().join("tests/fixtures").join(name)
}

pub fn open(bytes: Vec<u8>) -> Document {
    Document::open(bytes, &Limits::default()).unwrap()
}

/// A quad of so many pixels, turned clockwise by `degrees` round a point.
pub fn quad([left, top, right, bottom]: [f32; 4], degrees: f32, [x0, y0]: [f32; 2]) -> Quad {
    let (sin, cos) = degrees.to_radians().sin_cos();
    let turned = |[x, y]: [f32; 2]| [x0 + (x - x0) * cos - (y - y0) * sin, y0 + (x - x0) * sin + (y - y0) * cos];
    Quad([[left, top], [right, top], [right, bottom], [left, bottom]].map(turned))
}

/// Lines of words from the upper left corner on, `height` pixels high and skewed by `degrees`; words of one letter and
/// of many, with little room between them.
pub fn lines(texts: &[&str], height: f32, page: [f32; 2], degrees: f32) -> Vec<Line> {
    let middle = [page[0] / 2.0, page[1] / 2.0];
    let mut all = Vec::new();
    for (number, text) in (0u32..).zip(texts) {
        let top = page[1] * 0.1 + height * 1.8 * number as f32;
        let mut left = page[0] * 0.15;
        let mut words = Vec::new();
        for word in text.split(' ') {
            let right = left + height * 0.5 * word.chars().count() as f32;
            let place = quad([left, top, right, top + height], degrees, middle);
            words.push(Word { text: word.to_owned(), confidence: Confidence::new(0.9), quad: place });
            left = right + height * 0.3;
        }
        let whole = quad([page[0] * 0.15, top, left - height * 0.3, top + height], degrees, middle);
        all.push(Line { text: (*text).to_owned(), confidence: Confidence::new(0.9), quad: whole, words, block: number / 3 });
    }
    all
}

/// A reading of these pages.
pub fn reading(document: &Document, name: &str, pages: Vec<(PageMeta, PageText)>) -> Reading {
    let facts = Facts {
        job: Some(inkport::job::JobId(ulid::Ulid::from_string(JOB).unwrap())),
        account: None,
        name,
        bytes: document.bytes().len() as u64,
        sha256: SpoolKey([7; 32]),
        received_at: Some(Timestamp(1_764_400_000_000)),
        finished_at: Timestamp(1_764_400_001_000),
    };
    let engine = EngineInfo { name: "made".into(), models: vec!["up".into()] };
    Reading::new(&facts, document.format(), engine, pages, Spent::default())
}

/// A page on which an engine that turned it found these lines.
pub fn page(page: &Page, turn: u16, lines: Vec<Line>, skew: f32) -> (PageMeta, PageText) {
    let (width, height) = if turn.is_multiple_of(180) { (page.width, page.height) } else { (page.height, page.width) };
    (PageMeta::from(page), PageText { lines, width, height, rotation: turn, skew, ..PageText::default() })
}

/// A document of no pixels, for formats that do not look at them: `texts` on each page.
pub fn of_text(pages: Vec<Vec<Line>>) -> Reading {
    let document = open(std::fs::read(fixture("formats/bw.png")).unwrap());
    let meta = |number| PageMeta { number, width: 1000, height: 1400, rotation: 0, truncated: false, source: Source::Image };
    let text = |lines| PageText { lines, width: 1000, height: 1400, ..PageText::default() };
    let pages = (1..).zip(pages).map(|(number, lines)| (meta(number), text(lines))).collect();
    reading(&document, "scan.png", pages)
}

/// Writes a sidecar into a folder.
pub fn written(reading: &Reading, output: Output, document: Option<&mut Document>, folder: &Path) -> PathBuf {
    let path = folder.join(format!("out{}", output.suffix()));
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path).unwrap());
    match document {
        Some(document) => write_pdf(reading, document, &mut file).unwrap(),
        None => write(reading, output, &Style::default(), &mut file).unwrap(),
    }
    std::io::Write::flush(&mut file).unwrap();
    path
}
