//! One fork: makes the streams and the pipes, lets the child `launch`, keeps what the frontend and `watch` need.
//!
//! The child tells how far it came through a pipe that closes on exec: end of file means that the program runs, an
//! encoded `Failed` means that a step did not work. No lock, no signal, no waiting.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use further_link_proto::{Event, Step, WindowSize};
use nix::unistd::Pid;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::{
    account::Account,
    launch::{self, Failure, Text, Variable},
    plan::Plan,
    stdio, sys,
};

/// Longest report: an encoded `Failed` has at most eight bytes.
const MAX_REPORT: usize = 32;

/// A child on its way to becoming the program.
pub(crate) struct Spawned {
    pub(crate) pid: Pid,
    /// The frontend's ends of the streams, and the socket of the user channel.
    pub(crate) streams: Vec<OwnedFd>,
    /// Where the frontend writes program text, if any is to come.
    pub(crate) text: Option<OwnedFd>,
    pub(crate) progress: Progress,
}

/// The reading end of the child's report.
pub(crate) struct Progress(OwnedFd);

impl Progress {
    /// Call it when readable: the `Failed` to report, or nothing if the child is the program now.
    pub(crate) fn failure(&self) -> Option<Event> {
        let mut report = [0; MAX_REPORT];
        match rustix::io::read(&self.0, &mut report) {
            Ok(0) => None,
            Ok(length) => report.get(..length).and_then(|bytes| further_link_proto::decode(bytes).ok()),
            Err(error) => Some(Event::Failed { step: Step::Fork, errno: error.raw_os_error() }),
        }
    }
}

impl AsFd for Progress {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Starts it. What fails in the child comes later, through [`Progress`].
pub(crate) fn spawn(
    account: &Account,
    plan: &Plan,
    terminal: Option<WindowSize>,
    text_length: Option<u32>,
    passed: &[Variable],
) -> Result<Spawned, Failure> {
    let at = |step| move |error: io::Error| Failure::new(step, &error);
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|error| Failure::new(Step::Streams, &error.into()));

    let mut streams = stdio::open(terminal, account.uid).map_err(at(Step::Streams))?;
    // The child names it and listens, so that it is the user's.
    let channel = stdio::channel().map_err(at(Step::Streams))?;
    let (progress, report) = pipe()?;
    let (from_frontend, text) = match text_length {
        Some(length) => {
            let (pipe, to_child) = pipe()?;
            (Some(Text { pipe, length }), Some(to_child))
        }
        None => (None, None),
    };
    let pid = sys::fork(|| {
        if let Some(writing_end) = &text {
            // Or the child itself would keep the end of the text from being seen.
            sys::close_in_child(writing_end.as_fd());
        }
        let Err(failure) = launch::launch(account, plan, &streams.theirs, &channel, from_frontend, passed);
        // Without a reader the parent is gone, and with it everybody who would want to know.
        let told = further_link_proto::encode(&failure.event())
            .is_ok_and(|event| rustix::io::write(&report, &event).is_ok());
        if told { 1 } else { 2 }
    })
    .map_err(at(Step::Fork))?;
    streams.ours.push(channel);
    Ok(Spawned { pid, streams: streams.ours, text, progress: Progress(progress) })
}
