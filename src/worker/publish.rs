//! What a job leaves in the home: sidecars, staged, fsynced, renamed, the `.json` last, so that when
//! it is there all are; or `error.json` in their place. Idempotent: a rerun writes the same files, and a day's CSV
//! knows by the job's id whether it has its row.
//!
//! A file under a sidecar's name that Inkport did not write is its account's own and stays; the `.json` says so.
//!
//! Nothing is written beside an upload that is not there any more (its client removed it), nor
//! beside one that a newer upload of the same name has replaced: that one's own job will.

use super::read::{Read, ReadError};
use super::{Parts, daily, superseded};
use crate::account::{Account, Output};
use crate::crashpoint;
use crate::document::{Document, Limits};
use crate::homes::{HomeError, Homes};
use crate::job::state::{CANCELLED, State};
use crate::job::{Door, Job, SpoolKey};
use crate::ocr::EngineError;
use crate::queue::{JobLedger, NewDelivery, Outcome, QueueError};
use crate::sidecar::{self, ErrorReport, Facts, PdfError, Reading, Style, Warning, names, ours};
use crate::spool::{Spool, SpoolError, Staged};
use crate::units::Timestamp;
use std::io::{self, Read as _};
use std::sync::{Mutex, PoisonError};

/// The code of a job that ended because every attempt failed.
const OUT_OF_ATTEMPTS: &str = "out-of-attempts";
/// Of one that an operator ended.
const CODE_CANCELLED: &str = "cancelled";
/// Of the warning where no searchable PDF can be made.
const NO_PDF: &str = "no-pdf";
/// Held while one is made.
static PDF: Mutex<()> = Mutex::new(());

/// Why a run failed, by what happens next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The document can never be read.
    Never { code: String, message: String },
    /// Tried again while there are attempts left.
    Transient(String),
}

impl Failure {
    /// What the queue is told.
    #[must_use]
    pub fn into_outcome(self) -> Outcome {
        match self {
            Failure::Never { code, message } => Outcome::Rejected { code, message },
            Failure::Transient(reason) => Outcome::Failed { reason },
        }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        let message = error.to_string();
        let code = error.code().to_owned();
        match error {
            ReadError::Document(_) | ReadError::Engine { error: EngineError::Rejected(_), .. } => {
                Failure::Never { code, message }
            }
            ReadError::Engine { error: EngineError::Unavailable(_) | EngineError::Model(_), .. }
            | ReadError::Interrupted(_)
            | ReadError::Cancelled => Failure::Transient(message),
        }
    }
}

/// Why sidecars could not be written: the job is tried again.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error("the sidecars cannot be staged: {0}")]
    Spool(#[from] SpoolError),
    #[error("the sidecars cannot be put in place: {0}")]
    Home(#[from] HomeError),
    #[error("{0}")]
    Queue(#[from] QueueError),
    #[error("the reading cannot be rendered: {0}")]
    Render(String),
    #[error("writing the sidecars ended in a panic: {0}")]
    Panicked(String),
}

impl PublishError {
    /// Only for want of room: the document is not at fault, and neither is the run.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(
            self,
            PublishError::Spool(SpoolError::NoSpace { .. })
                | PublishError::Home(HomeError::NoSpace { .. })
                | PublishError::Queue(QueueError::NoSpace)
        )
    }
}

/// How sidecars are written.
#[derive(Debug, Clone, Copy)]
pub struct How {
    /// Whether anybody sends mail.
    pub mail: bool,
    /// Within which the document is opened again, for its searchable PDF.
    pub limits: Limits,
    pub style: Style,
}

