//! Registering a descriptor with tokio's reactor: the only unsafe code of the frontend.
//!
//! tokio wants a promise that the descriptor stays open and the same while it is registered. The types that
//! can make it are listed here; both own one descriptor and never exchange it.

#![expect(
    unsafe_code,
    reason = "tokio's safe constructors are deprecated as unsound for arbitrary types; see the note"
)]

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use further_link_proto::Connection;
use tokio::io::{Interest, unix::AsyncFd};

/// Owns one descriptor for its whole life, and `as_raw_fd` always answers that one.
pub(crate) trait OwnsFd: AsRawFd {}
impl OwnsFd for OwnedFd {}
impl OwnsFd for Connection {}

/// Watches it from now on. Call it in a task.
pub(crate) fn register<T: OwnsFd>(owner: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    // SAFETY: an `OwnedFd`, or a `Connection`, which is one: open until dropped and never another. The
    // `AsyncFd` owns it.
    Ok(unsafe { AsyncFd::register_with_interest(owner, interest) }?)
}
