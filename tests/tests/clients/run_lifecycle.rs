//! The life of processes on /run: started, ended, stopped, failed, many of them, and the connection's end.
//!
//! Items B6.1 to B6.5, B5 (ids), D29, D31 and D32. That `started` comes before and `stopped` after all output
//! is checked by the harness in every test. What is left behind by nasty programs is in `cleanup.rs`.
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "helpers of tests may fail the test")]

use std::fs;

use further_link_tests::programs::{SLEEPER, program, python, script, shell};
use further_link_tests::scratch::{self, set_mode};
use further_link_tests::{Client, DEADLINE, Daemon, Watched, accounts, wait_until};
use serde_json::{Value, json};

/// B6.2
#[test]
fn the_exit_code_is_the_status_or_minus_the_signal() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    for status in [0, 1, 2, 3, 100, 127, 128, 255] {
        let code = format!("import sys; sys.exit({status})");
        assert_eq!(client.run("1", python(&code)).exit_code, status);
    }
    for signal in [1, 9, 11, 15, 34] {
        let code =
            format!("import os, signal\nsignal.signal(15, signal.SIG_DFL)\nos.kill(os.getpid(), {signal})\n");
        let code = format!("import resource\nresource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n{code}");
        assert_eq!(client.run("1", python(&code)).exit_code, -signal);
    }
    assert_eq!(client.run("1", program("/bin/true")).exit_code, 0);
    assert_eq!(client.run("1", program("/bin/false")).exit_code, 1);
    client.start("1", shell());
    client.stdin("1", "exit 7\n");
    assert_eq!(client.wait_stopped("1"), 7);
}

/// B6.1: a program that is over before the frontend looks.
#[test]
fn programs_that_end_at_once_still_give_started_output_and_stopped() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    for number in 0..30 {
        let finished =
            client.run("1", script(&format!("#!/bin/sh\necho {number}; echo e{number} >&2; exit 3\n")));
        assert_eq!(finished.exit_code, 3);
        assert_eq!((finished.stdout, finished.stderr), (format!("{number}\n"), format!("e{number}\n")));
    }
    client.take_output();
    client.expect_no_reply();
}

/// B5, B6.1: the record notices a second `started` before `stopped`.
#[test]
fn an_id_is_free_again_when_stopped_has_come() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    for _ in 0..20 {
        client.start("again", program("/bin/true"));
        assert_eq!(client.wait_stopped("again"), 0);
    }
    client.start("again", python(SLEEPER));
    client.stop("again");
    assert_eq!(client.wait_stopped("again"), -15);
    assert_eq!(client.run("again", python("print('alive')")).stdout, "alive\n");
}

/// B5
#[test]
fn any_non_empty_string_is_an_id() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    let long = "long".repeat(2000);
    let ids = [
        " ",
        "0",
        "-1",
        "ünï \u{1F600}",
        "../../etc/passwd",
        "a/b",
        "\n",
        "\u{0}",
        "null",
        "\"",
        "$(id)",
        &long,
    ];
    for id in ids {
        client.start(id, python("print(input())"));
    }
    for (number, id) in ids.iter().enumerate() {
        client.stdin(id, &format!("{number}\n"));
        assert_eq!(client.wait_stopped(id), 0);
        assert_eq!(client.stdout(id), format!("{number}\n"));
    }
}

/// B5: ids belong to their connection.
#[test]
fn two_connections_may_use_the_same_id() {
    let daemon = Daemon::start();
    let (mut first, mut second) = (daemon.run(""), daemon.run(""));
    first.start("1", python("print('first', input())"));
    second.start("1", python("print('second', input())"));
    second.stdin("1", "b\n");
    assert_eq!(second.wait_stopped("1"), 0);
    first.stdin("1", "a\n");
    assert_eq!(first.wait_stopped("1"), 0);
    assert_eq!((first.stdout("1").as_str(), second.stdout("1").as_str()), ("first a\n", "second b\n"));
}

/// Spec, /run: "can manage multiple processes of different types, addressing them by a unique id".
#[test]
fn many_programs_of_all_kinds_run_side_by_side() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    let kinds = [
        python("print('got', input())"),
        script("#!/bin/sh\nread line; echo got $line\n"),
        script("#!/usr/bin/env python3\nprint('got', input())\n"),
        shell(),
    ];
    let ids: Vec<String> = (0..24).map(|number| format!("p{number}")).collect();
    for (id, data) in ids.iter().zip(kinds.iter().cycle()) {
        client.start(id, data.clone());
    }
    for id in ids.iter().rev() {
        let is_shell = client_kind(id) == 3;
        client.stdin(id, &if is_shell { format!("echo got {id}; exit\n") } else { format!("{id}\n") });
    }
    for id in &ids {
        assert_eq!(client.wait_stopped(id), 0);
        assert_eq!(client.stdout(id), format!("got {id}\n"));
    }
}

