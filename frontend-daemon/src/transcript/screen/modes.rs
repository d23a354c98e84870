//! Modes of a terminal that a program switches on and off. The emulator knows a few of them, and says nothing
//! of others; here are all that xterm.js has.

use std::fmt::Write as _;

/// Private modes (`CSI ? n h`), and how each is after a reset.
///
/// Not here: those of the mouse, which exclude each other, and those that swap the screens.
const PRIVATE: [(u16, bool); 12] = [
    (1, false),  // application cursor keys
    (6, false),  // origin mode
    (7, true),   // autowrap
    (12, false), // blinking cursor
    (25, true),  // cursor is shown
    (45, false), // reverse wraparound
    (66, false), // application keypad
    (1004, false),
    (1007, false),
    (2004, false), // bracketed paste
    (2026, false), // synchronized output
    (2031, false),
];

/// Which modes are on.
#[derive(Clone)]
pub(super) struct Modes {
    private: [bool; PRIVATE.len()],
    /// What of the mouse is told: 0 is nothing.
    mouse: u16,
    mouse_encoding: u16,
    /// Insert mode (`CSI 4 h`).
    pub(super) insert: bool,
    /// A line feed also returns (`CSI 20 h`).
    pub(super) line_feed_returns: bool,
    /// The parameter of DECSCUSR.
    pub(super) cursor_shape: u16,
}

impl Default for Modes {
    fn default() -> Self {
        Self {
            private: PRIVATE.map(|(_, on)| on),
            mouse: 0,
            mouse_encoding: 0,
            insert: false,
            line_feed_returns: false,
            cursor_shape: 0,
        }
    }
}

impl Modes {
    /// What `CSI ? mode h` says, or `l`.
    pub(super) fn set_private(&mut self, mode: u16, on: bool) {
        match mode {
            9 | 1000 | 1002 | 1003 => self.mouse = if on { mode } else { 0 },
            1006 | 1016 => self.mouse_encoding = if on { mode } else { 0 },
            _ => {
                let place = PRIVATE.iter().position(|(each, _)| *each == mode);
                if let Some(known) = place.and_then(|place| self.private.get_mut(place)) {
                    *known = on;
                }
            }
        }
    }

    /// Whether a private mode is on.
    pub(super) fn has(&self, mode: u16) -> bool {
        PRIVATE.iter().zip(self.private).any(|((each, _), on)| *each == mode && on)
    }

    /// What a soft reset (`CSI ! p`) leaves in xterm.js: the mouse, the cursor's shape, and the line feed.
    pub(super) fn reset_softly(&mut self) {
        *self = Self { private: PRIVATE.map(|(_, on)| on), insert: false, ..self.clone() };
    }

    /// Writes the sequences that bring a reset terminal into these modes, but for origin and insert mode.
    ///
    /// Those two change what the text of a snapshot means.
    pub(super) fn write(&self, text: &mut String) -> std::fmt::Result {
        for ((mode, usual), on) in PRIVATE.iter().zip(self.private) {
            if on != *usual && *mode != 6 {
                write!(text, "\x1b[?{mode}{}", if on { 'h' } else { 'l' })?;
            }
        }
        for mode in [self.mouse, self.mouse_encoding] {
            if mode != 0 {
                write!(text, "\x1b[?{mode}h")?;
            }
        }
        if self.cursor_shape != 0 {
            write!(text, "\x1b[{} q", self.cursor_shape)?;
        }
        if self.line_feed_returns {
            text.push_str("\x1b[20h");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(modes: &Modes) -> String {
        let mut text = String::new();
        modes.write(&mut text).unwrap_or_default();
        text
    }

    #[test]
    fn only_what_differs_from_a_reset_terminal_is_written() {
        let mut modes = Modes::default();
        assert_eq!(written(&modes), "");
        for mode in [25, 2004, 1000, 1002, 1006, 4711] {
            modes.set_private(mode, mode != 25);
        }
        assert_eq!(written(&modes), "\x1b[?25l\x1b[?2004h\x1b[?1002h\x1b[?1006h");
        modes.set_private(1000, false);
        assert_eq!(written(&modes), "\x1b[?25l\x1b[?2004h\x1b[?1006h");
    }
}
