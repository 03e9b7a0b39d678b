//! Client certificates as logins.
//!
//! Where `ftp.tls.client-ca` is set, clients are asked for a certificate and may go without; the handshake
//! proves that they hold its key and nothing more, so that a device with a certificate that nobody here
//! knows can still use TLS and a password. Whose it is, is looked at when somebody logs in, with the
//! authority and the time as they are then: a resumed session gets in no further than a new one.
//!
//! A certificate is an account's if the account lists its fingerprint, whoever signed it and whenever it
//! expires; or, for an account that lists none, if the authority signed it for client authentication, it
//! is valid now, and its one common name is the account's.

use super::tls::{TlsError, certificates};
use crate::account::{Account, Fingerprint};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use sha2::{Digest as _, Sha256};
use std::path::Path;
use std::sync::Arc;
use unftp_core::auth::ClientCert;
use x509_parser::parse_x509_certificate;

/// Who vouches for clients: the certificates in `ftp.tls.client-ca`.
#[derive(Debug)]
pub(super) struct Authority {
    verifier: Arc<dyn ClientCertVerifier>,
}

impl Authority {
    /// Blocking.
    pub fn read(path: &Path, provider: &Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let unusable = |detail: String| TlsError::Authority { path: path.to_owned(), detail };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(path)?.map_err(|error| unusable(error.to_string()))? {
            roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
        Ok(Authority { verifier: verifier.map_err(|error| unusable(error.to_string()))? })
    }

    /// What a server asks clients with.
    pub fn asking(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::new(Asking(Arc::clone(&self.verifier)))
    }

    fn vouches_for(&self, chain: &[ClientCert]) -> bool {
        let chain: Vec<CertificateDer<'_>> = chain.iter().map(|certificate| CertificateDer::from(certificate.as_ref())).collect();
        let Some((own, between)) = chain.split_first() else { return false };
        self.verifier.verify_client_cert(own, between, UnixTime::now()).is_ok()
    }
}

/// Whether the certificate that a client showed, first of its chain, is the account's.
pub(super) fn is_of(account: &Account, chain: Option<&[ClientCert]>, authority: Option<&Authority>) -> bool {
    // Nothing is asked for without an authority; it may have been there when the session began.
    let (Some(authority), Some(chain @ [own, ..])) = (authority, chain) else { return false };
    if account.certificate_fingerprints.is_empty() {
        authority.vouches_for(chain) && common_name(own).is_some_and(|name| name == account.name.as_str())
    } else {
        account.certificate_fingerprints.contains(&Fingerprint(Sha256::digest(own).into()))
    }
}

/// The subject's common name, if it has exactly one.
fn common_name(certificate: &ClientCert) -> Option<String> {
    let (_, certificate) = parse_x509_certificate(certificate.as_ref()).ok()?;
    let mut names = certificate.subject().iter_common_name();
    let name = names.next()?.as_str().ok()?;
    names.next().is_none().then(|| name.to_owned())
}

/// Takes any certificate whose key the client holds.
#[derive(Debug)]
struct Asking(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Asking {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::ClientCertificate;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair};
    use std::fs;
    use time::{Duration, OffsetDateTime};

    fn authority() -> (CertifiedIssuer<'static, KeyPair>, Authority) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let authority = Authority::read(&folder.path().join("ca.pem"), &provider).unwrap();
        (issuer, authority)
    }

    fn params(names: &[&str]) -> CertificateParams {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        for name in names {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        params
    }

    fn signed(params: CertificateParams, issuer: &CertifiedIssuer<'_, KeyPair>) -> Vec<ClientCert> {
        let certificate = params.signed_by(&KeyPair::generate().unwrap(), issuer).unwrap();
        vec![ClientCert(certificate.der().to_vec())]
    }

    fn account() -> Account {
        Account { client_certificate: Some(ClientCertificate::Sufficient), ..Account::new("desk".parse().unwrap()) }
    }

    #[test]
    fn the_authority_and_the_whole_name_make_a_certificate_an_accounts() {
        let (issuer, trusted) = authority();
        let (stranger, _) = authority();
        let is = |chain: &[ClientCert]| is_of(&account(), Some(chain), Some(&trusted));
        assert!(is(&signed(params(&["desk"]), &issuer)));
        for other in ["desk2", "des", "Desk", "desk, CN=desk", ""] {
            assert!(!is(&signed(params(&[other]), &issuer)), "{other}");
        }
        assert!(!is(&signed(params(&[]), &issuer)));
        assert!(!is(&signed(params(&["desk"]), &stranger)), "signed by somebody else of the same name");
        let now = OffsetDateTime::now_utc();
        let mut old = params(&["desk"]);
        (old.not_before, old.not_after) = (now - Duration::days(9), now - Duration::days(1));
        assert!(!is(&signed(old, &issuer)), "expired");
        let own = params(&["desk"]).self_signed(&KeyPair::generate().unwrap()).unwrap();
        assert!(!is(&[ClientCert(own.der().to_vec())]), "signed by itself");
        assert!(!is(&[]) && !is(&[ClientCert(b"no certificate".to_vec())]));
        assert!(!is_of(&account(), None, Some(&trusted)));
        assert!(!is_of(&account(), Some(&signed(params(&["desk"]), &issuer)), None));
    }

    #[test]
    fn listed_fingerprints_are_the_only_ones() {
        let (issuer, trusted) = authority();
        let own = params(&["anything"]).self_signed(&KeyPair::generate().unwrap()).unwrap();
        let fingerprint = Fingerprint(Sha256::digest(own.der()).into());
        let account = Account { certificate_fingerprints: vec![fingerprint], ..account() };
        assert!(is_of(&account, Some(&[ClientCert(own.der().to_vec())]), Some(&trusted)));
        let signed = signed(params(&["desk"]), &issuer);
        assert!(!is_of(&account, Some(&signed), Some(&trusted)), "the name is not enough then");
        let behind = [signed[0].clone(), ClientCert(own.der().to_vec())];
        assert!(!is_of(&account, Some(&behind), Some(&trusted)), "only the one whose key the client holds counts");
    }
}
