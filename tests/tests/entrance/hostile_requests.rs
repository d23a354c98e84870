//! A frontend that was taken over, and what it asks for in good form: users it may not have, things out of
//! order, more program text than it announced, or less.
//!
//! PROTOCOL.md, "Order" and "Requests". A refused request has no effect at all: each of these would
//! make a directory that the inventory finds. `hostile_frontend` has what is no request.

use std::io::Write;

use further_link_proto::{Event, ExitStatus, MAX_CODE, Refusal, Request, SocketError, Step};
use further_link_tests::helper_only::fixture::{traced, with_user};
use further_link_tests::helper_only::frontend::{as_user, bytes_of, exec, on_terminal, run, with_text};
use further_link_tests::helper_only::{Fixture, Frontend, Heard, HelperOnly};

/// docs/threat-model.md: "programs and uploads as the allowed users", and PROTOCOL.md, `Run`, field 1.
#[test]
fn users_who_are_not_allowed_or_do_not_exist_run_nothing() {
    let mut fixture = Fixture::new();
    for name in ["root", "nobody", "linkother", "daemon", "www-data"] {
        for request in
            [run("shell"), with_text("python3", 1), with_text("exec", 1), on_terminal(run("shell"))]
        {
            let frontend = fixture.helper.connect();
            frontend.send(&Request::Run(as_user(name, traced(request))));
            frontend.expect_refused(Refusal::UserNotAllowed);
        }
    }
    // An account that is not on the list is not looked up: the frontend learns nothing of which exist.
    for name in ["no-such-user", "PI", "pi\u{200b}", "pi$", "_pi", "rооt", "%70i", &"u".repeat(32)] {
        let frontend = fixture.helper.connect();
        frontend.send_bytes(&with_user(name.as_bytes())).expect("the helper waits");
        frontend.expect_refused(Refusal::UserNotAllowed);
    }
    fixture.assert_unharmed("users who may not");
    // That these would have left something: what is not refused does.
    drop(fixture.helper.connect().start(&traced(run("shell")), &[]));
    assert!(fixture.helper.scratch().temp().join("trace").is_dir());
}

/// PROTOCOL.md, `Refused`: 1 is for an account that the list names and the machine does not have.
#[test]
fn a_user_who_is_allowed_and_does_not_exist_runs_nothing() {
    let mut fixture = Fixture::of(HelperOnly::builder().allow_users(&["pi", "no-such-user"]).start());
    for request in [run("shell"), with_text("python3", 1)] {
        let frontend = fixture.helper.connect();
        frontend.send(&Request::Run(as_user("no-such-user", traced(request))));
        frontend.expect_refused(Refusal::UnknownUser);
    }
    fixture.assert_unharmed("a user who does not exist");
}

/// The classes of CVE-2019-14287 (a uid as name), CVE-2023-42456 (a path as name), and of entries of
/// passwd(5).
#[test]
fn numbers_paths_and_options_are_no_user_names() {
    let mut fixture = Fixture::new();
    let pi =
        nix::unistd::User::from_name("pi").expect("readable").expect("made by the harness").uid.to_string();
    let names: [&[u8]; 18] = [
        b"",
        b"0",
        pi.as_bytes(),
        b"4294967295",
        b"-1",
        b"+0",
        b"../root",
        b"/etc/passwd",
        b"root/",
        b"pi:x:0:0",
        b"pi\nroot",
        b"pi\0",
        b"root\0pi",
        b" pi",
        b"pi ",
        b"~root",
        b"root,pi",
        b"\xff\xfe",
    ];
    for name in names {
        let frontend = fixture.helper.connect();
        frontend.send_bytes(&with_user(name)).expect("the helper waits");
        frontend.expect_end();
    }
    let frontend = fixture.helper.connect();
    frontend.send_bytes(&with_user(&[b'u'; 33])).expect("the helper waits");
    frontend.expect_end();
    fixture.assert_unharmed("names that are none");
}

