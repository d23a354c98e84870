//! What a kept program has printed, for a client that comes back to it.
#![cfg_attr(
    not(any(test, feature = "fuzzing")),
    expect(dead_code, reason = "programs are kept by the next changes")
)]

pub(crate) mod screen;
