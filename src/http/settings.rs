//! `[http]`

use super::client::Network;
use super::tls::TlsSettings;
use crate::account::{Account, Tier};
use crate::keys::rates::Rate;
use crate::units::{ByteSize, Span};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use std::{fmt, str::FromStr};
use url::Url;

/// `[http]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Settings {
    /// Port 0 takes any free one.
    pub listen: SocketAddr,
    /// How clients reach this side: the base of links.
    pub public_url: PublicUrl,
    pub status: StatusAccess,
    /// Bytes of one request's body.
    pub max_upload: ByteSize,
    /// How long a request waits for its document to be read; then it is answered 202.
    pub answer_within: Span,
    /// How long a signed link is good.
    pub link_lifetime: Span,
    /// Streams of events that one key may have open.
    pub max_streams: usize,
    /// Whether images may be named by their https address.
    pub fetch_urls: bool,
    /// Whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed.
    pub trusted_proxies: Vec<Network>,
    /// Web pages of other origins that may call the API: `https://app.example.org`.
    pub cors_origins: Vec<Origin>,
    /// Over HTTPS, how long browsers are told to use nothing else; zero: they are told nothing.
    pub hsts: Span,
    /// Absent: plain HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSettings>,
    /// Seals the secrets of signing keys: 64 hexadecimal digits. Absent: `<data-dir>/master.key`, made at first need.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master_key_file: Option<PathBuf>,
    pub tiers: TiersSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            listen: ([127, 0, 0, 1], 8080).into(),
            public_url: "http://127.0.0.1:8080".parse().expect("the default address is well formed"),
            status: StatusAccess::default(),
            max_upload: ByteSize(16 << 20),
            answer_within: Span(Duration::from_secs(50)),
            link_lifetime: Span(Duration::from_secs(3600)),
            max_streams: 16,
            fetch_urls: false,
            trusted_proxies: Vec::new(),
            cors_origins: Vec::new(),
            hsts: Span(Duration::ZERO),
            tls: None,
            master_key_file: None,
            tiers: TiersSettings::default(),
        }
    }
}

/// `[http.tiers]`: what accounts may ask of the HTTP side. Everywhere zero is no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct TiersSettings {
    pub free: TierSettings,
    pub pro: TierSettings,
    pub own: TierSettings,
    /// One address, all its keys together; keys of a tier without a rate are not counted.
    pub address: RateSettings,
}

/// `[http.tiers.free]` and its like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct TierSettings {
    /// In a day in UTC, of accounts that say nothing themselves.
    pub pages_per_day: u32,
    /// Of one key.
    pub requests_per_second: u32,
    /// At once, after a rest.
    pub burst: u32,
}

/// `[http.tiers.address]`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RateSettings {
    pub requests_per_second: u32,
    pub burst: u32,
}

impl Default for TiersSettings {
    fn default() -> Self {
        TiersSettings {
            free: TierSettings { pages_per_day: 100, requests_per_second: 5, burst: 50 },
            pro: TierSettings { pages_per_day: 5000, requests_per_second: 50, burst: 500 },
            own: TierSettings { pages_per_day: 0, requests_per_second: 0, burst: 0 },
            address: RateSettings { requests_per_second: 100, burst: 1000 },
        }
    }
}

impl TiersSettings {
    /// The account's tier, and its name.
    pub(super) fn of(&self, account: &Account) -> (&'static str, TierSettings) {
        match account.tier {
            Tier::Free => ("free", self.free),
            Tier::Pro => ("pro", self.pro),
            Tier::Own => ("own", self.own),
        }
    }
}

impl TierSettings {
    /// `None`: no bound.
    pub(super) fn rate(&self) -> Option<Rate> {
        RateSettings { requests_per_second: self.requests_per_second, burst: self.burst }.rate()
    }
}

impl RateSettings {
    /// `None`: no bound.
    pub(super) fn rate(&self) -> Option<Rate> {
        let (per_second, burst) = (f64::from(self.requests_per_second), f64::from(self.burst));
        (per_second > 0.0).then_some(Rate { per_second, burst })
    }
}

/// A web page's origin as browsers send it: scheme, host, port, nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(String);

impl Origin {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("\"{text}\" is not an origin: write https://app.example.org, with a port where it has one");
        let origin = Url::parse(text).map_err(|_| bad())?.origin().ascii_serialization();
        if origin == text { Ok(Origin(origin)) } else { Err(bad()) }
    }
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Origin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Who may see the status page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StatusAccess {
    /// Accounts with role admin, by HTTP Basic.
    #[default]
    Admin,
    /// Everybody who reaches the port.
    Public,
}

/// An `http://` or `https://` address without query and fragment; prints without a final slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl(Url);

impl PublicUrl {
    /// What stands before our own paths: mostly nothing.
    pub(super) fn base_path(&self) -> String {
        self.0.path().trim_end_matches('/').to_owned()
    }
}

impl FromStr for PublicUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |detail: &str| format!("\"{text}\" is not a public address: {detail}");
        let url = Url::parse(text).map_err(|error| bad(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(bad("it does not begin with http:// or https://"));
        }
        if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
            return Err(bad("it has more than a host, a port and a path"));
        }
        Ok(PublicUrl(url))
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

impl Serialize for PublicUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
