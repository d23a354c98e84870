//! The screen of a terminal program, kept while no client looks, and written as text for one that comes back.
//!
//! The emulator is the crate `vt100`, which this folder alone knows. What it lacks is added before it
//! (`terminal`) or beside it (`charsets`, `modes`, `rendition`), as xterm.js does it. A screen of 24 lines
//! and 80 columns takes 60 KiB, and twice that once a program has used the alternate one. Text of a program
//! is not trusted: nothing here answers it, and all that grows has a limit.

mod charsets;
mod modes;
mod rendition;
mod terminal;

use std::fmt::Write as _;

use self::{rendition::Rendition, terminal::Terminal};

/// Screens larger than this are kept as if they were this large: more than a screen with the smallest of
/// letters has. A client may ask for 65535 columns.
const MOST_COLUMNS: u16 = 1000;
const MOST_ROWS: u16 = 500;
/// No more cells than this in all, 4 MiB on each of the two screens: a device may have little memory.
pub(super) const MOST_CELLS: u16 = u16::MAX;
/// What xterm.js has at the least. A wide character needs two columns.
const FEWEST_COLUMNS: u16 = 2;
/// The usual character sets, and no attributes.
const PLAIN: &str = "\x0f\x1b(B\x1b)B\x1b*B\x1b+B\x1b[m";
/// A sequence that has begun is kept up to here, as a snapshot ends with it. Programs write short ones.
const LONGEST_UNFINISHED: usize = 4096;

/// The screen of a program, from all it has printed.
pub(crate) struct Screen {
    scanner: vte::Parser,
    terminal: Terminal,
    /// The beginning of a sequence whose end is still to come.
    unfinished: String,
}

impl Screen {
    pub(crate) fn new(rows: u16, columns: u16) -> Self {
        let (rows, columns) = size(rows, columns);
        Self {
            scanner: vte::Parser::new(),
            terminal: Terminal::new(rows, columns),
            unfinished: String::new(),
        }
    }

    /// Takes what the program has printed, in any pieces.
    pub(crate) fn feed(&mut self, text: &str) {
        let replaced = without_c1(text);
        let text = self.without_what_scrolls_away(replaced.as_deref().unwrap_or(text));
        let (before, last) = text.split_at(text.rfind('\x1b').unwrap_or(0));
        self.scan(before);
        self.scan(last);
        self.terminal.flush();
    }

    /// The end of a flood of plain lines: the lines before it would leave the screen, without a trace.
    ///
    /// The cursor may be in the first row, above old text: as many lines as there are rows bring it to the
    /// last one, as many more make all that was there scroll away.
    fn without_what_scrolls_away<'a>(&self, text: &'a str) -> &'a str {
        let rows = self.terminal.size.0;
        if !self.unfinished.is_empty() || self.terminal.current_margins() != (1, rows) {
            return text;
        }
        let line_end = memchr::memrchr_iter(b'\n', text.as_bytes()).nth(2 * usize::from(rows));
        let return_before = line_end.and_then(|end| end.checked_sub(1));
        // Only with a return the column is known.
        let Some((before, rest)) = return_before.and_then(|place| text.split_at_checked(place)) else {
            return text;
        };
        // Sequences, and characters that choose another set, have an effect on what follows.
        let is_plain = memchr::memchr3(b'\x1b', b'\x0e', b'\x0f', before.as_bytes()).is_none();
        if is_plain && rest.starts_with('\r') { rest } else { text }
    }

    fn scan(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        if text.starts_with('\x1b') {
            self.unfinished.clear();
        }
        self.terminal.complete = self.unfinished.is_empty() && !text.starts_with('\x1b');
        self.scanner.advance(&mut self.terminal, text.as_bytes());
        if self.terminal.complete {
            self.unfinished.clear();
            return;
        }
        // Control characters have had their effect already.
        self.unfinished.extend(text.chars().filter(|c| *c == '\x1b' || !c.is_control()));
        if self.unfinished.len() > LONGEST_UNFINISHED {
            // A string that no terminal heeds, with the same end.
            let ignored = if self.unfinished.starts_with("\x1b]") { "\x1b]x" } else { "\x1b^" };
            ignored.clone_into(&mut self.unfinished);
        }
    }

    /// The client's terminal has another size.
    pub(crate) fn resize(&mut self, rows: u16, columns: u16) {
        let (rows, columns) = size(rows, columns);
        self.terminal.resize(rows, columns);
    }

    /// Text that brings a terminal of the same size to this screen, whatever it has shown before.
    ///
    /// It begins with a full reset, which also forgets the lines that have left the terminal at its top:
    /// xterm.js has no smaller one that ends all modes. It asks the terminal for nothing.
    pub(crate) fn snapshot(&self) -> String {
        let mut text = String::from("\x1bc");
        // Writing into a string does not fail.
        if self.terminal.write(&mut text).is_err() {
            text.push_str("\x1bc");
        }
        text.push_str(&self.unfinished);
        terminal::as_printed(text)
    }
}

