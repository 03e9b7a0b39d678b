//! The status page: what came in, where it stands, what went wrong. Rendered whole on the server, so
//! it works without JavaScript (it reloads itself then); with it, a small script swaps the main element.

use super::problem::Problem;
use super::snapshot::{Board, Part, RECENT, Snapshot};
use crate::job::Job;
use crate::queue::DeliveryRecord;
use crate::units::Timestamp;
use askama::Template;
use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use std::time::Duration;

/// Characters of what went wrong.
const EXCERPT: usize = 200;

const CSS: &str = include_str!("../../templates/status.css");
const SCRIPT: &str = include_str!("../../templates/status.js");
const ICON: &str = include_str!("../../templates/icon.svg");

#[derive(Template)]
#[template(path = "status.html")]
struct Page<'a> {
    version: &'static str,
    ready: bool,
    parts: &'a [Part],
    tiles: Vec<Tile>,
    rows: Vec<Row<'a>>,
    full: bool,
    troubled: Vec<Trouble<'a>>,
    engine: &'a str,
    models: String,
    ftp_address: &'a str,
    ftp_sessions: usize,
    ftp_max_sessions: usize,
    oldest: Option<String>,
    database: bool,
    taken_at: String,
}

/// How many jobs are in a state.
struct Tile {
    state: &'static str,
    count: u64,
    meaning: &'static str,
}

/// One job.
struct Row<'a> {
    id: String,
    account: &'a str,
    path: &'a str,
    state: &'static str,
    attempt: u32,
    size: String,
    received: String,
    received_ago: String,
    took: String,
    wrong: String,
}

/// One delivery that was not taken.
struct Trouble<'a> {
    to: String,
    state: &'static str,
    attempts: u32,
    path: &'a str,
    job: String,
    wrong: String,
}

pub(super) fn page(snapshot: &Snapshot) -> Response {
    match render(snapshot) {
        Ok(html) => Html(html).into_response(),
        Err(error) => {
            tracing::error!(error = %error, "the status page cannot be rendered");
            Problem::internal().into_response()
        }
    }
}

fn render(snapshot: &Snapshot) -> askama::Result<String> {
    let now = snapshot.taken_at;
    let empty = Board::default();
    let board = snapshot.board.as_ref().unwrap_or(&empty);
    let facts = &snapshot.facts;
    Page {
        version: env!("CARGO_PKG_VERSION"),
        ready: snapshot.ready(),
        parts: &snapshot.parts,
        tiles: tiles(board),
        rows: board.recent.iter().map(|(job, _)| row(job, now)).collect(),
        full: board.recent.len() >= RECENT,
        troubled: board.troubled.iter().map(|(job, delivery)| trouble(job, delivery)).collect(),
        engine: &facts.engine,
        models: facts.models.join(", "),
        ftp_address: &facts.ftp_address,
        ftp_sessions: facts.ftp_sessions,
        ftp_max_sessions: facts.ftp_max_sessions,
        oldest: board.oldest_queued.map(|at| lasted(now.since(at))),
        database: snapshot.board.is_some(),
        taken_at: clock(now),
    }
    .render()
}

fn tiles(board: &Board) -> Vec<Tile> {
    let counts = board.counts;
    [
        ("queued", counts.queued, "wait to be read"),
        ("running", counts.running, "are being read"),
        ("done", counts.done, "have their sidecars"),
        ("rejected", counts.rejected, "can never be read"),
        ("dead", counts.dead, "wait for an operator"),
    ]
    .into_iter()
    .map(|(state, count, meaning)| Tile { state, count, meaning })
    .collect()
}

fn row(job: &Job, now: Timestamp) -> Row<'_> {
    Row {
        id: job.id.to_string(),
        account: job.account.as_str(),
        path: job.path.as_str(),
        state: job.state.name(),
        attempt: job.attempt,
        size: size(job.bytes),
        received: job.received_at.to_string(),
        received_ago: ago(job.received_at, now),
        took: job.finished_at.map(|at| lasted(at.since(job.received_at))).unwrap_or_default(),
        wrong: job.error.as_deref().map(excerpt).unwrap_or_default(),
    }
}

