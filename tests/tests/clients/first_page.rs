//! What a person with a browser sees: the first page, refusals, and plain http on the TLS port.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::fmt::Write as _;

use further_link_tests::Daemon;
use further_link_tests::http::{self, Response};
use further_link_tests::netns::{Network, SERVER};

/// What a browser says when a person goes to an address.
const NAVIGATION: [(&str, &str); 2] = [("Sec-Fetch-Mode", "navigate"), ("Accept", "text/html,*/*;q=0.8")];

fn go(daemon: &Daemon, path: &str, host: &str, headers: &[(&str, &str)]) -> Response {
    let mut request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    for (name, value) in NAVIGATION.iter().chain(headers) {
        write!(request, "{name}: {value}\r\n").unwrap();
    }
    http::exchange(daemon.address(), format!("{request}\r\n").as_bytes())
}

#[track_caller]
fn assert_page(answer: &Response, status: u16, text: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"), "{answer:?}");
    let policy = answer.header("content-security-policy").unwrap();
    assert!(
        policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
        "{policy}"
    );
    assert!(!answer.body.contains("<script"), "{answer:?}");
    assert!(answer.body.contains(text), "{text:?} is not in {}", answer.body);
}

#[test]
fn the_first_page_is_for_everybody_also_from_a_link_and_with_a_token() {
    let daemon = Daemon::start();
    assert_page(&go(&daemon, "/", "localhost", &[]), 200, "further-link");
    let from_a_link = [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Dest", "document")];
    assert_page(&go(&daemon, "/", "localhost", &from_a_link), 200, "It is ready");
    let token = "0123456789-abcdefghijkl_ABCDEFGHIJKLMNOPQRS";
    let builder = Daemon::builder();
    let file = builder.scratch().root().join("token");
    std::fs::write(&file, token).unwrap();
    further_link_tests::scratch::set_mode(&file, 0o600);
    let closed = builder.argument(&format!("--token-file={}", file.display())).start();
    let page = go(&closed, "/", "localhost", &[]);
    assert_page(&page, 200, "further-link token");
    assert!(!page.body.contains(token));
    assert_page(&go(&closed, "/run", "localhost", &[]), 401, "?token=");
    assert!(go(&closed, "/run", "localhost", &[]).header("www-authenticate").is_some());
}

#[test]
fn an_open_device_says_so_on_its_page_and_in_its_log_with_the_address_to_open() {
    let daemon = Network::around(Daemon::builder()).start();
    let request = format!("GET / HTTP/1.1\r\nHost: {SERVER}\r\nConnection: close\r\n\r\n");
    let page = http::ask(&Network::of(&daemon).connect("192.0.2.2", SERVER), &request);
    assert_page(&page, 200, "open to its network");
    assert!(daemon.log().text().contains("OPEN TO THE NETWORK"));
    let local = Daemon::start();
    assert!(!go(&local, "/", "localhost", &[]).body.contains("open to its network"));
    assert!(!local.log().text().contains("OPEN TO THE NETWORK"));
}

#[test]
fn a_refusal_tells_a_person_what_to_do_and_a_program_nothing_new() {
    let daemon = Daemon::start();
    assert_page(&go(&daemon, "/status", "pi7.school.example", &[]), 421, "--allow-host");
    let foreign = [("Origin", "https://evil.example")];
    assert_page(&go(&daemon, "/run", "localhost", &foreign), 403, "--allow-origin");
    let linked = [("Sec-Fetch-Site", "cross-site")];
    assert_page(&go(&daemon, "/run", "localhost", &linked), 403, "--allow-origin");
    for (host, status, text) in
        [("pi7.school.example", 421, "421: Misdirected Request"), ("localhost", 403, "403: Forbidden")]
    {
        let request = format!(
            "GET /status HTTP/1.1\r\nHost: {host}\r\nOrigin: https://evil.example\r\nConnection: close\r\n\r\n"
        );
        let answer = http::exchange(daemon.address(), request.as_bytes());
        assert_eq!((answer.status, answer.body.as_str()), (status, text), "{host}");
    }
}

#[test]
fn plain_http_on_the_tls_port_leads_a_person_to_https() {
    let daemon = Daemon::builder().tls().start();
    let answer = go(&daemon, "/", "pi.local:8028", &[]);
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("<a href=\"https://pi.local:8028/\">"), "{}", answer.body);
    let program = "GET / HTTP/1.1\r\nHost: pi.local:8028\r\nConnection: close\r\n\r\n";
    let answer = http::exchange(daemon.address(), program.as_bytes());
    assert_eq!(answer.body, "This port speaks https and wss.\n");
}