#[cfg(feature = "fuzzing")]
impl Screen {
    /// The lines of the screen, for comparing. Blanks at their ends cannot be seen.
    pub(crate) fn lines(&self) -> Vec<String> {
        let rows = self.terminal.screen().rows(0, self.terminal.size.1);
        rows.map(|row| row.trim_end_matches(' ').to_owned()).collect()
    }
}

/// A size that can be kept.
fn size(rows: u16, columns: u16) -> (u16, u16) {
    let columns = columns.clamp(FEWEST_COLUMNS, MOST_COLUMNS);
    (rows.clamp(1, MOST_ROWS.min(MOST_CELLS / columns)), columns)
}

/// Whether terminals disagree about the columns of a character, or of the one before it: symbols that became
/// emoji.
fn of_uncertain_width(c: char) -> bool {
    matches!(c, '\u{2600}'..'\u{2800}' | '\u{2b00}'..'\u{2c00}' | '\u{fe00}'..='\u{fe0f}' | '\u{1f000}'..)
}

/// The text with its control characters of 8 bits (C1) in two characters each, as `vte` knows them.
fn without_c1(text: &str) -> Option<String> {
    let is_c1 = |c: char| ('\u{80}'..='\u{9f}').contains(&c);
    // All of them begin with this byte, which is rare.
    if memchr::memchr(0xc2, text.as_bytes()).is_none() || !text.contains(is_c1) {
        return None;
    }
    let mut replaced = String::with_capacity(text.len());
    for c in text.chars() {
        match u8::try_from(c) {
            Ok(byte) if is_c1(c) => replaced.extend(['\x1b', char::from(byte - 0x40)]),
            _ => replaced.push(c),
        }
    }
    Some(replaced)
}

impl Terminal {
    /// Writes what follows the reset of a snapshot.
    fn write(&self, text: &mut String) -> std::fmt::Result {
        if !self.title.is_empty() {
            write!(text, "\x1b]2;{}\x07", self.title)?;
        }
        let screen = self.screen();
        if screen.alternate_screen() {
            let primary = self.probe("\x1b[?47l");
            self.draw(text, primary.screen(), None)?;
            self.write_margins(text, 0)?;
            self.write_saved_cursor(text, "\x1b[?47l\x1b8", 0)?;
            // Not 1049, which would save the cursor once more.
            text.push_str("\x1b[?47h");
            text.push_str(PLAIN);
        }
        let place = usize::from(screen.alternate_screen());
        let (row, _) = screen.cursor_position();
        self.draw(text, screen, self.printed().map(|(column, _)| (row, column)))?;
        self.write_margins(text, place)?;
        self.write_saved_cursor(text, "\x1b8", place)?;
        self.modes.write(text)?;
        self.write_cursor(text)
    }

