//! What the launcher tells the watcher. First, as root, whose run it is. Then, as the user, what has to be
//! removed when it ends, and which step of the start has failed: the watcher has the rights of that user by
//! then, and no more.
//!
//! These messages never leave the helper. Their wire form has vectors, which the messages of the contract do
//! not have.

use std::{
    ffi::OsString,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
    time::Duration,
};

use bincode::{Decode, Encode};
use further_link_proto::Event;
use nix::unistd::{Gid, Uid};

use crate::{
    account::Account,
    plan::{Entrypoint, Temporary},
};

/// The user of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) name: String,
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
    pub(crate) groups: Vec<Gid>,
}

impl Owner {
    pub(crate) fn of(account: &Account) -> Self {
        Self {
            name: account.name.clone(),
            uid: account.uid,
            gid: account.gid,
            groups: account.groups.clone(),
        }
    }
}

/// The beginning of a log line: the number of the client's connection in the frontend's log.
pub(crate) fn of_connection(origin: Option<u64>) -> String {
    origin.map_or_else(String::new, |number| format!("connection {number}: "))
}

/// What the watcher has to know of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Handoff {
    pub(crate) owner: Owner,
    pub(crate) runner: String,
    pub(crate) terminal: bool,
    /// The number of the client's connection in the frontend's log.
    pub(crate) origin: Option<u64>,
    /// The socket of the user channel.
    pub(crate) channel: PathBuf,
}

/// How the start goes on. The end of the connection says that the launcher is the program now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// This will be made for the run, which may take so long.
    Planned { temporary: Temporary, limit: Option<Duration> },
    /// The launcher compiles the program before it becomes it. Without a terminal the reading end of a pipe
    /// comes with it: what the compiler says.
    Compiling,
    /// The last word: the run is nothing.
    Failed(Event),
}

/// The handoff as it is sent: numbers and bytes in the place of the system's types.
#[derive(Encode, Decode)]
pub(crate) struct Wire {
    user: String,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    runner: String,
    terminal: bool,
    origin: Option<u64>,
    channel: Vec<u8>,
}

/// A report as it is sent.
#[derive(Encode, Decode)]
pub(crate) enum WireReport {
    Planned {
        channel: Vec<u8>,
        private: Option<Vec<u8>>,
        entrypoint: Option<WireEntrypoint>,
        seconds: Option<u32>,
    },
    Compiling,
    Failed(Event),
}

#[derive(Encode, Decode)]
pub(crate) struct WireEntrypoint {
    file: Vec<u8>,
    mode: u32,
}

impl Handoff {
    pub(crate) fn to_wire(&self) -> Wire {
        Wire {
            user: self.owner.name.clone(),
            uid: self.owner.uid.as_raw(),
            gid: self.owner.gid.as_raw(),
            groups: self.owner.groups.iter().map(|group| group.as_raw()).collect(),
            runner: self.runner.clone(),
            terminal: self.terminal,
            origin: self.origin,
            channel: bytes(&self.channel),
        }
    }
}

impl From<Wire> for Handoff {
    fn from(wire: Wire) -> Self {
        Self {
            owner: Owner {
                name: wire.user,
                uid: Uid::from_raw(wire.uid),
                gid: Gid::from_raw(wire.gid),
                groups: wire.groups.into_iter().map(Gid::from_raw).collect(),
            },
            runner: wire.runner,
            terminal: wire.terminal,
            origin: wire.origin,
            channel: path(wire.channel),
        }
    }
}

impl WireReport {
    pub(crate) fn planned(temporary: &Temporary, seconds: Option<u32>) -> Self {
        let Temporary { channel, private, entrypoint } = temporary;
        let entrypoint = entrypoint.as_ref();
        Self::Planned {
            channel: bytes(channel),
            private: private.as_deref().map(bytes),
            entrypoint: entrypoint
                .map(|Entrypoint { file, mode }| WireEntrypoint { file: bytes(file), mode: *mode }),
            seconds,
        }
    }
}

impl From<WireReport> for Report {
    fn from(wire: WireReport) -> Self {
        match wire {
            WireReport::Failed(event) => Self::Failed(event),
            WireReport::Compiling => Self::Compiling,
            WireReport::Planned { channel, private, entrypoint, seconds } => Self::Planned {
                temporary: Temporary {
                    channel: path(channel),
                    private: private.map(path),
                    entrypoint: entrypoint
                        .map(|WireEntrypoint { file, mode }| Entrypoint { file: path(file), mode }),
                },
                limit: seconds.map(|seconds| Duration::from_secs(seconds.into())),
            },
        }
    }
}

/// A path as it is sent.
pub(crate) fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

/// The path of these bytes.
pub(crate) fn path(bytes: Vec<u8>) -> PathBuf {
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use further_link_proto::Step;

    use super::*;

    #[test]
    fn what_arrives_is_what_was_sent() {
        let sent = Handoff {
            owner: Owner {
                name: "pi".to_owned(),
                uid: Uid::from_raw(1),
                gid: Gid::from_raw(2),
                groups: vec![Gid::from_raw(3)],
            },
            runner: "exec".to_owned(),
            terminal: true,
            origin: Some(7),
            channel: path(vec![0xff, 0x2f]),
        };
        let (watcher, launcher) = further_link_proto::pair().unwrap();
        launcher.send(&sent.to_wire()).unwrap();
        assert_eq!(Handoff::from(watcher.recv::<Wire>().unwrap()), sent);
        let temporary = Temporary {
            channel: path(vec![0xff, 0x2f]),
            private: Some("/p".into()),
            entrypoint: Some(Entrypoint { file: "/f".into(), mode: 0o755 }),
        };
        let failed = Event::Failed { step: Step::Execute, errno: 2 };
        launcher.send(&WireReport::planned(&temporary, Some(7))).unwrap();
        launcher.send(&WireReport::Failed(failed.clone())).unwrap();
        assert_eq!(
            Report::from(watcher.recv::<WireReport>().unwrap()),
            Report::Planned { temporary, limit: Some(Duration::from_secs(7)) }
        );
        assert_eq!(Report::from(watcher.recv::<WireReport>().unwrap()), Report::Failed(failed));
    }
}
