//! The list of a directory as the frontend reads it from a helper's pipe: any bytes give a list or an error,
//! and take no more memory than they have bytes.
#![no_main]

use further_link_proto::{Listing, MAX_LISTING};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(listing) = Listing::from_bytes(bytes) else { return };
    assert!(bytes.len() <= MAX_LISTING + 1, "decoded beyond the limit");
    // A name has a byte for its length, a kind, and two numbers behind it.
    assert!(listing.entries.len() <= bytes.len() / 4, "more entries than bytes could name");
    let again = listing.to_bytes().expect("what was decoded can be encoded");
    assert_eq!(Listing::from_bytes(&again).expect("what was encoded can be decoded"), listing);
});
