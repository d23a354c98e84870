//! Every message that /run refuses, the exact text of the refusal, and that the connection lives on.
//!
//! Items B4.2 to B4.9 and B5 as tables: a frame, and the error it gets. After each frame a ping is answered
//! and nothing else has come. What a well-formed `start` does is in `runners.rs` and `run_lifecycle.rs`.

use further_link_tests::programs::{BAD, EXCEPTION, SLEEPER, python};
use further_link_tests::{Client, Daemon};
use serde_json::{Value, json};
use tungstenite::Message;

/// Sends each frame, which must change nothing and get no reply.
#[track_caller]
fn silent(client: &mut Client, frames: &[Value]) {
    for frame in frames {
        client.send(frame);
        client.expect_no_reply();
    }
}

/// B4.5
#[test]
fn what_is_not_json_is_a_bad_message() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    let frames = [
        "",
        " ",
        "x",
        "ping",
        "{",
        "}",
        "{\"type\": \"ping\"",
        "{\"type\": \"ping\"}}",
        "{'type': 'ping'}",
        "{\"type\": \"ping\",}",
        "{\"type\": \"ping\"} {\"type\": \"ping\"}",
        "[1, 2",
        "\"ping",
        "nul",
        "\u{0}",
        "{\"type\": \"pi\nng\"}",
        "{\"type\": \"\\x\"}",
        "€",
    ];
    client.refuses(&frames, BAD);
}

/// B4.5
#[test]
fn json_that_is_no_object_is_a_message_exception() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    client.refuses(&["null", "true", "1", "-1.5e3", "\"ping\"", "[]", "[{\"type\": \"ping\"}]"], EXCEPTION);
}

/// B4.5
#[test]
fn bytes_that_are_no_utf_8_are_a_message_exception() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    for bytes in [
        &b"{\"type\": \"\xff\"}"[..],
        b"{\"type\": \"pi\xc3ng\"}",
        b"{\"type\": \"ping\", \"x\": \"\xed\xa0\x80\"}",
    ] {
        client.send_frame(Message::binary(bytes.to_vec()));
        assert_eq!(client.next_error(), EXCEPTION);
        client.expect_no_reply();
    }
}

/// B4.4, B4.6, B5: `upload` is not for /run, and what the daemon says it does not understand.
#[test]
fn a_missing_or_unknown_type_is_a_bad_message() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    let types = [
        json!(null),
        json!(true),
        json!(1),
        json!(["ping"]),
        json!({"ping": 1}),
        json!(""),
        json!("PING"),
        json!("ping "),
        json!("nonsense"),
        json!("pong"),
        json!("started"),
        json!("error"),
        json!("stdout"),
        json!("upload"),
        json!("\u{0}"),
        json!("x".repeat(10_000)),
    ];
    let frames: Vec<String> = types
        .iter()
        .map(|kind| json!({"type": kind, "process": "1", "data": {"directory": {}}}).to_string())
        .chain([
            "{}".to_owned(),
            json!({"Type": "ping"}).to_string(),
            json!({"data": {"type": "ping"}}).to_string(),
        ])
        .collect();
    client.refuses(&frames, BAD);
}

/// B4.4, B5
#[test]
fn a_start_without_a_usable_id_or_runner_is_a_bad_message() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    let good = python("print('never')");
    let mut frames = vec![json!({"type": "start", "data": good})];
    for id in [json!(""), json!(null), json!(1), json!(1.5), json!(true), json!(["1"]), json!({"id": "1"})] {
        frames.push(json!({"type": "start", "process": id, "data": good}));
    }
    for data in [json!(null), json!("python3"), json!(["python3"]), json!(3), json!({})] {
        frames.push(json!({"type": "start", "process": "1", "data": data}));
    }
    let runners = [
        json!(null),
        json!(3),
        json!(["python3"]),
        json!({"python3": 1}),
        json!(""),
        json!("Python3"),
        json!("python"),
        json!(" python3"),
        json!("ruby"),
        json!("/bin/sh"),
        json!("python3\u{0}"),
    ];
    for runner in runners {
        frames.push(json!({"type": "start", "process": "1", "data": {"runner": runner, "code": "print(1)"}}));
    }
    frames.push(json!({"type": "start", "process": "1", "data": {"code": "print(1)"}}));
    frames.push(json!({"type": "start", "process": "1"}));
    let frames: Vec<String> = frames.iter().map(Value::to_string).collect();
    client.refuses(&frames, BAD);
    assert_eq!(client.run("1", python("print('now')")).stdout, "now\n");
}

