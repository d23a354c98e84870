//! Log lines that strangers cause: bounded in size and rate, whatever they send.
//!
//! One line for each reason and network in [`WINDOW`]; those that are left out are counted, and the count is
//! logged when the window ends. Called for each refused request and connection.

use std::{
    collections::HashMap,
    convert::Infallible,
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};
use tracing::warn;

use crate::access::limits::Network;

/// One line for each reason and network in this time.
const WINDOW: Duration = Duration::from_secs(10);
/// Reasons and networks that are told apart; the others share one line for each reason. So a window has at
/// most forty lines, of some hundred bytes each.
const MAX_ENTRIES: usize = 32;
/// Most characters of a value that a stranger has sent.
const MAX_VALUE: usize = 100;

/// What was refused lately.
#[derive(Default)]
pub(crate) struct RefusalLog {
    entries: Mutex<HashMap<Key, Entry>>,
    left_out: Notify,
}

/// A reason, and a network unless too many are known already.
type Key = (&'static str, Option<Network>);

struct Entry {
    since: Instant,
    left_out: u64,
}

impl RefusalLog {
    /// Logs a refusal: the reason, and what is to be said beside it if it is not left out.
    pub(crate) fn note(&self, reason: &'static str, network: Network, details: impl fmt::Display) {
        if self.is_to_be_logged(reason, network, Instant::now()) {
            warn!("refused {network}: {reason}{details}");
        }
    }

    fn is_to_be_logged(&self, reason: &'static str, network: Network, now: Instant) -> bool {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let own = (reason, Some(network));
        let is_known = entries.contains_key(&own) || entries.len() < MAX_ENTRIES;
        let key = if is_known { own } else { (reason, None) };
        match entries.get_mut(&key) {
            None => {
                entries.insert(key, Entry { since: now, left_out: 0 });
                // Also for an entry without any left out: it is forgotten at the end of the window.
                self.left_out.notify_one();
                true
            }
            Some(entry) => {
                entry.left_out += 1;
                false
            }
        }
    }

    /// Logs the counts when windows end. Sleeps while nothing is refused.
    pub(crate) async fn keep_counting(&self) -> Infallible {
        loop {
            self.left_out.notified().await;
            while let Some(first) = self.next_end() {
                sleep(first.saturating_duration_since(Instant::now())).await;
                for line in self.end_windows(Instant::now()) {
                    warn!("{line}");
                }
            }
        }
    }

    fn next_end(&self) -> Option<Instant> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.values().map(|entry| entry.since + WINDOW).min()
    }

    fn end_windows(&self, now: Instant) -> Vec<String> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = entries.extract_if(|_, entry| entry.since + WINDOW <= now);
        ended
            .filter(|(_, entry)| entry.left_out > 0)
            .map(|(key, entry)| summary(key, entry.left_out))
            .collect()
    }
}

fn summary((reason, network): Key, count: u64) -> String {
    let network = network.map_or_else(|| "other networks".to_owned(), |network| network.to_string());
    format!("refused {network}: {reason}: {count} more times in {} seconds", WINDOW.as_secs())
}

/// A value of a request as it may stand in the log: cut, and without anything that could look like another
/// line.
pub(crate) fn quoted(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    let escaped: String = text.chars().take(MAX_VALUE).flat_map(char::escape_debug).collect();
    let shown: String = escaped.chars().take(MAX_VALUE).collect();
    let more = if shown.len() < escaped.len() || text.chars().count() > MAX_VALUE { "…" } else { "" };
    format!("\"{shown}{more}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        Network::of(text.parse().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn one_line_for_each_reason_and_network_and_then_the_count() {
        let log = RefusalLog::default();
        let start = Instant::now();
        let one = network("192.0.2.1");
        assert!(log.is_to_be_logged("a", one, start));
        for _ in 0..5000 {
            assert!(!log.is_to_be_logged("a", one, start));
        }
        assert!(log.is_to_be_logged("b", one, start));
        assert!(log.is_to_be_logged("a", network("192.0.2.2"), start));
        assert!(log.end_windows(start + WINDOW / 2).is_empty());
        assert_eq!(log.end_windows(start + WINDOW), ["refused 192.0.2.1: a: 5000 more times in 10 seconds"]);
        assert!(log.is_to_be_logged("a", one, start + WINDOW));
    }

    #[tokio::test(start_paused = true)]
    async fn networks_without_end_share_one_line() {
        let log = RefusalLog::default();
        let now = Instant::now();
        let logged = (0..10_000_u32)
            .filter(|number| {
                let network = network(&format!("2001:db8:{:x}:{:x}::1", number >> 16, number & 0xffff));
                log.is_to_be_logged("a", network, now)
            })
            .count();
        assert_eq!(logged, MAX_ENTRIES + 1);
        let lines = log.end_windows(now + WINDOW);
        assert_eq!(lines, ["refused other networks: a: 9967 more times in 10 seconds"]);
        assert_eq!(log.next_end(), None);
    }

    #[test]
    fn values_are_cut_and_cannot_imitate_lines() {
        assert_eq!(quoted(b"pi.local"), "\"pi.local\"");
        assert_eq!(quoted(b"a\nWARN b\x1b[2J\xff"), "\"a\\nWARN b\\u{1b}[2J\u{fffd}\"");
        let long = quoted(&[b'\x01'; 16 * 1024]);
        assert!(long.chars().count() <= MAX_VALUE + 3, "{}", long.len());
    }
}
