//! The text that a digital page carries itself: glyphs become words and runs, and it is decided
//! whether they can be trusted.
//!
//! Owns: spaces, accents, ligatures, what counts as text. Pure geometry in points until the end. Knows
//! nothing of PDF, and nothing of reading order: runs come in the order in which they were drawn.

use hayro::kurbo::{Point, Vec2};
use icu_normalizer::properties::CanonicalCompositionBorrowed;

/// A glyph that can be seen on a page. Points, y downwards.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Glyph {
    /// What it stands for, as the document says; `None` where it does not.
    pub text: Option<String>,
    /// Where its baseline begins.
    pub origin: Point,
    /// From there to where the next glyph stands.
    pub along: Vec2,
    /// From the baseline to the top of its em square.
    pub up: Vec2,
}

impl Glyph {
    /// About the middle of a small letter.
    pub fn middle(&self) -> Point {
        self.origin + self.along * 0.5 + self.up * 0.3
    }

    fn end(&self) -> Point {
        self.origin + self.along
    }

    fn size(&self) -> f64 {
        self.up.hypot()
    }

    /// The direction of reading.
    fn direction(&self) -> Vec2 {
        if self.along.hypot() > 0.0 { self.along.normalize() } else { Vec2::new(-self.up.y, self.up.x).normalize() }
    }
}

/// The text of a page as its document tells it, in pixels of the upright page image.
#[derive(Debug, Clone, PartialEq)]
pub struct TextLayer {
    /// Position in the document, from 1.
    pub number: u32,
    /// Pixels that the page image would have if it were drawn.
    pub width: u32,
    pub height: u32,
    /// In the order in which they were drawn.
    pub runs: Vec<TextRun>,
    /// Besides its text there is something drawn on the page that may be a code.
    pub pictures: bool,
    /// The file ended before the document did.
    pub truncated: bool,
}

/// Words that stand on one baseline without a wide gap between them. Never empty.
#[derive(Debug, Clone, PartialEq)]
pub struct TextRun {
    pub words: Vec<TextWord>,
    /// Four corners, clockwise from the text's own top left.
    pub quad: [[f32; 2]; 4],
}

/// A word of a run. Its text is never empty and has no white space in it.
#[derive(Debug, Clone, PartialEq)]
pub struct TextWord {
    pub text: String,
    pub quad: [[f32; 2]; 4],
}

/// What was found besides the runs.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tally {
    /// Characters that are what the document says.
    pub letters: usize,
    /// Of these, those that words are made of: letters and digits.
    pub alphanumeric: usize,
    /// Glyphs amidst words of which nobody knows what they stand for.
    pub unknown: usize,
    /// Such glyphs that stand alone, as the bullets of a list do.
    pub signs: usize,
}

impl Tally {
    /// Whether the text can be taken as it is. `beside` is the share of the page that images cover,
    /// `outlines` the number of small shapes that may be letters.
    pub fn is_good(&self, beside: f64, outlines: usize) -> bool {
        // Fonts without a table of their meanings, or with a wrong one.
        let known = self.unknown * 50 <= self.letters && self.signs * 4 <= self.letters;
        let like_text = self.alphanumeric * 2 >= self.letters;
        // A stamp on a scan is not the page's text: the larger the images, the more is asked for.
        let enough = self.letters > 0 && self.letters as f64 >= LETTERS_BESIDE_IMAGES * beside;
        known && like_text && enough && outlines <= self.letters.saturating_mul(2)
    }
}

/// Letters that a page needs if images were to cover all of it.
const LETTERS_BESIDE_IMAGES: f64 = 600.0;
/// A gap of this many ems, more than what is usual between the letters of the run, parts words.
const WORD_GAP: f64 = 0.17;
/// A gap of this many ems ends a run: the next cell of a table, the next column.
const RUN_GAP: f64 = 1.5;
/// A glyph may begin this many ems before the last one's end: kerning, italics.
const OVERLAP: f64 = 0.6;
/// A glyph this many ems off the baseline (a footnote's number) still belongs to it.
const BASELINE: f64 = 0.5;
/// Letters reach this far above and below their baseline, in ems.
const ASCENT: f64 = 0.78;
const DESCENT: f64 = 0.22;

