//! Runner files: one for each language or kind of program, `<id>.toml`. docs/runners.md explains the format.
//!
//! The frontend reads them to say what there is. The launcher reads the one that was asked for, after it has
//! become the user: what is executed is what root wrote down, and no process of root reads it.

mod file;
mod folder;
mod words;

pub use file::{Compile, Entry, FileError, Limits, Runner, Test, Venv, parse};
pub use folder::{Folder, ReadError, Trust, list, read};
pub use words::{Values, Word, fill};
