//! A start is a state of its process, not a wait of its connection: what a client can do while a start takes
//! long.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail the test")]

use further_link_tests::processes::Process;
use further_link_tests::programs::{program, python};
use further_link_tests::{Client, DEADLINE, Daemon, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

/// The processes of the helper that wait for a request, stopped. They hang until this is dropped.
struct Hung(Vec<i32>);

impl Hung {
    /// Of a daemon that runs nothing: all of the helper's processes below its listener.
    fn of(daemon: &Daemon) -> Self {
        let waiting = || -> Vec<Process> {
            let all = daemon.processes();
            let is_child = |process: &Process| {
                process.parent != daemon.pid() && all.iter().any(|other| other.pid == process.parent)
            };
            all.iter().filter(|process| is_child(process)).cloned().collect()
        };
        // The launcher of the spare, and the watcher above it.
        wait_until(DEADLINE, "the spare helper waits", || waiting().len() == 2);
        let pids: Vec<i32> = waiting().iter().map(|process| process.pid).collect();
        for pid in &pids {
            kill(Pid::from_raw(*pid), Signal::SIGSTOP).unwrap();
        }
        Self(pids)
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        for pid in &self.0 {
            // One that was killed meanwhile needs nothing.
            let _gone = kill(Pid::from_raw(*pid), Signal::SIGCONT);
        }
    }
}

fn hanging_start(daemon: &Daemon, query: &str, data: serde_json::Value) -> (Client, Hung) {
    let mut client = daemon.run(query);
    let hung = Hung::of(daemon);
    client.send_start("hangs", data);
    client.ping();
    (client, hung)
}

#[test]
fn a_start_that_hangs_holds_up_neither_pings_nor_other_programs_and_stop_gives_it_up() {
    let daemon = Daemon::start();
    let (mut client, hung) = hanging_start(&daemon, "", python("print('never')"));
    client.start("other", program("/bin/cat"));
    client.stdin("other", "hi\n");
    client.wait_stdout("other", "hi");
    // Its id is taken meanwhile.
    client.send_start("hangs", program("/bin/cat"));
    assert_eq!(client.next_error(), "Bad message");
    client.stop("hangs");
    assert_eq!(
        client.next_error(),
        "Message Exception: cannot start the program: it was stopped before it ran"
    );
    client.start("hangs", program("/bin/cat"));
    drop(hung);
    client.stop("hangs");
    client.wait_stopped("hangs");
    client.stop("other");
    client.wait_stopped("other");
    assert_eq!(client.stdout("hangs"), "");
}

#[test]
fn what_a_client_sends_while_a_start_hangs_reaches_the_program() {
    let daemon = Daemon::start();
    let (mut client, hung) = hanging_start(
        &daemon,
        "pty=1",
        json!({"runner": "python3", "code": "import os\nprint(os.get_terminal_size(), input())\n"}),
    );
    client.resize("hangs", 30, 70);
    client.resize("hangs", 33, 77);
    client.stdin("hangs", "typed early\n");
    client.ping();
    drop(hung);
    client.wait_stopped("hangs");
    let shown = client.stdout("hangs");
    assert!(shown.contains("columns=77, lines=33) typed early"), "{shown}");
}

#[test]
fn a_signal_that_is_sent_while_a_start_hangs_is_sent_when_the_program_runs() {
    let daemon = Daemon::start();
    let (mut client, hung) = hanging_start(&daemon, "", program("/bin/cat"));
    client.send(&json!({"type": "signal", "process": "hangs", "data": {"signal": "SIGHUP"}}));
    client.send(&json!({"type": "signal", "process": "hangs", "data": {"signal": "SIGHUP"}}));
    client.ping();
    drop(hung);
    assert_eq!(client.wait_stopped("hangs"), -1);
}

#[test]
fn a_client_that_goes_while_a_start_hangs_leaves_nothing() {
    let daemon = Daemon::start();
    let ran = daemon.temp().join("ran");
    let code = format!("open('{}', 'w').close()\nimport time\ntime.sleep(1000)\n", ran.display());
    let (client, hung) = hanging_start(&daemon, "", python(&code));
    let pids = hung.0.clone();
    client.close();
    drop(hung);
    wait_until(DEADLINE, "the helper of the start is gone", || {
        pids.iter().all(|pid| Process::read(*pid).is_none())
    });
    assert!(!ran.exists(), "a start that was given up runs nothing");
}

/// Or each hanging helper would be one more, however small the limit.
#[test]
fn a_start_that_was_given_up_keeps_its_place_until_its_helper_has_noticed() {
    let daemon = Daemon::builder().argument("--max-programs=1").start();
    let ran = daemon.temp().join("ran");
    let code = format!("open('{}', 'w').close()\n", ran.display());
    let (mut client, hung) = hanging_start(&daemon, "", python(&code));
    let pids = hung.0.clone();
    client.stop("hangs");
    client.next_error();
    client.close();
    let mut other = daemon.run("");
    assert_eq!(
        other.try_start("1", program("/bin/cat")).unwrap_err(),
        "Message Exception: cannot start the program: 1 programs run on this device already; stop one first"
    );
    drop(hung);
    wait_until(DEADLINE, "the helper of the start is gone", || {
        pids.iter().all(|pid| Process::read(*pid).is_none())
    });
    wait_until(DEADLINE, "the place is free", || other.try_start("1", program("/bin/cat")).is_ok());
    assert!(!ran.exists(), "a start that was given up runs nothing");
}

#[test]
fn both_limits_of_programs_are_options_and_say_what_to_do() {
    let daemon =
        Daemon::builder().argument("--max-programs=3").argument("--max-programs-per-connection=2").start();
    let (mut one, mut two) = (daemon.run(""), daemon.run(""));
    one.start("1", program("/bin/cat"));
    one.start("2", program("/bin/cat"));
    let refused = "Message Exception: cannot start the program: ";
    assert_eq!(
        one.try_start("3", program("/bin/cat")).unwrap_err(),
        format!("{refused}2 programs run on this connection already; stop one first")
    );
    two.start("1", program("/bin/cat"));
    assert_eq!(
        two.try_start("2", program("/bin/cat")).unwrap_err(),
        format!("{refused}3 programs run on this device already; stop one first")
    );
    one.stop("1");
    one.wait_stopped("1");
    two.start("2", program("/bin/cat"));
}

#[test]
fn a_program_that_dies_of_a_fault_says_so_and_one_that_is_stopped_does_not() {
    let daemon = Daemon::start();
    let dies = |signal: &str| python(&format!("import os, signal\nos.kill(os.getpid(), signal.{signal})\n"));
    for (signal, number, words) in
        [("SIGSEGV", -11, "Segmentation fault\n"), ("SIGABRT", -6, "Aborted\n"), ("SIGKILL", -9, "")]
    {
        let finished = daemon.run_once(dies(signal));
        assert_eq!((finished.exit_code, finished.stderr.as_str()), (number, words), "{signal}");
    }
    let mut terminal = daemon.run("pty=1");
    assert_eq!(terminal.run("1", dies("SIGSEGV")).stdout, "\r\nSegmentation fault\r\n");
    let mut client = daemon.run("");
    let code = "import os, signal\nsignal.signal(signal.SIGTERM, lambda *_: os.abort())\nprint('ready')\nsignal.pause()\n";
    client.start("1", python(code));
    client.wait_stdout("1", "ready");
    client.stop("1");
    assert_eq!(client.wait_stopped("1"), -6);
    assert_eq!(client.stderr("1"), "");
}

/// G9: a proxy would end the connection of a program that prints nothing.
#[test]
fn a_silent_client_gets_a_ping_and_with_an_interval_of_zero_none() {
    use std::io::{Read, Write};

    use further_link_tests::http;

    let connected = |interval: &str| {
        let daemon = Daemon::builder().argument(&format!("--ping-interval={interval}")).start();
        let mut stream = http::connect(daemon.address());
        let upgrade = http::upgrade_request("/run", &daemon.address().to_string(), "");
        assert_eq!(http::ask(&stream, &upgrade).status, 101);
        // An empty ping of ours is answered: an unmasked pong.
        stream.write_all(b"\x89\x80\0\0\0\0").unwrap();
        let mut frame = [0; 2];
        stream.read_exact(&mut frame).unwrap();
        assert_eq!(frame, *b"\x8a\0");
        (daemon, stream)
    };
    let (_daemon, mut stream) = connected("1");
    for _ in 0..2 {
        let mut frame = [0; 2];
        stream.read_exact(&mut frame).unwrap();
        assert_eq!(frame, *b"\x89\0", "an empty ping");
    }
    let (_daemon, mut stream) = connected("0");
    stream.set_read_timeout(Some(std::time::Duration::from_secs(3))).unwrap();
    assert!(stream.read_exact(&mut [0; 2]).is_err(), "nothing comes in three intervals of the other daemon");
}

/// R7: the number of the connection stands in the lines of both processes.
#[test]
fn the_log_of_both_processes_has_the_number_of_the_connection() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    assert_eq!(client.run("1", program("/bin/true")).exit_code, 0);
    let upload = json!({"name": "d", "files": {"f": {"type": "text", "content": {"text": "x"}}}});
    assert_eq!(daemon.upload("", &upload).status, 200);
    let number = |log: &str| {
        let line = log.lines().find(|line| line.contains("was let in: a program on this device"))?;
        line.split_once("connection ")?.1.split(' ').next().map(str::to_owned)
    };
    let first = number(&daemon.log().text()).expect("the connection was let in");
    for line in [
        format!("connection {first}: started exec as the default user for a program on this device, pid "),
        format!("connection {first}: started exec as pi, pid "),
        format!("connection {}: uploaded 1 files as the default user", first.parse::<u64>().unwrap() + 1),
    ] {
        daemon.log().expect(&line);
    }
}

