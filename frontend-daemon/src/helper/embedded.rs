//! Which helper this process talks to: the one whose socket was configured, or in development one that it
//! starts itself.
//!
//! Its own helper is a second process with the same program file (`further-link exec-helper`), started before
//! root is given up. A packaged frontend is built without the feature `embedded-helper` and has none of the
//! helper's code.

use std::{
    io,
    process::{Child, ExitCode},
};

use nix::unistd::User;
use rustix::{
    net::SocketAddrUnix,
    process::{Pid, PidfdFlags, pidfd_open},
};
use tokio::io::Interest;

use crate::{config::Config, helper::async_fd::register};

/// Where the helper listens, and its process if it is our own.
pub(crate) struct HelperProcess {
    pub(crate) address: SocketAddrUnix,
    own: Option<Child>,
}

/// Why there is no helper.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HelperProcessError {
    /// A setting that cannot be used, or is missing, with what to do.
    #[error("{0}")]
    Setting(String),
    #[error("cannot start the helper: {0}")]
    Io(#[from] io::Error),
}

impl HelperProcess {
    /// Finds or starts it. `account` is whom this process will be.
    pub(crate) fn new(config: &Config, account: Option<&User>) -> Result<Self, HelperProcessError> {
        match &config.helper_socket {
            Some(path) => {
                Ok(Self { address: SocketAddrUnix::new(path).map_err(io::Error::from)?, own: None })
            }
            None => own::start(config, account),
        }
    }

    /// Waits until our own helper ends, which it does not do before this process ends unless something is
    /// wrong. systemd looks after the other kind.
    pub(crate) async fn ended(&self) -> io::Result<()> {
        let Some(child) = &self.own else { return std::future::pending().await };
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("the helper has no pid"))?;
        let process = register(pidfd_open(pid, PidfdFlags::empty())?, Interest::READABLE)?;
        process.readable().await?.retain_ready();
        Ok(())
    }
}

/// Runs this process as the helper, if that is what it was started for.
pub fn run_if_asked() -> Option<ExitCode> {
    own::run_if_asked()
}

#[cfg(feature = "embedded-helper")]
mod own {
    #![expect(
        clippy::disallowed_methods,
        reason = "the one program that the frontend starts, once, is its own helper"
    )]

    use std::{
        env, io,
        os::unix::process::CommandExt,
        path::PathBuf,
        process::{Command, ExitCode, Stdio},
    };

    use nix::unistd::{Uid, User};
    use tracing::warn;

    use super::{HelperProcess, HelperProcessError};
    use crate::config::Config;

    /// The first argument under which this program is the helper.
    const SUBCOMMAND: &str = "exec-helper";
    /// The package for user programs in the checkout that this was built in: importable without installing
    /// it.
    const PYTHON_PACKAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../python");

    pub(super) fn run_if_asked() -> Option<ExitCode> {
        let asked = env::args().nth(1).as_deref() == Some(SUBCOMMAND);
        asked.then(|| further_link_exec_helper::main("further-link exec-helper", env::args().skip(2)))
    }

    pub(super) fn start(
        config: &Config,
        account: Option<&User>,
    ) -> Result<HelperProcess, HelperProcessError> {
        let arguments = arguments(config, account)?;
        // Here and not by the helper: it is a person's start that fails, and not that of their first program.
        if let Some(wrong) = further_link_exec_helper::wrong_setting(arguments.iter().cloned()) {
            return Err(HelperProcessError::Setting(wrong));
        }
        let (listener, address) = further_link_proto::bind_listener(None)?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0("further-link-exec-helper").arg(SUBCOMMAND).args(arguments);
        Ok(HelperProcess { address, own: Some(command.stdin(Stdio::from(listener)).spawn()?) })
    }

    fn arguments(config: &Config, account: Option<&User>) -> io::Result<Vec<String>> {
        let package = PathBuf::from(PYTHON_PACKAGE);
        let package = package.is_dir().then_some(package);
        let runners_dirs = config.runners_dirs();
        let runners_dirs = runners_dirs.iter().map(|dir| Ok(text(Some(dir))?.unwrap_or_default()));
        let options = [
            ("--exit-with-parent", Some(std::process::id().to_string())),
            ("--frontend-user", account.map(|account| account.name.clone())),
            ("--allow-users", Some(allowed_users(config)?)),
            ("--grace", config.grace.clone()),
            ("--pass-env", Some(config.pass_env.join(","))),
            ("--work-dir", text(config.work_dir.as_ref())?),
            ("--temp-dir", text(config.temp_dir.as_ref())?),
            ("--user-token-file", text(config.user_token_file.as_ref())?),
            ("--python-path", text(package.as_ref())?),
            ("--runners-dirs", Some(runners_dirs.collect::<io::Result<Vec<_>>>()?.join(","))),
        ];
        let given = options.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value?)));
        Ok(given.collect())
    }

    fn text(path: Option<&PathBuf>) -> io::Result<Option<String>> {
        let Some(path) = path else { return Ok(None) };
        let not_text = || io::Error::other(format!("the path {} is not UTF-8", path.display()));
        Ok(Some(path.to_str().ok_or_else(not_text)?.to_owned()))
    }

    /// The users of programs: those named; else `pi`, if root starts this and there is a `pi`; else the user
    /// who starts it (the spec, "Options": `user`). The helper is told by name in any case.
    fn allowed_users(config: &Config) -> io::Result<String> {
        if !config.allow_users.is_empty() {
            return Ok(config.allow_users.join(","));
        }
        let own = Uid::effective();
        if own.is_root() && User::from_name("pi")?.is_some() {
            return Ok("pi".to_owned());
        }
        if own.is_root() {
            warn!(
                "there is no user pi: every client that is let in runs programs as root; --allow-user names another user"
            );
        }
        let user =
            User::from_uid(own)?.ok_or_else(|| io::Error::other(format!("uid {own} has no account")))?;
        Ok(user.name)
    }
}

#[cfg(not(feature = "embedded-helper"))]
mod own {
    use std::process::ExitCode;

    use nix::unistd::User;

    use super::{HelperProcess, HelperProcessError};
    use crate::config::Config;

    pub(super) fn run_if_asked() -> Option<ExitCode> {
        None
    }

    pub(super) fn start(_: &Config, _: Option<&User>) -> Result<HelperProcess, HelperProcessError> {
        let none = "this build has no helper of its own: name its socket with --helper-socket";
        Err(HelperProcessError::Setting(none.to_owned()))
    }
}
