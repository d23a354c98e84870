//! `GET /` where there is no page for browsers (`app_page`), and for what is no browser. No secrets, for
//! every client, without scripts.
//!
//! A browser that shows it has accepted the certificate: that is what many come here for.

use http::StatusCode;
use warp::reply::Response;

use crate::{access::DEFAULT_ORIGIN, config::setting, reply::page};

const TOKEN_FILE: &str = setting!("--token-file", "FURTHER_LINK_TOKEN_FILE");

/// How the browser has come to this page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Http,
    /// With the certificate that the device has made itself.
    OwnCertificate,
    /// With the administrator's.
    OtherCertificate,
}

/// The clients that may run programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entrance {
    /// Clients with the token.
    Token,
    /// Clients on the network.
    Network,
    /// Clients on this device.
    Device,
}

/// The answer. `missing` says why there is no page for browsers.
pub(crate) fn response(transport: Transport, entrance: Entrance, missing: Option<&str>) -> Response {
    page(StatusCode::OK, "further-link", &body(transport, entrance, missing))
}

fn body(transport: Transport, entrance: Entrance, missing: Option<&str>) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let accepted = match transport {
        Transport::Http => "",
        Transport::OwnCertificate | Transport::OtherCertificate => {
            "<p>Your browser has accepted this device's certificate. You can go back to your editor now, and connect.</p>\n"
        }
    };
    let install = match transport {
        Transport::OwnCertificate => {
            "<p>To be asked no more, on this computer, tablet or phone: <a href=\"/certificate\">install the device's \
             certificate authority</a>. Compare its fingerprint with the one that <code>further-link fingerprint</code> \
             prints on the device.</p>\n"
        }
        Transport::Http | Transport::OtherCertificate => "",
    };
    let open = format!(
        "<p class=\"warning\"><strong>This device is open to its network:</strong> any machine that reaches it can run \
         programs here. To close it, make a token with <code>further-link token</code>, and name its file with \
         <code>{TOKEN_FILE}</code>.</p>\n"
    );
    let who = match entrance {
        Entrance::Token => {
            "<p>Programs run only for clients that have the device's token. Whoever looks after the device gets it with \
             <code>further-link token</code>. A client shows it in the address, as <code>/run?token=…</code>, or in the \
             header <code>Authorization: Bearer …</code>.</p>\n"
        }
        Entrance::Network => &open,
        Entrance::Device => "",
    };
    let missing = missing.map_or_else(String::new, |missing| {
        format!("<p>There is no page with an editor here: {}.</p>\n", escaped(missing))
    });
    format!(
        "<p>This device runs programs for an editor in your browser. It is ready (version {version}).</p>\n{accepted}\
         <p>An editor that works with it: <a href=\"{DEFAULT_ORIGIN}\">{DEFAULT_ORIGIN}</a>.</p>\n{install}{who}{missing}"
    )
}

/// Text as HTML writes it.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_device_says_so_and_one_with_a_token_or_on_loopback_does_not() {
        let says_so = |entrance| body(Transport::Http, entrance, None).contains("open to its network");
        assert!(says_so(Entrance::Network));
        assert!(!says_so(Entrance::Token) && !says_so(Entrance::Device));
    }

    #[test]
    fn the_certificate_is_spoken_of_where_there_is_one() {
        let page = |transport| body(transport, Entrance::Device, None);
        assert!(page(Transport::OwnCertificate).contains("accepted this device's certificate"));
        assert!(page(Transport::OwnCertificate).contains("href=\"/certificate\""));
        assert!(!page(Transport::OtherCertificate).contains("href=\"/certificate\""));
        assert!(!page(Transport::Http).contains("certificate"));
    }

    #[test]
    fn what_is_missing_is_said_and_is_no_html() {
        let page = body(Transport::Http, Entrance::Device, Some("npm <1>"));
        assert!(page.contains("There is no page with an editor here: npm &lt;1&gt;."), "{page}");
    }
}
