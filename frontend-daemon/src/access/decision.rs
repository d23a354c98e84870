//! Which requests are served at all: decided once for each, upgrades and preflights included, before it is
//! routed and before anything of its body is read. `refused` has the answers; `tokens` slows down guessing.
//!
//! A web page cannot choose its `Origin`, so a page that is not listed gets nowhere (D2). A page whose name
//! was made to point at this device (DNS rebinding) is told by `Host`. Names are compared whole: never a
//! suffix of `pi-top.com`, where anyone can get a name for any address. A program that is no browser can send
//! any header: only the token counts there.

use std::{
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use further_link_proto::Token;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use percent_encoding::percent_decode_str;

use crate::{
    access::caller::Caller, access::cookie, access::refused::Refused, config::Config, device::DEVICE_DOMAIN,
    device::names::host_names,
};

/// The page that clients of the original come from.
pub(crate) const DEFAULT_ORIGIN: &str = "https://further.pi-top.com";
/// How a page's request came about, as every current browser says (Fetch Metadata, W3C).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// Headers of proxies (RFC 7239, RFC 9110, and what nginx, Apache, caddy and traefik send).
const PROXY_HEADERS: [&str; 3] = ["forwarded", "via", "x-real-ip"];
const PROXY_HEADER_PREFIX: &str = "x-forwarded-";
/// Harmless, and what people and monitoring look at first: no token, no origin.
const OPEN_PATHS: [&str; 7] = [
    "/",
    "/status",
    "/version",
    "/certificate",
    "/certificate.pem",
    "/certificate.crt",
    "/certificate.mobileconfig",
];
/// The files of the page, which are the same for everybody: no token, and no page but the device's own.
const PAGE_FILES: &str = "/page/";
/// An unknown name makes this process look for a new host name, this often at the most.
const NAMES_INTERVAL: Duration = Duration::from_secs(1);
/// The query parameter for clients that cannot set headers: browsers, for a WebSocket.
const TOKEN_PARAMETER: &str = "token";

/// The rules of access.
pub(crate) struct Access {
    origins: Vec<String>,
    /// Names that the settings add.
    hosts: Vec<String>,
    device: DeviceNames,
    /// Whether this server speaks TLS.
    tls: bool,
    /// Serve what names no origin, from anywhere.
    no_origin: bool,
    /// If set, every request except [`OPEN_PATHS`] and [`PAGE_FILES`] must present it.
    token: Option<Token>,
}

/// What is decided on.
#[derive(Clone, Copy)]
pub(crate) struct RequestHead<'a> {
    pub(crate) method: &'a Method,
    pub(crate) uri: &'a Uri,
    pub(crate) headers: &'a HeaderMap,
    /// The address that the client has reached.
    pub(crate) local: IpAddr,
    /// The client's address.
    pub(crate) peer: IpAddr,
}

impl Access {
    /// The configured origins and host names, as `config` has checked and lowered them, beside the usual
    /// ones.
    pub(crate) fn new(config: &Config, token: Option<Token>) -> Self {
        // An unset variable of a unit file is one empty name, which must not let in requests that name
        // nothing.
        let filled =
            |names: &[String]| names.iter().filter(|name| !name.is_empty()).cloned().collect::<Vec<_>>();
        let mut hosts = filled(&config.allow_hosts);
        hosts.push("localhost".to_owned());
        let mut origins = filled(&config.allow_origins);
        origins.push(DEFAULT_ORIGIN.to_owned());
        let device = DeviceNames::default();
        Self { origins, hosts, device, tls: !config.no_tls, no_origin: config.allow_no_origin, token }
    }

    /// What gives a browser the cookie for the token, if there is one.
    pub(crate) fn cookie(&self) -> Option<String> {
        self.token.as_ref().map(|secret| cookie::given(secret, self.tls))
    }

    /// What takes the cookie from a browser.
    pub(crate) fn no_cookie(&self) -> String {
        cookie::taken(self.tls)
    }

    /// Whether clients need a token.
    pub(crate) fn wants_token(&self) -> bool {
        self.token.is_some()
    }

