//! The contract between clients and the daemon: messages in both directions and both dialects, the texts of
//! errors, limits.
//!
//! API.md beside this crate describes it, and asyncapi.json has the schemas. There is no I/O here: the
//! daemon, the tests, the benchmark and the fuzz targets bring their own sockets.

mod admin;
mod error;
mod escape;
mod json_size;
mod keep;
mod kept_message;
mod limits;
mod message;
mod parse;
mod run_py;
mod server;

pub use admin::{AdminRequest, MAX_ADMIN_REQUEST, TestAnswer};
pub use error::{
    BadMessage, ClientError, FailedStep, FilesFailure, StartFailure, UploadFailure, UserFailure,
};
pub use json_size::JsonSize;
pub use keep::{
    Attach, CLIENT_SECRET, EndReason, Hello, Keep, Mode, Outcome, Secret, Usage, VERSION, WhenFull,
};
pub use kept_message::{
    Attached, HelloAnswer, KeptLimits, KeptMessage, KeptSession, KeptState, OutputStream, RunnerEntry, Stage,
};
pub use limits::{MAX_ID, MAX_MESSAGE, MAX_VALUES};
pub use message::{
    ClientMessage, Dialect, EXEC, Install, Integer, ORIGINAL_RUNNERS, PYTHON3, ProcessId, SHELL, Signal,
    Start,
};
pub use parse::parse;
pub use server::{Malformed, Received, ServerMessage};
