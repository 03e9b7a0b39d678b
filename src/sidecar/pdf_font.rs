//! The font of invisible text: every glyph is empty and half an em wide, and a map tells what each means. Made
//! here, for the characters that a document has.

use super::pdf_objects::Objects;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, Write};

/// Of every glyph, in em.
pub(super) const ADVANCE: f64 = 0.5;
/// How far the font reaches below its baseline, in em: a word's box is its line's height of one em.
pub(super) const DESCENT: f64 = 0.2;
const UNITS: u16 = 1000;

/// The glyphs in use: code 0 is the missing one.
#[derive(Default)]
pub(super) struct Glyphs {
    codes: HashMap<char, u16>,
    characters: Vec<char>,
}

impl Glyphs {
    /// Appends a text's codes in hexadecimal, four digits each.
    pub fn encode(&mut self, text: impl Iterator<Item = char>, out: &mut String) {
        for c in text {
            let next = u16::try_from(self.characters.len() + 1).unwrap_or(0);
            // Of more characters than there are codes the rest is missing.
            let code = *self.codes.entry(c).or_insert_with(|| {
                if next > 0 {
                    self.characters.push(c);
                }
                next
            });
            write!(out, "{code:04x}").expect("a string takes everything");
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.characters.is_empty()
    }

    /// Writes the font as object `font`.
    pub fn write(&self, font: u32, objects: &mut Objects<'_>) -> io::Result<()> {
        let (descendant, descriptor, file, meaning) =
            (objects.reserve(), objects.reserve(), objects.reserve(), objects.reserve());
        objects.object(
            font,
            &format!(
                "<< /Type /Font /Subtype /Type0 /BaseFont /InkportInvisible /Encoding /Identity-H \
                 /DescendantFonts [{descendant} 0 R] /ToUnicode {meaning} 0 R >>"
            ),
        )?;
        let width = ADVANCE * f64::from(UNITS);
        objects.object(
            descendant,
            &format!(
                "<< /Type /Font /Subtype /CIDFontType2 /BaseFont /InkportInvisible \
                 /CIDSystemInfo << /Registry (Adobe) /Ordering (Identity) /Supplement 0 >> /CIDToGIDMap /Identity \
                 /DW {width} /FontDescriptor {descriptor} 0 R >>"
            ),
        )?;
        let (up, down) = ((1.0 - DESCENT) * f64::from(UNITS), -DESCENT * f64::from(UNITS));
        objects.object(
            descriptor,
            &format!(
                "<< /Type /FontDescriptor /FontName /InkportInvisible /Flags 4 /FontBBox [0 {down} {width} {up}] \
                 /ItalicAngle 0 /Ascent {up} /Descent {down} /CapHeight {up} /StemV 80 /FontFile2 {file} 0 R >>"
            ),
        )?;
        let program = program(u16::try_from(self.characters.len() + 1).unwrap_or(u16::MAX));
        objects.deflated(file, &format!("/Length1 {}", program.len()), |out| out.write_all(&program))?;
        objects.deflated(meaning, "", |out| self.meaning(out))
    }

    fn meaning(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(
            b"/CIDInit /ProcSet findresource begin\n12 dict begin\nbegincmap\n\
              /CIDSystemInfo << /Registry (Adobe) /Ordering (UCS) /Supplement 0 >> def\n\
              /CMapName /Adobe-Identity-UCS def\n/CMapType 2 def\n\
              1 begincodespacerange\n<0000> <ffff>\nendcodespacerange\n",
        )?;
        let all: Vec<(usize, char)> = self.characters.iter().copied().enumerate().collect();
        // A hundred at a time, the format says.
        for some in all.chunks(100) {
            writeln!(out, "{} beginbfchar", some.len())?;
            for &(index, c) in some {
                let mut units = [0; 2];
                let text: String = c.encode_utf16(&mut units).iter().map(|unit| format!("{unit:04x}")).collect();
                writeln!(out, "<{:04x}> <{text}>", index + 1)?;
            }
            writeln!(out, "endbfchar")?;
        }
        out.write_all(b"endcmap\nCMapName currentdict /CMap defineresource pop\nend\nend\n")
    }
}

/// A TrueType font of `glyphs` empty glyphs: the tables that a PDF asks for and nothing in them.
fn program(glyphs: u16) -> Vec<u8> {
    let (ascent, descent) = (((1.0 - DESCENT) * f64::from(UNITS)) as i16, (-DESCENT * f64::from(UNITS)) as i16);
    let width = (ADVANCE * f64::from(UNITS)) as u16;
    let words = |values: &[u16]| values.iter().flat_map(|value| value.to_be_bytes()).collect::<Vec<u8>>();
    let head = [
        words(&[1, 0, 1, 0, 0, 0]), // version, revision, the sum that is not checked
        0x5f0f_3cf5u32.to_be_bytes().to_vec(),
        words(&[0, UNITS]),
        vec![0; 16], // made, changed
        words(&[0, descent.cast_unsigned(), width, ascent.cast_unsigned(), 0, 8, 2, 0, 0]),
    ]
    .concat();
    let hhea = words(&[1, 0, ascent.cast_unsigned(), descent.cast_unsigned(), 0, width, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
    let maxp = words(&[1, 0, glyphs, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    let mut hmtx = words(&[width, 0]);
    hmtx.resize(4 + 2 * usize::from(glyphs.saturating_sub(1)), 0);
    let loca = vec![0; 2 * (usize::from(glyphs) + 1)];
    // By name; an empty table of outlines is refused by some.
    let tables: [(&[u8; 4], Vec<u8>); 6] =
        [(b"glyf", vec![0; 4]), (b"head", head), (b"hhea", hhea), (b"hmtx", hmtx), (b"loca", loca), (b"maxp", maxp)];
    let count = tables.len() as u16;
    let mut font = [words(&[1, 0, count, 64, 2, count * 16 - 64])].concat();
    let mut offset = font.len() + tables.len() * 16;
    let mut bodies = Vec::new();
    for (name, mut body) in tables {
        let length = body.len();
        body.resize(length.next_multiple_of(4), 0);
        let sum = body
            .chunks_exact(4)
            .fold(0u32, |sum, word| sum.wrapping_add(u32::from_be_bytes([word[0], word[1], word[2], word[3]])));
        font.extend_from_slice(name);
        for value in [sum, offset as u32, length as u32] {
            font.extend_from_slice(&value.to_be_bytes());
        }
        offset += body.len();
        bodies.extend(body);
    }
    font.extend(bodies);
    font
}
