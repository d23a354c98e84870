//! What the forked child does until it is the program: each step in order, the first failure is reported and
//! final.
//!
//! From `become_user` on this process is the target user, and only then does it touch files. What it
//! makes belongs to that user; what the user may not do fails as in a shell. The code runs in a child of
//! a process with one thread, so it may allocate (see `sys`).

use std::{
    convert::Infallible,
    fs::{self, DirBuilder},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::DirBuilderExt,
    },
    path::Path,
};

use further_link_proto::{Connection, Purpose, Run, Step};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::stat::{Mode, umask},
};
use rustix::net::SocketAddrUnix;

use super::{
    Opened, Programs, compile::compile, environment::environment, execute, from_client::FromClient, limits,
    runner, stdio::Theirs, venv,
};
use crate::{
    check::Permitted,
    handoff::WireReport,
    identity,
    plan::{self, Layout, Program, Stage, VenvRule},
    step_error::StepError,
    sys,
};

/// The variable that tells programs where the user channel of their run is.
pub(super) const CHANNEL: &str = "FURTHER_LINK_CHANNEL";
/// The exit code of a program that could not be executed (sh(1)).
const NOT_EXECUTABLE: i32 = 126;
/// Programs of one run that connect at the same moment.
const CHANNEL_BACKLOG: i32 = 64;

/// What can be done before it is known what the program will be: own session and process group, and clean
/// signals but for those that are waited for.
pub(crate) fn prepare() -> io::Result<()> {
    rustix::process::setsid()?;
    sys::reset_most_signals();
    Ok(())
}

/// What a launcher has when it begins to be the user.
pub(crate) struct Start<'a> {
    pub(crate) frontend: &'a Connection,
    pub(crate) watcher: &'a Connection,
    pub(crate) permitted: &'a Permitted<Run>,
    pub(crate) layout: &'a Layout,
    pub(crate) theirs: &'a Theirs,
    pub(crate) channel: &'a OwnedFd,
    pub(crate) programs: &'a Programs,
    pub(crate) opened: &'a Opened,
}

impl Start<'_> {
    /// Turns this process, which is prepared, into the program.
    pub(crate) fn launch(&self, mut text: Option<FromClient>) -> Result<Infallible, StepError> {
        let at = |step| move |error: io::Error| StepError::new(step, &error);
        let (account, run) = (self.permitted.account(), self.permitted.request());

        attach(self.theirs).map_err(at(Step::Attach))?;
        let user =
            identity::become_user(account).map_err(|errno| StepError::new(Step::Identity, &errno.into()))?;
        let details = text.as_mut().map(|text| text.details(user)).transpose();
        let details = details.map_err(at(Step::ReadDetails))?.unwrap_or_default();
        let runner = runner::read(user, &run.runner, account, &self.opened.runners, self.programs.trust)
            .map_err(at(Step::ReadRunner))?;
        let plan = plan::plan(self.layout, &runner, run.code.is_some(), &details, &account.shell);
        let plan = plan.ok_or_else(|| at(Step::ReadDetails)(Errno::EINVAL.into()))?;
        let temporary = &plan.temporary;
        let planned = WireReport::planned(temporary, runner.limits.seconds);
        self.watcher.send(&planned).map_err(io::Error::other).map_err(at(Step::Fork))?;
        if let Some(directory) = &plan.directory {
            fs::create_dir_all(directory).map_err(at(Step::MakeDirectory))?;
        }
        let mut passed = self.programs.passed.clone();
        let is_program = details.purpose != Purpose::Version;
        if is_program && open_channel(self.channel, &temporary.channel).is_ok() {
            passed.push((CHANNEL.to_owned(), temporary.channel.to_string_lossy().into_owned()));
        }
        if let Some(private) = &temporary.private {
            DirBuilder::new().mode(0o700).create(private).map_err(at(Step::MakeDirectory))?;
        }
        if let (Some(entrypoint), Some(text)) = (&temporary.entrypoint, text) {
            text.write_text(user, entrypoint).map_err(at(Step::WriteCode))?;
        }
        std::env::set_current_dir(&plan.cwd).map_err(at(Step::ChangeDirectory))?;
        // A start that hung may have been given up meanwhile, and its client told so.
        if has_closed(self.frontend) {
            return Err(at(Step::Execute)(Errno::EPIPE.into()));
        }
        let mut environment = environment(account, &plan.cwd, &passed, details.env);
        let venv = venv::find(user, plan.venv.as_ref(), self.programs.venv.as_deref(), account.uid);
        let venv = venv.map_err(at(Step::ReadDetails))?;
        let is_made = venv.is_some_and(|venv| venv::is_there(user, venv));
        let is_needed = |_: &&Stage| !(is_made && matches!(plan.venv, Some(VenvRule::Install(_))));
        let before = plan.before.as_ref().filter(is_needed);
        if let Some(stage) = before {
            compile(user, self.watcher, stage, run.terminal.is_some(), &environment, &account.home)?;
        }
        if let Some(venv) = venv {
            venv::activate(venv, &mut environment);
        }
        let limited = limits::set(user, runner.limits, &self.opened.group, account.uid);
        limited.map_err(at(Step::SetLimits))?;
        let Err(error) = execute::program(&plan.program, &plan.args, &environment);
        if before.is_some() {
            eprintln!("further-link: cannot execute the program: {error}");
            std::process::exit(NOT_EXECUTABLE);
        }
        // A folder of PATH that the user may not look into gives another reason than "no such file".
        let step = match &plan.program {
            Program::Search(name) if execute::find(name, &environment).is_none() => Step::FindProgram,
            _ => Step::Execute,
        };
        Err(StepError::new(step, &error))
    }
}

