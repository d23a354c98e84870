//! Bodies of `POST /upload` that are wrong, large, slow or odd: what is answered, and that nothing is stored.
//!
//! B11.4 to B11.7, D10, D11, D12, D46; `--upload-limit`.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;

use further_link_tests::http::{self, Response};
use further_link_tests::{Daemon, accounts, scratch};
use serde_json::{Value, json};

const MIB: usize = 1024 * 1024;

#[track_caller]
fn post(daemon: &Daemon, body: &[u8]) -> Response {
    http::post(daemon.address(), "/upload", "", body)
}

fn with_text(name: &str, alias: &str, text: &str) -> Value {
    json!({"name": name, "files": {alias: {"type": "text", "content": {"text": text}}}})
}

fn is_empty(daemon: &Daemon) -> bool {
    fs::read_dir(daemon.work()).unwrap().next().is_none()
}

/// B11.4, B11.6 with D46
#[test]
fn what_is_no_upload_is_400_and_says_why() {
    let daemon = Daemon::start();
    let bodies: [&[u8]; 22] = [
        b"",
        b"nonsense",
        b"{\"name\":",
        b"[]",
        b"{}",
        b"{\"name\":\"d\"}",
        b"{\"files\":{}}",
        b"null",
        b"5",
        b"\"name files\"",
        b"{\"name\":\"d\",\"files\":[]}",
        b"{\"name\":\"d\",\"files\":\"f\"}",
        b"{\"name\":5,\"files\":{}}",
        b"{\"name\":\"d\",\"files\":{},\"username\":5}",
        b"{\"name\":\"\xff\",\"files\":{}}",
        br#"{"name":"d","files":{"f":5}}"#,
        br#"{"name":"d","files":{"f":{}}}"#,
        br#"{"name":"d","files":{"f":{"type":"text"}}}"#,
        br#"{"name":"d","files":{"f":{"content":{"text":"x"}}}}"#,
        br#"{"name":"d","files":{"f":{"type":"nope","content":{"text":"x"}}}}"#,
        br#"{"name":"d","files":{"f":{"type":"text","content":"x"}}}"#,
        br#"{"name":"d","files":{"f":{"type":"text","content":{"text":5}}}}"#,
    ];
    for body in bodies {
        let shown = String::from_utf8_lossy(body);
        let answer = post(&daemon, body);
        assert_eq!((answer.status, answer.body.as_str()), (400, "400: Bad Request"), "{shown}");
        assert!(!answer.header("further-link-error").unwrap().is_empty(), "{shown}");
    }
    assert!(is_empty(&daemon));
}

/// B11.5, D10, D11: the directory beside the work dir, the work dir itself and the cache stay as they are.
#[test]
fn names_that_leave_their_root_or_mean_it_are_500_and_touch_nothing() {
    let daemon = Daemon::start();
    let sibling = daemon.scratch().root().join("work-other");
    for dir in [sibling.clone(), daemon.work().join(".flcache"), daemon.work().join("other")] {
        scratch::directory_for(&accounts::pi(), &dir, 0o755);
        scratch::file_for(&accounts::pi(), &dir.join("kept"), "x", 0o644);
    }
    let absolute = sibling.to_str().unwrap().to_owned();
    let names = ["", ".", "..", "/", "x/..", "./", "../work-other", "a/../../work-other", &absolute, "a\0b"];
    for name in names.iter().chain(&[".flcache", ".flcache/x", "./.flcache", ".flupload-0/x"]) {
        let answer = post(&daemon, with_text(name, "f", "x").to_string().as_bytes());
        assert_eq!((answer.status, answer.body.as_str()), (500, "500: Internal Server Error"), "{name:?}");
        assert!(answer.header("further-link-error").unwrap().contains("name"), "{name:?}: {answer:?}");
    }
    for alias in names.iter().chain(&["../../work-other/f", "../f"]) {
        let answer = post(&daemon, with_text("d", alias, "x").to_string().as_bytes());
        assert_eq!(answer.status, 500, "{alias:?}");
    }
    for body in [
        r#"{"name":"d","files":{"f":{"type":"text","content":{"text":"\ud800"}}}}"#,
        r#"{"name":"\udfff","files":{}}"#,
        r#"{"name":"d","files":{"f":{"type":"text","content":{}}}}"#,
        r#"{"name":"d","files":{"f":{"type":"url","content":{"url":"http://x/"}}}}"#,
    ] {
        assert_eq!(post(&daemon, body.as_bytes()).status, 500, "{body}");
    }
    let mut left: Vec<_> = fs::read_dir(daemon.work()).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, [".flcache", "other"]);
    for dir in [sibling, daemon.work().join(".flcache"), daemon.work().join("other")] {
        assert_eq!(fs::read_to_string(dir.join("kept")).unwrap(), "x", "{}", dir.display());
    }
}

