//! The user channel: see `frontend-daemon/src/fuzzing/channel_line.rs`.
#![no_main]

use further_link_frontend::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fuzzing::channel_line(bytes));
