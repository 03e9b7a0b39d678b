//! The `[codes]` section of the configuration.

use serde::{Deserialize, Serialize};

/// What codes on pages mean.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// A page with a code that says this parts a stack; empty: none does.
    pub separator: String,
    /// A code that begins with this carries its document's number; empty: none does.
    pub number_prefix: String,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { separator: "PATCHT".to_owned(), number_prefix: "ASN".to_owned() }
    }
}

impl Settings {
    #[must_use]
    pub fn is_separator(&self, text: &str) -> bool {
        !self.separator.is_empty() && self.separator == text.trim()
    }

    /// The document's number in a code's text: what follows the prefix, if it is a number of at most 18 digits.
    #[must_use]
    pub fn number<'a>(&self, text: &'a str) -> Option<&'a str> {
        let rest = text.trim().strip_prefix(self.number_prefix.as_str()).filter(|_| !self.number_prefix.is_empty())?;
        let number = rest.trim_start_matches([' ', ':', '-', '#']);
        ((1..=18).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_what_follows_the_prefix() {
        let settings = Settings::default();
        for (text, number) in
            [("ASN00123", Some("00123")), ("ASN 7", Some("7")), ("ASN-7", Some("7")), ("ASN", None), ("ASNx1", None), ("7", None)]
        {
            assert_eq!(settings.number(text), number, "{text}");
        }
        assert_eq!(settings.number(&format!("ASN{}", "1".repeat(10_000))), None);
        let off = Settings { number_prefix: String::new(), ..settings };
        assert_eq!(off.number("123"), None);
    }
}
