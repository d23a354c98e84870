//! The terminal of a kept program: its size, and its screen as far as it was drawn.

use further_link_proto::WindowSize;
use tokio::task::block_in_place;

use crate::{
    memory::budget::{Budget, Reservation},
    transcript::log::{Cursor, Entry, Log},
    transcript::screen::{MOST_CELLS, Screen},
};

/// Bytes of one place on both screens, about.
const PLACE: usize = 64;
/// A screen that needs no room of the budget: 64 rows of 256 columns.
const SMALL_SCREEN: usize = 1024 * 1024;

/// The terminal of the program, with what it shows as far as it was drawn.
pub(super) struct Terminal {
    pub(super) size: WindowSize,
    first_size: WindowSize,
    /// Made when it is needed first: many programs never need it.
    screen: Option<Drawn>,
}

/// A screen, and the place up to which it shows the log.
struct Drawn {
    screen: Screen,
    until: Cursor,
    /// For a large one.
    room: Option<Reservation>,
}

impl Terminal {
    pub(super) fn new(size: WindowSize) -> Self {
        Self { size, first_size: size, screen: None }
    }

    /// Draws what the log has, at least up to this place. Not as a part of other tasks' time: a program that
    /// clears a large screen with each few bytes takes seconds for what the log has.
    pub(super) fn draw(&mut self, log: &Log, until: Cursor, budget: &Budget) -> &mut Screen {
        block_in_place(|| self.draw_here(log, until, budget))
    }

    fn draw_here(&mut self, log: &Log, until: Cursor, budget: &Budget) -> &mut Screen {
        let first = self.first_size;
        let drawn = self.screen.get_or_insert_with(|| Drawn::new(first, log.oldest(), budget));
        while drawn.until < until {
            let (entry, next) = log.entry(drawn.until);
            match entry {
                Entry::Text { text, .. } => drawn.screen.feed(text),
                Entry::Resized(size) => drawn.resize(size, budget),
                Entry::End | Entry::Dropped => break,
            }
            drawn.until = next;
        }
        &mut drawn.screen
    }
}

impl Drawn {
    fn new(size: WindowSize, until: Cursor, budget: &Budget) -> Self {
        let (size, room) = affordable(size, budget);
        Self { screen: Screen::new(size.rows, size.cols), until, room }
    }

    fn resize(&mut self, size: WindowSize, budget: &Budget) {
        self.room = None;
        let (size, room) = affordable(size, budget);
        self.room = room;
        self.screen.resize(size.rows, size.cols);
    }
}

/// The size that may be drawn. A large screen needs room, and is drawn as a small one without it.
fn affordable(size: WindowSize, budget: &Budget) -> (WindowSize, Option<Reservation>) {
    let cost = (usize::from(size.rows) * usize::from(size.cols)).min(MOST_CELLS.into()) * PLACE;
    if cost <= SMALL_SCREEN {
        return (size, None);
    }
    match budget.try_take(cost) {
        Some(room) => (size, Some(room)),
        None => (WindowSize { rows: size.rows.min(24), cols: size.cols.min(80) }, None),
    }
}