/// What a client may say about one process, well-formed.
fn about(process: &Value) -> [Value; 4] {
    [
        json!({"type": "stdin", "process": process, "data": {"input": "x\n"}}),
        json!({"type": "resize", "process": process, "data": {"rows": 24, "cols": 80}}),
        json!({"type": "stop", "process": process}),
        json!({"type": "keyevent", "process": process, "data": {"key": "a", "event": "keydown"}}),
    ]
}

/// B4.4, B5: the number 1 is not the id "1".
#[test]
fn messages_about_an_unknown_process_are_bad_messages() {
    let daemon = Daemon::start();
    let mut client = daemon.run("pty=1");
    client.start("1", python("input()"));
    let ids =
        [json!("2"), json!(""), json!(" 1"), json!("1 "), json!("01"), json!(1), json!(null), json!(["1"])];
    for id in ids {
        client.refuses(&about(&id).map(|message| message.to_string()), BAD);
    }
    client.refuses(&["{\"type\": \"stop\"}", "{\"type\": \"stdin\", \"data\": {\"input\": \"x\"}}"], BAD);
    // Another connection's process of that id is not this connection's.
    let mut neighbour = daemon.run("pty=1");
    neighbour.refuses(&about(&json!("1")).map(|message| message.to_string()), BAD);
    client.stop("1");
    client.wait_stopped("1");
}

/// B5
#[test]
fn messages_about_a_finished_process_are_bad_messages() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    assert_eq!(client.run("1", python("")).exit_code, 0);
    client.refuses(&about(&json!("1")).map(|message| message.to_string()), BAD);
}

/// B5
#[test]
fn a_start_with_the_id_of_a_live_process_is_a_bad_message_and_disturbs_nobody() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    client.start("1", python("print(input())"));
    let again = json!({"type": "start", "process": "1", "data": python("print('second')")}).to_string();
    client.refuses(&[again], BAD);
    client.stdin("1", "first\n");
    assert_eq!(client.wait_stopped("1"), 0);
    assert_eq!(client.stdout("1"), "first\n");
}

/// B4.4, B5
#[test]
fn stdin_without_a_string_is_a_bad_message_and_writes_nothing() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    client.start("1", python("print(repr(input()))"));
    let data = [
        json!(null),
        json!("x"),
        json!(["x"]),
        json!({}),
        json!({"input": null}),
        json!({"input": 1}),
        json!({"input": true}),
        json!({"input": ["x\n"]}),
        json!({"input": {"x": 1}}),
        json!({"Input": "x\n"}),
    ];
    let frames = data.map(|data| json!({"type": "stdin", "process": "1", "data": data}).to_string());
    client.refuses(&frames, BAD);
    silent(&mut client, &[json!({"type": "stdin", "process": "1", "data": {"input": ""}})]);
    client.stdin("1", "ünï\u{1F600}\t\n");
    assert_eq!(client.wait_stopped("1"), 0);
    assert_eq!(client.stdout("1"), "'ünï\u{1F600}\\t'\n");
}

/// B5
#[test]
fn resize_without_a_terminal_is_a_bad_message() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    client.start("1", python(SLEEPER));
    client.wait_pid("1");
    client.take_output();
    let data = [json!({"rows": 4, "cols": 60}), json!({"rows": 70_000, "cols": 60}), json!({})];
    let frames = data.map(|data| json!({"type": "resize", "process": "1", "data": data}).to_string());
    client.refuses(&frames, BAD);
}

