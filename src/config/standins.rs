//! Settings of rooms that are being built beside this one, in the contract's shape. Each module goes
//! when its room brings its own `Settings`.

use crate::units::Span;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

pub mod ftp {
    use super::*;
    use std::net::SocketAddr;

    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
    pub struct Settings {
        pub listen: SocketAddr,
        pub passive_ports: String,
        pub passive_host: String,
        pub idle_timeout: Span,
        pub max_sessions: usize,
        pub max_sessions_per_ip: usize,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub tls: Option<TlsSettings>,
    }

    impl Default for Settings {
        fn default() -> Self {
            Settings {
                listen: ([127, 0, 0, 1], 2121).into(),
                passive_ports: "30000-30255".into(),
                passive_host: "auto".into(),
                idle_timeout: Span(Duration::from_secs(600)),
                max_sessions: 512,
                max_sessions_per_ip: 64,
                tls: None,
            }
        }
    }

    #[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
    pub struct TlsSettings {
        #[serde(skip_serializing_if = "Option::is_none")]
        pub certificate: Option<PathBuf>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub private_key: Option<PathBuf>,
        pub require: Require,
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub enum Require {
        #[default]
        No,
        Login,
        All,
    }
}

pub mod ocr {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
    pub struct Settings {
        pub engine: EngineChoice,
        pub threads: usize,
        pub models: PathBuf,
    }

    impl Default for Settings {
        fn default() -> Self {
            Settings { engine: EngineChoice::Ppocr, threads: 0, models: "../models".into() }
        }
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub enum EngineChoice {
        Ppocr,
    }
}

pub mod watch {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
    pub struct Settings {
        pub enabled: bool,
        pub quiet: Span,
        pub rescan: Span,
    }

    impl Default for Settings {
        fn default() -> Self {
            Settings { enabled: true, quiet: Span(Duration::from_secs(2)), rescan: Span(Duration::from_secs(60)) }
        }
    }
}
