//! Logins: one answer for every cause of failure, and the slower the more there were.
//!
//! libunftp hands over a name, a password and the client's certificate, and turns any error into the same
//! 530. Passwords are [`Logins`]' business, certificates [`certificate`]'s, delays and locks [`watchlist`]'s; here
//! they come together with what the account asks of its clients: where they come from, TLS, how many they are.
//! The log says why a login failed; the client is never told.
//!
//! One password of each address is looked at at a time, so that who sends a thousand keeps nobody else waiting;
//! an address that is known for the account does not wait behind its neighbours.

use super::certificate;
use super::listing::Home;
use super::session::{Seats, Session, Stats, lock, peer_key};
use super::throttle::{Throttle, Throttles};
use super::tls::Tls;
use super::watchlist::{Digest, MEMORY, Subject, Verdict, Watchlist};
use crate::account::{Account, AccountName, ClientCertificate};
use crate::accounts::bans::{Ban, Bans};
use crate::accounts::password::Logins;
use crate::homes::Homes;
use crate::units::Timestamp;
use async_trait::async_trait;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime};
use tokio::sync::OwnedMutexGuard;
use unftp_core::auth::{
    AuthenticationError, Authenticator, ChannelEncryptionState, ClientCert, Credentials, Principal, UserDetail, UserDetailError,
    UserDetailProvider,
};

/// Who is logged in.
#[derive(Debug, Clone)]
pub(super) struct User {
    /// As it stood at the login.
    pub account: Arc<Account>,
    pub home: Arc<Home>,
    /// Where the account has a bandwidth.
    pub throttle: Option<Arc<Throttle>>,
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
    pub bans: Bans,
    tls: Option<Arc<Tls>>,
    watchlist: Mutex<Watchlist>,
    turns: Turns,
    seats: Arc<Seats>,
    throttles: Throttles,
    /// Of the digests of what was said; as old as the door.
    salt: [u8; 32],
}

/// Who wants in, as far as the connection tells.
struct Caller<'a> {
    session: &'a Session,
    /// For counting: a network, not an address, where addresses are plenty.
    peer: IpAddr,
    over_tls: bool,
    certificates: Option<&'a [ClientCert]>,
}

impl Gate {
    pub fn new(logins: Logins, homes: Homes, stats: Arc<Stats>, bans: Bans, tls: Option<Arc<Tls>>) -> Self {
        let mut salt = [0; 32];
        getrandom::fill(&mut salt).expect("the system gives random bytes");
        Gate {
            logins,
            homes,
            stats,
            bans,
            tls,
            watchlist: Mutex::default(),
            turns: Turns::default(),
            seats: Arc::default(),
            throttles: Throttles::default(),
            salt,
        }
    }

    /// By the password, and whatever else the account requires.
    async fn admit(&self, caller: &Caller<'_>, name: &str, password: &str) -> Option<User> {
        let Caller { peer, certificates, .. } = *caller;
        // A name that cannot be an account's still costs a look-up, so that it takes as long.
        let account_name: Option<AccountName> = name.parse().ok();
        let said = self.digest(name, password);
        let verdict = |name| lock(&self.watchlist).verdict(peer, name, &said, Instant::now());
        let look = account_name.as_ref().map_or(Verdict::Look, verdict);
        let _turn = match look {
            Verdict::Locked => return None,
            Verdict::Known => None,
            Verdict::Look => Some(self.turns.enter(peer).await),
        };
        // Those who were before may have locked it.
        if look == Verdict::Look && account_name.as_ref().is_some_and(|name| verdict(name) == Verdict::Locked) {
            return None;
        }
        let Some(account) = self.logins.check(name, password).await else {
            if let Some(name) = account_name {
                let locked = lock(&self.watchlist).missed(peer, &name, Instant::now());
                self.write_down(locked).await;
            }
            return None;
        };
        if account.client_certificate == Some(ClientCertificate::Required) && !self.is_of(&account, certificates) {
            let shown = certificates.is_some();
            tracing::warn!(account.name = %account.name, %peer, shown, "the password was right, but the account requires its client certificate");
            return None;
        }
        let name = account.name.clone();
        let user = self.let_in(caller, account).await?;
        if lock(&self.watchlist).succeeded(peer, &name, said, Instant::now()) {
            let (bans, whose) = (self.bans.clone(), name);
            let lifted = tokio::task::spawn_blocking(move || bans.lift(&whose, peer).map_err(|error| error.to_string())).await;
            if let Ok(Err(error)) = lifted {
                tracing::warn!(error, "a lock that is over is still on the list");
            }
        }
        Some(user)
    }

    /// By the certificate alone, where that suffices. Not subject to the lock that guessing passwords earns:
    /// a key cannot be guessed.
    async fn admit_by_certificate(&self, caller: &Caller<'_>, name: &str) -> Option<User> {
        let account = self.logins.account(name).await?;
        if account.client_certificate != Some(ClientCertificate::Sufficient) || !self.is_of(&account, caller.certificates) {
            return None;
        }
        self.let_in(caller, account).await
    }

