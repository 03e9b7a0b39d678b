//! From a recognizer's probabilities to words with places (connectionist temporal classification).
//!
//! Owns: the alphabet, greedy decoding, and where along the line each word stands. Knows nothing of
//! pixels: places are fractions of the line's width.

use super::EngineError;
use super::language::Letters;

/// What each class of the recognizer's output stands for: class 0 is "nothing new", the last one a
/// space, the others are the model's own list in order.
pub(super) struct Alphabet {
    entries: Vec<Box<str>>,
    /// Of each class: whether it belongs to a script written in squares.
    wide: Vec<bool>,
}

impl Alphabet {
    /// From the `character` entry of the model's metadata: one entry a line.
    pub(super) fn parse(characters: &str) -> Result<Self, EngineError> {
        let listed = characters.strip_suffix('\n').unwrap_or(characters);
        if listed.is_empty() {
            return Err(EngineError::Model("the recognizer's list of characters is empty".into()));
        }
        let entries = listed.split('\n').map(|entry| entry.strip_suffix('\r').unwrap_or(entry));
        let entries: Vec<Box<str>> = std::iter::once("").chain(entries).chain([" "]).map(Box::from).collect();
        let wide = entries.iter().map(|entry| entry.chars().any(is_wide)).collect();
        Ok(Alphabet { entries, wide })
    }

    fn text(&self, seen: &Seen) -> &str {
        &self.entries[seen.class]
    }

    fn is_blank(&self, seen: &Seen) -> bool {
        self.text(seen).chars().all(char::is_whitespace)
    }

    /// Number of classes, blank and space included.
    pub(super) fn classes(&self) -> usize {
        self.entries.len()
    }
}

/// Han, kana, hangul, their punctuation and the full-width forms: from the CJK radicals on, but for the
/// private use and presentation forms of other scripts that lie among them.
pub(super) fn is_wide(letter: char) -> bool {
    matches!(letter, '\u{2e80}'..='\u{d7ff}' | '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe4f}' | '\u{ff00}'..='\u{ffef}' | '\u{20000}'..)
}

/// A word of a line image.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Span {
    pub text: String,
    pub confidence: f32,
    /// Fractions of the line image's width.
    pub from: f32,
    pub to: f32,
}

/// What the recognizer read in one line image.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Reading {
    /// The words joined by single spaces.
    pub text: String,
    /// That every character is right, 0 to 1; 0 for an empty reading.
    pub confidence: f32,
    /// Mean probability of its characters: tells text from dirt and pictures, whatever its length.
    pub trust: f32,
    pub words: Vec<Span>,
    /// The same line read without the scripts that are written in squares, where this reading has
    /// any of them: which one holds is for the page to say.
    pub narrow: Option<Box<Reading>>,
}

/// One decoded character: its class, its best probability, and the steps it was seen at.
#[derive(Debug, Clone, Copy)]
struct Seen {
    class: usize,
    probability: f32,
    first: usize,
    last: usize,
}

/// Reads `probabilities` (steps × classes, row major). `steps_wide` is the number of steps that the
/// line image itself covers, without its padding: places are fractions of it.
pub(super) fn decode(probabilities: &[f32], alphabet: &Alphabet, letters: &Letters, steps_wide: f32) -> Reading {
    let barred = |class: usize, probability| letters.bars(&alphabet.entries[class], probability);
    let seen = collapse(probabilities, alphabet, barred);
    let undecided = letters.squares.is_none() && seen.iter().any(|s| alphabet.wide[s.class]);
    let mut reading = spell(seen, alphabet, steps_wide);
    if undecided {
        let without = collapse(probabilities, alphabet, |class, probability| alphabet.wide[class] || barred(class, probability));
        reading.narrow = Some(Box::new(spell(without, alphabet, steps_wide)));
    }
    reading
}

/// The exponent that makes the product of the characters' probabilities a frequency: of the lines at
/// 0.9, nine in ten are right. Errors within a line go together, so the bare product is too low. Fitted on
/// 7,400 lines and 23,800 words of print, receipts and forms; `make bench-accuracy` shows how well it holds.
const TOGETHER: f32 = 0.7;

/// The probability that all of these characters are right.
fn confidence(seen: &[Seen]) -> f32 {
    seen.iter().map(|s| s.probability.clamp(0.0, 1.0)).product::<f32>().powf(TOGETHER)
}

