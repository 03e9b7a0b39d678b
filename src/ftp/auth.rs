//! Logins: one answer for every cause of failure, and the slower the more there were.
//!
//! libunftp hands over a name, a password and the client's certificate, and turns any error into the same
//! 530. Passwords are [`Logins`]' business, certificates [`certificate`]'s; here lie the delays. A failure costs its peer a second, from the fourth on more
//! (at most five), and the third of a session ends it; an account that one peer has missed ten times is locked to that peer, right password or not. Both are
//! forgotten ten minutes after the last password that was looked at, the delays after a success too.
//! Other peers are not touched, so nobody can lock a scanner out by guessing from elsewhere.

use super::certificate;
use super::listing::Home;
use super::session::{Session, Stats, lock, peer_key};
use super::tls::Tls;
use crate::account::{Account, AccountName, ClientCertificate};
use crate::accounts::password::Logins;
use crate::homes::Homes;
use async_trait::async_trait;
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use unftp_core::auth::{
    AuthenticationError, Authenticator, ClientCert, Credentials, Principal, UserDetail, UserDetailError, UserDetailProvider,
};

/// Who is logged in.
#[derive(Debug, Clone)]
pub(super) struct User {
    /// As it stood at the login.
    pub account: Arc<Account>,
    pub home: Arc<Home>,
}

impl UserDetail for User {}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.account.name.fmt(f)
    }
}

/// What all sessions of a door share.
pub(super) struct Gate {
    pub logins: Logins,
    pub homes: Homes,
    pub stats: Arc<Stats>,
    tls: Option<Arc<Tls>>,
    failures: Mutex<Failures>,
}

impl Gate {
    pub fn new(logins: Logins, homes: Homes, stats: Arc<Stats>, tls: Option<Arc<Tls>>) -> Self {
        Gate { logins, homes, stats, tls, failures: Mutex::new(Failures::default()) }
    }

    /// By the password, and the certificate where the account requires it.
    async fn admit(&self, peer: IpAddr, name: &str, password: &str, certificates: Option<&[ClientCert]>) -> Option<User> {
        // A name that cannot be an account's still costs a look-up, so that it takes as long.
        let account_name: Option<AccountName> = name.parse().ok();
        let locked = account_name.as_ref().is_some_and(|name| lock(&self.failures).is_locked(peer, name, Instant::now()));
        if locked {
            return None;
        }
        let account = self.logins.check(name, password).await.filter(|account| {
            let passes = account.client_certificate != Some(ClientCertificate::Required) || self.is_of(account, certificates);
            if !passes {
                tracing::warn!(account.name = %account.name, %peer, shown = certificates.is_some(), "the password was right, but the account requires its client certificate");
            }
            passes
        });
        let Some(account) = account else {
            if let Some(name) = account_name {
                lock(&self.failures).missed(peer, name, Instant::now());
            }
            return None;
        };
        self.let_in(peer, account).await
    }

    /// By the certificate alone, where that suffices. Not subject to the lock that guessing passwords earns:
    /// a key cannot be guessed.
    async fn admit_by_certificate(&self, peer: IpAddr, name: &str, certificates: Option<&[ClientCert]>) -> Option<User> {
        let account = self.logins.account(name).await?;
        if account.client_certificate != Some(ClientCertificate::Sufficient) || !self.is_of(&account, certificates) {
            return None;
        }
        self.let_in(peer, account).await
    }

    fn is_of(&self, account: &Account, certificates: Option<&[ClientCert]>) -> bool {
        let identity = self.tls.as_ref().map(|tls| tls.current());
        certificate::is_of(account, certificates, identity.as_ref().and_then(|identity| identity.authority.as_ref()))
    }

