//! `SITE CHMOD`, `SITE UTIME`, `MFMT`, and `MDTM` with a time or without. Modes are set, as far as documents
//! stay readable for the daemon. Times are set by `intake`, since a document is known by its time of
//! modification and would be read again.

use super::auth::User;
use super::commands::not_permitted;
use super::storage::{Storage, relative};
use crate::account::Permission;
use async_trait::async_trait;
use libunftp::options::{Reply, ReplyCode, SiteCommandContext, SiteCommandHandler};
use std::time::SystemTime;
use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time};
use unftp_core::storage::Metadata;

/// What a client asks for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Site {
    /// `SITE CHMOD mode path`
    Mode,
    /// `SITE UTIME time path`, or `SITE UTIME path time time time UTC` (last read, last changed, made)
    Time,
    /// `MFMT time path`, which is answered with the time that holds
    TimeAsFact,
    /// `MDTM time path`, which older clients say for MFMT; but it may be the question after a file whose name
    /// begins like that.
    TimeOrName,
}

/// The arguments, understood.
#[derive(Debug, PartialEq)]
enum Asked<'a> {
    Mode(u32, &'a str),
    Time(SystemTime, &'a str),
}

impl Site {
    /// `None` where they make no sense.
    fn asked(self, arguments: &str) -> Option<Asked<'_>> {
        let (first, rest) = arguments.split_once(' ')?;
        let asked = match self {
            Site::Mode => Asked::Mode(mode(first)?, rest),
            Site::Time => match arguments.strip_suffix(" UTC") {
                Some(path_and_times) => {
                    let mut from_the_end = path_and_times.rsplitn(4, ' ');
                    let [_made, modified, _read] = [from_the_end.next()?, from_the_end.next()?, from_the_end.next()?];
                    Asked::Time(instant(modified)?, from_the_end.next()?)
                }
                None => Asked::Time(instant(first)?, rest),
            },
            Site::TimeAsFact | Site::TimeOrName => Asked::Time(instant(first)?, rest),
        };
        let (Asked::Mode(_, path) | Asked::Time(_, path)) = &asked;
        (!path.is_empty()).then_some(asked)
    }
}

/// Three octal digits; a fourth before them is left out, as setuid is nothing for a scan.
fn mode(text: &str) -> Option<u32> {
    let octal = (3..=4).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    octal.then(|| u32::from_str_radix(text, 8).ok()).flatten()
}

