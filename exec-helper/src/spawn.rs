//! Between the two processes of a run. Both are there before anything is asked, so that nobody waits for a fork: the
//! **launcher** reads the request and becomes the program; its parent, the **watcher**, gives root up at once and sees to
//! the program's life.
//!
//! They share a socket that closes on exec. The launcher says what it is about to become, with the frontend's ends of the
//! streams. Then comes the end of the file, when it is the program, or the event of the step that did not work.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Instant,
};

use further_link_proto::{CodeLength, Connection, Event, ExitStatus, Run, SocketError, Step};
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rustix::pipe::{PipeFlags, pipe_with};
use tracing::{error, warn};

use crate::{
    account::Account,
    check::Permitted,
    demote::Owner,
    environment::Variable,
    handoff::{self, Handoff},
    launch::{self, Failure, Text},
    plan::Plan,
    reap::{self, Reaped},
    stdio::{self, Streams},
    sys,
    watch::{Inputs, KILL_LIMIT, WatchError},
};

/// The launcher's end.
pub(crate) struct Launcher(Connection);

/// The watcher's end.
pub(crate) struct Watcher {
    launcher: Connection,
    pid: Pid,
}

/// A program on its way, as the watcher knows it.
pub(crate) struct Spawned {
    pub(crate) handoff: Handoff,
    /// The frontend's ends of the streams, and the socket of the user channel.
    pub(crate) streams: Vec<OwnedFd>,
    /// The helper was told to end meanwhile.
    pub(crate) told_to_end: bool,
}

/// How the launch goes on.
pub(crate) struct Progress {
    launcher: Connection,
    pub(crate) pid: Pid,
}

/// Forks the launcher, which runs `launcher` and exits with its code, unless it becomes a program.
pub(crate) fn fork(launcher: impl FnOnce(Launcher) -> u8) -> io::Result<Watcher> {
    let (of_watcher, of_launcher) = further_link_proto::pair()?;
    let watched = of_watcher.as_fd();
    let pid = sys::fork(|| {
        sys::close_in_child(watched);
        launcher(Launcher(of_launcher))
    })?;
    Ok(Watcher { launcher: of_watcher, pid })
}

/// Ends the launcher, and all that it may have left.
pub(crate) fn abandon() {
    if !reap::kill_all(Instant::now() + KILL_LIMIT, |_, _| {}) {
        error!("processes are left: stuck in the kernel, or held by a tracer");
    }
}

/// Makes what a program needs, once for nobody.
pub(crate) fn rehearse(permitted: &Permitted<Run>, plan: &Plan) {
    let (Ok(_) | Err(_)) = make(permitted.account(), permitted.request(), plan);
}

impl Launcher {
    /// Becomes the program. Returns if it did not: the failure has been said.
    pub(crate) fn launch(
        self,
        frontend: &Connection,
        permitted: &Permitted<Run>,
        plan: &Plan,
        passed: &[Variable],
    ) -> Result<(), SocketError> {
        let (account, run) = (permitted.account(), permitted.request());
        let handoff = Handoff {
            owner: Owner::of(account),
            runner: run.runner.name().to_owned(),
            terminal: run.terminal.is_some(),
            origin: run.identity.origin,
            temporary: plan.temporary.clone(),
        };
        let made = match make(account, run, plan) {
            Ok(made) => made,
            Err(error) => {
                // The watcher knows of nothing yet.
                let failure = Failure::new(Step::Streams, &error);
                warn!(user = account.name, runner = run.runner.name(), outcome = %failure.reason(), "not started");
                return frontend.send(&failure.event());
            }
        };
        let mut ends: Vec<_> = made.streams.ours.iter().map(AsFd::as_fd).collect();
        ends.push(made.channel.as_fd());
        if let Err(error) = self.0.send_with(&handoff.to_wire(), &ends) {
            // An account with thousands of groups: the watcher could not be told whose run it is.
            frontend.send(&Failure::new(Step::Streams, &Errno::E2BIG.into()).event())?;
            return Err(error);
        }
        drop(made.streams.ours);
        let text = made.text.map(|(text, writing_end)| {
            // The writing end is closed here, or the end of the text would never be seen.
            frontend.send_with(&Event::Data, &[writing_end.as_fd()]).map(|()| text)
        });
        let failure = match text.transpose() {
            Ok(text) => {
                let theirs = &made.streams.theirs;
                let Err(failure) = launch::launch(account, plan, theirs, &made.channel, text, passed);
                failure
            }
            Err(error) => Failure::new(Step::Streams, &io::Error::other(error)),
        };
        self.0.send(&failure.event())
    }
}

