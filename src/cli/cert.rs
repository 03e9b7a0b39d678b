//! `inkport cert`: a self-signed certificate and its key for FTPS, for where no authority gives one. A
//! device that checks certificates is told the fingerprint, or given the certificate's file, once.

use super::Usage;
use super::print::print;
use anyhow::Context as _;
use clap::Args;
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use time::{Duration, OffsetDateTime};

/// Devices outlive memories: ten years. What checks the certificate at all was told to trust this one.
const VALID: Duration = Duration::days(3650);
/// Devices' clocks are wrong; the certificate is valid from a day before it was made.
const BACKDATED: Duration = Duration::days(1);

/// What `inkport cert` makes, and where.
#[derive(Debug, Args)]
pub struct CertArgs {
    /// The folder for ftp-cert.pem and ftp-key.pem; neither may be there already
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// A name or an address that clients connect to; may be given again [default: this machine's name, localhost, 127.0.0.1 and ::1]
    #[arg(long = "name", value_name = "HOST")]
    names: Vec<String>,
}

/// Makes both files. Needs no configuration.
pub fn run(args: &CertArgs) -> anyhow::Result<ExitCode> {
    let names = if args.names.is_empty() { own_names() } else { args.names.clone() };
    for name in &names {
        check_name(name)?;
    }
    let (certificate, key) = (args.out.join("ftp-cert.pem"), args.out.join("ftp-key.pem"));
    for path in [&certificate, &key] {
        if path.symlink_metadata().is_ok() {
            return Err(Usage(format!(
                "{} is there already and is not overwritten: move it away, or give another --out",
                path.display()
            ))
            .into());
        }
    }
    let made = make(&names)?;
    fs::create_dir_all(&args.out).with_context(|| format!("{} cannot be made", args.out.display()))?;
    write_new(&key, 0o600, &made.key)?;
    if let Err(error) = write_new(&certificate, 0o644, &made.certificate) {
        // A key without its certificate would only stand in the next try's way.
        let _ = fs::remove_file(&key);
        return Err(error);
    }
    let shown =
        |path: &Path| toml::Value::String(fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()).display().to_string());
    print(&format!(
        "Self-signed certificate for {}, valid until {}.\nSHA-256 fingerprint {}\n\nUnder [ftp.tls] in the configuration:\ncertificate = {}\nprivate-key = {}\n",
        names.join(", "),
        made.until.date(),
        made.fingerprint,
        shown(&certificate),
        shown(&key),
    ))?;
    Ok(ExitCode::SUCCESS)
}

struct Made {
    certificate: String,
    key: String,
    /// As browsers and OpenSSL show it: `AB:CD:…`.
    fingerprint: String,
    until: OffsetDateTime,
}

fn make(names: &[String]) -> anyhow::Result<Made> {
    let mut params = CertificateParams::new(names.to_vec()).context("a certificate cannot be made for these names")?;
    let now = OffsetDateTime::now_utc();
    params.not_before = now - BACKDATED;
    params.not_after = now + VALID;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.distinguished_name = DistinguishedName::new();
    // X.520 has room for 64 characters of common name; clients read the alternative names anyway.
    let common: String = names.first().map_or("inkport", String::as_str).chars().take(64).collect();
    params.distinguished_name.push(DnType::CommonName, common);
    // ECDSA P-256: what every TLS 1.2 client that can do forward secrecy can check.
    let key = KeyPair::generate().context("no key can be made")?;
    let certificate = params.self_signed(&key).context("the certificate cannot be signed")?;
    let mut fingerprint = String::new();
    for byte in Sha256::digest(certificate.der()) {
        let colon = if fingerprint.is_empty() { "" } else { ":" };
        write!(fingerprint, "{colon}{byte:02X}").expect("writing to a string does not fail");
    }
    Ok(Made { certificate: certificate.pem(), key: key.serialize_pem(), fingerprint, until: params.not_after })
}

/// This machine's name as the kernel has it, and what reaches it from itself.
fn own_names() -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    if let Ok(own) = fs::read_to_string("/proc/sys/kernel/hostname") {
        let own = own.trim();
        if check_name(own).is_ok() {
            names.push(own.to_owned());
        }
    }
    for name in ["localhost", "127.0.0.1", "::1"] {
        if !names.iter().any(|have| have == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// An address, or a name as DNS has it (a first label `*` covers one label).
fn check_name(name: &str) -> Result<(), Usage> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let host = name.strip_prefix("*.").unwrap_or(name);
    if name.parse::<IpAddr>().is_ok() || name.len() <= 253 && host.split('.').all(label) {
        Ok(())
    } else {
        Err(Usage(format!(
            "--name {name:?} is neither a host name nor an address: write it as clients do, without a scheme and a port"
        )))
    }
}

/// Whole and on disk, or not there; never over something.
fn write_new(path: &Path, mode: u32, text: &str) -> anyhow::Result<()> {
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
        if written.is_err() {
            let _ = fs::remove_file(path);
        }
        written
    };
    write().with_context(|| format!("{} cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn args(out: &Path, names: &[&str]) -> CertArgs {
        CertArgs { out: out.to_owned(), names: names.iter().map(|name| (*name).to_owned()).collect() }
    }

    #[test]
    fn both_files_fit_the_door_and_the_key_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("new/tls");
        run(&args(&out, &["scans.example.org", "192.168.1.10"])).unwrap();
        let mode = |name: &str| fs::metadata(out.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode("ftp-key.pem"), 0o600);
        let mut tls: crate::ftp::TlsSettings =
            toml::from_str("certificate = \"ftp-cert.pem\"\nprivate-key = \"ftp-key.pem\"").unwrap();
        tls.resolve(&out);
        tls.check().unwrap();
    }

    #[test]
    fn nothing_is_overwritten() {
        for there in ["ftp-cert.pem", "ftp-key.pem"] {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join(there), "mine").unwrap();
            let error = run(&args(folder.path(), &[])).unwrap_err();
            assert!(error.is::<Usage>() && error.to_string().contains(there), "{error}");
            assert_eq!(fs::read_to_string(folder.path().join(there)).unwrap(), "mine");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn names_are_hosts_and_addresses() {
        for good in ["localhost", "scans.example.org", "*.example.org", "10.0.0.1", "::1", "a_b"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "ftp://host", "host:21", "-a", "a..b", "é.org", &"a".repeat(64)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_fingerprint_is_the_certificates() {
        let made = make(&["localhost".to_owned()]).unwrap();
        assert_eq!(made.fingerprint.len(), 95);
        assert_ne!(made.fingerprint, make(&["localhost".to_owned()]).unwrap().fingerprint, "another key each time");
    }
}
