//! An account of this machine with all that a login would give it: ids, groups, home, shell.
//!
//! Looked up by name only, never by a number from outside. Called while still root, since the lookup may load
//! modules of the name service switch. An answer that could be mistaken for "no change" (`4294967295`,
//! setresuid(2)) is no account.

use std::{
    ffi::CString,
    io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use further_link_proto::UserName;
use nix::unistd::{Gid, Uid, User};

use crate::sys::{self, Shadow};

/// While this file is there only root may log in (nologin(5)).
const NOLOGIN: &str = "/etc/nologin";
/// Shells of accounts that are not for people.
const NO_SHELLS: [&str; 2] = ["nologin", "false"];
const SECONDS_OF_A_DAY: u64 = 24 * 60 * 60;

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

/// An account, and what the shadow database says of it.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) account: Account,
    shadow: Option<Shadow>,
}

/// The account of that name, if there is one, with all that decides whether it may be used.
pub(crate) fn find(name: &UserName) -> io::Result<Option<Found>> {
    let Some(account) = by_name(name)? else { return Ok(None) };
    let shadow = CString::new(account.name.as_str()).ok().and_then(|name| sys::shadow(&name));
    Ok(Some(Found { account, shadow }))
}

/// The name of the account that this process runs as.
pub(crate) fn own_name() -> io::Result<Option<UserName>> {
    Ok(User::from_uid(Uid::effective())?.and_then(|user| UserName::new(user.name).ok()))
}

/// The uid of an account.
pub(crate) fn uid_of(name: &UserName) -> io::Result<Option<Uid>> {
    Ok(User::from_name(name.as_str())?.map(|user| user.uid).filter(|uid| uid.as_raw() != u32::MAX))
}

/// Why an account that exists may not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disabled {
    /// Locked, expired, or with a shell that lets no user log in.
    Account,
    /// The administrator lets no users log in at the moment.
    AllLogins,
}

impl Found {
    /// Whether an administrator has switched the account off, by the means that sshd and cron honour. The
    /// shadow database is read and no PAM module is loaded: PAM would run code of many packages as root
    /// in this process.
    pub(crate) fn disabled(&self) -> Option<Disabled> {
        if self.account.uid.is_root() {
            return None;
        }
        if Path::new(NOLOGIN).exists() {
            return Some(Disabled::AllLogins);
        }
        let shell = self.account.shell.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let shadow = self.shadow.is_some_and(|shadow| is_switched_off(shadow, today()));
        (shadow || NO_SHELLS.contains(&shell)).then_some(Disabled::Account)
    }
}

fn is_switched_off(shadow: Shadow, today: libc::c_long) -> bool {
    shadow.locked || shadow.expires.is_some_and(|day| day <= today)
}

/// The days since 1970.
fn today() -> libc::c_long {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (since.as_secs() / SECONDS_OF_A_DAY).try_into().unwrap_or(libc::c_long::MAX)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_off_when_it_is_locked_or_from_the_day_of_its_expiry() {
        let shadow = |locked, expires| Shadow { locked, expires };
        assert!(!is_switched_off(shadow(false, None), 20_000));
        assert!(!is_switched_off(shadow(false, Some(20_001)), 20_000));
        assert!(is_switched_off(shadow(false, Some(20_000)), 20_000));
        assert!(is_switched_off(shadow(false, Some(0)), 20_000));
        assert!(is_switched_off(shadow(true, None), 20_000));
    }
}
