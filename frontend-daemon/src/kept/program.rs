//! One kept program: its process, its transcript, and who may attach.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, UNIX_EPOCH},
};

use further_link_api::{ClientError, EndReason, KeptSession, KeptState, Mode, Outcome, ProcessId, Secret};
use further_link_proto::{Signal, WindowSize};
use tokio::{sync::Notify, time::Instant};

use crate::{
    kept::known::{About, Known, Times},
    kept::secrets::{Hash, Owner},
    outbox::{Disconnected, Outbox},
    process::Process,
    transcript::{Arrival, Served, Transcript, ViewerId},
};

/// How long the end of a program is remembered until a client fetches it.
const REMEMBERED: Duration = Duration::from_hours(24);

/// A kept program.
pub(crate) struct Kept {
    pub(crate) id: String,
    pub(super) key: Hash,
    pub(super) view_key: Hash,
    pub(super) owner: Owner,
    pub(super) about: About,
    /// How long it runs on without a client.
    pub(super) keep: Duration,
    pub(super) process: Process,
    pub(super) transcript: Arc<Transcript>,
    /// One numbered input after the other, with the client whose number it was.
    pub(super) numbering: tokio::sync::Mutex<Option<Owner>>,
    /// One change of the size after the other.
    pub(super) sizing: Mutex<()>,
    pub(super) times: Mutex<Times>,
    /// The same for the next process of this service.
    pub(super) known: Mutex<Known>,
    /// Each task that tells a client of it has one more.
    pub(super) telling: Arc<()>,
    /// Its task has gone.
    pub(super) over: Notify,
}

/// What time has brought about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// It ran long enough without a client.
    Expire,
    /// The end of its output is enough.
    Shrink,
    Forget,
    /// Nothing before this moment.
    At(Instant),
    /// Nothing before something happens.
    Nothing,
}

/// A client's handle of a kept program.
#[derive(Clone)]
pub(crate) struct Attachment {
    pub(super) kept: Arc<Kept>,
    pub(super) viewer: ViewerId,
    pub(super) mode: Mode,
    /// Who is attached.
    pub(super) owner: Owner,
}

impl Kept {
    /// Whether it runs, and goes on.
    pub(super) fn runs(&self) -> bool {
        let standing = self.transcript.standing();
        !standing.is_over() && !standing.is_ending
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since when no client is attached.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        self.times().idle
    }

    pub(super) fn ended_at(&self) -> Option<Instant> {
        self.times().ended
    }

    /// What the key opens, if it is one of this program.
    pub(super) fn mode_of(&self, key: &Secret) -> Option<Mode> {
        let key = Hash::of(key.as_str());
        let (uses, views) = (self.key.is(&key), self.view_key.is(&key));
        if uses { Some(Mode::Use) } else { views.then_some(Mode::View) }
    }

    /// Adds a client, and what it is told first.
    pub(super) fn attach(
        self: &Arc<Self>,
        mode: Mode,
        after: Option<u64>,
        size: Option<WindowSize>,
        owner: &Owner,
        process: &ProcessId,
    ) -> Result<(Attachment, String), ClientError> {
        let arrival = Arrival { mode, after, size, is_owner: self.owner.is(owner) };
        let _one_at_a_time = self.sizing();
        let admitted = self.transcript.attach(&arrival, process)?;
        self.times().idle = None;
        self.note_times();
        self.resize(admitted.size);
        let attachment =
            Attachment { kept: Arc::clone(self), viewer: admitted.viewer, mode, owner: owner.clone() };
        Ok((attachment, admitted.attached))
    }

    /// A client has gone.
    fn gone(&self, viewer: ViewerId) {
        let _one_at_a_time = self.sizing();
        let size = self.transcript.remove(viewer);
        self.resize(size);
        if self.transcript.standing().viewers == 0 {
            // A viewer that had to leave may go later than the last one.
            self.times().idle.get_or_insert_with(Instant::now);
            self.note_times();
        }
    }

