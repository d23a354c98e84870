//! The two binaries started apart: by socket activation, by their own listening, and by people who may not.
//!
//! Architecture, "Starting" and "The boundary" (who may talk to the helper, and who decides what it does).
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]
#![expect(clippy::disallowed_methods, reason = "it runs strangers that knock at the helper's socket")]

use std::path::Path;
use std::process::Command;

use further_link_tests::processes::Status;
use further_link_tests::programs::{SLEEPER, program, python};
use further_link_tests::scratch::{Scratch, set_mode};
use further_link_tests::standalone::{Helper, service};
use further_link_tests::{DEADLINE, Daemon, accounts, binaries};
use nix::sys::signal::Signal;
use serde_json::json;

/// A walk through the main things, with a terminal and without.
#[track_caller]
fn assert_works(daemon: &Daemon) {
    assert_eq!(daemon.http("GET", "/status").body, "OK");
    let mut client = daemon.run("");
    let finished = client.run("1", python("import getpass, os; print(getpass.getuser(), os.getcwd())"));
    assert_eq!(finished.stdout, format!("pi {}\n", daemon.temp().display()), "{finished:?}");
    client.start("1", python(SLEEPER));
    let sleeper = client.wait_pid("1");
    let mut terminal = daemon.run("pty=1");
    terminal.start("1", json!({"runner": "shell", "path": "my/project"}));
    terminal.stdin("1", "echo $((6 * 7)) $(pwd)\r");
    terminal.wait_stdout("1", &format!("42 {}\r\n", daemon.work().join("my/project").display()));
    assert_eq!(daemon.run_py("").run("", json!({"sourceScript": "print('hi')"})).stdout, "hi\n");
    client.stop("1");
    assert_eq!(client.wait_stopped("1"), -15);
    assert!(!sleeper.is_alive());
}

/// The frontend takes its listener from systemd and starts its helper itself.
#[test]
fn a_socket_activated_frontend_works_with_its_own_helper() {
    let daemon = Daemon::builder().socket_activated().start();
    assert_works(&daemon);
    assert_ne!(Status::of(daemon.pid()).numbers("Uid")[0], 0);
}

/// Both from systemd, one helper process for each connection.
#[test]
fn both_binaries_work_socket_activated() {
    let builder = Daemon::builder();
    let activate = ["systemd-socket-activate", "--seqpacket", "--accept", "--inetd", "-l", "SOCKET", "--"];
    let helper = Helper::start(builder.scratch(), &activate, &["--frontend-user", &service()]);
    let daemon = helper.used_by(builder).socket_activated().start();
    assert_works(&daemon);
    assert_ne!(Status::of(daemon.pid()).numbers("Uid")[0], 0);
    assert_eq!(daemon.processes().len(), 1, "the frontend started a helper although it was given one");
    drop(daemon);
    helper.assert_only_the_listener_is_left();
}

/// The listening socket itself as descriptor 3, by the protocol of `sd_listen_fds(3)`.
#[test]
fn the_helper_accepts_on_a_listener_from_systemd() {
    let builder = Daemon::builder();
    let activate = ["systemd-socket-activate", "--seqpacket", "-l", "SOCKET", "--"];
    let helper = Helper::start(builder.scratch(), &activate, &["--frontend-user", &service()]);
    let daemon = helper.used_by(builder).start();
    assert_works(&daemon);
    drop(daemon);
    helper.assert_only_the_listener_is_left();
}

/// The listening socket as descriptor 0, as inetd passes it.
#[test]
fn the_helper_accepts_on_a_listener_as_its_stdin() {
    let builder = Daemon::builder();
    let code = "import os, socket, sys\ns = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n\
                s.bind(sys.argv[1])\ns.listen()\nos.dup2(s.fileno(), 0)\nos.execv(sys.argv[2], sys.argv[2:])";
    let helper = Helper::start(
        builder.scratch(),
        &["python3", "-c", code, "SOCKET"],
        &["--frontend-user", &service()],
    );
    let daemon = helper.used_by(builder).start();
    assert_works(&daemon);
    drop(daemon);
    helper.assert_only_the_listener_is_left();
}

