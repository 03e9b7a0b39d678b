//! What a document's languages tell of its letters.
//!
//! Owns: the letters that each language adds to A to Z, and what a reading may not hold once the
//! languages are known. The recognizer knows 15,908 Han and 550 Latin letters: where the ink is poor, a
//! rule becomes a Han letter and an "i" an "í". Digits, punctuation and signs are no language's own.

use std::collections::HashSet;

use super::ctc::is_wide;

/// A letter of another language is let through when it is this probable: a name keeps its accents.
const SURE: f32 = 0.9;

/// What each language adds to A to Z, in small letters, by ISO 639-1 code.
const LETTERS: &[(&str, &str)] = &[
    ("cs", "áčďéěíňóřšťúůýž"),
    ("da", "æøåéüä"),
    ("de", "äöüß"),
    ("en", ""),
    ("es", "áéíñóúüºª"),
    ("et", "äöõüšž"),
    ("fi", "äöåšž"),
    ("fr", "àâæçéèêëîïôœùûüÿ"),
    ("hr", "čćđšž"),
    ("hu", "áéíóöőúüű"),
    ("is", "áðéíóúýþæö"),
    ("it", "àèéìíîòóùúºª"),
    ("lt", "ąčęėįšųūž"),
    ("lv", "āčēģīķļņšūž"),
    ("nb", "æøåéèêóòâôü"),
    ("nl", "áàäéèëêíïóöôúüĳ"),
    ("nn", "æøåéèêóòâôü"),
    ("no", "æøåéèêóòâôü"),
    ("pl", "ąćęłńóśźż"),
    ("pt", "áàâãçéêíóôõúüºª"),
    ("ro", "ăâîșşțţ"),
    ("sk", "áäčďéíĺľňóôŕšťúýž"),
    ("sl", "čšž"),
    ("sv", "åäöéàü"),
    ("tr", "çğıİöşüâîû"),
];

/// Languages written in Han, kana or hangul.
const SQUARES: &[&str] = &["zh", "ja", "ko", "yue"];

/// Which characters a reading may hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Letters {
    /// Han, kana and hangul: known to be there, known not to be, or for the page to tell.
    pub squares: Option<bool>,
    /// The only letters beside A to Z. `None`: any.
    only: Option<HashSet<char>>,
}

impl Letters {
    /// Of documents in these languages (ISO 639-1, a region or script after it is not looked at). No
    /// language, or one that is not known here: any letter.
    pub(super) fn of(languages: &[String]) -> Self {
        let codes: Vec<String> =
            languages.iter().map(|tag| tag.split(['-', '_']).next().unwrap_or_default().to_lowercase()).collect();
        let known: Option<Vec<&str>> =
            codes.iter().map(|code| LETTERS.iter().find(|(of, _)| of == code).map(|(_, letters)| *letters)).collect();
        if codes.iter().any(|code| SQUARES.contains(&code.as_str())) {
            return Letters { squares: Some(true), only: None };
        }
        match known {
            Some(letters) if !letters.is_empty() => {
                let small = letters.into_iter().flat_map(str::chars);
                let only = small.flat_map(|letter| std::iter::once(letter).chain(letter.to_uppercase())).collect();
                Letters { squares: Some(false), only: Some(only) }
            }
            _ => Letters::default(),
        }
    }

    /// Whether `text`, one entry of the recognizer's alphabet, may not be read at this probability.
    pub(super) fn bars(&self, text: &str, probability: f32) -> bool {
        let foreign = |letter: char| {
            letter.is_alphabetic() && !letter.is_ascii() && self.only.as_ref().is_some_and(|own| !own.contains(&letter))
        };
        self.squares == Some(false) && text.chars().any(is_wide) || probability < SURE && text.chars().any(foreign)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters(languages: &[&str]) -> Letters {
        Letters::of(&languages.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn a_language_bars_the_letters_of_others_unless_they_are_sure() {
        let german = letters(&["de-AT"]);
        assert!(german.bars("一", 0.99) && german.bars("í", 0.6) && german.bars("Ñ", 0.6));
        for own in ["ä", "Ü", "ß", "x", "7", "€", "§", "„", "–"] {
            assert!(!german.bars(own, 0.1), "{own}");
        }
        assert!(!german.bars("é", 0.95), "a name keeps its accents");
        assert!(!letters(&["de", "fr"]).bars("é", 0.2));
        assert!(letters(&["en"]).bars("é", 0.2));
    }

    #[test]
    fn what_is_not_known_is_not_barred() {
        for any in [letters(&[]), letters(&["xx"]), letters(&["de", "xx"])] {
            assert_eq!(any, Letters::default());
            assert!(!any.bars("一", 0.5) && !any.bars("í", 0.5));
        }
        let chinese = letters(&["en", "zh-Hans"]);
        assert!(!chinese.bars("一", 0.5) && chinese.squares == Some(true));
    }

    #[test]
    fn the_table_is_in_order_and_in_small_letters() {
        assert!(LETTERS.is_sorted_by(|a, b| a.0 < b.0));
        assert!(LETTERS.iter().all(|(_, letters)| letters.chars().all(|c| c == 'İ' || c.to_lowercase().eq([c]))));
    }
}
