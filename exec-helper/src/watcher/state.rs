//! The states of a watched run and the one function that says how they follow each other. Called by `watch`,
//! which does what the function says; nothing here signals, reads or waits.

use std::time::{Duration, Instant};

use further_link_proto::Signal;

use crate::reap::Handling;

/// Time that an ended program's children have to finish what they write (the original waits one second at
/// most, B6.9).
const LINGER_TIMEOUT: Duration = Duration::from_millis(300);
/// Interval at which a stopped run is looked at: a step of the stop takes at least this long (B6.4).
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Time that processes have after the grace when their handler is through: an interpreter finalises then.
const FINALISE_TIMEOUT: Duration = Duration::from_secs(1);

/// Where the run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The launcher is not the program yet.
    Starting,
    Running,
    /// A signal was sent; more will follow.
    Stopping {
        step: StopStep,
        look_at: Instant,
        until: Instant,
    },
    /// The program has ended by itself; its children may finish.
    Lingering {
        until: Instant,
    },
    /// Everything is to be killed.
    Killing,
    /// Nothing is left, or killing was tried to its limit: once is enough.
    Over,
}

/// The steps of a stop, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopStep {
    /// The signal that the client chose.
    First,
    /// SIGTERM.
    Terminate,
    /// No signal: SIGTERM's handlers are through, and their processes are ending.
    Finalise,
    /// SIGHUP, on a terminal only.
    HangUp,
}

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transition {
    /// The launcher has become the program.
    Started,
    /// The program has ended.
    Ended,
    /// A stop was asked for, with this signal first.
    StopRequested(Option<Signal>),
    /// The deadline of the state has passed; how the processes that handle the last signal do.
    Looked(Handling),
    /// No process of the run is left, or none that can be killed.
    NothingLeft,
}

/// What does not change while the run lasts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) grace: Duration,
    pub(crate) terminal: bool,
}

impl State {
    /// When the state has to be looked at again.
    pub(crate) fn deadline(self) -> Option<Instant> {
        match self {
            Self::Starting | Self::Running | Self::Killing | Self::Over => None,
            Self::Stopping { look_at, until, .. } => Some(look_at.min(until)),
            Self::Lingering { until } => Some(until),
        }
    }
}

