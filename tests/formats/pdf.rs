//! The searchable PDF.

use crate::made::{JOB, fixture, lines, open, page, reading, written};
use crate::tools::{Seen, check_pdf, drawn, has, printed, run, seen, text_of};
use inkport::account::Output;
use inkport::document::Document;
use inkport::sidecar::{PageMeta, PdfError, Reading, Source, write_pdf};
use std::path::{Path, PathBuf};
use std::process::Command;

const TEXTS: [&str; 6] = ["INVOICE No. 4711", "Größe 5 € a b", "Total 9.00", "naïve æøå ß", "日本 語", "end 😀 of it"];

fn has_tools() -> bool {
    has("qpdf") && has("pdftotext")
}

/// A reading of the first page, as an engine would give it that turned the page by `turn`.
fn made(document: &mut Document, turn: u16, degrees: f32) -> Reading {
    let first = document.page(0).unwrap();
    let (width, height) = if turn.is_multiple_of(180) { (first.width, first.height) } else { (first.height, first.width) };
    let size = [width as f32, height as f32];
    let lines = lines(&TEXTS, size[1] * 0.03, size, degrees);
    let mut pages = vec![page(&first, turn, lines, degrees)];
    pages.extend((1..document.page_count()).map(|index| {
        let blank = document.page(index).unwrap();
        page(&blank, 0, vec![], 0.0)
    }));
    reading(document, "scan", pages)
}

fn words() -> Vec<String> {
    TEXTS.iter().flat_map(|text| text.split(' ')).map(str::to_owned).collect()
}

/// A box turned clockwise on its page of `size`; and the page's size after.
fn turned([left, top, right, bottom]: [f64; 4], [width, height]: [f64; 2], turn: u16) -> ([f64; 4], [f64; 2]) {
    match turn {
        90 => ([height - bottom, left, height - top, right], [height, width]),
        180 => ([width - right, height - bottom, width - left, height - top], [width, height]),
        270 => ([top, width - right, bottom, width - left], [height, width]),
        _ => ([left, top, right, bottom], [width, height]),
    }
}

/// Every word of the first page is seen within three pixels of where it was read. `back`: the turn from the upright
/// page to the one that is shown.
fn assert_places(reading: &Reading, found: &[([f64; 2], Vec<Seen>)], back: u16, what: &str) {
    let page = &reading.pages[0];
    let size = [f64::from(page.width), f64::from(page.height)];
    let (shown, words) = &found[0];
    for word in page.lines.iter().flat_map(|line| &line.words) {
        let low = |axis: usize| word.quad.iter().map(|corner| corner[axis]).fold(f64::INFINITY, f64::min);
        let high = |axis: usize| word.quad.iter().map(|corner| corner[axis]).fold(0.0, f64::max);
        let (wanted, size) = turned([low(0), low(1), high(0), high(1)], size, back);
        // Poppler tells the size of a turned page before it is turned.
        let shown = if (size[0] > size[1]) == (shown[0] > shown[1]) { *shown } else { [shown[1], shown[0]] };
        let scale = [size[0] / shown[0], size[1] / shown[1]];
        let near = words.iter().filter(|seen| seen.text == word.text).any(|seen| {
            let place = [0, 1, 2, 3].map(|side| seen.place[side] * scale[side % 2]);
            place.iter().zip(wanted).all(|(is, wanted)| (is - wanted).abs() <= 3.0)
        });
        assert!(near, "{what}: {} was read at {wanted:?}, seen: {words:?} by {scale:?}", word.text);
    }
}

