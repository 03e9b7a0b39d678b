//! FTPS beyond the clients that `ftp_clients.rs` drives: sessions that begin with TLS, handshakes before the
//! command, ends without a goodbye, resumption, certificates that are replaced, client certificates.

mod ftp_support;

use ftp_support::wire::{Line, Mode, Wire, trusting_with};
use ftp_support::{House, Pair, certificate};
use inkport::account::{Account, ClientCertificate, Fingerprint, TlsEof};
use inkport::ftp::Settings;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{ALL_VERSIONS, ClientConfig, HandshakeKind};
use sha2::{Digest as _, Sha256};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

const STALL: Duration = Duration::from_secs(60);

/// A door with both ports.
fn implicit(pair: &Pair, more: &str, change: impl FnOnce(&mut Settings)) -> (House, SocketAddr) {
    let mut settings = pair.settings(&format!("implicit-listen = \"127.0.0.1:0\"\n{more}"));
    change(&mut settings);
    let house = House::open_with(settings, STALL);
    let address = house.implicit.unwrap();
    (house, address)
}

#[test]
fn a_session_may_begin_with_tls() {
    let pair = certificate();
    let (house, address) = implicit(&pair, "require = \"login\"", |_| {});
    for mode in [Mode::Pasv, Mode::Epsv, Mode::Port, Mode::Eprt] {
        let mut wire = Wire::connect_implicit(address).unwrap();
        wire.expect_reply("220");
        wire.expect("AUTH TLS", "503");
        wire.log_in("desk");
        // Data is protected without a word about it; and with the words that clients say.
        for (name, words) in [("silent.jpg", false), ("told.jpg", true)] {
            if words {
                wire.expect("PBSZ 0", "200");
                wire.expect("PROT P", "200");
            }
            let reply = wire.put(mode, format!("STOR {name}").as_bytes(), b"page").unwrap();
            assert!(reply.starts_with(b"226"), "{mode:?} {name}");
            let (bytes, _) = wire.get(mode, format!("RETR {name}").as_bytes()).unwrap();
            assert_eq!(bytes, b"page");
        }
        wire.expect("PROT C", "200");
        assert!(wire.put(mode, b"STOR plain.jpg", b"page").unwrap().starts_with(b"226"), "{mode:?}");
        wire.expect("QUIT", "221");
    }
    assert_eq!(fs::read(house.home("plain.jpg")).unwrap(), b"page");
    house.eventually("the sessions end", || house.stats.now().sessions_open == 0);
}

#[test]
fn the_implicit_port_is_held_to_the_same_rules() {
    let pair = certificate();
    let (house, address) = implicit(&pair, "require = \"all\"", |settings| settings.max_sessions_per_ip = 2);
    let mut first = Wire::connect_implicit(address).unwrap();
    first.expect_reply("220");
    first.log_in("desk");
    first.expect("PROT C", "200");
    first.expect("EPSV", "521");
    // Both ports share the limits: the peer is who it is, not a proxy.
    let mut second = Wire::connect(house.address).unwrap();
    second.expect_reply("220");
    let mut third = TcpStream::connect(address).unwrap();
    let mut told = Vec::new();
    let _ = third.read_to_end(&mut told);
    assert_eq!(told, b"", "nothing in plain text where TLS is expected");
    assert_eq!(house.stats.now().sessions_refused, 1);
    drop(first);
    house.eventually("a place is free", || house.stats.now().sessions_open == 1);
    // Plain text there is no handshake: the connection ends without a word that could be mistaken for FTP's.
    let mut plain = TcpStream::connect(address).unwrap();
    plain.write_all(b"USER desk\r\n").unwrap();
    let mut told = Vec::new();
    let _ = plain.read_to_end(&mut told);
    assert!(!told.starts_with(b"2") && !told.starts_with(b"3"), "{told:?}");
    house.eventually("it is gone", || house.stats.now().sessions_open == 1);
}

