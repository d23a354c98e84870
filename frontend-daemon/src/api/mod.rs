//! The contract with clients: the messages of both dialects and the texts of errors. API.md describes it.

pub(crate) mod error;
pub(crate) mod escape;
pub(crate) mod message;
pub(crate) mod parse;
pub(crate) mod run_py;
