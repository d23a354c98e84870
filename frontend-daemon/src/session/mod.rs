//! The state behind one connection: its processes, by the client's ids, and what each message does to them.
//!
//! Messages are handled strictly one after the other (B4.8). A session knows an outbox, never a socket. Its
//! processes end with it; kept programs, to which it has handles only, do not.

mod entry;

use std::{collections::HashMap, sync::Arc, time::Duration};

use further_link_api::{
    Attach, BadMessage, ClientError, ClientMessage, Dialect, Hello, HelloAnswer, Integer, Keep, KeptLimits,
    KeptMessage, MAX_MESSAGE, ProcessId, ServerMessage, Signal, Start, StartFailure, VERSION,
};
use further_link_proto::WindowSize;
use tokio::{task::JoinSet, time::timeout};
use tracing::{debug, info};

use crate::{
    access::run_as::{self, Requested, RunOptions},
    access::tokens::TokenAttempts,
    device::names,
    helper::pool::HelperPool,
    kept::{Attachment, Hash, KeptPrograms, Owner, Plan},
    memory::budget::Budgets,
    outbox::{Disconnected, Outbox},
    process::{self, Process, Settled},
    runners::Runners,
    session::entry::Entry,
    transcript::Audience,
    upload::Uploads,
    upload::json::Whole,
    upload::request::{self, ErrorKind, ReadError},
    versions::Versions,
};

/// The client hears of a start before anything else (B4.8), unless it takes longer: it hangs then.
const START_PATIENCE: Duration = Duration::from_millis(50);
/// What a client may find here that a server of the original does not have.
const FEATURES: [&str; 6] = [KEEP, ACK, "end", "runners", "signal", "size"];
/// Kept programs, unless the settings allow none.
const KEEP: &str = "keep";
/// Of the output of kept programs.
const ACK: &str = "ack";

/// What all sessions share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) runners: Arc<Runners>,
    pub(crate) versions: Arc<Versions>,
    pub(crate) helpers: Arc<HelperPool>,
    pub(crate) uploads: Arc<Uploads>,
    pub(crate) kept: Arc<KeptPrograms>,
    pub(crate) budgets: Budgets,
    /// Most programs at once, which is what `helpers` has slots for.
    pub(crate) max_programs: usize,
    pub(crate) max_programs_per_connection: usize,
}

/// One client's session.
pub(crate) struct Session {
    shared: Shared,
    options: RunOptions,
    attempts: TokenAttempts,
    outbox: Outbox,
    dialect: Dialect,
    /// To whom its kept programs belong.
    owner: Owner,
    /// It says itself what output of kept programs it has used.
    acks: bool,
    processes: HashMap<ProcessId, Entry>,
    tasks: JoinSet<()>,
}

impl Session {
    pub(crate) fn new(
        shared: Shared,
        options: RunOptions,
        attempts: TokenAttempts,
        outbox: Outbox,
        dialect: Dialect,
    ) -> Self {
        let owner = Owner::Connection(options.connection);
        let (processes, tasks) = (HashMap::new(), JoinSet::new());
        Self { shared, options, attempts, outbox, dialect, owner, acks: false, processes, tasks }
    }

