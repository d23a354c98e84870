//! The frontend never serves the network as root. Started as root it becomes an account without rights, for
//! good, before a second thread exists and before the first byte from the network is read.

use caps::CapSet;
use nix::{
    errno::Errno,
    sys::prctl,
    unistd::{Uid, User, setgroups, setresgid, setresuid},
};

/// The accounts to become, the first that exists: the package's, or in development the one that owns nothing.
const SERVICE_ACCOUNTS: [&str; 2] = ["further-link", "nobody"];

/// Why the process could not give up what it must not have.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrivilegeError {
    #[error("started as root, but neither the account further-link nor nobody exists to serve as")]
    NoAccount,
    #[error("cannot give up root: {0}")]
    System(#[from] Errno),
    #[error("cannot give up capabilities: {0}")]
    Capabilities(#[from] caps::errors::CapsError),
    #[error("root could be regained")]
    Regained,
}

/// The account of this process from then on; none if it stays the same.
pub(crate) fn service_account() -> Result<Option<User>, PrivilegeError> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    for name in SERVICE_ACCOUNTS {
        if let Some(user) = User::from_name(name)?
            && !user.uid.is_root()
        {
            return Ok(Some(user));
        }
    }
    Err(PrivilegeError::NoAccount)
}

/// Gives up root, if it has it, and in any case every capability and every way to gain one.
pub(crate) fn give_up(account: Option<&User>) -> Result<(), PrivilegeError> {
    if let Some(user) = account {
        caps::clear(None, CapSet::Bounding)?;
        setgroups(&[user.gid])?;
        setresgid(user.gid, user.gid, user.gid)?;
        setresuid(user.uid, user.uid, user.uid)?;
    }
    for set in [CapSet::Ambient, CapSet::Effective, CapSet::Permitted, CapSet::Inheritable] {
        // Not to be asked for when there is nothing: the unit's filter of system calls refuses capset.
        if account.is_some() || !caps::read(None, set)?.is_empty() {
            caps::clear(None, set)?;
        }
    }
    prctl::set_no_new_privs()?;
    prctl::set_dumpable(false)?;
    if Uid::effective().is_root() || nix::unistd::seteuid(Uid::from_raw(0)).is_ok() {
        return Err(PrivilegeError::Regained);
    }
    Ok(())
}
