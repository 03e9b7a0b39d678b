//! What a signature covers. Pure; `examples/vectors.json` has the same in numbers, and clients check
//! themselves against it.
//!
//! Version 1: HMAC-SHA256(secret, timestamp ‖ path), in hexadecimal. The body, the method and the query are not
//! covered: it is there for clients that have it, and what can be done about a repetition is done.
//!
//! Version 2, `v2=` and hexadecimal, covers lines joined by `\n`, none after the last: `INKPORT-HMAC-SHA256`, id,
//! timestamp, nonce, method, host, path, query, sha256 of the body. Path and query are as they travel, the query's parts (between `&`) sorted
//! by their bytes; the host is as the `Host` header has it, in small letters.
//!
//! The secret is the text as it was shown, `ink_` and all. Neither message can be taken for the other: a timestamp
//! has one strict form, and no line of version 2 can hold a line end.

use crate::units::Timestamp;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use std::time::Duration;
use subtle::ConstantTimeEq as _;

/// How far a timestamp may be from the daemon's clock.
pub const WINDOW: Duration = Duration::from_secs(300);

/// What version 2 covers, as a request presents it.
#[derive(Debug, Clone, Copy)]
pub struct Covered<'a> {
    pub id: &'a str,
    pub timestamp: &'a str,
    pub nonce: &'a str,
    pub method: &'a str,
    pub host: &'a str,
    pub path: &'a str,
    /// Without its `?`; empty where there is none.
    pub query: &'a str,
    /// 64 hexadecimal digits.
    pub body_sha256: &'a str,
}

impl Covered<'_> {
    /// The message that is signed.
    #[must_use]
    pub fn message(&self) -> String {
        let mut parts: Vec<&str> = self.query.split('&').collect();
        parts.sort_unstable();
        [
            "INKPORT-HMAC-SHA256",
            self.id,
            self.timestamp,
            self.nonce,
            self.method,
            &self.host.to_ascii_lowercase(),
            self.path,
            &parts.join("&"),
            self.body_sha256,
        ]
        .join("\n")
    }
}

/// The signature of version 1.
#[must_use]
pub fn v1(secret: &[u8], timestamp: &str, path: &str) -> [u8; 32] {
    mac(secret, &[timestamp.as_bytes(), path.as_bytes()])
}

/// The signature of version 2.
#[must_use]
pub fn v2(secret: &[u8], covered: &Covered<'_>) -> [u8; 32] {
    mac(secret, &[covered.message().as_bytes()])
}

fn mac(secret: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes a key of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// A signature as a request presents it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signature {
    V1([u8; 32]),
    V2([u8; 32]),
}

impl Signature {
    /// `None` for what is no signature: one has one spelling, in small letters.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("v2=") {
            Some(digits) => hex(digits).map(Signature::V2),
            None => hex(text).map(Signature::V1),
        }
    }

    /// Whether it is one that any of the secrets makes. Takes the same time whatever the answer; `covered` gives the
    /// parts for both versions.
    #[must_use]
    pub fn is_made_by(&self, secrets: &[Vec<u8>], covered: &Covered<'_>) -> bool {
        let mut right = subtle::Choice::from(0);
        for secret in secrets {
            right |= match self {
                Signature::V1(signature) => signature.ct_eq(&v1(secret, covered.timestamp, covered.path)),
                Signature::V2(signature) => signature.ct_eq(&v2(secret, covered)),
            };
        }
        right.into()
    }
}

/// 32 bytes from 64 small hexadecimal digits.
#[must_use]
pub fn hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    let mut bytes = [0; 32];
    if digits.len() != 64 {
        return None;
    }
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// 64 small hexadecimal digits.
#[must_use]
pub fn to_hex(bytes: &[u8; 32]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
        text
    })
}

