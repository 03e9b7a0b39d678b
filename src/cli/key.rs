//! `inkport key …`: who may call the HTTP side. A change holds at the next request, with the daemon running
//! or not. A secret is printed once, when it is made, and cannot be had again.

use super::print::{clean, print, table};
use crate::account::AccountName;
use crate::accounts::AccountsError;
use crate::config::Config;
use crate::daemon;
use crate::keys::{Key, KeyId, Keys, Kind, NewKey, Scope, Scopes, Secret};
use crate::units::{Span, Timestamp};
use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a key for an account; prints {"id": …, "secret": …} this once
    Add(AddArgs),
    /// List keys, without their secrets
    List {
        /// Only this account's
        #[arg(long, value_name = "ACCOUNT")]
        account: Option<AccountName>,
        /// One JSON array
        #[arg(long)]
        json: bool,
    },
    /// Give a key a new secret; prints {"id": …, "secret": …} this once
    Rotate {
        /// As `key list` tells it
        id: KeyId,
        /// For so long the old secret holds too
        #[arg(long, value_name = "TIME", default_value = "24h")]
        grace: Span,
        /// One JSON document, as without it
        #[arg(long)]
        json: bool,
    },
    /// Let nobody in with a key any more, from the next request on
    Revoke {
        /// As `key list` tells it
        id: KeyId,
    },
}

#[derive(Debug, Args)]
pub struct AddArgs {
    /// Whose documents it hands in and sees
    account: AccountName,
    /// bearer: the secret goes with every request; hmac: it signs every request and never travels
    #[arg(long)]
    kind: Kind,
    /// It ends after this time, as "90d"
    #[arg(long, value_name = "TIME")]
    expires: Option<Span>,
    /// What it is for, to tell it from others
    #[arg(long, value_name = "TEXT", default_value = "", value_parser = parse_label)]
    label: String,
    /// What it may do: read, write, admin
    #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ',', default_value = "read,write")]
    scopes: Vec<Scope>,
    /// One JSON document, as without it
    #[arg(long)]
    pub json: bool,
}

fn parse_label(text: &str) -> Result<String, String> {
    if text.chars().count() > 100 || text.chars().any(char::is_control) {
        return Err("a label is one line of at most 100 characters".to_owned());
    }
    Ok(text.to_owned())
}

/// Runs the command.
pub fn run(command: &KeyCommand, config: &Config) -> anyhow::Result<ExitCode> {
    match command {
        KeyCommand::Add(args) => add(args, config)?,
        KeyCommand::List { account, json } => {
            // Looking need not make a database.
            let keys = if config.database().exists() { open(config)?.list(account.as_ref())? } else { Vec::new() };
            let now = now();
            let text = if *json {
                format!("{:#}\n", Value::Array(keys.iter().map(|key| to_json(key, now)).collect()))
            } else {
                overview(&keys, now)
            };
            print(&text)?;
        }
        KeyCommand::Rotate { id, grace, .. } => {
            let (key, secret) = existing(config, id)?.rotate(id, grace.0, now())?;
            tell(&key, &secret)?;
            let old = if grace.0.is_zero() { "no longer holds".to_owned() } else { format!("holds for {grace} more") };
            eprintln!("the key {id} of \"{}\" has a new secret, shown this once; the old one {old}", key.account);
        }
        KeyCommand::Revoke { id } => {
            let key = existing(config, id)?.revoke(id, now())?;
            eprintln!("the key {id} of \"{}\" is revoked: nobody is let in with it any more", key.account);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn add(args: &AddArgs, config: &Config) -> anyhow::Result<()> {
    let folder = &config.data_dir;
    std::fs::create_dir_all(folder).with_context(|| format!("the data folder {} cannot be made", folder.display()))?;
    let accounts = daemon::accounts(config)?;
    if accounts.find(&args.account)?.is_none() {
        return Err(AccountsError::Missing(args.account.clone()).into());
    }
    let now = now();
    let expires_at = match args.expires {
        Some(Span(Duration::ZERO)) => bail!("--expires: a key that ends at once lets nobody in; name a time like 90d"),
        expires => expires.map(|Span(time)| now.after(time)),
    };
    let new = NewKey {
        account: args.account.clone(),
        kind: args.kind,
        label: args.label.clone(),
        scopes: Scopes::of(&args.scopes),
        expires_at,
    };
    let (key, secret) = open(config)?.add(&new, now)?;
    tell(&key, &secret)?;
    eprintln!("\"{}\" has a new {} key; its secret is shown this once", key.account, key.kind.name());
    Ok(())
}

/// The keys, where there may be one of this id.
fn existing(config: &Config, id: &KeyId) -> anyhow::Result<Keys> {
    if !config.database().exists() {
        bail!("there is no key {id}: nothing is kept in {} yet", config.data_dir.display());
    }
    open(config)
}

fn open(config: &Config) -> anyhow::Result<Keys> {
    Ok(Keys::open(&config.database(), config.master_key())?)
}

fn now() -> Timestamp {
    Timestamp::from_system(SystemTime::now())
}

/// The one time that a secret is shown.
fn tell(key: &Key, secret: &Secret) -> anyhow::Result<()> {
    print(&format!("{}\n", json!({ "id": key.id, "secret": secret.reveal() })))?;
    Ok(())
}

fn to_json(key: &Key, now: Timestamp) -> Value {
    json!({
        "id": key.id,
        "account": key.account,
        "kind": key.kind,
        "label": key.label,
        "scopes": key.scopes,
        "state": key.state(now),
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "last_used_at": key.last_used_at,
        "grace_until": key.grace_until.filter(|until| *until > now),
    })
}

fn overview(keys: &[Key], now: Timestamp) -> String {
    if keys.is_empty() {
        return "no keys: `inkport key add ACCOUNT --kind bearer` makes one\n".to_owned();
    }
    let day = |at: Option<Timestamp>| at.map_or_else(|| "never".to_owned(), |at| at.to_string()[..10].to_owned());
    let rows: Vec<Vec<String>> = keys
        .iter()
        .map(|key| {
            vec![
                key.id.to_string(),
                key.account.to_string(),
                key.kind.name().to_owned(),
                key.state(now).to_owned(),
                key.scopes.to_string(),
                day(key.expires_at),
                day(key.last_used_at),
                clean(&key.label),
            ]
        })
        .collect();
    table(&["ID", "ACCOUNT", "KIND", "STATE", "SCOPES", "EXPIRES", "LAST USED", "LABEL"], &rows)
}
