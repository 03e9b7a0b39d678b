//! Documents in, text out: `/api/v1/ocr`, `/api/v1/ocr/batch`, and the route of clients that were written for another
//! server. What comes here goes the way of every upload; these routes only wait for it.

use super::input::blocking;
use super::input::{self, Kind};
use super::shapes::{
    BatchAnswer, BatchRequest, BatchResult, OcrAnswer, OcrForm, OcrRequest, Prediction, PredictionForm, ProblemShape, Taken,
};
use super::submit::{Patience, Text, idempotency_key, now, patience, unanswered};
use super::{Api, Caller, Refusals};
use crate::account::Permission;
use crate::http::caller::Presented;
use crate::http::problem::Problem;
use crate::job::state::State as JobState;
use crate::job::{Job, JobId};
use crate::keys::Scope;
use crate::queue::JobLedger as _;
use axum::Json;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

const MOST_IMAGES: usize = 10;

/// Reads a document: waits for its text or, with `Prefer: respond-async` or when that takes too long, answers 202 and
/// where its job is. The document is kept and will be read either way.
#[utoipa::path(
    post, path = "/api/v1/ocr", tag = "ocr",
    params(
        ("Prefer" = Option<String>, Header, description = "`respond-async`, or `wait=SECONDS`."),
        ("Idempotency-Key" = Option<String>, Header, description = "Names the request: sent again with the same document it finds its job.", min_length = 1, max_length = 255, pattern = "^[!-~]+$"),
    ),
    request_body(content((OcrForm = "multipart/form-data"), (OcrRequest = "application/json"))),
    responses(
        (status = 200, description = "Its text.", body = OcrAnswer),
        (status = 202, description = "It is kept and will be read.", body = Taken, headers(("Location" = String))),
        (status = 410, description = "It was read, and its sidecars were removed since.", body = ProblemShape, content_type = "application/problem+json"),
        (status = 413, description = "It is too large.", body = ProblemShape, content_type = "application/problem+json"),
        (status = 415, description = "It is no document, or comes in no form that is read here.", body = ProblemShape, content_type = "application/problem+json"),
        (status = 422, description = "It cannot be read, or the request makes no sense.", body = ProblemShape, content_type = "application/problem+json"),
        (status = 507, description = "There is no room for it.", body = ProblemShape, content_type = "application/problem+json"),
        Refusals,
    ),
    security(("bearer" = []), ("key" = []), ("hmac" = []))
)]
pub(super) async fn ocr(State(api): State<Arc<Api>>, caller: Caller, request: Request) -> Result<Response, Problem> {
    api.may_submit(&caller)?;
    let key = idempotency_key(request.headers())?;
    let patience = patience(request.headers(), api.settings.answer_within);
    let limit = api.largest(&caller);
    let (document, room) = match input::kind(request.headers()) {
        Some(Kind::Form) => (input::form(&api, request, limit).await?.file.ok_or_else(input::no_file)?, None),
        Some(Kind::Json) => {
            let (parts, body) = request.into_parts();
            let (asked, room): (OcrRequest, _) = input::json(&api, &parts.headers, body, limit).await?;
            // A signature is judged before an address is fetched.
            caller.presented().await?;
            (input::image(&api, asked.image, asked.filename.as_deref(), limit).await?, Some(room))
        }
        None => return Err(input::wrong_kind("multipart/form-data (field \"file\") or as application/json (\"image\")")),
    };
    drop(room);
    let key = api.named(&caller, key).await?;
    let id = api.submit(&caller, document, "ocr", key, None).await?;
    let job = api.ended(id, patience).await?;
    if !job.state.is_final() || patience == Patience::None {
        return Ok(accepted(&api, &job, patience));
    }
    if job.state != JobState::Done {
        return Err(api.unread(&job));
    }
    let Text { text, engine, model, .. } = api.text(&job).await?;
    let usage = api.counted(&caller).await?;
    Ok(Json(OcrAnswer { success: true, job: job.id.to_string(), text, engine, model, usage }).into_response())
}

