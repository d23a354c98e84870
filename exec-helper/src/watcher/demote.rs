//! Giving root up once the launcher has been forked: what is left is what ending the run needs.
//!
//! At first (`for_waiting`) this process has a service account's uid, the capability to signal
//! (`CAP_KILL`), and those to change its user. It can gain nothing by exec, nor be traced or dumped. Once
//! the user of the run is known (`for_run`), it has that user's rights to files (fsuid and groups). So it
//! can remove the user's temporary files and no others. The capability to signal is the only one then.

use std::{collections::HashSet, io};

use caps::{CapSet, Capability};
use further_link_proto::UserName;
use nix::{
    errno::Errno,
    sys::prctl,
    unistd::{Gid, Uid, getresuid, setfsgid, setfsuid, setgroups, setresgid, setresuid},
};
use rustix::thread::CapabilitySet;

use crate::{
    account,
    handoff::Owner,
    identity::{self, clear_capabilities},
};

/// The package's account for this.
const SERVICE_ACCOUNT: &str = "further-link-exec";
/// A uid without an account, for a machine without the package, or where its account would not be a third
/// one. At the end of the range that Debian reserves (policy 9.2.2), and never `nobody`: programs and
/// frontends may run as that.
const UNUSED: (Uid, Gid) = (Uid::from_raw(65533), Gid::from_raw(65533));
/// Above a program's usual 0, so that a program which makes processes without end cannot starve the one that
/// ends it.
const PRIORITY: i32 = -10;

/// The account to become: neither root, nor the frontend, nor the user of the run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServiceAccount {
    uid: Uid,
    gid: Gid,
}

/// Why root could not be given up. The run ends then.
#[derive(Debug, thiserror::Error)]
#[error("cannot give up root: {0}")]
pub(crate) struct DemoteError(Errno);

impl ServiceAccount {
    /// Looked up at the start, not while a program runs already. None for a helper that is not root,
    /// which cannot become another account.
    pub(crate) fn new(frontend: Uid) -> io::Result<Option<Self>> {
        if !Uid::effective().is_root() {
            return Ok(None);
        }
        let name = UserName::new(SERVICE_ACCOUNT).map_err(io::Error::other)?;
        let account =
            account::by_name(&name)?.filter(|account| account.uid != frontend && !account.uid.is_root());
        let (uid, gid) = account.map_or(UNUSED, |account| (account.uid, account.gid));
        Ok(Some(Self { uid, gid }))
    }

    pub(crate) fn uid(self) -> Uid {
        self.uid
    }

    fn apart_from(self, owner: &Owner) -> (Uid, Gid) {
        if self.uid == owner.uid { UNUSED } else { (self.uid, self.gid) }
    }
}

/// Gives root up while the user of the run is not known yet.
pub(crate) fn for_waiting(service: Option<ServiceAccount>) -> Result<(), DemoteError> {
    let demoted = service.map_or(Ok(()), leave_root);
    can_kill(demoted)
        .and_then(|()| prctl::set_no_new_privs())
        .and_then(|()| forget_dumps())
        .map_err(DemoteError)
}

/// Gives up the rest.
pub(crate) fn for_run(service: Option<ServiceAccount>, owner: &Owner) -> Result<(), DemoteError> {
    let demoted = service.map_or(Ok(()), |service| take_rights_of(service, owner));
    can_kill(demoted).and_then(|()| forget_dumps()).map_err(DemoteError)
}

/// Gives up the rest where there is no run of this process's own.
pub(crate) fn for_upload(service: Option<ServiceAccount>) -> Result<(), DemoteError> {
    service.map_or(Ok(()), |_| hold(&[Capability::CAP_KILL])).map_err(DemoteError)
}

/// Half-way it may hold nothing that is in effect, and the program has to be killed all the same.
fn can_kill(demoted: Result<(), Errno>) -> Result<(), Errno> {
    if demoted.is_err() {
        let (Ok(()) | Err(_)) = hold(&[Capability::CAP_KILL]);
    }
    demoted
}

/// A change of the uid may allow them again (`PR_SET_DUMPABLE`, prctl(2)).
fn forget_dumps() -> Result<(), Errno> {
    prctl::set_dumpable(false)
}

fn leave_root(service: ServiceAccount) -> Result<(), Errno> {
    let ServiceAccount { uid, gid } = service;
    rustix::process::setpriority_process(None, PRIORITY)
        .map_err(|error| Errno::from_raw(error.raw_os_error()))?;
    setgroups(&[])?;
    clear_capabilities(&[CapSet::Ambient, CapSet::Inheritable])?;
    clear_bounding_set()?;
    prctl::set_keepcaps(true)?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    hold(&[Capability::CAP_KILL, Capability::CAP_SETUID, Capability::CAP_SETGID])?;
    identity::verify_ids(uid, gid)
}

fn take_rights_of(service: ServiceAccount, owner: &Owner) -> Result<(), Errno> {
    let (uid, gid) = service.apart_from(owner);
    setgroups(&owner.groups)?;
    if getresuid()?.real != uid {
        setresgid(gid, gid, gid)?;
        setresuid(uid, uid, uid)?;
    }
    // These calls answer with the former value, whether it worked or not: asking a second time tells
    // (setfsuid(2)).
    setfsgid(owner.gid);
    setfsuid(owner.uid);
    if setfsgid(owner.gid) != owner.gid || setfsuid(owner.uid) != owner.uid {
        return Err(Errno::EPERM);
    }
    hold(&[Capability::CAP_KILL])?;
    identity::verify_ids(uid, gid)
}

/// So that no exec could ever give one back. Not by the caps crate, which takes a failed look for an empty
/// set.
fn clear_bounding_set() -> Result<(), Errno> {
    for capability in CapabilitySet::all().iter() {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // An older kernel does not know all capabilities.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(Errno::from_raw(error.raw_os_error())),
        }
    }
    Ok(())
}

/// Holds these capabilities and no others.
fn hold(capabilities: &[Capability]) -> Result<(), Errno> {
    let wanted: HashSet<_> = capabilities.iter().copied().collect();
    caps::set(None, CapSet::Effective, &wanted)
        .and_then(|()| caps::set(None, CapSet::Permitted, &wanted))
        .map_err(|_| Errno::EPERM)
}
