//! One document, read: bytes to pages to lines of text, a page at a time.
//!
//! Blocking and free of the queue, so `inkport read` uses it too. Holds one page image at a time,
//! whatever the document has.

use crate::document::{Document, DocumentError, Format, Limits};
use crate::ocr::{Engine, EngineError, PageText, StageTimes};
use std::time::{Duration, Instant};

/// A document's reading before it is rendered.
#[derive(Debug, Clone, PartialEq)]
pub struct Read {
    pub format: Format,
    pub pages: Vec<PageRead>,
    /// The engine's `name()` and `models()`.
    pub engine: &'static str,
    pub models: Vec<String>,
    pub decode: Duration,
    pub stages: StageTimes,
    pub total: Duration,
}

/// One page of it.
#[derive(Debug, Clone, PartialEq)]
pub struct PageRead {
    /// From 1.
    pub number: u32,
    /// Clockwise turn in degrees that the document's own orientation asked for; the engine's comes on top.
    pub rotation: u16,
    /// The file ended before the page did.
    pub truncated: bool,
    pub text: PageText,
}

/// Why a document was not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It can never be.
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Its bytes could not be had, or the thread that read them ended.
    #[error("{0}")]
    Spool(String),
    #[error("reading was given up")]
    Cancelled,
}

/// Reads all pages; asks `cancelled` before each.
pub fn document(bytes: Vec<u8>, limits: Limits, engine: &mut dyn Engine, cancelled: &dyn Fn() -> bool) -> Result<Read, ReadError> {
    let started = Instant::now();
    let mut document = Document::open(bytes, &limits)?;
    let mut read = Read {
        format: document.format(),
        pages: Vec::new(),
        engine: engine.name(),
        models: engine.models(),
        decode: started.elapsed(),
        stages: StageTimes::default(),
        total: Duration::ZERO,
    };
    for index in 0..document.page_count() {
        if cancelled() {
            return Err(ReadError::Cancelled);
        }
        let decoding = Instant::now();
        let page = document.page(index)?;
        read.decode += decoding.elapsed();
        let text = engine.read(&[&page]).pop().unwrap_or_else(|| Err(EngineError::Model("the engine gave no answer".to_owned())))?;
        read.stages.detect += text.timing.detect;
        read.stages.recognize += text.timing.recognize;
        read.pages.push(PageRead { number: page.number, rotation: page.rotation, truncated: page.truncated, text });
    }
    read.total = started.elapsed();
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Page;
    use std::cell::Cell;

    /// Answers the sizes of the pages it is shown.
    struct Measure;

    impl Engine for Measure {
        fn read(&mut self, pages: &[&Page]) -> Vec<Result<PageText, EngineError>> {
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
        std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/fax_g4_2pages.tif")).unwrap()
    }

    #[test]
    fn every_page_is_read_in_order() {
        let read = document(fixture(), Limits::default(), &mut Measure, &|| false).unwrap();
        assert_eq!(read.pages.iter().map(|p| p.number).collect::<Vec<_>>(), [1, 2]);
        assert!(read.pages.iter().all(|p| p.text.width > 0 && p.text.height > 0));
    }

    #[test]
    fn a_cancelled_reading_stops_between_pages() {
        let asked = Cell::new(0);
        let cancel_after_first = || {
            asked.set(asked.get() + 1);
            asked.get() > 1
        };
        assert_eq!(document(fixture(), Limits::default(), &mut Measure, &cancel_after_first), Err(ReadError::Cancelled));
    }

    #[test]
    fn what_is_no_document_is_told_apart_from_an_engine_that_fails() {
        let error = document(b"Dear Sir".to_vec(), Limits::default(), &mut Measure, &|| false).unwrap_err();
        assert_eq!(error, ReadError::Document(DocumentError::Unsupported));
    }
}
