//! Too much on the user channel: cameras that are faster than the client, programs that do not read their
//! keys, programs that flood it in every way they can.
//!
//! API.md, "The user channel". When the client is slower than the camera, newer frames replace unsent ones,
//! and text does not wait for pictures. Memory is bounded (`VmHWM` of the frontend), other runs and the
//! session do not wait.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests may fail the test")]

use std::time::{Duration, Instant};

use further_link_tests::processes::Status;
use further_link_tests::programs::{CHANNEL, SLEEPER, program, python};
use further_link_tests::{Client, DEADLINE, Daemon, wait_until};
use serde_json::{Value, json};

/// What the daemon may have at most; everything that was sent is far more.
const MEMORY_LIMIT_KIB: u64 = 64 * 1024;

fn channel_program(code: &str) -> Value {
    python(&format!("{CHANNEL}{code}"))
}

#[track_caller]
fn peak_memory(daemon: &Daemon) -> u64 {
    Status::of(daemon.pid()).numbers("VmHWM")[0]
}

/// The beginning of the next frame or output of a process.
#[track_caller]
fn next_shown(client: &mut Client, id: &str) -> String {
    let shown = |message: &Value| {
        (message["type"] == "video" || message["type"] == "stdout") && message["process"] == id
    };
    let message = client.expect("frame or text", shown);
    message["data"]["output"].as_str().unwrap().chars().take(10).collect()
}

/// 200 frames of 200 KB to a client that does not read, then a line of text.
#[test]
fn newer_frames_replace_unsent_ones_and_text_overtakes_them() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    let sent = daemon.temp().join("sent");
    let code = format!(
        r#"
c = connect()
for number in range(200):
    say(c, "video", output="%010d" % number + "x" * 200000)
print("text", flush=True)
time.sleep(0.3)
open({sent:?}, "w").close()
input()
"#
    );
    client.start("1", channel_program(&code));
    wait_until(3 * DEADLINE, "the program is not stopped by its camera", || sent.exists());
    let mut shown = Vec::new();
    while shown.last().map(String::as_str) != Some("0000000199") {
        shown.push(next_shown(&mut client, "1"));
    }
    let text = shown.iter().position(|shown| shown == "text\n").expect("the text, before the last frame");
    assert!(text <= 3, "text behind {text} frames: {shown:?}");
    let frames: Vec<_> = shown.iter().filter(|shown| *shown != "text\n").collect();
    assert!(frames.len() <= 8, "{} frames were sent: {frames:?}", frames.len());
    assert!(frames.is_sorted(), "{frames:?}");
    assert!(peak_memory(&daemon) < MEMORY_LIMIT_KIB, "{} KiB", peak_memory(&daemon));
    client.stdin("1", "\n");
    assert_eq!(client.wait_stopped("1"), 0);
    client.take_output();
    client.expect_no_reply();
}

/// Newer frames do not replace those that the client could have: the daemon writes while the program goes on
/// talking.
#[test]
fn a_client_that_keeps_up_sees_the_frames_of_a_fast_program() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    let code = r#"
c = connect()
for number in range(60):
    say(c, "video", output="%010d" % number + "x" * 200000)
"#;
    client.start("1", channel_program(code));
    let mut frames = vec![next_shown(&mut client, "1")];
    while frames.last().map(String::as_str) != Some("0000000059") {
        frames.push(next_shown(&mut client, "1"));
    }
    assert!(frames.len() >= 10, "{frames:?}");
}

/// Two cameras on one slow connection: the newest of both arrive, before each `stopped`.
#[test]
fn the_last_frames_of_several_programs_arrive_at_a_slow_client() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    let code = r#"
c = connect()
for number in range(50):
    say(c, "video", output="%010d" % number + "x" * 300000)
"#;
    for id in ["one", "two"] {
        client.start(id, channel_program(code));
    }
    let running = || daemon.processes().iter().any(|process| process.name == "python3");
    wait_until(3 * DEADLINE, "both have ended, unread", || !running());
    for id in ["one", "two"] {
        assert_eq!(client.wait_stopped(id), 0);
        let mut last = String::new();
        while last != "0000000049" {
            last = next_shown(&mut client, id);
        }
    }
}

/// The original's session waits in its write to such a program. The last state of each key is right in the
/// end.
#[test]
fn a_program_that_does_not_read_its_keys_blocks_nobody_and_keeps_their_last_state() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    let code = r#"
c = connect()
for key in "abc":
    say(c, "keylisten", key=key)
input()
events = 0
state = {}
while state.get("c") != "keydown":
    key, event = hear(c).split()
    state[key] = event
    events += 1
print(events, state["a"], state["b"])
"#;
    client.start("1", channel_program(code));
    for _ in 0..3 {
        client.expect("keylisten", |message| message["type"] == "keylisten");
    }
    let mut press = |key: &str, event: &str| {
        client.send(&json!({"type": "keyevent", "process": "1", "data": {"key": key, "event": event}}));
    };
    press("b", "keydown");
    for _ in 0..10_000 {
        press("a", "keydown");
        press("a", "keyup");
    }
    press("b", "keyup");
    press("c", "keydown");
    client.ping();
    client.stdin("1", "\n");
    assert_eq!(client.wait_stopped("1"), 0);
    let stdout = client.stdout("1");
    let (events, states) = stdout.split_once(' ').unwrap();
    assert_eq!(states, "keyup keyup\n");
    let events: usize = events.parse().unwrap();
    assert!((1024..15_000).contains(&events), "{events}");
    assert!(peak_memory(&daemon) < MEMORY_LIMIT_KIB, "{} KiB", peak_memory(&daemon));
}

