//! The token that lets clients in: who needs it, what guessing costs, where it never appears, and how
//! it is made. The tables of what counts as a token stand at the bottom of
//! `frontend-daemon/src/access/decision.rs`.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests may fail the test")]
#![expect(
    clippy::disallowed_methods,
    reason = "the ban is for the production crates: this starts `further-link token`"
)]

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use further_link_tests::daemon::Builder;
use further_link_tests::http::{self, Response, upgrade_request};
use further_link_tests::netns::{Network, SERVER};
use further_link_tests::processes::Process;
use further_link_tests::programs::{program, python};
use further_link_tests::scratch::{Scratch, mode_of, set_mode};
use further_link_tests::supervised::Supervised;
use further_link_tests::{Client, DEADLINE, Daemon, binaries};

const TOKEN: &str = "s3cret-s3cret_s3cret-s3cret_s3cret-s3cret_s";
const LISTED: &str = "Origin: https://further.pi-top.com\r\n";

fn token_file(scratch: &Scratch, content: &str, mode: u32) -> PathBuf {
    let path = scratch.root().join("token");
    std::fs::write(&path, content).unwrap();
    set_mode(&path, mode);
    path
}

/// A daemon that wants [`TOKEN`].
fn guarded() -> Builder {
    let builder = Daemon::builder();
    let path = token_file(builder.scratch(), &format!("{TOKEN}\n"), 0o600);
    builder.argument("--token-file").argument(path.to_str().unwrap())
}

fn get(daemon: &Daemon, path: &str, extra: &str) -> Response {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{extra}\r\n");
    http::ask(&http::connect(daemon.address()), &request)
}

/// Loopback counts too, and so do listed pages.
#[test]
fn everything_but_status_and_version_needs_the_token() {
    let daemon = guarded().start();
    for path in ["/status", "/version"] {
        assert_eq!(get(&daemon, path, "").status, 200, "{path}");
    }
    for path in ["/version/apt/bash", "/run", "/run-py", "/upload", "/nowhere", "/status/"] {
        for extra in ["", LISTED] {
            for answer in [get(&daemon, path, extra), http::upgrade(daemon.address(), path, extra)] {
                assert_eq!(answer.status, 401, "{path} {extra}");
                assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{path} {extra}");
                // A page that is listed may find out why.
                let shared = answer.header("access-control-allow-origin").is_some();
                assert_eq!(shared, extra == LISTED, "{path} {extra}");
            }
        }
    }
    let header = format!("Authorization: Bearer {TOKEN}\r\n");
    assert_eq!(get(&daemon, "/version/apt/bash", &header).status, 200);
    assert_eq!(http::upgrade(daemon.address(), "/run", &header).status, 101);
    for path in ["/run", "/run-py"] {
        let path = format!("{path}?token={TOKEN}");
        assert_eq!(http::upgrade(daemon.address(), &path, LISTED).status, 101, "{path}");
        let evil = http::upgrade(daemon.address(), &path, "Origin: https://evil.example\r\n");
        assert_eq!(evil.status, 403, "{path}: both are needed");
    }
    let ran = daemon.run(&format!("token={TOKEN}")).run("1", program("/usr/bin/id"));
    assert_eq!(ran.exit_code, 0);
    let preflight = format!(
        "OPTIONS /upload HTTP/1.1\r\nHost: localhost\r\n{LISTED}Access-Control-Request-Method: POST\r\n\
         Access-Control-Request-Headers: authorization\r\n\r\n"
    );
    let answer = http::ask(&http::connect(daemon.address()), &preflight);
    assert_eq!((answer.status, answer.header("access-control-allow-headers")), (200, Some("AUTHORIZATION")));
    assert!(daemon.log().text().contains("--token-file"), "the log says what is needed");
}

