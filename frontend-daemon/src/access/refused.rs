//! What is answered to a request that `access` does not let in, and what the log says about it: which setting to change.

use std::net::SocketAddr;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use tracing::warn;
use warp::reply::Response;

use crate::reply::text;

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

    /// The answer, and a line in the log that says what to change if it was meant to work. Nothing of the request is
    /// repeated in the answer, and nothing of its query in the log.
    pub(crate) fn response(self, headers: &HeaderMap, client: SocketAddr) -> Response {
        let value = |name| {
            headers
                .get(name)
                .map(|value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let client = client.ip().to_canonical();
        match self {
            Self::Host => {
                let host = value(header::HOST);
                warn!(?host, %client, "refused: not a name of this device (--allow-host, FURTHER_LINK_ALLOW_HOSTS)");
                text(StatusCode::MISDIRECTED_REQUEST, "421: Misdirected Request")
            }
            Self::Origin => {
                let origin = value(header::ORIGIN);
                warn!(?origin, %client, "refused: not a listed page (--allow-origin, FURTHER_LINK_ALLOW_ORIGINS)");
                text(StatusCode::FORBIDDEN, "403: Forbidden")
            }
            Self::NoOrigin => {
                warn!(%client, "refused: no Origin, and not from this device (--token-file, FURTHER_LINK_TOKEN_FILE; \
                    or --allow-no-origin, FURTHER_LINK_ALLOW_NO_ORIGIN)");
                text(StatusCode::FORBIDDEN, "403: Forbidden")
            }
            Self::NoToken => {
                warn!(%client, "refused: no token (the one of --token-file, FURTHER_LINK_TOKEN_FILE, is needed)");
                unauthorized("Bearer")
            }
            Self::WrongToken => {
                warn!(%client, "refused: not the token of --token-file, FURTHER_LINK_TOKEN_FILE");
                unauthorized("Bearer error=\"invalid_token\"")
            }
        }
    }
}

/// RFC 6750, section 3.
fn unauthorized(challenge: &'static str) -> Response {
    let mut response = text(StatusCode::UNAUTHORIZED, "401: Unauthorized");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    response
}
