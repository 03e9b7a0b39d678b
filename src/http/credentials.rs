//! The credentials that a request's head holds. Pure. Whatever is there twice, or is of two kinds at once, is
//! refused: two readers of one request must never take it for two different ones.

use crate::keys::sign::{self, Covered, Signature};
use crate::units::Timestamp;
use axum::http::request::Parts;
use axum::http::{HeaderName, header};

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const TIMESTAMP: HeaderName = HeaderName::from_static("x-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("x-signature");
const NONCE: HeaderName = HeaderName::from_static("x-nonce");
const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-content-sha256");

/// What was shown.
#[derive(Debug, Clone)]
pub(super) enum Credentials {
    /// By `X-API-Key` or `Authorization: Bearer`.
    Secret(String),
    /// By `X-SIGNATURE` and what goes with it.
    Signed(Box<Signed>),
}

/// A signed request's head, owned.
#[derive(Debug, Clone)]
pub(super) struct Signed {
    pub id: String,
    pub timestamp: String,
    pub at: Timestamp,
    pub signature: Signature,
    pub signature_text: String,
    /// Empty in version 1, as is the next.
    pub nonce: String,
    pub body_sha256: String,
    method: String,
    host: String,
    path: String,
    query: String,
}

/// They are no credentials that anybody could have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

impl Signed {
    pub(super) fn covered(&self) -> Covered<'_> {
        Covered {
            id: &self.id,
            timestamp: &self.timestamp,
            nonce: &self.nonce,
            method: &self.method,
            host: &self.host,
            path: &self.path,
            query: &self.query,
            body_sha256: &self.body_sha256,
        }
    }
}

impl Credentials {
    /// `None`: none at all.
    pub(super) fn of(parts: &Parts) -> Result<Option<Self>, Malformed> {
        let api_key = one(parts, &API_KEY)?;
        let authorization = one(parts, &header::AUTHORIZATION)?;
        let signature = one(parts, &SIGNATURE)?;
        let timestamp = one(parts, &TIMESTAMP)?;
        match (api_key, authorization, signature, timestamp) {
            (None, None, None, None) => Ok(None),
            (Some(secret), None, None, None) => Ok(Some(Credentials::Secret(secret.to_owned()))),
            (None, Some(authorization), None, None) => {
                let (scheme, secret) = authorization.split_once(' ').ok_or(Malformed)?;
                if !scheme.eq_ignore_ascii_case("bearer") {
                    return Err(Malformed);
                }
                Ok(Some(Credentials::Secret(secret.trim_matches(' ').to_owned())))
            }
            (Some(id), None, Some(signature), Some(timestamp)) => {
                signed(parts, id, signature, timestamp).map(|signed| Some(Credentials::Signed(Box::new(signed))))
            }
            _ => Err(Malformed),
        }
    }
}

fn signed(parts: &Parts, id: &str, text: &str, timestamp: &str) -> Result<Signed, Malformed> {
    let signature = Signature::parse(text).ok_or(Malformed)?;
    let at = sign::timestamp(timestamp).ok_or(Malformed)?;
    let (nonce, body_sha256, host) = match signature {
        Signature::V1(_) => ("", "", String::new()),
        Signature::V2(_) => {
            let nonce = one(parts, &NONCE)?.filter(|nonce| sign::is_nonce(nonce)).ok_or(Malformed)?;
            let hash = one(parts, &CONTENT_SHA256)?.filter(|hash| sign::hex(hash).is_some()).ok_or(Malformed)?;
            (nonce, hash, host(parts)?)
        }
    };
    Ok(Signed {
        id: id.to_owned(),
        timestamp: timestamp.to_owned(),
        at,
        signature,
        signature_text: text.to_owned(),
        nonce: nonce.to_owned(),
        body_sha256: body_sha256.to_owned(),
        method: parts.method.as_str().to_owned(),
        host,
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
    })
}

/// The `Host` header; a request's line that names another host is nobody's.
fn host(parts: &Parts) -> Result<String, Malformed> {
    let host = one(parts, &header::HOST)?.filter(|host| host.bytes().all(|byte| byte.is_ascii_graphic())).ok_or(Malformed)?;
    match parts.uri.authority() {
        Some(authority) if !authority.as_str().eq_ignore_ascii_case(host) => Err(Malformed),
        _ => Ok(host.to_owned()),
    }
}

/// A header that is there once at most.
fn one<'a>(parts: &'a Parts, name: &HeaderName) -> Result<Option<&'a str>, Malformed> {
    let mut values = parts.headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| Malformed),
        (Some(_), Some(_)) => Err(Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    fn read(headers: &[(&str, &str)]) -> Result<Option<Credentials>, Malformed> {
        let mut request = Request::post("/api/v1/ocr?b=1&a=2");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Credentials::of(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn secrets_come_by_either_header() {
        assert!(matches!(read(&[]), Ok(None)));
        for headers in [[("x-api-key", "ink_x")], [("authorization", "Bearer ink_x")], [("Authorization", "bearer  ink_x")]] {
            assert!(matches!(read(&headers), Ok(Some(Credentials::Secret(secret))) if secret == "ink_x"));
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_not_read() {
        let at = ("x-timestamp", "2026-07-10T00:00:00Z");
        let v1 = ("x-signature", "0000000000000000000000000000000000000000000000000000000000000000");
        let v2 = ("x-signature", "v2=0000000000000000000000000000000000000000000000000000000000000000");
        let (nonce, sha) = (("x-nonce", "0123456789abcdef"), ("x-content-sha256", v1.1));
        let (id, host) = (("x-api-key", "key_x"), ("host", "h"));
        assert!(matches!(read(&[id, at, v1]), Ok(Some(Credentials::Signed(_)))));
        assert!(matches!(read(&[id, at, v2, nonce, sha, host]), Ok(Some(Credentials::Signed(_)))));
        for bad in [
            vec![("x-api-key", "a"), ("x-api-key", "a")],
            vec![("x-api-key", "a"), ("authorization", "Bearer a")],
            vec![("authorization", "Basic YTpi")],
            vec![("authorization", "Bearer")],
            vec![("x-api-key", "é")],
            vec![at],
            vec![v1],
            vec![id, v1],
            vec![id, at],
            vec![at, v1],
            vec![id, at, v1, v1],
            vec![id, at, v1, ("authorization", "Bearer a")],
            vec![id, at, v2],
            vec![id, at, v2, nonce, sha],
            vec![id, at, v2, ("x-nonce", "short"), sha, host],
            vec![id, at, v2, nonce, nonce, sha, host],
            vec![id, at, v2, nonce, ("x-content-sha256", "UNSIGNED-PAYLOAD"), host],
            vec![id, at, v2, nonce, sha, host, host],
            vec![id, ("x-timestamp", "yesterday"), v1],
        ] {
            assert!(matches!(read(&bad), Err(Malformed)), "{bad:?}");
        }
    }
}
