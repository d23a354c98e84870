//! Logs and counts panics. A panic unwinds: it ends the task of one connection or program, never the process.
//!
//! `main` installs the hook once, after logging has started.

use std::{
    panic::{self, PanicHookInfo},
    sync::atomic::{AtomicU64, Ordering},
};

use tracing::error;

/// Longest text of a panic in the log: it may quote what a stranger has sent.
const MAX_TEXT: usize = 200;

static COUNT: AtomicU64 = AtomicU64::new(0);

/// Replaces the standard hook by one that writes a single log line with the number of panics since the start.
pub(crate) fn log_and_count() {
    panic::set_hook(Box::new(|info| {
        let count = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
        error!("a bug ended one connection (panic number {count} since the start): {}", describe(info));
    }));
}

fn describe(info: &PanicHookInfo<'_>) -> String {
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let text: String = info.payload_as_str().unwrap_or("no text").chars().take(MAX_TEXT).collect();
    format!("{place}: {}", text.escape_debug())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn a_panic_is_one_bounded_line_with_its_place() {
        let line = Arc::new(Mutex::new(String::new()));
        let seen = Arc::clone(&line);
        let standard = panic::take_hook();
        panic::set_hook(Box::new(move |info| *seen.lock().unwrap() = describe(info)));
        let ended = panic::catch_unwind(|| panic!("first\nsecond {}", "x".repeat(1000)));
        panic::set_hook(standard);
        assert!(ended.is_err());
        let line = line.lock().unwrap().clone();
        assert!(line.contains("panics.rs:") && line.contains(r"first\nsecond xx"), "{line}");
        assert!(line.len() < MAX_TEXT + 100 && !line.contains('\n'), "{line}");
    }
}
