//! A message for a client as it waits in the outbox: its text, and the memory it was granted.

use crate::memory::budget::Reservation;

/// What follows a confirmation.
pub(crate) type Confirm = Box<dyn FnOnce() + Send>;

/// One message as it goes to the client.
pub(crate) struct Message {
    pub(crate) json: String,
    /// Memory reserved for a large frame, released once it has been sent.
    pub(crate) room: Option<Reservation>,
    /// Called when the client's side has confirmed that it has the message; dropped when it never will.
    pub(crate) confirm: Option<Confirm>,
}

impl From<String> for Message {
    fn from(json: String) -> Self {
        Self { json, room: None, confirm: None }
    }
}
