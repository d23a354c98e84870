//! The kept programs of the device: which there are, who may attach, and when each of them ends.
//!
//! A session of a connection has a handle of a process; here a process is held that belongs to no
//! connection. One task looks after all of them, and sleeps until the next one is due.

mod adopted;
mod known;
mod program;
mod secrets;

pub(crate) use program::Attachment;
pub(crate) use secrets::{Hash, Owner};

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use further_link_api::{
    Attach, ClientError, EndReason, FailedStep, Keep, KeptSession, Mode, Outcome, ProcessId, StartFailure,
};
use further_link_proto::WindowSize;
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use tracing::{info, warn};

use crate::{
    access::who::Who,
    config::KeepOptions,
    kept::known::{About, Known, Times},
    kept::program::{Due, Kept},
    lifecycle::shutdown::Shutdown,
    lifecycle::store::Store,
    memory::budget::Budgets,
    outbox::Outbox,
    process::{Process, Settled, Start},
    random,
    transcript::saved::Saved,
    transcript::{Audience, Limits, Served, SessionKeys, Transcript},
};

/// Random bytes of an id or a key.
const KEY: usize = 16;

/// How long clients have, when the service ends, to confirm that they know of the end of their programs.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How much is kept.
#[derive(Clone)]
pub(crate) struct KeptLimits {
    /// Longest time that a program is kept.
    pub(crate) seconds: u64,
    /// Programs that run, of all clients and of one.
    pub(crate) programs: usize,
    pub(crate) programs_per_client: usize,
    /// Of each program.
    pub(crate) transcript: Limits,
    /// Output of all programs, in bytes.
    pub(crate) text_of_all: usize,
}

impl KeptLimits {
    pub(crate) fn new(options: &KeepOptions, budgets: &Budgets) -> Self {
        Self {
            seconds: options.max_keep_seconds,
            programs: options.max_kept.into(),
            programs_per_client: options.max_kept_per_client.into(),
            transcript: Limits {
                text: usize::from(options.kept_text) * 1024,
                viewers: options.max_viewers.into(),
                text_of_all: budgets.transcripts.clone(),
                pictures: budgets.pictures(),
            },
            text_of_all: options.text_of_all(),
        }
    }
}

/// All kept programs.
pub(crate) struct KeptPrograms {
    pub(crate) limits: KeptLimits,
    /// Where programs are left for the next process of this service.
    store: Option<Arc<Store>>,
    state: Mutex<State>,
    /// One start after the other.
    starting: Mutex<()>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    programs: HashMap<String, Arc<Kept>>,
    /// A task of each program.
    tasks: JoinSet<()>,
    is_closed: bool,
}

/// A program that is to be kept.
pub(crate) struct Plan {
    pub(crate) keep: Keep,
    pub(crate) owner: Owner,
    pub(crate) who: Who,
    /// The account that the client has named.
    pub(crate) user: Option<String>,
    pub(crate) runner: String,
    pub(crate) path: Option<String>,
    pub(crate) terminal: Option<WindowSize>,
}

