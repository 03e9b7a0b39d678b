//! HTTP Basic for the status page: an account with role admin. One answer for every cause of refusal,
//! and refusals are slow, one after the other, so that guessing is.

use super::problem::Problem;
use super::settings::StatusAccess;
use crate::account::Role;
use crate::accounts::password::Logins;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::time::Duration;
use tokio::sync::Mutex;

/// What a refused login costs, all guessers together.
const REFUSAL_TAKES: Duration = Duration::from_secs(1);
/// Nobody's name and password is longer.
const LONGEST_HEADER: usize = 1024;

/// Decides who sees the status page.
pub(super) struct Gate {
    access: StatusAccess,
    logins: Logins,
    refusing: Mutex<()>,
}

impl Gate {
    pub(super) fn new(access: StatusAccess, logins: Logins) -> Self {
        Gate { access, logins, refusing: Mutex::new(()) }
    }

    /// `Err` is the answer to give instead of the page.
    pub(super) async fn admit(&self, headers: &HeaderMap) -> Result<(), Response> {
        if self.access == StatusAccess::Public {
            return Ok(());
        }
        let Some(header) = headers.get(header::AUTHORIZATION) else { return Err(refusal()) };
        if let Some((name, password)) = credentials(header)
            && let Some(account) = self.logins.check(&name, &password).await
            && account.role == Role::Admin
        {
            return Ok(());
        }
        tracing::warn!("a login to the status page was refused");
        let _one_by_one = self.refusing.lock().await;
        tokio::time::sleep(REFUSAL_TAKES).await;
        Err(refusal())
    }
}

fn refusal() -> Response {
    let detail = "The status page is for accounts with role admin: sign in with the name and password of one. \
                  `inkport account add NAME --role admin` makes one.";
    let mut response = Problem::new(StatusCode::UNAUTHORIZED, detail).into_response();
    let challenge = HeaderValue::from_static("Basic realm=\"Inkport\", charset=\"UTF-8\"");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    response
}

/// Name and password of an `Authorization: Basic` header.
fn credentials(header: &HeaderValue) -> Option<(String, String)> {
    let text = header.to_str().ok().filter(|text| text.len() <= LONGEST_HEADER)?;
    let (scheme, encoded) = text.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (name, password) = decoded.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_credentials_are_read_as_rfc_7617_writes_them() {
        let read = |text: &str| credentials(&HeaderValue::from_str(text).unwrap());
        assert_eq!(read("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), Some(("Aladdin".into(), "open sesame".into())));
        assert_eq!(read("basic YTpiOmM="), Some(("a".into(), "b:c".into())), "a password may hold colons");
        for bad in ["", "Basic", "Basic !!!", "Bearer YTpi", "Basic YWI=", "Basic /////w=="] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(read(&format!("Basic {}", STANDARD.encode("a:".to_owned() + &"b".repeat(2000)))), None);
    }
}
