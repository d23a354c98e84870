//! TLS: what is spoken, what is refused, and how connections begin and end.
//!
//! B1.2, D49. The client (`stream`) trusts the certificate of the daemon under
//! test and nothing else, so each test that connects also checks names and signatures. Files that change or
//! cannot be used are in `certificate_files.rs`, the daemon's own certificate in `own_certificate.rs`.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use further_link_tests::programs::python;
use further_link_tests::stream::{Stream, Trust};
use further_link_tests::test_ca::Chain;
use further_link_tests::{DEADLINE, Daemon};
use nix::sys::signal::Signal;
use rustls::ProtocolVersion;
use rustls::version::{TLS12, TLS13};

/// The daemon's limit for a handshake, and what a busy machine takes.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// B1.2
#[test]
fn programs_run_over_tls() {
    let daemon = Chain::new().serve();
    assert!(daemon.log().text().contains("listening on https://127.0.0.1:"), "{}", daemon.log().tail());
    assert_eq!(daemon.http("GET", "/status").body, "OK");
    let finished = daemon.run_once(python("print('hi')"));
    assert_eq!((finished.exit_code, finished.stdout.as_str()), (0, "hi\n"));
    let mut terminal = daemon.run("pty=1");
    terminal.start_cat("1");
    assert_eq!(daemon.run_py("").close(), Some(1000));
}

/// "TLS 1.2 and 1.3"
#[test]
fn both_current_versions_are_spoken() {
    let daemon = Chain::new().serve();
    for (version, expected) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        let trust = Trust::with(&daemon.certificate(), &[version]);
        let mut stream = Stream::connect(daemon.address(), Some(&trust));
        assert_eq!(stream.tls().protocol_version(), Some(expected));
        assert_eq!(stream.tls().alpn_protocol(), Some(&b"http/1.1"[..]));
        write!(stream, "GET /status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        // To the end: without the word that ends TLS this is an error.
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("\r\n\r\nOK"), "{answer}");
    }
}

