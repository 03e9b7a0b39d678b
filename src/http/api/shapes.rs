//! What the API says and hears, as JSON; the OpenAPI document is made from these.

use crate::job::Job;
use crate::job::state::State;
use crate::queue::DeliveryRecord;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `application/problem+json` (RFC 9457).
#[derive(Serialize, ToSchema)]
#[allow(dead_code)] // for the document; `problem` writes it
pub(super) struct ProblemShape {
    #[schema(rename = "type")]
    kind: String,
    title: String,
    status: u16,
    /// What happened, and what to do.
    detail: String,
    /// The job that it is about.
    job: Option<String>,
    /// Stable and short: `unsupported-format`.
    code: Option<String>,
}

/// What the account has used of its day.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Counted {
    /// Pages read today (UTC).
    pub requests_used: u64,
    /// As many may be; `null`: any number.
    #[schema(required = true)]
    pub daily_limit: Option<u64>,
    pub tier: String,
}

/// `GET /api/v1/usage`
#[derive(Serialize, ToSchema)]
pub(super) struct UsageAnswer {
    pub success: bool,
    pub usage: FullUsage,
}

#[derive(Serialize, ToSchema)]
pub(super) struct FullUsage {
    /// The account's name.
    pub user: String,
    pub tier: String,
    pub requests_used: u64,
    #[schema(required = true)]
    pub daily_limit: Option<u64>,
    #[schema(required = true)]
    pub requests_remaining: Option<u64>,
    /// RFC 3339: when the day ends.
    pub resets_at: String,
}

/// The document, in JSON.
#[derive(Deserialize, ToSchema)]
pub(super) struct OcrRequest {
    /// Base64, a `data:` URL with base64 or, where the operator allows it, an `https:` URL.
    #[schema(min_length = 4)]
    pub image: String,
    /// Taken for the sake of clients of vision models; the engine reads everything there is.
    #[serde(default)]
    #[allow(dead_code)] // heard and not needed
    pub prompt: Option<String>,
    /// What the file is called in the account's home.
    #[serde(default)]
    pub filename: Option<String>,
}

/// The document, as a form.
#[derive(ToSchema)]
#[allow(dead_code)] // for the document; `input` reads it
pub(super) struct OcrForm {
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
    prompt: Option<String>,
}

/// Several documents.
#[derive(Deserialize, ToSchema)]
pub(super) struct BatchRequest {
    /// Each as `image` of `/api/v1/ocr`.
    #[schema(min_items = 1, max_items = 10)]
    pub images: Vec<String>,
    #[serde(default)]
    #[allow(dead_code)] // heard and not needed
    pub prompt: Option<String>,
}

/// A document that was read.
#[derive(Serialize, ToSchema)]
pub(super) struct OcrAnswer {
    pub success: bool,
    pub job: String,
    pub text: String,
    pub engine: String,
    pub model: String,
    pub usage: Counted,
}

#[derive(Serialize, ToSchema)]
pub(super) struct BatchAnswer {
    /// At least one was read.
    pub success: bool,
    /// In the order of the images.
    pub results: Vec<BatchResult>,
    pub total: usize,
    pub successful: usize,
    pub usage: Counted,
}

/// One image of a batch.
#[derive(Serialize, ToSchema)]
pub(super) struct BatchResult {
    pub success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Characters of the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A document that is kept and will be read; its job is at `Location`.
#[derive(Serialize, ToSchema)]
pub(super) struct Taken {
    pub success: bool,
    /// The job's id.
    pub job: String,
    /// `queued`, `running`, `done`, `rejected` or `dead`.
    pub state: String,
}

/// A job, as every interface tells it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct JobShape {
    pub id: String,
    pub account: String,
    /// As the client sees it: `/scan.jpg`.
    pub path: String,
    #[schema(value_type = JobState)]
    pub state: String,
    pub attempt: u32,
    /// RFC 3339.
    pub received_at: String,
    #[schema(required = true)]
    pub finished_at: Option<String>,
    #[schema(required = true)]
    pub error: Option<String>,
    /// Mail about it.
    pub deliveries: Vec<DeliveryShape>,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[allow(dead_code)] // for the document
pub(super) enum JobState {
    Queued,
    Running,
    Done,
    Rejected,
    Dead,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct DeliveryShape {
    pub to: String,
    /// `scheduled`, `sent`, `deferred` or `bounced`.
    pub state: String,
    pub attempts: u32,
    #[schema(required = true)]
    pub error: Option<String>,
}

/// A job, and the sidecars that are there.
#[derive(Serialize, ToSchema)]
pub(super) struct JobAnswer {
    #[serde(flatten)]
    pub job: JobShape,
    pub sidecars: Vec<SidecarShape>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct SidecarShape {
    /// Without the dot: `txt`.
    pub suffix: String,
    /// Where this key finds it.
    pub href: String,
    /// Where everybody who is told of it finds it, until it expires.
    pub link: String,
}

#[derive(Serialize, ToSchema)]
pub(super) struct JobsAnswer {
    /// Newest first.
    pub jobs: Vec<JobShape>,
    /// What to give as `before` for the next page; `null`: there is none.
    #[schema(required = true)]
    pub next: Option<String>,
}

/// Something happened to a job: the data of an event, and a message of the WebSocket.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct EventShape {
    /// What to give as `Last-Event-ID`.
    pub event: u64,
    pub job: String,
    pub path: String,
    #[schema(value_type = JobState)]
    pub state: String,
    /// RFC 3339.
    pub at: String,
    /// The job's main sidecar by signed link: its reading in JSON, or why there is none. There once the job has ended.
    pub link: String,
}

/// The answer that the published client reads.
#[derive(Serialize, ToSchema)]
pub(super) struct Prediction {
    pub filename: String,
    pub prediction: String,
    /// RFC 3339.
    pub timestamp: String,
    /// The mail to `email` is written down and will leave.
    pub email_sent: bool,
}

#[derive(ToSchema)]
#[allow(dead_code)] // for the document; `input` reads it
pub(super) struct PredictionForm {
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
    email: Option<String>,
}

impl JobShape {
    pub(super) fn of(job: &Job, deliveries: &[DeliveryRecord]) -> Self {
        let deliveries = deliveries.iter().map(|delivery| DeliveryShape {
            to: delivery.to.clone(),
            state: delivery.state.name().to_owned(),
            attempts: delivery.attempts,
            error: delivery.error.clone(),
        });
        JobShape {
            id: job.id.to_string(),
            account: job.account.to_string(),
            path: job.path.to_string(),
            state: job.state.name().to_owned(),
            attempt: job.attempt,
            received_at: job.received_at.to_string(),
            finished_at: job.finished_at.map(|at| at.to_string()),
            error: job.error.clone(),
            deliveries: deliveries.collect(),
        }
    }
}

impl Taken {
    pub(super) fn of(job: &Job) -> Self {
        let failed = matches!(job.state, State::Rejected { .. } | State::Dead { .. });
        Taken { success: !failed, job: job.id.to_string(), state: job.state.name().to_owned() }
    }
}
