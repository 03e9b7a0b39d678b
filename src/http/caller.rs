//! Who calls: the gate before every route that wants a key, and the [`Caller`] that its handlers get.
//!
//! The gate is a middleware ([`gate`]): it reads the credentials, looks key and account up anew, counts the
//! request against its rates, uses up what may be used once, and puts the body through [`signed`](super::signed). What is wrong with
//! a key is told to nobody: one 403 for all causes. A refusal costs the address that it came from; an
//! address that has used its guesses up hears 429 instead, and a right key still comes in from there.

use super::client::Client;
use super::credentials::{Credentials, Signed};
use super::problem::Problem;
use super::settings::{TierSettings, TiersSettings};
use super::signed::{self, Verdict};
use crate::account::{Account, Permission, Role};
use crate::accounts::Accounts;
use crate::job::JobId;
use crate::keys::rates::{Buckets, Rate};
use crate::keys::sign::{self, Signature};
use crate::keys::{Key, KeyId, Keys, KeysError, Quota, QuotaError, Reservation, Scope, Scopes, Seen, Usage};
use crate::units::Timestamp;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// Keys and addresses whose rates are remembered.
const REMEMBERED: usize = 8192;
/// Refused credentials of one address: so many at once, then one in so many seconds.
const GUESSES: Rate = Rate { per_second: 0.2, burst: 20.0 };
/// When the database does not answer.
const AGAIN: Duration = Duration::from_secs(5);
/// So many of a kind of warning are enough.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// Where a request comes from, as an extension of it: the connection's other end, unless a trusted proxy
/// says otherwise.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClientAddress(pub IpAddr);

impl ClientAddress {
    /// What is counted as one: an address, of version 6 its network of 64 bits.
    fn counted(self) -> IpAddr {
        match self.0.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
            address => address,
        }
    }
}

/// Who may call, and how often.
pub(super) struct Callers {
    keys: Keys,
    accounts: Accounts,
    tiers: TiersSettings,
    by_key: Mutex<Buckets<KeyId>>,
    by_address: Mutex<Buckets<IpAddr>>,
    guesses: Mutex<Buckets<IpAddr>>,
    warned: Mutex<Option<Instant>>,
}

/// One request's caller: a handler's argument on routes behind the [`gate`].
#[derive(Clone)]
pub(super) struct Caller {
    /// As it stands at this request: enabled, not expired, and from where it may come.
    pub account: Arc<Account>,
    pub key: KeyId,
    pub scopes: Scopes,
    pub tier: Tier,
    callers: Arc<Callers>,
    body: Option<Verdict>,
    v1: Option<V1>,
}

#[derive(Clone)]
struct V1 {
    signature: String,
    at: Timestamp,
}

/// An account's tier, and what it allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tier {
    /// `free`, `pro` or `own`.
    pub name: &'static str,
    /// `None`: any number.
    pub pages_per_day: Option<u64>,
}

/// Whether a request may be one that came before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presented {
    New,
    /// Signed by version 1, it has come before with the same body: it gets the answer of the first, see
    /// [`Caller::repetition`].
    Again,
}

#[allow(dead_code)] // the routes that hand documents in are to come
impl Caller {
    /// Refuses a key that may not do this.
    pub(super) fn require(&self, scope: Scope) -> Result<(), Problem> {
        let role_fits = scope != Scope::Admin || self.account.role == Role::Admin;
        let permitted = match scope {
            Scope::Read => self.account.may(Permission::Download),
            Scope::Write => self.account.may(Permission::Upload),
            Scope::Admin => true,
        };
        if !permitted {
            let detail = "This key's account may not do that: see the permissions of the account.";
            return Err(Problem::new(StatusCode::FORBIDDEN, detail));
        }
        if self.scopes.allow(scope) && role_fits {
            return Ok(());
        }
        let detail = format!(
            "This key may not do that: it has the scopes {}, and {} is needed{}.",
            self.scopes,
            scope.name(),
            if role_fits { "" } else { " of an account with role admin" }
        );
        Err(Problem::new(StatusCode::FORBIDDEN, detail))
    }

