//! Byte sizes, durations and instants, as people write them in a configuration file and as the
//! outside reads them. Pure: the clock is read at the edges and passed in as a [`Timestamp`].
//!
//! Sizes are `"200MiB"`, `"1GB"` or a bare number of bytes; durations `"30s"`, `"10m"`, `"24h"`,
//! `"30d"`, also joined (`"1h30m"`). Both print in a form that parses back to the same value.

use serde::{Serialize, Serializer};
use std::{fmt, str::FromStr, time::Duration};

/// Why a size or a duration could not be read; the text names what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    #[error("\"{0}\" is not a size: write a number and B, KiB, MiB, GiB, TiB, kB, MB, GB or TB")]
    Size(String),
    #[error("\"{0}\" is not a duration: write numbers with ms, s, m, h, d, as in \"1h30m\"")]
    Duration(String),
    #[error("\"{0}\" is neither \"keep\" nor an age like \"30d\" nor, for originals, \"after-reading\"")]
    Retention(String),
    #[error("\"{0}\" is not a day: write it as in \"2027-01-31\"")]
    Day(String),
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let bad = || UnitError::Size(text.to_owned());
        let trimmed = text.trim();
        let split = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
        let number: u64 = trimmed[..split].parse().map_err(|_| bad())?;
        let unit = trimmed[split..].trim();
        let factor = if unit.is_empty() {
            1
        } else {
            SIZE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).map(|(_, f)| *f).ok_or_else(bad)?
        };
        number.checked_mul(factor).map(ByteSize).ok_or_else(bad)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, factor) = SIZE_UNITS[..4]
            .iter()
            .find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor))
            .copied()
            .unwrap_or(("B", 1));
        write!(f, "{}{name}", self.0 / factor)
    }
}

/// A duration as a configuration file writes it. Inside the code it is a [`Duration`] at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

const SPAN_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let bad = || UnitError::Duration(text.to_owned());
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(bad());
        }
        let mut millis: u64 = 0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
            let number: u64 = rest[..digits].parse().map_err(|_| bad())?;
            rest = &rest[digits..];
            let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
            let unit = rest[..letters].trim();
            let factor = SPAN_UNITS.iter().find(|(name, _)| *name == unit).map(|(_, f)| *f).ok_or_else(bad)?;
            millis = number.checked_mul(factor).and_then(|part| millis.checked_add(part)).ok_or_else(bad)?;
            rest = &rest[letters..];
        }
        Ok(Span(Duration::from_millis(millis)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let (name, factor) = SPAN_UNITS
            .iter()
            .find(|(_, factor)| millis >= *factor && millis.is_multiple_of(*factor))
            .copied()
            .unwrap_or(("ms", 1));
        write!(f, "{}{name}", millis / factor)
    }
}

/// An instant in UTC, in milliseconds since 1970-01-01. Prints as RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// This instant moved later by `by`; saturates.
    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        Timestamp(self.0.saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
    }

    /// The time from `earlier` to this instant; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// What a system clock says. The caller reads the clock: pure rooms never do.
    #[must_use]
    pub fn from_system(clock: std::time::SystemTime) -> Self {
        match clock.duration_since(std::time::SystemTime::UNIX_EPOCH) {
            Ok(since) => Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)),
            Err(before) => Timestamp(-i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX)),
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instant = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000)
            .unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            instant.year(),
            u8::from(instant.month()),
            instant.day(),
            instant.hour(),
            instant.minute(),
            instant.second(),
            instant.millisecond()
        )
    }
}

/// A day in UTC, written as `2027-01-31`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(time::Date);

impl Day {
    /// The day of this instant.
    #[must_use]
    pub fn of(instant: Timestamp) -> Self {
        let instant = time::OffsetDateTime::from_unix_timestamp(instant.0.div_euclid(1000));
        Day(instant.unwrap_or(time::OffsetDateTime::UNIX_EPOCH).date())
    }
}

