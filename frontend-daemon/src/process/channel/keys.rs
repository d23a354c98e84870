//! Key events on their way from the client to programs: which connection of a run listens for which keys, and
//! what waits for each of them, with the error lines that it is to get.
//!
//! The session puts events in and never waits for a program. `connection` takes lines out. A program that
//! does not read gets fewer of the old events, but always the last one of each key: no key stays pressed for
//! ever.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use serde::Serialize;
use tokio::sync::Notify;

/// Longest name of a key, in bytes. The web's names have at most some 20 letters.
const MAX_KEY: usize = 1024;
/// Most keys of one connection: more than a keyboard has. Well below [`MAX_WAITING`], so that a full queue
/// always has two events of one key.
const MAX_KEYS: usize = 256;
/// Most bytes of the names of these keys together, so that many connections with many keys stay small.
const MAX_KEYS_BYTES: usize = 16 * 1024;
/// Longest event that is passed on, in bytes; the web's are `keydown` and `keyup`. Any text is allowed (B5),
/// but no client means more than this.
const MAX_EVENT: usize = 64;
/// Most events that wait for one connection: minutes of typing. The same of error lines.
const MAX_WAITING: usize = 1024;

/// What a program is told about a line of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChannelError {
    /// Not understood, or too long.
    BadMessage,
    KeyTooLong,
    TooManyKeys,
    TooManyConnections,
}

impl ChannelError {
    /// The line, with its end.
    pub(crate) fn line(self) -> String {
        let message = match self {
            Self::BadMessage => "Bad message",
            Self::KeyTooLong => "The name of the key is too long",
            Self::TooManyKeys => "Too many keys on this connection",
            Self::TooManyConnections => "Too many connections",
        };
        line("error", ErrorData { message })
    }
}

/// The listening connections of one run. The session and the channel share it.
#[derive(Default)]
pub(crate) struct Keyboard {
    connections: Mutex<Vec<Weak<Listener>>>,
}

/// What one connection listens for, and what waits for it.
#[derive(Default)]
pub(crate) struct Listener {
    state: Mutex<State>,
    filled: Notify,
}

#[derive(Default)]
struct State {
    /// With the number of its events that wait.
    keys: HashMap<Arc<str>, usize>,
    /// Bytes of the names.
    bytes: usize,
    events: VecDeque<(Arc<str>, Box<str>)>,
    mistakes: VecDeque<ChannelError>,
}

#[derive(Serialize)]
struct Line<'a, D> {
    r#type: &'a str,
    data: D,
}

#[derive(Serialize)]
struct KeyEvent<'a> {
    key: &'a str,
    event: &'a str,
}

#[derive(Serialize)]
struct ErrorData<'a> {
    message: &'a str,
}

impl Keyboard {
    /// Passes an event to every connection that listens for its key. Without one nothing happens (B5).
    pub(crate) fn event(&self, key: &str, event: &str) {
        if event.len() > MAX_EVENT {
            tracing::debug!("a key event of {} bytes was not passed on", event.len());
            return;
        }
        for listener in lock(&self.connections).iter().filter_map(Weak::upgrade) {
            listener.event(key, event);
        }
    }

    /// A new connection.
    pub(crate) fn listener(&self) -> Arc<Listener> {
        let listener = Arc::default();
        let mut connections = lock(&self.connections);
        connections.retain(|connection| connection.strong_count() > 0);
        connections.push(Arc::downgrade(&listener));
        listener
    }
}

impl Listener {
    /// Listens for a key from now on.
    pub(crate) fn listen(&self, key: &str) -> Result<(), ChannelError> {
        if key.len() > MAX_KEY {
            return Err(ChannelError::KeyTooLong);
        }
        let mut state = lock(&self.state);
        if state.keys.contains_key(key) {
            return Ok(());
        }
        if state.keys.len() >= MAX_KEYS || state.bytes + key.len() > MAX_KEYS_BYTES {
            return Err(ChannelError::TooManyKeys);
        }
        state.bytes += key.len();
        state.keys.insert(key.into(), 0);
        Ok(())
    }

    fn event(&self, key: &str, event: &str) {
        let mut state = lock(&self.state);
        let Some((key, _)) = state.keys.get_key_value(key) else { return };
        let key = Arc::clone(key);
        if state.events.len() >= MAX_WAITING {
            state.drop_one();
        }
        state.count(&key, |waiting| waiting + 1);
        state.events.push_back((key, event.into()));
        drop(state);
        self.filled.notify_one();
    }

    /// Queues an error line. False if so many wait already that this one is left out.
    pub(crate) fn refuse(&self, mistake: ChannelError) -> bool {
        let mut state = lock(&self.state);
        if state.mistakes.len() >= MAX_WAITING {
            return false;
        }
        state.mistakes.push_back(mistake);
        drop(state);
        self.filled.notify_one();
        true
    }