    /// To be awaited before anything is committed: reads the body to its end, refuses one that was not signed, and
    /// one of version 1 whose signature came with another body before.
    pub(super) async fn presented(&self) -> Result<Presented, Problem> {
        let Some(body) = &self.body else { return Ok(Presented::New) };
        let hash = body.wait().await?;
        let Some(v1) = &self.v1 else { return Ok(Presented::New) };
        let seen = self.callers.keys.see_v1(&self.key, &v1.signature, hash, v1.at, now()).await;
        match seen.map_err(|error| hiccup(&error))? {
            Seen::Never => Ok(Presented::New),
            Seen::Before => Ok(Presented::Again),
            Seen::WithAnotherBody => {
                Err(Problem::new(StatusCode::FORBIDDEN, "This signature came with another body before: sign every request anew."))
            }
        }
    }

    /// What names a request of version 1 and its repetitions, as an `Idempotency-Key` would.
    pub(super) fn repetition(&self) -> Option<String> {
        self.v1.as_ref().map(|v1| format!("hmac-v1 {} {}", self.key, v1.signature))
    }

    /// Charges pages for a job that the caller is about to make, or refuses. Await the job's coming with
    /// [`Reservation::hold`].
    pub(super) async fn reserve(&self, job: JobId, pages: u64, now: Timestamp) -> Result<Reservation, Problem> {
        let limit = self.tier.pages_per_day;
        self.callers.keys.quota().reserve(&self.account.name, job, pages, limit, now).await.map_err(|error| match error {
            QuotaError::Over { used, limit, resets_at, .. } => {
                let detail = format!(
                    "{used} of this day's {limit} pages are used, so these are too many; the next day begins at {resets_at}."
                );
                Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(resets_at.since(now))
            }
            QuotaError::Keys(error) => hiccup(&error),
        })
    }

    /// What the account has used of the day.
    pub(super) async fn used(&self, now: Timestamp) -> Result<Usage, Problem> {
        self.callers.keys.quota().usage(&self.account.name, now).await.map_err(|error| hiccup(&error))
    }

    /// To tell what a job turned out to cost.
    pub(super) fn quota(&self) -> Quota {
        self.callers.keys.quota()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Caller>().cloned().ok_or_else(|| {
            tracing::error!(path = parts.uri.path(), "a route wants a caller and is not behind the gate");
            Problem::internal()
        })
    }
}

/// Lets a request with good credentials through, as its handler's [`Caller`].
pub(super) async fn gate(State(callers): State<Arc<Callers>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let (caller, body_hash) = match callers.admit(&parts).await {
        Ok(admitted) => admitted,
        Err(refusal) => return refusal.into_response(),
    };
    let Some(signed_by) = body_hash else {
        parts.extensions.insert(caller);
        return next.run(Request::from_parts(parts, body)).await;
    };
    let (body, verdict) = signed::watch(body, signed_by.body);
    let caller = Caller { body: Some(verdict.clone()), v1: signed_by.v1, ..caller };
    // What has no body by its method commits nothing by it: nobody else asks.
    if matches!(parts.method, Method::GET | Method::HEAD | Method::DELETE | Method::OPTIONS)
        && let Err(problem) = caller.presented().await
    {
        return problem.into_response();
    }
    parts.extensions.insert(caller);
    let path = parts.uri.path().to_owned();
    let response = next.run(Request::from_parts(parts, body.into_body())).await;
    if response.status().is_success() && !verdict.was_asked() {
        tracing::error!(path, "a signed request was answered before its body was checked");
        return Problem::internal().into_response();
    }
    response
}

/// How the gate's refusals look.
enum Refusal {
    /// No credentials at all.
    Unasked,
    /// Whatever is wrong with them.
    Wrong,
    Problem(Problem),
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Refusal::Unasked => {
                let detail = "This path wants a key: send X-API-Key or Authorization: Bearer with its secret, or sign the request. \
                              `inkport key add ACCOUNT` makes one.";
                let mut response = Problem::new(StatusCode::UNAUTHORIZED, detail).into_response();
                let challenge = HeaderValue::from_static("Bearer realm=\"Inkport\"");
                response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
                response
            }
            Refusal::Wrong => {
                let detail = "The key or the signature is not accepted: it is unknown, wrong, expired, revoked or used before, \
                              or the timestamp is more than 300 s off.";
                Problem::new(StatusCode::FORBIDDEN, detail).into_response()
            }
            Refusal::Problem(problem) => problem.into_response(),
        }
    }
}

