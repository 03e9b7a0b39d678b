//! One document, read: bytes to pages to lines of text and to what is found in them, a page at a time.
//!
//! Blocking and free of the queue, so `inkport read` uses it too. Holds one page image at a time,
//! whatever the document has.

use crate::document::{Content, Document, DocumentError, Format, Limits, Page};
use crate::job::JobId;
use crate::ocr::{Engine, EngineError, PageText, page_text};
use crate::processors::{self, Code, Extract, Finding, FromPixels, FromText, Part, Plan, Processor, Seen};
use crate::sidecar::{EngineInfo, Facts, PageMeta, PartOf, PartPages, Reading, Spent, Warning};
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// A document's reading before it is told whose it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Read {
    pub format: Format,
    pub engine: EngineInfo,
    pub pages: Vec<(PageMeta, PageText)>,
    pub warnings: Vec<Warning>,
    /// On all pages.
    pub codes: Vec<Code>,
    /// Of the whole document; nothing where it is a stack.
    pub extract: Extract,
    /// A stack's documents.
    pub parts: Option<Vec<Part>>,
    pub spent: Spent,
    /// Whose reading it is, if the same bytes were read before.
    #[serde(skip)]
    pub duplicate_of: Option<JobId>,
}

impl Read {
    /// What the sidecars of the whole file are rendered from.
    #[must_use]
    pub fn reading(self, facts: &Facts<'_>) -> Reading {
        let pages_of = |(part, number): (Part, u32)| PartPages { number, pages: part.pages };
        let parts = self.parts.map(|parts| parts.into_iter().zip(1..).map(pages_of).collect());
        let reading = Reading::new(facts, self.format, self.engine, self.pages, self.spent);
        Reading { warnings: self.warnings, duplicate_of: self.duplicate_of, parts, ..reading }
            .with_findings(&self.codes, self.extract)
    }

    /// How many documents a stack holds: each has sidecars of its own. 0 where the file is no stack.
    #[must_use]
    pub fn part_count(&self) -> u32 {
        self.parts.as_ref().map_or(0, |parts| u32::try_from(parts.len()).unwrap_or(u32::MAX))
    }

    /// What the sidecars of a stack's document are rendered from, `number` counted from 1; nothing of the other
    /// documents is in it.
    #[must_use]
    pub fn part(&self, number: u32, facts: &Facts<'_>) -> Option<Reading> {
        let part = self.parts.as_ref()?.get(usize::try_from(number).ok()?.checked_sub(1)?)?;
        let here = |page: u32| part.pages.binary_search(&page).is_ok();
        let pages = self.pages.iter().filter(|(meta, _)| here(meta.number)).cloned().collect();
        let codes: Vec<Code> = self.codes.iter().filter(|code| here(code.page)).cloned().collect();
        let warnings = self.warnings.iter().filter(|warning| here(warning.page)).cloned().collect();
        let reading = Reading::new(facts, self.format, self.engine.clone(), pages, self.spent);
        let part_of = Some(PartOf { number, of: self.part_count() });
        let reading = Reading { warnings, duplicate_of: self.duplicate_of, part: part_of, ..reading };
        Some(reading.with_findings(&codes, part.extract.clone()))
    }
}

/// Why a document was not read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ReadError {
    /// It can never be.
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error("page {page}: {error}")]
    Engine { page: u32, error: EngineError },
    /// Its bytes could not be had, or the engine's thread ended: not the document's fault.
    #[error("{0}")]
    Interrupted(String),
    #[error("reading was given up")]
    Cancelled,
}

impl ReadError {
    /// The stable code in the sidecars.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            ReadError::Document(error) => error.code(),
            ReadError::Engine { error: EngineError::Rejected(_), .. } => "unreadable",
            ReadError::Engine { .. } => "engine",
            ReadError::Interrupted(_) | ReadError::Cancelled => "interrupted",
        }
    }
}

/// How a document is read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Options {
    pub limits: Limits,
    /// Codes of what its pages are written in; empty: not known.
    pub languages: Vec<String>,
    pub plan: Plan,
}

