//! The settings of an account as `account add` and `account set` take them.

use crate::account::{
    Account, Arrival, Charset, ClientCertificate, Duplicates, Existing, Fingerprint, Network, Output, Permissions, Priority,
    Role, Step, Tier, TlsEof,
};
use crate::delivery;
use crate::units::{ByteSize, Day, Retention, Span, Timestamp};
use clap::{Args, ValueEnum};
use std::time::SystemTime;

#[derive(Debug, Args)]
pub struct SettingArgs {
    /// Mail about each upload goes here; may be given more than once
    #[arg(long, value_name = "ADDR", value_parser = parse_email)]
    email: Vec<String>,
    /// Sidecars to write: txt, json, hocr, alto, markdown, csv, pdf
    #[arg(long, value_delimiter = ',', value_name = "KIND")]
    outputs: Vec<Output>,
    /// Bytes in its folder, as "10GiB"
    #[arg(long, value_name = "SIZE")]
    quota: Option<ByteSize>,
    /// Files in its folder, sidecars too
    #[arg(long, value_name = "N")]
    quota_files: Option<u32>,
    /// Bytes of one upload, as "50MiB"
    #[arg(long, value_name = "SIZE")]
    max_upload: Option<ByteSize>,
    /// What its clients may do: upload, download, list, delete, rename, make-folder; all of it, or drop-box for upload alone
    #[arg(long, value_name = "LIST")]
    permissions: Option<Permissions>,
    /// An upload under a name that is taken: replace the file, keep-both (scan-2.jpg), or refuse the upload
    #[arg(long, value_name = "WHAT")]
    existing: Option<Existing>,
    /// Where it may come from, as "10.0.0.0/8" or one address; may be given more than once
    #[arg(long = "network", value_name = "CIDR", value_delimiter = ',')]
    networks: Vec<Network>,
    /// Whether everything of it must go over TLS
    #[arg(long, value_name = "yes|no", value_parser = parse_yes)]
    require_tls: Option<bool>,
    /// The last day on which it may come in (UTC), as "2027-01-31", or a time from now, as "90d"
    #[arg(long, value_name = "DAY", value_parser = parse_expiry)]
    expires: Option<Day>,
    /// Bytes a second that all its transfers share, each way, as "1MiB"
    #[arg(long, value_name = "SIZE", value_parser = parse_bandwidth)]
    bandwidth: Option<ByteSize>,
    /// FTP sessions at a time
    #[arg(long, value_name = "N")]
    sessions: Option<u32>,
    /// Language of its documents, as "de"; may be given more than once, most frequent first
    #[arg(long, value_name = "CODE", value_delimiter = ',', value_parser = parse_language)]
    language: Vec<String>,
    /// What is done with its documents: text, codes, fields; all of it unless set
    #[arg(long, value_name = "STEP", value_delimiter = ',')]
    pipeline: Vec<Step>,
    /// Pages read in a day
    #[arg(long, value_name = "N")]
    pages_per_day: Option<u32>,
    /// Whose day's pages it has: free and pro have what the daemon gives them, own its own --pages-per-day
    #[arg(long, value_name = "TIER")]
    tier: Option<Tier>,
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

/// Settings that can be absent, or go back to what a new account has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Clearable {
    Email,
    Quota,
    QuotaFiles,
    MaxUpload,
    Permissions,
    Existing,
    Networks,
    RequireTls,
    Expires,
    Bandwidth,
    Sessions,
    Language,
    PagesPerDay,
    Tier,
    Charset,
    ClientCertificate,
    CertificateFingerprints,
    Arrival,
    Duplicates,
    KeepOriginals,
    KeepSidecars,
    KeepJobs,
}

