//! Waiting for a condition, with a deadline.
//!
//! The one place of the test suite that sleeps: for what sends no message (a process that ends, a file that
//! appears) there is nothing to block on. Everything else waits on a socket, a pipe or a condition variable.

use std::time::{Duration, Instant};

/// How long a test waits for what should happen at once. Long, because CI machines are slow and shared.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Polls `condition` until it holds; panics with `what` when it still does not after `limit`.
#[track_caller]
pub fn wait_until(limit: Duration, what: &str, condition: impl FnMut() -> bool) {
    assert!(holds_within(limit, condition), "not within {limit:?}: {what}");
}

/// Polls `condition` until it holds or `limit` is over; whether it held.
#[expect(
    clippy::disallowed_methods,
    reason = "the one poll loop of the suite: /proc and files notify nobody"
)]
pub fn holds_within(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Polls `value` until it has stayed the same for `calm`, and returns it; panics when it never settles in
/// `limit`.
#[track_caller]
pub fn settled<T: PartialEq>(limit: Duration, calm: Duration, what: &str, mut value: impl FnMut() -> T) -> T {
    let mut last = value();
    let mut since = Instant::now();
    wait_until(limit, what, || {
        let now = value();
        if now != last {
            last = now;
            since = Instant::now();
        }
        since.elapsed() >= calm
    });
    last
}
