//! The upgrade of a request to a WebSocket. It is done here, since warp's own WebSocket hides the buffer
//! sizes.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tracing::debug;
use warp::reply::Response;

use crate::reply::text;

/// RFC 6455, section 4.2: the handshake's second half.
pub(crate) fn upgrade_to_websocket<F>(
    headers: &HeaderMap,
    upgrade: Option<OnUpgrade>,
    serve: impl FnOnce(TokioIo<Upgraded>) -> F + Send + 'static,
) -> Response
where
    F: Future<Output = ()> + Send,
{
    let has = |name, token: &str| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case(token))
    };
    let (true, true, Some(upgrade)) =
        (has(header::UPGRADE, "websocket"), has(header::CONNECTION, "upgrade"), upgrade)
    else {
        return text(
            StatusCode::BAD_REQUEST,
            "No WebSocket UPGRADE header found: connect here with a WebSocket client.",
        );
    };
    let Some(key) = headers.get(header::SEC_WEBSOCKET_KEY) else {
        return text(StatusCode::BAD_REQUEST, "The Sec-WebSocket-Key header is missing.");
    };
    if !is_key(key) {
        return text(
            StatusCode::BAD_REQUEST,
            "The Sec-WebSocket-Key header has to be the base64 of 16 bytes.",
        );
    }
    if !has(header::SEC_WEBSOCKET_VERSION, "13") {
        let mut response =
            text(StatusCode::UPGRADE_REQUIRED, "This server speaks version 13 of the WebSocket protocol.");
        response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return response;
    }
    let accept = derive_accept_key(key.as_bytes());
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => serve(TokioIo::new(upgraded)).await,
            Err(error) => debug!("upgrade: {error}"),
        }
    });
    let mut response = Response::default();
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    if let Ok(accept) = HeaderValue::try_from(accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}

/// RFC 6455, section 4.2.1, point 5.
fn is_key(key: &HeaderValue) -> bool {
    STANDARD.decode(key.as_bytes().trim_ascii()).is_ok_and(|bytes| bytes.len() == 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_base64_of_16_bytes() {
        assert!(is_key(&HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==")), "the RFC's");
        for wrong in
            ["", "short", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZSE=", "dGhl IHNhbXBsZSBub25jZQ=="]
        {
            assert!(!is_key(&HeaderValue::from_static(wrong)), "{wrong:?}");
        }
    }
}
