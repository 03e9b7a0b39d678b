//! `/api/v1/events` (SSE) and `/api/v1/ws`: an account's own jobs' changes as they happen, each with a signed link to
//! the job's main sidecar. Who comes back with `Last-Event-ID` is told what it missed first. Bounded: streams of a
//! key, bytes of what a client may say, and the life of a stream, after which its client comes again and its key is
//! looked at anew; that is also done while it lives.

use super::hub::Follower;
use super::shapes::EventShape;
use super::submit::unanswered;
use super::{Api, Caller, Refusals};
use crate::http::problem::Problem;
use crate::job::Job;
use crate::keys::Scope;
use crate::meters;
use crate::queue::JobEvent;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Deserialize;
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use utoipa::IntoParams;

/// So that proxies keep the connection, and dead ones are noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A client that takes nothing for so long is gone.
const SEND_WITHIN: Duration = Duration::from_secs(30);
/// Of one stream; its client goes on with `Last-Event-ID`.
const LIFE: Duration = Duration::from_secs(3600);
/// How long a stream may outlive its key.
const CHECK_KEY: Duration = Duration::from_secs(15);
/// Of what a client says on a WebSocket; nothing is expected.
const LONGEST_MESSAGE: usize = 4 << 10;

/// How many streams each key has.
#[derive(Debug, Clone, Default)]
pub(super) struct Streams(Arc<Mutex<HashMap<String, usize>>>);

struct Seat {
    streams: Streams,
    key: String,
}

impl Streams {
    fn sit(&self, key: &str, most: usize) -> Option<Seat> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(key.to_owned()).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        metrics::gauge!(meters::HTTP_STREAMS).increment(1.0);
        Some(Seat { streams: self.clone(), key: key.to_owned() })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.streams.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.key);
            }
        }
        metrics::gauge!(meters::HTTP_STREAMS).decrement(1.0);
    }
}

/// From where on.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsQuery {
    /// As the header `Last-Event-ID`, for clients that cannot set it.
    #[param(max_length = 20, pattern = "^[0-9]*$")]
    last_event_id: Option<String>,
}

/// The jobs' changes as server-sent events: `id` is what to give as `Last-Event-ID`, `data` an event in JSON. An event
/// `missed` says that more happened than is kept: list the jobs.
#[utoipa::path(
    get, path = "/api/v1/events", tag = "events",
    params(
        EventsQuery,
        ("Last-Event-ID" = Option<String>, Header, description = "The last event that is known."),
    ),
    responses(
        (status = 200, description = "Events, for as long as they are listened to (an hour at most).", body = EventShape, content_type = "text/event-stream"),
        Refusals,
    ),
    security(("bearer" = []), ("key" = []), ("hmac" = []))
)]
pub(super) async fn events(
    State(api): State<Arc<Api>>,
    caller: Caller,
    query: Result<Query<EventsQuery>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let stream = Stream::open(&api, caller, query.ok(), &headers).await?;
    let events = stream::unfold(stream, |mut stream| async move {
        let event = match stream.next().await? {
            News::Missed => Event::default().event("missed").data("{}"),
            News::Job(shape) => {
                let data = serde_json::to_string(&shape).unwrap_or_default();
                Event::default().id(shape.event.to_string()).event("job").data(data)
            }
        };
        Some((Ok::<_, Infallible>(event), stream))
    });
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    // Proxies must not gather events.
    response.headers_mut().insert("x-accel-buffering", axum::http::HeaderValue::from_static("no"));
    Ok(response)
}

/// The jobs' changes as messages of a WebSocket, each an event in JSON.
#[utoipa::path(
    get, path = "/api/v1/ws", tag = "events",
    params(
        EventsQuery,
        ("Last-Event-ID" = Option<String>, Header, description = "The last event that is known."),
    ),
    responses(
        (status = 101, description = "Messages, for as long as they are listened to (an hour at most)."),
        (status = 426, description = "This is no request for a WebSocket.", body = super::shapes::ProblemShape, content_type = "application/problem+json"),
        Refusals,
    ),
    security(("bearer" = []), ("key" = []), ("hmac" = []))
)]
pub(super) async fn socket(
    State(api): State<Arc<Api>>,
    caller: Caller,
    query: Result<Query<EventsQuery>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    caller.require(Scope::Read)?;
    let upgrade = upgrade.map_err(|refused| {
        let detail = format!("This path speaks WebSocket: {}. For plain HTTP there is /api/v1/events.", refused.body_text());
        Problem::new(StatusCode::UPGRADE_REQUIRED, detail)
            .with(axum::http::header::UPGRADE, axum::http::HeaderValue::from_static("websocket"))
    })?;
    let stream = Stream::open(&api, caller, query.ok(), &headers).await?;
    let upgrade = upgrade.max_message_size(LONGEST_MESSAGE).max_frame_size(LONGEST_MESSAGE);
    Ok(upgrade.on_upgrade(|socket| talk(socket, stream)))
}

