//! What a kept program has said, apart from those who hear it: its newest output, its screen, its last
//! picture, and the clients that are attached.
//!
//! A program writes here and knows no client. Each client reads at its own place, by a task of its own, so
//! that a slow one costs the others nothing. The client with the keyboard is waited for, as a client of a
//! program that is not kept; one that falls behind is told what it has missed. Registering a client and
//! cutting the log are one step under one lock: nothing is given twice, and nothing is left out.

mod audience;
mod drawing;
pub(crate) mod journal;
mod log;
pub(crate) mod saved;
pub(crate) mod screen;
mod state;
#[cfg(test)]
mod state_tests;
mod viewer;

pub(crate) use audience::Audience;
pub(crate) use state::{Arrival, Limits, SessionKeys};
pub(crate) use viewer::ViewerId;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use further_link_api::{
    BadMessage, ClientError, EndReason, KeptMessage, Mode, Outcome, OutputStream, ProcessId, ServerMessage,
    WhenFull,
};
use further_link_proto::WindowSize;
use tokio::sync::Notify;

use crate::{
    memory::budget::Reservation,
    outbox::{Confirm, Disconnected, Outbox},
    transcript::drawing::{Drawing, Drawn},
    transcript::log::Cursor,
    transcript::saved::{Restored, Saved},
    transcript::state::{MAX_KEYS, MAX_KEYS_BYTES, Opening, Picture, REMAINS, State, Step, WINDOW, in_json},
    transcript::viewer::{Told, Viewer, Whose},
};

/// A client that is attached now.
pub(crate) struct Admitted {
    pub(crate) viewer: ViewerId,
    /// What it is told first.
    pub(crate) attached: String,
    /// The new size of the terminal.
    pub(crate) size: Option<WindowSize>,
}

/// How the service of one viewer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Served {
    /// Its connection has gone.
    Disconnected,
    /// It has left, or the program did not start.
    Left,
    /// The program has ended. `fetched`: the client's side has confirmed that it has all of it.
    Ended { fetched: bool },
}

/// How a kept program stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) viewers: usize,
    /// It is being ended.
    pub(crate) is_ending: bool,
    pub(crate) ended: Option<i32>,
}

/// The transcript.
pub(crate) struct Transcript {
    state: Mutex<State>,
    /// None for programs on pipes.
    drawing: Option<Drawing>,
    saved: Option<Arc<Saved>>,
    /// The program's writer may try again.
    room_came: Notify,
}

impl Transcript {
    pub(crate) fn new(
        limits: Limits,
        when_full: WhenFull,
        keys: SessionKeys,
        terminal: Option<WindowSize>,
        saved: Option<Arc<Saved>>,
    ) -> Self {
        let budget = limits.text_of_all.clone();
        let state = State::new(limits, when_full, Some(keys), terminal, saved);
        let drawing = terminal.map(|size| Drawing::new(size, state.log.oldest(), budget));
        Self::of(state, drawing)
    }

    /// One that an earlier process has left.
    pub(crate) fn restored(limits: Limits, when_full: WhenFull, mut restored: Restored) -> Self {
        let budget = limits.text_of_all.clone();
        let (size, screen) = (restored.size, restored.screen.take());
        let drawn = screen.as_ref().map(|screen| screen.position);
        let state = State::restored(limits, when_full, restored, drawn);
        let drawing = size.zip(state.terminal.as_ref()).map(|(size, terminal)| match screen {
            Some(screen) => Drawing::restored(&screen, terminal.drawn, budget),
            None => Drawing::new(size, terminal.drawn, budget),
        });
        Self::of(state, drawing)
    }

