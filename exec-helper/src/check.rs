//! The one place that decides: a request goes in, a permitted run or upload comes out, or a refusal.
//!
//! Only this file can make a [`Permitted`], and only a `Permitted` can be planned and started. The policy is
//! the helper's own (its command line); nothing the frontend says can widen it.

use std::{
    fs::File,
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use further_link_proto::{Files, Identity, Refusal, Run, Token, Upload, UserName};
use nix::unistd::Uid;
use tracing::error;

use crate::{
    account::{self, Account, Disabled},
    known::Known,
};

/// The user of programs in the original unless a request names another (B7.1).
const DEFAULT_USER: &str = "pi";

/// The one name with uid 0 that may be allowed without a token, as development servers do.
const ROOT: &str = "root";

/// A user that may run programs here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Allowed {
    pub(crate) name: UserName,
    /// Only clients that have the token may use this account.
    pub(crate) guarded: bool,
}

/// The users that may run programs here.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    allowed: Vec<Allowed>,
    default: UserName,
    token_file: Option<PathBuf>,
    own_uid: Uid,
}

/// A request made on behalf of a user.
pub(crate) trait HasIdentity {
    fn identity(&self) -> &Identity;
}

impl HasIdentity for Run {
    fn identity(&self) -> &Identity {
        &self.identity
    }
}

impl HasIdentity for Upload {
    fn identity(&self) -> &Identity {
        &self.identity
    }
}

impl HasIdentity for Files {
    fn identity(&self) -> &Identity {
        &self.identity
    }
}

/// A request that may be done, and the account for it.
#[derive(Debug)]
pub(crate) struct Permitted<Request> {
    account: Account,
    request: Request,
}

impl<Request> Permitted<Request> {
    pub(crate) fn account(&self) -> &Account {
        &self.account
    }

    pub(crate) fn request(&self) -> &Request {
        &self.request
    }
}

/// Why a run was not permitted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckError {
    #[error("refused: {}", .0.in_words())]
    Refused(Refusal),
    #[error("cannot look up the account: {0}")]
    Lookup(#[from] io::Error),
}

