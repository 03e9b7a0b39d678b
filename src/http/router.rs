//! Which path answers what, and what holds for every answer: security headers, a time limit, a body
//! limit, and a problem where a handler panics.

use super::auth::Gate;
use super::caller::{self, Callers};
use super::problem::Problem;
use super::settings::Settings;
use super::snapshot::Camera;
use super::{Deps, health, status, usage};
use crate::queue::JobLedger;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::sync::Arc;
use std::time::Duration;
use tower_http::catch_panic::CatchPanicLayer;

/// For one answer, a refused login's wait included.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// For every answer. Nothing is loaded from elsewhere, nothing inline runs, nobody frames it.
const HEADERS: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

struct Shared<L> {
    camera: Camera<L>,
    gate: Gate,
}

pub(super) fn router<L: JobLedger>(settings: &Settings, deps: Deps<L>) -> Router {
    let max_body = settings.max_upload.0;
    let callers = Arc::new(Callers::new(deps.keys, deps.accounts, settings.tiers));
    let shared =
        Arc::new(Shared { camera: Camera::new(deps.ledger, deps.vitals), gate: Gate::new(settings.status, deps.logins) });
    // Everything here wants a key.
    let keyed = Router::new()
        .route("/api/v1/usage", get(usage::usage))
        .route_layer(middleware::from_fn_with_state(callers, caller::gate));
    Router::new()
        .merge(keyed)
        .route("/", get(page::<L>))
        .route("/assets/{name}", get(status::asset))
        .route("/healthz", get(async || health::alive()))
        .route("/readyz", get(ready::<L>))
        .route("/health", get(healthy::<L>))
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "There is nothing under this path; the status page is at /."))
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "This path is for reading: use GET or HEAD.")
        })
        .with_state(shared)
        .layer(DefaultBodyLimit::max(usize::try_from(max_body).unwrap_or(usize::MAX)))
        .layer(middleware::from_fn_with_state(max_body, bounded))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn(headers))
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

/// Refuses a body that says it is too large, and an answer that takes too long.
async fn bounded(State(max_body): State<u64>, request: Request, next: Next) -> Response {
    let declared = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|bytes| bytes > max_body) {
        let detail = format!("The body is larger than the {max_body} bytes allowed by http.max-upload.");
        return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail).into_response();
    }
    match tokio::time::timeout(ANSWER_WITHIN, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let detail = "Inkport did not come to an answer in time; try again in a moment.";
            let mut response = Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response();
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
            response
        }
    }
}

async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    // What is shown is of this moment; assets say otherwise themselves.
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    tracing::error!("an HTTP request ended in a panic");
    Problem::internal().into_response()
}
