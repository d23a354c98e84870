//! Starts and echoes while many sessions with a terminal program each are open.

use crate::{
    Result, bare,
    bare::Program,
    bench::Bench,
    client::{Client, exec_message},
    daemon::SPARE_PAUSE,
    echo::Echo,
    pause,
    report::{Of, Row, Unit},
    sample::{Figure, count, in_turn},
};

/// Open sessions at which is measured.
const STEPS: [usize; 4] = [1, 10, 100, 500];

/// The case.
pub(crate) fn measure(bench: &mut Bench) {
    bench.case("many pty sessions", many);
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
