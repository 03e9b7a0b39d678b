//! The FTP door: libunftp behind our own accept loop.
//!
//! Owns sessions, logins at this door, and the way of an upload from a data connection to
//! [`crate::intake`], after whose answer, and never before, libunftp sends 226. Downloads, listings
//! and clients' own deletes and renames go through it too, always inside the account's home.
//!
//! Must never: take an upload that did not end cleanly, create a job itself, let a path out of a home,
//! tell a stranger why a login failed. Called by `daemon`: [`Ftp::bind`], then [`Ftp::run`].
//!
//! One [`libunftp::Server`] is built per connection and given the accepted socket, so that limits,
//! addresses and `TCP_NODELAY` are ours. What cannot be wrapped (its session loop, its data connections,
//! the forms of commands it knows) is put right by the patches in `patches/libunftp`; one of them lets
//! `commands` answer what depends on the account, the disk, or what a client has chosen.

use crate::accounts::bans::Bans;
use crate::accounts::password::Logins;
use crate::homes::Homes;
use crate::intake::Intake;
use crate::queue::sqlite::SqliteLedger;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

mod ascii;
mod auth;
mod certificate;
mod charset;
mod commands;
mod listing;
mod lists;
mod passive;
mod receive;
mod server;
mod session;
mod settings;
mod sidecars;
mod site;
mod storage;
mod throttle;
mod tls;
mod watchlist;

pub use server::Ftp;
pub use session::{Stats, StatsNow};
pub use settings::{PassiveHost, PortRange, Settings};
pub use tls::{Certificates, Require, TlsError, TlsSettings};

/// Why the door cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum FtpError {
    #[error("ftp.{key} {problem}")]
    Setting { key: &'static str, problem: String },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("ftp.{key}: {address} cannot be listened on")]
    Listen {
        key: &'static str,
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
}

/// The rooms that the door leads to.
#[derive(Clone)]
pub struct Rooms {
    pub logins: Logins,
    pub homes: Homes,
    pub intake: Intake,
    pub ledger: SqliteLedger,
    pub bans: Bans,
}

/// What every session of a door shares.
struct Parts {
    homes: Homes,
    intake: Intake,
    ledger: SqliteLedger,
    stats: Arc<Stats>,
    /// A transfer without a byte for this long is broken.
    stall: Duration,
    /// `ftp.make-folders`
    make_folders: bool,
    draining: AtomicBool,
}

impl Parts {
    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}

/// Disk work, off the async threads.
async fn blocking<T, F>(work: F) -> io::Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> io::Result<T> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(io::Error::other(error)),
    }
}
