//! `further-link sessions`: an administrator sees which kept programs there are, watches one, ends one. It
//! asks the running service on its local socket; see `admin`.

mod table;

use std::{
    io::{self, IsTerminal, Write},
    path::Path,
};

use clap::Subcommand;
use further_link_api::{
    AdminRequest, EndReason, KeptMessage, KeptSession, KeptState, Outcome, Received, ServerMessage,
};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    cli::admin_socket::{AdminError, Lines},
    config::{ADMIN_SOCKET, Config},
};

/// Gives a terminal back as shells know it: from the other screen to the first, no mouse, no bracketed paste,
/// the usual keys, colours and wrapping, a cursor.
const AS_BEFORE: &str =
    "\x1b[?1049l\x1b[?1000;1002;1003;1004;1006;2004l\x1b[?1l\x1b>\x1b[r\x1b[?6l\x1b[?7;25h\x1b[0m\x1b(B\r\n";

/// What to do. Without one: list them.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Print the list as JSON, with times in seconds.
    #[arg(long)]
    json: bool,

    #[command(subcommand)]
    action: Option<Action>,
}

/// What to do with a kept program.
#[derive(Debug, Subcommand)]
enum Action {
    /// Print what a program shows, until it ends or Ctrl-C is pressed. Its user sees that one more watches.
    Watch {
        /// Id of the program, or the beginning of it.
        #[arg(value_name = "ID", allow_hyphen_values = true)]
        session: String,
    },
    /// End a program.
    End {
        /// Id of the program, or the beginning of it.
        #[arg(value_name = "ID", allow_hyphen_values = true)]
        session: String,
    },
}

/// Why it did not work, and what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionsError {
    #[error("--json is for the list only; leave it out")]
    Json,
    #[error("no kept program has an id that begins with {0:?}; `further-link sessions` lists them")]
    Unknown(String),
    #[error("{count} kept programs have ids that begin with {beginning:?}: write more of it")]
    Several { beginning: String, count: usize },
    #[error(transparent)]
    Service(#[from] AdminError),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Does it.
pub(crate) fn run(options: &Options, config: &Config) -> Result<(), SessionsError> {
    let path = config.admin_socket.as_deref().unwrap_or(Path::new(ADMIN_SOCKET));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        match &options.action {
            Some(_) if options.json => Err(SessionsError::Json),
            None => print(&list(path).await?, options.json),
            Some(Action::Watch { session }) => watch(path, &find(path, session).await?.session).await,
            Some(Action::End { session }) => end(path, &find(path, session).await?).await,
        }
    });
    match done {
        // Who reads it has read enough, as `head` does.
        Err(SessionsError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// The answers to one request.
struct Answers(Lines);

impl Answers {
    async fn to(path: &Path, request: &AdminRequest) -> Result<Self, AdminError> {
        Lines::of(path, request).await.map(Self)
    }

    /// The next one.
    async fn next(&mut self) -> Result<ServerMessage<'static>, AdminError> {
        let line = self.0.next().await?;
        match Received::parse(line.as_bytes()).map_err(|_| AdminError::Answer)?.message {
            ServerMessage::Error(text) => Err(AdminError::Refused(text.into_owned())),
            other => Ok(other),
        }
    }
}

async fn list(path: &Path) -> Result<Vec<KeptSession>, SessionsError> {
    match Answers::to(path, &AdminRequest::List).await?.next().await? {
        ServerMessage::Kept(KeptMessage::Sessions { sessions }) => Ok(sessions),
        _ => Err(AdminError::Answer.into()),
    }
}

fn print(sessions: &[KeptSession], as_json: bool) -> Result<(), SessionsError> {
    let text = if as_json {
        serde_json::to_string_pretty(sessions).map_err(io::Error::from)? + "\n"
    } else {
        table::of(sessions)
    };
    Ok(io::stdout().write_all(text.as_bytes())?)
}

/// The one program whose id begins like this.
async fn find(path: &Path, beginning: &str) -> Result<KeptSession, SessionsError> {
    let mut found = list(path).await?;
    found.retain(|kept| kept.session.starts_with(beginning));
    match (found.pop(), found.len()) {
        (Some(session), 0) => Ok(session),
        (Some(_), others) => {
            Err(SessionsError::Several { beginning: beginning.to_owned(), count: others + 1 })
        }
        (None, _) => Err(SessionsError::Unknown(beginning.to_owned())),
    }
}

async fn end(path: &Path, kept: &KeptSession) -> Result<(), SessionsError> {
    let id = &kept.session;
    if kept.state == KeptState::Stopped {
        let code = kept.exit_code.unwrap_or_default();
        return Ok(writeln!(io::stdout(), "{id} had ended before: exit code {code}")?);
    }
    let mut answers = Answers::to(path, &AdminRequest::End { session: id.clone() }).await?;
    match answers.next().await? {
        ServerMessage::Kept(KeptMessage::Stopped(Outcome { exit_code, reason, .. })) => {
            Ok(writeln!(io::stdout(), "{id} has ended: exit code {exit_code}, {}", why(reason))?)
        }
        _ => Err(AdminError::Answer.into()),
    }
}

async fn watch(path: &Path, id: &str) -> Result<(), SessionsError> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    // Before anything can come that asks the terminal.
    let _silent = Silent::keyboard();
    let mut answers = Answers::to(path, &AdminRequest::Watch { session: id.to_owned() }).await?;
    let mut view = View { has_terminal: false };
    loop {
        let answer = tokio::select! {
            answer = answers.next() => answer?,
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
        };
        if let ServerMessage::Kept(message) = answer
            && let Some(Outcome { exit_code, reason, .. }) = view.show(message)?
        {
            drop(view);
            return Ok(writeln!(io::stderr(), "{id} has ended: exit code {exit_code}, {}", why(reason))?);
        }
    }
}

