//! From bytes to upright page images.
//!
//! Owns: what a format is (by content, never by name), decoding, orientation tags, and the limits
//! that are checked from a header before a single pixel is allocated. It never reads text and never
//! touches a file: bytes in, [`Page`]s out, one at a time, so that a thousand-page stack needs the
//! memory of one page. Called by `worker` and by `inkport read`.

use std::sync::Arc;

/// What a document may cost. From `[limits]` in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// A document format that Inkport reads, decided by content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

/// Why a document cannot be read. Every arm means "never": the job is rejected, not retried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    #[error("this is not a document that Inkport reads (JPEG, PNG, TIFF, PDF, BMP, GIF, WebP, PNM)")]
    Unsupported,
    #[error("the {what} is damaged: {detail}")]
    Damaged { what: &'static str, detail: String },
    #[error("page {page} has {pixels} pixels, more than the {limit} allowed by limits.max-pixels")]
    TooManyPixels { page: u32, pixels: u64, limit: u64 },
    #[error("the document has {pages} pages, more than the {limit} allowed by limits.max-pages")]
    TooManyPages { pages: u32, limit: u32 },
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
            DocumentError::Unsupported => "unsupported-format",
            DocumentError::Damaged { .. } => "damaged",
            DocumentError::TooManyPixels { .. } => "too-many-pixels",
            DocumentError::TooManyPages { .. } => "too-many-pages",
            DocumentError::Encrypted => "encrypted",
            DocumentError::Empty => "no-pages",
        }
    }
}
