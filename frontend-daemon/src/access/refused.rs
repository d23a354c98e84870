//! What is answered to a request that `access` does not let in, and what the log says about it: which setting
//! to change.

use std::borrow::Cow;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use warp::reply::Response;

use crate::{
    access::limits::Network,
    access::refusal_log::{RefusalLog, quoted},
    config::setting,
    reply::{is_navigation, page, text},
};

const ALLOW_HOSTS: &str = setting!("--allow-host", "FURTHER_LINK_ALLOW_HOSTS");
const ALLOW_ORIGINS: &str = setting!("--allow-origin", "FURTHER_LINK_ALLOW_ORIGINS");

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

    /// The answer. Nothing of the request is repeated in it. A person reads there what to do.
    pub(crate) fn response(self, headers: &HeaderMap) -> Response {
        let status = self.status();
        let reason = status.canonical_reason().unwrap_or_default();
        let title = format!("{}: {reason}", status.as_u16());
        let mut response = if is_navigation(headers) {
            page(status, &title, &format!("<p>{}</p>\n", self.advice()))
        } else {
            text(status, title)
        };
        // RFC 6750, section 3.
        let challenge = match self {
            Self::NoToken => Some("Bearer"),
            Self::WrongToken => Some("Bearer error=\"invalid_token\""),
            Self::Host | Self::Origin | Self::NoOrigin => None,
        };
        if let Some(challenge) = challenge {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }

    fn status(self) -> StatusCode {
        match self {
            Self::Host => StatusCode::MISDIRECTED_REQUEST,
            Self::Origin | Self::NoOrigin => StatusCode::FORBIDDEN,
            Self::NoToken | Self::WrongToken => StatusCode::UNAUTHORIZED,
        }
    }

    /// What a person reads. HTML.
    fn advice(self) -> String {
        let administrator = "Whoever looks after this device";
        match self {
            Self::Host => format!(
                "This device does not know the name in the address. {administrator} can add it with \
                 <code>{ALLOW_HOSTS}</code>. Its IP address works always."
            ),
            Self::Origin => format!(
                "The page that led here may not use this device. {administrator} can allow it with \
                 <code>{ALLOW_ORIGINS}</code>. To see this device, type its address, or open \
                 <a href=\"/\">its first page</a>."
            ),
            Self::NoOrigin => "This address is for programs and editors, not for people. Open \
                               <a href=\"/\">the first page of this device</a>."
                .to_owned(),
            Self::NoToken | Self::WrongToken => format!(
                "This address needs the token of this device, in <code>?token=…</code>. {administrator} gets it with \
                 <code>further-link token</code>."
            ),
        }
    }

    /// A line in the log that says what to change if the request was meant to work. Nothing of its query is
    /// in there.
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
            Self::Host => setting!(
                "it asked for a name that is not this device's; allow it with --allow-host",
                "it asked for a name that is not this device's; allow it with FURTHER_LINK_ALLOW_HOSTS"
            ),
            Self::Origin => setting!(
                "its page is not listed; allow it with --allow-origin",
                "its page is not listed; allow it with FURTHER_LINK_ALLOW_ORIGINS"
            ),
            Self::NoOrigin => setting!(
                "a program that names no page, and does not call this device localhost; give it a token with \
                 --token-file, or allow all with --allow-no-origin",
                "a program that names no page, and does not call this device localhost; give it a token with \
                 FURTHER_LINK_TOKEN_FILE, or allow all with FURTHER_LINK_ALLOW_NO_ORIGIN"
            ),
            Self::NoToken => setting!(
                "it has not shown the token of --token-file",
                "it has not shown the token of FURTHER_LINK_TOKEN_FILE"
            ),
            Self::WrongToken => setting!(
                "its token is not that of --token-file",
                "its token is not that of FURTHER_LINK_TOKEN_FILE"
            ),
        }
    }
}
