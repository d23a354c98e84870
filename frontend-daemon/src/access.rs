//! Which requests are served at all: decided once for each, upgrades and preflights included, before it is routed and
//! before anything of its body is read.
//!
//! A web page cannot choose its `Origin`, so a page that is not listed gets nowhere (D2). A page whose name was made to
//! point at this device (DNS rebinding) is told by `Host`. Names are compared whole: never a suffix of `pi-top.com`, where
//! anybody can get a name for any address.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use tracing::warn;
use warp::reply::Response;

use crate::http::text;

/// The page that clients of the original come from.
const USUAL_ORIGIN: &str = "https://further.pi-top.com";
/// Names of devices in the original's domain: the address with dashes, before this (the public client's rule).
pub(crate) const DEVICE_DOMAIN: &str = ".further-link.pi-top.com";
/// Told to browsers that ask before they let a public page talk to a private address (B2.4).
const PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");

/// Who may come in.
pub(crate) struct Access {
    origins: Vec<String>,
    hosts: Vec<String>,
    tls: bool,
}

/// Why a request is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Host,
    Origin,
}

impl Access {
    /// The configured origins and host names beside the usual ones. `tls`: whether this server speaks it.
    pub(crate) fn new(origins: &[String], hosts: &[String], tls: bool) -> Self {
        let device = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
        // An unset variable of a unit file is one empty name, which must not let in requests that name nothing.
        let lower = |names: &[String]| {
            let filled = names.iter().map(|name| name.trim()).filter(|name| !name.is_empty());
            filled.map(str::to_ascii_lowercase).collect::<Vec<_>>()
        };
        let mut hosts = lower(hosts);
        hosts.extend(["localhost".to_owned(), format!("{device}.local"), device]);
        let mut origins = lower(origins);
        origins.push(USUAL_ORIGIN.to_owned());
        Self { origins, hosts, tls }
    }

    /// The names of this device, without those that are addresses with dashes.
    pub(crate) fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// Decides. `local` is the address that the client has reached.
    pub(crate) fn decide(&self, headers: &HeaderMap, local: IpAddr) -> Result<(), Refused> {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        if !self.is_this_device(host_name(host), local) {
            return Err(Refused::Host);
        }
        match headers.get(header::ORIGIN) {
            None => Ok(()),
            Some(origin) if self.is_listed(origin, host) => Ok(()),
            Some(_) => Err(Refused::Origin),
        }
    }

    fn is_this_device(&self, name: &str, local: IpAddr) -> bool {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let dashed = name.strip_suffix(DEVICE_DOMAIN).map(|address| address.replace('-', "."));
        let literal = dashed.as_deref().unwrap_or(&name).trim_matches(['[', ']']).parse::<IpAddr>();
        match literal {
            Ok(address) => address.to_canonical() == local.to_canonical(),
            Err(_) => self.hosts.contains(&name),
        }
    }

    /// A listed origin, or the page of this very server. Without TLS of ours a proxy may have put TLS before it.
    fn is_listed(&self, origin: &HeaderValue, host: &str) -> bool {
        let Ok(origin) = origin.to_str() else { return false };
        let origin = origin.to_ascii_lowercase();
        let plain = || origin.strip_prefix("http://").filter(|_| !self.tls);
        let own = origin.strip_prefix("https://").or_else(plain);
        self.origins.contains(&origin) || own.is_some_and(|own| own.eq_ignore_ascii_case(host))
    }
}

