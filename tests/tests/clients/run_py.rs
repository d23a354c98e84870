//! /run-py, the older dialect: one python program at a time, no process ids.
//!
//! Item B10 but `upload`, with the /run-py rows of B3, B4, B6, B8 and B9, D8 and D33. That every message
//! names the empty process is checked by the harness. What both endpoints share is tested on /run.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::fs;
use std::path::{Path, PathBuf};

use further_link_tests::programs::{BAD, EXCEPTION, SLEEPER};
use further_link_tests::scratch::{directory_for, file_for};
use further_link_tests::{Client, DEADLINE, Daemon, accounts, wait_until};
use serde_json::{Value, json};

fn source(code: &str) -> Value {
    json!({"sourceScript": code})
}

/// Spec, /run-py, `start`; B10.1
#[test]
fn programs_run_one_after_another() {
    let daemon = Daemon::start();
    let mut client = daemon.run_py("");
    for number in 0..3 {
        let finished = client.run("", source(&format!("import sys\nprint({number})\nsys.exit({number})")));
        assert_eq!((finished.exit_code, finished.stdout), (number, format!("{number}\n")));
    }
    let finished = client.run("", source("raise ValueError('ünfortunate')"));
    assert_eq!(finished.exit_code, 1);
    assert_eq!(client.outputs("", "stderr").len(), 1);
    assert!(finished.stderr.ends_with("ValueError: ünfortunate\n"), "{finished:?}");
}

/// B10.1
#[test]
fn a_start_while_a_program_runs_is_a_bad_message() {
    let daemon = Daemon::start();
    let mut client = daemon.run_py("");
    client.start("", source("print('first', input())"));
    let start = json!({"type": "start", "data": source("print('second')")});
    let with_id = json!({"type": "start", "process": "2", "data": source("print('third')")});
    client.refuses(&[start.to_string(), with_id.to_string()], BAD);
    client.stdin("", "and only\n");
    assert_eq!(client.wait_stopped(""), 0);
    assert_eq!(client.stdout(""), "first and only\n");
}

/// B10.1
#[test]
fn messages_to_a_program_that_does_not_run_are_bad_messages() {
    let daemon = Daemon::start();
    let mut client = daemon.run_py("");
    let messages = [
        json!({"type": "stop"}),
        json!({"type": "stdin", "data": {"input": "x\n"}}),
        json!({"type": "keyevent", "data": {"key": "a", "event": "keydown"}}),
    ];
    let frames = messages.map(|message| message.to_string());
    client.refuses(&frames, BAD);
    assert_eq!(client.run("", source("pass")).exit_code, 0);
    client.refuses(&frames, BAD);
}

/// B4.4 to B4.6, B10: no resize, no ids, no runners.
#[test]
fn malformed_messages_are_refused_and_the_connection_lives() {
    let daemon = Daemon::start();
    let mut client = daemon.run_py("pty=1");
    client.refuses(&["", "x", "{", "{\"type\": \"ping\",}"], BAD);
    client.refuses(&["null", "1", "\"ping\"", "[]"], EXCEPTION);
    let nothing_to_run = [
        json!({}),
        json!(null),
        json!([]),
        json!("print(1)"),
        json!({"sourceScript": null}),
        json!({"sourceScript": 1}),
        json!({"sourcePath": ""}),
        json!({"sourcePath": null}),
        json!({"sourcePath": ["x.py"]}),
        json!({"runner": "python3", "code": "print(1)"}),
        json!({"directoryName": "x"}),
        json!({"path": "x.py"}),
    ];
    let mut frames: Vec<Value> =
        nothing_to_run.iter().map(|data| json!({"type": "start", "data": data})).collect();
    frames.push(json!({"type": "start"}));
    frames.extend([json!({}), json!({"type": 1}), json!({"type": "nonsense"}), json!({"type": "started"})]);
    client.start("", source("print('got', input())"));
    client.stdin("", "it\r");
    assert_eq!(client.wait_stopped(""), 0);
    client.take_output();
    client.refuses(&frames.iter().map(Value::to_string).collect::<Vec<_>>(), BAD);
    client.start("", source("input()"));
    let to_a_live_program = [
        json!({"type": "resize", "data": {"rows": 24, "cols": 80}}),
        json!({"type": "stdin"}),
        json!({"type": "stdin", "data": {"input": 1}}),
        json!({"type": "keyevent", "data": {"key": "a"}}),
    ];
    client.refuses(&to_a_live_program.map(|message| message.to_string()), BAD);
}

