//! What the daemon must not write down: input, output, program texts, query strings.
//!
//! D25 and CONTRIBUTING.md, rule 4: program text, input, output and query strings are never logged,
//! not even with everything switched on.

use further_link_tests::programs::{program, python};
use further_link_tests::{DEADLINE, Daemon};
use nix::sys::signal::Signal;

/// D25
#[test]
fn nothing_that_users_say_is_in_the_log() {
    let builder = Daemon::builder().argument("--debug").environment("FURTHER_LINK_DEBUG", "1");
    let mut daemon = builder.environment("RUST_LOG", "trace").start();
    let mut client = daemon.run("token=secret-query&pty=1");
    client.start("1", python("#secret-code\nprint('secret-' + 'output', input())"));
    client.stdin("1", "secret-input\r");
    assert_eq!(client.wait_stopped("1"), 0);
    client.send_text("{\"type\": \"secret-type\", \"data\": \"secret-data\"");
    client.next_error();
    client.send_text("{\"type\": \"secret-type\", \"secret-key\": 1}");
    client.next_error();
    client.start("2", program("/usr/bin/cat"));
    client.stdin("2", "secret-more");
    daemon.http("GET", "/status?token=secret-query");
    daemon.http("GET", "/nothing?token=secret-query");
    client.close();
    assert_eq!(daemon.end_with(Signal::SIGTERM), 0);
    let log = daemon.log().text();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("secret")).collect();
    assert!(lines.is_empty(), "{lines:#?}");
}

/// One line for each run: user, program, pid, outcome.
#[test]
fn a_run_is_in_the_log_with_user_and_pid() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    client.start("1", python("import os; print(os.getpid()); input()"));
    let pid = client.wait_pid("1").pid.to_string();
    let says = |line: &str, wanted: &str| {
        line.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == wanted)
    };
    let told = |log: &str| log.lines().any(|line| says(line, &pid) && says(line, "pi")).then_some(());
    assert!(daemon.log().wait_for(DEADLINE, told).is_some(), "{}", daemon.log().text());
}