/// A hello that offers nothing above TLS 1.1 (RFC 4346, 7.4.1.2) is answered by an alert.
#[test]
fn older_versions_are_refused() {
    let daemon = Chain::new().serve();
    for minor in [0, 1, 2] {
        let mut hello = vec![3, minor];
        hello.extend([7; 32]);
        // No session; TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA; no compression; the group P-256 and its
        // uncompressed points.
        hello.extend([0, 0, 2, 0xc0, 0x09, 1, 0]);
        hello.extend([0, 22, 0, 10, 0, 4, 0, 2, 0, 23, 0, 11, 0, 2, 1, 0]);
        // ecdsa_secp256r1_sha256, so that nothing but the version is wrong.
        hello.extend([0, 13, 0, 4, 0, 2, 4, 3]);
        let length = u8::try_from(hello.len()).unwrap();
        let mut record = vec![0x16, 3, 1, 0, length + 4, 1, 0, 0, length];
        record.extend(hello);
        let mut stream = TcpStream::connect(daemon.address()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(&record).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        // Alert, fatal, protocol_version.
        assert_eq!((answer[0], &answer[5..]), (0x15, &[2, 70][..]), "3.{minor}: {answer:?}");
    }
}

/// "chains included": a client that knows the root only can verify it.
#[test]
fn the_whole_chain_is_sent_as_it_is_in_the_file() {
    let daemon = Chain::new().serve();
    let stream = Stream::connect(daemon.address(), Some(&Trust::in_file(&daemon.certificate())));
    assert_eq!(stream.tls().peer_certificates().map(<[_]>::len), Some(3));
}

/// A classroom that connects again: the second handshake needs no signature.
#[test]
fn connections_can_be_resumed() {
    let daemon = Chain::new().serve();
    let trust = Trust::in_file(&daemon.certificate());
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let mut stream = Stream::connect(daemon.address(), Some(&trust));
        kinds.push(stream.tls().handshake_kind());
        // Tickets come after the handshake.
        write!(stream, "GET /status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
    }
    assert_eq!(kinds, [Some(rustls::HandshakeKind::Full), Some(rustls::HandshakeKind::Resumed)]);
}

/// A client that connects and says nothing costs almost nothing and is dropped.
#[test]
fn silent_clients_are_dropped_at_the_deadline() {
    let daemon = Chain::new().serve();
    let begun = Instant::now();
    // Nothing at all; the beginning of a handshake; and a handshake without a request after it.
    let mut silent = TcpStream::connect(daemon.address()).unwrap();
    let mut halting = TcpStream::connect(daemon.address()).unwrap();
    halting.write_all(&[0x16, 3, 1]).unwrap();
    let mut shaken = Stream::connect(daemon.address(), Some(&Trust::in_file(&daemon.certificate())));
    for stream in [&silent, &halting, shaken.tcp()] {
        stream.set_read_timeout(Some(HANDSHAKE + DEADLINE)).unwrap();
    }
    let mut rest = Vec::new();
    let ended = |outcome: std::io::Result<usize>| match outcome {
        Ok(0) => true,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
        Ok(_) => false,
    };
    assert!(ended(silent.read_to_end(&mut rest)) && rest.is_empty(), "{rest:?}");
    assert!(begun.elapsed() >= HANDSHAKE, "dropped after {:?}", begun.elapsed());
    assert!(ended(halting.read(&mut [0; 100])));
    // It has no request to be answered: cut, or ended in TLS's own words.
    assert!(shaken.read_to_end(&mut rest).is_err() || rest.is_empty(), "{rest:?}");
    assert!(begun.elapsed() < HANDSHAKE + DEADLINE, "dropped after {:?}", begun.elapsed());
    assert_eq!(daemon.http("GET", "/status").body, "OK");
}

/// Resident memory of the frontend.
fn resident(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// The same, in bytes: a thousand of them cost less than what one open page may use in buffers for each ten.
#[test]
fn a_silent_client_costs_a_few_kibibytes() {
    const CLIENTS: u64 = 800;
    let daemon = Chain::new().serve();
    daemon.http("GET", "/status");
    let before = resident(&daemon);
    let clients: Vec<_> = (0..CLIENTS).map(|_| TcpStream::connect(daemon.address()).unwrap()).collect();
    // Accepted in order: when this one is answered, all of them wait.
    assert_eq!(daemon.http("GET", "/status").body, "OK");
    let each = resident(&daemon).saturating_sub(before) / CLIENTS;
    assert!(each < 6 * 1024, "{each} bytes for each of {} clients", clients.len());
}

/// A page that says `ws://` where it should say `wss://`.
#[test]
fn a_plain_request_is_told_what_it_has_reached() {
    let daemon = Chain::new().serve();
    let answer = further_link_tests::http::request(daemon.address(), None, "GET", "/status");
    assert_eq!((answer.status, answer.body.as_str()), (400, "This port speaks https and wss.\n"));
}

/// B1.2: on, off, and the words that mean off.
#[test]
fn the_variable_switches_tls_off_as_before() {
    for (value, plain) in [("1", true), ("yes", true), ("0", false), ("False", false), ("", false)] {
        let builder = Daemon::builder().bare().environment("FURTHER_LINK_NOSSL", value);
        let (extra, state) = (builder.scratch().extra(), builder.scratch().state());
        let daemon = builder
            .environment("FURTHER_LINK_PORT", "0")
            .environment("FURTHER_LINK_ADDRESS", "127.0.0.1")
            .environment("FURTHER_LINK_EXTRA_DIR", extra.to_str().unwrap())
            .environment("FURTHER_LINK_STATE_DIR", state.to_str().unwrap())
            .start();
        let scheme = if plain { "http" } else { "https" };
        assert!(daemon.log().text().contains(&format!("listening on {scheme}://")), "{value:?}");
        // D49: without TLS nothing of it is made.
        assert_eq!(state.exists(), !plain, "{value:?}");
    }
}

/// Nothing is lost between the records: a program's output to a client that is slow to begin.
#[test]
fn much_output_arrives_whole_at_a_client_that_reads_late() {
    const LINES: usize = 40_000;
    let daemon = Chain::new().serve();
    let mut client = daemon.run("");
    client
        .start("1", python(&format!("for number in range({LINES}): print(f'{{number:06}} {{\"x\" * 93}}')")));
    // The program and the daemon wait for a reader.
    let mut neighbour = daemon.run("");
    neighbour.ping();
    assert_eq!(client.wait_stopped_within(3 * DEADLINE, "1"), 0);
    let output = client.stdout("1");
    assert_eq!(output.len(), LINES * 101);
    for (number, line) in output.lines().enumerate() {
        assert!(line.starts_with(&format!("{number:06} x")), "{line}");
    }
}

/// 256 KiB there and back.
#[test]
fn what_is_typed_comes_back_whole() {
    let daemon = Chain::new().serve();
    let mut client = daemon.run("");
    client.start_cat("1");
    let lines: Vec<_> = (0..4096).map(|number| format!("{number:063}")).collect();
    let text = lines.join("\n") + "\n";
    client.stdin("1", &text);
    client.read_until(3 * DEADLINE, "all of it", |client| client.stdout("1").len() >= text.len() + 4);
    assert_eq!(client.stdout("1"), format!("cat\n{text}"));
}

/// 1001, and the word that ends TLS: without it a client cannot tell an end from a cut.
#[test]
fn a_shutdown_says_goodbye_in_both_languages() {
    let mut daemon = Chain::new().serve();
    let mut client = daemon.run("");
    client.start("1", python("import time; time.sleep(600)"));
    assert_eq!(daemon.end_with(Signal::SIGTERM), 0);
    client.read_until(DEADLINE, "a close frame", |client| client.closed.is_some());
    assert_eq!(client.closed, Some(Some(1001)));
    let mut rest = Vec::new();
    let ended = client.stream().read_to_end(&mut rest);
    assert!(ended.is_ok(), "{ended:?}");
}

/// The same when the client closes.
#[test]
fn a_close_frame_is_answered_and_tls_ends_after_it() {
    let daemon = Chain::new().serve();
    let mut client = daemon.run("");
    client.send_frame(tungstenite::Message::Close(None));
    client.read_until(DEADLINE, "a close frame", |client| client.closed.is_some());
    let ended = client.stream().read_to_end(&mut Vec::new());
    assert!(ended.is_ok(), "{ended:?}");
}
