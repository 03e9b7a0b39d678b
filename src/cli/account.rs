//! `inkport account …`: who may come in. A change holds at the next login, with the daemon running or
//! not. Passwords come in by standard input or are generated; hashes never leave the store.

use super::print::{clean, print, table};
use crate::account::{
    Account, AccountName, Arrival, Charset, ClientCertificate, Duplicates, Fingerprint, Output, Priority, Role, TlsEof,
};
use crate::accounts::{Accounts, AccountsError, password};
use crate::config::{AccountsSource, Config};
use crate::delivery;
use crate::units::{ByteSize, Retention, Timestamp};
use anyhow::{Context as _, bail};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use std::io::Read as _;
use std::process::ExitCode;
use std::time::SystemTime;

/// What to do with accounts.
#[derive(Debug, Subcommand)]
pub enum AccountCommand {
    /// Add an account; without --password-stdin its password is generated and printed once
    Add(AddArgs),
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
    Set(SetArgs),
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

#[derive(Debug, Args)]
pub struct SettingArgs {
    /// Mail about each upload goes here; may be given more than once
    #[arg(long, value_name = "ADDR", value_parser = parse_email)]
    email: Vec<String>,
    /// Sidecars to write: txt, json
    #[arg(long, value_delimiter = ',', value_name = "KIND")]
    outputs: Vec<Output>,
    /// Bytes in its folder, as "10GiB"
    #[arg(long, value_name = "SIZE")]
    quota: Option<ByteSize>,
    /// Bytes of one upload, as "50MiB"
    #[arg(long, value_name = "SIZE")]
    max_upload: Option<ByteSize>,
    /// Language of its documents, as "de"; may be given more than once, most frequent first
    #[arg(long, value_name = "CODE", value_delimiter = ',', value_parser = parse_language)]
    language: Vec<String>,
    /// What is done with its documents; in this version always text
    #[arg(long, value_name = "STEP", value_delimiter = ',', value_parser = parse_pipeline)]
    pipeline: Vec<String>,
    /// Pages read in a day
    #[arg(long, value_name = "N")]
    pages_per_day: Option<u32>,
    /// What its device writes file names in, if not UTF-8, as "shift_jis" or "windows-1252"
    #[arg(long, value_name = "LABEL")]
    charset: Option<Charset>,
    /// device uploads, app is a program, admin sees the status page too
    #[arg(long, value_name = "ROLE")]
    role: Option<Role>,
    /// What ends an upload over TLS: strict, TLS's own goodbye; lenient, the connection's end too
    #[arg(long, value_name = "HOW")]
    tls_eof: Option<TlsEof>,
    /// A client certificate is required beside the password, or sufficient without it; needs ftp.tls.client-ca
    #[arg(long, value_name = "WHAT")]
    client_certificate: Option<ClientCertificate>,
    /// SHA-256 of its certificate; may be given more than once; without one, client-ca must have signed it for the account's name
    #[arg(long = "certificate-fingerprint", value_name = "SHA256")]
    certificate_fingerprints: Vec<Fingerprint>,
    /// Whose jobs come first while many wait: high, normal or low
    #[arg(long, value_name = "HOW")]
    priority: Option<Priority>,
    /// What tells that a file is whole which arrives otherwise than by FTP: quiet, rename, or marker (NAME.done)
    #[arg(long, value_name = "HOW")]
    arrival: Option<Arrival>,
    /// The same bytes again: read them again, or reuse the first reading
    #[arg(long, value_name = "WHAT")]
    duplicates: Option<Duplicates>,
    /// How long its uploads are kept once read: keep, an age like 30d, or after-reading (the text is kept, the image is not)
    #[arg(long, value_name = "AGE")]
    keep_originals: Option<Retention>,
    /// How long their sidecars are kept: keep, or an age
    #[arg(long, value_name = "AGE")]
    keep_sidecars: Option<Retention>,
    /// How long its jobs are told of: keep, or an age
    #[arg(long, value_name = "AGE")]
    keep_jobs: Option<Retention>,
}

/// Settings that can be absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Clearable {
    Email,
    Quota,
    MaxUpload,
    Language,
    PagesPerDay,
    Charset,
    ClientCertificate,
    CertificateFingerprints,
    Arrival,
    Duplicates,
    KeepOriginals,
    KeepSidecars,
    KeepJobs,
}

/// No longer password is checked: hashing is work for the length.
const LONGEST_PASSWORD: u64 = 1024;

fn parse_email(text: &str) -> Result<String, String> {
    if delivery::is_address(text) { Ok(text.to_owned()) } else { Err("this is not a mail address".to_owned()) }
}

pub(super) fn parse_language(text: &str) -> Result<String, String> {
    let mut parts = text.split('-');
    let first = parts.next().is_some_and(|code| (2..=3).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_lowercase()));
    let rest = parts.all(|part| (2..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric()));
    if first && rest { Ok(text.to_owned()) } else { Err("a language code is like en, de or zh-Hans".to_owned()) }
}

fn parse_pipeline(text: &str) -> Result<String, String> {
    match text {
        "text" => Ok(text.to_owned()),
        "codes" | "fields" | "faces" => Err(format!("{text} is not in this version: only text is")),
        _ => Err("this version knows text only".to_owned()),
    }
}

