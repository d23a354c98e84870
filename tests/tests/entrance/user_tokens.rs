//! Users for whom a second token is needed: root, as packaged. The helper compares it, so that a frontend
//! that was taken over cannot become root; half of the tests are that frontend.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use further_link_proto::{Refusal, Request, Run, Token};
use further_link_tests::daemon::Builder;
use further_link_tests::helper_only::fixture::traced;
use further_link_tests::helper_only::frontend::{as_user, exec, run, with_text};
use further_link_tests::helper_only::{Fixture, HelperOnly};
use further_link_tests::netns::{Network, SERVER};
use further_link_tests::processes::Status;
use further_link_tests::programs::python;
use further_link_tests::scratch::{Scratch, set_mode};
use further_link_tests::{Client, Daemon};

const TOKEN: &str = "r00t-r00t_r00t-r00t_r00t-r00t_r00t-r00t_r00";
const OTHER: &str = "0ther-0ther_0ther-0ther_0ther-0ther_0ther-0";

fn token_file(scratch: &Scratch) -> PathBuf {
    let path = scratch.root().join("user-token");
    std::fs::write(&path, format!("{TOKEN}\n")).unwrap();
    set_mode(&path, 0o600);
    path
}

fn with_token(token: Option<&str>, mut run: Run) -> Run {
    run.identity.token = token.map(|token| Token::new(token).unwrap());
    run
}

/// A helper for pi, and for root with the token; and where the token is.
fn fixture() -> (Fixture, PathBuf) {
    let builder = HelperOnly::builder();
    let path = token_file(builder.scratch());
    let builder = builder.argument("--allow-users=pi root:token");
    (Fixture::of(builder.argument("--user-token-file").argument(path.to_str().unwrap()).start()), path)
}

#[track_caller]
fn refused(fixture: &Fixture, request: Run, refusal: Refusal) {
    let frontend = fixture.helper.connect();
    frontend.send(&Request::Run(request));
    frontend.expect_refused(refusal);
}

#[track_caller]
fn runs_as(fixture: &Fixture, request: &Run, uid: u64) {
    let running = fixture.helper.connect().start(request, &[]);
    assert_eq!(Status::of(running.program.pid).numbers("Uid"), [uid; 4]);
}

#[test]
fn a_frontend_that_was_taken_over_is_not_root_without_the_token() {
    let (mut fixture, _) = fixture();
    let requests = [run("shell"), exec("/usr/bin/id"), with_text("python3", 1), with_text("exec", 1)];
    for request in requests {
        let root = |token| with_token(token, as_user("root", traced(request.clone())));
        refused(&fixture, root(None), Refusal::TokenMissing);
        let wrong =
            [OTHER, &TOKEN[..42], &format!("{TOKEN}x"), &TOKEN.to_uppercase(), "x", "root", "pi", "token"];
        for token in wrong {
            refused(&fixture, root(Some(token)), Refusal::TokenWrong);
        }
        // The token is only for users whom the list names so.
        for name in ["daemon", "linkother", "root:token"] {
            if let Ok(user) = further_link_proto::UserName::new(name) {
                let mut request = root(Some(TOKEN));
                request.identity.user = Some(user);
                refused(&fixture, request, Refusal::UserNotAllowed);
            }
        }
    }
    fixture.assert_unharmed("users without their token");
    runs_as(&fixture, &with_token(Some(TOKEN), as_user("root", exec("/usr/bin/cat"))), 0);
    let log = fixture.helper.process.log.text();
    assert!(!log.contains("r00t") && !log.contains("0ther"), "{log}");
}

/// PROTOCOL.md: a token is 1 to so many bytes; an empty one cannot even be said.
#[test]
fn an_empty_token_ends_the_conversation() {
    let (mut fixture, _) = fixture();
    let request = with_token(Some("QQQQ"), as_user("root", traced(run("shell"))));
    let bytes = further_link_tests::helper_only::frontend::bytes_of(&Request::Run(request));
    let at = bytes.windows(5).position(|window| window == b"\x04QQQQ").expect("length and text");
    let empty = [&bytes[..at], b"\0", &bytes[at + 5..]].concat();
    let frontend = fixture.helper.connect();
    frontend.send_bytes(&empty).expect("the helper waits");
    frontend.expect_end();
    fixture.assert_unharmed("an empty token");
}

/// pi runs without one, so what is shown does not matter.
#[test]
fn a_user_who_needs_none_runs_with_any_token() {
    let (fixture, _) = fixture();
    let pi = u64::from(further_link_tests::accounts::pi().uid);
    for token in [None, Some(TOKEN), Some(OTHER)] {
        runs_as(&fixture, &with_token(token, exec("/usr/bin/cat")), pi);
    }
}

