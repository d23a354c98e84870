//! The one message from the launcher to the watcher: whose run it is, and what has to be removed when it
//! ends.
//!
//! The message never leaves the helper. Its wire form has vectors, which the messages of the contract do
//! not have.

use std::{
    ffi::OsString,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use bincode::{Decode, Encode};
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
    pub(crate) temporary: Temporary,
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
    private: Option<Vec<u8>>,
    entrypoint: Option<WireEntrypoint>,
}

#[derive(Encode, Decode)]
struct WireEntrypoint {
    file: Vec<u8>,
    mode: u32,
}

impl Handoff {
    pub(crate) fn to_wire(&self) -> Wire {
        let Temporary { channel, private, entrypoint } = &self.temporary;
        Wire {
            user: self.owner.name.clone(),
            uid: self.owner.uid.as_raw(),
            gid: self.owner.gid.as_raw(),
            groups: self.owner.groups.iter().map(|group| group.as_raw()).collect(),
            runner: self.runner.clone(),
            terminal: self.terminal,
            origin: self.origin,
            channel: bytes(channel),
            private: private.as_deref().map(bytes),
            entrypoint: entrypoint
                .as_ref()
                .map(|Entrypoint { file, mode }| WireEntrypoint { file: bytes(file), mode: *mode }),
        }
    }
}

impl From<Wire> for Handoff {
    fn from(wire: Wire) -> Self {
        let entrypoint =
            wire.entrypoint.map(|WireEntrypoint { file, mode }| Entrypoint { file: path(file), mode });
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
            temporary: Temporary { channel: path(wire.channel), private: wire.private.map(path), entrypoint },
        }
    }
}

fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

fn path(bytes: Vec<u8>) -> PathBuf {
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
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
            temporary: Temporary {
                channel: path(vec![0xff, 0x2f]),
                private: Some("/p".into()),
                entrypoint: Some(Entrypoint { file: "/f".into(), mode: 0o755 }),
            },
        };
        let (watcher, launcher) = further_link_proto::pair().unwrap();
        launcher.send(&sent.to_wire()).unwrap();
        assert_eq!(Handoff::from(watcher.recv::<Wire>().unwrap()), sent);
    }
}