/// Architecture, "Starting": "The helper can also listen by itself and fork one instance per connection".
#[test]
fn the_helper_can_listen_by_itself() {
    let builder = Daemon::builder();
    let options = ["--listen", "SOCKET", "--frontend-user", &service()];
    let helper = Helper::start(builder.scratch(), &[], &options);
    let daemon = helper.used_by(builder).start();
    assert_works(&daemon);
    drop(daemon);
    helper.assert_only_the_listener_is_left();
}

/// The environment names the socket as well as the option.
#[test]
fn the_helper_socket_may_come_from_the_environment() {
    let builder = Daemon::builder();
    let options = ["--listen", "SOCKET", "--frontend-user", &service()];
    let helper = Helper::start(builder.scratch(), &[], &options);
    let daemon = builder.environment("FURTHER_LINK_HELPER_SOCKET", helper.socket.to_str().unwrap()).start();
    assert_works(&daemon);
    assert_eq!(daemon.processes().len(), 1, "the frontend started a helper although it was given one");
}

/// A unit file whose variable is empty must not open the door: D9.
#[test]
fn a_helper_of_root_needs_a_list_of_users_that_names_somebody() {
    accounts::ensure();
    for arguments in [&[][..], &["--allow-users="], &["--allow-users", " , "]] {
        let scratch = Scratch::new();
        let socket = scratch.root().join("helper.sock");
        let output =
            Command::new(binaries::helper()).arg("--listen").arg(&socket).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(78), "{arguments:?}: {output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("no user is named, so no program could run"), "{arguments:?}: {said}");
        assert!(!socket.exists(), "{arguments:?}");
    }
}