/// Whether the frontend has closed the conversation, or its own direction of it (poll(2)).
fn has_closed(frontend: &Connection) -> bool {
    let closed = PollFlags::from_bits_retain(libc::POLLRDHUP);
    let mut polled = [PollFd::new(frontend.as_fd(), closed)];
    poll(&mut polled, PollTimeout::ZERO).is_ok_and(|changed| changed > 0)
}

/// Lets the user's programs, and no others, connect. Where it does not work (a full disk) the program
/// runs without a channel: a person needs a terminal then more than ever.
fn open_channel(channel: &OwnedFd, path: &Path) -> io::Result<()> {
    let address = SocketAddrUnix::new(path)?;
    // Connecting takes the right to write (unix(7)).
    let usual = umask(Mode::S_IXUSR | Mode::S_IRWXG | Mode::S_IRWXO);
    let bound = rustix::net::bind(channel, &address);
    umask(usual);
    bound?;
    Ok(rustix::net::listen(channel, CHANNEL_BACKLOG)?)
}

/// The controlling terminal (D28), the three descriptors, the last of the signals, umask 022.
fn attach(theirs: &Theirs) -> io::Result<()> {
    if let Theirs::Terminal(follower) = theirs {
        rustix::process::ioctl_tiocsctty(follower)?;
    }
    let [stdin, stdout, stderr] = theirs.standard();
    rustix::stdio::dup2_stdin(stdin)?;
    rustix::stdio::dup2_stdout(stdout)?;
    rustix::stdio::dup2_stderr(stderr)?;
    sys::close_others_on_exec()?;
    sys::reset_last_signal()?;
    umask(Mode::S_IWGRP | Mode::S_IWOTH);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frontend_that_closes_or_only_ends_its_sending_has_given_the_start_up() {
        let (helper, frontend) = further_link_proto::pair().unwrap();
        assert!(!has_closed(&helper));
        frontend.end_sending().unwrap();
        assert!(has_closed(&helper));
        let (helper, frontend) = further_link_proto::pair().unwrap();
        drop(frontend);
        assert!(has_closed(&helper));
    }
}