fn trouble<'a>(job: &'a Job, delivery: &DeliveryRecord) -> Trouble<'a> {
    Trouble {
        to: masked(&delivery.to),
        state: delivery.state.name(),
        attempts: delivery.attempts,
        path: job.path.as_str(),
        job: job.id.to_string(),
        wrong: delivery.error.as_deref().map(excerpt).unwrap_or_default(),
    }
}

/// The beginning, on one line.
fn excerpt(text: &str) -> String {
    let mut start: String = text.chars().take(EXCERPT).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(EXCERPT).is_some() {
        start.push('…');
    }
    start
}

/// An address that its owner recognises and nobody else can write to: the page may be public.
fn masked(address: &str) -> String {
    let (user, domain) = address.rsplit_once('@').unwrap_or((address, ""));
    let first: String = user.chars().take(1).collect();
    format!("{first}…@{domain}")
}

/// Bytes, to three digits.
#[allow(clippy::cast_precision_loss)] // shown to a decimal place
fn size(bytes: u64) -> String {
    let units = ["kB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if value < 9.95 { format!("{value:.1} {}", units[unit]) } else { format!("{value:.0} {}", units[unit]) }
}

/// A duration to about two digits.
fn lasted(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{} ms", time.as_millis()),
        1..10 => format!("{:.1} s", time.as_secs_f64()),
        seconds @ 10..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

fn ago(then: Timestamp, now: Timestamp) -> String {
    let age = now.since(then);
    match age.as_secs() {
        0..5 => "just now".to_owned(),
        5..86_400 => format!("{} ago", lasted(age).replace(".0 s", " s")),
        _ => then.to_string()[..10].to_owned(),
    }
}

/// The time of day in UTC.
fn clock(at: Timestamp) -> String {
    at.to_string().get(11..19).unwrap_or_default().to_owned()
}

/// The page's stylesheet, script and icon.
pub(super) async fn asset(Path(name): Path<String>) -> Response {
    let (kind, text) = match name.as_str() {
        "status.css" => ("text/css; charset=utf-8", CSS),
        "status.js" => ("text/javascript; charset=utf-8", SCRIPT),
        "icon.svg" => ("image/svg+xml", ICON),
        _ => return Problem::new(StatusCode::NOT_FOUND, "There is no such asset.").into_response(),
    };
    // The page asks for them with its version, so a newer daemon is not seen with older looks.
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "public, max-age=86400")], text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let sizes: Vec<String> = [0, 999, 1000, 9_949, 12_345, 999_499, 999_500, 4_200_000_000].map(size).into();
        assert_eq!(sizes, ["0 B", "999 B", "1.0 kB", "9.9 kB", "12 kB", "999 kB", "1.0 MB", "4.2 GB"]);
        let times: Vec<String> =
            [40, 1500, 59_000, 3_600_000, 90_000_000, 900_000_000].map(|ms| lasted(Duration::from_millis(ms))).into();
        assert_eq!(times, ["40 ms", "1.5 s", "59 s", "60 min", "25 h", "10 days"]);
    }

    #[test]
    fn ages_are_told_from_now_and_old_ones_by_date() {
        let now = Timestamp(1_783_641_600_000);
        let told = |seconds: i64| ago(Timestamp(now.0 - seconds * 1000), now);
        assert_eq!([told(0), told(7), told(300), told(200_000)], ["just now", "7 s ago", "5 min ago", "2026-07-07"]);
        assert_eq!(told(-60), "just now", "a clock that was set back");
    }

    #[test]
    fn addresses_are_masked_and_excerpts_bounded() {
        assert_eq!(masked("anna@example.com"), "a…@example.com");
        assert_eq!(masked("@"), "…@");
        assert_eq!(excerpt(&"é\n".repeat(400)).chars().count(), EXCERPT + 1);
    }
}
