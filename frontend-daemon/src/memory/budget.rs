//! Memory budgets for what is large and waits: messages that are not complete, lines of user channels, unsent
//! frames, unread input, kept output. The owner of such a thing takes room for it first, so that the sum over
//! all connections and runs stays far below the unit's `MemoryMax=`.
//!
//! `channel::connection` waits for room, always for a whole line at once, and so do bodies of uploads, from a
//! budget of their own and for a limited time; `input` never waits for it. So a task that holds room never
//! waits for room, and there is no circle: it waits for a program that writes its line, for a program that
//! reads its input, or for a client that reads, and each of them can be ended by `stop`. Two levels (a run's
//! share, and all) are always taken in this order.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What is counted: a KiB. Smaller things are kept without room.
const UNIT: usize = 1024;

/// For all user channels together, in bytes: sixteen of the largest lines, or some 200 frames of a camera.
/// With as much for the input, and as much for what is free of it, a quarter of `MemoryMax=` is left.
const ALL_CHANNELS: usize = 64 * 1024 * 1024;
/// For all input that waits, in bytes: four programs that read nothing can have their full queues.
const ALL_INPUT: usize = 64 * 1024 * 1024;
/// For the unfinished messages of all connections, in bytes: sixteen of the largest.
pub(crate) const MAX_UNFINISHED: usize = 64 * 1024 * 1024;
/// For one run's channel: a frame that is being sent, one that waits, and one that is being read. More would
/// not help, and so one run alone cannot take the room of all.
const LINES_OF_ONE_CHANNEL: usize = 3;
/// Connections to all user channels together: 32 runs with all that they may have. Each may keep 64 KiB
/// without room, and their descriptors fit into `LimitNOFILE=`.
const ALL_CONNECTIONS: usize = 1024;

/// An amount of memory that many share.
#[derive(Clone)]
pub(crate) struct Budget {
    /// The narrowest first: room is taken of each, in this order.
    levels: Vec<Arc<Semaphore>>,
    /// What the narrowest has in all; more than that would never come.
    most: u32,
}

/// Reservation that was taken, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Reservation(Vec<OwnedSemaphorePermit>);

/// The budgets of this daemon.
#[derive(Clone)]
pub(crate) struct Budgets {
    channels: Budget,
    /// In bytes.
    one_channel: usize,
    pub(crate) input: Budget,
    /// Messages of which a part has come.
    pub(crate) messages: Budget,
    /// Output of kept programs.
    pub(crate) transcripts: Budget,
    /// Slots for connections to user channels.
    pub(crate) connections: Arc<Semaphore>,
}

impl Budgets {
    /// `largest_line` is the most that a line of a user channel has; `transcripts` is for the output of all
    /// kept programs.
    pub(crate) fn new(largest_line: usize, transcripts: usize) -> Self {
        Self {
            one_channel: LINES_OF_ONE_CHANNEL * largest_line,
            channels: Budget::new(ALL_CHANNELS),
            input: Budget::new(ALL_INPUT),
            messages: Budget::new(MAX_UNFINISHED),
            transcripts: Budget::new(transcripts),
            connections: Arc::new(Semaphore::new(ALL_CONNECTIONS)),
        }
    }

    /// For pictures that wait for clients of kept programs.
    pub(crate) fn pictures(&self) -> Budget {
        self.channels.clone()
    }

    /// The share of one run's channel.
    pub(crate) fn channel(&self) -> Budget {
        self.channels.share(self.one_channel)
    }
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        let most = units(bytes);
        Self { levels: vec![semaphore(most)], most }
    }

    /// A part of it that has a limit of its own.
    pub(crate) fn share(&self, bytes: usize) -> Self {
        let most = units(bytes).min(self.most);
        let mut levels = vec![semaphore(most)];
        levels.extend(self.levels.iter().map(Arc::clone));
        Self { levels, most }
    }

    /// Waits for room. Waiting tasks are served in turn.
    pub(crate) async fn take(&self, bytes: usize) -> Reservation {
        let mut taken = Vec::with_capacity(self.levels.len());
        for level in &self.levels {
            // These semaphores are never closed.
            taken.extend(Arc::clone(level).acquire_many_owned(units(bytes).min(self.most)).await);
        }
        Reservation(taken)
    }

    /// Takes room if there is some now.
    pub(crate) fn try_take(&self, bytes: usize) -> Option<Reservation> {
        let taken = self
            .levels
            .iter()
            .map(|level| Arc::clone(level).try_acquire_many_owned(units(bytes).min(self.most)));
        taken.collect::<Result<_, _>>().ok().map(Reservation)
    }
}

impl Reservation {
    /// One reservation of two from the same budget.
    pub(crate) fn merge(mut self, other: Self) -> Self {
        for (permit, more) in self.0.iter_mut().zip(other.0) {
            permit.merge(more);
        }
        self
    }

    /// Keeps so much and gives the rest back.
    pub(crate) fn shrink_to(mut self, bytes: usize) -> Self {
        let kept = usize::try_from(units(bytes)).unwrap_or(usize::MAX);
        for permit in &mut self.0 {
            drop(permit.split(permit.num_permits().saturating_sub(kept)));
        }
        self
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

fn semaphore(units: u32) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(usize::try_from(units).unwrap_or(Semaphore::MAX_PERMITS)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn what_is_taken_is_missing_until_it_is_dropped() {
        let budget = Budget::new(10 * UNIT);
        let room = budget.try_take(6 * UNIT).unwrap();
        assert!(budget.try_take(5 * UNIT).is_none());
        assert!(budget.take(5 * UNIT).now_or_never().is_none());
        let room = room.shrink_to(5 * UNIT);
        let other = budget.try_take(5 * UNIT).unwrap();
        assert!(budget.try_take(1).is_none());
        drop((room, other));
        assert!(budget.take(10 * UNIT).now_or_never().is_some());
    }

    #[test]
    fn a_share_ends_before_the_whole_and_the_whole_ends_the_shares() {
        let all = Budget::new(10 * UNIT);
        let (one, other) = (all.share(6 * UNIT), all.share(6 * UNIT));
        let room = one.try_take(6 * UNIT).unwrap();
        assert!(one.try_take(1).is_none());
        assert!(other.try_take(5 * UNIT).is_none());
        let few = other.try_take(4 * UNIT).unwrap();
        drop(room.shrink_to(UNIT));
        assert!(other.try_take(2 * UNIT).is_some());
        drop(few);
        assert!(all.try_take(10 * UNIT).is_some());
    }

    #[test]
    fn more_than_there_is_means_all_there_is() {
        assert!(Budget::new(UNIT).take(5 * UNIT).now_or_never().is_some());
    }
}
