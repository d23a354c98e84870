//! What is answered to a request that `access` does not let in, and what the log says about it: which setting to change.

use std::borrow::Cow;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use warp::reply::Response;

use crate::{
    access::limits::Network,
    access::refusal_log::{RefusalLog, quoted},
    reply::text,
};

/// Why a request is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Host,
    Origin,
    NoOrigin,
    NoToken,
    WrongToken,
}

impl Refused {
    /// Whether the page that asked may read the answer: it is a listed one.
    pub(crate) fn may_be_read(self) -> bool {
        matches!(self, Self::NoToken | Self::WrongToken)
    }

    /// The answer. Nothing of the request is repeated in it.
    pub(crate) fn response(self) -> Response {
        match self {
            Self::Host => text(StatusCode::MISDIRECTED_REQUEST, "421: Misdirected Request"),
            Self::Origin | Self::NoOrigin => text(StatusCode::FORBIDDEN, "403: Forbidden"),
            Self::NoToken => unauthorized("Bearer"),
            Self::WrongToken => unauthorized("Bearer error=\"invalid_token\""),
        }
    }

    /// A line in the log that says what to change if the request was meant to work. Nothing of its query is in there.
    pub(crate) fn log(self, log: &RefusalLog, headers: &HeaderMap, network: Network) {
        let value = |name| {
            headers
                .get(name)
                .map_or(Cow::Borrowed("none"), |value: &HeaderValue| Cow::Owned(quoted(value.as_bytes())))
        };
        let details = match self {
            Self::Host => format!(" (Host: {})", value(header::HOST)),
            Self::Origin => format!(" (Origin: {})", value(header::ORIGIN)),
            Self::NoOrigin | Self::NoToken | Self::WrongToken => String::new(),
        };
        log.note(self.reason(), network, details);
    }

    fn reason(self) -> &'static str {
        match self {
            Self::Host => {
                "it asked for a name that is not this device's; allow it with --allow-host, FURTHER_LINK_ALLOW_HOSTS"
            }
            Self::Origin => {
                "its page is not listed; allow it with --allow-origin, FURTHER_LINK_ALLOW_ORIGINS"
            }
            Self::NoOrigin => {
                "a program on another machine, which names no page; give it a token (--token-file, \
                 FURTHER_LINK_TOKEN_FILE), or allow all with --allow-no-origin, FURTHER_LINK_ALLOW_NO_ORIGIN"
            }
            Self::NoToken => "it has not shown the token of --token-file, FURTHER_LINK_TOKEN_FILE",
            Self::WrongToken => "its token is not the one of --token-file, FURTHER_LINK_TOKEN_FILE",
        }
    }
}

/// RFC 6750, section 3.
fn unauthorized(challenge: &'static str) -> Response {
    let mut response = text(StatusCode::UNAUTHORIZED, "401: Unauthorized");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    response
}
