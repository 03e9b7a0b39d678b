//! `[ftp]`: what the door listens on, whom it lets in at a time, and what it refuses to run with.

use super::FtpError;
use super::tls::TlsSettings;
use crate::units::Span;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

/// `[ftp]`. Absent keys have the contract's values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Settings {
    /// Port 0 takes any free port; `[::]` listens on IPv4 too.
    pub listen: SocketAddr,
    /// Where clients connect to for data in passive mode.
    pub passive_ports: PortRange,
    /// The address that PASV tells.
    pub passive_host: PassiveHost,
    /// A session without a command and without a transfer ends after this.
    pub idle_timeout: Span,
    /// A transfer that moves nothing for this long, or next to nothing, is broken.
    pub stall_timeout: Span,
    pub max_sessions: usize,
    pub max_sessions_per_ip: usize,
    /// Whether folders that an upload or a rename names are made where they are missing.
    pub make_folders: bool,
    /// Absent: plain FTP only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSettings>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            listen: SocketAddr::from(([127, 0, 0, 1], 2121)),
            passive_ports: PortRange(30_000..=30_255),
            passive_host: PassiveHost::Auto,
            idle_timeout: Span(Duration::from_secs(600)),
            stall_timeout: Span(Duration::from_secs(300)),
            max_sessions: 512,
            max_sessions_per_ip: 64,
            make_folders: false,
            tls: None,
        }
    }
}

impl Settings {
    /// What can be told wrong without opening a socket. Certificates are read.
    pub fn check(&self) -> Result<(), FtpError> {
        let wrong = |key, problem: &str| Err(FtpError::Setting { key, problem: problem.to_owned() });
        if self.idle_timeout.0 < Duration::from_secs(1) {
            return wrong("idle-timeout", "must be at least \"1s\"");
        }
        if self.stall_timeout.0 < Duration::from_secs(1) {
            return wrong("stall-timeout", "must be at least \"1s\"");
        }
        if self.max_sessions == 0 {
            return wrong("max-sessions", "must be at least 1, or nobody could come in");
        }
        if self.max_sessions_per_ip == 0 {
            return wrong("max-sessions-per-ip", "must be at least 1, or nobody could come in");
        }
        if self.passive_ports.0.contains(&self.listen.port()) {
            return wrong("passive-ports", "contain the port that ftp.listen takes; choose another range");
        }
        if let Some(tls) = &self.tls {
            if let Some(implicit) = tls.implicit_listen {
                if implicit.port() != 0 && implicit.port() == self.listen.port() {
                    return wrong("tls.implicit-listen", "is the port that ftp.listen takes; give it one of its own");
                }
                if self.passive_ports.0.contains(&implicit.port()) {
                    return wrong("passive-ports", "contain the port that ftp.tls.implicit-listen takes; choose another range");
                }
            }
            tls.check()?;
        }
        Ok(())
    }
}

/// Ports as `"30000-30255"`, both ends included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortRange(pub RangeInclusive<u16>);

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("\"{text}\" is not a range of ports: write the lowest and the highest, as in \"30000-30255\"");
        let (low, high) = text.split_once('-').ok_or_else(bad)?;
        let low: u16 = low.trim().parse().map_err(|_| bad())?;
        let high: u16 = high.trim().parse().map_err(|_| bad())?;
        if low == 0 || low > high { Err(bad()) } else { Ok(PortRange(low..=high)) }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0.start(), self.0.end())
    }
}

/// The address that PASV tells: the one the client came to, or a fixed one for NAT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PassiveHost {
    Auto,
    Address(Ipv4Addr),
}

impl FromStr for PassiveHost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(PassiveHost::Auto),
            // PASV has room for IPv4 only; EPSV tells no address at all.
            _ => text
                .parse()
                .map(PassiveHost::Address)
                .map_err(|_| format!("\"{text}\" is not an address for PASV: write \"auto\" or an IPv4 address")),
        }
    }
}

impl fmt::Display for PassiveHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PassiveHost::Auto => f.write_str("auto"),
            PassiveHost::Address(address) => address.fmt(f),
        }
    }
}

crate::units::serde_by_text!(PortRange, PassiveHost);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contracts_section_is_the_default() {
        let text = r#"
            listen = "127.0.0.1:2121"
            passive-ports = "30000-30255"
            passive-host = "auto"
            idle-timeout = "10m"
            max-sessions = 512
            max-sessions-per-ip = 64
        "#;
        let settings: Settings = toml::from_str(text).unwrap();
        assert_eq!(settings, Settings::default());
        assert_eq!(toml::from_str::<Settings>("").unwrap(), settings);
        assert_eq!(toml::from_str::<Settings>(&toml::to_string(&settings).unwrap()).unwrap(), settings);
        settings.check().unwrap();
    }

    #[test]
    fn wrong_values_are_told_by_name() {
        for text in [
            "passive-ports = \"30255-30000\"", "passive-ports = \"0-10\"", "passive-ports = \"70000-70001\"",
            "passive-host = \"scanner.example\"", "passive-host = \"::1\"", "listen = \"somewhere\"", "max-session = 3",
        ] {
            assert!(toml::from_str::<Settings>(text).is_err(), "{text}");
        }
        for text in ["max-sessions = 0", "max-sessions-per-ip = 0", "idle-timeout = \"10ms\"", "passive-ports = \"2100-2200\""] {
            let settings: Settings = toml::from_str(text).unwrap();
            let told = settings.check().unwrap_err().to_string();
            assert!(told.contains(text.split(' ').next().unwrap()), "{told}");
        }
        for (port, key) in [(2121, "tls.implicit-listen"), (30_001, "passive-ports")] {
            let settings: Settings = toml::from_str(&format!("tls.implicit-listen = \"0.0.0.0:{port}\"")).unwrap();
            let told = settings.check().unwrap_err().to_string();
            assert!(told.contains(key), "{told}");
        }
    }
}
