//! The root side of further-link. It does four things: become the target user, make a terminal or pipes,
//! start a program, signal it; and for an upload only the first of them. Two processes serve one run (one of
//! them becomes the program) or upload and are gone; each has one thread, reads no configuration file, opens
//! no path a user controls as root, and never sees a byte that a program or a client writes.
//!
//! Folders are processes: `launcher` (root until it is the user), `watcher` (demoted) and `upload` (the
//! user). The code is a library so that a development build of the frontend can carry it (ARCHITECTURE.md,
//! "Starting"); in a package it is linked into `further-link-exec-helper` only.
//!
//! A module uses layers above its own in this table, and no other module of its layer; a test reads the
//! imports (`tests/tests/layers.rs`).
//!
//! | layer | modules |
//! | --- | --- |
//! | ground | `sys`, `step_error` |
//! | system | `account`, `confine`, `signals`, `reap` |
//! | decisions | `check`, `identity`, `inputs` |
//! | plan | `plan` |
//! | handoff | `handoff` |
//! | processes | `launcher`, `watcher`, `upload` |
//! | conversation | `serve` |
//! | command line | `cli`, `listen` |
//! | start | `start` |

mod account;
mod check;
mod cli;
mod confine;
mod handoff;
mod identity;
mod inputs;
mod launcher;
mod listen;
mod plan;
mod reap;
mod serve;
mod signals;
mod start;
mod step_error;
mod sys;
mod upload;
mod watcher;

pub use cli::USAGE;
pub use start::main;
