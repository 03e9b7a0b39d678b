//! From bytes to upright page images, or to the text that a page carries itself.
//!
//! Owns: what a format is (by content, never by name), decoding, orientation tags, digital text layers,
//! and the limits that are checked from a header before a single pixel is allocated. It never reads and never
//! touches a file: bytes in, [`Page`]s out, one at a time, so that a thousand-page stack needs the
//! memory of one page. Called by `worker` and by `inkport read`.
//!
//! [`Document`] is the door. It blocks, and a decoder's panic does not get out of it. No caller needs a
//! large stack: the PDF reader is run on one of its own.

mod image;
mod orient;
mod pdf;
mod pdf_guard;
mod pdf_image;
mod pdf_survey;
mod pdf_update;
mod picture;
mod sniff;
mod text_layer;
mod tiff;
mod tiff_codec;
mod tiff_directory;

pub use pdf_update::{Base, Place};
pub use picture::{Colours, Packing, Picture, Piece};
pub use sniff::sniff;
pub use text_layer::{TextLayer, TextRun, TextWord};

use serde::{Deserialize, Deserializer, Serialize};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// What a document may cost. From `[limits]` in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Width times height of a page, in pixels.
    pub max_pixels: u64,
    /// Pages of one document.
    pub max_pages: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { max_pixels: 100_000_000, max_pages: 2000 }
    }
}

impl Limits {
    /// Refuses a page by the size that its header claims.
    fn check_pixels(&self, page: u32, width: u32, height: u32) -> Result<(), DocumentError> {
        let pixels = u64::from(width) * u64::from(height);
        if pixels > self.max_pixels {
            return Err(DocumentError::TooManyPixels { page, pixels, limit: self.max_pixels });
        }
        Ok(())
    }
}

/// A document format that Inkport reads, decided by content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Format {
    Jpeg,
    Png,
    Tiff,
    Pdf,
    Bmp,
    Gif,
    Webp,
    Pnm,
}

impl Format {
    const ALL: [Format; 8] =
        [Format::Jpeg, Format::Png, Format::Tiff, Format::Pdf, Format::Bmp, Format::Gif, Format::Webp, Format::Pnm];

    /// As a sentence names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Format::Jpeg => "JPEG",
            Format::Png => "PNG",
            Format::Tiff => "TIFF",
            Format::Pdf => "PDF",
            Format::Bmp => "BMP",
            Format::Gif => "GIF",
            Format::Webp => "WebP",
            Format::Pnm => "PNM",
        }
    }

    /// The IANA media type.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Format::Jpeg => "image/jpeg",
            Format::Png => "image/png",
            Format::Tiff => "image/tiff",
            Format::Pdf => "application/pdf",
            Format::Bmp => "image/bmp",
            Format::Gif => "image/gif",
            Format::Webp => "image/webp",
            Format::Pnm => "image/x-portable-anymap",
        }
    }
}

/// One page image: 8-bit RGB, row major, top left first, the document's own orientation tag applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Position in the document, from 1.
    pub number: u32,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// `width * height * 3` bytes, R G B.
    pub rgb: Arc<[u8]>,
    /// Clockwise turn in degrees (0, 90, 180, 270) that was applied to make the page upright.
    pub rotation: u16,
    /// The file ended before the page did: what could be decoded is here, the rest is white.
    pub truncated: bool,
}

/// What a page gives to its reader.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Pixels, to be read.
    Image(Page),
    /// The text that the document tells by itself, to be taken as it is.
    Text(TextLayer),
}

/// An opened document: its format and page count are known, its pages are decoded when asked for.
pub struct Document {
    format: Format,
    limits: Limits,
    bytes: Arc<Vec<u8>>,
    pages: Pages,
}

enum Pages {
    Single,
    Tiff(tiff::TiffPages),
    Pdf(Box<pdf::PdfPages>),
}