#[test]
fn words_are_where_they_were_read_in_four_turns() {
    if !has_tools() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for name in ["letter-exif6.jpg", "receipt.png", "formats/rgb-exif7.jpg", "fax.tif", "scanned.pdf"] {
        for turn in [0, 90, 180, 270] {
            let mut document = open(std::fs::read(fixture(name)).unwrap());
            let made = made(&mut document, turn, 0.0);
            let file = written(&made, Output::Pdf, Some(&mut document), folder.path());
            check_pdf(&file);
            assert_eq!(text_of(&file)[0], words(), "{name} by {turn}");
            // Images are turned with their pages; a PDF's pages stay as they are.
            let back = if name.ends_with(".pdf") { (360 - turn) % 360 } else { 0 };
            assert_places(&made, &seen(&file), back, &format!("{name} by {turn}"));
        }
    }
}

#[test]
fn skewed_words_are_where_they_were_read_and_apart() {
    if !has_tools() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for degrees in [-3.0, 0.7, 3.0, 8.0] {
        let mut document = open(std::fs::read(fixture("receipt.png")).unwrap());
        let made = made(&mut document, 0, degrees);
        let file = written(&made, Output::Pdf, Some(&mut document), folder.path());
        assert_eq!(text_of(&file)[0], words(), "{degrees}");
        if degrees > 5.0 {
            // Poppler gives the boxes of pieces of words that slant so much.
            continue;
        }
        // Its boxes of slanting words are upright: their middles are compared.
        let (shown, found) = &seen(&file)[0];
        for word in made.pages[0].lines.iter().flat_map(|line| &line.words) {
            let middle = [0, 1].map(|axis| word.quad.iter().map(|corner| corner[axis]).sum::<f64>() / 4.0);
            let scale = [f64::from(made.pages[0].width) / shown[0], f64::from(made.pages[0].height) / shown[1]];
            let height = word.quad[3][1] - word.quad[0][1];
            let near = found.iter().filter(|seen| seen.text == word.text).any(|seen| {
                let is = [0, 1].map(|axis| (seen.place[axis] + seen.place[axis + 2]) / 2.0 * scale[axis]);
                (is[0] - middle[0]).abs() < 5.0 && (is[1] - middle[1]).abs() < height * 0.5
            });
            assert!(near, "{degrees}: {} at {middle:?}: {found:?}", word.text);
        }
    }
}

#[test]
fn words_that_touch_stay_apart() {
    if !has_tools() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut document = open(std::fs::read(fixture("receipt.png")).unwrap());
    for overlap in [0.0, 4.0, 30.0] {
        let mut made = made(&mut document, 0, 0.0);
        let line = &mut made.pages[0].lines[0];
        let mut left = 60.0;
        for word in &mut line.words {
            let right = left + 60.0;
            word.quad = [[left, 50.0], [right, 50.0], [right, 80.0], [left, 80.0]];
            left = right - overlap;
        }
        let file = written(&made, Output::Pdf, Some(&mut document), folder.path());
        assert_eq!(text_of(&file)[0], words(), "-raw, {overlap}");
        let text = printed(Command::new("pdftotext").arg(&file).arg("-"));
        assert!(text.contains("INVOICE No. 4711"), "{overlap}: {text}");
    }
}

/// Mean difference of two images' samples.
fn difference(one: &[u8], other: &[u8]) -> f64 {
    assert_eq!(one.len(), other.len());
    one.iter().zip(other).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / one.len() as f64
}