/// Why a list of users cannot be the policy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PolicyError {
    #[error("{0} is named twice; with or without :token?")]
    Twice(UserName),
    #[error("no user is named, so no program could run; name one")]
    Empty,
    #[error("a user is named with :token, and no file with the token; name it with --user-token-file")]
    NoTokenFile,
    #[error("{name} may not be an allowed user: {whose} as this account; take it out")]
    OfTheService { name: UserName, whose: &'static str },
    #[error("cannot look up the accounts: {0}")]
    Lookup(#[from] io::Error),
}

impl Policy {
    /// Allows the named users and no others. Without a list a helper that is not root runs programs as
    /// its own user. Root's policy has to be written down, and an empty list is a mistake.
    pub(crate) fn new(
        allowed: Option<Vec<Allowed>>,
        token_file: Option<PathBuf>,
    ) -> Result<Self, PolicyError> {
        let own_uid = Uid::effective();
        let allowed = match allowed {
            Some(named) => named,
            None if own_uid.is_root() => Vec::new(),
            None => account::own_name()?.map(|name| Allowed { name, guarded: false }).into_iter().collect(),
        };
        if let Some(twice) = allowed.iter().enumerate().find_map(|(index, user)| {
            allowed.iter().take(index).any(|other| other.name == user.name).then_some(&user.name)
        }) {
            return Err(PolicyError::Twice(twice.clone()));
        }
        let usual = allowed.iter().find(|user| user.name.as_str() == DEFAULT_USER);
        let Some(default) = usual.or(allowed.first()).map(|user| user.name.clone()) else {
            return Err(PolicyError::Empty);
        };
        if token_file.is_none() && allowed.iter().any(|user| user.guarded) {
            return Err(PolicyError::NoTokenFile);
        }
        Ok(Self { allowed, default, token_file, own_uid })
    }

    /// Refuses users that share the uid of the frontend, or of the service's own account: their programs
    /// could pass for those, and kill them.
    pub(crate) fn keep_apart_from(&self, frontend: Uid, service: Option<Uid>) -> Result<(), PolicyError> {
        for user in &self.allowed {
            let uid = account::uid_of(&user.name)?;
            let whose = match uid {
                Some(uid) if uid == frontend => "the frontend runs",
                Some(uid) if Some(uid) == service => "the helper waits",
                _ => continue,
            };
            return Err(PolicyError::OfTheService { name: user.name.clone(), whose });
        }
        Ok(())
    }

    /// Users that are allowed, and have no account yet.
    pub(crate) fn without_account(&self) -> impl Iterator<Item = &UserName> {
        let names = self.allowed.iter().map(|user| &user.name);
        names.filter(|name| account::uid_of(name).is_ok_and(|uid| uid.is_none()))
    }

    /// The user of requests that name none.
    pub(crate) fn default_user(&self) -> &UserName {
        &self.default
    }

    /// The decision. What is known of a user need not be asked.
    pub(crate) fn check<Request: HasIdentity>(
        &self,
        request: Request,
        known: Option<&Known>,
    ) -> Result<Permitted<Request>, CheckError> {
        let identity = request.identity();
        let name = identity.user.as_ref().unwrap_or(&self.default);
        // The list first: names that a hostile frontend makes up never reach the name service of root.
        let Some(user) = self.allowed.iter().find(|user| user.name == *name) else {
            return Err(CheckError::Refused(Refusal::UserNotAllowed));
        };
        if user.guarded {
            self.check_token(identity.token.as_ref()).map_err(CheckError::Refused)?;
        }
        let found = match known.and_then(|known| known.about(name)) {
            None => account::find(name)?.ok_or(CheckError::Refused(Refusal::UnknownUser))?,
            Some(found) => found,
        };
        let account = &found.account;
        // Another name of root needs the token in any case: an entry without it is a mistake.
        if !user.guarded && account.uid.is_root() && name.as_str() != ROOT {
            error!("{name} is root: write {name}:token in the list of allowed users");
            self.check_token(identity.token.as_ref()).map_err(CheckError::Refused)?;
        }
        if self.own_uid.is_root()
            && let Some(disabled) = found.disabled()
        {
            return Err(CheckError::Refused(match disabled {
                Disabled::Account => Refusal::AccountDisabled,
                Disabled::AllLogins => Refusal::LoginsDisabled,
            }));
        }
        if !self.own_uid.is_root() && account.uid != self.own_uid {
            return Err(CheckError::Refused(Refusal::CannotSwitchUser));
        }
        Ok(Permitted { account: found.account, request })
    }

    /// Reads the file each time, so that a new token is the only one from then on.
    fn check_token(&self, shown: Option<&Token>) -> Result<(), Refusal> {
        let shown = shown.ok_or(Refusal::TokenMissing)?;
        let file = self.token_file.as_deref().unwrap_or(Path::new(""));
        match read_token(file, self.own_uid) {
            Ok(secret) if shown.is(&secret) => Ok(()),
            Ok(_) => Err(Refusal::TokenWrong),
            Err(error) => {
                error!("cannot use the token in {}: {error}", file.display());
                Err(Refusal::TokenWrong)
            }
        }
    }
}

/// Reads the token from a file that no other user could have read or written.
fn read_token(file: &Path, owner: Uid) -> io::Result<Token> {
    let file = File::open(file)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.uid() != owner.as_raw() || metadata.mode() & 0o077 != 0 {
        return Err(io::Error::other("it is not a file of this helper's user alone (chmod 600)"));
    }
    Token::read_first_line(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use further_link_proto::RunnerId;
    use std::{fs::Permissions, os::unix::fs::PermissionsExt};

    fn policy(allowed: &[&str], own_uid: u32) -> Policy {
        let allowed = named(allowed);
        Policy {
            default: allowed[0].name.clone(),
            allowed,
            token_file: None,
            own_uid: Uid::from_raw(own_uid),
        }
    }

    fn named(list: &[&str]) -> Vec<Allowed> {
        list.iter().map(|name| Allowed { name: UserName::new(*name).unwrap(), guarded: false }).collect()
    }

    fn decide(policy: &Policy, user: Option<&str>) -> Result<String, Refusal> {
        decide_with(policy, user, None)
    }

    fn decide_with(policy: &Policy, user: Option<&str>, token: Option<&str>) -> Result<String, Refusal> {
        let user = user.map(|name| UserName::new(name).unwrap());
        let token = token.map(|token| Token::new(token).unwrap());
        let identity = Identity { user, token, origin: None };
        let runner = RunnerId::new("shell").unwrap();
        let run = Run { identity, runner, path: None, details: None, code: None, terminal: None };
        match policy.check(run, None) {
            Ok(permitted) => Ok(permitted.account().name.clone()),
            Err(CheckError::Refused(refusal)) => Err(refusal),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn only_named_users_run_and_root_is_like_any_other() {
        let policy = policy(&["root", "bin"], 0);
        assert_eq!(decide(&policy, None), Ok("root".to_owned()));
        assert_eq!(decide(&policy, Some("bin")), Err(Refusal::AccountDisabled), "its shell is nologin");
        assert_eq!(decide(&policy, Some("daemon")), Err(Refusal::UserNotAllowed));
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
    fn a_guarded_user_needs_the_token_of_a_file_that_nobody_else_can_read() {
        let file = std::env::temp_dir().join(format!("further-link-token.{}", std::process::id()));
        std::fs::write(&file, "s3cret\n").unwrap();
        let set_mode = |mode| std::fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        let own = Uid::effective();
        let mut policy = policy(&["daemon", if own.is_root() { "root" } else { "bin" }], own.as_raw());
        policy.own_uid = own;
        policy.allowed[1].guarded = true;
        policy.token_file = Some(file.clone());
        let with = |token| decide_with(&policy, Some(policy.allowed[1].name.as_str()), token).map(drop);
        // A helper that is not root says so only after the token was right.
        let right = if own.is_root() { Ok(()) } else { Err(Refusal::CannotSwitchUser) };
        set_mode(0o600);
        assert_eq!(with(Some("s3cret")), right);
        assert_eq!(with(None), Err(Refusal::TokenMissing));
        assert_eq!(with(Some("secret")), Err(Refusal::TokenWrong));
        set_mode(0o640);
        assert_eq!(with(Some("s3cret")), Err(Refusal::TokenWrong), "its group could have read it");
        std::fs::remove_file(&file).unwrap();
        assert_eq!(with(Some("s3cret")), Err(Refusal::TokenWrong), "no file is no token");
        let guarded = vec![Allowed { name: UserName::new("root").unwrap(), guarded: true }];
        assert!(Policy::new(Some(guarded), None).is_err(), "guarded by nothing");
    }

    #[test]
    fn the_default_is_pi_if_named_else_the_first_named() {
        let names = |list: &[&str]| {
            Policy::new(Some(named(list)), None).map(|policy| policy.default_user().to_string()).ok()
        };
        assert_eq!(names(&["root", "pi"]).as_deref(), Some("pi"));
        assert_eq!(names(&["bin", "daemon"]).as_deref(), Some("bin"));
        assert_eq!(names(&["root", "pi", "root"]), None, "named twice");
        assert_eq!(names(&[]), None, "an empty list must not mean anybody");
    }
}