/// Reads all pages; asks `cancelled` before each. A page that cannot be read does not sink the others: it
/// stays empty and is named in the warnings. Where none can be, the first one's reason is the document's.
pub fn document(
    bytes: Vec<u8>,
    options: &Options,
    engine: &mut dyn Engine,
    cancelled: &dyn Fn() -> bool,
) -> Result<Read, ReadError> {
    let started = Instant::now();
    let mut document = Document::open(bytes, &options.limits)?;
    let mut decode = started.elapsed();
    let (mut pages, mut warnings) = (Vec::new(), Vec::new());
    let (mut first_error, mut unread) = (None, 0);
    let mut processors = Processors::of(&options.plan);
    let mut codes = Vec::new();
    for index in 0..document.page_count() {
        if cancelled() {
            return Err(ReadError::Cancelled);
        }
        let number = index + 1;
        let decoding = Instant::now();
        let content = document.content(index);
        decode += decoding.elapsed();
        let read = match content {
            Ok(Content::Text(layer)) => {
                let text = page_text(&layer);
                if processors.want_pixels() && layer.pictures {
                    let decoding = Instant::now();
                    // Without its picture the page is read all the same.
                    let page = document.page(index);
                    decode += decoding.elapsed();
                    if let Ok(page) = page {
                        processors.look(&page, text.rotation, &mut codes);
                    }
                }
                Ok((PageMeta::from(&layer), text))
            }
            Ok(Content::Image(page)) => {
                let text = if options.plan.needs_text() {
                    read_image(&page, &options.languages, engine)
                } else {
                    Ok(PageText { width: page.width, height: page.height, ..PageText::default() })
                };
                if let Ok(text) = &text {
                    processors.look(&page, text.rotation, &mut codes);
                }
                text.map(|text| (PageMeta::from(&page), text))
            }
            Err(error) => Err(ReadError::Document(error)),
        };
        match read {
            Ok((meta, text)) => {
                if meta.truncated {
                    let message = "the file ends before the page does; what is there was read".to_owned();
                    warnings.push(Warning { page: number, code: "truncated".into(), message });
                }
                pages.push((meta, text));
            }
            // The engine's trouble, not the page's.
            Err(error @ ReadError::Engine { error: EngineError::Unavailable(_) | EngineError::Model(_), .. }) => {
                return Err(error);
            }
            Err(error) => {
                warnings.push(Warning { page: number, code: error.code().into(), message: error.to_string() });
                pages.push((PageMeta::unreadable(number), PageText::default()));
                first_error.get_or_insert(error);
                unread += 1;
            }
        }
    }
    if let Some(error) = first_error.filter(|_| unread == pages.len()) {
        return Err(error);
    }
    let engine = EngineInfo { name: engine.name().to_owned(), models: engine.models() };
    let numbers: Vec<u32> = pages.iter().map(|(meta, _)| meta.number).collect();
    let (mut extract, mut parts) = (Extract::default(), None);
    match processors::split(&numbers, &codes, &options.plan.codes) {
        None => extract = processors.extract(&numbers, &pages, &codes),
        Some(documents) => {
            let part = |pages_of: Vec<u32>| Part { extract: processors.extract(&pages_of, &pages, &codes), pages: pages_of };
            parts = Some(documents.into_iter().map(part).collect());
        }
    }
    let spent = Spent { decode, total: started.elapsed() };
    Ok(Read { format: document.format(), engine, pages, warnings, codes, extract, parts, spent, duplicate_of: None })
}

/// A plan's processors, by what they need.
struct Processors {
    pixels: Vec<Box<dyn FromPixels>>,
    text: Vec<Box<dyn FromText>>,
}

impl Processors {
    fn of(plan: &Plan) -> Self {
        let mut processors = Processors { pixels: Vec::new(), text: Vec::new() };
        for processor in plan.processors() {
            match processor {
                Processor::Pixels(processor) => processors.pixels.push(processor),
                Processor::Text(processor) => processors.text.push(processor),
            }
        }
        processors
    }

    fn want_pixels(&self) -> bool {
        !self.pixels.is_empty()
    }

    fn look(&mut self, page: &Page, rotation: u16, codes: &mut Vec<Code>) {
        for processor in &mut self.pixels {
            match processor.look(page, rotation) {
                Finding::Codes(found) => codes.extend(found),
                Finding::Fields(_) => debug_assert!(false, "fields are found in text"),
            }
        }
    }

    /// What the document of these pages tells.
    fn extract(&mut self, numbers: &[u32], pages: &[(PageMeta, PageText)], codes: &[Code]) -> Extract {
        let here = |page: u32| numbers.binary_search(&page).is_ok();
        let pages: Vec<(u32, &PageText)> =
            pages.iter().filter(|(meta, _)| here(meta.number)).map(|(meta, text)| (meta.number, text)).collect();
        let codes: Vec<Code> = codes.iter().filter(|code| here(code.page)).cloned().collect();
        let mut extract = Extract::default();
        for processor in &mut self.text {
            match processor.look(&Seen { pages: &pages, codes: &codes }) {
                Finding::Fields(found) => extract = found,
                Finding::Codes(_) => debug_assert!(false, "codes are found in pixels"),
            }
        }
        extract
    }
}

