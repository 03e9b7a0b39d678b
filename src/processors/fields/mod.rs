//! Fields of receipts, invoices, letters and forms.
//!
//! Rules over lines and their places ([`sheet`]): what stands beside which word ([`words`], in seven languages), what numbers
//! and dates mean ([`numbers`], [`dates`]), what checks itself ([`ids`], the arithmetic in [`money`] and [`items`]). They
//! are general: none knows a shop or a form. A value is never put together from what does not stand on the page.

mod dates;
mod ids;
mod items;
mod labelled;
mod money;
mod numbers;
mod own;
mod pairs;
mod party;
mod sheet;
mod words;

use super::{Code, Finding, FromText, Plan, Seen, codes};
use crate::ocr::{Confidence, Quad};
use serde::{Deserialize, Serialize};
use sheet::Sheet;
use std::collections::BTreeMap;

/// What a document tells besides its text.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Extract {
    /// By name: `company`, `date`, `total`, …
    pub fields: BTreeMap<String, Field>,
    pub items: Vec<Item>,
    pub pairs: Vec<Pair>,
}

/// A named value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Field {
    /// In one form whatever the page's: dates as ISO 8601, amounts with a point and no grouping.
    pub value: String,
    /// As it stands on the page.
    pub raw: String,
    pub confidence: Confidence,
    pub page: u32,
    /// `None` where it has no one place.
    pub quad: Option<Quad>,
}

/// A row of an invoice or receipt.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Item {
    pub description: String,
    pub quantity: Option<f64>,
    pub unit_price: Option<f64>,
    pub amount: Option<f64>,
    pub page: u32,
    /// Its lines as they stand on the page, a space between them.
    pub raw: String,
}

/// A form's question and answer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pair {
    pub key: String,
    pub value: String,
    pub page: u32,
}

/// Finds fields in documents.
#[derive(Debug)]
pub struct Extractor {
    codes: codes::Settings,
    own: Vec<own::Rule>,
}

impl Extractor {
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        Extractor { codes: plan.codes.clone(), own: own::Rule::all(&plan.own) }
    }
}

impl FromText for Extractor {
    fn look(&mut self, document: &Seen<'_>) -> Finding {
        let sheet = Sheet::of(document.pages);
        let mut extract = Extract::default();
        ids::find(&sheet, &mut extract);
        money::find(&sheet, &mut extract);
        labelled::find(&sheet, &mut extract);
        party::find(&sheet, &mut extract);
        items::find(&sheet, &mut extract);
        pairs::find(&sheet, &mut extract);
        if let Some(field) = self.document_number(document.codes) {
            extract.fields.insert("document_number".into(), field);
        }
        own::find(&self.own, &sheet, &mut extract);
        Finding::Fields(extract)
    }
}

impl Extractor {
    /// The number in the first code that carries one.
    fn document_number(&self, codes: &[Code]) -> Option<Field> {
        codes.iter().find_map(|code| {
            let value = self.codes.number(&code.text)?.to_owned();
            let (raw, confidence) = (code.text.clone(), Confidence::new(1.0));
            Some(Field { value, raw, confidence, page: code.page, quad: Some(code.quad) })
        })
    }
}

#[cfg(test)]
mod tests;
