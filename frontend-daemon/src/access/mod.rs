//! Access: the decision on each request, the answers to refused ones, tokens and their wrong guesses, and
//! limits for each address.

pub(crate) mod limits;
pub(crate) mod peer;
pub(crate) mod refusal_log;
pub(crate) mod refused;
pub(crate) mod run_as;
pub(crate) mod tokens;
pub(crate) mod who;

mod caller;
mod cookie;
mod decision;

pub(crate) use caller::Caller;
pub(crate) use decision::{Access, DEFAULT_ORIGIN, RequestHead};
