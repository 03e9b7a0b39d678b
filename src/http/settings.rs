//! `[http]`

use crate::units::ByteSize;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::net::SocketAddr;
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
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            listen: ([127, 0, 0, 1], 8080).into(),
            public_url: "http://127.0.0.1:8080".parse().expect("the default address is well formed"),
            status: StatusAccess::default(),
            max_upload: ByteSize(16 << 20),
        }
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
