//! What a program prints, at many sizes: nothing panics, and a snapshot gives the same screen.

use crate::transcript::screen::Screen;

/// Sizes are small, as the sanitizer keeps memory that was freed.
fn size(rows: u8, columns: u8) -> (u16, u16) {
    (u16::from(rows % 16), u16::from(columns % 32))
}

/// The first two bytes are rows and columns. A byte 0xff in the rest resizes to what the two after it say.
pub fn screen(bytes: &[u8]) {
    let [rows, columns, bytes @ ..] = bytes else { return };
    let (mut high, mut wide) = size(*rows, *columns);
    let mut screen = Screen::new(high, wide);
    for (place, piece) in bytes.split(|byte| *byte == 0xff).enumerate() {
        let mut text = piece;
        if let (true, [rows, columns, rest @ ..]) = (place > 0, piece) {
            (high, wide) = size(*rows, *columns);
            screen.resize(high, wide);
            text = rest;
        }
        screen.feed(&String::from_utf8_lossy(text));
    }
    let snapshot = screen.snapshot();
    let mut copy = Screen::new(high, wide);
    copy.feed(&snapshot);
    assert_eq!(copy.lines(), screen.lines(), "a snapshot gives another screen");
}