    fn of(state: State, drawing: Option<Drawing>) -> Self {
        let saved = state.saved.clone();
        Self { state: Mutex::new(state), drawing, saved, room_came: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // What the program's task does.

    fn opened(&self, opening: Opening) {
        let mut state = self.lock();
        state.opening = opening;
        state.viewers.wake_all();
    }

    /// What is left of the program for the next process of this service, if anything is.
    pub(crate) fn saved(&self) -> Option<&Arc<Saved>> {
        self.saved.as_ref()
    }

    /// Appends output, of so many bytes that were read, and waits as long as the program has to wait.
    async fn append(&self, stream: OutputStream, read: usize, text: &str) {
        let is_due;
        loop {
            let room_came = self.room_came.notified();
            tokio::pin!(room_came);
            {
                let mut state = self.lock();
                state.grow(text.len());
                if !state.must_wait(text.len()) {
                    is_due = state.append(stream, read, text);
                    break;
                }
                room_came.as_mut().enable();
            }
            room_came.await;
        }
        self.trim().await;
        if is_due {
            self.checkpoint().await;
        }
    }

    /// Lets the next process of this service begin where the log begins now.
    async fn checkpoint(&self) {
        let Some(saved) = &self.saved else { return };
        let Some(drawing) = &self.drawing else { return saved.checkpoint(None, self.lock().log.start()) };
        let drawn = drawing.lock().await;
        let (position, start) = {
            let log = &self.lock().log;
            (log.position(drawn.until), log.start())
        };
        saved.checkpoint(drawn.saved(position).as_ref(), start.min(position));
    }

    /// Lets go what is too much. A terminal shows what it did.
    pub(crate) async fn trim(&self) {
        loop {
            let Some(undrawn) = self.lock().trim() else { return };
            let Some(drawing) = &self.drawing else { return };
            drop(self.draw(drawing, undrawn).await);
        }
    }

    /// Draws what the log has, at least up to this place: one piece, and then what others need.
    async fn draw<'drawing>(
        &self,
        drawing: &'drawing Drawing,
        until: Cursor,
    ) -> tokio::sync::MutexGuard<'drawing, Drawn> {
        loop {
            let mut drawn = drawing.lock().await;
            if drawn.until >= until {
                return drawn;
            }
            let (piece, next) = self.lock().undrawn(drawn.until);
            drawn.draw(&piece, next);
            self.lock().drawn(next);
        }
    }

    fn listen(&self, key: &str) {
        let mut state = self.lock();
        let bytes: usize = state.heard_keys.iter().map(|key| key.len()).sum();
        let is_known = state.heard_keys.iter().any(|known| **known == *key);
        if !is_known && state.heard_keys.len() < MAX_KEYS && bytes + key.len() <= MAX_KEYS_BYTES {
            state.heard_keys.push(key.into());
            if let Some(saved) = &self.saved {
                saved.key(key);
            }
            state.viewers.wake_all();
        }
    }

    fn show(&self, frame: &str, room: Option<Reservation>) {
        let room = room.map(|room| room.shrink_to(frame.len()));
        let mut state = self.lock();
        state.picture = Some(Picture { text: frame.into(), _room: room });
        state.pictures += 1;
        state.viewers.wake_all();
    }

    fn ended(&self, by_itself: Outcome) {
        let mut state = self.lock();
        let outcome = Outcome { reason: state.ending.unwrap_or(by_itself.reason), ..by_itself };
        state.ended = Some(outcome);
        if let Some(saved) = &self.saved {
            saved.ended(outcome);
        }
        state.viewers.wake_all();
    }

    // What clients do.

    /// The client that starts the program: the first one, with the keyboard.
    pub(crate) fn first_viewer(&self, size: Option<WindowSize>) -> ViewerId {
        let mut state = self.lock();
        let cursor = state.log.oldest();
        let viewer = state.viewers.add(Mode::Use, size, (cursor, 0));
        state.viewers.give_keyboard(viewer);
        if let Some(viewer) = state.viewers.get_mut(viewer) {
            viewer.whose = Whose::Owner;
            viewer.told = Told { holder: true, viewers: 1, size, ..Told::default() };
        }
        viewer
    }

    /// Adds a client, which is told first how the program stands and what it shows.
    pub(crate) fn attach(&self, arrival: &Arrival, process: &ProcessId) -> Result<Admitted, ClientError> {
        let mut state = self.lock();
        if matches!(state.opening, Opening::Failed(_)) {
            return Err(ClientError::NoSession);
        }
        // A client whose network changes comes back before its old connections are known to be dead.
        let is_full = state.viewers.places() >= state.limits.viewers;
        if is_full && !(arrival.is_owner && state.viewers.replace_oldest_of_owner()) {
            return Err(ClientError::ViewersFull { most: state.limits.viewers });
        }
        let after = arrival.after.unwrap_or_default();
        let found = arrival.after.and_then(|after| state.log.find(after));
        if found.is_none() && arrival.after.is_some_and(|after| after >= state.log.start()) {
            return Err(BadMessage::Field("data.after").into());
        }
        let needs_screen = found.is_none() && state.terminal.is_some();
        let place = match found {
            Some(cursor) => (cursor, after),
            None if needs_screen => (state.log.newest(), state.log.end()),
            None => (state.log.oldest(), state.log.start()),
        };
        let viewer = state.viewers.add(arrival.mode, arrival.size, place);
        if let Some(viewer) = state.viewers.get_mut(viewer) {
            viewer.whose = if arrival.is_owner { Whose::Owner } else { Whose::Other };
            viewer.needs_screen = needs_screen;
        }
        let size = state.welcome(viewer, arrival);
        let attached = state.attached(viewer, arrival.mode, place.1.saturating_sub(after));
        state.viewers.wake_all();
        // The program may have waited for any client.
        self.room_came.notify_waiters();
        Ok(Admitted { viewer, attached: in_json(KeptMessage::Attached(attached), process), size })
    }