#[test]
fn whoever_has_the_token_gets_in_from_anywhere_without_an_origin() {
    let daemon = Network::around(guarded()).start();
    let there = Network::of(&daemon);
    let ask = |path: &str, extra: &str| {
        http::ask(&there.connect("192.0.2.2", SERVER), &upgrade_request(path, SERVER, extra)).status
    };
    assert_eq!(ask("/run", ""), 401);
    assert_eq!(ask("/run", LISTED), 401);
    assert_eq!(ask("/run", &format!("Authorization: Bearer {TOKEN}\r\n")), 101);
    let stream = there.connect("192.0.2.2", SERVER);
    let mut client = Client::over(stream, SERVER, &format!("/run?token={TOKEN}"), daemon.log().clone());
    assert_eq!(client.run("1", program("/bin/true")).exit_code, 0);
}

/// Ten of them are answered later and later; what comes then is refused at once, without a look at it. No
/// client else notices: neither another address, nor who has the right token behind the same router.
/// The device's page shows the token once. Its cookie counts for pages of this device alone.
#[test]
fn a_browser_gets_a_cookie_for_the_token_and_has_it_taken_away() {
    let daemon = guarded().start();
    let own = format!("Origin: http://{}\r\n", daemon.address());
    let sign = |path: &str, extra: &str| http::post(daemon.address(), path, extra, b"");
    assert_eq!(sign("/sign-in", &own).status, 401);
    assert_eq!(get(&daemon, "/sign-in", &format!("Authorization: Bearer {TOKEN}\r\n")).status, 405);
    let foreign = format!("Origin: https://evil.example\r\nAuthorization: Bearer {TOKEN}\r\n");
    assert_eq!(sign("/sign-in", &foreign).status, 403);

    let answer = sign("/sign-in", &format!("{own}Authorization: Bearer {TOKEN}\r\n"));
    let given = answer.header("set-cookie").unwrap();
    assert_eq!(answer.status, 204);
    assert!(given.contains("; Path=/; HttpOnly; SameSite=Strict; ") && !given.contains(TOKEN), "{given}");
    let cookie = format!("Cookie: {}\r\n", given.split(';').next().unwrap());
    assert_eq!(get(&daemon, "/runners", "").status, 401);
    let typed = format!("{cookie}Sec-Fetch-Site: none\r\n");
    assert_eq!(get(&daemon, "/runners", &typed).status, 200);
    assert_eq!(get(&daemon, "/runners", &cookie).status, 401);
    assert_eq!(get(&daemon, "/runners", &format!("{cookie}Origin: http://localhost\r\n")).status, 200);
    // A page elsewhere gets nothing with it, even if its browser sends it.
    let listed = format!("{cookie}{LISTED}");
    assert_eq!(get(&daemon, "/runners", &listed).status, 401);
    let foreign = format!("{cookie}Origin: https://evil.example\r\n");
    assert_eq!(get(&daemon, "/runners", &foreign).status, 403);
    assert_eq!(get(&daemon, "/runners", &format!("{cookie}Sec-Fetch-Site: cross-site\r\n")).status, 403);
    assert_eq!(http::upgrade(daemon.address(), "/run", &foreign).status, 403);
    assert_eq!(http::upgrade(daemon.address(), "/run", &format!("{own}{cookie}")).status, 101);

    let answer = sign("/sign-out", &format!("{own}{cookie}"));
    assert!(answer.header("set-cookie").unwrap().contains("=; ") && answer.status == 204, "{answer:?}");
    assert!(answer.header("set-cookie").unwrap().ends_with("Max-Age=0"), "{answer:?}");
}

