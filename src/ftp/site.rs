//! `SITE CHMOD`, `SITE UTIME` and `MFMT`. Modes are set, as far as documents stay readable for
//! the daemon. Times are accepted, so that clients which keep them do not take an upload for failed, but stay
//! ours: a document is known by its time of modification, and a changed one would be read again.

use super::auth::User;
use super::storage::{Storage, relative};
use async_trait::async_trait;
use libunftp::options::{Reply, ReplyCode, SiteCommandContext, SiteCommandHandler};
use time::OffsetDateTime;
use unftp_core::storage::Metadata;

/// What a client asks for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Site {
    /// `SITE CHMOD mode path`
    Mode,
    /// `SITE UTIME time path`, or `SITE UTIME path time time time UTC`
    Time,
    /// `MFMT time path`, which is answered with the time that holds
    TimeAsFact,
}

impl Site {
    /// The path among the arguments; `None` where they make no sense.
    fn path(self, arguments: &str) -> Option<&str> {
        let (first, rest) = arguments.split_once(' ')?;
        let named = match self {
            Site::Mode => mode(first).map(|_| rest),
            Site::Time => match arguments.strip_suffix(" UTC") {
                Some(path_and_times) => path_and_times.rsplitn(4, ' ').nth(3),
                None => is_time(first).then_some(rest),
            },
            Site::TimeAsFact => is_time(first).then_some(rest),
        };
        named.filter(|path| !path.is_empty())
    }
}

/// Three octal digits; a fourth before them is left out, as setuid is nothing for a scan.
fn mode(text: &str) -> Option<u32> {
    let octal = (3..=4).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    octal.then(|| u32::from_str_radix(text, 8).ok()).flatten()
}

/// Twelve digits or more, of which the first say a month and a day that exist.
fn is_time(text: &str) -> bool {
    let digits = text.split_once('.').map_or(text, |(whole, _)| whole);
    let number = |range| digits.get(range).and_then(|part: &str| part.parse::<u8>().ok());
    (12..=14).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && number(4..6).is_some_and(|month| (1..=12).contains(&month))
        && number(6..8).is_some_and(|day| (1..=31).contains(&day))
}

#[async_trait]
impl SiteCommandHandler<Storage, User> for Site {
    async fn handle(&self, context: &SiteCommandContext<Storage, User>) -> Reply {
        let Some(path) = self.path(&context.arguments) else {
            return Reply::new(ReplyCode::ParameterSyntaxError, "Invalid parameter");
        };
        let Some(user) = context.user.as_ref() else {
            return Reply::new(ReplyCode::NotLoggedIn, "Please authenticate");
        };
        let not_found = || Reply::new(ReplyCode::FileError, "File not found");
        let Ok(place) = relative(&context.cwd.join(path)) else { return not_found() };
        let Ok(entry) = user.home.entry(&place).await else { return not_found() };
        match (self, entry.modified()) {
            (Site::Mode, _) => {
                let mode = context.arguments.split(' ').next().and_then(mode).unwrap_or(0o600);
                match user.home.set_mode(&place, mode).await {
                    Ok(()) => Reply::new(ReplyCode::CommandOkay, "Mode set"),
                    Err(_) => Reply::new(ReplyCode::FileError, "The mode cannot be set"),
                }
            }
            (Site::TimeAsFact, Ok(modified)) => {
                let at = OffsetDateTime::from(modified);
                let (date, time) = (at.date(), at.time());
                let text = format!(
                    "Modify={:04}{:02}{:02}{:02}{:02}{:02}; {path}",
                    date.year(),
                    u8::from(date.month()),
                    date.day(),
                    time.hour(),
                    time.minute(),
                    time.second()
                );
                Reply::new_with_string(ReplyCode::FileStatus, text)
            }
            _ => Reply::new(ReplyCode::CommandOkay, "Noted, the server keeps its own times"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_among_the_arguments() {
        assert_eq!(Site::Mode.path("644 a b.pdf"), Some("a b.pdf"));
        for wrong in ["u+x a.pdf", "778 a.pdf", "-177 a.pdf", "7 a.pdf"] {
            assert_eq!(Site::Mode.path(wrong), None, "{wrong}");
        }
        assert_eq!(Site::Mode.path("644"), None);
        assert_eq!(Site::Time.path("20260102030405 a b.pdf"), Some("a b.pdf"));
        assert_eq!(Site::Time.path("a b.pdf 20260102030405 20260102030405 20260102030405 UTC"), Some("a b.pdf"));
        assert_eq!(Site::TimeAsFact.path("20260102030405.123 a.pdf"), Some("a.pdf"));
        for wrong in ["a.pdf", "20261302030405 a.pdf", "2026 a.pdf", "20260102030405 "] {
            assert_eq!(Site::TimeAsFact.path(wrong), None, "{wrong}");
        }
    }
}
