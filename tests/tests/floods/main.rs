//! Floods from many addresses at once: a neighbour with the token is served all the same, and the log stays
//! small.
//!
//! One test at a time: each has a network of its own, but they share the processors.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests may fail the test")]

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use further_link_tests::http;
use further_link_tests::netns::{CROWD, Network, SERVER, connect_from};
use further_link_tests::scratch::set_mode;
use further_link_tests::stream::{Stream, Trust};
use further_link_tests::{DEADLINE, Daemon, wait_until};
use rustix::process::{Resource, getrlimit, setrlimit};

const TOKEN: &str = "0123456789-abcdefghijkl_ABCDEFGHIJKLMNOPQRS";
const NEIGHBOUR: &str = "192.0.2.3";
/// What a neighbour may have to wait.
const SERVED: Duration = Duration::from_secs(1);
/// Connections that all greedy addresses hold together, as far as they are let: more than the daemon lets
/// wait, in all and from each address.
const GREED: usize = 1600;

/// More than the daemon lets wait: then the pool is full, and connections are closed for newer ones.
const POOL: usize = 1200;

static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    // For as many connections as a flood holds.
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum.map(|most| most.min(8192)).or(Some(8192));
    setrlimit(Resource::Nofile, limit).unwrap();
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// With TLS and a token, in a network of its own.
fn daemon() -> Daemon {
    let builder = Daemon::builder().tls();
    let file = builder.scratch().root().join("token");
    std::fs::write(&file, TOKEN).unwrap();
    set_mode(&file, 0o600);
    Network::around(builder.argument(&format!("--token-file={}", file.display()))).start()
}

/// What the connections of a flood do.
#[derive(Clone, Copy, Debug)]
enum Manner {
    Silent,
    /// The beginning of a handshake.
    HalfHandshake,
    /// A handshake, and no request.
    NoRequest,
}

/// A flood under way.
#[derive(Default)]
struct Flood {
    opened: AtomicUsize,
    end: AtomicBool,
}

impl Flood {
    /// Holds as many connections as it can from each address until it is told to end: those that the daemon
    /// has closed are opened again.
    fn run(&self, addresses: &[IpAddr], total: usize, to: SocketAddr, manner: Manner, trust: &Trust) {
        let mut held: Vec<VecDeque<Stream>> = addresses.iter().map(|_| VecDeque::new()).collect();
        while !self.end.load(Ordering::Relaxed) {
            for (from, held) in addresses.iter().zip(&mut held) {
                // The daemon closes the oldest first.
                while held.front().is_some_and(|stream| !is_open(stream.tcp())) {
                    held.pop_front();
                }
                if held.len() >= GREED / total {
                    continue;
                }
                let Ok(tcp) = connect_from(*from, to) else { continue };
                tcp.set_read_timeout(Some(SERVED)).unwrap();
                let stream = match manner {
                    Manner::Silent => Ok(Stream::over(tcp)),
                    Manner::HalfHandshake => (&tcp).write_all(&[0x16, 3, 1]).map(|()| Stream::over(tcp)),
                    Manner::NoRequest => Stream::shake_hands(tcp, trust),
                };
                self.opened.fetch_add(1, Ordering::Relaxed);
                held.extend(stream);
            }
        }
    }
}

/// Whether the other side has not closed yet. What it has said is thrown away.
fn is_open(mut tcp: &TcpStream) -> bool {
    tcp.set_nonblocking(true).unwrap();
    let mut bytes = [0; 4096];
    let is_open = loop {
        match tcp.read(&mut bytes) {
            Ok(0) => break false,
            Ok(_) => {}
            Err(error) => break error.kind() == ErrorKind::WouldBlock,
        }
    };
    tcp.set_nonblocking(false).unwrap();
    is_open
}

/// From the first connection to the answer. A client that is cut off tries again, as browsers do; how often.
fn served(there: &Network, from: &str, to: &str, trust: &Trust) -> (Duration, usize) {
    let begun = Instant::now();
    for again in 0.. {
        match ask(there, from, to, trust) {
            Ok(answer) => {
                assert!(answer.ends_with(b"101"), "{}", String::from_utf8_lossy(&answer));
                return (begun.elapsed(), again);
            }
            Err(error) => assert!(begun.elapsed() < DEADLINE, "cut off for the whole time: {error}"),
        }
    }
    unreachable!("an answer or the deadline comes first")
}

