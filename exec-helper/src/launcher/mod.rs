//! The launcher: the process that becomes the program. Its code runs as root until `identity` has made it the
//! user, and as the user from then on.
//!
//! The launcher tells its parent, the watcher, what it is about to become (`handoff`), with the
//! frontend's ends of the streams. Then the watcher sees the end of the file, when the launcher is the
//! program, or the event of the step that failed.

mod environment;
mod launch;
mod stdio;

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use further_link_proto::{CodeLength, Connection, Event, Run, SocketError, Step};
use nix::errno::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use tracing::warn;

pub(crate) use self::{environment::Variable, launch::prepare};
use self::{launch::ProgramText, stdio::Streams};
use crate::{
    account::Account,
    check::Permitted,
    handoff::{Handoff, Owner, of_connection},
    plan::Plan,
    step_error::StepError,
};

/// The launcher's end.
pub(crate) struct Launcher(Connection);

/// Makes once what every program needs, so that its code and pages are there. The results are closed.
pub(crate) fn warm_up(permitted: &Permitted<Run>, plan: &Plan) {
    let (Ok(_) | Err(_)) = make(permitted.account(), permitted.request(), plan);
}

impl Launcher {
    pub(crate) fn new(watcher: Connection) -> Self {
        Self(watcher)
    }

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
                let failure = StepError::new(Step::Streams, &error);
                let (user, runner, connection) = (&account.name, run.runner.name(), run.identity.origin);
                let (of, reason) = (of_connection(connection), failure.reason());
                warn!(
                    user,
                    runner,
                    connection,
                    outcome = %reason,
                    "{of}{runner} as {user} was not started: {reason}"
                );
                return frontend.send(&failure.event());
            }
        };
        let mut ends: Vec<_> = made.streams.ours.iter().map(AsFd::as_fd).collect();
        ends.push(made.channel.as_fd());
        if let Err(error) = self.0.send_with(&handoff.to_wire(), &ends) {
            // An account with thousands of groups: the watcher could not be told whose run it is.
            frontend.send(&StepError::new(Step::Streams, &Errno::E2BIG.into()).event())?;
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
                let Err(failure) =
                    launch::launch(frontend, account, plan, theirs, &made.channel, text, passed);
                failure
            }
            Err(error) => StepError::new(Step::Streams, &io::Error::other(error)),
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
    text: Option<(ProgramText, OwnedFd)>,
}

fn make(account: &Account, run: &Run, plan: &Plan) -> io::Result<Made> {
    let streams = stdio::open(run.terminal, account.uid)?;
    let channel = stdio::channel()?;
    let length = run.code.filter(|_| plan.temporary.entrypoint.is_some()).map(CodeLength::bytes);
    let text = length.map(|length| -> io::Result<_> {
        let (pipe, writing_end) = pipe_with(PipeFlags::CLOEXEC)?;
        Ok((ProgramText { pipe, length }, writing_end))
    });
    Ok(Made { streams, channel, text: text.transpose()? })
}