/// Writes a reading's sidecars; answers the deliveries that the job's end causes.
pub fn done(
    parts: &Parts,
    job: &Job,
    account: Option<&Account>,
    read: Read,
    finished_at: Timestamp,
    how: How,
) -> Result<Vec<NewDelivery>, PublishError> {
    let job = &current(parts, job)?;
    let facts = Facts {
        job: Some(job.id),
        account: Some(&job.account),
        name: job.path.file_name(),
        bytes: job.bytes,
        sha256: job.spool,
        received_at: Some(job.received_at),
        finished_at,
    };
    let outputs = outputs(job, account);
    let to = recipients(job, account, how.mail);
    let place = has_a_place(parts, job)?;
    let keep = !to.is_empty();
    let mut attachments = Vec::new();
    let part_count = read.part_count();
    let mut documents: Vec<Reading> = (1..=part_count).filter_map(|number| read.part(number, &facts)).collect();
    let mut reading = read.reading(&facts);
    if outputs.contains(&Output::Csv) && how.style.csv_daily {
        let rows: Vec<&Reading> = if documents.is_empty() { vec![&reading] } else { documents.iter().collect() };
        daily::append(&parts.spool, &parts.homes, job, &rows, &how.style)?;
    }
    // A stack's documents come before the stack, whose .json is the very last.
    for (number, document) in (1..).zip(&mut documents) {
        for &output in &outputs {
            let suffix = sidecar::names::part_suffix(number, output.suffix());
            attachments.extend(leave(parts, job, document, (output, &suffix), (place, keep), &how)?);
        }
    }
    for &output in &outputs {
        attachments.extend(leave(parts, job, &mut reading, (output, output.suffix()), (place, keep), &how)?);
    }
    if place {
        remove_parts(&parts.homes, job, part_count + 1)?;
        // A failure of an earlier run is history.
        parts.homes.remove(&job.account, &job.path.beside(sidecar::names::ERROR_SUFFIX))?;
    }
    crashpoint::here("sidecars-published");
    Ok(to.iter().map(|to| NewDelivery { to: to.clone(), attachments: attachments.clone() }).collect())
}

/// An earlier upload of that name may have been a stack of more documents: their sidecars are not this one's. Only
/// what we wrote is removed.
fn remove_parts(homes: &Homes, job: &Job, first: u32) -> Result<(), PublishError> {
    for number in first.. {
        let json = job.path.beside(&sidecar::names::part_suffix(number, Output::Json.suffix()));
        if homes.identity(&job.account, &json)?.is_none() || !is_ours(homes, job, &json) {
            break;
        }
        let suffixes: Vec<String> = sidecar::names::part_suffixes(number).collect();
        let suffixes: Vec<&str> = suffixes.iter().map(String::as_str).collect();
        homes.remove_beside(&job.account, &job.path, &suffixes)?;
    }
    Ok(())
}

/// Whether a file begins as our readings do.
fn is_ours(homes: &Homes, job: &Job, json: &crate::account::VirtualPath) -> bool {
    let mut head = Vec::new();
    let read = homes.open_file(&job.account, json).map(|file| file.take(OUR_HEAD.len() as u64).read_to_end(&mut head));
    matches!(read, Ok(Ok(_))) && head == OUR_HEAD
}

/// What every reading's JSON begins with.
const OUR_HEAD: &[u8] = b"{\"schema\":\"inkport/reading/";

/// Writes `error.json`; answers the deliveries that the job's end causes. The row tells what happened
/// all the same, so a file that cannot be written is a warning: it must hold up neither the job's end nor
/// the mail.
pub fn failed(parts: &Parts, job: &Job, account: Option<&Account>, failure: &Failure, mail: bool) -> Vec<NewDelivery> {
    if let Err(error) = tell(parts, job, account, failure) {
        tracing::warn!(job.id = %job.id, error = %error, "the error sidecar could not be written");
    }
    recipients(job, account, mail).into_iter().map(|to| NewDelivery { to, attachments: Vec::new() }).collect()
}

fn tell(parts: &Parts, job: &Job, account: Option<&Account>, failure: &Failure) -> Result<(), PublishError> {
    let job = &current(parts, job)?;
    let (code, message) = match failure {
        Failure::Never { code, message } => (code.as_str(), message.as_str()),
        Failure::Transient(reason) => (OUT_OF_ATTEMPTS, reason.as_str()),
    };
    if has_a_place(parts, job)? {
        if matches!(failure, Failure::Transient(_)) {
            take_back(&parts.homes, job, account)?;
        }
        leave_error(&parts.spool, &parts.homes, job, code, message)?;
    }
    Ok(())
}

