//! Amounts as people write them: `1,234.56`, `1.234,56`, `1 234,56`, `1'234.56`, `12,50-`, `RM 33.90`.
//!
//! The last point or comma with one or two digits behind it parts the fraction, whatever the language: groups have
//! three. A number with more than [`MOST_DIGITS`] digits is no amount.

use std::ops::Range;

const MOST_DIGITS: usize = 12;

/// An amount in a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Amount {
    /// In hundredths.
    pub cents: i64,
    /// It has two digits behind a point or comma.
    pub fraction: bool,
    /// A per cent sign follows.
    pub percent: bool,
    /// Of the number with its sign, without a currency.
    pub bytes: Range<usize>,
    /// A currency's sign or code stands beside it.
    pub currency: Option<&'static str>,
}

impl Amount {
    /// With a point and two digits.
    pub fn value(&self) -> String {
        format_cents(self.cents)
    }
}

pub(super) fn format_cents(cents: i64) -> String {
    let sign = if cents < 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", cents.unsigned_abs() / 100, cents.unsigned_abs() % 100)
}

/// Signs and codes, and what they are in ISO 4217. Before or after a number.
pub(super) const CURRENCIES: [(&str, &str); 21] = [
    ("€", "EUR"),
    ("eur", "EUR"),
    ("euro", "EUR"),
    ("us$", "USD"),
    ("usd", "USD"),
    ("£", "GBP"),
    ("gbp", "GBP"),
    ("rm", "MYR"),
    ("myr", "MYR"),
    ("chf", "CHF"),
    ("fr.", "CHF"),
    ("r$", "BRL"),
    ("brl", "BRL"),
    ("zł", "PLN"),
    ("pln", "PLN"),
    ("kr", "SEK"),
    ("sek", "SEK"),
    ("s$", "SGD"),
    ("sgd", "SGD"),
    ("¥", "JPY"),
    ("$", "USD"),
];

/// Every number of a line that can be an amount, left to right. `close` tells of a space at a byte whether it is as narrow
/// as one inside a number.
pub(super) fn amounts(text: &str, close: &dyn Fn(usize) -> bool) -> Vec<Amount> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if !bytes[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let end = number_end(text, at, close);
        let before = text[..at].chars().next_back();
        let after = text[end..].chars().next();
        // Part of a word or code: A123, 12-34, 10:30, 1/2.
        let glued = before.is_some_and(|c| c.is_alphabetic() && !ends_with_currency(&text[..at]) || "/:.,#".contains(c))
            || after.is_some_and(|c| "/:".contains(c) || c.is_alphabetic() && !is_after_amount(&text[end..]));
        if let Some(amount) = amount(text, at..end).filter(|_| !glued) {
            found.push(amount);
        }
        at = end;
    }
    found
}

/// Where the number that begins at `start` ends: digits, and separators between digits.
fn number_end(text: &str, start: usize, close: &dyn Fn(usize) -> bool) -> usize {
    let bytes = text.as_bytes();
    let digits = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut end = start + digits(start);
    loop {
        let rest = &text[end..];
        let Some(separator) = rest.chars().next() else { return end };
        let next = end + separator.len_utf8();
        match separator {
            '.' | ',' | '\'' | '’' => {
                let count = digits(next);
                if count > 0 {
                    end = next + count;
                    continue;
                }
                // "33. 90": a reader's space. Only where it can be nothing else.
                if matches!(separator, '.' | ',')
                    && bytes.get(next) == Some(&b' ')
                    && digits(next + 1) == 2
                    && digits(next + 3) == 0
                {
                    let behind = text[next + 3..].chars().next();
                    let lone = behind.is_none_or(|c| c.is_whitespace() || "-%*".contains(c));
                    if lone && !text[start..end].contains(['.', ',']) {
                        end = next + 3;
                    }
                }
                return end;
            }
            ' ' | '\u{a0}' | '\u{202f}' => {
                // "RM 88 17": the point was not read.
                let tail = &bytes[next..];
                let lone = tail.len() >= 2
                    && tail[..2].iter().all(u8::is_ascii_digit)
                    && tail.get(2).is_none_or(u8::is_ascii_whitespace);
                if separator == ' ' && lone && currency_before(&text[..start]).is_some() && !text[start..end].contains(['.', ','])
                {
                    return next + 2;
                }
                // A group of three after at most three, with a fraction behind it: "1 234,56".
                let count = digits(next);
                let tail = &bytes[next + count..];
                let grouped = end - start <= 3
                    && count == 3
                    && tail.len() >= 3
                    && matches!(tail[0], b'.' | b',')
                    && tail[1].is_ascii_digit()
                    && tail[2].is_ascii_digit()
                    && tail.get(3).is_none_or(|byte| !byte.is_ascii_digit())
                    && (separator != ' ' || tail[0] == b',' && close(end));
                if !grouped {
                    return end;
                }
                end = next + count;
            }
            _ => return end,
        }
    }
}