    /// Notes the times for the next process of this service.
    pub(super) fn note_times(&self) {
        self.note(|known| known.note_times(&self.times()));
    }

    fn note(&self, change: impl FnOnce(&mut Known)) {
        let Some(saved) = self.transcript.saved() else { return };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut known);
        saved.note(known.to_json());
    }

    /// Whether the next process of this service can take it up.
    pub(super) fn can_be_left(&self) -> bool {
        self.transcript.saved().is_some_and(|saved| saved.is_stored())
    }

    fn sizing(&self) -> MutexGuard<'_, ()> {
        self.sizing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn resize(&self, size: Option<WindowSize>) {
        if let Some(size) = size {
            self.process.resize(size);
        }
    }

    /// Ends the program, and says why when it has ended.
    pub(super) async fn stop(&self, reason: EndReason, first: Option<Signal>) {
        self.transcript.end_for(reason);
        self.process.stop(first).await;
    }

    /// Its task has gone.
    pub(super) fn task_ended(&self) {
        self.transcript.end_without_status();
        self.times().ended = Some(Instant::now());
        self.note_times();
        self.over.notify_waiters();
    }

    /// Waits until it has ended.
    pub(super) async fn end(&self) -> Outcome {
        loop {
            let over = self.over.notified();
            tokio::pin!(over);
            over.as_mut().enable();
            if let Some(outcome) = self.ended_at().and_then(|_| self.transcript.outcome()) {
                return outcome;
            }
            over.await;
        }
    }

    /// It has ended, and a client is being told.
    pub(super) fn has_news_of_its_end(&self) -> bool {
        self.transcript.standing().is_over() && Arc::strong_count(&self.telling) > 1
    }

    /// The end of its output is enough from now on. What goes may have to be drawn before.
    pub(super) fn shrink(self: Arc<Self>) -> impl Future<Output = ()> {
        self.times().is_shrunk = true;
        self.note_times();
        async move { self.transcript.shrink().await }
    }

    /// What has to be done with it now.
    pub(super) fn due(&self, now: Instant) -> Due {
        if self.transcript.has_failed() {
            return Due::Forget;
        }
        let is_ending = self.transcript.standing().is_ending;
        let times = self.times();
        let Some(idle) = times.idle else { return Due::Nothing };
        let ended = times.ended;
        let steps = [
            (ended.is_none() && !is_ending, Some(idle + self.keep), Due::Expire),
            (!times.is_shrunk, ended.map(|_| idle + self.keep), Due::Shrink),
            (true, ended.map(|ended| ended + REMEMBERED), Due::Forget),
        ];
        let next =
            steps.into_iter().filter_map(|(applies, at, due)| at.filter(|_| applies).map(|at| (at, due)));
        match next.min_by_key(|(at, _)| *at) {
            Some((at, due)) if at <= now => due,
            Some((at, _)) => Due::At(at),
            None => Due::Nothing,
        }
    }

    pub(super) fn listed(&self) -> KeptSession {
        let standing = self.transcript.standing();
        let left = self.times().idle.map_or(self.keep, |idle| self.keep.saturating_sub(idle.elapsed()));
        KeptSession {
            session: self.id.clone(),
            started: self.about.started.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            runner: self.about.runner.clone(),
            path: self.about.path.clone(),
            user: None,
            state: if standing.is_over() { KeptState::Stopped } else { KeptState::Running },
            viewers: standing.viewers,
            seconds: left.as_secs(),
            exit_code: standing.ended,
        }
    }
}

impl Attachment {
    /// Whether messages may name it.
    pub(crate) fn is_live(&self) -> bool {
        self.kept.transcript.has(self.viewer)
    }

    /// Whether its client may still be told something of it: until then its id is in use.
    pub(crate) fn is_known(&self) -> bool {
        self.kept.transcript.knows(self.viewer)
    }

    /// Whether it is not known yet if it runs.
    pub(crate) fn is_starting(&self) -> bool {
        self.kept.process.is_starting()
    }

