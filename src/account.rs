//! Who may come in. Owns the words: [`AccountName`], [`Account`], [`Role`], [`VirtualPath`], [`Charset`] and
//! the password hash. Pure: where accounts are kept is `accounts`' business, when they are checked the
//! doors'.

use crate::units::{ByteSize, Day, Retention, Timestamp};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

mod charset;
mod limits;
mod own_field;
mod pipeline;

pub use charset::Charset;
pub use limits::{Existing, Network, Permission, Permissions, Quota, Tier};
pub use own_field::{OwnField, ValueKind};
pub use pipeline::Step;

/// An account's name: 1 to 64 of `a-z 0-9 . _ -`, beginning with a letter or a digit. It is a folder's
/// name too, so nothing else is let through; capitals are refused rather than folded, because two
/// spellings of one account would be two folders on some file systems and one on others.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct AccountName(String);

/// Why a name, path or role was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("\"{0}\" cannot be an account's name: use 1 to 64 of a-z, 0-9, '.', '_' and '-', beginning with a letter or a digit")]
    Account(String),
    #[error("\"{0}\" is not a path inside an account's home")]
    Path(String),
    #[error("\"{0}\" is not a role: use device, app or admin")]
    Role(String),
    #[error("\"{0}\" is not a kind of sidecar: use txt, json, hocr, alto, markdown, csv or pdf")]
    Output(String),
    #[error("\"{0}\" is not a step of a pipeline: use text, codes or fields")]
    Step(String),
    #[error("{0} is not in this version: use text, codes or fields")]
    LaterStep(String),
    #[error("\"{0}\" is not a charset for file names: use a label like shift_jis, gbk, euc-kr, windows-1251 or windows-1252")]
    Charset(String),
    #[error("\"{0}\" is no way to end a TLS upload: use strict or lenient")]
    TlsEof(String),
    #[error("\"{0}\" is nothing that a client certificate can be: use required or sufficient")]
    ClientCertificate(String),
    #[error("\"{0}\" is not a priority: use high, normal or low")]
    Priority(String),
    #[error("\"{0}\" is nothing that tells that a file is whole: use quiet, rename or marker")]
    Arrival(String),
    #[error("\"{0}\" is nothing to do with the same bytes again: use read or reuse")]
    Duplicates(String),
    #[error("\"{0}\" is not a SHA-256 fingerprint: write its 64 hexadecimal digits, with colons or without")]
    Fingerprint(String),
    #[error("\"{0}\" is not a permission: use upload, download, list, delete, rename, make-folder, all or drop-box")]
    Permission(String),
    #[error("\"{0}\" is nothing to do with a name that is taken: use replace, keep-both or refuse")]
    Existing(String),
    #[error("\"{0}\" is not a tier: use free, pro or own")]
    Tier(String),
    #[error("\"{0}\" is not a network: write it as in \"10.0.0.0/8\" or \"2001:db8::/32\", or one address")]
    Network(String),
}

impl AccountName {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AccountName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let good = (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
            && text.as_bytes()[0].is_ascii_alphanumeric();
        if good { Ok(AccountName(text.to_owned())) } else { Err(NameError::Account(text.to_owned())) }
    }
}

impl fmt::Display for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for AccountName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A file as an account's client sees it: absolute, `/`-separated, normalised (no `.`, `..`, empty
/// parts, NUL), never `/` itself. Reaches nothing outside the home; symlinks are `homes`' business.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct VirtualPath(String);

impl VirtualPath {
    /// Normalises `text` against `/`: `..` at the top stays at the top.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let mut parts: Vec<&str> = Vec::new();
        for part in text.split('/') {
            match part {
                "" | "." => {}
                ".." => {
                    parts.pop();
                }
                name if name.contains('\0') => return Err(NameError::Path(text.replace('\0', "\u{fffd}"))),
                name => parts.push(name),
            }
        }
        if parts.is_empty() { Err(NameError::Path(text.to_owned())) } else { Ok(VirtualPath(format!("/{}", parts.join("/")))) }
    }

    /// With the leading `/`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Without the leading `/`: relative to the home.
    #[must_use]
    pub fn relative(&self) -> &str {
        &self.0[1..]
    }

    /// The last part.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().expect("a virtual path has a last part")
    }

    /// The folder that holds it, relative to the home; empty for the home itself.
    #[must_use]
    pub fn folder(&self) -> &str {
        self.relative().rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    /// The file beside it that has `suffix` added to its name, as `scan.jpg` + `.txt`.
    #[must_use]
    pub fn beside(&self, suffix: &str) -> VirtualPath {
        VirtualPath(format!("{}{suffix}", self.0))
    }
}

