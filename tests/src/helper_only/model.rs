//! What may come from the helper, and what must, told by the section "Order" of PROTOCOL.md and by nothing
//! else.
//!
//! Knows what the frontend has sent and heard, and answers two questions: may this come now, and must
//! something come without another word of the frontend. Time is not in it: what crosses on the way may be
//! heard in either order.

use further_link_proto::{Event, ExitStatus, Refusal, Request, Run, Step};

use super::frontend::{as_user, exec, on_terminal, run, with_text};

/// Program text that ends by itself, and some that stays.
const ENDS: &[u8] = b"#!/bin/sh\nexit 7\n";
const STAYS: &[u8] = b"#!/bin/sh\nexec sleep 600\n";

/// A run, by what is known of it beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A user who is not allowed.
    Refused,
    /// A directory that is not there.
    Absent,
    /// Ends at once, with this code. The flag of each says whether on a terminal.
    Ends(bool),
    /// Stays until it is stopped.
    Stays(bool),
    /// A shell, which ignores that program text is announced (B8).
    Shell,
    /// Program text that ends at once, or stays.
    Text {
        /// Whether it ends by itself.
        ends: bool,
    },
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Refused,
        Self::Absent,
        Self::Ends(false),
        Self::Ends(true),
        Self::Stays(false),
        Self::Stays(true),
        Self::Shell,
        Self::Text { ends: true },
        Self::Text { ends: false },
    ];

    /// The request.
    pub fn run(self) -> Run {
        let sized = |terminal, run| if terminal { on_terminal(run) } else { run };
        match self {
            Self::Refused => as_user("root", exec("/bin/true")),
            Self::Absent => exec("/no/such/program"),
            Self::Ends(terminal) => sized(terminal, exec("/bin/true")),
            Self::Stays(terminal) => sized(terminal, exec("/usr/bin/cat")),
            Self::Shell => run("shell"),
            Self::Text { .. } => with_text("exec", self.text().len()),
        }
    }

    /// The program text that belongs to it.
    pub fn text(self) -> &'static [u8] {
        match self {
            Self::Text { ends: true } => ENDS,
            Self::Text { ends: false } => STAYS,
            _ => &[],
        }
    }

    fn exit_code(self) -> Option<u8> {
        match self {
            Self::Ends(_) => Some(0),
            Self::Text { ends: true } => Some(7),
            _ => None,
        }
    }
}

/// What the frontend has made of the conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Nothing,
    Run(Kind),
    OtherVersion,
    /// Something out of place: as the first message, or after this run.
    Nonsense(Option<Kind>),
}

/// What it has heard last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum HeardLast {
    Nothing,
    Code,
    Started,
    LastMessage,
    End,
}

/// A conversation as it should be.
#[derive(Clone, Debug)]
pub struct Model {
    said: Said,
    heard: HeardLast,
    /// `Stop` was sent, and whether `Started` had been heard by then.
    stopped: Option<bool>,
    written: usize,
    closed_text: bool,
}

impl Default for Model {
    fn default() -> Self {
        Self { said: Said::Nothing, heard: HeardLast::Nothing, stopped: None, written: 0, closed_text: false }
    }
}

impl Model {
    /// The frontend sends a request.
    pub fn sends(&mut self, request: &Request, kind: Option<Kind>) {
        self.said = match (self.said, request, kind) {
            (Said::Nothing, Request::Run(_), Some(kind)) => Said::Run(kind),
            (Said::Run(kind), Request::Stop { .. }, _) => {
                self.stopped = self.stopped.or(Some(self.heard == HeardLast::Started));
                Said::Run(kind)
            }
            _ => self.said.spoiled(),
        };
    }

    /// The frontend sends something that is no request of this version.
    pub fn sends_nonsense(&mut self, of_other_version: bool) {
        self.said = match self.said {
            Said::Nothing if of_other_version => Said::OtherVersion,
            said => said.spoiled(),
        };
    }

    /// The frontend writes program text.
    pub fn writes(&mut self, bytes: usize) {
        self.written += bytes;
    }

    /// The frontend closes the pipe for program text.
    pub fn closes_text(&mut self) {
        self.closed_text = true;
    }

    /// The run that was asked for, if it was one.
    pub fn kind(&self) -> Option<Kind> {
        match self.said {
            Said::Run(kind) | Said::Nonsense(Some(kind)) => Some(kind),
            _ => None,
        }
    }

