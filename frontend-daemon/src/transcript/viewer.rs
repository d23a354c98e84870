//! One client that is attached to a kept program: what it has been given, and what it has been told.

use std::{sync::Arc, time::Instant};

use further_link_api::Mode;
use further_link_proto::WindowSize;
use tokio::sync::Notify;

use crate::transcript::log::{Cursor, RECORD_COST};

/// The number of a viewer, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ViewerId(pub(super) u64);

/// Whose connection a viewer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// Of the client that the program belongs to.
    Owner,
    Other,
}

/// Whether a viewer stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stay {
    Stays,
    /// It has asked to leave, and has its place until it was told.
    Leaves,
    /// It leaves as another one has its place.
    Replaced,
}

/// A viewer.
pub(super) struct Viewer {
    pub(super) id: ViewerId,
    pub(super) mode: Mode,
    pub(super) whose: Whose,
    /// The size of its window.
    pub(super) size: Option<WindowSize>,
    /// Rises with each use; the one with the highest number used the program last.
    pub(super) last_use: u64,
    /// What is given next.
    pub(super) cursor: Cursor,
    /// The position up to which it was given everything.
    pub(super) given: u64,
    /// The position up to which its side has confirmed that it has everything.
    pub(super) confirmed: u64,
    /// It confirms by itself. Without this the program that reads its connection does.
    pub(super) acks: bool,
    /// The position whose confirmation was asked for last, and what was given since, in bytes with what
    /// records cost.
    asked: u64,
    unasked: usize,
    /// It needs what the terminal shows, before anything else.
    pub(super) needs_screen: bool,
    /// The program waits until more is confirmed.
    pub(super) is_waited_for: bool,
    /// What it knows of the others.
    pub(super) told: Told,
    /// Since when a message waits for its connection.
    pub(super) sending: Option<Instant>,
    pub(super) stay: Stay,
    pub(super) wake: Arc<Notify>,
}

impl Viewer {
    /// It is told when all before has been said.
    pub(super) fn leave(&mut self) {
        if self.stay == Stay::Stays {
            self.stay = Stay::Leaves;
        }
        self.wake.notify_one();
    }

    pub(super) fn stays(&self) -> bool {
        self.stay == Stay::Stays
    }

    /// It is given everything before this place. The position, if its side is to confirm it: each such part
    /// is confirmed.
    pub(super) fn give(&mut self, next: Cursor, position: u64, part: usize) -> Option<u64> {
        let length = usize::try_from(position.saturating_sub(self.given)).unwrap_or(usize::MAX);
        (self.cursor, self.given) = (next, position);
        self.unasked = self.unasked.saturating_add(length + RECORD_COST);
        (self.unasked >= part && !self.acks).then(|| self.ask())
    }

    /// The position to confirm when there is nothing more to give, and the program waits for that.
    pub(super) fn ask_at_end(&mut self) -> Option<u64> {
        let waits = std::mem::take(&mut self.is_waited_for) && !self.acks && self.asked < self.given;
        waits.then(|| self.ask())
    }

    /// It has used everything up to this position.
    pub(super) fn ack(&mut self, position: u64) {
        self.confirmed = self.confirmed.max(position.min(self.given));
        self.wake.notify_one();
    }

    /// So much more was passed over before what it was given last: it cannot have used that.
    pub(super) fn pass_over(&mut self, bytes: u64) {
        if self.acks {
            self.confirmed = self.confirmed.saturating_add(bytes);
        }
    }

    /// It was given as much as it may have without a confirmation.
    pub(super) fn owes(&self, window: u64) -> bool {
        self.acks && self.given.saturating_sub(self.confirmed) >= window
    }

    fn ask(&mut self) -> u64 {
        (self.asked, self.unasked) = (self.given, 0);
        self.given
    }
}

/// What a viewer was told, so that only news are said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) holder: bool,
    pub(super) viewers: usize,
    /// How many of the keys that are listened for.
    pub(super) keys: usize,
    /// The number of the newest frame.
    pub(super) frame: u64,
    /// The size of the terminal.
    pub(super) size: Option<WindowSize>,
}

/// The viewers, and which of them has the keyboard.
#[derive(Default)]
pub(super) struct Viewers {
    all: Vec<Viewer>,
    holder: Option<ViewerId>,
    /// The position up to which the client has everything that had the keyboard last.
    confirmed: u64,
    /// The next id, and the next number of a use.
    next: u64,
}

impl Viewers {
    /// How many there are that stay.
    pub(super) fn len(&self) -> usize {
        self.all.iter().filter(|viewer| viewer.stays()).count()
    }

    /// How many places are taken.
    pub(super) fn places(&self) -> usize {
        self.all.iter().filter(|viewer| viewer.stay != Stay::Replaced).count()
    }

    /// Lets the oldest viewer of the program's owner leave for another one. False if there is none.
    pub(super) fn replace_oldest_of_owner(&mut self) -> bool {
        let oldest =
            self.all.iter_mut().find(|viewer| viewer.whose == Whose::Owner && viewer.stay != Stay::Replaced);
        if let Some(viewer) = oldest {
            viewer.stay = Stay::Replaced;
            viewer.wake.notify_one();
            return true;
        }
        false
    }

    pub(super) fn get(&self, id: ViewerId) -> Option<&Viewer> {
        self.all.iter().find(|viewer| viewer.id == id)
    }

    pub(super) fn get_mut(&mut self, id: ViewerId) -> Option<&mut Viewer> {
        self.all.iter_mut().find(|viewer| viewer.id == id)
    }

    /// The viewer with the keyboard.
    pub(super) fn holder(&self) -> Option<&Viewer> {
        self.holder.and_then(|id| self.get(id))
    }

    pub(super) fn is_holder(&self, id: ViewerId) -> bool {
        self.holder == Some(id)
    }

    pub(super) fn holder_mut(&mut self) -> Option<&mut Viewer> {
        self.holder.and_then(|id| self.get_mut(id))
    }

    /// Adds one at this place of the log.
    pub(super) fn add(
        &mut self,
        mode: Mode,
        size: Option<WindowSize>,
        (cursor, given): (Cursor, u64),
    ) -> ViewerId {
        let id = ViewerId(self.number());
        self.all.push(Viewer {
            id,
            mode,
            whose: Whose::Other,
            size,
            last_use: 0,
            cursor,
            given,
            confirmed: given,
            acks: false,
            asked: given,
            unasked: 0,
            needs_screen: false,
            is_waited_for: false,
            told: Told::default(),
            sending: None,
            stay: Stay::Stays,
            wake: Arc::default(),
        });
        id
    }

    /// The position up to which the client with the keyboard has everything, or had when it left.
    pub(super) fn confirmed(&self) -> u64 {
        self.holder().map_or(self.confirmed, |holder| holder.confirmed)
    }

    /// Takes one out. The keyboard goes back to the client that used it before.
    pub(super) fn remove(&mut self, id: ViewerId) {
        self.confirmed = self.confirmed();
        self.all.retain(|viewer| viewer.id != id);
        if self.is_holder(id) {
            let users = self.all.iter().filter(|viewer| viewer.mode == Mode::Use && viewer.stays());
            self.holder = users.max_by_key(|viewer| viewer.last_use).map(|viewer| viewer.id);
        }
    }

    /// This one uses the program now, and has the keyboard.
    pub(super) fn give_keyboard(&mut self, id: ViewerId) {
        let number = self.number();
        if let Some(viewer) = self.get_mut(id) {
            viewer.last_use = number;
            self.holder = Some(id);
        }
    }

    pub(super) fn wake_all(&self) {
        for viewer in &self.all {
            viewer.wake.notify_one();
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}
