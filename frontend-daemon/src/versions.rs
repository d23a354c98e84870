//! Which version of each language is installed. A program tells, run by the helper as the default user, and
//! is asked after `GET /runners`: the answer is in a later list. Nothing waits for it, and no client that has
//! other things to do (`hello`) has programs run for it.
//!
//! An answer counts until a file changes of the programs that the runner needs. A program that hangs, fails
//! or says nothing has no version, and is not asked again until then.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use further_link_api::RunnerEntry;
use further_link_proto::{Details, Event, ExitStatus, Purpose, RunnerId};
use futures_util::{StreamExt, stream};
use tokio::{task::JoinHandle, time::timeout};
use tracing::debug;

use crate::{
    helper::once::{Finished, Once},
    helper::pool::{HelperAddress, HelperError},
    runners::{Runners, Versioned},
};

/// How long a program may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// So many are asked at once.
const AT_ONCE: usize = 2;
/// What is read of an answer, in bytes, and what is shown of its first line, in characters.
const MAX_ANSWER: usize = 4096;
const MAX_SHOWN: usize = 100;
/// Most answers that are remembered: far more than there are languages.
const MAX_ANSWERS: usize = 256;

/// The versions that are known.
pub(crate) struct Versions {
    runners: Arc<Runners>,
    helper: HelperAddress,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    answers: HashMap<Versioned, Option<String>>,
    /// Asks for those that are not known.
    asking: Option<JoinHandle<()>>,
}

impl Versions {
    pub(crate) fn new(runners: Arc<Runners>, helper: HelperAddress) -> Arc<Self> {
        Arc::new(Self { runners, helper, state: Mutex::default() })
    }

    /// What clients are told of the runners, with the versions that are known.
    pub(crate) fn entries(&self) -> Vec<RunnerEntry> {
        self.known().0
    }

    /// The same, and asks for those that are not known.
    pub(crate) fn entries_and_ask(self: &Arc<Self>) -> Vec<RunnerEntry> {
        let (entries, unknown) = self.known();
        let mut state = self.lock();
        if !unknown.is_empty() && state.asking.as_ref().is_none_or(JoinHandle::is_finished) {
            if state.answers.len() > MAX_ANSWERS {
                state.answers.clear();
            }
            let versions = Arc::clone(self);
            state.asking = Some(tokio::spawn(async move { versions.ask_for(unknown).await }));
        }
        drop(state);
        entries
    }

    fn known(&self) -> (Vec<RunnerEntry>, Vec<Versioned>) {
        let mut entries = self.runners.entries();
        let mut unknown = Vec::new();
        let state = self.lock();
        for versioned in &*self.runners.versioned() {
            match state.answers.get(versioned) {
                Some(answer) => {
                    if let Some(entry) = entries.iter_mut().find(|entry| entry.id == versioned.id.as_str()) {
                        entry.version.clone_from(answer);
                    }
                }
                None => unknown.push(versioned.clone()),
            }
        }
        drop(state);
        (entries, unknown)
    }

    async fn ask_for(&self, unknown: Vec<Versioned>) {
        let ask = |versioned: Versioned| async move {
            let id = &versioned.id;
            let answer = match timeout(PATIENCE, self.ask(id)).await {
                Ok(Ok(answer)) => answer,
                // It may be there again when the next list is wanted.
                Ok(Err(error)) => return debug!("the version of {id} is not known: {error}"),
                Err(_) => None,
            };
            self.lock().answers.insert(versioned, answer);
        };
        stream::iter(unknown).for_each_concurrent(AT_ONCE, ask).await;
    }

    /// The first line that the program says.
    async fn ask(&self, id: &RunnerId) -> Result<Option<String>, HelperError> {
        let details = Details { purpose: Purpose::Version, ..Details::default() };
        let once = Once { runner: id, details, code: None, input: "", most: MAX_ANSWER };
        Ok(match once.run(&self.helper).await? {
            Finished::Ended { ended, stdout, stderr } if ended.status == ExitStatus::Exited(0) => {
                first_line(&stdout).or_else(|| first_line(&stderr))
            }
            // Perhaps no user may log in at the moment.
            Finished::NotStarted(event @ Event::Refused(_)) => {
                return Err(io::Error::other(format!("{event:?}")).into());
            }
            _ => None,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first line with something in it, without what a terminal would obey.
fn first_line(answer: &[u8]) -> Option<String> {
    let answer = String::from_utf8_lossy(answer);
    let shown = |line: &str| -> String {
        line.trim().chars().filter(|character| !character.is_control()).take(MAX_SHOWN).collect()
    };
    answer.lines().map(shown).find(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_one_line_that_can_be_shown() {
        assert_eq!(first_line(b"\n  gcc 12.2 \nCopyright").as_deref(), Some("gcc 12.2"));
        assert_eq!(first_line(b"a\x1b[31mb\xff\r\n").as_deref(), Some("a[31mb\u{fffd}"));
        assert_eq!(first_line(&[b'x'; 4096]).map(|line| line.len()), Some(MAX_SHOWN));
        assert_eq!(first_line(b" \x1b\n1.0\n").as_deref(), Some("1.0"));
        assert_eq!(first_line(b" \n\n"), None);
    }
}