/// An instant as a request writes it: `YYYY-MM-DDTHH:MM:SS`, a fraction of up to nine digits if it likes, then `Z`
/// or `+00:00`. Nothing else, so that one request has one message.
#[must_use]
pub fn timestamp(text: &str) -> Option<Timestamp> {
    let instant = text.strip_suffix('Z').or_else(|| text.strip_suffix("+00:00"))?;
    let (seconds, fraction) = instant.split_once('.').map_or((instant, None), |(seconds, fraction)| (seconds, Some(fraction)));
    let shape = b"dddd-dd-ddTdd:dd:dd";
    let fits = seconds.len() == shape.len()
        && seconds.bytes().zip(shape).all(|(byte, shape)| if *shape == b'd' { byte.is_ascii_digit() } else { byte == *shape });
    let fraction_fits =
        fraction.is_none_or(|fraction| (1..=9).contains(&fraction.len()) && fraction.bytes().all(|byte| byte.is_ascii_digit()));
    if !fits || !fraction_fits {
        return None;
    }
    let parsed = time::OffsetDateTime::parse(&format!("{instant}Z"), &time::format_description::well_known::Rfc3339).ok()?;
    i64::try_from(parsed.unix_timestamp_nanos() / 1_000_000).ok().map(Timestamp)
}

/// Whether the timestamp is near enough to `now`.
#[must_use]
pub fn is_timely(timestamp: Timestamp, now: Timestamp) -> bool {
    timestamp.since(now) <= WINDOW && now.since(timestamp) <= WINDOW
}

/// Whether this may be a nonce: 16 to 64 visible characters of ASCII.
#[must_use]
pub fn is_nonce(text: &str) -> bool {
    (16..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_have_the_forms_that_clients_write_and_no_others() {
        let at = Timestamp(1_783_641_600_000);
        for good in
            ["2026-07-10T00:00:00Z", "2026-07-10T00:00:00+00:00", "2026-07-10T00:00:00.000Z", "2026-07-10T00:00:00.0+00:00"]
        {
            assert_eq!(timestamp(good), Some(at), "{good}");
        }
        assert_eq!(timestamp("2026-07-10T00:00:00.123456+00:00"), Some(Timestamp(at.0 + 123)));
        for bad in [
            "", "2026-07-10T00:00:00", "2026-07-10T00:00:00z", "2026-07-10t00:00:00Z", "2026-07-10 00:00:00Z",
            "2026-07-10T00:00:00-00:00", "2026-07-10T02:00:00+02:00", "2026-07-10T00:00:00.Z", "2026-07-10T00:00:00.1234567890Z",
            "2026-13-10T00:00:00Z", "2026-07-10T24:00:00Z", "+2026-07-10T00:00:00Z", "2026-07-10T00:00:00Z ", "1783641600",
        ] {
            assert_eq!(timestamp(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_window_is_five_minutes_either_way() {
        let now = Timestamp(1_000_000_000);
        for (offset, timely) in [(0, true), (300_000, true), (-300_000, true), (300_001, false), (-300_001, false)] {
            assert_eq!(is_timely(Timestamp(now.0 + offset), now), timely, "{offset}");
        }
    }

    #[test]
    fn signatures_have_one_spelling() {
        let digits = "0a".repeat(32);
        assert_eq!(Signature::parse(&digits), Some(Signature::V1([10; 32])));
        assert_eq!(Signature::parse(&format!("v2={digits}")), Some(Signature::V2([10; 32])));
        assert_eq!(to_hex(&[10; 32]), digits);
        for bad in [
            "",
            "v2=",
            &digits.to_uppercase(),
            &digits[1..],
            &format!("V2={digits}"),
            &format!("v3={digits}"),
            &format!("{digits} "),
        ] {
            assert_eq!(Signature::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_message_is_what_the_contract_writes() {
        let covered = Covered {
            id: "key_1",
            timestamp: "2026-07-10T00:00:00Z",
            nonce: "0123456789abcdef",
            method: "POST",
            host: "Scan.Example:8080",
            path: "/api/v1/ocr",
            query: "b=2&a=1&a=%20&",
            body_sha256: "00",
        };
        assert_eq!(
            covered.message(),
            "INKPORT-HMAC-SHA256\nkey_1\n2026-07-10T00:00:00Z\n0123456789abcdef\nPOST\nscan.example:8080\n/api/v1/ocr\n&a=%20&a=1&b=2\n00"
        );
        // RFC 4231, case 2, split as version 1 is.
        assert_eq!(
            to_hex(&v1(b"Jefe", "what do ya want ", "for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
