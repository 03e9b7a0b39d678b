//! `[http.tls]`: HTTPS of our own, with rustls (TLS 1.2 and 1.3, HTTP/1.1). Half a section is refused. The files can be
//! read again while the side is open; connections keep what they began with.

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio_rustls::TlsAcceptor;

/// `[http.tls]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct TlsSettings {
    /// PEM: the certificate, then its chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// PEM: PKCS#8, PKCS#1 or SEC1, not encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_key: Option<PathBuf>,
}

/// Why HTTPS cannot be offered as configured.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("http.tls names no {0}: give certificate and private-key, or remove the section")]
    Half(&'static str),
    #[error("http.tls: {path} cannot be read")]
    Unreadable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("http.tls: {certificate} and {private_key} are not a certificate and its private key in PEM: {detail}")]
    Unusable { certificate: PathBuf, private_key: PathBuf, detail: String },
}

impl TlsSettings {
    /// Reads the files and tries them together. Blocking.
    pub fn check(&self) -> Result<(), TlsError> {
        self.read().map(drop)
    }

    fn read(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let certificate = self.certificate.as_ref().ok_or(TlsError::Half("certificate"))?;
        let private_key = self.private_key.as_ref().ok_or(TlsError::Half("private-key"))?;
        let unusable = |error: &dyn std::fmt::Display| TlsError::Unusable {
            certificate: certificate.clone(),
            private_key: private_key.clone(),
            detail: error.to_string(),
        };
        let chain = CertificateDer::pem_slice_iter(&bytes(certificate)?)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| unusable(&error))?;
        let key = PrivateKeyDer::from_pem_slice(&bytes(private_key)?).map_err(|error| unusable(&error))?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .map_err(|error| unusable(&error))?
            .with_no_client_auth()
            // Looks whether the key is the certificate's.
            .with_single_cert(chain, key)
            .map_err(|error| unusable(&error))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn bytes(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Unreadable { path: path.to_owned(), source })
}

/// The certificate and key in force, to be read again while the side is open.
#[derive(Clone)]
pub struct Certificates {
    settings: Arc<TlsSettings>,
    current: Arc<Mutex<Arc<ServerConfig>>>,
}

impl Certificates {
    /// Blocking.
    pub(super) fn open(settings: &TlsSettings) -> Result<Self, TlsError> {
        let current = Arc::new(Mutex::new(settings.read()?));
        Ok(Certificates { settings: Arc::new(settings.clone()), current })
    }

    /// Reads the files again, for connections that begin from now on. Where anything is wrong with them, the old
    /// ones stay. Blocking.
    pub fn reload(&self) -> Result<(), TlsError> {
        let read = self.settings.read()?;
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = read;
        Ok(())
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_pair(folder: &Path) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    }

    #[test]
    fn a_pair_is_taken_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        write_pair(folder.path());
        let half = TlsSettings { certificate: Some(folder.path().join("cert.pem")), private_key: None };
        assert!(half.check().unwrap_err().to_string().contains("names no private-key"));
        let whole = TlsSettings { private_key: Some(folder.path().join("key.pem")), ..half };
        let certificates = Certificates::open(&whole).unwrap();
        let first = Arc::clone(&certificates.current.lock().unwrap());
        std::fs::write(folder.path().join("key.pem"), "half a renewal").unwrap();
        assert!(matches!(certificates.reload(), Err(TlsError::Unusable { .. })));
        assert!(Arc::ptr_eq(&first, &certificates.current.lock().unwrap()));
        write_pair(folder.path());
        certificates.reload().unwrap();
        assert!(!Arc::ptr_eq(&first, &certificates.current.lock().unwrap()));
    }
}
