//! The process that faces the network. It parses everything a client can send, and has no privilege.
//!
//! A library, so that a test, a fuzz target or another program can construct the service: [`serve`] needs a listener, the
//! address of a helper, and settings. `main.rs` is the program. Folders are layers, in the order of the list below: a module
//! imports only from those above it. The test `layers` holds this against the imports of the source files.

mod config;
mod device;
mod files;
mod lifecycle;
mod log;
mod reply;

mod access;
mod memory;
mod tls;

mod helper;
mod outbox;

mod process;
mod upload;

mod session;

mod http;

mod cli;
mod daemon;

#[cfg(feature = "fuzzing")]
pub mod fuzzing;
#[cfg(test)]
mod layers;

pub use crate::{
    cli::{Cli, Command},
    config::Config,
    daemon::{DaemonError, Setup, run, serve},
    helper::embedded::run_if_asked,
};
