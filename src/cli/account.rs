//! `inkport account …`: who may come in. A change holds at the next login, with the daemon running or
//! not. Passwords come in by standard input or are generated; hashes never leave the store.

use super::print::{clean, print, table};
use crate::account::{Account, AccountName};
use crate::accounts::bans::Bans;
use crate::accounts::{Accounts, AccountsError, password};
use crate::config::{AccountsSource, Config};
use crate::homes::Homes;
use crate::units::Timestamp;
use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use settings::{Clearable, SettingArgs};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

mod settings;
mod transfer;

pub(super) use settings::parse_language;

/// What to do with accounts.
#[derive(Debug, Subcommand)]
pub enum AccountCommand {
    /// Add an account; without --password-stdin its password is generated and printed once
    Add(Box<AddArgs>),
    /// List accounts
    List {
        /// One JSON array
        #[arg(long)]
        json: bool,
    },
    /// Show one account
    Show {
        name: AccountName,
        /// One JSON document
        #[arg(long)]
        json: bool,
    },
    /// Change an account's settings; what is not named stays
    Set(Box<SetArgs>),
    /// Give an account a new password; without --password-stdin it is generated and printed once
    Passwd {
        name: AccountName,
        #[command(flatten)]
        password: PasswordArgs,
    },
    /// Let nobody in under this name; its files and jobs stay
    Disable { name: AccountName },
    /// Let a disabled account in again
    Enable { name: AccountName },
    /// Remove an account; its folder stays
    Remove { name: AccountName },
    /// Add all accounts of a file in the form of accounts.toml, or none; - is standard input
    Import {
        file: PathBuf,
        /// Accounts that are there with other settings get the file's, passwords too; without this nothing is imported then
        #[arg(long)]
        replace: bool,
    },
    /// List who is locked out after failed logins, why, and until when
    Bans {
        /// One JSON array
        #[arg(long)]
        json: bool,
    },
    /// Print all accounts in the form of accounts.toml, password hashes too
    Export,
}

#[derive(Debug, Args)]
pub struct AddArgs {
    /// 1 to 64 of a-z 0-9 . _ -, beginning with a letter or a digit; its folder's name too
    name: AccountName,
    #[command(flatten)]
    password: PasswordArgs,
    #[command(flatten)]
    settings: SettingArgs,
}

#[derive(Debug, Args)]
pub struct SetArgs {
    name: AccountName,
    #[command(flatten)]
    settings: SettingArgs,
    /// Unset these
    #[arg(long, value_delimiter = ',', value_name = "SETTING")]
    clear: Vec<Clearable>,
}

#[derive(Debug, Args)]
pub struct PasswordArgs {
    /// Read the password from standard input (a line end at its end does not count)
    #[arg(long)]
    password_stdin: bool,
}

/// No longer password is checked: hashing is work for the length.
const LONGEST_PASSWORD: u64 = 1024;

