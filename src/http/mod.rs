//! The HTTP side: a status page for people, health checks for machines. Apps will come in here too.
//!
//! Owns: the listener and its bounds (connections, header time, request time, body size), who may see
//! the status page, whose key opens which route and how often ([`caller`]), and how an error looks (`application/problem+json`). It reads the queue through
//! [`JobLedger`] only and changes nothing. How the engine, the watcher and the disk are it is told through
//! [`Vitals`], which `daemon` builds: this room knows none of them.

use crate::accounts::Accounts;
use crate::accounts::password::Logins;
use crate::keys::Keys;
use crate::queue::JobLedger;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;

mod auth;
mod caller;
mod credentials;
mod health;
#[cfg(test)]
mod gate_tests;
#[cfg(test)]
mod mutations;
mod problem;
mod router;
mod server;
mod settings;
mod signed;
mod snapshot;
mod status;
mod usage;

pub use settings::{PublicUrl, RateSettings, Settings, StatusAccess, TierSettings, TiersSettings};
pub use snapshot::{Facts, Part, Vitals};

/// Why the HTTP side did not start.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("http.listen: {address} cannot be listened on: {source}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
}

/// What the HTTP side shows and asks.
pub struct Deps<L> {
    pub ledger: L,
    pub logins: Logins,
    pub accounts: Accounts,
    pub keys: Keys,
    pub vitals: Arc<dyn Vitals>,
}

/// The HTTP side, listening but not yet answering.
pub struct Http {
    listener: TcpListener,
    address: SocketAddr,
    router: axum::Router,
}

impl Http {
    /// Takes the port.
    pub async fn bind<L: JobLedger>(settings: &Settings, deps: Deps<L>) -> Result<Self, HttpError> {
        let refused = |source| HttpError::Listen { address: settings.listen, source };
        let listener = TcpListener::bind(settings.listen).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        Ok(Http { listener, address, router: router::router(settings, deps) })
    }

    /// The real address: with port 0 the one that was free.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `shutdown` resolves, then lets the requests under way end.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        server::serve(self.listener, self.router, shutdown).await;
    }
}
