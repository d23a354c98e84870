//! A program that an earlier process of this service has started, taken up from its descriptors and from what
//! is known of it.

use std::{
    collections::BTreeMap,
    io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, Weak},
};

use further_link_proto::Ended;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::{io::Interest, sync::watch, task::JoinSet};

use crate::{
    helper::pool::HelperPool,
    helper::stream::Stream,
    memory::budget::Budgets,
    process::channel::connection::{Inherited, PREFIX as CONNECTION},
    process::input::Input,
    process::phase::Phase,
    process::{
        CHANNEL, COMPILER, Copies, ERRORS, HELPER, INPUT, OUTPUT, Process, RELAY_INPUT, RELAY_OUTPUT, Reach,
        State, Streams, Supervisor, TERMINAL, of_compiler,
    },
    transcript::Audience,
    transcript::saved::{Connection, Relay, Saved},
};

/// The descriptors of a program, by their roles.
#[derive(Default)]
pub(crate) struct Descriptors(BTreeMap<String, OwnedFd>);

/// What a program is taken up from.
pub(crate) struct Adoption {
    pub(crate) audience: Audience,
    pub(crate) saved: Arc<Saved>,
    pub(crate) descriptors: Descriptors,
    /// What was read of standard output and standard error, and not said.
    pub(crate) unsaid: [Vec<u8>; 2],
    pub(crate) unwritten: Vec<u8>,
    pub(crate) input_ended: bool,
    pub(crate) connections: BTreeMap<u64, Connection>,
    /// It has ended like this.
    pub(crate) exited: Option<Ended>,
    /// It was asked to end.
    pub(crate) is_ending: bool,
}

impl Descriptors {
    pub(crate) fn add(&mut self, role: &str, descriptor: OwnedFd) {
        self.0.insert(role.to_owned(), descriptor);
    }

    /// The roles of all that are there.
    pub(crate) fn roles(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    fn take(&mut self, role: &str) -> io::Result<OwnedFd> {
        self.0.remove(role).ok_or_else(|| io::Error::other(format!("its {role} is missing")))
    }

    fn streams(&mut self, input_ended: bool) -> io::Result<Streams> {
        let channel = Stream::new(self.take(CHANNEL)?, Interest::READABLE)?;
        if let Ok(leader) = self.take(TERMINAL) {
            return Streams::of_terminal(leader, channel);
        }
        let input = match self.take(INPUT) {
            // A stream without a reader, which is closed at once.
            Err(_) if input_ended => pipe_with(PipeFlags::CLOEXEC)?.1,
            input => input?,
        };
        let streams = Streams::of_pipes([input, self.take(OUTPUT)?, self.take(ERRORS)?], channel)?;
        Ok(Streams { compiler: self.take(COMPILER).ok().map(of_compiler).transpose()?, ..streams })
    }

    fn relay(&mut self) -> Option<Relay> {
        let (output, input) = (self.take(RELAY_OUTPUT).ok()?, self.take(RELAY_INPUT).ok()?);
        Some(Relay { output, input })
    }

    /// The connections to the user channel.
    fn connections(
        &mut self,
        saved: &Arc<Saved>,
        mut known: BTreeMap<u64, Connection>,
    ) -> io::Result<Vec<Inherited>> {
        let mut inherited = Vec::new();
        for (role, descriptor) in std::mem::take(&mut self.0) {
            let Some(number) = role.strip_prefix(CONNECTION).and_then(|number| number.parse().ok()) else {
                continue;
            };
            let stream = Stream::new(descriptor, Interest::READABLE | Interest::WRITABLE)?;
            let Connection { keys, left } = known.remove(&number).unwrap_or_default();
            inherited.push(Inherited { number, stream, keys, left, stored: Some(saved.holds(&role)) });
        }
        // Of what is left there was no room for a copy.
        for number in known.into_keys() {
            saved.gone(number);
        }
        Ok(inherited)
    }
}

impl Process {
    /// A program that has ended.
    pub(crate) fn over(budgets: &Budgets) -> Self {
        let reach = Reach::Running { conversation: Weak::new(), terminal: None };
        Self {
            state: Arc::new(State {
                phase: watch::Sender::new(Phase::Stopped),
                input: Input::new(budgets.input.clone(), None),
                keyboard: Arc::default(),
                reach: Mutex::new(reach),
            }),
        }
    }

    /// Takes a program up. A task of `tasks` sees to everything else.
    pub(crate) fn adopt(
        adoption: Adoption,
        helpers: &HelperPool,
        budgets: Budgets,
        tasks: &mut JoinSet<()>,
    ) -> io::Result<Self> {
        let Adoption { audience, saved, mut descriptors, unsaid, unwritten, .. } = adoption;
        let conversation = Arc::new(helpers.adopt(descriptors.take(HELPER)?)?);
        let mut streams = descriptors.streams(adoption.input_ended)?;
        let has_terminal = streams.terminal.is_some();
        let mut copies = Copies::default();
        if !has_terminal {
            copies.input = Some(saved.holds(INPUT));
        }
        copies.compiler = streams.compiler.as_ref().map(|_| saved.holds(COMPILER));
        let mut relay = descriptors.relay();
        let roles = if has_terminal { &[TERMINAL, RELAY_OUTPUT, RELAY_INPUT][..] } else { &[OUTPUT, ERRORS] };
        let roles = [HELPER, CHANNEL].iter().chain(roles);
        copies.others = roles.map(|role| saved.holds(role)).collect();
        let connections = descriptors.connections(&saved, adoption.connections)?;
        streams.outputs = streams
            .outputs
            .into_iter()
            .zip(unsaid)
            .map(|(output, bytes)| output.noting(&saved, relay.take(), bytes))
            .collect();
        let phase = if adoption.is_ending { Phase::Stopping } else { Phase::Running };
        let input = Input::restored(budgets.input.clone(), Some(saved), unwritten, adoption.input_ended);
        let state = Arc::new(State {
            phase: watch::Sender::new(phase),
            input,
            keyboard: Arc::default(),
            reach: Mutex::new(Reach::Running {
                conversation: Arc::downgrade(&conversation),
                terminal: streams.terminal.clone(),
            }),
        });
        let supervisor =
            Supervisor { conversation, state: Arc::clone(&state), audience, exited: adoption.exited };
        tasks.spawn(async move { supervisor.run(streams, copies, &budgets, connections).await });
        Ok(Self { state })
    }
}