/// The next state, and the signal to send to all processes of the run.
pub(crate) fn next(
    state: State,
    happened: Transition,
    now: Instant,
    rules: Rules,
) -> (State, Option<Signal>) {
    let until = now + rules.grace;
    let stopping = |step| State::Stopping { step, look_at: now + LOOK_INTERVAL, until };
    match (state, happened) {
        (State::Over, _) | (_, Transition::NothingLeft) => (State::Over, None),
        (State::Starting, Transition::Started) => (State::Running, None),
        (State::Running, Transition::Ended) => (State::Lingering { until: now + LINGER_TIMEOUT }, None),
        // Also while it is being stopped: the rest of the steps is left out.
        (_, Transition::StopRequested(Some(Signal::Kill))) => (State::Killing, None),
        // What is not the program yet has nothing to tidy up: the kill follows at once.
        (State::Starting, Transition::StopRequested(_)) => {
            (State::Stopping { step: StopStep::HangUp, look_at: now, until: now }, Some(Signal::Terminate))
        }
        (State::Running | State::Lingering { .. }, Transition::StopRequested(first)) => match first {
            Some(signal @ (Signal::Interrupt | Signal::HangUp)) => (stopping(StopStep::First), Some(signal)),
            _ => (stopping(StopStep::Terminate), Some(Signal::Terminate)),
        },
        (
            State::Stopping { step, until, .. },
            Transition::Looked(Handling::Working | Handling::Finalising),
        ) if now < until => (State::Stopping { step, look_at: now + LOOK_INTERVAL, until }, None),
        (State::Stopping { step: StopStep::First, .. }, Transition::Looked(_)) => {
            (stopping(StopStep::Terminate), Some(Signal::Terminate))
        }
        (State::Stopping { step: StopStep::Terminate, .. }, Transition::Looked(Handling::Finalising)) => {
            let until = now + FINALISE_TIMEOUT;
            (State::Stopping { step: StopStep::Finalise, look_at: now + LOOK_INTERVAL, until }, None)
        }
        (State::Stopping { step: StopStep::Terminate | StopStep::Finalise, .. }, Transition::Looked(_))
            if rules.terminal =>
        {
            (stopping(StopStep::HangUp), Some(Signal::HangUp))
        }
        (State::Stopping { .. } | State::Lingering { .. }, Transition::Looked(_)) => (State::Killing, None),
        (state, _) => (state, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Handling::{Finalising, Over, Working};
    use Transition::{Ended, Looked, NothingLeft, Started, StopRequested};

    const PIPES: Rules = Rules { grace: Duration::from_secs(2), terminal: false };
    const TERMINAL: Rules = Rules { terminal: true, ..PIPES };

    fn stopping(step: StopStep, now: Instant) -> State {
        State::Stopping { step, look_at: now + LOOK_INTERVAL, until: now + PIPES.grace }
    }

    /// The state without its times, to compare.
    fn kind(state: State) -> String {
        match state {
            State::Stopping { step, .. } => format!("{step:?}"),
            State::Lingering { .. } => "Lingering".to_owned(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn each_state_has_its_followers() {
        let now = Instant::now();
        let late = now + PIPES.grace;
        let running = State::Running;
        let [first, terminate, finalise, hang_up] =
            [StopStep::First, StopStep::Terminate, StopStep::Finalise, StopStep::HangUp]
                .map(|step| stopping(step, now));
        let lingering = State::Lingering { until: now + LINGER_TIMEOUT };
        for (state, happened, at, rules, expected, signal) in [
            (State::Starting, Started, now, PIPES, "Running", None),
            (State::Starting, StopRequested(None), now, PIPES, "HangUp", Some(Signal::Terminate)),
            (
                State::Starting,
                StopRequested(Some(Signal::Interrupt)),
                now,
                PIPES,
                "HangUp",
                Some(Signal::Terminate),
            ),
            (running, Ended, now, PIPES, "Lingering", None),
            (running, StopRequested(None), now, PIPES, "Terminate", Some(Signal::Terminate)),
            (
                running,
                StopRequested(Some(Signal::Terminate)),
                now,
                PIPES,
                "Terminate",
                Some(Signal::Terminate),
            ),
            (running, StopRequested(Some(Signal::Interrupt)), now, PIPES, "First", Some(Signal::Interrupt)),
            (running, StopRequested(Some(Signal::HangUp)), now, PIPES, "First", Some(Signal::HangUp)),
            (running, StopRequested(Some(Signal::Kill)), now, PIPES, "Killing", None),
            (lingering, StopRequested(None), now, PIPES, "Terminate", Some(Signal::Terminate)),
            (lingering, Looked(Over), late, PIPES, "Killing", None),
            (first, Looked(Working), now, PIPES, "First", None),
            (first, Looked(Finalising), now, PIPES, "First", None),
            (first, Looked(Over), now, PIPES, "Terminate", Some(Signal::Terminate)),
            (first, Looked(Working), late, PIPES, "Terminate", Some(Signal::Terminate)),
            (first, StopRequested(None), now, PIPES, "First", None),
            (terminate, StopRequested(None), now, PIPES, "Terminate", None),
            (terminate, StopRequested(Some(Signal::Kill)), now, PIPES, "Killing", None),
            (terminate, Looked(Working), now, PIPES, "Terminate", None),
            (terminate, Looked(Finalising), now, PIPES, "Terminate", None),
            (terminate, Looked(Over), now, PIPES, "Killing", None),
            (terminate, Looked(Over), now, TERMINAL, "HangUp", Some(Signal::HangUp)),
            (terminate, Looked(Working), late, PIPES, "Killing", None),
            (terminate, Looked(Working), late, TERMINAL, "HangUp", Some(Signal::HangUp)),
            (terminate, Looked(Finalising), late, TERMINAL, "Finalise", None),
            (finalise, Looked(Finalising), now, PIPES, "Finalise", None),
            (finalise, Looked(Finalising), late, PIPES, "Killing", None),
            (finalise, Looked(Over), now, TERMINAL, "HangUp", Some(Signal::HangUp)),
            (hang_up, Looked(Working), now, TERMINAL, "HangUp", None),
            (hang_up, Looked(Over), now, TERMINAL, "Killing", None),
            (hang_up, Looked(Finalising), late, TERMINAL, "Killing", None),
            (State::Killing, StopRequested(None), now, PIPES, "Killing", None),
            (State::Killing, Ended, now, PIPES, "Killing", None),
            (State::Starting, NothingLeft, now, PIPES, "Over", None),
            (running, NothingLeft, now, PIPES, "Over", None),
            (lingering, NothingLeft, now, PIPES, "Over", None),
            (terminate, NothingLeft, now, PIPES, "Over", None),
            (State::Killing, NothingLeft, now, PIPES, "Over", None),
            (State::Over, Started, now, PIPES, "Over", None),
            (State::Over, Ended, now, PIPES, "Over", None),
            (State::Over, Looked(Working), now, PIPES, "Over", None),
            (State::Over, StopRequested(None), now, PIPES, "Over", None),
            (State::Over, StopRequested(Some(Signal::Kill)), now, PIPES, "Over", None),
        ] {
            let (after, sent) = next(state, happened, at, rules);
            assert_eq!((kind(after).as_str(), sent), (expected, signal), "{state:?} {happened:?} {rules:?}");
        }
    }

    #[test]
    fn a_look_never_prolongs_the_grace() {
        let now = Instant::now();
        let State::Stopping { until, .. } = next(State::Running, StopRequested(None), now, PIPES).0 else {
            panic!("it is being stopped")
        };
        let (after, _) =
            next(stopping(StopStep::Terminate, now), Looked(Working), now + LOOK_INTERVAL, PIPES);
        assert!(matches!(after, State::Stopping { until: same, .. } if same == until));
        assert_eq!(after.deadline(), Some(now + 2 * LOOK_INTERVAL));
    }
}
