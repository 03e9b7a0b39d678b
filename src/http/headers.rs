//! Headers of every answer: what browsers may do with it, whether pages of other origins may read it
//! (`http.cors-origins`, for the API only), and, over HTTPS, that nothing else is to be used (`http.hsts`).

use super::client::Client;
use super::settings::{Origin, Settings};
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use std::time::Duration;

/// For every answer. Nothing is loaded from elsewhere, nothing inline runs, nobody frames it.
const ALWAYS: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// What a page of another origin may send, and see of the answer.
const MAY_SEND: &str = "authorization, content-type, idempotency-key, if-none-match, if-range, last-event-id, prefer, range, \
                        x-api-key, x-content-sha256, x-nonce, x-signature, x-timestamp";
const MAY_SEE: &str = "content-range, etag, location, preference-applied, retry-after, www-authenticate";
/// How long a browser may remember a preflight's answer.
const REMEMBER: &str = "600";

/// The operator's choices.
pub(super) struct Rules {
    origins: Vec<Origin>,
    hsts: Option<HeaderValue>,
}

impl Rules {
    pub(super) fn of(settings: &Settings) -> Self {
        let hsts = Some(settings.hsts.0)
            .filter(|age| *age >= Duration::from_secs(1))
            .map(|age| HeaderValue::try_from(format!("max-age={}; includeSubDomains", age.as_secs())).expect("digits"));
        Rules { origins: settings.cors_origins.clone(), hsts }
    }

    /// The origin of this request, if it is one of the list and asks for the API.
    fn allowed(&self, request: &Request) -> Option<HeaderValue> {
        let path = request.uri().path();
        let is_api = path.starts_with("/api/") || path.starts_with("/d/") || path.starts_with("/prediction/");
        let origin = request.headers().get(header::ORIGIN).filter(|_| is_api)?;
        let listed = self.origins.iter().any(|known| known.as_str().as_bytes() == origin.as_bytes());
        listed.then(|| origin.clone())
    }
}

/// Answers preflights, and puts the headers on every answer.
pub(super) async fn apply(State(rules): State<Arc<Rules>>, request: Request, next: Next) -> Response {
    let allowed = rules.allowed(&request);
    let secure = request.extensions().get::<Client>().is_some_and(|client| client.secure);
    let preflight = request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
        && allowed.is_some();
    let mut response = if preflight { StatusCode::NO_CONTENT.into_response() } else { next.run(request).await };
    let headers = response.headers_mut();
    for (name, value) in ALWAYS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if !rules.origins.is_empty() {
        headers.append(header::VARY, HeaderValue::from_static("origin"));
    }
    if let Some(origin) = allowed {
        // Keys go in headers of their own: no cookies, no credentials of the browser's.
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert("cross-origin-resource-policy", HeaderValue::from_static("cross-origin"));
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(MAY_SEE));
        if preflight {
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, POST"));
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(MAY_SEND));
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(REMEMBER));
        }
    }
    if let Some(hsts) = rules.hsts.as_ref().filter(|_| secure) {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, hsts.clone());
    }
    // What is shown is of this moment; what may be kept says so itself.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
