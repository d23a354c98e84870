//! The root side of further-link. It does four things: become the target user, make a terminal or pipes, start a
//! program, signal it; and for an upload only the first of them. Two processes serve one run (one of them becomes the
//! program) or upload and are gone; each has one thread, reads no configuration file, opens no path a user controls as
//! root, and never sees a byte that a program or a client writes.
//!
//! The modules stand in the order in which a request passes through them; a reader who follows them has seen all that
//! runs as root. The code is a library so that a development build of the frontend can carry it (ARCHITECTURE.md,
//! "Starting"); in a package it is linked into `further-link-exec-helper` only.

mod options;

mod entry;
mod listen;
mod log;
mod serve;

mod account;
mod check;
mod plan;

mod spawn;
mod stdio;
mod sys;

mod environment;
mod handoff;
mod identity;
mod launch;

mod beneath;
mod files;
mod stage;

mod demote;
mod memory;
mod reap;
mod signals;
mod state;
mod watch;

pub use entry::main;
pub use options::USAGE;
