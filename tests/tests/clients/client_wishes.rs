//! What clients of today ask for beyond the original: a signal before a stop, the end of input, a size from
//! the beginning.
//!
//! API.md, "Messages". Clients of the original never send these fields.

use further_link_tests::programs::{program, python, script};
use further_link_tests::{DEADLINE, Daemon};
use serde_json::{Value, json};

/// A message about process 1.
fn about(kind: &str, data: &Value) -> Value {
    json!({"type": kind, "process": "1", "data": data})
}

const TIDY: &str = "import atexit, time\n\
    atexit.register(print, 'released')\n\
    try:\n    print('runs'); time.sleep(600)\n\
    except KeyboardInterrupt:\n    print('interrupted')\n\
    finally:\n    print('motor off')\n";

/// `finally` and `atexit`, on which gpiozero relies, do not run at SIGTERM (G1).
#[test]
fn a_stop_with_sigint_lets_python_tidy_up() {
    let daemon = Daemon::start();
    for query in ["", "pty=1"] {
        let mut client = daemon.run(query);
        client.start("1", python(TIDY));
        // The whole line: python writes its end by itself, and a signal in between would leave it out.
        client.wait_lines("1", 1);
        client.send(&about("stop", &json!({"signal": "SIGINT"})));
        assert_eq!(client.wait_stopped("1"), 0, "{query}");
        let said: Vec<_> = client.stdout("1").split_whitespace().map(str::to_owned).collect();
        assert!(said.ends_with(&["interrupted", "motor", "off", "released"].map(str::to_owned)), "{said:?}");
    }
}

/// Without a signal all is as it was.
#[test]
fn a_stop_without_a_signal_ends_it_by_sigterm_and_sigkill_can_be_asked_for() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    for (data, code) in
        [(json!({}), -15), (json!({"signal": "SIGHUP"}), -1), (json!({"signal": "SIGKILL"}), -9)]
    {
        client.start("1", python("import time; print('runs'); time.sleep(600)"));
        client.wait_stdout("1", "runs");
        client.send(&about("stop", &data));
        assert_eq!(client.wait_stopped("1"), code, "{data}");
    }
}

/// A signal alone does not end the run, whatever the program makes of it.
#[test]
fn a_signal_is_sent_and_the_program_goes_on() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    let code = "import signal\nsignal.signal(signal.SIGHUP, lambda *_: print('heard'))\nprint('runs'); print(input())";
    client.start("1", python(code));
    client.wait_stdout("1", "runs");
    client.send(&about("signal", &json!({"signal": "SIGHUP"})));
    client.wait_stdout("1", "heard");
    client.stdin("1", "and goes on\n");
    client.wait_stdout("1", "and goes on");
    assert_eq!(client.wait_stopped("1"), 0);
    for wrong in [json!({"signal": "SIGSTOP"}), json!({}), json!({"signal": 1})] {
        client.start("1", program("/bin/cat"));
        client.send(&about("signal", &wrong));
        assert_eq!(client.next_error(), "Bad message", "{wrong}");
        client.stop("1");
        client.wait_stopped("1");
    }
}

/// `sys.stdin.read()`, `wc` and `sort` wait for the end of their input (G5).
#[test]
fn a_pipe_can_be_ended_after_its_last_input_or_alone() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    client.start("1", script("#!/bin/sh\nsort\necho sorted\n"));
    client.stdin("1", "b\n");
    client.send(&about("stdin", &json!({"input": "a\n", "end": true})));
    client.send(&about("stdin", &json!({"input": "c\n"})));
    assert_eq!(client.next_error(), "Bad message");
    assert_eq!(client.wait_stopped("1"), 0);
    assert_eq!(client.stdout("1"), "a\nb\nsorted\n");
    client.start("2", program("/usr/bin/wc"));
    client.send(&json!({"type": "stdin", "process": "2", "data": {"end": true}}));
    assert_eq!(client.wait_stopped("2"), 0);
    let mut older = daemon.run_py("");
    older.send(
        &json!({"type": "start", "data": {"sourceScript": "import sys; print(len(sys.stdin.read()))"}}),
    );
    older.send(&json!({"type": "stdin", "data": {"input": "12345", "end": true}}));
    older.expect("the length", |message| message["data"]["output"] == "5\n");
}

#[test]
fn a_terminal_has_no_end_of_input_and_the_error_says_what_to_send() {
    let daemon = Daemon::start();
    let mut client = daemon.run("pty=1");
    client.start("1", program("/bin/cat"));
    client.send(&about("stdin", &json!({"end": true})));
    assert!(client.next_error().contains("Ctrl-D"));
    client.stdin("1", "\u{4}");
    assert_eq!(client.wait_stopped("1"), 0);
}

/// A short program never sees another size (G7): none of a thousand, on four connections at once.
#[test]
fn the_size_of_a_start_is_there_before_the_program() {
    const CONNECTIONS: usize = 4;
    const STARTS: usize = 250;
    let daemon = Daemon::start();
    std::thread::scope(|scope| {
        for connection in 0..CONNECTIONS {
            let mut client = daemon.run("pty=1");
            scope.spawn(move || {
                for number in 0..STARTS {
                    let (id, rows) = (number.to_string(), 24 + number);
                    let mut data = script("#!/bin/sh\nexec stty size\n");
                    (data["rows"], data["cols"]) = (json!(rows), json!(80 + connection));
                    client.start(&id, data);
                    assert_eq!(client.wait_stopped_within(DEADLINE, &id), 0);
                    assert_eq!(
                        client.stdout(&id),
                        format!("{rows} {}\r\n", 80 + connection),
                        "start {number}"
                    );
                }
            });
        }
    });
    let mut client = daemon.run("pty=1");
    for (rows, cols) in [(json!(0), json!(80)), (json!("24"), json!(80)), (json!(70000), json!(80))] {
        let mut data = script("#!/bin/sh\nstty size\n");
        (data["rows"], data["cols"]) = (rows, cols);
        assert_eq!(client.run("usual", data).stdout, "4 60\r\n");
    }
}