/// Words out of the characters seen.
fn spell(seen: Vec<Seen>, alphabet: &Alphabet, steps_wide: f32) -> Reading {
    if seen.iter().all(|s| alphabet.is_blank(s)) {
        return Reading::default();
    }
    let trust = seen.iter().map(|s| s.probability).sum::<f32>() / seen.len() as f32;
    let all = confidence(&seen);
    let blank = |s: &Seen| alphabet.is_blank(s);
    let advance = advance(&seen, blank);
    let seen = with_wide_gaps(seen, advance, alphabet);
    let centre = |s: &Seen| (s.first + s.last + 1) as f32 / 2.0;
    let mut words: Vec<Span> = Vec::new();
    let mut limit = 0.0f32;
    for (index, group) in seen.split(blank).scan(0, |start, group| {
        let at = *start;
        *start += group.len() + 1;
        Some((at, group))
    }) {
        let (Some(head), Some(tail)) = (group.first(), group.last()) else { continue };
        // A word ends half a letter after its last peak, and never beyond the middle of the gap.
        let next =
            seen[index + group.len()..].iter().find(|s| !blank(s)).map_or(steps_wide, |s| f32::midpoint(centre(tail), centre(s)));
        let from = (centre(head) - 0.6 * advance).max(limit).max(0.0);
        let to = (centre(tail) + 0.6 * advance).min(next).min(steps_wide).max(from);
        limit = next;
        words.push(Span {
            text: group.iter().map(|s| alphabet.text(s)).collect(),
            confidence: confidence(group),
            from: (from / steps_wide).clamp(0.0, 1.0),
            to: (to / steps_wide).clamp(0.0, 1.0),
        });
    }
    let text = words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" ");
    Reading { text, confidence: all, trust, words, narrow: None }
}

/// The best class of every step that is not `barred`; repeats merged, blanks dropped.
fn collapse(probabilities: &[f32], alphabet: &Alphabet, barred: impl Fn(usize, f32) -> bool) -> Vec<Seen> {
    let mut seen: Vec<Seen> = Vec::new();
    let mut previous = 0;
    for (step, row) in probabilities.chunks_exact(alphabet.classes()).enumerate() {
        let (mut class, mut probability) = best(row);
        if barred(class, probability) {
            let others = row.iter().enumerate();
            let better =
                |most: (usize, f32), (other, &p): (usize, &f32)| if p > most.1 && !barred(other, p) { (other, p) } else { most };
            (class, probability) = others.fold((0, 0.0), better);
        }
        if class != 0 {
            match seen.last_mut() {
                Some(last) if class == previous => {
                    last.last = step;
                    last.probability = last.probability.max(probability);
                }
                _ => seen.push(Seen { class, probability, first: step, last: step }),
            }
        }
        previous = class;
    }
    seen
}

/// Index and value of the largest entry. In two passes, because finding the maximum over lanes is
/// what a compiler turns into wide instructions: a page has some 100 million of these numbers.
fn best(row: &[f32]) -> (usize, f32) {
    let mut lanes = [f32::MIN; 16];
    let (chunks, rest) = row.as_chunks::<16>();
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = if value > *lane { value } else { *lane };
        }
    }
    let most = lanes.iter().chain(rest).copied().fold(f32::MIN, f32::max);
    (row.iter().position(|&value| value >= most).unwrap_or(0), most)
}

/// A gap between two letters that is wider than this many letters is a space, whatever the network
/// says: it drops spaces in the fixed-width print of receipts. Tried on some 40 pages: from 2.6 down
/// receipts gain, from 2.2 down the i and l of ordinary print begin to fall apart.
const GAP: f32 = 2.4;

/// Letters about twice as wide as the others: a gap beside one is measured from half a letter on.
const WIDE: [char; 8] = ['m', 'w', 'M', 'W', '@', '%', '—', '…'];

/// Puts in the spaces that the network left out.
fn with_wide_gaps(seen: Vec<Seen>, advance: f32, alphabet: &Alphabet) -> Vec<Seen> {
    let space = alphabet.classes() - 1;
    let blank = |s: &Seen| alphabet.is_blank(s);
    let mut with: Vec<Seen> = Vec::with_capacity(seen.len());
    for next in seen {
        if let Some(last) = with.last()
            && !blank(last)
            && !blank(&next)
        {
            let gap = ((next.first + next.last) as f32 - (last.first + last.last) as f32) / 2.0;
            // Three steps are 24 pixels of 48: below that, rounding to whole steps decides.
            let wide = [last, &next].iter().filter(|s| alphabet.text(s).contains(WIDE)).count() as f32;
            if gap >= 3.0 && gap > (GAP + 0.5 * wide) * advance {
                let step = usize::midpoint(last.last, next.first);
                let probability = last.probability.min(next.probability);
                with.push(Seen { class: space, probability, first: step, last: step });
            }
        }
        with.push(next);
    }
    with
}

