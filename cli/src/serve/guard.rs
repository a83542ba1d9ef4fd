//! Who may ask.

use std::net::{IpAddr, SocketAddr};

use hyper::header::{AUTHORIZATION, HOST, HeaderMap};
use hyper::{StatusCode, Uri};

use super::wire::WireError;

/// Lets those in who show the token. Without one, those who name the loopback address: a web page of elsewhere, whose
/// name somebody points here, names another.
pub(super) enum Guard {
    Token(String),
    Loopback,
}

impl Guard {
    /// The guard of an address; `None` where that needs a token and there is none.
    pub(super) fn new(address: SocketAddr, token: Option<String>) -> Option<Self> {
        match token.filter(|token| !token.is_empty()) {
            Some(token) => Some(Self::Token(token)),
            None => address.ip().is_loopback().then_some(Self::Loopback),
        }
    }

    /// Checks the head of a request.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), (StatusCode, WireError)> {
        match self {
            Self::Token(token) => {
                let shown = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
                let shown = shown.and_then(|value| value.strip_prefix("Bearer "));
                if shown.is_some_and(|shown| is_same(shown.trim().as_bytes(), token.as_bytes())) {
                    return Ok(());
                }
                Err((
                    StatusCode::UNAUTHORIZED,
                    WireError::invalid("the token of this job is not shown, or another is"),
                ))
            }
            Self::Loopback => {
                let host = headers.get(HOST).and_then(|value| value.to_str().ok());
                if host.is_some_and(is_loopback) {
                    return Ok(());
                }
                Err((
                    StatusCode::FORBIDDEN,
                    WireError::invalid("the host of the request is no loopback address"),
                ))
            }
        }
    }
}

fn is_loopback(host: &str) -> bool {
    let Ok(uri) = host.parse::<Uri>() else { return false };
    let name = uri.host().unwrap_or_default();
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// Compares without showing by the time it takes where the difference is.
fn is_same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: hyper::header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn other_addresses_than_loopback_need_a_token() {
        let [here, elsewhere] = ["127.0.0.1:0", "0.0.0.0:0"].map(|address| address.parse().unwrap());
        assert!(
            Guard::new(elsewhere, None).is_none() && Guard::new(elsewhere, Some(String::new())).is_none()
        );
        assert!(matches!(Guard::new(here, None), Some(Guard::Loopback)));
        let guard = Guard::new(elsewhere, Some("open sesame".into())).unwrap();
        assert!(guard.check(&headers(AUTHORIZATION, "Bearer open sesame")).is_ok());
        for wrong in ["Bearer open", "Bearer open sesamf", "open sesame", "Bearer "] {
            let refused = guard.check(&headers(AUTHORIZATION, wrong)).unwrap_err();
            assert_eq!(refused.0, StatusCode::UNAUTHORIZED, "{wrong}");
        }
        assert!(guard.check(&HeaderMap::new()).is_err());
    }

    #[test]
    fn names_of_elsewhere_are_refused_without_a_token() {
        for host in ["localhost", "localhost:80", "127.0.0.1:4242", "127.9.9.9", "[::1]:80"] {
            assert!(Guard::Loopback.check(&headers(HOST, host)).is_ok(), "{host}");
        }
        for host in ["example.org", "localhost.example.org:80", "192.168.0.1", "", "[::2]:80"] {
            assert!(Guard::Loopback.check(&headers(HOST, host)).is_err(), "{host}");
        }
        assert!(Guard::Loopback.check(&HeaderMap::new()).is_err());
    }
}
