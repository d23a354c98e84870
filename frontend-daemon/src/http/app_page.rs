//! The page for browsers: `GET /` for a person who goes there, and its files below `/page/`.
//!
//! Nothing in it is secret, and nothing depends on who asks: the page itself asks for what is only for those
//! who get in. Everything that is no browser gets `front_page` at `/`, and so do browsers where no page is
//! built in.

use std::io;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use further_link_page::{PAGE, Page};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use ring::digest::{SHA256, digest};
use warp::reply::Response;

use crate::{
    http::front_page::{Entrance, Transport},
    random,
    reply::{TEXT_POLICY, text},
    workdir::tag,
};

/// Random bytes of the word that lets the page's scripts make styles (Content Security Policy 3, 2.3.1: 128
/// bits).
const NONCE: usize = 16;
/// Names have the hash of their content.
const FOR_EVER: &str = "public, max-age=31536000, immutable";
/// Kept by browsers, which ask each time whether it is still the same.
const ASK_AGAIN: &str = "no-cache";
/// Other pages get neither a part of the page nor a handle of its window, and links tell them nothing.
const APART: [(HeaderName, &str); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// The page, as this process serves it.
pub(crate) struct AppPage {
    page: Page,
    /// For the life of this process, so that a page which a browser has kept stays right.
    nonce: String,
    policy: HeaderValue,
}

impl AppPage {
    /// The page that is built in, or a sentence about what was missing.
    pub(crate) fn new() -> io::Result<Result<Self, &'static str>> {
        let page = match PAGE {
            Ok(page) => page,
            Err(missing) => return Ok(Err(missing)),
        };
        let nonce = random::text::<NONCE>()?;
        let policy = policy(page.import_map, &nonce).try_into().map_err(io::Error::other)?;
        Ok(Ok(Self { page, nonce, policy }))
    }

    /// The HTML, or that what the browser has is the same.
    pub(crate) fn index(&self, headers: &HeaderMap, transport: Transport, entrance: Entrance) -> Response {
        let device = about(transport, entrance).replace('"', "&quot;");
        let html = self.page.index.replace("{{nonce}}", &self.nonce).replace("{{device}}", &device);
        let tag = format!("\"{}\"", STANDARD.encode(digest(&SHA256, html.as_bytes())));
        let is_known = tag::is_known(headers, &tag);
        let mut response = if is_known { Response::default() } else { Response::new(html.into()) };
        if is_known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        apart(&mut response);
        let answer = response.headers_mut();
        answer.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        answer.insert(header::CONTENT_SECURITY_POLICY, self.policy.clone());
        answer.insert(header::CACHE_CONTROL, HeaderValue::from_static(ASK_AGAIN));
        // What is no browser gets another answer.
        answer.insert(header::VARY, HeaderValue::from_static("Sec-Fetch-Mode, Accept"));
        if let Ok(tag) = tag.try_into() {
            answer.insert(header::ETAG, tag);
        }
        response
    }

    /// A file below `/page/`, by its name.
    pub(crate) fn file(&self, headers: &HeaderMap, name: &str) -> Response {
        let Some(file) = self.page.file(name) else {
            return text(StatusCode::NOT_FOUND, "404: Not Found");
        };
        if !takes_gzip(headers) {
            return text(StatusCode::NOT_ACCEPTABLE, "406: this file is there compressed only; accept gzip");
        }
        let mut response = Response::new(Bytes::from_static(file.gzip).into());
        apart(&mut response);
        let answer = response.headers_mut();
        answer.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.content_type));
        answer.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        answer.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(TEXT_POLICY));
        answer.insert(header::CACHE_CONTROL, HeaderValue::from_static(FOR_EVER));
        answer.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        response
    }
}

fn apart(response: &mut Response) {
    for (name, value) in APART {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
}

/// Scripts come from this server alone, and none stands in the page but the import map. Styles that scripts
/// make carry the nonce; terminals and editors set `style` attributes, which can run nothing.
fn policy(import_map: &str, nonce: &str) -> String {
    format!(
        "default-src 'none'; script-src 'self' '{import_map}'; style-src-elem 'self' 'nonce-{nonce}'; \
         style-src-attr 'unsafe-inline'; connect-src 'self'; img-src 'self' data: blob:; media-src blob:; \
         font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'"
    )
}

/// What the page has to know before it asks for anything, as JSON without a character that HTML knows, but
/// for the quotes.
fn about(transport: Transport, entrance: Entrance) -> String {
    let certificate = match transport {
        Transport::Http => "none",
        Transport::OwnCertificate => "own",
        Transport::OtherCertificate => "other",
    };
    let access = match entrance {
        Entrance::Token => "token",
        Entrance::Network => "network",
        Entrance::Device => "device",
    };
    let version = env!("CARGO_PKG_VERSION");
    serde_json::json!({ "version": version, "certificate": certificate, "access": access }).to_string()
}

/// Without the header everything is accepted (RFC 9110, 12.5.3).
fn takes_gzip(headers: &HeaderMap) -> bool {
    let Some(accepted) = headers.get(header::ACCEPT_ENCODING) else { return true };
    accepted.to_str().unwrap_or_default().split(',').any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let is_refused = weight.trim().strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0_f32));
        ["gzip", "x-gzip", "*"].contains(&name.trim().to_ascii_lowercase().as_str()) && !is_refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressed_files_go_to_those_who_take_them() {
        let takes = |value: &'static str| {
            takes_gzip(&[(header::ACCEPT_ENCODING, HeaderValue::from_static(value))].into_iter().collect())
        };
        assert!(takes_gzip(&HeaderMap::new()));
        for value in ["gzip", "gzip, deflate, br, zstd", "br, GZIP;q=0.5", "*", "x-gzip"] {
            assert!(takes(value), "{value}");
        }
        for value in ["", "identity", "br", "gzip;q=0", "gzip; q=0.0, br"] {
            assert!(!takes(value), "{value}");
        }
    }

    #[test]
    fn the_page_is_told_how_it_came_and_who_gets_in() {
        let json = about(Transport::OwnCertificate, Entrance::Token);
        let told: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((told["certificate"].as_str(), told["access"].as_str()), (Some("own"), Some("token")));
        assert!(!json.contains(['<', '>', '&', '\'']), "{json}");
    }
}
