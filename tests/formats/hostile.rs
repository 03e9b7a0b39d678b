//! Text that would like to be more than text: in every format it is what it was, word by word and in order.

use crate::made::{fixture, lines, of_text, open, page, reading, written};
use crate::tools::{check_pdf, has, has_readers, text_of, words};
use inkport::account::Output;
use inkport::ocr::Line;
use inkport::sidecar::Reading;

const NASTY: [&str; 12] = [
    "<script>alert(1)</script> ]]> <![CDATA[ --> &amp; &#0; \"'",
    "a\u{0}b \u{1b}[31m \u{7f} \u{9f}x \u{ffff} \u{fffe}y \u{fdd0} \u{1ffff}",
    "\u{202e}drowssap\u{202c} \u{2066}x\u{2069} \u{200f}y \u{61c}z",
    "# head 1. list * _em_ `code` [a](b) ![i](j) ~~s~~ | t | \\ $x$",
    "1) - + = : > *** --- ___ ```",
    "=cmd|' /C calc'!A0 +1 -1 @SUM(A1) ;=1 \t=2",
    "(paren) \\( endstream endobj %%EOF <</Root>>",
    "שלום עולם مرحبا",
    "e\u{301} ﬁ 👩\u{200d}👧 𝔘𝔫𝔦 𐍈",
    "{{ 7*7 }} ${x} %s %n",
    "   two   spaces   ",
    "&lt; <!-- inkport job x -->",
];

/// A word as a page could have printed it; empty if nothing of it is left.
fn printable(word: &str) -> String {
    let plain = |c: char| match c {
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => None,
        '\t' | '\n' | '\u{b}' | '\u{c}' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}' => Some(' '),
        '\u{fdd0}'..='\u{fdef}' => Some('\u{fffd}'),
        c if c.is_control() || u32::from(c) & 0xfffe == 0xfffe => Some('\u{fffd}'),
        c => Some(c),
    };
    word.chars().filter_map(plain).collect()
}

fn expected(reading: &Reading) -> Vec<String> {
    let words = reading.pages.iter().flat_map(|page| &page.lines).flat_map(|line| &line.words);
    words.flat_map(|word| printable(&word.text).split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// Every format that has words has these, in order.
fn assert_words(pages: Vec<Vec<Line>>) {
    let folder = tempfile::tempdir().unwrap();
    let reading = of_text(pages);
    let expected = expected(&reading);
    for (output, kind) in [(Output::Hocr, "hocr"), (Output::Alto, "alto"), (Output::Markdown, "markdown")] {
        let found = words(kind, &written(&reading, output, None, folder.path()));
        // A word in which a control character was a space is one element and two words.
        let found: Vec<String> = found.concat().iter().flat_map(|word| word.split_whitespace().map(str::to_owned)).collect();
        assert_eq!(found, expected, "{kind}");
    }
}

/// The same in a PDF, of one page.
fn assert_pdf_words(made: impl Fn([f32; 2]) -> Vec<Line>) {
    let folder = tempfile::tempdir().unwrap();
    let mut document = open(std::fs::read(fixture("letter-exif6.jpg")).unwrap());
    let first = document.page(0).unwrap();
    let made = made([first.width as f32, first.height as f32]);
    let reading = reading(&document, "x\u{0}<(\\).jpg", vec![page(&first, 0, made, 0.0)]);
    let file = written(&reading, Output::Pdf, Some(&mut document), folder.path());
    check_pdf(&file);
    // Poppler marks words that run from right to left, and takes ligatures apart.
    let plain = |word: &String| word.replace(['\u{202a}', '\u{202b}', '\u{202c}', '\u{200e}', '\u{200f}'], "").replace('ﬁ', "fi");
    let found: Vec<String> = text_of(&file).concat().iter().map(plain).collect();
    assert_eq!(found, expected(&reading).iter().map(plain).collect::<Vec<_>>());
}

#[test]
fn hostile_text_is_text() {
    let pages = || vec![lines(&NASTY, 30.0, [1000.0, 1400.0], 0.0), vec![], lines(&NASTY[..3], 30.0, [1000.0, 1400.0], 2.0)];
    if has_readers() {
        assert_words(pages());
    }
}

#[test]
fn hostile_text_is_text_in_a_pdf() {
    if !has("qpdf") || !has("pdftotext") {
        return;
    }
    // What runs from right to left is put together in another order by each reader: see below.
    let nasty: Vec<&str> = NASTY.iter().copied().filter(|text| !text.contains('ש')).collect();
    assert_pdf_words(|size| lines(&nasty, 20.0, size, 0.0));
    assert_pdf_words(|size| lines(&["שלום"], 30.0, size, 0.0));
    assert_pdf_words(|size| lines(&["مرحبا"], 30.0, size, 0.0));
}

#[test]
fn words_without_a_place_are_not_lost() {
    let nowhere = |quad: [[f32; 2]; 4]| {
        move |size: [f32; 2]| {
            let mut all = lines(&["all of them", "are here"], 20.0, size, 0.0);
            for line in &mut all {
                line.quad.0 = quad;
                line.words.iter_mut().for_each(|word| word.quad.0 = quad);
            }
            all
        }
    };
    for quad in [[[0.0; 2]; 4], [[50.0, 60.0]; 4], [[-1e9, 1e9]; 4], [[f32::MAX; 2]; 4]] {
        if has("qpdf") && has("pdftotext") {
            let folder = tempfile::tempdir().unwrap();
            let mut document = open(std::fs::read(fixture("receipt.png")).unwrap());
            let first = document.page(0).unwrap();
            let made = nowhere(quad)([first.width as f32, first.height as f32]);
            let reading = reading(&document, "x", vec![page(&first, 0, made, 0.0)]);
            check_pdf(&written(&reading, Output::Pdf, Some(&mut document), folder.path()));
        }
        if has_readers() {
            assert_words(vec![nowhere(quad)([1000.0, 1400.0])]);
        }
    }
}

/// A generator that gives the same numbers each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % u64::from(limit)) as u32
    }
}

#[test]
fn every_word_stands_in_every_format_in_order() {
    const LETTERS: &[char] = &[
        'a', 'Z', '0', '9', '.', ',', '-', '+', '=', '*', '_', '#', '<', '>', '&', '"', '\'', '\\', '|', '`', '~', '[', ']', '(',
        ')', '!', '$', '%', '/', ':', ';', '@', '{', '}', 'ß', '€', '語', '😀', '\u{1}', '\u{fffe}', '\u{a0}', '\u{ad}',
    ];
    let mut numbers = Numbers(7);
    for _ in 0..8 {
        let text = |numbers: &mut Numbers| -> String {
            let word = |numbers: &mut Numbers| -> String {
                (0..=numbers.below(6)).map(|_| LETTERS[numbers.below(LETTERS.len() as u32) as usize]).collect()
            };
            (0..=numbers.below(5)).map(|_| word(numbers)).collect::<Vec<_>>().join(" ")
        };
        let texts: Vec<String> = (0..20).map(|_| text(&mut numbers)).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        if has_readers() {
            assert_words(vec![
                lines(&texts[..12], 25.0, [1000.0, 1400.0], 0.5),
                lines(&texts[12..], 25.0, [1000.0, 1400.0], 0.0),
            ]);
        }
        if has("qpdf") && has("pdftotext") {
            // Poppler takes a no-break space for one that breaks, and a soft hyphen for a hyphen.
            let texts: Vec<String> = texts.iter().map(|text| text.replace(['\u{a0}', '\u{ad}'], "n")).collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            assert_pdf_words(|size| lines(&texts, 20.0, size, 0.0));
        }
    }
}