/// D12: links of the user lead an upload nowhere.
#[test]
fn symbolic_links_in_the_way_are_not_followed() {
    let daemon = Daemon::start();
    let outside = daemon.scratch().root().join("outside");
    scratch::directory_for(&accounts::pi(), &outside, 0o777);
    for name in ["link", "dir"] {
        symlink(&outside, daemon.work().join(name)).unwrap();
    }
    let below = post(&daemon, with_text("link/x", "f", "x").to_string().as_bytes());
    assert_eq!(below.status, 500, "{below:?}");
    // The link itself is replaced, as any other thing of that name.
    assert_eq!(post(&daemon, with_text("dir", "f", "x").to_string().as_bytes()).status, 200);
    assert!(fs::symlink_metadata(daemon.work().join("dir")).unwrap().is_dir());
    assert!(fs::read_dir(&outside).unwrap().next().is_none());
}

#[test]
fn two_files_that_need_one_name_are_an_error_and_the_old_directory_stays() {
    let daemon = Daemon::start();
    assert_eq!(post(&daemon, with_text("d", "old", "x").to_string().as_bytes()).status, 200);
    for second in ["a/b", "./a"] {
        let mut body = with_text("d", "a", "x");
        body["files"][second] = body["files"]["a"].clone();
        let answer = post(&daemon, body.to_string().as_bytes());
        assert_eq!(answer.status, 500, "{second}");
        assert_eq!(
            answer.header("further-link-error"),
            Some("two files of the upload need the same name"),
            "{second}"
        );
    }
    assert_eq!(fs::read_to_string(daemon.work().join("d/old")).unwrap(), "x");
}

/// 10 MB of text in one file, and 1000 files of 1 KB.
#[test]
fn large_texts_and_many_files_arrive_whole() {
    let daemon = Daemon::start();
    let text: String = (0..80_000).fold(String::new(), |mut text, line| {
        writeln!(text, "line {line}\tä \"€\" \\ {}", "z".repeat(100 + line % 7)).unwrap();
        text
    });
    assert!(text.len() > 10_000_000);
    assert_eq!(post(&daemon, with_text("large", "f", &text).to_string().as_bytes()).status, 200);
    assert!(fs::read_to_string(daemon.work().join("large/f")).unwrap() == text);

    let mut body = json!({"name": "many", "files": {}});
    for number in 0..1000 {
        let text = format!("{number:04}").repeat(256);
        body["files"][format!("dir{}/{number}", number % 10)] =
            json!({"type": "text", "content": {"text": text}});
    }
    assert_eq!(post(&daemon, body.to_string().as_bytes()).status, 200);
    for number in 0..1000 {
        let path = daemon.work().join(format!("many/dir{}/{number}", number % 10));
        assert_eq!(fs::read_to_string(path).unwrap(), format!("{number:04}").repeat(256));
    }
}

