//! Secrets. Called for tokens, and for the keys of kept programs.

use std::io;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rustix::rand::{GetRandomFlags, getrandom};

/// So many random bytes, as text that needs no escaping in an address.
pub(crate) fn text<const BYTES: usize>() -> io::Result<String> {
    let mut bytes = [0; BYTES];
    // So few bytes come whole (getrandom(2)).
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_are_the_same() {
        let (one, other) = (text::<16>().unwrap(), text::<16>().unwrap());
        assert!(one.len() == 22 && one != other, "{one} {other}");
    }
}
