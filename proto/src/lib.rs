//! The contract between the two processes of further-link.
//!
//! `frontend-daemon` (no privilege, faces the network) and `exec-helper` (root) share nothing but this crate.
//! One `SOCK_SEQPACKET` connection is one run, one datagram is one message, closing the connection means stop.
//! PROTOCOL.md beside this crate has the same contract as tables and hexdumps; a test holds the two together.
//! Data never travels in messages: it goes through descriptors that the helper hands over.

mod codec;
mod message;
mod socket;
mod value;

pub use codec::{CodecError, MAX_MESSAGE, VERSION, decode, encode};
pub use message::{Event, ExitStatus, Refusal, Request, Run, Runner, Step, WindowSize};
pub use socket::{Connection, MAX_DESCRIPTORS, SocketError, bind_listener, connect};
pub use value::{CodeLength, MAX_CODE, MAX_PATH, MAX_USER_NAME, PathText, UserName, ValueError};
