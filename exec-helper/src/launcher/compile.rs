//! The stage before a run: the compiler, a child of this process, which waits for it and then becomes what it
//! has made. All of it as the user.

use std::{
    convert::Infallible,
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, BorrowedFd},
    path::Path,
    process,
    time::Instant,
};

use further_link_proto::{Connection, Step};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, poll},
    unistd::Pid,
};
use rustix::{
    io::fcntl_dupfd_cloexec,
    pipe::{PipeFlags, pipe_with},
    process::{PidfdFlags, Signal, WaitOptions, WaitStatus, pidfd_open, pidfd_send_signal, waitpid},
};

use super::{compiled::Compiled, environment::Variable, execute, relay::Relay};
use crate::{
    handoff::WireReport,
    identity::IsUser,
    inputs,
    plan::{Program, Stage},
    step_error::StepError,
    sys,
};

/// The exit code of a run whose compiler took too long (timeout(1)).
const TIMED_OUT: i32 = 124;
/// What a shell adds to the number of a signal.
const BY_SIGNAL: i32 = 128;
/// The exit code of a command that could not be executed (sh(1)).
const NOT_EXECUTED: u8 = 127;

/// Has the program compiled, or takes what was made before. Returns if that went well; else this process ends
/// with the compiler's exit code.
pub(crate) fn compile(
    user: IsUser,
    watcher: &Connection,
    stage: &Stage,
    on_terminal: bool,
    environment: &[Variable],
    home: &Path,
) -> Result<(), StepError> {
    let (searched, file) = match &stage.program {
        Program::Search(name) => (Some(name), None),
        Program::File(file) | Program::Script(file) => (None, Some(file.clone())),
    };
    let needed = stage.requires.iter().chain(searched);
    let found = needed.map(|name| execute::find(name, environment)).collect::<Option<Vec<_>>>();
    let mut programs = found.ok_or_else(|| StepError::new(Step::FindProgram, &Errno::ENOENT.into()))?;
    programs.extend(file);
    let earlier = Compiled::of(user, stage, &programs, environment, home);
    let at = |error: io::Error| StepError::new(Step::Streams, &error);
    let made_before = earlier.as_ref().and_then(Compiled::fetch);
    // A compiler that has nothing to do and had nothing to say is none to hear of.
    if made_before.as_ref().is_some_and(Vec::is_empty) {
        return Ok(());
    }
    let mut output = tell(watcher, on_terminal).map_err(at)?;
    if let Some(words) = made_before {
        return output.write_all(&words).map_err(at);
    }
    let name = stage.name;
    let (ended, words) = run(user, stage, &output, environment, earlier.is_some());
    let (code, last_words) = match ended {
        Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
            (Some(0), _) => {
                if let Some((earlier, words)) = earlier.zip(words) {
                    earlier.store(words);
                }
                return Ok(());
            }
            (Some(code), _) => (code, None),
            (None, signal) => {
                let signal = signal.unwrap_or_default();
                (BY_SIGNAL + signal, Some(format!("{name} was ended by signal {signal}")))
            }
        },
        Ok(None) => {
            let seconds = stage.limit.as_secs();
            (TIMED_OUT, Some(format!("{name} took longer than {seconds} seconds, and was ended")))
        }
        Err(error) => (1, Some(format!("cannot run {name}: {error}"))),
    };
    if let Some(words) = last_words {
        // Where the compiler says it: the run is under way.
        let (Ok(()) | Err(_)) = output.write_all(format!("further-link: {words}\n").as_bytes());
    }
    process::exit(code)
}

/// Tells the watcher that the program is compiled first. Where the compiler says something: on the terminal,
/// or into a pipe whose other end the frontend gets.
fn tell(watcher: &Connection, on_terminal: bool) -> io::Result<File> {
    if on_terminal {
        watcher.send(&WireReport::Compiling).map_err(io::Error::other)?;
        return Ok(fcntl_dupfd_cloexec(rustix::stdio::stdout(), 0)?.into());
    }
    let (reading, writing) = pipe_with(PipeFlags::CLOEXEC)?;
    watcher.send_with(&WireReport::Compiling, &[reading.as_fd()]).map_err(io::Error::other)?;
    Ok(writing.into())
}

/// Runs the compiler. How it has ended, if in time, and a copy of what it said.
fn run(
    user: IsUser,
    stage: &Stage,
    output: &File,
    environment: &[Variable],
    with_copy: bool,
) -> (io::Result<Option<WaitStatus>>, Option<Vec<u8>>) {
    let relay = if with_copy { Relay::new(output).map(Some) } else { Ok(None) };
    let (mut relay, compilers) = match relay {
        Ok(relay) => relay.unzip(),
        Err(error) => return (Err(error), None),
    };
    let child = sys::fork(|| {
        let output = compilers.as_ref().map_or(output.as_fd(), AsFd::as_fd);
        let Err(error) = become_compiler(user, stage, output, environment);
        eprintln!("further-link: cannot execute {}: {error}", stage.name);
        NOT_EXECUTED
    });
    drop(compilers);
    let ended = child.and_then(|child| wait(child, Instant::now() + stage.limit, relay.as_mut()));
    match relay.map(Relay::finish).transpose() {
        Ok(copy) => (ended, copy.flatten()),
        Err(error) => (ended.and(Err(error)), None),
    }
}

/// Turns the child into the compiler, which has no input.
fn become_compiler(
    _: IsUser,
    stage: &Stage,
    output: BorrowedFd<'_>,
    environment: &[Variable],
) -> io::Result<Infallible> {
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    rustix::stdio::dup2_stdout(output)?;
    rustix::stdio::dup2_stderr(output)?;
    execute::program(&stage.program, &stage.args, environment)
}

/// Waits for the child's end, and passes on what it says. None if the end has not come in time, and it was
/// killed.
fn wait(child: Pid, until: Instant, mut relay: Option<&mut Relay>) -> io::Result<Option<WaitStatus>> {
    let raw = rustix::process::Pid::from_raw(child.as_raw()).ok_or(Errno::ESRCH)?;
    let process = pidfd_open(raw, PidfdFlags::empty())?;
    let mut in_time = true;
    while in_time {
        let mut polled = vec![PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        polled.extend(relay.as_ref().and_then(|relay| relay.awaited()));
        match poll(&mut polled, inputs::timeout(Some(until))) {
            Ok(0) => in_time = until > Instant::now(),
            Ok(_) if polled.first().and_then(PollFd::any) == Some(true) => break,
            Ok(_) => {
                if let Some(relay) = &mut relay {
                    relay.step()?;
                }
            }
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        in_time = in_time && until > Instant::now();
    }
    if !in_time {
        pidfd_send_signal(&process, Signal::KILL)?;
    }
    let ended = waitpid(Some(raw), WaitOptions::empty())?;
    Ok(ended.map(|(_, status)| status).filter(|_| in_time))
}