#[test]
fn a_handshake_may_come_before_its_command() {
    let pair = certificate();
    let house = House::open_with(pair.settings("require = \"no\""), STALL);
    let mut wire = Wire::login_tls(&house);
    for (round, mode) in [Mode::Pasv, Mode::Epsv].into_iter().cycle().take(20).enumerate() {
        wire.open(mode, None).unwrap();
        wire.data().unwrap().write_all(b"page").unwrap();
        wire.expect(&format!("STOR {round}.jpg"), "150");
        wire.take_data().unwrap().end();
        wire.expect_reply("226");
        assert_eq!(fs::read(house.home(&format!("{round}.jpg"))).unwrap(), b"page");
    }
    // A handshake whose command never comes is in nobody's way.
    wire.open(Mode::Epsv, None).unwrap();
    wire.data().unwrap();
    assert!(wire.put(Mode::Epsv, b"STOR next.jpg", b"page").unwrap().starts_with(b"226"));
    // What is said before the command in plain text waits for it.
    wire.expect("PROT C", "200");
    wire.open(Mode::Epsv, None).unwrap();
    wire.data().unwrap().write_all(b"plain page").unwrap();
    wire.expect("STOR plain.jpg", "150");
    wire.take_data().unwrap().end();
    wire.expect_reply("226");
    assert_eq!(fs::read(house.home("plain.jpg")).unwrap(), b"plain page");
    // PROT P after the connection is there holds for it.
    wire.open(Mode::Epsv, None).unwrap();
    wire.expect("PROT P", "200");
    wire.expect("STOR late.jpg", "150");
    wire.data().unwrap().write_all(b"late page").unwrap();
    wire.take_data().unwrap().end();
    wire.expect_reply("226");
    assert_eq!(fs::read(house.home("late.jpg")).unwrap(), b"late page");
    // No handshake at all where one was promised.
    wire.open(Mode::Epsv, None).unwrap();
    wire.expect("PROT C", "200");
    wire.data().unwrap().write_all(b"no hello, no handshake, but long enough for a header").unwrap();
    wire.expect("PROT P", "200");
    wire.expect("STOR none.jpg", "150");
    wire.expect_reply("425");
    wire.drop_data();
    assert!(!house.home("none.jpg").exists());
    house.nothing_is_staged();
}

#[test]
fn leniency_ends_at_a_cut_record_and_at_a_reset() {
    let pair = certificate();
    let house = House::open_with(pair.settings("require = \"no\""), STALL);
    house.add(Account { tls_eof: TlsEof::Lenient, ..Account::new("old".parse().unwrap()) });
    for version in [&TLS12, &TLS13] {
        let mut wire = Wire::connect(house.address).unwrap().with_tls(trusting_with(&[version], None));
        wire.expect_reply("220");
        wire.start_tls().unwrap();
        wire.log_in("old");
        wire.expect("PROT P", "200");
        let home = house.dir.path().join("homes/old/scan.jpg");
        let begin = |wire: &mut Wire| {
            wire.open(Mode::Epsv, None).unwrap();
            wire.expect("STOR scan.jpg", "150");
            let mut line = wire.take_data().unwrap();
            line.write_all(b"one record").unwrap();
            house.eventually("the upload runs", || house.stats.now().uploads_running == 1);
            line
        };
        begin(&mut wire).cut();
        wire.expect_reply("226");
        assert_eq!(fs::read(&home).unwrap(), b"one record");
        fs::remove_file(&home).unwrap();
        let ends: [fn(Line); 2] = [Line::reset, |mut line| {
            line.send_short(b"and most of another").unwrap();
            line.cut();
        }];
        for end in ends {
            end(begin(&mut wire));
            let reply = wire.last_reply().unwrap();
            assert!(reply.starts_with(b"4"), "{}", String::from_utf8_lossy(&reply));
            assert!(!home.exists());
        }
    }
    house.nothing_is_staged();
}

