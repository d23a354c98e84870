//! The tests in the runner files, run on this device for an administrator (`further-link self-test`): as any
//! run, by the helper and as the default user. What is run root wrote down.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use further_link_api::{StartFailure, TestAnswer};
use further_link_proto::{Details, ExitStatus, RunnerId};
use further_link_runners::{Runner, Test};
use tokio::time::timeout;

use crate::{
    helper::once::{Finished, Once},
    helper::pool::{HelperAddress, HelperError},
    helper::reasons::not_started,
    runners::{Runners, is_available},
};

/// How long a test may take: longer than the compilers of the package may.
const PATIENCE: Duration = Duration::from_mins(5);
/// What is read of each stream, in bytes: far more than a test expects.
const MAX_OUTPUT: usize = 64 * 1024;
/// Characters of an output that are quoted.
const MAX_QUOTED: usize = 300;

/// Runs them.
pub(crate) struct SelfTest {
    runners: Arc<Runners>,
    helper: HelperAddress,
}

impl SelfTest {
    pub(crate) fn new(runners: Arc<Runners>, helper: HelperAddress) -> Self {
        Self { runners, helper }
    }

    /// The runners of these ids, or all; or what to tell who named one that there is not.
    pub(crate) fn chosen(&self, ids: &[String]) -> Result<Vec<Runner>, StartFailure> {
        let mut runners = self.runners.all();
        if let Some(id) = ids.iter().find(|id| !runners.iter().any(|runner| runner.id == **id)) {
            // A user's own, for one, has a name that can be right.
            let unknown = || StartFailure::UnknownRunner { id: id.clone() };
            return Err(self.runners.named(id).err().unwrap_or_else(unknown));
        }
        runners.retain(|runner| ids.is_empty() || ids.contains(&runner.id));
        Ok(runners)
    }

    /// Runs a test of a runner.
    pub(crate) async fn run(&self, runner: &Runner, test: &Test) -> TestAnswer {
        let begun = Instant::now();
        let wrong = match timeout(PATIENCE, self.outcome(runner, test)).await {
            Ok(Ok(wrong)) => wrong,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("it took longer than {} seconds", PATIENCE.as_secs())),
        };
        TestAnswer::Test {
            runner: runner.id.clone(),
            title: runner.title.clone(),
            name: test.name.clone(),
            wrong,
            ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }

    async fn outcome(&self, runner: &Runner, test: &Test) -> Result<Option<String>, HelperError> {
        let id = RunnerId::new(runner.id.as_str()).map_err(io::Error::other)?;
        let once = Once {
            runner: &id,
            details: Details { args: test.args.clone(), ..Details::default() },
            code: runner.entry.is_some().then_some(test.code.as_str()),
            input: &test.stdin,
            most: MAX_OUTPUT,
        };
        Ok(match once.run(&self.helper).await? {
            Finished::Ended { ended, stdout, stderr } => wrong(test, ended.status, &stdout, &stderr),
            Finished::NotStarted(event) => Some(not_started(&event, &id, &self.runners, None).to_string()),
        })
    }
}

/// What to say of a runner that is not installed.
pub(crate) fn missing(runner: &Runner) -> Option<TestAnswer> {
    if is_available(runner) {
        return None;
    }
    let (id, title, hint) = (runner.id.clone(), runner.title.clone(), runner.hint.clone());
    Some(TestAnswer::Missing { runner: id, title, hint })
}

/// What is not as the test says.
fn wrong(test: &Test, status: ExitStatus, stdout: &[u8], stderr: &[u8]) -> Option<String> {
    let expected = ExitStatus::Exited(test.exit);
    let quoted = |bytes: &[u8]| {
        let quoted = String::from_utf8_lossy(bytes);
        format!("{:?}", quoted.chars().take(MAX_QUOTED).collect::<String>())
    };
    let mut wrong = Vec::new();
    if status != expected {
        wrong.push(match status {
            ExitStatus::Exited(code) => format!("exit code {code} instead of {}", test.exit),
            ExitStatus::Signaled(signal) => format!("signal {signal} ended it"),
        });
    }
    if let Some(expected) = &test.stdout
        && expected.as_bytes() != stdout
    {
        wrong.push(format!("stdout {} instead of {}", quoted(stdout), quoted(expected.as_bytes())));
    }
    let has = |part: &str| String::from_utf8_lossy(stderr).contains(part);
    if let Some(part) = test.stderr.as_deref().filter(|part| !has(part)) {
        wrong.push(format!("stderr has no {}", quoted(part.as_bytes())));
    }
    if !wrong.is_empty() && !stderr.is_empty() {
        wrong.push(format!("stderr {}", quoted(stderr)));
    }
    (!wrong.is_empty()).then(|| wrong.join("; "))
}