/// Puts glyphs in the order of drawing together. `scale` is pixels per point.
pub(super) fn assemble(mut glyphs: Vec<Glyph>, scale: [f64; 2]) -> (Vec<TextRun>, Tally) {
    glyphs.iter_mut().for_each(|glyph| glyph.text = glyph.text.take().map(plain));
    let glyphs = accented(glyphs);
    let mut tally = Tally::default();
    let mut runs = Vec::new();
    let mut rest = glyphs.as_slice();
    while !rest.is_empty() {
        let length = rest.windows(2).position(|pair| !continues(&pair[0], &pair[1])).map_or(rest.len(), |last| last + 1);
        let (run, later) = rest.split_at(length);
        rest = later;
        let words: Vec<_> = words(run).into_iter().filter_map(|word| text_word(word, scale, &mut tally)).collect();
        if let (Some(first), Some(last)) = (words.first(), words.last()) {
            let quad = enclosing(&words, first, last);
            runs.push(TextRun { words, quad });
        }
    }
    (runs, tally)
}

/// A glyph's text without what is no character of its own: ligatures taken apart, other spaces made plain
/// ones, hyphens that are only hints, control characters and marks without width left out.
fn plain(text: String) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\u{fb00}' => plain.push_str("ff"),
            '\u{fb01}' => plain.push_str("fi"),
            '\u{fb02}' => plain.push_str("fl"),
            '\u{fb03}' => plain.push_str("ffi"),
            '\u{fb04}' => plain.push_str("ffl"),
            '\u{fb05}' | '\u{fb06}' => plain.push_str("st"),
            '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => {}
            c if c.is_whitespace() => plain.push(' '),
            c if c.is_control() => plain.push(char::REPLACEMENT_CHARACTER),
            c => plain.push(symbol(c)),
        }
    }
    plain
}

/// Symbol fonts keep their signs in the private area; the usual bullets, ticks and arrows have characters.
fn symbol(c: char) -> char {
    match c {
        '\u{f0b7}' | '\u{f09f}' | '\u{f06c}' => '•',
        '\u{f0a7}' | '\u{f06e}' => '▪',
        '\u{f0a8}' | '\u{f06f}' | '\u{f071}' => '□',
        '\u{f0d8}' => '➢',
        '\u{f0fc}' => '✓',
        '\u{f0fb}' => '✗',
        '\u{f0fe}' => '☑',
        '\u{f0e0}' | '\u{f0de}' => '→',
        '\u{f02d}' => '-',
        c => c,
    }
}

