//! The `[ocr]` section of the configuration.

use std::path::PathBuf;

/// How pages are read.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    pub engine: EngineChoice,
    /// Threads the engine may use; 0 means all cores.
    pub threads: usize,
    /// Folder with `manifest.toml`; relative to the folder of the configuration file.
    pub models: PathBuf,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { engine: EngineChoice::Ppocr, threads: 0, models: PathBuf::from("../models") }
    }
}

/// The engines of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum EngineChoice {
    /// PP-OCR's detector and recognizer on ONNX Runtime.
    #[default]
    Ppocr,
}

/// Why an engine name is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnknownEngine {
    #[error("the engine {0:?} is not in this version of Inkport: use \"ppocr\"")]
    NotInThisVersion(String),
    #[error("there is no engine {0:?}: use \"ppocr\"")]
    Unknown(String),
}

impl TryFrom<String> for EngineChoice {
    type Error = UnknownEngine;

    fn try_from(name: String) -> Result<Self, UnknownEngine> {
        match name.as_str() {
            "ppocr" => Ok(EngineChoice::Ppocr),
            "trocr" | "tesseract" | "remote" => Err(UnknownEngine::NotInThisVersion(name)),
            _ => Err(UnknownEngine::Unknown(name)),
        }
    }
}

impl From<EngineChoice> for String {
    fn from(choice: EngineChoice) -> String {
        match choice {
            EngineChoice::Ppocr => "ppocr".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract_s_section_is_the_default() {
        let text = "engine = \"ppocr\"\nthreads = 0\nmodels = \"../models\"\n";
        assert_eq!(toml::from_str::<Settings>(text).expect("the contract's section"), Settings::default());
        assert_eq!(toml::to_string(&Settings::default()).expect("plain values"), text);
        assert_eq!(toml::from_str::<Settings>("").expect("all keys have defaults"), Settings::default());
    }

    #[test]
    fn engines_to_come_and_typing_errors_are_told_apart() {
        for name in ["trocr", "tesseract", "remote"] {
            let error = toml::from_str::<Settings>(&format!("engine = \"{name}\"")).expect_err("not in this version");
            assert!(error.to_string().contains("not in this version"), "{error}");
        }
        let error = toml::from_str::<Settings>("engine = \"pp-ocr\"").expect_err("misspelt");
        assert!(error.to_string().contains("there is no engine"), "{error}");
        assert!(toml::from_str::<Settings>("thread = 2").is_err());
    }
}
