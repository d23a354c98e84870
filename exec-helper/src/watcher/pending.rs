//! The time before the launcher is the program: waiting for its handoff, then for its reports. Called by the
//! watcher.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Instant,
};

use further_link_proto::{Connection, ExitStatus, SocketError, Step};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tracing::{error, warn};

use super::error::WatchError;
use crate::{
    handoff::{self, Handoff, Report, WireReport},
    inputs::EventSource,
    reap::{self, KILL_TIMEOUT, Reaped},
    step_error::StepError,
};

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
    pub(crate) terminate_requested: bool,
}

/// How the launch goes on.
pub(crate) struct Progress {
    launcher: Connection,
    pub(crate) pid: Pid,
}

/// Ends the launcher, and all that it may have left.
pub(crate) fn abandon() {
    if !reap::kill_all(Instant::now() + KILL_TIMEOUT, |_, _| {}) {
        error!("processes are left: stuck in the kernel, or held by a tracer");
    }
}

impl Watcher {
    pub(crate) fn new(launcher: Connection, pid: Pid) -> Self {
        Self { launcher, pid }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Waits for the launcher's word. None if it becomes no program: it is an upload, or was refused, or
    /// no request came. Told to end, it tells the launcher.
    pub(crate) fn wait(&self, inputs: &EventSource<'_>) -> Result<Option<Spawned>, WatchError> {
        let mut terminate_requested = false;
        loop {
            let ready = inputs.wait_for(Some(self.launcher.as_fd()))?;
            if ready.signal && inputs.terminate_requested()? {
                terminate_requested = true;
                self.pass_on_terminate();
            }
            if ready.report {
                return match self.launcher.recv_with::<handoff::Wire>() {
                    Ok((wire, streams)) => {
                        Ok(Some(Spawned { handoff: wire.into(), streams, terminate_requested }))
                    }
                    Err(SocketError::Closed) => Ok(None),
                    Err(error) => Err(error.into()),
                };
            }
        }
    }

    /// Waits for the end of one that becomes no program, and ends the processes that it has left.
    pub(crate) fn wait_for_end(&self, inputs: &EventSource<'_>) -> Result<(), WatchError> {
        loop {
            match reap::reap() {
                Reaped::Child(pid, status) if pid == self.pid => {
                    if let ExitStatus::Signaled(signal) = status {
                        warn!(signal, "a helper was killed by signal {signal}");
                    }
                    // The second process of an upload, should the first have been killed.
                    abandon();
                    return Ok(());
                }
                Reaped::Child(..) => {}
                Reaped::NoChildren => return Ok(()),
                Reaped::Nothing => {
                    if inputs.wait_for(None)?.signal && inputs.terminate_requested()? {
                        self.pass_on_terminate();
                    }
                }
            }
        }
    }

    fn pass_on_terminate(&self) {
        // ESRCH cannot be: it is unreaped.
        let (Ok(()) | Err(_)) = kill(self.pid, Signal::SIGTERM);
    }

    /// From the launcher's word on.
    pub(crate) fn into_progress(self) -> Progress {
        Progress { launcher: self.launcher, pid: self.pid }
    }
}

impl Progress {
    /// Call it when readable. Nothing if the launcher is the program now.
    pub(crate) fn report(&self) -> Option<(Report, Vec<OwnedFd>)> {
        match self.launcher.recv_with::<WireReport>() {
            Ok((report, descriptors)) => Some((report.into(), descriptors)),
            Err(SocketError::Closed) => None,
            Err(error) => {
                let failed = StepError::new(Step::Fork, &io::Error::other(error)).event();
                Some((Report::Failed(failed), Vec::new()))
            }
        }
    }
}

impl AsFd for Progress {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.launcher.as_fd()
    }
}