/// `YYYYMMDDhhmm`, `YYYYMMDDhhmmss`, or that with a fraction (RFC 3659), in UTC.
fn instant(text: &str) -> Option<SystemTime> {
    let (digits, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !matches!(digits.len(), 12 | 14) || !is_number(digits) || !is_number(fraction) {
        return None;
    }
    let number = |range| digits.get(range).map_or(Some(0), |part: &str| part.parse::<u8>().ok());
    let month = Month::try_from(number(4..6)?).ok()?;
    let date = Date::from_calendar_date(digits[..4].parse().ok()?, month, number(6..8)?).ok()?;
    // Nine digits are a fraction that the disk can keep.
    let nanoseconds: u32 = format!("{fraction:0<9}")[..9].parse().ok()?;
    let time = Time::from_hms_nano(number(8..10)?, number(10..12)?, number(12..14)?, nanoseconds).ok()?;
    Some(PrimitiveDateTime::new(date, time).assume_utc().into())
}

/// As MDTM and the fact `modify` tell it.
fn shown(time: SystemTime) -> String {
    let at = OffsetDateTime::from(time);
    let (date, time) = (at.date(), at.time());
    format!(
        "{:04}{:02}{:02}{:02}{:02}{:02}",
        date.year(),
        u8::from(date.month()),
        date.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

#[async_trait]
impl SiteCommandHandler<Storage, User> for Site {
    async fn handle(&self, context: &SiteCommandContext<Storage, User>) -> Reply {
        let arguments = context.arguments.as_str();
        let Some(user) = context.user.as_ref() else {
            return Reply::new(ReplyCode::NotLoggedIn, "Please authenticate");
        };
        let may = |permission| user.account.may(permission);
        if matches!(self, Site::TimeOrName)
            && (may(Permission::List) || may(Permission::Download))
            && let Ok(place) = relative(user, &context.cwd.join(arguments))
            && let Ok(entry) = user.home.entry(&place).await
            && !entry.is_dir()
            && let Ok(modified) = entry.modified()
        {
            return Reply::new_with_string(ReplyCode::FileStatus, shown(modified));
        }
        if !may(Permission::Upload) {
            return not_permitted();
        }
        let not_found = || Reply::new(ReplyCode::FileError, "File not found");
        let Some(asked) = self.asked(arguments) else {
            return match self {
                // The name of a file that is not there.
                Site::TimeOrName => not_found(),
                _ => Reply::new(ReplyCode::ParameterSyntaxError, "Invalid parameter"),
            };
        };
        let (Asked::Mode(_, path) | Asked::Time(_, path)) = asked;
        let Ok(place) = relative(user, &context.cwd.join(path)) else { return not_found() };
        if user.home.entry(&place).await.is_err() {
            return not_found();
        }
        match asked {
            Asked::Mode(mode, _) => match user.home.set_mode(&place, mode).await {
                Ok(()) => Reply::new(ReplyCode::CommandOkay, "Mode set"),
                Err(_) => Reply::new(ReplyCode::FileError, "The mode cannot be set"),
            },
            Asked::Time(time, path) => match context.storage.set_modified(user, &context.cwd.join(path), time).await {
                Ok(()) if matches!(self, Site::Time) => Reply::new(ReplyCode::CommandOkay, "Time set"),
                Ok(()) => Reply::new_with_string(ReplyCode::FileStatus, format!("Modify={}; {path}", shown(time))),
                Err(_) => Reply::new(ReplyCode::FileError, "The time cannot be set"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64, nanoseconds: u32) -> SystemTime {
        SystemTime::UNIX_EPOCH + std::time::Duration::new(seconds, nanoseconds)
    }

    #[test]
    fn arguments_are_understood() {
        assert_eq!(Site::Mode.asked("644 a b.pdf"), Some(Asked::Mode(0o644, "a b.pdf")));
        for wrong in ["u+x a.pdf", "778 a.pdf", "-177 a.pdf", "7 a.pdf", "644", "644 "] {
            assert_eq!(Site::Mode.asked(wrong), None, "{wrong}");
        }
        let then = at(1_767_323_045, 0);
        assert_eq!(Site::Time.asked("20260102030405 a b.pdf"), Some(Asked::Time(then, "a b.pdf")));
        assert_eq!(
            Site::Time.asked("a b.pdf 20250102030405 20260102030405 20240102030405 UTC"),
            Some(Asked::Time(then, "a b.pdf"))
        );
        assert_eq!(Site::Time.asked("202601020304 a.pdf"), Some(Asked::Time(at(1_767_323_040, 0), "a.pdf")));
        assert_eq!(
            Site::TimeAsFact.asked("20260102030405.123 a.pdf"),
            Some(Asked::Time(at(1_767_323_045, 123_000_000), "a.pdf"))
        );
        for wrong in [
            "a.pdf", "20261302030405 a.pdf", "20260230030405 a.pdf", "20260102240405 a.pdf", "2026010203045 a.pdf", "2026 a.pdf",
            "20260102030405 ", "20260102030405.x a.pdf",
        ] {
            assert_eq!(Site::TimeAsFact.asked(wrong), None, "{wrong}");
        }
        assert_eq!(Site::Time.asked("20260102030405 20260102030405 UTC"), None, "no path");
    }

    #[test]
    fn times_are_shown_as_they_are_sent() {
        for text in ["20260102030405", "19691231235959", "20240229000000"] {
            assert_eq!(shown(instant(text).unwrap()), text);
        }
    }
}