/// A host without its port. The port says nothing about whom the name belongs to.
fn host_name(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

impl Refused {
    /// The answer, and a line in the log that says what to change if it was meant to work. Nothing of the request is
    /// repeated in the answer.
    pub(crate) fn response(self, headers: &HeaderMap, client: SocketAddr) -> Response {
        let value = |name| {
            headers
                .get(name)
                .map(|value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        match self {
            Self::Host => {
                let host = value(header::HOST);
                warn!(?host, client = %client.ip(), "refused: not a name of this device (--allow-host, FURTHER_LINK_ALLOW_HOSTS)");
                text(StatusCode::MISDIRECTED_REQUEST, "421: Misdirected Request")
            }
            Self::Origin => {
                let origin = value(header::ORIGIN);
                warn!(?origin, client = %client.ip(), "refused: not a listed page (--allow-origin, FURTHER_LINK_ALLOW_ORIGINS)");
                text(StatusCode::FORBIDDEN, "403: Forbidden")
            }
        }
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(host: &str, origin: Option<&str>) -> Result<(), Refused> {
        decided_with(false, host, origin)
    }

    fn decided_with(tls: bool, host: &str, origin: Option<&str>) -> Result<(), Refused> {
        let access =
            Access::new(&["https://Class.example:8443".to_owned()], &["pi7.school.example".to_owned()], tls);
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
        }
        access.decide(&headers, "::ffff:192.168.7.20".parse().unwrap())
    }

    #[test]
    fn a_host_must_be_a_name_of_this_device() {
        for good in [
            "localhost",
            "localhost:8028",
            "LOCALHOST.:8028",
            "192.168.7.20",
            "192.168.7.20:8028",
            "192-168-7-20.further-link.pi-top.com:8028",
            "pi7.school.example",
            "PI7.school.example:443",
        ] {
            assert_eq!(decided(good, None), Ok(()), "{good}");
        }
        for bad in [
            "",
            "evil.example",
            "evil.example:8028",
            "localhost.evil.example",
            "192.168.7.21",
            "127.0.0.1",
            "192-168-7-21.further-link.pi-top.com",
            "192-168-7-20.further-link.pi-top.com.evil.example",
            "x.further-link.pi-top.com",
            "further-link.pi-top.com",
            "a.pi7.school.example",
            "[::1]",
        ] {
            assert_eq!(decided(bad, None), Err(Refused::Host), "{bad}");
        }
        let access = Access::new(&[], &[], false);
        assert!(!access.is_this_device("", "127.0.0.1".parse().unwrap()));
        assert!(
            Access::new(&[String::new()], &[String::new()], true).hosts.iter().all(|name| !name.is_empty())
        );
        for (host, local) in [("127.0.0.1:1", "127.0.0.1"), ("[::1]:8028", "::1"), ("[::1]", "::1")] {
            assert!(access.is_this_device(host_name(host), local.parse().unwrap()), "{host}");
        }
    }

    #[test]
    fn an_origin_must_be_listed_exactly_or_be_this_server() {
        for good in [
            "https://further.pi-top.com",
            "https://class.example:8443",
            "http://192.168.7.20:8028",
            "https://192.168.7.20:8028",
        ] {
            assert_eq!(decided("192.168.7.20:8028", Some(good)), Ok(()), "{good}");
        }
        for bad in [
            "null",
            "",
            "http://further.pi-top.com",
            "https://further.pi-top.com:444",
            "https://evil.pi-top.com",
            "https://further.pi-top.com.evil.example",
            "https://xfurther.pi-top.com",
            "https://evil.example",
            "https://1-2-3-4.further-link.pi-top.com",
            "https://class.example",
            "http://192.168.7.20",
            "http://192.168.7.21:8028",
            "http://localhost:8028",
            "https://further.pi-top.com ",
            "file://",
        ] {
            assert_eq!(decided("192.168.7.20:8028", Some(bad)), Err(Refused::Origin), "{bad}");
        }
    }

    #[test]
    fn with_tls_there_are_no_plain_pages_of_this_server() {
        let (host, own) = ("192.168.7.20:8028", Some("https://192.168.7.20:8028"));
        assert_eq!(decided_with(true, host, own), Ok(()));
        let plain = Some("http://192.168.7.20:8028");
        assert_eq!(decided_with(true, host, plain), Err(Refused::Origin));
    }
}
