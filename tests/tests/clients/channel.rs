//! The user channel: `video`, `keylisten` and `keyevent` between a client and programs that know nothing but
//! a socket, JSON and the variable `FURTHER_LINK_CHANNEL`.
//!
//! B12, and D13, D38, D39, D43, D51; API.md, "The user channel". The harness checks the data of each type,
//! and that nothing comes before `started` or after `stopped`. Slow clients and floods are in
//! `channel_pressure`.
#![expect(clippy::indexing_slicing, reason = "helpers of tests may fail the test")]

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use further_link_tests::programs::{CHANNEL, python, shell};
use further_link_tests::scratch::mode_of;
use further_link_tests::{Client, DEADLINE, Daemon, accounts, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// A program that can use the channel.
fn channel_program(code: &str) -> Value {
    python(&format!("{CHANNEL}{code}"))
}

#[track_caller]
fn expect_message(client: &mut Client, kind: &str, process: &str, output: &str) {
    let about = |message: &Value| message["type"] == kind && message["process"] == process;
    let message = client.expect(&format!("{kind} {output:?}"), about);
    assert_eq!(message["data"]["output"], output);
}

fn press(client: &mut Client, process: Option<&str>, key: &str, event: &str) {
    let mut message = json!({"type": "keyevent", "data": {"key": key, "event": event}});
    if let Some(process) = process {
        message["process"] = json!(process);
    }
    client.send(&message);
}

/// The socket of the one run that there is.
#[track_caller]
fn socket(daemon: &Daemon) -> PathBuf {
    let mut sockets = daemon.temporary_files();
    sockets.retain(|path| path.extension().is_some_and(|extension| extension == "sock"));
    assert_eq!(sockets.len(), 1, "{sockets:?}");
    sockets.remove(0)
}

const SHOW_AND_LISTEN: &str = r#"
c = connect()
say(c, "video", output="/9j/4AAQ+/=")
say(c, "keylisten", key="ArrowUp")
say(c, "keylisten", output="b")
for _ in range(3):
    print(hear(c), flush=True)
"#;

/// Spec, "video", "keylisten", "keyevent", in the dialect of /run; B12.4.
#[test]
fn frames_and_keys_travel_both_ways_on_run() {
    let daemon = Daemon::start();
    for query in ["", "pty=1"] {
        let mut client = daemon.run(query);
        client.start("1", channel_program(SHOW_AND_LISTEN));
        expect_message(&mut client, "video", "1", "/9j/4AAQ+/=");
        expect_message(&mut client, "keylisten", "1", "ArrowUp");
        expect_message(&mut client, "keylisten", "1", "b");
        for (key, event) in [("ArrowUp", "keydown"), ("c", "x"), ("ArrowUp", "keyup"), ("b", "keydown")] {
            press(&mut client, Some("1"), key, event);
        }
        assert_eq!(client.wait_stopped("1"), 0);
        let heard = client.stdout("1").replace('\r', "");
        assert_eq!(heard, "ArrowUp keydown\nArrowUp keyup\nb keydown\n");
        client.take_output();
        client.expect_no_reply();
    }
}

/// The same in the dialect of /run-py.
#[test]
fn frames_and_keys_travel_both_ways_on_run_py() {
    let daemon = Daemon::start();
    let mut client = daemon.run_py("");
    client.start("", json!({"sourceScript": format!("{CHANNEL}{SHOW_AND_LISTEN}")}));
    expect_message(&mut client, "video", "", "/9j/4AAQ+/=");
    expect_message(&mut client, "keylisten", "", "ArrowUp");
    expect_message(&mut client, "keylisten", "", "b");
    for event in ["keydown", "keyup", "keydown"] {
        press(&mut client, None, "ArrowUp", event);
    }
    assert_eq!(client.wait_stopped(""), 0);
    assert_eq!(client.stdout(""), "ArrowUp keydown\nArrowUp keyup\nArrowUp keydown\n");
}

/// D38, D39: names that the original's framing could not carry. B5: the event is any text.
#[test]
fn any_text_is_a_key_and_an_event() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    let keys = [" ", "", "é", "€", "😀", "\"", "a endkeylisten ", "two\nlines", " Tab "];
    let code = format!(
        "
keys = json.loads({:?})
c = connect()
for key in keys:
    say(c, 'keylisten', key=key)
for _ in keys:
    line = json.loads(c.makefile('r', encoding='utf-8', newline='\\n').readline())
    print(ascii((line['data']['key'], line['data']['event'])), flush=True)
    say(c, 'video', output='next')
",
        json!(keys).to_string()
    );
    client.start("1", channel_program(&code));
    for key in keys {
        expect_message(&mut client, "keylisten", "1", key);
    }
    for key in keys {
        press(&mut client, Some("1"), key, "ke y€\n");
        expect_message(&mut client, "video", "1", "next");
    }
    assert_eq!(client.wait_stopped("1"), 0);
    let heard: Vec<_> = client.stdout("1").lines().map(str::to_owned).collect();
    assert_eq!(heard.len(), keys.len());
    assert_eq!(heard.first().unwrap(), r"(' ', 'ke y\u20ac\n')");
    assert_eq!(heard.get(4).unwrap(), r"('\U0001f600', 'ke y\u20ac\n')");
}