fn is_known(c: char) -> bool {
    c != char::REPLACEMENT_CHARACTER && !matches!(c, '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..='\u{10ffff}')
}

/// Lays accents that were drawn as glyphs of their own on the letters that they stand over.
fn accented(glyphs: Vec<Glyph>) -> Vec<Glyph> {
    let mut done: Vec<Glyph> = Vec::with_capacity(glyphs.len());
    for glyph in glyphs {
        let Some(last) = done.last_mut() else {
            done.push(glyph);
            continue;
        };
        let offset = glyph.origin + glyph.along * 0.5 - (last.origin + last.along * 0.5);
        let (right, size) = (last.direction(), last.size().max(glyph.size()));
        let over = offset.dot(right).abs() < 0.3 * size && offset.cross(right).abs() < 0.6 * size;
        if let (true, Some(one), Some(other)) = (over, single(last), single(&glyph)) {
            if let Some(text) = combining(one).and_then(|mark| compose(other, mark)) {
                *last = Glyph { text: Some(text.to_string()), ..glyph };
                continue;
            }
            if let Some(text) = combining(other).and_then(|mark| compose(one, mark)) {
                last.text = Some(text.to_string());
                continue;
            }
        }
        done.push(glyph);
    }
    done
}

fn single(glyph: &Glyph) -> Option<char> {
    let mut characters = glyph.text.as_deref()?.chars();
    let first = characters.next()?;
    characters.next().is_none().then_some(first)
}

/// The combining mark for an accent that stands alone.
fn combining(accent: char) -> Option<char> {
    Some(match accent {
        '`' | '\u{2cb}' | '\u{300}' => '\u{300}',
        '´' | '\u{2ca}' | '\u{301}' => '\u{301}',
        '^' | 'ˆ' | '\u{302}' => '\u{302}',
        '~' | '˜' | '\u{303}' => '\u{303}',
        '¯' | '\u{304}' => '\u{304}',
        '˘' | '\u{306}' => '\u{306}',
        '˙' | '\u{307}' => '\u{307}',
        '¨' | '\u{308}' => '\u{308}',
        '˚' | '\u{30a}' => '\u{30a}',
        '˝' | '\u{30b}' => '\u{30b}',
        'ˇ' | '\u{30c}' => '\u{30c}',
        '¸' | '\u{327}' => '\u{327}',
        '˛' | '\u{328}' => '\u{328}',
        _ => return None,
    })
}

fn compose(letter: char, mark: char) -> Option<char> {
    let letter = match letter {
        'ı' => 'i',
        'ȷ' => 'j',
        letter => letter,
    };
    CanonicalCompositionBorrowed::new().compose(letter, mark)
}

/// Whether `next` goes on where `last` ends.
fn continues(last: &Glyph, next: &Glyph) -> bool {
    let (direction, size) = (last.direction(), last.size().max(next.size()));
    let step = next.origin - last.end();
    let (gap, off) = (step.dot(direction), step.cross(direction));
    let ratio = size / last.size().min(next.size());
    direction.dot(next.direction()) > 0.95
        && off.abs() < BASELINE * size
        && (-OVERLAP * size..RUN_GAP * size).contains(&gap)
        && ratio < 2.5
}

fn is_space(glyph: &Glyph) -> bool {
    glyph.text.as_deref().is_some_and(|text| !text.is_empty() && text.chars().all(|c| c == ' '))
}

fn is_letter(glyph: &Glyph) -> bool {
    glyph.text.as_deref().is_some_and(|text| text.chars().any(char::is_alphanumeric))
}

/// Parts a run at its spaces and its gaps. Words may be empty of text.
fn words(run: &[Glyph]) -> Vec<&[Glyph]> {
    let gap = |a: &Glyph, b: &Glyph| (b.origin - a.end()).dot(a.direction()) / a.size().max(b.size());
    let close = |a: &Glyph, b: &Glyph| !is_space(a) && !is_space(b);
    let letters = |a: &Glyph, b: &Glyph| is_letter(a) && is_letter(b);
    let mut gaps: Vec<f64> =
        run.windows(2).filter(|pair| letters(&pair[0], &pair[1])).map(|pair| gap(&pair[0], &pair[1])).collect();
    gaps.sort_by(f64::total_cmp);
    // Letters may be spaced out; of a few gaps any may be that between two words.
    let usual = if gaps.len() < 5 { 0.0 } else { gaps[gaps.len() / 4].max(0.0) };
    let dots = |a: &Glyph, b: &Glyph| [a, b].iter().all(|glyph| glyph.text.as_deref() == Some("."));
    // The dots that lead to a page number are one sign, however far apart.
    run.chunk_by(|a, b| close(a, b) && (gap(a, b) < usual + WORD_GAP || dots(a, b))).filter(|word| !is_space(&word[0])).collect()
}

/// A word's text and place; counts what it is made of. `None` where nothing is left of it.
fn text_word(word: &[Glyph], scale: [f64; 2], tally: &mut Tally) -> Option<TextWord> {
    let mut text = String::new();
    let mut unknown = 0;
    for glyph in word {
        match &glyph.text {
            Some(own) if own.chars().all(is_known) => text.push_str(own),
            _ => unknown += 1,
        }
    }
    // A glyph may stand for several characters with a space between.
    text.retain(|c| c != ' ');
    if word.len() == 1 && unknown == 1 {
        tally.signs += 1;
    } else {
        tally.unknown += unknown;
    }
    let (first, last) = (word.first()?, word.last()?);
    if text.is_empty() {
        return None;
    }
    tally.letters += text.chars().count();
    tally.alphanumeric += text.chars().filter(|c| c.is_alphanumeric()).count();
    // The highest glyph tells the height, the first one the baseline.
    let up = word.iter().map(|glyph| glyph.up).max_by(|a, b| a.hypot().total_cmp(&b.hypot()))?;
    let from = first.origin;
    let to = from + first.direction() * (last.end() - from).dot(first.direction());
    let corners = [from + up * ASCENT, to + up * ASCENT, to - up * DESCENT, from - up * DESCENT];
    Some(TextWord { text, quad: corners.map(|corner| [(corner.x * scale[0]) as f32, (corner.y * scale[1]) as f32]) })
}

/// A run's quad: its first word's left side to its last word's right side, as high as the highest word.
fn enclosing(words: &[TextWord], first: &TextWord, last: &TextWord) -> [[f32; 2]; 4] {
    let side = |quad: &[[f32; 2]; 4]| [quad[0][0] - quad[3][0], quad[0][1] - quad[3][1]];
    let height = |quad: &[[f32; 2]; 4]| side(quad)[0].hypot(side(quad)[1]);
    let highest = words.iter().map(|word| height(&word.quad)).fold(0.0, f32::max);
    let grown = |bottom: [f32; 2], quad: &[[f32; 2]; 4]| {
        let by = highest / height(quad).max(f32::MIN_POSITIVE);
        [bottom[0] + side(quad)[0] * by, bottom[1] + side(quad)[1] * by]
    };
    [grown(first.quad[3], &first.quad), grown(last.quad[2], &last.quad), last.quad[2], first.quad[3]]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Glyphs of twelve points, each half an em wide, from `x` on.
    fn set(text: &str, x: f64, y: f64) -> Vec<Glyph> {
        let place = |(index, c): (usize, char)| glyph(&c.to_string(), x + 6.0 * index as f64, y);
        text.chars().enumerate().map(place).collect()
    }

    fn glyph(text: &str, x: f64, y: f64) -> Glyph {
        Glyph { text: Some(text.into()), origin: Point::new(x, y), along: Vec2::new(6.0, 0.0), up: Vec2::new(0.0, -12.0) }
    }

    fn texts(glyphs: Vec<Glyph>) -> Vec<String> {
        let (runs, _) = assemble(glyphs, [1.0, 1.0]);
        runs.iter().map(|run| run.words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" ")).collect()
    }

    fn tally(glyphs: Vec<Glyph>) -> Tally {
        assemble(glyphs, [1.0, 1.0]).1
    }

    #[test]
    fn words_part_at_spaces_and_at_gaps() {
        assert_eq!(texts(set("two words", 50.0, 100.0)), ["two words"]);
        let mut gap = set("two", 50.0, 100.0);
        gap.extend(set("words", 50.0 + 3.0 * 6.0 + 3.0, 100.0));
        assert_eq!(texts(gap), ["two words"]);
        let mut kerned = set("AV", 50.0, 100.0);
        kerned[1].origin.x -= 1.0;
        assert_eq!(texts(kerned), ["AV"]);
    }

    #[test]
    fn cells_and_lines_are_runs_of_their_own() {
        let mut cells = set("Bread", 50.0, 100.0);
        cells.extend(set("4.20", 300.0, 100.0));
        cells.extend(set("Butter", 50.0, 114.0));
        assert_eq!(texts(cells), ["Bread", "4.20", "Butter"]);
        let mut footnote = set("word", 50.0, 100.0);
        footnote.push(Glyph { up: Vec2::new(0.0, -7.0), ..glyph("1", 74.0, 96.0) });
        assert_eq!(texts(footnote), ["word1"]);
    }

    #[test]
    fn spaced_letters_stay_a_word_and_leaders_do_not_count() {
        let spaced = |text: &str, by: f64| {
            let place = |(index, c): (usize, char)| glyph(&c.to_string(), 50.0 + by * index as f64, 100.0);
            text.chars().enumerate().filter(|(_, c)| *c != ' ').map(place).collect::<Vec<_>>()
        };
        assert_eq!(texts(spaced("INVOICE", 9.0)), ["INVOICE"]);
        let mut entry = spaced("Font number", 6.0);
        entry.extend((0..20).map(|dot| glyph(".", 125.0 + 12.0 * f64::from(dot), 100.0)));
        assert_eq!(texts(entry), [format!("Font number {}", ".".repeat(20))]);
    }

    #[test]
    fn characters_become_plain_ones() {
        let all = ["\u{fb03}", "x", "\u{ad}", "\u{a0}", "\u{200b}", "\u{fb01}", "n"];
        let glyphs = all.iter().enumerate().map(|(index, text)| glyph(text, 50.0 + 6.0 * index as f64, 100.0)).collect();
        assert_eq!(texts(glyphs), ["ffix fin"]);
    }

    #[test]
    fn accents_drawn_apart_come_together() {
        let mut word = set("fur", 50.0, 100.0);
        word.insert(1, glyph("\u{a8}", 56.3, 100.0));
        assert_eq!(texts(word), ["für"]);
        let mut word = set("caf\u{131}", 50.0, 100.0);
        word.push(glyph("´", 68.0, 98.0));
        assert_eq!(texts(word), ["cafí"]);
        assert_eq!(texts(set("x^2", 50.0, 100.0)), ["x^2"]);
    }

    #[test]
    fn text_that_runs_up_has_its_quad_there() {
        let place = |(index, c): (usize, char)| Glyph {
            text: Some(c.to_string()),
            origin: Point::new(100.0, 300.0 - 6.0 * index as f64),
            along: Vec2::new(0.0, -6.0),
            up: Vec2::new(-12.0, 0.0),
        };
        let (runs, _) = assemble("up we go".chars().enumerate().map(place).collect(), [2.0, 2.0]);
        assert_eq!(runs.len(), 1);
        let [top_left, top_right, ..] = runs[0].quad;
        assert!((top_left[0] - 2.0 * (100.0 - 0.78 * 12.0)).abs() < 0.01 && (top_left[1] - 600.0).abs() < 0.01);
        assert!((top_right[1] - 2.0 * (300.0 - 48.0)).abs() < 0.01, "{:?}", runs[0].quad);
    }

    #[test]
    fn a_layer_must_say_what_its_glyphs_are() {
        let good = tally(set("A page of ordinary text", 50.0, 100.0));
        assert!(good.is_good(0.0, 0) && good.is_good(0.02, 5));
        assert!(!good.is_good(0.3, 0), "a caption beside a picture is not the page");
        assert!(!good.is_good(0.0, 500), "the rest was turned into outlines");
        for foreign in [None, Some("\u{e012}".to_owned()), Some("\u{fffd}".to_owned()), Some("\u{3}".to_owned())] {
            let mut glyphs = set("A page of ordinary text", 50.0, 100.0);
            glyphs.iter_mut().step_by(4).for_each(|glyph| glyph.text.clone_from(&foreign));
            assert!(!tally(glyphs).is_good(0.0, 0), "{foreign:?}");
        }
        // Bullets of a symbol font stand alone, and the usual ones are known.
        let mut list = set("A page of ordinary text", 80.0, 100.0);
        list.insert(0, Glyph { text: None, ..glyph("", 50.0, 100.0) });
        assert_eq!((tally(list.clone()).signs, tally(list).is_good(0.0, 0)), (1, true));
        assert_eq!(texts(vec![glyph("\u{f0b7}", 50.0, 100.0)]), ["•"]);
        assert!(!tally(set("$%&/()=?#+*~", 50.0, 100.0)).is_good(0.0, 0), "shifted codes");
        assert!(!tally(vec![]).is_good(0.0, 0));
    }
}
