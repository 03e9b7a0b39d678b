//! How secrets look: `ink_`, 43 letters and digits of 256 random bits, and 6 more that are a checksum, so
//! that a scanner for leaked secrets knows one from a guess without asking anybody, and a person's
//! copying error from a revoked key.
//!
//! The checksum is the CRC-32 (IEEE) of the 47 characters before it, as six digits to the base of 62
//! (`0-9A-Za-z`), the highest first.

use sha2::{Digest, Sha256};
use std::fmt;

const PREFIX: &str = "ink_";
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// 62^43 is more than 2^256.
const RANDOM: usize = 43;
const CHECKSUM: usize = 6;
const LENGTH: usize = PREFIX.len() + RANDOM + CHECKSUM;

/// One key's secret in the clear. Never logged: its `Debug` form holds nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    #[must_use]
    pub fn generate() -> Self {
        let mut text = PREFIX.to_owned();
        let mut random = [0; 64];
        while text.len() < PREFIX.len() + RANDOM {
            getrandom::fill(&mut random).expect("the system gives random bytes");
            // Bytes beyond the last whole alphabet are thrown away, else its first digits were likelier.
            let fair = random.iter().filter(|byte| usize::from(**byte) < 256 / DIGITS.len() * DIGITS.len());
            let missing = PREFIX.len() + RANDOM - text.len();
            text.extend(fair.map(|byte| char::from(DIGITS[usize::from(*byte) % DIGITS.len()])).take(missing));
        }
        text.push_str(&checksum(&text));
        Secret(text)
    }

    /// `None` for what never was a secret.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != LENGTH
            || !text.starts_with(PREFIX)
            || !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            return None;
        }
        let (body, sum) = text.split_at(LENGTH - CHECKSUM);
        (checksum(body) == sum).then(|| Secret(text.to_owned()))
    }

    /// To be shown once, or to sign with: all of it, prefix and checksum too.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is kept of it. A secret of 256 random bits needs no slow hash.
    pub(super) fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_bytes()).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

fn checksum(text: &str) -> String {
    let mut crc = flate2::Crc::new();
    crc.update(text.as_bytes());
    let mut rest = usize::try_from(crc.sum()).expect("a usize holds 32 bits");
    let mut digits = [b'0'; CHECKSUM];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[rest % DIGITS.len()];
        rest /= DIGITS.len();
    }
    digits.iter().map(|digit| char::from(*digit)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn secrets_are_long_different_and_known_by_their_checksum() {
        let many: HashSet<String> = (0..200).map(|_| Secret::generate().0).collect();
        assert_eq!(many.len(), 200);
        for text in &many {
            assert_eq!(Secret::parse(text).unwrap().reveal(), text);
            for at in 0..text.len() {
                let mut typo = text.clone().into_bytes();
                typo[at] = if typo[at] == b'7' { b'8' } else { b'7' };
                assert_eq!(Secret::parse(std::str::from_utf8(&typo).unwrap()), None, "{at}");
            }
        }
        let random: HashSet<u8> = many.iter().flat_map(|text| text.bytes().skip(4).take(RANDOM)).collect();
        assert_eq!(random.len(), DIGITS.len());
        for bad in ["", "ink_", &"é".repeat(27), &format!("{} ", many.iter().next().unwrap())] {
            assert_eq!(Secret::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_checksum_is_the_one_that_is_written_down() {
        // CRC-32 of "123456789" is 0xCBF43926, by which every implementation is checked.
        assert_eq!(checksum("123456789"), "3jZRME");
        assert!(!format!("{:?}", Secret::generate()).contains("ink_"));
    }
}
