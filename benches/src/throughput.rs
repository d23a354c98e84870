//! Floods: how fast all bytes come, and what they cost the frontend; and a client that reads slowly.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use further_link_benches::pattern::Kind;

use crate::{
    Result,
    bare::Program,
    bench::Bench,
    check::Checker,
    client::Client,
    message::{Body, unescape},
    pause, procfs,
    report::{Of, Row, Unit},
    sample::{Figure, float, in_turn},
};

const GIBIBYTE: f64 = 1_073_741_824.0;
/// Of 64 bytes each: 256 MiB and 32 MiB.
const LINES: (u64, u64) = (1 << 22, 1 << 19);
/// The slow reader's flood: much more than the buffers of the kernel hold, 32 MiB and 16 MiB.
const SLOW_LINES: (u64, u64) = (1 << 19, 1 << 18);
/// How long it reads slowly, before it reads the rest.
const SLOW_TIME: (Duration, Duration) = (Duration::from_secs(8), Duration::from_secs(2));
/// Between two looks at memory.
const LOOK: Duration = Duration::from_millis(200);
/// Bytes per second that it reads.
const SLOW_RATE: f64 = 1_048_576.0;

/// What a flood goes through, and the goals.
struct Case {
    name: &'static str,
    kind: Kind,
    terminal: bool,
    rate: Option<f64>,
    processor: Option<f64>,
}

const CASES: [Case; 3] = [
    Case {
        name: "flood by pipe",
        kind: Kind::Ascii,
        terminal: false,
        rate: Some(0.42),
        processor: Some(1.0),
    },
    Case { name: "flood by pty", kind: Kind::Ascii, terminal: true, rate: Some(0.7), processor: Some(5.0) },
    Case { name: "flood by pipe, UTF-8", kind: Kind::Mixed, terminal: false, rate: None, processor: None },
];

/// The cases.
pub(crate) fn measure(bench: &mut Bench) {
    for case in CASES {
        bench.case(case.name, |bench| flood(bench, &case));
    }
    bench.case("client that reads 1 MiB/s", slow_reader);
}

fn flood(bench: &Bench, case: &Case) -> Result<Vec<Row>> {
    let daemon = bench.daemon()?;
    let lines = bench.pick(LINES.0, LINES.1);
    let file = bench.place.flood(case.kind, lines)?;
    let program = Program::new(&bench.place, &file);
    let mut client = Client::connect(&daemon, case.terminal)?;
    let new_checker = || Checker::new(case.kind, case.terminal);
    let expected = new_checker().expected(lines);
    let (mut lost, mut bare_lost) = (0, 0);
    let (mut processor, mut bare_processor) = (Duration::ZERO, Duration::ZERO);
    procfs::reset_peak(daemon.pid())?;
    let (bare, ours) = in_turn(
        bench.pick(5, 3),
        bench.limit(),
        || {
            let mut checker = new_checker();
            let took = program.flood(case.terminal, &mut checker)?;
            bare_lost += checker.lost(expected);
            let mut checker = new_checker();
            bare_processor += program.relay(case.terminal, &mut checker)?;
            bare_lost += checker.lost(expected);
            Ok(took)
        },
        || {
            let mut checker = new_checker();
            let before = procfs::processor_time(daemon.pid())?;
            let took = receive(&mut client, &file, &mut checker)?;
            processor += procfs::processor_time(daemon.pid())?.saturating_sub(before);
            lost += checker.lost(expected);
            Ok(took)
        },
    )?;
    if bare_lost > 0 {
        return Err(format!("{bare_lost} bytes were lost without a server").into());
    }
    // The turn that was not counted as well.
    let received = float(expected) * float(u64::try_from(ours.len() + 1)?);
    let rate =
        |times: Vec<Duration>| Figure::of(times.iter().map(|time| float(expected) / time.as_secs_f64()));
    let (bare, ours) = (rate(bare), rate(ours));
    let name = case.name;
    let single =
        |metric: &str, unit, value| Row::ours(format!("{name}: {metric}"), unit, Some(Figure::single(value)));
    let rate = Row::both(format!("{name}: throughput"), Unit::BytesPerSecond, bare, ours);
    let per_gibibyte = |time: Duration| Some(Figure::single(time.as_secs_f64() / (received / GIBIBYTE)));
    let processor = Row::both(
        format!("{name}: frontend CPU per GiB, and a bare relay's"),
        Unit::Seconds,
        per_gibibyte(bare_processor),
        per_gibibyte(processor),
    );
    Ok(vec![
        match case.rate {
            Some(goal) => rate.at_least(Of::Ratio, goal),
            None => rate,
        },
        single("bytes lost", Unit::Bytes, float(lost)).at_most(Of::Ours, 0.0),
        match case.processor {
            Some(goal) => processor.at_most(Of::Ours, goal),
            None => processor,
        },
        single("peak resident memory of the frontend", Unit::Bytes, float(procfs::peak(daemon.pid())?)),
    ])
}

