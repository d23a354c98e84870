//! What is known of a kept program beside its transcript, in the form in which an earlier process of this
//! service leaves it to the next one.

use std::time::{Duration, SystemTime};

use further_link_api::WhenFull;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::kept::secrets::{Hash, Owner};

/// What a list says of a program.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct About {
    pub(super) started: SystemTime,
    pub(super) runner: String,
    pub(super) path: Option<String>,
    /// The account that was asked for, if one was.
    pub(super) user: Option<String>,
    pub(super) has_terminal: bool,
}

/// Since when things are as they are.
#[derive(Default)]
pub(super) struct Times {
    /// No client is attached.
    pub(super) idle: Option<Instant>,
    pub(super) ended: Option<Instant>,
    pub(super) is_shrunk: bool,
}

/// What is known. A field that is new makes the form another one: `VERSION` of the journal then rises.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Known {
    pub(super) key: Hash,
    pub(super) view_key: Hash,
    /// None for the client of a connection, which has gone.
    owner: Option<Hash>,
    /// Whose the number of the last input was.
    typist: Option<Hash>,
    pub(super) about: About,
    pub(super) keep: Duration,
    waits_when_full: bool,
    /// Since when, on the kernel's clock (`CLOCK_MONOTONIC`), in milliseconds.
    idle: Option<u64>,
    ended: Option<u64>,
    is_shrunk: bool,
}

impl Known {
    pub(super) fn new(
        (key, view_key): (&Hash, &Hash),
        owner: &Owner,
        about: &About,
        keep: Duration,
        when_full: WhenFull,
    ) -> Self {
        Self {
            key: key.clone(),
            view_key: view_key.clone(),
            owner: owner.secret().cloned(),
            typist: None,
            about: about.clone(),
            keep,
            waits_when_full: when_full == WhenFull::Wait,
            idle: None,
            ended: None,
            is_shrunk: false,
        }
    }

    pub(super) fn from_json(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        // Strings and numbers, and a time after 1970: there is nothing that could fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(super) fn note_times(&mut self, times: &Times) {
        self.idle = times.idle.map(on_clock);
        self.ended = times.ended.map(on_clock);
        self.is_shrunk = times.is_shrunk;
    }

    pub(super) fn note_typist(&mut self, typist: &Owner) {
        self.typist = typist.secret().cloned();
    }

    pub(super) fn owner(&self) -> Owner {
        self.owner.clone().map_or(Owner::Nobody, Owner::Client)
    }

    pub(super) fn typist(&self) -> Option<Owner> {
        self.typist.clone().map(Owner::Client)
    }

    pub(super) fn when_full(&self) -> WhenFull {
        if self.waits_when_full { WhenFull::Wait } else { WhenFull::Drop }
    }

    /// Its times now: no client is attached any more. The last process may have ended between the end of the
    /// program and noting when that was.
    pub(super) fn times(&self, has_ended: bool) -> Times {
        let idle = self.idle.map_or_else(Instant::now, instant);
        let ended = self.ended.map(instant).or_else(|| has_ended.then(Instant::now));
        Times { idle: Some(idle), ended, is_shrunk: self.is_shrunk }
    }
}

fn clock() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default()
}

fn on_clock(instant: Instant) -> u64 {
    u64::try_from(clock().saturating_sub(instant.elapsed()).as_millis()).unwrap_or_default()
}

fn instant(on_clock: u64) -> Instant {
    let ago = clock().saturating_sub(Duration::from_millis(on_clock));
    let now = Instant::now();
    now.checked_sub(ago).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_comes_back_and_a_connection_owns_nothing_any_more() {
        let about = About {
            started: SystemTime::UNIX_EPOCH + Duration::from_secs(5),
            runner: "exec".to_owned(),
            path: Some("a".to_owned()),
            user: None,
            has_terminal: true,
        };
        let (key, view_key) = (Hash::of("key"), Hash::of("view key"));
        let (client, connection) = (Owner::Client(Hash::of("client")), Owner::Connection(7));
        let keep = Duration::from_secs(9);
        let mut known = Known::new((&key, &view_key), &client, &about, keep, WhenFull::Wait);
        let ended = Instant::now().checked_sub(Duration::from_mins(1)).unwrap();
        known.note_times(&Times { idle: None, ended: Some(ended), is_shrunk: true });
        known.note_typist(&connection);
        let known = Known::from_json(&known.to_json()).unwrap();
        let (key, view_key) = (known.key.clone(), known.view_key.clone());
        assert!(key.is(&Hash::of("key")) && view_key.is(&Hash::of("view key")));
        assert!(known.owner().is(&client) && known.typist().is_none());
        assert_eq!((known.about.path.as_deref(), known.keep), (Some("a"), keep));
        assert_eq!(known.when_full(), WhenFull::Wait);
        let times = known.times(true);
        let ago = times.ended.unwrap().elapsed();
        assert!(times.idle.is_some() && ago >= Duration::from_secs(59), "{ago:?}");
        let known = Known::new((&key, &view_key), &connection, &about, keep, WhenFull::Drop);
        let gone = Known::from_json(&known.to_json()).unwrap().owner();
        assert!(!gone.is(&connection) && !gone.is(&gone.clone()));
        assert!(Known::from_json(br#"{"key":"x","new":1}"#).is_none());
    }
}
