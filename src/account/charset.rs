//! The character set in which a device writes file names, where that is not UTF-8: one of the WHATWG's
//! (`encoding_rs`), named by any of its labels.

use super::NameError;
use encoding_rs::Encoding;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A character set in which ASCII is ASCII, so that `/` and line ends are where they seem to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charset(&'static Encoding);

impl Charset {
    /// The text of these bytes; `None` if they are none in this character set.
    #[must_use]
    pub fn decode(self, bytes: &[u8]) -> Option<String> {
        self.0.decode_without_bom_handling_and_without_replacement(bytes).map(std::borrow::Cow::into_owned)
    }

    /// The bytes of this text; `None` if the character set lacks one of its characters.
    #[must_use]
    pub fn encode(self, text: &str) -> Option<Vec<u8>> {
        let (bytes, _, lacking) = self.0.encode(text);
        (!lacking).then(|| bytes.into_owned())
    }
}

impl FromStr for Charset {
    type Err = NameError;

    fn from_str(label: &str) -> Result<Self, NameError> {
        // UTF-16 and ISO-2022-JP are no character sets for a command line: a `/` may be half a character.
        let known = Encoding::for_label_no_replacement(label.as_bytes()).filter(|found| found.is_ascii_compatible());
        known.map(Charset).ok_or_else(|| NameError::Charset(label.to_owned()))
    }
}

/// The character set's own name, in small letters.
impl fmt::Display for Charset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.name().to_ascii_lowercase())
    }
}

impl Serialize for Charset {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Charset {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_name_character_sets() {
        for (label, name) in
            [("shift_jis", "shift_jis"), ("SJIS", "shift_jis"), ("latin1", "windows-1252"), ("cp1251", "windows-1251")]
        {
            assert_eq!(label.parse::<Charset>().unwrap().to_string(), name);
        }
        for wrong in ["", "ebcdic", "utf-16le", "iso-2022-jp", "replacement", "shift jis"] {
            let told = wrong.parse::<Charset>().unwrap_err().to_string();
            assert!(told.contains("charset"), "{told}");
        }
    }

    #[test]
    fn text_becomes_bytes_and_text_again() {
        let tokyo: Charset = "shift_jis".parse().unwrap();
        assert_eq!(tokyo.decode(b"\x83X\x83L\x83\x83\x83\x93.pdf").as_deref(), Some("スキャン.pdf"));
        assert_eq!(tokyo.encode("スキャン.pdf").as_deref(), Some(&b"\x83X\x83L\x83\x83\x83\x93.pdf"[..]));
        assert_eq!(tokyo.decode(b"\x83"), None, "half a character");
        assert_eq!(tokyo.encode("räkning.pdf"), None);
    }
}
