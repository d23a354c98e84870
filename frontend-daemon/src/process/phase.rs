//! Where a process stands in its life, and the only function that moves it on.

use tokio::sync::watch;

/// The phases, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Asked for; the helper has not said yet that it runs.
    Starting,
    Running,
    /// Asked to end.
    Stopping,
    /// Ended; what it wrote is still being read.
    Draining,
    /// Everything was said. The id is free.
    Stopped,
}

/// What can happen to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Happening {
    Started,
    StopAsked,
    Exited,
    Drained,
}

impl Phase {
    /// The phase that follows; the same one where the happening changes nothing.
    pub(crate) fn after(self, happening: Happening) -> Self {
        match (self, happening) {
            (Self::Starting, Happening::Started) => Self::Running,
            (Self::Running, Happening::StopAsked) => Self::Stopping,
            (Self::Running | Self::Stopping, Happening::Exited) => Self::Draining,
            (Self::Draining, Happening::Drained) => Self::Stopped,
            (unchanged, _) => unchanged,
        }
    }

    /// Whether the program has ended.
    pub(crate) fn has_ended(self) -> bool {
        matches!(self, Self::Draining | Self::Stopped)
    }

    /// Whether messages may name the process (B5: "live").
    pub(crate) fn is_live(self) -> bool {
        matches!(self, Self::Running | Self::Stopping | Self::Draining)
    }
}

/// Waits until the program has ended.
pub(crate) async fn ended(phase: &mut watch::Receiver<Phase>) {
    // Whoever moved the phases on and is gone has nothing more to wait for.
    let (Ok(_) | Err(_)) = phase.wait_for(|phase| phase.has_ended()).await;
}

#[cfg(test)]
mod tests {
    use super::{
        Happening::{self, Drained, Exited, Started, StopAsked},
        Phase::{self, Draining, Running, Starting, Stopped, Stopping},
    };

    #[test]
    fn every_pair_of_phase_and_happening_has_its_one_successor() {
        let table: [(Phase, [Phase; 4]); 5] = [
            //          Started   StopAsked Exited    Drained
            (Starting, [Running, Starting, Starting, Starting]),
            (Running, [Running, Stopping, Draining, Running]),
            (Stopping, [Stopping, Stopping, Draining, Stopping]),
            (Draining, [Draining, Draining, Draining, Stopped]),
            (Stopped, [Stopped, Stopped, Stopped, Stopped]),
        ];
        let happenings: [Happening; 4] = [Started, StopAsked, Exited, Drained];
        for (phase, successors) in table {
            for (happening, successor) in happenings.into_iter().zip(successors) {
                assert_eq!(phase.after(happening), successor, "{phase:?} after {happening:?}");
            }
        }
    }

    #[test]
    fn only_between_started_and_stopped_is_a_process_live() {
        assert!([Running, Stopping, Draining].into_iter().all(Phase::is_live));
        assert!(![Starting, Stopped].into_iter().any(Phase::is_live));
    }
}
