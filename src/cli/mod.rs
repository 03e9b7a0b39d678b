//! The command line: one file per command family.
//!
//! Exit codes: 0 good; 1 the work failed; 2 wrong usage or bad configuration. Errors are one sentence
//! on stderr. Secrets are never taken as arguments. `anyhow` is at home here and in `main` only.

pub mod account;
pub mod cert;
pub mod check_config;
pub mod engine;
pub mod jobs;
pub mod key;
pub mod links;
pub mod models;
mod print;
pub mod read;
pub mod serve;
pub mod upkeep;

use crate::config::{Config, ConfigError};
use crate::models::{Manifest, ModelsError, Role};
use crate::ocr::{self, Engine, EngineError, EngineFiles, TwoStage};
use crate::worker::engine::{Readers, Session};
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Scan to FTP, get text.
#[derive(Debug, Parser)]
#[command(name = "inkport", version, about, propagate_version = true)]
pub struct CommandLine {
    /// The configuration; unless given ./config/inkport.toml, then /etc/inkport/inkport.toml
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon; prints one line when it is ready
    Serve,
    /// Check the configuration and everything it names
    CheckConfig,
    /// Read files without the daemon
    Read(read::ReadArgs),
    /// Who may upload
    #[command(subcommand)]
    Account(account::AccountCommand),
    /// Who may call the HTTP side
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// What became of the uploads
    #[command(subcommand)]
    Jobs(jobs::JobsCommand),
    /// Signed links to sidecars
    #[command(subcommand)]
    Links(links::LinksCommand),
    /// What Inkport reads with
    #[command(subcommand)]
    Models(models::ModelsCommand),
    /// Copy database, spool and homes as they stand, while the daemon runs or not
    Backup(upkeep::BackupArgs),
    /// Prove that every job has its bytes and every file its job
    Fsck(upkeep::FsckArgs),
    /// Make a self-signed certificate for FTPS and HTTPS
    Cert(cert::CertArgs),
    /// Print what the HTTP API takes and answers, as OpenAPI 3.1
    Openapi,
    /// What the daemon starts to read documents in; of no use by hand
    #[command(hide = true)]
    Engine,
}

/// A wrong use that clap could not see: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Runs a command.
pub fn run(line: CommandLine) -> anyhow::Result<ExitCode> {
    match line.command {
        Command::Engine => return engine::run(),
        Command::Openapi => {
            print::print(&crate::http::api::document())?;
            return Ok(ExitCode::SUCCESS);
        }
        _ => {}
    }
    let config = Config::load(line.config.as_deref());
    let or_defaults = |config| config_or_defaults(line.config.is_some(), config);
    match line.command {
        Command::Serve => serve::run(config?),
        Command::CheckConfig => check_config::run(&config?),
        Command::Read(args) => read_files(&args, &or_defaults(config)?),
        Command::Account(command) => account::run(&command, &config?),
        Command::Key(command) => key::run(&command, &config?),
        Command::Jobs(command) => jobs::run(&command, &config?),
        Command::Models(command) => models::run(&command, &or_defaults(config)?),
        Command::Backup(args) => upkeep::backup(&args, &config?),
        Command::Fsck(args) => upkeep::fsck(&args, &config?),
        Command::Cert(args) => cert::run(&args),
        Command::Links(command) => links::run(&command, &config?),
        Command::Engine | Command::Openapi => unreachable!("run above, without a configuration"),
    }
}

fn read_files(args: &read::ReadArgs, config: &Config) -> anyhow::Result<ExitCode> {
    // Models that are not there are told as such, before anything is started.
    engine_files(&config.ocr)?;
    let cores = cores(config.ocr.threads);
    let memory = config.limits.engine_memory.0;
    let engine = |number: usize, side_by_side: usize| -> anyhow::Result<Session> {
        let choice = engine::Choice { ocr: config.ocr.clone(), threads: (cores / side_by_side).max(1) };
        Ok(Session::open(number, Readers::Walled(engine::launch(&choice, memory)?))?)
    };
    let setup = read::Setup {
        engine: &engine,
        engines: Plan::of(config.ocr.threads).lanes,
        limits: config.document_limits(),
        max_upload: config.limits.max_upload,
        codes: config.codes.clone(),
        style: config.sidecars,
    };
    read::run(args, &setup)
}

/// Reading files needs no configuration: where none is found (and none was named), defaults do.
fn config_or_defaults(named: bool, config: Result<Config, ConfigError>) -> Result<Config, ConfigError> {
    match config {
        Err(ConfigError::Missing(_)) if !named => {
            let mut config = Config::default();
            config.ocr.models = installed_models().unwrap_or(config.ocr.models);
            Ok(config)
        }
        other => other,
    }
}

/// Where the models lie when no configuration says it: beside a build (`target/release/inkport`), beside
/// an installed binary (`bin/inkport`), or where the package puts them.
fn installed_models() -> Option<PathBuf> {
    let binary = std::env::current_exe().ok()?;
    let folder = binary.parent()?;
    let candidates = [folder.join("../../models"), folder.join("../share/inkport/models"), "/usr/share/inkport/models".into()];
    candidates.into_iter().find(|folder| folder.join("manifest.toml").is_file())
}

/// 2 for bad usage and bad configuration, else 1.
#[must_use]
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    let usage = error.chain().any(|cause| {
        cause.is::<Usage>() || cause.is::<ConfigError>() || cause.is::<crate::daemon::SetupError>() || cause.is::<ModelsError>()
    });
    ExitCode::from(if usage { 2 } else { 1 })
}

/// The engine that the configuration names.
pub(crate) fn engine_files(settings: &ocr::Settings) -> Result<EngineFiles, ModelsError> {
    let manifest = Manifest::open(&settings.models)?;
    Ok(EngineFiles {
        runtime: manifest.file(Role::Runtime)?,
        detector: manifest.file(Role::Detector)?,
        recognizer: manifest.file(Role::Recognizer)?,
        orientation: manifest.file(Role::Orientation)?,
    })
}

/// How many pages are read at once, and with how many threads each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    pub lanes: usize,
    pub threads: usize,
}

fn cores(threads: usize) -> usize {
    match threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        given => given,
    }
}

/// Lanes of one thread read most pages an hour, but each has sessions of its own in memory: past four
/// of them, further threads make a page faster instead.
const MOST_LANES: usize = 4;

impl Plan {
    /// `threads` as `[ocr] threads` says it: 0 means all cores.
    pub fn of(threads: usize) -> Self {
        let cores = cores(threads);
        let lanes = cores.clamp(1, MOST_LANES);
        Plan { lanes, threads: (cores / lanes).max(1) }
    }
}

/// Opens an engine of the configured kind; looks the files up anew, so that models fetched later are found.
fn open_engine(settings: &ocr::Settings, threads: usize) -> Result<Box<dyn Engine>, EngineError> {
    let files = engine_files(settings).map_err(|error| EngineError::Unavailable(error.to_string()))?;
    TwoStage::open(&files, threads).map(|engine| Box::new(engine) as Box<dyn Engine>)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_use_every_core_and_bound_the_lanes() {
        for (threads, lanes, each) in [(1, 1, 1), (2, 2, 1), (4, 4, 1), (8, 4, 2), (16, 4, 4)] {
            assert_eq!(Plan::of(threads), Plan { lanes, threads: each });
        }
        assert!(Plan::of(0).lanes >= 1);
    }

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        CommandLine::command().debug_assert();
    }
}
