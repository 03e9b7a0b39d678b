//! Passwords: argon2id hashes, generated passwords, and the one way to check a login.
//!
//! A hash costs about 20 ms and 19 MiB on purpose. So it runs on a blocking thread, two at a time in
//! the whole daemon; further logins wait for their turn. Whatever is wrong with a login, it costs the
//! same hash, so that neither the answer nor its time tells which names exist.

use super::Accounts;
use crate::account::{Account, AccountName};
use crate::units::Timestamp;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, Version};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

/// OWASP's first choice for argon2id: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Hashes at a time.
const AT_ONCE: usize = 2;
/// Nobody's password is longer; a login with a longer one is wrong.
const LONGEST: usize = 1024;

/// Letters and digits of which none looks like another: no 0 O o, no 1 I l.
const ALPHABET: &[u8; 56] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnpqrstuvwxyz";
const GENERATED: usize = 20;

fn argon2() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).expect("the parameters are within argon2's bounds");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// A new argon2id hash as a PHC string. Blocking, about 20 ms and 19 MiB.
#[must_use]
pub fn hash(password: &str) -> String {
    argon2().hash_password(password.as_bytes()).expect("the system gives random salts").to_string()
}

/// Working memory for hashes, used again: taken from the heap anew for every login, 19 MiB at a time and
/// on many threads, it would leave the heap in pieces that nobody else fits into.
type Memory = Vec<argon2::Block>;

/// Whether the password is this hash's. Blocking, as expensive as the hash was.
fn verify(password: &str, hash: &str, memory: &mut Memory) -> bool {
    let Ok(hash) = PasswordHash::new(hash) else { return false };
    let (Ok(params), Ok(algorithm)) = (Params::try_from(&hash), Algorithm::try_from(hash.algorithm.as_str())) else {
        return false;
    };
    let (Some(salt), Some(expected)) = (&hash.salt, &hash.hash) else { return false };
    let version = hash.version.map_or(Ok(Version::default()), Version::try_from);
    let Ok(version) = version else { return false };
    memory.resize(params.block_count(), argon2::Block::default());
    let mut found = vec![0; expected.as_bytes().len()];
    let argon2 = Argon2::new(algorithm, version, params);
    let computed = argon2.hash_password_into_with_memory(password.as_bytes(), salt.as_ref(), &mut found, memory.as_mut_slice());
    computed.is_ok() && bool::from(found.ct_eq(expected.as_bytes()))
}

/// A password for a person to copy once: 20 letters and digits, none of which looks like another.
#[must_use]
pub fn generate() -> String {
    let mut password = String::with_capacity(GENERATED);
    let mut random = [0; 64];
    while password.len() < GENERATED {
        getrandom::fill(&mut random).expect("the system gives random bytes");
        // Bytes beyond the last whole alphabet are thrown away, else its first letters were likelier.
        let fair = random.iter().filter(|byte| usize::from(**byte) < 256 / ALPHABET.len() * ALPHABET.len());
        password
            .extend(fair.map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()])).take(GENERATED - password.len()));
    }
    password
}

/// Checks logins; clones share the bound on concurrent hashes.
#[derive(Debug, Clone)]
pub struct Logins {
    accounts: Accounts,
    turns: Arc<Semaphore>,
    /// One for each hash at a time, once they were needed.
    memories: Arc<Mutex<Vec<Memory>>>,
    /// Of a password that nobody has: what a name without a hash is checked against.
    nobodys: Arc<str>,
}

impl Logins {
    /// Computes one hash, so it takes as long as a login.
    #[must_use]
    pub fn new(accounts: Accounts) -> Self {
        Logins { accounts, turns: Arc::new(Semaphore::new(AT_ONCE)), memories: Arc::default(), nobodys: hash(&generate()).into() }
    }

    /// The account, if the name exists, may come in today, and the password is right; `None` for every other
    /// cause, after the same work.
    pub async fn check(&self, name: &str, password: &str) -> Option<Account> {
        let turn = Arc::clone(&self.turns).acquire_owned().await.expect("the semaphore is never closed");
        let (accounts, nobodys, memories) = (self.accounts.clone(), Arc::clone(&self.nobodys), Arc::clone(&self.memories));
        let (name, password) = (name.to_owned(), password.to_owned());
        let checked = tokio::task::spawn_blocking(move || {
            // The turn ends with the work, even if the caller waits no longer.
            let _turn = turn;
            let mut memory = memories.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
            let account = check(&accounts, &nobodys, &name, &password, &mut memory);
            memories.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
            account
        });
        checked.await.ok().flatten()
    }

    /// The account as it stands now, for a session that is logged in already: `None` once it was
    /// disabled or removed, or its last day is over.
    pub async fn account(&self, name: &str) -> Option<Account> {
        let (accounts, name) = (self.accounts.clone(), name.to_owned());
        tokio::task::spawn_blocking(move || find(&accounts, &name)).await.ok().flatten()
    }
}