    /// The names that the settings give to this device.
    pub(crate) fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// Whether a request names one host: RFC 9112 (3.2) wants 400 for one that names several.
    pub(crate) fn names_one_host(uri: &Uri, headers: &HeaderMap) -> bool {
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = hosts.next();
        let absolute = uri.authority().map(http::uri::Authority::as_str);
        let is_same = |host: &HeaderValue| {
            absolute.is_none_or(|absolute| host.as_bytes().eq_ignore_ascii_case(absolute.as_bytes()))
        };
        hosts.next().is_none() && host.is_none_or(is_same)
    }

    /// Decides whether a request is served, and names the caller.
    pub(crate) fn decide(&self, asked: RequestHead<'_>) -> Result<Caller, Refused> {
        let host = asked.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        if !self.is_this_device(host_name(host), asked.local) {
            return Err(Refused::Host);
        }
        let origin = asked.headers.get(header::ORIGIN);
        if origin.is_some_and(|origin| !self.is_listed(origin, host)) {
            return Err(Refused::Origin);
        }
        // Browsers ask without the token whether they may ask with it; the answer says nothing that is not
        // public.
        let preflight = asked.method == Method::OPTIONS && origin.is_some();
        if preflight || OPEN_PATHS.contains(&asked.uri.path()) {
            return Ok(Caller::Public);
        }
        if origin.is_none() && from_foreign_page(asked.headers) {
            return Err(Refused::Origin);
        }
        if asked.uri.path().starts_with(PAGE_FILES) {
            return Ok(Caller::Public);
        }
        if let Some(secret) = &self.token {
            // Only pages of this device have it, and who types an address. What another page sends is not
            // looked at, whatever its browser thinks of SameSite: to that, ports of a host are one site.
            let may_have_cookie = match origin {
                Some(origin) => origin.to_str().is_ok_and(|origin| self.is_own(origin, host)),
                None => is_typed(asked.headers) || self.comes_from_own_page(asked.headers, host),
            };
            let shown = match shows(asked, secret) {
                Err(Refused::NoToken)
                    if may_have_cookie && cookie::is_shown(asked.headers, secret, self.tls) =>
                {
                    Ok(())
                }
                shown => shown,
            };
            return shown.map(|()| Caller::Token);
        }
        match origin.and_then(|origin| origin.to_str().ok()) {
            Some(origin) => Ok(Caller::Page(origin.to_owned())),
            None if is_local(asked.peer, host_name(host)) && !is_passed_on(asked.headers) => {
                Ok(Caller::Local)
            }
            None if self.comes_from_own_page(asked.headers, host) => Ok(Caller::Page(host.to_owned())),
            None if self.no_origin => Ok(Caller::NoOrigin),
            None => Err(Refused::NoOrigin),
        }
    }

    fn is_this_device(&self, name: &str, local: IpAddr) -> bool {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let dashed = name.strip_suffix(DEVICE_DOMAIN).map(|address| address.replace('-', "."));
        match literal(dashed.as_deref().unwrap_or(&name)) {
            Some(address) => address == local.to_canonical(),
            None => self.hosts.contains(&name) || self.device.contains(&name),
        }
    }

    /// A listed origin, or the page of this very server.
    fn is_listed(&self, origin: &HeaderValue, host: &str) -> bool {
        let is_one =
            |origin: &str| self.origins.contains(&origin.to_ascii_lowercase()) || self.is_own(origin, host);
        origin.to_str().is_ok_and(is_one)
    }

    /// Whether a page of this very server asks for something of it: then browsers name no origin. They say
    /// `Sec-Fetch-Site` where there is TLS, and give the page's address as `Referer` otherwise.
    fn comes_from_own_page(&self, headers: &HeaderMap, host: &str) -> bool {
        let mut sites = headers.get_all(SEC_FETCH_SITE).iter().peekable();
        if sites.peek().is_some() {
            return sites.all(|site| site == "same-origin");
        }
        let referer = headers.get(header::REFERER).and_then(|referer| Uri::try_from(referer.as_bytes()).ok());
        let origin = referer.and_then(|page| Some(format!("{}://{}", page.scheme()?, page.authority()?)));
        origin.is_some_and(|origin| self.is_own(&origin, host))
    }

