//! Programs that outlive their connection: API.md, "Kept programs".

#![expect(clippy::indexing_slicing, reason = "helpers of tests may fail the test")]

use std::sync::Barrier;
use std::time::Duration;

use further_link_api::{Attach, ClientMessage, Hello, Integer, ProcessId, Secret, Signal};
use further_link_tests::client::ending;
use further_link_tests::programs::{CHANNEL, numbered, program, python};
use further_link_tests::session::Session;
use further_link_tests::wait::settled;
use further_link_tests::{Client, DEADLINE, Daemon, wait_until};
use serde_json::{Value, json};

const ONE: &str = "the secret of one client";
const OTHER: &str = "the secret of another client";

fn client(daemon: &Daemon, query: &str, secret: &str) -> Client {
    let mut client = daemon.run(query);
    client.hello(Some(secret));
    client
}

fn kept(mut data: Value, seconds: u64) -> Value {
    data["keep"] = json!({"seconds": seconds});
    data
}

fn say(client: &mut Client, id: &str, kind: &str, data: &Value) {
    client.send(&json!({"type": kind, "process": id, "data": data}));
}

fn seq_of_last_output(client: &mut Client, id: &str) -> u64 {
    client.ping();
    let outputs = client.messages().filter(|message| message["process"] == *id);
    outputs.filter_map(|message| message["data"]["seq"].as_u64()).last().unwrap_or_default()
}

#[test]
fn without_hello_nothing_new_is_known_and_keep_is_ignored() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    client.refuses(
        &[
            r#"{"type":"attach","process":"1","data":{"session":"a","key":"b"}}"#,
            r#"{"type":"sessions"}"#,
            r#"{"type":"take","process":"1"}"#,
            r#"{"type":"detach","process":"1"}"#,
            r#"{"type":"hello","data":{"version":2}}"#,
            r#"{"type":"hello","data":{"version":1,"client":"short"}}"#,
        ],
        "Bad message",
    );
    client.start("1", kept(program("/usr/bin/cat"), 60));
    client.send(&json!({"type": "stdin", "process": "1", "data": {"input": "x\n", "n": "odd"}}));
    client.wait_stdout("1", "x\n");
    assert_eq!(client.outputs("1", "stdout"), ["x\n"]);
    client.stop("1");
    client.wait_stopped("1");
}

