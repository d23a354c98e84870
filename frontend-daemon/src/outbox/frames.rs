//! Video frames that wait for one client: of each process the newest only. A camera that is faster than the
//! client costs one frame of memory, and the client sees what is now, not what was.
//!
//! The one place where something a program said may be dropped. `outbox` owns it: programs' channels put
//! frames in, the socket takes them out when no other message waits.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use further_link_api::ProcessId;

use crate::outbox::message::Message;

/// The frames. At most as many as a connection has processes.
#[derive(Default)]
pub(crate) struct Frames {
    state: Mutex<State>,
    filled: Notify,
}

#[derive(Default)]
struct State {
    /// At most one frame for each process, served round robin.
    waiting: VecDeque<(ProcessId, Message)>,
    /// The client is gone.
    closed: bool,
}

impl Frames {
    /// Puts a frame into the process's place. An older one that was not sent yet is dropped.
    pub(crate) fn put(&self, process: &ProcessId, frame: Message) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        match state.waiting.iter_mut().find(|(id, _)| id == process) {
            Some((_, old)) => *old = frame,
            None => state.waiting.push_back((process.clone(), frame)),
        }
        drop(state);
        self.filled.notify_one();
    }

    /// Takes the one that has waited longest.
    pub(crate) fn take(&self) -> Option<Message> {
        self.lock().waiting.pop_front().map(|(_, frame)| frame)
    }

    /// Takes the one of this process.
    pub(crate) fn take_of(&self, process: &ProcessId) -> Option<Message> {
        let mut state = self.lock();
        let place = state.waiting.iter().position(|(id, _)| id == process)?;
        state.waiting.remove(place).map(|(_, frame)| frame)
    }

    /// Waits until there may be one. Only the socket's writer waits.
    pub(crate) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// The client is gone: nothing is kept any more.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.waiting.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(frames: &Frames) -> Option<String> {
        frames.take().map(|frame| frame.json)
    }

    #[test]
    fn a_newer_frame_takes_the_place_of_the_older_one_and_processes_take_turns() {
        let frames = Frames::default();
        let (one, two) = (ProcessId::new("1"), ProcessId::new("2"));
        let put = |id, text: &str| frames.put(id, Message::from(text.to_owned()));
        put(&one, "a");
        put(&two, "x");
        put(&one, "b");
        assert_eq!(taken(&frames).as_deref(), Some("b"));
        put(&one, "c");
        assert_eq!(taken(&frames).as_deref(), Some("x"));
        put(&two, "y");
        assert_eq!(frames.take_of(&two).map(|frame| frame.json).as_deref(), Some("y"));
        assert!(frames.take_of(&two).is_none());
        assert_eq!(taken(&frames).as_deref(), Some("c"));
        assert_eq!(taken(&frames), None);
        put(&one, "d");
        frames.close();
        put(&one, "e");
        assert_eq!(taken(&frames), None);
    }
}
