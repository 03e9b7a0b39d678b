//! The gate before two routes of the tests' own: one that reads, one that takes a body.

use super::caller::{Caller, Callers, ClientAddress, Presented, gate};
use super::problem::Problem;
use super::settings::{RateSettings, TierSettings, TiersSettings};
use crate::account::Account;
use crate::accounts::Accounts;
use crate::keys::sign::{self, Covered};
use crate::keys::{Keys, Kind, MasterKeySource, NewKey, Scope, Scopes};
use crate::units::Timestamp;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Request, StatusCode, header};
use axum::routing::{get, post};
use http_body_util::BodyExt as _;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const HOST: &str = "scan.example:8080";

struct Place {
    accounts: Accounts,
    keys: Keys,
    tiers: TiersSettings,
    folder: tempfile::TempDir,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

fn now() -> Timestamp {
    Timestamp::from_system(SystemTime::now())
}

async fn read(caller: Caller) -> Result<String, Problem> {
    caller.require(Scope::Read)?;
    Ok(caller.account.name.to_string())
}

async fn take(caller: Caller, body: Bytes) -> Result<String, Problem> {
    caller.require(Scope::Write)?;
    Ok(match caller.presented().await? {
        Presented::New => format!("new {}", body.len()),
        Presented::Again => format!("again {}", caller.repetition().is_some()),
    })
}

/// Forgets to ask.
async fn careless(_: Caller, body: Bytes) -> String {
    body.len().to_string()
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("inkport.db");
        let accounts = Accounts::sqlite(&database).unwrap();
        accounts.add(&Account::new("front-desk".parse().unwrap())).unwrap();
        let keys = Keys::open(&database, MasterKeySource::Made(folder.path().join("master.key"))).unwrap();
        Place { accounts, keys, tiers: TiersSettings { own: TierSettings::default(), ..TiersSettings::default() }, folder }
    }

    fn key(&self, kind: Kind, scopes: &[Scope]) -> (String, String) {
        let new = NewKey {
            account: "front-desk".parse().unwrap(),
            kind,
            label: String::new(),
            scopes: Scopes::of(scopes),
            expires_at: None,
        };
        let (key, secret) = self.keys.add(&new, now()).unwrap();
        (key.id.to_string(), secret.reveal().to_owned())
    }

    fn door(&self) -> Router {
        let callers = Arc::new(Callers::new(self.keys.clone(), self.accounts.clone(), self.tiers));
        Router::new()
            .route("/read", get(read))
            .route("/take", post(take))
            .route("/careless", post(careless))
            .route_layer(axum::middleware::from_fn_with_state(callers, gate))
    }
}

async fn ask(door: &Router, mut request: Request<Body>, from: IpAddr) -> Answer {
    request.extensions_mut().insert(ClientAddress(from));
    let response = TowerToHyperService::new(door.clone()).call(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    Answer { status: parts.status, headers: parts.headers, body }
}

async fn with(door: &Router, name: &str, value: &str) -> Answer {
    ask(door, Request::get("/read").header(name, value).body(Body::empty()).unwrap(), HERE).await
}

struct V2<'a> {
    id: &'a str,
    secret: &'a str,
    nonce: &'a str,
    method: &'a str,
    path: &'a str,
    body: &'static str,
    at: Timestamp,
}

impl V2<'_> {
    fn request(&self) -> Request<Body> {
        let (timestamp, body_sha256) = (self.at.to_string(), sign::to_hex(&Sha256::digest(self.body).into()));
        let covered = Covered {
            id: self.id,
            timestamp: &timestamp,
            nonce: self.nonce,
            method: self.method,
            host: HOST,
            path: self.path,
            query: "",
            body_sha256: &body_sha256,
        };
        let signature = format!("v2={}", sign::to_hex(&sign::v2(self.secret.as_bytes(), &covered)));
        Request::builder()
            .method(self.method)
            .uri(self.path)
            .header("Host", HOST)
            .header("X-API-KEY", self.id)
            .header("X-TIMESTAMP", &timestamp)
            .header("X-NONCE", self.nonce)
            .header("X-CONTENT-SHA256", &body_sha256)
            .header("X-SIGNATURE", signature)
            .body(Body::from(self.body))
            .unwrap()
    }
}