/// What the log says of this connection after it was let in, once it says this last.
#[track_caller]
fn lines_until(daemon: &Daemon, connection: u64, last: &str) -> Vec<String> {
    let of = format!("connection {connection}: ");
    let found = daemon.log().wait_for(DEADLINE, |log| {
        let lines: Vec<_> = log.lines().filter_map(|line| Some(line.split_once(&of)?.1.to_owned())).collect();
        lines.iter().any(|line| line.contains(last)).then_some(lines)
    });
    found.unwrap_or_else(|| panic!("{last:?} is not in {}", daemon.log().text()))
}

#[test]
fn a_start_that_fails_is_one_line_in_each_process() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    client.try_start("1", program("/bin/no-such-program")).unwrap_err();
    client.start("1", program("/bin/cat"));
    let lines = lines_until(&daemon, 0, "started exec as pi, pid ");
    let of_frontend = "a start failed: no such file, or the interpreter that its first line names";
    for said in [of_frontend, "failed at"] {
        assert_eq!(lines.iter().filter(|line| line.contains(said)).count(), 1, "{said}: {lines:?}");
    }
    assert_eq!(lines.iter().filter(|line| line.contains("started exec as pi")).count(), 1, "{lines:?}");
}

#[test]
fn a_helper_that_is_not_there_is_one_line_for_each_start_and_upload() {
    let daemon = Daemon::builder().argument("--helper-socket=/no/such/socket").start();
    let mut client = daemon.run("");
    let error = client.try_start("1", program("/bin/cat")).unwrap_err();
    assert!(error.contains("the helper service does not answer"), "{error}");
    let upload = json!({"name": "d", "files": {"f": {"type": "text", "content": {"text": "x"}}}});
    assert_eq!(daemon.upload("", &upload).status, 500);
    lines_until(&daemon, 0, "a start failed: cannot connect to the helper: No such file");
    lines_until(&daemon, 1, "an upload of 1 files as the default user failed: cannot connect to the helper");
    let log = daemon.log().text();
    let about = |word: &str| log.lines().filter(|line| line.contains(word)).count();
    assert_eq!((about("a start failed"), about("upload")), (1, 1), "{log}");
}
