//! `inkport serve`.

use super::Plan;
use super::engine::{Choice, launch};
use crate::config::Config;
use crate::daemon;
use crate::worker::engine::Readers;
use anyhow::Context;
use std::io::Write;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// Runs the daemon until it is told to stop.
pub fn run(config: Config) -> anyhow::Result<ExitCode> {
    let wanted = std::env::var("INKPORT_LOG").unwrap_or_else(|_| "info".to_owned());
    // libunftp's spans carry its whole session in their fields; what matters of it, `ftp` logs itself.
    let filter = EnvFilter::try_new(format!("{wanted},libunftp=off,unftp_core=off"))
        .with_context(|| format!("INKPORT_LOG={wanted} is not a log filter; try info, debug or inkport::ftp=debug"))?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    let plan = Plan::of(config.ocr.threads);
    let choice = Choice { ocr: config.ocr.clone(), threads: plan.threads };
    let readers = Readers::Walled(launch(&choice, config.limits.engine_memory.0)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("the runtime cannot be started")?;
    runtime.block_on(daemon::run(config, plan.lanes, readers, |addresses| {
        let mut out = std::io::stdout().lock();
        // Whoever started us may have closed stdout; that is no reason to stop.
        let ftps = addresses.ftps.map(|address| format!(" ftps={address}")).unwrap_or_default();
        let _ = writeln!(out, "inkport ready ftp={} http={}{ftps}", addresses.ftp, addresses.http).and_then(|()| out.flush());
    }))?;
    // What still hangs (an abandoned engine thread in a foreign library) must not keep the process.
    runtime.shutdown_background();
    Ok(ExitCode::SUCCESS)
}
