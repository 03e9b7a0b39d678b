//! The sidecars besides text and JSON, read back by programs that we did not write: hocr-check, lxml, markdown-it,
//! Python's csv, LibreOffice, qpdf and poppler. Where one is not installed (`scripts/test-deps` brings all but
//! LibreOffice) its test says so and is skipped.

mod common;

#[path = "formats/hostile.rs"]
mod hostile;
#[path = "formats/made.rs"]
mod made;
#[path = "formats/pdf.rs"]
mod pdf;
#[path = "formats/served.rs"]
mod served;
#[path = "formats/tables.rs"]
mod tables;
#[path = "formats/tools.rs"]
mod tools;
#[path = "formats/xml.rs"]
mod xml;