/// Reads up to ten documents. One that is bad fails alone; one that is not read in time is kept and will be.
#[utoipa::path(
    post, path = "/api/v1/ocr/batch", tag = "ocr",
    params(
        ("Prefer" = Option<String>, Header, description = "`wait=SECONDS`."),
        ("Idempotency-Key" = Option<String>, Header, description = "Names the request: sent again with the same documents it finds their jobs.", min_length = 1, max_length = 255, pattern = "^[!-~]+$"),
    ),
    request_body = BatchRequest,
    responses(
        (status = 200, description = "What came of each.", body = BatchAnswer),
        (status = 413, description = "All together they are too large.", body = ProblemShape, content_type = "application/problem+json"),
        (status = 415, description = "This is no JSON.", body = ProblemShape, content_type = "application/problem+json"),
        (status = 422, description = "Not one to ten images.", body = ProblemShape, content_type = "application/problem+json"),
        (status = 507, description = "There is no room for them.", body = ProblemShape, content_type = "application/problem+json"),
        Refusals,
    ),
    security(("bearer" = []), ("key" = []), ("hmac" = []))
)]
pub(super) async fn batch(State(api): State<Arc<Api>>, caller: Caller, request: Request) -> Result<Response, Problem> {
    api.may_submit(&caller)?;
    let key = idempotency_key(request.headers())?;
    let patience = patience(request.headers(), api.settings.answer_within);
    let limit = api.largest(&caller);
    if input::kind(request.headers()) != Some(Kind::Json) {
        return Err(input::wrong_kind("application/json (\"images\")"));
    }
    let (parts, body) = request.into_parts();
    // The body's limit is http.max-upload, for all of them together.
    let (asked, room): (BatchRequest, _) = input::json(&api, &parts.headers, body, api.settings.max_upload).await?;
    let key = api.named(&caller, key).await?;
    if asked.images.is_empty() || asked.images.len() > MOST_IMAGES {
        let detail = format!("\"images\" must hold 1 to {MOST_IMAGES} images; these are {}.", asked.images.len());
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    }
    let mut taken: Vec<Result<JobId, Problem>> = Vec::new();
    for (number, image) in asked.images.into_iter().enumerate() {
        let key = key.as_ref().map(|key| format!("{key}#{number}"));
        taken.push(match input::image(&api, image, None, limit).await {
            Ok(document) => api.submit(&caller, document, "batch", key, None).await,
            Err(problem) => Err(problem),
        });
    }
    drop(room);
    // The first refusal that is not about an image is about all of them.
    if let Some(Err(problem)) = taken.iter().find(|taken| taken.as_ref().is_err_and(|problem| problem.is_for_all()))
        && taken.iter().all(Result::is_err)
    {
        return Err(problem.clone());
    }
    let until = tokio::time::Instant::now() + api.settings.answer_within;
    let mut results = Vec::new();
    for taken in taken {
        let left = match patience {
            Patience::None => Patience::None,
            Patience::For(time) => Patience::For(time.min(until.saturating_duration_since(tokio::time::Instant::now()))),
        };
        results.push(match taken {
            Ok(id) => one(&api, id, left).await,
            Err(problem) => failed(problem),
        });
    }
    let (total, successful) = (results.len(), results.iter().filter(|result| result.success).count());
    let usage = api.counted(&caller).await?;
    Ok(Json(BatchAnswer { success: successful > 0, results, total, successful, usage }).into_response())
}

async fn one(api: &Api, id: JobId, patience: Patience) -> BatchResult {
    let job = match api.ended(id, patience).await {
        Ok(job) => job,
        Err(problem) => return failed(problem.about(id, None)),
    };
    match &job.state {
        JobState::Done => match api.text(&job).await {
            Ok(Text { text, .. }) => BatchResult {
                success: true,
                job: Some(id.to_string()),
                length: Some(text.chars().count()),
                text: Some(text),
                error: None,
            },
            Err(problem) => failed(problem),
        },
        state if state.is_final() => failed(api.unread(&job)),
        _ => {
            let detail = format!("It is kept and not read yet: GET /api/v1/jobs/{id} tells when it is.");
            failed(Problem::new(StatusCode::ACCEPTED, detail).about(id, None))
        }
    }
}

fn failed(problem: Problem) -> BatchResult {
    BatchResult { success: false, job: problem.job, text: None, length: None, error: Some(problem.detail.into_owned()) }
}

/// Whom to tell.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PredictionQuery {
    /// One of the account's addresses; mail to any other is not sent.
    #[param(max_length = 320)]
    email: Option<String>,
}

