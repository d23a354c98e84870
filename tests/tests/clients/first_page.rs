//! What a person with a browser sees: the page and its files, refusals, and plain http on the TLS port. The
//! page in a real browser is tested elsewhere.
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

/// The page's own address of each file that it names.
fn files_of(page: &Response) -> Vec<String> {
    let named = page.body.split('"').filter(|text| text.starts_with("/page/"));
    named.filter(|name| is_hashed(name)).map(str::to_owned).collect()
}

fn is_hashed(name: &str) -> bool {
    name.rsplit('.')
        .nth(1)
        .is_some_and(|hash| hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn get(daemon: &Daemon, path: &str, headers: &str) -> Response {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
    http::exchange(daemon.address(), request.as_bytes())
}

/// Whether this is the page for browsers; if not, what was tested is said.
fn is_built_in(page: &Response) -> bool {
    let is_built_in = page.body.contains("importmap");
    if !is_built_in {
        eprintln!("SKIPPED: no page is built in, so NOTHING of it was tested: {}", page.body);
    }
    is_built_in
}

#[test]
fn a_browser_gets_the_page_with_a_strict_policy_and_each_file_that_it_names() {
    let daemon = Daemon::start();
    let page = go(&daemon, "/", "localhost", &[]);
    if !is_built_in(&page) {
        return;
    }
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").unwrap();
    for part in [
        "default-src 'none'",
        "script-src 'self' 'sha256-",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    ] {
        assert!(policy.contains(part), "{part} is not in {policy}");
    }
    assert!(!policy.contains("unsafe-eval") && !policy.contains("script-src 'unsafe-inline'"), "{policy}");
    let nonce = policy.split("'nonce-").nth(1).unwrap().split('\'').next().unwrap();
    assert!(nonce.len() >= 22 && page.body.contains(nonce), "{policy}");
    assert!(!page.body.contains("{{"), "{}", page.body);
    assert!(page.body.contains("&quot;access&quot;:&quot;device&quot;"), "{}", page.body);
    for (name, value) in [
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("referrer-policy", "same-origin"),
        ("x-content-type-options", "nosniff"),
        ("cache-control", "no-cache"),
    ] {
        assert_eq!(page.header(name), Some(value), "{name}");
    }
    let files = files_of(&page);
    assert!(files.len() > 5, "{files:?}");
    for file in &files {
        let answer = get(&daemon, file, "Accept-Encoding: gzip, br\r\nSec-Fetch-Site: same-origin\r\n");
        assert_eq!((answer.status, answer.header("content-encoding")), (200, Some("gzip")), "{file}");
        assert!(answer.header("cache-control").unwrap().contains("immutable"), "{file}: {answer:?}");
        assert_eq!(answer.header("cross-origin-resource-policy"), Some("same-origin"), "{file}");
        let is_script = answer.header("content-type") == Some("text/javascript; charset=utf-8");
        assert_eq!(
            is_script,
            std::path::Path::new(file).extension().is_some_and(|kind| kind == "js"),
            "{file}: {answer:?}"
        );
    }
    let file = &files[0];
    assert_eq!(get(&daemon, file, "Accept-Encoding: identity\r\n").status, 406);
    assert_eq!(get(&daemon, &format!("{file}x"), "").status, 404);
    assert_eq!(get(&daemon, file, "Sec-Fetch-Site: cross-site\r\n").status, 403);
    assert_eq!(get(&daemon, file, "Origin: https://evil.example\r\n").status, 403);
    let post = format!("POST {file} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert_eq!(http::exchange(daemon.address(), post.as_bytes()).status, 405);
}

#[test]
fn a_browser_that_has_the_page_gets_no_body_and_a_program_gets_the_plain_page() {
    let daemon = Daemon::start();
    let page = go(&daemon, "/", "localhost", &[]);
    let plain = get(&daemon, "/", "");
    assert_page(&plain, 200, "It is ready");
    if !is_built_in(&page) {
        return;
    }
    assert!(!plain.body.contains("There is no page"), "{plain:?}");
    let tag = page.header("etag").unwrap().to_owned();
    for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}")] {
        let again = go(&daemon, "/", "localhost", &[("If-None-Match", &known)]);
        assert_eq!((again.status, again.body.as_str()), (304, ""), "{known}");
        assert_eq!(again.header("etag"), Some(tag.as_str()));
        let length: usize = again.headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
        assert!(length < 2000, "a second visit costs {length} bytes");
    }
    assert_eq!(go(&daemon, "/", "localhost", &[("If-None-Match", "\"other\"")]).status, 200);
    let other = Daemon::start();
    assert_ne!(go(&other, "/", "localhost", &[]).header("etag"), Some(tag.as_str()), "another nonce");
}

#[test]
fn the_first_page_is_for_everybody_also_from_a_link_and_with_a_token() {
    let daemon = Daemon::start();
    let from_a_link = [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Dest", "document")];
    let page = go(&daemon, "/", "localhost", &from_a_link);
    assert_eq!(page.status, 200);
    assert!(page.header("content-security-policy").unwrap().contains("frame-ancestors 'none'"));
    let token = "0123456789-abcdefghijkl_ABCDEFGHIJKLMNOPQRS";
    let builder = Daemon::builder();
    let file = builder.scratch().root().join("token");
    std::fs::write(&file, token).unwrap();
    further_link_tests::scratch::set_mode(&file, 0o600);
    let closed = builder.argument(&format!("--token-file={}", file.display())).start();
    assert_page(&get(&closed, "/", ""), 200, "further-link token");
    let page = go(&closed, "/", "localhost", &[]);
    assert_eq!(page.status, 200);
    assert!(!is_built_in(&page) || page.body.contains("&quot;access&quot;:&quot;token&quot;"), "{page:?}");
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
    assert!(!get(&local, "/", "").body.contains("open to its network"));
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
