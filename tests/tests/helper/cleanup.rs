//! No process is left behind: children that hide, programs that will not go, a frontend that dies.
//!
//! Items B6.4, B6.5 and B6.9 with D30, D33, D37 and D53; architecture, "A program's life". Every test of this
//! suite also ends with the harness looking for survivors; here are those that try to be some.

use std::time::Instant;

use further_link_tests::processes::{Process, descriptors};
use further_link_tests::programs::{ESCAPE, SLEEPER, program, python, script};
use further_link_tests::{Client, DEADLINE, Daemon, Watched, wait_until};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

/// Starts python with two hidden grandchildren and then `rest`; the three processes.
#[track_caller]
fn start_escapers(client: &mut Client, rest: &str) -> Vec<Watched> {
    client.start("1", python(&format!("{ESCAPE}\nprint(os.getpid())\nescape()\nescape()\n{rest}\n")));
    client.wait_pids("1", 3)
}

#[track_caller]
fn assert_all_gone(watched: &[Watched], when: &str) {
    let alive: Vec<i32> = watched.iter().filter(|one| one.is_alive()).map(|one| one.pid).collect();
    assert!(alive.is_empty(), "alive after {when}: {alive:?}");
}

#[track_caller]
fn wait_all_gone(watched: &[Watched], when: &str) {
    wait_until(DEADLINE, &format!("everybody is gone after {when}"), || {
        !watched.iter().any(Watched::is_alive)
    });
}

/// D30, contract: the leftovers are killed, and only then comes `stopped`. They hold stdout open, too (D53).
#[test]
fn children_in_their_own_session_are_gone_when_a_finished_program_is_stopped() {
    let daemon = Daemon::start();
    for query in ["", "pty=1"] {
        let mut client = daemon.run(query);
        let watched = start_escapers(&mut client, "input()\nsys.exit(3)");
        client.stdin("1", "\n");
        assert_eq!(client.wait_stopped("1"), 3, "{query}");
        assert_all_gone(&watched, "the end of the program");
    }
}

/// D30
#[test]
fn children_in_their_own_session_are_gone_after_stop() {
    let daemon = Daemon::start();
    for query in ["", "pty=1"] {
        let mut client = daemon.run(query);
        let watched = start_escapers(&mut client, "pause()");
        client.stop("1");
        assert_eq!(client.wait_stopped("1"), -15, "{query}");
        assert_all_gone(&watched, "stop");
    }
}

/// D30
#[test]
fn children_in_their_own_session_are_gone_after_a_disconnect() {
    let daemon = Daemon::start();
    for query in ["", "pty=1"] {
        let mut client = daemon.run(query);
        let watched = start_escapers(&mut client, "pause()");
        drop(client);
        wait_all_gone(&watched, "a disconnect");
    }
    let mut client = daemon.run_py("");
    let code = format!("{ESCAPE}\nprint(os.getpid())\nescape()\npause()\n");
    client.start("", serde_json::json!({"sourceScript": code}));
    let watched = client.wait_pids("", 2);
    drop(client);
    wait_all_gone(&watched, "a disconnect of /run-py");
}

/// D30: children of a program of root, who may do what the helper of a run may not.
#[test]
fn children_of_roots_programs_are_gone_too() {
    let daemon = Daemon::builder().allow_users(&["pi", "root"]).start();
    let mut client = daemon.run("user=root");
    let watched = start_escapers(&mut client, "pause()");
    client.stop("1");
    assert_eq!(client.wait_stopped("1"), -15);
    assert_all_gone(&watched, "stop");
    let mut client = daemon.run("user=root");
    let watched = start_escapers(&mut client, "pause()");
    drop(client);
    wait_all_gone(&watched, "a disconnect");
}

/// B6.9: plain background children, who are in the group and hold stdout.
#[test]
fn a_background_child_that_holds_stdout_does_not_hold_up_stopped() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    let finished = client.run("1", script("#!/bin/sh\necho $$\nsleep 600 &\necho $!\nexit 4\n"));
    assert_eq!(finished.exit_code, 4);
    for pid in finished.stdout.lines().map(|line| line.parse().unwrap()) {
        assert!(Process::read(pid).is_none(), "{pid} is alive");
    }
}

