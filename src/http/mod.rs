//! The HTTP side: the API for apps ([`api`]), a status page for people, health checks and metrics for machines.
//!
//! Owns: the listener and its bounds (connections, TLS, header time, request time, body size), who a client is,
//! who may see the status page, whose key opens which route and how often ([`caller`]), and how an error looks (`application/problem+json`). It reads the queue through
//! [`JobLedger`] and brings uploads to `intake`; it changes nothing else. How the engine, the watcher and the disk are it is told through
//! [`Vitals`], which `daemon` builds: this room knows none of them.

use crate::accounts::Accounts;
use crate::accounts::password::Logins;
use crate::keys::Keys;
use crate::queue::JobLedger;
use caller::Callers;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;

pub mod api;
mod auth;
mod body;
mod caller;
mod client;
mod credentials;
mod headers;
mod health;
#[cfg(test)]
mod gate_tests;
#[cfg(test)]
mod mutations;
mod metrics;
mod problem;
mod router;
mod server;
mod settings;
mod signed;
mod snapshot;
mod status;
mod tls;

pub use api::ApiDeps;
pub use client::Network;
pub use settings::{Origin, PublicUrl, RateSettings, Settings, StatusAccess, TierSettings, TiersSettings};
pub use snapshot::{Facts, Measures, Part, Vitals};
pub use tls::{Certificates, TlsError, TlsSettings};

/// Why the HTTP side did not start.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("http.listen: {address} cannot be listened on: {source}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// What the HTTP side shows and asks.
pub struct Deps<L> {
    pub ledger: L,
    pub logins: Logins,
    pub accounts: Accounts,
    pub keys: Keys,
    pub vitals: Arc<dyn Vitals>,
    /// Absent: pages only.
    pub api: Option<ApiDeps>,
}

/// The HTTP side, listening but not yet answering.
pub struct Http {
    listener: TcpListener,
    address: SocketAddr,
    router: axum::Router,
    certificates: Option<Certificates>,
    api: Option<Arc<api::Api>>,
}

impl Http {
    /// Takes the port.
    pub async fn bind<L: JobLedger>(settings: &Settings, deps: Deps<L>) -> Result<Self, HttpError> {
        let refused = |source| HttpError::Listen { address: settings.listen, source };
        let listener = TcpListener::bind(settings.listen).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let tls = settings.tls.clone();
        let opened = tokio::task::spawn_blocking(move || tls.as_ref().map(Certificates::open).transpose()).await;
        let certificates = opened.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        let Deps { ledger, logins, accounts, keys, vitals, api } = deps;
        let callers = Arc::new(Callers::new(keys, accounts, settings.tiers));
        let api = api.map(|deps| Arc::new(api::Api::new(settings, deps, Arc::clone(&callers))));
        let router = router::router(settings, ledger, logins, vitals, api.clone(), callers);
        Ok(Http { listener, address, router, certificates, api })
    }

    /// The real address: with port 0 the one that was free.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// To be read again while this side is open, where it has TLS.
    #[must_use]
    pub fn certificates(&self) -> Option<Certificates> {
        self.certificates.clone()
    }

    /// Answers until `shutdown` resolves, then lets the requests under way end.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        let (stop, stopped) = watch::channel(false);
        let followed = async {
            if let Some(api) = self.api {
                let mut stopped = stopped;
                api.run(async move {
                    let _ = stopped.wait_for(|stopped| *stopped).await;
                })
                .await;
            }
        };
        let served = async {
            // Streams of events end first, or the server would wait for them.
            let told = async {
                shutdown.await;
                stop.send_replace(true);
            };
            server::serve(self.listener, self.certificates, self.router, told).await;
        };
        let working = async { tokio::join!(followed, served) };
        tokio::select! {
            _ = working => {}
            () = metrics::upkeep() => {}
        }
    }
}