fn v1(id: &str, secret: &str, at: &str, path: &str, body: &'static str) -> Request<Body> {
    Request::post(path)
        .header("X-API-KEY", id)
        .header("X-TIMESTAMP", at)
        .header("X-SIGNATURE", sign::to_hex(&sign::v1(secret.as_bytes(), at, path)))
        .body(Body::from(body))
        .unwrap()
}

#[tokio::test]
async fn a_key_opens_by_either_header_and_every_other_cause_has_one_answer() {
    let place = Place::new();
    let (_, secret) = place.key(Kind::Bearer, &[]);
    let (id, _) = place.key(Kind::Hmac, &[]);
    let door = place.door();
    for (name, value) in [("X-API-Key", secret.clone()), ("Authorization", format!("Bearer {secret}"))] {
        let answer = with(&door, name, &value).await;
        assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "front-desk"));
    }
    let unasked = ask(&door, Request::get("/read").body(Body::empty()).unwrap(), HERE).await;
    assert_eq!(unasked.status, StatusCode::UNAUTHORIZED);
    assert!(unasked.headers[header::WWW_AUTHENTICATE].to_str().unwrap().starts_with("Bearer "));

    let (revoked, old) = place.key(Kind::Bearer, &[]);
    place.keys.revoke(&revoked.parse().unwrap(), now()).unwrap();
    let expired = NewKey {
        account: "front-desk".parse().unwrap(),
        kind: Kind::Bearer,
        label: String::new(),
        scopes: Scopes::of(&[]),
        expires_at: Some(now()),
    };
    let (_, expired) = place.keys.add(&expired, now()).unwrap();
    let orphan = NewKey {
        account: "nobody".parse().unwrap(),
        kind: Kind::Bearer,
        label: String::new(),
        scopes: Scopes::of(&[]),
        expires_at: None,
    };
    let (_, orphan) = place.keys.add(&orphan, now()).unwrap();
    let mut refusals = Vec::new();
    for secret in ["ink_wrong", &id, &old, expired.reveal(), orphan.reveal(), ""] {
        let answer = with(&door, "X-API-Key", secret).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{secret}");
        assert_eq!(answer.headers[header::CONTENT_TYPE], "application/problem+json");
        refusals.push(answer.body);
    }
    refusals.dedup();
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    // Its account is changed: at the next request.
    let account = place.accounts.find(&"front-desk".parse().unwrap()).unwrap().unwrap();
    let changed = [
        Account { enabled: false, ..account.clone() },
        Account { expires: Some("2026-01-01".parse().unwrap()), ..account.clone() },
        Account { networks: vec!["10.0.0.0/8".parse().unwrap()], ..account.clone() },
    ];
    for account in changed {
        place.accounts.set(&account).unwrap();
        let answer = with(&door, "X-API-Key", &secret).await;
        assert_eq!((answer.status, &answer.body), (StatusCode::FORBIDDEN, &refusals[0]));
    }
    let elsewhere = Account { networks: vec!["192.0.2.0/24".parse().unwrap()], ..account.clone() };
    place.accounts.set(&elsewhere).unwrap();
    assert_eq!(with(&door, "X-API-Key", &secret).await.status, StatusCode::OK);
    place.accounts.set(&Account { permissions: "drop-box".parse().unwrap(), ..account }).unwrap();
    let answer = with(&door, "X-API-Key", &secret).await;
    assert!(answer.status == StatusCode::FORBIDDEN && answer.body.contains("permissions"), "{}", answer.body);
}

