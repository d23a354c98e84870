//! What the WebSocket itself promises, below the messages: frames, sizes, closing.
//!
//! Items B3.1 to B3.4. The headers of the upgrade are in `http.rs`, disconnects that end programs in
//! `run_lifecycle.rs` and `cleanup.rs`.

use std::time::Instant;

use further_link_tests::programs::python;
use further_link_tests::{DEADLINE, Daemon};
use serde_json::json;
use tungstenite::Message;

/// B3.1
#[test]
fn a_ping_frame_is_answered_with_its_payload() {
    let daemon = Daemon::start();
    for mut client in [daemon.run(""), daemon.run_py("")] {
        client.send_ping_frame(b"are you there?");
        client.read_until(DEADLINE, "a pong frame", |client| !client.pong_frames.is_empty());
        assert_eq!(client.pong_frames, [b"are you there?"]);
        client.expect_no_reply();
    }
}

/// B3.2: the text of a program is bigger than most libraries' default for a frame.
#[test]
fn a_message_of_three_mebibytes_is_taken() {
    let daemon = Daemon::start();
    let filler = "x".repeat(3 << 20);
    let finished = daemon.run_once(python(&format!("text = '{filler}'\nprint(len(text))")));
    assert_eq!((finished.exit_code, finished.stdout.as_str()), (0, "3145728\n"));
}

/// B3.2
#[test]
fn a_message_above_four_mebibytes_closes_the_connection_and_no_other() {
    let daemon = Daemon::start();
    let mut neighbour = daemon.run("");
    neighbour.start("1", python("print(input())"));
    let mut client = daemon.run("");
    let filler = "x".repeat(5 << 20);
    // The daemon may hang up before all is sent, so sending may fail: nothing of `send_frame` is wanted here.
    let end = Instant::now() + DEADLINE;
    client.send_and_ignore_errors(Message::text(json!({"type": "ping", "filler": filler}).to_string()));
    while client.closed.is_none() {
        assert!(client.read_one(end), "the connection is still open");
    }
    assert!(matches!(client.closed, Some(None | Some(1009))), "{:?}", client.closed);
    neighbour.stdin("1", "still here\n");
    assert_eq!(neighbour.wait_stopped("1"), 0);
    assert_eq!(neighbour.stdout("1"), "still here\n");
}

/// B3.3
#[test]
fn a_close_frame_is_answered_with_1000() {
    let daemon = Daemon::start();
    assert_eq!(daemon.run("").close(), Some(1000));
    assert_eq!(daemon.run_py("").close(), Some(1000));
    let mut busy = daemon.run("");
    busy.start("1", python("import time; time.sleep(600)"));
    assert_eq!(busy.close(), Some(1000));
}

/// What `close()` in a browser sends. The original answers 1000 (B3.3); RFC 6455, 5.5.1 has the code echoed,
/// and there is none (API.md, "Differences").
#[test]
fn an_empty_close_frame_is_answered_by_an_empty_one() {
    let daemon = Daemon::start();
    assert_eq!(daemon.run("").close_with(None), None);
}

/// B3.4: that text comes out is checked by the client with every message.
#[test]
fn binary_frames_with_json_are_taken_like_text() {
    let daemon = Daemon::start();
    let mut client = daemon.run("");
    let start = json!({"type": "start", "process": "ü", "data": python("print('hé')")});
    client.send_frame(Message::binary(start.to_string().into_bytes()));
    client.expect("started", |message| message["type"] == "started" && message["process"] == "ü");
    assert_eq!(client.wait_stopped("ü"), 0);
    assert_eq!(client.stdout("ü"), "hé\n");
    client.send_frame(Message::binary(br#"{"type": "ping"}"#.to_vec()));
    client.expect("pong", |message| message["type"] == "pong");
    client.take_output();
    client.expect_no_reply();
}

/// RFC 6455 5.4: a message may come in several frames.
#[test]
fn a_message_may_be_split_into_fragments() {
    use tungstenite::protocol::frame::Frame;
    use tungstenite::protocol::frame::coding::{Data, OpCode};

    let daemon = Daemon::start();
    let mut client = daemon.run("");
    let part = |text: &str, code: Data, last: bool| {
        Message::Frame(Frame::message(text.as_bytes().to_vec(), OpCode::Data(code), last))
    };
    client.send_frame(part("{\"type\":", Data::Text, false));
    client.send_ping_frame(b"between");
    client.send_frame(part(" \"pi", Data::Continue, false));
    client.send_frame(part("ng\"}", Data::Continue, true));
    client.expect("pong", |message| message["type"] == "pong");
    client.expect_no_reply();
}
