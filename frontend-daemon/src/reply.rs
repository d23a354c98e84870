//! Answers to HTTP requests: plain texts and small pages, with the headers that each of them carries.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use warp::reply::Response;

/// How a request came about, as every current browser says (Fetch Metadata, W3C).
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
/// Nothing is loaded, nothing runs, and no page may show the answer in a frame.
pub(crate) const TEXT_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";
/// A page's style stands in the page itself.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; \
    base-uri 'none'; frame-ancestors 'none'";
/// Before and after the title, and after the body.
const PAGE: [&str; 3] = [
    "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
     <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
     <link rel=\"icon\" href=\"data:,\">\n<title>",
    "</title>\n<style>\n\
     body { font: 1.1rem/1.5 system-ui, sans-serif; max-width: 38rem; margin: 2rem auto; padding: 0 1rem; }\n\
     code { font-size: 0.95em; overflow-wrap: anywhere; }\n\
     .warning { border-left: 0.3rem solid #b00020; padding-left: 0.8rem; }\n\
     :root { color-scheme: light dark; }\n</style>\n<main>\n",
    "</main>\n</html>\n",
];

/// A plain answer. No browser is to keep it, to take it for something else, or to show it in a page.
pub(crate) fn text(status: StatusCode, body: impl Into<String>) -> Response {
    answer(status, body.into(), "text/plain; charset=utf-8", TEXT_POLICY)
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Response {
    let mut response = text(status, "");
    response.headers_mut().remove(header::CONTENT_TYPE);
    response
}

/// A page for a person, without scripts. `body` is HTML.
pub(crate) fn page(status: StatusCode, title: &str, body: &str) -> Response {
    answer(status, page_text(title, body), "text/html; charset=utf-8", PAGE_POLICY)
}

/// The HTML of a page.
pub(crate) fn page_text(title: &str, body: &str) -> String {
    let [before, between, after] = PAGE;
    format!("{before}{title}{between}<h1>{title}</h1>\n{body}{after}")
}

/// Whether a browser asks because a person goes to this address. Older ones are known by what they accept.
pub(crate) fn is_navigation(headers: &HeaderMap) -> bool {
    let value = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match value(SEC_FETCH_MODE) {
        Some(mode) => mode == "navigate",
        None => value(header::ACCEPT).is_some_and(|accept| accept.contains("text/html")),
    }
}

fn answer(status: StatusCode, body: String, content_type: &'static str, policy: &'static str) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    response
}

/// 405, with the methods that the path allows.
pub(crate) fn method_not_allowed(allowed: &'static str) -> Response {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed");
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}
