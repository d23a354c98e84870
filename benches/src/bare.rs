//! The same work without any server: fork and exec with pipes or a terminal of its own, read to the end,
//! wait.

use std::{
    ffi::OsString,
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use pty_process::blocking::Pty;
use rustix::time::{ClockId, clock_gettime};

use crate::{Result, check::Checker, place::Place};

/// Read at once: what a pipe holds.
const PIECE: usize = 64 * 1024;
/// As the daemon's terminals before the first resize.
const SIZE: (u16, u16) = (4, 60);

/// When the moments of one run came, counted from the wish to start it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// The program is executed.
    pub(crate) started: Duration,
    /// Its first output is there.
    pub(crate) first: Option<Duration>,
    /// All output is there, and the exit code.
    pub(crate) stopped: Duration,
}

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) file: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    directory: PathBuf,
}

impl Program {
    pub(crate) fn new(place: &Place, file: &Path) -> Self {
        Self { file: file.to_owned(), arguments: Vec::new(), directory: place.temp() }
    }

    /// As many variables as the daemon's programs get.
    fn environment(&self) -> Vec<(&'static str, OsString)> {
        let mut all: Vec<(&str, OsString)> = [
            ("HOME", "/root"),
            ("USER", "root"),
            ("LOGNAME", "root"),
            ("SHELL", "/bin/bash"),
            ("TERM", "xterm-256color"),
            ("PATH", "/usr/bin:/bin"),
            ("LANG", "C.UTF-8"),
        ]
        .map(|(name, value)| (name, value.into()))
        .into();
        all.push(("PWD", self.directory.clone().into()));
        all
    }

    pub(crate) fn with_pipes(&self) -> Result<Child> {
        let mut command = Command::new(&self.file);
        command.args(&self.arguments).env_clear().envs(self.environment()).current_dir(&self.directory);
        Ok(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
    }

    pub(crate) fn on_terminal(&self) -> Result<(Child, Pty)> {
        let (leader, follower) = pty_process::blocking::open()?;
        leader.resize(pty_process::Size::new(SIZE.0, SIZE.1))?;
        let command = pty_process::blocking::Command::new(&self.file).args(&self.arguments).env_clear();
        let child = command.envs(self.environment()).current_dir(&self.directory).spawn(follower)?;
        Ok((child, leader))
    }

    /// Runs it once and compares its output.
    pub(crate) fn run(&self, terminal: bool, expected: &[u8]) -> Result<Times> {
        let begin = Instant::now();
        let mut output = Vec::new();
        let mut first = None;
        let mut note = |piece: &[u8]| {
            first = first.or_else(|| Some(begin.elapsed()));
            output.extend_from_slice(piece);
        };
        let (mut child, started);
        if terminal {
            let leader;
            (child, leader) = self.on_terminal()?;
            started = begin.elapsed();
            read_all(&leader, &mut note)?;
        } else {
            child = self.with_pipes()?;
            started = begin.elapsed();
            read_all(child.stdout.take().ok_or("no stdout")?, &mut note)?;
            read_all(child.stderr.take().ok_or("no stderr")?, &mut note)?;
        }
        let status = child.wait()?;
        let stopped = begin.elapsed();
        if !status.success() || output != expected {
            return Err(format!("bare: {status}, output {:?}", String::from_utf8_lossy(&output)).into());
        }
        Ok(Times { started, first, stopped })
    }

    /// Runs a flood and checks every byte. How long it took.
    pub(crate) fn flood(&self, terminal: bool, checker: &mut Checker) -> Result<Duration> {
        let begin = Instant::now();
        self.read_flood(terminal, |piece| {
            checker.feed(piece);
            Ok(())
        })?;
        Ok(begin.elapsed())
    }

    /// The least that a server does with a flood: a thread that reads it, and writes what it has read to a
    /// connection of the loopback, whose other end checks every byte. The processor time of that thread.
    pub(crate) fn relay(&self, terminal: bool, checker: &mut Checker) -> Result<Duration> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let mut to_client = TcpStream::connect(listener.local_addr()?)?;
        let (client, _) = listener.accept()?;
        std::thread::scope(|scope| {
            let server = scope.spawn(move || {
                self.read_flood(terminal, |piece| Ok(to_client.write_all(piece)?))
                    .map_err(|e| e.to_string())?;
                Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).map_err(|e| e.to_string())
            });
            let received = read_all(client, |piece| checker.feed(piece));
            let processor_time: std::result::Result<_, String> =
                server.join().map_err(|_| "the relay panicked")?;
            received.and(Ok(processor_time?))
        })
    }

    fn read_flood(&self, terminal: bool, piece: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut child;
        if terminal {
            let leader;
            (child, leader) = self.on_terminal()?;
            try_read_all(&leader, piece)?;
        } else {
            child = self.with_pipes()?;
            try_read_all(child.stdout.take().ok_or("no stdout")?, piece)?;
        }
        child.wait()?;
        Ok(())
    }
}

/// Reads to the end, which is EIO on a terminal (pty(7)).
pub(crate) fn read_all(from: impl Read, mut piece: impl FnMut(&[u8])) -> Result<()> {
    try_read_all(from, |bytes| {
        piece(bytes);
        Ok(())
    })
}

fn try_read_all(mut from: impl Read, mut piece: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut buffer = vec![0; PIECE];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => piece(buffer.get(..length).unwrap_or_default())?,
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// A program that answers each byte with the same, ended when dropped.
pub(crate) struct Echo {
    child: Child,
    input: Box<dyn Write>,
    output: Box<dyn Read>,
}

impl Echo {
    /// Starts it and waits until it is ready.
    pub(crate) fn start(place: &Place, terminal: bool) -> Result<Self> {
        let program = Program::new(place, &place.echo(terminal));
        let mut echo = if terminal {
            let (child, leader) = program.on_terminal()?;
            let output = std::fs::File::from(leader.as_fd().try_clone_to_owned()?);
            Self { child, input: Box::new(leader), output: Box::new(output) }
        } else {
            let mut child = program.with_pipes()?;
            let (input, output) = (child.stdin.take(), child.stdout.take());
            let (Some(input), Some(output)) = (input, output) else { return Err("bare: no pipes".into()) };
            Self { child, input: Box::new(input), output: Box::new(output) }
        };
        let mut all = Vec::new();
        while !all.ends_with(b"ready\n") {
            let mut byte = [0; 1];
            echo.output.read_exact(&mut byte)?;
            all.extend_from_slice(&byte);
        }
        Ok(echo)
    }

    /// The way of one byte to the program and back.
    pub(crate) fn byte(&mut self, byte: u8) -> Result<Duration> {
        let begin = Instant::now();
        self.input.write_all(&[byte])?;
        let mut answer = [0; 1];
        self.output.read_exact(&mut answer)?;
        let took = begin.elapsed();
        if answer == [byte] { Ok(took) } else { Err("bare: another byte came back".into()) }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("bare echo: {error}");
        }
    }
}
