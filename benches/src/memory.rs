//! What the daemon needs while it does nothing: memory, threads, descriptors, processor time; at rest, with a
//! thousand connections, with two hundred programs that sleep, and after all of them have gone.

use std::time::{Duration, Instant};

use crate::{
    Result,
    bench::Bench,
    client::Client,
    daemon::Daemon,
    message::Body,
    pause, procfs,
    report::{Of, Row, Unit},
    sample::{Figure, count, float},
};

const CONNECTIONS: usize = 1000;
const PROGRAMS: usize = 200;
/// Fewer than the daemon allows on one connection.
const PROGRAMS_EACH: usize = 50;
/// After connecting, starting or closing, until the daemon has come to rest.
const REST: Duration = Duration::from_millis(500);
/// Until the processes of programs that were ended have gone.
const GONE_LIMIT: Duration = Duration::from_secs(10);

/// The cases.
pub(crate) fn measure(bench: &mut Bench) {
    bench.case("memory, idle", idle);
    bench.case("memory, idle connections", connections);
    bench.case("memory, sleeping programs", programs);
}

fn one(metric: impl Into<String>, unit: Unit, value: f64) -> Row {
    Row::ours(metric, unit, Some(Figure::single(value)))
}

fn ours(daemon: &Daemon) -> Result<u64> {
    procfs::pss(&daemon.processes())
}

fn idle(bench: &Bench) -> Result<Vec<Row>> {
    let daemon = bench.daemon()?;
    pause(REST);
    let processes = daemon.processes();
    let mut rows = vec![
        one("memory (PSS) of all our processes, idle", Unit::Bytes, float(procfs::pss(&processes)?))
            .at_most(Of::Ours, 4.0 * 1_048_576.0),
        one("our processes, idle", Unit::Count, count(processes.len())),
    ];
    for (process, name) in
        processes.into_iter().zip(["frontend", "helper", "spare (watcher)", "spare (launcher)"])
    {
        rows.extend([
            one(format!("{name}, idle: memory (PSS)"), Unit::Bytes, float(procfs::pss(&[process])?)),
            one(format!("{name}, idle: threads"), Unit::Count, count(procfs::threads(process.pid)?)),
            one(format!("{name}, idle: descriptors"), Unit::Count, count(procfs::descriptors(process.pid)?)),
        ]);
    }
    Ok(rows)
}

fn connections(bench: &Bench) -> Result<Vec<Row>> {
    let daemon = bench.daemon()?;
    let (before, descriptors) = (ours(&daemon)?, procfs::descriptors(daemon.pid())?);
    let clients = (0..CONNECTIONS).map(|_| Client::connect(&daemon, false)).collect::<Result<Vec<_>>>()?;
    pause(REST);
    let each = float(ours(&daemon)?.saturating_sub(before)) / count(CONNECTIONS);
    drop(clients);
    let left = left_over(&daemon, descriptors)?;
    Ok(vec![
        one(format!("memory (PSS) per idle WebSocket at {CONNECTIONS}"), Unit::Bytes, each)
            .at_most(Of::Ours, 8192.0),
        one(format!("descriptors left after {CONNECTIONS} connections"), Unit::Count, left)
            .at_most(Of::Ours, 0.0),
    ])
}

fn programs(bench: &Bench) -> Result<Vec<Row>> {
    let daemon = bench.daemon()?;
    let (before, descriptors) = (ours(&daemon)?, procfs::descriptors(daemon.pid())?);
    let mut clients = Vec::new();
    while clients.len() * PROGRAMS_EACH < PROGRAMS {
        let mut client = Client::connect(&daemon, false)?;
        for number in 0..PROGRAMS_EACH {
            client.start(&number.to_string(), &bench.place.sleep())?;
            let Body::Started = client.next()?.body else { return Err("a program did not start".into()) };
        }
        clients.push(client);
    }
    pause(REST);
    let processes = daemon.processes();
    let each = float(procfs::pss(&processes)?.saturating_sub(before)) / count(PROGRAMS);
    let descriptors_each =
        count(procfs::descriptors(daemon.pid())?.saturating_sub(descriptors)) / count(PROGRAMS);
    let processor =
        || -> Result<Duration> { processes.iter().map(|process| procfs::processor_time(process.pid)).sum() };
    let (begin, used) = (Instant::now(), processor()?);
    pause(bench.pick(Duration::from_secs(5), Duration::from_secs(2)));
    let used = processor()?.saturating_sub(used);
    let percent = used.as_secs_f64() / begin.elapsed().as_secs_f64() * 100.0;
    drop(clients);
    let left = left_over(&daemon, descriptors)?;
    Ok(vec![
        one(format!("memory (PSS) per running program at {PROGRAMS}, with its helper"), Unit::Bytes, each)
            .at_most(Of::Ours, 150.0 * 1024.0),
        one("frontend's descriptors per running program", Unit::Count, descriptors_each),
        one(format!("CPU of our processes while {PROGRAMS} programs sleep"), Unit::Percent, percent)
            .at_most(Of::Ours, 0.0),
        one(format!("descriptors left after {PROGRAMS} programs"), Unit::Count, left).at_most(Of::Ours, 0.0),
    ])
}

/// How many descriptors more than `before` the frontend still has once all has had time to go.
fn left_over(daemon: &Daemon, before: usize) -> Result<f64> {
    let end = Instant::now() + GONE_LIMIT;
    loop {
        let left = procfs::descriptors(daemon.pid())?.saturating_sub(before);
        if left == 0 || Instant::now() > end {
            return Ok(count(left));
        }
        pause(Duration::from_millis(10));
    }
}
