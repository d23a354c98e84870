//! The launcher: the process that becomes the program. Its code runs as root until `identity` has made it the
//! user, and as the user from then on.
//!
//! The launcher tells its parent, the watcher, what it is about to become (`handoff`), with the
//! frontend's ends of the streams. Then, as the user, it reads the runner's file and says what it makes for
//! the run. At last the watcher sees the end of the file, when the launcher is the program, or the event of
//! the step that failed. A program that is compiled first is a run already: the compiler is a child of this
//! process.

mod compile;
mod compiled;
mod environment;
mod execute;
mod from_client;
mod launch;
mod limits;
mod relay;
mod runner;
mod stdio;
mod venv;

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
};

use further_link_proto::{Connection, Event, Run, SocketError, Step};
use further_link_runners::{Folder, Trust};
use nix::errno::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use tracing::warn;

pub(crate) use self::{environment::Variable, launch::prepare, limits::GroupLimits};
use self::{from_client::FromClient, launch::Start, stdio::Streams};
use crate::{
    account::Account,
    check::Permitted,
    handoff::{Handoff, Owner, WireReport, of_connection},
    identity,
    plan::Layout,
    step_error::StepError,
};

/// The launcher's end.
pub(crate) struct Launcher(Connection);

/// What the settings say of programs.
pub(crate) struct Programs {
    /// Where runner files are. The first folder has the last word.
    pub(crate) runners: Vec<PathBuf>,
    /// Whose runner files count, beside those of root: those of the owner of this program file.
    pub(crate) trust: Trust,
    /// The environment of packages for programs whose project has none.
    pub(crate) venv: Option<PathBuf>,
    /// A run has a control group of its own.
    pub(crate) has_group: bool,
    /// Variables that programs get from the helper. The rest of its environment is none of their business
    /// (D15).
    pub(crate) passed: Vec<Variable>,
}

/// What only root can open, for later. In the launcher only, or the watcher would have it.
#[derive(Default)]
pub(crate) struct Opened {
    /// The folders of runner files: a checkout can lie where the user cannot go.
    runners: Vec<Folder>,
    group: GroupLimits,
}

impl Programs {
    pub(crate) fn open(&self) -> Opened {
        let group = if self.has_group { GroupLimits::open() } else { GroupLimits::default() };
        Opened { runners: self.runners.iter().map(Folder::new).collect(), group }
    }
}

/// A runner's file with what most of them have: no process of root reads a real one.
const EXAMPLE: &str = r#"
# What it is.
id = "example"
title = "Example"
entry = "main-{number}"

[run]
argv = ["example", "{file}", "{args}"]

[[test]]
name = "hello"
code = '''
echo hi
'''
stdout = "hi\n"
"#;

/// Makes once what every program needs, so that its code and pages are there. The results are thrown away.
pub(crate) fn warm_up(permitted: &Permitted<Run>) {
    let (Ok(_) | Err(_)) = make(permitted.account(), permitted.request());
    let (Ok(_) | Err(_)) = further_link_runners::parse(EXAMPLE, "example");
    identity::look_up_login_uid();
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
        layout: &Layout,
        programs: &Programs,
        opened: &Opened,
    ) -> Result<(), SocketError> {
        let (account, run) = (permitted.account(), permitted.request());
        let handoff = Handoff {
            owner: Owner::of(account),
            runner: run.runner.as_str().to_owned(),
            terminal: run.terminal.is_some(),
            origin: run.identity.origin,
            channel: layout.channel.clone(),
        };
        let made = match make(account, run) {
            Ok(made) => made,
            Err(error) => {
                // The watcher knows of nothing yet.
                let failure = StepError::new(Step::Streams, &error);
                let (user, runner, connection) = (&account.name, run.runner.as_str(), run.identity.origin);
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
                let (theirs, channel) = (&made.streams.theirs, &made.channel);
                let start = Start {
                    frontend,
                    watcher: &self.0,
                    permitted,
                    layout,
                    theirs,
                    channel,
                    programs,
                    opened,
                };
                let Err(failure) = start.launch(text);
                failure
            }
            Err(error) => StepError::new(Step::Streams, &io::Error::other(error)),
        };
        self.0.send(&WireReport::Failed(failure.event()))
    }
}

/// What a program gets its input and output through.
struct Made {
    streams: Streams,
    /// Listened on after this process has become the user, so that it is the user's.
    channel: OwnedFd,
    /// Where the client's choices and the program text come from, and where the frontend writes them.
    text: Option<(FromClient, OwnedFd)>,
}

fn make(account: &Account, run: &Run) -> io::Result<Made> {
    let streams = stdio::open(run.terminal, account.uid)?;
    let channel = stdio::channel()?;
    let text = if run.details.is_some() || run.code.is_some() {
        let (pipe, writing_end) = pipe_with(PipeFlags::CLOEXEC)?;
        Some((FromClient::new(pipe, run), writing_end))
    } else {
        None
    };
    Ok(Made { streams, channel, text })
}
