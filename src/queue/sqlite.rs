//! The queue in one SQLite file.

/// The writing side; clones share the writer thread.
#[derive(Debug, Clone)]
pub struct SqliteQueue;

/// The reading side.
#[derive(Debug, Clone)]
pub struct SqliteLedger;
