//! The relay: one connection per message, and what its answer means for the delivery.

use super::message::{self, Attachments, MessageError};
use super::settings::{Settings, SettingsError};
use crate::job::delivery::Attempt;
use crate::queue::Delivery;
use lettre::message::Mailbox;
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use std::time::{Duration, SystemTime};

/// For the whole dialogue; a large message gets a second more for every 64 KiB.
const SEND_WITHIN: Duration = Duration::from_secs(60);
const SLOWEST_BYTES_PER_SECOND: u64 = 64 << 10;

/// What of a relay's answer is kept, in characters.
const REASON_LENGTH: usize = 300;

/// Sends messages through the configured relay.
pub struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

impl Mailer {
    /// Prepares the relay's address, credentials and certificates; does not connect. Blocking.
    pub fn new(settings: &Settings) -> Result<Self, SettingsError> {
        let password = match &settings.password_file {
            Some(path) => {
                let refused = |detail: String| SettingsError::Password { path: path.clone(), detail };
                let text = std::fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
                let password = text.trim_end_matches(['\r', '\n']);
                if password.is_empty() {
                    return Err(refused("it is empty".to_owned()));
                }
                if !settings.relay.has_user() {
                    return Err(refused(format!("mail.relay ({}) names no user that it belongs to", settings.relay)));
                }
                Some(password.to_owned())
            }
            None if settings.relay.lacks_password() => return Err(SettingsError::NoPassword(settings.relay.to_string())),
            None => None,
        };
        let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(settings.relay.url(password.as_deref()).as_str())
            .map_err(|error| SettingsError::Transport { relay: settings.relay.to_string(), detail: error.to_string() })?
            .timeout(Some(SEND_WITHIN))
            .build();
        Ok(Mailer { transport, from: settings.from.0.clone() })
    }

    /// One try. `date` is the message's.
    pub(super) async fn send(&self, delivery: &Delivery, attachments: Attachments, date: SystemTime) -> Attempt {
        let message = match message::compose(delivery, attachments, &self.from, date) {
            Ok(message) => message,
            Err(error @ (MessageError::Address(_) | MessageError::Compose(_))) => return Attempt::Never(error.to_string()),
        };
        let envelope = message.envelope().clone();
        let bytes = message.formatted();
        let limit = SEND_WITHIN + Duration::from_secs(bytes.len() as u64 / SLOWEST_BYTES_PER_SECOND);
        match tokio::time::timeout(limit, self.transport.send_raw(&envelope, &bytes)).await {
            Ok(Ok(_)) => Attempt::Sent,
            Ok(Err(error)) => meaning(&error, delivery.to.is_ascii()),
            Err(_) => Attempt::Later(format!("the relay did not take the message within {} s", limit.as_secs())),
        }
    }
}

/// What to do after a failure. Only the relay's clear "never" ends a delivery, and not where the "never"
/// is about our login: that is for the operator to mend, and the message is as good as before.
fn meaning(error: &lettre::transport::smtp::Error, ascii: bool) -> Attempt {
    let reason = reason(error);
    let code = error.status().map(|code| code.to_string());
    let about_login = matches!(code.as_deref(), Some("530" | "534" | "535" | "538"));
    if error.is_permanent() && !about_login {
        Attempt::Never(reason)
    } else if error.is_client() && !ascii {
        // The relay has no SMTPUTF8, and will not learn it in five days.
        Attempt::Never(reason)
    } else {
        Attempt::Later(reason)
    }
}

/// The error and its sources on one line.
fn reason(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        source = inner.source();
    }
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(REASON_LENGTH).collect()
}
