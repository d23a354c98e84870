//! The plain HTTP questions: /status, /version, /version/apt, and what is not served.
//!
//! Items B1.1 and B1.3 to B1.10, with D3 (command injection through a package name) and D25 (talkative
//! headers). Answers to web pages of other origins are in `access.rs`.
#![expect(clippy::disallowed_methods, reason = "it asks apt-cache for comparison")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests may fail the test")]

use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;

use further_link_tests::Daemon;
use further_link_tests::http::{self, Response};
use further_link_tests::scratch::set_mode;
use further_link_tests::stream::{Stream, Trust};
use serde_json::Value;

const PLAIN: Option<&str> = Some("text/plain; charset=utf-8");

/// B1.3
#[test]
fn status_says_ok() {
    let answer = Daemon::start().http("GET", "/status");
    assert_eq!((answer.status, answer.body.as_str()), (200, "OK"));
    assert_eq!(answer.header("content-type"), PLAIN);
    assert_eq!(answer.status_line, "HTTP/1.1 200 OK");
}

/// B1.4
#[test]
fn version_is_one_string_of_three_numbers_and_anything() {
    let answer = Daemon::start().http("GET", "/version");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), PLAIN);
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
    let version = body["version"].as_str().unwrap();
    let mut parts = version.splitn(3, '.');
    for part in [parts.next().unwrap(), parts.next().unwrap()] {
        assert!(!part.is_empty() && part.chars().all(|c| c.is_ascii_digit()), "{version}");
    }
    assert!(parts.next().unwrap().starts_with(|c: char| c.is_ascii_digit()), "{version}");
}

/// What B1.5 makes of the output of `apt-cache policy`.
fn apt_says(package: &str) -> Value {
    let output =
        Command::new("apt-cache").args(["policy", "--", package]).env("LC_ALL", "C").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().find_map(|line| line.trim().strip_prefix("Installed: ")).into()
}

fn package_version(answer: &Response) -> Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), PLAIN);
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
    body["version"].clone()
}

/// B1.5
#[test]
fn the_version_of_an_installed_package_is_what_apt_says() {
    let daemon = Daemon::start();
    for package in ["bash", "libc6", "libstdc++6"] {
        let expected = apt_says(package);
        assert!(expected.is_string(), "{package} should be installed on every Debian");
        assert_eq!(package_version(&daemon.http("GET", &format!("/version/apt/{package}"))), expected);
    }
}

/// B1.5: the plus sign of a name may come encoded.
#[test]
fn a_package_name_may_be_percent_encoded() {
    let answer = Daemon::start().http("GET", "/version/apt/libstdc%2B%2B6");
    assert_eq!(package_version(&answer), apt_says("libstdc++6"));
}

/// B1.5: `(none)` where apt knows the package, null on a machine without package lists.
#[test]
fn a_package_that_is_not_installed_has_the_version_that_apt_gives_it() {
    let daemon = Daemon::start();
    let candidates = ["vim-tiny", "cowsay", "sl", "nethack-console", "gnuchess"];
    let absent = candidates.iter().filter(|package| apt_says(package) == "(none)");
    for package in absent.take(1) {
        assert_eq!(package_version(&daemon.http("GET", &format!("/version/apt/{package}"))), "(none)");
    }
    let answer = daemon.http("GET", "/version/apt/no-such-package-anywhere");
    assert_eq!(package_version(&answer), Value::Null);
}

/// D3: options for apt-cache, shell syntax, paths. `%2D` is a hyphen, `%20` a space, `%2F` a slash.
#[test]
fn a_package_name_never_becomes_an_option_or_a_command() {
    let builder = Daemon::builder();
    let trap = builder.scratch().root().join("trap");
    let sprung = builder.scratch().temp().join("sprung");
    std::fs::write(&trap, format!("#!/bin/sh\nid >>{}\n", sprung.display())).unwrap();
    set_mode(&trap, 0o755);
    assert_trap_works(&trap, &sprung);
    let daemon = builder.start();
    let path = trap.to_str().unwrap().replace('/', "%2F");
    let names = [
        format!("-o=Dir::Bin::dpkg={path}"),
        format!("%2Do=Dir%3A%3ABin%3A%3Adpkg%3D{path}"),
        format!("-oDir::Bin::dpkg={path}"),
        format!("%2D%2Doption=Dir::Bin::dpkg={path}"),
        format!("bash%20-o=Dir::Bin::dpkg={path}"),
        format!("bash%20--%20-o=Dir::Bin::dpkg={path}"),
        format!("-c={path}"),
        format!("bash;{path}"),
        format!("bash%0A{path}"),
        format!("$({path})"),
        format!("%60{path}%60"),
        format!("bash%7C{path}"),
        path.clone(),
        "%2D%2Dfoo".to_owned(),
        "--help".to_owned(),
        "-h".to_owned(),
        "bash%00".to_owned(),
        "*".to_owned(),
        "bas%3F".to_owned(),
        "b".repeat(5000),
    ];
    for name in names {
        let answer = daemon.http("GET", &format!("/version/apt/{name}"));
        match answer.status {
            200 => assert_eq!(package_version(&answer), Value::Null, "{name}"),
            status => assert!((400..500).contains(&status), "{name}: {answer:?}"),
        }
    }
    assert!(!sprung.exists(), "{}", std::fs::read_to_string(sprung).unwrap());
    assert_eq!(daemon.http("GET", "/status").status, 200);
}

