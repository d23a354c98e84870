//! The emulator, and what xterm.js does otherwise: text of the program is scanned here first, and reaches the
//! emulator in words that it knows. Queries and unknown sequences do not reach it.

use std::{fmt::Write as _, num::NonZeroU16};

use unicode_width::UnicodeWidthChar as _;

use super::{
    charsets::Charsets,
    modes::Modes,
    rendition::{self, Rendition},
};

/// Longer titles are cut.
const LONGEST_TITLE: usize = 256;
/// Given to the emulator at this length, so that a long line without an end takes no more memory.
const MOST_WAITING: usize = 4096;
/// For each sequence that comes between, so many cells may be filled with letters at once.
const CELLS_PER_SEQUENCE: u32 = 64;
/// Characters that the emulator treats otherwise than xterm.js, and what it sees in their place, which is in
/// no use. The first makes some characters wide that it follows, and the other is not shown.
const REPLACED: [(char, char); 2] = [('\u{fe0f}', '\u{fe0d}'), ('\u{fffd}', '\u{ffff}')];

/// A terminal without a window.
pub(super) struct Terminal {
    emulator: vt100::Parser,
    /// What the emulator has still to be given.
    waiting: String,
    pub(super) size: (u16, u16),
    pub(super) modes: Modes,
    pub(super) charsets: Charsets,
    /// As the cursor was saved: on the primary screen, and on the alternate one.
    pub(super) saved_charsets: [Charsets; 2],
    /// Its attributes. The emulator keeps those of one screen only.
    pub(super) saved_pens: [Rendition; 2],
    /// The first and the last line that scroll, counted from 1, where they are not all.
    pub(super) margins: [Option<(u16, u16)>; 2],
    pub(super) title: String,
    /// A character was the last that came: an accent that comes next joins it, and `CSI b` repeats it.
    pub(super) has_printed: bool,
    /// The screen was erased with this background, and nothing has come since.
    blank: Option<vt100::Color>,
    /// Whether there is a background in force, where that is known.
    coloured: Option<bool>,
    /// The alternate screen was used.
    has_alternate: bool,
    /// How many sequences have come since letters filled the screen.
    sequences: u32,
    /// Something has ended since this was set to false: no sequence that began before is still open.
    pub(super) complete: bool,
}

/// Text of the emulator, with the characters that the program printed.
pub(super) fn as_printed(text: String) -> String {
    REPLACED.into_iter().fold(text, |text, (printed, seen)| {
        if text.contains(seen) { text.replace(seen, printed.encode_utf8(&mut [0; 4])) } else { text }
    })
}

fn emulator(rows: u16, columns: u16) -> vt100::Parser {
    vt100::Parser::new(at_least_one(rows), at_least_one(columns), 0)
}

fn at_least_one(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).unwrap_or(NonZeroU16::MIN)
}

impl Terminal {
    pub(super) fn new(rows: u16, columns: u16) -> Self {
        Self {
            emulator: emulator(rows, columns),
            waiting: String::new(),
            size: (rows, columns),
            modes: Modes::default(),
            charsets: Charsets::default(),
            saved_charsets: [Charsets::default(); 2],
            saved_pens: [Rendition::default(); 2],
            margins: [None; 2],
            title: String::new(),
            has_printed: false,
            blank: None,
            coloured: Some(false),
            has_alternate: false,
            sequences: u32::MAX,
            complete: true,
        }
    }

    pub(super) fn resize(&mut self, rows: u16, columns: u16) {
        self.flush();
        self.blank = None;
        self.emulator.set_size(at_least_one(rows), at_least_one(columns));
        if self.size != (rows, columns) {
            self.margins = [None; 2];
        }
        self.size = (rows, columns);
    }

    pub(super) fn screen(&self) -> &vt100::Screen {
        self.emulator.screen()
    }

    /// The screen after another sequence, which tells what the emulator does not say.
    pub(super) fn probe(&self, sequence: &str) -> vt100::Parser {
        let mut copy = emulator(1, 1);
        *copy.screen_mut() = self.screen().clone();
        copy.process(sequence.as_bytes());
        copy
    }