impl fmt::Display for VirtualPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an account is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// A scanner or another device: FTP only.
    #[default]
    Device,
    /// A program that uploads and fetches.
    App,
    /// May also see the status page of everybody's jobs.
    Admin,
}

impl FromStr for Role {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text {
            "device" => Ok(Role::Device),
            "app" => Ok(Role::App),
            "admin" => Ok(Role::Admin),
            _ => Err(NameError::Role(text.to_owned())),
        }
    }
}

/// A kind of sidecar that an account asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Output {
    Txt,
    Json,
    Hocr,
    Alto,
    Markdown,
    Csv,
    Pdf,
}

impl Output {
    /// All of them, in the order in which help names them.
    pub const ALL: [Output; 7] =
        [Output::Txt, Output::Json, Output::Hocr, Output::Alto, Output::Markdown, Output::Csv, Output::Pdf];

    /// What is added to the upload's name.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Output::Txt => ".txt",
            Output::Json => ".json",
            Output::Hocr => ".hocr",
            Output::Alto => ".alto.xml",
            Output::Markdown => ".md",
            Output::Csv => ".csv",
            Output::Pdf => ".pdf",
        }
    }

    /// As accounts and the command line name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Output::Txt => "txt",
            Output::Json => "json",
            Output::Hocr => "hocr",
            Output::Alto => "alto",
            Output::Markdown => "markdown",
            Output::Csv => "csv",
            Output::Pdf => "pdf",
        }
    }
}

impl FromStr for Output {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text {
            "text" => Ok(Output::Txt),
            "md" => Ok(Output::Markdown),
            _ => Output::ALL.into_iter().find(|output| output.name() == text).ok_or_else(|| NameError::Output(text.to_owned())),
        }
    }
}

/// What ends an upload over TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsEof {
    /// TLS's own goodbye (close_notify): a connection that ends without it was cut.
    #[default]
    Strict,
    /// The connection's clean end too, for devices that never say goodbye. Whoever can end the
    /// connection can then shorten the upload.
    Lenient,
}

impl FromStr for TlsEof {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text {
            "strict" => Ok(TlsEof::Strict),
            "lenient" => Ok(TlsEof::Lenient),
            _ => Err(NameError::TlsEof(text.to_owned())),
        }
    }
}

/// What a client certificate is to an FTP login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientCertificate {
    /// The account's certificate and its password, both.
    Required,
    /// The account's certificate logs in without a password; the password does too.
    Sufficient,
}

impl FromStr for ClientCertificate {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text {
            "required" => Ok(ClientCertificate::Required),
            "sufficient" => Ok(ClientCertificate::Sufficient),
            _ => Err(NameError::ClientCertificate(text.to_owned())),
        }
    }
}

/// How often an account's jobs get a turn while others wait too: high four times for each of normal, normal
/// four times for each of low. Nobody is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Priority {
    High,
    #[default]
    Normal,
    Low,
}

impl FromStr for Priority {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text {
            "high" => Ok(Priority::High),
            "normal" => Ok(Priority::Normal),
            "low" => Ok(Priority::Low),
            _ => Err(NameError::Priority(text.to_owned())),
        }
    }
}

/// What tells that a file is whole which arrives otherwise than by FTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arrival {
    /// It has not changed for `watch.quiet`.
    #[default]
    Quiet,
    /// It was renamed after it was last written: its writer gives it its name when it is whole.
    Rename,
    /// A file of its name, or of its name without the extension, with `.done` added lies beside it.
    Marker,
}

impl FromStr for Arrival {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text {
            "quiet" => Ok(Arrival::Quiet),
            "rename" => Ok(Arrival::Rename),
            "marker" => Ok(Arrival::Marker),
            _ => Err(NameError::Arrival(text.to_owned())),
        }
    }
}

/// What is done with bytes that an account has sent before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Duplicates {
    /// They are read again.
    #[default]
    Read,
    /// They are answered from the first reading.
    Reuse,
}

impl FromStr for Duplicates {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text {
            "read" => Ok(Duplicates::Read),
            "reuse" => Ok(Duplicates::Reuse),
            _ => Err(NameError::Duplicates(text.to_owned())),
        }
    }
}