/// What a signature leaves to be checked.
struct SignedBy {
    /// What the body must hash to.
    body: Option<[u8; 32]>,
    v1: Option<V1>,
}

impl Callers {
    pub(super) fn new(keys: Keys, accounts: Accounts, tiers: TiersSettings) -> Self {
        Callers {
            keys,
            accounts,
            tiers,
            by_key: Mutex::new(Buckets::new(REMEMBERED)),
            by_address: Mutex::new(Buckets::new(REMEMBERED)),
            guesses: Mutex::new(Buckets::new(REMEMBERED)),
            warned: Mutex::default(),
        }
    }

    pub(super) fn quota(&self) -> Quota {
        self.keys.quota()
    }

    /// Whether a caller that was let in a while ago would be still, as far as its key goes.
    pub(super) async fn still_good(&self, caller: &Caller) -> bool {
        let (keys, accounts, id, name) =
            (self.keys.clone(), self.accounts.clone(), caller.key.clone(), caller.account.name.clone());
        let looked = tokio::task::spawn_blocking(move || {
            let key = keys.list(Some(&name)).ok()?.into_iter().find(|key| key.id == id)?;
            let account = accounts.find(&name).ok()??;
            Some(key.is_good(now()) && account.may_come_in(now()))
        });
        looked.await.ok().flatten().unwrap_or(false)
    }

    async fn admit(self: &Arc<Self>, parts: &Parts) -> Result<(Caller, Option<SignedBy>), Refusal> {
        let from = parts.extensions.get::<ClientAddress>().copied();
        let address = from.map(ClientAddress::counted);
        let credentials = Credentials::of(parts);
        let refusal = match credentials {
            Ok(Some(credentials)) => match self.look_up(&credentials, from).await {
                Ok(Some((_, account))) if account.require_tls && !is_secure(parts) => Refusal::Wrong,
                Ok(Some((key, account))) => return self.let_in(key, account, &credentials, address).await,
                Ok(None) => Refusal::Wrong,
                Err(problem) => return Err(Refusal::Problem(problem)),
            },
            Ok(None) => Refusal::Unasked,
            Err(_) => Refusal::Wrong,
        };
        Err(self.refuse(refusal, address))
    }

    /// Whose they are, if they are right. One look-up for all of it, on a blocking thread.
    async fn look_up(&self, credentials: &Credentials, from: Option<ClientAddress>) -> Result<Option<(Key, Account)>, Problem> {
        let (keys, accounts, credentials, now) = (self.keys.clone(), self.accounts.clone(), credentials.clone(), now());
        let found = tokio::task::spawn_blocking(move || -> Result<Option<(Key, Account)>, Problem> {
            let key = match &credentials {
                Credentials::Secret(secret) => keys.by_secret(secret, now).map_err(|error| hiccup(&error))?,
                Credentials::Signed(signed) => {
                    let found = keys.signing(&signed.id, now).map_err(|error| hiccup(&error))?;
                    // Both looked at, whatever comes of the first.
                    let right = signed.signature.is_made_by(&found.secrets, &signed.covered());
                    let timely = sign::is_timely(signed.at, now);
                    found.key.filter(|_| right && timely)
                }
            };
            let Some(key) = key else { return Ok(None) };
            let account = accounts.find(&key.account).map_err(|error| {
                tracing::error!(account.name = %key.account, %error, "a key's account cannot be looked up");
                again()
            })?;
            let welcome = |account: &Account| {
                account.may_come_in(now) && from.is_none_or(|from| account.may_come_from(from.0.to_canonical()))
            };
            Ok(account.filter(welcome).map(|account| (key, account)))
        });
        found.await.unwrap_or_else(|_| Err(Problem::internal()))
    }