    async fn let_in(&self, peer: IpAddr, account: Account) -> Option<User> {
        let homes = self.homes.clone();
        let name = account.name.clone();
        let home = tokio::task::spawn_blocking(move || {
            let path = homes.ensure(&name).map_err(|error| error.to_string())?;
            Home::open(&path).map_err(|error| format!("{} cannot be opened: {error}", path.display()))
        })
        .await
        .unwrap_or_else(|error| Err(error.to_string()));
        match home {
            Ok(home) => {
                lock(&self.failures).succeeded(peer, &account.name);
                Some(User { account: Arc::new(account), home: Arc::new(home) })
            }
            Err(error) => {
                tracing::error!(account.name = %account.name, error, "a login failed because the account's home is not usable");
                None
            }
        }
    }
}

/// One session's doorkeeper, as libunftp knows it: authenticator and provider of its [`User`].
pub(super) struct Doorkeeper {
    gate: Arc<Gate>,
    session: Arc<Session>,
    /// One password at a time, however fast one connection can write.
    turn: tokio::sync::Mutex<()>,
    admitted: Mutex<Option<User>>,
}

impl Doorkeeper {
    pub fn new(gate: Arc<Gate>, session: Arc<Session>) -> Self {
        Doorkeeper { gate, session, turn: tokio::sync::Mutex::new(()), admitted: Mutex::new(None) }
    }
}

impl fmt::Debug for Doorkeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Doorkeeper").finish_non_exhaustive()
    }
}

#[async_trait]
impl Authenticator for Doorkeeper {
    async fn authenticate(&self, name: &str, credentials: &Credentials) -> Result<Principal, AuthenticationError> {
        let Ok(_turn) = self.turn.try_lock() else { return Err(AuthenticationError::BadPassword) };
        let peer = peer_key(self.session.peer.ip());
        let certificates = credentials.certificate_chain.as_deref();
        let (user, by) = match &credentials.password {
            Some(password) => (self.gate.admit(peer, name, password, certificates).await, "password"),
            None => (self.gate.admit_by_certificate(peer, name, certificates).await, "certificate"),
        };
        if let Some(user) = user {
            tracing::info!(session.id = self.session.number, account.name = %user.account.name, peer = %self.session.peer, by, "logged in");
            *lock(&self.admitted) = Some(user);
            return Ok(Principal { username: name.to_owned() });
        }
        if credentials.password.is_none() {
            // Nothing was tried yet: the client is asked for its password.
            return Err(AuthenticationError::BadCert);
        }
        self.gate.stats.login_failed();
        let delay = lock(&self.gate.failures).failed(peer, Instant::now());
        // The name is whatever a stranger typed, perhaps the password: it is not logged.
        tracing::warn!(session.id = self.session.number, peer = %self.session.peer, delay = ?delay, "a login failed");
        tokio::time::sleep(delay).await;
        Err(AuthenticationError::BadPassword)
    }

    /// Asked at USER of a client that showed a certificate; [`Authenticator::authenticate`] looks at it.
    async fn cert_auth_sufficient(&self, _name: &str) -> bool {
        true
    }

    fn name(&self) -> &str {
        "inkport"
    }
}

#[async_trait]
impl UserDetailProvider for Doorkeeper {
    type User = User;

    async fn provide_user_detail(&self, principal: &Principal) -> Result<User, UserDetailError> {
        let user = lock(&self.admitted).take().filter(|user| user.account.name.as_str() == principal.username);
        let user = user.ok_or_else(|| UserDetailError::UserNotFound { username: principal.username.clone() })?;
        self.session.log_in();
        Ok(user)
    }
}

const MEMORY: Duration = Duration::from_secs(600);
const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(5);
const MISSES_TO_LOCK: u32 = 10;
/// Failures before the delay grows; libunftp ends a session after as many.
const TRIES: u32 = 3;
/// Peers, and pairs of peer and account, that are remembered; beyond, the oldest is forgotten.
const REMEMBERED: usize = 4096;

/// Failed logins of late. Pure: time is passed in.
#[derive(Debug, Default)]
struct Failures {
    peers: HashMap<IpAddr, Count>,
    pairs: HashMap<(IpAddr, AccountName), Count>,
}

