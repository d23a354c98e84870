//! The bounded queue of messages towards one client, and beside it the newest video frame of each process.
//!
//! A sender waits here when the client is slow, and nothing is dropped: a full outbox makes the program wait.
//! The queue is short and its waiters are served in turn, so that one flooding program delays another
//! one's line by a few messages only. A session knows an outbox, never a socket.
//!
//! Frames do not wait in the queue: they are sent when it is empty, and newer ones replace unsent ones
//! (`frames`).

mod frames;
mod message;

pub(crate) use message::{Confirm, Message};

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use further_link_api::{Dialect, ProcessId, ServerMessage};

use crate::{memory::budget::Reservation, outbox::frames::Frames};

/// Capacity of the queue, not counting the message that is being sent. Each has at most 64 KiB of output
/// (`process::output`), so this bounds the memory of a connection whose client does not read. The last frame
/// of a program has its own room.
const CAPACITY: usize = 4;

/// The client is gone; messages to it are not kept.
#[derive(Debug)]
pub(crate) struct Disconnected;

/// The sending side, cloned for each process.
#[derive(Clone)]
pub(crate) struct Outbox {
    /// Boxed: the queue has room for many more than it may hold, from the beginning.
    queue: mpsc::Sender<Box<Message>>,
    frames: Arc<Frames>,
    dialect: Dialect,
}

/// The place of one message. Putting it there does not wait: an id can be freed in the same step.
pub(crate) struct Place<'outbox>(mpsc::Permit<'outbox, Box<Message>>);

/// The side that the socket empties. It is dropped when the client is gone.
pub(crate) struct OutboxReceiver {
    queue: mpsc::Receiver<Box<Message>>,
    frames: Arc<Frames>,
}

/// Both sides.
pub(crate) fn outbox(dialect: Dialect) -> (Outbox, OutboxReceiver) {
    let (queue, receiver) = mpsc::channel(CAPACITY);
    let frames = Arc::new(Frames::default());
    (Outbox { queue, frames: Arc::clone(&frames), dialect }, OutboxReceiver { queue: receiver, frames })
}

impl Outbox {
    /// The client has said `hello`.
    pub(crate) fn speak(&mut self, dialect: Dialect) {
        self.dialect = dialect;
    }

    /// How the client reads messages.
    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Queues a message, waiting for room.
    pub(crate) async fn send(
        &self,
        message: ServerMessage<'_>,
        process: Option<&ProcessId>,
    ) -> Result<(), Disconnected> {
        self.put(self.json(&message, process)).await
    }

    /// The message as this client reads it.
    pub(crate) fn json(&self, message: &ServerMessage<'_>, process: Option<&ProcessId>) -> String {
        message.to_json(self.dialect, process)
    }

    /// Queues a message that is written already.
    pub(crate) async fn put(&self, json: String) -> Result<(), Disconnected> {
        self.queue.send(Box::new(json.into())).await.map_err(|_| Disconnected)
    }

    /// Waits for the place of one message.
    pub(crate) async fn place(&self) -> Result<Place<'_>, Disconnected> {
        self.queue.reserve().await.map(Place).map_err(|_| Disconnected)
    }

    /// Queues a message, and says what is to be done when the client's side confirms that it has it. Without
    /// a text it only confirms what came before.
    pub(crate) async fn put_and_then(&self, json: String, confirm: Confirm) -> Result<(), Disconnected> {
        let message = Message { json, room: None, confirm: Some(confirm) };
        self.queue.send(Box::new(message)).await.map_err(|_| Disconnected)
    }

    /// Waits until the connection has taken all messages so far. One that is sent meanwhile comes next.
    pub(crate) async fn flushed(&self) -> Result<(), Disconnected> {
        self.queue.reserve_many(CAPACITY).await.map(drop).map_err(|_| Disconnected)
    }

    /// Shows a frame as soon as nothing else is to be said, unless a newer one comes before that. `room` is
    /// what was taken for the line it came in.
    pub(crate) fn set_frame(&self, frame: &str, process: &ProcessId, room: Option<Reservation>) {
        let json = self.json(&ServerMessage::Video(frame.into()), Some(process));
        let room = room.map(|room| room.shrink_to(json.len()));
        self.frames.put(process, Message { json, room, confirm: None });
    }

    /// The process shows nothing any more: its last frame, if it was not sent yet, goes into the queue,
    /// before what is said next.
    pub(crate) async fn flush_frame(&self, process: &ProcessId) -> Result<(), Disconnected> {
        match self.frames.take_of(process) {
            Some(frame) => self.queue.send(Box::new(frame)).await.map_err(|_| Disconnected),
            None => Ok(()),
        }
    }
}

impl Place<'_> {
    pub(crate) fn put(self, json: String) {
        self.0.send(Box::new(json.into()));
    }

    /// The same. The receiver hears when the client's side confirms that it has the message, or that it is
    /// gone.
    pub(crate) fn put_confirmed(self, json: String) -> oneshot::Receiver<()> {
        let (confirm, confirmed) = oneshot::channel();
        let confirm = move || {
            let (Ok(()) | Err(())) = confirm.send(());
        };
        self.0.send(Box::new(Message { json, room: None, confirm: Some(Box::new(confirm)) }));
        confirmed
    }
}

impl OutboxReceiver {
    /// The next message, waiting for it. `None` when there are no senders any more.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = self.take() {
                return Some(message);
            }
            tokio::select! {
                message = self.queue.recv() => return message.map(|message| *message),
                () = self.frames.filled() => {}
            }
        }
    }

    /// The next message if there is one: a frame only when nothing else waits.
    pub(crate) fn take(&mut self) -> Option<Message> {
        self.queue.try_recv().ok().map(|message| *message).or_else(|| self.frames.take())
    }
}

impl Drop for OutboxReceiver {
    fn drop(&mut self) {
        self.frames.close();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn who_waits_until_it_is_taken_is_behind_the_last_message_and_hears_of_the_end() {
        let (outbox, mut messages) = outbox(Dialect::Run);
        assert!(outbox.flushed().now_or_never().unwrap().is_ok());
        outbox.send(ServerMessage::Pong, None).await.unwrap();
        outbox.send(ServerMessage::Pong, None).await.unwrap();
        let taken = outbox.flushed();
        tokio::pin!(taken);
        for _ in 0..2 {
            assert!(taken.as_mut().now_or_never().is_none());
            assert!(messages.take().is_some());
        }
        taken.await.unwrap();
        outbox.send(ServerMessage::Pong, None).await.unwrap();
        drop(messages);
        assert!(outbox.flushed().await.is_err());
    }

    #[tokio::test]
    async fn words_go_before_frames_and_the_last_frame_goes_before_the_last_word() {
        let (outbox, mut messages) = outbox(Dialect::Run);
        let id = ProcessId::new("1");
        outbox.set_frame("old", &id, None);
        outbox.set_frame("new", &id, None);
        outbox.send(ServerMessage::Stdout("text".into()), Some(&id)).await.unwrap();
        let next = |message: Option<Message>| message.map(|message| message.json).unwrap_or_default();
        assert!(next(messages.next().await).contains("text"));
        assert!(next(messages.next().await).contains("new"));
        outbox.set_frame("last", &id, None);
        outbox.flush_frame(&id).await.unwrap();
        outbox.flush_frame(&id).await.unwrap();
        outbox.send(ServerMessage::Stopped { exit_code: 0 }, Some(&id)).await.unwrap();
        assert!(next(messages.next().await).contains("last"));
        assert!(next(messages.next().await).contains("stopped"));
        drop(outbox);
        assert!(messages.next().await.is_none());
    }
}
