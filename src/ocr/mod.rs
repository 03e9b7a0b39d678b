//! From a page image to lines of text.
//!
//! Owns: the [`Engine`] seam, the two-stage engine behind it (detector, then recognizer), and the
//! geometry between them. Pure in the house's sense: blocking, no tokio, no clock but a stopwatch
//! round each stage. One thread owns one engine; `worker::engines` and `inkport read` call it.

use crate::document::Page;

mod columns;
mod ctc;
mod detect;
mod geometry;
mod language;
mod layer;
mod layout;
mod mask;
mod orient;
mod raster;
mod recognize_ctc;
mod rows;
mod runtime;
mod settings;
mod two_stage;

pub use layer::page_text;
pub use layout::turn_quad;
pub use runtime::NO_TELEMETRY;
pub use settings::{EngineChoice, Settings};
pub use two_stage::{EngineFiles, TwoStage};

/// Four corners in pixels of the upright page image, clockwise from the text's top left.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Quad(pub [[f32; 2]; 4]);

/// The probability that a reading is right in every character, 0 to 1: of the lines at 0.9, nine in
/// ten are right.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Confidence(f32);

impl Confidence {
    /// Clamped into 0..=1; NaN becomes 0.
    #[must_use]
    pub fn new(value: f32) -> Self {
        Confidence(if value.is_nan() { 0.0 } else { value.clamp(0.0, 1.0) })
    }

    #[must_use]
    pub fn get(self) -> f32 {
        self.0
    }
}

/// A word of a line, with its place.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Word {
    pub text: String,
    pub confidence: Confidence,
    pub quad: Quad,
}

/// A text line, as a person would read it out.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Line {
    pub text: String,
    pub confidence: Confidence,
    pub quad: Quad,
    /// Left to right; joined by single spaces they give `text`.
    pub words: Vec<Word>,
    /// Lines of one block (paragraph, column, table part) share a number; blocks come in reading order.
    pub block: u32,
}

/// What an engine returns for one page: lines in reading order.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub struct PageText {
    pub lines: Vec<Line>,
    /// Width and height in pixels of the upright page that the quads refer to.
    pub width: u32,
    pub height: u32,
    /// Clockwise turn in degrees (0, 90, 180, 270) that the engine applied on top of the page's own.
    pub rotation: u16,
    /// Degrees by which the text ran off the horizontal, clockwise positive.
    pub skew: f32,
    /// Where the time went.
    pub timing: StageTimes,
}

/// Wall time per stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct StageTimes {
    pub detect: std::time::Duration,
    pub recognize: std::time::Duration,
    /// Lines that the recognizer was given, and in how many batches.
    #[serde(default)]
    pub recognized: u32,
    #[serde(default)]
    pub batches: u32,
}

/// An engine's failure, by what the caller does next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
pub enum EngineError {
    /// Try again later: a remote server is down, memory is short.
    #[error("the engine is not available: {0}")]
    Unavailable(String),
    /// This page can never be read.
    #[error("the page cannot be read: {0}")]
    Rejected(String),
    /// The model or its runtime is broken: an operator must look.
    #[error("the model failed: {0}")]
    Model(String),
}

/// Reads pages. Blocking; one thread owns one engine.
pub trait Engine: Send {
    /// One answer per page, in order; one page's failure does not sink the others. `languages` are the codes
    /// (ISO 639-1, as "de" or "zh-Hans") of what the pages are written in; empty: not known.
    fn read(&mut self, pages: &[&Page], languages: &[String]) -> Vec<Result<PageText, EngineError>>;
    /// `ppocr`, …: the sidecar's `engine.name`.
    fn name(&self) -> &'static str;
    /// Names of the models it reads with: the sidecar's `engine.models`.
    fn models(&self) -> Vec<String>;
}