/// B11.7 with our limit: exactly at it, one byte above, announced or not.
#[test]
fn a_body_above_the_limit_is_413_and_the_limit_is_named() {
    let daemon = Daemon::builder().argument("--upload-limit=1").start();
    let mut body = with_text("d", "f", "").to_string().into_bytes();
    body.resize(MIB, b' ');
    assert_eq!(post(&daemon, &body).status, 200);
    assert_eq!(http::exchange(daemon.address(), &chunked(&daemon, &body)).status, 200);

    body.push(b' ');
    // What the kernel's buffers do not take, so that the client is still sending when it is refused.
    let huge = vec![b' '; 20 * MIB];
    for (what, request) in [
        ("announced", announced(&daemon, &body)),
        ("chunked", chunked(&daemon, &body)),
        ("announced and huge", announced(&daemon, &huge)),
        ("chunked and huge", chunked(&daemon, &huge)),
    ] {
        let answer = http::exchange(daemon.address(), &request);
        let expected = "Maximum request body size 1048576 exceeded.";
        assert_eq!((answer.status, answer.body.as_str()), (413, expected), "{what}");
        assert_eq!(answer.header("connection"), Some("close"), "{what}");
    }
    assert_eq!(daemon.http("GET", "/status").status, 200);
}

fn announced(daemon: &Daemon, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /upload HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n",
        daemon.address(),
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Without a length, in pieces.
fn chunked(daemon: &Daemon, body: &[u8]) -> Vec<u8> {
    let head = "Transfer-Encoding: chunked\r\nConnection: close\r\n";
    let mut request =
        format!("POST /upload HTTP/1.1\r\nHost: {}\r\n{head}\r\n", daemon.address()).into_bytes();
    for piece in body.chunks(100_000) {
        request.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        request.extend_from_slice(piece);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"0\r\n\r\n");
    request
}

/// RFC 9110, section 10.1.1; curl asks for it.
#[test]
fn a_client_that_asks_before_it_sends_is_told_to_go_on_or_why_not() {
    let daemon = Daemon::builder().argument("--upload-limit=1").start();
    let body = with_text("d", "f", "x").to_string();
    let ask = |length: usize| {
        let mut stream = http::connect(daemon.address());
        let head = format!(
            "POST /upload HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n",
            daemon.address()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).unwrap();
        (stream, String::from_utf8_lossy(&first).into_owned())
    };
    let (mut stream, first) = ask(body.len());
    assert_eq!(first, "HTTP/1.1 100");
    stream.write_all(body.as_bytes()).unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("HTTP/1.1 200 OK"), "{rest}");
    let (_stream, first) = ask(MIB + 1);
    assert_eq!(first, "HTTP/1.1 413");
}

#[test]
fn uploads_and_other_requests_share_a_connection_and_a_refused_body_ends_it() {
    let daemon = Daemon::start();
    let good = with_text("d", "f", "x").to_string();
    let status = format!("GET /status HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", daemon.address());
    let request = [announced(&daemon, good.as_bytes()), status.clone().into_bytes()].concat();
    let answers = answers(&daemon, &request);
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2, "{answers}");
    // A body that would be a request, were it read as one.
    let smuggled = [announced(&daemon, status.as_bytes()), status.into_bytes()].concat();
    let answers = self::answers(&daemon, &smuggled);
    assert_eq!(answers.matches("HTTP/1.1").count(), 1, "{answers}");
    assert!(answers.starts_with("HTTP/1.1 400"), "{answers}");
}

fn answers(daemon: &Daemon, request: &[u8]) -> String {
    let mut stream = http::connect(daemon.address());
    stream.write_all(request).unwrap();
    let mut answers = Vec::new();
    // Closed with bytes of ours unread, the kernel may say "reset" behind the answer.
    if let Err(error) = stream.read_to_end(&mut answers) {
        eprintln!("{error}");
    }
    String::from_utf8_lossy(&answers).into_owned()
}

/// A client that goes away in the middle: nothing is stored, and the room for its body is free again.
#[test]
fn bodies_that_break_off_store_nothing_and_cost_nothing() {
    let daemon = Daemon::builder().argument("--upload-limit=128").start();
    for _ in 0..3 {
        let mut stream = http::connect(daemon.address());
        let head = format!(
            "POST /upload HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n{{\"name\":\"d\",",
            daemon.address(),
            128 * MIB
        );
        stream.write_all(head.as_bytes()).unwrap();
    }
    assert_eq!(post(&daemon, with_text("e", "f", "x").to_string().as_bytes()).status, 200);
    assert!(!daemon.work().join("d").exists());
}
