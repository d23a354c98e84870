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

impl HelperProcess {
    /// Finds or starts it. `account` is whom this process will be.
    pub(crate) fn new(config: &Config, account: Option<&User>) -> io::Result<Self> {
        match &config.helper_socket {
            Some(path) => Ok(Self { address: SocketAddrUnix::new(path)?, own: None }),
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

    use super::HelperProcess;
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

    pub(super) fn start(config: &Config, account: Option<&User>) -> io::Result<HelperProcess> {
        let (listener, address) = further_link_proto::bind_listener(None)?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0("further-link-exec-helper").arg(SUBCOMMAND).stdin(Stdio::from(listener));
        let mut option = |name: &str, value: &str| {
            command.arg(format!("{name}={value}"));
        };
        option("--exit-with-parent", &std::process::id().to_string());
        if let Some(account) = account {
            option("--frontend-user", &account.name);
        }
        option("--allow-users", &allowed_users(config)?);
        if let Some(grace) = config.grace {
            option("--grace", &grace.to_string());
        }
        let package = PathBuf::from(PYTHON_PACKAGE);
        let package = package.is_dir().then_some(package);
        for (name, path) in [
            ("--work-dir", &config.work_dir),
            ("--temp-dir", &config.temp_dir),
            ("--token-file", &config.user_token_file),
            ("--python-path", &package),
        ] {
            if let Some(path) = path {
                command.arg(name).arg(path);
            }
        }
        Ok(HelperProcess { address, own: Some(command.spawn()?) })
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
    use std::{io, process::ExitCode};

    use nix::unistd::User;

    use super::HelperProcess;
    use crate::config::Config;

    pub(super) fn run_if_asked() -> Option<ExitCode> {
        None
    }

    pub(super) fn start(_: &Config, _: Option<&User>) -> io::Result<HelperProcess> {
        Err(io::Error::other("this build has no helper of its own: name its socket with --helper-socket"))
    }
}