/// B12.5: several connections at once; each hears of its own keys. Other programs of the client hear nothing.
#[test]
fn each_connection_hears_of_its_own_keys_in_its_own_process() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    let code = r#"
a, b = connect(), connect()
say(a, "keylisten", key="x")
say(a, "keylisten", key="shared")
say(b, "keylisten", key="y")
say(b, "keylisten", key="shared")
print("a", hear(a), hear(a), "b", hear(b), hear(b), flush=True)
"#;
    for id in ["one", "two"] {
        client.start(id, channel_program(code));
        for _ in 0..4 {
            client.expect("keylisten", |message| message["type"] == "keylisten" && message["process"] == id);
        }
    }
    for key in ["y", "shared", "x"] {
        press(&mut client, Some("one"), key, "keydown");
    }
    assert_eq!(client.wait_stopped("one"), 0);
    assert_eq!(client.stdout("one"), "a shared keydown x keydown b y keydown shared keydown\n");
    assert_eq!(client.stdout("two"), "");
    for key in ["x", "y", "shared"] {
        press(&mut client, Some("two"), key, "keyup");
    }
    assert_eq!(client.wait_stopped("two"), 0);
    assert_eq!(client.stdout("two"), "a x keyup shared keyup b y keyup shared keyup\n");
    client.take_output();
    // B5: it is no live process any more.
    press(&mut client, Some("two"), "x", "keydown");
    assert_eq!(client.next_error(), "Bad message");
    client.expect_no_reply();
}

/// D43: the original finds the channel by the process group, which is another one behind an interactive
/// shell.
#[test]
fn a_program_started_from_a_shell_on_a_terminal_has_the_channel_of_its_run() {
    let daemon = Daemon::start();
    let script = daemon.work().join("keys.py");
    std::fs::write(&script, format!("{CHANNEL}{SHOW_AND_LISTEN}")).unwrap();
    let mut client = daemon.run("pty=1");
    client.start("1", shell());
    client.stdin("1", &format!("python3 {}; echo done-$?\r", script.display()));
    expect_message(&mut client, "video", "1", "/9j/4AAQ+/=");
    expect_message(&mut client, "keylisten", "1", "ArrowUp");
    for _ in 0..3 {
        press(&mut client, Some("1"), "ArrowUp", "keydown");
    }
    client.wait_stdout("1", "done-0\r\n");
    assert!(client.stdout("1").contains("ArrowUp keydown\r\nArrowUp keydown\r\nArrowUp keydown\r\n"));
    client.stdin("1", "exit\r");
    client.wait_stopped("1");
}

/// D38: messages are the same however their bytes come.
#[test]
fn lines_may_be_split_anywhere_and_joined() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    let code = r#"
c = connect()
line = message("keylisten", key="ä€😀")
for byte in line:
    c.sendall(bytes([byte]))
    time.sleep(0.001)
