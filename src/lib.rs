//! # Inkport
//!
//! Scan to FTP, get text: one daemon that takes uploads, keeps them, reads them and answers with
//! sidecar files and mail. This page is the tour; read the rooms in the order of the `mod` lines.
//!
//! ```text
//! FTP STOR ─► ftp/storage ─┐
//! file drop ─► watch ──────┼─ Upload ─► intake ─► spool   bytes durable
//! HTTP POST ─► http/api ───┘                └───► queue   row durable ─► 226, 2xx
//!                                                  │ Lease
//!                                                  ▼
//!    document ◄─ bytes ─ worker ─────► engine process ──── Reading ─► sidecar ─ bytes ─► publish ─► home
//!                                                  │ Outcome { deliveries }   one transaction: job done + outbox rows
//!                                                  ▼
//!                                                queue ─ Delivery ─► delivery/mail ─► relay
//! http/status ◄─ JobLedger (read only) ─ queue
//! ```
//!
//! Rooms, from the ground up (a room imports rooms of lower rank only; `tests/layers.rs` holds it):
//!
//! | rank | room | owns |
//! |---|---|---|
//! | 0 | [`crashpoint`] | where a test may have the process die; nothing in what is shipped |
//! | 0 | [`meters`] | what is counted and timed, by name |
//! | 0 | [`units`] | byte sizes, durations and instants as people write them |
//! | 1 | [`account`] | who may come in: names, roles, limits, credential hashes |
//! | 1 | [`document`] | bytes to upright page images, every limit checked before it allocates |
//! | 2 | [`job`] | the job's and the delivery's state machines: pure decisions, time passed in |
//! | 2 | [`ocr`] | page image to lines of text: the `Engine` seam and the two-stage engine |
//! | 3 | [`processors`] | codes and fields: what is found besides the text |
//! | 4 | [`sidecar`] | a reading rendered as the files that lie beside an upload |
//! | 4 | [`models`] | the manifest: which model files are installed, and whether they are the right ones |
//! | 4 | [`spool`] | accepted bytes, immutable, by sha256; and the staging folder before that |
//! | 4 | [`database`] | the one SQLite file: how it is opened, its schema and version |
//! | 5 | [`homes`] | accounts' folders: the only paths that clients see |
//! | 5 | [`queue`] | jobs and outbox in SQLite: one writer, many readers |
//! | 5 | [`links`] | signed links to sidecars: made, checked, revoked |
//! | 5 | [`accounts`] | accounts in SQLite or TOML |
//! | 6 | [`intake`] | the only way in: upload to spool to queue |
//! | 6 | [`worker`] | claim, read, publish, settle |
//! | 6 | [`keys`] | keys of the HTTP side, the signatures and rates of requests, pages charged in a day |
//! | 6 | [`delivery`] | the outbox loop and mail |
//! | 7 | [`upkeep`] | backup, the proof that rows and bytes belong together, retention |
//! | 7 | [`ftp`], [`watch`], [`http`] | the doors |
//! | 8 | [`config`] | composes each room's settings; no room imports it |
//! | 9 | [`daemon`] | builds every part, starts in order, stops in order |
//! | 10 | [`cli`] | one file per command family |
//!
//! Invariants:
//!
//! - Only `intake` creates jobs. Only `queue` changes a job's state, through [`job::state::apply`].
//!   Only `worker::publish` and `intake` (for the doors) write into homes. Only `delivery` speaks SMTP.
//! - 226 comes after durable: file and folder fsynced, job row committed.
//! - Sidecars appear by rename, whole or not at all, the `.json` last.
//! - Waiting may be cancelled, working may not.
//! - Memory is bounded by configuration, not by input: every channel has a size, every decoder a
//!   limit checked before it allocates.
#![forbid(unsafe_code)]

pub mod crashpoint;
pub mod meters;
pub mod units;
pub mod account;
pub mod document;
pub mod job;
pub mod ocr;
pub mod processors;
pub mod sidecar;
pub mod models;
pub mod spool;
pub mod database;
pub mod homes;
pub mod queue;
pub mod links;
pub mod accounts;
pub mod intake;
pub mod worker;
pub mod delivery;
pub mod keys;
pub mod upkeep;
pub mod ftp;
pub mod watch;
pub mod http;
pub mod config;
pub mod daemon;
pub mod cli;
