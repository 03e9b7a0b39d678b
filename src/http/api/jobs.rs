//! `/api/v1/jobs`: an account's own jobs, and their sidecars. Another account's are not there.

use super::input::blocking;
use super::shapes::{JobAnswer, JobShape, JobsAnswer, SidecarShape};
use super::submit::{now, unanswered};
use super::{Api, Caller, Refusals};
use crate::homes::HomeError;
use crate::http::problem::Problem;
use crate::job::{Job, JobId};
use crate::keys::Scope;
use crate::queue::{Filter, JobLedger as _};
use crate::sidecar::names;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use utoipa::IntoParams;

const PAGE: usize = 50;
const LARGEST_PAGE: usize = 100;
/// Of a sidecar, sent at once.
const CHUNK: u64 = 128 << 10;

/// Suffixes that are told of where they are there; the `.json` first.
pub(super) const SUFFIXES: [&str; 8] = ["json", "txt", "error.json", "hocr", "alto.xml", "md", "csv", "pdf"];

/// Which jobs.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// Only in this state.
    #[param(inline, value_type = Option<super::shapes::JobState>)]
    state: Option<String>,
    /// Only older than this job: `next` of the page before.
    #[param(min_length = 26, max_length = 26, pattern = "^[0-7][0-9A-HJKMNP-TV-Z]{25}$")]
    before: Option<String>,
    /// 50, unless said.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
}

/// The account's jobs, newest first.
#[utoipa::path(
    get, path = "/api/v1/jobs", tag = "jobs",
    params(ListQuery, ("If-None-Match" = Option<String>, Header, description = "The ETag that is known.")),
    responses(
        (status = 200, description = "A page of them.", body = JobsAnswer, headers(("ETag" = String))),
        (status = 304, description = "As it is known."),
        Refusals,
    ),
    security(("bearer" = []), ("key" = []), ("hmac" = []))
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    query: Result<Query<ListQuery>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    caller.require(Scope::Read)?;
    let Query(query) = query.map_err(|error| {
        Problem::new(StatusCode::BAD_REQUEST, format!("The query is not what this route takes: {}.", error.body_text()))
    })?;
    let bad = |detail: &'static str| Problem::new(StatusCode::BAD_REQUEST, detail);
    let states = ["queued", "running", "done", "rejected", "dead"];
    if query.state.as_deref().is_some_and(|state| !states.contains(&state)) {
        return Err(bad("state must be queued, running, done, rejected or dead."));
    }
    let limit = query.limit.map_or(PAGE, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    if !(1..=LARGEST_PAGE).contains(&limit) {
        return Err(bad("limit must be from 1 to 100."));
    }
    let before = query.before.as_deref().map(|text| job_id(text).ok_or_else(|| bad("before must be a job's id."))).transpose()?;
    let filter = Filter { state: query.state, account: Some(caller.account.name.clone()), before, limit: limit + 1 };
    let ledger = api.ledger.clone();
    let mut jobs = blocking(move || ledger.list(&filter).map_err(|error| unanswered(&error))).await?;
    let more = jobs.len() > limit;
    jobs.truncate(limit);
    let next = jobs.last().filter(|_| more).map(|(job, _)| job.id.to_string());
    let jobs = jobs.iter().map(|(job, deliveries)| JobShape::of(job, deliveries)).collect();
    Ok(tagged_json(&headers, &JobsAnswer { jobs, next }))
}

/// One job, with its sidecars.
#[utoipa::path(
    get, path = "/api/v1/jobs/{id}", tag = "jobs",
    params(
        ("id" = String, Path, description = "The job's id.", max_length = 64),
        ("If-None-Match" = Option<String>, Header, description = "The ETag that is known."),
    ),
    responses(
        (status = 200, description = "The job. Its links are new each time.", body = JobAnswer, headers(("ETag" = String))),
        (status = 304, description = "As it is known."),
        (status = 404, description = "This account has no such job.", body = super::shapes::ProblemShape, content_type = "application/problem+json"),
        Refusals,
    ),
    security(("bearer" = []), ("key" = []), ("hmac" = []))
)]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    caller.require(Scope::Read)?;
    let (job, deliveries) = api.own(&caller, &id).await?;
    let found = api.sidecars_of(&job).await?;
    let shape = JobShape::of(&job, &deliveries);
    // Links are new each time; what they lead to is what the tag is about.
    let tag = etag(&serde_json::to_vec(&(&shape, &found)).unwrap_or_default());
    if is_known(&headers, &tag) {
        return Ok(not_modified(&tag));
    }
    let links = api.links_to(job.id, &found).await?;
    let href = |suffix: &str| format!("{}/api/v1/jobs/{}/sidecars/{suffix}", api.public_url, job.id);
    let sidecars =
        found.iter().zip(links).map(|(suffix, link)| SidecarShape { suffix: (*suffix).to_owned(), href: href(suffix), link });
    let mut response = axum::Json(JobAnswer { job: shape, sidecars: sidecars.collect() }).into_response();
    response.headers_mut().insert(header::ETAG, tag);
    Ok(response)
}