/// SHA-256 of a certificate in DER. Written as `AB:CD:…`, read in any case and without colons too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl FromStr for Fingerprint {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let digits: Vec<u32> = text.chars().filter(|c| *c != ':').map_while(|c| c.to_digit(16)).collect();
        let colons = text.bytes().filter(|byte| *byte == b':').count();
        let mut bytes = [0; 32];
        if digits.len() != 64 || digits.len() + colons != text.len() {
            return Err(NameError::Fingerprint(text.to_owned()));
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = u8::try_from(pair[0] << 4 | pair[1]).expect("two hexadecimal digits are a byte");
        }
        Ok(Fingerprint(bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02X}", if at == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

crate::units::serde_by_text!(Fingerprint);

/// An FTP and HTTP identity with a home. As `accounts.toml` writes it. Its `Debug` form is fit for a
/// log: no hash, no addresses (libraries print what they are handed).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Account {
    pub name: AccountName,
    /// PHC string, argon2id. Absent: nobody can log in with a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_hash: Option<String>,
    #[serde(default = "yes")]
    pub enabled: bool,
    #[serde(default)]
    pub role: Role,
    /// Where the mail about each finished upload goes.
    #[serde(default)]
    pub email: Vec<String>,
    #[serde(default = "default_outputs")]
    pub outputs: Vec<Output>,
    /// What is done with its documents.
    #[serde(default = "default_pipeline", skip_serializing_if = "is_default_pipeline")]
    pub pipeline: Vec<Step>,
    /// What its documents tell besides the known fields.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<OwnField>,
    /// Bytes in the home, all told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<ByteSize>,
    /// Files in the home, sidecars too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota_files: Option<u32>,
    /// Bytes of one upload; the smaller of this and `limits.max-upload` counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_upload: Option<ByteSize>,
    /// Language codes of its documents, most frequent first.
    #[serde(default)]
    pub language: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pages_per_day: Option<u32>,
    /// In which its device writes file names that are not UTF-8. Absent: they are kept as bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charset: Option<Charset>,
    /// What ends its uploads over TLS.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tls_eof: TlsEof,
    /// Absent: its logins look at no certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<ClientCertificate>,
    /// Its certificates. Empty: one that `ftp.tls.client-ca` signed for the account's name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificate_fingerprints: Vec<Fingerprint>,
    /// Among the accounts whose jobs wait.
    #[serde(default, skip_serializing_if = "is_default")]
    pub priority: Priority,
    /// What tells that its files are whole which arrive otherwise than by FTP.
    #[serde(default, skip_serializing_if = "is_default")]
    pub arrival: Arrival,
    /// Absent: as `limits.duplicates` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duplicates: Option<Duplicates>,
    /// How long its uploads are kept after their job's end; absent: as `[retention]` says, likewise below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_originals: Option<Retention>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_sidecars: Option<Retention>,
    /// What `jobs list` tells; never gone before the original is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_jobs: Option<Retention>,
    /// What its clients may do.
    #[serde(default, skip_serializing_if = "Permissions::is_all")]
    pub permissions: Permissions,
    /// What becomes of an upload under a name that is taken.
    #[serde(default, skip_serializing_if = "is_default")]
    pub existing: Existing,
    /// Where it may come from. Empty: from anywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<Network>,
    /// Nothing of it goes over a connection in plain text, be it a password or a page.
    #[serde(default, skip_serializing_if = "is_default")]
    pub require_tls: bool,
    /// The last day on which it may come in, in UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Day>,
    /// Bytes a second that all its transfers share, each way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<ByteSize>,
    /// FTP sessions at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<u32>,
    /// Whose day's pages it has.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tier: Tier,
    #[serde(skip)]
    pub created_at: Option<Timestamp>,
}

fn yes() -> bool {
    true
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn default_pipeline() -> Vec<Step> {
    Step::ALL.to_vec()
}

fn is_default_pipeline(pipeline: &[Step]) -> bool {
    pipeline == Step::ALL
}

fn default_outputs() -> Vec<Output> {
    vec![Output::Txt, Output::Json]
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account")
            .field("name", &self.name)
            .field("role", &self.role)
            .field("enabled", &self.enabled)
            .finish_non_exhaustive()
    }
}

