//! What the formats of words and places share: a line's words with their quads, boxes on the page, and text
//! that no format trips over. Text from a page is hostile: a reader of it need not be.

use super::reading::{LineReading, PageReading, Quad};
use std::borrow::Cow;
use std::fmt;

/// A word and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Word<'a> {
    /// Never empty, without control characters.
    pub text: Cow<'a, str>,
    pub confidence: f64,
    pub quad: Quad,
}

/// A line's words, those that are empty left out. A line that has none of its own is parted at its spaces, each
/// word as long in the quad as in the text.
pub(super) fn words(line: &LineReading) -> Vec<Word<'_>> {
    if !line.words.is_empty() {
        let word = |word: &'_ super::reading::WordReading| (word.confidence, word.quad);
        return line
            .words
            .iter()
            .map(|own| {
                let (confidence, quad) = word(own);
                Word { text: clean(&own.text), confidence, quad }
            })
            .filter(|word| !word.text.trim().is_empty())
            .collect();
    }
    let length = line.text.chars().count().max(1) as f64;
    let mut found = Vec::new();
    let mut at = 0;
    for piece in line.text.split(char::is_whitespace) {
        let count = piece.chars().count();
        let text = clean(piece);
        if !text.trim().is_empty() {
            let quad = part(&line.quad, at as f64 / length, (at + count) as f64 / length);
            found.push(Word { text, confidence: line.confidence, quad });
        }
        at += count + 1;
    }
    found
}

/// What of a quad lies between two shares of its length.
fn part(quad: &Quad, from: f64, to: f64) -> Quad {
    let between = |a: [f64; 2], b: [f64; 2], share: f64| [a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share];
    let [top_left, top_right, bottom_right, bottom_left] = *quad;
    [
        between(top_left, top_right, from),
        between(top_left, top_right, to),
        between(bottom_left, bottom_right, to),
        between(bottom_left, bottom_right, from),
    ]
}

/// Lines of one block after the other.
pub(super) fn blocks(page: &PageReading) -> impl Iterator<Item = &[LineReading]> {
    page.lines.chunk_by(|one, next| one.block == next.block)
}

/// Left, top, right, bottom in whole pixels: on the page, and never without area.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    pub left: u32,
    pub top: u32,
    pub right: u32,
    pub bottom: u32,
}

impl Bounds {
    /// Round a quad, on a page of at least a pixel.
    pub fn of(quad: &Quad, page: &PageReading) -> Bounds {
        let along = |axis: usize, side: u32| {
            let side = f64::from(side.max(1));
            let values = quad.iter().map(|corner| corner[axis]);
            let low = values.clone().fold(f64::INFINITY, f64::min).floor().clamp(0.0, side - 1.0);
            let high = values.fold(f64::NEG_INFINITY, f64::max).ceil().clamp(low + 1.0, side);
            (low as u32, high as u32)
        };
        let ((left, right), (top, bottom)) = (along(0, page.width), along(1, page.height));
        Bounds { left, top, right, bottom }
    }

    /// Round several; `None` round none.
    pub fn round(all: impl IntoIterator<Item = Bounds>) -> Option<Bounds> {
        all.into_iter().reduce(|a, b| Bounds {
            left: a.left.min(b.left),
            top: a.top.min(b.top),
            right: a.right.max(b.right),
            bottom: a.bottom.max(b.bottom),
        })
    }

    pub fn width(&self) -> u32 {
        self.right - self.left
    }

    pub fn height(&self) -> u32 {
        self.bottom - self.top
    }
}

/// Degrees by which a quad's text runs off the horizontal, counter-clockwise positive as hOCR has it.
pub(super) fn angle(quad: &Quad) -> f64 {
    let (x, y) = (quad[1][0] - quad[0][0], quad[1][1] - quad[0][1]);
    if x == 0.0 && y == 0.0 { 0.0 } else { -y.atan2(x).to_degrees() }
}

/// Text without what no page has printed and formats forbid: line ends and tabs are spaces, other control
/// characters and non-characters the replacement character, marks that turn the direction of text are gone.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    if text.chars().all(|c| plain(c) == Some(c)) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().filter_map(plain).collect())
}

fn plain(c: char) -> Option<char> {
    match c {
        '\t' | '\n' | '\u{b}' | '\u{c}' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}' => Some(' '),
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => None,
        '\u{fdd0}'..='\u{fdef}' => Some(char::REPLACEMENT_CHARACTER),
        c if c.is_control() || u32::from(c) & 0xfffe == 0xfffe => Some(char::REPLACEMENT_CHARACTER),
        c => Some(c),
    }
}

/// Text as XML has it, in elements and in attributes with either quote.
pub(super) struct Xml<'a>(pub &'a str);

impl fmt::Display for Xml<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(['&', '<', '>', '"', '\'']) {
            f.write_str(&rest[..at])?;
            f.write_str(match rest.as_bytes()[at] {
                b'&' => "&amp;",
                b'<' => "&lt;",
                b'>' => "&gt;",
                b'"' => "&quot;",
                _ => "&#39;",
            })?;
            rest = &rest[at + 1..];
        }
        f.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::super::reading::tests::{line, page, reading};
    use super::*;

    #[test]
    fn what_no_page_has_printed_is_gone() {
        assert_eq!(clean("plain größe 日本 😀"), "plain größe 日本 😀");
        assert_eq!(clean("a\tb\u{c}c\0d\u{ffff}e\u{1fffe}"), "a b c\u{fffd}d\u{fffd}e\u{fffd}");
        assert_eq!(clean("\u{202e}evil\u{202c}\u{2067}"), "evil");
        assert_eq!(Xml("<a b=\"c\" d='e'>]]>&").to_string(), "&lt;a b=&quot;c&quot; d=&#39;e&#39;&gt;]]&gt;&amp;");
    }

    #[test]
    fn a_line_without_words_is_parted_by_its_length() {
        let mut reading = reading(vec![page(vec![line("ab c", 0, 1.0)])]);
        let line = &mut reading.pages[0].lines[0];
        line.words.clear();
        line.quad = [[10.0, 0.0], [50.0, 4.0], [50.0, 14.0], [10.0, 10.0]];
        let found = words(line);
        assert_eq!(found.iter().map(|word| &*word.text).collect::<Vec<_>>(), ["ab", "c"]);
        assert_eq!(found[1].quad, [[40.0, 3.0], [50.0, 4.0], [50.0, 14.0], [40.0, 13.0]]);
    }

    #[test]
    fn boxes_stay_on_the_page_and_have_area() {
        let reading = reading(vec![page(vec![])]);
        let bounds = |quad| Bounds::of(&quad, &reading.pages[0]);
        let (width, height) = (100, 200);
        assert_eq!((reading.pages[0].width, reading.pages[0].height), (width, height));
        assert_eq!(bounds([[1.2, 2.0], [9.1, 2.0], [9.1, 5.9], [1.2, 5.9]]), Bounds { left: 1, top: 2, right: 10, bottom: 6 });
        for quad in [[[0.0; 2]; 4], [[-5.0; 2]; 4], [[1e12; 2]; 4], [[100.0, 200.0]; 4]] {
            let bounds = bounds(quad);
            assert!(bounds.left < bounds.right && bounds.top < bounds.bottom && bounds.right <= width && bounds.bottom <= height);
        }
    }
}
