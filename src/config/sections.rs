//! The sections that belong to no single room: accounts' source, limits, retry, retention.

use crate::account::Duplicates;
use crate::units::{ByteSize, Retention, Span};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// `[accounts]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct AccountsSettings {
    pub source: AccountsSource,
    /// For `source = "toml"`.
    pub file: PathBuf,
}

/// Where accounts are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccountsSource {
    /// In the daemon's database, changed with `inkport account`.
    #[default]
    Sqlite,
    /// In a file, changed with an editor.
    Toml,
}

impl Default for AccountsSettings {
    fn default() -> Self {
        AccountsSettings { source: AccountsSource::default(), file: "accounts.toml".into() }
    }
}

/// `[limits]`: what an upload may cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct LimitsSettings {
    /// Bytes of one upload.
    pub max_upload: ByteSize,
    /// Pixels of one page.
    pub max_pixels: u64,
    /// Pages of one document.
    pub max_pages: u32,
    /// One attempt at one job.
    pub job_timeout: Span,
    /// Memory of one engine process: one reads each document.
    pub engine_memory: ByteSize,
    /// With less free on the disk nothing is accepted.
    pub min_free_space: ByteSize,
    /// Jobs that are not finished; while there are as many, nothing is accepted.
    pub max_queued: u64,
    /// What is done with the same bytes again, for accounts that do not say it themselves.
    pub duplicates: Duplicates,
}

impl LimitsSettings {
    /// An engine process with one thread has 140 MiB when its models are open, and reads small pages in twice that.
    pub const LEAST_ENGINE_MEMORY: ByteSize = ByteSize(512 << 20);
}

impl Default for LimitsSettings {
    fn default() -> Self {
        LimitsSettings {
            max_upload: ByteSize(200 << 20),
            max_pixels: 100_000_000,
            max_pages: 2000,
            job_timeout: Span(Duration::from_secs(600)),
            engine_memory: ByteSize(3 << 30),
            min_free_space: ByteSize(500 << 20),
            max_queued: 200_000,
            duplicates: Duplicates::default(),
        }
    }
}

/// `[retry]`: when a failed job is tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RetrySettings {
    pub attempts: u32,
    /// Before the second attempt; doubles with each further one.
    pub backoff: Span,
}

impl Default for RetrySettings {
    fn default() -> Self {
        RetrySettings { attempts: 3, backoff: Span(Duration::from_secs(10)) }
    }
}

/// `[retention]`: how long what belongs to an ended job is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RetentionSettings {
    /// The uploads themselves, in the home and in the spool.
    pub originals: Retention,
    pub sidecars: Retention,
    /// Rows: what `jobs list` tells.
    pub jobs: Retention,
}
