//! A client's choices as the launcher reads them: any bytes give choices or an error, and no variable among
//! them is the account's or the loader's.
#![no_main]

use further_link_proto::{Details, MAX_DETAILS};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(details) = Details::from_bytes(bytes) else { return };
    assert!(bytes.len() <= MAX_DETAILS + 1, "decoded beyond the limit");
    for (name, _) in &details.env {
        assert!(!["PATH", "HOME", "SHELL", "BASH_ENV"].contains(&name.as_str()), "{name}");
        assert!(!name.starts_with("LD_") && !name.contains(['=', '\0']) && !name.is_empty(), "{name:?}");
    }
    let again = details.to_bytes().expect("what was decoded can be encoded");
    assert_eq!(Details::from_bytes(&again).expect("what was encoded can be decoded"), details);
});
