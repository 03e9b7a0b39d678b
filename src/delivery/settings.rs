//! `[mail]`, parsed where it is read: a relay or sender that cannot work is refused at start.

use lettre::message::Mailbox;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::{fmt, str::FromStr};
use url::Url;

/// `[mail]`; the section's absence means no mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Settings {
    pub relay: Relay,
    /// Holds the password of the relay's user, a line end at its end ignored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    pub from: Sender,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            relay: "smtp://127.0.0.1:2525".parse().expect("the default relay is well formed"),
            password_file: None,
            from: "Inkport <inkport@localhost>".parse().expect("the default sender is well formed"),
        }
    }
}

/// Why a relay, a sender or a password was refused.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error(
        "\"{relay}\" is not a mail relay: {detail}; write smtp://HOST:PORT or smtps://HOST, with USER@ before HOST and ?tls=required|opportunistic|none after it where needed"
    )]
    Relay { relay: String, detail: String },
    #[error("\"{0}\" is not a sender: write an address, or a name and an address as in Inkport <inkport@example.com>")]
    Sender(String),
    #[error("the relay's password in {path} cannot be used: {detail}")]
    Password { path: PathBuf, detail: String },
    #[error("mail.relay ({0}) names a user, and no password: write it into a file and name that in mail.password-file")]
    NoPassword(String),
    #[error("the relay {relay} cannot be prepared: {detail}")]
    Transport { relay: String, detail: String },
}

/// Where mail is handed in: `smtp://` or `smtps://`, as lettre has it, and `?tls=none`. Prints without
/// its password, so it may be logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Relay(Url);

impl Relay {
    /// The address as lettre wants it, with `password` put in.
    pub(super) fn url(&self, password: Option<&str>) -> Url {
        let mut url = self.0.clone();
        if url.query_pairs().any(|(key, value)| key == "tls" && value == "none") {
            // lettre's word for no encryption is no parameter.
            url.set_query(None);
        }
        if let Some(password) = password {
            // lettre decodes percent signs, and set_password leaves them alone.
            let encoded = password.replace('%', "%25");
            url.set_password(Some(&encoded)).expect("a relay has a host, so it may have a password");
        }
        url
    }

    /// Names a user but not the password: logging in would silently not happen.
    pub(super) fn lacks_password(&self) -> bool {
        self.has_user() && self.0.password().is_none()
    }

    pub(super) fn has_user(&self) -> bool {
        !self.0.username().is_empty()
    }
}

impl FromStr for Relay {
    type Err = SettingsError;

    fn from_str(text: &str) -> Result<Self, SettingsError> {
        // What does not parse may still hold a password before its @.
        let shown = || match (text.split_once("://"), text.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
            _ => text.to_owned(),
        };
        let bad = |detail: &str| SettingsError::Relay { relay: shown(), detail: detail.to_owned() };
        let url = Url::parse(text).map_err(|error| bad(&error.to_string()))?;
        if !matches!(url.scheme(), "smtp" | "smtps") {
            return Err(bad("it does not begin with smtp:// or smtps://"));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(bad("it names no host"));
        }
        for (key, value) in url.query_pairs() {
            let known = key == "tls" && matches!(value.as_ref(), "required" | "opportunistic" | "none");
            if !known || (url.scheme() == "smtps" && value != "required") {
                return Err(bad(&format!("?{key}={value} does not go with {}://", url.scheme())));
            }
        }
        Ok(Relay(url))
    }
}

impl fmt::Display for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut url = self.0.clone();
        if url.password().is_some() {
            url.set_password(Some("***")).map_err(|()| fmt::Error)?;
        }
        f.write_str(url.as_str())
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Relay({self})")
    }
}

/// Who the mail is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender(pub(super) Mailbox);

impl FromStr for Sender {
    type Err = SettingsError;

    fn from_str(text: &str) -> Result<Self, SettingsError> {
        text.parse().map(Sender).map_err(|_| SettingsError::Sender(text.to_owned()))
    }
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

crate::units::serde_by_text!(Relay, Sender);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relays_are_checked_where_they_are_read() {
        for good in ["smtp://127.0.0.1:2525", "smtps://u@mail.example.com", "smtp://h?tls=required", "smtp://h?tls=none"] {
            good.parse::<Relay>().unwrap_or_else(|error| panic!("{error}"));
        }
        for bad in
            ["", "mail.example.com", "http://h", "smtp://", "smtp://h?tls=maybe", "smtp://h?tsl=none", "smtps://h?tls=none"]
        {
            assert!(bad.parse::<Relay>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_password_is_never_printed() {
        let relay: Relay = "smtp://user:s3cret@mail.example.com".parse().unwrap();
        for shown in [relay.to_string(), format!("{relay:?}")] {
            assert!(!shown.contains("s3cret"), "{shown}");
        }
        let refused = "smpt://user:s3cret@mail.example.com".parse::<Relay>().unwrap_err().to_string();
        assert!(!refused.contains("s3cret") && refused.contains("mail.example.com"), "{refused}");
    }

    #[test]
    fn a_password_survives_its_way_into_the_address() {
        let relay: Relay = "smtp://user@mail.example.com?tls=none".parse().unwrap();
        let url = relay.url(Some("p@:/ä%"));
        assert_eq!((url.host_str(), url.query()), (Some("mail.example.com"), None));
        assert_eq!(url.password(), Some("p%40%3A%2F%C3%A4%25"));
    }
}
