//! What the frontend decodes, should the helper be the one that was taken over.
#![no_main]

use further_link_proto::{Event, decode, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(event) = decode::<Event>(bytes) else { return };
    let again = encode(&event).expect("what was decoded can be encoded");
    assert!(again.len() <= bytes.len(), "the form of `encode` is the shortest");
    assert_eq!(decode::<Event>(&again).expect("what was encoded can be decoded"), event);
});
