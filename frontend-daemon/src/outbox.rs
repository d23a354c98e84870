//! The bounded queue of messages towards one client.
//!
//! Whoever has something to say waits here when the client is slow, and nothing is dropped: a full outbox is what makes a
//! program wait. The queue is short and its waiters are served in turn, so that one flooding program delays another
//! one's line by a few messages only. A session knows an outbox, never a socket.

use tokio::sync::mpsc;

use crate::message::{Dialect, Outgoing, ProcessId};

/// Messages that wait while one is being sent. Each has at most [`crate::output::MAX_PIECE`] bytes of output, so this
/// bounds the memory of a connection whose client does not read.
const CAPACITY: usize = 4;

/// The client is gone; what is said to it is not kept.
#[derive(Debug)]
pub(crate) struct Gone;

/// The sending side, cloned for each process.
#[derive(Clone)]
pub(crate) struct Outbox {
    queue: mpsc::Sender<String>,
    dialect: Dialect,
}

/// The queue and the side that the socket empties.
pub(crate) fn outbox(dialect: Dialect) -> (Outbox, mpsc::Receiver<String>) {
    let (queue, receiver) = mpsc::channel(CAPACITY);
    (Outbox { queue, dialect }, receiver)
}

impl Outbox {
    /// Queues a message, waiting for room.
    pub(crate) async fn say(&self, message: Outgoing<'_>, process: Option<&ProcessId>) -> Result<(), Gone> {
        self.queue.send(message.to_json(self.dialect, process)).await.map_err(|_| Gone)
    }
}