fn find(accounts: &Accounts, name: &str) -> Option<Account> {
    let name: AccountName = name.parse().ok()?;
    match accounts.find(&name) {
        Ok(account) => account.filter(|account| account.may_come_in(Timestamp::from_system(SystemTime::now()))),
        Err(error) => {
            tracing::error!(account.name = %name, %error, "an account cannot be looked up; nobody is let in");
            None
        }
    }
}

fn check(accounts: &Accounts, nobodys: &str, name: &str, password: &str, memory: &mut Memory) -> Option<Account> {
    let account = find(accounts, name);
    let hash =
        account.as_ref().and_then(|account| account.password_hash.as_deref()).filter(|hash| PasswordHash::new(hash).is_ok());
    let possible = hash.is_some() && password.len() <= LONGEST;
    let right = verify(if possible { password } else { "" }, hash.unwrap_or(nobodys), memory);
    account.filter(|_| right && possible)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_hash_is_argon2id_salted_and_verifies() {
        let first = hash("correct horse");
        assert!(first.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{first}");
        assert_ne!(first, hash("correct horse"));
        let mut memory = Memory::new();
        let mut right = |password: &str, hash: &str| verify(password, hash, &mut memory);
        assert!(right("correct horse", &first) && !right("correct horsf", &first) && !right("", &first));
        assert!(!right("x", "not a hash"));
        // What the library's own check says of its own hashes, this one says too, other parameters included.
        let cheap = Argon2::new(Algorithm::Argon2i, Version::V0x10, Params::new(64, 3, 2, Some(24)).unwrap());
        let other = cheap.hash_password(b"correct horse").unwrap().to_string();
        assert!(right("correct horse", &other) && !right("wrong", &other), "{other}");
    }

    #[test]
    fn generated_passwords_are_long_plain_and_different() {
        let many: HashSet<String> = (0..100).map(|_| generate()).collect();
        assert_eq!(many.len(), 100);
        assert!(many.iter().all(|password| password.len() == 20 && password.bytes().all(|byte| ALPHABET.contains(&byte))));
        let letters: HashSet<u8> = many.iter().flat_map(|password| password.bytes()).collect();
        assert_eq!(letters.len(), ALPHABET.len());
    }

    #[tokio::test]
    async fn only_the_right_password_of_an_enabled_account_lets_in() {
        let dir = tempfile::tempdir().unwrap();
        let accounts = Accounts::sqlite(&dir.path().join("inkport.db")).unwrap();
        let mut account = Account::new("front-desk".parse().unwrap());
        account.password_hash = Some(hash("right"));
        accounts.add(&account).unwrap();
        accounts.add(&Account::new("no-password".parse().unwrap())).unwrap();
        accounts
            .add(&Account { password_hash: Some("$argon2id$broken".into()), ..Account::new("broken".parse().unwrap()) })
            .unwrap();
        let logins = Logins::new(accounts.clone());
        assert_eq!(logins.check("front-desk", "right").await.map(|found| found.name), Some(account.name.clone()));
        let long = "x".repeat(LONGEST + 1);
        for (name, password) in [
            ("front-desk", "wrong"),
            ("front-desk", ""),
            ("front-desk", long.as_str()),
            ("Front-Desk", "right"),
            ("nobody", "right"),
            ("no-password", ""),
            ("broken", "right"),
            ("../front-desk", "right"),
        ] {
            assert_eq!(logins.check(name, password).await, None, "{name}");
        }
        // A change holds at the next login.
        account.enabled = false;
        accounts.set(&account).unwrap();
        assert_eq!(logins.check("front-desk", "right").await, None);
        assert_eq!(logins.account("front-desk").await, None);
        account.enabled = true;
        account.expires = Some("2020-01-01".parse().unwrap());
        accounts.set(&account).unwrap();
        assert_eq!(logins.check("front-desk", "right").await, None);
        account.expires = None;
        account.password_hash = Some(hash("new"));
        accounts.set(&account).unwrap();
        assert_eq!(logins.check("front-desk", "right").await, None);
        assert!(logins.check("front-desk", "new").await.is_some() && logins.account("front-desk").await.is_some());
    }

    #[tokio::test]
    async fn an_empty_password_is_nobodys() {
        // The check of an overlong password runs against the empty one.
        let dir = tempfile::tempdir().unwrap();
        let accounts = Accounts::sqlite(&dir.path().join("inkport.db")).unwrap();
        accounts.add(&Account { password_hash: Some(hash("")), ..Account::new("open".parse().unwrap()) }).unwrap();
        assert_eq!(Logins::new(accounts).check("open", &"x".repeat(LONGEST + 1)).await, None);
    }
}
