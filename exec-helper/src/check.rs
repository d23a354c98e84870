//! The one place that decides: a request goes in, a permitted run or a refusal comes out.
//!
//! Only this file can make a [`Permitted`], and only a `Permitted` can be planned and started. The policy is the
//! helper's own (its command line); nothing the frontend says can widen it.

use std::io;

use further_link_proto::{Refusal, Run, UserName};
use nix::unistd::Uid;

use crate::account::{self, Account};

/// Whom the original runs programs as unless told otherwise (B7.1).
const USUAL_USER: &str = "pi";

/// Who may run programs here.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    allowed: Vec<UserName>,
    default: UserName,
    own_uid: Uid,
}

/// A run that may be started, and as whom.
#[derive(Debug)]
pub(crate) struct Permitted {
    account: Account,
    run: Run,
}

impl Permitted {
    pub(crate) fn account(&self) -> &Account {
        &self.account
    }

    pub(crate) fn run(&self) -> &Run {
        &self.run
    }
}

/// Why a run was not permitted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckError {
    #[error("refused: {0:?}")]
    Refused(Refusal),
    #[error("cannot look up the account: {0}")]
    Lookup(#[from] io::Error),
}

impl Policy {
    /// The named users and nobody else. Without a list a helper that is not root runs programs as its own user; root's
    /// policy has to be written down, and an empty list is a mistake.
    pub(crate) fn new(allowed: Option<Vec<UserName>>) -> io::Result<Self> {
        let own_uid = Uid::effective();
        let allowed = match allowed {
            Some(named) => named,
            None if own_uid.is_root() => Vec::new(),
            None => account::own_name()?.into_iter().collect(),
        };
        let usual = allowed.iter().find(|name| name.as_str() == USUAL_USER);
        let Some(default) = usual.or(allowed.first()).cloned() else {
            return Err(io::Error::other("nobody may run programs: name a user with --allow-user"));
        };
        Ok(Self { allowed, default, own_uid })
    }

    /// Who runs when the request names nobody.
    pub(crate) fn default_user(&self) -> &UserName {
        &self.default
    }

    /// The decision.
    pub(crate) fn check(&self, run: Run) -> Result<Permitted, CheckError> {
        let name = run.user.as_ref().unwrap_or(&self.default);
        // The list first: names that a hostile frontend makes up never reach the name service of root.
        if !self.allowed.contains(name) {
            return Err(CheckError::Refused(Refusal::UserNotAllowed));
        }
        let account = account::by_name(name)?.ok_or(CheckError::Refused(Refusal::UnknownUser))?;
        if !self.own_uid.is_root() && account.uid != self.own_uid {
            return Err(CheckError::Refused(Refusal::CannotSwitchUser));
        }
        Ok(Permitted { account, run })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use further_link_proto::Runner;

    fn policy(allowed: &[&str], own_uid: u32) -> Policy {
        let allowed: Vec<_> = allowed.iter().map(|name| UserName::new(*name).unwrap()).collect();
        Policy { default: allowed[0].clone(), allowed, own_uid: Uid::from_raw(own_uid) }
    }

    fn decide(policy: &Policy, user: Option<&str>) -> Result<String, Refusal> {
        let user = user.map(|name| UserName::new(name).unwrap());
        let run = Run { user, runner: Runner::Shell, path: None, code: None, terminal: None };
        match policy.check(run) {
            Ok(permitted) => Ok(permitted.account().name.clone()),
            Err(CheckError::Refused(refusal)) => Err(refusal),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn only_named_users_run_and_root_is_like_any_other() {
        let policy = policy(&["daemon", "bin"], 0);
        assert_eq!(decide(&policy, None), Ok("daemon".to_owned()));
        assert_eq!(decide(&policy, Some("bin")), Ok("bin".to_owned()));
        assert_eq!(decide(&policy, Some("root")), Err(Refusal::UserNotAllowed));
        assert_eq!(decide(&policy, Some("no-such-user")), Err(Refusal::UserNotAllowed));
    }

    #[test]
    fn a_named_user_without_an_account_is_unknown() {
        assert_eq!(decide(&policy(&["no-such-user"], 0), None), Err(Refusal::UnknownUser));
    }

    #[test]
    fn without_root_only_the_own_account_can_run() {
        let policy = policy(&["daemon", "bin"], 1);
        assert_eq!(decide(&policy, Some("daemon")), Ok("daemon".to_owned()), "uid 1 on every Debian");
        assert_eq!(decide(&policy, Some("bin")), Err(Refusal::CannotSwitchUser));
    }

    #[test]
    fn the_default_is_pi_if_named_else_the_first_named() {
        let names = |list: &[&str]| {
            let list: Vec<_> = list.iter().map(|name| UserName::new(*name).unwrap()).collect();
            Policy::new(Some(list)).map(|policy| policy.default_user().to_string()).ok()
        };
        assert_eq!(names(&["root", "pi"]).as_deref(), Some("pi"));
        assert_eq!(names(&["bin", "daemon"]).as_deref(), Some("bin"));
        assert_eq!(names(&[]), None, "an empty list must not mean anybody");
    }
}