/// Typical distance in steps between two letters of a word.
fn advance(seen: &[Seen], blank: impl Fn(&Seen) -> bool) -> f32 {
    let mut gaps: Vec<f32> = seen
        .windows(2)
        .filter(|pair| !blank(&pair[0]) && !blank(&pair[1]))
        .map(|pair| ((pair[1].first + pair[1].last) as f32 - (pair[0].first + pair[0].last) as f32) / 2.0)
        .collect();
    if gaps.is_empty() {
        return 2.0;
    }
    gaps.sort_by(f32::total_cmp);
    gaps[gaps.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alphabet() -> Alphabet {
        Alphabet::parse("a\nb\nc\n").expect("three letters")
    }

    /// One row per letter of `path`: `-` is blank, `_` a space, each certain to `p`.
    fn rows(path: &str, p: f32) -> Vec<f32> {
        path.chars()
            .flat_map(|c| {
                let class = "-abc_".find(c).expect("a known letter");
                (0..5).map(move |i| if i == class { p } else { (1.0 - p) / 4.0 })
            })
            .collect()
    }

    #[test]
    fn repeats_merge_unless_a_blank_parts_them() {
        assert_eq!(decode(&rows("-aa-ab-b-cc-", 0.9), &alphabet(), &Letters::default(), 12.0).text, "aabbc");
    }

    #[test]
    fn spaces_part_words_and_words_know_their_place() {
        let reading = decode(&rows("-a-b--_--c-a", 0.8), &alphabet(), &Letters::default(), 12.0);
        assert_eq!(reading.text, "ab ca");
        assert!((reading.trust - 0.8).abs() < 1e-5);
        assert!((reading.confidence - 0.8f32.powi(5).powf(TOGETHER)).abs() < 1e-5, "five characters, one of them the space");
        let [first, second] = &reading.words[..] else { panic!("two words: {:?}", reading.words) };
        assert_eq!((first.text.as_str(), second.text.as_str()), ("ab", "ca"));
        assert!(first.from < 1.5 / 12.0 && first.to > 3.5 / 12.0 && first.to < 6.0 / 12.0, "{first:?}");
        assert!(second.from > 7.0 / 12.0 && second.from < 9.5 / 12.0 && second.to <= 1.0, "{second:?}");
    }

    #[test]
    fn leading_trailing_and_double_spaces_leave_no_empty_words() {
        let reading = decode(&rows("_-a-_-_-b-_", 0.9), &alphabet(), &Letters::default(), 11.0);
        assert_eq!(reading.text, "a b");
        assert_eq!(reading.words.len(), 2);
    }

    #[test]
    fn a_gap_far_wider_than_a_letter_is_a_space() {
        assert_eq!(decode(&rows("a-b-c-a----b-c-", 0.9), &alphabet(), &Letters::default(), 15.0).text, "abca bc");
        assert_eq!(decode(&rows("a-b-c-a--b-c-", 0.9), &alphabet(), &Letters::default(), 13.0).text, "abcabc");
    }

    #[test]
    fn a_line_with_squares_is_read_without_them_too() {
        let alphabet = Alphabet::parse("a\n一\n-\n").expect("three letters");
        // Steps: a, nothing, then Han before a dash.
        let probabilities = [[0.1, 0.9, 0.0, 0.0, 0.0], [0.9, 0.1, 0.0, 0.0, 0.0], [0.1, 0.0, 0.6, 0.3, 0.0]].concat();
        let reading = decode(&probabilities, &alphabet, &Letters::default(), 3.0);
        assert_eq!(reading.text, "a一");
        let narrow = reading.narrow.expect("it has a square");
        assert_eq!((narrow.text.as_str(), narrow.narrow.is_none()), ("a-", true));
        assert!(narrow.confidence < reading.confidence);
        let english = Letters::of(&["en".to_owned()]);
        assert_eq!(decode(&probabilities, &alphabet, &english, 3.0).text, "a-");
        assert!(decode(&probabilities[..10], &alphabet, &Letters::default(), 2.0).narrow.is_none());
    }

    #[test]
    fn nothing_seen_is_an_empty_reading() {
        assert_eq!(decode(&rows("------", 0.9), &alphabet(), &Letters::default(), 6.0), Reading::default());
        let only_space = decode(&rows("--_---", 0.9), &alphabet(), &Letters::default(), 6.0);
        assert_eq!((only_space.text.as_str(), only_space.confidence), ("", 0.0));
        assert_eq!(decode(&[], &alphabet(), &Letters::default(), 0.0), Reading::default());
    }

    #[test]
    fn the_alphabet_puts_blank_first_and_space_last() {
        assert_eq!(alphabet().classes(), 5);
        assert!(Alphabet::parse("").is_err());
        assert_eq!(best(&[0.1, 0.7, 0.2]), (1, 0.7));
    }
}