    /// Gives the emulator what waits for it.
    pub(super) fn flush(&mut self) {
        if !self.waiting.is_empty() {
            self.emulator.process(self.waiting.as_bytes());
            self.waiting.clear();
        }
    }

    /// The first and the last line that scroll, counted from 1.
    pub(super) fn current_margins(&self) -> (u16, u16) {
        self.margins.get(self.place()).copied().flatten().unwrap_or((1, self.size.0))
    }

    fn place(&self) -> usize {
        usize::from(self.screen().alternate_screen())
    }

    fn cursor(&mut self) -> (u16, u16) {
        self.flush();
        self.screen().cursor_position()
    }

    fn push(&mut self, text: &str) {
        self.waiting.push_str(text);
        if self.waiting.len() >= MOST_WAITING {
            self.flush();
        }
    }

    fn sequence(&mut self, numbers: &[u16], action: char) {
        self.waiting.push_str("\x1b[");
        for (place, number) in numbers.iter().enumerate() {
            let separator = if place > 0 { ";" } else { "" };
            if write!(self.waiting, "{separator}{number}").is_err() {
                return;
            }
        }
        self.waiting.push(action);
    }

    /// Moves the cursor to a place counted from 0, whatever the origin is.
    fn go_to(&mut self, row: u16, column: u16) {
        self.sequence(&[row + 1], 'd');
        self.sequence(&[column + 1], 'G');
    }

    /// Moves the cursor to where it was. It waits behind the last column where something is printed there.
    fn go_back_to(&mut self, row: u16, column: u16) {
        self.go_to(row, column.min(self.size.1 - 1));
        if column < self.size.1 {
            return;
        }
        self.flush();
        let pen = Rendition::of_pen(self.screen());
        let Some((last, cell)) = self.before(row, column) else { return };
        let (look, text) = (Rendition::of_visible(cell), cell.contents().to_owned());
        self.sequence(&[last + 1], 'G');
        look.write(&mut self.waiting);
        self.push(if text.is_empty() { " " } else { &text });
        pen.write(&mut self.waiting);
    }

    /// A cursor that waits at the end of a full line waits no longer. The emulator lets it wait through
    /// moves that end it in xterm.js.
    fn end_wait(&mut self) {
        if self.cursor().1 >= self.size.1 {
            self.waiting.push('\x08');
        }
    }

    /// Whether lines that appear have a background. The emulator leaves them without.
    fn has_background(&mut self) -> bool {
        if self.coloured.is_none() {
            self.flush();
            self.coloured = Some(self.screen().bgcolor() != vt100::Color::Default);
        }
        self.coloured == Some(true)
    }

    /// Takes attributes, as a sequence.
    fn change_pen(&mut self, sequence: &str) {
        self.coloured = None;
        self.push(sequence);
    }

    /// Gives whole lines the background in force. Both counted from 0, the end is behind the last.
    fn paint(&mut self, rows: std::ops::Range<u16>) {
        let (row, column) = self.cursor();
        for each in rows {
            self.sequence(&[each + 1], 'd');
            self.push("\x1b[2K");
        }
        self.go_back_to(row, column);
        self.flush();
    }

    fn line_feed(&mut self) {
        if self.modes.line_feed_returns {
            self.push("\r");
        }
        self.index();
    }

    /// Moves the cursor down. At the last line that scrolls the lines move up.
    fn index(&mut self) {
        self.blank = None;
        // Most lines end so, and the cursor then waits nowhere.
        if !self.waiting.ends_with('\r') {
            self.end_wait();
        }
        let painted = self.has_background() && self.cursor().0 + 1 == self.current_margins().1;
        self.push("\n");
        if painted {
            self.push("\x1b[2K");
        }
    }

    fn reverse_line_feed(&mut self) {
        self.blank = None;
        self.end_wait();
        // Above the lines that scroll there is nothing to do. The emulator would scroll them.
        if self.cursor().0 == 0 && self.current_margins().0 > 1 {
            return;
        }
        let painted = self.has_background() && self.cursor().0 + 1 == self.current_margins().0;
        self.push("\x1bM");
        if painted {
            self.push("\x1b[2K");
        }
    }

    fn tab(&mut self) {
        if self.cursor().1 < self.size.1 {
            self.push("\t");
        }
    }

