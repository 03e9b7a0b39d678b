//! Markdown (CommonMark): a paragraph per block, its lines kept by hard breaks, a rule between pages. What
//! stands on the page is text and nothing else: every sign that would be markup is escaped.

use super::reading::Reading;
use super::words::{blocks, words};
use std::io::{self, Write};

pub(super) fn write(reading: &Reading, out: &mut dyn Write) -> io::Result<()> {
    let mut begun = false;
    for (index, page) in reading.pages.iter().enumerate() {
        if index > 0 {
            out.write_all(if begun { b"\n---\n" } else { b"---\n" })?;
            begun = true;
        }
        for block in blocks(page) {
            let lines: Vec<String> = block
                .iter()
                .map(|line| {
                    let words: Vec<_> = words(line).into_iter().map(|word| word.text).collect();
                    escaped(&words.join(" "))
                })
                .filter(|line| !line.is_empty())
                .collect();
            if !lines.is_empty() {
                let gap = if begun { "\n" } else { "" };
                writeln!(out, "{gap}{}", lines.join("\\\n"))?;
                begun = true;
            }
        }
    }
    if let Some(job) = reading.job {
        // Seen by no reader of the rendered page.
        writeln!(out, "\n<!-- inkport job {job} -->")?;
    }
    Ok(())
}

/// One line, so that it is read as it stands.
fn escaped(line: &str) -> String {
    let line = line.trim();
    let mut text = String::with_capacity(line.len() + 8);
    // A list's number may be markup by what follows it.
    let digits = line.bytes().take_while(u8::is_ascii_digit).count();
    for (at, c) in line.char_indices() {
        let special = match c {
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '&' | '|' | '~' | '$' => true,
            '#' | '+' | '-' | '=' | ':' => at == 0,
            '.' | ')' => digits > 0 && at == digits,
            _ => false,
        };
        if special {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::reading::tests::{line, page, reading};
    use super::*;

    fn rendered(pages: Vec<crate::ocr::PageText>) -> String {
        let mut bytes = Vec::new();
        write(&reading(pages), &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn blocks_are_paragraphs_and_pages_are_ruled_off() {
        let pages = vec![
            page(vec![line("Head", 0, 1.0), line("first", 1, 1.0), line("second", 1, 1.0)]),
            page(vec![line("Größe 5 €", 0, 1.0)]),
        ];
        assert_eq!(rendered(pages), "Head\n\nfirst\\\nsecond\n\n---\n\nGröße 5 €\n");
        assert_eq!(rendered(vec![page(vec![])]), "");
    }

    #[test]
    fn no_sign_on_a_page_is_markup() {
        assert_eq!(escaped("# no head"), "\\# no head");
        assert_eq!(escaped("12. no list 3."), "12\\. no list 3.");
        assert_eq!(escaped("- a *b* [c](d) <e> &amp;"), "\\- a \\*b\\* \\[c\\](d) \\<e\\> \\&amp;");
        assert_eq!(escaped("==="), "\\===");
    }
}
