//! The state behind one connection: its processes, by the client's ids, and what each message does to them.
//!
//! Messages are handled strictly one after the other (B4.8). A session knows an outbox, never a socket, so that it could
//! outlive its connection one day.

use std::{collections::HashMap, sync::Arc};

use further_link_api::{ClientError, ClientMessage, Integer, ProcessId, ServerMessage, Signal, Start};
use further_link_proto::WindowSize;
use tokio::task::JoinSet;

use crate::{
    access::run_as::{self, Choices},
    access::tokens::Guard,
    helper::pool::Helpers,
    memory::budget::Budgets,
    outbox::{Gone, Outbox},
    process::{NotTaken, Process},
    upload::Uploads,
    upload::request::{self, Fault},
};

/// Most processes at once on one connection: more than any page shows, fewer than a helper socket serves in all.
const MAX_PROCESSES: usize = 64;

/// What all sessions share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) helpers: Arc<Helpers>,
    pub(crate) uploads: Arc<Uploads>,
    pub(crate) budgets: Budgets,
}

/// One client's session.
pub(crate) struct Session {
    shared: Shared,
    choices: Choices,
    guard: Guard,
    outbox: Outbox,
    processes: HashMap<ProcessId, Process>,
    tasks: JoinSet<()>,
}

impl Session {
    pub(crate) fn new(shared: Shared, choices: Choices, guard: Guard, outbox: Outbox) -> Self {
        Self { shared, choices, guard, outbox, processes: HashMap::new(), tasks: JoinSet::new() }
    }

    /// Handles one message, or what was none.
    pub(crate) async fn handle(&mut self, message: Result<ClientMessage, ClientError>) -> Result<(), Gone> {
        while self.tasks.try_join_next().is_some() {}
        let outcome = match message {
            Ok(ClientMessage::Ping) => return self.outbox.say(ServerMessage::Pong, None).await,
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
                Ok(()) => return self.outbox.say(ServerMessage::Uploaded, None).await,
                Err(complaint) => Err(complaint),
            },
            Err(complaint) => Err(complaint),
        };
        match outcome {
            Ok(()) => Ok(()),
            // Never with a process id: clients would take it for the process's own end (B4.2).
            Err(complaint) => self.outbox.say(ServerMessage::from(&complaint), None).await,
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
            return Err(ClientError::BadMessage);
        }
        if self.processes.len() >= MAX_PROCESSES {
            let why = format!("{MAX_PROCESSES} programs run on this connection already; stop one first");
            return Err(ClientError::NotStarted(why));
        }
        let run = run_as::request(&self.choices, &start)?;
        if run.identity.token.is_some() {
            self.guard.check().map_err(ClientError::NotStarted)?;
        }
        let code = start.code.as_deref();
        let process = Process::start(
            &self.shared.helpers,
            &self.shared.budgets,
            run,
            code,
            id.clone(),
            &self.outbox,
            &mut self.tasks,
        )
        .await;
        if matches!(process, Err(ClientError::WrongToken(_))) {
            self.guard.wrong().await;
        }
        self.processes.insert(id, process?);
        Ok(())
    }

    async fn write(&self, id: &ProcessId, input: String, end: bool) -> Result<(), ClientError> {
        let process = self.live(id)?;
        if end && self.choices.terminal.is_some() {
            return Err(ClientError::NoEndOnTerminal);
        }
        process.write(input, end).await.map_err(|not_taken| match not_taken {
            NotTaken::NotRead => ClientError::MessageException,
            NotTaken::Ended => ClientError::BadMessage,
        })
    }

    fn resize(&self, id: &ProcessId, rows: Integer, cols: Integer) -> Result<(), ClientError> {
        let process = self.live(id)?;
        if self.choices.terminal.is_none() {
            return Err(ClientError::BadMessage);
        }
        match (rows, cols) {
            (Integer::Fits(rows), Integer::Fits(cols)) if process.resize(WindowSize { rows, cols }) => Ok(()),
            _ => Err(ClientError::MessageException),
        }
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
        let request = request::parse(directory.as_bytes()).map_err(|wrong| match wrong.fault {
            Fault::Shape => ClientError::BadMessage,
            Fault::OddType => ClientError::MessageException,
            Fault::Impossible | Fault::TooLarge => ClientError::BadUpload,
        })?;
        // The reason is in the log: the text of this answer is fixed (B4.6).
        let stored = self.shared.uploads.store(&self.choices, &self.guard, &request).await;
        stored.map_err(|_| ClientError::BadUpload)
    }

    fn live(&self, id: &ProcessId) -> Result<&Process, ClientError> {
        self.processes.get(id).filter(|process| process.is_live()).ok_or(ClientError::BadMessage)
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