/// The units make options of variables, and the administrator has only seen the variables.
#[test]
fn a_helper_names_the_variable_that_its_bad_option_is_made_of() {
    accounts::ensure();
    for (variable, value, option, users) in [
        ("FURTHER_LINK_GRACE", "61", "--grace=61", "pi"),
        ("FURTHER_LINK_TEMP_DIR", "tmp", "--temp-dir=tmp", "pi"),
        ("FURTHER_LINK_ALLOW_USERS", "", "--allow-users=", ""),
        ("FURTHER_LINK_ALLOW_USERS", "pi 0", "--grace=2", "pi 0"),
        ("FURTHER_LINK_ALLOW_USERS", "root:token", "--grace=2", "root:token"),
    ] {
        let allowed = format!("--allow-users={users}");
        let mut helper = Command::new(binaries::helper());
        helper.args([&allowed, option]).env(variable, value);
        let output = helper.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{variable}: {said}");
        assert!(said.contains(&format!("{variable}={value} cannot be used: ")), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

/// Without `--frontend-user` it is the helper's own, so a user can run both.
#[test]
fn a_user_can_run_both_without_privilege() {
    let builder = Daemon::builder().run_as("pi");
    set_mode(&builder.scratch().root(), 0o777);
    let become_pi = ["setpriv", "--reuid", "pi", "--regid", "pi", "--init-groups", "--"];
    let helper = Helper::start(builder.scratch(), &become_pi, &["--listen", "SOCKET"]);
    let daemon = helper.used_by(builder).start();
    assert_works(&daemon);
    drop(daemon);
    helper.assert_only_the_listener_is_left();
}

/// Architecture: "Policy (who may run, limits) is the helper's own, ... out of the frontend's reach".
#[test]
fn the_helper_decides_who_may_run() {
    let builder = Daemon::builder().allow_users(&["pi", "root", "linkother"]);
    let options = [
        "--listen",
        "SOCKET",
        "--frontend-user",
        &service(),
        "--allow-user",
        "pi",
        "--allow-user",
        "linkother",
    ];
    let helper = Helper::start(builder.scratch(), &[], &options);
    let daemon = helper.used_by(builder).start();
    let error = daemon.run("user=root").try_start("1", program("/usr/bin/id")).unwrap_err();
    assert!(error.starts_with("Message Exception: "), "{error}");
    let finished = daemon.run("user=linkother").run("1", program("/usr/bin/id"));
    assert!(finished.stdout.contains("(linkother)"), "{finished:?}");
    assert_works(&daemon);
}

/// A service that is restarted, as after an upgrade, with the frontend's spare connection open.
#[test]
fn the_frontend_outlives_a_helper_that_goes_and_comes_back() {
    let builder = Daemon::builder();
    let options = ["--listen", "SOCKET", "--frontend-user", &service()];
    let helper = Helper::start(builder.scratch(), &[], &options);
    let daemon = helper.used_by(builder).start();
    assert_works(&daemon);
    let socket = helper.socket.clone();
    helper.process.signal(Signal::SIGTERM);
    helper.process.wait_exit(DEADLINE).unwrap();
    drop(helper);
    if socket.exists() {
        std::fs::remove_file(&socket).unwrap();
    }
    let mut client = daemon.run("");
    let error = client.try_start("1", python("print('never')")).unwrap_err();
    assert!(error.starts_with("Message Exception: "), "{error}");
    client.expect_no_reply();
    let _back = Helper::start(daemon.scratch(), &[], &options);
    assert_eq!(client.run("1", python("print('back')")).stdout, "back\n");
    assert_works(&daemon);
    drop(client);
    drop(daemon);
}

/// Python that connects to `argv[1]`, sends `argv[2]` (hexadecimal) if it is there, and tells what comes
/// back.
const STRANGER: &str = r"
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.settimeout(10)
try:
    s.connect(sys.argv[1])
    if len(sys.argv) > 2:
        s.send(bytes.fromhex(sys.argv[2]))
    answers = []
    while data := s.recv(65536):
        answers.append(data)
    print('closed', len(answers))
except (PermissionError, ConnectionResetError, BrokenPipeError):
    print('closed 0')
except TimeoutError:
    print('still open')
";

#[track_caller]
fn stranger(user: &str, socket: &Path, message: Option<&str>) -> String {
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", user, "--clear-groups", "--", "/usr/bin/python3", "-c", STRANGER])
        .arg(socket)
        .args(message);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Contract: "`SO_PEERCRED` of the peer must be --frontend-user"; root is no exception.
#[test]
fn the_helper_talks_to_nobody_but_the_frontend() {
    let builder = Daemon::builder();
    let options = ["--listen", "SOCKET", "--frontend-user", &service()];
    let helper = Helper::start(builder.scratch(), &[], &options);
    for user in ["linkother", "pi", "root"] {
        assert_eq!(stranger(user, &helper.socket, None), "closed 0", "{user}");
        assert_eq!(stranger(user, &helper.socket, Some("00")), "closed 0", "{user}");
    }
    let daemon = helper.used_by(builder).start();
    assert_works(&daemon);
}

/// Conventions, rule 5: "A bad message from the frontend: the helper ends the conversation and its children".
#[test]
fn a_malformed_request_ends_that_conversation_and_no_other() {
    let builder = Daemon::builder();
    let options = ["--listen", "SOCKET", "--frontend-user", &service()];
    let helper = Helper::start(builder.scratch(), &[], &options);
    let daemon = helper.used_by(builder).start();
    let mut client = daemon.run("");
    client.start("1", python("print(input())"));
    let long = "00".repeat(60_000);
    for message in ["00", "ff", "ffffffffffffffff", "0102030405060708090a", "7b2274797065223a317d", &long] {
        let answer = stranger(&service(), &helper.socket, Some(message));
        assert!(answer.starts_with("closed"), "{message:.20}: {answer}");
    }
    client.stdin("1", "still here\n");
    assert_eq!(client.wait_stopped("1"), 0);
    assert_eq!(client.stdout("1"), "still here\n");
    assert_works(&daemon);
    drop(client);
    drop(daemon);
    helper.assert_only_the_listener_is_left();
    assert!(!helper.process.log.text().contains("panicked"), "{}", helper.process.log.text());
}
