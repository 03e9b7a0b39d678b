//! What a request brings: a form's file, streamed to a staging file as it comes; or JSON, which is bounded by
//! `http.max-upload` and by what all requests together may hold in memory. What is no document is refused here, by its
//! first bytes, before anything is committed.

use super::Api;
use crate::document::{Format, sniff};
use crate::http::body::BodyError;
use crate::http::problem::Problem;
use crate::intake::{Intake, IntakeError};
use crate::meters::{self, Stage};
use crate::queue::QueueError;
use crate::spool::{SpoolError, Staged, Staging};
use axum::body::Body;
use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{FromRequest as _, Multipart, Request};
use axum::http::{HeaderMap, StatusCode, header};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use std::error::Error as _;
use std::io::Write as _;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Of a form's fields beside the file.
const LONGEST_FIELD: usize = 8 << 10;
/// Fields of a form.
const MOST_FIELDS: usize = 16;
/// What is gathered before it is handed to the disk.
const CHUNK: usize = 256 << 10;
/// What a form adds to its file, and JSON to its base64.
const AROUND: u64 = 64 << 10;
/// JSON bodies and what is decoded of them, of all requests together.
pub(super) const MEMORY_KIB: usize = 256 << 10;
/// For room in that.
const ROOM_WITHIN: Duration = Duration::from_secs(10);
/// Enough to tell a document by.
const HEAD: usize = 1100;
/// A name's bytes, with room for the longest sidecar's suffix.
const LONGEST_NAME: usize = 200;

/// Base64 as clients write it: padded or not.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// A document, whole and on disk, still hidden.
#[derive(Debug)]
pub(super) struct Document {
    pub staged: Staged,
    /// A good name for it.
    pub name: String,
}

/// A form that was read.
#[derive(Debug, Default)]
pub(super) struct Form {
    pub file: Option<Document>,
    pub email: Option<String>,
}

/// Which of the two a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Form,
    Json,
}

pub(super) fn kind(headers: &HeaderMap) -> Option<Kind> {
    let text = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let kind = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match kind.as_str() {
        "multipart/form-data" => Some(Kind::Form),
        "application/json" => Some(Kind::Json),
        _ => None,
    }
}

pub(super) fn wrong_kind(wanted: &str) -> Problem {
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("Send the document as {wanted}, and say so in Content-Type."))
}

/// Reads a form: its field `file`, at most `limit` bytes of it, and what else we know.
pub(super) async fn form(api: &Api, request: Request, limit: u64) -> Result<Form, Problem> {
    let mut form = Form::default();
    let mut multipart = Multipart::from_request(request, &())
        .await
        .map_err(|refused| Problem::new(StatusCode::BAD_REQUEST, format!("The form cannot be read: {}.", refused.body_text())))?;
    let mut fields = 0;
    while let Some(field) = multipart.next_field().await.map_err(|error| broken_form(&error, api))? {
        fields += 1;
        if fields > MOST_FIELDS {
            return Err(Problem::new(StatusCode::BAD_REQUEST, format!("The form has more than {MOST_FIELDS} fields.")));
        }
        match field.name() {
            Some("file") if form.file.is_some() => {
                let detail = "The form has more than one file: send them one by one, or use /api/v1/ocr/batch.";
                return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
            }
            Some("file") => form.file = Some(receive(api, field, limit).await?),
            Some("email") => form.email = Some(text(api, field).await?).filter(|email| !email.is_empty()),
            _ => drop(text(api, field).await?),
        }
    }
    Ok(form)
}

pub(super) fn no_file() -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "The form has no field \"file\": send the document under that name.")
}

async fn text(api: &Api, mut field: Field<'_>) -> Result<String, Problem> {
    let mut bytes = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(|error| broken_form(&error, api))? {
        if bytes.len() + chunk.len() > LONGEST_FIELD {
            let detail = format!("A field of the form is longer than {LONGEST_FIELD} bytes; the document belongs into \"file\".");
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
        }
        bytes.extend_from_slice(&chunk);
    }
    String::from_utf8(bytes).map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "A field of the form is not UTF-8."))
}

/// A file, to disk as it comes.
async fn receive(api: &Api, mut field: Field<'_>, limit: u64) -> Result<Document, Problem> {
    let given = field.file_name().map(str::to_owned);
    let began = std::time::Instant::now();
    let mut staging = begin(api.intake.clone()).await?;
    let (mut head, mut buffer, mut received) = (Vec::new(), Vec::with_capacity(CHUNK), 0_u64);
    loop {
        let chunk = field.chunk().await.map_err(|error| broken_form(&error, api))?;
        if let Some(chunk) = &chunk {
            received += chunk.len() as u64;
            if received > limit {
                return Err(too_large(limit));
            }
            head.extend_from_slice(&chunk[..chunk.len().min(HEAD - head.len())]);
            buffer.extend_from_slice(chunk);
        }
        if buffer.len() >= CHUNK || (chunk.is_none() && !buffer.is_empty()) {
            (staging, buffer) = blocking(move || {
                staging.write_all(&buffer).map_err(disk)?;
                buffer.clear();
                Ok((staging, buffer))
            })
            .await?;
        }
        if chunk.is_none() {
            break;
        }
    }
    meters::stage(Stage::Receive, began.elapsed());
    finish(staging, &head, given.as_deref()).await
}

