//! What an account may do and how much: permissions, networks, the last day, what becomes of a name that is
//! taken, the tier. How much it uses is `homes`' and the doors' business.

use super::NameError;
use core::net::IpAddr; // an address; this room opens no socket
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// For choices that a configuration writes as a word.
macro_rules! by_word {
    ($name:ident, $error:ident: $($word:literal => $variant:ident),+) => {
        impl $name {
            /// As it is written.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self {
                    $($name::$variant => $word,)+
                }
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                match text {
                    $($word => Ok($name::$variant),)+
                    _ => Err(NameError::$error(text.to_owned())),
                }
            }
        }
    };
}

/// One thing that a client may be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Permission {
    Upload,
    Download,
    List,
    Delete,
    Rename,
    MakeFolder,
}

by_word!(Permission, Permission: "upload" => Upload, "download" => Download, "list" => List, "delete" => Delete, "rename" => Rename, "make-folder" => MakeFolder);

const EVERY: [Permission; 6] =
    [Permission::Upload, Permission::Download, Permission::List, Permission::Delete, Permission::Rename, Permission::MakeFolder];

/// What an account's clients may do in its home. Written as a list of words; `all` and `drop-box` (upload and
/// nothing else) may stand for a whole list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permissions(u8);

impl Permissions {
    pub const ALL: Permissions = Permissions(0b11_1111);

    #[must_use]
    pub fn of(permissions: &[Permission]) -> Self {
        Permissions(permissions.iter().fold(0, |bits, permission| bits | 1 << *permission as u8))
    }

    #[must_use]
    pub fn allow(self, permission: Permission) -> bool {
        self.0 & 1 << permission as u8 != 0
    }

    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Permissions::ALL
    }

    fn words(self) -> impl Iterator<Item = &'static str> {
        EVERY.into_iter().filter(move |permission| self.allow(*permission)).map(Permission::word)
    }

    fn with_word(self, word: &str) -> Result<Self, NameError> {
        Ok(Permissions(
            self.0
                | match word {
                    "all" => Permissions::ALL.0,
                    "drop-box" => Permissions::of(&[Permission::Upload]).0,
                    word => Permissions::of(&[word.parse()?]).0,
                },
        ))
    }
}

impl Default for Permissions {
    fn default() -> Self {
        Permissions::ALL
    }
}

/// Words with commas between them; nothing at all is nothing allowed.
impl FromStr for Permissions {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        text.split(',').map(str::trim).filter(|word| !word.is_empty()).try_fold(Permissions(0), Permissions::with_word)
    }
}

impl Serialize for Permissions {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.words())
    }
}

impl<'de> Deserialize<'de> for Permissions {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let words = Vec::<String>::deserialize(deserializer)?;
        let known = words.iter().try_fold(Permissions(0), |known, word| known.with_word(word));
        known.map_err(serde::de::Error::custom)
    }
}

/// What becomes of an upload under a name that a file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Existing {
    /// It takes the file's place, whole, and is a job of its own.
    #[default]
    Replace,
    /// It gets a name of its own: `scan-2.jpg`.
    KeepBoth,
    /// It is not taken.
    Refuse,
}

by_word!(Existing, Existing: "replace" => Replace, "keep-both" => KeepBoth, "refuse" => Refuse);

/// Whose day's pages an account has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// As many as the daemon gives to everybody.
    Free,
    /// As many as it gives to those who pay.
    Pro,
    /// Its own `pages-per-day`; without one there is no limit.
    #[default]
    Own,
}

by_word!(Tier, Tier: "free" => Free, "pro" => Pro, "own" => Own);

/// Addresses that an account may come from: `10.0.0.0/8`, `2001:db8::/32`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network(IpNet);

impl Network {
    /// An IPv4 address that comes in IPv6's clothes is itself.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl FromStr for Network {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let one = || text.parse::<IpAddr>().ok().map(|address| IpNet::from(address.to_canonical()));
        let network = text.parse::<IpNet>().ok().or_else(one);
        // What stands behind the prefix says nothing: 10.0.0.5/8 is 10.0.0.0/8.
        network.map(|network| Network(network.trunc())).ok_or_else(|| NameError::Network(text.to_owned()))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() { self.0.addr().fmt(f) } else { self.0.fmt(f) }
    }
}

crate::units::serde_by_text!(Network);

/// Bytes and files that a home may hold; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quota {
    pub bytes: Option<u64>,
    pub files: Option<u64>,
}

impl Quota {
    #[must_use]
    pub fn is_limit(&self) -> bool {
        self.bytes.is_some() || self.files.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_are_words_both_ways() {
        let words = |permissions: Permissions| serde_json::to_string(&permissions).unwrap();
        assert_eq!(words("list,upload".parse().unwrap()), r#"["upload","list"]"#);
        assert_eq!("all".parse::<Permissions>().unwrap(), Permissions::ALL);
        let drop_box: Permissions = serde_json::from_str(r#"["drop-box"]"#).unwrap();
        assert_eq!(EVERY.map(|permission| drop_box.allow(permission)), [true, false, false, false, false, false]);
        assert_eq!(words("".parse().unwrap()), "[]");
        assert!("upload,fly".parse::<Permissions>().unwrap_err().to_string().contains("fly"));
        let every: Permissions = serde_json::from_str(&words(Permissions::ALL)).unwrap();
        assert!(every.is_all());
    }

    #[test]
    fn networks_hold_what_they_say() {
        let holds = |network: &str, address: &str| network.parse::<Network>().unwrap().contains(address.parse().unwrap());
        assert!(holds("10.0.0.5/8", "10.200.0.1") && !holds("10.0.0.0/8", "11.0.0.1"));
        assert!(holds("192.0.2.7", "192.0.2.7") && !holds("192.0.2.7", "192.0.2.8"));
        assert!(holds("10.0.0.0/8", "::ffff:10.1.2.3") && holds("::ffff:10.1.2.3", "10.1.2.3"));
        assert!(holds("2001:db8::/32", "2001:db8:1::9") && !holds("2001:db8::/32", "10.0.0.1"));
        for text in ["", "10.0.0.0/33", "example.org", "10.0.0"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
        for (text, shown) in [("10.0.0.5/8", "10.0.0.0/8"), ("192.0.2.7/32", "192.0.2.7"), ("2001:DB8::/32", "2001:db8::/32")] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), shown);
        }
    }
}
