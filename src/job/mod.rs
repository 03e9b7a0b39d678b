//! The job and the delivery: what they are and which changes of state are legal.
//!
//! Pure: no clock, no database. `queue` asks [`state::apply`] and [`delivery::apply`] and stores the
//! answer; nobody else decides.

use crate::account::{AccountName, VirtualPath};
use crate::units::Timestamp;
use serde::Serialize;

pub mod delivery;
pub mod state;

/// A job's id: a ULID, so ids sort by the time of acceptance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(pub ulid::Ulid);

impl std::fmt::Display for JobId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for JobId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The bytes' sha256: their name in the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpoolKey(pub [u8; 32]);

impl SpoolKey {
    /// The inverse of `Display`.
    #[must_use]
    pub fn from_hex(hex: &str) -> Option<Self> {
        let mut key = [0; 32];
        if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)) {
            return None;
        }
        for (byte, digits) in key.iter_mut().zip(hex.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        Some(SpoolKey(key))
    }
}

impl std::fmt::Display for SpoolKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Which file on disk an upload is: equal for a file that was only renamed, different for new bytes
/// under an old name. This is how one upload stays one job, through whichever door it is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileIdentity {
    pub inode: u64,
    pub modified_ns: i128,
    pub bytes: u64,
}

/// Through which door an upload came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Door {
    Ftp,
    Watch,
    Http,
}

/// One accepted upload to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    pub id: JobId,
    pub account: AccountName,
    pub path: VirtualPath,
    pub spool: SpoolKey,
    pub bytes: u64,
    pub door: Door,
    pub received_at: Timestamp,
    pub state: state::State,
    /// Counted attempts so far, the running one included.
    pub attempt: u32,
    pub finished_at: Option<Timestamp>,
    /// The sentence that `jobs show` and the status page tell; for the last failed attempt too.
    pub error: Option<String>,
    /// Who is told of its end beside the account's addresses: a request named them.
    pub email: Option<String>,
}
