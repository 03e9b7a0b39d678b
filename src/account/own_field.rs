//! Fields of an account's own: what its documents have that nobody else's do.

use regex::RegexBuilder;
use serde::{Deserialize, Serialize};

/// Memory that one compiled pattern may take; matching is linear in the text whatever the pattern.
const PATTERN_MEMORY: usize = 1 << 20;
const LONGEST_PATTERN: usize = 1_000;
const MOST_KEYWORDS: usize = 32;

/// A field found by a pattern, or by keywords that it stands behind or under. As `accounts.toml` writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", rename_all = "kebab-case")]
pub struct OwnField {
    /// As the sidecar has it; one of the known fields' names takes that one's place.
    pub name: String,
    /// A regular expression on a line; its first group is the value, or the whole match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// In any case and without accents.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keywords: Vec<String>,
    pub kind: ValueKind,
}

/// What a field's value is, and so how it is written in the sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ValueKind {
    /// As it stands.
    #[default]
    Text,
    /// A word with digits in it.
    Number,
    /// With a point and two digits.
    Amount,
    /// ISO 8601.
    Date,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Written {
    name: String,
    pattern: Option<String>,
    #[serde(default)]
    keywords: Vec<String>,
    #[serde(default)]
    kind: ValueKind,
}

impl TryFrom<Written> for OwnField {
    type Error = String;

    fn try_from(Written { name, pattern, keywords, kind }: Written) -> Result<Self, String> {
        let good = (1..=40).contains(&name.len())
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        if !good {
            return Err(format!("\"{name}\" cannot be a field's name: use 1 to 40 of a-z, 0-9 and '_', beginning with a letter"));
        }
        if pattern.is_none() && keywords.is_empty() {
            return Err(format!("the field {name} needs a pattern or keywords"));
        }
        if keywords.len() > MOST_KEYWORDS || keywords.iter().any(|word| word.trim().is_empty() || word.len() > 100) {
            return Err(format!("the field {name} may have {MOST_KEYWORDS} keywords of 1 to 100 letters"));
        }
        let field = OwnField { name, pattern, keywords, kind };
        field.regex().map(|_| ()).map(|()| field)
    }
}

impl OwnField {
    /// Its pattern, compiled; `None` where it has none.
    ///
    /// # Errors
    /// A sentence about a pattern that is none, or too large.
    pub fn regex(&self) -> Result<Option<regex::Regex>, String> {
        let Some(pattern) = &self.pattern else { return Ok(None) };
        if pattern.len() > LONGEST_PATTERN {
            return Err(format!("the pattern of the field {} is longer than {LONGEST_PATTERN} letters", self.name));
        }
        let compiled =
            RegexBuilder::new(pattern).size_limit(PATTERN_MEMORY).dfa_size_limit(PATTERN_MEMORY).nest_limit(50).build();
        compiled.map(Some).map_err(|error| format!("the pattern of the field {} is no regular expression: {error}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<OwnField, String> {
        toml::from_str(text).map_err(|error: toml::de::Error| error.to_string())
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let good = read("name = 'room'\npattern = 'Room (\\d+)'").unwrap();
        assert_eq!((good.kind, good.keywords.len()), (ValueKind::Text, 0));
        for (text, hint) in [
            ("name = 'Room'\nkeywords = ['x']", "cannot be a field's name"),
            ("name = 'room'", "needs a pattern"),
            ("name = 'room'\npattern = '('", "no regular expression"),
            ("name = 'room'\npattern = '(a{1000}){1000}'", "no regular expression"),
            ("name = 'room'\nkeywords = [' ']", "keywords"),
            ("name = 'room'\nkeyword = ['x']", "unknown field"),
            ("name = 'room'\nkeywords = ['x']\nkind = 'colour'", "unknown variant"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }
}
