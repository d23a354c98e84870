//! Who may come in, and for how much: the decision on each request, the answers to those who are not served, what pages may
//! read of answers, tokens and those who guess them, and limits for each address.

pub(crate) mod limits;
pub(crate) mod peer;
pub(crate) mod refusal_log;
pub(crate) mod refused;
pub(crate) mod run_as;
pub(crate) mod tokens;

mod caller;
mod decision;

pub(crate) use caller::Caller;
pub(crate) use decision::{Access, Asked};
