//! `inkport/error/1`: why an upload could not be read. Its schema is `schema/error-1.schema.json`.

use crate::job::JobId;
use serde::Serialize;

/// A job's end without a reading.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    schema: &'static str,
    pub job: JobId,
    /// Stable and short, for programs: `unsupported-format`.
    pub code: String,
    /// A sentence for people.
    pub message: String,
    pub attempts: u32,
}

impl Failure {
    #[must_use]
    pub fn new(job: JobId, code: &str, message: &str, attempts: u32) -> Self {
        Failure { schema: "inkport/error/1", job, code: code.to_owned(), message: message.to_owned(), attempts }
    }

    /// The bytes of the `.error.json`.
    #[must_use]
    pub fn render(&self) -> Vec<u8> {
        super::json::to_bytes(self)
    }
}