async fn talk(mut socket: WebSocket, mut stream: Stream) {
    let mut ping = tokio::time::interval(KEEP_ALIVE);
    let mut heard = Instant::now();
    loop {
        let message = tokio::select! {
            news = stream.next() => match news {
                Some(News::Missed) => Message::text("{\"missed\":true}"),
                Some(News::Job(shape)) => Message::text(serde_json::to_string(&shape).unwrap_or_default()),
                None => break,
            },
            said = socket.recv() => match said {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {
                    heard = Instant::now();
                    continue;
                }
            },
            _ = ping.tick() => {
                if heard.elapsed() > KEEP_ALIVE * 3 {
                    return;
                }
                Message::Ping(axum::body::Bytes::new())
            }
        };
        match tokio::time::timeout(SEND_WITHIN, socket.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
    let _ = tokio::time::timeout(SEND_WITHIN, socket.send(Message::Close(None))).await;
}

enum News {
    /// More happened than is kept.
    Missed,
    Job(EventShape),
}

/// One client's stream of its account's events.
struct Stream {
    api: Arc<Api>,
    caller: Caller,
    follower: Follower,
    ends: Instant,
    check: tokio::time::Interval,
    _seat: Seat,
}

impl Stream {
    async fn open(
        api: &Arc<Api>,
        caller: Caller,
        query: Option<Query<EventsQuery>>,
        headers: &HeaderMap,
    ) -> Result<Self, Problem> {
        caller.require(Scope::Read)?;
        let Some(Query(query)) = query else {
            return Err(Problem::new(StatusCode::BAD_REQUEST, "The query is not what this route takes."));
        };
        let said = headers.get("last-event-id").map(|value| value.to_str().unwrap_or("?").to_owned()).or(query.last_event_id);
        let since = said.filter(|text| !text.is_empty()).map(|text| {
            let bad = || Problem::new(StatusCode::BAD_REQUEST, "Last-Event-ID must be the id of an event that was sent.");
            text.parse::<u64>().map_err(|_| bad())
        });
        let since = since.transpose()?;
        let most = api.settings.max_streams;
        let seat = api.streams.sit(caller.key.as_str(), most).ok_or_else(|| {
            let detail = format!("This key has {most} streams open already (http.max-streams): close one first.");
            Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(Duration::from_secs(30))
        })?;
        let followed = api.hub.follow(&api.ledger, &caller.account.name, since).await;
        let follower = followed.map_err(|error| unanswered(&error))?;
        let (ends, mut check) = (Instant::now() + LIFE, tokio::time::interval(CHECK_KEY));
        check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        check.reset();
        Ok(Stream { api: Arc::clone(api), caller, follower, ends, check, _seat: seat })
    }

    async fn next(&mut self) -> Option<News> {
        if self.follower.has_missed() {
            return Some(News::Missed);
        }
        loop {
            let event = tokio::select! {
                event = self.follower.next() => event?,
                () = tokio::time::sleep_until(self.ends) => return None,
                _ = self.check.tick() => {
                    if self.api.callers.still_good(&self.caller).await {
                        continue;
                    }
                    return None;
                }
            };
            match self.api.job(event.job).await {
                Ok(Some(job)) => match self.api.shaped(&event, &job).await {
                    Ok(shape) => return Some(News::Job(shape)),
                    Err(_) => return None,
                },
                // Its row went with its retention.
                Ok(None) => {}
                // The client comes again, from where it stands.
                Err(_) => return None,
            }
        }
    }
}

impl Api {
    async fn shaped(&self, event: &JobEvent, job: &Job) -> Result<EventShape, Problem> {
        let main = if matches!(event.state.as_str(), "rejected" | "dead") { "error.json" } else { "json" };
        let link = self.links_to(job.id, &[main]).await?.pop().unwrap_or_default();
        Ok(EventShape {
            event: event.number,
            job: event.job.to_string(),
            path: job.path.to_string(),
            state: event.state.clone(),
            at: event.at.to_string(),
            link,
        })
    }
}
