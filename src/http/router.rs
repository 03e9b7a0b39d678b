//! Which path answers what, and what holds for every answer: who asks, security headers, other origins' pages, a time
//! limit, a body limit, and a problem where a handler panics.

use super::api::{self, Api};
use super::auth::Gate;
use super::caller::Callers;
use super::headers::{self, Rules};
use super::problem::Problem;
use super::settings::Settings;
use super::snapshot::Camera;
use super::{Vitals, body, client, health, metrics, status};
use crate::accounts::password::Logins;
use crate::queue::JobLedger;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::sync::Arc;
use std::time::Duration;
use tower_http::catch_panic::CatchPanicLayer;

/// For one answer of a page, a refused login's wait included. The API has its own limits.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// What a form adds to its file, and base64 to what it stands for: a body may be that much longer.
fn largest_body(max_upload: u64) -> u64 {
    max_upload.saturating_mul(4).div_ceil(3).saturating_add(64 << 10)
}

struct Shared<L> {
    camera: Camera<L>,
    gate: Gate,
}

pub(super) fn router<L: JobLedger>(
    settings: &Settings,
    ledger: L,
    logins: Logins,
    vitals: Arc<dyn Vitals>,
    api: Option<Arc<Api>>,
    callers: Arc<Callers>,
) -> Router {
    metrics::install();
    let max_body = largest_body(settings.max_upload.0);
    let shared = Arc::new(Shared { camera: Camera::new(ledger, vitals), gate: Gate::new(settings.status, logins) });
    let pages = Router::new()
        .route("/", get(page::<L>))
        .route("/assets/{name}", get(status::asset))
        .route("/healthz", get(async || health::alive()))
        .route("/readyz", get(ready::<L>))
        .route("/health", get(healthy::<L>))
        .route("/metrics", get(measured::<L>))
        .route("/api/v1/openapi.json", get(openapi))
        .with_state(shared)
        .layer(middleware::from_fn(within));
    let routes = pages.merge(api::routes(api, callers));
    let trusted: Arc<[client::Network]> = settings.trusted_proxies.clone().into();
    let rules = Arc::new(Rules::of(settings));
    routes
        .fallback(async || {
            let detail = "There is nothing under this path; the status page is at /, what the API takes at /api/v1/openapi.json.";
            Problem::new(StatusCode::NOT_FOUND, detail)
        })
        .method_not_allowed_fallback(async || {
            let detail = "This path does not take this method; Allow says which it takes.";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
        })
        .layer(DefaultBodyLimit::max(usize::try_from(max_body).unwrap_or(usize::MAX)))
        .layer(middleware::from_fn_with_state(settings.max_upload.0, bounded))
        .layer(middleware::from_fn(body::watch))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(rules, headers::apply))
        .layer(middleware::from_fn_with_state(trusted, client::identify))
        .layer(middleware::from_fn(metrics::count))
}

async fn page<L: JobLedger>(State(shared): State<Arc<Shared<L>>>, headers: HeaderMap) -> Response {
    if let Err(refusal) = shared.gate.admit(&headers).await {
        return refusal;
    }
    match shared.camera.look().await {
        Some(snapshot) => status::page(&snapshot),
        None => Problem::internal().into_response(),
    }
}

async fn ready<L: JobLedger>(State(shared): State<Arc<Shared<L>>>) -> Response {
    match shared.camera.look().await {
        Some(snapshot) => health::ready(&snapshot),
        None => Problem::internal().into_response(),
    }
}

async fn healthy<L: JobLedger>(State(shared): State<Arc<Shared<L>>>) -> Response {
    match shared.camera.look().await {
        Some(snapshot) => health::health(&snapshot),
        None => Problem::internal().into_response(),
    }
}

async fn measured<L: JobLedger>(State(shared): State<Arc<Shared<L>>>) -> Response {
    match shared.camera.look().await {
        Some(snapshot) => metrics::tell(&snapshot),
        None => Problem::internal().into_response(),
    }
}

async fn openapi() -> Response {
    let kind = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"))], api::document())
        .into_response()
}

/// Refuses a body that says it is too large.
async fn bounded(State(max_upload): State<u64>, request: Request, next: Next) -> Response {
    let is_api = ["/api/", "/prediction/"].iter().any(|prefix| request.uri().path().starts_with(prefix));
    let max_body = if is_api { largest_body(max_upload) } else { max_upload };
    let declared = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|bytes| bytes > max_body) {
        let detail = "The body is larger than http.max-upload allows.";
        return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail).into_response();
    }
    next.run(request).await
}

/// Refuses an answer that takes too long.
async fn within(request: Request, next: Next) -> Response {
    match tokio::time::timeout(ANSWER_WITHIN, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let detail = "Inkport did not come to an answer in time; try again in a moment.";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(Duration::from_secs(5)).into_response()
        }
    }
}

fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    tracing::error!("an HTTP request ended in a panic");
    Problem::internal().into_response()
}
