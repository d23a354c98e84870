//! The stage before a run: the compiler, a child of this process, which waits for it and then becomes what it
//! has made. All of it as the user.

use std::{
    convert::Infallible,
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, OwnedFd},
    process,
    time::Instant,
};

use further_link_proto::{Connection, SocketError, Step};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, poll},
    unistd::Pid,
};
use rustix::{
    pipe::{PipeFlags, pipe_with},
    process::{PidfdFlags, Signal, WaitOptions, WaitStatus, pidfd_open, pidfd_send_signal, waitpid},
};

use super::{environment::Variable, execute};
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

/// Has the program compiled. Returns if that went well; else this process ends with the compiler's exit code.
pub(crate) fn compile(
    user: IsUser,
    watcher: &Connection,
    stage: &Stage,
    on_terminal: bool,
    environment: &[Variable],
) -> Result<(), StepError> {
    let compiler = match &stage.program {
        Program::Search(name) => Some(name),
        _ => None,
    };
    for program in stage.requires.iter().chain(compiler) {
        if execute::find(program, environment).is_none() {
            return Err(StepError::new(Step::FindProgram, &Errno::ENOENT.into()));
        }
    }
    let at = |error: io::Error| StepError::new(Step::Streams, &error);
    let name = stage.name;
    let output = if on_terminal { None } else { Some(pipe_with(PipeFlags::CLOEXEC)) };
    let (reading, writing) = output.transpose().map_err(|errno| at(errno.into()))?.unzip();
    let ends: Vec<_> = reading.iter().map(AsFd::as_fd).collect();
    let told: Result<(), SocketError> = watcher.send_with(&WireReport::Compiling, &ends);
    drop(reading);
    told.map_err(io::Error::other).map_err(at)?;
    let child = sys::fork(|| {
        let Err(error) = become_compiler(user, stage, writing.as_ref(), environment);
        eprintln!("further-link: cannot execute {name}: {error}");
        NOT_EXECUTED
    });
    let ended = child.and_then(|child| wait(child, Instant::now() + stage.limit));
    let (code, words) = match ended {
        Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
            (Some(0), _) => return Ok(()),
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
    if let Some(words) = words {
        // Where the compiler says it: the run is under way.
        let words = format!("further-link: {words}\n");
        let (Ok(()) | Err(_)) = match writing {
            Some(pipe) => File::from(pipe).write_all(words.as_bytes()),
            None => io::stderr().write_all(words.as_bytes()),
        };
    }
    process::exit(code)
}

/// Turns the child into the compiler, which has no input.
fn become_compiler(
    _: IsUser,
    stage: &Stage,
    output: Option<&OwnedFd>,
    environment: &[Variable],
) -> io::Result<Infallible> {
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    if let Some(output) = output {
        rustix::stdio::dup2_stdout(output)?;
        rustix::stdio::dup2_stderr(output)?;
    }
    execute::program(&stage.program, &stage.args, environment)
}

/// Waits for the child's end. None if that has not come in time, and it was killed.
fn wait(child: Pid, until: Instant) -> io::Result<Option<WaitStatus>> {
    let raw = rustix::process::Pid::from_raw(child.as_raw()).ok_or(Errno::ESRCH)?;
    let process = pidfd_open(raw, PidfdFlags::empty())?;
    let mut in_time = true;
    while in_time {
        match poll(&mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)], inputs::timeout(Some(until))) {
            Ok(0) => in_time = until > Instant::now(),
            Ok(_) => break,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    if !in_time {
        pidfd_send_signal(&process, Signal::KILL)?;
    }
    let ended = waitpid(Some(raw), WaitOptions::empty())?;
    Ok(ended.map(|(_, status)| status).filter(|_| in_time))
}