#[test]
fn pages_look_as_they_did_and_their_data_is_not_packed_anew() {
    if !has_tools() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut names: Vec<PathBuf> = std::fs::read_dir(fixture("formats")).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.extend(["letter-exif6.jpg", "receipt.png", "fax.tif", "truncated.jpg"].map(fixture));
    names.sort();
    let (mut compared, mut otherwise) = (0, Vec::new());
    for path in names {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let bytes = std::fs::read(&path).unwrap();
        if name.ends_with(".pdf") {
            continue;
        }
        let mut document = open(bytes.clone());
        if document.page(0).is_err() {
            continue;
        }
        let first = document.page(0).unwrap();
        let made = made(&mut document, 0, 0.0);
        let file = written(&made, Output::Pdf, Some(&mut document), folder.path());
        if name != "truncated.jpg" {
            // Of a JPEG that ends early qpdf says that it does.
            check_pdf(&file);
        }
        let pdf = std::fs::read(&file).unwrap();
        let encodings = printed(Command::new("pdfimages").arg("-list").arg(&file));
        let has_bytes = |part: &[u8]| pdf.windows(part.len()).any(|window| window == part);
        if name.ends_with(".jpg") {
            assert!(has_bytes(&bytes), "{name}: its bytes are not in it");
        } else if name.contains("-g4") || name.contains("-g3") || name.starts_with("fax") {
            assert!(encodings.contains(" ccitt "), "{name}: {encodings}");
        } else if name.contains("jpeg") && !name.contains("planes") && !name.contains("tiled") {
            assert!(encodings.contains(" jpeg "), "{name}: {encodings}");
        } else {
            assert!(encodings.contains(" image "), "{name}: {encodings}");
        }
        if name == "truncated.jpg" {
            // What is missing looks grey to one reader and white to another.
            continue;
        }
        let is = drawn(&file, first.width, first.height);
        // Inks become colours by other formulas; and poppler stretches each image to whole pixels, which at the edges of
        // these small ones is a twentieth.
        let most = if name.contains("cmyk") || name.contains("ycck") { 30.0 } else { 12.0 };
        let by = difference(&is, &first.rgb);
        if by >= most {
            otherwise.push(format!("{name}: {by}"));
        }
        compared += 1;
    }
    assert!(otherwise.is_empty(), "they are drawn otherwise: {otherwise:?}");
    assert!(compared > 50, "{compared}");
}

/// Makes another PDF of one, by qpdf.
fn by_qpdf(from: &Path, arguments: &[&str], to: PathBuf) -> Vec<u8> {
    let output = run(Command::new("qpdf").arg(from).args(arguments).arg(&to));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::read(to).unwrap()
}

#[test]
fn a_pdf_keeps_every_byte_and_gets_its_text() {
    if !has_tools() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let scanned = fixture("scanned.pdf");
    let plain = std::fs::read(&scanned).unwrap();
    let make = |arguments: &[&str]| by_qpdf(&scanned, arguments, folder.path().join("in.pdf"));
    for (what, bytes, shown) in [
        ("as it is", plain.clone(), 0),
        ("with object streams", make(&["--object-streams=generate"]), 0),
        ("linearized", make(&["--linearize"]), 0),
        ("turned", make(&["--rotate=+90:1"]), 90),
        ("turned, with object streams", make(&["--rotate=+270:1", "--object-streams=generate"]), 270),
    ] {
        let mut document = open(bytes.clone());
        let before = document.page(0).unwrap();
        // A reader sees the page as it is shown, so there is nothing to be turned.
        let made = made(&mut document, 0, 0.0);
        let file = written(&made, Output::Pdf, Some(&mut document), folder.path());
        let after = std::fs::read(&file).unwrap();
        assert!(after.starts_with(&bytes) && after.len() > bytes.len(), "{what}");
        assert!(String::from_utf8_lossy(&after).contains(&format!("%inkport job {JOB}\nstartxref\n")), "{what}");
        check_pdf(&file);
        assert_eq!(text_of(&file)[0], words(), "{what}");
        assert_places(&made, &seen(&file), 0, what);
        // It looks as before: the text cannot be seen.
        let again = open(after).page(0).unwrap();
        assert!(again == before, "{what}, shown by {shown}");
    }
}

#[test]
fn what_a_pdf_tells_by_itself_is_not_told_twice() {
    let bytes = std::fs::read(fixture("digital.pdf")).unwrap();
    let mut document = open(bytes.clone());
    let mut made = made(&mut document, 0, 0.0);
    made.pages[0].source = Source::Layer;
    let mut after = Vec::new();
    write_pdf(&made, &mut document, &mut after).unwrap();
    assert!(after.strip_prefix(&bytes[..]).unwrap().ends_with(format!("%inkport job {JOB}\n").as_bytes()));
    assert!(after.len() < bytes.len() + 60);
}

