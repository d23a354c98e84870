//! Too much of everything: readers that do not read, programs that do not read, programs that flood.
//!
//! D26 and D27, B6.7. Memory is bounded because the program waits (`VmHWM` of the frontend);
//! ping, stop and other programs do not wait for it.
#![expect(clippy::indexing_slicing, reason = "helpers of tests may fail the test")]

use std::time::{Duration, Instant};

use further_link_tests::processes::Status;
use further_link_tests::programs::{SLEEPER, numbered, program, python};
use further_link_tests::wait::settled;
use further_link_tests::{Client, DEADLINE, Daemon, wait_until};
use serde_json::json;

/// Far more than every buffer on the way, far less than what a program could write meanwhile.
const MEMORY_LIMIT_KIB: u64 = 96 * 1024;

/// The most memory the frontend ever had, in KiB.
#[track_caller]
fn peak_memory(daemon: &Daemon) -> u64 {
    Status::of(daemon.pid()).numbers("VmHWM")[0]
}

/// Python that writes 64 MiB and notes in the file `progress` how far it is.
const NOTED_FLOOD: &str = r"
import os, sys
chunk = ('x' * 1023 + '\n') * 64
with open('progress', 'w') as progress:
    for number in range(1024):
        sys.stdout.write(chunk)
        progress.seek(0)
        progress.write(str(number + 1))
        progress.flush()
";

/// The program waits instead of filling the memory.
#[test]
fn a_program_waits_for_a_slow_reader_and_nothing_is_lost() {
    let daemon = Daemon::start();
    for query in ["", "pty=1"] {
        let mut client = daemon.run(query);
        let file = daemon.temp().join("progress");
        std::fs::write(&file, "").unwrap();
        further_link_tests::scratch::set_mode(&file, 0o666);
        client.start("1", python(NOTED_FLOOD));
        let progress = || std::fs::read_to_string(&file).unwrap().parse::<u32>().unwrap_or(0);
        let halted = settled(6 * DEADLINE, Duration::from_secs(2), "the program waits", progress);
        assert!(halted > 0, "nothing was written at all");
        assert!(halted < 512, "{query}: {halted} of 1024 chunks were swallowed without a reader");
        assert!(peak_memory(&daemon) < MEMORY_LIMIT_KIB, "{query}: {} KiB", peak_memory(&daemon));
        // Others do not notice.
        assert_eq!(daemon.run_once(python("print('quick')")).stdout, "quick\n");
        assert_eq!(client.wait_stopped_within(Duration::from_mins(2), "1"), 0);
        let stdout = client.stdout("1");
        assert_eq!(stdout.matches('x').count(), 1024 * 64 * 1023, "{query}");
        assert_eq!(stdout.matches('\n').count(), 1024 * 64, "{query}");
        assert!(peak_memory(&daemon) < MEMORY_LIMIT_KIB, "{query}: {} KiB", peak_memory(&daemon));
        std::fs::remove_file(&file).unwrap();
    }
}

/// B6.5 with a full outbox: the client goes without having read a byte.
#[test]
fn a_flooding_program_ends_when_its_silent_reader_disconnects() {
    let daemon = Daemon::start();
    for query in ["", "pty=1"] {
        let mut client = daemon.run(query);
        client.start("1", program("/usr/bin/yes"));
        daemon.process_named("yes");
        drop(client);
        let gone = || !daemon.processes().iter().any(|process| process.name == "yes");
        wait_until(DEADLINE, "the program ends", gone);
    }
}

/// B6.4 under load: the reader reads, but the program is always ahead.
#[test]
fn a_flooding_program_can_be_stopped() {
    let daemon = Daemon::start();
    for query in ["", "pty=1"] {
        let mut client = daemon.run(query);
        client.start("1", program("/usr/bin/yes"));
        client.wait_stdout("1", "y");
        client.stop("1");
        assert_eq!(client.wait_stopped("1"), -15, "{query}");
        client.ping();
    }
}

/// Sends `count` messages of 1 MiB to a program.
#[track_caller]
fn fill_stdin(client: &mut Client, id: &str, count: usize) {
    let piece = "0123456789abcde\n".repeat(65_536);
    for _ in 0..count {
        client.stdin(id, &piece);
    }
}

/// D27: 1 MB was enough to freeze the connection of the original.
#[test]
fn a_program_that_does_not_read_blocks_neither_ping_nor_stop() {
    let daemon = Daemon::start();
    for query in ["", "pty=1"] {
        let mut client = daemon.run(query);
        client.start("deaf", python("import time\ntime.sleep(600)"));
        client.start("other", python("print('got', input())"));
        fill_stdin(&mut client, "deaf", 8);
        client.ping();
        client.stdin("other", "mine\n");
        assert_eq!(client.wait_stopped("other"), 0, "{query}");
        assert!(client.stdout("other").contains("got mine"), "{query}");
        client.stop("deaf");
        assert_eq!(client.wait_stopped("deaf"), -15, "{query}");
        client.ping();
    }
}