c.sendall(message("keylisten", key="1") + message("keylisten", key="2") + line[:20])
c.sendall(line[20:])
print(hear(c))
"#;
    client.start("1", channel_program(code));
    for key in ["ä€😀", "1", "2", "ä€😀"] {
        expect_message(&mut client, "keylisten", "1", key);
    }
    press(&mut client, Some("1"), "2", "keyup");
    assert_eq!(client.wait_stopped("1"), 0);
    assert_eq!(client.stdout("1"), "2 keyup\n");
}

/// API.md, "Limits": a line has at most 4 MiB, and is refused in words above that.
#[test]
fn large_frames_arrive_whole_and_too_large_ones_close_the_connection() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    let code = r#"
c = connect()
say(c, "video", output="0123456789ab" * (3 * 1024 * 1024 // 12))
print("large", flush=True)
input()
c = connect()
try:
    c.sendall(b"x" * (5 * 1024 * 1024))
except OSError as error:
    print(type(error).__name__)
print(c.makefile("rb").readline().decode(), end="")
say(connect(), "video", output="small")
"#;
    client.start("1", channel_program(code));
    let frame = client.expect("a large frame", |message| message["type"] == "video");
    let frame = frame["data"]["output"].as_str().unwrap();
    assert_eq!(frame.len(), 3 * 1024 * 1024);
    assert!(frame == "0123456789ab".repeat(frame.len() / 12), "the frame is not what was sent");
    client.stdin("1", "\n");
    assert_eq!(client.wait_stopped("1"), 0);
    expect_message(&mut client, "video", "1", "small");
    let stdout = client.stdout("1");
    assert!(stdout.ends_with("\n{\"type\":\"error\",\"data\":{\"message\":\"Bad message\"}}\n"), "{stdout}");
}

/// API.md, "The user channel": an error line for each, and the connection stays.
#[test]
fn what_is_not_understood_gets_an_error_line_and_breaks_nothing() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    let code = r#"
c = connect()
lines = [b"", b"nonsense", b"[]", b"{}", b"\xff\xfe", b'{"type":"video","data":{"output":5}}', b'{"type":"chart","data":{}}',
         b'{"type":"video","data":' + b"[" * 100000, b'{"type":"keylisten","data":{"key":"' + b"k" * 2000 + b'"}}']
answers = c.makefile("rb")
for line in lines:
    c.sendall(line + b"\n")
    print(json.loads(answers.readline())["data"]["message"], flush=True)
c.sendall(b"\n".join(lines) + b"\n")
for line in lines:
    answers.readline()
for number in range(256):
    say(c, "keylisten", key=str(number))
say(c, "keylisten", key="one more")
print(json.loads(answers.readline())["data"]["message"], flush=True)
say(c, "video", output="fine")
"#;
    client.start("1", channel_program(code));
    expect_message(&mut client, "video", "1", "fine");
    assert_eq!(client.wait_stopped("1"), 0);
    let expected =
        "Bad message\n".repeat(8) + "The name of the key is too long\nToo many keys on this connection\n";
    assert_eq!(client.stdout("1"), expected);
}

/// API.md, "Limits": one more is refused in words, and room comes back.
#[test]
fn a_run_has_32_connections_at_once() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    let code = r#"
held = [connect() for _ in range(32)]
for c in held:
    say(c, "keylisten", key="x")
    print(hear(c), flush=True)
print(connect().makefile("rb").readline().decode(), end="", flush=True)
held.pop().close()
while True:
    c = connect()
    try:
        say(c, "keylisten", key="y")
        c.settimeout(0.2)
        c.recv(1000)
    except TimeoutError:
        break
    except OSError:
        pass
print("again", flush=True)
"#;
    client.start("1", channel_program(code));
    for _ in 0..32 {
        client.expect("keylisten", |message| message["type"] == "keylisten");
        press(&mut client, Some("1"), "x", "keydown");
    }
    assert_eq!(client.wait_stopped("1"), 0);
    let stdout = client.stdout("1");
    assert!(
        stdout.contains("{\"type\":\"error\",\"data\":{\"message\":\"Too many connections\"}}\nagain\n"),
        "{stdout}"
    );
}

