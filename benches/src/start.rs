//! How long the daemon needs until it listens.

use std::time::Instant;

use crate::{
    Result,
    bench::Bench,
    report::{Of, Row, Unit},
    sample::Figure,
};

/// What a classroom's device does not notice at boot.
const GOAL: f64 = 0.015;

/// The case.
pub(crate) fn measure(bench: &mut Bench) {
    bench.case("start to listening", |bench| {
        let end = Instant::now() + bench.limit();
        let mut times = Vec::new();
        while times.len() < bench.pick(30, 10) && Instant::now() < end {
            times.push(bench.daemon()?.took);
        }
        rows(times)
    });
}

fn rows(times: Vec<std::time::Duration>) -> Result<Vec<Row>> {
    let figure = Figure::of_times(times).ok_or("no samples")?;
    Ok(vec![Row::ours("start to listening", Unit::Seconds, Some(figure)).at_most(Of::Ours, GOAL)])
}
