//! `/metrics`: what rooms have counted, and how things stand at this moment, as Prometheus reads it.

use super::snapshot::{Measures, Snapshot};
use crate::meters;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use metrics::{counter, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

const UPKEEP: Duration = Duration::from_secs(10);
/// One for the process, whatever daemons run in it.
static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Begins to count, if nobody did.
pub(super) fn install() {
    RECORDER.get_or_init(|| {
        let full = |name: &str| Matcher::Full(name.to_owned());
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(full(meters::STAGE_SECONDS), &meters::SECONDS)
            .and_then(|builder| builder.set_buckets_for_metric(full(meters::HTTP_SECONDS), &meters::SECONDS))
            .and_then(|builder| builder.set_buckets_for_metric(full(meters::ENGINE_BATCH_LINES), &meters::LINES))
            .expect("there are buckets")
            .build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("another recorder of metrics is installed: /metrics stays empty");
            return None;
        }
        meters::describe();
        Some(handle)
    });
}

/// Samples of histograms are kept one by one until somebody looks: where nobody does, this does, for ever.
pub(super) async fn upkeep() {
    let mut interval = tokio::time::interval(UPKEEP);
    loop {
        interval.tick().await;
        if let Some(Some(handle)) = RECORDER.get() {
            handle.run_upkeep();
        }
    }
}

/// All of it, as of now.
pub(super) fn tell(snapshot: &Snapshot) -> Response {
    if let Some(board) = &snapshot.board {
        let counts = board.counts;
        for (state, jobs) in [
            ("queued", counts.queued),
            ("running", counts.running),
            ("done", counts.done),
            ("rejected", counts.rejected),
            ("dead", counts.dead),
        ] {
            gauge!(meters::JOBS, "state" => state).set(float(jobs));
        }
        gauge!(meters::QUEUE_DEPTH).set(float(counts.queued + counts.running));
        let oldest = board.oldest_queued.map_or(0.0, |at| snapshot.taken_at.since(at).as_secs_f64());
        gauge!(meters::QUEUE_OLDEST).set(oldest);
    }
    for part in &snapshot.parts {
        gauge!(meters::PART_UP, "part" => part.name).set(if part.ok { 1.0 } else { 0.0 });
    }
    let now = snapshot.measures;
    let Measures { ftp_refused, ftp_broken, ftp_logins_failed, ftp_bytes, engines_busy, watcher_age, .. } = now;
    let Measures { disk_free, disk_floor, resident, resident_engines, .. } = now;
    gauge!(meters::FTP_SESSIONS).set(float(snapshot.facts.ftp_sessions as u64));
    gauge!(meters::FTP_SESSIONS_LIMIT).set(float(snapshot.facts.ftp_max_sessions as u64));
    counter!(meters::FTP_REFUSED).absolute(ftp_refused);
    counter!(meters::FTP_BROKEN).absolute(ftp_broken);
    counter!(meters::FTP_LOGINS_FAILED).absolute(ftp_logins_failed);
    counter!(meters::FTP_BYTES).absolute(ftp_bytes);
    gauge!(meters::ENGINES_BUSY).set(float(engines_busy));
    gauge!(meters::WATCHER_AGE).set(watcher_age.as_secs_f64());
    gauge!(meters::DISK_FREE).set(float(disk_free));
    gauge!(meters::DISK_FLOOR).set(float(disk_floor));
    gauge!(meters::RESIDENT, "process" => "daemon").set(float(resident));
    gauge!(meters::RESIDENT, "process" => "engines").set(float(resident_engines));
    let text = RECORDER.get().and_then(Option::as_ref).map(PrometheusHandle::render).unwrap_or_default();
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

#[allow(clippy::cast_precision_loss)] // what has more than 53 bits is known well enough
fn float(number: u64) -> f64 {
    number as f64
}

/// Counts a request by its route (never by its path, which is the client's to make up), method and status.
pub(super) async fn count(request: Request, next: Next) -> Response {
    let began = Instant::now();
    let route = request.extensions().get::<MatchedPath>().map_or("none", |path| known(path.as_str()));
    let method = match *request.method() {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    };
    let response = next.run(request).await;
    let status = response.status().as_u16().to_string();
    counter!(meters::HTTP_REQUESTS, "route" => route, "method" => method, "status" => status).increment(1);
    histogram!(meters::HTTP_SECONDS, "route" => route).record(began.elapsed().as_secs_f64());
    response
}

/// Routes are few and fixed.
fn known(route: &str) -> &'static str {
    const ROUTES: [&str; 19] = [
        "/", "/assets/{name}", "/healthz", "/readyz", "/health", "/metrics", "/api/v1/openapi.json", "/api/v1/ocr",
        "/api/v1/ocr/batch", "/api/v1/jobs", "/api/v1/jobs/{id}", "/api/v1/jobs/{id}/sidecars/{suffix}", "/api/v1/usage",
        "/api/v1/events", "/api/v1/ws", "/d/{token}", "/prediction/ftp_upload_and_predict/",
        "/prediction/ftp_upload_and_predict", "none",
    ];
    ROUTES.iter().find(|known| **known == route).copied().unwrap_or("other")
}