impl KeptPrograms {
    pub(crate) fn new(limits: KeptLimits, store: Option<Arc<Store>>) -> Self {
        let (state, starting) = (Mutex::default(), Mutex::default());
        Self { limits, store, state, starting, changed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn starting(&self) -> MutexGuard<'_, ()> {
        self.starting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The programs of now: what is asked of each of them need not hold up those who come for another one.
    fn all(&self) -> Vec<Arc<Kept>> {
        self.lock().programs.values().cloned().collect()
    }

    /// Begins to start a program, with its client attached. `start` is what to start, for this audience.
    pub(crate) async fn start(
        self: &Arc<Self>,
        plan: Plan,
        start: impl FnOnce(Audience) -> Start,
    ) -> Result<(Attachment, Settled), StartFailure> {
        let (attachment, settled, evicted) = self.begin(plan, start)?;
        if let Some(kept) = evicted {
            info!("session {}: is ended, to make room for another one", kept.id);
            kept.stop(EndReason::Evicted, None).await;
        }
        Ok((attachment, settled))
    }

    /// The step that no other start can come into: the look at who runs, and the new one among them. The
    /// program that has to go for it is noted as such, and is still to be stopped.
    fn begin(
        self: &Arc<Self>,
        plan: Plan,
        start: impl FnOnce(Audience) -> Start,
    ) -> Result<(Attachment, Settled, Option<Arc<Kept>>), StartFailure> {
        let Plan { keep, owner, who, user, runner, path, terminal } = plan;
        if keep.seconds > self.limits.seconds {
            return Err(StartFailure::KeptTooLong { most: self.limits.seconds });
        }
        let keys = session_keys()
            .map_err(|error| StartFailure::Device(FailedStep { step: "keys", reason: error.to_string() }))?;
        let _one_start = self.starting();
        let evicted = self.make_room(&owner)?;
        let (id, key, view_key) = (keys.session.clone(), Hash::of(&keys.key), Hash::of(&keys.view_key));
        let about =
            About { started: SystemTime::now(), runner, path, user, has_terminal: terminal.is_some() };
        let seconds = Duration::from_secs(keep.seconds);
        let known = Known::new((&key, &view_key), &owner, &about, seconds, keep.when_full);
        let saved = self.store.as_ref().and_then(|store| saved(store, &id, &known, terminal));
        let limits = self.limits.transcript.clone();
        let transcript = Transcript::new(limits, keep.when_full, keys, terminal, saved);
        let transcript = Arc::new(transcript);
        let viewer = transcript.first_viewer(terminal);
        let mut tasks = JoinSet::new();
        let (process, settled) = Process::start(start(Audience::Kept(Arc::clone(&transcript))), &mut tasks);
        info!("{who}: session {id}: kept for {} seconds without a client", keep.seconds);
        let kept = Arc::new(Kept {
            id,
            key,
            view_key,
            owner,
            about,
            keep: seconds,
            process,
            transcript,
            numbering: tokio::sync::Mutex::default(),
            sizing: Mutex::default(),
            times: Mutex::new(Times::default()),
            known: Mutex::new(known),
            telling: Arc::default(),
            over: Notify::new(),
        });
        self.add(&kept, tasks);
        let owner = kept.owner.clone();
        Ok((Attachment { kept, viewer, mode: Mode::Use, owner }, settled, evicted))
    }

    /// Keeps it, and watches its task.
    fn add(self: &Arc<Self>, kept: &Arc<Kept>, mut task: JoinSet<()>) {
        let (all, one) = (Arc::clone(self), Arc::clone(kept));
        self.insert(kept);
        self.spawn(async move {
            // A panic is in the log already, and counted.
            let (Some(Ok(()) | Err(_)) | None) = task.join_next().await;
            // The task of a program that runs on has left it to the next process.
            if !all.lock().is_closed || !one.can_be_left() {
                one.task_ended();
            }
            all.changed.notify_one();
        });
    }

    fn insert(&self, kept: &Arc<Kept>) {
        self.lock().programs.insert(kept.id.clone(), Arc::clone(kept));
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut state = self.lock();
        while state.tasks.try_join_next().is_some() {}
        state.tasks.spawn(task);
    }

    /// Attaches a client by a key, and says what it is told first. A wrong key is answered as an unknown
    /// session is.
    pub(crate) fn attach(
        &self,
        attach: &Attach,
        owner: &Owner,
        process: &ProcessId,
        who: &Who,
    ) -> Result<(Attachment, String), ClientError> {
        let kept = self.find(&attach.session)?;
        let mode = kept.mode_of(&attach.key).ok_or(ClientError::NoSession)?;
        let size = attach.size.map(|(rows, cols)| WindowSize { rows, cols });
        let attached = kept.attach(mode, attach.after, size, owner, process)?;
        info!("{who}: session {}: attached {}", kept.id, way(mode));
        Ok(attached)
    }

    /// Attaches an administrator, who needs no key, and watches. Its clients hear of one more of them.
    pub(crate) fn watch(
        &self,
        session: &str,
        process: &ProcessId,
        who: &Who,
    ) -> Result<(Attachment, String), ClientError> {
        let kept = self.find(session)?;
        let attached = kept.attach(Mode::View, None, None, &Owner::Nobody, process)?;
        info!("{who}: session {}: attached {}", kept.id, way(Mode::View));
        Ok(attached)
    }

    /// Ends a program for an administrator: how it has ended. One that has ended stays as it is.
    pub(crate) async fn end(&self, session: &str, who: &Who) -> Result<Outcome, ClientError> {
        let kept = self.find(session)?;
        if kept.ended_at().is_none() {
            info!("{who}: session {}: is to end", kept.id);
            kept.stop(EndReason::Stopped, None).await;
        }
        Ok(kept.end().await)
    }

    fn find(&self, session: &str) -> Result<Arc<Kept>, ClientError> {
        self.lock().programs.get(session).cloned().ok_or(ClientError::NoSession)
    }

    /// Gives a client this message, and then everything until it leaves, is gone, or the program has ended.
    pub(crate) async fn serve(
        &self,
        attachment: Attachment,
        first: Option<String>,
        outbox: Outbox,
        process: ProcessId,
        who: Who,
    ) {
        let served = attachment.serve(first, &outbox, &process).await;
        let id = &attachment.kept.id;
        match served {
            Served::Ended { fetched: true } if attachment.mode == Mode::Use => {
                self.forget(id);
                info!("{who}: session {id}: its end was fetched");
            }
            Served::Ended { .. } => info!("{who}: session {id}: has heard of its end"),
            Served::Left | Served::Disconnected => {
                info!("{who}: session {id}: detached, was attached {}", way(attachment.mode));
            }
        }
        self.changed.notify_one();
    }

    /// The programs of a client.
    pub(crate) fn of_owner(&self, owner: &Owner) -> Vec<KeptSession> {
        let mut own = self.all();
        own.retain(|kept| kept.owner.is(owner));
        oldest_first(own).iter().map(|kept| kept.listed()).collect()
    }

    /// The programs of all clients, with their accounts.
    pub(crate) fn of_all(&self) -> Vec<KeptSession> {
        let with_account = |kept: &Arc<Kept>| KeptSession { user: kept.about.user.clone(), ..kept.listed() };
        oldest_first(self.all()).iter().map(with_account).collect()
    }

    /// Sees to a place for one more program. The one that goes for it has been without a client longest.
    fn make_room(&self, owner: &Owner) -> Result<Option<Arc<Kept>>, StartFailure> {
        let mut running = self.all();
        running.retain(|kept| kept.runs());
        let most = self.limits.programs_per_client;
        if running.iter().filter(|kept| kept.owner.is(owner)).count() >= most {
            return Err(StartFailure::ClientKeepsTooMany { most });
        }
        let most = self.limits.programs;
        if most == 0 || self.lock().is_closed {
            return Err(StartFailure::DeviceKeepsTooMany { most });
        }
        if running.len() < most {
            return Ok(None);
        }
        let idle = running.into_iter().filter_map(|kept| Some((kept.idle_since()?, kept)));
        let longest = idle.min_by_key(|(since, _)| *since);
        let (_, kept) = longest.ok_or(StartFailure::DeviceKeepsTooMany { most })?;
        kept.transcript.end_for(EndReason::Evicted);
        Ok(Some(kept))
    }

    /// Ends what was kept long enough, until this process ends. Then leaves the programs to the next one, or
    /// ends them.
    pub(crate) async fn keep(&self, shutdown: Shutdown) {
        loop {
            let next = self.tidy().await;
            let due = async {
                match next {
                    Some(next) => sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                () = self.changed.notified() => {}
                () = shutdown.begun() => break,
            }
        }
        self.close().await;
    }

    /// Does what is due. When the next thing is.
    async fn tidy(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut next: Option<Instant> = None;
        for kept in self.all() {
            match kept.due(now) {
                Due::Expire => {
                    info!("session {}: is ended, since no client has come back in time", kept.id);
                    kept.stop(EndReason::Expired, None).await;
                }
                Due::Shrink => {
                    self.spawn(kept.shrink());
                    self.changed.notify_one();
                }
                Due::Forget => {
                    self.forget(&kept.id);
                }
                Due::At(at) => next = Some(next.map_or(at, |next| next.min(at))),
                Due::Nothing => {}
            }
        }
        self.forget_oldest_ends();
        next
    }

    /// Of the programs that have ended at most as many are remembered as may run.
    fn forget_oldest_ends(&self) {
        let all = self.all();
        let mut ended: Vec<_> = all.iter().filter_map(|kept| Some((kept.ended_at()?, &kept.id))).collect();
        ended.sort();
        let too_many = ended.len().saturating_sub(self.limits.programs);
        for (_, id) in ended.into_iter().take(too_many) {
            self.forget(id);
        }
    }

    fn forget(&self, id: &str) {
        let forgotten = self.lock().programs.remove(id);
        if let Some(saved) = forgotten.as_ref().and_then(|kept| kept.transcript.saved()) {
            saved.forget();
        }
    }

    async fn close(&self) {
        let mut tasks = {
            // A start that has looked already is among the programs.
            let _no_start = self.starting();
            let mut state = self.lock();
            state.is_closed = true;
            std::mem::take(&mut state.tasks)
        };
        if let Some(store) = &self.store {
            store.leave();
        }
        for kept in self.all() {
            if !kept.can_be_left() {
                kept.stop(EndReason::Shutdown, None).await;
            }
        }
        while tasks.join_next().await.is_some() {}
        for kept in self.all() {
            kept.transcript.save_picture();
        }
        let told = async {
            while self.all().iter().any(|kept| kept.has_news_of_its_end()) {
                self.changed.notified().await;
            }
        };
        if timeout(LAST_WORDS, told).await.is_err() {
            info!("some clients have not confirmed that their programs have ended");
        }
    }
}

fn oldest_first(mut programs: Vec<Arc<Kept>>) -> Vec<Arc<Kept>> {
    programs.sort_by_key(|kept| kept.about.started);
    programs
}

/// In what way a client is attached.
fn way(mode: Mode) -> &'static str {
    match mode {
        Mode::Use => "to use it",
        Mode::View => "to watch it",
    }
}

/// Where what happens to a program is noted for the next process of this service.
fn saved(store: &Arc<Store>, id: &str, known: &Known, terminal: Option<WindowSize>) -> Option<Arc<Saved>> {
    match Saved::new(store, id, known.to_json(), terminal) {
        Ok(saved) => Some(Arc::new(saved)),
        Err(error) => {
            warn!("session {id}: it will end with this process: {error}");
            None
        }
    }
}

fn session_keys() -> io::Result<SessionKeys> {
    Ok(SessionKeys {
        session: random::text::<KEY>()?,
        key: random::text::<KEY>()?,
        view_key: random::text::<KEY>()?,
    })
}