/// Without this the test above could pass because the trap is a dud.
fn assert_trap_works(trap: &Path, sprung: &Path) {
    let option = format!("-o=Dir::Bin::dpkg={}", trap.display());
    let output = Command::new("apt-cache").args(["policy", &option, "bash"]).output().unwrap();
    assert!(sprung.exists(), "apt-cache did not run the trap: {output:?}");
    std::fs::remove_file(sprung).unwrap();
}

/// B1.7
#[test]
fn an_unknown_path_is_404_and_so_is_a_trailing_slash() {
    let daemon = Daemon::start();
    let paths = [
        "/nothing",
        "/status/",
        "/version/",
        "/run/",
        "/run-py/",
        "/run/1",
        "/version/apt",
        "/version/apt/",
        "/version/apt/bash/",
        "/version/apt/bash/x",
        "/STATUS",
        "//status",
    ];
    for path in paths {
        let answer = daemon.http("GET", path);
        assert_eq!((answer.status, answer.body.as_str()), (404, "404: Not Found"), "{path}");
        assert_eq!(answer.header("content-type"), PLAIN, "{path}");
    }
    assert_eq!(daemon.http("POST", "/nothing").status, 404);
    assert_eq!(daemon.http("DELETE", "/nothing").status, 404);
}

/// B1.7
#[test]
fn a_wrong_method_is_405_and_names_the_right_ones() {
    let daemon = Daemon::start();
    for path in ["/status", "/version", "/version/apt/bash", "/run", "/run-py"] {
        for method in ["POST", "PUT", "PATCH", "DELETE", "HEAD"] {
            let answer = daemon.http(method, path);
            assert_eq!(answer.status, 405, "{method} {path}");
            let allowed = answer.header("allow").unwrap_or_default();
            let mut allowed: Vec<&str> = allowed.split(',').map(str::trim).collect();
            allowed.sort_unstable();
            assert_eq!(allowed, ["GET", "OPTIONS"], "{method} {path}");
            let body = if method == "HEAD" { "" } else { "405: Method Not Allowed" };
            assert_eq!(answer.body, body, "{method} {path}");
        }
    }
}

/// B1.8
#[test]
fn a_websocket_path_without_an_upgrade_is_400_and_says_why() {
    let daemon = Daemon::start();
    for path in ["/run", "/run-py", "/run?user=root&pty=1"] {
        let answer = daemon.http("GET", path);
        assert_eq!(answer.status, 400, "{path}");
        assert!(answer.header("content-type").unwrap().starts_with("text/plain"), "{path}");
        let body = answer.body.to_lowercase();
        assert!(body.contains("upgrade") && body.contains("websocket"), "{path}: {body:?}");
    }
}

/// RFC 6455, 4.2.1, point 5.
#[test]
fn an_upgrade_with_a_wrong_key_is_400_and_says_why() {
    let daemon = Daemon::start();
    let right = http::upgrade_request("/run", &daemon.address().to_string(), "");
    let wrong = right.replace("dGhlIHNhbXBsZSBub25jZQ==", "short");
    let answer = http::ask(&http::connect(daemon.address()), &wrong);
    assert_eq!(answer.status, 400);
    assert_eq!(answer.body, "The Sec-WebSocket-Key header has to be the base64 of 16 bytes.");
    assert_eq!(http::ask(&http::connect(daemon.address()), &right).status, 101);
}

/// B1.10
#[test]
fn unknown_query_parameters_are_ignored() {
    let daemon = Daemon::start();
    assert_eq!(daemon.http("GET", "/status?x=1&y=&z").body, "OK");
    assert_eq!(daemon.http("GET", "/version?user=nobody").status, 200);
    daemon.run("client=7&colour=green&pty").ping();
}

