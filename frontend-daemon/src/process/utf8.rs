//! Bytes of a program's output as text, whatever the bytes are and wherever a read has cut them.
//!
//! A character that is split over two reads waits for its rest; what is not UTF-8 becomes U+FFFD, one for
//! each maximal subpart as the Unicode standard recommends (chapter 3.9). No byte is ever the end of the
//! output (D7).

use std::{borrow::Cow, str};

/// Longest beginning of a character that can be cut off.
const MAX_PENDING: usize = 3;

/// The state between two reads of one stream.
#[derive(Debug, Default)]
pub(crate) struct Utf8Decoder {
    pending: Vec<u8>,
}

impl Utf8Decoder {
    /// The text of these bytes and of what was pending. Borrowed where nothing had to be joined or repaired.
    pub(crate) fn decode<'a>(&mut self, bytes: &'a [u8]) -> Cow<'a, str> {
        if self.pending.is_empty() {
            let complete = bytes.len() - incomplete_tail(bytes);
            let (complete, tail) = bytes.split_at(complete);
            self.pending = tail.to_vec();
            return repaired(complete);
        }
        let mut all = std::mem::take(&mut self.pending);
        all.extend_from_slice(bytes);
        self.pending = all.split_off(all.len() - incomplete_tail(&all));
        Cow::Owned(repaired(&all).into_owned())
    }

    /// How many bytes wait for their rest.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// What is left at the end of the stream.
    pub(crate) fn finish(&mut self) -> Cow<'static, str> {
        if std::mem::take(&mut self.pending).is_empty() {
            Cow::Borrowed("")
        } else {
            Cow::Borrowed("\u{fffd}")
        }
    }
}

/// The lossy way is slow and rarely needed. The library checks text in other alphabets than the Latin one ten
/// times faster than the standard library does.
fn repaired(bytes: &[u8]) -> Cow<'_, str> {
    simdutf8::basic::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}

/// How many bytes at the end could be the beginning of a character.
fn incomplete_tail(bytes: &[u8]) -> usize {
    (1..=MAX_PENDING.min(bytes.len()))
        .find(|length| {
            let tail = bytes.get(bytes.len() - length..).unwrap_or_default();
            str::from_utf8(tail).is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(pieces: &[&[u8]]) -> String {
        let mut decoder = Utf8Decoder::default();
        let mut text: String = pieces.iter().map(|piece| decoder.decode(piece).into_owned()).collect();
        text.push_str(&decoder.finish());
        text
    }

    #[test]
    fn every_split_of_a_text_gives_the_same_text() {
        let text = "aä€𝄞\u{10ffff}z\r\n";
        let bytes = text.as_bytes();
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                assert_eq!(decoded(&[&bytes[..first], &bytes[first..second], &bytes[second..]]), text);
            }
        }
    }

    #[test]
    fn every_split_of_broken_bytes_gives_what_the_whole_gives() {
        let bytes = b"a\xffb\xc3(\xe2\x82x\xf0\x9d\x84\xed\xa0\x80\xc0\xaf\xf8\x80end\xe2\x82";
        let whole = String::from_utf8_lossy(bytes);
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let split = decoded(&[&bytes[..first], &bytes[first..second], &bytes[second..]]);
                assert_eq!(split, whole, "split at {first} and {second}");
            }
        }
    }

    #[test]
    fn clean_text_is_not_copied() {
        assert!(matches!(Utf8Decoder::default().decode("häh".as_bytes()), Cow::Borrowed("häh")));
    }
}