#[tokio::test]
async fn scopes_are_told_and_held() {
    let place = Place::new();
    let (_, upload) = place.key(Kind::Bearer, &[Scope::Write]);
    let (_, admin) = place.key(Kind::Bearer, &[Scope::Admin]);
    let door = place.door();
    let answer = with(&door, "X-API-Key", &upload).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(answer.body.contains("has the scopes write") && answer.body.contains("read is needed"), "{}", answer.body);
    assert_eq!(with(&door, "X-API-Key", &admin).await.status, StatusCode::OK);
}

#[tokio::test]
async fn guesses_cost_their_address_and_never_lock_a_right_key_out() {
    let place = Place::new();
    let (_, secret) = place.key(Kind::Bearer, &[]);
    let (id, hmac) = place.key(Kind::Hmac, &[]);
    place.keys.revoke(&id.parse().unwrap(), now()).unwrap();
    let door = place.door();
    let mut statuses = Vec::new();
    for number in 0..30 {
        let answer = match number % 2 {
            0 => with(&door, "X-API-Key", "ink_guess").await,
            // A wrong signature under a revoked id is a guess too.
            _ => ask(&door, v1(&id, "ink_guess", &now().to_string(), "/take", ""), HERE).await,
        };
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            assert!(answer.headers.contains_key(header::RETRY_AFTER));
        }
        statuses.push(answer.status);
    }
    assert_eq!(statuses[..20], [StatusCode::FORBIDDEN; 20]);
    assert_eq!(statuses[25..], [StatusCode::TOO_MANY_REQUESTS; 5]);
    assert_eq!(with(&door, "X-API-Key", &secret).await.status, StatusCode::OK, "a right key still comes in from there");
    let elsewhere = Request::get("/read").header("X-API-Key", "ink_guess").body(Body::empty()).unwrap();
    assert_eq!(ask(&door, elsewhere, "192.0.2.2".parse().unwrap()).await.status, StatusCode::FORBIDDEN);
    let right = ask(&door, v1(&id, &hmac, &now().to_string(), "/take", ""), "192.0.2.3".parse().unwrap()).await;
    assert_eq!(right.status, StatusCode::FORBIDDEN, "revoked");
}

