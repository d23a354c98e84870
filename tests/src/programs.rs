//! The `data` of `start` messages that many tests send, and programs that more than one test runs.
//!
//! Only what is used in several files; what one test needs stands in that test.

use serde_json::{Value, json};

/// B4.6: the text for what is no message, or none that fits now.
pub const BAD: &str = "Bad message";
/// B4.6: the text for what is JSON and no object, or not to be had.
pub const EXCEPTION: &str = "Message Exception";

/// Runs python code.
pub fn python(code: &str) -> Value {
    json!({"runner": "python3", "code": code})
}

/// Runs a script with its own `#!` line.
pub fn script(code: &str) -> Value {
    json!({"runner": "exec", "code": code})
}

/// Runs a program of the system.
pub fn program(path: &str) -> Value {
    json!({"runner": "exec", "path": path})
}

/// Runs the login shell.
pub fn shell() -> Value {
    json!({"runner": "shell"})
}

/// Python that says its pid and sleeps until it is stopped.
pub const SLEEPER: &str = "import os, time\nprint(os.getpid())\ntime.sleep(600)\n";

/// Python functions: `escape()` makes a child that leaves session and group, forks twice, ignores all polite
/// signals and says its pid (D30); `pause()` sleeps for ever.
pub const ESCAPE: &str = r"
import os, signal, sys, time

def pause():
    while True:
        time.sleep(600)

def escape():
    seen, tell = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() != 0:
            os._exit(0)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)
        os.write(tell, str(os.getpid()).encode())
        os.close(tell)
        pause()
    os.close(tell)
    print(os.read(seen, 100).decode())
    os.wait()
";

/// Python functions that use the user channel with nothing but the standard library: `connect()`, `say()` a
/// message, `hear()` a key event as `key event`.
pub const CHANNEL: &str = r#"
import json, os, socket, sys, time

def connect():
    channel = socket.socket(socket.AF_UNIX)
    channel.connect(os.environ["FURTHER_LINK_CHANNEL"])
    return channel

def message(kind, **data):
    return json.dumps({"type": kind, "data": data}, ensure_ascii=False).encode() + b"\n"

def say(channel, kind, **data):
    channel.sendall(message(kind, **data))

def hear(channel):
    line = b""
    while not line.endswith(b"\n"):
        line += channel.recv(1)
    event = json.loads(line)
    assert event["type"] == "keyevent", event
    return event["data"]["key"] + " " + event["data"]["event"]
"#;

/// Text of `count` lines that know their number.
pub fn numbered(count: usize, line: impl Fn(usize) -> String) -> String {
    (0..count).fold(String::new(), |mut text, number| {
        text.push_str(&line(number));
        text
    })
}
