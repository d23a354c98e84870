//! What the service manager is told (`sd_notify(3)`): ready, alive, stopping. Without one, nothing is sent.

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

/// The sockets are open: units that waited for this service may go on.
pub(crate) fn ready() {
    notify(NotifyState::Ready);
}

/// The end has begun and may take a moment.
pub(crate) fn stopping() {
    notify(NotifyState::Stopping);
}

/// Says "alive" twice as often as the watchdog wants to hear it (`WatchdogSec=`), for ever. It runs among the
/// tasks that serve clients, so that a stuck event loop falls silent.
pub(crate) async fn keep_watchdog_quiet() {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let mut ticks = interval(limit / 2);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        notify(NotifyState::Watchdog);
    }
}

fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        warn!("cannot tell the service manager: {error}");
    }
}