impl SettingArgs {
    fn apply(&self, account: &mut Account) {
        if !self.email.is_empty() {
            account.email = unique(&self.email);
        }
        if !self.outputs.is_empty() {
            account.outputs = unique(&self.outputs);
        }
        if !self.language.is_empty() {
            account.language = unique(&self.language);
        }
        account.quota = self.quota.or(account.quota);
        account.max_upload = self.max_upload.or(account.max_upload);
        account.pages_per_day = self.pages_per_day.or(account.pages_per_day);
        account.charset = self.charset.or(account.charset);
        account.role = self.role.unwrap_or(account.role);
        account.priority = self.priority.unwrap_or(account.priority);
        account.tls_eof = self.tls_eof.unwrap_or(account.tls_eof);
        account.client_certificate = self.client_certificate.or(account.client_certificate);
        if !self.certificate_fingerprints.is_empty() {
            account.certificate_fingerprints = unique(&self.certificate_fingerprints);
        }
        account.arrival = self.arrival.unwrap_or(account.arrival);
        account.duplicates = self.duplicates.or(account.duplicates);
        account.keep_originals = self.keep_originals.or(account.keep_originals);
        account.keep_sidecars = self.keep_sidecars.or(account.keep_sidecars);
        account.keep_jobs = self.keep_jobs.or(account.keep_jobs);
    }

    fn is_empty(&self) -> bool {
        self.email.is_empty()
            && self.outputs.is_empty()
            && self.language.is_empty()
            && self.pipeline.is_empty()
            && self.quota.is_none()
            && self.max_upload.is_none()
            && self.pages_per_day.is_none()
            && self.charset.is_none()
            && self.role.is_none()
            && self.tls_eof.is_none()
            && self.client_certificate.is_none()
            && self.certificate_fingerprints.is_empty()
            && self.priority.is_none()
            && self.arrival.is_none()
            && self.duplicates.is_none()
            && self.keep_originals.is_none()
            && self.keep_sidecars.is_none()
            && self.keep_jobs.is_none()
    }
}

/// In the order first said.
fn unique<T: Clone + PartialEq>(said: &[T]) -> Vec<T> {
    let mut kept: Vec<T> = Vec::with_capacity(said.len());
    for value in said {
        if !kept.contains(value) {
            kept.push(value.clone());
        }
    }
    kept
}

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
            let mut account = find(&accounts, name)?;
            let secret = password.obtain()?;
            account.password_hash = Some(password::hash(secret.text()));
            accounts.set(&account)?;
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
    tell(&format!("account \"{}\" is added", args.name), &secret)
}

fn set(args: &SetArgs, config: &Config) -> anyhow::Result<ExitCode> {
    if args.settings.is_empty() && args.clear.is_empty() {
        eprintln!("nothing to set: name a setting, as in `inkport account set {} --quota 10GiB`", args.name);
        return Ok(ExitCode::from(2));
    }
    let accounts = open(config)?;
    let mut account = find(&accounts, &args.name)?;
    for setting in &args.clear {
        match setting {
            Clearable::Email => account.email.clear(),
            Clearable::Quota => account.quota = None,
            Clearable::MaxUpload => account.max_upload = None,
            Clearable::Language => account.language.clear(),
            Clearable::PagesPerDay => account.pages_per_day = None,
            Clearable::Charset => account.charset = None,
            Clearable::ClientCertificate => account.client_certificate = None,
            Clearable::CertificateFingerprints => account.certificate_fingerprints.clear(),
            Clearable::Arrival => account.arrival = Arrival::default(),
            Clearable::Duplicates => account.duplicates = None,
            Clearable::KeepOriginals => account.keep_originals = None,
            Clearable::KeepSidecars => account.keep_sidecars = None,
            Clearable::KeepJobs => account.keep_jobs = None,
        }
    }
    args.settings.apply(&mut account);
    accounts.set(&account)?;
    eprintln!("account \"{}\" is changed", args.name);
    Ok(ExitCode::SUCCESS)
}

fn enable(name: &AccountName, config: &Config, enabled: bool) -> anyhow::Result<()> {
    let accounts = open(config)?;
    let mut account = find(&accounts, name)?;
    account.enabled = enabled;
    accounts.set(&account)?;
    eprintln!("account \"{name}\" is {}", if enabled { "enabled" } else { "disabled: nobody can log in under this name" });
    Ok(())
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
        "pipeline": ["text"],
        "quota": account.quota.map(|size| size.0),
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
                if account.enabled { "enabled" } else { "disabled" }.to_owned(),
                words(&value["role"]),
                words(&value["outputs"]),
                account.quota.map_or_else(|| "-".to_owned(), |size| size.to_string()),
                words(&value["email"]),
            ]
        })
        .collect();
    table(&["NAME", "STATE", "ROLE", "OUTPUTS", "QUOTA", "EMAIL"], &rows)
}

fn details(account: &Account) -> String {
    let mut value = to_json(account);
    // A person reads sizes as they are written.
    for (name, size) in [("quota", account.quota), ("max_upload", account.max_upload)] {
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

    #[test]
    fn language_codes_and_pipelines_are_checked() {
        for good in ["en", "deu", "zh-Hans", "pt-BR"] {
            assert!(parse_language(good).is_ok(), "{good}");
        }
        for bad in ["", "english", "E", "en_US", "en-"] {
            assert!(parse_language(bad).is_err(), "{bad}");
        }
        assert!(parse_pipeline("text").is_ok());
        assert!(parse_pipeline("faces").unwrap_err().contains("not in this version"));
    }
}
