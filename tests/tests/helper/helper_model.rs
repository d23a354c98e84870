//! Random conversations with the helper against a small model of PROTOCOL.md's section "Order".
//!
//! Random sequences of messages, legal and not. The model (`helper_only::model`) says
//! after each step what may come and what must; here the steps are thrown and taken to a real helper, several
//! at once. All of it comes from a seed that a failure names, with the steps up to there.
#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests may fail the test")]

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use further_link_proto::{Event, MAX_MESSAGE, Request, VERSION};
use further_link_tests::DEADLINE;
use further_link_tests::helper_only::frontend::{Program, bytes_of};
use further_link_tests::helper_only::model::{Kind, Model};
use further_link_tests::helper_only::{Fixture, Frontend, Heard, Rng};

/// Conversations of the test, all threads together; [`COUNT_VARIABLE`] sets another number, for runs at
/// night.
const CONVERSATIONS: usize = 4_000;
const COUNT_VARIABLE: &str = "FURTHER_LINK_TESTS_CONVERSATIONS";
/// Threads that talk, each to its own helper of the same listener.
const THREADS: usize = 4;

/// What the frontend does next.
#[derive(Clone, Debug)]
enum Action {
    Run(Kind),
    Stop,
    /// A datagram that is no request.
    Nonsense(Vec<u8>),
    /// A `Stop` with a descriptor.
    Descriptor,
    /// So many bytes of program text.
    Text(usize),
    CloseText,
    /// Hears what has to come.
    Listen,
}

/// One conversation, and all that was done in it.
struct Talk {
    frontend: Frontend,
    model: Model,
    pipe: Option<File>,
    program: Option<Program>,
    streams: Vec<OwnedFd>,
    done: Vec<Action>,
    seed: u64,
}

impl Talk {
    fn new(frontend: Frontend, seed: u64) -> Self {
        Self {
            frontend,
            model: Model::default(),
            pipe: None,
            program: None,
            streams: Vec::new(),
            done: Vec::new(),
            seed,
        }
    }

    #[track_caller]
    fn act(&mut self, action: Action) {
        self.done.push(action.clone());
        match action {
            Action::Run(kind) => self.send(&Request::Run(kind.run()), Some(kind)),
            Action::Stop => self.send(&Request::Stop { first: None }, None),
            Action::Nonsense(bytes) => {
                // The helper may have closed at the one before.
                let (Ok(()) | Err(_)) = self.frontend.send_bytes(&bytes);
                let other_version = bytes.first().is_some_and(|version| *version != VERSION);
                self.model.sends_nonsense(other_version && bytes.len() <= MAX_MESSAGE);
            }
            Action::Descriptor => {
                let (Ok(()) | Err(_)) = self
                    .frontend
                    .send_with(&bytes_of(&Request::Stop { first: None }), &[std::io::stdin().as_fd()]);
                self.model.sends_nonsense(false);
            }
            Action::Text(bytes) => {
                let text = self.model.kind().map_or(&[][..], Kind::text);
                let from = text.len() - self.model.text_left();
                if let (Some(pipe), Some(part)) = (&mut self.pipe, text.get(from..from + bytes)) {
                    // There is no reader any more where the start was stopped.
                    let (Ok(()) | Err(_)) = pipe.write_all(part);
                    self.model.writes(bytes);
                }
            }
            Action::CloseText => {
                if self.pipe.take().is_some() {
                    self.model.closes_text();
                }
            }
            Action::Listen => self.listen(),
        }
    }

    fn send(&mut self, request: &Request, kind: Option<Kind>) {
        let (Ok(()) | Err(_)) = self.frontend.0.send(request);
        self.model.sends(request, kind);
    }

    /// Hears one event or the end, if one has to come, or has come though it need not.
    #[track_caller]
    fn listen(&mut self) {
        if !self.has_to_listen() {
            return;
        }
        if !self.frontend.has_news(3 * DEADLINE) {
            self.fail("nothing comes");
        }
        let checked = match self.frontend.hear() {
            Heard::End => self.model.hears_end(),
            Heard::Event(event, mut descriptors) => {
                let checked = self.model.hears(&event, descriptors.len());
                match event {
                    Event::Data => self.pipe = descriptors.pop().map(File::from),
                    Event::Started { pid } => {
                        self.program = Some(Program::new(pid.try_into().expect("a pid")));
                    }
                    _ => {}
                }
                // Without its streams `cat` would end by itself.
                self.streams.extend(descriptors);
                checked
            }
        };
        if let Err(wrong) = checked {
            self.fail(&wrong);
        }
    }

    fn has_to_listen(&self) -> bool {
        !self.model.has_ended() && (self.model.must_come() || self.frontend.has_news(Duration::ZERO))
    }

    /// Says nothing more and hears all there is. At the end of a conversation nothing of its run lives.
    #[track_caller]
    fn finish(mut self) {
        while self.has_to_listen() {
            self.listen();
        }
        if self.model.has_ended() && self.program.is_some_and(|program| program.is_alive()) {
            self.fail("the program outlives the conversation");
        }
    }

    #[track_caller]
    fn fail(&self, what: &str) -> ! {
        panic!("seed {}: {what}\nafter {:?}\n{:?}", self.seed, self.done, self.model)
    }
}

fn throw(dice: &mut Rng, model: &Model, first: bool) -> Action {
    let nonsense = |dice: &mut Rng| {
        Action::Nonsense(match dice.below(6) {
            0 => Vec::new(),
            1 => vec![VERSION + 1, 1],
            2 => vec![VERSION],
            3 => vec![VERSION; MAX_MESSAGE + 1],
            4 => [bytes_of(&Request::Stop { first: None }), vec![0]].concat(),
            _ => vec![VERSION, 2 + dice.byte() % 200],
        })
    };
    match dice.below(20) {
        _ if first && !dice.once_in(6) => Action::Run(*dice.choose(&Kind::ALL)),
        8..12 if model.text_left() > 0 => Action::Text(1 + dice.below(model.text_left())),
        12 => Action::CloseText,
        13..17 => Action::Stop,
        17 => Action::Run(*dice.choose(&Kind::ALL)),
        18 => nonsense(dice),
        19 if dice.once_in(2) => Action::Descriptor,
        _ => Action::Listen,
    }
}

/// PROTOCOL.md, "Order". Afterwards no other run was disturbed, and nothing is left.
#[test]
fn random_conversations_go_as_the_model_says() {
    let count = std::env::var(COUNT_VARIABLE).map_or(CONVERSATIONS, |text| text.parse().expect("a number"));
    let mut fixture = Fixture::new();
    let helper = &fixture.helper;
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                let mut seeds = Rng::new(u64::try_from(thread).expect("small"));
                for _ in 0..count / THREADS {
                    let seed = seeds.number();
                    let mut dice = Rng::of(seed);
                    let mut talk = Talk::new(helper.connect(), seed);
                    for number in 0..=dice.below(12) {
                        let action = throw(&mut dice, &talk.model, number == 0);
                        talk.act(action);
                    }
                    talk.finish();
                }
            });
        }
    });
    fixture.assert_unharmed("random conversations");
}