#[test]
fn where_there_can_be_no_pdf_it_is_said_why() {
    let mut document = open(std::fs::read(fixture("formats/owner-password.pdf")).unwrap());
    let made = made(&mut document, 0, 0.0);
    let mut out = Vec::new();
    let error = write_pdf(&made, &mut document, &mut out).unwrap_err();
    assert!(matches!(&error, PdfError::Impossible(why) if why.contains("encrypted")), "{error}");
    assert!(out.is_empty());
}

#[test]
fn pages_that_could_not_be_read_keep_their_place() {
    if !has_tools() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut document = open(std::fs::read(fixture("fax.tif")).unwrap());
    let second = document.page(1).unwrap();
    let size = [second.width as f32, second.height as f32];
    let lines = lines(&["second page"], 40.0, size, 0.0);
    let pages = vec![(PageMeta::unreadable(1), Default::default()), page(&second, 0, lines, 0.0)];
    let made = reading(&document, "fax.tif", pages);
    let file = written(&made, Output::Pdf, Some(&mut document), folder.path());
    check_pdf(&file);
    assert_eq!(text_of(&file), [vec![], vec!["second".to_owned(), "page".to_owned()]]);
}

/// A TIFF of so many pages, each of 1200 by 1700 pixels, all made of the same strip.
fn stack(pages: u32) -> Vec<u8> {
    let (width, height) = (1200u32, 1700u32);
    // PackBits: 128 and 22 times white is a row.
    let strip = [0x81, 0xff, 0xeb, 0xff].repeat(height as usize);
    let mut bytes = b"II*\0".to_vec();
    bytes.extend((8 + strip.len() as u32).to_le_bytes());
    bytes.extend(&strip);
    for number in 1..=pages {
        let entries = [
            (256, width),
            (257, height),
            (258, 1),
            (259, 32773),
            (262, 1),
            (273, 8),
            (277, 1),
            (278, height),
            (279, strip.len() as u32),
        ];
        bytes.extend((entries.len() as u16).to_le_bytes());
        for (tag, value) in entries {
            bytes.extend((tag as u16).to_le_bytes());
            bytes.extend([4, 0, 1, 0, 0, 0]);
            bytes.extend(value.to_le_bytes());
        }
        let next = if number == pages { 0 } else { bytes.len() as u32 + 4 };
        bytes.extend(next.to_le_bytes());
    }
    bytes
}

#[test]
fn a_stack_is_never_held_whole() {
    // In a process of its own, because what the tests beside it need would count.
    let mut alone = Command::new(std::env::current_exe().unwrap());
    printed(alone.args(["--exact", "pdf::a_stack_alone", "--ignored"]));
}

#[test]
#[ignore = "run by a_stack_is_never_held_whole"]
fn a_stack_alone() {
    let pages = 12;
    let mut document = open(stack(pages));
    let meta = |number| PageMeta { number, width: 1200, height: 1700, rotation: 0, truncated: false, source: Source::Image };
    let texts = (1..=pages).map(|number| {
        let lines = lines(&["a few words on each"], 40.0, [1200.0, 1700.0], 0.0);
        (meta(number), inkport::ocr::PageText { lines, width: 1200, height: 1700, ..Default::default() })
    });
    let made = reading(&document, "stack.tif", texts.collect());
    let before = crate::common::peak_memory_of(std::process::id());
    let mut out = Counted(0);
    write_pdf(&made, &mut document, &mut out).unwrap();
    let more = crate::common::peak_memory_of(std::process::id()) - before;
    // Its pixels are 73 MB, those of a page 6.
    assert!(more < 30 << 20, "{more} bytes for {pages} pages");
    assert!(out.0 > 5000);
}

struct Counted(usize);

impl std::io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
