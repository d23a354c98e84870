//! The text that floods are made of: every line is different and all are equally long, so that a byte that is
//! lost, doubled or moved is seen by its position.
//!
//! Shared by the program that writes it and the checker that reads it.

/// Lines until it begins again. A prime, so that the whole is no multiple of any buffer on the way.
const LINES: u32 = 16381;

/// What the lines are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Plain ASCII, as programs print most.
    Ascii,
    /// Characters of two, three and four bytes in between, which reads will cut in two.
    Mixed,
}

/// All lines, each with this end. A line of ASCII with a newline alone has 64 bytes.
pub fn block(kind: Kind, line_end: &str) -> Vec<u8> {
    let filler = match kind {
        Kind::Ascii => "the quick brown fox jumps over the lazy dog, 0123456789",
        Kind::Mixed => "zwölf Boxkämpfer jagen €uros, 𝄞 𝄞 über den großen",
    };
    let mut block = String::new();
    for line in 0..LINES {
        let hexadecimal = format!("{line:08x}");
        block.extend([hexadecimal.as_str(), filler, line_end]);
    }
    block.into_bytes()
}

/// Bytes of `lines` lines of this block.
pub fn bytes_of(block: &[u8], lines: u64) -> u64 {
    let line = u64::try_from(block.len()).unwrap_or(u64::MAX) / u64::from(LINES);
    line.saturating_mul(lines)
}