/// Python that takes `seconds` to react to SIGTERM, notes it in `switched-off`, and exits with 7.
fn careful(seconds: f64) -> String {
    format!(
        "import os, signal, sys, time\n\
         def off(*_):\n    time.sleep({seconds})\n    open('switched-off', 'w').close()\n    os._exit(7)\n\
         signal.signal(signal.SIGTERM, off)\nprint(os.getpid())\nwhile True:\n    time.sleep(600)\n"
    )
}

/// D33: the original gave 0.1 s.
#[test]
fn a_sigterm_handler_has_time_to_clean_up_after_stop() {
    let daemon = Daemon::builder().grace(30.0).start();
    for query in ["", "pty=1"] {
        let mut client = daemon.run(query);
        client.start("1", python(&careful(1.0)));
        client.wait_pid("1");
        client.stop("1");
        assert_eq!(client.wait_stopped("1"), 7, "{query}");
        std::fs::remove_file(daemon.temp().join("switched-off")).unwrap();
    }
}

/// D33: the default is 2 s.
#[test]
fn the_default_grace_time_is_enough_for_a_short_handler() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    client.start("1", python(&careful(0.5)));
    client.wait_pid("1");
    client.stop("1");
    assert_eq!(client.wait_stopped("1"), 7);
}

/// D33, B6.5: the client does not wait for it, but it has its time.
#[test]
fn a_sigterm_handler_has_time_to_clean_up_after_a_disconnect() {
    let daemon = Daemon::builder().grace(30.0).start();
    for run_py in [false, true] {
        let code = careful(0.5);
        let watched = if run_py {
            let mut client = daemon.run_py("");
            client.start("", serde_json::json!({"sourceScript": code}));
            client.wait_pid("")
        } else {
            let mut client = daemon.run("");
            client.start("1", python(&code));
            client.wait_pid("1")
        };
        wait_all_gone(&[watched], "a disconnect");
        std::fs::remove_file(daemon.temp().join("switched-off")).unwrap();
    }
}

/// Python that takes `seconds` to react to SIGTERM and leaves by `sys.exit(0)`, with text in an open file
/// that only the end of the interpreter writes out, and with modules that make this end long.
fn tidy(seconds: f64, file: &std::path::Path, also: &str) -> String {
    format!(
        "import json, asyncio, unittest, http.client, decimal, sqlite3\n\
         import os, signal, subprocess, sys, threading, time\n\
         file = open('{}', 'w')\n\
         def off(*_):\n    time.sleep({seconds})\n    file.write('tidied up')\n    sys.exit(0)\n\
         {also}\nsignal.signal(signal.SIGTERM, off)\nprint('ready')\nwhile True:\n    time.sleep(600)\n",
        file.display()
    )
}

