//! The message about one finished job: composed from the outbox row, nothing looked up.
//!
//! File names come from clients, so they are cleaned of everything that could end a header line or
//! turn the reading direction before they are used; the rest of the quoting is lettre's (RFC 2047,
//! RFC 2231) and askama's (HTML).

use crate::job::state::State;
use crate::job::{Job, SpoolKey};
use crate::queue::Delivery;
use crate::spool::{Spool, SpoolError};
use askama::Template;
use lettre::message::header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue};
use lettre::message::{Attachment as MimeAttachment, Body, Mailbox, MultiPart, SinglePart};
use lettre::{Address, Message};
use sha2::{Digest, Sha256};
use std::time::SystemTime;

/// Bytes of all attachments of one message; above it the message says where the files lie instead.
pub const ATTACH_AT_MOST: u64 = 10 << 20;

/// A sidecar to attach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// As the recipient sees it.
    pub name: String,
    pub bytes: Vec<u8>,
}

/// What goes with a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attachments {
    /// Possibly none.
    Here(Vec<Attachment>),
    /// More than [`ATTACH_AT_MOST`].
    TooLarge,
    /// The spool has them no longer.
    Gone,
}

impl Attachments {
    /// Reads them from the spool, sizes first, so that memory is bounded by [`ATTACH_AT_MOST`].
    pub fn read(spool: &Spool, list: &[(String, SpoolKey)]) -> Result<Self, SpoolError> {
        let mut total: u64 = 0;
        for (_, key) in list {
            let path = spool.path(key);
            match std::fs::metadata(&path) {
                Ok(metadata) => total = total.saturating_add(metadata.len()),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Attachments::Gone),
                Err(source) => return Err(SpoolError::Io { path, doing: "read", source }),
            }
        }
        if total > ATTACH_AT_MOST {
            return Ok(Attachments::TooLarge);
        }
        let mut here = Vec::with_capacity(list.len());
        for (name, key) in list {
            match spool.read(key) {
                Ok(bytes) => here.push(Attachment { name: name.clone(), bytes }),
                Err(SpoolError::Lost { .. }) => return Ok(Attachments::Gone),
                Err(error) => return Err(error),
            }
        }
        Ok(Attachments::Here(here))
    }
}

/// What both bodies tell.
#[derive(Template)]
#[template(path = "mail.txt")]
struct Text<'a> {
    told: &'a Told,
}

#[derive(Template)]
#[template(path = "mail.html")]
struct Html<'a> {
    told: &'a Told,
}

struct Told {
    /// The first sentence.
    headline: String,
    /// Why, for a job that did not end well.
    reason: Option<String>,
    /// What can be done, or what lies where.
    advice: String,
    file: String,
    account: String,
    received: String,
    finished: String,
    job: String,
}

/// Why no message can be made of a delivery: it never can.
#[derive(Debug, thiserror::Error)]
pub(super) enum MessageError {
    #[error("\"{0}\" is not a mail address")]
    Address(String),
    #[error("the message cannot be composed: {0}")]
    Compose(String),
}