    fn save_cursor(&mut self) {
        self.flush();
        let charsets = self.charsets;
        let place = self.place();
        if let Some(saved) = self.saved_charsets.get_mut(place) {
            *saved = charsets;
        }
        let pen = Rendition::of_pen(self.screen());
        if let Some(saved) = self.saved_pens.get_mut(place) {
            *saved = pen;
        }
        self.push("\x1b7");
    }

    fn restore_cursor(&mut self) {
        self.flush();
        let place = self.place();
        self.charsets = self.saved_charsets.get(place).copied().unwrap_or_default();
        self.push("\x1b8");
        self.end_wait();
        self.coloured = None;
        self.saved_pens.get(place).copied().unwrap_or_default().write(&mut self.waiting);
        if self.modes.has(6) {
            let (row, column) = self.cursor();
            let (top, bottom) = self.current_margins();
            self.push("\x1b[?6h");
            self.go_back_to(row.clamp(top - 1, bottom - 1), column);
        }
    }

    /// The program has reset the terminal. What xterm.js keeps is kept: the title, and what a line feed does.
    ///
    /// The emulator would give back its memory and take it again, which takes long when a program does
    /// nothing else.
    fn reset(&mut self) {
        self.flush();
        self.coloured = Some(false);
        if self.screen().alternate_screen() {
            self.blank = None;
        }
        if self.has_alternate {
            self.push("\x1b[?47h\x1b[?6l\x1b[H\x1b7");
        }
        self.push("\x1b[?47l\x1b[?6l\x1b[r\x1b[H\x1b[m\x1b7");
        self.erase_all();
        let line_feed_returns = self.modes.line_feed_returns;
        self.modes = Modes::default();
        self.modes.line_feed_returns = line_feed_returns;
        self.charsets = Charsets::default();
        self.saved_charsets = [Charsets::default(); 2];
        self.saved_pens = [Rendition::default(); 2];
        self.margins = [None; 2];
    }

    /// Erases the screen, unless nothing has come since that was done.
    fn erase_all(&mut self) {
        self.flush();
        let background = self.screen().bgcolor();
        if self.blank != Some(background) {
            self.push("\x1b[2J");
            self.blank = Some(background);
        }
    }

    /// Fills the screen with letters (DECALN), as for adjusting a monitor.
    ///
    /// This takes long, and is asked for in three bytes: where it was done shortly before, the screen becomes
    /// blank.
    fn align(&mut self) {
        let (rows, columns) = self.size;
        let top = if self.modes.has(6) { self.current_margins().0 - 1 } else { 0 };
        if self.sequences < u32::from(rows) * u32::from(columns) / CELLS_PER_SEQUENCE {
            self.erase_all();
        } else {
            (self.sequences, self.blank) = (0, None);
            let line = "E".repeat(columns.into());
            for row in top..rows {
                self.go_to(row, 0);
                self.push("\x1b[2K");
                self.push(&line);
            }
        }
        self.go_to(top, 0);
    }

    fn reset_softly(&mut self) {
        self.modes.reset_softly();
        self.charsets = Charsets::default();
        let (row, column) = self.cursor();
        let place = self.place();
        if let Some(margins) = self.margins.get_mut(place) {
            *margins = None;
        }
        self.change_pen("\x1b[m\x1b[?6l\x1b[r\x1b[H");
        self.save_cursor();
        self.go_back_to(row, column);
    }

    /// `CSI ? mode h`, or `l`.
    fn set_private(&mut self, mode: u16, on: bool) {
        match (mode, on) {
            (47 | 1047 | 1049, _) => self.swap_screens(mode, on),
            (1048, true) => self.save_cursor(),
            (1048, false) => self.restore_cursor(),
            _ => {
                self.modes.set_private(mode, on);
                if mode == 6 {
                    self.push(if on { "\x1b[?6h" } else { "\x1b[?6l" });
                }
            }
        }
    }

