//! One program from `started` to `stopped`: the frontend's half of a run. One task moves everything it reads and writes.
//!
//! `start` returns when the helper has said whether the program runs. The handle is the session's; the task ends when the
//! last byte of output and `stopped` are in the outbox, whether or not anybody still reads them.

pub(crate) mod channel;
pub(crate) mod output;

mod input;
mod phase;
mod utf8;

pub(crate) use input::NotTaken;

use std::{
    io,
    os::fd::OwnedFd,
    sync::{Arc, Weak},
    time::Duration,
};

use further_link_api::{ClientError, ProcessId, ServerMessage};
use further_link_proto::{Event, ExitStatus, Request, Run, Signal, UserName, WindowSize};
use tokio::{io::Interest, sync::watch, task::JoinSet, time::timeout};
use tracing::{debug, warn};

use crate::{
    helper::pool::{Conversation, HelperError, Helpers, MAX_RUNS},
    helper::reasons::not_started,
    helper::stream::Stream,
    memory::budget::Budgets,
    outbox::{Gone, Outbox},
    process::channel::UserChannel,
    process::channel::connection,
    process::channel::keys::Keyboard,
    process::input::Input,
    process::output::{Channel, Output},
    process::phase::{Happening, Phase},
};

/// A start that takes longer than this (a file system that hangs) is given up.
const START_LIMIT: Duration = Duration::from_secs(30);

/// What the client is told when the kernel has ended a program for want of memory.
const OUT_OF_MEMORY: &str = "\r\nfurther-link: the program was ended because it used too much memory\r\n";

/// Why a process did not start.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Helper(#[from] HelperError),
    #[error("the helper answered {0:?}")]
    Answer(Event),
    #[error("the helper's descriptors are not usable: {0}")]
    Descriptors(#[from] io::Error),
}

/// The session's handle of a process. Dropping it does not stop the process: the session stops it and waits.
pub(crate) struct Process {
    /// Gone when the program has ended.
    conversation: Weak<Conversation>,
    input: Arc<Input>,
    keyboard: Arc<Keyboard>,
    terminal: Option<Arc<Stream>>,
    phase: Arc<watch::Sender<Phase>>,
}

/// The streams of a process.
struct Streams {
    input: Arc<Stream>,
    outputs: Vec<Output>,
    terminal: Option<Arc<Stream>>,
    /// The listening socket of the user channel.
    channel: Stream,
}

impl Process {
    /// Starts a program, says `started`, and lets a task of `tasks` see to the rest.
    pub(crate) async fn start(
        helpers: &Helpers,
        budgets: &Budgets,
        run: Run,
        code: Option<&str>,
        id: ProcessId,
        outbox: &Outbox,
        tasks: &mut JoinSet<()>,
    ) -> Result<Self, ClientError> {
        let runner = run.runner;
        let user = run.identity.user.clone();
        let request = Request::Run(run);
        let (conversation, streams) = timeout(START_LIMIT, begin(helpers, &request, code))
            .await
            .map_err(|_elapsed| ClientError::NotStarted("the device did not start it in time".to_owned()))?
            .map_err(|error| match error {
                StartError::Answer(event) => not_started(&event, runner, user.as_ref().map(UserName::as_str)),
                StartError::Helper(HelperError::Busy) => ClientError::NotStarted(format!(
                    "{MAX_RUNS} programs run on this device already; stop one first"
                )),
                error => {
                    warn!("start failed: {error}");
                    ClientError::NotStarted(
                        "the helper service does not answer; see the log of further-link".to_owned(),
                    )
                }
            })?;
        let conversation = Arc::new(conversation);
        let process = Self {
            conversation: Arc::downgrade(&conversation),
            input: Arc::new(Input::new(budgets.input.clone())),
            keyboard: Arc::default(),
            terminal: streams.terminal,
            phase: Arc::new(watch::Sender::new(Phase::Starting.after(Happening::Started))),
        };
        // A client that is gone will be noticed by its session, which then stops this process.
        let (Ok(()) | Err(Gone)) = outbox.say(ServerMessage::Started, Some(&id)).await;
        let channel = UserChannel {
            listener: streams.channel,
            keyboard: Arc::clone(&process.keyboard),
            places: Arc::clone(&budgets.connections),
            run: connection::Run {
                outbox: outbox.clone(),
                id: id.clone(),
                phase: process.phase.subscribe(),
                budget: budgets.channel(),
            },
        };
        let life = Life {
            conversation,
            input: Arc::clone(&process.input),
            phase: Arc::clone(&process.phase),
            outbox: outbox.clone(),
            id,
            last_words: if process.terminal.is_some() { Channel::Terminal } else { Channel::Stderr },
        };
        tasks.spawn(life.live(streams.input, streams.outputs, channel));
        Ok(process)
    }

