//! Character sets of a terminal (ISO 2022): programs draw boxes with letters of the set "DEC line drawing".
//! The emulator has none, so that characters are translated before they reach it.

/// The characters from `_` to `~` of the set `0`: DEC Special Character and Line Drawing Set.
const DRAWING: [char; 32] = [
    ' ', '◆', '▒', '␉', '␌', '␍', '␊', '°', '±', '␤', '␋', '┘', '┐', '┌', '└', '┼', '⎺', '⎻', '─', '⎼', '⎽',
    '├', '┤', '┴', '┬', '│', '≤', '≥', 'π', '≠', '£', '·',
];

/// The four sets, and which of them is in use.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Charsets {
    /// The final bytes of the sequences that chose them: `B` is ASCII.
    sets: [u8; 4],
    used: u8,
}

impl Default for Charsets {
    fn default() -> Self {
        Self { sets: [b'B'; 4], used: 0 }
    }
}

impl Charsets {
    /// What `ESC ( set` says, and its like with `)`, `*` and `+`. Returns whether it is such a sequence.
    pub(super) fn choose(&mut self, intermediate: u8, set: u8) -> bool {
        let Some(place) = b"()*+".iter().position(|each| *each == intermediate) else { return false };
        if let Some(chosen) = self.sets.get_mut(place) {
            // Others are national sets, which programs of today leave alone.
            *chosen = if set == b'0' { set } else { b'B' };
        }
        true
    }

    /// Uses a set, by its number: 0 to 3.
    pub(super) fn shift(&mut self, number: u8) {
        self.used = number;
    }

    /// What a character of the program looks like.
    pub(super) fn translate(self, c: char) -> char {
        let code = u32::from(c);
        if !(0x5f..0x7f).contains(&code) || self.sets.get(usize::from(self.used)) != Some(&b'0') {
            return c;
        }
        usize::try_from(code - 0x5f).ok().and_then(|place| DRAWING.get(place)).copied().unwrap_or(c)
    }

    /// Writes the sequences that make a reset terminal use these sets.
    pub(super) fn write(self, text: &mut String) {
        for (intermediate, set) in "()*+".chars().zip(self.sets) {
            if set != b'B' {
                text.extend(['\x1b', intermediate, char::from(set)]);
            }
        }
        match self.used {
            0 => {}
            1 => text.push('\x0e'),
            2 => text.push_str("\x1bn"),
            _ => text.push_str("\x1bo"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_set_in_use_is_translated() {
        let mut sets = Charsets::default();
        assert!(sets.choose(b')', b'0'));
        assert_eq!(sets.translate('q'), 'q');
        sets.shift(1);
        assert_eq!(['q', 'x', '~', '_', 'A', 'é'].map(|c| sets.translate(c)), ['─', '│', '·', ' ', 'A', 'é']);
        let mut text = String::new();
        sets.write(&mut text);
        assert_eq!(text, "\x1b)0\x0e");
        assert!(!sets.choose(b'#', b'8'));
    }
}