/// D33: Python has no handler any more while it ends. Looks at the processes come every 0.1 s, so that
/// handlers of a multiple of that are still ending when a look comes.
#[test]
fn python_that_leaves_by_sys_exit_has_time_to_end() {
    const CHILDREN: &str = "for _ in range(2):\n    subprocess.Popen(['sleep', '600'])";
    const THREADS: &str =
        "for _ in range(4):\n    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()";
    let daemon = Daemon::builder().grace(30.0).start();
    let cases = [(0.1, ""), (0.2, CHILDREN), (0.3, THREADS), (0.3, ""), (0.8, CHILDREN)];
    for query in ["", "pty=1"] {
        let mut client = daemon.run(query);
        for (number, (seconds, also)) in cases.into_iter().enumerate() {
            let file = daemon.temp().join(format!("tidy-{number}"));
            client.start(&number.to_string(), python(&tidy(seconds, &file, also)));
        }
        for number in 0..cases.len() {
            client.wait_stdout(&number.to_string(), "ready");
        }
        for number in 0..cases.len() {
            client.stop(&number.to_string());
        }
        for (number, case) in cases.into_iter().enumerate() {
            assert_eq!(client.wait_stopped(&number.to_string()), 0, "{query} {case:?}");
            assert_eq!(
                std::fs::read_to_string(daemon.temp().join(format!("tidy-{number}"))).unwrap(),
                "tidied up"
            );
        }
    }
    let mut client = daemon.run_py("");
    for (seconds, also) in cases {
        let file = daemon.temp().join("tidy");
        client.start("", serde_json::json!({"sourceScript": tidy(seconds, &file, also)}));
        client.wait_stdout("", "ready");
        client.take_output();
        client.stop("");
        assert_eq!(client.wait_stopped(""), 0, "run-py {seconds} {also:?}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "tidied up");
    }
}

/// D33: a shell that starts the careful program dies at once, its child does not.
#[test]
fn a_handler_in_a_child_of_the_program_has_time_too() {
    let daemon = Daemon::builder().grace(30.0).start();
    let file = daemon.work().join("careful.py");
    std::fs::write(&file, careful(1.0)).unwrap();
    let mut client = daemon.run("");
    client.start("1", script(&format!("#!/bin/sh\npython3 -u {}\necho after\n", file.display())));
    client.wait_pid("1");
    client.stop("1");
    assert_eq!(client.wait_stopped("1"), -15);
    assert!(
        daemon.temp().join("switched-off").exists(),
        "the child was killed before its handler was through"
    );
}

/// D33: the grace time ends.
#[test]
fn a_handler_that_does_not_end_is_killed() {
    let daemon = Daemon::builder().grace(0.5).start();
    let mut client = daemon.run("");
    client.start("1", python(&careful(600.0)));
    let watched = client.wait_pid("1");
    client.stop("1");
    assert_eq!(client.wait_stopped("1"), -9);
    assert_all_gone(&[watched], "stop");
}

/// D33, second half: /run-py of the original never escalated.
#[test]
fn a_program_that_ignores_sigterm_is_killed_on_both_endpoints() {
    let daemon = Daemon::start();
    let code =
        "import os, signal, time\nsignal.signal(15, signal.SIG_IGN)\nprint(os.getpid())\ntime.sleep(600)\n";
    let mut client = daemon.run("");
    client.start("1", python(code));
    client.wait_pid("1");
    client.stop("1");
    assert_eq!(client.wait_stopped("1"), -9);
    let mut client = daemon.run_py("");
    for _ in 0..2 {
        client.start("", serde_json::json!({"sourceScript": code}));
        client.wait_pid("");
        client.stop("");
        assert_eq!(client.wait_stopped(""), -9);
    }
    client.start("", serde_json::json!({"sourceScript": code}));
    let watched = client.wait_pid("");
    drop(client);
    wait_all_gone(&[watched], "a disconnect");
}

/// D33: the grace time is only for those who use it. A minute of grace would burst every deadline here.
#[test]
fn programs_without_a_handler_end_at_once_whatever_the_grace() {
    let daemon = Daemon::builder().grace(60.0).start();
    let mut client = daemon.run("");
    for data in [python(SLEEPER), script("#!/bin/sh\necho $$\nsleep 600\n")] {
        client.start("1", data);
        client.wait_pid("1");
        let asked = Instant::now();
        client.stop("1");
        assert_eq!(client.wait_stopped("1"), -15);
        assert!(asked.elapsed() < DEADLINE);
    }
    let watched = start_escapers(&mut client, "pause()");
    client.stop("1");
    assert_eq!(client.wait_stopped("1"), -15);
    assert_all_gone(&watched, "stop");
    let mut terminal = daemon.run("pty=1");
    terminal.start("1", further_link_tests::programs::shell());
    terminal.stdin("1", "echo $((40 + 2))\r");
    terminal.wait_stdout("1", "42\r\n");
    terminal.stop("1");
    assert_eq!(terminal.wait_stopped("1"), -9);
}

/// F3: as with any terminal that goes away. The exit code stays the one of a kill.
#[test]
fn a_shell_keeps_its_history_and_runs_its_exit_trap_when_its_terminal_goes_away() {
    let daemon = Daemon::start();
    for disconnect in [false, true] {
        let history = daemon.work().join("history");
        let trapped = daemon.work().join("trapped");
        let mut terminal = daemon.run("pty=1");
        terminal.start("1", further_link_tests::programs::shell());
        terminal.stdin(
            "1",
            &format!("HISTFILE={}; trap 'echo > {}' EXIT\r", history.display(), trapped.display()),
        );
        terminal.stdin("1", "echo remember $((40 + 2))\r");
        terminal.wait_stdout("1", "remember 42\r\n");
        if disconnect {
            drop(terminal);
        } else {
            terminal.stop("1");
            assert_eq!(terminal.wait_stopped("1"), -9);
        }
        wait_until(DEADLINE, "the trap has run", || trapped.exists());
        wait_until(DEADLINE, "the history is there", || {
            std::fs::read_to_string(&history).is_ok_and(|text| text.contains("remember"))
        });
        std::fs::remove_file(history).unwrap();
        std::fs::remove_file(trapped).unwrap();
    }
}

/// D30: stopped by SIGSTOP, a process does not react to SIGTERM.
#[test]
fn suspended_programs_are_ended_too() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    client
        .start("1", python("import os, signal\nprint(os.getpid())\nos.kill(os.getpid(), signal.SIGSTOP)\n"));
    let watched = client.wait_pid("1");
    wait_until(DEADLINE, "it is suspended", || {
        Process::read(watched.pid).is_some_and(|process| process.state == 'T')
    });
    client.stop("1");
    let code = client.wait_stopped("1");
    assert!([-9, -15].contains(&code), "{code}");
    assert_all_gone(&[watched], "stop");
}