fn resize(rows: &Value, columns: &Value) -> String {
    format!(r#"{{"type": "resize", "process": "1", "data": {{"rows": {rows}, "cols": {columns}}}}}"#)
}

/// B5: JSON integers only, `true` and `false` among them; out of range is another text.
#[test]
fn resize_takes_integers_of_sixteen_bits() {
    let daemon = Daemon::start();
    let mut client = daemon.run("pty=1");
    client.start("1", python("input()"));
    let good = json!(24);
    let not_integers =
        [json!(null), json!("24"), json!(3.0), json!(24.5), json!([24]), json!({"n": 24}), json!(1e2)];
    for wrong in &not_integers {
        client.refuses(&[resize(wrong, &good), resize(&good, wrong)], BAD);
    }
    let missing = [json!({"rows": 24}), json!({"cols": 80}), json!({}), json!(null), json!([24, 80])];
    let missing = missing.map(|data| json!({"type": "resize", "process": "1", "data": data}).to_string());
    client.refuses(&missing, BAD);
    for wrong in
        [json!(-1), json!(65_536), json!(-65_536), json!(4_294_967_320_u64), json!(u64::MAX), json!(i64::MIN)]
    {
        client.refuses(&[resize(&wrong, &good), resize(&good, &wrong)], EXCEPTION);
    }
    let huge = format!("1{}", "0".repeat(30));
    let huge = format!(r#"{{"type": "resize", "process": "1", "data": {{"rows": {huge}, "cols": 80}}}}"#);
    client.refuses(&[huge], EXCEPTION);
    for fine in [json!(0), json!(1), json!(65_535), json!(true), json!(false)] {
        client.send_text(&resize(&fine, &good));
        client.send_text(&resize(&good, &fine));
        client.expect_no_reply();
    }
    client.stdin("1", "\r");
    assert_eq!(client.wait_stopped("1"), 0);
}

/// B5
#[test]
fn keyevent_without_its_strings_is_a_bad_message() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    client.start("1", python("input()"));
    let data = [
        json!(null),
        json!({}),
        json!({"key": "a"}),
        json!({"event": "keydown"}),
        json!({"key": 1, "event": "keydown"}),
        json!({"key": "a", "event": null}),
        json!({"key": ["a"], "event": "keyup"}),
        json!(["a", "keydown"]),
    ];
    let frames = data.map(|data| json!({"type": "keyevent", "process": "1", "data": data}).to_string());
    client.refuses(&frames, BAD);
}

/// B5: any text; without a listener in the program there is neither reply nor error.
#[test]
fn keyevent_without_a_listener_is_swallowed() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    client.start("1", python("input()"));
    let texts = [("a", "keydown"), ("ArrowUp", "keyup"), (" ", "keydown"), ("", ""), ("ü€", "whatever")];
    let frames = texts.map(
        |(key, event)| json!({"type": "keyevent", "process": "1", "data": {"key": key, "event": event}}),
    );
    silent(&mut client, &frames);
    client.stdin("1", "\n");
    assert_eq!(client.wait_stopped("1"), 0);
}

/// B4.4, B4.9: the record checks that a pong names no process.
#[test]
fn a_pong_names_no_process_and_extra_keys_are_ignored() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    let pings = [
        json!({"type": "ping"}),
        json!({"type": "ping", "process": "1", "data": {"x": 1}}),
        json!({"type": "ping", "process": 5, "data": "text", "client": "me", "extra": [{"deep": null}]}),
    ];
    for ping in pings {
        client.send(&ping);
        client.expect("pong", |message| message["type"] == "pong");
    }
    let start = json!({
        "type": "start", "process": "1", "client": "me", "colour": "green",
        "data": {"runner": "python3", "code": "print('extra')", "novncOptions": {"enabled": "no"}, "shape": "round"},
    });
    client.send(&start);
    client.expect("started", |message| message["type"] == "started");
    assert_eq!(client.wait_stopped("1"), 0);
    assert_eq!(client.stdout("1"), "extra\n");
}

/// B4.8: nothing is lost or refused when a client does not wait for answers.
#[test]
fn messages_are_handled_in_the_order_they_were_sent() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    let mut ids = Vec::new();
    for number in 0..10 {
        let id = format!("p{number}");
        client.send_start(&id, python("print(input())\ninput()"));
        client.stdin(&id, &format!("hello {id}\n"));
        client.send_start(&id, python("print('refused')"));
        client.stdin(&id, "now it may end\n");
        ids.push(id);
    }
    for id in &ids {
        assert_eq!(client.next_error(), BAD);
        assert_eq!(client.wait_stopped(id), 0);
        assert_eq!(client.stdout(id), format!("hello {id}\n"));
    }
    client.send_start("1", python(SLEEPER));
    client.stop("1");
    assert_eq!(client.wait_stopped("1"), -15);
}
