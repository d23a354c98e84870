//! The root side of further-link. Four things are done here: become the target user, make a terminal or
//! pipes, start a program, signal it. An upload, and whatever is done with files, needs the first only.
//! Two processes serve one run or upload and are gone; of a run one becomes the program. Each has one thread.
//! As root it reads no configuration file, and opens no path a user controls. None sees a byte that a program
//! or a client writes.
//!
//! Folders are processes: `launcher` (root until it is the user), `watcher` (demoted), `upload` and `files`
//! (the user). The code is a library, since a development build of the frontend has it inside
//! (ARCHITECTURE.md, "Starting"). In a package only `further-link-exec-helper` is linked with it.
//!
//! A module uses layers above its own in this table, and no other module of its layer; a test reads the
//! imports (`tests/tests/pages/layers.rs`).
//!
//! | layer | modules |
//! | --- | --- |
//! | ground | `sys`, `step_error`, `cgroup` |
//! | system | `account`, `confine`, `dir`, `signals`, `reap` |
//! | names | `known` |
//! | decisions | `check`, `identity`, `inputs` |
//! | plan | `plan` |
//! | handoff | `handoff` |
//! | processes | `launcher`, `watcher`, `upload`, `files` |
//! | conversation | `serve` |
//! | command line | `cli`, `listen` |
//! | start | `start` |

mod account;
mod cgroup;
mod check;
mod cli;
mod confine;
mod dir;
mod files;
mod handoff;
mod identity;
mod inputs;
mod known;
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
pub use start::{main, wrong_setting};
