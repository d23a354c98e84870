//! Kept programs outlive the frontend: it is told to end or killed, and the next one takes them up.
//!
//! A stand-in for systemd keeps their descriptors; `tests/boot` has the real one.
#![expect(clippy::indexing_slicing, reason = "helpers of tests may fail the test")]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use further_link_tests::client::ending;
use further_link_tests::programs::{CHANNEL, program, python};
use further_link_tests::service_manager::ServiceManager;
use further_link_tests::session::Session;
use further_link_tests::{Client, DEADLINE, Daemon, wait_until};
use serde_json::{Value, json};

const TERM: i32 = 15;
const KILL: i32 = 9;
const SECRET: &str = "the secret of this client";
/// More than any test needs.
const ROOM: u16 = 1024;

fn client(manager: &ServiceManager, query: &str) -> Client {
    let mut client = manager.daemon.run(query);
    client.hello(Some(SECRET));
    client
}

fn kept(mut data: Value) -> Value {
    data["keep"] = json!({"seconds": 600, "full": "wait"});
    data
}

fn restart(manager: &mut ServiceManager, signal: i32) {
    let code = manager.end_frontend(signal);
    assert_eq!(code, if signal == TERM { 0 } else { -KILL }, "{}", manager.daemon.log().tail());
    manager.start_frontend();
}

fn last_seq(client: &Client, id: &str) -> u64 {
    let outputs = client.messages().filter(|message| message["process"] == *id);
    outputs.filter_map(|message| message["data"]["seq"].as_u64()).last().unwrap_or_default()
}

fn start() -> ServiceManager {
    ServiceManager::start(Daemon::builder(), ROOM)
}

#[test]
fn programs_that_print_lose_nothing_and_double_nothing() {
    let mut manager = start();
    // Lines of different lengths, with characters of several bytes, on both streams.
    let code = "import os, sys, itertools\nprint(os.getpid())\nfor i in itertools.count():\n    \
        print(i, '€' * (i % 50), file=sys.stderr if i % 7 == 6 else sys.stdout, flush=i % 3 == 0)\n    \
        if i % 1000 == 0: sys.stdout.flush()";
    for query in ["", "pty=1"] {
        let mut client = client(&manager, query);
        let session = Session::start(&mut client, "1", kept(python(code)));
        let process = client.wait_pid("1");
        let (mut stdout, mut stderr) = (String::new(), String::new());
        for round in 0..12 {
            let before = client.stdout("1").len();
            client.read_until(DEADLINE, "more output", |client| client.stdout("1").len() > before + 50_000);
            restart(&mut manager, if round % 2 == 0 { KILL } else { TERM });
            // What had come before the cut counts.
            while client.read_one(std::time::Instant::now() + DEADLINE) {}
            stdout += &client.stdout("1");
            stderr += &client.stderr("1");
            let after = last_seq(&client, "1");
            client = self::client(&manager, query);
            let attached = session.attach(&mut client, "1", &json!({"after": after}));
            assert_eq!(attached["lost"], 0, "round {round}");
        }
        assert!(process.is_alive(), "the program runs on");
        client.stop("1");
        client.wait_stopped("1");
        stdout += &client.stdout("1");
        stderr += &client.stderr("1");
        let (_, lines) = stdout.split_once('\n').unwrap();
        let end = if query.is_empty() { "\n" } else { "\r\n" };
        let is_on_stderr = |i: &usize| query.is_empty() && i % 7 == 6;
        for (name, text, on_stderr) in [("stdout", lines, false), ("stderr", &*stderr, true)] {
            let mut rest = text;
            if !query.is_empty() && on_stderr {
                assert_eq!(rest, "", "a terminal has one stream");
                continue;
            }
            for i in (0..).filter(|i| is_on_stderr(i) == on_stderr) {
                let line = format!("{i} {}{end}", "€".repeat(i % 50));
                let Some(behind) = rest.strip_prefix(&line) else {
                    let begin: String = rest.chars().take(100).collect();
                    assert!(line.starts_with(rest), "{query:?}, {name}: at line {i}: {begin:?}");
                    break;
                };
                rest = behind;
            }
        }
    }
}

