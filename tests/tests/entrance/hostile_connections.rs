//! A frontend that was taken over, and what it does instead of speaking: connecting, saying nothing, going
//! away.
//!
//! PROTOCOL.md, "Transport" ("Closing the connection means stop"); docs/threat-model.md ("the helper answers
//! the frontend's uid only"). After each attack the helper still serves, another
//! run was not disturbed, and there is not one process, descriptor or file more than before.
#![expect(clippy::expect_used, reason = "helpers of tests may fail the test")]

use std::fs::File;
use std::io::Write;

use further_link_proto::{Event, ExitStatus, Request, VERSION};
use further_link_tests::helper_only::fixture::traced;
use further_link_tests::helper_only::frontend::{as_user, bytes_of, exec, on_terminal, run, with_text};
use further_link_tests::helper_only::{Fixture, Frontend, Heard, HelperOnly, Running};
use further_link_tests::scratch::set_mode;
use further_link_tests::{DEADLINE, accounts, wait_until};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Python that says `ready`, and `told` at each SIGTERM, and never ends.
const STUBBORN: &[u8] = b"#!/usr/bin/python3 -u
import signal, time
signal.signal(signal.SIGTERM, lambda *_: print('told'))
print('ready')
while True:
    time.sleep(600)
";

/// Opens many descriptors: Debian's soft limit is 1,024.
fn raise_descriptor_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("up to the hard limit");
}

/// ARCHITECTURE.md: a spare is "connected and waiting" for any time, so many may; `listen`: more than 1,024
/// are refused.
#[test]
fn more_silent_connections_than_helpers_may_run_harm_nobody() {
    const MOST: usize = 1024;
    raise_descriptor_limit();
    let mut fixture = Fixture::new();
    let mut silent: Vec<Frontend> = (0..MOST - 1).map(|_| fixture.helper.connect()).collect();
    wait_until(3 * DEADLINE, "all helpers but one are taken", || fixture.helper.instances().len() == MOST);
    fixture.bystander.assert_unharmed();
    for _ in 0..50 {
        fixture.helper.connect().expect_end();
    }
    fixture.bystander.assert_unharmed();
    // One goes, so one may come.
    silent.pop();
    wait_until(DEADLINE, "one is gone", || fixture.helper.instances().len() == MOST - 1);
    fixture.helper.assert_serves();
    drop(silent);
    fixture.assert_unharmed("1,024 silent connections");
}

/// Descriptors and processes are given back each time.
#[test]
fn thousands_of_connections_that_close_at_once_leave_nothing() {
    const CONNECTIONS: usize = 6_000;
    let mut fixture = Fixture::new();
    for number in 0..CONNECTIONS {
        let frontend = fixture.helper.connect();
        match number % 3 {
            0 => {}
            // Something is on its way when the connection is gone.
            1 => frontend.send(&Request::Stop { first: None }),
            _ => frontend.send(&Request::Run(as_user("root", traced(run("shell"))))),
        }
        drop(frontend);
        if number % 1_000 == 0 {
            fixture.bystander.assert_unharmed();
        }
    }
    fixture.assert_unharmed("thousands of connections");
}

/// PROTOCOL.md, "Transport": closing means stop, whatever has been said by then.
#[test]
fn closing_at_any_stage_of_a_start_leaves_nothing() {
    let mut fixture = Fixture::new();
    let text = STUBBORN;
    for terminal in [false, true] {
        let with_size = |run| if terminal { on_terminal(run) } else { run };
        let announced = with_size(with_text("exec", text.len()));
        // Before `Run`; right after it, with and without text to come.
        drop(fixture.helper.connect());
        for run in [with_size(exec("/usr/bin/cat")), with_size(run("shell")), announced.clone()] {
            let frontend = fixture.helper.connect();
            frontend.send(&Request::Run(run));
        }
        // With a pipe for text in hand, and 0, 1, half and all of the bytes in it; the pipe closed before or
        // after.
        for sent in [0, 1, text.len() / 2, text.len()] {
            for pipe_first in [false, true] {
                let frontend = fixture.helper.connect();
                frontend.send(&Request::Run(announced.clone()));
                let mut pipe = frontend.expect_code();
                pipe.write_all(&text[..sent]).expect("the pipe takes it");
                if pipe_first {
                    drop(pipe);
                    drop(frontend);
                } else {
                    drop(frontend);
                    drop(pipe);
                }
            }
        }
        fixture.assert_unharmed("a close during the start");
    }
}

/// The same once the program runs, for programs that want to stay.
#[test]
fn closing_at_any_stage_of_a_run_leaves_nothing() {
    let helper = HelperOnly::builder().allow_users(&["pi"]).argument("--grace=0.5").start();
    let mut fixture = Fixture::of(helper);
    for terminal in [false, true] {
        let stubborn = || {
            let run = with_text("exec", STUBBORN.len());
            let run = if terminal { on_terminal(run) } else { run };
            let mut running = fixture.helper.connect().start(&run, STUBBORN);
            assert_eq!(running.read_line().trim_end(), "ready");
            running
        };
        // After `Started`: the connection before the streams, and the streams before the connection.
        let Running { frontend, input, output, errors, .. } = stubborn();
        drop(frontend);
        drop((input, output, errors));
        let Running { frontend, input, output, errors, .. } = stubborn();
        drop((input, output, errors));
        drop(frontend);
        // While it is being stopped, and the streams are kept.
        let mut running = stubborn();
        running.frontend.send(&Request::Stop { first: None });
        assert_eq!(running.read_line().trim_end(), "told");
        let Running { frontend, input, output, errors, program, .. } = running;
        drop(frontend);
        wait_until(DEADLINE, "it is killed after the grace", || !program.is_alive());
        fixture.helper.assert_as_before(&fixture.before, "a close while it was being stopped");
        drop((input, output, errors));
        fixture.assert_unharmed("a close during the run");
    }
}