fn ask(there: &Network, from: &str, to: &str, trust: &Trust) -> std::io::Result<[u8; 12]> {
    let mut stream = Stream::shake_hands(there.connect(from, to), trust)?;
    stream.write_all(http::upgrade_request(&format!("/run?token={TOKEN}"), to, "").as_bytes())?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

/// A hundred tries of a neighbour, while these addresses take all they can.
fn assert_serves_a_neighbour(greedy: &[IpAddr], manner: Manner, neighbour: &str, to: &str) {
    let daemon = daemon();
    let there = Network::of(&daemon);
    let trust = Trust::in_file(&daemon.certificate());
    let target = SocketAddr::new(
        if greedy[0].is_loopback() { greedy[0] } else { SERVER.parse().unwrap() },
        there.port(),
    );
    let flood = Flood::default();
    let mut times = std::thread::scope(|scope| {
        for part in greedy.chunks(greedy.len().div_ceil(2)) {
            let (flood, there, trust) = (&flood, &there, &trust);
            scope.spawn(move || there.inside(|| flood.run(part, greedy.len(), target, manner, trust)));
        }
        // Whatever happens to a try, the flood has to end.
        let times = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_until(DEADLINE, "the flood has filled the pool", || {
                flood.opened.load(Ordering::Relaxed) > POOL
            });
            (0..100).map(|_| served(&there, neighbour, to, &trust)).collect::<Vec<_>>()
        }));
        flood.end.store(true, Ordering::Relaxed);
        times.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    let opened = flood.opened.load(Ordering::Relaxed);
    let again: usize = times.iter().map(|(_, again)| again).sum();
    let mut times: Vec<Duration> = times.drain(..).map(|(time, _)| time).collect();
    times.sort_unstable();
    let figures = format!(
        "{} addresses, {manner:?}, {opened} connections: p50 {:?}, p99 {:?}, longest {:?}, {again} tried again",
        greedy.len(),
        times[49],
        times[98],
        times[99]
    );
    eprintln!("{figures}");
    // The flood has the same processors as the daemon, which is not optimised here: a few may take a little
    // longer.
    let in_time = times.iter().filter(|time| **time < SERVED).count();
    assert!(in_time >= 95, "{in_time} in time: {figures}");
}

fn crowd(size: u8) -> Vec<IpAddr> {
    (0..size).map(|number| format!("{CROWD}.{}", number + 2).parse().unwrap()).collect()
}

/// R4.
#[test]
fn eight_addresses_that_take_all_they_can_leave_a_neighbour_its_second() {
    let _alone = alone();
    for manner in [Manner::Silent, Manner::HalfHandshake, Manner::NoRequest] {
        assert_serves_a_neighbour(&crowd(8), manner, NEIGHBOUR, SERVER);
    }
}

/// R4.
#[test]
fn sixty_four_addresses_that_take_all_they_can_leave_a_neighbour_its_second() {
    let _alone = alone();
    for manner in [Manner::Silent, Manner::HalfHandshake, Manner::NoRequest] {
        assert_serves_a_neighbour(&crowd(64), manner, NEIGHBOUR, SERVER);
    }
}

/// R4: the flood comes from the loopback, the neighbour from the network, and from the device itself.
#[test]
fn one_program_on_the_device_that_takes_all_it_can_leaves_others_their_second() {
    let _alone = alone();
    let own = ["127.0.0.1".parse().unwrap()];
    for (manner, neighbour, to) in [
        (Manner::Silent, NEIGHBOUR, SERVER),
        (Manner::HalfHandshake, NEIGHBOUR, SERVER),
        (Manner::NoRequest, NEIGHBOUR, SERVER),
        (Manner::Silent, "127.0.0.1", "127.0.0.1"),
        (Manner::NoRequest, "127.0.0.1", "127.0.0.1"),
    ] {
        assert_serves_a_neighbour(&own, manner, neighbour, to);
    }
}

/// R3: for ten seconds, as fast as it goes, from three addresses and with the longest values.
#[test]
fn ten_seconds_of_refused_requests_write_less_than_100_kilobytes_of_log() {
    let _alone = alone();
    let daemon = Network::around(Daemon::builder()).start();
    let there = Network::of(&daemon);
    let before = daemon.log().text().len();
    let long = "x".repeat(12_000);
    let mut requests = vec![format!("GET /run HTTP/1.1\r\nHost: {long}\r\n\r\n")];
    for header in ["Origin: https://", "Sec-Fetch-Site: cross-site\r\nX: ", "Authorization: Bearer "] {
        let mut request = format!("GET /run HTTP/1.1\r\nHost: {SERVER}\r\n");
        write!(request, "{header}{long}\r\n\r\n").unwrap();
        requests.push(request);
    }
    let to = SocketAddr::new(SERVER.parse().unwrap(), there.port());
    let end = Instant::now() + Duration::from_secs(10);
    let sent: usize = std::thread::scope(|scope| {
        let (there, requests) = (&there, &requests);
        let floods: Vec<_> = (0..3)
            .map(|number| {
                scope.spawn(move || {
                    there.inside(|| {
                        let stream =
                            connect_from(format!("{CROWD}.{}", number + 2).parse().unwrap(), to).unwrap();
                        stream.set_read_timeout(Some(DEADLINE)).unwrap();
                        let mut sent = 0;
                        while Instant::now() < end {
                            for request in requests {
                                assert!([403, 421].contains(&http::ask(&stream, request).status));
                                sent += 1;
                            }
                        }
                        sent
                    })
                })
            })
            .collect();
        floods.into_iter().map(|flood| flood.join().unwrap()).sum()
    });
    let written = daemon.log().text().len() - before;
    eprintln!("{sent} refused requests in 10 s: {written} bytes of log");
    assert!(sent > 1000 && written < 100_000, "{sent} requests, {written} bytes");
}
