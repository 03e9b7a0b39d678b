//! `[ftp.tls]`: FTPS, explicit (`AUTH TLS`) at the door's own port and implicit at one of its own, done by
//! libunftp with rustls (TLS 1.2 and 1.3, forward-secret ciphers only, sessions resumed on data
//! connections).
//!
//! Half a section is refused, never weakened to plain FTP. With `require = "login"` no name and no
//! password is taken before TLS; with `require = "all"` no data connection is prepared or used without
//! it either, whichever of PASV, EPSV, PORT and EPRT asks for it.
//!
//! The files can be read again while the door is open ([`Certificates::reload`]): all of them, or none.
//! Sessions keep what they began with.

use super::certificate::Authority;
use super::session::lock;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ProducesTickets, ServerSessionMemoryCache, StoresServerSessions};
use rustls::{ServerConfig, version};
use serde::{Deserialize, Serialize};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// TLS 1.2 sessions of clients that know no tickets, remembered for their data connections.
const SESSIONS: usize = 1024;

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
    /// Where a connection begins with TLS (implicit FTPS). Absent: nowhere. Port 0 takes any free port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub implicit_listen: Option<SocketAddr>,
    /// PEM: who signs client certificates. Absent: none is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
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
    #[error("ftp.tls.client-ca: {path} holds no usable certificates in PEM: {detail}")]
    Authority { path: PathBuf, detail: String },
}

impl TlsSettings {
    /// Relative paths are meant from `folder`, where the configuration file lies.
    pub fn resolve(&mut self, folder: &Path) {
        for path in [&mut self.certificate, &mut self.private_key, &mut self.client_ca].into_iter().flatten() {
            *path = folder.join(&*path);
        }
    }

    /// Reads the files and tries them together. Blocking.
    pub fn check(&self) -> Result<(), TlsError> {
        Tls::open(self).map(drop)
    }
}

/// A complete section with its files read.
pub(super) struct Tls {
    pub require: Require,
    files: Files,
    resumption: Resumption,
    current: Mutex<Arc<Identity>>,
    /// One reading at a time, so that the newest is the last.
    reading: Mutex<()>,
}

/// What the files held when they were read last.
pub(super) struct Identity {
    /// What a session is secured with.
    pub config: Arc<ServerConfig>,
    /// Who vouches for clients.
    pub authority: Option<Authority>,
}

struct Files {
    certificate: PathBuf,
    private_key: PathBuf,
    client_ca: Option<PathBuf>,
}

/// What lets clients resume their sessions; outlives the certificate that these began with. A login looks
/// at the client certificate of a resumed session as it does at that of a new one.
struct Resumption {
    sessions: Arc<dyn StoresServerSessions>,
    tickets: Arc<dyn ProducesTickets>,
}

impl Tls {
    /// Blocking.
    pub fn open(settings: &TlsSettings) -> Result<Self, TlsError> {
        let (certificate, private_key) = match (&settings.certificate, &settings.private_key) {
            (Some(certificate), Some(private_key)) => (certificate.clone(), private_key.clone()),
            (Some(_), None) => return Err(TlsError::NoKey),
            (None, Some(_)) => return Err(TlsError::NoCertificate),
            (None, None) => return Err(TlsError::Empty),
        };
        let files = Files { certificate, private_key, client_ca: settings.client_ca.clone() };
        let tickets = ring::Ticketer::new().map_err(|error| files.unusable(error))?;
        let resumption = Resumption { sessions: ServerSessionMemoryCache::new(SESSIONS), tickets };
        let current = Mutex::new(Arc::new(files.read(&resumption)?));
        Ok(Tls { require: settings.require, files, resumption, current, reading: Mutex::new(()) })
    }

    pub fn current(&self) -> Arc<Identity> {
        Arc::clone(&lock(&self.current))
    }
}

impl Files {
    fn unusable(&self, error: impl std::fmt::Display) -> TlsError {
        let (certificate, private_key) = (self.certificate.clone(), self.private_key.clone());
        TlsError::Unusable { certificate, private_key, detail: error.to_string() }
    }

