//! What a program prints: see `frontend-daemon/src/fuzzing/screen.rs`.
#![no_main]

use further_link_frontend::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fuzzing::screen(bytes));