    /// Whether messages may still name it.
    pub(crate) fn is_live(&self) -> bool {
        self.phase.borrow().is_live()
    }

    /// Queues input. With `end` nothing comes after it: a program on a pipe reads its end.
    pub(crate) async fn write(&self, input: String, end: bool) -> Result<(), NotTaken> {
        self.input.push(input, end).await
    }

    /// False without a terminal.
    pub(crate) fn resize(&self, size: WindowSize) -> bool {
        let Some(terminal) = &self.terminal else { return false };
        if let Err(error) = terminal.resize(size) {
            debug!("cannot resize: {error}");
        }
        true
    }

    /// Tells the programs that listen for the key. Never waits for them.
    pub(crate) fn key_event(&self, key: &str, event: &str) {
        self.keyboard.event(key, event);
    }

    /// Asks the helper to end it. A helper that is gone has ended it already.
    pub(crate) async fn stop(&self, first: Option<Signal>) {
        self.phase.send_modify(|phase| *phase = phase.after(Happening::StopAsked));
        self.ask(&Request::Stop { first }).await;
    }

    /// Has the helper send a signal to the run, which goes on.
    pub(crate) async fn signal(&self, signal: Signal) {
        self.ask(&Request::Signal(signal)).await;
    }

    async fn ask(&self, request: &Request) {
        if let Some(conversation) = self.conversation.upgrade()
            && let Err(error) = conversation.send(request).await
        {
            debug!("{request:?}: {error}");
        }
    }
}

/// Asks a helper to start the program. A spare may have died while it waited (an update, a kill): when the request was
/// not read nothing was started, and another one is asked.
async fn begin(
    helpers: &Helpers,
    request: &Request,
    code: Option<&str>,
) -> Result<(Conversation, Streams), StartError> {
    let mut conversation = helpers.take().await?;
    let mut heard = ask(&conversation, request).await;
    if heard.as_ref().is_err_and(HelperError::is_unread) {
        conversation = helpers.take().await?;
        heard = ask(&conversation, request).await;
    }
    let (mut event, mut descriptors) = heard?;
    if event == Event::Data {
        write_code(descriptors, code.unwrap_or_default()).await?;
        (event, descriptors) = conversation.recv().await?;
    }
    match event {
        Event::Started { .. } => Ok((conversation, streams(descriptors)?)),
        event => Err(StartError::Answer(event)),
    }
}

async fn ask(conversation: &Conversation, request: &Request) -> Result<(Event, Vec<OwnedFd>), HelperError> {
    conversation.send(request).await?;
    conversation.recv().await
}

async fn write_code(descriptors: Vec<OwnedFd>, code: &str) -> Result<(), StartError> {
    let Ok([pipe]) = <[OwnedFd; 1]>::try_from(descriptors) else {
        return Err(StartError::Answer(Event::Data));
    };
    if let Err(error) = Stream::new(pipe, Interest::WRITABLE)?.write_all(code.as_bytes()).await {
        // The other side could not write the file: its event, which comes next, says why.
        debug!("program text: {error}");
    }
    Ok(())
}

