//! The contract between the two processes of further-link.
//!
//! `frontend-daemon` (no privilege, faces the network) and `exec-helper` (root) share nothing but this
//! crate. One `SOCK_SEQPACKET` connection is one run, one upload, or one thing done with files, one datagram
//! is one message, closing the connection means stop. PROTOCOL.md in this crate has the same contract as
//! tables and hexdumps; a test holds the two together. Data never travels in messages: descriptors that the
//! helper hands over carry it.

mod codec;
mod details;
mod files;
#[cfg(feature = "log")]
mod log;
mod message;
mod socket;
mod value;

pub use codec::{CodecError, MAX_MESSAGE, VERSION, decode, encode};
pub use details::{Details, Purpose};
pub use files::{
    Condition, Entry, EntryKind, FileVersion, Files, FilesAct, Listing, MAX_ENTRIES, MAX_LISTING, Opened,
    Part, Write,
};
#[cfg(feature = "log")]
pub use log::start_logging;
pub use message::{
    Ended, Event, ExitStatus, FileMode, Identity, Limit, Refusal, Request, Run, Signal, Step, Upload, Usage,
    WindowSize,
};
pub use socket::{Connection, MAX_DESCRIPTORS, SocketError, bind_listener, connect, pair};
pub use value::{
    CodeLength, DetailsLength, MAX_CODE, MAX_DEPTH, MAX_DETAILS, MAX_NAME, MAX_PATH, MAX_RUNNER_ID,
    MAX_TOKEN, MAX_USER_NAME, PathText, RelativePath, RunnerId, Token, UploadId, UserName, ValueError,
    are_same, is_helpers_own,
};