#[test]
fn hello_names_version_features_and_limits() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    let hello = client.hello(None);
    assert_eq!((&hello["version"], &hello["limits"]["sessions"]), (&json!(1), &json!(64)));
    assert!(hello["features"].as_array().unwrap().contains(&json!("keep")), "{hello}");
    client.refuses(&[r#"{"type":"hello","data":{"version":1}}"#], "Bad message");
}

#[test]
fn a_program_runs_on_and_every_byte_is_there_once() {
    let daemon = Daemon::start();
    for query in ["", "pty=1"] {
        let mut first = client(&daemon, query, ONE);
        let session = Session::start(&mut first, "1", kept(program("/usr/bin/cat"), 60));
        first.stdin("1", "one\n");
        let echoed = if query.is_empty() { "one\n" } else { "one\r\none\r\n" };
        first.wait_stdout("1", echoed);
        let seq = seq_of_last_output(&mut first, "1");
        assert_eq!(seq, u64::try_from(echoed.len()).unwrap());
        first.close();

        let mut second = client(&daemon, query, ONE);
        let attached = session.attach(&mut second, "7", &json!({"after": seq}));
        assert_eq!((&attached["lost"], &attached["seq"]), (&json!(0), &json!(seq)));
        assert_eq!((&attached["holder"], &attached["mode"]), (&json!(true), &json!("use")));
        second.stdin("7", "two\n");
        let echoed = echoed.replace("one", "two");
        second.wait_stdout("7", &echoed);
        assert_eq!(second.stdout("7"), echoed, "nothing twice");
        // From the beginning: all of it is still there.
        let mut third = client(&daemon, query, ONE);
        let attached = session.attach(&mut third, "8", &json!({"after": 0}));
        assert_eq!(attached["viewers"], 2);
        third.wait_stdout("8", &echoed);
        assert_eq!(third.stdout("8"), format!("{}{echoed}", echoed.replace("two", "one")));
        say(&mut third, "8", "stop", &json!({}));
        for (client, id) in [(&mut second, "7"), (&mut third, "8")] {
            let stopped = client.expect("stopped", |message| message["type"] == "stopped");
            assert_eq!((&stopped["process"], &stopped["data"]["reason"]), (&json!(id), &json!("stopped")));
        }
    }
}

#[test]
fn a_wrong_key_an_unknown_session_and_an_ended_one_are_one_answer() {
    let daemon = Daemon::start();
    let mut one = client(&daemon, "", ONE);
    let session = Session::start(&mut one, "1", kept(program("/usr/bin/cat"), 60));
    let ended = Session::start(&mut one, "2", kept(python("print('done')"), 60));
    one.wait_stopped("2");
    one.ping();
    let mut other = client(&daemon, "", OTHER);
    // Its end was confirmed, and so it is forgotten.
    daemon.log().expect("its end was fetched");
    for (id, key) in [
        (&session.id, &ended.key),
        (&session.id, &session.id),
        (&ended.id, &ended.key),
        (&"x".repeat(22), &session.key),
        (&String::new(), &String::new()),
    ] {
        Session::ask(&mut other, "1", id, key, &json!({}));
        assert_eq!(other.next_error(), "Bad message: no session has this id and this key; it may have ended");
    }
}

#[test]
fn a_view_key_watches_and_does_nothing_else() {
    let daemon = Daemon::start();
    let mut one = client(&daemon, "pty=1", ONE);
    let session = Session::start(&mut one, "1", kept(program("/usr/bin/cat"), 60));
    let mut teacher = client(&daemon, "", OTHER);
    let size = json!({"rows": 50, "cols": 200});
    let attached = session.watch(&mut teacher, "w", &size);
    assert_eq!((&attached["mode"], &attached["holder"]), (&json!("view"), &json!(false)));
    assert_eq!((&attached["rows"], &attached["cols"]), (&json!(4), &json!(60)));
    // The owner hears of it.
    let viewers = one.expect("viewers", |message| message["type"] == "viewers");
    assert_eq!(viewers["data"]["viewers"], 2);
    one.stdin("1", "good\n");
    teacher.wait_stdout("w", "good\r\ngood\r\n");
    assert_eq!(teacher.stdout("w"), "good\r\ngood\r\n");
    say(&mut teacher, "w", "detach", &json!({}));
    teacher.expect("detached", |message| message["type"] == "detached");
    let viewers = one.expect("viewers", |message| message["type"] == "viewers");
    assert_eq!(viewers["data"]["viewers"], 1);
}

/// Whether the key is needed for it. A new message has to be put in here.
fn needs_key(message: &ClientMessage) -> bool {
    match message {
        ClientMessage::Stdin { .. }
        | ClientMessage::Resize { .. }
        | ClientMessage::Stop { .. }
        | ClientMessage::Signal { .. }
        | ClientMessage::KeyEvent { .. }
        | ClientMessage::Take { .. } => true,
        ClientMessage::Ping
        | ClientMessage::Hello(_)
        | ClientMessage::Start { .. }
        | ClientMessage::Upload { .. }
        | ClientMessage::Attach { .. }
        | ClientMessage::Detach { .. }
        | ClientMessage::Ack { .. }
        | ClientMessage::Sessions => false,
    }
}

/// On a terminal and on pipes, and before whatever else is wrong with the message.
#[test]
fn each_message_that_needs_the_key_says_so_to_a_view_key() {
    let daemon = Daemon::start();
    for query in ["", "pty=1"] {
        let mut one = client(&daemon, query, ONE);
        let session = Session::start(&mut one, "1", kept(program("/usr/bin/cat"), 60));
        let mut teacher = client(&daemon, "", OTHER);
        session.watch(&mut teacher, "w", &json!({}));
        let process = || ProcessId::new("w");
        let stdin = |input: &str, end, n| ClientMessage::Stdin {
            process: process(),
            input: input.to_owned(),
            end,
            n,
        };
        let resize = |rows, cols| ClientMessage::Resize { process: process(), rows, cols };
        let stop = |signal| ClientMessage::Stop { process: process(), signal };
        let attach = Attach {
            session: session.id.clone(),
            key: Secret::new(session.view_key.as_str()),
            after: None,
            size: None,
        };
        let mut messages = vec![
            stdin("evil\n", false, None),
            stdin("evil\n", false, Some(1)),
            stdin("evil\n", false, Some(7)),
            stdin("", true, None),
            resize(Integer::Fits(50), Integer::Fits(200)),
            resize(Integer::Fits(0), Integer::OutOfRange),
            stop(None),
            ClientMessage::KeyEvent { process: process(), key: "a".to_owned(), event: "keydown".to_owned() },
            ClientMessage::Take { process: process() },
            ClientMessage::Hello(Hello { client: None, acks: false }),
            ClientMessage::Attach { process: process(), attach },
        ];
        for signal in Signal::ALL {
            messages.extend([stop(Some(signal)), ClientMessage::Signal { process: process(), signal }]);
        }
        for message in &messages {
            let wanted = if needs_key(message) {
                "Bad message: the view key only watches; attach with the key to use the program"
            } else {
                "Bad message"
            };
            // A second hello is none of this dialect that the harness could write.
            match message {
                ClientMessage::Hello(_) => {
                    teacher.send(&json!({"type": "hello", "data": {"version": 1}}));
                }
                other => teacher.say(other),
            }
            assert_eq!(teacher.next_error(), wanted, "{query}: {message:?}");
        }
        one.stdin("1", "good\n");
        let echoed = if query.is_empty() { "good\n" } else { "good\r\ngood\r\n" };
        one.wait_stdout("1", echoed);
        assert_eq!(one.stdout("1"), echoed);
    }
}

/// Its library has read all of it, and confirms that; the page behind it has not.
#[test]
fn a_client_that_acknowledges_output_is_given_a_window_and_loses_nothing() {
    const WINDOW: u64 = 256 * 1024;
    /// Output comes in pieces of so much.
    const PIECE: u64 = 64 * 1024;
    let daemon = Daemon::start();
    for (query, end) in [("", "\n"), ("pty=1", "\r\n")] {
        let mut one = daemon.run(query);
        one.hello_with_acks(ONE);
        let code = "for i in range(200_000): print(i)";
        Session::start(&mut one, "1", kept(python(code), 60));
        let full_window = |one: &mut Client, from: u64| {
            wait_until(DEADLINE, "a full window", || seq_of_last_output(one, "1") >= from + WINDOW);
            settled(DEADLINE, Duration::from_millis(500), "calm", || seq_of_last_output(one, "1"))
        };
        let given = full_window(&mut one, 0);
        assert!((WINDOW..WINDOW + PIECE).contains(&given), "{query}: {given}");
        say(&mut one, "another", "ack", &json!({"seq": 1}));
        say(&mut one, "1", "ack", &json!({}));
        assert_eq!(one.next_error(), "Bad message");
        // More than it was given: that counts as all of it.
        say(&mut one, "1", "ack", &json!({"seq": given * 2}));
        let more = full_window(&mut one, given);
        assert!((given + WINDOW..given + WINDOW + PIECE).contains(&more), "{query}: {given}, {more}");
        let mut acknowledged = given;
        while !one.messages().any(|message| message["type"] == "stopped") {
            let seq = seq_of_last_output(&mut one, "1");
            if seq > acknowledged {
                say(&mut one, "1", "ack", &json!({"seq": seq}));
                acknowledged = seq;
            }
        }
        let expected = numbered(200_000, |i| format!("{i}{end}"));
        assert!(one.stdout("1") == expected, "{query}: {} of {}", one.stdout("1").len(), expected.len());
    }
}

#[test]
fn starts_at_one_moment_do_not_pass_the_limit_together() {
    let daemon = Daemon::builder().argument("--max-kept=2").start();
    let secret = |number: usize| format!("the secret of client number {number}");
    let mut clients: Vec<Client> = (0..6).map(|number| client(&daemon, "", &secret(number))).collect();
    for round in 0..30 {
        let moment = Barrier::new(clients.len());
        let start = |client: &mut Client| {
            moment.wait();
            client.try_start("1", kept(program("/usr/bin/cat"), 60))
        };
        let started: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = clients.iter_mut().map(|client| scope.spawn(|| start(client))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(started.iter().filter(|start| start.is_ok()).count(), 2, "round {round}: {started:?}");
        for (client, start) in clients.iter_mut().zip(&started) {
            match start {
                Ok(()) => {
                    client.stop("1");
                    client.wait_stopped("1");
                }
                Err(text) => assert!(text.contains("2 kept programs run on this device already"), "{text}"),
            }
        }
    }
}

#[test]
fn the_size_follows_the_client_that_uses_the_keyboard() {
    let daemon = Daemon::start();
    // In one write each, or the echo of what is typed may come into the middle.
    let sizes = "import os, signal\n\
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGWINCH])\n\
        while True:\n    \
        os.write(1, b'size %d %d\\n' % os.get_terminal_size()); signal.sigwait([signal.SIGWINCH])";
    let mut small = client(&daemon, "pty=1", ONE);
    let mut data = kept(python(sizes), 60);
    (data["rows"], data["cols"]) = (json!(24), json!(80));
    let session = Session::start(&mut small, "1", data);
    small.wait_stdout("1", "size 80 24\r\n");
    let mut large = client(&daemon, "", OTHER);
    let attached = session.attach(&mut large, "2", &json!({"rows": 60, "cols": 200}));
    assert_eq!(attached["holder"], false, "another client has the keyboard");
    say(&mut large, "2", "take", &json!({}));
    small.wait_stdout("1", "size 200 60\r\n");
    let resized = small.expect("resized", |message| message["type"] == "resized");
    assert_eq!(resized["data"], json!({"rows": 60, "cols": 200}));
    let lost = small.expect("holder", |message| message["type"] == "holder");
    assert_eq!(lost["data"]["holder"], false);
    small.stdin("1", "x");
    small.read_until(DEADLINE, "its own size again", |c| c.stdout("1").matches("size 80 24").count() == 2);
    say(&mut large, "2", "resize", &json!({"rows": 61, "cols": 201}));
    small.wait_stdout("1", "size 201 61\r\n");
    large.close();
    small.read_until(DEADLINE, "its own size again", |c| c.stdout("1").matches("size 80 24").count() == 3);
}

#[test]
fn input_with_numbers_is_taken_once_and_a_gap_is_named() {
    let daemon = Daemon::start();
    let mut one = client(&daemon, "", ONE);
    let session = Session::start(&mut one, "1", kept(program("/usr/bin/cat"), 60));
    for (n, input) in [(1, "a\n"), (2, "b\n"), (1, "a\n"), (2, "b\n"), (3, "c\n")] {
        say(&mut one, "1", "stdin", &json!({"input": input, "n": n}));
    }
    one.wait_stdout("1", "c\n");
    say(&mut one, "1", "stdin", &json!({"input": "e\n", "n": 5}));
    assert_eq!(one.next_error(), "Bad message: the number of the next input is 4");
    one.close();
    let mut again = client(&daemon, "", ONE);
    let attached = session.attach(&mut again, "1", &json!({}));
    assert_eq!(attached["input"], 3);
    say(&mut again, "1", "stdin", &json!({"input": "c\n", "n": 3}));
    say(&mut again, "1", "stdin", &json!({"input": "d\n", "n": 4}));
    again.wait_stdout("1", "d\n");
    assert_eq!(again.stdout("1"), "a\nb\nc\nd\n");
    // Another client has typed meanwhile: an old number is no repetition.
    let mut other = client(&daemon, "", OTHER);
    assert_eq!(session.attach(&mut other, "2", &json!({"after": 8}))["input"], 4);
    say(&mut other, "2", "stdin", &json!({"input": "x\n", "n": 5}));
    again.wait_stdout("1", "x\n");
    say(&mut again, "1", "stdin", &json!({"input": "y\n", "n": 5}));
    assert_eq!(again.next_error(), "Bad message: the number of the next input is 6");
}

#[test]
fn what_has_ended_meanwhile_is_told_once() {
    let daemon = Daemon::start();
    let mut one = client(&daemon, "", ONE);
    let code = "import sys\nprint('runs')\ninput()\nprint('x' * 3000)\nsys.exit(3)";
    let session = Session::start(&mut one, "1", kept(python(code), 60));
    one.wait_stdout("1", "runs\n");
    one.stdin("1", "go\n");
    one.wait_stdout("1", "x\n");
    // Killed with the connection: nothing says that its end was heard.
    drop(one);
    let mut again = client(&daemon, "", ONE);
    let left = [format!("session {}: detached", session.id), format!("session {}: has heard", session.id)];
    wait_until(DEADLINE, "its client to be gone", || {
        left.iter().any(|line| daemon.log().text().contains(line))
    });
    again.send(&json!({"type": "sessions"}));
    let listed = again.expect("sessions", |message| message["type"] == "sessions");
    assert_eq!(listed["data"]["sessions"][0]["session"], session.id);
    session.attach(&mut again, "1", &json!({"after": 0}));
    let stopped = again.expect("stopped", |message| message["type"] == "stopped");
    assert_eq!(ending(&stopped), (3, "exited"));
    assert_eq!(again.stdout("1").len(), "runs\n".len() + 3001);
    again.ping();
    daemon.log().expect("its end was fetched");
    again.send(&json!({"type": "sessions"}));
    let listed = again.expect("sessions", |message| message["type"] == "sessions");
    assert_eq!(listed["data"]["sessions"], json!([]));
}

#[test]
fn what_is_lost_is_counted_to_the_byte_and_a_waiting_program_loses_nothing() {
    let daemon = Daemon::start();
    let flood = "import sys\nfor i in range(400000): print('%09d' % i)\nsys.stdout.flush()\n\
        open('done', 'w').close()\ninput()";
    for full in ["drop", "wait"] {
        let mut one = client(&daemon, "", ONE);
        let mut data = python(flood);
        data["keep"] = json!({"seconds": 60, "full": full});
        data["path"] = json!(format!("flood-{full}"));
        let session = Session::start(&mut one, "1", data);
        drop(one);
        daemon.log().expect(&format!("session {}: detached", session.id));
        if full == "drop" {
            let done = daemon.work().join(format!("flood-{full}/done"));
            wait_until(DEADLINE, "the end of the flood", || done.exists());
        }
        let mut again = client(&daemon, "", ONE);
        let attached = session.attach(&mut again, "1", &json!({"after": 0}));
        let lost = usize::try_from(attached["lost"].as_u64().unwrap()).unwrap();
        again.wait_stdout("1", "000399999\n");
        let expected = numbered(400_000, |i| format!("{i:09}\n"));
        assert!(again.stdout("1") == expected[lost..], "{full}: {lost} lost");
        assert_eq!(lost > 2_000_000, full == "drop", "{lost}");
        say(&mut again, "1", "stop", &json!({}));
        again.wait_stopped("1");
    }
}

#[test]
fn a_program_without_a_client_expires_and_says_so() {
    let daemon = Daemon::start();
    let mut one = client(&daemon, "", ONE);
    let session = Session::start(&mut one, "1", kept(python("import os; print(os.getpid()); input()"), 1));
    let process = one.wait_pid("1");
    one.close();
    wait_until(DEADLINE, "its end", || !process.is_alive());
    let mut again = client(&daemon, "", ONE);
    daemon.log().expect("no client has come back in time");
    let attached = session.attach(&mut again, "1", &json!({}));
    assert_eq!(attached["viewers"], 1);
    let stopped = again.expect("stopped", |message| message["type"] == "stopped");
    assert_eq!(stopped["data"]["reason"], "expired");
    assert_eq!(daemon.log().text().matches("no client has come back in time").count(), 1);
}

/// Or a client could have any number of them, by attaching and leaving faster than it is told.
#[test]
fn the_id_of_a_client_that_leaves_is_in_use_until_it_was_told() {
    let daemon = Daemon::start();
    let mut one = client(&daemon, "", ONE);
    let session = Session::start(&mut one, "1", kept(program("/usr/bin/cat"), 60));
    let mut other = client(&daemon, "", OTHER);
    for _ in 0..200 {
        Session::ask(&mut other, "w", &session.id, &session.view_key, &json!({}));
        say(&mut other, "w", "detach", &json!({}));
    }
    other.ping();
    let count =
        |client: &Client, kind: &str| client.messages().filter(|message| message["type"] == kind).count();
    other
        .read_until(DEADLINE, "it was told", |client| count(client, "attached") == count(client, "detached"));
    let told = other.messages().filter_map(|message| message["type"].as_str());
    let turns: Vec<&str> = told.filter(|kind| ["attached", "detached"].contains(kind)).collect();
    assert!(turns.chunks(2).all(|pair| pair == ["attached", "detached"]), "{turns:?}");
    assert!(!turns.is_empty());
}

#[test]
fn the_limits_hold_and_the_longest_idle_makes_room() {
    let daemon = Daemon::builder()
        .argument("--max-kept=3")
        .argument("--max-kept-per-client=2")
        .argument("--max-viewers=2")
        .start();
    let mut one = client(&daemon, "", ONE);
    let first = Session::start(&mut one, "1", kept(program("/usr/bin/cat"), 60));
    Session::start(&mut one, "2", kept(program("/usr/bin/cat"), 60));
    assert_eq!(
        one.try_start("3", kept(program("/usr/bin/cat"), 60)).unwrap_err(),
        "Message Exception: cannot start the program: 2 kept programs of this client run already; stop one first"
    );
    assert!(one.try_start("3", kept(program("/usr/bin/cat"), 100_000)).unwrap_err().contains("86400"));
    let mut other = client(&daemon, "", OTHER);
    Session::start(&mut other, "1", kept(program("/usr/bin/cat"), 60));
    assert!(other.try_start("2", kept(program("/usr/bin/cat"), 60)).unwrap_err().contains("on this device"));
    first.watch(&mut other, "v", &json!({}));
    let mut third = client(&daemon, "", OTHER);
    Session::ask(&mut third, "v", &first.id, &first.view_key, &json!({}));
    assert!(third.next_error().contains("2 clients are attached"));
    say(&mut other, "v", "detach", &json!({}));
    other.expect("detached", |message| message["type"] == "detached");
    say(&mut one, "1", "detach", &json!({}));
    one.expect("detached", |message| message["type"] == "detached");
    daemon.log().expect("detached");
    Session::start(&mut other, "2", kept(program("/usr/bin/cat"), 60));
    first.attach(&mut one, "1", &json!({}));
    let stopped = one.expect("stopped", |message| message["type"] == "stopped");
    assert_eq!(stopped["data"]["reason"], "evicted");
}

#[test]
fn a_start_that_fails_says_why_and_leaves_nothing() {
    let daemon = Daemon::start();
    let mut one = client(&daemon, "", ONE);
    assert!(one.try_start("1", kept(program("/nonexistent"), 60)).unwrap_err().contains("no such file"));
    one.send(&json!({"type": "sessions"}));
    let listed = one.expect("sessions", |message| message["type"] == "sessions");
    assert_eq!(listed["data"]["sessions"], json!([]));
    Session::start(&mut one, "1", kept(python("print(1)"), 60));
    one.wait_stopped("1");
}

#[test]
fn secrets_do_not_get_into_the_log() {
    let daemon = Daemon::builder().argument("--debug").start();
    let mut one = client(&daemon, "", ONE);
    let session = Session::start(&mut one, "1", kept(program("/usr/bin/cat"), 60));
    session.watch(&mut one, "2", &json!({}));
    one.send(&json!({"type": "attach", "process": "2", "data": {"session": 1, "key": session.key}}));
    one.next_error();
    let log = daemon.log().text();
    for secret in [ONE, &session.key, &session.view_key] {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
    assert_eq!(format!("{:?}", Secret::new("x")), "Secret(…)");
}

/// The newest picture and the keys that are listened for are told to each client that comes; older pictures
/// are not.
#[test]
fn the_newest_picture_and_the_keys_are_told_at_each_attach() {
    let daemon = Daemon::start();
    let mut one = client(&daemon, "", ONE);
    let code = format!(
        "{CHANNEL}
c = connect()
for key in 'a', 'b':
    say(c, 'keylisten', key=key)
input()
for number in range(20):
    say(c, 'video', output=f'picture {{number}}')
# A key comes behind the last picture.
say(c, 'keylisten', key='shown')
print(hear(c), flush=True)
"
    );
    let session = Session::start(&mut one, "1", kept(python(&code), 60));
    one.stdin("1", "\n");
    one.expect("shown", |message| message["data"]["key"] == "shown");
    one.close();
    for (process, mode) in [("w", "view"), ("u", "use")] {
        let mut back = client(&daemon, "", OTHER);
        let attached = if mode == "use" {
            session.attach(&mut back, process, &json!({}))
        } else {
            session.watch(&mut back, process, &json!({}))
        };
        assert_eq!(attached["mode"], mode);
        let of_type = |kind: &'static str| move |message: &Value| message["type"] == kind;
        for key in ["a", "b", "shown"] {
            assert_eq!(back.expect(key, of_type("keylisten"))["data"]["key"], key);
        }
        assert_eq!(back.expect("a picture", of_type("video"))["data"]["output"], "picture 19");
        if mode == "use" {
            say(&mut back, process, "keyevent", &json!({"key": "shown", "event": "keydown"}));
            assert_eq!(back.wait_stopped(process), 0);
            assert_eq!(back.stdout(process), "shown keydown\n");
        }
    }
}

/// A client whose network changes comes back before its old connections are known to be dead.
#[test]
fn the_owner_replaces_its_oldest_connection_where_no_place_is_left() {
    let daemon = Daemon::builder().argument("--max-viewers=2").start();
    let mut first = client(&daemon, "", ONE);
    let session = Session::start(&mut first, "1", kept(program("/usr/bin/cat"), 60));
    let mut second = client(&daemon, "", ONE);
    session.attach(&mut second, "2", &json!({}));
    let mut other = client(&daemon, "", OTHER);
    Session::ask(&mut other, "o", &session.id, &session.key, &json!({}));
    assert!(other.next_error().contains("2 clients are attached"));
    let mut third = client(&daemon, "", ONE);
    let attached = session.attach(&mut third, "3", &json!({}));
    assert_eq!((&attached["holder"], &attached["viewers"]), (&json!(true), &json!(2)));
    first.expect("detached", |message| message["type"] == "detached");
    third.stdin("3", "x\n");
    second.wait_stdout("2", "x\n");
    third.wait_stdout("3", "x\n");
    assert_eq!(first.stdout("1"), "");
}

/// A service that runs by hand ends its kept programs with itself, and their clients hear of it.
#[test]
fn clients_are_told_of_the_end_that_the_service_brings() {
    let mut daemon = Daemon::start();
    let mut one = client(&daemon, "pty=1", ONE);
    let session = Session::start(&mut one, "1", kept(program("/usr/bin/cat"), 60));
    let mut teacher = client(&daemon, "", OTHER);
    session.watch(&mut teacher, "w", &json!({}));
    std::thread::scope(|scope| {
        for (mut client, id) in [(one, "1"), (teacher, "w")] {
            scope.spawn(move || {
                let of_it = |message: &Value| message["type"] == "stopped" && message["process"] == id;
                let stopped = client.expect("stopped", of_it);
                assert_eq!(ending(&stopped), (-15, "shutdown"));
                client.read_until(DEADLINE, "the close frame", |client| client.closed.is_some());
                assert_eq!(client.closed, Some(Some(1001)));
            });
        }
        assert_eq!(daemon.end_with(nix::sys::signal::Signal::SIGTERM), 0);
    });
}
