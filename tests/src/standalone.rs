//! A helper that is started apart from its frontend: by itself, or by a parent that hands it a listener.
//!
//! Used where a test wants a helper with options of its own, or in another way than the daemon starts it.
//! Dropping it ends it, as [`Supervised`] does; whether something was left is for the test to ask.

use std::path::PathBuf;
use std::time::Duration;

use crate::daemon::Builder;
use crate::scratch::{Scratch, set_mode};
use crate::supervised::Supervised;
use crate::wait::{DEADLINE, wait_until};
use crate::{accounts, binaries};

/// A helper that was started by itself, and its socket.
#[derive(Debug)]
pub struct Helper {
    /// The helper, its log and all that it started.
    pub process: Supervised,
    /// The path of its socket.
    pub socket: PathBuf,
}

impl Helper {
    /// Starts `wrapper`, the helper and `arguments`, and waits for the socket. `SOCKET` stands for its path.
    #[track_caller]
    pub fn start(scratch: &Scratch, wrapper: &[&str], arguments: &[&str]) -> Self {
        let socket = scratch.root().join("helper.sock");
        let place = socket.to_str().unwrap();
        let mut command: Vec<String> = wrapper.iter().map(|&word| word.to_owned()).collect();
        // Under a name that every user can reach, see `Builder::run_as`.
        let binary = scratch.root().join("further-link-exec-helper");
        if !binary.exists() {
            binaries::copy(&binaries::helper(), &binary);
        }
        command.push(binary.to_str().unwrap().to_owned());
        let folders = [
            ("--work-dir", scratch.work()),
            ("--temp-dir", scratch.temp()),
            ("--runners-dirs", binaries::runners()),
        ];
        command.extend(
            folders.iter().flat_map(|(option, path)| [(*option).to_owned(), path.display().to_string()]),
        );
        command.extend(arguments.iter().map(|&word| word.to_owned()));
        if !arguments.contains(&"--allow-user") && wrapper.first() != Some(&"setpriv") {
            // Root's policy has to be written down.
            command.extend(["--allow-user", "pi"].map(str::to_owned));
        }
        let command: Vec<String> = command.iter().map(|word| word.replace("SOCKET", place)).collect();
        let process = Supervised::start(&command, &[]);
        let what = format!("a socket from {command:?}, which said {}", process.log.text());
        wait_until(DEADLINE, &what, || socket.exists());
        if wrapper.first().is_some_and(|program| *program != "setpriv") {
            // What `SocketMode=` and `SocketUser=` do in a unit file.
            set_mode(&socket, 0o666);
        }
        Self { process, socket }
    }

    /// A daemon that uses it.
    pub fn used_by(&self, builder: Builder) -> Builder {
        builder.argument("--helper-socket").argument(self.socket.to_str().unwrap())
    }

    /// Once no frontend is left, only the process that listens may be.
    #[track_caller]
    pub fn assert_only_the_listener_is_left(&self) {
        wait_until(
            Duration::from_secs(5),
            &format!("one process of {:?}", self.process.descendants()),
            || self.process.descendants().len() == 1,
        );
    }
}

/// The frontend of root becomes this account, which the helper must be told.
pub fn service() -> String {
    accounts::service().name
}
