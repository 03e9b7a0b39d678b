//! Health checks for machines: no credentials, no names, no paths.

use super::snapshot::{Part, Snapshot};
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

const SERVICE: &str = "inkport";
const VERSION: &str = env!("CARGO_PKG_VERSION");

#[derive(Serialize, ToSchema)]
pub(super) struct Alive {
    /// `alive`
    status: &'static str,
    service: &'static str,
    version: &'static str,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Ready {
    /// `ready` or `not-ready`
    status: &'static str,
    /// Names of the parts that are not well.
    failing: Vec<&'static str>,
    parts: Vec<Part>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Healthy {
    /// `healthy` or `degraded`
    status: &'static str,
    service: &'static str,
    version: &'static str,
    ocr_backend: String,
}

/// `/healthz`: the process answers, so it lives. Nothing else is asked: whoever restarts a process
/// that is alive because its disk is full makes nothing better.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, description = "It lives.", body = Alive)), security(()))]
pub(super) fn alive() -> Response {
    Json(Alive { status: "alive", service: SERVICE, version: VERSION }).into_response()
}

/// `/readyz`: every part by name.
#[utoipa::path(
    get, path = "/readyz", tag = "health", security(()),
    responses((status = 200, description = "All parts are well.", body = Ready), (status = 503, description = "Some are not.", body = Ready)),
)]
pub(super) fn ready(snapshot: &Snapshot) -> Response {
    let failing: Vec<&str> = snapshot.parts.iter().filter(|part| !part.ok).map(|part| part.name).collect();
    let (code, status) =
        if snapshot.ready() { (StatusCode::OK, "ready") } else { (StatusCode::SERVICE_UNAVAILABLE, "not-ready") };
    (code, Json(Ready { status, failing, parts: snapshot.parts.clone() })).into_response()
}

/// `/health`: whether documents can be taken and read.
#[utoipa::path(
    get, path = "/health", tag = "health", security(()),
    responses((status = 200, description = "They can.", body = Healthy), (status = 503, description = "They cannot.", body = Healthy)),
)]
pub(super) fn health(snapshot: &Snapshot) -> Response {
    let good = snapshot.has("engine") && snapshot.has("database");
    let (code, status) = if good { (StatusCode::OK, "healthy") } else { (StatusCode::SERVICE_UNAVAILABLE, "degraded") };
    let body = Healthy { status, service: SERVICE, version: VERSION, ocr_backend: snapshot.facts.engine.clone() };
    (code, Json(body)).into_response()
}