#[test]
fn wrong_tokens_are_delayed_and_limited_for_each_address() {
    let daemon = Network::around(guarded()).start();
    let there = Network::of(&daemon);
    let ask = |from: &str, token: &str| {
        let begun = Instant::now();
        let request = upgrade_request(&format!("/run?token={token}"), SERVER, "");
        (http::ask(&there.connect(from, SERVER), &request), begun.elapsed())
    };
    let mut answers = std::thread::scope(|scope| {
        let guesses: Vec<_> = (0..14).map(|_| scope.spawn(|| ask("192.0.2.2", "wrong"))).collect();
        guesses.into_iter().map(|guess| guess.join().expect("answered")).collect::<Vec<_>>()
    });
    answers.sort_by_key(|(_, after)| *after);
    let late: Vec<_> = answers.iter().filter(|(answer, _)| answer.status == 401).collect();
    let refused: Vec<_> = answers.iter().filter(|(answer, _)| answer.status == 429).collect();
    assert_eq!((late.len(), refused.len()), (10, 4));
    for ((answer, after), least) in
        late.iter().zip([500, 1000, 2000, 4000, 4000, 4000, 4000, 4000, 4000, 4000])
    {
        assert!(*after >= Duration::from_millis(least), "{after:?}, not {least} ms");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer error=\"invalid_token\""));
    }
    for (answer, _) in refused {
        let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=61).contains(&wait), "{wait}");
    }
    let (answer, after) = ask("192.0.2.2", "wrong");
    assert_eq!(answer.status, 429);
    assert!(after < Duration::from_millis(400), "{after:?}: refused at once");
    assert_eq!(ask("192.0.2.2", TOKEN).0.status, 101, "the neighbour with the right one");
    let (answer, after) = ask("192.0.2.3", "wrong");
    assert_eq!(answer.status, 401);
    assert!(after < Duration::from_secs(3), "{after:?}: another address begins anew");
}

/// Of fourteen at once the ten that count are known only to the daemon, so this is one after the other, in
/// IPv6.
#[test]
fn one_network_of_ipv6_is_one_guesser() {
    let daemon = Network::around(guarded()).start();
    let there = Network::of(&daemon);
    let server = further_link_tests::netns::SERVER_V6;
    let request = upgrade_request("/run?token=wrong", &format!("[{server}]"), "");
    let status = |from: &str| http::ask(&there.connect(from, server), &request).status;
    std::thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| assert_eq!(status("2001:db8:2::2"), 401));
        }
    });
    assert_eq!(status("2001:db8:2::3"), 429, "another address of the same /64");
    assert_eq!(status("2001:db8:1::2"), 401, "another /64");
}

#[test]
fn a_daemon_with_an_unsafe_token_file_does_not_start() {
    let scratch = Scratch::new();
    let refused = |path: &str, why: &str| {
        let binary = binaries::frontend();
        let command = [binary.to_str().unwrap(), "--no-tls", "--port=0", "--token-file", path];
        let process = Supervised::start(&command.map(str::to_owned), &[]);
        assert_eq!(process.wait_exit(DEADLINE), Some(78), "{why}: {}", process.log.tail());
        process.log.expect(why);
        assert!(process.log.text().contains(path), "it names the file");
        assert!(!process.log.text().contains("s3cret"), "and not what is in it");
    };
    for (content, mode, why) in [
        ("", 0o600, "not a token"),
        ("\n", 0o600, "not a token"),
        ("s3cret-but-short\n", 0o600, "not a token"),
        (TOKEN, 0o644, "chmod"),
        (TOKEN, 0o660, "chmod"),
    ] {
        refused(token_file(&scratch, content, mode).to_str().unwrap(), why);
    }
    std::fs::remove_file(scratch.root().join("token")).unwrap();
    refused(scratch.root().join("token").to_str().unwrap(), "No such file");
    refused(scratch.root().to_str().unwrap(), "not a file");
}