    /// How its client writes the next message.
    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Handles one message, or what was none.
    pub(crate) async fn handle(
        &mut self,
        message: Result<ClientMessage, ClientError>,
    ) -> Result<(), Disconnected> {
        while self.tasks.try_join_next().is_some() {}
        let outcome = match message {
            Ok(ClientMessage::Ping) => return self.outbox.send(ServerMessage::Pong, None).await,
            // Boxed, as what an idle connection need not have room for.
            Ok(ClientMessage::Start { process, start }) => Box::pin(self.start(process, start)).await,
            Ok(ClientMessage::Stdin { process, input, end, n }) => self.write(&process, input, end, n).await,
            Ok(ClientMessage::Resize { process, rows, cols }) => self.resize(&process, rows, cols).await,
            Ok(ClientMessage::Stop { process, signal }) => self.stop(&process, signal).await,
            Ok(ClientMessage::Signal { process, signal }) => self.signal(&process, signal).await,
            // Without a listener in the program there is neither a reply nor an error (B5).
            Ok(ClientMessage::KeyEvent { process, key, event }) => {
                self.live(&process).and_then(Entry::process).map(|process| process.key_event(&key, &event))
            }
            Ok(ClientMessage::Hello(hello)) => return self.hello(&hello).await,
            Ok(ClientMessage::Attach { process, attach }) => self.attach(process, &attach),
            Ok(ClientMessage::Detach { process }) => self.detach(&process),
            Ok(ClientMessage::Take { process }) => self.take(&process).await,
            Ok(ClientMessage::Ack { process, seq }) => {
                // It may cross the program's end.
                if let Some(Entry::Kept(attachment)) = self.processes.get(&process) {
                    attachment.ack(seq);
                }
                Ok(())
            }
            Ok(ClientMessage::Sessions) => return self.sessions().await,
            Ok(ClientMessage::Upload { directory }) => match Box::pin(self.upload(directory)).await {
                Ok(()) => return self.outbox.send(ServerMessage::Uploaded, None).await,
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => Ok(()),
            // Never with a process id: clients would take it for the process's own end (B4.2).
            Err(error) => {
                match &error {
                    ClientError::BadMessage(reason) => {
                        debug!("connection {}: bad message: {reason}", self.options.connection);
                    }
                    // A task logs its own failures.
                    ClientError::NotStarted(failure) => {
                        info!("connection {}: a start failed: {failure}", self.options.connection);
                    }
                    _ => debug!("connection {}: {error}", self.options.connection),
                }
                self.outbox.send(ServerMessage::from(&error), None).await
            }
        }
    }

    /// Completes when the task of a program has panicked.
    pub(crate) async fn panicked(&mut self) {
        panicked(&mut self.tasks).await;
    }

    /// The client is gone: leaves its kept programs, ends all others, and waits until the last has ended.
    pub(crate) async fn close(mut self) {
        for process in self.processes.values().filter(|process| process.is_live()) {
            process.close().await;
        }
        while self.tasks.join_next().await.is_some() {}
    }

    async fn start(&mut self, id: ProcessId, start: Start) -> Result<(), ClientError> {
        self.has_place_for(&id)?;
        let runner = self.shared.runners.choose(&start)?;
        self.shared.runners.check(&start, &runner)?;
        let requested = run_as::request(&self.options, &start, runner)?;
        let another_hangs = self.processes.values().any(Entry::is_starting);
        let settled = if let Some(keep) = start.keep {
            self.start_kept(id, keep, start, requested).await?
        } else {
            let audience = Audience::Client { outbox: self.outbox.clone(), id: id.clone() };
            let start = self.process_start(audience, requested, start.code);
            let (process, settled) = Process::start(start, &mut self.tasks);
            self.processes.insert(id, Entry::Own(process));
            settled
        };
        if !another_hangs {
            // A start that hangs delays nothing else of this connection.
            let (Ok(()) | Err(_)) = timeout(START_PATIENCE, settled.wait()).await;
        }
        Ok(())
    }

    fn process_start(
        &self,
        audience: Audience,
        requested: Requested,
        code: Option<String>,
    ) -> process::Start {
        process::Start {
            runners: Arc::clone(&self.shared.runners),
            helpers: Arc::clone(&self.shared.helpers),
            max_programs: self.shared.max_programs,
            budgets: self.shared.budgets.clone(),
            attempts: self.attempts.clone(),
            audience,
            caller: self.options.caller.clone(),
            run: requested.run,
            details: requested.details,
            code,
        }
    }

    async fn start_kept(
        &mut self,
        id: ProcessId,
        keep: Keep,
        start: Start,
        requested: Requested,
    ) -> Result<Settled, ClientError> {
        let plan = Plan {
            keep,
            owner: self.owner.clone(),
            who: self.options.who(),
            user: self.options.user.clone(),
            runner: requested.run.runner.as_str().to_owned(),
            path: start.path,
            terminal: requested.run.terminal,
        };
        let kept = Arc::clone(&self.shared.kept);
        let (attachment, settled) =
            kept.start(plan, |audience| self.process_start(audience, requested, start.code)).await?;
        self.serve_kept(id, attachment, None);
        Ok(settled)
    }

    /// Has a task give the client this message, and then what the program says. From here on the task sees
    /// to it that the client is taken out again.
    fn serve_kept(&mut self, id: ProcessId, attachment: Attachment, first: Option<String>) {
        if self.acks {
            attachment.wait_for_acks();
        }
        let (kept, who) = (Arc::clone(&self.shared.kept), self.options.who());
        let (served, outbox, process) = (attachment.clone(), self.outbox.clone(), id.clone());
        self.tasks.spawn(async move { kept.serve(served, first, outbox, process, who).await });
        self.processes.insert(id, Entry::Kept(attachment));
    }

    async fn hello(&mut self, hello: &Hello) -> Result<(), Disconnected> {
        self.dialect = Dialect::Version1;
        self.outbox.speak(self.dialect);
        self.acks = hello.acks;
        if let Some(client) = &hello.client {
            self.owner = Owner::Client(Hash::of(client.as_str()));
        }
        let kept = &self.shared.kept.limits;
        let answer = HelloAnswer {
            version: VERSION,
            server: concat!("further-link ", env!("CARGO_PKG_VERSION")).to_owned(),
            device: names::host_name(),
            features: FEATURES
                .iter()
                .filter(|name| ![KEEP, ACK].contains(name) || kept.programs > 0)
                .map(|name| (*name).to_owned())
                .collect(),
            limits: KeptLimits {
                message: MAX_MESSAGE,
                programs: self.shared.max_programs_per_connection,
                keep_seconds: kept.seconds,
                sessions: kept.programs,
                sessions_per_client: kept.programs_per_client,
                viewers: kept.transcript.viewers,
                text: kept.transcript.text,
                text_of_all: kept.text_of_all,
            },
            runners: self.shared.versions.entries(),
        };
        self.outbox.send(ServerMessage::Kept(KeptMessage::Hello(answer)), None).await
    }

    fn attach(&mut self, id: ProcessId, attach: &Attach) -> Result<(), ClientError> {
        self.has_place_for(&id)?;
        let who = self.options.who();
        let (attachment, attached) = self.shared.kept.attach(attach, &self.owner, &id, &who)?;
        self.serve_kept(id, attachment, Some(attached));
        Ok(())
    }

    async fn take(&self, id: &ProcessId) -> Result<(), ClientError> {
        self.kept(id)?.take_keyboard().await
    }

    fn detach(&self, id: &ProcessId) -> Result<(), ClientError> {
        self.kept(id).map(Attachment::leave)
    }

    async fn sessions(&self) -> Result<(), Disconnected> {
        let sessions = self.shared.kept.of_owner(&self.owner);
        self.outbox.send(ServerMessage::Kept(KeptMessage::Sessions { sessions }), None).await
    }

    /// Whether one more process may have this id.
    fn has_place_for(&mut self, id: &ProcessId) -> Result<(), ClientError> {
        self.processes.retain(|_, process| !process.is_over());
        if self.processes.contains_key(id) {
            return Err(BadMessage::ProcessInUse.into());
        }
        let most = self.shared.max_programs_per_connection;
        if self.processes.len() >= most {
            return Err(StartFailure::ConnectionFull { most }.into());
        }
        Ok(())
    }

    async fn write(
        &self,
        id: &ProcessId,
        input: String,
        end: bool,
        number: Option<u64>,
    ) -> Result<(), ClientError> {
        let process = self.usable(id)?;
        if end && process.has_terminal(&self.options) {
            return Err(ClientError::NoEndOnTerminal);
        }
        process.write(input, end, number).await
    }

    async fn resize(&self, id: &ProcessId, rows: Integer, cols: Integer) -> Result<(), ClientError> {
        let process = self.usable(id)?;
        if !process.has_terminal(&self.options) {
            return Err(BadMessage::NoTerminal.into());
        }
        let (Integer::Fits(rows), Integer::Fits(cols)) = (rows, cols) else {
            return Err(ClientError::MessageException);
        };
        process.resize(WindowSize { rows, cols }).await
    }

    async fn stop(&self, id: &ProcessId, first: Option<Signal>) -> Result<(), ClientError> {
        self.live(id)?.stop(first.map(in_protocol)).await
    }

    async fn signal(&self, id: &ProcessId, signal: Signal) -> Result<(), ClientError> {
        self.live(id)?.process()?.signal(in_protocol(signal)).await;
        Ok(())
    }

    async fn upload(&self, directory: String) -> Result<(), ClientError> {
        let request = match request::read(Whole::new(directory), Vec::new()).await {
            Ok(request) => request,
            Err(ReadError::Source(never)) => match never {},
            Err(ReadError::Request(wrong)) => {
                return Err(match wrong.kind {
                    ErrorKind::Shape => BadMessage::Upload.into(),
                    ErrorKind::OddType => ClientError::MessageException,
                    ErrorKind::Impossible | ErrorKind::TooLarge => ClientError::BadUpload,
                });
            }
        };
        // The reason is in the log: the text of this answer is fixed (B4.6).
        let stored = self.shared.uploads.store(&self.options, &self.attempts, &request).await;
        stored.map_err(|_| ClientError::BadUpload)
    }

    /// The kept program with this id.
    fn kept(&self, id: &ProcessId) -> Result<&Attachment, ClientError> {
        match self.live(id)? {
            Entry::Kept(attachment) => Ok(attachment),
            Entry::Own(_) => Err(ClientError::NotKept),
        }
    }

    fn live(&self, id: &ProcessId) -> Result<&Entry, ClientError> {
        self.processes.get(id).filter(|process| process.is_live()).ok_or(BadMessage::NoSuchProcess.into())
    }

    /// A live process whose client may do more than watch.
    fn usable(&self, id: &ProcessId) -> Result<&Entry, ClientError> {
        let process = self.live(id)?;
        process.may_use()?;
        Ok(process)
    }
}

fn in_protocol(signal: Signal) -> further_link_proto::Signal {
    match signal {
        Signal::Interrupt => further_link_proto::Signal::Interrupt,
        Signal::Terminate => further_link_proto::Signal::Terminate,
        Signal::HangUp => further_link_proto::Signal::HangUp,
        Signal::Kill => further_link_proto::Signal::Kill,
    }
}

async fn panicked(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        if ended.is_err_and(|error| error.is_panic()) {
            return;
        }
    }
    std::future::pending::<()>().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn a_panic_is_noticed_and_a_usual_end_is_not() {
        let mut tasks = JoinSet::new();
        tasks.spawn(async {});
        assert!(panicked(&mut tasks).now_or_never().is_none());
        tasks.spawn(async {});
        tasks.spawn(async { panic!("as a bug would") });
        panicked(&mut tasks).await;
    }
}
