//! The whole configuration: each room's settings composed into one TOML file, kebab-case, versioned.
//!
//! Owns: the file's shape, the environment's overrides (`INKPORT_HTTP__LISTEN=…` for `http.listen`),
//! where relative paths start (the folder that holds the file) and where secrets may come from.
//! Unknown keys are refused with the nearest known name, bad values with file, line and key: a
//! setting that is silently not in force is worse than a daemon that does not start.
//!
//! No room imports this one; `daemon` and `cli` do. The shipped `config/inkport.toml` names every key
//! at its default, which a test holds.

use crate::units::Span;
use crate::{delivery, document, ftp, http, intake, job, keys, ocr, processors, sidecar, upkeep, watch};
use serde::{Deserialize, Serialize};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

mod sections;
mod source;

pub use sections::{AccountsSettings, AccountsSource, LimitsSettings, RetentionSettings, RetrySettings};
pub use source::{ConfigError, Known, variable};

/// The file format that this version reads.
pub const VERSION: u32 = 1;

/// Looked for in this order where no file is named.
pub const DEFAULT_FILES: [&str; 2] = ["config/inkport.toml", "/etc/inkport/inkport.toml"];

/// The systemd credential that holds the relay's password, where `mail.password-file` names none.
const MAIL_CREDENTIAL: &str = "mail-password";

/// The systemd credential that holds the master key, where `http.master-key-file` names none.
const MASTER_KEY_CREDENTIAL: &str = "master-key";

/// Everything that can be set. Absent keys have their defaults; absent optional sections are off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Config {
    pub version: u32,
    /// `inkport.db`, `spool/`, `homes/`.
    pub data_dir: PathBuf,
    /// How long running jobs may take to finish once the daemon is told to stop.
    pub shutdown_grace: Span,
    pub accounts: AccountsSettings,
    pub ftp: ftp::Settings,
    pub http: http::Settings,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mail: Option<delivery::Settings>,
    pub ocr: ocr::Settings,
    pub codes: processors::codes::Settings,
    pub limits: LimitsSettings,
    pub retry: RetrySettings,
    pub retention: RetentionSettings,
    pub sidecars: sidecar::Style,
    pub watch: watch::Settings,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            version: VERSION,
            data_dir: "../data".into(),
            shutdown_grace: Span(Duration::from_secs(30)),
            accounts: AccountsSettings::default(),
            ftp: ftp::Settings::default(),
            http: http::Settings::default(),
            mail: None,
            ocr: ocr::Settings::default(),
            codes: processors::codes::Settings::default(),
            limits: LimitsSettings::default(),
            retry: RetrySettings::default(),
            retention: RetentionSettings::default(),
            sidecars: sidecar::Style::default(),
            watch: watch::Settings::default(),
        }
    }
}