/// Neither the right one nor what was taken for one.
#[test]
fn tokens_reach_no_log_and_no_program() {
    const WRONG: &str = "wr0ng-wr0ng_wr0ng-wr0ng_wr0ng-wr0ng_wr0ng-w";
    let daemon = guarded().argument("--debug").start();
    let address = daemon.address();
    for path in ["/run", "/run-py", "/version/apt/bash", "/nowhere"] {
        for token in [TOKEN, WRONG] {
            http::upgrade(address, &format!("{path}?token={token}&user_token={token}"), "");
        }
        http::upgrade(
            address,
            path,
            &format!("Authorization: Bearer {TOKEN}\r\nFurther-Link-User-Token: {WRONG}\r\n"),
        );
    }
    http::upgrade(address, &format!("/run?token={TOKEN}"), "Origin: https://evil.example\r\n");
    let mut client = daemon.run(&format!("token={TOKEN}&user_token={WRONG}"));
    let code = "import os, sys\nprint(dict(os.environ), sys.argv, open('/proc/self/cmdline').read(), flush=True)\ninput()";
    client.start("1", python(code));
    client.wait_stdout("1", "PATH");
    assert!(!client.stdout("1").contains("0ng") && !client.stdout("1").contains("s3cret"));
    for process in daemon.processes() {
        let environment = std::fs::read(format!("/proc/{}/environ", process.pid)).unwrap_or_default();
        let shown = format!("{:?} {}", process.arguments(), String::from_utf8_lossy(&environment));
        assert!(!shown.contains("s3cret") && !shown.contains("wr0ng"), "{shown}");
    }
    client.stdin("1", "\n");
    client.wait_stopped("1");
    let log = daemon.log().text();
    assert!(log.contains("refused") && !log.contains("s3cret") && !log.contains("wr0ng"), "{log}");
}

fn make_token(arguments: &[&str]) -> (bool, String, String) {
    let output =
        Command::new(binaries::frontend()).env_clear().args(arguments).output().expect("further-link starts");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_token_command_makes_a_file_that_the_daemon_takes_and_prints_the_address() {
    let builder = Daemon::builder();
    let path = builder.scratch().root().join("made/token");
    let option = format!("--token-file={}", path.display());
    let (done, said, _) = make_token(&["token", &option, "--no-tls", "--port=1234", "--host=pi7.local"]);
    let token = std::fs::read_to_string(&path).unwrap().trim().to_owned();
    assert!(done && said.contains(&format!("ws://pi7.local:1234/run?token={token}")), "{said}");
    assert!(said.contains(&format!("http://pi7.local:1234/#token={token}\n")), "{said}");
    assert!(
        token.len() == 43 && token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'),
        "{token}"
    );
    assert!([0o600, 0o640].contains(&mode_of(&path)), "{:o}", mode_of(&path));
    assert!(!said.contains('█'), "a QR code is for terminals");
    // The same again, and then another one.
    let (done, again, _) = make_token(&["--no-tls", "token", &option, "--host=::1"]);
    assert!(done && again.contains(&format!("ws://[::1]:8028/run?token={token}")), "{again}");
    let (done, other, _) = make_token(&["token", &option, "--new", "--host=x"]);
    assert!(done && other.contains("wss://x:8028/run?token=") && !other.contains(&token), "{other}");
    let token = std::fs::read_to_string(&path).unwrap().trim().to_owned();
    let daemon = builder.argument(&option).start();
    assert_eq!(http::upgrade(daemon.address(), &format!("/run?token={token}"), "").status, 101);
    // What is there and no token is not overwritten.
    std::fs::write(&path, "precious").unwrap();
    let (done, _, complaint) = make_token(&["token", &option]);
    assert!(!done && complaint.contains("--new"), "{complaint}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    let (done, printed, _) = make_token(&["token"]);
    assert!(done && printed.lines().next().is_some_and(|line| line.len() == 43), "{printed}");
    assert!(Process::read(daemon.pid()).is_some());
}

#[test]
fn on_a_terminal_the_token_command_draws_a_qr_code() {
    let scratch = Scratch::new();
    let command =
        format!("{} token --token-file {}/token", binaries::frontend().display(), scratch.root().display());
    let output =
        Command::new("/usr/bin/script").args(["-qec", &command, "/dev/null"]).output().expect("script");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("token=") && said.contains('█'), "{said}");
}
