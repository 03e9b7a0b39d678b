//! `inkport/error/1`: why an upload could not be read. Its schema is `schema/error-1.schema.json`.

use crate::job::JobId;
use serde::Serialize;

/// A job's end without a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorReport<'a> {
    pub job: JobId,
    /// Stable and short, for programs: `unsupported-format`.
    pub code: &'a str,
    /// A sentence for people.
    pub message: &'a str,
    pub attempts: u32,
}

/// The bytes of the `.error.json`.
#[must_use]
pub fn render_error(report: &ErrorReport<'_>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Document<'a> {
        schema: &'static str,
        job: JobId,
        code: &'a str,
        message: &'a str,
        attempts: u32,
    }
    let ErrorReport { job, code, message, attempts } = *report;
    super::json::to_bytes(&Document { schema: "inkport/error/1", job, code, message, attempts })
}
