//! What the browser of a page is told (B2): answers to preflights, and that a page may read an answer. Which
//! pages may is decided in `access` before anything here is asked.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use warp::reply::Response;

use crate::reply::text;

/// Told to browsers that ask before they let a public page talk to a private address (B2.4).
const PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");

/// The answer to a preflight (B2.2, B2.3), if the request is one. What it asks for is decided when it comes.
pub(crate) fn preflight(method: &Method, headers: &HeaderMap) -> Option<Response> {
    if method != Method::OPTIONS || !headers.contains_key(header::ORIGIN) {
        return None;
    }
    let Some(asked) = headers.get(header::ACCESS_CONTROL_REQUEST_METHOD) else {
        return Some(text(StatusCode::FORBIDDEN, "403: the Access-Control-Request-Method header is missing"));
    };
    let mut response = text(StatusCode::OK, "");
    let answer = response.headers_mut();
    answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, asked.clone());
    if let Some(names) = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        let upper = names.as_bytes().to_ascii_uppercase();
        if let Ok(upper) = HeaderValue::from_bytes(&upper) {
            answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, upper);
        }
    }
    Some(response)
}

/// Lets the page that asked, which has been decided on, read the answer (B2.1).
pub(crate) fn share(response: &mut Response, origin: HeaderValue) {
    let names: Vec<_> = response.headers().keys().map(HeaderName::as_str).collect();
    let exposed = HeaderValue::try_from(names.join(","));
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    headers.insert(PRIVATE_NETWORK, HeaderValue::from_static("true"));
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    if let Ok(exposed) = exposed {
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
}
