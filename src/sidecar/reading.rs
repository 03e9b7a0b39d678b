//! `inkport/reading/1`: everything that was read from one document, as its JSON sidecar tells it.
//!
//! Coordinates are pixels of the upright page to one decimal, confidences have four, angles two; more
//! digits would claim what no model knows. `codes`, `fields`, `items` and `pairs` belong to the format
//! from its first version, so that readers of version 1 need no second look.

use crate::account::AccountName;
use crate::document::{Format, Page, TextLayer};
use crate::job::{JobId, SpoolKey};
use crate::ocr::{Confidence, PageText};
use crate::processors;
use crate::units::Timestamp;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

/// The format's name and version.
const SCHEMA: &str = "inkport/reading/1";

/// One document's reading.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reading {
    pub schema: &'static str,
    /// `null` for a reading without the daemon.
    pub job: Option<JobId>,
    /// `null` for a reading without the daemon.
    pub account: Option<AccountName>,
    pub file: FileInfo,
    pub engine: EngineInfo,
    /// `null` where nobody received it.
    pub received_at: Option<Timestamp>,
    pub finished_at: Timestamp,
    pub pages: Vec<PageReading>,
    /// The text of all pages as the `.txt` has it, without the last line's end.
    pub text: String,
    /// Mean of the lines' confidences, each weighed by its length; `null` where nothing was read.
    pub confidence: Option<f64>,
    pub codes: Vec<Code>,
    pub fields: BTreeMap<String, Field>,
    pub items: Vec<Item>,
    pub pairs: Vec<Pair>,
    /// Where separator sheets part the file: its documents, each of which has sidecars of its own (`stack.tif.1.json`, …),
    /// with the fields in them. Left out where none do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parts: Option<Vec<PartPages>>,
    /// Which of a stack's documents this is: its pages keep the numbers that they have in the file. Left out for a whole file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<PartOf>,
    pub timing_ms: Timing,
    /// The job of the same account that read the same bytes: this is its reading. Left out where this job read them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplicate_of: Option<JobId>,
    /// The file ended before the document did. Left out when it did not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// What stands in the way of trusting the rest. Left out when nothing does.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
}

/// Something that went wrong without sinking the document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// The page that it is about.
    pub page: u32,
    /// Stable: `truncated`, or the code that the document would be rejected with.
    pub code: Cow<'static, str>,
    /// A sentence.
    pub message: String,
}

/// Where a page's text comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The engine read its image.
    Image,
    /// The document told it: a digital text layer, taken as it is.
    Layer,
}

/// The upload itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileInfo {
    pub name: String,
    pub bytes: u64,
    /// 64 lower-case hexadecimal digits.
    pub sha256: String,
    pub media_type: &'static str,
}

/// What read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineInfo {
    pub name: String,
    pub models: Vec<String>,
}

/// What is known of an upload besides its pages. The caller has the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts<'a> {
    /// `None` without the daemon, like `account`.
    pub job: Option<JobId>,
    pub account: Option<&'a AccountName>,
    /// The file's name, without a path.
    pub name: &'a str,
    pub bytes: u64,
    pub sha256: SpoolKey,
    pub received_at: Option<Timestamp>,
    pub finished_at: Timestamp,
}

/// What the document room said of a page; its pixels are gone when the reading is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageMeta {
    pub number: u32,
    pub width: u32,
    pub height: u32,
    /// Clockwise turn in degrees by the document's own tag.
    pub rotation: u16,
    pub truncated: bool,
    pub source: Source,
}

impl PageMeta {
    /// A page that could not be decoded: it has its place in the document and nothing else.
    #[must_use]
    pub fn unreadable(number: u32) -> Self {
        PageMeta { number, width: 0, height: 0, rotation: 0, truncated: false, source: Source::Image }
    }
}

impl From<&TextLayer> for PageMeta {
    fn from(layer: &TextLayer) -> Self {
        PageMeta {
            number: layer.number,
            width: layer.width,
            height: layer.height,
            rotation: 0,
            truncated: layer.truncated,
            source: Source::Layer,
        }
    }
}

impl From<&Page> for PageMeta {
    fn from(page: &Page) -> Self {
        PageMeta {
            number: page.number,
            width: page.width,
            height: page.height,
            rotation: page.rotation,
            truncated: page.truncated,
            source: Source::Image,
        }
    }
}

/// Time that the pages' own stage times do not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Spent {
    /// In the document room, all pages.
    pub decode: Duration,
    /// From opening the document to the last page's text.
    pub total: Duration,
}

