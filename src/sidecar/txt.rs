//! The plain text: UTF-8 in reading order, a line per text line, an empty line between blocks, a form
//! feed between pages.

use super::reading::{PageReading, Reading};

/// The `.txt` file. Empty where nothing was read, else it ends with a line's end.
pub(super) fn render(reading: &Reading) -> Vec<u8> {
    let mut text = reading.text.clone();
    if !text.is_empty() {
        text.push('\n');
    }
    text.into_bytes()
}

/// The text of all pages, without the last line's end.
pub(super) fn text(pages: &[PageReading]) -> String {
    let mut text = String::new();
    if pages.iter().all(|page| page.lines.is_empty()) {
        return text;
    }
    for (index, page) in pages.iter().enumerate() {
        if index > 0 {
            if !text.is_empty() && !text.ends_with('\u{c}') {
                text.push('\n');
            }
            text.push('\u{c}');
        }
        let mut block = None;
        for (index, line) in page.lines.iter().enumerate() {
            if index > 0 {
                text.push('\n');
            }
            if block.is_some_and(|block| block != line.block) {
                text.push('\n');
            }
            block = Some(line.block);
            // A line is one line: what would break it is a space here.
            text.extend(line.text.chars().map(|c| if matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}') { ' ' } else { c }));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::reading::tests::{line, page, reading};
    use super::*;

    fn rendered(pages: Vec<crate::ocr::PageText>) -> String {
        String::from_utf8(render(&reading(pages))).unwrap()
    }

    #[test]
    fn blocks_and_pages_are_set_apart() {
        let pages = vec![
            page(vec![line("Head", 0, 1.0), line("first", 1, 1.0), line("second", 1, 1.0)]),
            page(vec![line("Größe 5 €", 0, 1.0)]),
        ];
        assert_eq!(rendered(pages), "Head\n\nfirst\nsecond\n\u{c}Größe 5 €\n");
    }

    #[test]
    fn blank_pages_keep_their_place() {
        assert_eq!(rendered(vec![page(vec![])]), "");
        assert_eq!(rendered(vec![page(vec![]), page(vec![])]), "");
        let lone = || page(vec![line("a", 0, 1.0)]);
        assert_eq!(rendered(vec![page(vec![]), lone()]), "\u{c}a\n");
        assert_eq!(rendered(vec![lone(), page(vec![]), lone()]), "a\n\u{c}\u{c}a\n");
        assert_eq!(rendered(vec![lone(), page(vec![])]), "a\n\u{c}\n");
    }

    #[test]
    fn a_line_stays_one_line() {
        assert_eq!(rendered(vec![page(vec![line("a\nb\u{c}c", 0, 1.0)])]), "a b c\n");
    }
}