async fn begin(intake: Intake) -> Result<Staging, Problem> {
    blocking(move || intake.begin().map_err(|error| refused(&error))).await
}

async fn finish(staging: Staging, head: &[u8], given: Option<&str>) -> Result<Document, Problem> {
    let format = sniff(head).ok_or_else(no_document)?;
    let name = name(given, format);
    let staged = blocking(move || staging.finish().map_err(|error| refused(&error.into()))).await?;
    Ok(Document { staged, name })
}

/// A JSON body, with the memory that it may take; a decoded image needs as much again.
pub(super) async fn json<T: DeserializeOwned>(
    api: &Api,
    headers: &HeaderMap,
    body: Body,
    limit: u64,
) -> Result<(T, OwnedSemaphorePermit), Problem> {
    // Base64 makes four bytes of three.
    let at_most = limit.saturating_mul(4).div_ceil(3).saturating_add(AROUND);
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let expected = declared.unwrap_or(at_most);
    if expected > at_most {
        return Err(too_large(limit));
    }
    let room = api.room_for(expected.saturating_mul(2)).await?;
    let bytes = Limited::new(body, usize::try_from(at_most).unwrap_or(usize::MAX)).collect().await;
    let bytes = bytes.map_err(|error| if error.is::<LengthLimitError>() { too_large(limit) } else { broken_off(&*error) })?;
    let parsed = serde_json::from_slice(&bytes.to_bytes()).map_err(|error| {
        if error.is_data() {
            let detail = format!("The JSON is not what this route takes: {error}.");
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
        } else {
            Problem::new(StatusCode::BAD_REQUEST, format!("The body is not JSON: {error}."))
        }
    })?;
    Ok((parsed, room))
}

impl Api {
    async fn room_for(&self, bytes: u64) -> Result<OwnedSemaphorePermit, Problem> {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).min(u32::try_from(MEMORY_KIB).unwrap_or(u32::MAX));
        let room = Semaphore::acquire_many_owned(self.memory.clone(), kib);
        match tokio::time::timeout(ROOM_WITHIN, room).await {
            Ok(Ok(room)) => Ok(room),
            Ok(Err(_)) | Err(_) => {
                let detail =
                    "Too many images come at once as JSON; try again in a moment, or send a form, which needs no memory.";
                Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(Duration::from_secs(5)))
            }
        }
    }
}

/// The document in a string of a request: base64, a `data:` URL, an `https:` URL.
pub(super) async fn image(api: &Api, text: String, given: Option<&str>, limit: u64) -> Result<Document, Problem> {
    let at_most = usize::try_from(limit).unwrap_or(usize::MAX);
    let scheme = text.get(..8).unwrap_or(&text).to_ascii_lowercase();
    let bytes = if scheme.starts_with("http://") || scheme.starts_with("https://") {
        let Some(fetcher) = &api.fetcher else {
            let detail =
                "This server fetches no images by their address (http.fetch-urls is off): send the image itself, in base64.";
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
        };
        fetcher.fetch(text.trim(), at_most).await?.to_vec()
    } else {
        blocking(move || decode(&text)).await?
    };
    if bytes.len() > at_most {
        return Err(too_large(limit));
    }
    let mut staging = begin(api.intake.clone()).await?;
    let head = bytes[..bytes.len().min(HEAD)].to_vec();
    let staging = blocking(move || {
        staging.write_all(&bytes).map_err(disk)?;
        Ok(staging)
    })
    .await?;
    finish(staging, &head, given).await
}

fn decode(text: &str) -> Result<Vec<u8>, Problem> {
    let unreadable = |detail: &'static str| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail);
    let encoded = match text.get(..5).filter(|scheme| scheme.eq_ignore_ascii_case("data:")) {
        Some(_) => {
            let (kind, encoded) = text.split_once(',').ok_or_else(|| unreadable("The data: URL has no comma."))?;
            if !kind.to_ascii_lowercase().ends_with(";base64") {
                return Err(unreadable("The data: URL is not in base64."));
            }
            encoded
        }
        None => text,
    };
    let mut bare: Vec<u8> = encoded.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let url_safe = bare.iter().any(|byte| matches!(byte, b'-' | b'_'));
    let decoded = if url_safe { URL_SAFE.decode(&bare) } else { STANDARD.decode(&bare) };
    bare.clear();
    decoded.map_err(|_| unreadable("\"image\" is neither base64, nor a data: URL with base64, nor an https: URL."))
}

