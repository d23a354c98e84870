//! From the launcher's word to the last event: tells the frontend that the program runs, stops it when
//! asked, reaps it. Nothing of the run is left then. This process is demoted by now (`demote`).
//!
//! One loop over three things that can happen (a message, a signal, the child's report) and one deadline.

use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use further_link_proto::{self as proto, Connection, Ended, Event, ExitStatus, Limit, Request, SocketError};
use nix::unistd::Pid;
use rustix::{fs::OFlags, process::Signal};
use tracing::error;

use super::{
    counters::Counters,
    error::WatchError,
    pending::Progress,
    record::Record,
    state::{self, Rules, State, StopStep, Transition},
};
use crate::{
    confine,
    handoff::Report,
    inputs::EventSource,
    plan::Temporary,
    reap::{self, Children, Handlers, Handling, KILL_TIMEOUT},
};

/// How long the frontend may take, after the last event, to close the user channel.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A run under way.
pub(crate) struct Watch<'a> {
    inputs: EventSource<'a>,
    /// The connection, until the frontend has closed it. Not part of the state: it can close in any.
    frontend: Option<&'a Connection>,
    rules: Rules,
    temporary: Option<Temporary>,
    pid: Pid,
    streams: Vec<OwnedFd>,
    /// The launcher's reports, until the last has come.
    progress: Option<Progress>,
    /// The launcher is not the program yet, and the client knows that the run goes on.
    is_compiling: bool,
    state: State,
    /// The processes that handle the signal sent last.
    handlers: Option<Handlers>,
    status: Option<ExitStatus>,
    counters: Counters,
    /// How long the program may take, and until when.
    time: Option<Duration>,
    until: Option<Instant>,
    limit: Option<Limit>,
    /// The queue of children that have ended. Not part of the state: it fills in any.
    children: Children,
    /// How long its close is waited for, after the last event.
    close_timeout: Duration,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(
        inputs: EventSource<'a>,
        progress: Progress,
        streams: Vec<OwnedFd>,
        temporary: Temporary,
        rules: Rules,
    ) -> Self {
        Self {
            frontend: Some(inputs.connection),
            inputs,
            rules,
            temporary: Some(temporary),
            pid: progress.pid,
            streams,
            progress: Some(progress),
            is_compiling: false,
            state: State::Starting,
            handlers: None,
            status: None,
            counters: Counters::new(),
            time: None,
            until: None,
            limit: None,
            children: Children::new(),
            close_timeout: CLOSE_TIMEOUT,
        }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Watches until nothing of the run is left. The last event, which has been sent unless the frontend
    /// has closed.
    pub(crate) fn run(&mut self, record: &Record) -> Result<Event, WatchError> {
        loop {
            let awaited = self.is_starting() || self.is_compiling;
            let report = self.progress.as_ref().filter(|_| awaited).map(AsFd::as_fd);
            let now_if_more = self.children.may_have_ended().then(Instant::now);
            let deadline = now_if_more.or(self.deadline());
            let ready = self.inputs.wait(self.frontend.is_some(), report, deadline)?;
            if ready.report
                && let Some(failed) = self.on_report(record)?
            {
                return self.finish_failed(failed);
            }
            if ready.signal && self.inputs.terminate_requested()? {
                self.end();
            }
            let is_over = (ready.signal || self.children.may_have_ended()) && self.reap_is_over();
            // The program may have ended before its report was read: then it did start, or `Failed` is to be
            // sent.
            while (is_over || self.status.is_some()) && self.is_starting() {
                if let Some(failed) = self.on_report(record)? {
                    return self.finish_failed(failed);
                }
            }
            if is_over {
                self.happen(Transition::NothingLeft);
                return self.finish_ended();
            }
            if self.status.is_some() {
                self.happen(Transition::Ended);
            }
            if ready.message {
                self.on_message()?;
            }
            if self.until.is_some_and(|until| until <= Instant::now()) {
                self.end_for_time();
            }
            if self.state.deadline().is_some_and(|deadline| deadline <= Instant::now()) {
                let handling = self.handlers.as_mut().map_or(Handling::Over, Handlers::look);
                self.happen(Transition::Looked(handling));
            }
            if self.state == State::Killing {
                return self.finish_ended();
            }
        }
    }

    /// Ends the run whatever its state, without a word to the frontend.
    pub(crate) fn abandon(&mut self) {
        self.kill();
        self.remove_files();
    }

    /// Ends the run where root could not be given up: no file of the user is touched.
    pub(crate) fn abandon_as_root(&mut self) {
        self.temporary = None;
        self.kill();
    }

    /// Whether more reports are to come.
    fn is_starting(&self) -> bool {
        self.state == State::Starting && self.progress.is_some()
    }

    /// When to look again, whatever happens.
    fn deadline(&self) -> Option<Instant> {
        self.state.deadline().into_iter().chain(self.until).min()
    }

    /// Its time is over. One that is ending already goes on as it does.
    fn end_for_time(&mut self) {
        self.until = None;
        if self.state == State::Running {
            self.limit = Some(Limit::Time);
            self.happen(Transition::StopRequested(None));
        }
    }

    /// Takes a report of the launcher.
    fn on_report(&mut self, record: &Record) -> Result<Option<Event>, WatchError> {
        let Some(progress) = &self.progress else { return Ok(None) };
        match progress.report() {
            Some((Report::Planned { temporary, limit }, _)) => {
                self.temporary = Some(temporary);
                self.time = limit;
            }
            Some((Report::Compiling, output)) => {
                self.streams.extend(output);
                self.is_compiling = true;
                self.on_start(record)?;
            }
            Some((Report::Failed(failed), _)) => return Ok(Some(failed)),
            None => {
                self.progress = None;
                self.until = self.time.map(|time| Instant::now() + time);
                if !std::mem::take(&mut self.is_compiling) {
                    self.on_start(record)?;
                } else if let Some(frontend) = self.frontend {
                    frontend.send(&Event::Compiled)?;
                }
            }
        }
        Ok(None)
    }

    fn on_start(&mut self, record: &Record) -> Result<(), WatchError> {
        let descriptors: Vec<_> = self.streams.iter().map(AsFd::as_fd).collect();
        let pid = self.pid.as_raw().unsigned_abs();
        if let Some(frontend) = self.frontend {
            frontend.send_with(&Event::Started { pid }, &descriptors)?;
        }
        record.started();
        self.streams.clear();
        self.happen(Transition::Started);
        Ok(())
    }

    fn on_message(&mut self) -> Result<(), WatchError> {
        match self.inputs.connection.recv() {
            Ok(Request::Stop { first }) => self.happen(Transition::StopRequested(first)),
            Ok(Request::Signal(signal)) => drop(self.send_to_all(signal)),
            Ok(_) => return Err(WatchError::OutOfPlace),
            Err(SocketError::Closed) => self.on_close(),
            Err(SocketError::Io(error)) if error.kind() == io::ErrorKind::ConnectionReset => self.on_close(),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn on_close(&mut self) {
        self.frontend = None;
        self.happen(Transition::StopRequested(None));
    }

    /// Ends the run because the helper itself has to end, which then waits for no close.
    pub(crate) fn end(&mut self) {
        self.close_timeout = Duration::ZERO;
        self.happen(Transition::StopRequested(None));
    }

    /// Goes on to the next state, and sends the signal that leads to it.
    fn happen(&mut self, happened: Transition) {
        let (state, signal) = state::next(self.state, happened, Instant::now(), self.rules);
        self.state = state;
        if let Some(signal) = signal {
            self.handlers = Some(self.send_to_all(signal));
        }
    }

    fn send_to_all(&self, signal: proto::Signal) -> Handlers {
        let signal = match signal {
            proto::Signal::Interrupt => Signal::INT,
            proto::Signal::Terminate => Signal::TERM,
            proto::Signal::HangUp => Signal::HUP,
            proto::Signal::Kill => Signal::KILL,
        };
        reap::send_to_all(self.status.is_none().then_some(self.pid), signal)
    }

    /// Collects a batch of what has ended. True when no process is left.
    fn reap_is_over(&mut self) -> bool {
        let mut ended = Vec::new();
        let is_over = self.children.reap(|pid, status| ended.push((pid, status)));
        for (pid, status) in ended {
            self.note_end(pid, status);
        }
        is_over
    }

    fn note_end(&mut self, pid: Pid, status: ExitStatus) {
        if pid == self.pid && self.status.is_none() {
            let is_stopping = matches!(self.state, State::Stopping { .. });
            let by_kernel =
                status == ExitStatus::Signaled(9) && !is_stopping && self.counters.has_used_up_memory();
            let failed_to_fork = status != ExitStatus::Exited(0) && self.counters.has_used_up_processes();
            self.limit = match self.limit {
                None if by_kernel => Some(Limit::Memory),
                None if failed_to_fork => Some(Limit::Processes),
                limit => limit,
            };
            // On a terminal the hang-up takes the place of the kill, so that shells save their history.
            // Clients see what they have always seen.
            let by_hang_up = status == ExitStatus::Signaled(1)
                && matches!(self.state, State::Stopping { step: StopStep::HangUp, .. });
            self.status = Some(match status {
                _ if by_hang_up => ExitStatus::Signaled(9),
                status => status,
            });
        }
    }

    fn kill(&mut self) {
        if self.state == State::Over {
            return;
        }
        let (own, mut ended) = (self.pid, None);
        let nothing_left = reap::kill_all(Instant::now() + KILL_TIMEOUT, |pid, status| {
            if pid == own {
                ended = Some(status);
            }
        });
        self.status = self.status.or(ended);
        self.happen(Transition::NothingLeft);
        if !nothing_left {
            let pid = self.pid();
            error!(
                pid,
                "processes of the run with pid {pid} are left: stuck in the kernel, or held by a tracer"
            );
        }
    }

    fn finish_ended(&mut self) -> Result<Event, WatchError> {
        self.kill();
        // Only a program that could not be killed has no status.
        let status = self.status.unwrap_or(ExitStatus::Signaled(9));
        self.finish(Event::Exited(Ended { status, limit: self.limit, usage: reap::usage() }))
    }

    fn finish_failed(&mut self, failed: Event) -> Result<Event, WatchError> {
        if let Event::Failed { step, errno: libc::EEXIST } = failed {
            // What has that name was there before, and is not this run's.
            self.temporary = self.temporary.take().map(|temporary| temporary.without_existing(step));
        }
        self.kill();
        self.finish(failed)
    }

    fn finish(&mut self, event: Event) -> Result<Event, WatchError> {
        let channel = self.open_channel();
        self.remove_files();
        if let Some(frontend) = self.frontend {
            frontend.send(&event)?;
            frontend.end_sending()?;
            self.wait_for_close()?;
        }
        drop(channel);
        Ok(event)
    }

    /// The socket of the user channel, opened only to be the last process that closes it.
    fn open_channel(&self) -> Option<OwnedFd> {
        let temporary = self.temporary.as_ref()?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::open(&temporary.channel, flags, rustix::fs::Mode::empty()).ok()
    }

    /// The frontend closes when nothing is to come any more. The last process to close a socket whose
    /// file has been removed waits for the disk, and none waits for this one.
    fn wait_for_close(&self) -> Result<(), WatchError> {
        let end = Instant::now() + self.close_timeout;
        while Instant::now() < end {
            let ready = self.inputs.wait(true, None, Some(end))?;
            if ready.signal && self.inputs.terminate_requested()? {
                break;
            }
            // `Stop` and `Signal` come too late; anything else is the end.
            if ready.message
                && !matches!(self.inputs.connection.recv(), Ok(Request::Stop { .. } | Request::Signal(_)))
            {
                break;
            }
        }
        Ok(())
    }

    /// A launcher that was ended early may have said what it makes without having been heard.
    fn take_rest_of_reports(&mut self) {
        let Some(progress) = self.progress.take() else { return };
        let now = Some(Instant::now());
        let is_there =
            || self.inputs.wait(false, Some(progress.as_fd()), now).is_ok_and(|ready| ready.report);
        while is_there() {
            match progress.report() {
                Some((Report::Planned { temporary, .. }, _)) if self.temporary.is_some() => {
                    self.temporary = Some(temporary);
                }
                Some(_) => {}
                None => return,
            }
        }
    }

    /// The temporary files of this run, with the rights of its user. What the program moved away or removed
    /// is its own.
    fn remove_files(&mut self) {
        self.take_rest_of_reports();
        let Some(Temporary { channel, private, entrypoint }) = self.temporary.take() else { return };
        let files =
            [Some(&channel), private.as_ref(), entrypoint.as_ref().map(|entrypoint| &entrypoint.file)];
        let parents = files.into_iter().flatten().filter_map(|file| file.parent());
        let allowed: Vec<_> = parents.map(|parent| (parent, confine::REMOVE)).collect();
        if let Err(error) = confine::to_directories(&allowed) {
            let pid = self.pid();
            return error!(pid, "the temporary files of the run with pid {pid} are left: {error}");
        }
        // The directory goes with what is in it.
        let entrypoint = entrypoint.map_or(Ok(()), |entrypoint| fs::remove_file(entrypoint.file));
        let private = private.map_or(Ok(()), fs::remove_dir_all);
        for removed in [fs::remove_file(channel), entrypoint, private] {
            if let Err(error) = removed
                && error.kind() != io::ErrorKind::NotFound
            {
                let pid = self.pid();
                error!(pid, "cannot remove a temporary file of the run with pid {pid}: {error}");
            }
        }
    }
}