/// One page, upright.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PageReading {
    pub number: u32,
    pub width: u32,
    pub height: u32,
    /// Clockwise turn in degrees that made the page upright: the document's tag and the engine's finding together.
    pub rotation: u16,
    pub skew: f64,
    pub source: Source,
    pub lines: Vec<LineReading>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LineReading {
    pub text: String,
    pub confidence: f64,
    pub quad: Quad,
    pub words: Vec<WordReading>,
    /// For the empty lines of the plain text; no part of the format.
    #[serde(skip)]
    pub block: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WordReading {
    pub text: String,
    pub confidence: f64,
    pub quad: Quad,
}

/// Four corners, clockwise from top left, rounded to one decimal.
pub type Quad = [[f64; 2]; 4];

/// A machine-readable code.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Code {
    pub format: String,
    pub text: String,
    pub page: u32,
    pub quad: Quad,
}

/// A named value.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Field {
    pub value: String,
    /// As it stands on the page.
    pub raw: String,
    pub confidence: f64,
    pub page: u32,
    pub quad: Option<Quad>,
}

/// A row of an invoice or receipt.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Item {
    pub description: String,
    pub quantity: Option<f64>,
    pub unit_price: Option<f64>,
    pub amount: Option<f64>,
    pub page: u32,
    /// Its lines as they stand on the page, a space between them.
    pub raw: String,
}

/// A form's question and answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pair {
    pub key: String,
    pub value: String,
    pub page: u32,
}

/// One document of a stack, by the numbers of its pages in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartPages {
    /// From 1: the number in its sidecars' names.
    pub number: u32,
    pub pages: Vec<u32>,
}

/// Which document of how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PartOf {
    /// From 1.
    pub number: u32,
    pub of: u32,
}

/// Milliseconds per stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Timing {
    pub decode: u64,
    pub detect: u64,
    pub recognize: u64,
    pub total: u64,
}

impl Reading {
    /// With what was found on its pages.
    #[must_use]
    pub fn with_findings(self, codes: &[processors::Code], extract: processors::Extract) -> Self {
        let code = |code: &processors::Code| Code {
            format: code.format.clone(),
            text: code.text.clone(),
            page: code.page,
            quad: quad(code.quad),
        };
        let field = |(name, field): (String, processors::Field)| {
            let processors::Field { value, raw, confidence: sure, page, quad: place } = field;
            (name, Field { value, raw, confidence: confidence(sure), page, quad: place.map(quad) })
        };
        let item = |item: processors::Item| {
            let processors::Item { description, quantity, unit_price, amount, page, raw } = item;
            Item { description, quantity, unit_price, amount, page, raw }
        };
        let pair = |processors::Pair { key, value, page }| Pair { key, value, page };
        Reading {
            codes: codes.iter().map(code).collect(),
            fields: extract.fields.into_iter().map(field).collect(),
            items: extract.items.into_iter().map(item).collect(),
            pairs: extract.pairs.into_iter().map(pair).collect(),
            ..self
        }
    }

    /// Puts a reading together from what the rooms below said, pages in order.
    #[must_use]
    pub fn new(facts: &Facts<'_>, format: Format, engine: EngineInfo, pages: Vec<(PageMeta, PageText)>, spent: Spent) -> Self {
        let sum = |stage: fn(&PageText) -> Duration| pages.iter().map(|(_, text)| stage(text)).sum::<Duration>();
        let timing_ms = Timing {
            decode: millis(spent.decode),
            detect: millis(sum(|text| text.timing.detect)),
            recognize: millis(sum(|text| text.timing.recognize)),
            total: millis(spent.total),
        };
        let confidence = mean_confidence(pages.iter().map(|(_, text)| text));
        let truncated = pages.iter().any(|(meta, _)| meta.truncated);
        let pages: Vec<_> = pages.into_iter().map(page_reading).collect();
        Reading {
            schema: SCHEMA,
            job: facts.job,
            account: facts.account.cloned(),
            file: FileInfo {
                name: facts.name.to_owned(),
                bytes: facts.bytes,
                sha256: facts.sha256.to_string(),
                media_type: format.media_type(),
            },
            engine,
            received_at: facts.received_at,
            finished_at: facts.finished_at,
            text: super::txt::text(&pages),
            pages,
            confidence,
            codes: Vec::new(),
            fields: BTreeMap::new(),
            items: Vec::new(),
            pairs: Vec::new(),
            parts: None,
            part: None,
            timing_ms,
            duplicate_of: None,
            truncated,
            warnings: Vec::new(),
        }
    }
}

