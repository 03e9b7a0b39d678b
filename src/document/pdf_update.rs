//! What whoever appends to a PDF must know of it, so that every byte of it stays as it is: where its last
//! cross-reference lies and of which kind it is, which object number is free, and of each page what its
//! dictionary says, as text that can be written again.
//!
//! A file that is protected (what is appended would have to be encrypted) or whose structure readers have to
//! mend is told apart: to it nothing can be added.

use super::DocumentError;
use super::pdf::{PdfPages, damaged, on_large_stack};
use hayro::hayro_interpret::TransformExt;
use hayro::hayro_interpret::hayro_syntax::Pdf;
use hayro::hayro_interpret::hayro_syntax::object::dict::keys::{CONTENTS, FONT, RESOURCES};
use hayro::hayro_interpret::hayro_syntax::object::{Array, Dict, FromBytes, MaybeRef, Name, Object};
use hayro::hayro_interpret::hayro_syntax::page::Page as PdfPage;
use hayro::kurbo::Affine;
use std::fmt::Write;

/// Dictionaries in dictionaries that are written again; pages have three.
const DEEPEST: usize = 32;
/// The end of a file in which its last `startxref` stands.
const END_WINDOW: usize = 4096;

/// A PDF to which something is to be appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// Where its last cross-reference begins.
    pub previous: u64,
    /// That is a stream, and the next one has to be.
    pub is_stream: bool,
    /// The first object number that is free.
    pub free: u32,
    /// The entries `Root`, `Info` and `ID` of its trailer.
    pub trailer: String,
}

/// A page of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// Object and generation number.
    pub object: (u32, i32),
    /// The entries of its dictionary but for `Contents` and `Resources`.
    pub entries: String,
    /// The references in its `Contents`.
    pub contents: String,
    /// The entries of its `Resources`, its own or inherited, but for `Font`.
    pub resources: String,
    /// The entries of its `Font`.
    pub fonts: String,
    /// From the page as it is shown, its width and height 1 and y downwards, to its own coordinates: `[a b c d e f]`
    /// as PDF writes them.
    pub from_shown: [f64; 6],
    /// Width and height as shown, in points.
    pub size: [f64; 2],
}

impl PdfPages {
    /// Where something may be appended.
    pub fn base(&self) -> Result<Base, DocumentError> {
        base(&self.bytes, &self.pdf).ok_or_else(|| damaged("nothing can be added to it: readers have to mend its structure"))?
    }

    /// Page `index`, counted from 0.
    pub fn place(&mut self, index: usize) -> Result<Place, DocumentError> {
        on_large_stack(|| {
            let page = self.pdf.pages().get(index).ok_or_else(|| damaged(format!("page {} is not there", index + 1)))?;
            place(page, &self.pdf).ok_or_else(|| damaged(format!("page {} cannot be written again", index + 1)))
        })
    }
}

fn base(bytes: &[u8], pdf: &Pdf) -> Option<Result<Base, DocumentError>> {
    if !bytes.starts_with(b"%PDF-") {
        return None;
    }
    let from = bytes.len().saturating_sub(END_WINDOW);
    let mark = from + bytes[from..].windows(9).rposition(|window| window == b"startxref")?;
    let previous = number(&bytes[mark + 9..])?;
    let there = bytes.get(usize::try_from(previous).ok()?..)?;
    let there = there.trim_ascii_start();
    let is_stream = !there.starts_with(b"xref");
    let dictionary = if is_stream {
        // `12 0 obj <<`: a number first, or it is no object.
        number(there)?;
        let at = there.iter().take(40).position(|&byte| byte == b'<')?;
        &there[at..]
    } else {
        let at = there.windows(7).position(|window| window == b"trailer")?;
        there[at + 7..].trim_ascii_start()
    };
    let trailer = Dict::from_bytes(dictionary)?;
    if trailer.contains_key("Encrypt") {
        return Some(Err(DocumentError::Encrypted));
    }
    let root = trailer.get_ref("Root")?;
    if (root.obj_number, root.gen_number) != (pdf.xref().root_id().obj_number, pdf.xref().root_id().gen_number) {
        return None;
    }
    let size = trailer.get::<u32>("Size")?;
    let highest = pdf.pages().iter().filter_map(|page| page.raw().obj_id()).map(|id| id.obj_number).max()?;
    let free = size.max(highest.checked_add(1)?);
    let mut text = String::new();
    for (key, value) in trailer.entries().filter(|(key, _)| matches!(key.as_ref(), b"Root" | b"Info" | b"ID")) {
        entry(&key, &value, &mut text)?;
    }
    Some(Ok(Base { previous, is_stream, free, trailer: text }))
}

/// The number at the beginning, after white space.
fn number(bytes: &[u8]) -> Option<u64> {
    let bytes = bytes.trim_ascii_start();
    let digits = bytes.iter().take(12).take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&bytes[..digits]).ok()?.parse().ok()
}