/// PROTOCOL.md, "Order": a second `Run` "ends the conversation: the helper kills what it started".
#[test]
fn a_second_run_ends_the_first_and_starts_nothing() {
    let mut fixture = Fixture::new();
    let again = Request::Run(traced(run("shell")));
    // At once, so that the helper finds it while the first one starts.
    let frontend = fixture.helper.connect();
    frontend.send(&Request::Run(exec("/usr/bin/cat")));
    frontend.send(&again);
    // The streams are kept: without them `cat` would end by itself.
    let mut kept = Vec::new();
    while let Heard::Event(event, descriptors) = frontend.hear() {
        assert!(matches!(event, Event::Started { .. }), "{event:?}");
        kept.push(descriptors);
    }
    // Where text is awaited, and where the program runs.
    let frontend = fixture.helper.connect();
    frontend.send(&Request::Run(with_text("python3", 10)));
    let text = frontend.expect_code();
    frontend.send(&again);
    frontend.expect_end();
    drop(text);
    let running = fixture.helper.connect().start(&exec("/usr/bin/cat"), &[]);
    running.frontend.send(&again);
    running.frontend.expect_end();
    assert!(!running.program.is_alive());
    // While it is being stopped: the grace is over then.
    let ignoring = b"#!/usr/bin/python3 -u\nimport signal, time\nsignal.signal(15, lambda *_: print('told'))\nprint('ready')\nwhile True: time.sleep(600)\n";
    let mut running = fixture.helper.connect().start(&with_text("exec", ignoring.len()), ignoring);
    assert_eq!(running.read_line(), "ready\n");
    running.frontend.send(&Request::Stop { first: None });
    assert_eq!(running.read_line(), "told\n");
    running.frontend.send(&again);
    running.frontend.expect_end();
    assert!(!running.program.is_alive());
    fixture.assert_unharmed("second runs");
}

/// PROTOCOL.md, `Stop`: "any number of times" after `Run`, and "a `Stop` first" ends the conversation.
#[test]
fn a_stop_without_a_run_ends_the_conversation_and_ten_thousand_are_one() {
    let mut fixture = Fixture::new();
    let frontend = fixture.helper.connect();
    frontend.send(&Request::Stop { first: None });
    // What stands behind it is not looked at any more.
    let (Ok(()) | Err(_)) = frontend.send_bytes(&bytes_of(&Request::Run(traced(run("shell")))));
    frontend.expect_end();

    let running = fixture.helper.connect().start(&exec("/usr/bin/cat"), &[]);
    for _ in 0..10_000 {
        match running.frontend.0.send(&Request::Stop { first: None }) {
            Ok(()) => {}
            // The queue is full for now, or the run has ended at the first one.
            Err(SocketError::Io(_)) => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(running.frontend.wait_exited(), ExitStatus::Signaled(15));
    fixture.assert_unharmed("stops");
}

/// PROTOCOL.md, `Code`: "It starts the program only when exactly the announced number of bytes came."
#[test]
fn program_text_of_another_length_than_announced_is_never_run_whole() {
    let mut fixture = Fixture::new();
    let text = b"print('all of it', flush=True)\ninput()\nprint('and more')\n";
    // More text than announced: what was announced is the program.
    let announced = text.iter().position(|byte| *byte == b'\n').expect("a line") + 1;
    let mut running = fixture.helper.connect().start(&with_text("python3", announced), text);
    assert_eq!(running.read_line(), "all of it\n");
    assert_eq!(running.frontend.wait_exited(), ExitStatus::Exited(0));
    // The most that may be announced, and nothing of it sent.
    let most = usize::try_from(MAX_CODE).expect("fits");
    let frontends: Vec<_> = (0..20).map(|_| fixture.helper.connect()).collect();
    for frontend in &frontends {
        frontend.send(&Request::Run(with_text("exec", most)));
    }
    let pipes: Vec<_> = frontends.iter().map(Frontend::expect_code).collect();
    drop(frontends);
    drop(pipes);
    fixture.assert_unharmed("texts of other lengths");
}

/// The same: "exactly", so text that ends early is a `Failed`, and not one that is waited for as long as the
/// connection.
#[test]
fn program_text_that_ends_early_fails_the_start() {
    let mut fixture = Fixture::new();
    for sent in [&b""[..], b"print('half of it')\n"] {
        let frontend = fixture.helper.connect();
        frontend.send(&Request::Run(with_text("python3", 300)));
        frontend.expect_code().write_all(sent).expect("the pipe takes it");
        let heard = frontend.hear();
        let failed = matches!(heard, Heard::Event(Event::Failed { step: Step::WriteCode, .. }, _));
        assert!(failed, "{heard:?}");
        frontend.expect_end();
    }
    fixture.assert_unharmed("half a text");
}
