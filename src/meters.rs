//! What is counted and timed, by name: the one list of metrics, which `/metrics` tells with their help, and the few
//! words by which rooms count. Counting costs next to nothing and never fails; where nobody has set up a recorder
//! (the command line, a test), it is nothing at all.
//!
//! Labels have few values, all of them ours: a client can make no new ones.

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use std::time::Duration;

/// Stages of a document's way, the values of `stage`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// From a transfer's first byte to its last.
    Receive,
    /// From its last byte until it is durable and its job committed.
    Fsync,
    /// From there until a lane takes the job.
    Wait,
    Decode,
    Detect,
    Recognise,
    /// The sidecars.
    Write,
    /// One attempt to hand a mail to the relay.
    Deliver,
}

impl Stage {
    pub const ALL: [Stage; 8] =
        [Stage::Receive, Stage::Fsync, Stage::Wait, Stage::Decode, Stage::Detect, Stage::Recognise, Stage::Write, Stage::Deliver];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Stage::Receive => "receive",
            Stage::Fsync => "fsync",
            Stage::Wait => "wait",
            Stage::Decode => "decode",
            Stage::Detect => "detect",
            Stage::Recognise => "recognise",
            Stage::Write => "write",
            Stage::Deliver => "deliver",
        }
    }
}

/// Codes under which documents are rejected or given up, as values of `cause`; any other is `other`.
const CAUSES: [&str; 13] = [
    "unsupported-format", "damaged", "too-many-pixels", "too-many-pages", "decompression-bomb", "encrypted", "no-pages",
    "unreadable", "engine", "interrupted", "out-of-attempts", "cancelled", "none",
];

pub const STAGE_SECONDS: &str = "inkport_stage_seconds";
pub const JOBS_ENDED: &str = "inkport_jobs_ended_total";
pub const ENGINE_BATCH_LINES: &str = "inkport_engine_batch_lines";
pub const UPLOADS: &str = "inkport_uploads_total";
pub const UPLOAD_BYTES: &str = "inkport_upload_bytes_total";
pub const DELIVERIES: &str = "inkport_deliveries_total";
pub const HTTP_REQUESTS: &str = "inkport_http_requests_total";
pub const HTTP_SECONDS: &str = "inkport_http_request_seconds";
pub const HTTP_CONNECTIONS: &str = "inkport_http_connections";
pub const HTTP_STREAMS: &str = "inkport_http_streams";
pub const JOBS: &str = "inkport_jobs";
pub const QUEUE_DEPTH: &str = "inkport_queue_depth";
pub const QUEUE_OLDEST: &str = "inkport_queue_oldest_age_seconds";
pub const FTP_SESSIONS: &str = "inkport_ftp_sessions";
pub const FTP_SESSIONS_LIMIT: &str = "inkport_ftp_sessions_limit";
pub const FTP_REFUSED: &str = "inkport_ftp_sessions_refused_total";
pub const FTP_BROKEN: &str = "inkport_ftp_uploads_broken_total";
pub const FTP_LOGINS_FAILED: &str = "inkport_ftp_logins_failed_total";
pub const FTP_BYTES: &str = "inkport_ftp_received_bytes_total";
pub const ENGINES_BUSY: &str = "inkport_engines_busy";
pub const PART_UP: &str = "inkport_up";
pub const RESIDENT: &str = "inkport_resident_bytes";
pub const WATCHER_AGE: &str = "inkport_watcher_age_seconds";
pub const DISK_FREE: &str = "inkport_disk_free_bytes";
pub const DISK_FLOOR: &str = "inkport_disk_floor_bytes";