fn page_reading((meta, text): (PageMeta, PageText)) -> PageReading {
    // An engine that found nothing may leave the size out; it is the page's own then.
    let (width, height) = if text.width == 0 { (meta.width, meta.height) } else { (text.width, text.height) };
    PageReading {
        number: meta.number,
        width,
        height,
        rotation: (meta.rotation % 360 + text.rotation % 360) % 360,
        skew: rounded(text.skew, 100.0),
        source: meta.source,
        lines: text
            .lines
            .into_iter()
            .map(|line| LineReading {
                text: line.text,
                confidence: confidence(line.confidence),
                quad: quad(line.quad),
                words: line
                    .words
                    .into_iter()
                    .map(|word| WordReading { text: word.text, confidence: confidence(word.confidence), quad: quad(word.quad) })
                    .collect(),
                block: line.block,
            })
            .collect(),
    }
}

fn mean_confidence<'a>(pages: impl Iterator<Item = &'a PageText>) -> Option<f64> {
    let (sum, weight) = pages.flat_map(|page| &page.lines).fold((0.0, 0.0), |(sum, weight), line| {
        let length = line.text.chars().count() as f64;
        (sum + f64::from(line.confidence.get()) * length, weight + length)
    });
    (weight > 0.0).then(|| (sum / weight * 10_000.0).round() / 10_000.0)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn quad(quad: crate::ocr::Quad) -> Quad {
    quad.0.map(|corner| corner.map(|value| rounded(value, 10.0)))
}

fn confidence(confidence: Confidence) -> f64 {
    rounded(confidence.get(), 10_000.0)
}

/// To the nearest `1 / steps`; JSON has no infinities, and no use for a negative zero.
fn rounded(value: f32, steps: f64) -> f64 {
    if value.is_finite() { (f64::from(value) * steps).round() / steps + 0.0 } else { 0.0 }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::ocr::{Line, StageTimes, Word};

    pub fn line(text: &str, block: u32, confidence: f32) -> Line {
        let quad = crate::ocr::Quad([[1.04, 2.0], [50.06, 2.0], [50.06, 12.0], [-0.01, 12.0]]);
        let words =
            text.split(' ').map(|word| Word { text: word.to_owned(), confidence: Confidence::new(confidence), quad }).collect();
        Line { text: text.to_owned(), confidence: Confidence::new(confidence), quad, words, block }
    }

    pub fn page(lines: Vec<Line>) -> PageText {
        let timing =
            StageTimes { detect: Duration::from_millis(7), recognize: Duration::from_millis(11), ..StageTimes::default() };
        PageText { lines, width: 100, height: 200, rotation: 270, skew: 0.4, timing }
    }

    pub fn reading(pages: Vec<PageText>) -> Reading {
        let pages = pages
            .into_iter()
            .enumerate()
            .map(|(index, text)| {
                let number = index as u32 + 1;
                (PageMeta { number, width: 100, height: 200, rotation: 180, truncated: false, source: Source::Image }, text)
            })
            .collect();
        let facts = Facts {
            job: None,
            account: None,
            name: "scan.jpg",
            bytes: 5,
            sha256: SpoolKey([0xab; 32]),
            received_at: None,
            finished_at: Timestamp(1500),
        };
        let engine = EngineInfo { name: "ppocr".into(), models: vec!["det".into()] };
        let spent = Spent { decode: Duration::from_millis(3), total: Duration::from_millis(40) };
        Reading::new(&facts, Format::Jpeg, engine, pages, spent)
    }

    #[test]
    fn numbers_say_no_more_than_is_known() {
        let reading = reading(vec![page(vec![line("Total 9.00", 0, 0.987_654)])]);
        let line = &reading.pages[0].lines[0];
        assert_eq!(line.quad, [[1.0, 2.0], [50.1, 2.0], [50.1, 12.0], [0.0, 12.0]]);
        assert!(line.quad[3][0].is_sign_positive());
        assert_eq!(line.confidence, 0.9877);
        assert_eq!(reading.pages[0].skew, 0.4);
        assert_eq!(rounded(f32::NAN, 10.0), 0.0);
    }

    #[test]
    fn turns_of_tag_and_engine_add_up() {
        assert_eq!(reading(vec![page(vec![])]).pages[0].rotation, 90);
    }

    #[test]
    fn confidence_weighs_lines_by_length() {
        let pages = vec![page(vec![line("aaa", 0, 1.0)]), page(vec![line("b", 0, 0.5)])];
        assert_eq!(reading(pages).confidence, Some(0.875));
        assert_eq!(reading(vec![page(vec![])]).confidence, None);
    }

    #[test]
    fn stages_are_summed_over_pages() {
        let timing = reading(vec![page(vec![]), page(vec![])]).timing_ms;
        assert_eq!(timing, Timing { decode: 3, detect: 14, recognize: 22, total: 40 });
    }
}