/// Removes what an earlier run may have put in place before it failed or its daemon died, the `.json` first: a job
/// that ends dead has no reading beside it.
fn take_back(homes: &Homes, job: &Job, account: Option<&Account>) -> Result<(), PublishError> {
    let mut outputs = outputs(job, account);
    outputs.reverse();
    // A file of the account's own stays.
    let is_ours = |suffix: &&str| match homes.open_file(&job.account, &job.path.beside(suffix)) {
        Ok(mut file) => ours::is_ours(suffix, &mut file).unwrap_or(false),
        Err(_) => true,
    };
    let suffixes: Vec<&str> = outputs.into_iter().map(Output::suffix).filter(is_ours).collect();
    homes.remove_beside(&job.account, &job.path, &suffixes)?;
    remove_parts(homes, job, 1)
}

/// What the account asks for, the `.json` last: who sees it finds the rest.
fn outputs(job: &Job, account: Option<&Account>) -> Vec<Output> {
    let default = [Output::Txt, Output::Json];
    let mut outputs: Vec<Output> = account.map_or(default.as_slice(), |account| &account.outputs).to_vec();
    if job.door == Door::Http {
        // A request is answered from these.
        let missing: Vec<Output> = default.into_iter().filter(|output| !outputs.contains(output)).collect();
        outputs.extend(missing);
    }
    outputs.sort_by_key(|output| *output == Output::Json);
    outputs
}

fn leave_error(spool: &Spool, homes: &Homes, job: &Job, code: &str, message: &str) -> Result<(), PublishError> {
    let report = ErrorReport { job: job.id, code, message, attempts: job.attempt };
    install(spool, homes, job, sidecar::names::ERROR_SUFFIX, &sidecar::render_error(&report), true, false).map(drop)
}

/// For a job that changes while no worker holds it: [`failed`] for one that is given up or was cancelled; no
/// error any more for one that is tried again. `is_newest`: no newer upload has its name.
pub fn without_holder(
    spool: &Spool,
    homes: &Homes,
    job: &Job,
    is_newest: bool,
    account: Option<&Account>,
    mail: bool,
) -> Vec<NewDelivery> {
    let message = job.error.as_deref().unwrap_or("it was given up");
    let told = homes.identity(&job.account, &job.path).map_err(PublishError::from).and_then(|found| match (found, &job.state) {
        (None, _) => Ok(()),
        _ if !is_newest => Ok(()),
        (Some(_), State::Dead { reason }) => {
            let code = if reason == CANCELLED { CODE_CANCELLED } else { OUT_OF_ATTEMPTS };
            take_back(homes, job, account).and_then(|()| leave_error(spool, homes, job, code, message))
        }
        (Some(_), _) => Ok(homes.remove(&job.account, &job.path.beside(sidecar::names::ERROR_SUFFIX)).map(drop)?),
    });
    if let Err(error) = told {
        tracing::warn!(job.id = %job.id, error = %error, "the error sidecar could not be written or removed");
    }
    recipients(job, account, mail).into_iter().map(|to| NewDelivery { to, attachments: Vec::new() }).collect()
}

/// The job as it stands now: its client may have renamed the upload meanwhile.
fn current(parts: &Parts, job: &Job) -> Result<Job, PublishError> {
    Ok(parts.ledger.show(job.id)?.map_or_else(|| job.clone(), |(job, _)| job))
}

fn has_a_place(parts: &Parts, job: &Job) -> Result<bool, PublishError> {
    Ok(!superseded(&parts.ledger, job)? && parts.homes.identity(&job.account, &job.path)?.is_some())
}

/// The account's addresses, and the one that the request named.
fn recipients(job: &Job, account: Option<&Account>, mail: bool) -> Vec<String> {
    if !mail {
        return Vec::new();
    }
    let mut to = account.map_or_else(Vec::new, |account| account.email.clone());
    to.extend(job.email.clone().filter(|email| to.iter().all(|known| !known.eq_ignore_ascii_case(email))));
    to
}

