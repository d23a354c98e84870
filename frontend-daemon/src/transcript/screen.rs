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

use self::terminal::Terminal;

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
        let text = replaced.as_deref().unwrap_or(text);
        let (before, last) = text.split_at(text.rfind('\x1b').unwrap_or(0));
        self.scan(before);
        self.scan(last);
        self.terminal.flush();
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
            text.push_str(&primary.screen().contents_formatted());
            self.write_margins(text, 0)?;
            self.write_saved_cursor(text, "\x1b[?47l\x1b8", 0)?;
            // Not 1049, which would save the cursor once more.
            text.push_str("\x1b[?47h");
            text.push_str(PLAIN);
        }
        let place = usize::from(screen.alternate_screen());
        text.push_str(&screen.contents_formatted());
        self.write_margins(text, place)?;
        self.write_saved_cursor(text, "\x1b8", place)?;
        text.push_str("\x1b[?25h");
        self.modes.write(text)?;
        self.write_cursor(text)
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
        write!(text, "\x1b[{};{}H{}", row + 1, column + 1, self.saved_pen(place))?;
        let charsets = self.saved_charsets.get(place).copied().unwrap_or_default();
        charsets.write(text);
        text.push_str("\x1b7");
        text.push_str(PLAIN);
        Ok(())
    }

    /// Puts the cursor where it is, with the attributes in force.
    ///
    /// Where the program has just printed a character, that one is printed once more. The terminal then waits
    /// at the end of a full line, and adds an accent that comes next to it.
    fn write_cursor(&self, text: &mut String) -> std::fmt::Result {
        let screen = self.screen();
        let (row, column) = screen.cursor_position();
        let (_, columns) = self.size;
        let before = column.checked_sub(1);
        let is_second = |column| screen.cell(row, column).is_some_and(vt100::Cell::is_wide_continuation);
        let before = before.map(|column| if is_second(column) { column.saturating_sub(1) } else { column });
        let printed = before
            .filter(|_| self.has_printed || column >= columns)
            .and_then(|column| Some((column, screen.cell(row, column)?)))
            .filter(|(_, cell)| cell.has_contents());

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
        let attributes = screen.attributes_formatted();
        match printed {
            Some((_, cell)) => {
                let of_cell = rendition::of_cell(cell);
                let differ = of_cell != rendition::of_pen(screen);
                text.push_str(if differ { &of_cell } else { &attributes });
                text.push_str(cell.contents());
                if differ {
                    text.push_str(&attributes);
                }
            }
            None => text.push_str(&attributes),
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
