//! `[ftp.tls]`: explicit FTPS (`AUTH TLS`) on the same port, done by libunftp with rustls (TLS 1.2 and
//! 1.3, forward-secret ciphers only, sessions resumed on data connections).
//!
//! Half a section is refused, never weakened to plain FTP. With `require = "login"` no name and no
//! password is taken before TLS; with `require = "all"` no data connection is prepared or used without
//! it either, whichever of PASV, EPSV, PORT and EPRT asks for it.

use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::{Path, PathBuf};

/// `[ftp.tls]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct TlsSettings {
    /// PEM: the certificate, then its chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// PEM: PKCS#8, PKCS#1 or SEC1, not encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_key: Option<PathBuf>,
    pub require: Require,
}

/// What must be encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Require {
    /// TLS is offered.
    #[default]
    No,
    /// The login, and so every command after it.
    Login,
    /// Every transfer too.
    All,
}

/// Why FTPS cannot be offered as configured.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("ftp.tls.certificate is set but ftp.tls.private-key is not: give both, or remove the section")]
    NoKey,
    #[error("ftp.tls.private-key is set but ftp.tls.certificate is not: give both, or remove the section")]
    NoCertificate,
    #[error("ftp.tls names no certificate: give certificate and private-key, or remove the section")]
    Empty,
    #[error("ftp.tls: {path} cannot be read")]
    Unreadable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("ftp.tls: {certificate} and {private_key} are not a certificate and its private key in PEM: {detail}")]
    Unusable { certificate: PathBuf, private_key: PathBuf, detail: String },
}

/// A complete section: both files are known to exist and to fit when the door opens.
#[derive(Debug, Clone)]
pub(super) struct Tls {
    pub certificate: PathBuf,
    pub private_key: PathBuf,
    pub require: Require,
}

impl TlsSettings {
    /// Relative paths are meant from `folder`, where the configuration file lies.
    pub fn resolve(&mut self, folder: &Path) {
        for path in [&mut self.certificate, &mut self.private_key].into_iter().flatten() {
            *path = folder.join(&*path);
        }
    }

    /// Reads both files and tries them together. Blocking.
    pub fn check(&self) -> Result<(), TlsError> {
        self.complete().map(drop)
    }

    pub(super) fn complete(&self) -> Result<Tls, TlsError> {
        let (certificate, private_key) = match (&self.certificate, &self.private_key) {
            (Some(certificate), Some(private_key)) => (certificate, private_key),
            (Some(_), None) => return Err(TlsError::NoKey),
            (None, Some(_)) => return Err(TlsError::NoCertificate),
            (None, None) => return Err(TlsError::Empty),
        };
        for path in [certificate, private_key] {
            File::open(path).map_err(|source| TlsError::Unreadable { path: path.clone(), source })?;
        }
        // The library reads both when a server is built; this one is never run.
        libunftp::ServerBuilder::new(Box::new(|| {
            unftp_sbe_fs::Filesystem::new("/").expect("a server that is not run has no storage")
        }))
        .ftps(certificate.clone(), private_key.clone())
        .build()
        .map_err(|error| TlsError::Unusable {
            certificate: certificate.clone(),
            private_key: private_key.clone(),
            detail: chain(&error),
        })?;
        Ok(Tls { certificate: certificate.clone(), private_key: private_key.clone(), require: self.require })
    }
}

/// The library's outer messages say little; the innermost says what is wrong.
fn chain(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> String {
        toml::from_str::<TlsSettings>(text).unwrap().check().unwrap_err().to_string()
    }

    #[test]
    fn half_a_section_is_refused() {
        assert!(told("certificate = \"a.pem\"").contains("private-key is not"));
        assert!(told("private-key = \"a.pem\"").contains("certificate is not"));
        assert!(told("require = \"login\"").contains("names no certificate"));
        assert!(told("certificate = \"/nowhere/a.pem\"\nprivate-key = \"/nowhere/b.pem\"").contains("/nowhere/a.pem"));
        assert!(toml::from_str::<TlsSettings>("require = \"maybe\"").is_err());
    }

    #[test]
    fn files_that_are_no_pair_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.pem"), "not a certificate").unwrap();
        let mut settings: TlsSettings = toml::from_str("certificate = \"a.pem\"\nprivate-key = \"a.pem\"").unwrap();
        settings.resolve(folder.path());
        assert!(matches!(settings.check(), Err(TlsError::Unusable { .. })), "{:?}", settings.check());
    }
}
