//! WebSocket pings to clients that have been told nothing for a while, so that proxies keep their
//! connections.
//!
//! One task looks after all connections. It sleeps until the first ping can be due, so that it wakes the
//! device once a second at the most, and not at all without connections. An idle connection costs one
//! [`Pulse`].

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

/// Shortest sleep of the task: pings of many connections go out together.
const TICK: Duration = Duration::from_secs(1);

/// The open connections.
pub(crate) struct Pings {
    /// Longest silence; zero means that there are no pings.
    interval: Duration,
    begin: Instant,
    connections: Mutex<Vec<Weak<Pulse>>>,
    registered: Notify,
}

/// When a connection was last written to.
pub(crate) struct Pulse {
    begin: Instant,
    /// Milliseconds after `begin`.
    last_write: AtomicU64,
    due: Notify,
}

impl Pings {
    pub(crate) fn new(interval: Duration) -> Self {
        let (connections, registered) = (Mutex::default(), Notify::new());
        Self { interval, begin: Instant::now(), connections, registered }
    }

    /// The pulse of a new connection. It counts for as long as it is kept.
    pub(crate) fn register(&self) -> Arc<Pulse> {
        let pulse = Arc::new(Pulse { begin: self.begin, last_write: AtomicU64::new(0), due: Notify::new() });
        pulse.note_write();
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.push(Arc::downgrade(&pulse));
        self.registered.notify_one();
        pulse
    }

    /// Has pings sent, for as long as this is polled.
    pub(crate) async fn keep_pinging(&self) -> Infallible {
        if self.interval.is_zero() {
            return std::future::pending().await;
        }
        loop {
            match self.next_due() {
                Some(time) => sleep(time.max(TICK)).await,
                None => self.registered.notified().await,
            }
        }
    }

    /// Has the silent connections send pings. How long until the next one can be due; `None` without
    /// connections.
    fn next_due(&self) -> Option<Duration> {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = None;
        connections.retain(|connection| {
            let Some(pulse) = connection.upgrade() else { return false };
            let left = self.interval.saturating_sub(pulse.silence());
            if left.is_zero() {
                pulse.due.notify_one();
            }
            // One that does not read cannot be written to: it is looked at again after a whole interval.
            let left = if left.is_zero() { self.interval } else { left };
            next = Some(next.map_or(left, |next: Duration| next.min(left)));
            true
        });
        next
    }
}

impl Pulse {
    /// Something is written.
    pub(crate) fn note_write(&self) {
        let now = u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_write.store(now, Ordering::Relaxed);
    }

    /// Completes when a ping is due.
    pub(crate) async fn due(&self) {
        self.due.notified().await;
    }

    fn silence(&self) -> Duration {
        self.begin.elapsed().saturating_sub(Duration::from_millis(self.last_write.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_gets_its_pings_and_one_that_is_written_to_gets_none() {
        let pings = Pings::new(INTERVAL);
        let watched = async {
            let (silent, busy) = (pings.register(), pings.register());
            for _ in 0..3 {
                for _ in 0..4 {
                    sleep(INTERVAL / 4).await;
                    busy.note_write();
                }
                sleep(TICK).await;
                assert!(silent.due().now_or_never().is_some());
                silent.note_write();
                assert!(busy.due().now_or_never().is_none());
            }
        };
        tokio::select! {
            never = pings.keep_pinging() => match never {},
            () = watched => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_connections_wake_the_device_once_a_second_at_most_and_none_do_not() {
        let pings = Pings::new(INTERVAL);
        assert_eq!(pings.next_due(), None);
        let mut pulses = Vec::new();
        for _ in 0..1000 {
            pulses.push(pings.register());
            sleep(Duration::from_millis(7)).await;
        }
        let begin = Instant::now();
        let mut wakes = 0;
        while begin.elapsed() < 2 * INTERVAL {
            sleep(pings.next_due().unwrap().max(TICK)).await;
            wakes += 1;
            for pulse in &pulses {
                if pulse.due().now_or_never().is_some() {
                    pulse.note_write();
                }
            }
        }
        assert!(wakes <= 60, "{wakes}");
        drop(pulses);
        assert_eq!(pings.next_due(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_interval_of_zero_means_no_pings() {
        let pings = Pings::new(Duration::ZERO);
        let pulse = pings.register();
        let never = tokio::time::timeout(INTERVAL * 100, pings.keep_pinging()).await;
        assert!(never.is_err() && pulse.due().now_or_never().is_none());
    }
}