#[test]
fn input_arrives_once_also_what_the_program_had_not_read() {
    let mut manager = start();
    let code = "import os, sys\nprint('ready', flush=True)\n\
        while not os.path.exists('go'): pass\n\
        for line in sys.stdin: print('got', line, end='', flush=True)\nprint('end')";
    for signal in [TERM, KILL] {
        let mut first = client(&manager, "");
        let mut data = kept(python(code));
        data["path"] = json!(format!("inputs{signal}"));
        let session = Session::start(&mut first, "1", data);
        first.wait_stdout("1", "ready\n");
        let long = "x".repeat(200_000);
        for (n, input) in [(1, "a\n"), (2, long.as_str()), (3, "\n"), (4, "b\n")] {
            first.send(&json!({"type": "stdin", "process": "1", "data": {"input": input, "n": n}}));
        }
        first.send(&json!({"type": "stdin", "process": "1", "data": {"input": "c\n"}}));
        first.ping();
        restart(&mut manager, signal);
        let mut second = client(&manager, "");
        let attached = session.attach(&mut second, "1", &json!({"after": 6}));
        assert_eq!((&attached["input"], &attached["holder"]), (&json!(4), &json!(true)));
        second.send(&json!({"type": "stdin", "process": "1", "data": {"input": "b\n", "n": 4}}));
        second.send(&json!({"type": "stdin", "process": "1", "data": {"input": "d\n", "n": 5, "end": true}}));
        second.ping();
        // The end of input is one, whatever has copies of the stream.
        restart(&mut manager, signal);
        fs::write(manager.daemon.work().join(format!("inputs{signal}/go")), "").unwrap();
        let mut third = client(&manager, "");
        session.attach(&mut third, "1", &json!({"after": 6}));
        assert_eq!(third.wait_stopped("1"), 0);
        let expected = format!("got a\ngot {long}\ngot b\ngot c\ngot d\nend\n");
        assert!(third.stdout("1") == expected, "{signal}");
    }
}

#[test]
fn the_end_of_input_reaches_a_program_that_reads() {
    let mut manager = start();
    let mut client = client(&manager, "");
    Session::start(&mut client, "1", kept(program("/usr/bin/cat")));
    client.stdin("1", "x\n");
    client.wait_stdout("1", "x\n");
    client.send(&json!({"type": "stdin", "process": "1", "data": {"input": "", "end": true}}));
    assert_eq!(client.wait_stopped("1"), 0);
    client.ping();
    manager.daemon.log().expect("its end was fetched");
    wait_until(DEADLINE, "nothing is stored of what was fetched", || manager.stored().is_empty());
}

#[test]
fn what_ends_while_there_is_no_frontend_is_told_by_the_next_one() {
    let mut manager = start();
    let code = "import os, sys\nprint(os.getpid(), flush=True)\n\
        while not os.path.exists('go'): pass\nprint('last words' * 2000)\nsys.exit(3)";
    for (query, signal) in [("", TERM), ("", KILL), ("pty=1", TERM), ("pty=1", KILL)] {
        let mut first = client(&manager, query);
        let mut data = kept(python(code));
        let name = format!("end{signal}{query}");
        // A terminal holds some KiB.
        if !query.is_empty() {
            data["code"] = json!(code.replace("2000", "100"));
        }
        data["path"] = json!(name);
        let session = Session::start(&mut first, "1", data);
        let process = first.wait_pid("1");
        let seq = last_seq(&first, "1");
        assert_eq!(manager.end_frontend(signal), if signal == TERM { 0 } else { -KILL });
        fs::write(manager.daemon.work().join(name).join("go"), "").unwrap();
        wait_until(DEADLINE, "its end", || !process.is_alive());
        manager.start_frontend();
        // And once more, when all that has come was read.
        manager.daemon.log().expect(&format!("session {}: taken up again", session.id));
        restart(&mut manager, signal);
        let mut second = client(&manager, query);
        session.attach(&mut second, "1", &json!({"after": seq}));
        let stopped = second.expect("stopped", |message| message["type"] == "stopped");
        assert_eq!(ending(&stopped), (3, "exited"));
        let times = if query.is_empty() { 2000 } else { 100 };
        assert_eq!(second.stdout("1").trim_end(), "last words".repeat(times));
        second.ping();
        wait_until(DEADLINE, "nothing is stored of what was fetched", || manager.stored().is_empty());
    }
}

