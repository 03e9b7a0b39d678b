//! What is done with an account's documents, step by step.

use super::NameError;
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// A step. Steps are done in the order of this list, whatever order they are named in; text is read
/// wherever a step needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Lines of text.
    Text,
    /// Bar codes and their like; separator sheets.
    Codes,
    /// Fields of receipts and invoices, items, forms' pairs.
    Fields,
}

impl Step {
    /// What an account has that does not say it.
    pub const ALL: [Step; 3] = [Step::Text, Step::Codes, Step::Fields];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Step::Text => "text",
            Step::Codes => "codes",
            Step::Fields => "fields",
        }
    }
}

impl FromStr for Step {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text {
            "faces" => Err(NameError::LaterStep(text.to_owned())),
            _ => Step::ALL.into_iter().find(|step| step.name() == text).ok_or_else(|| NameError::Step(text.to_owned())),
        }
    }
}
