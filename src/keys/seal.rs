//! The master key, and what is sealed under it: secrets that must be read again to check a signature.
//!
//! ChaCha20-Poly1305 with a random nonce before the sealed bytes; the key's id and the secret's generation
//! are authenticated too, so that a row cannot be given another's secret. The master key is 32 bytes, in
//! its file as 64 hexadecimal digits.

use super::{KeyId, KeysError};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sha2::{Digest, Sha256};
use std::fmt;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

const LENGTH: usize = 32;
const FINGERPRINT: usize = 8;

/// Where the master key comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MasterKeySource {
    /// Must be there: an operator named it.
    File(PathBuf),
    /// Made at first need, readable by its owner only.
    Made(PathBuf),
}

/// Seals and opens.
pub struct MasterKey {
    key: LessSafeKey,
    fingerprint: [u8; FINGERPRINT],
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

impl MasterKey {
    #[must_use]
    pub fn new(bytes: &[u8; LENGTH]) -> Self {
        let key = UnboundKey::new(&CHACHA20_POLY1305, bytes).expect("the cipher takes 32 bytes");
        let digest = Sha256::new().chain_update(b"inkport master key\n").chain_update(bytes).finalize();
        let mut fingerprint = [0; FINGERPRINT];
        fingerprint.copy_from_slice(&digest[..FINGERPRINT]);
        MasterKey { key: LessSafeKey::new(key), fingerprint }
    }

    /// Reads it; makes it where that is asked for and there is none yet. Blocking.
    pub fn open(source: &MasterKeySource) -> Result<Self, KeysError> {
        match source {
            MasterKeySource::File(path) => read(path),
            MasterKeySource::Made(path) => {
                if !path.exists() {
                    make(path)?;
                }
                read(path)
            }
        }
    }

    /// Tells one master key from another, and nothing of either.
    pub(super) fn fingerprint(&self) -> &[u8; FINGERPRINT] {
        &self.fingerprint
    }

    pub(super) fn seal(&self, id: &KeyId, generation: i64, secret: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).expect("the system gives random bytes");
        let mut sealed = secret.to_vec();
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad(id, generation), &mut sealed)
            .expect("a secret is shorter than the cipher's bound");
        [&nonce[..], &sealed].concat()
    }

    /// `None`: sealed under another key, for another row, or damaged.
    pub(super) fn open_sealed(&self, id: &KeyId, generation: i64, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, rest) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut rest = rest.to_vec();
        let length = self.key.open_in_place(nonce, aad(id, generation), &mut rest).ok()?.len();
        rest.truncate(length);
        Some(rest)
    }
}

fn aad(id: &KeyId, generation: i64) -> Aad<Vec<u8>> {
    Aad::from(format!("inkport key secret\n{id}\n{generation}").into_bytes())
}

fn refused(path: &Path, detail: impl Into<String>) -> KeysError {
    KeysError::Master { path: path.to_owned(), detail: detail.into() }
}

fn read(path: &Path) -> Result<MasterKey, KeysError> {
    let text = std::fs::read_to_string(path).map_err(|error| refused(path, error.to_string()))?;
    let mode = std::fs::metadata(path).map_err(|error| refused(path, error.to_string()))?.permissions().mode();
    // systemd's credentials may be read by their service's group.
    if mode & 0o007 != 0 {
        return Err(refused(path, "everybody may read it: take that away with `chmod o= FILE`"));
    }
    let digits = text.trim().as_bytes();
    let mut bytes = [0; LENGTH];
    if digits.len() != 2 * LENGTH {
        return Err(refused(path, "it must hold 64 hexadecimal digits, as `openssl rand -hex 32` prints them"));
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        match (digit(pair[0]), digit(pair[1])) {
            (Some(high), Some(low)) => *byte = high << 4 | low,
            _ => return Err(refused(path, "it holds something else than hexadecimal digits")),
        }
    }
    Ok(MasterKey::new(&bytes))
}

/// Whole or not at all, and never over one that somebody else has made meanwhile.
fn make(path: &Path) -> Result<(), KeysError> {
    let mut bytes = [0; LENGTH];
    getrandom::fill(&mut bytes).expect("the system gives random bytes");
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
    let mut name = [0; 8];
    getrandom::fill(&mut name).expect("the system gives random bytes");
    let staged = path.with_extension(format!("tmp-{:016x}", u64::from_le_bytes(name)));
    let made = (|| {
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&staged)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        match std::fs::hard_link(&staged, path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
            _ => std::fs::remove_file(&staged)?,
        }
        std::fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    })();
    made.map_err(|error| refused(path, format!("it cannot be made: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Timestamp;

    #[test]
    fn what_is_sealed_opens_in_its_own_row_only() {
        let (master, other) = (MasterKey::new(&[1; 32]), MasterKey::new(&[2; 32]));
        let (one, two) = (KeyId::generate(Timestamp(0)), KeyId::generate(Timestamp(0)));
        let sealed = master.seal(&one, 1, b"secret");
        assert_eq!(master.open_sealed(&one, 1, &sealed).unwrap(), b"secret");
        assert_ne!(sealed, master.seal(&one, 1, b"secret"), "a nonce is never used twice");
        assert_eq!(master.open_sealed(&two, 1, &sealed), None);
        assert_eq!(master.open_sealed(&one, 2, &sealed), None);
        assert_eq!(other.open_sealed(&one, 1, &sealed), None);
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert_eq!(master.open_sealed(&one, 1, &damaged), None);
            assert_eq!(master.open_sealed(&one, 1, &sealed[..at]), None);
        }
    }

    #[test]
    fn a_master_key_is_made_once_and_for_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        let source = MasterKeySource::Made(path.clone());
        let prints: Vec<[u8; 8]> = std::thread::scope(|scope| {
            let makers: Vec<_> = (0..4).map(|_| scope.spawn(|| *MasterKey::open(&source).unwrap().fingerprint())).collect();
            makers.into_iter().map(|maker| maker.join().unwrap()).collect()
        });
        assert!(prints.iter().all(|print| print == MasterKey::open(&source).unwrap().fingerprint()));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_master_key_that_cannot_be_used_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        let told = || MasterKey::open(&MasterKeySource::File(path.clone())).unwrap_err().to_string();
        assert!(told().contains("No such file"), "one that is named is not made");
        let write = |text: &str, mode| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        };
        write(&"ab".repeat(32), 0o644);
        assert!(told().contains("everybody may read it"));
        write("abcd", 0o600);
        assert!(told().contains("64 hexadecimal digits"));
        write(&"zz".repeat(32), 0o600);
        assert!(told().contains("something else"));
        write(&format!("{}\n", "aB".repeat(32)), 0o640);
        assert!(MasterKey::open(&MasterKeySource::File(path)).is_ok());
    }
}
