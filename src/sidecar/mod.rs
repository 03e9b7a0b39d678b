//! A reading rendered as the files that lie beside an upload.
//!
//! Owns: the names of sidecars (and which names are no documents at all), the versioned JSON of
//! `inkport/reading/1` and `inkport/error/1`, and the plain text. Pure: it turns values into bytes; who
//! writes them, whole and in which order, is `worker::publish`' business and `inkport read`'s.
//! The JSON Schemas of both files lie in `schema/`, and tests hold every rendering against them.

mod error;
mod json;
pub mod names;
mod reading;
mod txt;

pub use error::{ErrorReport, render_error};
pub use reading::{
    Code, EngineInfo, Facts, Field, FileInfo, Item, LineReading, PageMeta, PageReading, Pair, PartOf, PartPages, Quad, Reading,
    Source, Spent, Timing, Warning, WordReading,
};

use crate::account::Output;

/// The bytes of one sidecar.
#[must_use]
pub fn render(reading: &Reading, output: Output) -> Vec<u8> {
    match output {
        Output::Txt => txt::render(reading),
        Output::Json => json::render(reading),
    }
}