/// What a program gets its input and output through.
struct Made {
    streams: Streams,
    /// Listened on after this process has become the user, so that it is the user's.
    channel: OwnedFd,
    /// Where the program text comes from, and where the frontend writes it.
    text: Option<(Text, OwnedFd)>,
}

fn make(account: &Account, run: &Run, plan: &Plan) -> io::Result<Made> {
    let streams = stdio::open(run.terminal, account.uid)?;
    let channel = stdio::channel()?;
    let length = run.code.filter(|_| plan.temporary.entrypoint.is_some()).map(CodeLength::bytes);
    let text = length.map(|length| -> io::Result<_> {
        let (pipe, writing_end) = pipe_with(PipeFlags::CLOEXEC)?;
        Ok((Text { pipe, length }, writing_end))
    });
    Ok(Made { streams, channel, text: text.transpose()? })
}

impl Watcher {
    /// Waits for the launcher's word. None if it becomes no program: it is an upload, or was refused, or nobody asked for
    /// anything. Told to end, it tells the launcher.
    pub(crate) fn wait(&self, inputs: &Inputs<'_>) -> Result<Option<Spawned>, WatchError> {
        let mut told_to_end = false;
        loop {
            let ready = inputs.wait_for(Some(self.launcher.as_fd()))?;
            if ready.signal && inputs.told_to_end()? {
                told_to_end = true;
                self.tell_to_end();
            }
            if ready.report {
                return match self.launcher.recv_with::<handoff::Wire>() {
                    Ok((wire, streams)) => Ok(Some(Spawned { handoff: wire.into(), streams, told_to_end })),
                    Err(SocketError::Closed) => Ok(None),
                    Err(error) => Err(error.into()),
                };
            }
        }
    }

    /// Waits for the end of one that becomes no program, and ends what it has left behind.
    pub(crate) fn wait_for_end(&self, inputs: &Inputs<'_>) -> Result<(), WatchError> {
        loop {
            match reap::reap() {
                Reaped::Child(pid, status) if pid == self.pid => {
                    if let ExitStatus::Signaled(signal) = status {
                        warn!(signal, "a helper was killed");
                    }
                    // The second process of an upload, should the first have been killed.
                    abandon();
                    return Ok(());
                }
                Reaped::Child(..) => {}
                Reaped::NoChildren => return Ok(()),
                Reaped::Nothing => {
                    if inputs.wait_for(None)?.signal && inputs.told_to_end()? {
                        self.tell_to_end();
                    }
                }
            }
        }
    }

    fn tell_to_end(&self) {
        // ESRCH cannot be: it is unreaped.
        let (Ok(()) | Err(_)) = kill(self.pid, Signal::SIGTERM);
    }

    /// From the launcher's word on.
    pub(crate) fn into_progress(self) -> Progress {
        Progress { launcher: self.launcher, pid: self.pid }
    }
}

impl Progress {
    /// Call it when readable: the `Failed` to report, or nothing if the launcher is the program now.
    pub(crate) fn failure(&self) -> Option<Event> {
        match self.launcher.recv::<Event>() {
            Ok(event) => Some(event),
            Err(SocketError::Closed) => None,
            Err(error) => Some(Failure::new(Step::Fork, &io::Error::other(error)).event()),
        }
    }
}

impl AsFd for Progress {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.launcher.as_fd()
    }
}
