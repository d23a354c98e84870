//! An account of this machine with all that a login would give it: ids, groups, home, shell.
//!
//! Looked up by name only, never by a number from outside. Called while still root, since the lookup may load modules of
//! the name service switch. An answer that could be mistaken for "no change" (`4294967295`, setresuid(2)) is no account.

use std::{ffi::CString, io, path::PathBuf};

use further_link_proto::UserName;
use nix::unistd::{Gid, Uid, User};

/// What `identity` and `launch` need to know of a user.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
    pub(crate) groups: Vec<Gid>,
    pub(crate) home: PathBuf,
    pub(crate) shell: PathBuf,
}

/// The account of that name, if there is one.
pub(crate) fn by_name(name: &UserName) -> io::Result<Option<Account>> {
    User::from_name(name.as_str())?.map(complete).transpose().map(Option::flatten)
}

/// The name of the account that this process runs as.
pub(crate) fn own_name() -> io::Result<Option<UserName>> {
    Ok(User::from_uid(Uid::effective())?.and_then(|user| UserName::new(user.name).ok()))
}

/// The uid of an account.
pub(crate) fn uid_of(name: &UserName) -> io::Result<Option<Uid>> {
    Ok(User::from_name(name.as_str())?.map(|user| user.uid).filter(|uid| uid.as_raw() != u32::MAX))
}

fn complete(user: User) -> io::Result<Option<Account>> {
    if user.uid.as_raw() == u32::MAX || user.gid.as_raw() == u32::MAX {
        return Ok(None);
    }
    let groups = nix::unistd::getgrouplist(&CString::new(user.name.as_str())?, user.gid)?;
    // passwd(5): an empty shell means /bin/sh.
    let shell = if user.shell.as_os_str().is_empty() { PathBuf::from("/bin/sh") } else { user.shell };
    Ok(Some(Account { name: user.name, uid: user.uid, gid: user.gid, groups, home: user.dir, shell }))
}
