//! One byte to a program and back: alone, and while another program floods, on the same connection or on
//! another one. The program is `cat` on a raw terminal, so the answer is its own and not the kernel's, or on
//! pipes: then it is a line without an end.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use further_link_benches::pattern::Kind;

use crate::{
    Result, bare,
    bare::Program,
    bench::Bench,
    check::Checker,
    client::Client,
    daemon::Daemon,
    message::{Body, unescape},
    place::{ENDLESS, Place},
    report::{Of, Row, Unit},
    sample::{Figure, count, in_turn},
};

/// Bytes in one turn under a flood, which has to be started for each.
const IN_ONE_TURN: usize = 100;

/// The cases.
pub(crate) fn measure(bench: &mut Bench) {
    bench.case("pty echo alone", |bench| alone(bench, true));
    bench.case("pipe echo alone, no line end", |bench| alone(bench, false));
    bench.case("pty echo, flood on another WebSocket", |bench| flooded(bench, Where::OtherSocket));
    bench.case("pty echo, flood on the same WebSocket", |bench| flooded(bench, Where::SameSocket));
}

/// Our echo program.
pub(crate) struct Echo {
    client: Client,
    flood: Checker,
}

impl Echo {
    pub(crate) fn start(daemon: &Daemon, place: &Place, terminal: bool) -> Result<Self> {
        let mut client = Client::connect(daemon, terminal)?;
        client.start("echo", &place.echo(terminal))?;
        client.wait_ready()?;
        Ok(Self { client, flood: Checker::new(Kind::Ascii, true) })
    }

    /// The way of one byte to the program and back. What comes from a flood in between is checked.
    pub(crate) fn byte(&mut self, byte: u8) -> Result<Duration> {
        let begin = Instant::now();
        self.client.input("echo", char::from(byte).encode_utf8(&mut [0; 4]))?;
        loop {
            let message = self.client.next()?;
            match (&*message.process, message.body) {
                ("echo", Body::Output(text)) if text == [byte] => return Ok(begin.elapsed()),
                ("flood", Body::Output(text)) => unescape(text, |piece| self.flood.feed(piece))?,
                ("flood", Body::Started) => {}
                (process, _) => return Err(format!("not the echo of a byte, from {process}").into()),
            }
        }
    }
}

fn letters() -> impl Iterator<Item = u8> {
    (b'a'..=b'z').cycle()
}

/// Times of an echo, bare and ours.
pub(crate) fn alone_times(
    bench: &Bench,
    daemon: &Daemon,
    terminal: bool,
) -> Result<(Vec<Duration>, Vec<Duration>)> {
    let mut bare = bare::Echo::start(&bench.place, terminal)?;
    let mut ours = Echo::start(daemon, &bench.place, terminal)?;
    let mut letters = (letters(), letters());
    in_turn(
        bench.pick(10_000, 1000),
        bench.limit(),
        || bare.byte(letters.0.next().unwrap_or(b'?')),
        || ours.byte(letters.1.next().unwrap_or(b'?')),
    )
}

fn alone(bench: &Bench, terminal: bool) -> Result<Vec<Row>> {
    let daemon = bench.daemon()?;
    let (bare, ours) = alone_times(bench, &daemon, terminal)?;
    let (bare, ours) = (Figure::of_times(bare), Figure::of_times(ours));
    Ok(vec![if terminal {
        Row::both("pty echo alone", Unit::Seconds, bare, ours).at_most(Of::Ratio, 2.2)
    } else {
        // Bare is two processes that wake each other on one processor: no server comes near.
        Row::both("pipe echo alone, no line end", Unit::Seconds, bare, ours)
    }])
}

/// Which connection is flooded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    SameSocket,
    OtherSocket,
}

fn flooded(bench: &Bench, place: Where) -> Result<Vec<Row>> {
    let daemon = bench.daemon()?;
    let mut bare_echo = bare::Echo::start(&bench.place, true)?;
    let mut echo = Echo::start(&daemon, &bench.place, true)?;
    let mut wrong = 0;
    let (bare, ours) = in_turn(
        bench.pick(20, 3),
        bench.limit(),
        || beside_bare_flood(&bench.place, || turn(|byte| bare_echo.byte(byte))),
        || {
            let (times, right) = match place {
                Where::OtherSocket => beside_flood(&daemon, &bench.place, || turn(|byte| echo.byte(byte)))?,
                Where::SameSocket => beside_own_flood(&mut echo, &bench.place)?,
            };
            wrong += usize::from(!right);
            Ok(times)
        },
    )?;
    let figure = |turns: Vec<Vec<Duration>>| Figure::of_times(turns.into_iter().flatten());
    let (bare, ours) = (figure(bare), figure(ours));
    let name = match place {
        Where::SameSocket => "pty echo, flood on the same WebSocket",
        Where::OtherSocket => "pty echo, flood on another WebSocket",
    };
    let wrong =
        Row::ours(format!("{name}: floods with lost bytes"), Unit::Count, Some(Figure::single(count(wrong))));
    let time = Row::both(name, Unit::Seconds, bare, ours);
    let time = match place {
        Where::SameSocket => time.at_most(Of::OursP99, 0.002),
        Where::OtherSocket => time.at_most(Of::Ratio, 3.0),
    };
    Ok(vec![time, wrong.at_most(Of::Ours, 0.0)])
}

fn turn(echo: impl FnMut(u8) -> Result<Duration>) -> Result<Vec<Duration>> {
    letters().take(IN_ONE_TURN).map(echo).collect()
}

/// While this process reads and checks a flood from a terminal of its own.
fn beside_bare_flood<T>(place: &Place, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let file = place.flood(Kind::Ascii, ENDLESS)?;
    let (mut child, leader) = Program::new(place, &file).on_terminal()?;
    std::thread::scope(|scope| {
        let mut checker = Checker::new(Kind::Ascii, true);
        let reader = scope.spawn(move || {
            bare::read_all(&leader, |piece| checker.feed(piece))?;
            Ok::<_, crate::Failure>(checker.is_right())
        });
        let done = work();
        child.kill()?;
        child.wait()?;
        let right = reader.join().map_err(|_| "a thread panicked")??;
        if right { done } else { Err("bare: the flood has lost bytes".into()) }
    })
}

/// While another connection is flooded. And whether all of the flood was right.
fn beside_flood<T>(daemon: &Daemon, place: &Place, work: impl FnOnce() -> Result<T>) -> Result<(T, bool)> {
    let mut client = Client::connect(daemon, true)?;
    client.start("flood", &place.flood(Kind::Ascii, ENDLESS)?)?;
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut checker = Checker::new(Kind::Ascii, true);
            while !over.load(Ordering::Relaxed) {
                if let Body::Output(text) = client.next()?.body {
                    unescape(text, |piece| checker.feed(piece))?;
                }
            }
            client.stop("flood")?;
            Ok::<_, crate::Failure>(checker.is_right())
        });
        let done = work();
        over.store(true, Ordering::Relaxed);
        let right = reader.join().map_err(|_| "a thread panicked")??;
        Ok((done?, right))
    })
}

fn beside_own_flood(echo: &mut Echo, place: &Place) -> Result<(Vec<Duration>, bool)> {
    echo.flood = Checker::new(Kind::Ascii, true);
    echo.client.start("flood", &place.flood(Kind::Ascii, ENDLESS)?)?;
    let times = turn(|byte| echo.byte(byte))?;
    echo.client.stop("flood")?;
    Ok((times, echo.flood.is_right()))
}
