//! Named places at which a test can have the process die, between every two durable steps. Without
//! the cargo feature `crash-points` each is nothing at all; with it the environment decides:
//! `INKPORT_CRASH_AT=spool-linked` aborts at the first pass of that place, `spool-linked:3` at the third.
//!
//! An abort unwinds nothing and tidies nothing up: what `kill -9` leaves. The feature cannot be built
//! into a release binary (see the `compile_error` below), so what is shipped has no such place.
//! Called by every room that makes something durable; `tests/crash_points.rs` visits each of [`ALL`].

#[cfg(all(feature = "crash-points", not(debug_assertions)))]
compile_error!("the feature crash-points is for tests only: it cannot be built without debug assertions");

/// Every place, in the order in which an upload comes by.
pub const ALL: [&str; 29] = [
    // spool: while it is received (uploads and sidecars alike)
    "staging-made", "staging-written", "staging-synced", // spool and homes: put in its place
    "spool-linked", "home-renamed", "home-synced", "spool-synced", "stale-removed",
    // intake of a file that lies in a home already
    "file-copied", // queue and intake: its job
    "job-inserted", "job-committed", // queue and worker: its run
    "job-leased", "job-claimed", "document-read", // worker: each sidecar
    "sidecar-staged", "sidecar-kept", "sidecar-installed", "day-appended", "sidecars-published",
    // queue and worker: its end, and the outbox in the same transaction
    "job-ended", "outbox-written", "job-settled", // delivery
    "delivery-claimed", "mail-sent", "delivery-settled", // upkeep: what is old enough goes
    "retention-sidecars", "retention-bytes", "retention-file", "retention-noted",
];

/// Dies here, if this is where the environment wants it.
#[cfg(feature = "crash-points")]
pub fn here(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    static WANTED: OnceLock<Option<(String, u32)>> = OnceLock::new();
    static PASSES: AtomicU32 = AtomicU32::new(0);

    debug_assert!(ALL.contains(&name), "{name} is not in the list of crash points");
    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var("INKPORT_CRASH_AT").ok()?;
        Some(match text.split_once(':') {
            Some((name, pass)) => (name.to_owned(), pass.parse().unwrap_or(1)),
            None => (text, 1),
        })
    });
    if let Some((place, pass)) = wanted
        && place == name
        && PASSES.fetch_add(1, Ordering::SeqCst) + 1 == *pass
    {
        eprintln!("crash point {place}, pass {pass}");
        std::process::abort();
    }
}

/// Whether a test wants that to happen in a moment which otherwise waits for minutes.
#[must_use]
pub fn hurry() -> bool {
    cfg!(feature = "crash-points") && std::env::var_os("INKPORT_HURRY").is_some()
}

/// Nothing: only the feature `crash-points` makes something of it.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub fn here(_name: &str) {}
