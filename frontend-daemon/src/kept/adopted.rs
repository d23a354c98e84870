//! Taking up the programs that an earlier process of this service has left in the service manager's store.

use std::{
    collections::BTreeMap,
    io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex},
};

use tokio::{sync::Notify, task::JoinSet};
use tracing::{info, warn};

use crate::{
    helper::pool::HelperPool,
    kept::KeptPrograms,
    kept::known::Known,
    kept::program::Kept,
    lifecycle::store::Store,
    memory::budget::Budgets,
    process::{Adoption, Descriptors, Process},
    transcript::journal::JournalError,
    transcript::saved::{Restored, STATE, Saved, session_and_role, take_out},
    transcript::{Audience, Transcript},
};

/// Why a program is not taken up.
#[derive(Debug, thiserror::Error)]
enum AdoptError {
    #[error("its state is missing")]
    NoState,
    #[error(transparent)]
    State(#[from] JournalError),
    #[error("what is known of it has another form")]
    Unknown,
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl KeptPrograms {
    /// Takes up all programs to which these descriptors belong. What cannot be taken up ends: its helper
    /// loses its connection.
    pub(crate) fn adopt(
        self: &Arc<Self>,
        store: &Arc<Store>,
        passed: Vec<(String, OwnedFd)>,
        helpers: &HelperPool,
        budgets: &Budgets,
    ) {
        let mut sessions: BTreeMap<String, (Option<OwnedFd>, Descriptors)> = BTreeMap::new();
        for (name, descriptor) in passed {
            let Some((session, role)) = session_and_role(&name) else { continue };
            let (state, descriptors) = sessions.entry(session.to_owned()).or_default();
            if role == STATE {
                *state = Some(descriptor);
            } else {
                descriptors.add(role, descriptor);
            }
        }
        for (session, (state, descriptors)) in sessions {
            let roles: Vec<String> =
                descriptors.roles().map(str::to_owned).chain([STATE.to_owned()]).collect();
            match self.adopt_one(store, &session, state, descriptors, helpers, budgets) {
                Ok(()) => info!("session {session}: taken up again"),
                Err(error) => {
                    warn!("session {session}: its program is ended, since it cannot be taken up: {error}");
                    for role in roles {
                        take_out(store, &session, &role);
                    }
                }
            }
        }
    }

    fn adopt_one(
        self: &Arc<Self>,
        store: &Arc<Store>,
        session: &str,
        state: Option<OwnedFd>,
        descriptors: Descriptors,
        helpers: &HelperPool,
        budgets: &Budgets,
    ) -> Result<(), AdoptError> {
        let mut restored = Saved::restore(store, session, state.ok_or(AdoptError::NoState)?)?;
        let known = Known::from_json(&restored.kept).ok_or(AdoptError::Unknown)?;
        let saved = Arc::clone(&restored.saved);
        let is_over = restored.ended.is_some();
        let Restored { exit: exited, input_ended, .. } = restored;
        let is_ending = restored.ending.is_some();
        let unsaid = std::mem::take(&mut restored.unsaid);
        let unwritten = std::mem::take(&mut restored.unwritten);
        let connections = std::mem::take(&mut restored.connections);
        let transcript = Transcript::restored(self.limits.transcript.clone(), known.when_full(), restored);
        let transcript = Arc::new(transcript);
        let mut tasks = JoinSet::new();
        let process = if is_over {
            for role in descriptors.roles() {
                take_out(store, session, role);
            }
            Process::over(budgets)
        } else {
            let audience = Audience::Kept(Arc::clone(&transcript));
            let adoption = Adoption {
                audience,
                saved,
                descriptors,
                unsaid,
                unwritten,
                input_ended,
                connections,
                exited,
                is_ending,
            };
            Process::adopt(adoption, helpers, budgets.clone(), &mut tasks)?
        };
        let kept = Kept {
            id: session.to_owned(),
            key: known.key.clone(),
            view_key: known.view_key.clone(),
            owner: known.owner(),
            about: known.about.clone(),
            keep: known.keep,
            process,
            transcript,
            numbering: tokio::sync::Mutex::new(known.typist()),
            sizing: Mutex::default(),
            times: Mutex::new(known.times(is_over)),
            known: Mutex::new(known),
            telling: Arc::default(),
            over: Notify::new(),
        };
        self.take_up(Arc::new(kept), tasks, is_ending && !is_over);
        Ok(())
    }

    fn take_up(self: &Arc<Self>, kept: Arc<Kept>, tasks: JoinSet<()>, ends: bool) {
        kept.note_times();
        if tasks.is_empty() {
            self.insert(&kept);
        } else {
            self.add(&kept, tasks);
        }
        if ends {
            // Perhaps the helper was not asked yet.
            self.spawn(async move { kept.process.stop(None).await });
        }
    }
}