/// Which of the four kinds above an id has.
fn client_kind(id: &str) -> usize {
    id.trim_start_matches('p').parse::<usize>().expect("a number") % 4
}

/// B6.4: no direct reply, and the second one is as good as the first.
#[test]
fn stop_ends_a_program_and_may_be_said_twice() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    client.start("1", python(SLEEPER));
    client.start("other", python("print(input())"));
    let sleeper = client.wait_pid("1");
    client.take_output();
    client.stop("1");
    client.stop("1");
    assert_eq!(client.wait_stopped("1"), -15);
    assert!(!sleeper.is_alive());
    // The second one may have come too late, which is no different from any unknown process.
    client.ping();
    client.stdin("other", "untouched\n");
    assert_eq!(client.wait_stopped("other"), 0);
    assert_eq!(client.stdout("other"), "untouched\n");
}

/// B6.2, B6.4: neither a program's own end nor the first stop is overtaken by stops that come too late.
#[test]
fn late_and_repeated_stops_do_not_change_the_exit_code() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    for round in 0..60 {
        client.start("own", script("#!/bin/sh\nread line\nexit 3\n"));
        client.start("stopped", script("#!/bin/sh\nread line\n"));
        client.stdin("own", "\n");
        for _ in 0..4 {
            client.stop("stopped");
            client.stop("own");
        }
        let (stopped, own) = (client.wait_stopped("stopped"), client.wait_stopped("own"));
        if stopped != -15 || ![3, -15].contains(&own) {
            client.fail(&format!("round {round}: {stopped} and {own}"));
        }
        // A stop that came after `stopped` was a bad message.
        client.ping();
        client.take_errors();
    }
}

/// B6.4: accepted as long as `stopped` has not been sent; the handler keeps the program alive meanwhile.
#[test]
fn a_second_stop_during_the_grace_time_gets_no_reply_and_the_id_is_not_free() {
    let daemon = Daemon::builder().grace(60.0).start();
    let mut client = daemon.run("");
    let code =
        "import signal\nsignal.signal(15, lambda *_: print('asked'))\nprint('ready')\nprint(input())\n";
    client.start("1", python(code));
    client.wait_stdout("1", "ready\n");
    client.stop("1");
    client.wait_stdout("1", "asked\n");
    client.stop("1");
    client.take_output();
    client.ping();
    assert_eq!(client.try_start("1", python("")), Err("Bad message".to_owned()));
    client.stdin("1", "done\n");
    assert_eq!(client.wait_stopped("1"), 0);
    assert!(client.stdout("1").ends_with("done\n"));
    client.take_output();
    client.expect_no_reply();
}

/// B6.2
#[test]
fn a_stopped_shell_without_a_terminal_ends_by_sigterm() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    client.start("1", shell());
    client.stdin("1", "echo ready\n");
    client.wait_stdout("1", "ready\n");
    client.stop("1");
    assert_eq!(client.wait_stopped("1"), -15);
}

/// Five sleeping programs of every kind, known by their pids.
fn five_sleepers(client: &mut Client) -> Vec<Watched> {
    let sh = "#!/bin/sh\necho $$\nsleep 600\n";
    let kinds = [python(SLEEPER), script(sh), shell(), python(SLEEPER), script(sh)];
    let mut watched = Vec::new();
    for (number, data) in kinds.into_iter().enumerate() {
        let id = number.to_string();
        let is_shell = data["runner"] == "shell";
        client.start(&id, data);
        if is_shell {
            client.stdin(&id, "echo $$; sleep 600\n");
        }
        watched.push(client.wait_pid(&id));
    }
    watched
}

/// B3.8, B6.5, D29: said goodbye or simply gone.
#[test]
fn a_disconnect_ends_all_programs_of_the_connection_and_no_other() {
    let daemon = Daemon::start();
    let mut neighbour = daemon.run("");
    neighbour.start("1", python("print(input())"));
    for polite in [true, false] {
        let mut client = daemon.run("");
        let watched = five_sleepers(&mut client);
        assert!(watched.iter().all(Watched::is_alive));
        if polite {
            client.close();
        } else {
            drop(client);
        }
        wait_until(DEADLINE, "all five programs end", || !watched.iter().any(Watched::is_alive));
    }
    neighbour.stdin("1", "still here\n");
    assert_eq!(neighbour.wait_stopped("1"), 0);
}

/// D31: programs that ended by themselves do not keep the others from being stopped.
#[test]
fn a_disconnect_ends_the_sleepers_among_programs_that_were_faster() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    let watched = five_sleepers(&mut client);
    for number in 0..20 {
        client.send_start(&format!("quick{number}"), program("/bin/true"));
    }
    client.ping();
    drop(client);
    wait_until(DEADLINE, "all five sleepers end", || !watched.iter().any(Watched::is_alive));
}