#[test]
fn data_connections_resume_the_session() {
    let pair = certificate();
    let house = House::open_with(pair.settings("require = \"login\""), STALL);
    for version in [&TLS12, &TLS13] {
        let mut wire = Wire::connect(house.address).unwrap().with_tls(trusting_with(&[version], None));
        wire.expect_reply("220");
        wire.start_tls().unwrap();
        wire.log_in("desk");
        wire.expect("PROT P", "200");
        // rustls' client uses a TLS 1.3 ticket once, and the control connection gave it two.
        for round in 0..2 {
            wire.open(Mode::Epsv, None).unwrap();
            wire.expect("STOR scan.jpg", "150");
            let mut line = wire.take_data().unwrap();
            line.write_all(b"page").unwrap();
            assert_eq!(line.tls().unwrap().handshake_kind(), Some(HandshakeKind::Resumed), "{version:?} {round}");
            line.end();
            wire.expect_reply("226");
        }
    }
    // OpenSSL, as Python, curl and others use it; the same session for every connection, as FileZilla does.
    let version = |name: &str| {
        format!(
            r#"
class Reusing(ftplib.FTP_TLS):
    def ntransfercmd(self, cmd, rest=None):
        conn, size = ftplib.FTP.ntransfercmd(self, cmd, rest)
        conn = self.context.wrap_socket(conn, server_hostname=self.host, session=self.sock.session)
        reused.append(conn.session_reused)
        return conn, size
reused = []
c = ssl._create_unverified_context()
c.minimum_version = c.maximum_version = ssl.TLSVersion.{name}
g = Reusing(timeout=30, context=c)
g.connect(host, port); g.login('desk', 'secret'); g.prot_p()
for number in range(5):
    g.storbinary('STOR scan.jpg', io.BytesIO(b'x' * 300_000))
    got = io.BytesIO(); g.retrbinary('RETR scan.jpg', got.write); assert got.getvalue() == b'x' * 300_000
    g.nlst()
assert reused == [True] * 15, reused
g.quit()
"#
        )
    };
    for name in ["TLSv1_2", "TLSv1_3"] {
        ftp_support::python_tls(&house, &version(name));
    }
}

fn shown(wire: &Wire) -> CertificateDer<'static> {
    wire.tls().unwrap().peer_certificates().unwrap()[0].clone().into_owned()
}

fn secured(house: &House) -> Wire {
    // A configuration of its own, so that nothing is resumed.
    let mut wire = Wire::connect(house.address).unwrap();
    wire.expect_reply("220");
    wire.start_tls().unwrap();
    wire
}

#[test]
fn a_new_certificate_is_for_new_sessions() {
    let pair = certificate();
    let house = House::open_with(pair.settings("require = \"all\""), STALL);
    let certificates = house.certificates.clone().unwrap();
    let mut running = Wire::login_tls(&house);
    let old = shown(&running);
    // Half of a renewal, then no PEM at all: the old pair stays.
    let renewed = certificate();
    fs::copy(&renewed.certificate, &pair.certificate).unwrap();
    let told = certificates.reload().unwrap_err().to_string();
    assert!(told.contains("cert.pem") && told.contains("key.pem"), "{told}");
    fs::write(&pair.certificate, "nothing").unwrap();
    certificates.reload().unwrap_err();
    fs::remove_file(&pair.certificate).unwrap();
    certificates.reload().unwrap_err();
    assert_eq!(shown(&secured(&house)), old);
    fs::copy(&renewed.certificate, &pair.certificate).unwrap();
    fs::copy(&renewed.key, &pair.key).unwrap();
    certificates.reload().unwrap();
    assert_ne!(shown(&secured(&house)), old);
    // A session that runs goes on as it began.
    assert!(running.put(Mode::Epsv, b"STOR scan.jpg", b"page").unwrap().starts_with(b"226"));
    assert_eq!(shown(&running), old);
}