/// A sidecar of a job.
#[utoipa::path(
    get, path = "/api/v1/jobs/{id}/sidecars/{suffix}", tag = "jobs",
    params(
        ("id" = String, Path, description = "The job's id.", max_length = 64),
        ("suffix" = String, Path, description = "Without the dot: `txt`, `json`, `error.json`.", max_length = 32),
        ("If-None-Match" = Option<String>, Header, description = "The ETag that is known."),
        ("Range" = Option<String>, Header, description = "One range of bytes: `bytes=0-99`."),
    ),
    responses(
        (status = 200, description = "All of it.", content(("application/json"), ("text/plain"), ("text/csv"), ("text/markdown"), ("application/xml"), ("application/xhtml+xml"), ("application/pdf"), ("application/octet-stream")), headers(("ETag" = String))),
        (status = 206, description = "The range.", content(("application/json"), ("text/plain"), ("text/csv"), ("text/markdown"), ("application/xml"), ("application/xhtml+xml"), ("application/pdf"), ("application/octet-stream")), headers(("ETag" = String), ("Content-Range" = String))),
        (status = 304, description = "As it is known."),
        (status = 404, description = "No such job, or no such sidecar of it (yet).", body = super::shapes::ProblemShape, content_type = "application/problem+json"),
        (status = 410, description = "It was removed or replaced.", body = super::shapes::ProblemShape, content_type = "application/problem+json"),
        (status = 416, description = "The range lies behind its end.", body = super::shapes::ProblemShape, content_type = "application/problem+json"),
        Refusals,
    ),
    security(("bearer" = []), ("key" = []), ("hmac" = []))
)]
pub(super) async fn sidecar(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path((id, suffix)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    caller.require(Scope::Read)?;
    let (job, _) = api.own(&caller, &id).await?;
    api.serve(job, suffix, &headers).await
}

pub(super) fn job_id(text: &str) -> Option<JobId> {
    // One spelling for each.
    ulid::Ulid::from_string(text).ok().filter(|id| id.to_string() == text).map(JobId)
}

impl Api {
    /// The caller's own job.
    async fn own(&self, caller: &Caller, id: &str) -> Result<(Job, Vec<crate::queue::DeliveryRecord>), Problem> {
        let id = job_id(id).ok_or_else(Problem::no_such_job)?;
        let ledger = self.ledger.clone();
        let found = blocking(move || ledger.show(id).map_err(|error| unanswered(&error))).await?;
        found.filter(|(job, _)| job.account == caller.account.name).ok_or_else(Problem::no_such_job)
    }

    /// The suffixes of what lies beside a job's upload and belongs to it.
    pub(super) async fn sidecars_of(&self, job: &Job) -> Result<Vec<&'static str>, Problem> {
        let (ledger, homes, job) = (self.ledger.clone(), self.homes.clone(), job.clone());
        blocking(move || {
            let newest = ledger.newest(&job.account, &job.path).map_err(|error| unanswered(&error))?;
            if !job.state.is_final() || newest.is_some_and(|newest| newest.id != job.id) {
                return Ok(Vec::new());
            }
            let is_there = |suffix: &&&str| {
                let path = job.path.beside(&format!(".{suffix}"));
                names::is_sidecar(path.file_name(), &|_| true)
                    && homes.identity(&job.account, &path).is_ok_and(|found| found.is_some())
            };
            Ok(SUFFIXES.iter().filter(is_there).copied().collect())
        })
        .await
    }

    /// Signed links to a job's sidecars, in their order.
    pub(super) async fn links_to(&self, job: JobId, suffixes: &[&'static str]) -> Result<Vec<String>, Problem> {
        let (links, base, suffixes) = (self.links.clone(), self.public_url.clone(), suffixes.to_vec());
        let expires_at = now().after(self.settings.link_lifetime);
        blocking(move || {
            let tokens = links.mint_all(job, &suffixes, expires_at).map_err(|error| unanswered(&error))?;
            Ok(tokens.into_iter().map(|token| format!("{base}/d/{token}")).collect())
        })
        .await
    }

    /// A job's sidecar, whole or a range of it.
    pub(super) async fn serve(&self, job: Job, suffix: String, headers: &HeaderMap) -> Result<Response, Problem> {
        let (ledger, homes) = (self.ledger.clone(), self.homes.clone());
        let (id, kind) = (job.id, media_type(&suffix));
        let path = job.path.beside(&format!(".{suffix}"));
        let name = path.file_name().to_owned();
        let good =
            !suffix.is_empty() && suffix.len() <= 32 && suffix.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'.');
        let not_there = move || {
            let detail = "The job has no such sidecar, or not yet: GET /api/v1/jobs/{id} lists those that are there.";
            Problem::new(StatusCode::NOT_FOUND, detail).about(id, None)
        };
        if !good || !names::is_sidecar(&name, &|_| true) {
            return Err(not_there());
        }
        let file = blocking(move || {
            let newest = ledger.newest(&job.account, &job.path).map_err(|error| unanswered(&error))?;
            if newest.is_some_and(|newest| newest.id != job.id) {
                let detail = "A newer upload has taken this one's name, and its sidecars with it.";
                return Err(Problem::new(StatusCode::GONE, detail).about(job.id, None));
            }
            match homes.open_file(&job.account, &path) {
                Ok(file) => Ok(file),
                Err(HomeError::Missing { .. } | HomeError::NotAPlace { .. }) => Err(not_there()),
                Err(error) => {
                    tracing::error!(job.id = %job.id, %error, "a sidecar cannot be opened");
                    Err(Problem::internal())
                }
            }
        })
        .await?;
        let found = file.metadata().map_err(|_| Problem::internal())?;
        let length = found.len();
        // A sidecar is only ever replaced, so the same file of the same time is the same bytes.
        let state = (found.ino(), found.mtime(), found.mtime_nsec(), length);
        let tag = etag(format!("{state:?}").as_bytes());
        if is_known(headers, &tag) {
            return Ok(not_modified(&tag));
        }
        let applies = headers.get(header::IF_RANGE).is_none_or(|known| known == tag);
        let range = headers.get(header::RANGE).filter(|_| applies).and_then(|range| range.to_str().ok());
        let (status, from, to) = match range.map_or(Range::Whole, |range| range_of(range, length)) {
            Range::Whole => (StatusCode::OK, 0, length),
            Range::Part(from, to) => (StatusCode::PARTIAL_CONTENT, from, to),
            Range::Outside => {
                let detail = format!("The sidecar has {length} bytes; the range begins behind them.");
                let size = HeaderValue::try_from(format!("bytes */{length}")).expect("digits");
                return Err(Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, detail).with(header::CONTENT_RANGE, size));
            }
        };
        let mut response = Response::new(bytes_of(file, from, to));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(to - from));
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
        headers.insert(header::ETAG, tag);
        if status == StatusCode::PARTIAL_CONTENT {
            let part = format!("bytes {from}-{}/{length}", to - 1);
            headers.insert(header::CONTENT_RANGE, HeaderValue::try_from(part).expect("digits"));
        }
        headers.insert(header::CONTENT_DISPOSITION, disposition(&name));
        Ok(response)
    }
}