impl Config {
    /// The configuration in `file`, or in the first of [`DEFAULT_FILES`] that exists, with the
    /// process environment's overrides; paths made absolute.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let file = match file {
            Some(file) => file.to_owned(),
            None => DEFAULT_FILES
                .iter()
                .map(PathBuf::from)
                .find(|candidate| candidate.is_file())
                .ok_or_else(|| ConfigError::Missing(DEFAULT_FILES.join(" or ")))?,
        };
        let io = |source| ConfigError::Io { path: file.clone(), source };
        let text = std::fs::read_to_string(&file).map_err(io)?;
        let environment: Vec<(String, String)> =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect();
        let mut config = Config::parse(&file, &text, &environment)?;
        let folder = match file.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let folder = folder.canonicalize().map_err(io)?;
        let credentials = environment.iter().find(|(name, _)| name == "CREDENTIALS_DIRECTORY").map(|(_, value)| Path::new(value));
        config.settle(&folder, credentials);
        Ok(config)
    }

    /// The configuration that `text` says, with `environment` laid over it; paths left as written.
    /// `file` is for complaints only.
    pub fn parse(file: &Path, text: &str, environment: &[(String, String)]) -> Result<Self, ConfigError> {
        let known = Config::known();
        let source = source::Source::new(file, text, environment, &known)?;
        let table = source.table(&known)?;
        let places = source::Places::of(&table);
        let config =
            Config::deserialize(toml::de::Deserializer::from(table)).map_err(|error| source.refused(&error, &places, &known))?;
        match config.not_allowed() {
            Some((key, detail)) => Err(source.not_allowed(&key, detail, &places)),
            None => Ok(config),
        }
    }

    /// Every key there is.
    #[must_use]
    pub fn known() -> Known {
        let specimen = toml::Table::try_from(Config::specimen()).expect("settings are plain TOML values");
        Known::of(&specimen)
    }

    /// A configuration in which no optional section is absent.
    #[must_use]
    pub fn specimen() -> Self {
        let mut config = Config::default();
        config.ftp.tls = Some(ftp::TlsSettings {
            certificate: Some("/etc/inkport/certificate.pem".into()),
            private_key: Some("/etc/inkport/private-key.pem".into()),
            require: ftp::Require::default(),
            implicit_listen: Some(([127, 0, 0, 1], 990).into()),
            client_ca: Some("/etc/inkport/client-ca.pem".into()),
        });
        config.http.master_key_file = Some("/etc/inkport/master-key".into());
        config.http.tls = Some(http::TlsSettings {
            certificate: Some("/etc/inkport/certificate.pem".into()),
            private_key: Some("/etc/inkport/private-key.pem".into()),
        });
        config.mail = Some(delivery::Settings { password_file: Some("/etc/inkport/mail-password".into()), ..Default::default() });
        config
    }

    /// The first value that is well formed but makes no sense, by its key.
    fn not_allowed(&self) -> Option<(String, String)> {
        let zero = |key: &str, is_zero: bool| is_zero.then(|| (key.to_owned(), "must be more than zero".to_owned()));
        if self.version != VERSION {
            return Some(("version".to_owned(), format!("this version of Inkport reads version = {VERSION} only")));
        }
        // Certificates are looked at when their paths are known.
        let without_files = ftp::Settings { tls: None, ..self.ftp.clone() };
        if let Err(ftp::FtpError::Setting { key, problem }) = without_files.check() {
            return Some((format!("ftp.{key}"), problem));
        }
        if let Some(tls) = &self.ftp.tls
            && let Some(missing) = match (&tls.certificate, &tls.private_key) {
                (Some(_), Some(_)) => None,
                (None, _) => Some("certificate"),
                (_, None) => Some("private-key"),
            }
        {
            let detail = format!("{missing} is missing: name both certificate and private-key, or leave the section out");
            return Some(("ftp.tls".to_owned(), detail));
        }
        if let Some(tls) = &self.http.tls
            && let Some(missing) = match (&tls.certificate, &tls.private_key) {
                (Some(_), Some(_)) => None,
                (None, _) => Some("certificate"),
                (_, None) => Some("private-key"),
            }
        {
            let detail = format!("{missing} is missing: name both certificate and private-key, or leave the section out");
            return Some(("http.tls".to_owned(), detail));
        }
        zero("http.max-upload", self.http.max_upload.0 == 0)
            .or_else(|| zero("http.answer-within", self.http.answer_within.0.is_zero()))
            .or_else(|| zero("http.link-lifetime", self.http.link_lifetime.0.is_zero()))
            .or_else(|| zero("http.max-streams", self.http.max_streams == 0))
            .or_else(|| zero("limits.max-upload", self.limits.max_upload.0 == 0))
            .or_else(|| zero("limits.max-pixels", self.limits.max_pixels == 0))
            .or_else(|| zero("limits.max-pages", self.limits.max_pages == 0))
            .or_else(|| zero("limits.job-timeout", self.limits.job_timeout.0.is_zero()))
            .or_else(|| zero("limits.max-queued", self.limits.max_queued == 0))
            .or_else(|| {
                let least = LimitsSettings::LEAST_ENGINE_MEMORY;
                let detail = || format!("must be at least {least}: the models alone take a quarter of that");
                (self.limits.engine_memory < least).then(|| ("limits.engine-memory".to_owned(), detail()))
            })
            .or_else(|| zero("retry.attempts", self.retry.attempts == 0))
            .or_else(|| zero("watch.rescan", self.watch.rescan.0.is_zero()))
            .or_else(|| zero("retention.sidecars", self.retention.sidecars.age().is_some_and(|age| age.is_zero())))
            .or_else(|| zero("retention.jobs", self.retention.jobs.age().is_some_and(|age| age.is_zero())))
            .or_else(|| {
                // A file without a row would be taken for a new upload by the next scan.
                let rows = self.retention.jobs.age()?;
                let outlived = self.retention.originals.age().is_none_or(|originals| originals > rows);
                let detail = "a job's row cannot go before its original: set retention.originals to an age that is not longer";
                outlived.then(|| ("retention.jobs".to_owned(), detail.to_owned()))
            })
            .or_else(|| zero("watch.canary", self.watch.canary.0.is_zero()))
    }

    /// Makes every path absolute and finds the secrets that systemd hands over.
    fn settle(&mut self, folder: &Path, credentials: Option<&Path>) {
        let mut paths = vec![&mut self.data_dir, &mut self.accounts.file, &mut self.ocr.models];
        if let Some(tls) = &mut self.ftp.tls {
            paths.extend([&mut tls.certificate, &mut tls.private_key, &mut tls.client_ca].into_iter().flatten());
        }
        let credential = |name: &str| credentials.map(|folder| folder.join(name)).filter(|path| path.is_file());
        if self.http.master_key_file.is_none() {
            self.http.master_key_file = credential(MASTER_KEY_CREDENTIAL);
        }
        paths.extend(self.http.master_key_file.as_mut());
        if let Some(tls) = &mut self.http.tls {
            paths.extend([&mut tls.certificate, &mut tls.private_key].into_iter().flatten());
        }
        if let Some(mail) = &mut self.mail {
            let credential = credential(MAIL_CREDENTIAL);
            if mail.password_file.is_none() {
                mail.password_file = credential;
            }
            paths.extend(mail.password_file.as_mut());
        }
        for path in paths {
            *path = match (path.strip_prefix("$CREDENTIALS_DIRECTORY"), credentials) {
                (Ok(name), Some(credentials)) => credentials.join(name),
                _ => absolute(folder, path),
            };
        }
    }

    /// The database of jobs, deliveries and accounts.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.data_dir.join("inkport.db")
    }

    /// What seals the secrets of signing keys.
    #[must_use]
    pub fn master_key(&self) -> keys::MasterKeySource {
        match &self.http.master_key_file {
            Some(path) => keys::MasterKeySource::File(path.clone()),
            None => keys::MasterKeySource::Made(self.data_dir.join("master.key")),
        }
    }

    /// Accepted bytes.
    #[must_use]
    pub fn spool(&self) -> PathBuf {
        self.data_dir.join("spool")
    }

    /// The accounts' folders.
    #[must_use]
    pub fn homes(&self) -> PathBuf {
        self.data_dir.join("homes")
    }

    /// `[limits]` as intake wants them.
    #[must_use]
    pub fn intake_limits(&self) -> intake::Limits {
        intake::Limits { max_upload: self.limits.max_upload.0, min_free_space: self.limits.min_free_space.0 }
    }

    /// `[limits]` as the decoders want them.
    #[must_use]
    pub fn document_limits(&self) -> document::Limits {
        document::Limits { max_pixels: self.limits.max_pixels, max_pages: self.limits.max_pages }
    }

    /// `[retention]` as upkeep wants it, for accounts that do not say it themselves.
    #[must_use]
    pub fn retention(&self) -> upkeep::retention::Ages {
        let RetentionSettings { originals, sidecars, jobs } = &self.retention;
        upkeep::retention::Ages { originals: originals.age(), sidecars: sidecars.age(), jobs: jobs.age() }
    }

    /// `[retry]` as the state machine wants it.
    #[must_use]
    pub fn retry_policy(&self) -> job::state::RetryPolicy {
        job::state::RetryPolicy { attempts: self.retry.attempts, backoff: self.retry.backoff.0 }
    }
}