    /// Right credentials: counted, and used up where they may be used once.
    async fn let_in(
        self: &Arc<Self>,
        key: Key,
        account: Account,
        credentials: &Credentials,
        address: Option<IpAddr>,
    ) -> Result<(Caller, Option<SignedBy>), Refusal> {
        let (tier, settings) = self.tier(&account);
        self.count(&key, &settings, address).map_err(Refusal::Problem)?;
        // After the rates: a request that came too often may come again as it is.
        let signed_by = match credentials {
            Credentials::Secret(_) => None,
            Credentials::Signed(signed) => Some(self.use_up(&key, signed, address).await?),
        };
        self.keys.note_use(&key.id, now());
        let caller = Caller {
            account: Arc::new(account),
            key: key.id,
            scopes: key.scopes,
            tier,
            callers: Arc::clone(self),
            body: None,
            v1: None,
        };
        Ok((caller, signed_by))
    }

    async fn use_up(&self, key: &Key, signed: &Signed, address: Option<IpAddr>) -> Result<SignedBy, Refusal> {
        match signed.signature {
            Signature::V1(_) => {
                Ok(SignedBy { body: None, v1: Some(V1 { signature: signed.signature_text.clone(), at: signed.at }) })
            }
            Signature::V2(_) => {
                let fresh = self.keys.use_nonce(&key.id, &signed.nonce, signed.at, now()).await;
                match fresh {
                    Ok(true) => Ok(SignedBy { body: signed::declared(&signed.body_sha256), v1: None }),
                    Ok(false) => Err(self.refuse(Refusal::Wrong, address)),
                    Err(error) => Err(Refusal::Problem(hiccup(&error))),
                }
            }
        }
    }

    fn tier(&self, account: &Account) -> (Tier, TierSettings) {
        let (name, settings) = self.tiers.of(account);
        let own = account.pages_per_day.map(u64::from);
        let tiers = (settings.pages_per_day > 0).then_some(u64::from(settings.pages_per_day));
        (Tier { name, pages_per_day: own.or(tiers) }, settings)
    }

    fn count(&self, key: &Key, tier: &TierSettings, address: Option<IpAddr>) -> Result<(), Problem> {
        let Some(rate) = tier.rate() else { return Ok(()) };
        let now = Instant::now();
        let by_key = lock(&self.by_key).take(&key.id, rate, 1.0, now);
        let by_address = match (by_key, address, self.tiers.address.rate()) {
            (Ok(()), Some(address), Some(rate)) => lock(&self.by_address).take(&address, rate, 1.0, now),
            _ => Ok(()),
        };
        by_key.and(by_address).map_err(|wait| {
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "Too many requests in a short time; Retry-After says when to come again.")
                .retry_after(wait)
        })
    }

    /// A refusal has its cost; who has nothing left to pay with hears something else.
    fn refuse(&self, refusal: Refusal, address: Option<IpAddr>) -> Refusal {
        let Some(address) = address else { return refusal };
        let now = Instant::now();
        let wait = lock(&self.guesses).take(&address, GUESSES, 1.0, now);
        if matches!(refusal, Refusal::Wrong) {
            let mut warned = lock(&self.warned);
            if warned.is_none_or(|at| now.saturating_duration_since(at) >= WARN_EVERY) {
                *warned = Some(now);
                tracing::warn!(peer = %address, "credentials of an HTTP request were refused");
            }
        }
        match wait {
            Ok(()) => refusal,
            Err(wait) => Refusal::Problem(
                Problem::new(StatusCode::TOO_MANY_REQUESTS, "Too many requests without a good key came from this address.")
                    .retry_after(wait),
            ),
        }
    }
}

/// Whether it came over TLS, to us or to the proxy before us.
fn is_secure(parts: &Parts) -> bool {
    parts.extensions.get::<Client>().is_some_and(|client| client.secure)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn again() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Inkport cannot look keys and accounts up just now; try again in a moment.")
        .retry_after(AGAIN)
}

fn hiccup(error: &KeysError) -> Problem {
    tracing::error!(%error, "a request's key cannot be looked up");
    again()
}

fn now() -> Timestamp {
    Timestamp::from_system(SystemTime::now())
}
