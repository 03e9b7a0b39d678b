//! The directory of a TIFF: headers, the chain of pages, and tag values read straight from the file's
//! bytes, so that no count in a hostile file ever becomes an allocation.
//!
//! Written here rather than taken from a crate because the ones at hand refuse a whole file over one
//! absent tag (old fax machines leave out `StripByteCounts`), palettes and CCITT Group 3.

use super::DocumentError;
use std::collections::HashSet;

/// Entries that one directory may have; real ones have about twenty.
const MAX_ENTRIES: u64 = 4096;

/// A TIFF's bytes with the meaning of its header.
pub(super) struct Tiff<'a> {
    pub bytes: &'a [u8],
    pub little_endian: bool,
    big: bool,
}

/// The tags that are read, by their numbers in the TIFF 6.0 specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Tag {
    NewSubfileType = 254,
    ImageWidth = 256,
    ImageLength = 257,
    BitsPerSample = 258,
    Compression = 259,
    Photometric = 262,
    FillOrder = 266,
    StripOffsets = 273,
    Orientation = 274,
    SamplesPerPixel = 277,
    RowsPerStrip = 278,
    StripByteCounts = 279,
    XResolution = 282,
    YResolution = 283,
    PlanarConfiguration = 284,
    T4Options = 292,
    ResolutionUnit = 296,
    Predictor = 317,
    ColorMap = 320,
    TileWidth = 322,
    TileLength = 323,
    TileOffsets = 324,
    TileByteCounts = 325,
    ExtraSamples = 338,
    SampleFormat = 339,
    JpegTables = 347,
    JpegInterchangeFormat = 513,
    JpegInterchangeFormatLength = 514,
    YCbCrSubSampling = 530,
}

/// Where one page's directory lies: its first entry and how many there are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Directory {
    entries: u64,
    count: u64,
}

/// One tag's values: their type and where they lie in the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Values {
    kind: u16,
    pub count: u64,
    offset: u64,
}

impl<'a> Tiff<'a> {
    /// Reads the header.
    pub fn new(bytes: &'a [u8]) -> Result<Self, DocumentError> {
        let little_endian = bytes.first() == Some(&b'I');
        let mut tiff = Tiff { bytes, little_endian, big: false };
        match tiff.uint(2, 2) {
            Some(42) => Ok(tiff),
            Some(43) if tiff.uint(4, 2) == Some(8) => {
                tiff.big = true;
                Ok(tiff)
            }
            _ => Err(super::tiff::damaged("its header is not that of a TIFF")),
        }
    }

    /// The pages in order. Thumbnails and masks are left out. The second value is false if the chain
    /// points beyond the file's end, as after a broken transfer.
    pub fn pages(&self, max_pages: u32) -> Result<(Vec<Directory>, bool), DocumentError> {
        let pointer = if self.big { 8 } else { 4 };
        let mut next = self.uint(if self.big { 8 } else { 4 }, pointer).unwrap_or(0);
        let (mut pages, mut others) = (Vec::new(), Vec::new());
        let mut seen = HashSet::new();
        let mut whole = true;
        while next != 0 {
            // A chain that bites its own tail ends there.
            if !seen.insert(next) {
                break;
            }
            let (count_size, entry_size) = if self.big { (8, 20) } else { (2, 12) };
            let Some(count) = self.uint(next, count_size).filter(|count| (1..=MAX_ENTRIES).contains(count)) else {
                whole = false;
                break;
            };
            let directory = Directory { entries: next + count_size, count };
            let subfile = self.values(directory, Tag::NewSubfileType).and_then(|v| self.get(v, 0)).unwrap_or(0);
            // Bit 0: a smaller copy of another page; bit 2: a transparency mask.
            if subfile & 0b101 == 0 { &mut pages } else { &mut others }.push(directory);
            if pages.len().max(others.len()) > max_pages as usize {
                return Err(DocumentError::TooManyPages { pages: max_pages.saturating_add(1), limit: max_pages });
            }
            match self.uint(directory.entries + count * entry_size, pointer) {
                Some(offset) => next = offset,
                None => {
                    whole = false;
                    break;
                }
            }
        }
        Ok((if pages.is_empty() { others } else { pages }, whole))
    }

    /// The values of `tag`, or `None` if the page does not have it.
    pub fn values(&self, directory: Directory, tag: Tag) -> Option<Values> {
        let (entry_size, count_size, inline) = if self.big { (20, 8, 8) } else { (12, 4, 4) };
        (0..directory.count).find_map(|index| {
            let entry = directory.entries + index * entry_size;
            if self.uint(entry, 2)? != tag as u64 {
                return None;
            }
            let kind = u16::try_from(self.uint(entry + 2, 2)?).ok()?;
            let count = self.uint(entry + 4, count_size)?;
            let value = entry + 4 + count_size;
            let fits = count.checked_mul(size_of_kind(kind)?)? <= inline;
            let offset = if fits { value } else { self.uint(value, inline)? };
            Some(Values { kind, count, offset })
        })
    }

    /// Value `index`, if it is a whole number and lies in the file.
    pub fn get(&self, values: Values, index: u64) -> Option<u64> {
        let size = size_of_kind(values.kind)?;
        if index >= values.count || values.kind == FRACTION {
            return None;
        }
        self.uint(values.offset.checked_add(index.checked_mul(size)?)?, size)
    }

    /// The first value of `tag`.
    pub fn number(&self, directory: Directory, tag: Tag) -> Option<u64> {
        self.get(self.values(directory, tag)?, 0)
    }

    /// The first value of `tag`, if it is a fraction above zero.
    pub fn fraction(&self, directory: Directory, tag: Tag) -> Option<f64> {
        let values = self.values(directory, tag).filter(|values| values.kind == FRACTION && values.count > 0)?;
        let (over, under) = (self.uint(values.offset, 4)?, self.uint(values.offset.checked_add(4)?, 4)?);
        (over > 0 && under > 0).then(|| over as f64 / under as f64)
    }

    /// The raw bytes of `tag`'s values, as far as the file goes.
    pub fn blob(&self, directory: Directory, tag: Tag) -> Option<&'a [u8]> {
        let values = self.values(directory, tag)?;
        Some(self.slice(values.offset, values.count.checked_mul(size_of_kind(values.kind)?)?))
    }

    /// `length` bytes from `offset`, fewer where the file ends before.
    pub fn slice(&self, offset: u64, length: u64) -> &'a [u8] {
        let end = self.bytes.len();
        let from = usize::try_from(offset).unwrap_or(end).min(end);
        let to = usize::try_from(offset.saturating_add(length)).unwrap_or(end).min(end);
        &self.bytes[from..to]
    }

    fn uint(&self, offset: u64, size: u64) -> Option<u64> {
        let from = usize::try_from(offset).ok()?;
        let field = self.bytes.get(from..from.checked_add(usize::try_from(size).ok()?)?)?;
        let append = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        Some(if self.little_endian { field.iter().rev().fold(0, append) } else { field.iter().fold(0, append) })
    }
}

/// The type of unsigned fractions: two numbers of four bytes.
const FRACTION: u16 = 5;

/// Bytes of one value; `None` for signed fractions and floats, which no tag that is read here uses.
fn size_of_kind(kind: u16) -> Option<u64> {
    match kind {
        1 | 2 | 6 | 7 => Some(1),
        3 | 8 => Some(2),
        4 | 9 | 13 => Some(4),
        FRACTION | 16..=18 => Some(8),
        _ => None,
    }
}
