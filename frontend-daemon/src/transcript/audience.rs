//! To whom a program speaks: the one client that has started it, or the transcript of a kept program.

use std::sync::Arc;

use further_link_api::{
    ClientError, Dialect, KeptMessage, Outcome, OutputStream, ProcessId, ServerMessage, StartFailure,
};

use crate::{
    memory::budget::Reservation,
    outbox::{Disconnected, Outbox},
    transcript::Transcript,
    transcript::saved::Saved,
    transcript::state::Opening,
};

/// The audience of one program.
#[derive(Clone)]
pub(crate) enum Audience {
    /// A client, which knows the program by this id.
    Client { outbox: Outbox, id: ProcessId },
    /// The clients that are attached, now or later.
    Kept(Arc<Transcript>),
}

impl Audience {
    /// What is left of the program for the next process of this service, if anything is.
    pub(crate) fn saved(&self) -> Option<&Arc<Saved>> {
        match self {
            Self::Client { .. } => None,
            Self::Kept(transcript) => transcript.saved(),
        }
    }

    /// Waits until this process leaves the program to the next one.
    pub(crate) async fn left(&self) {
        match self.saved() {
            Some(saved) => saved.left().await,
            None => std::future::pending().await,
        }
    }

    /// The program runs.
    pub(crate) async fn started(&self) {
        match self {
            // A client that is gone will be noticed by its session, which then stops the process.
            Self::Client { outbox, id } => {
                let (Ok(()) | Err(Disconnected)) = outbox.send(ServerMessage::Started, Some(id)).await;
            }
            Self::Kept(transcript) => transcript.opened(Opening::Started),
        }
    }

    /// The program does not run.
    pub(crate) async fn failed(&self, failure: StartFailure) {
        match self {
            // Never with the process id: clients would take it for the process's own end (B4.2).
            Self::Client { outbox, .. } => {
                let error = ClientError::NotStarted(failure);
                let (Ok(()) | Err(Disconnected)) = outbox.send(ServerMessage::from(&error), None).await;
            }
            Self::Kept(transcript) => transcript.opened(Opening::Failed(failure)),
        }
    }

    /// Text of a stream, of so many bytes that were read. Waits as long as the program has to wait.
    pub(crate) async fn output(
        &self,
        stream: OutputStream,
        read: usize,
        text: &str,
    ) -> Result<(), Disconnected> {
        match self {
            Self::Client { outbox, id } => {
                let message = match stream {
                    OutputStream::Stdout => ServerMessage::Stdout(text.into()),
                    OutputStream::Stderr => ServerMessage::Stderr(text.into()),
                    OutputStream::Compiler => ServerMessage::Compiler(text.into()),
                };
                outbox.send(message, Some(id)).await
            }
            Self::Kept(transcript) => {
                // Nothing of the compiler is left to the next process of this service but what was said.
                let read = if stream == OutputStream::Compiler { 0 } else { read };
                transcript.append(stream, read, text).await;
                Ok(())
            }
        }
    }

    /// What the daemon itself has to say after the output.
    pub(crate) async fn last_words(&self, stream: OutputStream, words: &str) {
        let (Ok(()) | Err(Disconnected)) = self.output(stream, 0, words).await;
    }

    /// Waits until the client has taken everything so far. Of a kept program each client has a task that
    /// does.
    pub(crate) async fn flushed(&self) -> Result<(), Disconnected> {
        match self {
            Self::Client { outbox, .. } => outbox.flushed().await,
            Self::Kept(_) => Ok(()),
        }
    }

    /// The program wants to hear of a key.
    pub(crate) async fn key_listen(&self, key: &str) {
        match self {
            Self::Client { outbox, id } => {
                // A client that is gone presses no keys.
                let message = ServerMessage::KeyListen(key.into());
                let (Ok(()) | Err(Disconnected)) = outbox.send(message, Some(id)).await;
            }
            Self::Kept(transcript) => transcript.listen(key),
        }
    }

    /// The program shows a picture. `room` is what was taken for the line it came in.
    pub(crate) fn show(&self, frame: &str, room: Option<Reservation>) {
        match self {
            Self::Client { outbox, id } => outbox.set_frame(frame, id, room),
            Self::Kept(transcript) => transcript.show(frame, room),
        }
    }

    /// The program shows nothing any more.
    pub(crate) async fn flush_frame(&self) {
        if let Self::Client { outbox, id } = self {
            let (Ok(()) | Err(Disconnected)) = outbox.flush_frame(id).await;
        }
    }

    /// The program has ended, and everything it said was said: what says so, when there is room for it.
    pub(crate) async fn stopped(&self, outcome: Outcome) -> impl FnOnce() {
        let place = match self {
            Self::Client { outbox, .. } => outbox.place().await.ok(),
            Self::Kept(_) => None,
        };
        move || match self {
            Self::Client { outbox, id } => {
                if let Some(place) = place {
                    let message = match outbox.dialect() {
                        Dialect::Version1 => ServerMessage::Kept(KeptMessage::Stopped(outcome)),
                        _ => ServerMessage::Stopped { exit_code: outcome.exit_code },
                    };
                    place.put(outbox.json(&message, Some(id)));
                }
            }
            Self::Kept(transcript) => transcript.ended(outcome),
        }
    }
}