fn streams(mut descriptors: Vec<OwnedFd>) -> Result<Streams, StartError> {
    let stream = |descriptor, interest| Stream::new(descriptor, interest).map(Arc::new);
    let neither = || io::Error::other("neither a terminal nor three pipes, with a user channel");
    let channel = Stream::new(descriptors.pop().ok_or_else(neither)?, Interest::READABLE)?;
    let mut descriptors = descriptors.into_iter();
    match (descriptors.next(), descriptors.next(), descriptors.next()) {
        (Some(leader), None, None) => {
            let leader = stream(leader, Interest::READABLE | Interest::WRITABLE)?;
            let outputs = vec![Output::new(Channel::Terminal, Arc::clone(&leader))];
            Ok(Streams { input: Arc::clone(&leader), outputs, terminal: Some(leader), channel })
        }
        (Some(stdin), Some(stdout), Some(stderr)) => Ok(Streams {
            input: stream(stdin, Interest::WRITABLE)?,
            outputs: vec![
                Output::new(Channel::Stdout, stream(stdout, Interest::READABLE)?),
                Output::new(Channel::Stderr, stream(stderr, Interest::READABLE)?),
            ],
            terminal: None,
            channel,
        }),
        _ => Err(neither().into()),
    }
}

/// What the task of a process holds.
struct Life {
    conversation: Arc<Conversation>,
    input: Arc<Input>,
    phase: Arc<watch::Sender<Phase>>,
    outbox: Outbox,
    id: ProcessId,
    /// Where the daemon itself has something to say.
    last_words: Channel,
}

impl Life {
    async fn live(self, stdin: Arc<Stream>, outputs: Vec<Output>, channel: UserChannel) {
        let outputs =
            outputs.into_iter().map(|output| output.run(&self.outbox, &self.id, self.phase.subscribe()));
        let output = futures_util::future::join_all(outputs);
        let end = async {
            let status = self.exit_status().await;
            self.happened(Happening::Exited);
            status
        };
        let status = tokio::select! {
            (status, _, ()) = async { tokio::join!(end, output, channel.serve()) } => status,
            never = self.input.feed(stdin) => match never {},
        };
        if status == ExitStatus::OutOfMemory {
            // Where the person looks: behind what the program printed last.
            let words = self.last_words.message(OUT_OF_MEMORY);
            let (Ok(()) | Err(Gone)) = self.outbox.say(words, Some(&self.id)).await;
        }
        let (Ok(()) | Err(Gone)) = self.outbox.say_last_frame(&self.id).await;
        // The id is free before the client hears of it (B6.1).
        self.happened(Happening::Drained);
        let exit_code = exit_code(status);
        let (Ok(()) | Err(Gone)) =
            self.outbox.say(ServerMessage::Stopped { exit_code }, Some(&self.id)).await;
        // The connection goes first: what the helper does when the conversation is closed can wait.
        tokio::task::yield_now().await;
    }

    /// Waits for the helper's last event. A helper that is gone without one was killed, and its run with it.
    async fn exit_status(&self) -> ExitStatus {
        let mut heard = self.conversation.recv().await;
        if heard.as_ref().is_err_and(HelperError::is_unread) {
            // The helper ended with our `Stop` unread: the kernel says "reset" first, and then what was said before.
            heard = self.conversation.recv().await;
        }
        match heard {
            Ok((Event::Exited(status), _)) => return status,
            Ok((event, _)) => warn!("the helper said {event:?} out of place"),
            Err(error) => warn!("the helper of a run has gone: {error}"),
        }
        ExitStatus::Signaled(9)
    }

    fn happened(&self, happening: Happening) {
        self.phase.send_modify(|phase| *phase = phase.after(happening));
    }
}

/// The exit code, or minus the signal number (B6.2).
fn exit_code(status: ExitStatus) -> i32 {
    match status {
        ExitStatus::Exited(code) => code.into(),
        ExitStatus::Signaled(signal) => -i32::from(signal),
        ExitStatus::OutOfMemory => -9,
    }
}
