//! Raw bytes on a connection: see `frontend-daemon/src/fuzzing/http_request.rs`.
#![no_main]

use further_link_frontend::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fuzzing::http_request(bytes));