/// `path` from `folder` (absolute, no symlinks in it), leading `..` walked.
fn absolute(folder: &Path, path: &Path) -> PathBuf {
    let mut whole = folder.to_owned();
    let mut leading = !path.is_absolute();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if leading => {
                whole.pop();
            }
            part => {
                leading = false;
                whole.push(part);
            }
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths_start_at_the_files_folder() {
        let folder = Path::new("/srv/inkport/config");
        for (path, whole) in [
            ("../data", "/srv/inkport/data"),
            ("accounts.toml", "/srv/inkport/config/accounts.toml"),
            ("./x/../y", "/srv/inkport/config/x/../y"),
            ("/var/lib/inkport", "/var/lib/inkport"),
            ("../../../../x", "/x"),
        ] {
            assert_eq!(absolute(folder, Path::new(path)), Path::new(whole), "{path}");
        }
    }

    #[test]
    fn credentials_come_from_systemds_folder() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(MAIL_CREDENTIAL), "secret").unwrap();
        let mut config = Config::specimen();
        config.mail.as_mut().unwrap().password_file = None;
        std::fs::write(folder.path().join(MASTER_KEY_CREDENTIAL), "00").unwrap();
        config.http.master_key_file = None;
        config.ftp.tls.as_mut().unwrap().private_key = Some("$CREDENTIALS_DIRECTORY/ftp-key".into());
        config.settle(Path::new("/etc/inkport"), Some(folder.path()));
        assert_eq!(config.master_key(), keys::MasterKeySource::File(folder.path().join(MASTER_KEY_CREDENTIAL)));
        assert_eq!(config.mail.unwrap().password_file, Some(folder.path().join(MAIL_CREDENTIAL)));
        assert_eq!(config.ftp.tls.unwrap().private_key.unwrap(), folder.path().join("ftp-key"));
    }
}
