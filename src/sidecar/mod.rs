//! A reading rendered as the files that lie beside an upload.
//!
//! Owns: the names of sidecars (and which names are no documents at all), the versioned JSON of
//! `inkport/reading/1` and `inkport/error/1`, the plain text, and what others file: hOCR, ALTO, Markdown, CSV, the
//! searchable PDF. Pure: it turns values into bytes; who
//! writes them, whole and in which order, is `worker::publish`' business and `inkport read`'s.
//! The JSON Schemas of both files lie in `schema/`, and tests hold every rendering against them.

mod alto;
mod csv;
mod error;
mod hocr;
mod json;
mod markdown;
pub mod names;
pub mod ours;
mod pdf;
mod pdf_font;
mod pdf_image;
mod pdf_objects;
mod pdf_text;
mod reading;
mod txt;
mod words;

pub use self::csv::{day_header, write_day_record};
pub use error::{ErrorReport, render_error};
pub use pdf::{PdfError, write_pdf};
pub use reading::{
    Code, EngineInfo, Facts, Field, FileInfo, Item, LineReading, PageMeta, PageReading, Pair, PartOf, PartPages, Quad, Reading,
    Source, Spent, Timing, Warning, WordReading,
};

use crate::account::Output;
use serde::{Deserialize, Serialize};
use std::io::{self, Write};

/// What is left to taste: `[sidecars]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Style {
    /// Whether a CSV begins with the mark by which Excel tells UTF-8.
    pub csv_bom: bool,
    /// Whether accounts that get CSV get a row for each upload in `YYYY-MM-DD.csv` too.
    pub csv_daily: bool,
}

impl Default for Style {
    fn default() -> Self {
        Style { csv_bom: false, csv_daily: true }
    }
}

/// Writes one sidecar. The searchable PDF is made from more than the reading: [`write_pdf`]; here it is refused as
/// `Unsupported`.
pub fn write(reading: &Reading, output: Output, style: &Style, out: &mut dyn Write) -> io::Result<()> {
    match output {
        Output::Txt => out.write_all(&txt::render(reading)),
        Output::Json => out.write_all(&json::render(reading)),
        Output::Hocr => hocr::write(reading, out),
        Output::Alto => alto::write(reading, out),
        Output::Markdown => markdown::write(reading, out),
        Output::Csv => csv::write(reading, style, out),
        Output::Pdf => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// The bytes of a text or JSON sidecar, or of another one that is made from the reading alone.
#[must_use]
pub fn render(reading: &Reading, output: Output) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A vector takes everything; what is refused is empty.
    let _ = write(reading, output, &Style::default(), &mut bytes);
    bytes
}
