//! The manifest: which model files and which runtime library Inkport reads with, where they came
//! from, under which licence, and whether the installed files are the right ones.
//!
//! Reads `manifest.toml` and hashes files; never downloads (`models/fetch.py` does) and never loads
//! a model (`ocr` does). Called by `daemon` and `cli` to find the engine's files, and by
//! `inkport models`.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// ONNX Runtime's shared library.
    Runtime,
    /// Page image to text lines.
    Detector,
    /// Text line to characters.
    Recognizer,
    /// Which way up a line is.
    Orientation,
}

impl Role {
    /// As the manifest writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Role::Runtime => "runtime",
            Role::Detector => "detector",
            Role::Recognizer => "recognizer",
            Role::Orientation => "orientation",
        }
    }
}

/// One file of the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Entry {
    pub name: String,
    pub role: Role,
    /// `any`, or a machine as [`std::env::consts::ARCH`] names it.
    pub arch: String,
    /// Relative to the manifest's folder.
    pub file: PathBuf,
    /// Lower-case hex.
    pub sha256: String,
    pub licence: String,
    pub source: String,
}

/// Whether a manifest's file is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Installed {
    Good,
    Missing,
    /// Another file under this name: its sha256.
    Wrong(String),
}

/// Why the manifest or a file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelsError {
    #[error("{path} cannot be read; set ocr.models to the folder that holds manifest.toml")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} is not a manifest: {detail}")]
    Manifest { path: PathBuf, detail: String },
    #[error("{path} is not there; run `make setup` to fetch it")]
    Missing { path: PathBuf },
    #[error("{path} names no {role} for {arch} machines")]
    NoSuchRole { path: PathBuf, role: &'static str, arch: &'static str },
}

#[derive(Deserialize)]
struct File1 {
    version: u32,
    model: Vec<Entry>,
}

/// The manifest of one models folder, this machine's entries only.
#[derive(Debug, Clone)]
pub struct Manifest {
    folder: PathBuf,
    entries: Vec<Entry>,
}

impl Manifest {
    /// Reads `folder/manifest.toml`.
    pub fn open(folder: &Path) -> Result<Self, ModelsError> {
        let path = folder.join("manifest.toml");
        let text = std::fs::read_to_string(&path).map_err(|source| ModelsError::Read { path: path.clone(), source })?;
        let parsed: File1 =
            toml::from_str(&text).map_err(|e| ModelsError::Manifest { path: path.clone(), detail: e.message().to_owned() })?;
        if parsed.version != 1 {
            return Err(ModelsError::Manifest { path, detail: format!("version {} is not known here", parsed.version) });
        }
        let here = |entry: &Entry| entry.arch == "any" || entry.arch == std::env::consts::ARCH;
        Ok(Manifest { folder: folder.to_owned(), entries: parsed.model.into_iter().filter(here).collect() })
    }

    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Where an entry's file lies.
    #[must_use]
    pub fn path(&self, entry: &Entry) -> PathBuf {
        self.folder.join(&entry.file)
    }

    /// The file for a role; it exists, its hash is not checked.
    pub fn file(&self, role: Role) -> Result<PathBuf, ModelsError> {
        let entry = self.entries.iter().find(|entry| entry.role == role).ok_or_else(|| ModelsError::NoSuchRole {
            path: self.folder.join("manifest.toml"),
            role: role.name(),
            arch: std::env::consts::ARCH,
        })?;
        let path = self.path(entry);
        if path.is_file() { Ok(path) } else { Err(ModelsError::Missing { path }) }
    }

    /// Hashes an entry's file.
    pub fn check(&self, entry: &Entry) -> Result<Installed, ModelsError> {
        let path = self.path(entry);
        match hash(&path) {
            Ok(found) if found == entry.sha256 => Ok(Installed::Good),
            Ok(found) => Ok(Installed::Wrong(found)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Installed::Missing),
            Err(source) => Err(ModelsError::Read { path, source }),
        }
    }
}

fn hash(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => digest.update(&buffer[..n]),
        }
    }
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models");

    #[test]
    fn the_shipped_manifest_names_every_role_once() {
        let manifest = Manifest::open(Path::new(SHIPPED)).unwrap();
        for role in [Role::Runtime, Role::Detector, Role::Recognizer, Role::Orientation] {
            assert_eq!(manifest.entries().iter().filter(|e| e.role == role).count(), 1, "{}", role.name());
        }
        for entry in manifest.entries() {
            assert_eq!(entry.sha256.len(), 64, "{}", entry.name);
            assert!(!entry.licence.is_empty() && !entry.source.is_empty(), "{}", entry.name);
        }
    }

    #[test]
    fn a_missing_a_wrong_and_a_good_file_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let entry = |file: &str, sha256: &str| {
            format!(
                "[[model]]\nname='m'\nrole='detector'\narch='any'\nfile='{file}'\nsha256='{sha256}'\nlicence='l'\nsource='s'\n"
            )
        };
        let of_abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let text = format!("version = 1\n{}{}{}", entry("good", of_abc), entry("wrong", of_abc), entry("missing", of_abc));
        std::fs::write(folder.path().join("manifest.toml"), text).unwrap();
        std::fs::write(folder.path().join("good"), "abc").unwrap();
        std::fs::write(folder.path().join("wrong"), "abd").unwrap();
        let manifest = Manifest::open(folder.path()).unwrap();
        let found: Vec<_> = manifest.entries().iter().map(|e| manifest.check(e).unwrap()).collect();
        assert_eq!(found[0], Installed::Good);
        assert!(matches!(&found[1], Installed::Wrong(hash) if hash.len() == 64));
        assert_eq!(found[2], Installed::Missing);
    }

    #[test]
    fn a_folder_without_a_manifest_says_what_to_set() {
        let folder = tempfile::tempdir().unwrap();
        let message = Manifest::open(folder.path()).unwrap_err().to_string();
        assert!(message.contains("ocr.models"), "{message}");
    }
}
