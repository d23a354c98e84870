//! A message for a client as it waits in the outbox: its text, and the memory it was granted.

use crate::memory::budget::Reservation;

/// One message as it goes to the client.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) json: String,
    /// Memory reserved for a large frame, released once it has been sent.
    pub(crate) room: Option<Reservation>,
}

impl From<String> for Message {
    fn from(json: String) -> Self {
        Self { json, room: None }
    }
}