/// Puts one sidecar in its place, and keeps it for the mail; answers its name and key where it is kept.
fn leave(
    parts: &Parts,
    job: &Job,
    reading: &mut Reading,
    (output, suffix): (Output, &str),
    (place, keep): (bool, bool),
    how: &How,
) -> Result<Option<(String, SpoolKey)>, PublishError> {
    // What is made of every file has its names to itself.
    let common = matches!(output, Output::Txt | Output::Json);
    let place = place && (common || is_free(&parts.homes, job, output, suffix, &mut reading.warnings));
    if !place && !keep {
        return Ok(None);
    }
    let staged = if output == Output::Pdf {
        stage_pdf(&parts.spool, job, reading, how)?
    } else {
        Some(parts.spool.stage_with(|out| sidecar::write(reading, output, &how.style, out))?)
    };
    let Some(staged) = staged else { return Ok(None) };
    let key = put(&parts.spool, &parts.homes, job, suffix, staged, place, keep)?;
    Ok(key.map(|key| (format!("{}{suffix}", job.path.file_name()), key)))
}

/// Whether a sidecar may be put under its name. If not, the warnings say why.
fn is_free(homes: &Homes, job: &Job, output: Output, suffix: &str, warnings: &mut Vec<Warning>) -> bool {
    let beside = job.path.beside(suffix);
    let mut warn = |code: &'static str, message: String| warnings.push(Warning { page: 1, code: code.into(), message });
    if output == Output::Pdf && !names::is_sidecar(beside.file_name(), &|_| true) {
        let (name, own) = (job.path.file_name(), beside.file_name());
        warn(
            NO_PDF,
            format!("no searchable PDF is written: {name} has no document's ending, and {own} would be a document itself"),
        );
        return false;
    }
    let taken = match homes.open_file(&job.account, &beside) {
        Ok(mut file) => !ours::is_ours(output.suffix(), &mut file).unwrap_or(false),
        Err(_) => false,
    };
    if taken {
        let name = beside.file_name();
        tracing::warn!(job.id = %job.id, account.name = %job.account, sidecar.suffix = suffix, "a file of the account's own is in a sidecar's place and stays");
        warn(
            "name-taken",
            format!("{name} is a file of the account's own: it is not replaced, and this upload has no such sidecar"),
        );
    }
    !taken
}

/// The searchable PDF; `None` where there can be none, and then a warning says why.
fn stage_pdf(spool: &Spool, job: &Job, reading: &mut Reading, how: &How) -> Result<Option<Staged>, PublishError> {
    // A page's pixels may be as large as what an engine process may hold, so one document at a time.
    let _alone = PDF.lock().unwrap_or_else(PoisonError::into_inner);
    let bytes = spool.read(&job.spool)?;
    let mut impossible = None;
    let staged = spool.stage_with(|out| {
        let written = Document::open(bytes, &how.limits)
            .map_err(PdfError::from)
            .and_then(|mut document| sidecar::write_pdf(reading, &mut document, out));
        match written {
            Ok(()) => Ok(()),
            Err(PdfError::Io(error)) => Err(error),
            Err(error @ PdfError::Impossible(_)) => {
                impossible = Some(error.to_string());
                Err(io::ErrorKind::Unsupported.into())
            }
        }
    });
    if let Some(message) = impossible {
        reading.warnings.push(Warning { page: 1, code: NO_PDF.into(), message });
        return Ok(None);
    }
    Ok(Some(staged?))
}

/// Stages bytes; keeps them in the spool for the mail, puts them in place beside the upload, or both.
fn install(
    spool: &Spool,
    homes: &Homes,
    job: &Job,
    suffix: &str,
    bytes: &[u8],
    place: bool,
    keep: bool,
) -> Result<Option<SpoolKey>, PublishError> {
    if !place && !keep {
        return Ok(None);
    }
    put(spool, homes, job, suffix, spool.stage_bytes(bytes)?, place, keep)
}

fn put(
    spool: &Spool,
    homes: &Homes,
    job: &Job,
    suffix: &str,
    staged: Staged,
    place: bool,
    keep: bool,
) -> Result<Option<SpoolKey>, PublishError> {
    crashpoint::here("sidecar-staged");
    let key = if keep { Some(spool.keep(&staged)?) } else { None };
    crashpoint::here("sidecar-kept");
    if place {
        homes.install(&job.account, &job.path.beside(suffix), staged)?;
        crashpoint::here("sidecar-installed");
    }
    Ok(key)
}