    /// How much program text is still to come.
    pub fn text_left(&self) -> usize {
        self.kind().map_or(0, |kind| kind.text().len().saturating_sub(self.written))
    }

    /// Whether something has to come, whatever the frontend does or leaves.
    pub fn must_come(&self) -> bool {
        match (self.said, self.heard) {
            (_, HeardLast::End) | (Said::Nothing, _) => false,
            (_, HeardLast::LastMessage | HeardLast::Nothing)
            | (Said::Nonsense(_) | Said::OtherVersion, _) => true,
            (Said::Run(_), HeardLast::Code) => {
                self.text_left() == 0 || self.closed_text || self.stopped.is_some()
            }
            (Said::Run(kind), HeardLast::Started) => kind.exit_code().is_some() || self.stopped.is_some(),
        }
    }

    /// Whether the helper has closed, as it should have.
    pub fn has_ended(&self) -> bool {
        self.heard == HeardLast::End
    }

    /// Takes an event with so many descriptors; what is wrong with it, if something is.
    pub fn hears(&mut self, event: &Event, descriptors: usize) -> Result<(), String> {
        let next = match event {
            Event::Data => HeardLast::Code,
            Event::Started { .. } => HeardLast::Started,
            _ => HeardLast::LastMessage,
        };
        let (right, expected) = match (self.said, self.kind()) {
            (Said::OtherVersion, _) => (*event == Event::Refused(Refusal::Version), 0),
            (_, Some(kind)) => self.fits(kind, event),
            (_, None) => (false, 0),
        };
        let in_order = next > self.heard && self.heard < HeardLast::LastMessage;
        self.heard = next;
        if right && in_order && expected == descriptors {
            Ok(())
        } else {
            Err(format!("{event:?} with {descriptors} descriptors does not fit {self:?}"))
        }
    }

    /// Takes the end of the connection.
    pub fn hears_end(&mut self) -> Result<(), String> {
        let due = matches!(self.said, Said::Nonsense(_)) || self.heard == HeardLast::LastMessage;
        self.heard = HeardLast::End;
        if due { Ok(()) } else { Err(format!("closed without a last message: {self:?}")) }
    }

    /// Whether the event may come in this run, and with how many descriptors.
    fn fits(&self, kind: Kind, event: &Event) -> (bool, usize) {
        let has_text = !kind.text().is_empty();
        let started = self.heard == HeardLast::Started;
        match event {
            Event::Data => (has_text, 1),
            Event::Started { .. } => {
                let terminal = matches!(kind, Kind::Ends(true) | Kind::Stays(true));
                let may =
                    !matches!(kind, Kind::Refused | Kind::Absent) && (!has_text || self.text_left() == 0);
                (may && (!has_text || self.heard == HeardLast::Code), if terminal { 2 } else { 4 })
            }
            Event::Refused(refusal) => (kind == Kind::Refused && *refusal == Refusal::UserNotAllowed, 0),
            Event::Failed { step, errno: _ } => match kind {
                Kind::Absent => (matches!(step, Step::ChangeDirectory | Step::Execute), 0),
                Kind::Text { .. } => {
                    (*step == Step::WriteCode && self.closed_text && self.text_left() > 0, 0)
                }
                _ => (false, 0),
            },
            Event::Exited(ended) => (kind != Kind::Refused && self.may_exit(kind, started, ended.status), 0),
            Event::Cached
            | Event::Missing
            | Event::Stored
            | Event::Compiled
            | Event::Opened(_)
            | Event::Written { .. }
            | Event::Progress { .. }
            | Event::Changed
            | Event::Done => (false, 0),
        }
    }

    fn may_exit(&self, kind: Kind, started: bool, status: ExitStatus) -> bool {
        let by_itself = started && kind.exit_code().is_some_and(|code| status == ExitStatus::Exited(code));
        match self.stopped {
            None => by_itself,
            // It ran when it was stopped, and knows nothing of SIGTERM.
            Some(true) => by_itself || status == ExitStatus::Signaled(15),
            // `Stop` and the start have crossed: however far the start came.
            Some(false) => true,
        }
    }
}

impl Said {
    fn spoiled(self) -> Self {
        match self {
            Self::Run(kind) => Self::Nonsense(Some(kind)),
            Self::Nothing => Self::Nonsense(None),
            // The first thing that is wrong decides: what follows is not read.
            Self::OtherVersion | Self::Nonsense(_) => self,
        }
    }
}