/// B3.1: no subprotocol is chosen, whatever is offered.
#[test]
fn an_upgrade_is_granted_without_a_subprotocol() {
    let daemon = Daemon::start();
    for path in ["/run", "/run-py", "/run?pty=1&user=pi"] {
        let answer = http::upgrade(daemon.address(), path, "Sec-WebSocket-Protocol: chat, tty\r\n");
        assert_eq!(answer.status, 101, "{path}");
        assert_eq!(answer.header("sec-websocket-protocol"), None);
        assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    }
}

/// D25
#[test]
fn no_answer_names_the_server_software() {
    let daemon = Daemon::start();
    let mut answers = vec![http::upgrade(daemon.address(), "/run", "")];
    for path in ["/status", "/version", "/version/apt/bash", "/nothing", "/run", "/run-py"] {
        answers.push(daemon.http("GET", path));
        answers.push(daemon.http("POST", path));
    }
    for answer in answers {
        for name in ["server", "x-powered-by", "via"] {
            assert_eq!(answer.header(name), None, "{answer:?}");
        }
    }
}

/// B1.1: 127.0.0.2 is an address of this machine under which a server on 127.0.0.1 alone cannot be reached
/// at.
#[test]
fn the_port_comes_from_the_environment_and_all_addresses_are_served() {
    let port = further_link_tests::daemon::free_port();
    let builder = Daemon::builder().default_address().environment("FURTHER_LINK_PORT", &port.to_string());
    let daemon = builder.start();
    assert_eq!(daemon.address().port(), port);
    for address in ["127.0.0.1", "127.0.0.2"] {
        let answer = http::request(format!("{address}:{port}").parse().unwrap(), None, "GET", "/status");
        assert_eq!(answer.body, "OK", "{address}");
    }
}

/// B1.1: in a network of its own, where 8028 cannot be taken.
#[test]
fn the_default_port_is_8028() {
    let daemon = Daemon::builder().default_address().wrapped_in(&["unshare", "--net", "--"]).start();
    assert_eq!(daemon.address().port(), 8028);
}

/// B1.2 as far as this issue goes, B14: the environment variable alone switches TLS off.
#[test]
fn the_environment_alone_configures_the_daemon() {
    let builder = Daemon::builder().bare().environment("FURTHER_LINK_NOSSL", "1");
    let (work, temp) = (builder.scratch().work(), builder.scratch().temp());
    let daemon = builder
        .environment("FURTHER_LINK_PORT", "0")
        .environment("FURTHER_LINK_WORK_DIR", work.to_str().unwrap())
        .environment("FURTHER_LINK_TEMP_DIR", temp.to_str().unwrap())
        .environment("FURTHER_LINK_DEBUG", "1")
        .start();
    assert_eq!(daemon.http("GET", "/status").body, "OK");
    let mut client = daemon.run("");
    let shown = client.run("1", further_link_tests::programs::python("import os; print(os.getcwd())"));
    assert_eq!(shown.stdout.trim(), temp.to_str().unwrap());
    let data = serde_json::json!({"runner": "shell", "path": "made/here"});
    client.start("2", data);
    client.stdin("2", "pwd; exit\n");
    assert_eq!(client.wait_lines("2", 1), [work.join("made/here").to_str().unwrap()]);
    assert_eq!(client.wait_stopped("2"), 0);
}

/// Targets without a path once ended the whole process, and with it the programs of all clients.
#[test]
fn no_form_of_target_ends_a_connection_without_an_answer_or_harms_another_client() {
    for (daemon, tls) in [(Daemon::start(), false), (Daemon::builder().tls().start(), true)] {
        let mut victim = daemon.run("");
        victim.start_cat("1");
        let trust = tls.then(|| Trust::in_file(&daemon.certificate()));
        for (line, status) in [
            ("GET x HTTP/1.1", 400),
            ("CONNECT localhost:1 HTTP/1.1", 400),
            ("GET localhost HTTP/1.1", 400),
            ("OPTIONS * HTTP/1.1", 404),
            ("GET * HTTP/1.1", 404),
            ("GET http://localhost/status HTTP/1.1", 200),
            ("GET /status HTTP/1.0", 200),
            ("BREW /status HTTP/1.1", 405),
        ] {
            let mut stream = Stream::connect(daemon.address(), trust.as_ref());
            write!(stream, "{line}\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
            let mut answer = String::new();
            // hyper leaves a connection that asked for CONNECT to its caller, which drops it without TLS's
            // last word.
            let ended = stream.read_to_string(&mut answer);
            assert!(ended.is_ok() || line.starts_with("CONNECT"), "{line}: {ended:?}");
            let seen = answer.split(' ').nth(1).unwrap_or_default();
            assert_eq!(seen, status.to_string(), "{line}: {answer}");
        }
        victim.stdin("1", "still here\n");
        victim.wait_stdout("1", "still here");
        assert!(!daemon.log().text().contains("panic"), "{}", daemon.log().tail());
    }
}
