//! The screen of a kept program, as far as it was drawn.
//!
//! A program that clears a large screen with each few bytes takes seconds for what the log has. So nothing is
//! drawn while the transcript's lock is held, a long text is drawn in pieces, and a task that needs little is
//! not behind one that needs much.

use further_link_proto::WindowSize;
use tokio::{
    sync::{Mutex, MutexGuard},
    task::block_in_place,
};

use crate::{
    memory::budget::{Budget, Reservation},
    transcript::log::{Cursor, Piece},
    transcript::saved::SavedScreen,
    transcript::screen::{MOST_CELLS, Screen},
};

/// Bytes of one place on both screens, about.
const PLACE: usize = 64;
/// A screen that needs no room of the budget: 64 rows of 256 columns.
const SMALL_SCREEN: usize = 1024 * 1024;

/// The drawing of one terminal. One draws at a time, and those who wait come in order.
pub(super) struct Drawing {
    drawn: Mutex<Drawn>,
}

/// What was drawn, and up to which place of the log.
pub(super) struct Drawn {
    pub(super) until: Cursor,
    /// The size of the terminal at this place.
    pub(super) size: WindowSize,
    /// Made when it is needed first: many programs never need it.
    screen: Option<Screen>,
    /// For a large screen.
    room: Option<Reservation>,
    budget: Budget,
}

impl Drawing {
    /// For a terminal that begins with this size, at this place of the log.
    pub(super) fn new(size: WindowSize, until: Cursor, budget: Budget) -> Self {
        Self { drawn: Mutex::new(Drawn { until, size, screen: None, room: None, budget }) }
    }

    /// One that an earlier process has drawn up to this place.
    pub(super) fn restored(screen: &SavedScreen, until: Cursor, budget: Budget) -> Self {
        let mut drawn = Drawn { until, size: screen.size, screen: None, room: None, budget };
        drawn.screen().feed(&screen.text);
        Self { drawn: Mutex::new(drawn) }
    }

    pub(super) async fn lock(&self) -> MutexGuard<'_, Drawn> {
        self.drawn.lock().await
    }
}

impl Drawn {
    /// Draws what stands between `until` and this place. Not as a part of other tasks' time.
    pub(super) fn draw(&mut self, piece: &Piece, next: Cursor) {
        match piece {
            Piece::Text(text) if text.is_empty() => {}
            Piece::Text(text) => block_in_place(|| self.screen().feed(text)),
            Piece::Resized(size) => block_in_place(|| self.resize(*size)),
        }
        self.until = next;
    }

    /// Text that brings a terminal of this size to the screen.
    pub(super) fn snapshot(&mut self) -> String {
        block_in_place(|| self.screen().snapshot())
    }

    /// The screen for the next process of this service, if there is anything on it. The place up to which it
    /// was drawn has this position.
    pub(super) fn saved(&self, position: u64) -> Option<SavedScreen> {
        let text = block_in_place(|| Some(self.screen.as_ref()?.snapshot()))?;
        Some(SavedScreen { position, size: self.size, text })
    }

    fn screen(&mut self) -> &mut Screen {
        self.screen.get_or_insert_with(|| {
            let (size, room) = affordable(self.size, &self.budget);
            self.room = room;
            Screen::new(size.rows, size.cols)
        })
    }

    fn resize(&mut self, size: WindowSize) {
        self.size = size;
        if let Some(screen) = &mut self.screen {
            self.room = None;
            let (size, room) = affordable(size, &self.budget);
            self.room = room;
            screen.resize(size.rows, size.cols);
        }
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
