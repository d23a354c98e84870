//! The state of a transcript, and every rule of it: what the program may say, what each viewer is given next,
//! who has the keyboard. Nothing here waits.

use std::{
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use further_link_api::{
    Attached, Dialect, EndReason, KeptMessage, KeptState, Mode, Outcome, OutputStream, ProcessId,
    ServerMessage, Stage, StartFailure, WhenFull,
};
use further_link_proto::WindowSize;

use crate::{
    memory::budget::{Budget, Reservation},
    transcript::log::{Cursor, Entry, Log, Piece},
    transcript::saved::{Restored, Said, Saved},
    transcript::viewer::{Told, Viewer, ViewerId, Viewers},
};

/// How far the client with the keyboard may be behind before the program waits for it: what a client of a
/// program that is not kept may have waiting. One that acknowledges is given no more than this at once.
pub(super) const WINDOW: u64 = 256 * 1024;
/// The client with the keyboard confirms its output in such parts of the room: nothing that it may not have
/// leaves the log while it is attached.
const PARTS: usize = 8;
/// The log grows in such steps; the first is free of the budget.
pub(super) const STEP: usize = 64 * 1024;
/// What stays of a program that has ended long ago.
pub(super) const REMAINS: usize = 64 * 1024;
/// A client that takes nothing for so long leaves the keyboard to one that comes.
const STALLED: Duration = Duration::from_secs(1);
/// A piece from which on the connection takes a breath before the next one.
const LARGE: usize = 32 * 1024;
/// Bytes that are drawn at once.
const PIECE: usize = 16 * 1024;
/// Most keys, and bytes of their names, that are told to a client that attaches.
pub(super) const MAX_KEYS: usize = 256;
pub(super) const MAX_KEYS_BYTES: usize = 16 * 1024;

/// What a transcript may have.
#[derive(Clone)]
pub(crate) struct Limits {
    /// Bytes of output that are kept.
    pub(crate) text: usize,
    /// Clients at once.
    pub(crate) viewers: usize,
    /// For the output of all kept programs.
    pub(crate) text_of_all: Budget,
    /// For pictures that wait for a client.
    pub(crate) pictures: Budget,
}

/// The terminal of the program.
pub(super) struct Terminal {
    pub(super) size: WindowSize,
    /// The place up to which its screen was drawn: nothing behind it leaves the log.
    pub(super) drawn: Cursor,
}

/// The keys of a session, as its first client is told them.
pub(crate) struct SessionKeys {
    pub(crate) session: String,
    pub(crate) key: String,
    pub(crate) view_key: String,
}

/// Where a client wants to go on, and how.
pub(crate) struct Arrival {
    pub(crate) mode: Mode,
    pub(crate) after: Option<u64>,
    pub(crate) size: Option<WindowSize>,
    /// It is the client that the program belongs to.
    pub(crate) is_owner: bool,
}

pub(super) struct State {
    pub(super) limits: Limits,
    pub(super) when_full: WhenFull,
    /// What is left for the next process of this service, if anything is.
    pub(super) saved: Option<Arc<Saved>>,
    /// Until the first client was told them, and with them that the program runs.
    pub(super) keys: Option<SessionKeys>,
    pub(super) opening: Opening,
    pub(super) log: Log,
    /// What the log may cost now, and the reservations for it.
    pub(super) granted: usize,
    pub(super) rooms: Vec<Reservation>,
    /// None for programs on pipes.
    pub(super) terminal: Option<Terminal>,
    pub(super) viewers: Viewers,
    /// Highest number of an input that was taken.
    pub(super) input: u64,
    pub(super) heard_keys: Vec<Arc<str>>,
    pub(super) picture: Option<Picture>,
    pub(super) pictures: u64,
    /// Why it is being ended.
    pub(super) ending: Option<EndReason>,
    pub(super) ended: Option<Outcome>,
}

pub(super) enum Opening {
    Starting,
    Started,
    Failed(StartFailure),
}

pub(super) struct Picture {
    pub(super) text: Arc<str>,
    pub(super) _room: Option<Reservation>,
}

/// What is to be done for a viewer next.
pub(super) enum Step {
    /// The client's side has to confirm the position, if there is one.
    Say {
        json: String,
        is_large: bool,
        confirms: Option<u64>,
    },
    Show {
        picture: Arc<str>,
        room: Option<Reservation>,
    },
    /// It needs what the terminal shows.
    Draw,
    Refuse(StartFailure),
    /// The last message to one that leaves.
    Leave(String),
    Stopped(String),
    Wait,
    Over,
}

impl State {
    pub(super) fn new(
        limits: Limits,
        when_full: WhenFull,
        keys: Option<SessionKeys>,
        terminal: Option<WindowSize>,
        saved: Option<Arc<Saved>>,
    ) -> Self {
        let log = Log::new();
        Self {
            limits,
            when_full,
            saved,
            keys,
            opening: Opening::Starting,
            granted: STEP,
            rooms: Vec::new(),
            terminal: terminal.map(|size| Terminal { size, drawn: log.oldest() }),
            log,
            viewers: Viewers::default(),
            input: 0,
            heard_keys: Vec::new(),
            picture: None,
            pictures: 0,
            ending: None,
            ended: None,
        }
    }

    /// One that an earlier process has left, with its screen drawn up to this position.
    pub(super) fn restored(
        limits: Limits,
        when_full: WhenFull,
        restored: Restored,
        drawn: Option<u64>,
    ) -> Self {
        let mut state = Self::new(limits, when_full, None, restored.size, Some(restored.saved));
        state.log = Log::starting_at(restored.position);
        for said in restored.said {
            match said {
                Said::Text(stream, text) => {
                    state.grow(text.len());
                    state.log.push_text(stream, &text);
                }
                Said::Size(size) => {
                    state.log.push_size(size);
                    if let Some(terminal) = &mut state.terminal {
                        terminal.size = size;
                    }
                }
            }
        }
        if let Some(terminal) = &mut state.terminal {
            terminal.drawn =
                drawn.and_then(|position| state.log.find(position)).unwrap_or(state.log.oldest());
        }
        state.opening = Opening::Started;
        state.input = restored.input;
        state.heard_keys = restored.keys.iter().map(|key| key.as_str().into()).collect();
        if let Some(picture) = restored.picture {
            state.picture = Some(Picture { text: picture.into(), _room: None });
            state.pictures = 1;
        }
        state.ending = restored.ending;
        state.ended = restored.ended;
        state
    }

    /// Takes room for so much more, as long as there is some.
    pub(super) fn grow(&mut self, more: usize) {
        while self.granted < self.limits.text && self.log.cost() + more > self.granted {
            let Some(room) = self.limits.text_of_all.try_take(STEP) else { break };
            self.rooms.push(room);
            self.granted += STEP;
        }
    }

    /// Whether the program has to wait before it may say so much more.
    pub(super) fn must_wait(&mut self, more: usize) -> bool {
        if self.ending.is_some() {
            return false;
        }
        let (log, limit) = (&self.log, self.granted);
        let confirmed = self.viewers.confirmed();
        let Some(holder) = self.viewers.holder_mut() else {
            return self.when_full == WhenFull::Wait && log.would_drop(more, limit, confirmed);
        };
        if log.would_drop(more, limit, confirmed) {
            holder.is_waited_for = true;
            holder.wake.notify_one();
            return true;
        }
        log.behind(holder.cursor) > WINDOW
    }

    /// Appends text, of so many bytes that were read. Whether all of it is to be noted once more.
    pub(super) fn append(&mut self, stream: OutputStream, read: usize, text: &str) -> bool {
        let is_due = self.saved.as_ref().is_some_and(|saved| saved.said(stream, read, text));
        self.log.push_text(stream, text);
        self.viewers.wake_all();
        is_due
    }

    /// Lets the oldest records go that are too much. Where one has to be drawn before: up to which place.
    pub(super) fn trim(&mut self) -> Option<Cursor> {
        while self.log.is_above(self.granted) {
            let behind = self.log.second();
            if self.terminal.as_ref().is_some_and(|terminal| terminal.drawn < behind) {
                return Some(behind);
            }
            self.log.pop_above(self.granted);
        }
        None
    }

    /// What is to be drawn at this place, and the place behind it: after the last piece, that behind all.
    pub(super) fn undrawn(&self, from: Cursor) -> (Piece, Cursor) {
        self.log.piece(from, PIECE).unwrap_or_else(|| (Piece::Text(String::new()), self.log.newest()))
    }

    /// The screen was drawn up to here.
    pub(super) fn drawn(&mut self, until: Cursor) {
        if let Some(terminal) = &mut self.terminal {
            terminal.drawn = until;
        }
    }

    /// Gives the keyboard to one that comes, if it is free, its own, or its holder does not take anything.
    pub(super) fn welcome(&mut self, viewer: ViewerId, arrival: &Arrival) -> Option<WindowSize> {
        let is_stalled =
            |since: Option<Instant>| since.is_some_and(|since: Instant| since.elapsed() > STALLED);
        let is_free = self.viewers.holder().is_none_or(|holder| is_stalled(holder.sending));
        if arrival.mode == Mode::Use && (is_free || arrival.is_owner) {
            self.viewers.give_keyboard(viewer);
        }
        let viewers = self.viewers.len();
        let (holder, size) = (self.viewers.is_holder(viewer), self.terminal_size());
        if let Some(viewer) = self.viewers.get_mut(viewer) {
            viewer.told = Told { holder, viewers, size, ..Told::default() };
        }
        self.follow_holder()
    }

    fn terminal_size(&self) -> Option<WindowSize> {
        self.terminal.as_ref().map(|terminal| terminal.size)
    }

    pub(super) fn attached(&self, viewer: ViewerId, mode: Mode, lost: u64) -> Attached {
        let size = self.terminal_size().unwrap_or(WindowSize { rows: 0, cols: 0 });
        let state = if self.ended.is_some() { KeptState::Stopped } else { KeptState::Running };
        Attached {
            seq: self.log.end(),
            state,
            mode,
            rows: size.rows,
            cols: size.cols,
            lost,
            input: self.input,
            holder: self.viewers.is_holder(viewer),
            viewers: self.viewers.len(),
        }
    }

    /// The size of the terminal follows the client with the keyboard. The new one, if it is another.
    pub(super) fn follow_holder(&mut self) -> Option<WindowSize> {
        let size = self.viewers.holder()?.size?;
        let terminal = self.terminal.as_mut()?;
        if terminal.size == size || self.ended.is_some() {
            return None;
        }
        terminal.size = size;
        if let Some(saved) = &self.saved {
            saved.resized(size);
        }
        self.log.push_size(size);
        self.viewers.wake_all();
        Some(size)
    }

    pub(super) fn step(&mut self, id: ViewerId, process: &ProcessId) -> Step {
        if let Opening::Failed(failure) = &self.opening {
            let step = self.viewers.get(id).map_or(Step::Over, |_| Step::Refuse(failure.clone()));
            self.viewers.remove(id);
            return step;
        }
        let Some(viewer) = self.viewers.get(id) else { return Step::Over };
        if !viewer.stays() {
            return Step::Leave(in_json(KeptMessage::Detached { seq: viewer.given }, process));
        }
        if matches!(self.opening, Opening::Starting) {
            return Step::Wait;
        }
        if viewer.owes(WINDOW) {
            return self.news(id, process).unwrap_or(Step::Wait);
        }
        if viewer.needs_screen {
            return Step::Draw;
        }
        self.news(id, process)
            .or_else(|| self.output(id, process))
            .unwrap_or_else(|| self.at_end(id, process))
    }

    /// What the viewer does not know yet, beside the output.
    fn news(&mut self, id: ViewerId, process: &ProcessId) -> Option<Step> {
        let (viewers, holder, input) = (self.viewers.len(), self.viewers.is_holder(id), self.input);
        let (keys, pictures) = (self.heard_keys.len(), self.pictures);
        // Who else is there is no news of a program that has ended: all leave.
        let is_over = self.ended.is_some();
        let viewer = self.viewers.get_mut(id)?;
        let told = &mut viewer.told;
        let message = if let Some(SessionKeys { session, key, view_key }) = self.keys.take() {
            ServerMessage::Kept(KeptMessage::Started {
                session: session.into(),
                key: key.into(),
                view_key: view_key.into(),
            })
        } else if !is_over && mem::replace(&mut told.viewers, viewers) != viewers {
            ServerMessage::Kept(KeptMessage::Viewers { viewers })
        } else if !is_over && mem::replace(&mut told.holder, holder) != holder {
            ServerMessage::Kept(KeptMessage::Holder { holder, input })
        } else if told.keys < keys {
            told.keys += 1;
            ServerMessage::KeyListen(self.heard_keys.get(told.keys - 1)?.as_ref().into())
        } else if mem::replace(&mut told.frame, pictures) != pictures {
            return self.picture_for_one();
        } else {
            return None;
        };
        Some(Step::Say {
            json: message.to_json(Dialect::Version1, Some(process)),
            is_large: false,
            confirms: None,
        })
    }

    /// The newest picture. A large one needs room, since each client gets a copy.
    fn picture_for_one(&self) -> Option<Step> {
        let picture = Arc::clone(&self.picture.as_ref()?.text);
        if picture.len() <= STEP {
            return Some(Step::Show { picture, room: None });
        }
        let room = self.limits.pictures.try_take(picture.len())?;
        Some(Step::Show { picture, room: Some(room) })
    }

    /// The next piece of output.
    fn output(&mut self, id: ViewerId, process: &ProcessId) -> Option<Step> {
        let (cursor, given) = self.viewers.get(id).map(|viewer| (viewer.cursor, viewer.given))?;
        // What it had read to its end may have been dropped.
        let cursor = if given == self.log.start() { cursor.max(self.log.oldest()) } else { cursor };
        let (entry, next) = self.log.entry(cursor);
        let (message, is_large) = match entry {
            Entry::End => return None,
            Entry::Dropped => return self.resync(id, process),
            Entry::Resized(size) => {
                self.viewers.get_mut(id)?.told.size = Some(size);
                (KeptMessage::Resized { rows: size.rows, cols: size.cols }, false)
            }
            Entry::Text { stream: OutputStream::Stdout, text, seq } => {
                (KeptMessage::Stdout { output: text.into(), seq }, text.len() >= LARGE)
            }
            Entry::Text { stream, text, seq } => {
                let stage = (stream == OutputStream::Compiler).then_some(Stage::Compile);
                (KeptMessage::Stderr { output: text.into(), seq, stage }, text.len() >= LARGE)
            }
        };
        let json = in_json(message, process);
        self.give(id, next, json, is_large)
    }

    /// For one that is behind the log: what the terminal shows, or else how much is missing.
    fn resync(&mut self, id: ViewerId, process: &ProcessId) -> Option<Step> {
        let viewer = self.viewers.get_mut(id)?;
        if self.terminal.is_some() {
            viewer.needs_screen = true;
            return Some(Step::Draw);
        }
        let (seq, given) = (self.log.start(), viewer.given);
        let lost = seq.saturating_sub(given);
        viewer.pass_over(lost);
        let message = KeptMessage::Lost { lost, seq };
        self.give(id, self.log.oldest(), in_json(message, process), false)
    }

    /// Gives a viewer what the terminal shows at this place, after its size if it does not know that.
    pub(super) fn show_screen(
        &mut self,
        id: ViewerId,
        (output, size, until): (String, WindowSize, Cursor),
        process: &ProcessId,
    ) -> Vec<Step> {
        let seq = self.log.position(until);
        let Some(viewer) = self.viewers.get_mut(id) else { return Vec::new() };
        viewer.needs_screen = false;
        viewer.pass_over(seq.saturating_sub(viewer.given));
        viewer.sending = Some(Instant::now());
        let is_new = viewer.told.size.replace(size) != Some(size);
        let resized = is_new.then_some(KeptMessage::Resized { rows: size.rows, cols: size.cols });
        let resized = resized.map(|resized| Step::Say {
            json: in_json(resized, process),
            is_large: false,
            confirms: None,
        });
        let screen = in_json(KeptMessage::Screen { output: output.into(), seq }, process);
        let is_large = screen.len() >= LARGE;
        resized.into_iter().chain(self.give(id, until, screen, is_large)).collect()
    }

    /// The viewer has everything before this place with this message.
    fn give(&mut self, id: ViewerId, next: Cursor, json: String, is_large: bool) -> Option<Step> {
        let position = self.log.position(next);
        let (is_holder, part) = (self.viewers.is_holder(id), self.granted / PARTS);
        let confirms = self.viewers.get_mut(id)?.give(next, position, part).filter(|_| is_holder);
        Some(Step::Say { json, is_large, confirms })
    }

    /// Everything was said: the end, if it has come.
    fn at_end(&mut self, id: ViewerId, process: &ProcessId) -> Step {
        if let Some(position) = self.viewers.get_mut(id).and_then(Viewer::ask_at_end) {
            return Step::Say { json: String::new(), is_large: false, confirms: Some(position) };
        }
        let Some(outcome) = self.ended else { return Step::Wait };
        Step::Stopped(in_json(KeptMessage::Stopped(outcome), process))
    }
}

/// The message as its viewer is told it.
pub(super) fn in_json(message: KeptMessage<'_>, process: &ProcessId) -> String {
    ServerMessage::Kept(message).to_json(Dialect::Version1, Some(process))
}
