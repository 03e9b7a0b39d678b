//! One document, read: bytes to pages to lines of text, a page at a time.
//!
//! Blocking and free of the queue, so `inkport read` uses it too. Holds one page image at a time,
//! whatever the document has.

use crate::document::{Content, Document, DocumentError, Format, Limits, Page};
use crate::job::JobId;
use crate::ocr::{Engine, EngineError, PageText, page_text};
use crate::sidecar::{EngineInfo, Facts, PageMeta, Reading, Spent, Warning};
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// A document's reading before it is told whose it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Read {
    pub format: Format,
    pub engine: EngineInfo,
    pub pages: Vec<(PageMeta, PageText)>,
    pub warnings: Vec<Warning>,
    pub spent: Spent,
    /// Whose reading it is, if the same bytes were read before.
    #[serde(skip)]
    pub duplicate_of: Option<JobId>,
}

impl Read {
    /// What the sidecars are rendered from.
    #[must_use]
    pub fn reading(self, facts: &Facts<'_>) -> Reading {
        let (warnings, duplicate_of) = (self.warnings, self.duplicate_of);
        Reading { warnings, duplicate_of, ..Reading::new(facts, self.format, self.engine, self.pages, self.spent) }
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
    for index in 0..document.page_count() {
        if cancelled() {
            return Err(ReadError::Cancelled);
        }
        let number = index + 1;
        let decoding = Instant::now();
        let content = document.content(index);
        decode += decoding.elapsed();
        let read = match content {
            Ok(Content::Text(layer)) => Ok((PageMeta::from(&layer), page_text(&layer))),
            Ok(Content::Image(page)) => read_image(&page, &options.languages, engine).map(|text| (PageMeta::from(&page), text)),
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
    let spent = Spent { decode, total: started.elapsed() };
    Ok(Read { format: document.format(), engine, pages, warnings, spent, duplicate_of: None })
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