/// Every start that must fail, by name.
fn failing_starts(daemon: &Daemon) -> Vec<(&'static str, Value)> {
    let (work, pi) = (daemon.work(), accounts::pi());
    fs::write(work.join("plain.txt"), "no program").expect("a file");
    let locked = work.join("locked");
    fs::create_dir(&locked).expect("a directory");
    fs::write(locked.join("tool"), "#!/bin/sh\n").expect("a file");
    set_mode(&locked, 0o700);
    let readable = work.join("readable");
    fs::create_dir(&readable).expect("a directory");
    fs::write(readable.join("tool"), "#!/bin/sh\necho never\n").expect("a file");
    scratch::file_for(&pi, &work.join("own"), "#!/no/such/interpreter\n", 0o755);
    let exec = |path: &str| json!({"runner": "exec", "path": path});
    let code = |runner: &str, path: &str| json!({"runner": runner, "code": "#!/bin/sh\n", "path": path});
    vec![
        ("missing interpreter", script("#!/no/such/interpreter\necho never\n")),
        ("missing interpreter of an own file", exec("own")),
        ("interpreter that is a directory", script("#!/tmp\necho never\n")),
        ("no shebang", script("echo never\n")),
        ("empty executable", script("")),
        ("missing executable", exec("missing")),
        ("missing executable, absolute", exec("/no/such/program")),
        ("executable in a missing directory", exec("no/such/directory/tool")),
        ("executable below a file", exec("plain.txt/tool")),
        ("executable that is a directory", exec("readable")),
        ("no executable at all", json!({"runner": "exec"})),
        ("executable with an empty name", json!({"runner": "exec", "path": ""})),
        ("executable in a locked directory", exec("locked/tool")),
        ("somebody else's file without x", exec("readable/tool")),
        ("python code below a file", code("python3", "plain.txt/sub")),
        ("python code in a file", code("python3", "plain.txt")),
        ("python code in somebody else's directory", code("python3", "readable")),
        ("python code in a locked directory", code("python3", "locked")),
        ("python code in a directory that cannot be made", code("python3", "readable/sub/sub")),
        ("exec code in somebody else's directory", code("exec", "readable")),
        ("python file in a missing directory", json!({"runner": "python3", "path": "no/such/run.py"})),
        ("python file in a locked directory", json!({"runner": "python3", "path": "locked/run.py"})),
        ("shell below a file", json!({"runner": "shell", "path": "plain.txt/sub"})),
        ("shell in a locked directory", json!({"runner": "shell", "path": "locked"})),
        ("shell in a directory that cannot be made", json!({"runner": "shell", "path": "readable/sub"})),
        ("NUL in a path", json!({"runner": "shell", "path": "a\u{0}b"})),
        ("endless path", json!({"runner": "shell", "path": "a/".repeat(5000)})),
        ("endless name", json!({"runner": "python3", "code": "", "path": "a".repeat(300)})),
    ]
}

/// D32, B6.3: exactly one error that says more than the bare text, nothing else, and the id is free.
#[test]
fn a_start_that_fails_gives_one_understandable_error_and_leaves_the_id_free() {
    let daemon = Daemon::start();
    let starts = failing_starts(&daemon);
    for query in ["", "pty=1"] {
        let mut client = daemon.run(query);
        client.start("bystander", python("print(input())"));
        for (name, data) in &starts {
            let error = client.try_start("1", data.clone()).expect_err(name);
            let reason = error
                .strip_prefix("Message Exception: ")
                .unwrap_or_else(|| client.fail(&format!("{name}: {error:?}")));
            assert!(reason.split_whitespace().count() >= 2, "{name}: {error:?} explains nothing");
            client.expect_no_reply();
            client.start("1", python("print('works')"));
            assert_eq!(client.wait_stopped("1"), 0, "after {name}");
            assert_eq!(client.stdout("1").trim(), "works", "after {name}");
            client.take_output();
        }
        client.stdin("bystander", "untouched\n");
        assert_eq!(client.wait_stopped("bystander"), 0);
    }
    assert_eq!(daemon.temporary_files(), Vec::<std::path::PathBuf>::new());
}

/// B6.3: python itself reports a missing file.
#[test]
fn a_missing_python_file_is_no_failed_start() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    let finished = client.run("1", json!({"runner": "python3", "path": "missing.py"}));
    assert_eq!(finished.exit_code, 2);
    let path = daemon.work().join("missing.py");
    assert!(finished.stderr.contains(&format!("can't open file '{}'", path.display())), "{finished:?}");
}

/// D16: the original had 999 ids for all starts, and lost one with each that failed.
#[test]
fn a_thousand_failed_starts_use_nothing_up() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    for _ in 0..1000 {
        assert!(client.try_start("1", json!({"runner": "exec", "path": "missing"})).is_err());
    }
    assert_eq!(client.run("1", python("print('works')")).stdout, "works\n");
}
