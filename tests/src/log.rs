//! What a started process wrote to its stderr, line by line, gathered by a thread while it runs.
//!
//! The daemon's log tells the test where it listens and explains a failure afterwards. Tests may wait for a
//! text in it; they must not take anything else about the daemon's behaviour from it.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::wait::DEADLINE;

/// A growing text that several threads share.
#[derive(Clone, Debug, Default)]
pub struct Log {
    inner: Arc<(Mutex<String>, Condvar)>,
}

impl Log {
    /// Gathers all that `source` gives until its end, in a thread of its own.
    pub fn gather(source: impl Read + Send + 'static) -> Self {
        let log = Self::default();
        let filled = log.clone();
        std::thread::spawn(move || {
            let mut source = BufReader::new(source);
            let mut line = Vec::new();
            while source.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                filled.push(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        log
    }

    fn push(&self, text: &str) {
        let (content, grown) = &*self.inner;
        content.lock().unwrap().push_str(text);
        grown.notify_all();
    }

    /// All of it so far.
    pub fn text(&self) -> String {
        self.inner.0.lock().unwrap().clone()
    }

    /// The last lines, for a failure message.
    pub fn tail(&self) -> String {
        let text = self.text();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Waits until this text is there.
    #[track_caller]
    pub fn expect(&self, text: &str) {
        let found = self.wait_for(DEADLINE, |log| log.contains(text).then_some(()));
        assert!(found.is_some(), "{text:?} is not in the log:\n{}", self.tail());
    }

    /// Waits until `find` finds something in the text; `None` when it did not within `limit`.
    pub fn wait_for<T>(&self, limit: Duration, find: impl Fn(&str) -> Option<T>) -> Option<T> {
        let end = Instant::now() + limit;
        let (content, grown) = &*self.inner;
        let mut content = content.lock().unwrap();
        loop {
            if let Some(found) = find(&content) {
                return Some(found);
            }
            let left = end.checked_duration_since(Instant::now())?;
            content = grown.wait_timeout(content, left).unwrap().0;
        }
    }
}