/// Reads a document and mails its text: for clients that speak this way.
#[utoipa::path(
    post, path = "/prediction/ftp_upload_and_predict/", tag = "ocr",
    params(
        PredictionQuery,
        ("Idempotency-Key" = Option<String>, Header, description = "Names the request: sent again with the same document it finds its job.", min_length = 1, max_length = 255, pattern = "^[!-~]+$"),
    ),
    request_body(content((PredictionForm = "multipart/form-data"))),
    responses(
        (status = 200, description = "Its text.", body = Prediction),
        (status = 202, description = "It is kept and will be read.", body = Taken, headers(("Location" = String))),
        (status = 410, description = "It was read, and its sidecars were removed since.", body = ProblemShape, content_type = "application/problem+json"),
        (status = 413, description = "It is too large.", body = ProblemShape, content_type = "application/problem+json"),
        (status = 415, description = "It is no document, or comes in no form that is read here.", body = ProblemShape, content_type = "application/problem+json"),
        (status = 422, description = "It cannot be read, or the request makes no sense.", body = ProblemShape, content_type = "application/problem+json"),
        (status = 507, description = "There is no room for it.", body = ProblemShape, content_type = "application/problem+json"),
        Refusals,
    ),
    security(("bearer" = []), ("key" = []), ("hmac" = []))
)]
pub(super) async fn prediction(
    State(api): State<Arc<Api>>,
    caller: Caller,
    query: Result<Query<PredictionQuery>, axum::extract::rejection::QueryRejection>,
    request: Request,
) -> Result<Response, Problem> {
    api.may_submit(&caller)?;
    let Query(query) = query.map_err(|_| {
        Problem::new(StatusCode::BAD_REQUEST, "The query is not what this route takes: email may stand there once.")
    })?;
    let key = idempotency_key(request.headers())?;
    let patience = patience(request.headers(), api.settings.answer_within);
    let limit = api.largest(&caller);
    if input::kind(request.headers()) != Some(Kind::Form) {
        return Err(input::wrong_kind("multipart/form-data (field \"file\")"));
    }
    let form = input::form(&api, request, limit).await?;
    let document = form.file.ok_or_else(input::no_file)?;
    let key = api.named(&caller, key).await?;
    let email = form.email.or(query.email).filter(|email| !email.is_empty());
    let allowed = email.filter(|email| caller.account.email.iter().any(|known| known.eq_ignore_ascii_case(email.trim())));
    let id = api.submit(&caller, document, "prediction", key, allowed.clone()).await?;
    let job = api.ended(id, patience).await?;
    if !job.state.is_final() || patience == Patience::None {
        return Ok(accepted(&api, &job, patience));
    }
    if job.state != JobState::Done {
        return Err(api.unread(&job));
    }
    let text = api.text(&job).await?.text;
    let email_sent = match allowed {
        Some(email) => api.is_written_to(job.id, email).await?,
        None => false,
    };
    let filename = job.path.file_name().to_owned();
    Ok(Json(Prediction { filename, prediction: text, timestamp: now().to_string(), email_sent }).into_response())
}

impl Api {
    /// Lets nothing be committed of a body that was not signed, and says what names the request: its own key, or, of one
    /// that was signed by version 1, its signature, with which it may come again.
    async fn named(&self, caller: &Caller, key: Option<String>) -> Result<Option<String>, Problem> {
        let presented = caller.presented().await?;
        if presented == Presented::Again && key.is_none() {
            tracing::debug!(key.id = %caller.key, "a signed request came again and gets the answer of the first");
        }
        Ok(key.map(|key| format!("key {key}")).or_else(|| caller.repetition()))
    }

    /// Whether mail about the job to this address has left or will.
    async fn is_written_to(&self, id: JobId, email: String) -> Result<bool, Problem> {
        let ledger = self.ledger.clone();
        let found = blocking(move || ledger.show(id).map_err(|error| unanswered(&error))).await?;
        Ok(found.is_some_and(|(_, deliveries)| {
            deliveries.iter().any(|delivery| delivery.to.eq_ignore_ascii_case(email.trim()) && delivery.state.name() != "bounced")
        }))
    }

    fn may_submit(&self, caller: &Caller) -> Result<(), Problem> {
        caller.require(Scope::Write)?;
        if !caller.account.may(Permission::Upload) {
            return Err(Problem::new(StatusCode::FORBIDDEN, "This account may not upload (its permissions say so)."));
        }
        if *self.closing.borrow() {
            let detail = "This server is stopping and takes nothing new; try again when it is back.";
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(std::time::Duration::from_secs(10)));
        }
        Ok(())
    }
}

fn accepted(api: &Api, job: &Job, patience: Patience) -> Response {
    let mut response = (StatusCode::ACCEPTED, Json(Taken::of(job))).into_response();
    let place = format!("{}/api/v1/jobs/{}", api.base_path, job.id);
    response.headers_mut().insert(header::LOCATION, HeaderValue::try_from(place).expect("a path and a job's id"));
    if patience == Patience::None {
        response.headers_mut().insert("preference-applied", HeaderValue::from_static("respond-async"));
    }
    response
}