    /// The page of this very server. Without TLS of ours a proxy may have put TLS before it.
    fn is_own(&self, origin: &str, host: &str) -> bool {
        let origin = origin.to_ascii_lowercase();
        let plain = || origin.strip_prefix("http://").filter(|_| !self.tls);
        let own = origin.strip_prefix("https://").or_else(plain);
        own.is_some_and(|own| own.eq_ignore_ascii_case(host))
    }
}

/// The host names of the device, which may change while this runs.
#[derive(Default)]
struct DeviceNames(Mutex<Option<(Instant, Vec<String>)>>);

impl DeviceNames {
    /// Whether this is a name of the device. A name on the local network may have got a number from avahi,
    /// since another device has the same (`pi-2.local`): it is the device's by the same right.
    fn contains(&self, name: &str) -> bool {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = |names: &[String]| {
            let unnumbered = without_number(name);
            names.iter().any(|known| known == name || Some(known) == unnumbered.as_ref())
        };
        match &*names {
            Some((_, known)) if is_known(known) => return true,
            Some((read, _)) if read.elapsed() < NAMES_INTERVAL => return false,
            _ => {}
        }
        let current = host_names();
        let known = is_known(&current);
        *names = Some((Instant::now(), current));
        known
    }
}

/// `pi.local` of `pi-2.local`.
fn without_number(name: &str) -> Option<String> {
    let (host, number) = name.strip_suffix(".local")?.rsplit_once('-')?;
    let is_number =
        !number.is_empty() && number.len() < 4 && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| format!("{host}.local"))
}

/// A browser does not name the origin of a page that only links here or shows something from here.
fn from_foreign_page(headers: &HeaderMap) -> bool {
    headers.get_all(SEC_FETCH_SITE).iter().any(|site| site != "same-origin" && site != "none")
}

/// Whether a browser says that no page asks, but the person.
fn is_typed(headers: &HeaderMap) -> bool {
    let mut sites = headers.get_all(SEC_FETCH_SITE).iter().peekable();
    sites.peek().is_some() && sites.all(|site| site == "none")
}

/// Whether a proxy says that it passes the request on for another machine.
fn is_passed_on(headers: &HeaderMap) -> bool {
    headers
        .keys()
        .any(|name| PROXY_HEADERS.contains(&name.as_str()) || name.as_str().starts_with(PROXY_HEADER_PREFIX))
}

/// A program on this machine that calls it so. By another name the connection may come from another machine,
/// passed on by a program here (a reverse proxy, a forwarded port).
fn is_local(peer: IpAddr, host_name: &str) -> bool {
    let name = host_name.strip_suffix('.').unwrap_or(host_name);
    let named = name.eq_ignore_ascii_case("localhost") || literal(name).is_some_and(|ip| ip.is_loopback());
    named && peer.to_canonical().is_loopback()
}

/// Whether the request has the token, in the header or in the query.
fn shows(asked: RequestHead<'_>, secret: &Token) -> Result<(), Refused> {
    let header = asked.headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap_or_default());
    let shown = match header {
        Some(header) => header.split_once(' ').map(|(scheme, token)| (scheme, token.trim().to_owned())),
        None => parameter(asked.uri, TOKEN_PARAMETER).map(|token| ("Bearer", token)),
    };
    match shown {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("Bearer") && !token.is_empty() => {
            let right = Token::new(token).is_ok_and(|token| token.is(secret));
            right.then_some(()).ok_or(Refused::WrongToken)
        }
        _ => Err(Refused::NoToken),
    }
}

/// The first value of a query parameter.
fn parameter(uri: &Uri, name: &str) -> Option<String> {
    let mut pairs = uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(key, _)| *key == name)?;
    Some(percent_decode_str(value).decode_utf8_lossy().into_owned())
}

/// An address as it stands in a `Host`: IPv6 in brackets (RFC 3986, 3.2.2). Some clients leave them out.
fn literal(name: &str) -> Option<IpAddr> {
    let address = match name.strip_prefix('[').map(|rest| rest.strip_suffix(']')) {
        Some(bracketed) => bracketed?.parse::<std::net::Ipv6Addr>().ok().map(IpAddr::V6),
        None => name.parse().ok(),
    };
    address.map(|address| address.to_canonical())
}

