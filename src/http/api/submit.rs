//! From a document to its job, and from the job to its answer: the same intake, spool and queue as by FTP. The job is
//! committed before any answer; a request that waits too long is answered 202 and loses nothing, and one that names
//! itself (`Idempotency-Key`) finds its job again, whatever happened to the first answer.

use super::input::{self, Document, blocking};
use super::shapes::Counted;
use super::{Api, Caller};
use crate::account::VirtualPath;
use crate::homes::HomeError;
use crate::http::problem::Problem;
use crate::intake::{Submitted, Upload};
use crate::job::state::State;
use crate::job::{Door, Job, JobId};
use crate::queue::{JobLedger as _, Request as Wish, Requested};
use crate::units::Timestamp;
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde::de::IgnoredAny;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Of an `Idempotency-Key`.
const LONGEST_KEY: usize = 255;
/// Of a reading that is answered from.
const LONGEST_READING: u64 = 64 << 20;

/// What a client wants of its request's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// `Prefer: respond-async`
    None,
    /// For the reading, at most so long.
    For(Duration),
}

/// `Prefer` of RFC 7240: `respond-async`, `wait=SECONDS`.
pub(super) fn patience(headers: &HeaderMap, most: Duration) -> Patience {
    let mut found = Patience::For(most);
    for preference in headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(',')) {
        let preference = preference.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if preference == "respond-async" {
            return Patience::None;
        }
        if let Some(seconds) = preference.strip_prefix("wait=").and_then(|text| text.trim_matches('"').parse::<u64>().ok()) {
            found = Patience::For(Duration::from_secs(seconds).min(most));
        }
    }
    found
}

/// `Idempotency-Key`, if there is one. Several, or one that is no key, are refused.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut all = headers.get_all("idempotency-key").iter();
    let Some(first) = all.next() else { return Ok(None) };
    let text = first.to_str().unwrap_or_default();
    // As a structured field it is quoted; many clients send it bare.
    let bare = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    if all.next().is_some()
        || bare.is_empty()
        || bare.len() > LONGEST_KEY
        || !bare.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
    {
        let detail = format!("Idempotency-Key must be one value of 1 to {LONGEST_KEY} printable ASCII characters.");
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    }
    Ok(Some(bare.to_owned()))
}

/// A document's reading, as its `.json` sidecar has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text {
    pub text: String,
    pub engine: String,
    pub model: String,
    pub pages: u64,
}

impl Api {
    /// How many bytes a document of this caller may have.
    pub(super) fn largest(&self, caller: &Caller) -> u64 {
        let own = caller.account.max_upload.map_or(u64::MAX, |own| own.0);
        self.settings.max_upload.min(self.intake.limits().max_upload).min(own)
    }

    /// Makes a document durable and its job committed. `route` and the document are what a request under one key must
    /// be the same in.
    pub(super) async fn submit(
        &self,
        caller: &Caller,
        document: Document,
        route: &str,
        key: Option<String>,
        email: Option<String>,
    ) -> Result<JobId, Problem> {
        let account = &caller.account;
        let mut hash = Sha256::new();
        hash.update(route);
        hash.update([0]);
        hash.update(document.staged.key().0);
        let fingerprint: [u8; 32] = hash.finalize().into();
        if let Some(key) = &key {
            // Before it costs a page.
            let earlier = self.intake.earlier(&account.name, key).await.map_err(|error| input::refused(&error))?;
            if let Some(earlier) = earlier {
                return same(earlier, &fingerprint);
            }
        }
        let id = self.intake.next_id();
        let path = VirtualPath::new(&document.name).map_err(|_| Problem::internal())?;
        let (intake, whose) = (self.intake.clone(), Arc::clone(account));
        // A new file: what it is called, nothing else is.
        let room = blocking(move || intake.room(&whose, None).map_err(|error| input::refused(&error))).await?;
        let upload = Upload { account: account.name.clone(), path, staged: document.staged, door: Door::Http, room };
        let wish = Wish { key: key.map(|key| (key, fingerprint)), email };
        let intake = self.intake.clone();
        // One page until it is known better.
        let reservation = caller.reserve(id, 1, now()).await?;
        let submitted = reservation.hold(async move { intake.submit(id, upload, wish).await }).await;
        match submitted.map_err(|error| input::refused(&error))? {
            Submitted::Job(id) => Ok(id),
            Submitted::Earlier(earlier) => same(earlier, &fingerprint),
        }
    }

    /// Waits until the job has ended; answers it as it stands then, or as it stands when the time is up.
    pub(super) async fn ended(&self, id: JobId, patience: Patience) -> Result<Job, Problem> {
        if let Patience::For(time) = patience {
            let _ = tokio::time::timeout(time, self.hub.end_of(&self.ledger, id)).await;
        }
        self.job(id).await?.ok_or_else(Problem::no_such_job)
    }

    pub(super) async fn job(&self, id: JobId) -> Result<Option<Job>, Problem> {
        let ledger = self.ledger.clone();
        blocking(move || Ok(ledger.show(id).map_err(|error| unanswered(&error))?.map(|(job, _)| job))).await
    }