fn place(page: &PdfPage<'_>, pdf: &Pdf) -> Option<Place> {
    let raw = page.raw();
    let id = raw.obj_id()?;
    // A page that is no object of its own would be one here that nobody asks for.
    if pdf.xref().get::<Dict<'_>>(id).is_none_or(|found| found.data() != raw.data()) {
        return None;
    }
    let (mut entries, mut contents, mut resources, mut fonts) = (String::new(), String::new(), String::new(), String::new());
    for (key, value) in raw.entries().filter(|(key, _)| !matches!(key.as_ref(), CONTENTS | RESOURCES)) {
        entry(&key, &value, &mut entries)?;
    }
    if let Some(array) = raw.get::<Array<'_>>(CONTENTS) {
        for item in array.raw_iter() {
            let reference = item.as_obj_ref()?;
            write!(contents, " {} {} R", reference.obj_number, reference.gen_number).ok()?;
        }
    } else if let Some(reference) = raw.get_ref(CONTENTS) {
        write!(contents, " {} {} R", reference.obj_number, reference.gen_number).ok()?;
    }
    let own = page.resources();
    for (key, dictionary) in [
        ("ExtGState", &own.ext_g_states),
        ("ColorSpace", &own.color_spaces),
        ("XObject", &own.x_objects),
        ("Pattern", &own.patterns),
        ("Shading", &own.shadings),
        ("Properties", &own.properties),
    ] {
        if !dictionary.is_empty() {
            write!(resources, "/{key} ").ok()?;
            dict(dictionary, &mut resources, 0)?;
            resources.push('\n');
        }
    }
    // `FONT` is what a page calls it; the names of the fonts in it are the page's own.
    debug_assert_eq!(FONT, b"Font");
    for (key, value) in own.fonts.entries() {
        entry(&key, &value, &mut fonts)?;
    }
    let (width, height) = page.render_dimensions();
    let size = [f64::from(width), f64::from(height)];
    let shown: Affine = page.initial_transform(true).to_kurbo();
    let from_shown = shown.inverse() * Affine::scale_non_uniform(size[0], size[1]);
    let from_shown = from_shown.as_coeffs();
    from_shown.iter().all(|value| value.is_finite()).then_some(Place {
        object: (id.obj_number, id.gen_number),
        entries,
        contents,
        resources,
        fonts,
        from_shown,
        size,
    })
}

/// A key and its value, on a line.
fn entry(key: &Name<'_>, value: &MaybeRef<Object<'_>>, out: &mut String) -> Option<()> {
    name(key, out);
    out.push(' ');
    maybe(value, out, 0)?;
    out.push('\n');
    Some(())
}

fn maybe(value: &MaybeRef<Object<'_>>, out: &mut String, depth: usize) -> Option<()> {
    match value {
        MaybeRef::Ref(reference) => write!(out, "{} {} R", reference.obj_number, reference.gen_number).ok(),
        MaybeRef::NotRef(value) => object(value, out, depth),
    }
}

/// `None` for what is not to be written again: too deep, or a stream, which is no value of a dictionary.
fn object(value: &Object<'_>, out: &mut String, depth: usize) -> Option<()> {
    match value {
        Object::Null(_) => out.push_str("null"),
        Object::Boolean(value) => write!(out, "{value}").ok()?,
        // Rust writes as many digits as tell the number, and no exponent.
        Object::Number(number) => write!(out, "{}", number.as_f64()).ok()?,
        Object::String(text) => {
            out.push('<');
            text.as_bytes().iter().try_for_each(|byte| write!(out, "{byte:02x}")).ok()?;
            out.push('>');
        }
        Object::Name(value) => name(value, out),
        Object::Dict(value) => dict(value, out, depth)?,
        Object::Array(array) if depth < DEEPEST => {
            out.push('[');
            for (index, item) in array.raw_iter().enumerate() {
                if index > 0 {
                    out.push(' ');
                }
                maybe(&item, out, depth + 1)?;
            }
            out.push(']');
        }
        Object::Array(_) | Object::Stream(_) => return None,
    }
    Some(())
}

fn dict(value: &Dict<'_>, out: &mut String, depth: usize) -> Option<()> {
    if depth >= DEEPEST {
        return None;
    }
    out.push_str("<<");
    for (key, value) in value.entries() {
        out.push(' ');
        name(&key, out);
        out.push(' ');
        maybe(&value, out, depth + 1)?;
    }
    out.push_str(" >>");
    Some(())
}

fn name(value: &Name<'_>, out: &mut String) {
    out.push('/');
    for &byte in value.as_ref() {
        if byte.is_ascii_alphanumeric() || b"_-.+:*$@!?,;^~|='\"".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "#{byte:02x}").expect("a string takes everything");
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::document::{Document, DocumentError, Limits};

    fn open(name: &str) -> Document {
        let path = format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
        Document::open(std::fs::read(path).unwrap(), &Limits::default()).unwrap()
    }

    #[test]
    fn a_pdf_says_where_it_may_be_added_to() {
        for name in ["scanned.pdf", "digital.pdf"] {
            let mut document = open(name);
            let base = document.base().unwrap();
            assert!(base.free > 3 && base.trailer.contains("/Root "), "{base:?}");
            let there = &document.bytes()[base.previous as usize..];
            assert_eq!(there.starts_with(b"xref"), !base.is_stream);
            let place = document.place(0).unwrap();
            assert!(place.entries.contains("/Type /Page") && place.contents.ends_with(" R"), "{place:?}");
            assert!(!place.entries.contains("/Contents") && !place.entries.contains("/Resources"));
            // The shown page's lower left corner is the page's own.
            let [_, b, _, d, e, f] = place.from_shown;
            assert!(e.abs() < 0.01 && (f - place.size[1]).abs() < 0.01 && b.abs() < 1e-9 && (d + place.size[1]).abs() < 0.01);
        }
    }

    #[test]
    fn to_a_protected_one_nothing_is_added() {
        assert_eq!(open("formats/owner-password.pdf").base(), Err(DocumentError::Encrypted));
        let mut cut = open("scanned.pdf").bytes().to_vec();
        cut.truncate(cut.len() - 40);
        assert!(Document::open(cut, &Limits::default()).unwrap().base().is_err());
    }
}
