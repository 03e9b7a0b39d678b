//! Numbers that check themselves, and addresses of machines: IBAN, BIC, VAT id, e-mail, phone, URL, a card's last digits.

use super::sheet::{Sheet, Span};
use super::words::has_any;
use super::{Extract, Field};
use regex::Regex;
use std::sync::LazyLock;

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the pattern is a constant")
}

static IBAN: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]){11,30}"));
static BIC: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b[A-Z]{6}[A-Z0-9]{2}(?:[A-Z0-9]{3})?\b"));
static VAT: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"\b(?:DE ?(?:[0-9] ?){9}|ATU ?[0-9]{8}|BE ?[01](?:[. ]?[0-9]){9}|FR ?[0-9A-Z]{2}(?: ?[0-9]){9}|IT ?[0-9]{11}|NL ?[0-9]{9} ?B ?[0-9]{2}|ES ?[A-Z0-9][0-9]{7}[A-Z0-9]|PT ?[0-9]{9}|LU ?[0-9]{8}|PL ?[0-9]{10}|GB ?(?:[0-9] ?){9}|DK ?(?:[0-9] ?){8}|SE ?[0-9]{12}|FI ?[0-9]{8}|CHE[- ]?[0-9]{3}\.?[0-9]{3}\.?[0-9]{3})",
    )
});
static EMAIL: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@[A-Za-z0-9][A-Za-z0-9.-]{0,200}\.[A-Za-z]{2,24}\b"));
static URL: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)\b(?:https?://[a-z0-9.-]{3,100}(?:/[^\s]{0,200})?|www\.[a-z0-9-]{2,63}(?:\.[a-z0-9-]{2,63}){1,4}(?:/[^\s]{0,200})?)",
    )
});
static PHONE: LazyLock<Regex> = LazyLock::new(|| pattern(r"\+?\(?[0-9][0-9()/. -]{5,24}[0-9]"));
static CARD: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?i)(?:[*x•#]{4}[ -]?){1,4}([0-9]{4})\b"));

/// Adds what is found.
pub(super) fn find(sheet: &Sheet<'_>, extract: &mut Extract) {
    let mut put = |name: &str, field: Field| {
        extract.fields.entry(name.to_owned()).or_insert(field);
    };
    for (index, cell) in sheet.cells.iter().enumerate() {
        let text = cell.text;
        let span = |range: std::ops::Range<usize>| Span { cell: index, bytes: range };
        if let Some((range, value)) = iban(text) {
            put("iban", sheet.field(&span(range), value, 1.0));
        }
        if has_any(&cell.plain, &["bic", "swift"])
            && let Some(found) = BIC.find_iter(text).find(|found| is_country(&found.as_str()[4..6]))
        {
            put("bic", sheet.field(&span(found.range()), found.as_str(), 0.9));
        }
        if let Some((range, value)) = vat(text) {
            put("vat_id", sheet.field(&span(range), value, 1.0));
        }
        if let Some(found) = EMAIL.find(text) {
            put("email", sheet.field(&span(found.range()), found.as_str().to_lowercase(), 0.95));
        }
        if let Some(found) = URL.find(text) {
            let end = found.start() + found.as_str().trim_end_matches(['.', ',', ';', ')', '!']).len();
            put("url", sheet.field(&span(found.start()..end), &text[found.start()..end], 0.95));
        }
        if has_any(
            &cell.plain,
            &["tel", "phone", "telefon", "telephone", "telefono", "telefone", "telefoon", "tlf", "hotline", "mobile"],
        ) && let Some((range, value)) = phone(text)
        {
            put("phone", sheet.field(&span(range), value, 0.9));
        }
        if let Some(found) = CARD.captures(text).and_then(|found| found.get(1)) {
            put("card_last_digits", sheet.field(&span(found.range()), found.as_str(), 0.9));
        }
    }
}

/// An IBAN whose check digits are right, without spaces.
fn iban(text: &str) -> Option<(std::ops::Range<usize>, String)> {
    for found in IBAN.find_iter(text) {
        // What follows an IBAN may look like more of it.
        let matched = found.as_str();
        let length = iban_length(&matched[..2])?;
        let mut count = 0;
        let end = matched.char_indices().find_map(|(at, c)| {
            count += usize::from(c != ' ');
            (count == length).then_some(at + 1)
        });
        let Some(end) = end else { continue };
        let value: String = matched[..end].chars().filter(|c| *c != ' ').collect();
        if is_iban(&value) {
            return Some((found.start()..found.start() + end, value));
        }
    }
    None
}

fn iban_length(country: &str) -> Option<usize> {
    const LENGTHS: [(&str, usize); 38] = [
        ("AD", 24),
        ("AT", 20),
        ("BE", 16),
        ("BG", 22),
        ("CH", 21),
        ("CY", 28),
        ("CZ", 24),
        ("DE", 22),
        ("DK", 18),
        ("EE", 20),
        ("ES", 24),
        ("FI", 18),
        ("FR", 27),
        ("GB", 22),
        ("GI", 23),
        ("GR", 27),
        ("HR", 21),
        ("HU", 28),
        ("IE", 22),
        ("IS", 26),
        ("IT", 27),
        ("LI", 21),
        ("LT", 20),
        ("LU", 20),
        ("LV", 21),
        ("MC", 27),
        ("MT", 31),
        ("NL", 18),
        ("NO", 15),
        ("PL", 28),
        ("PT", 25),
        ("RO", 24),
        ("RS", 22),
        ("SE", 24),
        ("SI", 19),
        ("SK", 24),
        ("SM", 27),
        ("TR", 26),
    ];
    LENGTHS.iter().find(|(code, _)| *code == country).map(|(_, length)| *length)
}

fn is_country(code: &str) -> bool {
    iban_length(code).is_some() || matches!(code, "US" | "CA" | "AU" | "JP" | "MY" | "SG" | "BR" | "IN" | "CN" | "MX" | "ZA")
}

/// ISO 13616: the country and check digits go to the end, letters become numbers, the rest modulo 97 is 1.
fn is_iban(value: &str) -> bool {
    let turned = value[4..].chars().chain(value[..4].chars());
    let rest = turned.filter_map(|c| c.to_digit(36)).fold(0u64, |rest, digit| {
        let shift = if digit > 9 { 100 } else { 10 };
        (rest * shift + u64::from(digit)) % 97
    });
    rest == 1
}

/// A VAT id whose check digits are right where we know how, without spaces.
fn vat(text: &str) -> Option<(std::ops::Range<usize>, String)> {
    VAT.find_iter(text).find_map(|found| {
        let value: String = found.as_str().chars().filter(|c| c.is_ascii_alphanumeric()).collect();
        let end = found.start() + found.as_str().trim_end().len();
        // More digits behind it: some other number.
        let apart = !text[end..].starts_with(|c: char| c.is_ascii_alphanumeric());
        (apart && is_vat(&value)).then(|| (found.start()..end, value))
    })
}

fn is_vat(value: &str) -> bool {
    let digits: Vec<u32> = value.chars().filter_map(|c| c.to_digit(10)).collect();
    let number = |digits: &[u32]| digits.iter().fold(0u64, |sum, digit| sum * 10 + u64::from(*digit));
    let weighed = |weights: &[u32]| weights.iter().zip(&digits).map(|(weight, digit)| weight * digit).sum::<u32>();
    match &value[..2] {
        "DE" => {
            // ISO 7064, mod 11, 10.
            let product = digits.iter().take(8).fold(10, |product, digit| {
                let sum = (digit + product) % 10;
                2 * if sum == 0 { 10 } else { sum } % 11
            });
            digits.len() == 9 && (11 - product) % 10 == digits[8]
        }
        "IT" => {
            let sum: u32 =
                digits.iter().take(10).enumerate().map(|(at, d)| if at % 2 == 0 { *d } else { d * 2 / 10 + d * 2 % 10 }).sum();
            digits.len() == 11 && (10 - sum % 10) % 10 == digits[10]
        }
        "BE" => digits.len() == 10 && 97 - number(&digits[..8]) % 97 == number(&digits[8..]),
        "FR" => {
            // Old keys are numbers; the new ones have letters, and no check that is public for all.
            digits.len() < 11 || number(&digits[..2]) == (12 + 3 * (number(&digits[2..11]) % 97)) % 97
        }
        "NL" => digits.len() == 11 && (weighed(&[9, 8, 7, 6, 5, 4, 3, 2]) % 11 == digits[8] || is_vat_by_97(value)),
        "PT" => {
            let rest = 11 - weighed(&[9, 8, 7, 6, 5, 4, 3, 2]) % 11;
            digits.len() == 9 && digits[8] == if rest > 9 { 0 } else { rest }
        }
        "AT" => {
            let sum: u32 =
                digits.iter().take(7).enumerate().map(|(at, d)| if at % 2 == 0 { *d } else { d * 2 / 10 + d * 2 % 10 }).sum();
            digits.len() == 8 && (10 - (sum + 4) % 10) % 10 == digits[7]
        }
        "LU" => digits.len() == 8 && number(&digits[..6]) % 89 == number(&digits[6..]),
        "PL" => digits.len() == 10 && weighed(&[6, 5, 7, 2, 3, 4, 5, 6, 7]) % 11 == digits[9],
        "DK" => digits.len() == 8 && weighed(&[2, 7, 6, 5, 4, 3, 2, 1]) % 11 == 0,
        "FI" => digits.len() == 8 && (11 - weighed(&[7, 9, 10, 5, 8, 4, 2]) % 11) % 11 == digits[7],
        "GB" => {
            let rest = (u64::from(weighed(&[8, 7, 6, 5, 4, 3, 2])) + number(&digits[7..])) % 97;
            digits.len() == 9 && (rest == 0 || rest == 42)
        }
        "CH" => digits.len() == 9 && (11 - weighed(&[5, 4, 3, 2, 7, 6, 5, 4]) % 11) % 11 == digits[8],
        _ => true,
    }
}

/// The newer Dutch ids of one-person firms.
fn is_vat_by_97(value: &str) -> bool {
    let rest = value.chars().filter_map(|c| c.to_digit(36)).fold(0u64, |rest, digit| {
        let shift = if digit > 9 { 100 } else { 10 };
        (rest * shift + u64::from(digit)) % 97
    });
    rest == 1
}

/// Digits and a leading plus; 7 to 15 of them.
fn phone(text: &str) -> Option<(std::ops::Range<usize>, String)> {
    PHONE.find_iter(text).find_map(|found| {
        let raw = found.as_str();
        // Two numbers in a row, "FAX" or a date between them, are not one.
        let raw = raw.split("  ").next().unwrap_or(raw).trim_end();
        let value: String = raw.chars().filter(|c| c.is_ascii_digit() || *c == '+').collect();
        let digits = value.bytes().filter(u8::is_ascii_digit).count();
        let before = text[..found.start()].chars().next_back();
        ((7..=15).contains(&digits) && before.is_none_or(|c| !c.is_alphanumeric()))
            .then(|| (found.start()..found.start() + raw.len(), value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ibans_are_checked() {
        assert_eq!(iban("IBAN: DE89 3704 0044 0532 0130 00 BIC X").unwrap().1, "DE89370400440532013000");
        assert_eq!(iban("GB82WEST12345698765432").unwrap().1, "GB82WEST12345698765432");
        assert!(iban("DE88 3704 0044 0532 0130 00").is_none());
        assert!(iban("XX89 3704 0044 0532 0130 00").is_none());
        assert!(iban(&"DE89".repeat(3000)).is_none());
    }

    #[test]
    fn vat_ids_are_checked() {
        for good in [
            "DE812706034", "DE 186 018 569", "ATU13585627", "IT00743110157", "FR40303265045", "NL004495445B01", "PT501964843",
            "BE0428759497", "GB980780684", "LU15027442", "PL8567346215", "DK13585628", "FI20774740", "ESB58378431",
        ] {
            assert!(vat(good).is_some(), "{good}");
        }
        for bad in ["DE812706035", "DE8127060341", "IT00743110158", "FR41303265045", "PT501964842", "BE0428759498", "GB980780685"]
        {
            assert!(vat(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn phones_and_cards() {
        assert_eq!(phone("Tel.: +49 (0)211 / 300-6966").unwrap().1, "+4902113006966");
        assert_eq!(phone("TEL : 07-386 7524 FAX : 07-386 3793").unwrap().1, "073867524");
        assert_eq!(phone("tel 12345"), None);
        assert_eq!(CARD.captures("XXXX-XXXX-XXXX-4242").unwrap().get(1).unwrap().as_str(), "4242");
        assert_eq!(CARD.captures("VISA ************1234").unwrap().get(1).unwrap().as_str(), "1234");
    }
}