    /// The viewer uses the program: the keyboard is its own, and the terminal has the size of its window.
    pub(crate) fn take(&self, viewer: ViewerId, window: Option<WindowSize>) -> Option<WindowSize> {
        let mut state = self.lock();
        if let Some(viewer) = state.viewers.get_mut(viewer) {
            viewer.size = window.or(viewer.size);
        }
        let is_new = !state.viewers.is_holder(viewer);
        state.viewers.give_keyboard(viewer);
        if is_new {
            state.viewers.wake_all();
            // Another one may be waited for now, or none.
            self.room_came.notify_waiters();
        }
        state.follow_holder()
    }

    /// This viewer says itself what it has used, from now on.
    pub(crate) fn wait_for_acks(&self, viewer: ViewerId) {
        if let Some(viewer) = self.lock().viewers.get_mut(viewer) {
            viewer.acks = true;
        }
    }

    /// The viewer has used everything up to this position.
    pub(crate) fn ack(&self, viewer: ViewerId, position: u64) {
        if let Some(viewer) = self.lock().viewers.get_mut(viewer) {
            viewer.ack(position);
        }
        self.room_came.notify_waiters();
    }

    /// Whether the viewer has the keyboard.
    pub(crate) fn is_holder(&self, viewer: ViewerId) -> bool {
        self.lock().viewers.is_holder(viewer)
    }

    /// Lets a viewer leave: it is told when all before has been said.
    pub(crate) fn leave(&self, viewer: ViewerId) {
        let mut state = self.lock();
        if let Some(viewer) = state.viewers.get_mut(viewer) {
            viewer.leave();
        }
    }

    /// Takes a viewer out. The new size of the terminal, if another client has the keyboard now.
    pub(crate) fn remove(&self, viewer: ViewerId) -> Option<WindowSize> {
        let mut state = self.lock();
        state.viewers.remove(viewer);
        state.viewers.wake_all();
        self.room_came.notify_waiters();
        state.follow_holder()
    }

    /// Whether the viewer may still be told something of it.
    pub(crate) fn knows(&self, viewer: ViewerId) -> bool {
        self.lock().viewers.get(viewer).is_some()
    }

    /// Whether the viewer is there.
    pub(crate) fn has(&self, viewer: ViewerId) -> bool {
        self.lock().viewers.get(viewer).is_some_and(Viewer::stays)
    }

    /// Notes the highest number of an input that was taken.
    pub(crate) fn input_taken(&self, number: u64) {
        self.lock().input = number;
    }

    /// The highest number of an input that was taken.
    pub(crate) fn input(&self) -> u64 {
        self.lock().input
    }

    // What the keeper of all kept programs does.

    /// Notes why the program is ended, if it is not being ended already. It waits for no client any more.
    pub(crate) fn end_for(&self, reason: EndReason) {
        let mut state = self.lock();
        if state.ending.is_none() {
            state.ending = Some(reason);
            if let Some(saved) = &self.saved {
                saved.ending(reason);
            }
        }
        self.room_came.notify_waiters();
    }

    /// The program's task has gone without a word: a bug has ended it.
    pub(crate) fn end_without_status(&self) {
        if !self.standing().is_over() {
            self.ended(Outcome { exit_code: -9, reason: EndReason::Exited, usage: None });
        }
    }

    pub(crate) fn standing(&self) -> Standing {
        let state = self.lock();
        Standing {
            viewers: state.viewers.len(),
            is_ending: state.ending.is_some(),
            ended: state.ended.map(|outcome| outcome.exit_code),
        }
    }

