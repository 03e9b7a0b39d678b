//! What is found in a document besides its text: codes, and the fields that people file by.
//!
//! Owns: the two kinds of processors (those that need a page's pixels, those that need a document's text), their
//! closed set of findings, and where separator sheets part a stack. Pure: pages and lines in, findings out.
//! Runs in the engine process, where the pixels are and where hostile text may cost what it will; called by
//! `worker::read`. Rules here are general, and nothing is invented: every value's raw text stands in the
//! reading.

pub mod codes;
pub mod fields;
mod stack;

pub use codes::Code;
pub use fields::{Extract, Field, Item, Pair};
pub use stack::{Part, split};

use crate::account::{OwnField, Step};
use crate::document::Page;
use crate::ocr::PageText;
use serde::{Deserialize, Serialize};

/// How documents are looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub steps: Vec<Step>,
    pub codes: codes::Settings,
    /// The account's own.
    pub own: Vec<OwnField>,
}

impl Default for Plan {
    /// Everything, as the shipped configuration has it.
    fn default() -> Self {
        Plan { steps: Step::ALL.to_vec(), codes: codes::Settings::default(), own: Vec::new() }
    }
}

impl Plan {
    #[must_use]
    pub fn has(&self, step: Step) -> bool {
        self.steps.contains(&step)
    }

    /// Whether the engine is needed.
    #[must_use]
    pub fn needs_text(&self) -> bool {
        self.has(Step::Text) || self.has(Step::Fields)
    }

    /// The processors of its steps, in order.
    #[must_use]
    pub fn processors(&self) -> Vec<Processor> {
        let mut processors = Vec::new();
        for step in Step::ALL.into_iter().filter(|step| self.has(*step)) {
            match step {
                // The engine's.
                Step::Text => {}
                Step::Codes => processors.push(Processor::Pixels(Box::new(codes::Finder::default()))),
                Step::Fields => processors.push(Processor::Text(Box::new(fields::Extractor::new(self)))),
            }
        }
        processors
    }
}

/// A unit of extraction, by what it needs.
pub enum Processor {
    Pixels(Box<dyn FromPixels>),
    Text(Box<dyn FromText>),
}

/// Looks at each page while its pixels are there.
pub trait FromPixels {
    /// `rotation` is the clockwise turn (0, 90, 180, 270) that makes this page upright: quads are in pixels of the
    /// upright page.
    fn look(&mut self, page: &Page, rotation: u16) -> Finding;
}

/// Looks at a whole document when all its pages are read.
pub trait FromText {
    fn look(&mut self, document: &Seen<'_>) -> Finding;
}

/// A document, or one of a stack's, as it was read.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// With their numbers in the file.
    pub pages: &'a [(u32, &'a PageText)],
    /// On these pages.
    pub codes: &'a [Code],
}

/// What a processor found. Closed: what a kind becomes in the sidecars is decided where it is matched.
#[derive(Debug, Clone, PartialEq)]
pub enum Finding {
    /// In no order that means anything.
    Codes(Vec<Code>),
    Fields(Extract),
}
