//! The accounts that programs run as: `pi`, the default user, and `linkother`, another user.
//!
//! Made on first need and kept; a file lock keeps parallel test processes from making them twice. `pi` is in
//! a supplementary group, `linkother` has another shell and a runtime directory, so that each rule of B7 has
//! a case.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use nix::unistd::User;

/// A row of the user database.
#[derive(Clone, Debug)]
pub struct Account {
    /// The login name.
    pub name: String,
    /// The user id.
    pub uid: u32,
    /// The primary group.
    pub gid: u32,
    /// The home directory.
    pub home: PathBuf,
    /// The login shell.
    pub shell: PathBuf,
    /// All groups, the primary one included, in order.
    pub groups: Vec<u64>,
}

/// The account that runs programs by default.
pub fn pi() -> Account {
    account("pi")
}

/// An account that may run programs only if the policy names it.
pub fn other() -> Account {
    account("linkother")
}

/// The account that the frontend becomes when root starts it.
pub fn service() -> Account {
    let ours = User::from_name("further-link").expect("the user database can be read");
    account(if ours.is_some() { "further-link" } else { "nobody" })
}

/// Looks `name` up.
pub fn account(name: &str) -> Account {
    ensure();
    let user = User::from_name(name).expect("the user database can be read");
    let user = user.unwrap_or_else(|| panic!("there is no account {name}"));
    let groups = run("/usr/bin/id", &["-G", name]);
    let mut groups: Vec<u64> = groups.split_whitespace().map(|group| group.parse().unwrap()).collect();
    groups.sort_unstable();
    Account {
        name: user.name,
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
        home: user.dir,
        shell: user.shell,
        groups,
    }
}

/// Makes what is missing of the test accounts, once.
pub fn ensure() {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| {
        let lock = File::create("/run/further-link-tests.lock").expect("a lock file");
        lock.lock().expect("the lock");
        if User::from_name("pi").unwrap().is_none() {
            run("/usr/sbin/groupadd", &["--system", "--force", "gpio"]);
            let options = ["--create-home", "--user-group", "--shell", "/bin/bash", "--groups", "gpio", "pi"];
            run("/usr/sbin/useradd", &options);
        }
        if User::from_name("linkother").unwrap().is_none() {
            run("/usr/sbin/useradd", &["--create-home", "--user-group", "--shell", "/bin/sh", "linkother"]);
        }
        let other = User::from_name("linkother").unwrap().unwrap();
        let runtime = runtime_directory(other.uid.as_raw());
        fs::create_dir_all(&runtime).expect("a runtime directory");
        std::os::unix::fs::chown(&runtime, Some(other.uid.as_raw()), Some(other.gid.as_raw()))
            .expect("chown");
    });
}

/// Where a login would put the runtime files of `uid`, see `pam_systemd(8)`.
pub fn runtime_directory(uid: u32) -> PathBuf {
    Path::new("/run/user").join(uid.to_string())
}

/// Runs a system tool and returns what it printed.
#[track_caller]
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).env("LC_ALL", "C").output();
    let output = output.unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}
