//! The access decision, for any head of a request that hyper could hand over: it is held against rules that
//! are written down once more, and more simply, here.

use std::net::{IpAddr, Ipv4Addr};

use clap::Parser;
use further_link_proto::Token;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};

use crate::{
    access::refused::Refused,
    access::{Access, Caller, RequestHead},
    config::Config,
};

const SECRET: &str = "0123456789-abcdefghijkl_ABCDEFGHIJKLMNOPQRS";
const ORIGINS: [&str; 2] = ["https://further.pi-top.com", "https://class.example:8443"];
const DEVICE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 7, 20));
const NEIGHBOUR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 7, 99));
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// What the first byte chooses.
#[expect(clippy::struct_excessive_bools, reason = "each is a bit of the first byte")]
struct Chosen {
    token: bool,
    no_origin: bool,
    no_tls: bool,
    options: bool,
    local: bool,
}

/// The target and the headers, as hyper makes them of a head.
fn head(bytes: &[u8]) -> Option<(Uri, HeaderMap)> {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let uri = Uri::try_from(lines.next()?).ok()?;
    let mut headers = HeaderMap::new();
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        headers.append(name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?);
    }
    Some((uri, headers))
}

/// Text with each `%XX` as its byte.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let code = behind.get(..2).filter(|code| *first == b'%' && code.iter().all(u8::is_ascii_hexdigit));
        let code = code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &behind[2..] } else { behind };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What has to be so for a request that was let in.
fn check_let_in(caller: &Caller, chosen: &Chosen, access: &Access, uri: &Uri, headers: &HeaderMap) {
    let text = |name| {
        headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or_default().to_ascii_lowercase())
    };
    let host = text(header::HOST).expect("a Host");
    let address = if chosen.local { LOOPBACK } else { DEVICE }.to_string();
    let own = |name: &str| host.contains(name);
    assert!(
        own(&address)
            || own(&address.replace('.', "-"))
            || host.contains("ffff:")
            || access.hosts().iter().any(|name| own(name)),
        "a foreign Host"
    );
    let origin = text(header::ORIGIN);
    if let Some(origin) = &origin {
        let of_this_server =
            origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://")) == Some(host.as_str());
        assert!(of_this_server || ORIGINS.contains(&origin.as_str()), "a foreign page");
        assert!(chosen.no_tls || origin.starts_with("https://"), "a page that came without TLS");
    }
    if *caller == Caller::Public {
        let is_open = matches!(uri.path(), "/" | "/status" | "/version");
        let has_certificate =
            matches!(uri.path().strip_prefix("/certificate"), Some("" | ".pem" | ".crt" | ".mobileconfig"));
        let is_preflight = chosen.options && origin.is_some();
        assert!(is_open || has_certificate || is_preflight, "a closed path");
        return;
    }
    if chosen.token {
        let shown = headers.get(header::AUTHORIZATION).map_or_else(
            || decoded(uri.query().unwrap_or_default()),
            |value| value.to_str().unwrap_or_default().to_owned(),
        );
        assert!(shown.contains(SECRET), "no token");
    } else {
        assert!(origin.is_some() || chosen.no_origin || chosen.local, "a program on another machine");
    }
}

fn config(chosen: &Chosen) -> Config {
    let mut options =
        vec!["further-link", "--allow-origin", ORIGINS[1], "--allow-host", "pi7.school.example"];
    options.extend(chosen.no_tls.then_some("--no-tls"));
    options.extend(chosen.no_origin.then_some("--allow-no-origin"));
    Config::parse_from(options)
}

/// The first byte chooses the settings and where the client is; then come lines: the target, and headers.
pub fn request(bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else { return };
    let Some((uri, headers)) = head(rest) else { return };
    let bit = |number: u8| choice & (1 << number) != 0;
    let chosen = Chosen { token: bit(0), no_origin: bit(1), no_tls: bit(2), options: bit(3), local: bit(4) };
    let config = config(&chosen);
    let token = chosen.token.then(|| Token::new(SECRET).expect("a token"));
    let access = Access::new(&config, token);
    let (local, peer) = if chosen.local { (LOOPBACK, LOOPBACK) } else { (DEVICE, NEIGHBOUR) };
    let method = if chosen.options { Method::OPTIONS } else { Method::GET };
    match access.decide(RequestHead { method: &method, uri: &uri, headers: &headers, local, peer }) {
        Ok(caller) => check_let_in(&caller, &chosen, &access, &uri, &headers),
        // Reasons about tokens are given only where there is a token.
        Err(Refused::NoToken | Refused::WrongToken) => assert!(chosen.token),
        Err(Refused::NoOrigin) => assert!(!chosen.token && !headers.contains_key(header::ORIGIN)),
        Err(Refused::Host | Refused::Origin) => {}
    }
}
