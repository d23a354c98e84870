//! Which pages, programs and names get in: `Origin` and `Host` (D2, B2), on every route and before anything
//! is done.
//!
//! The tables of what matches stand at the bottom of `frontend-daemon/src/access/decision.rs`; here is that
//! they are asked.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::io::{Read, Write};
use std::net::TcpStream;

use further_link_tests::http::{self, upgrade_request};
use further_link_tests::netns::{Network, SERVER};
use further_link_tests::programs::program;
use further_link_tests::{Client, DEADLINE, Daemon};

const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const ROUTES: [&str; 6] = ["/status", "/version", "/version/apt/bash", "/run", "/run-py", "/nowhere"];

/// The head of the answer, names of headers in lower case.
fn ask(daemon: &Daemon, method: &str, path: &str, host: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(daemon.address()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n").unwrap();
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
        head.extend_from_slice(&byte);
    }
    String::from_utf8(head).unwrap().to_ascii_lowercase()
}

fn status(answer: &str) -> &str {
    answer.split_whitespace().nth(1).unwrap_or_default()
}

/// D2: the web page in any browser that the original lets run code as root.
#[test]
fn a_page_that_is_not_listed_gets_nowhere_on_any_route() {
    let daemon = Daemon::start();
    for path in ROUTES {
        for origin in ["https://evil.example", "null", "https://evil.pi-top.com", "http://further.pi-top.com"]
        {
            for headers in [String::new(), UPGRADE.to_owned()] {
                let answer =
                    ask(&daemon, "GET", path, "localhost", &format!("{headers}Origin: {origin}\r\n"));
                assert_eq!(status(&answer), "403", "{path} {origin}: {answer}");
                assert!(!answer.contains("access-control"), "{path} {origin}: {answer}");
            }
        }
        let preflight = "Origin: https://evil.example\r\nAccess-Control-Request-Method: GET\r\n";
        let answer = ask(&daemon, "OPTIONS", path, "localhost", preflight);
        assert_eq!(status(&answer), "403", "{path}: {answer}");
        assert!(!answer.contains("access-control"), "{path}: {answer}");
    }
    assert!(daemon.log().text().contains("--allow-origin"), "the log says what to change");
}

/// B2.1, B2.4: on the 101 of the WebSocket as well.
#[test]
fn a_listed_page_gets_in_and_may_read_the_answers() {
    let daemon = Daemon::builder().argument("--allow-origin=https://class.example").start();
    let own = format!("http://127.0.0.1:{}", daemon.address().port());
    for origin in ["https://further.pi-top.com", "https://class.example", &own] {
        let host = format!("127.0.0.1:{}", daemon.address().port());
        for (path, headers, expected) in
            [("/status", "", "200"), ("/run", UPGRADE, "101"), ("/run-py", UPGRADE, "101")]
        {
            let answer = ask(&daemon, "GET", path, &host, &format!("{headers}Origin: {origin}\r\n"));
            assert_eq!(status(&answer), expected, "{path} {origin}: {answer}");
            for header in [
                format!("access-control-allow-origin: {origin}\r\n"),
                "access-control-allow-credentials: true\r\n".to_owned(),
                "access-control-allow-private-network: true\r\n".to_owned(),
                "vary: origin\r\n".to_owned(),
            ] {
                assert!(answer.contains(&header), "{path} {origin}: no {header} in {answer}");
            }
        }
    }
}

/// B2.2, B2.3
#[test]
fn a_preflight_of_a_listed_page_is_answered() {
    let daemon = Daemon::start();
    let asked = "Origin: https://further.pi-top.com\r\nAccess-Control-Request-Method: GET\r\n\
                 Access-Control-Request-Headers: content-type,x-more\r\n";
    let answer = ask(&daemon, "OPTIONS", "/status", "localhost", asked);
    assert_eq!(status(&answer), "200", "{answer}");
    assert!(answer.contains("access-control-allow-methods: get\r\n"), "{answer}");
    assert!(answer.contains("access-control-allow-headers: content-type,x-more\r\n"), "{answer}");
    let answer = ask(&daemon, "OPTIONS", "/status", "localhost", "Origin: https://further.pi-top.com\r\n");
    assert_eq!(status(&answer), "403", "{answer}");
}

/// DNS rebinding: a foreign name that was made to point at this device.
#[test]
fn a_name_that_is_not_this_devices_is_refused_on_every_route() {
    let daemon = Daemon::builder().argument("--allow-host=pi7.school.example").start();
    for path in ROUTES {
        for host in ["evil.example", "evil.example:8028", "localhost.evil.example", "10.0.0.1", ""] {
            for headers in [String::new(), UPGRADE.to_owned()] {
                let answer = ask(&daemon, "GET", path, host, &headers);
                assert_eq!(status(&answer), "421", "{path} {host}: {answer}");
            }
        }
    }
    for host in
        ["localhost", "127.0.0.1:1234", "127-0-0-1.further-link.pi-top.com:8028", "pi7.school.example"]
    {
        assert_eq!(status(&ask(&daemon, "GET", "/status", host, "")), "200", "{host}");
    }
    assert!(daemon.log().text().contains("--allow-host"), "the log says what to change");
}

/// Programs on other machines that are no browsers.
#[test]
fn without_an_origin_other_machines_get_the_status_and_no_more() {
    let daemon = Network::around(Daemon::builder()).start();
    let there = Network::of(&daemon);
    let open = Network::around(Daemon::builder().argument("--allow-no-origin")).start();
    let open_there = Network::of(&open);
    let ask = |there: &Network, path: &str, extra: &str| {
        http::ask(&there.connect("192.0.2.2", SERVER), &upgrade_request(path, SERVER, extra)).status
    };
    for (path, status) in
        [("/status", 200), ("/version", 200), ("/version/apt/bash", 403), ("/run", 403), ("/run-py", 403)]
    {
        assert_eq!(ask(&there, path, ""), status, "{path}");
        assert_ne!(ask(&there, path, "Origin: https://further.pi-top.com\r\n"), 403, "{path}");
        assert_ne!(ask(&open_there, path, ""), 403, "{path}");
        let foreign = ask(&open_there, path, "Sec-Fetch-Site: cross-site\r\n");
        assert_eq!(foreign, status, "{path}: shown in a foreign page");
    }
    let log = daemon.log().text();
    assert!(log.contains("--allow-no-origin") && log.contains("192.0.2.2"), "{log}");
    // On the device itself by its loopback, as the spec's examples do, and by no other name.
    let local = there.connect("127.0.0.1", "127.0.0.1");
    assert_eq!(
        Client::over(local, "localhost", "/run", daemon.log().clone())
            .run("1", program("/bin/true"))
            .exit_code,
        0
    );
    let own = http::ask(&there.connect(SERVER, SERVER), &upgrade_request("/run", SERVER, ""));
    assert_eq!(own.status, 403);
}

/// Policy 5.4.8, on answers of all kinds.
#[test]
fn no_browser_keeps_shows_or_guesses_an_answer() {
    let daemon = Daemon::start();
    for (method, path) in [
        ("GET", "/status"),
        ("GET", "/version"),
        ("GET", "/version/apt/bash"),
        ("GET", "/run"),
        ("GET", "/nowhere"),
        ("DELETE", "/status"),
    ] {
        let answer = daemon.http(method, path);
        for (name, value) in [
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{method} {path}");
        }
    }
}