/// B10.1, B4.4: an id of any type in a message is as good as none; the answers name none.
#[test]
fn process_ids_are_ignored() {
    let daemon = Daemon::start();
    let mut client = daemon.run_py("");
    for id in [json!("1"), json!(5), json!(null), json!(["x"])] {
        client.send(&json!({"type": "start", "process": id, "data": source("print('got', input())")}));
        client.expect("started", |message| message["type"] == "started");
        client.send(&json!({"type": "stdin", "process": "other", "data": {"input": "it\n"}}));
        assert_eq!(client.wait_stopped(""), 0);
        assert_eq!(client.stdout(""), "got it\n");
    }
    client.send(&json!({"type": "ping", "process": "7"}));
    client.expect("pong", |message| message["type"] == "pong" && message["process"] == "");
}

/// B10.1
#[test]
fn input_that_nobody_read_does_not_reach_the_next_program() {
    let daemon = Daemon::start();
    let mut client = daemon.run_py("");
    client.start("", source("print('ready')\nimport time\ntime.sleep(600)"));
    client.wait_stdout("", "ready\n");
    client.stdin("", "old\nold\n");
    client.ping();
    client.stop("");
    assert_eq!(client.wait_stopped(""), -15);
    client.start("", source("print('got', input())"));
    client.stdin("", "new\n");
    assert_eq!(client.wait_stopped(""), 0);
    assert_eq!(client.stdout(""), "got new\n");
}

/// B6.4, B10.1; B5 for `keyevent`
#[test]
fn stop_ends_the_program_and_keyevent_gets_no_reply() {
    let daemon = Daemon::start();
    let mut client = daemon.run_py("");
    client.start("", source(SLEEPER));
    client.wait_pid("");
    client.take_output();
    client.send(&json!({"type": "keyevent", "data": {"key": "ArrowUp", "event": "keydown"}}));
    client.expect_no_reply();
    client.stop("");
    assert_eq!(client.wait_stopped(""), -15);
    client.start("", source(SLEEPER));
    let watched = client.wait_pid("");
    drop(client);
    wait_until(DEADLINE, "the program ends with its connection", || !watched.is_alive());
}

/// Python that shows file, arguments and working directory.
const SHOW: &str = "import json, os, sys\nprint(json.dumps([__file__, os.getcwd(), *sys.argv]))\n";

/// File and working directory of [`SHOW`], whose one argument is the file.
#[track_caller]
fn shown(client: &mut Client, data: Value) -> (PathBuf, PathBuf) {
    let finished = client.run("", data);
    assert_eq!(finished.exit_code, 0, "{finished:?}");
    let (file, directory, argument): (PathBuf, PathBuf, PathBuf) =
        serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(file, argument);
    (file, directory)
}

#[track_caller]
fn assert_numbered_python_file(path: &Path) {
    let number = path.file_name().unwrap().to_str().unwrap().strip_suffix(".py").unwrap_or_default();
    assert!(!number.is_empty() && number.chars().all(|c| c.is_ascii_digit()), "{}", path.display());
}

/// B8, D12
#[test]
fn a_source_script_runs_in_the_temp_directory() {
    let daemon = Daemon::start();
    let mut client = daemon.run_py("");
    let (file, directory) = shown(&mut client, source(SHOW));
    assert_eq!(directory, daemon.temp());
    assert_numbered_python_file(&file);
    assert_eq!(file.parent().unwrap().parent().unwrap(), daemon.temp());
    assert!(!file.exists());
}

/// Spec, /run-py, `start`; B8, B10.2, B7.6: made with its parents, as the user, and it stays.
#[test]
fn a_directory_name_is_where_a_source_script_runs() {
    let daemon = Daemon::start();
    let mut client = daemon.run_py("");
    let work = daemon.work();
    let absolute = work.join("abso/lute");
    let names = [
        ("myproject", work.join("myproject")),
        ("a b/ü", work.join("a b/ü")),
        (absolute.to_str().unwrap(), absolute.clone()),
    ];
    for (name, expected) in names {
        for _ in 0..2 {
            let (file, directory) = shown(&mut client, json!({"sourceScript": SHOW, "directoryName": name}));
            assert_eq!(directory, expected);
            assert_eq!(file.parent().unwrap(), expected);
            assert_numbered_python_file(&file);
            assert_eq!(fs::read_dir(&expected).unwrap().count(), 0);
        }
        assert_eq!(
            std::os::unix::fs::MetadataExt::uid(&fs::metadata(&expected).unwrap()),
            accounts::pi().uid
        );
    }
    for name in [json!(""), json!(null), json!(5), json!(["x"])] {
        let (_, directory) = shown(&mut client, json!({"sourceScript": SHOW, "directoryName": name}));
        assert_eq!(directory, daemon.temp(), "{name}");
    }
}

