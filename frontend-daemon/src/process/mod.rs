//! One program from `started` to `stopped`: the frontend's half of a run. One task moves everything it reads
//! and writes.
//!
//! A start is a phase of a process, not a wait of its session: the handle exists from the first moment, and a
//! task says `started`, or why not. The task ends when the last byte of output and `stopped` are in the
//! outbox or the transcript, whether or not a client still reads them.

pub(crate) mod channel;
pub(crate) mod output;

mod adopted;
mod input;
mod phase;
mod utf8;

pub(crate) use adopted::{Adoption, Descriptors};

use std::{
    io, mem,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use further_link_api::{EndReason, Outcome, StartFailure, Usage, UserFailure};
use further_link_proto::{Ended, Event, ExitStatus, Limit, Request, Run, Signal, UserName, WindowSize};
use futures_util::{FutureExt, future::FusedFuture};
use nix::sys::signal::Signal as NixSignal;
use tokio::{
    io::Interest,
    sync::{oneshot, watch},
    task::JoinSet,
    time::timeout,
};
use tracing::{debug, info, warn};

use crate::{
    access::Caller,
    access::tokens::TokenAttempts,
    helper::pool::{Conversation, HelperError, HelperPool},
    helper::reasons::not_started,
    helper::stream::Stream,
    lifecycle::store::Stored,
    memory::budget::Budgets,
    process::channel::UserChannel,
    process::channel::connection,
    process::channel::connection::Inherited,
    process::channel::keys::Keyboard,
    process::input::{Input, NotTaken},
    process::output::{Output, OutputKind, overdue},
    process::phase::{Phase, Transition, stopped},
    runners::Runners,
    transcript::Audience,
    transcript::saved::{Relay, Saved},
};

/// The roles of the descriptors in the service manager's store.
const HELPER: &str = "helper";
const CHANNEL: &str = "channel";
const TERMINAL: &str = "terminal";
const RELAY_OUTPUT: &str = "relayout";
const RELAY_INPUT: &str = "relayin";
const INPUT: &str = "stdin";
const OUTPUT: &str = "stdout";
const ERRORS: &str = "stderr";
const COMPILER: &str = "compiler";

/// Descriptors of a run on pipes whose compiler says something.
const WITH_COMPILER: usize = 5;

/// A start that takes longer than this (a file system that hangs) is given up.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// What the client is told when the kernel has ended a program for want of memory.
const OUT_OF_MEMORY: &str = "\r\nfurther-link: the program was ended because it used too much memory\r\n";
const OUT_OF_TIME: &str =
    "\r\nfurther-link: the program was ended because it took longer than its runner allows\r\n";

/// Why a process did not start.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Client(#[from] StartFailure),
    #[error(transparent)]
    Helper(#[from] HelperError),
    #[error("the helper gave an answer out of place")]
    Answer(Event),
    #[error("the helper's descriptors are not usable: {0}")]
    Descriptors(#[from] io::Error),
}

/// A program to start, and what its task needs.
pub(crate) struct Start {
    pub(crate) runners: Arc<Runners>,
    pub(crate) helpers: Arc<HelperPool>,
    /// How many programs the pool has slots for.
    pub(crate) max_programs: usize,
    pub(crate) budgets: Budgets,
    pub(crate) attempts: TokenAttempts,
    pub(crate) audience: Audience,
    pub(crate) caller: Caller,
    pub(crate) run: Run,
    pub(crate) details: Option<Vec<u8>>,
    pub(crate) code: Option<String>,
}

/// The session's handle of a process, from the moment it is asked for. Dropping it does not stop the process:
/// the session stops it and waits.
pub(crate) struct Process {
    state: Arc<State>,
}

/// Completes when the client has been told whether the program runs.
pub(crate) struct Settled(oneshot::Receiver<()>);

impl Settled {
    pub(crate) async fn wait(self) {
        let (Ok(()) | Err(_)) = self.0.await;
    }
}

/// What the handle and the task of a process share.
struct State {
    phase: watch::Sender<Phase>,
    input: Input,
    keyboard: Arc<Keyboard>,
    reach: Mutex<Reach>,
}

/// How the session reaches the program.
enum Reach {
    /// Not yet: what the client asked for meanwhile.
    Starting { size: Option<WindowSize>, signals: Vec<Signal> },
    /// The conversation is gone when the program has ended.
    Running { conversation: Weak<Conversation>, terminal: Option<Arc<Stream>> },
}

/// The streams of a process.
struct Streams {
    input: Arc<Stream>,
    outputs: Vec<Output>,
    terminal: Option<Arc<Stream>>,
    /// The listening socket of the user channel.
    channel: Stream,
    /// What the compiler says before the program runs, where that is told apart.
    compiler: Option<Output>,
}

/// The copies of a process's descriptors in the service manager's store.
#[derive(Default)]
struct Copies {
    input: Option<Stored>,
    /// Until the program runs.
    compiler: Option<Stored>,
    others: Vec<Stored>,
}

impl Process {
    /// Begins to start a program. A task of `tasks` sees to everything else: it says `started`, or why not.
    pub(crate) fn start(start: Start, tasks: &mut JoinSet<()>) -> (Self, Settled) {
        let state = Arc::new(State {
            phase: watch::Sender::new(Phase::Starting),
            input: Input::new(start.budgets.input.clone(), start.audience.saved().cloned()),
            keyboard: Arc::default(),
            reach: Mutex::new(Reach::Starting { size: None, signals: Vec::new() }),
        });
        let (settle, settled) = oneshot::channel();
        tasks.spawn(start.run(Arc::clone(&state), settle));
        (Self { state }, Settled(settled))
    }

    /// Whether messages may name it.
    pub(crate) fn is_live(&self) -> bool {
        self.state.phase.borrow().is_live()
    }

    /// Whether the helper has not said yet that it runs.
    pub(crate) fn is_starting(&self) -> bool {
        *self.state.phase.borrow() == Phase::Starting
    }

    /// Queues input. With `end` nothing comes after it: a program on a pipe reads its end.
    pub(crate) async fn write(&self, input: String, end: bool, number: Option<u64>) -> Result<(), NotTaken> {
        self.state.input.push(input, end, number).await
    }

    /// Resizes the terminal; of one that is starting the last size counts.
    pub(crate) fn resize(&self, new: WindowSize) {
        match &mut *self.state.reach() {
            Reach::Starting { size, .. } => *size = Some(new),
            Reach::Running { terminal: Some(terminal), .. } => resize(terminal, new),
            Reach::Running { terminal: None, .. } => {}
        }
    }

    /// Tells the programs that listen for the key. Never waits for them.
    pub(crate) fn key_event(&self, key: &str, event: &str) {
        self.state.keyboard.event(key, event);
    }

    /// Gives up the start, or asks the helper to end the program. A helper that is gone has ended it already.
    pub(crate) async fn stop(&self, first: Option<Signal>) {
        self.state.moved(Transition::StopAsked);
        self.ask(&Request::Stop { first }).await;
    }

    /// Has the helper send a signal to the run, which goes on. One that is starting gets each signal once.
    pub(crate) async fn signal(&self, signal: Signal) {
        if let Reach::Starting { signals, .. } = &mut *self.state.reach() {
            if !signals.contains(&signal) {
                signals.push(signal);
            }
            return;
        }
        self.ask(&Request::Signal(signal)).await;
    }

    async fn ask(&self, request: &Request) {
        let conversation = match &*self.state.reach() {
            Reach::Starting { .. } => None,
            Reach::Running { conversation, .. } => conversation.upgrade(),
        };
        if let Some(conversation) = conversation
            && let Err(error) = conversation.send(request).await
        {
            debug!("{request:?}: {error}");
        }
    }
}

impl State {
    fn moved(&self, transition: Transition) {
        self.phase.send_modify(|phase| *phase = phase.next(transition));
    }

    fn reach(&self) -> MutexGuard<'_, Reach> {
        self.reach.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn resize(terminal: &Stream, size: WindowSize) {
    if let Err(error) = terminal.resize(size) {
        debug!("cannot resize: {error}");
    }
}

impl Start {
    /// The task of a process: its start, and all that follows.
    async fn run(self, state: Arc<State>, settle: oneshot::Sender<()>) {
        let mut given_up = state.phase.subscribe();
        // Boxed, as what a running program need not have room for.
        let begun = tokio::select! {
            biased;
            begun = Box::pin(self.begin()) => begun,
            // The conversation is dropped: its helper ends what it may have started.
            () = stopped(&mut given_up) => Err(StartFailure::Stopped),
        };
        match begun {
            Ok((conversation, streams, pid)) => self.started(state, settle, conversation, streams, pid).await,
            Err(failure) => self.failed(&state, failure).await,
        }
    }

    async fn failed(&self, state: &State, failure: StartFailure) {
        // Of a helper that is silent the log has the reason already (`begin`).
        if failure != StartFailure::NoHelper {
            info!("connection {}: a start failed: {failure}", self.connection());
        }
        // The id is free before the client hears of it, as at the end of a program (B6.1).
        state.moved(Transition::Failed);
        self.audience.failed(failure).await;
    }

    async fn started(
        self,
        state: Arc<State>,
        settle: oneshot::Sender<()>,
        conversation: Conversation,
        streams: Streams,
        pid: u32,
    ) {
        let conversation = Arc::new(conversation);
        let running = Reach::Running {
            conversation: Arc::downgrade(&conversation),
            terminal: streams.terminal.clone(),
        };
        let early = mem::replace(&mut *state.reach(), running);
        state.moved(Transition::Started);
        if *state.phase.borrow() == Phase::Stopped {
            return self.failed(&state, StartFailure::Stopped).await;
        }
        let mut streams = streams;
        let mut copies = Copies::default();
        if let Some(saved) = self.audience.saved() {
            // Before the client hears of it: what it hears of is kept.
            let (stored, mut relay) = streams.store(saved, &conversation);
            copies = stored;
            let outputs = streams.outputs.into_iter();
            streams.outputs = outputs.map(|output| output.noting(saved, relay.take(), Vec::new())).collect();
        }
        self.audience.started().await;
        let (Ok(()) | Err(())) = settle.send(());
        if let Reach::Starting { size, signals } = early {
            if let (Some(size), Some(terminal)) = (size, &streams.terminal) {
                resize(terminal, size);
            }
            for signal in signals {
                if let Err(error) = conversation.send(&Request::Signal(signal)).await {
                    debug!("{signal:?}: {error}");
                }
            }
        }
        let user = self.run.identity.user.as_ref().map_or("the default user", UserName::as_str);
        let (connection, runner) = (self.connection(), &self.run.runner);
        info!("connection {connection}: started {runner} as {user} for {}, pid {pid}", self.caller);
        let supervisor = Supervisor { conversation, state, audience: self.audience, exited: None };
        supervisor.run(streams, copies, &self.budgets, Vec::new()).await;
    }

    fn connection(&self) -> u64 {
        self.run.identity.origin.unwrap_or_default()
    }

    /// Asks a helper to start the program, and puts what goes wrong into words for the client.
    async fn begin(&self) -> Result<(Conversation, Streams, u32), StartFailure> {
        let with_token = self.run.identity.token.is_some();
        let _turn = if with_token { Some(self.attempts.begin().await?) } else { None };
        let begun = timeout(START_TIMEOUT, self.ask()).await;
        let begun = begun.unwrap_or(Err(StartError::Client(StartFailure::TimedOut)));
        let failure = match begun {
            Ok(begun) => return Ok(begun),
            Err(StartError::Client(failure)) => failure,
            Err(StartError::Answer(event @ (Event::Refused(_) | Event::Failed { .. }))) => {
                let user = self.run.identity.user.as_ref().map(UserName::as_str);
                not_started(&event, &self.run.runner, &self.runners, user)
            }
            Err(StartError::Helper(HelperError::Busy)) => {
                StartFailure::DeviceFull { most: self.max_programs }
            }
            Err(error) => {
                warn!("connection {}: a start failed: {error}", self.connection());
                StartFailure::NoHelper
            }
        };
        if matches!(failure, StartFailure::User(UserFailure::TokenWrong { .. })) {
            self.attempts.wrong().await;
        }
        Err(failure)
    }

    async fn ask(&self) -> Result<(Conversation, Streams, u32), StartError> {
        let request = Request::Run(self.run.clone());
        let (conversation, mut event, mut descriptors) = self.helpers.ask(&request).await?;
        if event == Event::Data {
            let Ok([pipe]) = <[OwnedFd; 1]>::try_from(descriptors) else {
                return Err(StartError::Answer(Event::Data));
            };
            let pipe = Stream::new(pipe, Interest::WRITABLE)?;
            let (details, code) = (self.details.as_deref(), self.code.as_deref());
            pipe.write_parts(&[details.unwrap_or_default(), code.unwrap_or_default().as_bytes()]).await;
            drop(pipe);
            (event, descriptors) = conversation.recv().await?;
        }
        match event {
            Event::Started { pid } => Ok((conversation, streams(descriptors)?, pid)),
            event => Err(StartError::Answer(event)),
        }
    }
}

fn streams(mut descriptors: Vec<OwnedFd>) -> Result<Streams, StartError> {
    let neither = || io::Error::other("neither a terminal nor three pipes, with a user channel");
    let compiler = (descriptors.len() == WITH_COMPILER).then(|| descriptors.pop()).flatten();
    let compiler = compiler.map(of_compiler).transpose()?;
    let channel = Stream::new(descriptors.pop().ok_or_else(neither)?, Interest::READABLE)?;
    let mut descriptors = descriptors.into_iter();
    let streams = match (descriptors.next(), descriptors.next(), descriptors.next()) {
        (Some(leader), None, None) => Streams::of_terminal(leader, channel)?,
        (Some(stdin), Some(stdout), Some(stderr)) => Streams::of_pipes([stdin, stdout, stderr], channel)?,
        _ => return Err(neither().into()),
    };
    Ok(Streams { compiler, ..streams })
}

fn of_compiler(pipe: OwnedFd) -> io::Result<Output> {
    Ok(Output::new(OutputKind::Compiler, Arc::new(Stream::new(pipe, Interest::READABLE)?)))
}

impl Streams {
    fn of_terminal(leader: OwnedFd, channel: Stream) -> io::Result<Self> {
        let leader = Arc::new(Stream::new(leader, Interest::READABLE | Interest::WRITABLE)?);
        let outputs = vec![Output::new(OutputKind::Terminal, Arc::clone(&leader))];
        Ok(Self { input: Arc::clone(&leader), outputs, terminal: Some(leader), channel, compiler: None })
    }

    fn of_pipes([stdin, stdout, stderr]: [OwnedFd; 3], channel: Stream) -> io::Result<Self> {
        let stream = |descriptor, interest| Stream::new(descriptor, interest).map(Arc::new);
        Ok(Self {
            input: stream(stdin, Interest::WRITABLE)?,
            outputs: vec![
                Output::new(OutputKind::Stdout, stream(stdout, Interest::READABLE)?),
                Output::new(OutputKind::Stderr, stream(stderr, Interest::READABLE)?),
            ],
            terminal: None,
            channel,
            compiler: None,
        })
    }

    /// Puts copies of them, and of the connection to the helper, into the service manager's store, after what
    /// is known of the program.
    fn store(&self, saved: &Saved, conversation: &Conversation) -> (Copies, Option<Relay>) {
        let mut copies = Copies::default();
        if !saved.put_state() {
            return (copies, None);
        }
        let relay = self.terminal.as_ref().and_then(|_| Relay::new().ok());
        let outputs = if let Some(terminal) = &self.terminal {
            let relay = relay
                .iter()
                .flat_map(|relay| [(RELAY_OUTPUT, relay.output.as_fd()), (RELAY_INPUT, relay.input.as_fd())]);
            relay.chain([(TERMINAL, terminal.as_fd())]).collect()
        } else {
            copies.input = saved.put(INPUT, self.input.as_fd());
            let streams = self.outputs.iter().map(Output::as_fd);
            [OUTPUT, ERRORS].into_iter().zip(streams).collect::<Vec<_>>()
        };
        let others = [(HELPER, conversation.as_fd()), (CHANNEL, self.channel.as_fd())];
        let all = others.into_iter().chain(outputs);
        copies.others = all.filter_map(|(role, descriptor)| saved.put(role, descriptor)).collect();
        // Without a reader the next thing that the compiler says would end it.
        copies.compiler = self.compiler.as_ref().and_then(|compiler| saved.put(COMPILER, compiler.as_fd()));
        (copies, relay)
    }
}

/// What the task of a running process holds.
struct Supervisor {
    conversation: Arc<Conversation>,
    state: Arc<State>,
    audience: Audience,
    /// How the program has ended, if an earlier process was told so.
    exited: Option<Ended>,
}

impl Supervisor {
    /// Moves all that is read and written until the program has ended and all of it was said; or until this
    /// process leaves the program to the next one.
    async fn run(self, streams: Streams, mut copies: Copies, budgets: &Budgets, inherited: Vec<Inherited>) {
        let Streams { input: stdin, outputs, terminal, channel, compiler } = streams;
        let kind = if terminal.is_some() { OutputKind::Terminal } else { OutputKind::Stderr };
        let phase = &self.state.phase;
        let channel = UserChannel {
            listener: channel,
            keyboard: Arc::clone(&self.state.keyboard),
            slots: Arc::clone(&budgets.connections),
            run: connection::Run {
                audience: self.audience.clone(),
                phase: phase.subscribe(),
                budget: budgets.channel(),
            },
            next: 0,
        };
        let channel = channel.serve(inherited).fuse();
        tokio::pin!(channel);
        let (is_compiled, mut compiled) = watch::channel(false);
        let outputs = outputs
            .into_iter()
            .map(|output| output.run(&self.audience, &self.state.input, overdue(phase.subscribe())));
        let copy_of_compiler = copies.compiler.take();
        let output = async {
            if let Some(compiler) = compiler {
                // A process that the compiler has left may hold its pipe.
                let until = async {
                    tokio::select! {
                        Ok(_) | Err(_) = compiled.wait_for(|compiled| *compiled) => {}
                        () = overdue(phase.subscribe()) => {}
                    }
                };
                compiler.run(&self.audience, &self.state.input, until).await;
            }
            drop(copy_of_compiler);
            futures_util::future::join_all(outputs).await
        };
        let end = async {
            let ended = self.end_of_program(&is_compiled).await;
            let was_stopped = *phase.borrow() == Phase::Stopping;
            self.state.moved(Transition::Exited);
            (ended, was_stopped)
        };
        let moved = tokio::select! {
            (end, _, ()) = async { tokio::join!(end, output, &mut channel) } => Some(end),
            never = self.state.input.feed(stdin, &mut copies.input) => match never {},
            () = self.audience.left() => None,
        };
        let Some((ended, was_stopped)) = moved else {
            // Nothing is read and written any more. Each connection notes what is left of it.
            if !channel.is_terminated() {
                channel.await;
            }
            return;
        };
        if let Some(words) = ended.and_then(|ended| last_words(ended, was_stopped, kind)) {
            // After what the program printed last, where its user looks.
            self.audience.last_words(kind.stream(), &words).await;
        }
        self.audience.flush_frame().await;
        // Free before the client hears of it, and so is the id (B6.1). What is said of the next program with
        // that id comes behind it.
        self.conversation.free_slot();
        let say_stopped = self.audience.stopped(outcome(ended, was_stopped)).await;
        phase.send_modify(|phase| {
            *phase = phase.next(Transition::Drained);
            say_stopped();
        });
        drop(copies);
        // The connection goes first: what the helper does when the conversation is closed can wait.
        tokio::task::yield_now().await;
    }

    /// Waits for the helper's last event. A helper that is gone without one was killed, and its run with it.
    async fn end_of_program(&self, is_compiled: &watch::Sender<bool>) -> Option<Ended> {
        if self.exited.is_some() {
            return self.exited;
        }
        loop {
            match self.conversation.recv_last().await {
                Ok((Event::Compiled, _)) => drop(is_compiled.send_replace(true)),
                Ok((Event::Exited(ended), _)) => {
                    if let Some(saved) = self.audience.saved() {
                        saved.exited(ended);
                    }
                    return Some(ended);
                }
                Ok(_) => {
                    warn!("the helper of a run gave an answer out of place");
                    break;
                }
                Err(error) => {
                    warn!("the helper of a run has gone: {error}");
                    break;
                }
            }
        }
        None
    }
}

/// What is said after the output of a program that did not end by itself, nor because its client has stopped
/// it.
fn last_words(ended: Ended, was_stopped: bool, kind: OutputKind) -> Option<String> {
    let Ended { status, limit, .. } = ended;
    let words = match status {
        _ if limit == Some(Limit::Memory) => return Some(OUT_OF_MEMORY.to_owned()),
        _ if limit == Some(Limit::Time) => return Some(OUT_OF_TIME.to_owned()),
        ExitStatus::Signaled(signal) if !was_stopped => fault(signal)?,
        ExitStatus::Signaled(_) | ExitStatus::Exited(_) => return None,
    };
    Some(if kind == OutputKind::Terminal { format!("\r\n{words}\r\n") } else { format!("{words}\n") })
}

/// The signals of faults, in the words of a shell. Without them a crash looks like an end.
fn fault(signal: u8) -> Option<&'static str> {
    Some(match NixSignal::try_from(i32::from(signal)).ok()? {
        NixSignal::SIGILL => "Illegal instruction",
        NixSignal::SIGTRAP => "Trace/breakpoint trap",
        NixSignal::SIGABRT => "Aborted",
        NixSignal::SIGBUS => "Bus error",
        NixSignal::SIGFPE => "Floating point exception",
        NixSignal::SIGSEGV => "Segmentation fault",
        NixSignal::SIGSYS => "Bad system call",
        NixSignal::SIGXCPU => "CPU time limit exceeded",
        NixSignal::SIGXFSZ => "File size limit exceeded",
        _ => return None,
    })
}

/// What clients hear of the end.
fn outcome(ended: Option<Ended>, was_stopped: bool) -> Outcome {
    let Some(Ended { status, limit, usage }) = ended else {
        return Outcome { exit_code: -9, reason: EndReason::Exited, usage: None };
    };
    let reason = match limit {
        Some(Limit::Memory) => EndReason::Memory,
        Some(Limit::Time) => EndReason::Time,
        Some(Limit::Processes) => EndReason::Processes,
        None if was_stopped => EndReason::Stopped,
        None => EndReason::Exited,
    };
    let usage = Usage { cpu_ms: usage.cpu / 1000, peak_memory: usage.memory * 1024 };
    Outcome { exit_code: exit_code(status), reason, usage: Some(usage) }
}

/// The exit code, or minus the signal number (B6.2).
fn exit_code(status: ExitStatus) -> i32 {
    match status {
        ExitStatus::Exited(code) => code.into(),
        ExitStatus::Signaled(signal) => -i32::from(signal),
    }
}
