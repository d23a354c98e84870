//! What a runner's file limits, and what clients hear of how a program has ended.
#![expect(clippy::indexing_slicing, reason = "a test's JSON")]

use further_link_tests::{Client, Daemon};
use serde_json::{Value, json};

use crate::languages::{client, daemon_with};

/// Python with limits.
fn python(limits: &str) -> String {
    format!(
        "entry = \"{{number}}.py\"\nrequires = [\"python3\"]\n\
         [run]\nargv = [\"python3\", \"-u\", \"{{file}}\"]\n[limits]\n{limits}\n"
    )
}

#[track_caller]
fn end_of(client: &mut Client, id: &str) -> Value {
    client.expect(&format!("the end of {id}"), |message| {
        message["type"] == "stopped" && message["process"] == id
    })["data"]
        .take()
}

#[test]
fn a_program_whose_time_is_over_is_stopped_as_by_its_client_and_says_so() {
    let daemon = daemon_with(&[("brief", &python("seconds = 1")), ("long", &python("seconds = 100"))]);
    let mut client = client(&daemon);
    let tidies = "import signal, sys, time\n\
        signal.signal(signal.SIGTERM, lambda *_: (print('tidied'), sys.exit(7)))\n\
        print('begun')\ntime.sleep(100)\n";
    client.start("1", json!({"runner": "brief", "code": tidies}));
    client.start("2", json!({"runner": "long", "code": "input()"}));
    let end = end_of(&mut client, "1");
    assert_eq!((&end["exitCode"], &end["reason"]), (&json!(7), &json!("time")), "{end}");
    assert_eq!(client.stdout("1"), "begun\ntidied\n");
    assert!(client.stderr("1").contains("took longer than its runner allows"), "{}", client.stderr("1"));
    // The other has time, and is none the wiser.
    client.stdin("2", "\n");
    let end = end_of(&mut client, "2");
    assert_eq!((&end["exitCode"], &end["reason"]), (&json!(0), &json!("exited")), "{end}");
}

#[test]
fn the_time_of_a_kept_program_is_over_without_a_client_too() {
    let daemon = daemon_with(&[("brief", &python("seconds = 1"))]);
    let mut client = client(&daemon);
    client.start(
        "1",
        json!({"runner": "brief", "code": "import time\ntime.sleep(100)", "keep": {"seconds": 60}}),
    );
    let started = client.messages().find(|message| message["type"] == "started").cloned();
    let data = started.unwrap_or_else(|| client.fail("no started"))["data"].take();
    drop(client);
    let mut client = crate::languages::client(&daemon);
    client.send(
        &json!({"type": "attach", "process": "2", "data": {"session": data["session"], "key": data["key"]}}),
    );
    assert_eq!(end_of(&mut client, "2")["reason"], "time");
}

#[test]
fn a_program_gets_as_much_memory_as_its_runner_allows() {
    let daemon = daemon_with(&[("small", &python("memory = 64"))]);
    let mut client = client(&daemon);
    let code =
        "x = bytearray(20 << 20)\ntry:\n  bytearray(200 << 20)\nexcept MemoryError:\n  print('no more')\n";
    let finished = client.run("1", json!({"runner": "small", "code": code}));
    assert_eq!((finished.stdout.as_str(), finished.exit_code), ("no more\n", 0), "{finished:?}");
    let finished = client.run("1", json!({"runner": "python3", "code": code}));
    assert_eq!((finished.stdout.as_str(), finished.exit_code), ("", 0), "{finished:?}");
}

#[test]
fn a_program_makes_as_many_processes_as_its_runner_allows() {
    // Root has no such limit.
    let daemon = Daemon::builder().allow_users(&["pi"]);
    let folder = daemon.scratch().root().join("runners.d");
    let daemon = crate::languages::with_runners(daemon, &folder, &[("few", &python("processes = 4"))]);
    let mut client = client(&daemon);
    // The kernel counts all processes of the user, and other tests start and end some meanwhile.
    let code = "import os, signal\nmade = 0\ntry:\n  while made < 200:\n    if os.fork() == 0: signal.pause()\n    made += 1\n\
        except BlockingIOError: pass\nprint(made)\n";
    let finished = client.run("1", json!({"runner": "few", "code": code, "user": "pi"}));
    let made: u32 = finished.stdout.trim().parse().unwrap_or_else(|_| panic!("{finished:?}"));
    assert!((1..100).contains(&made), "{made}");
    let finished = client.run("1", json!({"runner": "python3", "code": code, "user": "pi"}));
    assert_eq!(finished.stdout, "200\n", "{finished:?}");
}

#[test]
fn who_has_said_hello_hears_what_the_program_used() {
    let daemon = Daemon::start();
    let mut client = client(&daemon);
    let code = "import os\nx = b'x' * (64 << 20)\nn = 0\nwhile sum(os.times()[:2]) < 0.2: n += 1\n";
    client.start("1", json!({"runner": "python3", "code": code}));
    let end = end_of(&mut client, "1");
    assert_eq!((&end["exitCode"], &end["reason"]), (&json!(0), &json!("exited")), "{end}");
    let (time, memory) = (end["cpuMs"].as_u64().unwrap_or(0), end["peakMemory"].as_u64().unwrap_or(0));
    assert!((190..20_000).contains(&time), "{end}");
    assert!((64 << 20..256 << 20).contains(&memory), "{end}");

    // What its children used is a part of it.
    let code = "import os\npid = os.fork()\nif pid == 0:\n  x = b'x' * (96 << 20)\n  os._exit(0)\nos.waitpid(pid, 0)\n";
    client.start("1", json!({"runner": "python3", "code": code, "keep": {"seconds": 60}}));
    let end = end_of(&mut client, "1");
    assert!(end["peakMemory"].as_u64().is_some_and(|memory| memory > 96 << 20), "{end}");

    client.start("1", json!({"runner": "exec", "path": "/usr/bin/cat"}));
    client.stop("1");
    assert_eq!(end_of(&mut client, "1")["reason"], "stopped");
}

#[test]
fn who_has_not_said_hello_hears_what_clients_always_have() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    client.start("1", json!({"runner": "python3", "code": "pass"}));
    assert_eq!(end_of(&mut client, "1"), json!({"exitCode": 0}));
}
