//! `/d/{token}`: a sidecar by signed link. Its answer says why a link is not good; whoever holds none learns nothing
//! of which jobs there are.

use super::input::blocking;
use super::submit::{now, unanswered};
use super::{Api, Busy};
use crate::http::problem::Problem;
use crate::links::Refused;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use std::sync::Arc;

/// A sidecar, for whoever holds a signed link to it.
#[utoipa::path(
    get, path = "/d/{token}", tag = "links",
    params(
        ("token" = String, Path, description = "As the link has it.", max_length = 256),
        ("If-None-Match" = Option<String>, Header, description = "The ETag that is known."),
        ("Range" = Option<String>, Header, description = "One range of bytes: `bytes=0-99`."),
    ),
    responses(
        (status = 200, description = "All of it.", content(("application/json"), ("text/plain"), ("text/csv"), ("text/markdown"), ("application/xml"), ("application/xhtml+xml"), ("application/pdf"), ("application/octet-stream")), headers(("ETag" = String))),
        (status = 206, description = "The range.", content(("application/json"), ("text/plain"), ("text/csv"), ("text/markdown"), ("application/xml"), ("application/xhtml+xml"), ("application/pdf"), ("application/octet-stream")), headers(("ETag" = String), ("Content-Range" = String))),
        (status = 304, description = "As it is known."),
        (status = 403, description = "The link has expired, was revoked, or is wrong: `code` and `detail` say which.", body = super::shapes::ProblemShape, content_type = "application/problem+json"),
        (status = 404, description = "The link is good; the sidecar is not there (yet).", body = super::shapes::ProblemShape, content_type = "application/problem+json"),
        (status = 410, description = "It was removed or replaced.", body = super::shapes::ProblemShape, content_type = "application/problem+json"),
        (status = 416, description = "The range lies behind its end.", body = super::shapes::ProblemShape, content_type = "application/problem+json"),
        Busy,
    ),
    security(())
)]
pub(super) async fn fetch(
    State(api): State<Arc<Api>>,
    Path(token): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let links = api.links.clone();
    let checked = blocking(move || links.check(&token, now()).map_err(|error| unanswered(&error))).await?;
    let grant = checked.map_err(|refused| {
        let (code, detail) = match refused {
            Refused::Expired => ("expired", "This link has expired: ask whoever sent it for a new one."),
            Refused::Revoked => ("revoked", "This link was revoked: ask whoever sent it for a new one."),
            Refused::Wrong => {
                ("wrong", "This link is wrong: it was cut short or changed on its way, or it is none of this server's.")
            }
        };
        let mut problem = Problem::new(StatusCode::FORBIDDEN, detail);
        problem.code = Some(code.to_owned());
        problem
    })?;
    let job = api
        .job(grant.job)
        .await?
        .ok_or_else(|| Problem::new(StatusCode::GONE, "What this link led to is not kept any more.").about(grant.job, None))?;
    let mut response = api.serve(job, grant.suffix, &headers).await?;
    // The address is the key: it must not be found again in a cache, nor read by robots.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    response.headers_mut().insert("x-robots-tag", HeaderValue::from_static("noindex"));
    Ok(response)
}
