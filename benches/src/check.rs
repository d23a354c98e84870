//! Whether a flood arrived: every byte by its position.

use further_link_benches::pattern::{self, Kind};

/// What is expected, and how far it has come.
pub(crate) struct Checker {
    block: Vec<u8>,
    position: u64,
    wrong: Option<u64>,
}

impl Checker {
    pub(crate) fn new(kind: Kind, terminal: bool) -> Self {
        // A terminal in its usual mode ends lines with both.
        let block = pattern::block(kind, if terminal { "\r\n" } else { "\n" });
        Self { block, position: 0, wrong: None }
    }

    /// Bytes of a whole flood of so many lines.
    pub(crate) fn expected(&self, lines: u64) -> u64 {
        pattern::bytes_of(&self.block, lines)
    }

    /// Takes the next bytes.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let length = u64::try_from(self.block.len()).unwrap_or(u64::MAX);
            let offset = usize::try_from(self.position % length).unwrap_or_default();
            let ahead = self.block.get(offset..).unwrap_or_default();
            let (piece, rest) = bytes.split_at(ahead.len().min(bytes.len()));
            if self.wrong.is_none() && !ahead.starts_with(piece) {
                self.wrong = Some(self.position);
            }
            self.position += u64::try_from(piece.len()).unwrap_or_default();
            bytes = rest;
        }
    }

    /// Bytes taken so far.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Of so many bytes, those that did not come, or came behind the first wrong one.
    pub(crate) fn lost(&self, expected: u64) -> u64 {
        match self.wrong {
            Some(at) => expected.saturating_sub(at).max(1),
            None => expected.abs_diff(self.position),
        }
    }

    /// Whether all that came was right.
    pub(crate) fn is_right(&self) -> bool {
        self.wrong.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_in_pieces_of_any_size_is_right_and_complete() {
        for kind in [Kind::Ascii, Kind::Mixed] {
            for terminal in [false, true] {
                let mut checker = Checker::new(kind, terminal);
                let mut flood = checker.block.repeat(2);
                let lines = 20_000;
                flood.truncate(usize::try_from(checker.expected(lines)).unwrap());
                for piece in flood.chunks(4099) {
                    checker.feed(piece);
                }
                assert!(checker.is_right());
                assert_eq!(checker.lost(checker.expected(lines)), 0);
            }
        }
    }

    #[test]
    fn a_lost_byte_a_doubled_one_and_a_missing_end_are_noticed() {
        let block = Checker::new(Kind::Ascii, false).block;
        let expected = u64::try_from(block.len()).unwrap();
        for (cut, again) in [(1000, 1001), (1000, 999), (65536, 65536 + 64), (block.len(), block.len() - 1)] {
            let mut checker = Checker::new(Kind::Ascii, false);
            checker.feed(&block[..cut]);
            checker.feed(&block[again..]);
            assert!(checker.lost(expected) > 0, "{cut} {again}");
        }
        let mut checker = Checker::new(Kind::Ascii, false);
        checker.feed(&block[..block.len() - 1]);
        assert_eq!(checker.lost(expected), 1);
        assert!(checker.is_right());
    }
}
