//! What strangers can use up, each limit at its edge: connections, heads, messages and the time for
//! them. The daemon's memory stays bounded, and others are served meanwhile.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use further_link_tests::http::{self, upgrade_request};
use further_link_tests::netns::{Network, SERVER, SERVER_V6};
use further_link_tests::processes::Status;
use further_link_tests::programs::program;
use further_link_tests::stream::{Stream, Trust};
use further_link_tests::{DEADLINE, Daemon, wait_until};
use serde_json::json;
use tungstenite::Message;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};

const STATUS: &str = "GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n";
/// `API.md`, "Limits": the head of a request has to come within 10 seconds.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// Not much before.
const EARLIEST: Duration = Duration::from_secs(8);

/// Resident memory, in KiB.
fn memory(daemon: &Daemon) -> u64 {
    Status::of(daemon.pid()).numbers("VmRSS").iter().sum()
}

/// Whether the other side has hung up by `end`.
fn hangs_up(mut stream: &TcpStream, end: Instant) -> bool {
    let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    stream.set_read_timeout(Some(left)).unwrap();
    match stream.read(&mut [0; 4096]) {
        Ok(length) => length == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

#[track_caller]
fn assert_serves(daemon: &Daemon) {
    let begun = Instant::now();
    assert_eq!(daemon.http("GET", "/status").body, "OK");
    assert!(begun.elapsed() < Duration::from_secs(1), "/status took {:?}", begun.elapsed());
}

/// A WebSocket, and the stream below it for bytes that no client library sends.
fn raw(daemon: &Daemon) -> TcpStream {
    let stream = http::connect(daemon.address());
    let answer = http::ask(&stream, &upgrade_request("/run", "localhost", ""));
    assert_eq!(answer.status, 101);
    stream
}

/// The head of a frame of the client's with a mask of zeros (RFC 6455, 5.2).
fn head(first: u8, length: usize) -> Vec<u8> {
    let mut head = vec![first];
    match length {
        0..=125 => head.push(0x80 | u8::try_from(length).unwrap()),
        126..=65535 => {
            head.push(0x80 | 0x7E);
            head.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        _ => {
            head.push(0x80 | 0x7F);
            head.extend(u64::try_from(length).unwrap().to_be_bytes());
        }
    }
    head.extend([0; 4]);
    head
}

/// A request that needs to be let in, on a connection of this machine; and the answer if it was: no
/// WebSocket.
const RUN: &str = "GET /run HTTP/1.1\r\nHost: localhost\r\n\r\n";
const LET_IN: u16 = 400;

fn asked(stream: &TcpStream) -> u16 {
    http::ask(stream, RUN).status
}

/// This machine may have half of all, so that a program on it cannot lock out the network.
#[test]
fn there_are_so_many_connections_and_no_more() {
    let daemon = Daemon::builder().argument("--max-connections=6").start();
    let mut held: Vec<_> = (0..3).map(|_| http::connect(daemon.address())).collect();
    assert!(held.iter().all(|stream| asked(stream) == LET_IN));
    let answer = http::ask(&http::connect(daemon.address()), RUN);
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("10")), "the fourth");
    daemon.log().expect("--max-connections");
    // What is harmless is answered all the same, and those that were let in keep their places.
    assert_serves(&daemon);
    assert_eq!(asked(&held[0]), LET_IN);
    held.pop();
    wait_until(DEADLINE, "one has gone, so one may come", || {
        asked(&http::connect(daemon.address())) == LET_IN
    });
}

#[test]
fn one_address_has_its_share_of_connections_and_others_are_served() {
    let daemon = Network::around(Daemon::builder().argument("--max-connections-per-address=3")).start();
    let there = Network::of(&daemon);
    let ask = upgrade_request("/run", SERVER, "Origin: https://further.pi-top.com\r\n");
    let upgrade = |from: &str| {
        let stream = there.connect(from, SERVER);
        let status = http::ask(&stream, &ask).status;
        (stream, status)
    };
    let held: Vec<_> = (0..3).map(|_| upgrade("192.0.2.2")).collect();
    assert!(held.iter().all(|(_, status)| *status == 101));
    assert_eq!(upgrade("192.0.2.2").1, 503);
    assert_eq!(upgrade("192.0.2.3").1, 101);
    // The limit for one address is not for this machine.
    let own: Vec<_> = (0..8).map(|_| there.connect("127.0.0.1", "127.0.0.1")).collect();
    assert!(own.iter().all(|stream| asked(stream) == LET_IN));
    drop(held);
    wait_until(DEADLINE, "they have gone, so one may come", || upgrade("192.0.2.2").1 == 101);
}

/// Silent connections, as many as eight addresses can open, with TLS and a token: the pool of those that were
/// not let in keeps one for everybody else (R4).
#[test]
fn whatever_others_hold_open_a_neighbour_is_served_at_once() {
    for silent in [true, false] {
        let builder = Daemon::builder().tls();
        let daemon = Network::around(builder).start();
        let there = Network::of(&daemon);
        let greedy = ["192.0.2.2", "2001:db8:1::2", "2001:db8:2::2", "127.0.0.1"];
        let mut held = Vec::new();
        for round in 0..200 {
            for from in greedy {
                let to = if from.contains(':') {
                    SERVER_V6
                } else if from.starts_with("127") {
                    from
                } else {
                    SERVER
                };
                let mut stream = there.connect(from, to);
                if !silent {
                    // Half a head of TLS, which ends at no time by itself.
                    stream.write_all(&[0x16, 3, 1]).unwrap();
                }
                held.push(stream);
            }
            if round % 4 == 0 {
                let begun = Instant::now();
                let tcp = there.connect("192.0.2.3", SERVER);
                let mut stream = Stream::shake_hands(tcp, &Trust::in_file(&daemon.certificate())).unwrap();
                stream.write_all(STATUS.replace("localhost", SERVER).as_bytes()).unwrap();
                let mut answer = [0; 12];
                stream.read_exact(&mut answer).unwrap();
                assert!(
                    answer.ends_with(b"200") && begun.elapsed() < Duration::from_secs(1),
                    "{:?}",
                    begun.elapsed()
                );
            }
        }
    }
}

/// Refused requests as fast as they can be sent, with the longest values: the log stays small (R3).
#[test]
fn a_flood_of_refused_requests_writes_little_to_the_log() {
    let daemon = Daemon::start();
    let before = daemon.log().text().len();
    let stream = http::connect(daemon.address());
    let request = format!("GET /run HTTP/1.1\r\nHost: {}\r\n\r\n", "x".repeat(12_000));
    for _ in 0..5000 {
        assert_eq!(http::ask(&stream, &request).status, 421);
    }
    let log = daemon.log().text();
    assert!(log.contains("allow it with --allow-host"), "{log:.2000}");
    assert!(log.len() - before < 10_000, "{} bytes", log.len() - before);
}

/// `API.md`, "Limits": 16 KiB.
#[test]
fn heads_have_a_limit_of_size_and_number() {
    let daemon = Daemon::start();
    let with = |length: usize| {
        let request = "GET /status HTTP/1.1\r\nHost: localhost\r\nX: \r\n\r\n";
        let filler = "x".repeat(length - request.len());
        http::ask(&http::connect(daemon.address()), &request.replace("X: ", &format!("X: {filler}"))).status
    };
    assert_eq!(with(16 * 1024 - 1), 200);
    assert_eq!(with(16 * 1024 + 1), 431);
    let url = |length: usize| {
        let request = format!("GET /status?{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(length));
        http::ask(&http::connect(daemon.address()), &request).status
    };
    assert_eq!(url(15 * 1024), 200);
    assert!([414, 431].contains(&url(17 * 1024)));
    let many = |count: usize| {
        let headers = "X: y\r\n".repeat(count);
        http::ask(
            &http::connect(daemon.address()),
            &STATUS.replace("\r\n\r\n", &format!("\r\n{headers}\r\n")),
        )
        .status
    };
    assert_eq!(many(99), 200);
    assert_eq!(many(100), 431, "with Host one more than 100");
    assert_serves(&daemon);
}

/// Slow loris, and its cousins who say nothing at all: on a new connection and after an answered request.
#[test]
fn connections_without_a_whole_request_end_at_the_deadline_and_others_are_served() {
    // Fewer than this machine may have that no decision has let in: then none goes for a newer one.
    const MANY: usize = 100;
    let daemon = Daemon::start();
    let before = memory(&daemon);
    let begun = Instant::now();
    let streams: Vec<_> = (0..MANY).map(|_| http::connect(daemon.address())).collect();
    for (number, mut stream) in streams.iter().enumerate() {
        match number % 4 {
            0 => {}
            1 => assert_eq!(http::ask(stream, STATUS).body, "OK"),
            2 => stream.write_all(b"GET /status HT").unwrap(),
            _ => stream.write_all(b"GET /run HTTP/1.1\r\nHost: localhost\r\nUpgrade: webso").unwrap(),
        }
    }
    // One more byte now and then does not help.
    let mut open: Vec<&TcpStream> = streams.iter().collect();
    let end = begun + HEAD_LIMIT + DEADLINE;
    while !open.is_empty() && Instant::now() < end {
        let (mut slow, lap) = (open[0], Instant::now());
        assert_serves(&daemon);
        if hangs_up(slow, Instant::now() + Duration::from_millis(300)) {
            open.remove(0);
            assert!(begun.elapsed() > EARLIEST, "hung up after {:?}", lap - begun);
        } else if slow.write_all(b"x").is_err() {
            open.remove(0);
        }
    }
    assert!(open.is_empty(), "{} connections are open after {:?}", open.len(), begun.elapsed());
    assert!(memory(&daemon) < before + 20 * 1024, "{before} KiB became {}", memory(&daemon));
}

/// Half-sent messages of 200 clients would be 800 MiB.
#[test]
fn unfinished_messages_are_bounded_in_all_and_others_are_served() {
    const MANY: usize = 200;
    let daemon = Daemon::start();
    let mut neighbour = daemon.run("");
    neighbour.start_cat("1");
    let before = memory(&daemon);
    let part = vec![b'x'; 3900 * 1024];
    let mut most = 0;
    let streams: Vec<_> = (0..MANY)
        .map(|number| {
            let mut stream = raw(&daemon);
            stream.set_write_timeout(Some(DEADLINE)).unwrap();
            // As one frame of 4 MiB, or as the first of several.
            let first = if number % 2 == 0 { head(0x81, 4 << 20) } else { head(0x01, part.len()) };
            // Refused on the way, when there are too many.
            let sent = stream.write_all(&first).and_then(|()| stream.write_all(&part));
            most = most.max(memory(&daemon));
            if number % 20 == 0 {
                assert_serves(&daemon);
                neighbour.ping();
            }
            (stream, sent.is_ok())
        })
        .collect();
    most = most.max(memory(&daemon));
    assert!(most < before + 110 * 1024, "{before} KiB became {most}");
    daemon.log().expect("too many unfinished");
    // Short messages get through whatever happens, and a long one once there is room again.
    neighbour.stdin("1", "still here\n");
    neighbour.wait_stdout("1", "still here\n");
    drop(streams);
    wait_until(DEADLINE, "room for a long message", || {
        let mut client = daemon.run("");
        client.send_and_ignore_errors(Message::text(
            json!({"type": "ping", "x": "x".repeat(3 << 20)}).to_string(),
        ));
        client.read_one(Instant::now() + DEADLINE) && client.closed.is_none()
    });
}

/// A connection that has sent a long message and is idle keeps nothing of it.
#[test]
fn long_messages_leave_no_memory_with_their_connections() {
    const MANY: usize = 60;
    let daemon = Daemon::start();
    let before = memory(&daemon);
    let text = json!({"type": "ping", "x": "x".repeat(4_000_000)}).to_string();
    let mut clients: Vec<_> = (0..MANY).map(|_| daemon.run("")).collect();
    for client in &mut clients {
        client.send_text(&text);
        client.expect("pong", |message| message["type"] == "pong");
    }
    let after = memory(&daemon);
    assert!(after < before + 60 * 1024, "{before} KiB became {after}: {MANY} times 4 MiB are 240 MiB");
}

/// `API.md`, "Limits": a minute. The longest test of this file waits for it.
#[test]
fn a_message_that_is_never_completed_ends_its_connection_and_an_idle_one_stays() {
    let daemon = Daemon::builder().argument("--ping-interval=0").start();
    let mut idle = daemon.run("");
    let begun = Instant::now();
    let (half_head, half_frame, fragment) = (raw(&daemon), raw(&daemon), raw(&daemon));
    (&half_head).write_all(&head(0x81, 1000)[..3]).unwrap();
    (&half_frame).write_all(&[&head(0x81, 1000)[..], b"{"].concat()).unwrap();
    (&fragment).write_all(&[&head(0x01, 1)[..], b"{"].concat()).unwrap();
    // A ping in between, which is answered, changes nothing (RFC 6455, 5.4).
    (&fragment).write_all(&head(0x89, 0)).unwrap();
    let mut pong = [0; 2];
    (&fragment).read_exact(&mut pong).unwrap();
    assert_eq!(pong, [0x8A, 0]);
    for mut stream in [&half_head, &half_frame, &fragment] {
        stream.set_read_timeout(Some(Duration::from_secs(75))).unwrap();
        let mut said = Vec::new();
        stream.read_to_end(&mut said).unwrap();
        assert_eq!(said[..1], [0x88], "a close frame");
        assert_eq!(said[2..4], 1008_u16.to_be_bytes(), "{}", String::from_utf8_lossy(&said));
        assert!(begun.elapsed() >= Duration::from_secs(55), "{:?}", begun.elapsed());
    }
    idle.ping();
}

#[test]
fn messages_in_millions_of_fragments_are_read_and_empty_ones_cost_nothing() {
    let daemon = Daemon::start();
    let before = memory(&daemon);
    let mut stream = raw(&daemon);
    let text = format!("{{\"type\": \"ping\", \"x\": \"{}\"}}", "x".repeat(1 << 20));
    let mut bytes = Vec::new();
    for (number, byte) in text.bytes().enumerate() {
        let last = if number + 1 == text.len() { 0x80 } else { 0 };
        bytes.extend(head(last | u8::from(number == 0), 1));
        bytes.push(byte);
    }
    // Written without reading: the only answer is short.
    stream.write_all(&bytes).unwrap();
    let mut answer = vec![0; 2];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer[0], 0x81);
    assert!(memory(&daemon) < before + 20 * 1024, "{before} KiB became {}", memory(&daemon));
    let mut empty = raw(&daemon);
    empty.write_all(&head(0x01, 0)).unwrap();
    for _ in 0..50 {
        empty.write_all(&head(0x00, 0).repeat(10_000)).unwrap();
    }
    assert_serves(&daemon);
    assert!(memory(&daemon) < before + 20 * 1024, "{before} KiB became {}", memory(&daemon));
    // What is longer than 4 MiB in all is too long in pieces as well.
    let mut client = daemon.run("");
    let piece = |code, last| Message::Frame(Frame::message(vec![b'x'; 1 << 20], OpCode::Data(code), last));
    client.send_frame(piece(Data::Text, false));
    for _ in 0..4 {
        client.send_and_ignore_errors(piece(Data::Continue, false));
    }
    let end = Instant::now() + DEADLINE;
    while client.closed.is_none() {
        assert!(client.read_one(end), "the connection is still open");
    }
    assert!(matches!(client.closed, Some(None | Some(1009))), "{:?}", client.closed);
}

/// The longest message that there may be, in one frame, and one byte more (B3.2).
#[test]
fn a_message_of_exactly_four_mebibytes_is_taken_and_one_byte_more_is_not() {
    let daemon = Daemon::start();
    let frame = r#"{"type": "ping", "x": ""}"#;
    let with = |length: usize| frame.replace("\"\"", &format!("\"{}\"", "x".repeat(length - frame.len())));
    let mut client = daemon.run("");
    client.send_text(&with(4 << 20));
    client.expect("pong", |message| message["type"] == "pong");
    client.send_and_ignore_errors(Message::text(with((4 << 20) + 1)));
    let end = Instant::now() + DEADLINE;
    while client.closed.is_none() {
        assert!(client.read_one(end), "the connection is still open");
    }
    assert!(matches!(client.closed, Some(None | Some(1009))), "{:?}", client.closed);
}

/// Pings without end from a client that reads no answer.
#[test]
fn pings_of_a_deaf_client_do_not_fill_the_memory() {
    let daemon = Daemon::start();
    let before = memory(&daemon);
    let mut deaf = raw(&daemon);
    deaf.set_write_timeout(Some(DEADLINE)).unwrap();
    let pings = [head(0x89, 125), vec![b'x'; 125]].concat().repeat(8_000);
    for _ in 0..100 {
        deaf.write_all(&pings).unwrap();
    }
    assert_serves(&daemon);
    assert!(memory(&daemon) < before + 20 * 1024, "{before} KiB became {}", memory(&daemon));
    // Once it listens, it is answered again.
    let end = Instant::now() + 3 * DEADLINE;
    deaf.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut heard = vec![0; 1 << 20];
    while deaf.read(&mut heard).is_ok_and(|length| length > 0) {
        assert!(Instant::now() < end, "pongs without end");
    }
    deaf.write_all(&[&head(0x89, 4)[..], b"last"].concat()).unwrap();
    let mut answer = [0; 6];
    deaf.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"\x8A\x04last");
}

/// 4 MiB of JSON can have two million values, each of which costs a hundred bytes once it is read.
#[test]
fn json_that_is_deep_or_has_millions_of_values_is_a_bad_message() {
    let daemon = Daemon::start();
    let before = memory(&daemon);
    let mut client = daemon.run("");
    for text in [
        format!("{{\"data\":{}", "[".repeat(4_000_000)),
        format!("{{\"data\":{}", "{\"a\":".repeat(800_000)),
        format!("{{\"type\":\"ping\",\"data\":[{}0]}}", "0,".repeat(2_000_000)),
        format!("{{\"type\":\"ping\",\"data\":{{{}\"a\":0}}}}", "\"a\":0,".repeat(600_000)),
    ] {
        client.send_text(&text);
        assert_eq!(client.next_error(), "Bad message");
        client.ping();
    }
    assert_eq!(client.run("1", program("/bin/true")).exit_code, 0);
    let peak: u64 = Status::of(daemon.pid()).numbers("VmHWM").iter().sum();
    assert!(peak < before + 60 * 1024, "{before} KiB became {peak}");
}