/// What the file is called in the home: what the client calls it, if that will do.
fn name(given: Option<&str>, format: Format) -> String {
    let extension = match format {
        Format::Jpeg => "jpg",
        Format::Png => "png",
        Format::Tiff => "tif",
        Format::Pdf => "pdf",
        Format::Bmp => "bmp",
        Format::Gif => "gif",
        Format::Webp => "webp",
        Format::Pnm => "pnm",
    };
    // A browser of old sends the whole path.
    let last = given.unwrap_or_default().rsplit(['/', '\\']).next().unwrap_or_default();
    let clean: String = last.chars().filter(|c| !c.is_control()).collect();
    let clean = clean.trim().trim_start_matches(['.', '~']);
    let mut end = clean.len().min(LONGEST_NAME);
    while !clean.is_char_boundary(end) {
        end -= 1;
    }
    let clean = &clean[..end];
    if clean.is_empty() {
        format!("upload.{extension}")
    } else if crate::sidecar::names::has_document_extension(clean) {
        clean.to_owned()
    } else {
        format!("{clean}.{extension}")
    }
}

pub(super) fn no_document() -> Problem {
    let detail = "This is no document that is read here: send a JPEG, PNG, TIFF, PDF, BMP, GIF, WebP or PNM.";
    let mut problem = Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail);
    problem.code = Some("unsupported-format".to_owned());
    problem
}

pub(super) fn too_large(limit: u64) -> Problem {
    let detail = format!(
        "The document is larger than the {limit} bytes that are allowed (http.max-upload, limits.max-upload or the account's own limit)."
    );
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
}

fn broken_form(error: &MultipartError, api: &Api) -> Problem {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return too_large(api.settings.max_upload);
    }
    match error.source() {
        Some(source) if is_too_slow(source) => broken_off(source),
        _ => Problem::new(StatusCode::BAD_REQUEST, format!("The form cannot be read: {}.", error.body_text())),
    }
}

fn broken_off(error: &(dyn std::error::Error + 'static)) -> Problem {
    if is_too_slow(error) {
        return Problem::new(StatusCode::REQUEST_TIMEOUT, "The body stopped coming, or came too slowly: nothing was taken.");
    }
    Problem::new(StatusCode::BAD_REQUEST, "The body broke off before its end: nothing was taken.")
}

fn is_too_slow(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<BodyError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

fn disk(error: std::io::Error) -> Problem {
    if crate::spool::is_full(&error) {
        return no_space();
    }
    tracing::error!(%error, "an upload by HTTP could not be written");
    Problem::internal()
}

fn no_space() -> Problem {
    let detail = "There is no room for it on this server's disk; try again when there is.";
    Problem::new(StatusCode::INSUFFICIENT_STORAGE, detail).retry_after(Duration::from_secs(60))
}

/// Why intake takes nothing, for the client.
pub(super) fn refused(error: &IntakeError) -> Problem {
    match error {
        IntakeError::NoSpace { .. }
        | IntakeError::Spool(SpoolError::NoSpace { .. })
        | IntakeError::Home(crate::homes::HomeError::NoSpace { .. })
        | IntakeError::Queue(QueueError::NoSpace) => no_space(),
        IntakeError::Home(crate::homes::HomeError::OverQuota { .. }) => {
            let detail = "The account's quota is used up: remove files from its home, or have its quota raised.";
            Problem::new(StatusCode::INSUFFICIENT_STORAGE, detail)
        }
        IntakeError::TooLarge { limit } => too_large(*limit),
        IntakeError::Full { again, .. } | IntakeError::Slow { again, .. } => {
            let detail = format!("Not taken: {error}.");
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(again.0)
        }
        IntakeError::Queue(QueueError::Unavailable(_) | QueueError::Closed) => {
            let detail = "The queue does not answer; nothing was taken. Try again in a moment.";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(Duration::from_secs(5))
        }
        IntakeError::Spool(_) | IntakeError::Home(_) | IntakeError::Queue(_) => {
            tracing::error!(%error, "an upload by HTTP was not taken");
            Problem::internal()
        }
    }
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|panic| {
        tracing::error!(error = %panic, "a request ended in a panic");
        Err(Problem::internal())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_base64_in_any_usual_spelling() {
        for text in ["aGk_", "aGk/", " aG\nk/ ", "data:image/png;base64,aGk/", "DATA:;BASE64,aGk/"] {
            assert_eq!(decode(text).unwrap(), b"hi?", "{text}");
        }
        assert_eq!(decode("aGk").unwrap(), decode("aGk=").unwrap());
        for bad in ["data:image/png,xx", "data:image/png;base64", "{}", "a", "é"] {
            assert_eq!(decode(bad).unwrap_err().status, StatusCode::UNPROCESSABLE_ENTITY, "{bad}");
        }
    }

    #[test]
    fn names_are_documents_names() {
        let named = |given: &str| name(Some(given), Format::Png);
        assert_eq!(named("scan.JPG"), "scan.JPG");
        assert_eq!(named("C:\\scans\\a.png"), "a.png");
        assert_eq!(named("../../etc/passwd"), "passwd.png");
        assert_eq!(named(".hidden"), "hidden.png");
        assert_eq!(named("a.jpg.txt"), "a.jpg.txt.png");
        assert_eq!(named("x.part"), "x.part.png");
        assert_eq!(named("a\nb.png"), "ab.png");
        assert_eq!(named(" "), "upload.png");
        assert_eq!(name(None, Format::Jpeg), "upload.jpg");
        assert!(named(&"é".repeat(500)).len() < 210);
    }
}