#[derive(Debug, Clone, Copy)]
struct Count {
    count: u32,
    last: Instant,
}

impl Failures {
    /// Notes a failure; answers how long its answer is to be held back.
    fn failed(&mut self, peer: IpAddr, now: Instant) -> Duration {
        let count = note(&mut self.peers, peer, now);
        (FIRST_DELAY + FIRST_DELAY / 2 * count.saturating_sub(TRIES)).min(LONGEST_DELAY)
    }

    /// Notes a password that was looked at and wrong.
    fn missed(&mut self, peer: IpAddr, name: AccountName, now: Instant) {
        if note(&mut self.pairs, (peer, name.clone()), now) == MISSES_TO_LOCK {
            tracing::warn!(account.name = %name, %peer, "an account is locked to this peer for 10 minutes, because the password was wrong {MISSES_TO_LOCK} times");
        }
    }

    fn is_locked(&self, peer: IpAddr, name: &AccountName, now: Instant) -> bool {
        self.pairs.get(&(peer, name.clone())).is_some_and(|pair| pair.count >= MISSES_TO_LOCK && is_fresh(pair, now))
    }

    fn succeeded(&mut self, peer: IpAddr, name: &AccountName) {
        self.peers.remove(&peer);
        self.pairs.remove(&(peer, name.clone()));
    }
}

fn is_fresh(count: &Count, now: Instant) -> bool {
    now.saturating_duration_since(count.last) < MEMORY
}

/// One more in a map of bounded size.
fn note<K: std::hash::Hash + Eq + Clone>(counts: &mut HashMap<K, Count>, key: K, now: Instant) -> u32 {
    if !counts.contains_key(&key) && counts.len() >= REMEMBERED {
        counts.retain(|_, count| is_fresh(count, now));
        if counts.len() >= REMEMBERED
            && let Some(oldest) = counts.iter().min_by_key(|(_, count)| count.last).map(|(key, _)| key.clone())
        {
            counts.remove(&oldest);
        }
    }
    let count = counts.entry(key).or_insert(Count { count: 0, last: now });
    if !is_fresh(count, now) {
        count.count = 0;
    }
    *count = Count { count: count.count.saturating_add(1), last: now };
    count.count
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const TWO: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    #[test]
    fn failures_slow_their_peer_down_until_a_success_or_ten_minutes() {
        let mut failures = Failures::default();
        let start = Instant::now();
        let delays: Vec<f32> = (0..10).map(|_| failures.failed(ONE, start).as_secs_f32()).collect();
        assert_eq!(delays, [1.0, 1.0, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5]);
        assert_eq!(failures.failed(TWO, start), FIRST_DELAY);
        failures.succeeded(ONE, &"desk".parse().unwrap());
        assert_eq!(failures.failed(ONE, start), FIRST_DELAY);
        assert_eq!(failures.failed(TWO, start + MEMORY), FIRST_DELAY);
    }

    #[test]
    fn an_account_is_locked_to_the_peer_that_guesses() {
        let mut failures = Failures::default();
        let start = Instant::now();
        let desk: AccountName = "desk".parse().unwrap();
        for _ in 0..MISSES_TO_LOCK {
            assert!(!failures.is_locked(ONE, &desk, start));
            failures.missed(ONE, desk.clone(), start);
        }
        assert!(failures.is_locked(ONE, &desk, start));
        assert!(!failures.is_locked(TWO, &desk, start), "the real scanner still comes in");
        assert!(!failures.is_locked(ONE, &"other".parse().unwrap(), start));
        assert!(!failures.is_locked(ONE, &desk, start + MEMORY));
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let mut failures = Failures::default();
        let start = Instant::now();
        failures.failed(TWO, start + Duration::from_secs(1));
        for number in 0..(REMEMBERED as u32 + 100) {
            failures.failed(IpAddr::from(number.to_be_bytes()), start);
        }
        assert_eq!(failures.peers.len(), REMEMBERED);
        assert!(failures.peers.contains_key(&TWO), "the youngest stays");
    }
}