/// Runs the command.
pub fn run(command: &AccountCommand, config: &Config) -> anyhow::Result<ExitCode> {
    match command {
        AccountCommand::Add(args) => add(args, config)?,
        AccountCommand::List { json } => {
            let accounts = if nothing_kept(config) { Vec::new() } else { open(config)?.list()? };
            let text =
                if *json { format!("{:#}\n", Value::Array(accounts.iter().map(to_json).collect())) } else { overview(&accounts) };
            print(&text)?;
        }
        AccountCommand::Show { name, json } => {
            let account = find(&open(config)?, name)?;
            print(&if *json { format!("{:#}\n", to_json(&account)) } else { details(&account) })?;
        }
        AccountCommand::Set(args) => return set(args, config),
        AccountCommand::Passwd { name, password } => {
            let accounts = open(config)?;
            find(&accounts, name)?;
            let secret = password.obtain()?;
            let hash = password::hash(secret.text());
            accounts.update(name, |account| account.password_hash = Some(hash))?;
            tell(&format!("account \"{name}\" has a new password from the next login on"), &secret)?;
        }
        AccountCommand::Disable { name } => enable(name, config, false)?,
        AccountCommand::Enable { name } => enable(name, config, true)?,
        AccountCommand::Remove { name } => {
            open(config)?.remove(name)?;
            let home = config.homes().join(name.as_str());
            if home.exists() {
                eprintln!("account \"{name}\" is removed; its files stay in {}", home.display());
            } else {
                eprintln!("account \"{name}\" is removed");
            }
        }
        AccountCommand::Import { file, replace } => transfer::import(file, *replace, config)?,
        AccountCommand::Bans { json } => bans(*json, config)?,
        AccountCommand::Export => transfer::export(config)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn add(args: &AddArgs, config: &Config) -> anyhow::Result<()> {
    let accounts = open(config)?;
    if accounts.find(&args.name)?.is_some() {
        // Before a password is asked for.
        return Err(AccountsError::Exists(args.name.clone()).into());
    }
    let secret = args.password.obtain()?;
    let mut account = Account::new(args.name.clone());
    args.settings.apply(&mut account);
    account.password_hash = Some(password::hash(secret.text()));
    account.created_at = Some(Timestamp::from_system(SystemTime::now()));
    accounts.add(&account)?;
    make_home(config, &args.name);
    tell(&format!("account \"{}\" is added", args.name), &secret)
}

fn set(args: &SetArgs, config: &Config) -> anyhow::Result<ExitCode> {
    if args.settings.is_empty() && args.clear.is_empty() {
        eprintln!("nothing to set: name a setting, as in `inkport account set {} --quota 10GiB`", args.name);
        return Ok(ExitCode::from(2));
    }
    let accounts = open(config)?;
    accounts.update(&args.name, |account| {
        for setting in &args.clear {
            setting.clear(account);
        }
        args.settings.apply(account);
    })?;
    eprintln!("account \"{}\" is changed", args.name);
    Ok(ExitCode::SUCCESS)
}

fn bans(json: bool, config: &Config) -> anyhow::Result<()> {
    let bans = if config.database().exists() {
        let unusable = || format!("the database {} cannot be read", config.database().display());
        Bans::open(&config.database())
            .and_then(|bans| bans.list(Timestamp::from_system(SystemTime::now())))
            .with_context(unusable)?
    } else {
        Vec::new()
    };
    if json {
        return Ok(print(&format!("{:#}\n", json!(bans)))?);
    }
    if bans.is_empty() {
        return Ok(print("nobody is locked out\n")?);
    }
    let rows: Vec<Vec<String>> = bans
        .iter()
        .map(|ban| {
            vec![
                ban.account.as_ref().map_or_else(|| "any".to_owned(), AccountName::to_string),
                ban.address.map_or_else(|| "any".to_owned(), |address| address.to_string()),
                ban.since.to_string(),
                ban.until.to_string(),
                ban.reason.clone(),
            ]
        })
        .collect();
    Ok(print(&table(&["ACCOUNT", "ADDRESS", "SINCE", "UNTIL", "REASON"], &rows))?)
}

fn enable(name: &AccountName, config: &Config, enabled: bool) -> anyhow::Result<()> {
    open(config)?.update(name, |account| account.enabled = enabled)?;
    eprintln!("account \"{name}\" is {}", if enabled { "enabled" } else { "disabled: nobody can log in under this name" });
    Ok(())
}

/// The account's folder, for whoever the folder of all homes is: an administrator must not take it away from
/// the daemon's own user. What cannot be made here is made at the first login.
fn make_home(config: &Config, name: &AccountName) {
    let made = Homes::open(&config.homes()).and_then(|homes| homes.ensure(name)).map_err(anyhow::Error::from).and_then(|home| {
        let owner = std::fs::metadata(config.homes())?;
        if std::fs::metadata(&home)?.uid() != owner.uid() {
            std::os::unix::fs::chown(&home, Some(owner.uid()), Some(owner.gid()))?;
        }
        Ok(())
    });
    if let Err(error) = made {
        eprintln!("the folder of \"{name}\" is not there yet and will be made at its first login: {error:#}");
    }
}

/// Whether there is no store yet, so that looking need not make one.
fn nothing_kept(config: &Config) -> bool {
    config.accounts.source == AccountsSource::Sqlite && !config.database().exists()
}

fn open(config: &Config) -> anyhow::Result<Accounts> {
    match config.accounts.source {
        AccountsSource::Toml => Ok(Accounts::toml(&config.accounts.file)?),
        AccountsSource::Sqlite => {
            let folder = &config.data_dir;
            crate::spool::make_folders(folder).with_context(|| format!("the data folder {} cannot be made", folder.display()))?;
            Ok(Accounts::sqlite(&config.database())?)
        }
    }
}

fn find(accounts: &Accounts, name: &AccountName) -> anyhow::Result<Account> {
    Ok(accounts.find(name)?.ok_or_else(|| AccountsError::Missing(name.clone()))?)
}

/// A new password and whether its owner knows it.
enum Secret {
    Given(String),
    Generated(String),
}

impl Secret {
    fn text(&self) -> &str {
        match self {
            Secret::Given(text) | Secret::Generated(text) => text,
        }
    }
}

impl PasswordArgs {
    fn obtain(&self) -> anyhow::Result<Secret> {
        if !self.password_stdin {
            return Ok(Secret::Generated(password::generate()));
        }
        let mut bytes = Vec::new();
        std::io::stdin()
            .take(LONGEST_PASSWORD + 1)
            .read_to_end(&mut bytes)
            .context("the password cannot be read from standard input")?;
        if bytes.len() as u64 > LONGEST_PASSWORD {
            bail!("the password on standard input is longer than {LONGEST_PASSWORD} bytes");
        }
        let text = String::from_utf8(bytes).context("the password on standard input is not UTF-8")?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.is_empty() {
            bail!("the password on standard input is empty");
        }
        if text.chars().any(char::is_control) {
            bail!("the password on standard input holds a control character, which no FTP client can send");
        }
        Ok(Secret::Given(text.to_owned()))
    }
}

/// What happened on standard error; a generated password, alone, on standard output.
fn tell(done: &str, secret: &Secret) -> anyhow::Result<()> {
    match secret {
        Secret::Given(_) => eprintln!("{done}"),
        Secret::Generated(password) => {
            eprintln!("{done}; its password, shown this once:");
            print(&format!("{password}\n"))?;
        }
    }
    Ok(())
}

/// All but the hash.
fn to_json(account: &Account) -> Value {
    json!({
        "name": account.name,
        "enabled": account.enabled,
        "role": account.role,
        "has_password": account.password_hash.is_some(),
        "email": account.email,
        "outputs": account.outputs,
        "pipeline": account.pipeline,
        "quota": account.quota.map(|size| size.0),
        "quota_files": account.quota_files,
        "max_upload": account.max_upload.map(|size| size.0),
        "language": account.language,
        "pages_per_day": account.pages_per_day,
        "charset": account.charset,
        "tls_eof": account.tls_eof,
        "client_certificate": account.client_certificate,
        "certificate_fingerprints": account.certificate_fingerprints,
        "priority": account.priority,
        "arrival": account.arrival,
        "duplicates": account.duplicates,
        "keep_originals": account.keep_originals,
        "keep_sidecars": account.keep_sidecars,
        "keep_jobs": account.keep_jobs,
        "permissions": account.permissions,
        "existing": account.existing,
        "networks": account.networks,
        "require_tls": account.require_tls,
        "expires": account.expires,
        "bandwidth": account.bandwidth.map(|size| size.0),
        "sessions": account.sessions,
        "tier": account.tier,
        "created_at": account.created_at,
    })
}

fn overview(accounts: &[Account]) -> String {
    if accounts.is_empty() {
        return "no accounts: `inkport account add NAME` makes one\n".to_owned();
    }
    let rows: Vec<Vec<String>> = accounts
        .iter()
        .map(|account| {
            let value = to_json(account);
            vec![
                account.name.to_string(),
                state(account).to_owned(),
                words(&value["role"]),
                words(&value["outputs"]),
                account.quota.map_or_else(|| "-".to_owned(), |size| size.to_string()),
                words(&value["email"]),
            ]
        })
        .collect();
    table(&["NAME", "STATE", "ROLE", "OUTPUTS", "QUOTA", "EMAIL"], &rows)
}

fn state(account: &Account) -> &'static str {
    match (account.enabled, account.may_come_in(Timestamp::from_system(SystemTime::now()))) {
        (false, _) => "disabled",
        (true, true) => "enabled",
        (true, false) => "expired",
    }
}

fn details(account: &Account) -> String {
    let mut value = to_json(account);
    // A person reads sizes as they are written.
    for (name, size) in [("quota", account.quota), ("max_upload", account.max_upload), ("bandwidth", account.bandwidth)] {
        value[name] = size.map_or(Value::Null, |size| Value::String(size.to_string()));
    }
    let fields = value.as_object().into_iter().flatten();
    fields.map(|(name, value)| format!("{:<24} {}\n", name.replace('_', "-"), words(value))).collect()
}

/// A JSON value as a person would write it.
fn words(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        Value::String(text) => clean(text),
        Value::Array(list) if list.is_empty() => "-".to_owned(),
        Value::Array(list) => list.iter().map(words).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_never_shown() {
        let mut account = Account::new("front-desk".parse().unwrap());
        account.password_hash = Some("$argon2id$v=19$secret".into());
        let value = to_json(&account);
        for shown in [value.to_string(), details(&account), overview(std::slice::from_ref(&account))] {
            assert!(!shown.contains("argon2"), "{shown}");
        }
    }
}