    /// What was read of a job that is done.
    pub(super) async fn text(&self, job: &Job) -> Result<Text, Problem> {
        let (homes, account, path, id) = (self.homes.clone(), job.account.clone(), job.path.beside(".json"), job.id.to_string());
        blocking(move || {
            let gone = || {
                let detail = "The document was read, but its sidecars are not in the account's home any more: they were removed or replaced.";
                Problem::new(StatusCode::GONE, detail).about(&id, None)
            };
            let file = match homes.open_file(&account, &path) {
                Ok(file) => file,
                Err(HomeError::Missing { .. } | HomeError::NotAPlace { .. }) => return Err(gone()),
                Err(error) => {
                    tracing::error!(job.id = %id, %error, "a reading cannot be opened");
                    return Err(Problem::internal());
                }
            };
            let bytes = file.metadata().map(|found| found.len()).unwrap_or(u64::MAX);
            if bytes > LONGEST_READING {
                let detail = "The reading is too long for one answer: fetch its sidecars.";
                return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail).about(&id, None));
            }
            let reading: Reading = serde_json::from_reader(std::io::BufReader::new(file)).map_err(|_| gone())?;
            // A client may have put a file of its own there.
            if reading.job.as_deref() != Some(&id) {
                return Err(gone());
            }
            let pages = reading.pages.len() as u64;
            let Engine { name, models } = reading.engine;
            Ok(Text { text: reading.text, engine: name, model: models.join(" "), pages })
        })
        .await
    }

    /// A job that ended without a reading, as an error.
    pub(super) fn unread(&self, job: &Job) -> Problem {
        let said = job.error.clone().unwrap_or_else(|| "it was given up".to_owned());
        match &job.state {
            State::Rejected { code } => {
                let status = if code == "unsupported-format" {
                    StatusCode::UNSUPPORTED_MEDIA_TYPE
                } else {
                    StatusCode::UNPROCESSABLE_ENTITY
                };
                Problem::new(status, format!("The document cannot be read: {said}.")).about(job.id, Some(code))
            }
            _ => {
                let detail = format!(
                    "The document was not read: {said}. It is kept; whoever runs this server can have it tried again (`inkport jobs retry {}`).",
                    job.id
                );
                Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail).about(job.id, Some("out-of-attempts"))
            }
        }
    }

    pub(super) async fn counted(&self, caller: &Caller) -> Result<Counted, Problem> {
        let used = caller.used(now()).await?.pages;
        Ok(Counted { requests_used: used, daily_limit: caller.tier.pages_per_day, tier: caller.tier.name.to_owned() })
    }
}

fn same(earlier: Requested, fingerprint: &[u8; 32]) -> Result<JobId, Problem> {
    if earlier.fingerprint == *fingerprint {
        return Ok(earlier.job);
    }
    let detail = "This Idempotency-Key came before with another document or for another route: use a new one for each request.";
    Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail).about(earlier.job, None))
}

/// The database does not answer.
pub(super) fn unanswered(error: &dyn std::error::Error) -> Problem {
    tracing::error!(%error, "the database does not answer the API");
    let detail = "The database does not answer; try again in a moment.";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(Duration::from_secs(5))
}

pub(super) fn now() -> Timestamp {
    Timestamp::from_system(SystemTime::now())
}

/// As much of `inkport/reading/1` as an answer needs.
#[derive(Deserialize)]
struct Reading {
    job: Option<String>,
    text: String,
    engine: Engine,
    pages: Vec<IgnoredAny>,
}

#[derive(Deserialize)]
struct Engine {
    name: String,
    models: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        all.iter().map(|(name, value)| (axum::http::HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn preferences_are_heard_and_bounded() {
        let most = Duration::from_secs(50);
        let of = |text: &str| patience(&headers(&[("prefer", text)]), most);
        assert_eq!(patience(&HeaderMap::new(), most), Patience::For(most));
        assert_eq!(of("respond-async"), Patience::None);
        assert_eq!(of("handling=lenient, Respond-Async; x=1"), Patience::None);
        assert_eq!(of("wait=3"), Patience::For(Duration::from_secs(3)));
        assert_eq!(of("wait=99999"), Patience::For(most));
        assert_eq!(of("wait=x"), Patience::For(most));
    }

    #[test]
    fn keys_are_bare_or_quoted_and_printable() {
        let of = |text: &str| idempotency_key(&headers(&[("idempotency-key", text)])).map_err(|problem| problem.status);
        assert_eq!(idempotency_key(&HeaderMap::new()), Ok(None));
        assert_eq!(of("a-1"), Ok(Some("a-1".to_owned())));
        assert_eq!(of("\"a 1\""), Ok(Some("a 1".to_owned())));
        for bad in ["", "\"\"", &"x".repeat(256), "a\tb"] {
            assert_eq!(of(bad), Err(StatusCode::BAD_REQUEST), "{bad}");
        }
    }
}