/// Spec, /run-py, `start`; B8
#[test]
fn a_source_path_runs_where_it_lies() {
    let daemon = Daemon::start();
    let pi = accounts::pi();
    let project = daemon.work().join("my project");
    directory_for(&pi, &project, 0o755);
    let file = project.join("run it.py");
    file_for(&pi, &file, SHOW, 0o644);
    let mut client = daemon.run_py("");
    for path in ["my project/run it.py", file.to_str().unwrap()] {
        for directory in [json!(null), json!("ignored")] {
            let data = json!({"sourcePath": path, "directoryName": directory});
            assert_eq!(shown(&mut client, data), (file.clone(), project.clone()));
        }
    }
    assert!(file.exists());
}

/// B10.2: the empty script is a script.
#[test]
fn a_source_script_wins_over_a_source_path() {
    let daemon = Daemon::start();
    file_for(&accounts::pi(), &daemon.work().join("run.py"), "print('path')", 0o644);
    let mut client = daemon.run_py("");
    let both = |script: Value| json!({"sourceScript": script, "sourcePath": "run.py"});
    assert_eq!(client.run("", both(json!("print('script')"))).stdout, "script\n");
    let empty = client.run("", both(json!("")));
    assert_eq!((empty.exit_code, empty.stdout.as_str(), empty.stderr.as_str()), (0, "", ""));
    for script in [json!(null), json!(5), json!(["print(1)"])] {
        assert_eq!(client.run("", both(script)).stdout, "path\n");
    }
}

/// B8: python reports a missing file itself; a missing directory is a failed start.
#[test]
fn a_missing_file_is_exit_code_2_and_a_missing_directory_is_an_error() {
    let daemon = Daemon::start();
    let mut client = daemon.run_py("");
    let finished = client.run("", json!({"sourcePath": "missing.py"}));
    assert_eq!(finished.exit_code, 2);
    assert!(finished.stderr.contains("can't open file"), "{finished:?}");
    client.take_output();
    fs::write(daemon.work().join("file"), "").unwrap();
    let failing = [
        json!({"sourcePath": "no/such/run.py"}),
        json!({"sourcePath": "/no/such/run.py"}),
        json!({"sourcePath": "file/run.py"}),
        json!({"sourceScript": "print(1)", "directoryName": "file/x"}),
        json!({"sourceScript": "print(1)", "directoryName": "/no-such-directory"}),
        json!({"sourcePath": "a\u{0}b/run.py"}),
    ];
    for data in failing {
        let error = client.try_start("", data.clone()).unwrap_err();
        let reason = error.strip_prefix("Message Exception: ").unwrap_or_default();
        assert!(reason.split_whitespace().count() >= 2, "{data}: {error:?}");
        client.expect_no_reply();
        assert_eq!(client.run("", source("print('works')")).stdout, "works\n");
        client.take_output();
    }
}

/// B9.1: no resize here, so 0 x 0; D28 holds as on /run.
#[test]
fn a_terminal_has_no_size_but_controls() {
    let daemon = Daemon::start();
    let mut client = daemon.run_py("pty=1");
    let code =
        "import subprocess, sys, time\nsubprocess.run(['stty', 'size'])\nprint('ready')\ntime.sleep(600)";
    client.start("", source(code));
    client.wait_stdout("", "0 0\r\nready\r\n");
    client.stdin("", "\x03");
    assert_eq!(client.wait_stopped(""), -2);
    client.start("", source("print(input() + '!')"));
    client.stdin("", "echo\r");
    assert_eq!(client.wait_stopped(""), 0);
    assert_eq!(client.stdout(""), "echo\r\necho!\r\n");
}

/// B3.5 to B3.7, B7.1, D8: an unknown user silently ran as root in the original.
#[test]
fn the_user_of_the_query_runs_the_program_or_nobody_does() {
    let daemon = Daemon::builder().allow_users(&["pi", "linkother"]).start();
    let who = source(
        "import os, pwd; print(pwd.getpwuid(os.getuid()).pw_name, pwd.getpwuid(os.geteuid()).pw_name)",
    );
    for (query, name) in [("", "pi"), ("user=pi", "pi"), ("user=linkother", "linkother")] {
        assert_eq!(daemon.run_py(query).run("", who.clone()).stdout, format!("{name} {name}\n"), "{query}");
    }
    for query in ["user=root", "user=nosuchuser", "user=0", "user="] {
        let mut client = daemon.run_py(query);
        for _ in 0..2 {
            let error = client.try_start("", who.clone()).unwrap_err();
            assert!(error.starts_with(EXCEPTION), "{query}: {error}");
            client.expect_no_reply();
        }
    }
}