/// What is watched, on standard output and standard error.
struct View {
    /// It writes as to a terminal.
    has_terminal: bool,
}

impl View {
    /// Prints it. How the program has ended, if it has.
    fn show(&mut self, message: KeptMessage<'_>) -> io::Result<Option<Outcome>> {
        let mut stdout = io::stdout().lock();
        match message {
            KeptMessage::Attached(attached) => self.has_terminal = attached.rows > 0,
            KeptMessage::Stdout { output, .. } | KeptMessage::Screen { output, .. } => {
                stdout.write_all(output.as_bytes())?;
                stdout.flush()?;
            }
            KeptMessage::Stderr { output, .. } => io::stderr().write_all(output.as_bytes())?,
            KeptMessage::Lost { lost, .. } => writeln!(io::stderr(), "[{lost} bytes are missing here]")?,
            KeptMessage::Stopped(outcome) => return Ok(Some(outcome)),
            _ => {}
        }
        Ok(None)
    }
}

impl Drop for View {
    fn drop(&mut self) {
        if self.has_terminal && io::stdout().is_terminal() {
            // A terminal that has gone needs nothing.
            let (Ok(()) | Err(_)) = io::stdout().write_all(AS_BEFORE.as_bytes());
            let (Ok(()) | Err(_)) = io::stdout().flush();
        }
    }
}

/// Keys that are pressed meanwhile are not shown, and forgotten at the end. So are the answers that the
/// terminal gives when the program that is watched asks it something: a shell would take them for commands.
struct Silent(Option<Termios>);

impl Silent {
    fn keyboard() -> Self {
        let usual = io::stdin().is_terminal().then(|| tcgetattr(io::stdin()).ok()).flatten();
        if let Some(usual) = &usual {
            let mut silent = usual.clone();
            silent.local_modes -= LocalModes::ECHO | LocalModes::ICANON;
            // Without it, keys are seen.
            let (Ok(()) | Err(_)) = tcsetattr(io::stdin(), OptionalActions::Flush, &silent);
        }
        Self(usual)
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        if let Some(usual) = &self.0 {
            // A terminal that has gone needs nothing.
            let (Ok(()) | Err(_)) = tcsetattr(io::stdin(), OptionalActions::Flush, usual);
        }
    }
}

fn why(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Exited => "by itself",
        EndReason::Stopped => "stopped",
        EndReason::Expired => "since no client has come back in time",
        EndReason::Evicted => "to make room for another one",
        EndReason::Memory => "since it used too much memory",
        EndReason::Time => "since it took longer than its runner allows",
        EndReason::Processes => "since it could make no more processes",
        EndReason::Shutdown => "with the service",
    }
}