#[test]
fn the_screen_the_size_and_the_owner_are_the_same() {
    let mut manager = start();
    let mut first = client(&manager, "pty=1");
    // More than is kept, and then a screen.
    let code = "import sys\nprint('\\x1b[?1049h', end='')\nfor i in range(60000): print('%040d' % i)\n\
        print('\\x1b[2J\\x1b[3;5Hhere', end='', flush=True)\ninput()";
    let session = Session::start(&mut first, "1", kept(python(code)));
    first.wait_stdout("1", "here");
    first.send(&json!({"type": "resize", "process": "1", "data": {"rows": 30, "cols": 99}}));
    first.ping();
    let mut before = client(&manager, "");
    let attached = session.attach(&mut before, "1", &json!({}));
    let screen = before.expect("screen", |message| message["type"] == "screen");
    for signal in [KILL, TERM, KILL] {
        restart(&mut manager, signal);
        let mut client = client(&manager, "");
        client.send(&json!({"type": "sessions"}));
        let listed = client.expect("sessions", |message| message["type"] == "sessions");
        assert_eq!(listed["data"]["sessions"][0]["session"], session.id);
        let attached_now = session.attach(&mut client, "1", &json!({}));
        for field in ["seq", "rows", "cols", "state"] {
            assert_eq!(attached_now[field], attached[field], "{field}");
        }
        let screen_now = client.expect("screen", |message| message["type"] == "screen");
        assert_eq!(screen_now["data"]["output"], screen["data"]["output"]);
        let mut stranger = manager.daemon.run("");
        stranger.hello(Some("the secret of somebody else"));
        stranger.send(&json!({"type": "sessions"}));
        let listed = stranger.expect("sessions", |message| message["type"] == "sessions");
        assert_eq!(listed["data"]["sessions"], json!([]));
        Session::ask(&mut stranger, "1", &session.id, &session.id, &json!({}));
        assert!(stranger.next_error().contains("no session has this id"));
    }
}

#[test]
fn the_user_channel_goes_on_with_its_keys_its_picture_and_a_line_that_was_begun() {
    let mut manager = start();
    let code = format!(
        "{CHANNEL}\nchannel = connect()\nsay(channel, 'keylisten', key='a')\nprint('listens', flush=True)\n\
         say(channel, 'video', output='AAAA')\nline = message('video', output='BBBB')\n\
         input()\nchannel.sendall(line[:20])\nprint('begun', flush=True)\ninput()\n\
         channel.sendall(line[20:])\nprint(hear(channel), flush=True)\ninput()"
    );
    let mut first = client(&manager, "");
    let session = Session::start(&mut first, "1", kept(python(&code)));
    let video = |message: &Value| message["type"] == "video";
    let keylisten = |message: &Value| message["type"] == "keylisten";
    first.expect("a picture", video);
    first.expect("a key", keylisten);
    first.wait_stdout("1", "listens\n");
    first.stdin("1", "\n");
    first.wait_stdout("1", "begun\n");
    restart(&mut manager, TERM);
    let mut second = client(&manager, "");
    session.attach(&mut second, "1", &json!({}));
    assert_eq!(second.expect("the key", keylisten)["data"]["key"], "a");
    assert_eq!(second.expect("the last picture", video)["data"]["output"], "AAAA");
    second.stdin("1", "\n");
    assert_eq!(second.expect("the next picture", video)["data"]["output"], "BBBB");
    restart(&mut manager, KILL);
    let mut third = client(&manager, "");
    session.attach(&mut third, "1", &json!({}));
    third.send(&json!({"type": "keyevent", "process": "1", "data": {"key": "a", "event": "keydown"}}));
    third.wait_stdout("1", "a keydown\n");
}

#[test]
fn a_stop_ends_all_programs_with_their_grace() {
    let mut manager = start();
    let code = "import os, signal, sys\ndef tidy(*_): open('tidied', 'w').close(); sys.exit()\n\
        signal.signal(signal.SIGTERM, tidy)\nprint(os.getpid(), flush=True)\nsignal.pause()";
    let mut one = client(&manager, "");
    let mut data = kept(python(code));
    data["path"] = json!("grace");
    Session::start(&mut one, "1", data);
    let tidy = one.wait_pid("1");
    Session::start(&mut one, "2", kept(python("import os, time\nprint(os.getpid())\ntime.sleep(600)")));
    let other = one.wait_pid("2");
    assert_eq!(manager.end_frontend(TERM), 0);
    assert!(tidy.is_alive() && other.is_alive());
    manager.empty_store();
    wait_until(DEADLINE, "the end of both", || !tidy.is_alive() && !other.is_alive());
    assert!(manager.daemon.work().join("grace/tidied").exists());
    manager.helper.assert_only_the_listener_is_left();
    manager.start_frontend();
}