    /// How it has ended.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        self.lock().ended
    }

    /// Whether it did not start.
    pub(crate) fn has_failed(&self) -> bool {
        matches!(self.lock().opening, Opening::Failed(_))
    }

    /// Whether it has started.
    pub(crate) fn has_started(&self) -> bool {
        matches!(self.lock().opening, Opening::Started)
    }

    /// Keeps the last output of a program that has ended, and gives the rest of the memory back.
    pub(crate) async fn shrink(&self) {
        {
            let mut state = self.lock();
            state.picture = None;
            state.granted = REMAINS;
        }
        self.trim().await;
        self.lock().rooms.clear();
        self.checkpoint().await;
    }

    /// Notes the last picture for the next process of this service.
    pub(crate) fn save_picture(&self) {
        if let (Some(saved), Some(picture)) = (&self.saved, &self.lock().picture) {
            saved.picture(&picture.text);
        }
    }

    /// Gives a viewer everything, until it leaves or the program has ended.
    pub(crate) async fn serve(
        self: &Arc<Self>,
        viewer: ViewerId,
        outbox: &Outbox,
        process: &ProcessId,
    ) -> Served {
        let Some(wake) = self.lock().viewers.get(viewer).map(|viewer| Arc::clone(&viewer.wake)) else {
            return Served::Left;
        };
        self.trim().await;
        let mut screen = VecDeque::new();
        loop {
            let step = screen.pop_front().unwrap_or_else(|| self.step(viewer, process));
            let sent = match step {
                Step::Say { json, is_large, confirms } => {
                    let confirm = confirms.map(|position| self.confirmation(viewer, position));
                    say(outbox, json, is_large, confirm).await
                }
                Step::Draw => {
                    screen.extend(self.screen(viewer, process).await);
                    Ok(())
                }
                Step::Show { picture, room } => {
                    outbox.set_frame(&picture, process, room);
                    Ok(())
                }
                Step::Wait => {
                    wake.notified().await;
                    Ok(())
                }
                Step::Refuse(failure) => {
                    let error = ClientError::NotStarted(failure);
                    let (Ok(()) | Err(Disconnected)) = outbox.send(ServerMessage::from(&error), None).await;
                    return Served::Left;
                }
                Step::Leave(json) => {
                    if let Ok(place) = outbox.place().await {
                        self.last_word(viewer, || place.put(json));
                    }
                    return Served::Left;
                }
                Step::Stopped(json) => {
                    let (Ok(()) | Err(Disconnected)) = outbox.flush_frame(process).await;
                    let Ok(place) = outbox.place().await else { return Served::Disconnected };
                    let confirmed = self.last_word(viewer, || place.put_confirmed(json));
                    return Served::Ended { fetched: confirmed.await.is_ok() };
                }
                Step::Over => return Served::Left,
            };
            if sent.is_err() {
                return Served::Disconnected;
            }
        }
    }

    /// Says the last word to a viewer and takes it out, in one step: its id is free before the client hears
    /// of it (B6.1), and what is said of another one with that id comes behind it.
    fn last_word<T>(&self, viewer: ViewerId, say: impl FnOnce() -> T) -> T {
        let mut state = self.lock();
        state.viewers.remove(viewer);
        state.viewers.wake_all();
        self.room_came.notify_waiters();
        say()
    }

    /// What the terminal shows, for one viewer. Nothing leaves the log behind that place before it is given.
    async fn screen(&self, viewer: ViewerId, process: &ProcessId) -> Vec<Step> {
        let Some(drawing) = &self.drawing else { return Vec::new() };
        let newest = self.lock().log.newest();
        let mut drawn = self.draw(drawing, newest).await;
        let shown = (drawn.snapshot(), drawn.size, drawn.until);
        let steps = self.lock().show_screen(viewer, shown, process);
        self.room_came.notify_waiters();
        steps
    }

    /// What is to be done when the viewer's side has everything up to this position.
    fn confirmation(self: &Arc<Self>, viewer: ViewerId, position: u64) -> Confirm {
        let transcript = Arc::downgrade(self);
        Box::new(move || {
            let Some(transcript) = transcript.upgrade() else { return };
            if let Some(viewer) = transcript.lock().viewers.get_mut(viewer) {
                viewer.confirmed = position;
            }
            transcript.room_came.notify_waiters();
        })
    }

    fn step(&self, viewer: ViewerId, process: &ProcessId) -> Step {
        let mut state = self.lock();
        let step = state.step(viewer, process);
        if let Some(viewer) = state.viewers.get_mut(viewer) {
            viewer.sending = match step {
                Step::Say { .. } => Some(Instant::now()),
                // It has not used what it was sent.
                Step::Wait if viewer.owes(WINDOW) => viewer.sending.or_else(|| Some(Instant::now())),
                _ => None,
            };
        }
        let has_moved = matches!(step, Step::Say { .. }) && state.viewers.is_holder(viewer);
        if has_moved {
            self.room_came.notify_waiters();
        }
        step
    }
}

async fn say(
    outbox: &Outbox,
    json: String,
    is_large: bool,
    confirm: Option<Confirm>,
) -> Result<(), Disconnected> {
    match confirm {
        Some(confirm) => outbox.put_and_then(json, confirm).await?,
        None => outbox.put(json).await?,
    }
    // A flood would fill the queue in front of other programs' words.
    if is_large { outbox.flushed().await } else { Ok(()) }
}

impl Standing {
    pub(crate) fn is_over(self) -> bool {
        self.ended.is_some()
    }
}
