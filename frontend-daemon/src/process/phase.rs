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
pub(crate) enum Transition {
    Started,
    /// The start did not work.
    Failed,
    StopAsked,
    Exited,
    Drained,
}

impl Phase {
    /// The phase that follows; the same one where the transition changes nothing.
    pub(crate) fn next(self, transition: Transition) -> Self {
        match (self, transition) {
            (Self::Starting, Transition::Started) => Self::Running,
            (Self::Starting, Transition::StopAsked | Transition::Failed)
            | (Self::Draining, Transition::Drained) => Self::Stopped,
            (Self::Running, Transition::StopAsked) => Self::Stopping,
            (Self::Running | Self::Stopping, Transition::Exited) => Self::Draining,
            (unchanged, _) => unchanged,
        }
    }

    /// Whether the program has ended.
    pub(crate) fn has_ended(self) -> bool {
        matches!(self, Self::Draining | Self::Stopped)
    }

    /// Whether messages may name the process (B5: "live").
    pub(crate) fn is_live(self) -> bool {
        self != Self::Stopped
    }
}

/// Waits until a start was given up, or the program has stopped.
pub(crate) async fn stopped(phase: &mut watch::Receiver<Phase>) {
    let (Ok(_) | Err(_)) = phase.wait_for(|phase| *phase == Phase::Stopped).await;
}

/// Waits until the program has ended.
pub(crate) async fn ended(phase: &mut watch::Receiver<Phase>) {
    // A sender that is gone moves no phase on: there is nothing to wait for.
    let (Ok(_) | Err(_)) = phase.wait_for(|phase| phase.has_ended()).await;
}

#[cfg(test)]
mod tests {
    use super::{
        Phase::{self, Draining, Running, Starting, Stopped, Stopping},
        Transition::{self, Drained, Exited, Failed, Started, StopAsked},
    };

    #[test]
    fn every_pair_of_phase_and_transition_has_its_one_successor() {
        let table: [(Phase, [Phase; 5]); 5] = [
            //          Started   Failed    StopAsked Exited    Drained
            (Starting, [Running, Stopped, Stopped, Starting, Starting]),
            (Running, [Running, Running, Stopping, Draining, Running]),
            (Stopping, [Stopping, Stopping, Stopping, Draining, Stopping]),
            (Draining, [Draining, Draining, Draining, Draining, Stopped]),
            (Stopped, [Stopped, Stopped, Stopped, Stopped, Stopped]),
        ];
        let transitions: [Transition; 5] = [Started, Failed, StopAsked, Exited, Drained];
        for (phase, successors) in table {
            for (transition, successor) in transitions.into_iter().zip(successors) {
                assert_eq!(phase.next(transition), successor, "{phase:?}, {transition:?}");
            }
        }
    }

    #[test]
    fn a_process_is_live_from_the_moment_it_is_asked_for_until_it_has_stopped() {
        assert!([Starting, Running, Stopping, Draining].into_iter().all(Phase::is_live));
        assert!(!Stopped.is_live());
    }
}