/// Signs client certificates.
struct Signer {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

type Own = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Signer {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "the scanners' authority");
        Signer { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    fn sign(&self, name: &str) -> Own {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = named(name).signed_by(&key, &self.issuer).unwrap();
        (vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn self_signed(name: &str) -> Own {
    let key = KeyPair::generate().unwrap();
    let certificate = named(name).self_signed(&key).unwrap();
    (vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
}

fn showing(version: &'static rustls::SupportedProtocolVersion, own: Option<&Own>) -> Arc<ClientConfig> {
    trusting_with(&[version], own.map(|(chain, key)| (chain.clone(), key.clone_key())))
}

/// The answers to USER and, where it is asked for, PASS.
fn logins(wire: &mut Wire, name: &str, password: &str) -> String {
    let user = wire.command(&format!("USER {name}"));
    let mut codes = user[..3].to_owned();
    if codes == "331" {
        let pass = wire.command(&format!("PASS {password}"));
        codes = format!("{codes} {pass}");
    }
    codes
}

#[test]
fn a_client_certificate_is_a_login_where_the_account_says_so() {
    let (pair, signer) = (certificate(), Signer::new());
    let folder = tempfile::tempdir().unwrap();
    let authority = folder.path().join("ca.pem");
    fs::write(&authority, signer.issuer.pem()).unwrap();
    let house = House::open_with(pair.settings(&format!("client-ca = {authority:?}")), STALL);
    let pinned = self_signed("whatever a factory wrote");
    let account = |name: &str, what| Account { client_certificate: Some(what), ..Account::new(name.parse().unwrap()) };
    house.add(account("either", ClientCertificate::Sufficient));
    house.add(account("both", ClientCertificate::Required));
    house.add(Account {
        certificate_fingerprints: vec![Fingerprint(Sha256::digest(&pinned.0[0]).into())],
        ..account("pinned", ClientCertificate::Sufficient)
    });
    let failed = house.stats.now().logins_failed;
    let wrong = "331 530 Authentication failed";
    let right = "331 230 User logged in, proceed";
    let mut failures = 0;
    for version in [&TLS12, &TLS13] {
        for (own, name, password, expected) in [
            // Without one: the password, where no certificate is required.
            (None, "desk", "secret", right),
            (None, "either", "secret", right),
            (None, "either", "", wrong),
            (None, "both", "secret", wrong),
            (None, "pinned", "secret", right),
            // With the account's own.
            (Some(signer.sign("either")), "either", "", "232"),
            (Some(signer.sign("both")), "both", "secret", right),
            (Some(signer.sign("both")), "both", "wrong", wrong),
            (Some((pinned.0.clone(), pinned.1.clone_key())), "pinned", "", "232"),
            // With another's, a stranger's, and one of the right name that is not the listed one.
            (Some(signer.sign("either")), "both", "secret", wrong),
            (Some(signer.sign("both")), "either", "wrong", wrong),
            (Some(signer.sign("both")), "either", "secret", right),
            (Some(Signer::new().sign("either")), "either", "wrong", wrong),
            (Some(self_signed("both")), "both", "secret", wrong),
            (Some(signer.sign("pinned")), "pinned", "wrong", wrong),
            // An account that says nothing of certificates does not look at them, nor does anybody mind one.
            (Some(signer.sign("desk")), "desk", "wrong", wrong),
            (Some(self_signed("anything")), "desk", "secret", right),
        ] {
            let mut wire = Wire::connect(house.address).unwrap().with_tls(showing(version, own.as_ref()));
            wire.expect_reply("220");
            wire.start_tls().unwrap();
            assert_eq!(logins(&mut wire, name, password), expected, "{name} {password:?} {version:?}");
            if expected == wrong {
                failures += 1;
                continue;
            }
            wire.expect("PROT P", "200");
            let stored = wire.put(Mode::Epsv, b"STOR scan.jpg", b"page").unwrap();
            assert!(stored.starts_with(b"226"), "{name}: {}", String::from_utf8_lossy(&stored));
        }
    }
    assert_eq!(house.stats.now().logins_failed - failed, failures, "a certificate that does not suffice is no failed login");
    // Without TLS there is no certificate.
    let mut wire = Wire::connect(house.address).unwrap();
    wire.expect_reply("220");
    assert_eq!(logins(&mut wire, "both", "secret"), wrong);
}

#[test]
fn a_resumed_session_gets_in_no_further_than_a_new_one() {
    let (pair, signer) = (certificate(), Signer::new());
    let folder = tempfile::tempdir().unwrap();
    let authority = folder.path().join("ca.pem");
    fs::write(&authority, signer.issuer.pem()).unwrap();
    let settings = pair.settings(&format!("client-ca = {authority:?}\nimplicit-listen = \"127.0.0.1:0\""));
    let house = House::open_with(settings, STALL);
    house.add(Account { client_certificate: Some(ClientCertificate::Sufficient), ..Account::new("front".parse().unwrap()) });
    for version in [&TLS12, &TLS13] {
        let own = signer.sign("front");
        let tls = showing(version, Some(&own));
        let begin = |address| {
            let mut wire = Wire::connect(address).unwrap().with_tls(Arc::clone(&tls));
            wire.expect_reply("220");
            wire.start_tls().unwrap();
            wire
        };
        fs::write(&authority, signer.issuer.pem()).unwrap();
        house.certificates.as_ref().unwrap().reload().unwrap();
        let mut first = begin(house.address);
        first.expect("USER front", "232");
        let mut resumed = begin(house.address);
        resumed.expect("USER front", "232");
        assert_eq!(resumed.tls().unwrap().handshake_kind(), Some(HandshakeKind::Resumed));
        // The authority is replaced: what it vouched for is over, resumed or not.
        fs::write(&authority, Signer::new().issuer.pem()).unwrap();
        house.certificates.as_ref().unwrap().reload().unwrap();
        let mut after = begin(house.address);
        assert_eq!(after.tls().unwrap().handshake_kind(), Some(HandshakeKind::Resumed));
        after.expect("USER front", "331");
        // Who is in stays in.
        first.expect("NOOP", "200");
    }
    assert_eq!(ALL_VERSIONS.len(), 2, "a new version of TLS wants to be looked at");
}

#[test]
fn a_client_that_leaves_right_after_protected_data_has_uploaded() {
    let pair = certificate();
    let (house, address) = implicit(&pair, "require = \"all\"", |_| {});
    let page: Vec<u8> = (0..300_000u32).map(|at| at as u8).collect();
    let (first, rest) = page.split_at(100_000);
    let mut taken = 0;
    for version in [&TLS12, &TLS13] {
        for (way, leave) in [
            ("QUIT in the middle", None),
            ("closed", Some(Wire::hang_up as fn(&mut Wire))),
            ("reset", Some(Wire::reset as fn(&mut Wire))),
        ] {
            let mut wire = Wire::connect(house.address).unwrap().with_tls(trusting_with(&[version], None));
            wire.expect_reply("220");
            wire.start_tls().unwrap();
            wire.log_in("desk");
            wire.expect("PROT P", "200");
            wire.open(Mode::Epsv, None).unwrap();
            wire.expect("STOR scan.jpg", "150");
            let mut line = wire.take_data().unwrap();
            line.write_all(first).unwrap();
            if leave.is_none() {
                wire.expect("QUIT", "221");
            }
            line.write_all(rest).unwrap();
            match leave {
                None => {
                    line.end();
                    wire.expect_reply("226");
                    assert_eq!(wire.reply().unwrap(), b"", "{way}: the connection ends when the upload is answered");
                }
                Some(leave) => {
                    // All is said; then nobody waits for an answer.
                    line.say_goodbye().unwrap();
                    leave(&mut wire);
                    line.end();
                }
            }
            taken += 1;
            house.eventually("the upload is taken", || house.stats.now().uploads_total == taken);
            assert_eq!(fs::read(house.home("scan.jpg")).unwrap(), page, "{way} {version:?}");
            fs::remove_file(house.home("scan.jpg")).unwrap();
        }
    }
    // The same where TLS was there from the beginning.
    let mut wire = Wire::connect_implicit(address).unwrap();
    wire.expect_reply("220");
    wire.log_in("desk");
    wire.open(Mode::Pasv, None).unwrap();
    wire.expect("STOR scan.jpg", "150");
    let mut line = wire.take_data().unwrap();
    line.write_all(&page).unwrap();
    wire.expect("QUIT", "221");
    line.end();
    wire.expect_reply("226");
    assert_eq!(fs::read(house.home("scan.jpg")).unwrap(), page);
    house.nothing_is_staged();
}
