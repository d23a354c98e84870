//! One program after the other, over pipes and on a terminal: when it is started, when its first output
//! comes, when it has stopped. The spare helper is ready each time.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    Result,
    bare::{Program, Times},
    bench::Bench,
    client::{Client, code_message, exec_message},
    daemon::SPARE_PAUSE,
    pause,
    peer::Peer,
    report::{Of, Row, Unit},
    sample::{Figure, in_turn},
};

/// As a client sends it.
const PYTHON: &str = "print('hello')\n";

/// What is run.
#[derive(Clone, Copy)]
enum What {
    /// It does nothing at all.
    True,
    /// It prints a line.
    Hello,
    /// The same as text for python.
    Python,
}

/// The cases.
pub(crate) fn measure(bench: &mut Bench) {
    for (what, name) in
        [(What::True, "/bin/true"), (What::Hello, "native hello"), (What::Python, "python3 hello")]
    {
        for (terminal, where_to) in [(false, "pipe"), (true, "pty")] {
            let name = format!("{name}, {where_to}");
            bench.case(&name, |bench| one(bench, what, terminal, &name));
        }
    }
}

fn one(bench: &Bench, what: What, terminal: bool, name: &str) -> Result<Vec<Row>> {
    let daemon = bench.daemon()?;
    let mut client = Client::connect(&daemon, terminal)?;
    let (message, expected) = what.for_server(bench, terminal)?;
    let count = match what {
        What::Python => bench.pick(200, 50),
        What::True | What::Hello => bench.pick(1000, 100),
    };
    let peer = if terminal { None } else { what.peer(bench)? };
    let mut of_peer = Vec::new();
    let (bare, ours) = in_turn(
        count,
        bench.limit(),
        || what.bare(bench, terminal, expected),
        || {
            if let Some(peer) = &peer {
                of_peer.push(peer.run(expected)?);
            }
            pause(SPARE_PAUSE);
            client.run(&message, expected)
        },
    )?;
    Ok(what.rows(terminal, name, [&bare, &ours, &of_peer]))
}

impl What {
    fn for_server(self, bench: &Bench, terminal: bool) -> Result<(String, &'static [u8])> {
        let hello: &[u8] = if terminal { b"hello\r\n" } else { b"hello\n" };
        Ok(match self {
            Self::True => (exec_message("1", Path::new("/bin/true"))?, &b""[..]),
            Self::Hello => (exec_message("1", &bench.place.program())?, hello),
            Self::Python => (code_message("1", PYTHON)?, hello),
        })
    }

    fn peer(self, bench: &Bench) -> Result<Option<Peer>> {
        match self {
            Self::True => Peer::start(&["/bin/true".as_ref()]),
            Self::Hello => Peer::start(&[bench.place.program().as_os_str()]),
            Self::Python => {
                let script = bench.place.temp().join("of-peer.py");
                fs::write(&script, PYTHON)?;
                Peer::start(&["/usr/bin/python3".as_ref(), "-u".as_ref(), script.as_os_str()])
            }
        }
    }

    fn bare(self, bench: &Bench, terminal: bool, expected: &[u8]) -> Result<Times> {
        let file = match self {
            Self::True => "/bin/true".into(),
            Self::Hello => bench.place.program(),
            Self::Python => "/usr/bin/python3".into(),
        };
        let mut program = Program::new(&bench.place, &file);
        if !matches!(self, Self::Python) {
            return program.run(terminal, expected);
        }
        // The daemon as well puts the text into a file in a directory of its own, and removes both.
        let begin = Instant::now();
        let private = bench.place.temp().join("bare");
        let script = private.join("main.py");
        fs::create_dir(&private)?;
        fs::write(&script, PYTHON)?;
        program.arguments = vec!["-u".into(), script.into()];
        let before = begin.elapsed();
        let times = program.run(terminal, expected)?;
        fs::remove_dir_all(&private)?;
        Ok(Times {
            started: before + times.started,
            first: times.first.map(|first| before + first),
            stopped: begin.elapsed(),
        })
    }

    fn rows(self, terminal: bool, name: &str, [bare, ours, peer]: [&[Times]; 3]) -> Vec<Row> {
        let row = |moment: &str, pick: fn(&Times) -> Option<Duration>| {
            let figure = |times: &[Times]| Figure::of_times(times.iter().filter_map(pick));
            // What a peer's client knows of a start is that it is connected.
            let peer = if moment == "started" { None } else { figure(peer) };
            let name = format!("{name}: start→{moment}");
            Row::both(name, Unit::Seconds, figure(bare), figure(ours)).beside(peer)
        };
        let mut started = row("started", |times| Some(times.started));
        let mut first = row("first output", |times| times.first);
        let mut stopped = row("stopped", |times| Some(times.stopped));
        match (self, terminal) {
            // 1 ms where bare is 0.25.
            (Self::True, false) => started = started.at_most(Of::RatioOfP99, 4.0),
            (Self::Hello, _) => stopped = stopped.at_most(Of::Ratio, 1.5),
            (Self::Python, false) => first = first.at_most(Of::Ratio, 1.1),
            (Self::True | Self::Python, true) => {}
        }
        let has_output = !matches!(self, Self::True);
        [Some(started), has_output.then_some(first), Some(stopped)].into_iter().flatten().collect()
    }
}
