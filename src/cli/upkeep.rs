//! `inkport backup` and `inkport fsck`.

use super::Usage;
use super::print::{clean, print, table};
use crate::config::Config;
use crate::daemon;
use crate::homes::Homes;
use crate::spool::Spool;
use crate::units::ByteSize;
use crate::upkeep::{self, UpkeepError, backup, fsck};
use anyhow::Context as _;
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// Where the snapshot goes.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// A folder that is empty or not there yet
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct FsckArgs {
    /// Mend what can be mended, and say what was done; no original is ever deleted. Stop the daemon first
    #[arg(long)]
    repair: bool,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// Takes a snapshot of database, spool and homes, while the daemon runs or not.
pub fn backup(args: &BackupArgs, config: &Config) -> anyhow::Result<ExitCode> {
    must_be_there(config)?;
    let from = backup::From { database: config.database(), spool: Spool::open(&config.spool())?, homes: config.homes() };
    let report = match backup::take(&from, &args.folder) {
        Err(error @ UpkeepError::Folder { .. }) => return Err(Usage(error.to_string()).into()),
        other => other?,
    };
    let lost: Vec<String> = report.lost.iter().map(ToString::to_string).collect();
    if args.json {
        let document =
            json!({ "folder": args.folder, "jobs": report.jobs, "files": report.files, "bytes": report.bytes, "lost": lost });
        print(&format!("{document:#}\n"))?;
    } else {
        print(&format!(
            "{} jobs, {} files, {} in {}; `sha256sum --check {}` in there proves it\n",
            report.jobs,
            report.files,
            ByteSize(report.bytes),
            args.folder.display(),
            backup::SUMS,
        ))?;
    }
    for key in &lost {
        eprintln!("inkport: the bytes {key} were lost before this backup: run `inkport fsck`");
    }
    Ok(if lost.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Proves that rows and files belong together. Exit code 0, or 1 where a fault is left.
pub fn fsck(args: &FsckArgs, config: &Config) -> anyhow::Result<ExitCode> {
    must_be_there(config)?;
    let accounts = daemon::accounts(config)?.list()?;
    let house = fsck::House {
        data_dir: config.data_dir.clone(),
        database: config.database(),
        spool: Spool::open(&config.spool())?,
        homes: Homes::open(&config.homes())?,
        outputs: upkeep::outputs(accounts),
    };
    let report = fsck::check(&house, args.repair).with_context(|| {
        if args.repair {
            "the check could not be carried through; --repair needs the daemon to be stopped"
        } else {
            "the check could not be carried through"
        }
    })?;
    let faults = report.faults();
    if args.json {
        let document = json!({ "jobs": report.jobs, "files": report.files, "faults": faults, "findings": report.findings });
        print(&format!("{document:#}\n"))?;
    } else {
        let rows: Vec<Vec<String>> = report
            .findings
            .iter()
            .map(|finding| {
                let state = match (&finding.repaired, finding.note) {
                    (Some(done), _) => format!("repaired: {done}"),
                    (None, true) => "note".to_owned(),
                    (None, false) => "fault".to_owned(),
                };
                vec![finding.kind.to_owned(), state, finding.place.clone(), clean(&finding.detail)]
            })
            .collect();
        let mut text = if rows.is_empty() { String::new() } else { table(&["WHAT", "STATE", "WHERE", "DETAIL"], &rows) };
        text.push_str(&format!("{} jobs, {} files in the spool, {faults} faults\n", report.jobs, report.files));
        print(&text)?;
    }
    Ok(if faults == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn must_be_there(config: &Config) -> Result<(), Usage> {
    let database = config.database();
    if database.exists() {
        return Ok(());
    }
    Err(Usage(format!(
        "there is no {}: `inkport serve` makes it, or name the right configuration with --config",
        database.display()
    )))
}
