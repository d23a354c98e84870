//! The cookie that the device's own page gets for the token: scripts cannot read it, and browsers send it to
//! this device from its own pages only.
//!
//! Its value is made of the token, and is not the token: who reads a browser's files cannot write it
//! anywhere else. A new token makes all cookies worthless. Without TLS a browser keeps no `__Host-` cookie
//! of a device; the other name says so.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use further_link_proto::{Token, are_same};
use http::{HeaderMap, header};
use ring::digest::{SHA256, digest};

/// With this prefix no other host and no page without TLS can have set it (RFC 6265bis, 4.1.3.2).
const NAME: &str = "__Host-further-link";
const NAME_WITHOUT_TLS: &str = "further-link";
/// A year, in seconds: browsers forget cookies without an age when they end.
const AGE: u32 = 365 * 24 * 60 * 60;

fn name(tls: bool) -> &'static str {
    if tls { NAME } else { NAME_WITHOUT_TLS }
}

fn value(secret: &Token) -> String {
    let made_of = [b"further-link cookie\n", secret.as_bytes()].concat();
    URL_SAFE_NO_PAD.encode(digest(&SHA256, &made_of))
}

/// What gives a browser the cookie.
pub(crate) fn given(secret: &Token, tls: bool) -> String {
    format!("{}={}; {}; Max-Age={AGE}", name(tls), value(secret), rules(tls))
}

/// What takes it away.
pub(crate) fn taken(tls: bool) -> String {
    format!("{}=; {}; Max-Age=0", name(tls), rules(tls))
}

fn rules(tls: bool) -> &'static str {
    if tls { "Path=/; Secure; HttpOnly; SameSite=Strict" } else { "Path=/; HttpOnly; SameSite=Strict" }
}

/// Whether a request has it.
pub(crate) fn is_shown(headers: &HeaderMap, secret: &Token, tls: bool) -> bool {
    let right = value(secret);
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs =
        cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.any(|(found, value)| found == name(tls) && are_same(value.as_bytes(), right.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_cookie_is_worth_what_its_token_is() {
        let token = |text: &str| Token::new(text).unwrap();
        let (right, other) = (token("a-right-token-of-the-device"), token("another-token-of-the-device"));
        for tls in [true, false] {
            let given = given(&right, tls);
            assert!(!given.contains("a-right-token"), "{given}");
            let pair = given.split(';').next().unwrap();
            let shows = |cookies: &str, secret: &Token, tls| {
                let value = HeaderValue::from_str(cookies).unwrap();
                is_shown(&[(header::COOKIE, value)].into_iter().collect(), secret, tls)
            };
            assert!(shows(pair, &right, tls));
            assert!(shows(&format!("x=y; {pair}; z"), &right, tls));
            assert!(!shows(pair, &other, tls), "a new token");
            assert!(!shows(pair, &right, !tls), "the other name");
            assert!(!shows(&pair[..pair.len() - 1], &right, tls));
            assert!(!shows(&format!("x{pair}"), &right, tls));
        }
        assert!(!is_shown(&HeaderMap::new(), &right, true));
        assert!(given(&right, true).starts_with("__Host-") && given(&right, true).contains("; Secure;"));
    }
}