impl Clearable {
    pub fn clear(self, account: &mut Account) {
        match self {
            Clearable::Email => account.email.clear(),
            Clearable::Quota => account.quota = None,
            Clearable::QuotaFiles => account.quota_files = None,
            Clearable::MaxUpload => account.max_upload = None,
            Clearable::Permissions => account.permissions = Permissions::ALL,
            Clearable::Existing => account.existing = Existing::default(),
            Clearable::Networks => account.networks.clear(),
            Clearable::RequireTls => account.require_tls = false,
            Clearable::Expires => account.expires = None,
            Clearable::Bandwidth => account.bandwidth = None,
            Clearable::Sessions => account.sessions = None,
            Clearable::Language => account.language.clear(),
            Clearable::PagesPerDay => account.pages_per_day = None,
            Clearable::Tier => account.tier = Tier::default(),
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
}

impl SettingArgs {
    /// Sets what was named.
    pub fn apply(&self, account: &mut Account) {
        if !self.email.is_empty() {
            account.email = unique(&self.email);
        }
        if !self.outputs.is_empty() {
            account.outputs = unique(&self.outputs);
        }
        if !self.pipeline.is_empty() {
            account.pipeline = unique(&self.pipeline);
        }
        if !self.language.is_empty() {
            account.language = unique(&self.language);
        }
        if !self.networks.is_empty() {
            account.networks = unique(&self.networks);
        }
        if !self.certificate_fingerprints.is_empty() {
            account.certificate_fingerprints = unique(&self.certificate_fingerprints);
        }
        account.quota = self.quota.or(account.quota);
        account.quota_files = self.quota_files.or(account.quota_files);
        account.max_upload = self.max_upload.or(account.max_upload);
        account.permissions = self.permissions.unwrap_or(account.permissions);
        account.existing = self.existing.unwrap_or(account.existing);
        account.require_tls = self.require_tls.unwrap_or(account.require_tls);
        account.expires = self.expires.or(account.expires);
        account.bandwidth = self.bandwidth.or(account.bandwidth);
        account.sessions = self.sessions.or(account.sessions);
        account.pages_per_day = self.pages_per_day.or(account.pages_per_day);
        account.tier = self.tier.unwrap_or(account.tier);
        account.charset = self.charset.or(account.charset);
        account.role = self.role.unwrap_or(account.role);
        account.priority = self.priority.unwrap_or(account.priority);
        account.tls_eof = self.tls_eof.unwrap_or(account.tls_eof);
        account.client_certificate = self.client_certificate.or(account.client_certificate);
        account.arrival = self.arrival.unwrap_or(account.arrival);
        account.duplicates = self.duplicates.or(account.duplicates);
        account.keep_originals = self.keep_originals.or(account.keep_originals);
        account.keep_sidecars = self.keep_sidecars.or(account.keep_sidecars);
        account.keep_jobs = self.keep_jobs.or(account.keep_jobs);
    }

    /// Nothing was named.
    pub fn is_empty(&self) -> bool {
        self.email.is_empty()
            && self.outputs.is_empty()
            && self.quota.is_none()
            && self.quota_files.is_none()
            && self.max_upload.is_none()
            && self.permissions.is_none()
            && self.existing.is_none()
            && self.networks.is_empty()
            && self.require_tls.is_none()
            && self.expires.is_none()
            && self.bandwidth.is_none()
            && self.sessions.is_none()
            && self.language.is_empty()
            && self.pipeline.is_empty()
            && self.pages_per_day.is_none()
            && self.tier.is_none()
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

fn parse_email(text: &str) -> Result<String, String> {
    if delivery::is_address(text) { Ok(text.to_owned()) } else { Err("this is not a mail address".to_owned()) }
}

pub(in crate::cli) fn parse_language(text: &str) -> Result<String, String> {
    let mut parts = text.split('-');
    let first = parts.next().is_some_and(|code| (2..=3).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_lowercase()));
    let rest = parts.all(|part| (2..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric()));
    if first && rest { Ok(text.to_owned()) } else { Err("a language code is like en, de or zh-Hans".to_owned()) }
}

fn parse_yes(text: &str) -> Result<bool, String> {
    match text {
        "yes" | "true" => Ok(true),
        "no" | "false" => Ok(false),
        _ => Err("say yes or no".to_owned()),
    }
}

/// Slower, a single page takes longer than any client waits.
const SLOWEST: u64 = 1024;

fn parse_bandwidth(text: &str) -> Result<ByteSize, String> {
    let size: ByteSize = text.parse().map_err(|error: crate::units::UnitError| error.to_string())?;
    if size.0 < SLOWEST { Err(format!("a bandwidth is at least {SLOWEST} bytes a second")) } else { Ok(size) }
}

fn parse_expiry(text: &str) -> Result<Day, String> {
    let from_now = |span: Span| Day::of(Timestamp::from_system(SystemTime::now()).after(span.0));
    text.parse().or_else(|error: crate::units::UnitError| text.parse().map(from_now).map_err(|_| error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn language_codes_and_pipelines_are_checked() {
        for good in ["en", "deu", "zh-Hans", "pt-BR"] {
            assert!(parse_language(good).is_ok(), "{good}");
        }
        for bad in ["", "english", "E", "en_US", "en-"] {
            assert!(parse_language(bad).is_err(), "{bad}");
        }
        for step in Step::ALL {
            assert_eq!(step.name().parse::<Step>().unwrap(), step);
        }
        assert!("faces".parse::<Step>().unwrap_err().to_string().contains("not in this version"));
        assert!("txt".parse::<Step>().unwrap_err().to_string().contains("text, codes or fields"));
    }

    #[test]
    fn a_last_day_is_a_date_or_a_time_from_now() {
        assert_eq!(parse_expiry("2027-01-31").unwrap().to_string(), "2027-01-31");
        let (today, later) = (parse_expiry("0s").unwrap(), parse_expiry("90d").unwrap());
        assert!(later > today);
        assert!(parse_expiry("tomorrow").unwrap_err().contains("2027-01-31"));
        assert!(parse_bandwidth("1000").is_err() && parse_bandwidth("1MiB").is_ok());
    }
}
