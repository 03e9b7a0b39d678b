//! The API under `/api/v1`, signed links, and the route of another server's clients: thin, over the same intake, spool
//! and queue as every door. Owns what a request is and what an answer is; who may ask is [`super::caller`]'s, what is
//! accepted `intake`'s, what a job is the queue's.
//!
//! The OpenAPI document is made from the handlers and the shapes ([`document`]); `schema/openapi.json` is a copy that a
//! test holds equal.

use super::caller::{self, Caller, Callers};
use super::problem::Problem;
use super::settings::Settings;
use crate::homes::Homes;
use crate::intake::Intake;
use crate::job::{Door, JobId};
use crate::keys::Scope;
use crate::links::Links;
use crate::queue::sqlite::{SqliteLedger, SqliteQueue};
use axum::Json;
use axum::Router;
use axum::middleware;
use axum::routing::{get, post};
use events::Streams;
use fetch::Fetcher;
use hub::Hub;
use shapes::{FullUsage, ProblemShape, UsageAnswer};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, Header, Ref, RefOr, Response, ResponseBuilder, ResponsesBuilder};
use utoipa::{IntoResponses, Modify, OpenApi, PartialSchema, ToSchema};

mod events;
mod fetch;
mod hub;
mod input;
mod jobs;
mod link;
mod ocr;
mod shapes;
mod submit;

/// Events that are read from the database at once.
const EVENTS_AT_ONCE: usize = 256;

/// What the API works with.
pub struct ApiDeps {
    pub queue: SqliteQueue,
    pub ledger: SqliteLedger,
    pub intake: Intake,
    pub homes: Homes,
    pub links: Links,
    /// True from when nothing new is taken.
    pub closing: watch::Receiver<bool>,
}

/// What handlers share.
pub(super) struct Api {
    callers: Arc<Callers>,
    pub(super) queue: SqliteQueue,
    ledger: SqliteLedger,
    intake: Intake,
    homes: Homes,
    links: Links,
    hub: Hub,
    streams: Streams,
    /// In KiB: what JSON bodies may take.
    memory: Arc<Semaphore>,
    fetcher: Option<Fetcher>,
    settings: ApiSettings,
    public_url: String,
    /// Under which a proxy shows us; mostly empty.
    base_path: String,
    closing: watch::Receiver<bool>,
}

/// As much of `[http]` as is needed here.
#[derive(Debug, Clone, Copy)]
struct ApiSettings {
    max_upload: u64,
    answer_within: Duration,
    link_lifetime: Duration,
    max_streams: usize,
}

impl Api {
    pub(super) fn new(settings: &Settings, deps: ApiDeps, callers: Arc<Callers>) -> Self {
        Api {
            callers,
            queue: deps.queue,
            ledger: deps.ledger,
            intake: deps.intake,
            homes: deps.homes,
            links: deps.links,
            hub: Hub::new(),
            streams: Streams::default(),
            memory: Arc::new(Semaphore::new(input::MEMORY_KIB)),
            fetcher: settings.fetch_urls.then(Fetcher::new),
            settings: ApiSettings {
                max_upload: settings.max_upload.0,
                answer_within: settings.answer_within.0,
                link_lifetime: settings.link_lifetime.0,
                max_streams: settings.max_streams,
            },
            public_url: settings.public_url.to_string(),
            base_path: settings.public_url.base_path(),
            closing: deps.closing,
        }
    }

    /// Passes changes of jobs on until `stop`, and settles what they cost.
    pub(super) async fn run(self: Arc<Self>, stop: impl Future<Output = ()> + Send) {
        let api = &*self;
        api.hub.run(&api.queue, &api.ledger, stop, |job| api.settle_pages(job)).await;
    }

    /// What a document cost that turned out to have more pages than one.
    async fn settle_pages(&self, id: JobId) {
        let Ok(Some(job)) = self.job(id).await else { return };
        if job.door != Door::Http {
            return;
        }
        // Not to be had any more: what was charged when it came stays.
        let Ok(text) = self.text(&job).await else { return };
        if let Err(error) = self.callers.quota().settle(id, text.pages.max(1)).await {
            tracing::warn!(job.id = %id, %error, "what a document's pages cost cannot be written down");
        }
    }
}

