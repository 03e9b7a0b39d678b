//! Passwords: argon2id hashes, generated passwords, and the one way to check a login.

use super::Accounts;
use crate::account::Account;

/// A new argon2id hash as a PHC string. Blocking, about 20 ms and 19 MiB.
#[must_use]
pub fn hash(password: &str) -> String {
    let _ = password;
    todo!()
}

/// A password for a person to copy once: 20 letters and digits, none of which looks like another.
#[must_use]
pub fn generate() -> String {
    todo!()
}

/// Checks logins; clones share the bound on concurrent hashes.
#[derive(Debug, Clone)]
pub struct Logins {
    _accounts: Accounts,
}

impl Logins {
    #[must_use]
    pub fn new(accounts: Accounts) -> Self {
        Logins { _accounts: accounts }
    }

    /// The account, if the name exists, is enabled, and the password is right; `None` for every other
    /// cause, after the same work.
    pub async fn check(&self, name: &str, password: &str) -> Option<Account> {
        let _ = (name, password);
        todo!()
    }

    /// The account as it stands now, for a session that is logged in already.
    pub async fn account(&self, name: &str) -> Option<Account> {
        let _ = name;
        todo!()
    }
}
