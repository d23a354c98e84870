//! Text as a JSON string (RFC 8259, section 7), written straight into the message: the hottest loop of the
//! daemon, since every byte that a program prints passes here.
//!
//! Eight bytes are looked at in one step; most have nothing to escape and are copied as a run. A unit test
//! holds the result equal to `serde_json`'s.

/// One byte in each place of a word.
const ONES: u64 = u64::MAX / 255;
/// The highest bit of each byte.
const HIGHS: u64 = ONES * 0x80;

/// Appends the text with its quotes.
pub(crate) fn push_string(out: &mut String, text: &str) {
    out.push('"');
    let mut rest = text;
    loop {
        let (clean, special) = rest.split_at(clean_length(rest.as_bytes()));
        out.push_str(clean);
        // What needs escaping is one byte long, so the text can be cut behind it.
        let Some(byte) = special.bytes().next() else { break };
        push_escape(out, byte);
        rest = special.get(1..).unwrap_or_default();
    }
    out.push('"');
}

/// How many bytes at the beginning need no escape.
fn clean_length(bytes: &[u8]) -> usize {
    let mut words = bytes.chunks_exact(8);
    let mut length = 0;
    for word in &mut words {
        let word = u64::from_le_bytes(word.try_into().unwrap_or_default());
        let found = needs_escape(word);
        if found != 0 {
            return length + bytes_before(found);
        }
        length += 8;
    }
    let rest = words.remainder();
    length + rest.iter().position(|byte| *byte < 0x20 || matches!(byte, b'"' | b'\\')).unwrap_or(rest.len())
}

/// The highest bit of each byte that needs an escape, and perhaps of bytes behind the first of them: only the
/// first counts. (The subtraction of a byte that is smaller borrows from the one behind it.)
fn needs_escape(word: u64) -> u64 {
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & HIGHS;
    let equal = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    below(word, 0x20) | equal(b'"') | equal(b'\\')
}

/// The place of the first marked byte; a word is read from the lowest byte on.
fn bytes_before(marks: u64) -> usize {
    usize::try_from(marks.trailing_zeros() / 8).unwrap_or(0)
}

fn push_escape(out: &mut String, byte: u8) {
    let short = match byte {
        b'"' => "\\\"",
        b'\\' => "\\\\",
        b'\n' => "\\n",
        b'\r' => "\\r",
        b'\t' => "\\t",
        0x08 => "\\b",
        0x0c => "\\f",
        _ => {
            out.push_str("\\u00");
            out.extend(
                [byte >> 4, byte & 0xf].map(|digit| char::from_digit(digit.into(), 16).unwrap_or('0')),
            );
            return;
        }
    };
    out.push_str(short);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &str) -> String {
        let mut out = String::new();
        push_string(&mut out, text);
        out
    }

    #[track_caller]
    fn agrees(text: &str) {
        assert_eq!(escaped(text), serde_json::to_string(text).unwrap(), "{text:?}");
    }

    #[test]
    fn every_character_of_one_and_two_bytes_at_every_place_of_a_word() {
        for code in 0..0x800 {
            let Some(character) = char::from_u32(code) else { continue };
            for before in 0..9 {
                for after in [0, 1, 9] {
                    agrees(&format!("{}{character}{}", "a".repeat(before), "b".repeat(after)));
                }
            }
        }
    }

    #[test]
    fn every_pair_of_bytes_that_could_borrow_from_one_another() {
        for first in 0..0x80_u8 {
            for second in 0..0x80_u8 {
                agrees(&format!("xx{}{}yyyy€𝄞", char::from(first), char::from(second)));
            }
        }
    }

    #[test]
    fn longer_characters_and_no_characters() {
        for text in ["", "€", "𝄞𝄞𝄞", "a€b𝄞c\u{10ffff}", "\u{7f}\u{80}\u{fffd}", "\u{1b}[31mred\u{1b}[0m\r\n"]
        {
            agrees(text);
        }
    }
}
