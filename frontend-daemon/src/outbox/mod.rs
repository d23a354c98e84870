//! The bounded queue of messages towards one client, and beside it the newest video frame of each process.
//!
//! Whoever has something to say waits here when the client is slow, and nothing is dropped: a full outbox is what makes a
//! program wait. The queue is short and its waiters are served in turn, so that one flooding program delays another
//! one's line by a few messages only. A session knows an outbox, never a socket.
//!
//! Frames do not wait in the queue: they are sent when it is empty, and newer ones replace unsent ones (`frames`).

mod frames;
mod message;

pub(crate) use message::Message;

use std::sync::Arc;

use tokio::sync::mpsc;

use further_link_api::{Dialect, ProcessId, ServerMessage};

use crate::{memory::budget::Room, outbox::frames::Frames};

/// Messages that wait while one is being sent. Each has at most 64 KiB of output (`process::output`), so this
/// bounds the memory of a connection whose client does not read. The last frame of a program has its own room.
const CAPACITY: usize = 4;

/// The client is gone; what is said to it is not kept.
#[derive(Debug)]
pub(crate) struct Gone;

/// The sending side, cloned for each process.
#[derive(Clone)]
pub(crate) struct Outbox {
    /// Boxed: the queue has room for many more than it may hold, from the beginning.
    queue: mpsc::Sender<Box<Message>>,
    frames: Arc<Frames>,
    dialect: Dialect,
}

/// The side that the socket empties. Dropping it means that the client is gone.
pub(crate) struct Messages {
    queue: mpsc::Receiver<Box<Message>>,
    frames: Arc<Frames>,
}

/// Both sides.
pub(crate) fn outbox(dialect: Dialect) -> (Outbox, Messages) {
    let (queue, receiver) = mpsc::channel(CAPACITY);
    let frames = Arc::new(Frames::default());
    (Outbox { queue, frames: Arc::clone(&frames), dialect }, Messages { queue: receiver, frames })
}

impl Outbox {
    /// Queues a message, waiting for room.
    pub(crate) async fn say(
        &self,
        message: ServerMessage<'_>,
        process: Option<&ProcessId>,
    ) -> Result<(), Gone> {
        let message = Box::new(message.to_json(self.dialect, process).into());
        self.queue.send(message).await.map_err(|_| Gone)
    }

    /// Waits until the connection has taken all that was said so far. Whoever says something meanwhile is next.
    pub(crate) async fn taken(&self) -> Result<(), Gone> {
        self.queue.reserve_many(CAPACITY).await.map(drop).map_err(|_| Gone)
    }

    /// Shows a frame as soon as nothing else is to be said, unless a newer one comes before that. `room` is what was
    /// taken for the line it came in.
    pub(crate) fn show(&self, frame: &str, process: &ProcessId, room: Option<Room>) {
        let json = ServerMessage::Video(frame.into()).to_json(self.dialect, Some(process));
        let room = room.map(|room| room.keep(json.len()));
        self.frames.put(process, Message { json, room });
    }

    /// The process shows nothing any more: its last frame, if it was not sent yet, goes into the queue, before what is
    /// said next.
    pub(crate) async fn say_last_frame(&self, process: &ProcessId) -> Result<(), Gone> {
        match self.frames.take_of(process) {
            Some(frame) => self.queue.send(Box::new(frame)).await.map_err(|_| Gone),
            None => Ok(()),
        }
    }
}

impl Messages {
    /// The next message, waiting for it. None when nobody can say anything any more.
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

impl Drop for Messages {
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
        assert!(outbox.taken().now_or_never().unwrap().is_ok());
        outbox.say(ServerMessage::Pong, None).await.unwrap();
        outbox.say(ServerMessage::Pong, None).await.unwrap();
        let taken = outbox.taken();
        tokio::pin!(taken);
        for _ in 0..2 {
            assert!(taken.as_mut().now_or_never().is_none());
            assert!(messages.take().is_some());
        }
        taken.await.unwrap();
        outbox.say(ServerMessage::Pong, None).await.unwrap();
        drop(messages);
        assert!(outbox.taken().await.is_err());
    }

    #[tokio::test]
    async fn words_go_before_frames_and_the_last_frame_goes_before_the_last_word() {
        let (outbox, mut messages) = outbox(Dialect::Run);
        let id = ProcessId::new("1");
        outbox.show("old", &id, None);
        outbox.show("new", &id, None);
        outbox.say(ServerMessage::Stdout("text".into()), Some(&id)).await.unwrap();
        let next = |message: Option<Message>| message.map(|message| message.json).unwrap_or_default();
        assert!(next(messages.next().await).contains("text"));
        assert!(next(messages.next().await).contains("new"));
        outbox.show("last", &id, None);
        outbox.say_last_frame(&id).await.unwrap();
        outbox.say_last_frame(&id).await.unwrap();
        outbox.say(ServerMessage::Stopped { exit_code: 0 }, Some(&id)).await.unwrap();
        assert!(next(messages.next().await).contains("last"));
        assert!(next(messages.next().await).contains("stopped"));
        drop(outbox);
        assert!(messages.next().await.is_none());
    }
}