#[test]
fn a_program_whose_state_is_not_understood_is_ended_and_the_log_says_so() {
    let mut manager = start();
    let mut one = client(&manager, "");
    let session = Session::start(&mut one, "1", kept(python("import os; print(os.getpid()); input()")));
    let process = one.wait_pid("1");
    assert_eq!(manager.end_frontend(TERM), 0);
    manager.outdate_states();
    manager.start_frontend();
    manager.daemon.log().expect(&format!(
        "session {}: its program is ended, since it cannot be taken up: its state has the form of version 999, \
         and this program knows version 1",
        session.id
    ));
    wait_until(DEADLINE, "its end", || !process.is_alive());
    wait_until(DEADLINE, "nothing is stored", || manager.stored().is_empty());
    let mut again = client(&manager, "");
    Session::ask(&mut again, "1", &session.id, &session.key, &json!({}));
    assert!(again.next_error().contains("no session has this id"));
}

#[test]
fn a_program_for_which_the_store_has_no_room_ends_with_the_frontend() {
    // One with pipes needs six descriptors.
    let mut manager = ServiceManager::start(Daemon::builder(), 7);
    let mut one = client(&manager, "");
    let first = Session::start(&mut one, "1", kept(python("import os; print(os.getpid()); input()")));
    let process = one.wait_pid("1");
    let second = Session::start(&mut one, "2", kept(python("import os; print(os.getpid()); input()")));
    let other = one.wait_pid("2");
    let said = format!("session {}: it will end when this service is started again", second.id);
    manager.daemon.log().expect(&said);
    restart(&mut manager, TERM);
    wait_until(DEADLINE, "the end of the second", || !other.is_alive());
    assert!(process.is_alive());
    let mut again = client(&manager, "");
    first.attach(&mut again, "1", &json!({}));
}

#[test]
fn a_compiler_that_goes_on_talking_is_heard_by_the_next_frontend() {
    let builder = Daemon::builder();
    let folder = builder.scratch().root().join("runners.d");
    let go = builder.scratch().root().join("go");
    fs::create_dir(&folder).unwrap();
    let script =
        r#"echo one >&2; until [ -e "$0" ]; do sleep 0.01; done; echo two >&2; cp "$1" "$2"; chmod +x "$2""#;
    let text = format!(
        "id = \"waits\"\ntitle = \"W\"\nentry = \"{{number}}.x\"\n[compile]\n\
         argv = [\"sh\", \"-c\", '{script}', \"{}\", \"{{file}}\", \"{{out}}\"]\n[run]\nargv = [\"{{out}}\"]\n",
        go.display()
    );
    fs::write(folder.join("waits.toml"), text).unwrap();
    for (path, mode) in [(folder.clone(), 0o755), (folder.join("waits.toml"), 0o644)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let dirs = format!("--runners-dirs={}", folder.display());
    let mut manager = ServiceManager::start_with(builder.argument(&dirs), ROOM, &[&dirs]);
    for signal in [TERM, KILL] {
        let mut one = client(&manager, "");
        let data = kept(json!({"runner": "waits", "code": "#!/bin/sh\necho ran; exit 3\n"}));
        let session = Session::start(&mut one, "1", data);
        one.read_until(DEADLINE, "the compiler", |client| client.stderr("1") == "one\n");
        restart(&mut manager, signal);
        fs::write(&go, "").unwrap();
        let mut again = client(&manager, "");
        session.attach(&mut again, "1", &json!({}));
        assert_eq!(again.wait_stopped("1"), 3, "{}", again.stderr("1"));
        assert_eq!((again.stderr("1").as_str(), again.stdout("1").as_str()), ("one\ntwo\n", "ran\n"));
        fs::remove_file(&go).unwrap();
    }
}

#[test]
fn times_go_on_while_there_is_no_frontend() {
    let mut manager = start();
    let mut one = client(&manager, "");
    let mut data = kept(python("import os; print(os.getpid()); input()"));
    data["keep"]["seconds"] = json!(1);
    Session::start(&mut one, "1", data);
    let process = one.wait_pid("1");
    one.close();
    manager.daemon.log().expect("detached");
    restart(&mut manager, KILL);
    wait_until(DEADLINE, "its end", || !process.is_alive());
    manager.daemon.log().expect("no client has come back in time");
}
