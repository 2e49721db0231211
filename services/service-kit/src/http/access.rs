//! Who may use the API: whoever knows the key, where there is one.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use super::problem::Problem;

/// The shortest key, so that nobody finds it by trying.
const MIN_LEN: usize = 16;

const API_KEY_HEADER: &str = "x-api-key";

/// What clients of the API have to know. Never shown.
#[derive(Clone)]
pub struct ApiKey(Arc<[u8]>);

impl FromStr for ApiKey {
    type Err = ();

    /// At least 16 visible characters of ASCII.
    fn from_str(text: &str) -> Result<Self, ()> {
        let can_be_sent = text.bytes().all(|byte| byte.is_ascii_graphic());
        if text.len() >= MIN_LEN && can_be_sent { Ok(Self(text.as_bytes().into())) } else { Err(()) }
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(not shown)")
    }
}

impl ApiKey {
    /// Whether a request shows it, as `Authorization: Bearer` or as `X-API-Key`. How long this takes does not depend on
    /// how much of a wrong key is right.
    fn is_shown_in(&self, headers: &HeaderMap) -> bool {
        let shown = match headers.get(header::AUTHORIZATION) {
            Some(value) => bearer(value),
            None => headers.get(API_KEY_HEADER).map(HeaderValue::as_bytes),
        };
        shown.is_some_and(|shown| shown.ct_eq(&self.0).into())
    }
}

/// The token; the scheme is the same in lower case (RFC 9110, 11.1).
fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, token) = value.as_bytes().split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

/// Answers 401 to whoever does not show the key.
pub(super) async fn check(State(key): State<ApiKey>, request: Request, next: Next) -> Response {
    if key.is_shown_in(request.headers()) {
        return next.run(request).await;
    }
    let problem = Problem::new(StatusCode::UNAUTHORIZED).detail("this API wants its key, as `Authorization: Bearer …`");
    ([(header::WWW_AUTHENTICATE, "Bearer")], problem).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef";

    #[test]
    fn a_key_is_long_and_can_be_sent() {
        assert!(KEY.parse::<ApiKey>().is_ok());
        for text in ["", "short", "0123456789abcde\n", "0123456789 abcdef", "0123456789abcdé…"] {
            assert!(text.parse::<ApiKey>().is_err(), "{text:?}");
        }
        assert!(!format!("{:?}", KEY.parse::<ApiKey>().unwrap()).contains(KEY));
    }

    #[test]
    fn it_is_found_in_either_header() {
        let key: ApiKey = KEY.parse().unwrap();
        let headers = |name: &'static str, value: &str| {
            HeaderMap::from_iter([(header::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())])
        };
        assert!(key.is_shown_in(&headers("authorization", &format!("Bearer {KEY}"))));
        assert!(key.is_shown_in(&headers("authorization", &format!("bearer  {KEY}"))));
        assert!(key.is_shown_in(&headers("x-api-key", KEY)));
        for wrong in ["", KEY, "Bearer", "Bearer ", "Bearer 0123456789abcdeX", "Basic 0123456789abcdef"] {
            assert!(!key.is_shown_in(&headers("authorization", wrong)), "{wrong}");
        }
        assert!(!key.is_shown_in(&headers("x-api-key", "0123456789abcdef0")));
        assert!(!key.is_shown_in(&HeaderMap::new()));
    }
}
