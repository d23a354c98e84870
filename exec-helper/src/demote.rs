//! Giving root up once the program has been forked: what is left is what ending the run needs.
//!
//! Afterwards this process has a service account's uid, the capability to signal (`CAP_KILL`) and nothing else; it can
//! not gain anything by exec, nor be traced or dumped. Files it sees with the rights of the run's user (fsuid and groups),
//! so that it can remove that user's temporary files and no others.

use std::collections::HashSet;

use caps::{CapSet, Capability};
use nix::{
    errno::Errno,
    sys::prctl,
    unistd::{Gid, Uid, User, setfsgid, setfsuid, setgroups, setresgid, setresuid},
};

use crate::{account::Account, identity::clear_capabilities};

/// The accounts to become, the first that exists. A third uid beside root and the frontend's: a frontend that was taken
/// over cannot signal the helper. `nobody` serves in development, where the package's accounts do not exist.
const SERVICE_ACCOUNTS: [&str; 2] = ["further-link-exec", "nobody"];

/// Why root could not be given up. The run ends then.
#[derive(Debug, thiserror::Error)]
#[error("cannot give up root: {0}")]
pub(crate) struct DemoteError(Errno);

/// Gives it up. `owner` is the user of the run.
pub(crate) fn demote(owner: &Account) -> Result<(), DemoteError> {
    let demoted = if Uid::effective().is_root() { leave_root(owner) } else { Ok(()) };
    demoted
        .and_then(|()| prctl::set_no_new_privs())
        .and_then(|()| prctl::set_dumpable(false))
        .map_err(DemoteError)
}

fn leave_root(owner: &Account) -> Result<(), Errno> {
    let (uid, gid) = service_account()?;
    setgroups(&owner.groups)?;
    clear_capabilities(&[CapSet::Ambient, CapSet::Inheritable, CapSet::Bounding])?;
    prctl::set_keepcaps(true)?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    hold(&[Capability::CAP_KILL, Capability::CAP_SETUID, Capability::CAP_SETGID])?;
    // Both answer with the former value, whether it worked or not: asking a second time tells (setfsuid(2)).
    setfsgid(owner.gid);
    setfsuid(owner.uid);
    if setfsgid(owner.gid) != owner.gid || setfsuid(owner.uid) != owner.uid {
        return Err(Errno::EPERM);
    }
    hold(&[Capability::CAP_KILL])
}

/// Holds these capabilities and no others.
fn hold(capabilities: &[Capability]) -> Result<(), Errno> {
    let wanted: HashSet<_> = capabilities.iter().copied().collect();
    caps::set(None, CapSet::Effective, &wanted)
        .and_then(|()| caps::set(None, CapSet::Permitted, &wanted))
        .map_err(|_| Errno::EPERM)
}

fn service_account() -> Result<(Uid, Gid), Errno> {
    for name in SERVICE_ACCOUNTS {
        if let Some(user) = User::from_name(name)?
            && !user.uid.is_root()
        {
            return Ok((user.uid, user.gid));
        }
    }
    Err(Errno::ENOENT)
}