    /// The next line for the program, if one waits.
    pub(crate) fn take(&self) -> Option<String> {
        let mut state = lock(&self.state);
        if let Some(mistake) = state.mistakes.pop_front() {
            return Some(mistake.line());
        }
        let (key, event) = state.events.pop_front()?;
        state.count(&key, |waiting| waiting.saturating_sub(1));
        Some(line("keyevent", KeyEvent { key: &key, event: &event }))
    }

    /// The next line for the program.
    pub(crate) async fn next(&self) -> String {
        loop {
            let filled = self.filled.notified();
            if let Some(line) = self.take() {
                return line;
            }
            filled.await;
        }
    }
}

impl State {
    /// Drops the oldest event that has a later one of its key. Seen from the front that is the first event of
    /// the first key that has two.
    fn drop_one(&mut self) {
        let has_later = |(key, _): &(Arc<str>, _)| self.keys.get(key).is_some_and(|waiting| *waiting > 1);
        let Some(place) = self.events.iter().position(has_later) else { return };
        if let Some((key, _)) = self.events.remove(place) {
            self.count(&key, |waiting| waiting.saturating_sub(1));
        }
    }

    fn count(&mut self, key: &str, change: impl Fn(usize) -> usize) {
        if let Some(waiting) = self.keys.get_mut(key) {
            *waiting = change(*waiting);
        }
    }
}

fn line<D: Serialize>(kind: &str, data: D) -> String {
    // Strings into a string: there is nothing that could fail.
    let mut line = serde_json::to_string(&Line { r#type: kind, data }).unwrap_or_default();
    line.push('\n');
    line
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyevent(key: &str, event: &str) -> String {
        format!("{{\"type\":\"keyevent\",\"data\":{{\"key\":{key:?},\"event\":{event:?}}}}}\n")
    }

    #[test]
    fn events_go_to_those_who_listen_for_their_key() {
        let keyboard = Keyboard::default();
        let (one, two) = (keyboard.listener(), keyboard.listener());
        drop(keyboard.listener());
        one.listen("a").unwrap();
        one.listen(" ").unwrap();
        two.listen("a").unwrap();
        for (key, event) in [("a", "keydown"), (" ", "keyup"), ("b", "keydown"), ("a", &"x".repeat(65))] {
            keyboard.event(key, event);
        }
        assert_eq!(one.take(), Some(keyevent("a", "keydown")));
        assert_eq!(one.take(), Some(keyevent(" ", "keyup")));
        assert_eq!(two.take(), Some(keyevent("a", "keydown")));
        assert_eq!((one.take(), two.take()), (None, None));
    }

    #[test]
    fn a_full_queue_keeps_the_last_event_of_each_key() {
        let listener = Listener::default();
        for key in ["once", "many", "two"] {
            listener.listen(key).unwrap();
        }
        listener.event("once", "keydown");
        listener.event("two", "keydown");
        for number in 0..10 * MAX_WAITING {
            listener.event("many", &number.to_string());
        }
        listener.event("two", "keyup");
        let lines: Vec<String> = std::iter::from_fn(|| listener.take()).collect();
        assert_eq!(lines.len(), MAX_WAITING);
        assert_eq!(lines.first(), Some(&keyevent("once", "keydown")));
        assert_eq!(lines.last(), Some(&keyevent("two", "keyup")));
        let last = (10 * MAX_WAITING - 1).to_string();
        assert_eq!(lines.iter().rev().nth(1), Some(&keyevent("many", &last)));
        // The counts are right again: the next event is not taken for an old one.
        assert!(lock(&listener.state).keys.values().all(|waiting| *waiting == 0));
    }

    #[test]
    fn keys_and_error_lines_have_their_limits() {
        let listener = Listener::default();
        assert_eq!(listener.listen(&"x".repeat(MAX_KEY + 1)), Err(ChannelError::KeyTooLong));
        for number in 0..MAX_KEYS {
            listener.listen(&number.to_string()).unwrap();
        }
        assert_eq!(listener.listen("7"), Ok(()));
        assert_eq!(listener.listen("one more"), Err(ChannelError::TooManyKeys));
        let listener = Listener::default();
        let names = (0..).map(|number| format!("{number:01000}"));
        assert_eq!(names.take_while(|name| listener.listen(name).is_ok()).count(), 16);
        let told =
            std::iter::repeat_with(|| listener.refuse(ChannelError::BadMessage)).take_while(|told| *told);
        assert_eq!(told.count(), MAX_WAITING);
        let line = listener.take().unwrap();
        assert_eq!(line, "{\"type\":\"error\",\"data\":{\"message\":\"Bad message\"}}\n");
    }
}
