//! HTTP Basic authentication.

use axum::http::{HeaderMap, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::config::Token;

/// Whether a request with these headers may pass.
///
/// Without a token everybody may; the configuration allows that on loopback only. With one, the
/// user or the password must equal it, because Librato's clients send it as the password and
/// AppOptics' clients as the user with an empty password.
pub(crate) fn is_allowed(token: Option<&Token>, headers: &HeaderMap) -> bool {
    let Some(token) = token else { return true };
    let Some((user, password)) = credentials(headers) else { return false };
    // Both are always compared, so that the time taken does not tell which one was nearly right.
    token.matches(&user) | token.matches(&password)
}

fn credentials(headers: &HeaderMap) -> Option<(Vec<u8>, Vec<u8>)> {
    let header = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = STANDARD.decode(encoded.trim()).ok()?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    Some((pair[..colon].to_vec(), pair[colon + 1..].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(token: Option<&str>, authorization: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        }
        is_allowed(token.map(|text| Token::new(text).unwrap()).as_ref(), &headers)
    }

    fn basic(pair: &str) -> String {
        format!("Basic {}", STANDARD.encode(pair))
    }

    #[test]
    fn the_token_may_be_user_or_password_and_nothing_else_passes() {
        for good in ["me@example.org:secret", "secret:", "secret:secret", ":secret"] {
            assert!(allowed(Some("secret"), Some(&basic(good))), "{good}");
        }
        assert!(allowed(Some("se:cret"), Some(&basic("me:se:cret"))));
        assert!(allowed(Some("secret"), Some(&basic("me:secret").replace("Basic", "bAsIc"))));
        for bad in ["me:wrong", "me:", ":", "secre:t", "nocolon"] {
            assert!(!allowed(Some("secret"), Some(&basic(bad))), "{bad}");
        }
        for bad in ["Bearer secret", "Basic", "Basic ???", ""] {
            assert!(!allowed(Some("secret"), Some(bad)), "{bad}");
        }
        assert!(!allowed(Some("secret"), None));
    }

    #[test]
    fn without_a_token_any_and_no_credentials_pass() {
        assert!(allowed(None, None));
        assert!(allowed(None, Some(&basic("any:thing"))));
    }
}