    fn is_of(&self, account: &Account, certificates: Option<&[ClientCert]>) -> bool {
        let identity = self.tls.as_ref().map(|tls| tls.current());
        certificate::is_of(account, certificates, identity.as_ref().and_then(|identity| identity.authority.as_ref()))
    }

    /// Who has shown who it is still needs to come as its account wants it.
    async fn let_in(&self, caller: &Caller<'_>, account: Account) -> Option<User> {
        let (session, name) = (caller.session, account.name.clone());
        let refuse = |why: &str| tracing::warn!(session.id = session.number, account.name = %name, peer = %session.peer, "a right login was refused: {why}");
        if !account.may_come_from(session.peer.ip()) {
            refuse("the account's networks do not hold the address");
            return None;
        }
        if account.require_tls && !caller.over_tls {
            refuse("the account requires TLS, and the password came without");
            return None;
        }
        // A session that changes its account gives the first one's seat away.
        session.stand_up();
        let Some(seat) = self.seats.take(&account.name, account.sessions) else {
            refuse("the account has as many sessions as it may");
            return None;
        };
        let homes = self.homes.clone();
        let whose = account.name.clone();
        let home = tokio::task::spawn_blocking(move || {
            let path = homes.ensure(&whose).map_err(|error| error.to_string())?;
            Home::open(&path).map_err(|error| format!("{} cannot be opened: {error}", path.display()))
        })
        .await
        .unwrap_or_else(|error| Err(error.to_string()));
        match home {
            Ok(home) => {
                session.sit_down(seat);
                let throttle = account.bandwidth.map(|rate| self.throttles.of(&account.name, rate.0));
                Some(User { account: Arc::new(account), home: Arc::new(home), throttle })
            }
            Err(error) => {
                tracing::error!(account.name = %account.name, error, "a login failed because the account's home is not usable");
                None
            }
        }
    }

    /// Counts a failure; answers when the client may hear of it.
    async fn failed(&self, peer: IpAddr) -> std::time::Duration {
        self.stats.login_failed();
        let (delay, locked) = lock(&self.watchlist).failed(peer, Instant::now());
        self.write_down(locked.into_iter().collect()).await;
        delay
    }

    /// Into the log, and into the list that `inkport account bans` shows.
    async fn write_down(&self, locked: Vec<Subject>) {
        for subject in locked {
            let since = Timestamp::from_system(SystemTime::now());
            let (until, reason) = (since.after(MEMORY), subject.reason());
            let (account, address) = match subject {
                Subject::Pair(peer, account) => (Some(account), Some(peer)),
                Subject::Peer(peer) => (None, Some(peer)),
                Subject::Account(account) => (Some(account), None),
            };
            let (name, peer) = (account.as_ref().map(tracing::field::display), address.map(tracing::field::display));
            tracing::warn!(account.name = name, peer, reason, until = %until, "logins are locked until then, but for who is known");
            let (bans, ban) = (self.bans.clone(), Ban { account, address, reason, since, until });
            let put = tokio::task::spawn_blocking(move || bans.put(&ban).map_err(|error| error.to_string())).await;
            if let Ok(Err(error)) = put {
                tracing::warn!(error, "a lock is not on the list that `inkport account bans` shows");
            }
        }
    }

    fn digest(&self, name: &str, password: &str) -> Digest {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.salt).expect("HMAC takes a key of any length");
        mac.update(&(name.len() as u64).to_le_bytes());
        mac.update(name.as_bytes());
        mac.update(password.as_bytes());
        mac.finalize().into_bytes().into()
    }
}

/// One at a time for each peer; as many as have sessions.
#[derive(Default)]
struct Turns {
    taken: Arc<Mutex<HashMap<IpAddr, Arc<tokio::sync::Mutex<()>>>>>,
}

struct Turn {
    taken: Arc<Mutex<HashMap<IpAddr, Arc<tokio::sync::Mutex<()>>>>>,
    peer: IpAddr,
    held: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    async fn enter(&self, peer: IpAddr) -> Turn {
        let turn = Arc::clone(lock(&self.taken).entry(peer).or_default());
        // Made before the wait: whoever gives up waiting clears up too.
        let mut mine = Turn { taken: Arc::clone(&self.taken), peer, held: None };
        mine.held = Some(turn.lock_owned().await);
        mine
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        self.held = None;
        if taken.get(&self.peer).is_some_and(|turn| Arc::strong_count(turn) == 1) {
            taken.remove(&self.peer);
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
        let over_tls = credentials.command_channel_security == ChannelEncryptionState::Tls;
        let caller = Caller { session: &self.session, peer, over_tls, certificates: credentials.certificate_chain.as_deref() };
        let (user, by) = match &credentials.password {
            Some(password) => (self.gate.admit(&caller, name, password).await, "password"),
            None => (self.gate.admit_by_certificate(&caller, name).await, "certificate"),
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
        let delay = self.gate.failed(peer).await;
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