    /// The cursor stays where it is, other than in the emulator.
    fn swap_screens(&mut self, mode: u16, alternate: bool) {
        if mode == 1049 && alternate {
            self.save_cursor();
        }
        let (row, column) = self.cursor();
        if self.screen().alternate_screen() != alternate {
            self.push(if alternate { "\x1b[?47h" } else { "\x1b[?47l" });
            self.blank = None;
            if alternate {
                self.enter_alternate();
            }
            self.push(if self.modes.has(6) { "\x1b[?6h" } else { "\x1b[?6l" });
            self.go_back_to(row, column);
        }
        if mode == 1049 && !alternate {
            self.restore_cursor();
        }
    }

    /// The alternate screen begins empty, with the background in force, and with its own margins.
    fn enter_alternate(&mut self) {
        self.margins = [self.margins.first().copied().flatten(), None];
        self.has_alternate = true;
        self.push("\x1b[r");
        self.erase_all();
    }

    /// Lines or characters that are inserted or deleted, and what comes in their place.
    fn edit(&mut self, action: char, count: u16) {
        if !matches!(action, 'S' | 'T') {
            self.end_wait();
        }
        if action == '@' {
            self.split_wide();
        }
        self.sequence(&[count], action);
        let (row, column) = self.cursor();
        let (top, bottom) = self.current_margins();
        let (top, inside) = (top - 1, row + 1 >= top && row < bottom);
        if matches!(action, 'L' | 'M') && inside {
            self.push("\r");
        }
        if !self.has_background() {
            return;
        }
        let bottom_lines = |first: u16| bottom.saturating_sub(count).max(first)..bottom;
        // Lines of `T` have no background in xterm.js either.
        match action {
            'L' if inside => self.paint(row..row.saturating_add(count).min(bottom)),
            'M' if inside => self.paint(bottom_lines(row)),
            'S' => self.paint(bottom_lines(top)),
            '@' => self.sequence(&[count], 'X'),
            'P' => {
                self.sequence(&[self.size.1.saturating_sub(count).max(column) + 1], 'G');
                self.sequence(&[count], 'X');
                self.sequence(&[column + 1], 'G');
            }
            _ => {}
        }
    }

    fn set_margins(&mut self, top: u16, bottom: u16) {
        let (top, rows) = (top.max(1), self.size.0);
        let bottom = if bottom == 0 { rows } else { bottom.min(rows) };
        if top >= bottom {
            return;
        }
        self.flush();
        let place = self.place();
        if let Some(margins) = self.margins.get_mut(place) {
            *margins = Some((top, bottom)).filter(|margins| *margins != (1, rows));
        }
        self.sequence(&[top, bottom], 'r');
        self.push("\x1b[H");
    }

    /// A character where it is not simply the next one on its line.
    fn print_specially(&mut self, c: char) {
        let width = u16::try_from(c.width().unwrap_or(1)).unwrap_or(1).min(2);
        let (_, column) = self.cursor();
        if width > 0 && column + width > self.size.1 {
            if !self.modes.has(7) {
                self.end_wait();
                if width > 1 {
                    return;
                }
            } else if column < self.size.1 {
                self.leave_last_column(column);
            }
        }
        if width > 0 && self.modes.insert {
            if self.cursor().1 >= self.size.1 {
                self.push("\r");
                self.index();
            }
            self.split_wide();
            self.push(if width > 1 { "\x1b[2@" } else { "\x1b[@" });
        }
        let (row, column) = self.cursor();
        let scrolls = column + width > self.size.1 && row + 1 == self.current_margins().1;
        self.waiting.push(c);
        if scrolls && self.has_background() {
            self.push("\x1b[K");
        }
    }

    /// The last column becomes blank when a wide character has no place there, and goes to the next line.
    fn leave_last_column(&mut self, column: u16) {
        let (row, _) = self.cursor();
        let is_second = self.screen().cell(row, column).is_some_and(vt100::Cell::is_wide_continuation);
        self.push(if is_second { "\x08  " } else { " " });
    }

    /// A wide character becomes blank when something is put between its two columns.
    fn split_wide(&mut self) {
        let (row, column) = self.cursor();
        if self.screen().cell(row, column).is_some_and(vt100::Cell::is_wide_continuation) {
            self.push("\x08\x1b[X\x1b[C");
        }
    }

