//! Opening many sessions, and starts and echoes while many are open that have a terminal program each.

use std::time::{Duration, Instant};

use crate::{
    Result, bare,
    bare::Program,
    bench::Bench,
    client::{Client, exec_message},
    daemon::SPARE_PAUSE,
    echo::Echo,
    pause,
    peer::Peer,
    report::{Of, Row, Unit},
    sample::{Figure, count, in_turn},
};

/// Open sessions at which is measured.
const STEPS: [usize; 4] = [1, 10, 100, 500];

/// The case.
pub(crate) fn measure(bench: &mut Bench) {
    bench.case("opening pty sessions", |bench| opening(bench, true));
    bench.case("opening pipe sessions", |bench| opening(bench, false));
    bench.case("many pty sessions", many);
}

/// From the wish for a connection to the first line of its program, one after the other, all of them staying.
fn opening(bench: &Bench, terminal: bool) -> Result<Vec<Row>> {
    let daemon = bench.daemon()?;
    let peer = if terminal { None } else { Peer::start(&[bench.place.echo(terminal).as_os_str()])? };
    let number = bench.pick(500, 100);
    let (mut bare_open, mut ours_open, mut peer_open) = (Vec::new(), Vec::new(), Vec::new());
    let (mut of_bare, mut of_ours, mut of_peer) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    for _ in 0..number {
        of_bare += timed(&mut bare_open, || bare::Echo::start(&bench.place, terminal))?;
        of_ours += timed(&mut ours_open, || Echo::start(&daemon, &bench.place, terminal))?;
        if let Some(peer) = &peer {
            of_peer += timed(&mut peer_open, || peer.open())?;
        }
    }
    let mean = |all: Duration| Some(Figure::single(all.as_secs_f64() / count(number)));
    let name = format!("opening one of {number} sessions, {}: mean", if terminal { "pty" } else { "pipe" });
    let row = Row::both(name, Unit::Seconds, mean(of_bare), mean(of_ours));
    Ok(vec![row.beside(peer.and_then(|_| mean(of_peer)))])
}

fn timed<T>(open: &mut Vec<T>, start: impl FnOnce() -> Result<T>) -> Result<Duration> {
    let begin = Instant::now();
    open.push(start()?);
    Ok(begin.elapsed())
}

fn many(bench: &Bench) -> Result<Vec<Row>> {
    let daemon = bench.daemon()?;
    let mut sessions: Vec<Echo> = Vec::new();
    let mut runner = Client::connect(&daemon, false)?;
    let mut bare_echo = bare::Echo::start(&bench.place, true)?;
    let program = bench.place.program();
    let bare_program = Program::new(&bench.place, &program);
    let message = exec_message("1", &program)?;
    let mut rows = Vec::new();
    let mut hellos: Vec<Figure> = Vec::new();
    for step in STEPS {
        while sessions.len() < step {
            match Echo::start(&daemon, &bench.place, true) {
                Ok(echo) => sessions.push(echo),
                Err(error) => {
                    eprintln!("session {}: {error}", sessions.len() + 1);
                    break;
                }
            }
        }
        let echo = sessions.last_mut().ok_or("no session")?;
        let (bare, ours) = in_turn(
            bench.pick(200, 50),
            bench.limit() / 4,
            || bare_program.run(false, b"hello\n"),
            || {
                pause(SPARE_PAUSE);
                runner.run(&message, b"hello\n")
            },
        )?;
        let stopped = |times: &[bare::Times]| Figure::of_times(times.iter().map(|times| times.stopped));
        let (bare, ours) = (stopped(&bare), stopped(&ours));
        hellos.extend(ours);
        rows.push(Row::both(format!("native hello, pipe, {step} sessions open"), Unit::Seconds, bare, ours));
        let (bare, ours) =
            in_turn(bench.pick(2000, 200), bench.limit() / 4, || bare_echo.byte(b'x'), || echo.byte(b'x'))?;
        let (bare, ours) = (Figure::of_times(bare), Figure::of_times(ours));
        rows.push(Row::both(format!("pty echo, {step} sessions open"), Unit::Seconds, bare, ours));
    }
    let open =
        Row::ours("pty sessions open of 500", Unit::Count, Some(Figure::single(count(sessions.len()))));
    rows.push(open.at_least(Of::Ours, 500.0));
    if let (Some(first), Some(last)) = (hellos.first(), hellos.last()) {
        let ratio = Some(Figure::single(last.p50 / first.p50));
        rows.push(
            Row::ours("native hello at 500 sessions over 1", Unit::Times, ratio).at_most(Of::Ours, 2.0),
        );
    }
    Ok(rows)
}