#[test]
fn a_replaced_token_is_refused_at_once() {
    let (fixture, path) = fixture();
    let root = |token| with_token(Some(token), as_user("root", exec("/usr/bin/cat")));
    runs_as(&fixture, &root(TOKEN), 0);
    // One that waits already reads the new file, too.
    let waiting = fixture.helper.connect();
    std::fs::write(&path, OTHER).unwrap();
    waiting.send(&Request::Run(root(TOKEN)));
    waiting.expect_refused(Refusal::TokenWrong);
    refused(&fixture, root(TOKEN), Refusal::TokenWrong);
    runs_as(&fixture, &root(OTHER), 0);
    std::fs::remove_file(&path).unwrap();
    refused(&fixture, root(OTHER), Refusal::TokenWrong);
}

#[test]
fn a_token_file_that_others_can_read_lets_nobody_in_and_the_log_says_so() {
    let (fixture, path) = fixture();
    let root = || with_token(Some(TOKEN), as_user("root", exec("/usr/bin/cat")));
    for mode in [0o604, 0o640, 0o660, 0o602] {
        set_mode(&path, mode);
        refused(&fixture, root(), Refusal::TokenWrong);
    }
    let log = &fixture.helper.process.log;
    log.expect("chmod 600");
    set_mode(&path, 0o600);
    runs_as(&fixture, &root(), 0);
}

/// The same through the daemon, for the people in front of the browser.
fn guarded() -> Builder {
    let builder = Daemon::builder();
    let path = token_file(builder.scratch());
    let builder = builder.allow_users(&["pi", "root:token"]);
    builder.argument("--user-token-file").argument(path.to_str().unwrap())
}

#[test]
fn root_runs_programs_for_those_who_show_the_token() {
    let daemon = guarded().start();
    let error = daemon.run("user=root").try_start("1", python("1")).unwrap_err();
    assert!(error.starts_with("Message Exception: ") && error.contains("user_token="), "{error}");
    for query in [format!("user=root&user_token={OTHER}"), "user=root&user_token=x%20y".to_owned()] {
        for mut client in [daemon.run(&query), daemon.run(&format!("{query}&pty=1"))] {
            let error = client.try_start("1", python("1")).unwrap_err();
            assert!(error.starts_with("Message Exception: ") && error.contains("token"), "{error}");
            client.ping();
        }
    }
    let ids = python("import os; print(os.getuid(), os.geteuid())");
    let root = format!("user=root&user_token={TOKEN}");
    assert_eq!(daemon.run(&root).run("1", ids.clone()).stdout, "0 0\n");
    let finished = daemon.run(&format!("user_token={OTHER}")).run("1", ids);
    assert_ne!(finished.stdout, "0 0\n", "pi needs none, and gets no more by one");
}

#[test]
fn the_token_of_a_user_reaches_no_log_and_no_program() {
    let daemon = guarded().argument("--debug").start();
    daemon.run(&format!("user=root&user_token={OTHER}")).try_start("1", python("1")).unwrap_err();
    let mut client = daemon.run(&format!("user=root&user_token={TOKEN}"));
    client.start("1", python("import os\nprint('ready', dict(os.environ), flush=True)\ninput()"));
    client.wait_stdout("1", "ready");
    assert!(!client.stdout("1").contains("r00t"));
    for process in daemon.processes() {
        let read = |name: &str| std::fs::read(format!("/proc/{}/{name}", process.pid)).unwrap_or_default();
        for file in ["cmdline", "environ"] {
            let text = String::from_utf8_lossy(&read(file)).into_owned();
            assert!(!text.contains("r00t") && !text.contains("0ther"), "{file} of {}: {text}", process.name);
        }
    }
    client.stdin("1", "\n");
    client.wait_stopped("1");
    let log = daemon.log().text();
    assert!(
        log.contains("the token shown for it is wrong") && !log.contains("r00t") && !log.contains("0ther"),
        "{log}"
    );
}

/// Like wrong tokens for the device: later and later, and then not even compared.
#[test]
fn guessing_the_token_of_a_user_is_delayed_and_limited() {
    let daemon = Network::around(guarded().argument("--allow-no-origin")).start();
    let there = Network::of(&daemon);
    let guess = |from: &str, token: &str| {
        let path = format!("/run?user=root&user_token={token}");
        let mut client = Client::over(there.connect(from, SERVER), SERVER, &path, daemon.log().clone());
        let begun = Instant::now();
        let outcome = client.try_start("1", python("1"));
        if outcome.is_ok() {
            client.wait_stopped("1");
        }
        (outcome, begun.elapsed())
    };
    let times: Vec<_> = std::thread::scope(|scope| {
        let guesses: Vec<_> = (0..10).map(|_| scope.spawn(|| guess("192.0.2.2", OTHER).1)).collect();
        guesses.into_iter().map(|guess| guess.join().expect("answered")).collect()
    });
    assert!(times.iter().all(|time| *time >= Duration::from_millis(500)), "{times:?}");
    assert!(times.iter().filter(|time| **time >= Duration::from_secs(4)).count() >= 7, "{times:?}");
    for token in [OTHER, TOKEN] {
        let error = guess("192.0.2.2", token).0.unwrap_err();
        assert!(error.contains("too many wrong tokens"), "{error}");
    }
    assert_eq!(guess("192.0.2.3", TOKEN).0, Ok(()), "from another address");
}