/// From `from` to before `to`, read as it is sent.
fn bytes_of(file: File, from: u64, to: u64) -> Body {
    Body::from_stream(stream::try_unfold((Some(file), from), move |(file, at)| async move {
        let Some(mut file) = file.filter(|_| at < to) else { return Ok(None) };
        let read = tokio::task::spawn_blocking(move || {
            file.seek(SeekFrom::Start(at))?;
            let mut chunk = Vec::new();
            std::io::Read::by_ref(&mut file).take(CHUNK.min(to - at)).read_to_end(&mut chunk)?;
            // What was promised by Content-Length does not come.
            if chunk.is_empty() { Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof)) } else { Ok((chunk, file)) }
        });
        let (chunk, file) = read.await.map_err(std::io::Error::other)??;
        let at = at + chunk.len() as u64;
        Ok::<_, std::io::Error>(Some((Bytes::from(chunk), (Some(file), at))))
    }))
}

fn media_type(suffix: &str) -> &'static str {
    match suffix.rsplit('.').next().unwrap_or_default() {
        "txt" => "text/plain; charset=utf-8",
        "json" => "application/json",
        "hocr" => "application/xhtml+xml",
        "xml" => "application/xml",
        "md" => "text/markdown; charset=utf-8",
        "csv" => "text/csv; charset=utf-8",
        "pdf" => "application/pdf",
        _ => "application/octet-stream",
    }
}