impl Document {
    /// Tells the format, counts the pages and checks what can be checked without decoding. A single
    /// image's size is checked by [`Document::page`].
    pub fn open(bytes: impl Into<Arc<Vec<u8>>>, limits: &Limits) -> Result<Self, DocumentError> {
        let bytes = bytes.into();
        let format = sniff(&bytes).ok_or(DocumentError::Unsupported)?;
        let pages = contained(format, || {
            Ok(match format {
                Format::Tiff => Pages::Tiff(tiff::TiffPages::open(&bytes, limits)?),
                Format::Pdf => Pages::Pdf(Box::new(pdf::PdfPages::open(&bytes, limits)?)),
                _ => Pages::Single,
            })
        })?;
        Ok(Document { format, limits: *limits, bytes, pages })
    }

    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// At least 1.
    #[must_use]
    pub fn page_count(&self) -> u32 {
        let count = match &self.pages {
            Pages::Single => 1,
            Pages::Tiff(pages) => pages.count(),
            Pages::Pdf(pages) => pages.count(),
        };
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Page `index` as its reader wants it: the text where the document tells it well, else the image.
    /// Otherwise as [`Document::page`].
    pub fn content(&mut self, index: u32) -> Result<Content, DocumentError> {
        assert!(index < self.page_count(), "page {index} of {}", self.page_count());
        if let Pages::Pdf(pages) = &mut self.pages {
            return contained(self.format, || pages.content(index as usize, &self.limits));
        }
        self.page(index).map(Content::Image)
    }

    /// Decodes page `index`, counted from 0 and below [`Document::page_count`]. Nothing of it is kept
    /// here: the memory of a page is the caller's to drop. An error is this page's alone.
    pub fn page(&mut self, index: u32) -> Result<Page, DocumentError> {
        assert!(index < self.page_count(), "page {index} of {}", self.page_count());
        let at = index as usize;
        contained(self.format, || match &mut self.pages {
            Pages::Single => image::decode(&self.bytes, self.format, &self.limits),
            Pages::Tiff(pages) => pages.page(&self.bytes, at, &self.limits),
            Pages::Pdf(pages) => pages.page(at, &self.limits),
        })
    }
}

impl Document {
    /// Page `index` as the document has it, counted as in [`Document::page`]: its packed bytes where they can be
    /// taken along, else its pixels. `Unsupported` for a PDF, to which is added instead ([`Document::base`]).
    pub fn picture(&self, index: u32) -> Result<Picture<'_>, DocumentError> {
        assert!(index < self.page_count(), "page {index} of {}", self.page_count());
        let at = index as usize;
        let (packed, dpi) = contained(self.format, || match &self.pages {
            Pages::Single => {
                let packed = image::orientation(&self.bytes, self.format).and_then(|orientation| {
                    picture::packed(&self.bytes, self.format, (orientation.tag(), orientation.degrees()))
                });
                Ok((packed, picture::resolution(&self.bytes, self.format)))
            }
            Pages::Tiff(pages) => Ok(pages.packed(&self.bytes, at, &self.limits)),
            Pages::Pdf(_) => Err(DocumentError::Unsupported),
        })?;
        if let Some(packed) = packed {
            return Ok(packed);
        }
        let page = contained(self.format, || match &self.pages {
            Pages::Single => image::decode(&self.bytes, self.format, &self.limits),
            Pages::Tiff(pages) => pages.page(&self.bytes, at, &self.limits),
            Pages::Pdf(_) => Err(DocumentError::Unsupported),
        })?;
        Ok(Picture::pixels(page, dpi))
    }

    /// Page `index` as its pixels, whatever it is packed in.
    pub fn pixels(&mut self, index: u32) -> Result<Picture<'static>, DocumentError> {
        self.page(index).map(|page| Picture::pixels(page, None))
    }

    /// The whole document as it was received.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What whoever appends to a PDF must know of it; an error says why nothing can be.
    pub fn base(&self) -> Result<Base, DocumentError> {
        let Pages::Pdf(pages) = &self.pages else { return Err(DocumentError::Unsupported) };
        contained(self.format, || pages.base())
    }

    /// The same of page `index` of it.
    pub fn place(&mut self, index: u32) -> Result<Place, DocumentError> {
        let Pages::Pdf(pages) = &mut self.pages else { return Err(DocumentError::Unsupported) };
        contained(self.format, || pages.place(index as usize))
    }
}

/// Runs a decoder so that its panic, a bug that hostile bytes may reach, becomes this document's damage.
fn contained<T>(format: Format, decode: impl FnOnce() -> Result<T, DocumentError>) -> Result<T, DocumentError> {
    catch_unwind(AssertUnwindSafe(decode))
        .unwrap_or_else(|_| Err(DocumentError::Damaged { what: format.name(), detail: "its decoder failed on it".into() }))
}

/// As [`Format::name`] has it.
pub type FormatName = &'static str;

/// A format's name from another process; anything else is a document of no format we know.
fn format_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<&'static str, D::Error> {
    let text = String::deserialize(deserializer)?;
    Ok(Format::ALL.into_iter().map(Format::name).find(|name| *name == text).unwrap_or("document"))
}

/// Why a document cannot be read. Every arm means "never": the job is rejected, not retried.
/// It survives the way from the process that decodes to the one that tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum DocumentError {
    #[error("this is not a document that Inkport reads (JPEG, PNG, TIFF, PDF, BMP, GIF, WebP, PNM)")]
    Unsupported,
    #[error("the {what} is damaged: {detail}")]
    Damaged {
        #[serde(deserialize_with = "format_name")]
        what: FormatName,
        detail: String,
    },
    #[error("the {what} is of a kind that Inkport does not read: {detail}")]
    Unread {
        #[serde(deserialize_with = "format_name")]
        what: FormatName,
        detail: String,
    },
    #[error("page {page} has {pixels} pixels, more than the {limit} allowed by limits.max-pixels")]
    TooManyPixels { page: u32, pixels: u64, limit: u64 },
    #[error("the document has {pages} pages, more than the {limit} allowed by limits.max-pages")]
    TooManyPages { pages: u32, limit: u32 },
    #[error("the {what} is a decompression bomb: {detail}")]
    Bomb {
        #[serde(deserialize_with = "format_name")]
        what: FormatName,
        detail: String,
    },
    #[error("the PDF is encrypted: upload it without a password")]
    Encrypted,
    #[error("the document has no pages")]
    Empty,
}

impl DocumentError {
    /// The stable code in `error.json` and in `jobs show`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            DocumentError::Unsupported | DocumentError::Unread { .. } => "unsupported-format",
            DocumentError::Damaged { .. } => "damaged",
            DocumentError::TooManyPixels { .. } => "too-many-pixels",
            DocumentError::TooManyPages { .. } => "too-many-pages",
            DocumentError::Bomb { .. } => "decompression-bomb",
            DocumentError::Encrypted => "encrypted",
            DocumentError::Empty => "no-pages",
        }
    }
}