    pub(crate) fn has_terminal(&self) -> bool {
        self.kept.about.has_terminal
    }

    /// Queues input. A number that was taken already is not taken again.
    pub(crate) async fn write(
        &self,
        input: String,
        end: bool,
        number: Option<u64>,
    ) -> Result<(), ClientError> {
        self.may_use()?;
        let kept = &self.kept;
        let mut typist = kept.numbering.lock().await;
        if let Some(number) = number {
            let taken = kept.transcript.input();
            // After another client has typed, an old number is a mistake and not a repetition. The same
            // client may have typed on a connection that has not closed yet.
            let is_own = kept.transcript.is_holder(self.viewer)
                || typist.as_ref().is_some_and(|typist| typist.is(&self.owner));
            if number <= taken && is_own {
                return Ok(());
            }
            if number != taken + 1 {
                return Err(ClientError::InputNumber { wanted: taken + 1 });
            }
        }
        self.take(None).await;
        kept.process.write(input, end, number).await?;
        if let Some(number) = number {
            kept.transcript.input_taken(number);
            let is_another = !typist.as_ref().is_some_and(|typist| typist.is(&self.owner));
            *typist = Some(self.owner.clone());
            if is_another {
                kept.note(|known| known.note_typist(&self.owner));
            }
        }
        Ok(())
    }

    pub(crate) async fn resize(&self, size: WindowSize) -> Result<(), ClientError> {
        self.may_use()?;
        self.take(Some(size)).await;
        Ok(())
    }

    pub(crate) async fn stop(&self, first: Option<Signal>) -> Result<(), ClientError> {
        self.may_use()?;
        self.kept.stop(EndReason::Stopped, first).await;
        Ok(())
    }

    /// The process itself, for what changes neither the keyboard nor the end.
    pub(crate) fn process(&self) -> Result<&Process, ClientError> {
        self.may_use()?;
        Ok(&self.kept.process)
    }

    /// Takes the keyboard.
    pub(crate) async fn take_keyboard(&self) -> Result<(), ClientError> {
        self.may_use()?;
        self.take(None).await;
        Ok(())
    }

    /// Lets this client leave: its task tells it, and ends.
    pub(crate) fn leave(&self) {
        self.kept.transcript.leave(self.viewer);
    }

    /// The connection closes. A program whose keys its client cannot have is of no use.
    pub(crate) async fn close(&self) {
        self.leave();
        if !self.kept.transcript.has_started() {
            self.kept.stop(EndReason::Stopped, None).await;
        }
    }

    /// Gives the client this message, and then everything until it leaves, is gone, or the program has ended.
    pub(super) async fn serve(&self, first: Option<String>, outbox: &Outbox, process: &ProcessId) -> Served {
        let _telling = Arc::clone(&self.kept.telling);
        if let Some(message) = first {
            // A client that is gone hears of it at the next one.
            let (Ok(()) | Err(Disconnected)) = outbox.put(message).await;
        }
        let served = self.kept.transcript.serve(self.viewer, outbox, process).await;
        self.kept.gone(self.viewer);
        served
    }

    /// The client says itself what it has used.
    pub(crate) fn wait_for_acks(&self) {
        self.kept.transcript.wait_for_acks(self.viewer);
    }

    /// The client has used the output up to this position.
    pub(crate) fn ack(&self, position: u64) {
        self.kept.transcript.ack(self.viewer, position);
    }

    async fn take(&self, window: Option<WindowSize>) {
        let size = {
            let _one_at_a_time = self.kept.sizing();
            let size = self.kept.transcript.take(self.viewer, window);
            self.kept.resize(size);
            size
        };
        if size.is_some() {
            // A change of the size has its place in the transcript.
            self.kept.transcript.trim().await;
        }
    }

    pub(crate) fn may_use(&self) -> Result<(), ClientError> {
        if self.mode == Mode::Use { Ok(()) } else { Err(ClientError::ViewOnly) }
    }
}