/// A host without its port. The port says nothing about whom the name belongs to.
fn host_name(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    const SECRET: &str = "0123456789-abcdefghijkl_ABCDEFGHIJKLMNOPQRS";

    fn access(options: &[&str], token: Option<&str>) -> Access {
        let config = Config::parse_from([&["further-link"], options].concat());
        Access::new(&config, token.map(|token| Token::new(token).unwrap()))
    }

    /// A request from another machine, unless told otherwise.
    #[derive(Clone, Copy)]
    struct Request<'a> {
        method: Verb,
        target: &'a str,
        headers: &'a [(HeaderName, &'a str)],
        local: &'a str,
        peer: &'a str,
    }

    #[derive(Clone, Copy)]
    enum Verb {
        Get,
        Options,
    }

    const RUN: Request<'_> = Request {
        method: Verb::Get,
        target: "/run",
        headers: &[],
        local: "::ffff:192.168.7.20",
        peer: "::ffff:192.168.7.99",
    };

    fn decide(access: &Access, request: Request<'_>) -> Result<(), Refused> {
        caller(access, request).map(drop)
    }

    fn caller(access: &Access, request: Request<'_>) -> Result<Caller, Refused> {
        let headers: HeaderMap = request
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()))
            .collect();
        let method = match request.method {
            Verb::Get => Method::GET,
            Verb::Options => Method::OPTIONS,
        };
        access.decide(RequestHead {
            method: &method,
            uri: &request.target.parse().unwrap(),
            headers: &headers,
            local: request.local.parse().unwrap(),
            peer: request.peer.parse().unwrap(),
        })
    }

    fn decided(host: &str, origin: Option<&str>) -> Result<(), Refused> {
        decided_with("--no-tls", host, origin)
    }

    fn decided_with(tls: &str, host: &str, origin: Option<&str>) -> Result<(), Refused> {
        let access = access(
            &["--allow-origin=https://Class.example:8443", "--allow-host=pi7.school.example", tls],
            None,
        );
        let mut headers = vec![(header::HOST, host)];
        headers.extend(origin.map(|origin| (header::ORIGIN, origin)));
        decide(&access, Request { target: "/status", headers: &headers, ..RUN })
    }

    #[test]
    fn a_name_that_avahi_has_numbered_is_the_devices() {
        assert_eq!(without_number("pi-2.local").as_deref(), Some("pi.local"));
        assert_eq!(without_number("further-link-12.local").as_deref(), Some("further-link.local"));
        for other in
            ["pi.local", "pi-2", "pi-.local", "pi-2a.local", "pi-12345.local", "-2", "pi-2.school.example"]
        {
            assert_eq!(without_number(other), None, "{other}");
        }
        let own = crate::device::names::local_names().remove(0);
        assert_eq!(decided(&own.replace(".local", "-2.local"), None), Ok(()));
        assert_eq!(decided("stranger-2.local", None), Err(Refused::Host));
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
        let access = access(&["--allow-host=", "--allow-origin="], None);
        assert!(!access.is_this_device("", "127.0.0.1".parse().unwrap()));
        assert!(access.hosts.iter().chain(&access.origins).all(|name| !name.is_empty()));
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
        assert_eq!(decided_with("--no-tls=0", host, own), Ok(()));
        let plain = Some("http://192.168.7.20:8028");
        assert_eq!(decided_with("--no-tls=0", host, plain), Err(Refused::Origin));
    }

    const LOCAL: Request<'_> =
        Request { local: "127.0.0.1", peer: "127.0.0.1", headers: &[(header::HOST, "localhost")], ..RUN };
    const THERE: (HeaderName, &str) = (header::HOST, "192.168.7.20:8028");
    const LISTED: (HeaderName, &str) = (header::ORIGIN, "https://further.pi-top.com");

    #[test]
    fn without_an_origin_only_this_machine_gets_in_by_its_own_name() {
        let usual = access(&[], None);
        for host in ["localhost:8028", "LOCALHOST.", "127.0.0.1", "127.0.0.1:8028"] {
            let headers = &[(header::HOST, host)];
            assert_eq!(decide(&usual, Request { headers, ..LOCAL }), Ok(()), "{host}");
        }
        let loopback = Request { local: "::1", peer: "::1", headers: &[(header::HOST, "[::1]:8028")], ..RUN };
        assert_eq!(decide(&usual, loopback), Ok(()));
        // Passed on by something that runs here.
        let named = access(&["--allow-host=pi7.school.example"], None);
        let headers = &[(header::HOST, "pi7.school.example")];
        assert_eq!(decide(&named, Request { headers, ..LOCAL }), Err(Refused::NoOrigin));
        for target in ["/run", "/run-py", "/version/apt/bash", "/status/", "/nowhere", "//status"] {
            let request = Request { target, headers: &[THERE], ..RUN };
            assert_eq!(decide(&usual, request), Err(Refused::NoOrigin), "{target}");
            assert_eq!(decide(&usual, Request { headers: &[THERE, LISTED], ..request }), Ok(()), "{target}");
            assert_eq!(decide(&access(&["--allow-no-origin"], None), request), Ok(()), "{target}");
            let preflight = Request { method: Verb::Options, ..request };
            assert_eq!(decide(&usual, preflight), Err(Refused::NoOrigin), "{target}");
        }
        for target in ["/status", "/version", "/version?x=y", "/certificate", "/certificate.crt"] {
            assert_eq!(decide(&usual, Request { target, headers: &[THERE], ..RUN }), Ok(()), "{target}");
        }
    }

    #[test]
    fn a_foreign_page_without_an_origin_is_told_by_fetch_metadata() {
        let open = access(&["--allow-no-origin"], None);
        for (site, expected) in [
            ("none", Ok(())),
            ("same-origin", Ok(())),
            ("cross-site", Err(Refused::Origin)),
            ("same-site", Err(Refused::Origin)),
            ("", Err(Refused::Origin)),
        ] {
            let headers = &[THERE, (SEC_FETCH_SITE, site)];
            assert_eq!(decide(&open, Request { headers, ..RUN }), expected, "{site}");
            let headers = &[THERE, (SEC_FETCH_SITE, site), LISTED];
            assert_eq!(decide(&open, Request { headers, ..RUN }), Ok(()), "{site}, listed");
            let headers = &[(header::HOST, "localhost"), (SEC_FETCH_SITE, site)];
            assert_eq!(decide(&open, Request { headers, ..LOCAL }), expected, "{site}, local");
        }
    }

    #[test]
    fn with_a_token_everything_but_status_and_version_needs_it() {
        let guarded = access(&["--allow-no-origin"], Some(SECRET));
        let right = format!("Bearer {SECRET}");
        let wrong = format!("bearer {}", SECRET.replace('S', "T"));
        for (header, expected) in [
            (right.as_str(), Ok(())),
            (&right.replace("Bearer ", "bEARER  "), Ok(())),
            (&wrong, Err(Refused::WrongToken)),
            (&format!("{right}x"), Err(Refused::WrongToken)),
            (&right[..right.len() - 1], Err(Refused::WrongToken)),
            (&format!("Basic {SECRET}"), Err(Refused::NoToken)),
            (SECRET, Err(Refused::NoToken)),
            ("Bearer ", Err(Refused::NoToken)),
            ("", Err(Refused::NoToken)),
        ] {
            let shown = (header::AUTHORIZATION, header);
            for headers in [&[THERE, shown.clone()][..], &[THERE, LISTED, shown.clone()]] {
                assert_eq!(decide(&guarded, Request { headers, ..RUN }), expected, "{header}");
            }
            let evil = (header::ORIGIN, "https://evil.example");
            let refused = decide(&guarded, Request { headers: &[THERE, evil, shown], ..RUN });
            assert_eq!(refused, Err(Refused::Origin), "{header}: both are needed");
        }
        for (query, expected) in [
            (format!("user=pi&token={SECRET}"), Ok(())),
            (format!("token={}", SECRET.replace('-', "%2D")), Ok(())),
            (format!("token=x&token={SECRET}"), Err(Refused::WrongToken)),
            (format!("xtoken={SECRET}"), Err(Refused::NoToken)),
            ("token=".to_owned(), Err(Refused::NoToken)),
            ("token".to_owned(), Err(Refused::NoToken)),
        ] {
            let target = format!("/run?{query}");
            for request in [LOCAL, Request { headers: &[THERE, LISTED], ..RUN }] {
                let request = Request { target: &target, ..request };
                assert_eq!(decide(&guarded, request), expected, "{query}");
            }
        }
        for target in ["/run", "/version/apt/bash", "/upload", "/nowhere"] {
            assert_eq!(decide(&guarded, Request { target, ..LOCAL }), Err(Refused::NoToken), "{target}");
        }
        assert_eq!(decide(&guarded, Request { target: "/status", ..LOCAL }), Ok(()));
        let preflight = Request { method: Verb::Options, headers: &[THERE, LISTED], ..RUN };
        assert_eq!(decide(&guarded, preflight), Ok(()));
    }

    #[test]
    fn the_files_of_the_page_are_for_everybody_but_other_pages() {
        let file = |access: &Access, headers: &[(HeaderName, &str)]| {
            let headers = [&[THERE][..], headers].concat();
            decide(access, Request { target: "/page/main.0123456789abcdef.js", headers: &headers, ..RUN })
        };
        for access in [access(&[], None), access(&[], Some(SECRET))] {
            assert_eq!(file(&access, &[]), Ok(()));
            assert_eq!(file(&access, &[(SEC_FETCH_SITE, "same-origin")]), Ok(()));
            for site in ["cross-site", "same-site"] {
                assert_eq!(file(&access, &[(SEC_FETCH_SITE, site)]), Err(Refused::Origin), "{site}");
            }
            assert_eq!(file(&access, &[(header::ORIGIN, "https://evil.example")]), Err(Refused::Origin));
        }
    }

    #[test]
    fn a_page_of_this_device_reads_from_another_machine_without_naming_its_origin() {
        let usual = access(&[], None);
        let with = |access: &Access, headers: &[(HeaderName, &str)]| {
            let headers = [&[THERE][..], headers].concat();
            decide(access, Request { headers: &headers, ..RUN })
        };
        let referer = |text| [(header::REFERER, text)];
        assert_eq!(with(&usual, &[]), Err(Refused::NoOrigin));
        assert_eq!(with(&usual, &[(SEC_FETCH_SITE, "same-origin")]), Ok(()));
        assert_eq!(
            with(&usual, &[(SEC_FETCH_SITE, "none")]),
            Err(Refused::NoOrigin),
            "an address that was typed"
        );
        assert_eq!(with(&usual, &referer("https://192.168.7.20:8028/?project=x")), Ok(()));
        let plain = access(&["--no-tls"], None);
        assert_eq!(with(&plain, &referer("http://192.168.7.20:8028/")), Ok(()));
        for other in [
            "http://192.168.7.20:8028/",
            "https://192.168.7.20/",
            "https://evil.example/?192.168.7.20:8028",
            "https://192.168.7.20:8028.evil.example/",
            "https://",
            "x",
        ] {
            assert_eq!(with(&usual, &referer(other)), Err(Refused::NoOrigin), "{other}");
        }
        let both = [(SEC_FETCH_SITE, "cross-site"), (header::REFERER, "https://192.168.7.20:8028/")];
        assert_eq!(with(&usual, &both), Err(Refused::Origin));
        assert_eq!(
            with(&access(&[], Some(SECRET)), &[(SEC_FETCH_SITE, "same-origin")]),
            Err(Refused::NoToken)
        );
    }

    #[test]
    fn a_cookie_counts_for_the_pages_of_this_device_only() {
        let guarded = access(&["--allow-origin", "https://teacher.example"], Some(SECRET));
        let given = guarded.cookie().unwrap();
        let pair = (header::COOKIE, given.split(';').next().unwrap());
        let with = |headers: &[(HeaderName, &str)]| {
            let headers = [&[THERE, pair.clone()][..], headers].concat();
            decide(&guarded, Request { headers: &headers, ..RUN })
        };
        let own = format!("https://{}", THERE.1);
        assert_eq!(with(&[(header::ORIGIN, &own)]), Ok(()));
        assert_eq!(with(&[(SEC_FETCH_SITE, "same-origin")]), Ok(()));
        assert_eq!(with(&[(SEC_FETCH_SITE, "none")]), Ok(()), "an address that was typed");
        assert_eq!(with(&[(header::REFERER, &format!("{own}/"))]), Ok(()), "an old browser");
        // Another port of this host, whose page may hide where it is.
        assert_eq!(with(&[]), Err(Refused::NoToken));
        assert_eq!(with(&[(header::REFERER, &format!("{own}0/"))]), Err(Refused::NoToken));
        // By the Origin alone, if a browser sent the cookie all the same.
        assert_eq!(with(&[(header::ORIGIN, "https://evil.example")]), Err(Refused::Origin));
        assert_eq!(with(&[(header::ORIGIN, "https://teacher.example")]), Err(Refused::NoToken));
        assert_eq!(with(&[(header::ORIGIN, "null")]), Err(Refused::Origin));
        assert_eq!(with(&[(SEC_FETCH_SITE, "cross-site")]), Err(Refused::Origin));
        assert_eq!(with(&[(header::AUTHORIZATION, "Bearer wrong")]), Err(Refused::WrongToken));
        let other = access(&[], Some("another-token-of-22-characters"));
        let headers = [THERE, pair];
        assert_eq!(decide(&other, Request { headers: &headers, ..RUN }), Err(Refused::NoToken));
    }

    #[test]
    fn a_request_names_one_host_or_none_is_believed() {
        let one = |target: &str, hosts: &[&str]| {
            let hosts = hosts.iter().map(|host| (header::HOST, HeaderValue::from_str(host).unwrap()));
            Access::names_one_host(&target.parse().unwrap(), &hosts.collect())
        };
        assert!(one("/run", &["localhost"]));
        assert!(one("/run", &[]), "HTTP/1.0: refused by name");
        assert!(!one("/run", &["localhost", "localhost"]));
        assert!(one("http://pi:8028/run", &["PI:8028"]));
        assert!(!one("http://pi/run", &["evil.example"]));
    }

    #[test]
    fn what_a_proxy_passes_on_is_not_local_and_addresses_have_whole_brackets() {
        let access = access(&[], None);
        let local = |host, headers: &[(&'static str, &str)]| {
            let headers: Vec<_> = headers
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), *value))
                .chain([(header::HOST, host)])
                .collect();
            caller(&access, Request { headers: &headers, local: "127.0.0.1", peer: "127.0.0.1", ..RUN })
        };
        assert_eq!(local("127.0.0.1", &[]), Ok(Caller::Local));
        for name in ["forwarded", "via", "x-real-ip", "x-forwarded-for", "x-forwarded-proto"] {
            assert_eq!(local("127.0.0.1", &[(name, "192.0.2.9")]), Err(Refused::NoOrigin), "{name}");
        }
        for host in ["[127.0.0.1]", "[127.0.0.1", "127.0.0.1]", "]]127.0.0.1[["] {
            assert_eq!(local(host, &[]), Err(Refused::Host), "{host}");
        }
        let site = [("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")];
        assert_eq!(local("localhost", &site), Err(Refused::Origin), "the second one counts as well");
    }

    #[test]
    fn the_decision_says_who_asks() {
        let page = [THERE, LISTED];
        let of_page = Caller::Page("https://further.pi-top.com".to_owned());
        let usual = access(&[], None);
        assert_eq!(caller(&usual, Request { headers: &page, ..RUN }), Ok(of_page));
        assert_eq!(caller(&usual, Request { target: "/status", headers: &page, ..RUN }), Ok(Caller::Public));
        let open = access(&["--allow-no-origin"], None);
        assert_eq!(caller(&open, Request { headers: &[THERE], ..RUN }), Ok(Caller::NoOrigin));
        let target = format!("/run?token={SECRET}");
        let request = Request { target: &target, headers: &[THERE], ..RUN };
        assert_eq!(caller(&access(&[], Some(SECRET)), request), Ok(Caller::Token));
    }
}
