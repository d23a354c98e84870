//! The screen of a kept program, for the judge that compares it with xterm.js (`tests/screens`).

use crate::transcript::screen::Screen;

/// A screen that takes what a program prints, and says what a client would get.
pub struct KeptScreen(Screen);

impl KeptScreen {
    /// An empty screen.
    pub fn new(rows: u16, columns: u16) -> Self {
        Self(Screen::new(rows, columns))
    }

    /// What the program has printed, in any pieces.
    pub fn feed(&mut self, text: &str) {
        self.0.feed(text);
    }

    /// The client's terminal has another size.
    pub fn resize(&mut self, rows: u16, columns: u16) {
        self.0.resize(rows, columns);
    }

    /// Text that shows the same on a fresh terminal.
    pub fn snapshot(&self) -> String {
        self.0.snapshot()
    }
}
