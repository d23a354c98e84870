//! The helper alone, `--listen PATH` as root, without the frontend that it usually serves: the tests are the
//! frontend, and a hostile one.
//!
//! Started below a [`Supervised`] like everything else, so that nothing it ever started can hide. `frontend`
//! speaks to it, in messages or in any bytes; `inventory` counts what there is before and after, `fixture`
//! puts both around an attack; `rng` makes what is random repeatable; `injector` makes system calls fail.
//! What an answer should be is known to the tests, and to `model` alone.

pub mod fixture;
#[cfg(target_arch = "x86_64")]
pub mod foreign_call;
pub mod frontend;
#[cfg(target_arch = "x86_64")]
pub mod injector;
pub mod inventory;
pub mod model;
pub mod rng;

use std::path::PathBuf;

pub use fixture::{Bystander, Fixture};
pub use frontend::{Frontend, Heard, Running};
pub use inventory::Inventory;
pub use rng::Rng;

use crate::processes::Process;
use crate::scratch::Scratch;
use crate::supervised::Supervised;
use crate::wait::{DEADLINE, wait_until};
use crate::{accounts, binaries};

/// How to start one.
#[derive(Debug)]
#[must_use = "nothing runs before `start`"]
pub struct Builder {
    wrapper: Vec<String>,
    arguments: Vec<String>,
    scratch: Scratch,
}

impl Builder {
    /// Where it will have its folders.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// Lets only these users run programs; the default is `pi` alone.
    pub fn allow_users(self, users: &[&str]) -> Self {
        self.argument("--allow-users").argument(&users.join(","))
    }

    /// Adds a command-line argument.
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Starts it through a program that replaces itself with its last arguments.
    pub fn wrapped_in(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Starts it and waits until it listens.
    #[track_caller]
    pub fn start(self) -> HelperOnly {
        let socket = self.scratch.root().join("helper.sock");
        let mut command = self.wrapper;
        command.push(binaries::helper().display().to_string());
        for (option, path) in [
            ("--listen", &socket),
            ("--work-dir", &self.scratch.work()),
            ("--temp-dir", &self.scratch.temp()),
            ("--runners-dirs", &binaries::runners()),
        ] {
            command.extend([option.to_owned(), path.display().to_string()]);
        }
        command.extend(self.arguments);
        let process = Supervised::start(&command, &[]);
        let helper = HelperOnly { process, scratch: self.scratch, socket };
        // bind(2) makes the file, listen(2) comes after it: only an answer shows that both are through.
        wait_until(DEADLINE, &format!("a socket from {command:?}"), || helper.socket.exists());
        let mut first = None;
        wait_until(DEADLINE, "the helper listens", || {
            first = Frontend::try_connect(&helper.socket).ok();
            first.is_some()
        });
        // A message out of place makes its instance end.
        first.expect("connected").send(&further_link_proto::Request::Stop { first: None });
        wait_until(DEADLINE, "only the listening process is left", || {
            // Collected as well: what the listening process had open for it is closed by then.
            helper.process.log.text().contains("a conversation with the frontend ended")
                && helper.children().is_empty()
        });
        helper
    }
}

/// A listening helper of root.
#[derive(Debug)]
pub struct HelperOnly {
    /// The process that listens, its log and its descendants.
    pub process: Supervised,
    scratch: Scratch,
    /// Where it listens.
    pub socket: PathBuf,
}

impl HelperOnly {
    /// Starts one that runs programs for `pi` only.
    #[track_caller]
    pub fn start() -> Self {
        Self::builder().allow_users(&["pi"]).start()
    }

    /// Starts to choose options. The users of the tests exist from here on.
    pub fn builder() -> Builder {
        let scratch = Scratch::new();
        accounts::ensure();
        Builder { wrapper: Vec::new(), arguments: Vec::new(), scratch }
    }

    /// Connects.
    #[track_caller]
    pub fn connect(&self) -> Frontend {
        Frontend::connect(&self.socket)
    }

    /// The folders.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// The pid of the process that listens.
    pub fn pid(&self) -> i32 {
        self.process.pid
    }

    /// The processes that serve a connection each.
    pub fn instances(&self) -> Vec<Process> {
        self.children().split_whitespace().filter_map(|pid| Process::read(pid.parse().ok()?)).collect()
    }

    /// Their pids, with those that have ended and were not collected yet.
    fn children(&self) -> String {
        // proc(5): faster than all of /proc, and complete since none of them goes on forking here.
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.pid()));
        children.expect("the helper runs, on a kernel with CONFIG_PROC_CHILDREN")
    }

    /// The process that serves the connection on which `pid` was started.
    #[track_caller]
    pub fn instance_of(&self, pid: i32) -> i32 {
        let parent = Process::read(pid).unwrap_or_else(|| panic!("there is no process {pid}")).parent;
        let found = self.instances().into_iter().any(|instance| instance.pid == parent);
        assert!(found, "{parent}, the parent of {pid}, is no instance: {:?}", self.instances());
        parent
    }

    /// Counts what there is now.
    pub fn inventory(&self) -> Inventory {
        Inventory::take(self)
    }

    /// Fails unless there is soon exactly what there was before.
    #[track_caller]
    pub fn assert_as_before(&self, before: &Inventory, after_what: &str) {
        let mut now = self.inventory();
        let same = crate::wait::holds_within(2 * DEADLINE, || {
            now = self.inventory();
            now == *before
        });
        assert!(same, "after {after_what}: {}\n{}", before.difference(&now), self.process.log.tail());
    }

    /// Fails unless a new connection is served as it should be.
    #[track_caller]
    pub fn assert_serves(&self) {
        let frontend = self.connect();
        let running = frontend.start(&frontend::exec("/bin/true"), &[]);
        assert_eq!(running.frontend.wait_exited(), further_link_proto::ExitStatus::Exited(0));
    }

    /// Starts a program that answers as long as it and its helper are unharmed.
    #[track_caller]
    pub fn bystander(&self) -> Bystander {
        let mut bystander = Bystander(self.connect().start(&frontend::exec("/usr/bin/cat"), &[]));
        bystander.assert_unharmed();
        bystander
    }
}

impl Drop for HelperOnly {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.process.exit_code(), None, "the helper ended:\n{}", self.process.log.tail());
            // Told to end, it ends, with all that it had started.
            self.process.signal(nix::sys::signal::Signal::SIGTERM);
            let code = self.process.wait_exit(2 * DEADLINE);
            assert_eq!(code, Some(0), "after SIGTERM:\n{}", self.process.log.tail());
            wait_until(DEADLINE, "no process is left", || self.process.descendants().is_empty());
            assert!(!self.process.log.text().contains("panicked"), "{}", self.process.log.tail());
        }
    }
}