    /// Draws the cells on an empty screen, but for one that is printed later.
    ///
    /// A line that the program has filled goes on in the next without a move, so that the terminal can break
    /// it elsewhere when its size changes.
    fn draw(&self, text: &mut String, screen: &vt100::Screen, later: Option<(u16, u16)>) -> std::fmt::Result {
        let (rows, columns) = self.size;
        let (mut at, mut pen) = (None, Rendition::default());
        for row in 0..rows {
            let mut next = 0;
            while let Some(cell) = screen.cell(row, next).filter(|_| next < columns) {
                let column = next;
                next += if cell.is_wide() { 2 } else { 1 };
                let look = Rendition::of_visible(cell);
                if later == Some((row, column)) || (!cell.has_contents() && look == Rendition::default()) {
                    continue;
                }
                if look != pen {
                    look.write(text);
                    pen = look;
                }
                let follows = || {
                    cell.has_contents()
                        && column == 0
                        && row > 0
                        && at == Some((row - 1, columns))
                        && screen.row_wrapped(row - 1)
                };
                if at != Some((row, column)) && !follows() {
                    write!(text, "\x1b[{};{}H", row + 1, column + 1)?;
                }
                if cell.has_contents() {
                    text.push_str(cell.contents());
                    at = Some((row, next)).filter(|_| !cell.contents().contains(of_uncertain_width));
                } else {
                    let same =
                        |cell: &vt100::Cell| !cell.has_contents() && Rendition::of_visible(cell) == look;
                    while screen.cell(row, next).is_some_and(same) {
                        next += 1;
                    }
                    write!(text, "\x1b[{}X", next - column)?;
                    at = Some((row, column));
                }
            }
        }
        Ok(())
    }

    fn write_margins(&self, text: &mut String, place: usize) -> std::fmt::Result {
        match self.margins.get(place) {
            Some(Some((top, bottom))) => write!(text, "\x1b[{top};{bottom}r"),
            _ => Ok(()),
        }
    }

    /// Saves the cursor in the client's terminal that the program has saved.
    fn write_saved_cursor(&self, text: &mut String, sequence: &str, place: usize) -> std::fmt::Result {
        let saved = self.probe(sequence);
        let saved = saved.screen();
        let (row, column) = saved.cursor_position();
        write!(text, "\x1b[{};{}H", row + 1, column + 1)?;
        self.saved_pens.get(place).copied().unwrap_or_default().write(text);
        let charsets = self.saved_charsets.get(place).copied().unwrap_or_default();
        charsets.write(text);
        text.push_str("\x1b7");
        text.push_str(PLAIN);
        Ok(())
    }

    /// The character that the program has just printed, or that the cursor waits behind, and its column.
    fn printed(&self) -> Option<(u16, &vt100::Cell)> {
        let (row, column) = self.screen().cursor_position();
        let printed = self.has_printed || column >= self.size.1;
        self.before(row, column).filter(|(_, cell)| printed && (cell.has_contents() || column >= self.size.1))
    }

    /// Puts the cursor where it is, with the attributes in force.
    ///
    /// Where the program has just printed a character, that one is printed now. The terminal then waits at
    /// the end of a full line, and adds an accent that comes next to it.
    fn write_cursor(&self, text: &mut String) -> std::fmt::Result {
        let screen = self.screen();
        let (row, column) = screen.cursor_position();
        let (_, columns) = self.size;
        let printed = self.printed();
        // A character that was printed before the sets were chosen is not one of them.
        let first = printed.and_then(|(_, cell)| cell.contents().chars().next());
        let of_sets = self.has_printed && first.is_none_or(|c| self.charsets.translate(c) == c);
        if of_sets {
            self.charsets.write(text);
        }
        let mut top = 0;
        if self.modes.has(6) {
            text.push_str("\x1b[?6h");
            top = self.current_margins().0 - 1;
        }
        let column = printed.map_or(column.min(columns - 1), |(column, _)| column);
        write!(text, "\x1b[{};{}H", row.saturating_sub(top) + 1, column + 1)?;
        let pen = Rendition::of_pen(screen);
        let of_cell = printed.map_or(pen, |(_, cell)| Rendition::of_visible(cell));
        of_cell.write(text);
        if let Some((_, cell)) = printed {
            text.push_str(if cell.has_contents() { cell.contents() } else { " " });
        }
        if of_cell != pen {
            pen.write(text);
        }
        if !of_sets {
            self.charsets.write(text);
        }
        if self.modes.insert {
            text.push_str("\x1b[4h");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