fn amount(text: &str, bytes: Range<usize>) -> Option<Amount> {
    let number = &text[bytes.clone()];
    let digits = number.bytes().filter(u8::is_ascii_digit).count();
    if digits > MOST_DIGITS {
        return None;
    }
    let mut clean: String = number.chars().filter(|c| !c.is_whitespace()).collect();
    if number.bytes().rev().nth(2) == Some(b' ') && !number.contains(['.', ',']) {
        clean.insert(clean.len() - 2, '.');
    }
    let last = clean.rfind(['.', ',']);
    let (whole, part) = match last {
        Some(last) if (1..=2).contains(&(clean.len() - last - 1)) => (&clean[..last], &clean[last + 1..]),
        Some(last) if clean.len() - last - 1 != 3 => return None,
        _ => (clean.as_str(), ""),
    };
    // Groups between separators are of three.
    let mut groups = whole.split(['.', ',', '\'', '’']);
    let first = groups.next()?;
    if first.is_empty() || first.len() > 3 && whole.len() > first.len() || groups.any(|group| group.len() != 3) {
        return None;
    }
    let value: i64 = whole.bytes().filter(u8::is_ascii_digit).fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
    let fraction: i64 = match part.len() {
        0 => 0,
        1 => i64::from(part.as_bytes()[0] - b'0') * 10,
        _ => part.parse().ok()?,
    };
    let (mut start, mut end) = (bytes.start, bytes.end);
    let before = &text[..start];
    let bare = before.trim_end_matches([' ', '$', '€', '£']);
    let signed = bare.ends_with(['-', '−', '–'])
        && bare.trim_end_matches(['-', '−', '–']).chars().next_back().is_none_or(|c| c.is_whitespace() || c == '(');
    let trailing = text[end..].starts_with('-') && !text[end + 1..].starts_with(|c: char| c.is_alphanumeric());
    let negative = signed || trailing;
    if signed && bare.len() == before.len() {
        start -= bare.chars().next_back().map_or(0, char::len_utf8);
    }
    if trailing {
        end += 1;
    }
    let cents = value * 100 + fraction;
    let percent = text[end..].trim_start().starts_with('%');
    let currency = currency_before(&text[..start]).or_else(|| currency_after(&text[end..]));
    Some(Amount { cents: if negative { -cents } else { cents }, fraction: part.len() == 2, percent, bytes: start..end, currency })
}

fn currency_before(text: &str) -> Option<&'static str> {
    let text = text.trim_end_matches([' ', '-', ':', '(']);
    let tail: String = text.chars().rev().take(4).collect::<Vec<_>>().into_iter().rev().flat_map(char::to_lowercase).collect();
    let found = CURRENCIES.iter().find(|(sign, _)| tail.ends_with(sign) && is_apart(&tail[..tail.len() - sign.len()], sign))?;
    Some(found.1)
}

fn currency_after(text: &str) -> Option<&'static str> {
    let text = text.trim_start();
    let head: String = text.chars().take(5).flat_map(char::to_lowercase).collect();
    let found = CURRENCIES.iter().find(|(sign, _)| {
        let behind = head.strip_prefix(sign).and_then(|rest| rest.chars().next());
        head.starts_with(sign) && (behind.is_none_or(|c| !c.is_alphabetic()))
    })?;
    Some(found.1)
}

/// A code is a word of its own; a sign need not be.
fn is_apart(before: &str, sign: &str) -> bool {
    !sign.starts_with(char::is_alphabetic) || !before.ends_with(char::is_alphabetic)
}

fn ends_with_currency(text: &str) -> bool {
    currency_before(text).is_some() && !text.ends_with(' ')
}

/// What may follow an amount at once: a tax code of a letter or two, a currency.
fn is_after_amount(text: &str) -> bool {
    let letters = text.chars().take_while(|c| c.is_alphabetic()).count();
    letters <= 2 || currency_after(text).is_some()
}

/// The currency that a document's text tells by its signs and codes, the most frequent one.
pub(super) fn currency_of<'a>(found: impl Iterator<Item = &'a Amount>) -> Option<&'static str> {
    let mut counts: Vec<(&'static str, usize)> = Vec::new();
    for currency in found.filter_map(|amount| amount.currency) {
        match counts.iter_mut().find(|(name, _)| *name == currency) {
            Some((_, count)) => *count += 1,
            None => counts.push((currency, 1)),
        }
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<String> {
        amounts(text, &|_| true).iter().map(Amount::value).collect()
    }

    #[test]
    fn amounts_in_every_country_s_way() {
        for (text, value) in [
            ("1,234.56", "1234.56"),
            ("1.234,56", "1234.56"),
            ("1 234,56 €", "1234.56"),
            ("1'234.56", "1234.56"),
            ("1\u{202f}234,56", "1234.56"),
            ("12,50-", "-12.50"),
            ("RM33.90", "33.90"),
            ("RM 33. 90", "33.90"),
            ("-RM 0.02", "0.02"),
            ("- 0.02", "-0.02"),
            ("€ 9,5", "9.50"),
            ("1,234,567.00", "1234567.00"),
            ("53.00S", "53.00"),
            ("19.00 SR", "19.00"),
            ("1.234", "1234.00"),
        ] {
            assert_eq!(values(text), [value], "{text}");
        }
    }

    #[test]
    fn what_is_no_amount() {
        for text in
            ["12/05/2018", "21:13", "A123", "INV-1/2", "1.2.3", &"9".repeat(10_000), "12.3456", "1,23,4.00", "192.168.1.1"]
        {
            assert_eq!(values(text), [] as [&str; 0], "{text}");
        }
    }

    #[test]
    fn currencies_beside_amounts() {
        let of = |text: &str| amounts(text, &|_| true)[0].currency;
        assert_eq!(of("TOTAL RM 5.00"), Some("MYR"));
        assert_eq!(of("5,00 EUR"), Some("EUR"));
        assert_eq!(of("$5.00"), Some("USD"));
        assert_eq!(of("farm 5.00"), None);
        assert_eq!(of("5.00 kronor"), None);
    }
}
