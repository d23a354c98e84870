//! The frontend's side of the helper: connections to it, its descriptors in tokio's reactor, and its refusals
//! in words.

pub(crate) mod async_fd;
pub(crate) mod embedded;
pub(crate) mod once;
pub(crate) mod pool;
pub(crate) mod reasons;
pub(crate) mod sending;
pub(crate) mod stream;