/// The helper never waits for a frontend to listen: all events of a run fit into the socket's buffer.
#[test]
fn a_frontend_that_never_reads_holds_up_nobody() {
    let mut fixture = Fixture::new();
    let mut deaf = Vec::new();
    for number in 0..100 {
        let frontend = fixture.helper.connect();
        frontend.send(&Request::Run(match number % 3 {
            0 => exec("/bin/true"),
            1 => exec("/bin/no-such-file"),
            _ => as_user("root", traced(run("shell"))),
        }));
        deaf.push(frontend);
    }
    // `cat`, which runs on and is stopped: the streams wait in the socket, where they are not taken.
    for _ in 0..20 {
        let frontend = fixture.helper.connect();
        frontend.send(&Request::Run(exec("/usr/bin/cat")));
        frontend.send(&Request::Stop { first: None });
        deaf.push(frontend);
    }
    fixture.helper.assert_as_before(&fixture.before, "all helpers have ended, heard or not");
    fixture.assert_unharmed("frontends that do not listen");
    // All that was said is still there, descriptors and all.
    let Heard::Event(Event::Started { .. }, streams) = deaf[0].hear() else { panic!("not Started") };
    assert_eq!(streams.len(), 4, "three pipes and the user channel");
    assert_eq!(deaf[0].wait_exited(), ExitStatus::Exited(0));
}

/// Streams are the frontend's own; what it does with them must not reach the helper or another run.
#[test]
fn a_frontend_that_closes_the_streams_and_stays_harms_its_own_program_only() {
    let mut fixture = Fixture::new();
    let Running { frontend, input, output, errors, .. } =
        fixture.helper.connect().start(&exec("/usr/bin/yes"), &[]);
    drop((input, output, errors));
    // `yes` writes to a pipe without a reader.
    assert_eq!(frontend.wait_exited(), ExitStatus::Signaled(13));
    let Running { frontend, input, output, errors, .. } =
        fixture.helper.connect().start(&on_terminal(exec("/usr/bin/cat")), &[]);
    drop((input, output, errors));
    // The terminal hangs up (tty(4)).
    assert_eq!(frontend.wait_exited(), ExitStatus::Signaled(1));
    fixture.assert_unharmed("streams closed by the frontend");
}

/// What a stranger hears: python, since only another process has another uid.
fn stranger(user: &str, socket: &str, request: &Request) -> String {
    let bytes = bytes_of(request);
    let code = format!(
        r"
import socket
connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
try:
    connection.connect({socket:?})
    connection.settimeout(20)
    connection.send(bytes({bytes:?}))
    print('heard', connection.recv(8192))
except (BrokenPipeError, ConnectionResetError):
    print('closed')
except PermissionError:
    print('no way in')
"
    );
    let arguments =
        ["--reuid", user, "--regid", user, "--init-groups", "--", "/usr/bin/python3", "-c", &code];
    accounts::run("/usr/bin/setpriv", &arguments)
}

/// PROTOCOL.md, "Transport": "closes when the uid is not the frontend's", which here is root's own.
#[test]
fn strangers_are_not_answered_and_nothing_is_done_for_them() {
    let mut fixture = Fixture::new();
    let socket = fixture.helper.socket.to_str().expect("UTF-8").to_owned();
    let shell = Request::Run(traced(run("shell")));
    // As the helper makes it, the socket is not even theirs to connect to.
    assert_eq!(stranger("linkother", &socket, &shell), "no way in\n");
    set_mode(&fixture.helper.socket, 0o666);
    for request in [shell, Request::Stop { first: None }, Request::Run(with_text("python3", 10))] {
        for user in ["linkother", "pi"] {
            let answer = stranger(user, &socket, &request);
            assert!(["closed\n", "heard b''\n"].contains(&answer.as_str()), "{user}: {answer}");
        }
    }
    assert!(fixture.helper.process.log.text().contains("not the frontend"));
    fixture.assert_unharmed("strangers");
}

/// The pipe for program text is the frontend's, too: many of them, filled to the brim, are not read by root.
#[test]
fn text_that_is_written_and_never_completed_stays_in_its_pipe() {
    let mut fixture = Fixture::new();
    let mut held: Vec<(Frontend, File)> = Vec::new();
    for _ in 0..20 {
        let frontend = fixture.helper.connect();
        frontend.send(&Request::Run(with_text("python3", 1024 * 1024)));
        let mut pipe = frontend.expect_code();
        pipe.write_all(&vec![b'#'; 1024 * 512]).expect("the child takes it");
        held.push((frontend, pipe));
    }
    fixture.helper.assert_serves();
    for (frontend, pipe) in held {
        // Nonsense ends the conversation at this stage as well.
        frontend.send_bytes(&[VERSION, 77]).expect("the helper waits");
        frontend.expect_end();
        let broken = { pipe }.write_all(b"#");
        assert!(broken.is_err_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe));
    }
    fixture.assert_unharmed("texts without an end");
}