    /// The last character once more, `count` times. The emulator would not insert it, and leaves out accents.
    fn repeat(&mut self, count: u16) {
        let (row, column) = self.cursor();
        let Some((_, cell)) = self.before(row, column) else { return };
        let (text, width) = (cell.contents().to_owned(), if cell.is_wide() { 2 } else { 1 });
        let mut left = count;
        while left > 0 {
            // All that has room is inserted at once: one after the other takes long.
            let inserted = if self.modes.insert { self.room() / width } else { 0 }.min(left);
            if inserted > 1 {
                self.split_wide();
                self.sequence(&[inserted * width], '@');
                self.push(&text.repeat(inserted.into()));
            } else {
                text.chars().for_each(|c| self.print_translated(c));
            }
            left -= inserted.max(1);
        }
    }

    /// The columns from the cursor to the end of its line.
    fn room(&mut self) -> u16 {
        self.size.1.saturating_sub(self.cursor().1)
    }

    fn print_translated(&mut self, c: char) {
        self.blank = None;
        let is_wide = || !c.is_ascii() && c.width().is_some_and(|width| width > 1);
        if self.modes.insert || !self.modes.has(7) || is_wide() || self.has_background() {
            self.print_specially(c);
        } else {
            self.waiting.push(c);
            if self.waiting.len() >= MOST_WAITING {
                self.flush();
            }
        }
    }

    /// The character that ends before this place, and its column.
    pub(super) fn before(&self, row: u16, column: u16) -> Option<(u16, &vt100::Cell)> {
        let column = column.checked_sub(1)?;
        let cell = self.screen().cell(row, column)?;
        if !cell.is_wide_continuation() {
            return Some((column, cell)).filter(|_| !cell.is_wide());
        }
        let column = column.checked_sub(1)?;
        Some((column, self.screen().cell(row, column)?))
    }