/// A frontend that dies. Nothing at all may be left, the helper included: the harness looks.
#[test]
fn a_killed_frontend_leaves_nothing() {
    let mut daemon = Daemon::start();
    let mut client = daemon.run("");
    let watched = start_escapers(&mut client, "pause()");
    let mut terminal = daemon.run("pty=1");
    terminal.start("2", program("/usr/bin/cat"));
    assert_eq!(daemon.end_with(Signal::SIGKILL), -9);
    wait_all_gone(&watched, "the frontend's death");
}

/// D55: a polite end is possible, with programs running.
#[test]
fn sigterm_ends_the_daemon_and_all_programs() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut daemon = Daemon::start();
        let mut client = daemon.run("");
        let watched = start_escapers(&mut client, "pause()");
        assert_eq!(daemon.end_with(signal), 0, "{signal}");
        wait_all_gone(&watched, "the daemon's end");
        client.read_until(DEADLINE, "the end of the connection", |client| client.closed.is_some());
    }
}

/// Architecture: "a helper that dies takes one run with it", and its program, hidden children included.
#[test]
fn a_killed_helper_takes_its_run_along_and_no_other() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    client.start("other", python("print(input())"));
    let watched = start_escapers(&mut client, "pause()");
    let helper = Process::read(watched[0].pid).unwrap().parent;
    nix::sys::signal::kill(Pid::from_raw(helper), Signal::SIGKILL).unwrap();
    wait_all_gone(&watched, "the helper's death");
    client.wait_stopped("1");
    client.stdin("other", "still here\n");
    assert_eq!(client.wait_stopped("other"), 0);
    assert_eq!(client.stdout("other"), "still here\n");
    // Of all that a killed process would have done, this is what no other process can do for it.
    daemon.remove_temporary_files();
}

/// D37: descriptors and processes are given back. A spare helper may wait, so two more of each are no leak.
#[test]
fn many_runs_leave_no_descriptors_and_no_processes() {
    let daemon = Daemon::start();
    let round = |daemon: &Daemon| {
        for query in ["", "pty=1"] {
            let mut client = daemon.run(query);
            client.run("1", python(""));
            client.run("1", program("/bin/true"));
            client.start("1", program("/usr/bin/cat"));
            client.stop("1");
            client.wait_stopped("1");
            client.close();
        }
    };
    round(&daemon);
    let counts = || (descriptors(daemon.pid()).len(), daemon.processes().len());
    let before =
        further_link_tests::wait::settled(DEADLINE, std::time::Duration::from_millis(500), "calm", counts);
    for _ in 0..10 {
        round(&daemon);
    }
    wait_until(DEADLINE, &format!("no more than at first, {before:?}"), || {
        let after = counts();
        after.0 <= before.0 + 2 && after.1 <= before.1 + 2
    });
}
