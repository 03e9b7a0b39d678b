//! Errors as RFC 9457 problems: a title that is always the same, a detail that a person can act on.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::borrow::Cow;
use std::time::Duration;

/// One error answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub status: StatusCode,
    /// What happened here, and what to do.
    pub detail: Cow<'static, str>,
    /// The job that it is about.
    pub job: Option<String>,
    /// Stable and short, for programs: the same as in the `.error.json`.
    pub code: Option<String>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Problem { status, detail: detail.into(), job: None, code: None, headers: Vec::new() }
    }

    /// Something of ours failed; the log says what.
    pub(super) fn internal() -> Self {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "Inkport failed at this request; its log says why.")
    }

    /// There, but not of this caller; or not there: nobody is told which.
    pub(super) fn no_such_job() -> Self {
        Problem::new(StatusCode::NOT_FOUND, "This account has no such job; GET /api/v1/jobs lists those it has.")
    }

    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// When to come again, in whole seconds, at least one.
    pub(super) fn retry_after(self, wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        self.with(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)))
    }

    /// It is about the server or the caller, not about one document.
    pub(super) fn is_for_all(&self) -> bool {
        self.status.is_server_error() || self.status == StatusCode::TOO_MANY_REQUESTS
    }

    pub(super) fn about(self, job: impl ToString, code: Option<&str>) -> Self {
        Problem { job: Some(job.to_string()), code: code.map(str::to_owned), ..self }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = serde_json::json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if let Some(job) = self.job {
            body["job"] = job.into();
        }
        if let Some(code) = self.code {
            body["code"] = code.into();
        }
        let mut response = (self.status, body.to_string()).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        for (name, value) in self.headers {
            response.headers_mut().insert(name, value);
        }
        response
    }
}