fn read_image(page: &Page, languages: &[String], engine: &mut dyn Engine) -> Result<PageText, ReadError> {
    let answer =
        engine.read(&[page], languages).pop().unwrap_or_else(|| Err(EngineError::Model("the engine gave no answer".to_owned())));
    answer.map_err(|error| ReadError::Engine { page: page.number, error })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// Answers the sizes of the pages it is shown.
    struct Measure;

    impl Engine for Measure {
        fn read(&mut self, pages: &[&Page], _: &[String]) -> Vec<Result<PageText, EngineError>> {
            pages.iter().map(|p| Ok(PageText { width: p.width, height: p.height, ..PageText::default() })).collect()
        }
        fn name(&self) -> &'static str {
            "measure"
        }
        fn models(&self) -> Vec<String> {
            Vec::new()
        }
    }

    fn fixture() -> Vec<u8> {
        std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/fax.tif")).unwrap()
    }

    #[test]
    fn every_page_is_read_in_order() {
        let read = document(fixture(), &Options::default(), &mut Measure, &|| false).unwrap();
        assert_eq!(read.pages.iter().map(|(meta, _)| meta.number).collect::<Vec<_>>(), [1, 2]);
        assert!(read.pages.iter().all(|(meta, text)| text.width == meta.width && meta.width > 0));
    }

    #[test]
    fn a_cancelled_reading_stops_between_pages() {
        let asked = Cell::new(0);
        let cancel_after_first = || {
            asked.set(asked.get() + 1);
            asked.get() > 1
        };
        assert_eq!(document(fixture(), &Options::default(), &mut Measure, &cancel_after_first), Err(ReadError::Cancelled));
    }

    /// The fax with its last page's compression scheme made an unknown one.
    fn half_a_fax() -> Vec<u8> {
        let mut bytes = fixture();
        let entry = [3, 1, 3, 0, 1, 0, 0, 0];
        let at = bytes.windows(8).rposition(|window| window == entry).unwrap();
        bytes[at + 8..at + 10].copy_from_slice(&[0x0f, 0x27]);
        bytes
    }

    #[test]
    fn a_damaged_page_does_not_sink_the_others() {
        let read = document(half_a_fax(), &Options::default(), &mut Measure, &|| false).unwrap();
        assert_eq!(read.pages.len(), 2);
        assert!(read.pages[0].0.width > 0 && read.pages[1].0.width == 0);
        assert_eq!(read.pages[1].1, PageText::default());
        let [warning] = &read.warnings[..] else { panic!("{:?}", read.warnings) };
        assert_eq!((warning.page, warning.code.as_ref()), (2, "unsupported-format"));
        assert!(warning.message.contains("9999"), "{}", warning.message);
    }

    #[test]
    fn an_engine_that_fails_is_not_the_pages_fault() {
        struct Fails(EngineError);
        impl Engine for Fails {
            fn read(&mut self, _: &[&Page], _: &[String]) -> Vec<Result<PageText, EngineError>> {
                vec![Err(self.0.clone())]
            }
            fn name(&self) -> &'static str {
                "fails"
            }
            fn models(&self) -> Vec<String> {
                Vec::new()
            }
        }
        let error = EngineError::Unavailable("away".into());
        let read = document(fixture(), &Options::default(), &mut Fails(error.clone()), &|| false);
        assert_eq!(read, Err(ReadError::Engine { page: 1, error }));
        // Where no page can be read, the first one's reason is the document's.
        let error = EngineError::Rejected("too small".into());
        let read = document(fixture(), &Options::default(), &mut Fails(error.clone()), &|| false);
        assert_eq!(read, Err(ReadError::Engine { page: 1, error }));
    }

    #[test]
    fn a_digital_page_needs_no_engine() {
        let bytes = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/digital.pdf")).unwrap();
        let read = document(bytes, &Options::default(), &mut Measure, &|| false).unwrap();
        assert_eq!(read.pages[0].0.source, crate::sidecar::Source::Layer);
        assert!(read.pages[0].1.lines.len() > 3);
    }

    #[test]
    fn what_is_no_document_is_told_apart_from_an_engine_that_fails() {
        let error = document(b"Dear Sir".to_vec(), &Options::default(), &mut Measure, &|| false).unwrap_err();
        assert_eq!(error, ReadError::Document(DocumentError::Unsupported));
    }
}
