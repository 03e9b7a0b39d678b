//! The shell of a PDF: objects one after the other into a writer that cannot go back, and the cross-reference
//! that says where they begin. Nothing is held but the offsets.

use flate2::Compression;
use flate2::write::ZlibEncoder;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Bytes of an offset in a cross-reference stream.
const OFFSET: usize = 6;

/// Objects on their way out.
pub(super) struct Objects<'w> {
    out: &'w mut dyn Write,
    /// Bytes before what comes next.
    at: u64,
    next: u32,
    /// Where each begins, and its generation.
    begun: BTreeMap<u32, (u64, i32)>,
}

impl<'w> Objects<'w> {
    /// Objects from number `next` on, behind `at` bytes.
    pub fn new(out: &'w mut dyn Write, at: u64, next: u32) -> Self {
        Objects { out, at, next, begun: BTreeMap::new() }
    }

    /// A number for an object that is written later.
    pub fn reserve(&mut self) -> u32 {
        self.next += 1;
        self.next - 1
    }

    /// An object that is no stream.
    pub fn object(&mut self, number: u32, body: &str) -> io::Result<()> {
        self.object_again((number, 0), body)
    }

    /// One that takes the place of an older one.
    pub fn object_again(&mut self, (number, generation): (u32, i32), body: &str) -> io::Result<()> {
        self.begun.insert(number, (self.at, generation));
        write!(self, "{number} {generation} obj\n{body}\nendobj\n")
    }

    /// A stream of bytes that are packed already; `entries` of its dictionary besides its length.
    pub fn stream(&mut self, number: u32, entries: &str, data: &[u8]) -> io::Result<()> {
        self.begun.insert(number, (self.at, 0));
        write!(self, "{number} 0 obj\n<< {entries} /Length {} >>\nstream\n", data.len())?;
        self.write_all(data)?;
        self.write_all(b"\nendstream\nendobj\n")
    }

    /// A stream that is packed while it is written.
    pub fn deflated(
        &mut self,
        number: u32,
        entries: &str,
        fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        let length = self.reserve();
        self.begun.insert(number, (self.at, 0));
        write!(self, "{number} 0 obj\n<< {entries} /Filter /FlateDecode /Length {length} 0 R >>\nstream\n")?;
        let from = self.at;
        let mut packed = ZlibEncoder::new(&mut *self, Compression::new(5));
        fill(&mut packed)?;
        packed.finish()?;
        let bytes = self.at - from;
        self.write_all(b"\nendstream\nendobj\n")?;
        self.object(length, &bytes.to_string())
    }

    /// A cross-reference table and trailer; `entries` of it besides its size. A whole file's, or with `previous`
    /// that of an addition.
    pub fn table(mut self, entries: &str, previous: Option<u64>, comment: &str) -> io::Result<()> {
        let from = self.at;
        self.write_all(b"xref\n")?;
        if previous.is_none() {
            // The head of the list of free objects; all others are in use, in one run.
            writeln!(self, "0 1\n0000000000 65535 f ")?;
        }
        for run in self.runs() {
            writeln!(self, "{} {}", run[0].0, run.len())?;
            for (_, (offset, generation)) in run {
                writeln!(self, "{offset:010} {generation:05} n ")?;
            }
        }
        let size = self.next;
        let previous = previous.map(|at| format!("/Prev {at} ")).unwrap_or_default();
        write!(self, "trailer\n<< {entries} /Size {size} {previous}>>\n{comment}startxref\n{from}\n%%EOF\n")
    }

    /// The same as a cross-reference stream, for a file that has such.
    pub fn table_stream(mut self, entries: &str, previous: u64, comment: &str) -> io::Result<()> {
        let number = self.reserve();
        let from = self.at;
        self.begun.insert(number, (from, 0));
        let (mut index, mut data) = (String::new(), Vec::new());
        for run in self.runs() {
            index.push_str(&format!("{} {} ", run[0].0, run.len()));
            for (_, (offset, generation)) in run {
                data.push(1);
                data.extend_from_slice(&offset.to_be_bytes()[8 - OFFSET..]);
                data.extend_from_slice(&u16::try_from(generation).unwrap_or(0).to_be_bytes());
            }
        }
        let size = self.next;
        let entries = format!("/Type /XRef /W [1 {OFFSET} 2] /Index [{index}] /Size {size} /Prev {previous} {entries}");
        self.stream(number, &entries, &data)?;
        write!(self, "{comment}startxref\n{from}\n%%EOF\n")
    }

    /// The objects that were begun, neighbours together.
    fn runs(&self) -> Vec<Vec<(u32, (u64, i32))>> {
        let all: Vec<_> = self.begun.iter().map(|(number, place)| (*number, *place)).collect();
        all.chunk_by(|one, next| one.0 + 1 == next.0).map(<[_]>::to_vec).collect()
    }
}

impl Write for Objects<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.at += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
