//! Becoming the target user for good: in the child, between fork and exec, before it touches any file.
//!
//! The order is the only one that works: groups while still root, then gid, then uid. Afterwards
//! everything is read back, and regaining root must fail. Any failure ends the start: there is never a
//! program with half an identity.

use caps::CapSet;
use nix::{
    errno::Errno,
    sys::{
        prctl,
        stat::{Mode, umask},
    },
    unistd::{Gid, Uid, getresgid, getresuid, setgroups, setresgid, setresuid},
};

use crate::{account::Account, sys};

const LOGIN_UID: &str = "/proc/self/loginuid";

/// The proof that this process is the user: what only the user may look at asks for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IsUser(());

/// Switches this process to the account. A helper that is not root already is the account, as `check` has
/// made sure. Its groups are those of its own login.
pub(crate) fn become_user(account: &Account) -> Result<IsUser, Errno> {
    let switched = Uid::effective().is_root();
    if switched {
        set_login_uid(account.uid);
        setgroups(&account.groups)?;
        setresgid(account.gid, account.gid, account.gid)?;
        // Inheritable and ambient capabilities would survive an exec (capabilities(7)); the others go with
        // the uid.
        clear_capabilities(&[CapSet::Ambient, CapSet::Inheritable])?;
        setresuid(account.uid, account.uid, account.uid)?;
        sys::leave_session_keyring()?;
        // A change of the uid allows core dumps and tracers again where fs.suid_dumpable is 1 (proc(5)). Exec
        // undoes this.
        prctl::set_dumpable(false)?;
    }
    verify(account, switched).map(|()| IsUser(()))
}

/// The same for a process that goes on with our own code as the user: it gains nothing, no other process
/// traces it, and what it makes others may read.
pub(crate) fn become_user_for_good(account: &Account) -> Result<(), Errno> {
    become_user(account)?;
    prctl::set_no_new_privs()?;
    prctl::set_dumpable(false)?;
    umask(Mode::S_IWGRP | Mode::S_IWOTH);
    Ok(())
}

/// Names the person for the audit system and `getlogin()`, as `pam_loginuid(8)` does. A program could set
/// an unset one itself, to any user's. A kernel without audit has no such file, and a container may not
/// write it.
fn set_login_uid(uid: Uid) {
    let (Ok(()) | Err(_)) = std::fs::write(LOGIN_UID, uid.to_string());
}

/// So that the kernel has made what it shows there before it is needed.
pub(crate) fn look_up_login_uid() {
    let (Ok(_) | Err(_)) = std::fs::metadata(LOGIN_UID);
}

/// Reads back what the calls before claim to have done.
pub(crate) fn verify_ids(uid: Uid, gid: Gid) -> Result<(), Errno> {
    let (uids, gids) = (getresuid()?, getresgid()?);
    let is_user = [uids.real, uids.effective, uids.saved].iter().all(|one| *one == uid);
    let has_group = [gids.real, gids.effective, gids.saved].iter().all(|one| *one == gid);
    if is_user && has_group { Ok(()) } else { Err(Errno::EPERM) }
}

fn verify(account: &Account, switched: bool) -> Result<(), Errno> {
    verify_ids(account.uid, account.gid)?;
    if switched {
        // Not by nix, which opens a file of /proc to know how many there can be.
        let groups = rustix::process::getgroups().map_err(|error| Errno::from_raw(error.raw_os_error()))?;
        let expected = |group: &rustix::process::Gid| account.groups.contains(&Gid::from_raw(group.as_raw()));
        if !groups.iter().all(expected) {
            return Err(Errno::EPERM);
        }
    }
    if !account.uid.is_root() && nix::unistd::seteuid(Uid::from_raw(0)).is_ok() {
        return Err(Errno::EPERM);
    }
    Ok(())
}

/// Empties capability sets of this process.
pub(crate) fn clear_capabilities(sets: &[CapSet]) -> Result<(), Errno> {
    for set in sets {
        caps::clear(None, *set).map_err(|_| Errno::EPERM)?;
    }
    Ok(())
}