/// The routes.
pub(super) fn routes(api: Option<Arc<Api>>, callers: Arc<Callers>) -> Router {
    let gate = middleware::from_fn_with_state(callers, caller::gate);
    let always = Router::new().route("/api/v1/usage", get(usage)).route_layer(gate.clone());
    let Some(api) = api else { return always };
    let keyed = Router::new()
        .route("/api/v1/ocr", post(ocr::ocr))
        .route("/api/v1/ocr/batch", post(ocr::batch))
        .route("/prediction/ftp_upload_and_predict/", post(ocr::prediction))
        .route("/prediction/ftp_upload_and_predict", post(ocr::prediction))
        .route("/api/v1/jobs", get(jobs::list))
        .route("/api/v1/jobs/{id}", get(jobs::show))
        .route("/api/v1/jobs/{id}/sidecars/{suffix}", get(jobs::sidecar))
        .route("/api/v1/events", get(events::events))
        .route("/api/v1/ws", get(events::socket))
        .route_layer(gate);
    // A link is its own credential.
    always.merge(keyed.route("/d/{token}", get(link::fetch)).with_state(api))
}

/// What the account has used of its day.
#[utoipa::path(
    get, path = "/api/v1/usage", tag = "usage",
    responses((status = 200, description = "Pages read today (UTC), and how many may be.", body = UsageAnswer), Refusals),
    security(("bearer" = []), ("key" = []), ("hmac" = []))
)]
async fn usage(caller: Caller) -> Result<Json<UsageAnswer>, Problem> {
    caller.require(Scope::Read)?;
    let (used, limit) = (caller.used(submit::now()).await?, caller.tier.pages_per_day);
    let usage = FullUsage {
        user: caller.account.name.to_string(),
        tier: caller.tier.name.to_owned(),
        requests_used: used.pages,
        daily_limit: limit,
        requests_remaining: limit.map(|limit| limit.saturating_sub(used.pages)),
        resets_at: used.resets_at.to_string(),
    };
    Ok(Json(UsageAnswer { success: true, usage }))
}

/// The OpenAPI 3.1 document, pretty-printed JSON with a final newline: what is served and what is checked in.
#[must_use]
pub fn document() -> String {
    let mut json = serde_json::to_value(Document::openapi()).expect("a document is JSON");
    // One answer for whatever is not said.
    json["info"]["license"] = serde_json::json!({ "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" });
    format!("{json:#}\n")
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Inkport", description = "Documents in, text out. Errors are problems (RFC 9457) whose `detail` says what to do."),
    paths(
        ocr::ocr, ocr::batch, ocr::prediction, jobs::list, jobs::show, jobs::sidecar, usage, events::events, events::socket,
        link::fetch,
        super::health::alive, super::health::ready, super::health::health,
    ),
    components(schemas(ProblemShape)),
    modifiers(&Credentials),
)]
struct Document;

struct Credentials;

impl Modify for Credentials {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let components = openapi.components.get_or_insert_with(Default::default);
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("A key of kind bearer (`inkport key add ACCOUNT --kind bearer`)."))
            .build();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        let named = |name: &str, text: &str| SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(name, text)));
        components.add_security_scheme("key", named("X-API-Key", "The same key, as a header of its own."));
        let signed =
            "A key of kind hmac: X-API-KEY is its id, with X-TIMESTAMP, X-SIGNATURE and, for v2, X-NONCE and X-CONTENT-SHA256.";
        components.add_security_scheme("hmac", named("X-SIGNATURE", signed));
    }
}

fn problem(description: &str, headers: &[&str]) -> RefOr<Response> {
    let content = Content::new(Some(RefOr::Ref(Ref::from_schema_name(ProblemShape::name()))));
    let mut response = ResponseBuilder::new().description(description).content("application/problem+json", content);
    for name in headers {
        response = response.header(*name, Header::new(String::schema()));
    }
    RefOr::T(response.build())
}

/// What every route may answer.
struct Busy;

impl IntoResponses for Busy {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let builder = ResponsesBuilder::new()
            .response("429", problem("Too many requests.", &["Retry-After"]))
            .response("500", problem("Inkport failed; its log says why.", &[]))
            .response(
                "503",
                problem("Not now: something of Inkport's does not answer, or it has too much to do.", &["Retry-After"]),
            );
        builder.build().responses.into_iter().collect()
    }
}

/// What every route that needs a key may answer.
struct Refusals;

impl IntoResponses for Refusals {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut all = Busy::responses();
        let more = ResponsesBuilder::new()
            .response("400", problem("The request makes no sense.", &[]))
            .response("401", problem("No credentials.", &["WWW-Authenticate"]))
            .response("403", problem("The credentials are wrong, or the key may not do this.", &[]))
            .response("408", problem("The body stopped coming.", &[]));
        all.extend(more.build().responses);
        all
    }
}
