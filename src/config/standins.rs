//! Settings of rooms that are being built beside this one, in the contract's shape. Each module goes
//! when its room brings its own `Settings`.

use crate::units::Span;
use serde::{Deserialize, Serialize};
use std::time::Duration;

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