    /// A sequence of the form `CSI numbers action`.
    fn plain_csi(&mut self, params: &vte::Params, action: char) {
        let number = |place| params.iter().nth(place).and_then(|param| param.first()).copied().unwrap_or(0);
        let count = number(0).max(1);
        if matches!(action, '@' | 'J' | 'K' | 'L' | 'M' | 'P' | 'S' | 'T' | 'X')
            && (action, number(0)) != ('J', 2)
        {
            self.blank = None;
        }
        match action {
            'A' | 'B' | 'C' | 'D' | 'E' | 'F' | 'G' | '`' | 'a' | 'e' => self.move_cursor(action, count),
            'X' => {
                self.end_wait();
                self.sequence(&[count], action);
            }
            'H' | 'f' => self.sequence(&[count, number(1).max(1)], 'H'),
            'd' => self.go_to_row(count),
            'J' if number(0) == 2 => self.erase_all(),
            'J' | 'K' if number(0) < 3 => self.sequence(&[number(0)], action),
            'T' if params.len() > 1 => {}
            '@' | 'L' | 'M' | 'P' | 'S' | 'T' => self.edit(action, count),
            // More than a line has no use, and would let a few bytes take long.
            'b' if self.has_printed => self.repeat(count.min(self.size.1)),
            'I' => (0..count.min(self.size.1 / 8 + 1)).for_each(|_| self.tab()),
            'Z' => self.tab_back(count),
            'm' if params.is_empty() => self.change_pen("\x1b[m"),
            'm' => self.change_pen(&rendition::simplified(&params.iter().collect::<Vec<_>>())),
            'r' => self.set_margins(number(0), number(1)),
            's' => self.save_cursor(),
            'u' => self.restore_cursor(),
            'h' | 'l' => {
                for param in params.iter().flatten() {
                    match param {
                        4 => self.modes.insert = action == 'h',
                        20 => self.modes.line_feed_returns = action == 'h',
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }

    /// Moves the cursor by some lines or columns, or to a column.
    fn move_cursor(&mut self, action: char, count: u16) {
        self.end_wait();
        let (row, column) = self.cursor();
        let (top, bottom) = self.current_margins();
        let (first, last, end) = (top - 1, bottom - 1, self.size.0 - 1);
        let (mut row, column) = match action {
            'A' | 'F' => (row.saturating_sub(count).max(if row < first { 0 } else { first }), column),
            'B' | 'E' => (row.saturating_add(count).min(if row > last { end } else { last }), column),
            'e' => (row.saturating_add(count).min(end), column),
            'C' | 'a' => (row, column.saturating_add(count)),
            'D' => (row, column.saturating_sub(count)),
            _ => (row, count - 1),
        };
        if self.modes.has(6) {
            // xterm.js counts the line from the first that scrolls once more.
            row = (row + first).min(last);
        }
        self.go_to(row, if matches!(action, 'E' | 'F') { 0 } else { column.min(self.size.1 - 1) });
    }

    /// The line counts from the first that scrolls in origin mode, other than in the emulator.
    fn go_to_row(&mut self, row: u16) {
        self.end_wait();
        let (top, bottom) = self.current_margins();
        let row = if self.modes.has(6) { row.saturating_add(top - 1).min(bottom) } else { row };
        self.sequence(&[row], 'd');
    }

    fn tab_back(&mut self, count: u16) {
        let column = self.cursor().1;
        let stops = column.div_ceil(8).saturating_sub(count);
        if column < self.size.1 {
            self.sequence(&[stops * 8 + 1], 'G');
        }
    }

    fn ended(&mut self) {
        self.complete = true;
        self.has_printed = false;
    }
}

impl vte::Perform for Terminal {
    fn print(&mut self, c: char) {
        self.complete = true;
        let replaced = REPLACED.iter().find(|(printed, _)| *printed == c);
        let c = replaced.map_or_else(|| self.charsets.translate(c), |(_, seen)| *seen);
        self.print_translated(c);
        // An accent that comes after something else has no character to join.
        if c.is_ascii() || c.width() != Some(0) {
            self.has_printed = true;
        }
    }

    fn execute(&mut self, byte: u8) {
        self.has_printed = false;
        match byte {
            0x08 => {
                self.end_wait();
                self.push("\x08");
            }
            b'\t' => self.tab(),
            b'\n' | 0x0b | 0x0c => self.line_feed(),
            b'\r' => self.push("\r"),
            0x0e => self.charsets.shift(1),
            0x0f => self.charsets.shift(0),
            // The sequence that was open is cancelled.
            0x18 | 0x1a => self.complete = true,
            _ => {}
        }
    }

    fn esc_dispatch(&mut self, intermediates: &[u8], ignore: bool, byte: u8) {
        self.ended();
        self.sequences = self.sequences.saturating_add(1);
        match (intermediates, byte) {
            _ if ignore => {}
            ([], b'7') => self.save_cursor(),
            ([], b'8') => self.restore_cursor(),
            ([], b'=') => self.modes.set_private(66, true),
            ([], b'>') => self.modes.set_private(66, false),
            ([], b'D') => self.index(),
            ([], b'E') => {
                self.push("\r");
                self.index();
            }
            ([], b'M') => self.reverse_line_feed(),
            ([], b'c') => self.reset(),
            (b"#", b'8') => self.align(),
            ([], b'n') => self.charsets.shift(2),
            ([], b'o') => self.charsets.shift(3),
            ([intermediate], set) => {
                self.charsets.choose(*intermediate, set);
            }
            _ => {}
        }
    }

    fn csi_dispatch(&mut self, params: &vte::Params, intermediates: &[u8], ignore: bool, action: char) {
        self.complete = true;
        self.sequences = self.sequences.saturating_add(1);
        match (intermediates, action) {
            _ if ignore => {}
            ([], _) | (b"?", 'J' | 'K') => self.plain_csi(params, action),
            (b"?", 'h' | 'l') => {
                for mode in params.iter().flatten() {
                    self.set_private(*mode, action == 'h');
                }
            }
            (b"!", 'p') => self.reset_softly(),
            (b" ", 'q') => {
                self.modes.cursor_shape = params.iter().flatten().next().copied().unwrap_or(0);
            }
            _ => {}
        }
        self.has_printed = false;
    }

    fn osc_dispatch(&mut self, params: &[&[u8]], _bel_terminated: bool) {
        self.ended();
        if let [b"0" | b"2", title @ ..] = params {
            let title = title.join(&b';');
            let title = String::from_utf8_lossy(&title);
            self.title = title.chars().filter(|c| !c.is_control()).take(LONGEST_TITLE).collect();
        }
    }

    fn unhook(&mut self) {
        self.ended();
    }
}