impl Account {
    /// An enabled device account without a password.
    #[must_use]
    pub fn new(name: AccountName) -> Self {
        Account {
            name,
            password_hash: None,
            enabled: true,
            role: Role::default(),
            email: Vec::new(),
            outputs: default_outputs(),
            pipeline: default_pipeline(),
            fields: Vec::new(),
            quota: None,
            max_upload: None,
            language: Vec::new(),
            pages_per_day: None,
            charset: None,
            tls_eof: TlsEof::default(),
            client_certificate: None,
            certificate_fingerprints: Vec::new(),
            priority: Priority::default(),
            arrival: Arrival::default(),
            duplicates: None,
            keep_originals: None,
            keep_sidecars: None,
            keep_jobs: None,
            quota_files: None,
            permissions: Permissions::ALL,
            existing: Existing::default(),
            networks: Vec::new(),
            require_tls: false,
            expires: None,
            bandwidth: None,
            sessions: None,
            tier: Tier::default(),
            created_at: None,
        }
    }

    /// Enabled, and its last day is not over.
    #[must_use]
    pub fn may_come_in(&self, now: Timestamp) -> bool {
        self.enabled && self.expires.is_none_or(|last| Day::of(now) <= last)
    }

    /// Whether it may come from this address.
    #[must_use]
    pub fn may_come_from(&self, address: core::net::IpAddr) -> bool {
        self.networks.is_empty() || self.networks.iter().any(|network| network.contains(address))
    }

    /// Whether its clients may do this.
    #[must_use]
    pub fn may(&self, permission: Permission) -> bool {
        self.permissions.allow(permission)
    }

    /// What its home may hold.
    #[must_use]
    pub fn quota(&self) -> Quota {
        Quota { bytes: self.quota.map(|size| size.0), files: self.quota_files.map(u64::from) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_names_are_folder_names() {
        for good in ["front-desk", "a", "0.x_y"] {
            assert!(good.parse::<AccountName>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "-a", "A", "a/b", "a b", "é", &"a".repeat(65)] {
            assert!(bad.parse::<AccountName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_account_comes_in_until_its_last_day_is_over() {
        let mut account = Account::new("guest".parse().unwrap());
        let at = |text: &str| Timestamp(text.parse::<i64>().unwrap() * 1000);
        assert!(account.may_come_in(at("4102444800")));
        account.expires = Some("2027-01-31".parse().unwrap());
        assert!(account.may_come_in(at("1801439999")), "the last second of the last day");
        assert!(!account.may_come_in(at("1801440000")));
        account.expires = None;
        account.enabled = false;
        assert!(!account.may_come_in(at("0")));
    }

    #[test]
    fn an_accounts_debug_form_holds_no_secret_and_no_address() {
        let mut account = Account::new("front-desk".parse().unwrap());
        account.password_hash = Some("$argon2id$v=19$secret".into());
        account.email = vec!["ada@example.org".into()];
        let shown = format!("{account:?}");
        assert!(shown.contains("front-desk") && !shown.contains("argon2id") && !shown.contains('@'), "{shown}");
    }

    #[test]
    fn fingerprints_are_read_as_tools_write_them() {
        let hex = "00ff1234567890abcdef00ff1234567890abcdef00ff1234567890abcdef00ff";
        let fingerprint: Fingerprint = hex.parse().unwrap();
        let shown = fingerprint.to_string();
        assert!(shown.starts_with("00:FF:12:") && shown.len() == 95, "{shown}");
        for same in [shown.as_str(), &shown.to_ascii_lowercase(), &hex.to_ascii_uppercase()] {
            assert_eq!(same.parse::<Fingerprint>().unwrap(), fingerprint);
        }
        for bad in
            ["", "00", &hex[1..], &format!("{hex}0"), &format!("g{}", &hex[1..]), &format!("{hex} "), &format!("é{}", &hex[2..])]
        {
            assert!(bad.parse::<Fingerprint>().is_err(), "{bad}");
        }
    }

    #[test]
    fn virtual_paths_never_leave_the_home() {
        for (text, path) in [("a.jpg", "/a.jpg"), ("/x/./y//z", "/x/y/z"), ("/../../etc/passwd", "/etc/passwd"), ("a/../b", "/b")]
        {
            assert_eq!(VirtualPath::new(text).unwrap().as_str(), path);
        }
        for bad in ["", "/", "..", "a/..", "a\0b"] {
            assert!(VirtualPath::new(bad).is_err(), "{bad:?}");
        }
        let path = VirtualPath::new("/in/scan.jpg").unwrap();
        assert_eq!((path.folder(), path.file_name(), path.beside(".txt").relative()), ("in", "scan.jpg", "in/scan.jpg.txt"));
    }
}
