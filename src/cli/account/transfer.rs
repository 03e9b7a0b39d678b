//! `inkport account import` and `export`: all accounts in the form of `accounts.toml`.

use super::{make_home, nothing_kept, open};
use crate::accounts::{self, AccountsError, Imported};
use crate::cli::print::print;
use crate::config::Config;
use anyhow::{Context as _, bail};
use std::io::Read as _;
use std::path::Path;

/// Far above any list of accounts.
const LARGEST: u64 = 64 << 20;

/// All of a file's accounts, or none. `-` is standard input.
pub(super) fn import(file: &Path, replace: bool, config: &Config) -> anyhow::Result<()> {
    let shown = if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() };
    let mut text = String::new();
    let source: Box<dyn std::io::Read> = if file == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(file).with_context(|| format!("{shown} cannot be read"))?)
    };
    source.take(LARGEST + 1).read_to_string(&mut text).with_context(|| format!("{shown} cannot be read"))?;
    if text.len() as u64 > LARGEST {
        bail!("{shown} is larger than {LARGEST} bytes: it cannot be a list of accounts");
    }
    let wanted = accounts::from_toml(&text)
        .map_err(|detail| anyhow::anyhow!("no account was imported, because {shown} cannot be used: {detail}"))?;
    let told = match open(config)?.import(&wanted, replace) {
        Err(error @ AccountsError::Differ(_)) => bail!("no account was imported: {error}; --replace gives them the file's"),
        told => told?,
    };
    for account in &wanted {
        make_home(config, &account.name);
    }
    let Imported { added, replaced, unchanged } = told;
    eprintln!("{added} accounts added, {replaced} replaced, {unchanged} were there with the same settings");
    Ok(())
}

/// Hashes too, so that every password holds where the file is imported.
pub(super) fn export(config: &Config) -> anyhow::Result<()> {
    let kept = if nothing_kept(config) { Vec::new() } else { open(config)?.list()? };
    Ok(print(&accounts::to_toml(&kept))?)
}