/// One flood through the daemon, every byte checked. How long it took.
pub(crate) fn receive(client: &mut Client, file: &Path, checker: &mut Checker) -> Result<Duration> {
    let begin = Instant::now();
    client.start("flood", file)?;
    loop {
        match client.next()?.body {
            Body::Started => {}
            Body::Output(text) => unescape(text, |piece| checker.feed(piece))?,
            Body::Stopped(0) => return Ok(begin.elapsed()),
            Body::Stopped(code) => return Err(format!("the flood ended with {code}").into()),
            Body::Error(text) => return Err(text.into()),
        }
    }
}

fn slow_reader(bench: &Bench) -> Result<Vec<Row>> {
    let daemon = bench.daemon()?;
    let lines = bench.pick(SLOW_LINES.0, SLOW_LINES.1);
    let mut client = Client::connect(&daemon, false)?;
    // What the first run makes the frontend keep for good is not the slow reader's doing.
    receive(&mut client, &bench.place.flood(Kind::Ascii, 1)?, &mut Checker::new(Kind::Ascii, false))?;
    procfs::reset_peak(daemon.pid())?;
    let before = procfs::resident(daemon.pid())?;
    let (mut shares, before_all) = (0, procfs::pss(&daemon.processes())?);
    let mut looked = Instant::now();
    let mut checker = Checker::new(Kind::Ascii, false);
    let begin = Instant::now();
    client.start("flood", &bench.place.flood(Kind::Ascii, lines)?)?;
    loop {
        match client.next()?.body {
            Body::Started => {}
            Body::Output(text) => unescape(text, |piece| checker.feed(piece))?,
            Body::Stopped(_) => break,
            Body::Error(text) => return Err(text.into()),
        }
        let due = Duration::from_secs_f64(float(checker.position()) / SLOW_RATE);
        if begin.elapsed() < bench.pick(SLOW_TIME.0, SLOW_TIME.1) {
            pause(due.saturating_sub(begin.elapsed()));
            if looked.elapsed() > LOOK {
                looked = Instant::now();
                shares = shares.max(procfs::pss(&daemon.processes())?);
            }
        }
    }
    let growth = procfs::peak(daemon.pid())?.saturating_sub(before);
    let growth_of_all = shares.saturating_sub(before_all);
    let lost = checker.lost(checker.expected(lines));
    let name = "client that reads 1 MiB/s";
    let row = |metric: &str, value| {
        Row::ours(format!("{name}: {metric}"), Unit::Bytes, Some(Figure::single(float(value))))
    };
    Ok(vec![
        row("growth of the frontend at its peak", growth).at_most(Of::Ours, 1_048_576.0),
        row("growth of all our processes (PSS)", growth_of_all).at_most(Of::Ours, 524_288.0),
        row("bytes lost", lost).at_most(Of::Ours, 0.0),
    ])
}