impl FromStr for Day {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let bad = || UnitError::Day(text.to_owned());
        let shaped = text.len() == 10
            && text.bytes().enumerate().all(|(at, b)| if at == 4 || at == 7 { b == b'-' } else { b.is_ascii_digit() });
        if !shaped {
            return Err(bad());
        }
        let number = |range: std::ops::Range<usize>| text[range].parse::<u16>().map_err(|_| bad());
        let month = u8::try_from(number(5..7)?).ok().and_then(|month| time::Month::try_from(month).ok()).ok_or_else(bad)?;
        let day = u8::try_from(number(8..10)?).map_err(|_| bad())?;
        time::Date::from_calendar_date(number(0..4)?.into(), month, day).map(Day).map_err(|_| bad())
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.0.year(), u8::from(self.0.month()), self.0.day())
    }
}

/// For types that a configuration file writes as text: `Display` out, `FromStr` in.
macro_rules! serde_by_text {
    ($($name:ident),*) => {$(
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <String as serde::Deserialize>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
pub(crate) use serde_by_text;
serde_by_text!(ByteSize, Span, Day);

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// How long something is kept. An age counts from the job's end; none at all is "after-reading".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Retention {
    #[default]
    Keep,
    For(Duration),
}

impl Retention {
    /// `None`: for ever.
    #[must_use]
    pub fn age(self) -> Option<Duration> {
        match self {
            Retention::Keep => None,
            Retention::For(age) => Some(age),
        }
    }
}

impl FromStr for Retention {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        match text {
            "keep" => Ok(Retention::Keep),
            "after-reading" => Ok(Retention::For(Duration::ZERO)),
            age => age.parse::<Span>().map(|span| Retention::For(span.0)).map_err(|_| UnitError::Retention(text.to_owned())),
        }
    }
}

impl fmt::Display for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Retention::Keep => f.write_str("keep"),
            Retention::For(Duration::ZERO) => f.write_str("after-reading"),
            Retention::For(age) => Span(*age).fmt(f),
        }
    }
}

serde_by_text!(Retention);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_parse_and_print_back() {
        for (text, bytes) in [("200MiB", 200 << 20), ("1GB", 1_000_000_000), ("17", 17), ("0", 0), ("16 mib", 16 << 20)] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!(size.0, bytes, "{text}");
            assert_eq!(size.to_string().parse::<ByteSize>().unwrap(), size);
        }
        for text in ["", "MiB", "-1", "1.5GiB", "1 lightyear", "99999999999TiB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn durations_parse_and_print_back() {
        for (text, millis) in [("30s", 30_000), ("1h30m", 5_400_000), ("30d", 2_592_000_000), ("250ms", 250), ("0s", 0)] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.0.as_millis(), millis, "{text}");
            assert_eq!(span.to_string().parse::<Span>().unwrap(), span);
        }
        for text in ["", "30", "s", "5 fortnights", "1h-3m"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn days_parse_and_print_back() {
        let day: Day = "2028-02-29".parse().unwrap();
        assert_eq!(day.to_string(), "2028-02-29");
        assert!(day < "2028-03-01".parse().unwrap());
        assert_eq!(Day::of(Timestamp(1_783_641_600_123)).to_string(), "2026-07-10");
        assert_eq!(Day::of(Timestamp(-1)).to_string(), "1969-12-31");
        for text in ["", "2027-02-29", "2027-13-01", "27-01-01", "2027-1-01", "2027-01-01T00:00", "+027-01-01"] {
            assert!(text.parse::<Day>().is_err(), "{text}");
        }
    }

    #[test]
    fn instants_print_as_rfc_3339() {
        assert_eq!(Timestamp(1_783_641_600_123).to_string(), "2026-07-10T00:00:00.123Z");
        assert_eq!(Timestamp(5).after(Duration::from_millis(7)), Timestamp(12));
        assert_eq!(Timestamp(5).since(Timestamp(7)), Duration::ZERO);
    }
}