#[tokio::test]
async fn a_signed_request_of_version_2_comes_in_once_and_with_its_own_body() {
    let place = Place::new();
    let (id, secret) = place.key(Kind::Hmac, &[]);
    let door = place.door();
    let good =
        V2 { id: &id, secret: &secret, nonce: "0123456789abcdef", method: "POST", path: "/take", body: "hello", at: now() };
    assert_eq!(ask(&door, good.request(), HERE).await.body, "new 5");
    assert_eq!(ask(&door, good.request(), HERE).await.status, StatusCode::FORBIDDEN, "a nonce is used once");
    let read = V2 { nonce: "0123456789abcde1", method: "GET", path: "/read", body: "", ..good };
    assert_eq!(ask(&door, read.request(), HERE).await.body, "front-desk");
    // Another body than was signed.
    for (nonce, path) in [("0123456789abcde2", "/take"), ("0123456789abcde3", "/careless")] {
        let mut other = V2 { nonce, path, ..good }.request();
        *other.body_mut() = Body::from("hellO");
        let answer = ask(&door, other, HERE).await;
        assert!(answer.status.is_client_error(), "{path}: {}", answer.status);
    }
    let mut other = V2 { nonce: "0123456789abcde4", method: "GET", path: "/read", body: "", ..good }.request();
    *other.body_mut() = Body::from("x");
    assert_eq!(ask(&door, other, HERE).await.status, StatusCode::FORBIDDEN);
    // A handler that forgets to ask is found out.
    let forgotten = V2 { nonce: "0123456789abcde5", path: "/careless", ..good };
    assert_eq!(ask(&door, forgotten.request(), HERE).await.status, StatusCode::INTERNAL_SERVER_ERROR);
    for (nonce, offset) in [("0123456789abcde6", -310), ("0123456789abcde7", 310)] {
        let untimely = V2 { nonce, at: Timestamp(now().0 + offset * 1000), ..good };
        assert_eq!(ask(&door, untimely.request(), HERE).await.status, StatusCode::FORBIDDEN, "{offset}");
    }
    let wrong = V2 { nonce: "0123456789abcde8", secret: "ink_other", ..good };
    assert_eq!(ask(&door, wrong.request(), HERE).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_repetition_of_version_1_is_known_by_its_body() {
    let place = Place::new();
    let (id, secret) = place.key(Kind::Hmac, &[]);
    let door = place.door();
    let at = now().to_string();
    let send = async |body: &'static str| ask(&door, v1(&id, &secret, &at, "/take", body), HERE).await;
    assert_eq!(send("hello").await.body, "new 5");
    assert_eq!(send("hello").await.body, "again true");
    let other = send("HELLO").await;
    assert_eq!(other.status, StatusCode::FORBIDDEN);
    assert!(other.body.contains("another body"), "{}", other.body);
    // Over a restart too.
    let database = place.folder.path().join("inkport.db");
    let keys = Keys::open(&database, MasterKeySource::Made(place.folder.path().join("master.key"))).unwrap();
    let place = Place { keys, ..place };
    let door = place.door();
    assert_eq!(ask(&door, v1(&id, &secret, &at, "/take", "hello"), HERE).await.body, "again true");
    let late = Timestamp(now().0 - 310_000).to_string();
    assert_eq!(ask(&door, v1(&id, &secret, &late, "/take", "late"), HERE).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn who_comes_too_often_hears_when_to_come_again_and_keeps_the_nonce() {
    let mut place = Place::new();
    place.tiers.own = TierSettings { pages_per_day: 0, requests_per_second: 1, burst: 3 };
    place.tiers.address = RateSettings { requests_per_second: 1, burst: 5 };
    let (id, secret) = place.key(Kind::Hmac, &[]);
    let (_, bearer) = place.key(Kind::Bearer, &[]);
    let door = place.door();
    let nonces: Vec<String> = (0..12).map(|number| format!("0123456789abcde{number:x}")).collect();
    let send = async |nonce: &str| {
        let request = V2 { id: &id, secret: &secret, nonce, method: "GET", path: "/read", body: "", at: now() }.request();
        ask(&door, request, HERE).await
    };
    let mut refused = None;
    for nonce in &nonces {
        let answer = send(nonce).await;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            assert_eq!(answer.headers[header::RETRY_AFTER], "1");
            refused = Some(nonce.clone());
            break;
        }
        assert_eq!(answer.status, StatusCode::OK);
    }
    let refused = refused.expect("twelve are too many");
    // The address has some left for another key, and then none.
    let mut others = Vec::new();
    for _ in 0..8 {
        others.push(with(&door, "X-API-Key", &bearer).await.status);
    }
    assert!(others.contains(&StatusCode::OK) && others.contains(&StatusCode::TOO_MANY_REQUESTS), "{others:?}");
    let started = std::time::Instant::now();
    loop {
        let answer = send(&refused).await;
        if answer.status == StatusCode::OK {
            break;
        }
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
        assert!(started.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_database_that_does_not_answer_is_asked_again_later() {
    let place = Place::new();
    let (_, secret) = place.key(Kind::Bearer, &[]);
    let door = place.door();
    let breaking = crate::database::open(&place.folder.path().join("inkport.db")).unwrap();
    breaking.execute_batch("ALTER TABLE accounts RENAME TO gone").unwrap();
    let answer = with(&door, "X-API-Key", &secret).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers[header::RETRY_AFTER], "5");
    breaking.execute_batch("ALTER TABLE gone RENAME TO accounts").unwrap();
    assert_eq!(with(&door, "X-API-Key", &secret).await.status, StatusCode::OK);
}
