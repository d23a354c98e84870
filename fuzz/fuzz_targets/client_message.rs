//! Messages of clients: see `frontend-daemon/src/fuzzing/client_message.rs`.
#![no_main]

use further_link_frontend::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fuzzing::client_message(bytes));