/// To be saved, not shown: it was made of somebody's upload. The name in ASCII and, by RFC 8187, in full.
fn disposition(name: &str) -> HeaderValue {
    let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect();
    let mut full = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"._-".contains(&byte) {
            full.push(char::from(byte));
        } else {
            full.push_str(&format!("%{byte:02X}"));
        }
    }
    let text = format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{full}");
    HeaderValue::try_from(text).expect("ASCII")
}

fn etag(of: &[u8]) -> HeaderValue {
    let digits: String = Sha256::digest(of)[..12].iter().map(|byte| format!("{byte:02x}")).collect();
    HeaderValue::try_from(format!("\"{digits}\"")).expect("digits")
}

/// `If-None-Match` names it, weakly compared.
fn is_known(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let tag = tag.to_str().unwrap_or_default();
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|list| list.split(',').map(str::trim).any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag))
}

fn not_modified(tag: &HeaderValue) -> Response {
    let mut response = StatusCode::NOT_MODIFIED.into_response();
    response.headers_mut().insert(header::ETAG, tag.clone());
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    response
}

fn tagged_json<T: serde::Serialize>(headers: &HeaderMap, answer: &T) -> Response {
    let bytes = serde_json::to_vec(answer).unwrap_or_default();
    let tag = etag(&bytes);
    if is_known(headers, &tag) {
        return not_modified(&tag);
    }
    let mut response = ([(header::CONTENT_TYPE, "application/json")], bytes).into_response();
    response.headers_mut().insert(header::ETAG, tag);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    response
}

#[derive(Debug, PartialEq, Eq)]
enum Range {
    /// Also for what is no range of bytes, or more than one: RFC 9110 lets a server pass over them.
    Whole,
    /// From, to before.
    Part(u64, u64),
    Outside,
}

fn range_of(text: &str, length: u64) -> Range {
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else { return Range::Whole };
    let (first, last) = (first.trim(), last.trim());
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = |text: &str| text.parse::<u64>().unwrap_or(u64::MAX);
    if first.is_empty() && digits(last) {
        return match number(last).min(length) {
            0 => Range::Outside,
            tail => Range::Part(length - tail, length),
        };
    }
    if !digits(first) || !(last.is_empty() || digits(last)) {
        return Range::Whole;
    }
    let from = number(first);
    let to = if last.is_empty() { length } else { number(last).saturating_add(1).min(length) };
    if !last.is_empty() && number(last) < from {
        Range::Whole
    } else if from >= length {
        Range::Outside
    } else {
        Range::Part(from, to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_rfc_9110() {
        for (text, range) in [
            ("bytes=0-0", Range::Part(0, 1)),
            ("bytes=2-", Range::Part(2, 10)),
            ("bytes=-3", Range::Part(7, 10)),
            ("bytes=-30", Range::Part(0, 10)),
            ("bytes=5-99999999999999999999999", Range::Part(5, 10)),
            ("bytes=10-", Range::Outside),
            ("bytes=-0", Range::Outside),
            ("bytes=5-4", Range::Whole),
            ("bytes=0-1,3-4", Range::Whole),
            ("lines=0-1", Range::Whole),
            ("bytes=", Range::Whole),
            ("bytes=-", Range::Whole),
        ] {
            assert_eq!(range_of(text, 10), range, "{text}");
        }
    }

    #[test]
    fn names_cannot_end_their_header() {
        let text = disposition("räk\"ning\r\n.jpg.txt");
        assert_eq!(text, "attachment; filename=\"r_k_ning__.jpg.txt\"; filename*=UTF-8''r%C3%A4k%22ning%0D%0A.jpg.txt");
    }
}
