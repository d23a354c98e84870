//! The process that faces the network. It parses everything a client can send, and has no privilege.
//!
//! A library, so that a test, a fuzz target or another program can construct the service: [`serve`] needs a
//! listener, the address of a helper, and settings. `main.rs` is the program.
//!
//! Folders are layers. A module uses layers above its own in this table, and no other module of its layer; a
//! test reads the imports (`tests/tests/pages/layers.rs`).
//!
//! | layer | modules |
//! | --- | --- |
//! | ground | `config`, `device`, `files`, `lifecycle`, `memory`, `random`, `reply`, `runners` |
//! | rules | `access`, `tls` |
//! | ends | `helper`, `outbox` |
//! | transcripts | `transcript` |
//! | runs, uploads and files | `process`, `self_test`, `upload`, `versions`, `workdir` |
//! | kept programs | `kept` |
//! | session | `session` |
//! | outside | `admin`, `cli`, `http` |
//! | daemon | `daemon` |
//! | fuzz targets | `fuzzing` |

mod config;
mod device;
mod files;
mod lifecycle;
mod memory;
mod random;
mod reply;
mod runners;

mod access;
mod tls;

mod helper;
mod outbox;

mod transcript;

mod process;
mod self_test;
mod upload;
mod versions;
mod workdir;

mod kept;

mod session;

mod admin;
mod http;

mod cli;
mod daemon;

#[cfg(feature = "fuzzing")]
pub mod fuzzing;

pub use crate::{
    cli::{Cli, Command},
    config::Config,
    daemon::{DaemonError, Setup, run, serve},
    helper::embedded::run_if_asked,
};