    fn read(&self, resumption: &Resumption) -> Result<Identity, TlsError> {
        let certificates = certificates(&self.certificate)?.map_err(|error| self.unusable(error))?;
        let key = PrivateKeyDer::from_pem_slice(&bytes(&self.private_key)?).map_err(|error| self.unusable(error))?;
        let provider = Arc::new(ring::default_provider());
        let authority = self.client_ca.as_ref().map(|path| Authority::read(path, &provider)).transpose()?;
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .map_err(|error| self.unusable(error))?;
        let builder = match &authority {
            Some(authority) => builder.with_client_cert_verifier(authority.asking()),
            None => builder.with_no_client_auth(),
        };
        // Looks whether the key is the certificate's.
        let mut config = builder.with_single_cert(certificates, key).map_err(|error| self.unusable(error))?;
        config.session_storage = Arc::clone(&resumption.sessions);
        config.ticketer = Arc::clone(&resumption.tickets);
        Ok(Identity { config: Arc::new(config), authority })
    }
}

fn bytes(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Unreadable { path: path.to_owned(), source })
}

/// Every certificate in a PEM file; what is wrong with its contents is the caller's to tell.
pub(super) fn certificates(path: &Path) -> Result<Result<Vec<CertificateDer<'static>>, pem::Error>, TlsError> {
    Ok(CertificateDer::pem_slice_iter(&bytes(path)?).collect())
}

/// A door's certificate, key and client authority, to be read again while it is open.
#[derive(Clone)]
pub struct Certificates(pub(super) Arc<Tls>);

impl Certificates {
    /// Reads the files again, for sessions that begin from now on. Where anything is wrong with them, the
    /// old ones stay. Blocking.
    pub fn reload(&self) -> Result<(), TlsError> {
        let _reading = lock(&self.0.reading);
        let read = self.0.files.read(&self.0.resumption)?;
        *lock(&self.0.current) = Arc::new(read);
        Ok(())
    }
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
        assert!(told("implicit-listen = \"0.0.0.0:990\"").contains("names no certificate"));
        assert!(told("client-ca = \"ca.pem\"").contains("names no certificate"));
        assert!(told("certificate = \"/nowhere/a.pem\"\nprivate-key = \"/nowhere/b.pem\"").contains("/nowhere/a.pem"));
        assert!(toml::from_str::<TlsSettings>("require = \"maybe\"").is_err());
        assert!(toml::from_str::<TlsSettings>("implicit-listen = \"990\"").is_err());
    }

    /// A folder with a pair, `cert.pem` and `key.pem`, and settings that name it.
    fn paired() -> (tempfile::TempDir, TlsSettings) {
        let folder = tempfile::tempdir().unwrap();
        write_pair(folder.path());
        let mut settings: TlsSettings = toml::from_str("certificate = \"cert.pem\"\nprivate-key = \"key.pem\"").unwrap();
        settings.resolve(folder.path());
        (folder, settings)
    }

    fn write_pair(folder: &Path) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
        fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    }

    #[test]
    fn files_that_are_no_pair_are_refused() {
        let (folder, mut settings) = paired();
        settings.check().unwrap();
        fs::write(folder.path().join("a.pem"), "not a certificate").unwrap();
        let (good, bad) = (settings.certificate.clone(), Some(folder.path().join("a.pem")));
        settings.certificate = bad.clone();
        assert!(matches!(settings.check(), Err(TlsError::Unusable { .. })), "{:?}", settings.check());
        settings.certificate = good;
        settings.client_ca = bad;
        assert!(matches!(settings.check(), Err(TlsError::Authority { .. })), "{:?}", settings.check());
        settings.client_ca = None;
        // Another pair's certificate.
        let key = fs::read(folder.path().join("key.pem")).unwrap();
        write_pair(folder.path());
        fs::write(folder.path().join("key.pem"), key).unwrap();
        assert!(matches!(settings.check(), Err(TlsError::Unusable { .. })), "{:?}", settings.check());
    }

    #[test]
    fn what_is_read_again_is_taken_whole_or_not_at_all() {
        let (folder, settings) = paired();
        let tls = Arc::new(Tls::open(&settings).unwrap());
        let certificates = Certificates(Arc::clone(&tls));
        let first = tls.current();
        fs::write(folder.path().join("key.pem"), "half a renewal").unwrap();
        assert!(matches!(certificates.reload(), Err(TlsError::Unusable { .. })));
        assert!(Arc::ptr_eq(&first, &tls.current()), "the old one stays");
        write_pair(folder.path());
        certificates.reload().unwrap();
        let second = tls.current();
        assert!(!Arc::ptr_eq(&first, &second));
        assert!(Arc::ptr_eq(&first.config.ticketer, &second.config.ticketer), "sessions are still resumed");
    }
}
