//! The state behind one connection: its processes, by the client's ids, and what each message does to them.
//!
//! Messages are handled strictly one after the other (B4.8). A session knows an outbox, never a socket, so
//! that it could outlive its connection one day.

use std::{collections::HashMap, sync::Arc, time::Duration};

use further_link_api::{
    BadMessage, ClientError, ClientMessage, Integer, ProcessId, ServerMessage, Signal, Start, StartFailure,
};
use further_link_proto::WindowSize;
use tokio::{task::JoinSet, time::timeout};
use tracing::{debug, info};

use crate::{
    access::run_as::{self, RunOptions},
    access::tokens::TokenAttempts,
    helper::pool::HelperPool,
    memory::budget::Budgets,
    outbox::{Disconnected, Outbox},
    process::{self, NotTaken, Process},
    upload::Uploads,
    upload::request::{self, ErrorKind},
};

/// The client hears of a start before anything else (B4.8), unless it takes longer: it hangs then.
const START_PATIENCE: Duration = Duration::from_millis(50);

/// What all sessions share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) helpers: Arc<HelperPool>,
    pub(crate) uploads: Arc<Uploads>,
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
    processes: HashMap<ProcessId, Process>,
    tasks: JoinSet<()>,
}

impl Session {
    pub(crate) fn new(shared: Shared, options: RunOptions, attempts: TokenAttempts, outbox: Outbox) -> Self {
        Self { shared, options, attempts, outbox, processes: HashMap::new(), tasks: JoinSet::new() }
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
            Ok(ClientMessage::Stdin { process, input, end }) => self.write(&process, input, end).await,
            Ok(ClientMessage::Resize { process, rows, cols }) => self.resize(&process, rows, cols),
            Ok(ClientMessage::Stop { process, signal }) => self.stop(&process, signal).await,
            Ok(ClientMessage::Signal { process, signal }) => self.signal(&process, signal).await,
            // Without a listener in the program there is neither a reply nor an error (B5).
            Ok(ClientMessage::KeyEvent { process, key, event }) => {
                self.live(&process).map(|process| process.key_event(&key, &event))
            }
            Ok(ClientMessage::Upload { directory }) => match Box::pin(self.upload(&directory)).await {
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

    /// The client is gone: ends all its programs, and waits until the last has ended.
    pub(crate) async fn close(mut self) {
        for process in self.processes.values().filter(|process| process.is_live()) {
            process.stop(None).await;
        }
        while self.tasks.join_next().await.is_some() {}
    }

    async fn start(&mut self, id: ProcessId, start: Start) -> Result<(), ClientError> {
        self.processes.retain(|_, process| process.is_live());
        if self.processes.contains_key(&id) {
            return Err(BadMessage::ProcessInUse.into());
        }
        let most = self.shared.max_programs_per_connection;
        if self.processes.len() >= most {
            return Err(StartFailure::ConnectionFull { most }.into());
        }
        let run = run_as::request(&self.options, &start)?;
        let another_hangs = self.processes.values().any(Process::is_starting);
        let start = process::Start {
            helpers: Arc::clone(&self.shared.helpers),
            max_programs: self.shared.max_programs,
            budgets: self.shared.budgets.clone(),
            attempts: self.attempts.clone(),
            outbox: self.outbox.clone(),
            id: id.clone(),
            caller: self.options.caller.clone(),
            run,
            code: start.code,
        };
        let (process, settled) = Process::start(start, &mut self.tasks);
        self.processes.insert(id, process);
        if !another_hangs {
            // A start that hangs delays nothing else of this connection.
            let (Ok(()) | Err(_)) = timeout(START_PATIENCE, settled.wait()).await;
        }
        Ok(())
    }

    async fn write(&self, id: &ProcessId, input: String, end: bool) -> Result<(), ClientError> {
        let process = self.live(id)?;
        if end && self.options.terminal.is_some() {
            return Err(ClientError::NoEndOnTerminal);
        }
        process.write(input, end).await.map_err(|not_taken| match not_taken {
            NotTaken::NotRead => ClientError::MessageException,
            NotTaken::Ended => BadMessage::InputEnded.into(),
        })
    }

    fn resize(&self, id: &ProcessId, rows: Integer, cols: Integer) -> Result<(), ClientError> {
        let process = self.live(id)?;
        if self.options.terminal.is_none() {
            return Err(BadMessage::NoTerminal.into());
        }
        let (Integer::Fits(rows), Integer::Fits(cols)) = (rows, cols) else {
            return Err(ClientError::MessageException);
        };
        process.resize(WindowSize { rows, cols });
        Ok(())
    }

    async fn stop(&self, id: &ProcessId, first: Option<Signal>) -> Result<(), ClientError> {
        self.live(id)?.stop(first.map(in_protocol)).await;
        Ok(())
    }

    async fn signal(&self, id: &ProcessId, signal: Signal) -> Result<(), ClientError> {
        self.live(id)?.signal(in_protocol(signal)).await;
        Ok(())
    }

    async fn upload(&self, directory: &str) -> Result<(), ClientError> {
        let request = request::parse(directory.as_bytes()).map_err(|wrong| match wrong.kind {
            ErrorKind::Shape => BadMessage::Upload.into(),
            ErrorKind::OddType => ClientError::MessageException,
            ErrorKind::Impossible | ErrorKind::TooLarge => ClientError::BadUpload,
        })?;
        // The reason is in the log: the text of this answer is fixed (B4.6).
        let stored = self.shared.uploads.store(&self.options, &self.attempts, &request).await;
        stored.map_err(|_| ClientError::BadUpload)
    }

    fn live(&self, id: &ProcessId) -> Result<&Process, ClientError> {
        self.processes.get(id).filter(|process| process.is_live()).ok_or(BadMessage::NoSuchProcess.into())
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
