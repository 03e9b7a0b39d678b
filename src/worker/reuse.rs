//! The same bytes again: where an account wants them answered from the first reading, that reading is kept
//! with its job, and taken when the same bytes, read by the same models for the same languages, come under
//! another name. Whatever stands in the way of that, the document is read: a first that is still under way,
//! one that was not kept, a database that does not answer.

use super::read::Read;
use super::{Lane, LaneTrouble};
use crate::account::{Account, Duplicates};
use crate::processors::Plan;
use crate::queue::{JobLedger, Lease, Queue};
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use std::io::{Read as _, Write};

/// Of a reading as JSON; a longer one is not kept.
const LONGEST: u64 = 64 << 20;
/// Of what is put into the database.
const LARGEST: usize = 8 << 20;

/// What the reading of a document depends on, beside its bytes.
fn recipe(engine: &str, models: &[String], languages: &[String], plan: &Plan) -> String {
    let plan = serde_json::to_string(plan).expect("names and texts always serialise");
    // The number is the form in which readings are kept.
    format!("2|{engine}|{}|{}|{plan}", models.join(","), languages.join(","))
}

fn pack(read: &Read) -> Option<Vec<u8>> {
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::fast());
    let json = serde_json::to_vec(read).ok().filter(|json| json.len() as u64 <= LONGEST)?;
    packed.write_all(&json).ok()?;
    packed.finish().ok().filter(|packed| packed.len() <= LARGEST)
}

fn unpack(packed: &[u8]) -> Option<Read> {
    let mut json = Vec::new();
    ZlibDecoder::new(packed).take(LONGEST + 1).read_to_end(&mut json).ok()?;
    serde_json::from_slice(&json).ok()
}

impl Lane {
    /// The account, where it wants its duplicates answered from the first reading.
    async fn who_reuses(&self, lease: &Lease) -> Option<Account> {
        let account = self.account(lease).await?;
        (account.duplicates.unwrap_or(self.duplicates) == Duplicates::Reuse).then_some(account)
    }

    /// The first reading of this document, if the account wants it and it is there.
    pub(super) async fn first_reading(&self, lease: &Lease) -> Option<Read> {
        let account = self.who_reuses(lease).await?;
        let (engine, models) = self.ready_engine()?;
        let recipe = recipe(&engine, &models, &account.language, &self.plan(Some(&account)));
        let (ledger, spool) = (self.parts.ledger.clone(), lease.job.spool);
        let looking = tokio::task::spawn_blocking(move || {
            let found = ledger.reading(&account.name, &spool, &recipe)?;
            Ok(found.and_then(|(of, packed)| Some(Read { duplicate_of: Some(of), ..unpack(&packed)? })))
        });
        let found = looking.await.map_err(LaneTrouble::from).and_then(|found| found.map_err(LaneTrouble::Queue));
        match found {
            Ok(Some(read)) => {
                let first = read.duplicate_of.expect("it was just set");
                tracing::info!(job.id = %lease.job.id, job.duplicate_of = %first, account.name = %lease.job.account, "the same bytes were read before: they are answered from that reading");
                Some(read)
            }
            Ok(None) => None,
            Err(error) => {
                tracing::warn!(job.id = %lease.job.id, %error, "no earlier reading can be looked for: the document is read");
                None
            }
        }
    }

    /// Keeps a reading for later duplicates, if the account wants that. Not to be had is no trouble of the job's.
    pub(super) async fn keep_reading(&self, lease: &Lease, read: &Read) {
        if read.duplicate_of.is_some() {
            return;
        }
        let Some(account) = self.who_reuses(lease).await else { return };
        let plan = self.plan(Some(&account));
        let recipe = recipe(&read.engine.name, &read.engine.models, &account.language, &plan);
        let read = read.clone();
        let packed = tokio::task::spawn_blocking(move || pack(&read)).await;
        match packed {
            Ok(Some(packed)) => {
                if let Err(error) = self.parts.queue.keep_reading(lease.job.id, recipe, packed).await {
                    tracing::warn!(job.id = %lease.job.id, %error, "the reading is not kept: the same bytes will be read again");
                }
            }
            Ok(None) => {
                tracing::info!(job.id = %lease.job.id, "the reading is too long to be kept: the same bytes will be read again")
            }
            Err(error) => tracing::warn!(job.id = %lease.job.id, %error, "the reading is not kept: packing it ended in a panic"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Step;
    use crate::document::Format;
    use crate::ocr::Quad;
    use crate::processors::{Code, Extract, Part};
    use crate::sidecar::{EngineInfo, PageMeta, Spent, Warning};

    #[test]
    fn a_reading_is_kept_whole() {
        let engine = EngineInfo { name: "ppocr".into(), models: vec!["a".into(), "b".into()] };
        let page = crate::ocr::PageText { width: 7, skew: 0.25, ..Default::default() };
        let warnings = vec![Warning { page: 2, code: "damaged".into(), message: "half".into() }];
        let pages = vec![(PageMeta { width: 7, ..PageMeta::unreadable(1) }, page)];
        let code = Code { format: "AZTEC".into(), text: "ASN7".into(), page: 1, quad: Quad([[0.5; 2]; 4]) };
        let read = Read {
            format: Format::Tiff,
            engine,
            pages,
            warnings,
            codes: vec![code],
            extract: Extract::default(),
            parts: Some(vec![Part { pages: vec![1], extract: Extract::default() }]),
            spent: Spent::default(),
            duplicate_of: None,
        };
        let packed = pack(&read).unwrap();
        assert_eq!(unpack(&packed), Some(read));
        assert_eq!(unpack(&packed[..packed.len() / 2]), None);
        assert_eq!(unpack(b"{}"), None);
    }

    #[test]
    fn another_model_language_or_plan_is_another_reading() {
        let (models, plan) = (["det".to_owned(), "rec".to_owned()], Plan::default());
        let first = recipe("ppocr", &models, &[], &plan);
        assert_ne!(first, recipe("ppocr", &models[..1], &[], &plan));
        assert_ne!(first, recipe("ppocr", &models, &["de".into()], &plan));
        assert_ne!(first, recipe("ppocr", &models, &[], &Plan { steps: vec![Step::Text], ..plan }));
    }
}
