//! `inkport links revoke`: a signed link, all links of a job, or all there are, end at the next request.

use crate::config::Config;
use crate::links::Links;
use crate::units::Timestamp;
use anyhow::bail;
use clap::{Args, Subcommand};
use std::process::ExitCode;
use std::time::SystemTime;

#[derive(Debug, Subcommand)]
pub enum LinksCommand {
    /// End links before they expire; the daemon need not be told
    Revoke(RevokeArgs),
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct RevokeArgs {
    /// A link as it was sent, its token, or a job's id for all links to that job's sidecars
    #[arg(value_name = "LINK|JOB")]
    pub what: Option<String>,
    /// Every link there is
    #[arg(long)]
    pub all: bool,
}

pub fn run(command: &LinksCommand, config: &Config) -> anyhow::Result<ExitCode> {
    let LinksCommand::Revoke(RevokeArgs { what, all }) = command;
    let database = config.database();
    if !database.exists() {
        bail!("there are no links in {}: the daemon has not run there yet", database.display());
    }
    let links = Links::open(&database)?;
    match what {
        Some(what) => {
            let name = links.revoke(what, Timestamp::from_system(SystemTime::now()))?;
            eprintln!("revoked {name}: it holds no more");
        }
        None if *all => {
            links.revoke_all()?;
            eprintln!("every link there was is revoked");
        }
        None => unreachable!("clap asks for one of the two"),
    }
    Ok(ExitCode::SUCCESS)
}