/// The message, ready for the relay.
pub(super) fn compose(
    delivery: &Delivery,
    attachments: Attachments,
    from: &Mailbox,
    date: SystemTime,
) -> Result<Message, MessageError> {
    let to: Address = delivery.to.parse().map_err(|_| MessageError::Address(clean(&delivery.to)))?;
    let told = tell(&delivery.job, &attachments);
    let compose = |error: &dyn std::fmt::Display| MessageError::Compose(error.to_string());
    let text = Text { told: &told }.render().map_err(|error| compose(&error))?;
    let html = Html { told: &told }.render().map_err(|error| compose(&error))?;
    let bodies = MultiPart::alternative_plain_html(text, html);
    let content = match attachments {
        Attachments::Here(list) if !list.is_empty() => {
            list.into_iter().fold(MultiPart::mixed().multipart(bodies), |parts, attachment| parts.singlepart(part(attachment)))
        }
        _ => bodies,
    };
    Message::builder()
        .from(from.clone())
        .to(Mailbox::new(None, to))
        .subject(format!("{}: {}", clean(delivery.job.path.file_name()), delivery.job.state.name()))
        .date(date)
        .message_id(Some(message_id(delivery, from)))
        // RFC 3834: nobody's holiday notice answers this.
        .raw_header(HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".to_owned()))
        .multipart(content)
        .map_err(|error| compose(&error))
}

/// The same for every try of one delivery, so that a message sent twice after a crash is one message
/// to whoever sorts it; different for every recipient.
fn message_id(delivery: &Delivery, from: &Mailbox) -> String {
    let hash = Sha256::digest(delivery.to.as_bytes());
    let short: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("<{}.{short}@{}>", delivery.job.id, from.email.domain())
}

fn part(attachment: Attachment) -> SinglePart {
    let name = clean(&attachment.name);
    let kind = match name.rsplit('.').next() {
        Some("txt") => "text/plain; charset=utf-8",
        Some("json") => "application/json",
        _ => "application/octet-stream",
    };
    // Base64, so that the bytes arrive as they are: line ends included.
    let body = Body::new_with_encoding(attachment.bytes, ContentTransferEncoding::Base64)
        .expect("every sequence of bytes can be written in base64");
    MimeAttachment::new(name).body(body, ContentType::parse(kind).expect("these media types are well formed"))
}

fn tell(job: &Job, attachments: &Attachments) -> Told {
    let file = clean(job.path.file_name());
    let why = |otherwise: &str| Some(clean(job.error.as_deref().unwrap_or(otherwise)));
    let (headline, reason) = match &job.state {
        State::Done => (format!("{file} has been read."), None),
        State::Rejected { code } => (format!("{file} cannot be read."), why(code)),
        State::Dead { reason } => (format!("{file} could not be read, in {} attempts.", job.attempt.max(1)), why(reason)),
        State::Queued { .. } | State::Running { .. } => (format!("{file} is being read."), None),
    };
    let advice = match (&job.state, attachments) {
        (State::Rejected { .. }, _) => {
            "The file is kept as it was sent. Sending the same file again ends the same way: scan it anew, or send it in another format."
        }
        (State::Dead { .. }, _) => "The file is kept as it was sent. Whoever runs Inkport can see why and have it tried again.",
        (_, Attachments::Here(list)) if list.is_empty() => "What was read lies beside the file.",
        (_, Attachments::Here(_)) => "What was read is attached, and lies beside the file.",
        (_, Attachments::TooLarge) => "What was read is too large for a mail: it lies beside the file.",
        (_, Attachments::Gone) => "What was read could not be attached: it lies beside the file.",
    };
    Told {
        headline,
        reason,
        advice: advice.to_owned(),
        file: clean(job.path.as_str()),
        account: job.account.to_string(),
        received: job.received_at.to_string(),
        finished: job.finished_at.map(|at| at.to_string()).unwrap_or_default(),
        job: job.id.to_string(),
    }
}

/// At most 200 characters, none of which controls a line, a header or the reading direction.
fn clean(text: &str) -> String {
    let shown = |c: char| {
        let unseen = c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if unseen { '\u{fffd}' } else { c }
    };
    let mut clean: String = text.chars().map(shown).take(200).collect();
    if text.chars().nth(200).is_some() {
        clean.push('…');
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::VirtualPath;
    use crate::job::{Door, JobId};
    use crate::units::Timestamp;

    fn delivery(name: &str, state: State) -> Delivery {
        Delivery {
            id: 1,
            job: Job {
                id: JobId(ulid::Ulid::from_parts(1, 1)),
                account: "front-desk".parse().unwrap(),
                path: VirtualPath::new(name).unwrap(),
                spool: SpoolKey([0; 32]),
                bytes: 1,
                door: Door::Ftp,
                received_at: Timestamp(0),
                state,
                attempt: 3,
                finished_at: Some(Timestamp(1000)),
                error: Some("the image is <b>damaged</b>".into()),
                email: None,
            },
            to: "anna@example.com".into(),
            attempts: 0,
            attachments: Vec::new(),
        }
    }

    fn composed(delivery: &Delivery, attachments: Attachments) -> String {
        let from = "Inkport <inkport@example.org>".parse().unwrap();
        String::from_utf8(compose(delivery, attachments, &from, SystemTime::UNIX_EPOCH).unwrap().formatted()).unwrap()
    }

    #[test]
    fn the_same_delivery_is_the_same_message() {
        let one = delivery("scan.jpg", State::Done);
        let id = |delivery: &Delivery| {
            let message = composed(delivery, Attachments::Here(Vec::new()));
            message.lines().find(|line| line.starts_with("Message-ID:")).unwrap().to_owned()
        };
        assert_eq!(id(&one), id(&Delivery { id: 9, attempts: 4, ..one.clone() }));
        assert_ne!(id(&one), id(&Delivery { to: "bert@example.com".into(), ..one.clone() }));
        assert!(id(&one).ends_with("@example.org>"));
    }

    #[test]
    fn a_hostile_file_name_adds_no_header_and_no_tag() {
        let name = "x\r\nBcc: evil@example.com\r\n\r\n<script>alert(1)</script>\"\u{202e}gpj.exe";
        let attached = Attachments::Here(vec![Attachment { name: format!("{name}.txt"), bytes: b"text\n".to_vec() }]);
        let message = composed(&delivery(name, State::Done), attached);
        assert!(!message.lines().any(|line| line.to_ascii_lowercase().starts_with("bcc")), "{message}");
        let told = tell(&delivery(name, State::Done).job, &Attachments::Gone);
        assert!(!Html { told: &told }.render().unwrap().contains("<script"));
        assert!(!told.headline.contains(['\r', '\n', '\u{202e}']));
    }

    #[test]
    fn a_bad_end_says_why_escaped() {
        for state in [State::Rejected { code: "damaged".into() }, State::Dead { reason: "no memory".into() }] {
            let told = tell(&delivery("scan.jpg", state).job, &Attachments::Here(Vec::new()));
            assert_eq!(told.reason.as_deref(), Some("the image is <b>damaged</b>"));
            let html = Html { told: &told }.render().unwrap();
            assert!(html.contains("damaged") && !html.contains("<b>damaged"), "{html}");
            assert!(Text { told: &told }.render().unwrap().contains("the image is <b>damaged</b>"));
        }
    }

    #[test]
    fn an_address_that_is_none_can_never_be_sent_to() {
        for to in ["", "anna", "anna@example.com\r\nBcc: x@example.com", "a b@example.com"] {
            let delivery = Delivery { to: to.into(), ..delivery("scan.jpg", State::Done) };
            let from = "inkport@example.org".parse().unwrap();
            let composed = compose(&delivery, Attachments::Here(Vec::new()), &from, SystemTime::UNIX_EPOCH);
            assert!(matches!(composed, Err(MessageError::Address(_))), "{to:?}");
        }
    }
}
