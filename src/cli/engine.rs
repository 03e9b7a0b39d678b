//! `inkport engine`: the daemon's own engine process, started by it and by nobody else. Speaks frames
//! over standard input and output, and ends when its input does.

use super::open_engine;
use crate::ocr::EngineError;
use crate::worker::wall;
use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::process::ExitCode;

/// Which engine to open, as the daemon's configuration says it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Choice {
    pub ocr: crate::ocr::Settings,
    /// For one page.
    pub threads: usize,
}

/// This binary, even when another one has been put in its place since the daemon started.
const OURSELVES: &str = "/proc/self/exe";

/// How the daemon starts it.
pub(super) fn launch(choice: &Choice, memory: u64) -> anyhow::Result<wall::Launch> {
    let program = PathBuf::from(OURSELVES);
    let program = if program.exists() { program } else { std::env::current_exe().context("our own binary cannot be found")? };
    let engine = serde_json::to_value(choice).context("ocr.models is not UTF-8, as it must be")?;
    Ok(wall::Launch { program, arguments: vec!["engine".to_owned()], memory, engine })
}

/// Runs until the daemon is done with it.
pub fn run() -> anyhow::Result<ExitCode> {
    wall::serve(|choice| {
        let choice: Choice = serde_json::from_value(choice).map_err(|error| EngineError::Model(error.to_string()))?;
        open_engine(&choice.ocr, choice.threads)
    })
    .context("the engine process cannot go on; it is started by `inkport serve`")?;
    Ok(ExitCode::SUCCESS)
}
