//! Echo and throughput over TLS, beside the same without.

use further_link_benches::pattern::Kind;

use crate::{
    Result,
    bench::Bench,
    check::Checker,
    client::Client,
    daemon::Daemon,
    echo::Echo,
    report::{Of, Row, Unit},
    sample::{Figure, float, in_turn},
    throughput::receive,
};

/// 64 MiB and 16 MiB.
const LINES: (u64, u64) = (1 << 20, 1 << 18);

/// The case.
pub(crate) fn measure(bench: &mut Bench) {
    bench.case("TLS", |bench| {
        match Daemon::start(&bench.binaries, &bench.place, true) {
            Ok(encrypted) => compare(bench, &bench.daemon()?, &encrypted),
            // A build without it says so and ends.
            Err(error) => Ok(vec![Row::without("TLS", &format!("not available ({error})"))]),
        }
    });
}

fn compare(bench: &Bench, plain: &Daemon, encrypted: &Daemon) -> Result<Vec<Row>> {
    let mut echoes = (Echo::start(plain, &bench.place, true)?, Echo::start(encrypted, &bench.place, true)?);
    let (without, with) =
        in_turn(bench.pick(5000, 500), bench.limit(), || echoes.0.byte(b'x'), || echoes.1.byte(b'x'))?;
    drop(echoes);
    let echo = (Figure::of_times(without), Figure::of_times(with));
    let lines = bench.pick(LINES.0, LINES.1);
    let file = bench.place.flood(Kind::Ascii, lines)?;
    let mut clients = (Client::connect(plain, false)?, Client::connect(encrypted, false)?);
    let mut lost = 0;
    let expected = Checker::new(Kind::Ascii, false).expected(lines);
    let flood = |client: &mut Client| {
        let mut checker = Checker::new(Kind::Ascii, false);
        let took = receive(client, &file, &mut checker)?;
        Ok((float(expected) / took.as_secs_f64(), checker.lost(expected)))
    };
    let (without, with) = in_turn(
        bench.pick(5, 3),
        bench.limit(),
        || flood(&mut clients.0).map(|(rate, _)| rate),
        || {
            let (rate, missing) = flood(&mut clients.1)?;
            lost += missing;
            Ok(rate)
        },
    )?;
    let rate = (Figure::of(without), Figure::of(with));
    let lost = Some(Figure::single(float(lost)));
    Ok(vec![
        Row::both("TLS: pty echo (beside plain)", Unit::Seconds, echo.0, echo.1).at_most(Of::Ratio, 1.3),
        Row::both("TLS: flood by pipe (beside plain)", Unit::BytesPerSecond, rate.0, rate.1)
            .at_least(Of::Ratio, 0.5),
        Row::ours("TLS: bytes lost", Unit::Bytes, lost).at_most(Of::Ours, 0.0),
    ])
}
