//! Bodies of uploads: see `frontend-daemon/src/fuzzing/upload_body.rs`.
#![no_main]

use further_link_frontend::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fuzzing::upload_body(bytes));
