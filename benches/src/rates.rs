//! Runs per second with several at once: so many threads, each of which runs `/bin/true` again and again,
//! over a connection of its own or bare.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    Result,
    bare::Program,
    bench::Bench,
    client::{Client, exec_message},
    daemon::Daemon,
    peer::Peer,
    report::{Of, Row, Unit},
    sample::{Figure, count, in_turn},
};

/// One turn.
const TURN: Duration = Duration::from_millis(700);
/// How many at once.
const AT_ONCE: [usize; 2] = [8, 32];

/// The cases.
pub(crate) fn measure(bench: &mut Bench) {
    for at_once in AT_ONCE {
        let name = format!("/bin/true, {at_once} at once");
        bench.case(&name, |bench| one(bench, at_once, &name));
    }
}

/// What one thread has done.
#[derive(Clone, Copy, Default)]
struct Done {
    runs: usize,
    failed: usize,
}

fn one(bench: &Bench, at_once: usize, name: &str) -> Result<Vec<Row>> {
    let daemon = bench.daemon()?;
    let mut failed = 0;
    let program = Program::new(&bench.place, Path::new("/bin/true"));
    let peer = Peer::start(&["/bin/true".as_ref()])?;
    let mut of_peer = Vec::new();
    let (bare, ours) = in_turn(
        bench.pick(7, 3),
        bench.limit(),
        || {
            let (rate, _) = turn(vec![&program; at_once], |program| program.run(false, b"").map(|_| ()))?;
            Ok(rate)
        },
        || {
            if let Some(peer) = &peer {
                of_peer.push(turn(vec![peer; at_once], |peer| peer.run(b"").map(|_| ()))?.0);
            }
            let message = exec_message("1", Path::new("/bin/true"))?;
            let clients = connect(&daemon, at_once)?;
            let (rate, failures) = turn(clients, |client| client.run(&message, b"").map(|_| ()))?;
            failed += failures;
            Ok(rate)
        },
    )?;
    let rates = Row::both(format!("{name}: rate"), Unit::RunsPerSecond, Figure::of(bare), Figure::of(ours))
        .beside(Figure::of(of_peer));
    let failed = Row::ours(format!("{name}: failed"), Unit::Count, Some(Figure::single(count(failed))));
    let rates = if at_once == 32 { rates.at_least(Of::Ratio, 0.5) } else { rates };
    Ok(vec![rates, failed.at_most(Of::Ours, 0.0)])
}

fn connect(daemon: &Daemon, number: usize) -> Result<Vec<Client>> {
    (0..number).map(|_| Client::connect(daemon, false)).collect()
}

/// A thread for each of `all` that repeats `run` until the turn is over. Runs per second, and how many
/// failed.
fn turn<T: Send>(all: Vec<T>, run: impl Fn(&mut T) -> Result<()> + Sync) -> Result<(f64, usize)> {
    let begin = Instant::now();
    let repeat = |mut one: T| {
        let mut done = Done::default();
        while begin.elapsed() < TURN {
            match run(&mut one) {
                Ok(()) => done.runs += 1,
                Err(error) => {
                    eprintln!("a run failed: {error}");
                    done.failed += 1;
                }
            }
        }
        done
    };
    let done = std::thread::scope(|scope| {
        let threads: Vec<_> = all.into_iter().map(|one| scope.spawn(|| repeat(one))).collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| "a thread panicked")).collect::<Vec<_>>()
    });
    let took = begin.elapsed().as_secs_f64();
    let done = done.into_iter().collect::<std::result::Result<Vec<_>, _>>()?;
    let runs: usize = done.iter().map(|done| done.runs).sum();
    Ok((count(runs) / took, done.iter().map(|done| done.failed).sum()))
}
