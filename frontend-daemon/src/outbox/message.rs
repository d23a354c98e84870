//! A message for a client as it waits in the outbox: its text, and the memory it was granted.

use crate::memory::budget::Room;

/// One message as it goes to the client.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) json: String,
    /// Of a large frame, until it is sent.
    pub(crate) room: Option<Room>,
}

impl From<String> for Message {
    fn from(json: String) -> Self {
        Self { json, room: None }
    }
}
