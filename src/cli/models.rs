//! `inkport models list|verify`.

use super::{Plan, engine_files};
use crate::config::Config;
use crate::models::{Installed, Manifest};
use crate::ocr::TwoStage;
use clap::Subcommand;
use serde_json::json;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// What is installed, from where, under which licence
    List {
        /// One JSON array
        #[arg(long)]
        json: bool,
    },
    /// Check every file's sha256, and that the engine loads
    Verify,
}

pub fn run(command: &ModelsCommand, config: &Config) -> anyhow::Result<ExitCode> {
    let manifest = Manifest::open(&config.ocr.models)?;
    let mut rows = Vec::new();
    for entry in manifest.entries() {
        rows.push((entry, manifest.path(entry), manifest.check(entry)?));
    }
    let all_good = rows.iter().all(|(_, _, installed)| *installed == Installed::Good);
    let word = |installed: &Installed| match installed {
        Installed::Good => "good",
        Installed::Missing => "missing",
        Installed::Wrong(_) => "wrong",
    };
    match command {
        ModelsCommand::List { json: true } => {
            let list: Vec<_> = rows
                .iter()
                .map(|(entry, path, installed)| {
                    json!({
                        "name": entry.name, "role": entry.role, "file": path, "sha256": entry.sha256,
                        "licence": entry.licence, "source": entry.source, "installed": word(installed),
                    })
                })
                .collect();
            println!("{}", serde_json::to_string_pretty(&list)?);
        }
        ModelsCommand::List { json: false } => {
            println!("{:<26} {:<12} {:<8} {:<11} SOURCE", "NAME", "ROLE", "STATE", "LICENCE");
            for (entry, _, installed) in &rows {
                let (name, role, licence, source) = (&entry.name, entry.role.name(), &entry.licence, &entry.source);
                println!("{name:<26} {role:<12} {:<8} {licence:<11} {source}", word(installed));
            }
        }
        ModelsCommand::Verify => {
            for (entry, path, installed) in &rows {
                println!("{:<8} {}  {}", word(installed), entry.sha256, path.display());
                if let Installed::Wrong(found) = installed {
                    println!("         {found}  is what lies there");
                }
            }
            if !all_good {
                eprintln!("inkport: some model files are not as the manifest says: run `make setup` to fetch them again");
                return Ok(ExitCode::FAILURE);
            }
            TwoStage::open(&engine_files(&config.ocr)?, Plan::of(config.ocr.threads).threads)?;
            println!("the engine loads");
        }
    }
    Ok(ExitCode::SUCCESS)
}
