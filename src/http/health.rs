//! Health checks for machines: no credentials, no names, no paths.

use super::snapshot::Snapshot;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

const SERVICE: &str = "inkport";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// `/healthz`: the process answers, so it lives. Nothing else is asked: whoever restarts a process
/// that is alive because its disk is full makes nothing better.
pub(super) fn alive() -> Response {
    Json(json!({ "status": "alive", "service": SERVICE, "version": VERSION })).into_response()
}

/// `/readyz`: every part by name.
pub(super) fn ready(snapshot: &Snapshot) -> Response {
    let failing: Vec<&str> = snapshot.parts.iter().filter(|part| !part.ok).map(|part| part.name).collect();
    let (code, status) =
        if snapshot.ready() { (StatusCode::OK, "ready") } else { (StatusCode::SERVICE_UNAVAILABLE, "not-ready") };
    (code, Json(json!({ "status": status, "failing": failing, "parts": snapshot.parts }))).into_response()
}

/// `/health`: whether documents can be taken and read.
pub(super) fn health(snapshot: &Snapshot) -> Response {
    let good = snapshot.has("engine") && snapshot.has("database");
    let (code, status) = if good { (StatusCode::OK, "healthy") } else { (StatusCode::SERVICE_UNAVAILABLE, "degraded") };
    let body = json!({ "status": status, "service": SERVICE, "version": VERSION, "ocr_backend": snapshot.facts.engine });
    (code, Json(body)).into_response()
}