/// Each in a process of its own, for as long as it is let.
const FLOODS: &str = r#"
def lines(text):
    c = connect()
    while True:
        c.sendall(text)

def connections():
    while True:
        try:
            connect().close()
        except OSError:
            pass

def half_lines():
    held = [connect() for _ in range(20)]
    for c in held:
        c.setblocking(False)
    while True:
        for c in held:
            try:
                c.send(b'{"type":"video","data":{"output":"' + b"x" * 30000)
            except OSError:
                pass
        time.sleep(0.001)

floods = [lambda: lines(b"garbage\n" * 1000), lambda: lines(b"[" * 100000 + b"\n"), lambda: lines(b"\xff" * 1000000),
          lambda: lines(message("video", output="x")), lambda: lines(message("video", output="x" * 3000000)),
          lambda: lines(message("keylisten", key="x")), connections, half_lines]
for flood in floods:
    if os.fork() == 0:
        try:
            flood()
        except OSError:
            pass
        os._exit(0)
print("flooding", flush=True)
time.sleep(600)
"#;

/// "None may stall other runs or the session's messages."
#[test]
fn a_program_that_floods_its_channel_starves_nobody() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    let mut neighbour = daemon.run("");
    client.start("flood", channel_program(FLOODS));
    client.wait_stdout("flood", "flooding");
    client.start("quiet", program("/usr/bin/cat"));
    let code = "
c = connect()
say(c, 'keylisten', key='k')
for _ in range(3):
    print(hear(c), flush=True)
    say(c, 'video', output='x' * 1000000)
";
    neighbour.start("1", channel_program(code));
    neighbour.expect("keylisten", |message| message["type"] == "keylisten");
    for _ in 0..3 {
        client.stdin("quiet", "word\n");
        client.expect("the echo", |message| message["type"] == "stdout" && message["process"] == "quiet");
        client.ping();
        neighbour
            .send(&json!({"type": "keyevent", "process": "1", "data": {"key": "k", "event": "keydown"}}));
        neighbour.expect("a frame", |message| message["type"] == "video");
    }
    assert_eq!(neighbour.wait_stopped("1"), 0);
    client.stop("flood");
    assert_eq!(client.wait_stopped("flood"), -15);
    assert!(peak_memory(&daemon) < 2 * MEMORY_LIMIT_KIB, "{} KiB", peak_memory(&daemon));
}

/// A run's share of the room for large lines: 20 lines of 4 MiB are more than there is for all runs together.
#[test]
fn lines_without_an_end_take_a_runs_own_room_only() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    let code = r"
held = [connect() for _ in range(20)]
for c in held:
    c.setblocking(False)
end = time.monotonic() + 1
while time.monotonic() < end:
    for c in held:
        try:
            c.send(b'x' * 20000)
        except OSError:
            pass
    time.sleep(0.01)
print('held', flush=True)
time.sleep(600)
";
    client.start("greedy", channel_program(code));
    client.wait_stdout("greedy", "held");
    let frame = "c = connect()\nsay(c, 'video', output='x' * 3000000)\n";
    let asked = Instant::now();
    client.start("1", channel_program(frame));
    client.expect("a large frame", |message| message["type"] == "video" && message["process"] == "1");
    assert_eq!(client.wait_stopped("1"), 0);
    assert!(asked.elapsed() < DEADLINE, "it waited {:?}", asked.elapsed());
    assert!(peak_memory(&daemon) < MEMORY_LIMIT_KIB, "{} KiB", peak_memory(&daemon));
    client.stop("greedy");
    assert_eq!(client.wait_stopped("greedy"), -15);
}

/// API.md, "Limits": input that waits has one limit for all programs together. Keys get through all the same.
#[test]
fn many_programs_that_read_nothing_do_not_fill_the_memory() {
    let daemon = Daemon::start();
    let mut client = daemon.run("pty=1");
    let piece = "0123456789abcde\n".repeat(65_536);
    for number in 0..6 {
        let id = number.to_string();
        client.start(&id, python(SLEEPER));
        for _ in 0..15 {
            client.stdin(&id, &piece);
        }
        client.ping();
        client.take_errors();
    }
    client.stdin("5", &piece);
    assert_eq!(client.next_error(), "Message Exception");
    client.start("cat", program("/usr/bin/cat"));
    client.stdin("cat", "heard\r");
    client.wait_stdout("cat", "heard\r\nheard\r\n");
    assert!(peak_memory(&daemon) < 2 * MEMORY_LIMIT_KIB, "{} KiB", peak_memory(&daemon));
    for number in 0..6 {
        client.stop(&number.to_string());
    }
    for number in 0..6 {
        client.wait_stopped_within(Duration::from_secs(20), &number.to_string());
    }
}