/// D27: after a disconnect the original never killed it.
#[test]
fn a_program_that_does_not_read_ends_at_disconnect() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    client.start("deaf", python(SLEEPER));
    let deaf = client.wait_pid("deaf");
    fill_stdin(&mut client, "deaf", 8);
    client.ping();
    drop(client);
    wait_until(DEADLINE, "the program ends", || !deaf.is_alive());
}

/// The queue is bounded (16 MiB): whatever becomes of the rest, memory and the connection stay.
#[test]
fn far_too_much_stdin_neither_fills_the_memory_nor_blocks_the_connection() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    client.start("deaf", python(SLEEPER));
    client.wait_pid("deaf");
    fill_stdin(&mut client, "deaf", 64);
    client.ping();
    // API.md, "Errors" and "Limits"
    assert_eq!(client.next_error(), "Message Exception");
    client.stop("deaf");
    assert_eq!(client.wait_stopped("deaf"), -15);
    assert!(peak_memory(&daemon) < MEMORY_LIMIT_KIB, "{} KiB", peak_memory(&daemon));
}

/// What was sent before the program began to read is not lost.
#[test]
fn stdin_waits_for_a_program_that_reads_late() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    let code = "import sys, time\ntime.sleep(1)\nprint(sum(1 for line in sys.stdin if line == '0123456789abcde\\n' or sys.exit(7)))";
    client.start(
        "1",
        python(&code.replace("for line in sys.stdin", "for line in iter(sys.stdin.readline, 'end\\n')")),
    );
    fill_stdin(&mut client, "1", 8);
    client.stdin("1", "end\n");
    assert_eq!(client.wait_stopped_within(6 * DEADLINE, "1"), 0);
    assert_eq!(client.stdout("1"), format!("{}\n", 8 * 65_536));
}

/// Both directions at once, intact.
#[test]
fn mebibytes_of_stdin_come_back_from_cat_intact() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    client.start("1", program("/usr/bin/cat"));
    let mut sent = String::new();
    for part in 0..6 {
        let piece = numbered(50_000, |number| format!("{part} {number:05} grüße €\n"));
        client.stdin("1", &piece);
        sent += &piece;
    }
    let mut received = 0;
    let end = Instant::now() + 6 * DEADLINE;
    while received < sent.len() {
        assert!(Instant::now() < end, "{received} of {} bytes came back", sent.len());
        client.read_one(end);
        received = client.stdout("1").len();
    }
    assert!(client.stdout("1") == sent, "what came back is not what was sent");
    client.stop("1");
    assert_eq!(client.wait_stopped("1"), -15);
}

/// Architecture: "One flooding program does not delay another program of the same connection, nor another
/// connection".
#[test]
fn flooding_programs_starve_nobody() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    let mut neighbour = daemon.run("pty=1");
    for number in 0..3 {
        client.start(&format!("flood{number}"), program("/usr/bin/yes"));
    }
    client.start("quiet", program("/usr/bin/cat"));
    neighbour.start("quiet", program("/usr/bin/cat"));
    for number in 0..5 {
        let word = format!("word{number}");
        client.stdin("quiet", &format!("{word}\n"));
        let echo = json!({"type": "stdout", "data": {"output": format!("{word}\n")}, "process": "quiet"});
        client.expect("the echo of a quiet program", |message| *message == echo);
        client.ping();
        neighbour.stdin("quiet", &format!("{word}\r"));
        neighbour.wait_stdout("quiet", &format!("{word}\r\n{word}\r\n"));
    }
    for number in 0..3 {
        client.stop(&format!("flood{number}"));
    }
    for number in 0..3 {
        assert_eq!(client.wait_stopped(&format!("flood{number}")), -15);
    }
}

/// API.md, "Limits": one more is refused in words, and room comes back.
#[test]
fn a_connection_runs_64_programs_at_once() {
    let daemon = Daemon::builder().argument("--max-programs-per-connection=64").start();
    let mut client = daemon.run("");
    for number in 0..64 {
        client.start(&number.to_string(), program("/usr/bin/cat"));
    }
    let error = client.try_start("one more", program("/usr/bin/cat")).unwrap_err();
    assert!(error.starts_with("Message Exception: "), "{error}");
    assert_eq!(daemon.run_once(python("print('elsewhere')")).stdout, "elsewhere\n");
    client.stop("17");
    assert_eq!(client.wait_stopped("17"), -15);
    client.start("one more", program("/usr/bin/cat"));
    client.stdin("one more", "hello\n");
    client.wait_stdout("one more", "hello\n");
}