/// Every metric there is: name, what it says.
pub const ALL: [(&str, &str); 25] = [
    (JOBS, "Jobs by state."),
    (QUEUE_DEPTH, "Jobs that wait or are being read."),
    (QUEUE_OLDEST, "Age of the oldest job that waits; 0 where none does."),
    (JOBS_ENDED, "Jobs that ended since the start, by state and cause."),
    (STAGE_SECONDS, "Time that documents spend in each stage."),
    (ENGINE_BATCH_LINES, "Lines of text that the recognizer read at once, on average for each page."),
    (UPLOADS, "Uploads taken since the start, by door."),
    (UPLOAD_BYTES, "Bytes of these."),
    (DELIVERIES, "Attempts to hand mail to the relay, by how they ended."),
    (HTTP_REQUESTS, "HTTP requests by route, method and status."),
    (HTTP_SECONDS, "Time to an HTTP answer's head, by route."),
    (HTTP_CONNECTIONS, "HTTP connections open."),
    (HTTP_STREAMS, "Streams of events open (SSE and WebSocket)."),
    (FTP_SESSIONS, "FTP sessions open."),
    (FTP_SESSIONS_LIMIT, "As many may be."),
    (FTP_REFUSED, "FTP connections turned away because there were too many."),
    (FTP_BROKEN, "FTP uploads that ended without being taken."),
    (FTP_LOGINS_FAILED, "FTP logins that failed."),
    (FTP_BYTES, "Bytes of FTP uploads that were taken."),
    (ENGINES_BUSY, "Documents being read at this moment."),
    (PART_UP, "1 where this part is well, as /readyz says it."),
    (RESIDENT, "Resident memory of the daemon and of its engine processes."),
    (WATCHER_AGE, "Since the watcher last saw its own file change."),
    (DISK_FREE, "Free on the disk that takes uploads."),
    (DISK_FLOOR, "limits.min-free-space: below it nothing is taken."),
];

/// Histograms and their unit; all else is a counter (`_total`) or a gauge.
const HISTOGRAMS: [(&str, Unit); 3] =
    [(STAGE_SECONDS, Unit::Seconds), (HTTP_SECONDS, Unit::Seconds), (ENGINE_BATCH_LINES, Unit::Count)];

/// Upper bounds for times, in seconds.
pub const SECONDS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0];
/// Upper bounds for lines in a batch.
pub const LINES: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

/// Tells the recorder what each is, and makes those known that have not happened yet: a rate of something that is
/// not there is no rate of 0.
pub fn describe() {
    for (name, help) in ALL {
        if let Some((_, unit)) = HISTOGRAMS.iter().find(|(histogram, _)| *histogram == name) {
            describe_histogram!(name, *unit, help);
        } else if name.ends_with("_total") {
            describe_counter!(name, help);
        } else {
            describe_gauge!(name, help);
        }
    }
    for stage in Stage::ALL {
        drop(histogram!(STAGE_SECONDS, "stage" => stage.name()));
    }
    drop(histogram!(ENGINE_BATCH_LINES));
    for state in ["done", "rejected", "dead"] {
        counter!(JOBS_ENDED, "state" => state, "cause" => "none").increment(0);
    }
    for door in ["ftp", "watch", "http"] {
        counter!(UPLOADS, "door" => door).increment(0);
        counter!(UPLOAD_BYTES, "door" => door).increment(0);
    }
    for outcome in ["sent", "deferred", "bounced"] {
        counter!(DELIVERIES, "outcome" => outcome).increment(0);
    }
    gauge!(HTTP_STREAMS).set(0.0);
    gauge!(HTTP_CONNECTIONS).set(0.0);
}

/// A document spent so long in a stage.
pub fn stage(stage: Stage, spent: Duration) {
    histogram!(STAGE_SECONDS, "stage" => stage.name()).record(spent.as_secs_f64());
}

/// A job ended; `cause` is its code, if it did not end well.
pub fn job_ended(state: &'static str, cause: Option<&str>) {
    let cause = cause.unwrap_or("none");
    let cause = CAUSES.iter().find(|known| **known == cause).copied().unwrap_or("other");
    counter!(JOBS_ENDED, "state" => state, "cause" => cause).increment(1);
}

/// An upload was taken through a door.
pub fn upload(door: &'static str, bytes: u64) {
    counter!(UPLOADS, "door" => door).increment(1);
    counter!(UPLOAD_BYTES, "door" => door).increment(bytes);
}

/// An attempt to deliver ended: `sent`, `deferred` or `bounced`.
pub fn delivery(outcome: &'static str) {
    counter!(DELIVERIES, "outcome" => outcome).increment(1);
}

/// The recognizer read a page's lines in so many batches.
pub fn batches(lines: u32, batches: u32) {
    if batches > 0 {
        histogram!(ENGINE_BATCH_LINES).record(f64::from(lines) / f64::from(batches));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ours_and_each_is_there_once() {
        let mut names: Vec<&str> = ALL.iter().map(|(name, _)| *name).collect();
        assert!(names.iter().all(|name| name.starts_with("inkport_")));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        assert!(HISTOGRAMS.iter().all(|(name, _)| names.contains(name)));
    }
}