/// D13: in the original any local user can connect, or squat the name.
#[test]
fn only_the_user_of_the_run_can_connect() {
    let daemon = Daemon::builder().allow_users(&["pi", "linkother"]).start();
    let mut client = daemon.run("user=pi");
    client.start("1", channel_program("print(os.environ['FURTHER_LINK_CHANNEL'], flush=True)\ninput()"));
    let channel = client.wait_lines("1", 1).remove(0);
    let socket = socket(&daemon);
    assert_eq!(PathBuf::from(&channel), socket);
    assert_eq!(mode_of(&socket), 0o600);
    assert_eq!(std::fs::metadata(&socket).unwrap().uid(), accounts::pi().uid);
    let intruder = format!(
        "
import socket
try:
    socket.socket(socket.AF_UNIX).connect({channel:?})
except PermissionError:
    print('denied')
"
    );
    assert_eq!(daemon.run("user=linkother").run("x", python(&intruder)).stdout, "denied\n");
    assert_eq!(daemon.run("user=pi").run("x", python(&intruder)).stdout, "");
    client.stdin("1", "\n");
    assert_eq!(client.wait_stopped("1"), 0);
}

/// D51: nothing stays, whichever way a run ends.
#[test]
fn the_socket_is_gone_after_stopped_and_after_a_client_vanished() {
    let daemon = Daemon::start();
    let code = "c = connect()\nsay(c, 'keylisten', key='x')\ntime.sleep(600)";
    let mut client = daemon.run("");
    client.start("1", channel_program(code));
    expect_message(&mut client, "keylisten", "1", "x");
    socket(&daemon);
    client.stop("1");
    assert_eq!(client.wait_stopped("1"), -15);
    assert_eq!(daemon.temporary_files(), Vec::<PathBuf>::new());
    client.start("1", channel_program(code));
    expect_message(&mut client, "keylisten", "1", "x");
    socket(&daemon);
    drop(client);
    wait_until(DEADLINE, "the socket is gone", || daemon.temporary_files().is_empty());
}

/// "The last frame of a program that draws one picture and exits": the connection was not accepted yet, or
/// read it.
#[test]
fn one_frame_of_a_program_that_ends_at_once_comes_before_stopped() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    let code = "c = connect()\nsay(c, 'video', output='x' * 150000 + sys.argv[0])\nos._exit(0)";
    for number in 0..20 {
        let id = number.to_string();
        client.start(&id, channel_program(code));
        assert_eq!(client.wait_stopped(&id), 0);
        // Checked by the harness: no frame comes behind `stopped`. So it is here now.
        let frame = client.expect_within(Duration::ZERO, "the frame", |message| {
            message["type"] == "video" && message["process"] == *id
        });
        assert!(frame["data"]["output"].as_str().unwrap().starts_with("xxx"));
    }
}

/// One of the connections was not accepted when the program ends: the frontend does not run meanwhile.
#[test]
fn connections_that_nobody_has_accepted_are_heard_before_stopped() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    let go = daemon.temp().join("go");
    let code = format!(
        r#"
print(os.getpid(), flush=True)
while not os.path.exists({go:?}):
    time.sleep(0.01)
held = [connect() for _ in range(32)]
for number, c in enumerate(held):
    say(c, "keylisten", key=str(number))
    say(c, "video", output="frame")
os._exit(0)
"#
    );
    client.start("1", channel_program(&code));
    let program = client.wait_pid("1");
    let frontend = Pid::from_raw(daemon.pid());
    kill(frontend, Signal::SIGSTOP).unwrap();
    std::fs::write(&go, "").unwrap();
    wait_until(DEADLINE, "the program has ended", || !program.is_alive());
    kill(frontend, Signal::SIGCONT).unwrap();
    assert_eq!(client.wait_stopped("1"), 0);
    for number in 0..32 {
        let key = number.to_string();
        client.expect_within(Duration::ZERO, "keylisten", |message| message["data"]["key"] == *key);
    }
    client.expect_within(Duration::ZERO, "video", |message| message["type"] == "video");
}
